#include "chat/store_lmdb_internal.h"

#include "base/check.h"
#include "base/errors.h"

#include <stdlib.h>
#include <string.h>

static struct bytes bytes_of_val(MDB_val value)
{
    return (struct bytes){.data = value.mv_data, .size = value.mv_size};
}

int store_cursor_get(const struct lmdb_store *store, MDB_cursor *cursor, MDB_val *key,
                     MDB_val *value, MDB_cursor_op op)
{
    MDB_val found_key = *key;
    MDB_val found_value = *value;
    int rc = store_error_of(mdb_cursor_get(cursor, &found_key, &found_value, op));
    if (rc != 0) {
        return rc;
    }
    /* These leave the key as it was given. */
    bool has_key = op != MDB_SET && op != MDB_GET_BOTH && op != MDB_GET_BOTH_RANGE;
    if (!store_map_holds(store, &found_value) || (has_key && !store_map_holds(store, &found_key)) ||
        found_key.mv_size > ROW_KEY_BYTES_MAX) {
        return ERR_CORRUPT;
    }
    *key = found_key;
    *value = found_value;
    return 0;
}

/* ---- transactions ---- */

static struct store_read *take_idle(struct lmdb_store *store)
{
    pthread_mutex_lock(&store->lock);
    struct list *link = list_pop_front(&store->idle_reads);
    store->open_reads++;
    pthread_mutex_unlock(&store->lock);
    return link != NULL ? LIST_ENTRY(link, struct store_read, link) : NULL;
}

/* A reset transaction keeps its reader slot and its cursors, so the next one starts without a
 * search or an allocation. NULL only counts. */
static void give_back(struct lmdb_store *store, struct store_read *read)
{
    pthread_mutex_lock(&store->lock);
    if (read != NULL) {
        list_push_front(&store->idle_reads, &read->link);
    }
    store->open_reads--;
    pthread_mutex_unlock(&store->lock);
}

int store_read_begin(struct store *base, struct store_read **out)
{
    struct lmdb_store *store = (struct lmdb_store *)base;
    struct store_read *read = take_idle(store);
    if (read != NULL) {
        int rc = store_error_of(mdb_txn_renew(read->txn));
        if (rc != 0) {
            give_back(store, read);
            return rc;
        }
        memset(read->is_renewed, 0, sizeof read->is_renewed);
        read->has_position = false;
        *out = read;
        return 0;
    }
    read = calloc(1, sizeof *read);
    int rc = read != NULL ? store_error_of(mdb_txn_begin(store->env, NULL, MDB_RDONLY, &read->txn))
                          : ERR_NOMEM;
    if (rc != 0) {
        free(read);
        give_back(store, NULL);
        return rc;
    }
    read->store = store;
    *out = read;
    return 0;
}

void store_read_end(struct store_read *read)
{
    if (read == NULL) {
        return;
    }
    mdb_txn_reset(read->txn);
    give_back(read->store, read);
}

int store_read_cursor(struct store_read *read, enum row_database database, MDB_cursor **out)
{
    int rc = 0;
    if (read->cursors[database] == NULL) {
        rc = mdb_cursor_open(read->txn, read->store->databases[database], &read->cursors[database]);
    } else if (!read->is_renewed[database]) {
        rc = mdb_cursor_renew(read->txn, read->cursors[database]);
    }
    if (rc != 0) {
        return store_error_of(rc);
    }
    read->is_renewed[database] = true;
    *out = read->cursors[database];
    return 0;
}

/* ---- rows by key ---- */

/* The body of one row; ERR_NOT_FOUND also for keys that no row can have. */
static int get_row(struct store_read *read, enum row_database database, struct bytes key,
                   struct bytes *body)
{
    if (key.size == 0 || key.size > ROW_KEY_BYTES_MAX) {
        return ERR_NOT_FOUND;
    }
    const struct lmdb_store *store = read->store;
    MDB_val mdb_key = store_val(key);
    MDB_val value;
    int rc = store_error_of(mdb_get(read->txn, store->databases[database], &mdb_key, &value));
    if (rc != 0) {
        return rc;
    }
    if (!store_map_holds(store, &value)) {
        return ERR_CORRUPT;
    }
    uint64_t hash;
    return row_open(database, key, bytes_of_val(value), body, &hash);
}

/* The first row with a key >= `from`, or > `from`. */
static int seek_row(struct store_read *read, enum row_database database, struct bytes from,
                    bool is_exclusive, struct bytes *key, struct bytes *body)
{
    if (from.size > ROW_KEY_BYTES_MAX) {
        /* No key is as long; those behind `from` are the ones behind its beginning. */
        from.size = ROW_KEY_BYTES_MAX;
        is_exclusive = true;
    }
    MDB_cursor *cursor;
    int rc = store_read_cursor(read, database, &cursor);
    if (rc != 0) {
        return rc;
    }
    MDB_val found = store_val(from);
    MDB_val value = {0};
    rc = store_cursor_get(read->store, cursor, &found, &value,
                          from.size != 0 ? MDB_SET_RANGE : MDB_FIRST);
    if (rc == 0 && is_exclusive && from.size != 0 && bytes_equal(bytes_of_val(found), from)) {
        rc = store_cursor_get(read->store, cursor, &found, &value, MDB_NEXT);
    }
    uint64_t hash;
    if (rc == 0) {
        rc = row_open(database, bytes_of_val(found), bytes_of_val(value), body, &hash);
    }
    if (rc == 0) {
        *key = bytes_of_val(found);
    }
    return rc;
}

int store_read_meta(struct store_read *read, struct store_meta *out)
{
    struct store_state state;
    int rc = store_state_read(read->store, read->txn, &state);
    if (rc != 0) {
        return rc == ERR_NOT_FOUND ? ERR_CORRUPT : rc;
    }
    *out = state.meta;
    return 0;
}

int store_get_channel(struct store_read *read, struct bytes id, struct store_channel *out)
{
    struct bytes body;
    int rc = get_row(read, ROW_CHANNELS, id, &body);
    return rc == 0 ? row_channel_decode(id, body, out) : rc;
}

int store_seek_channel(struct store_read *read, struct bytes from, bool is_exclusive,
                       struct store_channel *out)
{
    struct bytes key, body;
    int rc = seek_row(read, ROW_CHANNELS, from, is_exclusive, &key, &body);
    return rc == 0 ? row_channel_decode(key, body, out) : rc;
}

int store_get_value(struct store_read *read, struct bytes key, struct bytes *out)
{
    return get_row(read, ROW_VALUES, key, out);
}

int store_seek_value(struct store_read *read, struct bytes from, bool is_exclusive,
                     struct bytes *out_key, struct bytes *out_value)
{
    return seek_row(read, ROW_VALUES, from, is_exclusive, out_key, out_value);
}

/* ---- messages ---- */

/* Puts the cursor on the first row with a key >= (channel, sequence), by one step when it stands on
 * the row before. */
static int find_message(struct store_read *read, uint64_t channel_number, uint64_t sequence,
                        struct bytes *key, struct bytes *value)
{
    MDB_cursor *cursor;
    int rc = store_read_cursor(read, ROW_MESSAGES, &cursor);
    if (rc != 0) {
        return rc;
    }
    bool is_next = read->has_position && read->position_channel == channel_number &&
                   read->position_sequence + 1 == sequence;
    struct row_key wanted = row_message_key(channel_number, sequence);
    MDB_val found = {.mv_size = wanted.size, .mv_data = wanted.data};
    MDB_val found_value = {0};
    read->has_position = false;
    rc = store_cursor_get(read->store, cursor, &found, &found_value,
                          is_next ? MDB_NEXT : MDB_SET_RANGE);
    *key = bytes_of_val(found);
    *value = bytes_of_val(found_value);
    return rc;
}

int store_next_message(struct store_read *read, uint64_t channel_number, uint64_t after_sequence,
                       struct message **out)
{
    if (after_sequence == UINT64_MAX) {
        return ERR_NOT_FOUND;
    }
    struct bytes key, value, body;
    int rc = find_message(read, channel_number, after_sequence + 1, &key, &value);
    if (rc != 0) {
        return rc;
    }
    uint64_t number, sequence, hash;
    rc = row_message_key_decode(key, &number, &sequence);
    if (rc != 0) {
        return rc;
    }
    if (number != channel_number) {
        return ERR_NOT_FOUND;
    }
    /* Sequences have no gaps, so a gap is a lost row. */
    if (sequence != after_sequence + 1) {
        return ERR_CORRUPT;
    }
    rc = row_open(ROW_MESSAGES, key, value, &body, &hash);
    struct row_message row;
    if (rc == 0) {
        rc = row_message_decode(body, &row);
    }
    if (rc != 0) {
        return rc;
    }
    struct message *message =
        message_create(sequence, row.timestamp_ms, row.author_id, row.client_id, row.payload);
    if (message == NULL) {
        return ERR_NOMEM;
    }
    read->has_position = true;
    read->position_channel = channel_number;
    read->position_sequence = sequence;
    *out = message;
    return 0;
}

/* ---- dedupe ---- */

/* Whether the message bears the client id. One that is missing is damage: its dedupe row was
 * written together with it. */
static int verify_client_id(struct store_read *read, uint64_t channel_number, uint64_t sequence,
                            struct bytes client_id, bool *is_same)
{
    struct row_key key = row_message_key(channel_number, sequence);
    struct bytes body;
    int rc = get_row(read, ROW_MESSAGES, (struct bytes){key.data, key.size}, &body);
    struct row_message row;
    if (rc == 0) {
        rc = row_message_decode(body, &row);
    }
    if (rc != 0) {
        return rc == ERR_NOT_FOUND ? ERR_CORRUPT : rc;
    }
    *is_same = bytes_equal(row.client_id, client_id);
    return 0;
}

/* One row of the chain of client ids that share a hash. ERR_NOT_FOUND behind its end. */
static int try_dedupe(struct store_read *read, struct bytes key, const struct row_dedupe *wanted,
                      struct bytes client_id, bool *is_same, uint64_t *sequence)
{
    struct row_dedupe row;
    int rc = row_dedupe_key_decode(key, &row);
    if (rc != 0) {
        return rc;
    }
    if (row.channel_number != wanted->channel_number || row.hash != wanted->hash) {
        return ERR_NOT_FOUND;
    }
    *sequence = row.sequence;
    return verify_client_id(read, row.channel_number, row.sequence, client_id, is_same);
}

static int find_recent(struct store_read *read, const struct row_dedupe *wanted,
                       struct bytes client_id, uint64_t *out_sequence)
{
    MDB_cursor *cursor;
    int rc = store_read_cursor(read, ROW_RECENT, &cursor);
    struct row_key first = row_dedupe_key(wanted);
    MDB_val key = {.mv_size = first.size, .mv_data = first.data};
    MDB_val value = {0};
    if (rc == 0) {
        rc = store_cursor_get(read->store, cursor, &key, &value, MDB_SET_RANGE);
    }
    while (rc == 0) {
        bool is_same = false;
        struct bytes body;
        uint64_t hash, sequence;
        rc = row_open(ROW_DEDUPE, bytes_of_val(key), bytes_of_val(value), &body, &hash);
        if (rc == 0) {
            rc = try_dedupe(read, bytes_of_val(key), wanted, client_id, &is_same, &sequence);
        }
        if (rc == 0 && is_same) {
            *out_sequence = sequence;
            return 0;
        }
        if (rc == 0) {
            rc = store_cursor_get(read->store, cursor, &key, &value, MDB_NEXT);
        }
    }
    return rc;
}

int store_dedupe_open(struct bytes key, struct bytes item, struct row_key *out, uint64_t *hash)
{
    uint64_t number;
    if (item.size != ROW_DEDUPE_ITEM_BYTES || key.size > ROW_ORDERED_BYTES_MAX ||
        row_get_ordered(key.data, key.size, &number) != key.size) {
        return ERR_CORRUPT;
    }
    memcpy(out->data, key.data, key.size);
    memcpy(out->data + key.size, item.data, ROW_DEDUPE_BYTES);
    out->size = key.size + ROW_DEDUPE_BYTES;
    *hash = row_hash(ROW_DEDUPE, (struct bytes){out->data, out->size}, (struct bytes){0});
    return load_u32((const uint8_t *)item.data + ROW_DEDUPE_BYTES) == (uint32_t)*hash ? 0
                                                                                      : ERR_CORRUPT;
}

static int find_settled(struct store_read *read, const struct row_dedupe *wanted,
                        struct bytes client_id, uint64_t *out_sequence)
{
    MDB_cursor *cursor;
    int rc = store_read_cursor(read, ROW_DEDUPE, &cursor);
    struct row_key first = row_dedupe_key(wanted);
    size_t key_size = first.size - ROW_DEDUPE_BYTES;
    uint8_t item[ROW_DEDUPE_ITEM_BYTES] = {0};
    memcpy(item, first.data + key_size, ROW_DEDUPE_BYTES);
    MDB_val key = {.mv_size = key_size, .mv_data = first.data};
    MDB_val value = {.mv_size = sizeof item, .mv_data = item};
    if (rc == 0) {
        rc = store_cursor_get(read->store, cursor, &key, &value, MDB_GET_BOTH_RANGE);
    }
    while (rc == 0) {
        bool is_same = false;
        struct row_key row;
        uint64_t hash, sequence;
        rc = store_dedupe_open((struct bytes){first.data, key_size}, bytes_of_val(value), &row,
                               &hash);
        if (rc == 0) {
            rc = try_dedupe(read, (struct bytes){row.data, row.size}, wanted, client_id, &is_same,
                            &sequence);
        }
        if (rc == 0 && is_same) {
            *out_sequence = sequence;
            return 0;
        }
        if (rc == 0) {
            MDB_val ignored = {0};
            rc = store_error_of(mdb_cursor_get(cursor, &ignored, &value, MDB_NEXT_DUP));
        }
        if (rc == 0 && !store_map_holds(read->store, &value)) {
            rc = ERR_CORRUPT;
        }
    }
    return rc;
}

int store_get_dedupe(struct store_read *read, uint64_t channel_number, struct bytes client_id,
                     uint64_t *out_sequence)
{
    struct row_dedupe wanted = {.channel_number = channel_number,
                                .hash = store_client_id_hash(read->store, client_id)};
    int rc = find_recent(read, &wanted, client_id, out_sequence);
    return rc == ERR_NOT_FOUND ? find_settled(read, &wanted, client_id, out_sequence) : rc;
}
