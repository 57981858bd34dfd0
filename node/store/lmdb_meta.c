/* The rows of the meta database: the format is written once, the state and the contents' hash by
 * each commit. */
#include "store/lmdb_internal.h"

#include "base/check.h"
#include "base/checksum.h"
#include "base/errors.h"
#include "base/random.h"

#include <string.h>

enum { FORMAT_BODY_BYTES = 12 };

static int meta_row_read(const struct lmdb_store *store, MDB_txn *txn, const char *name,
                         struct bytes *body)
{
    struct bytes key = bytes_of_text(name);
    struct bytes value;
    int rc = store_get(store, txn, ROW_META, key, &value);
    uint64_t hash;
    return rc == 0 ? row_open(ROW_META, key, value, body, &hash) : rc;
}

/* `value` begins with ROW_CHECKSUM_BYTES for the checksum. */
static int meta_row_write(struct lmdb_store *store, MDB_txn *txn, const char *name, uint8_t *value,
                          size_t size)
{
    struct bytes key = bytes_of_text(name);
    row_seal(ROW_META, key, value, size);
    MDB_val mdb_key = store_val(key);
    MDB_val mdb_value = {.mv_size = size, .mv_data = value};
    return store_error_of(mdb_put(txn, store->databases[ROW_META], &mdb_key, &mdb_value, 0));
}

/* The version is the first field in every version; what follows depends on the version. */
int store_format_read(struct lmdb_store *store, MDB_txn *txn)
{
    struct bytes body;
    int rc = meta_row_read(store, txn, "format", &body);
    if (rc != 0) {
        return rc;
    }
    if (body.size < sizeof(uint32_t)) {
        return ERR_CORRUPT;
    }
    if (load_u32(body.data) != STORE_FORMAT_VERSION) {
        return ERR_VERSION;
    }
    if (body.size != FORMAT_BODY_BYTES) {
        return ERR_CORRUPT;
    }
    store->hash_seed = load_u64((const uint8_t *)body.data + 4);
    return 0;
}

int store_format_write(struct lmdb_store *store, MDB_txn *txn)
{
    /* Each store has a random seed, so that no client can prepare client ids that collide. */
    random_bytes(&store->hash_seed, sizeof(store->hash_seed));
    uint8_t value[ROW_CHECKSUM_BYTES + FORMAT_BODY_BYTES];
    store_u32(value + ROW_CHECKSUM_BYTES, STORE_FORMAT_VERSION);
    store_u64(value + ROW_CHECKSUM_BYTES + 4, store->hash_seed);
    return meta_row_write(store, txn, "format", value, sizeof(value));
}

/* applied index and term, result hash, three counts, totals; then cluster id, config. */
enum {
    STATE_NUMBERS = 6 + 2 * ROW_DATABASES,
    STATE_FIXED_BYTES = STATE_NUMBERS * 8 + CLUSTER_ID_BYTES,
    STATE_BYTES_MAX = STATE_FIXED_BYTES + STORE_CONFIG_BYTES_MAX,
};

static void state_numbers(struct store_state *state, uint64_t *numbers[STATE_NUMBERS])
{
    struct store_meta *meta = &state->meta;
    size_t n = 0;
    numbers[n++] = &meta->applied_index;
    numbers[n++] = &meta->applied_term;
    numbers[n++] = &meta->result_hash;
    numbers[n++] = &meta->channel_count;
    numbers[n++] = &meta->message_count;
    numbers[n++] = &meta->value_count;
    for (size_t i = 0; i < ROW_DATABASES; i++) {
        numbers[n++] = &state->totals[i].rows;
        numbers[n++] = &state->totals[i].hash;
    }
    CHECK(n == STATE_NUMBERS);
}

/* A separate row, which older versions do not update: an index other than the state's shows that
 * it is out of date. */
enum { CONTENTS_BODY_BYTES = 24 };

static int contents_read(const struct lmdb_store *store, MDB_txn *txn, struct store_meta *meta)
{
    struct bytes body;
    meta->content_from = meta->applied_index;
    int rc = meta_row_read(store, txn, "contents", &body);
    if (rc == ERR_NOT_FOUND) {
        return 0;
    }
    if (rc == 0 && body.size != CONTENTS_BODY_BYTES) {
        rc = ERR_CORRUPT;
    }
    const uint8_t *numbers = body.data;
    if (rc == 0 && load_u64(numbers) == meta->applied_index) {
        meta->content_hash = load_u64(numbers + 8);
        meta->content_from = load_u64(numbers + 16);
    }
    return rc;
}

static int contents_write(struct lmdb_store *store, MDB_txn *txn, const struct store_meta *meta)
{
    uint8_t value[ROW_CHECKSUM_BYTES + CONTENTS_BODY_BYTES];
    uint8_t *numbers = value + ROW_CHECKSUM_BYTES;
    store_u64(numbers, meta->applied_index);
    store_u64(numbers + 8, meta->content_hash);
    store_u64(numbers + 16, meta->content_from);
    return meta_row_write(store, txn, "contents", value, sizeof(value));
}

int store_state_read(const struct lmdb_store *store, MDB_txn *txn, struct store_state *out)
{
    struct bytes body;
    int rc = meta_row_read(store, txn, "state", &body);
    if (rc != 0) {
        return rc;
    }
    if (body.size < STATE_FIXED_BYTES || body.size > STATE_BYTES_MAX) {
        return ERR_CORRUPT;
    }
    *out = (struct store_state){0};
    uint64_t *numbers[STATE_NUMBERS];
    state_numbers(out, numbers);
    const uint8_t *next = body.data;
    for (size_t i = 0; i < STATE_NUMBERS; i++, next += sizeof(uint64_t)) {
        *numbers[i] = load_u64(next);
    }
    memcpy(out->meta.cluster_id, next, CLUSTER_ID_BYTES);
    out->meta.config_size = (uint32_t)(body.size - STATE_FIXED_BYTES);
    memcpy(out->meta.config, next + CLUSTER_ID_BYTES, out->meta.config_size);
    return contents_read(store, txn, &out->meta);
}

int store_state_write(struct lmdb_store *store, MDB_txn *txn, const struct store_state *state)
{
    uint8_t value[ROW_CHECKSUM_BYTES + STATE_BYTES_MAX];
    struct store_state copy = *state;
    uint64_t *numbers[STATE_NUMBERS];
    state_numbers(&copy, numbers);
    uint8_t *next = value + ROW_CHECKSUM_BYTES;
    for (size_t i = 0; i < STATE_NUMBERS; i++, next += sizeof(uint64_t)) {
        store_u64(next, *numbers[i]);
    }
    memcpy(next, copy.meta.cluster_id, CLUSTER_ID_BYTES);
    memcpy(next + CLUSTER_ID_BYTES, copy.meta.config, copy.meta.config_size);
    int rc = meta_row_write(store, txn, "state", value,
                            ROW_CHECKSUM_BYTES + STATE_FIXED_BYTES + copy.meta.config_size);
    return rc == 0 ? contents_write(store, txn, &copy.meta) : rc;
}
