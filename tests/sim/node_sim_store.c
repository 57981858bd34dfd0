/* The store's promise is LMDB's: a commit is there wholly or not at all, and durable on return. So
 * here: rows live in memory (lib/store_memory.h); a file holds every commit in turn, and behind
 * each sync one of two sectors says how far the file counts, as LMDB's two meta pages do.
 *
 *   sector 0, 1   u64 number of the commit, u64 end of its record, u64 checksum; the newer counts
 *   then records  u32 size, u64 checksum, the batch
 *
 * While a commit is on its way the driver may take turns of its own. */
#include "base/check.h"
#include "base/checksum.h"
#include "base/errors.h"
#include "lib/store_memory.h"
#include "node_sim.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define SECTOR 512u
#define RECORDS_BEGIN (2 * SECTOR)
#define RECORD_HEAD_BYTES 12u
#define PATH_BYTES 256

struct sim_store {
    struct store store;
    struct store *rows;
    struct sim_node *node;
    struct fs *fs;
    struct fs_file *file;
    uint64_t number;
    uint64_t end;
};

/* ---- encoding ---- */

static void put_bytes(struct buf *out, struct bytes bytes)
{
    buf_append_u32(out, (uint32_t)bytes.size);
    buf_append(out, bytes.data, bytes.size);
}

static void encode_batch(const struct store_batch *batch, struct buf *out)
{
    put_bytes(out, (struct bytes){batch->meta, sizeof(*batch->meta)});
    buf_append_u32(out, (uint32_t)batch->channel_count);
    buf_append_u32(out, (uint32_t)batch->message_count);
    buf_append_u32(out, (uint32_t)batch->value_count);
    for (size_t i = 0; i < batch->channel_count; i++) {
        const struct store_channel *row = &batch->channels[i];
        buf_append_u64(out, row->number);
        buf_append_u64(out, row->last_sequence);
        buf_append_u64(out, (uint64_t)row->last_timestamp_ms);
        put_bytes(out, row->id);
        put_bytes(out, row->name);
    }
    for (size_t i = 0; i < batch->message_count; i++) {
        const struct message *message = batch->messages[i].message;
        buf_append_u64(out, batch->messages[i].channel_number);
        buf_append_u64(out, message->sequence);
        buf_append_u64(out, (uint64_t)message->timestamp_ms);
        put_bytes(out, message_author_id(message));
        put_bytes(out, message_client_id(message));
        put_bytes(out, message_payload(message));
    }
    for (size_t i = 0; i < batch->value_count; i++) {
        buf_append_u32(out, batch->values[i].is_deleted);
        put_bytes(out, batch->values[i].key);
        put_bytes(out, batch->values[i].value);
    }
    CHECK(!buf_failed(out));
}

static uint64_t take_u64(const uint8_t **at)
{
    uint64_t value = load_u64(*at);
    *at += 8;
    return value;
}

static uint32_t take_u32(const uint8_t **at)
{
    uint32_t value = load_u32(*at);
    *at += 4;
    return value;
}

static struct bytes take_bytes(const uint8_t **at)
{
    struct bytes bytes = {.size = take_u32(at)};
    bytes.data = *at;
    *at += bytes.size;
    return bytes;
}

/* What we wrote, its checksum verified. */
static void replay(struct store *rows, const uint8_t *at)
{
    struct store_meta meta;
    struct bytes meta_bytes = take_bytes(&at);
    CHECK(meta_bytes.size == sizeof(meta));
    memcpy(&meta, meta_bytes.data, sizeof(meta));
    struct store_batch batch = {.meta = &meta};
    batch.channel_count = take_u32(&at);
    batch.message_count = take_u32(&at);
    batch.value_count = take_u32(&at);
    struct store_channel *channels = calloc(batch.channel_count + 1, sizeof(*channels));
    struct store_message *messages = calloc(batch.message_count + 1, sizeof(*messages));
    struct store_value *values = calloc(batch.value_count + 1, sizeof(*values));
    for (size_t i = 0; i < batch.channel_count; i++) {
        channels[i].number = take_u64(&at);
        channels[i].last_sequence = take_u64(&at);
        channels[i].last_timestamp_ms = (int64_t)take_u64(&at);
        channels[i].id = take_bytes(&at);
        channels[i].name = take_bytes(&at);
    }
    for (size_t i = 0; i < batch.message_count; i++) {
        messages[i].channel_number = take_u64(&at);
        uint64_t sequence = take_u64(&at);
        int64_t timestamp_ms = (int64_t)take_u64(&at);
        struct bytes author = take_bytes(&at);
        struct bytes client_id = take_bytes(&at);
        struct bytes payload = take_bytes(&at);
        messages[i].message = message_create(sequence, timestamp_ms, author, client_id, payload);
        CHECK(messages[i].message != NULL);
    }
    for (size_t i = 0; i < batch.value_count; i++) {
        values[i].is_deleted = take_u32(&at) != 0;
        values[i].key = take_bytes(&at);
        values[i].value = take_bytes(&at);
    }
    batch.channels = channels;
    batch.messages = messages;
    batch.values = values;
    CHECK(rows->ops->commit(rows, &batch) == 0);
    for (size_t i = 0; i < batch.message_count; i++) {
        message_unref(messages[i].message);
    }
    free(channels);
    free(messages);
    free(values);
}

/* ---- the vtable ---- */

static struct sim_store *of(struct store *store)
{
    return (struct sim_store *)(void *)store; /* its first member */
}

static void sim_close(struct store *base)
{
    struct sim_store *store = of(base);
    if (store->file != NULL) {
        store->fs->ops->close(store->fs, store->file);
    }
    if (store->rows != NULL) {
        store->rows->ops->close(store->rows);
    }
    free(store);
}

static int sim_read_begin(struct store *base, struct store_read **out)
{
    return of(base)->rows->ops->read_begin(of(base)->rows, out);
}

static int write_record(struct sim_store *store, const struct store_batch *batch, uint64_t *end)
{
    struct buf record = {0};
    uint8_t head[RECORD_HEAD_BYTES] = {0};
    buf_append(&record, head, sizeof(head));
    encode_batch(batch, &record);
    uint32_t size = (uint32_t)(record.size - sizeof(head));
    store_u32(record.data, size);
    store_u64(record.data + 4,
              checksum64_seed(store->number + 1, record.data + sizeof(head), size));
    int rc = store->fs->ops->write_at(store->fs, store->file, store->end, record.data, record.size);
    *end = store->end + record.size;
    buf_finish(&record);
    return rc == 0 ? store->fs->ops->sync(store->fs, store->file) : rc;
}

static int write_mark(struct sim_store *store, uint64_t number, uint64_t end)
{
    uint8_t mark[24];
    store_u64(mark, number);
    store_u64(mark + 8, end);
    store_u64(mark + 16, checksum64(mark, 16));
    int rc =
        store->fs->ops->write_at(store->fs, store->file, number % 2 * SECTOR, mark, sizeof(mark));
    return rc == 0 ? store->fs->ops->sync(store->fs, store->file) : rc;
}

static int sim_commit(struct store *base, const struct store_batch *batch)
{
    struct sim_store *store = of(base);
    sim_node_nested_turn(store->node);
    uint64_t end = 0;
    int rc = write_record(store, batch, &end);
    if (rc == 0) {
        rc = write_mark(store, store->number + 1, end);
    }
    if (rc != 0) {
        return rc;
    }
    store->number++;
    store->end = end;
    rc = store->rows->ops->commit(store->rows, batch);
    CHECK(rc == 0);
    sim_node_nested_turn(store->node);
    return 0;
}

static void sim_get_stats(struct store *base, struct store_stats *out)
{
    of(base)->rows->ops->get_stats(of(base)->rows, out);
}

/* Reads are the rows' own: what they need is in the transaction. */
static const struct store_ops *sim_ops(struct store *rows)
{
    static struct store_ops ops;
    if (ops.close == NULL) {
        ops = *rows->ops;
        ops.close = sim_close;
        ops.read_begin = sim_read_begin;
        ops.commit = sim_commit;
        ops.get_stats = sim_get_stats;
    }
    return &ops;
}

/* ---- opening ---- */

static bool read_mark(const uint8_t *data, uint64_t *number, uint64_t *end)
{
    *number = load_u64(data);
    *end = load_u64(data + 8);
    return load_u64(data + 16) == checksum64(data, 16);
}

static bool is_zero(const uint8_t *data, size_t size)
{
    for (size_t i = 0; i < size; i++) {
        if (data[i] != 0) {
            return false;
        }
    }
    return true;
}

/* Finds how far the file counts. Errors: ERR_CORRUPT. */
static int find_end(struct sim_store *store, const uint8_t *data)
{
    uint64_t newest = 0;
    store->end = RECORDS_BEGIN;
    for (int i = 0; i < 2; i++) {
        uint64_t number;
        uint64_t end;
        const uint8_t *mark = data + (size_t)i * SECTOR;
        if (is_zero(mark, 24)) {
            continue;
        }
        if (!read_mark(mark, &number, &end) || number % 2 != (uint64_t)i) {
            return ERR_CORRUPT;
        }
        if (number > newest) {
            newest = number;
            store->end = end;
        }
    }
    store->number = newest;
    return 0;
}

static int load(struct sim_store *store, const uint8_t *data, uint64_t size)
{
    if (size < RECORDS_BEGIN) {
        return is_zero(data, size) ? 0 : ERR_CORRUPT;
    }
    int rc = find_end(store, data);
    if (rc != 0 || store->end > size) {
        return ERR_CORRUPT;
    }
    uint64_t at = RECORDS_BEGIN;
    for (uint64_t number = 1; number <= store->number; number++) {
        if (store->end - at < RECORD_HEAD_BYTES) {
            return ERR_CORRUPT;
        }
        uint32_t record = load_u32(data + at);
        const uint8_t *body = data + at + RECORD_HEAD_BYTES;
        if (store->end - at - RECORD_HEAD_BYTES < record ||
            load_u64(data + at + 4) != checksum64_seed(number, body, record)) {
            return ERR_CORRUPT;
        }
        replay(store->rows, body);
        at += RECORD_HEAD_BYTES + record;
    }
    return at == store->end ? 0 : ERR_CORRUPT;
}

static int read_file(struct sim_store *store)
{
    uint64_t size = 0;
    int rc = store->fs->ops->size(store->fs, store->file, &size);
    if (rc != 0) {
        return rc;
    }
    store->end = RECORDS_BEGIN;
    uint8_t *data = malloc(size + RECORDS_BEGIN);
    CHECK(data != NULL);
    rc = store->fs->ops->read_at(store->fs, store->file, 0, data, size);
    if (rc == 0) {
        rc = load(store, data, size);
    }
    free(data);
    return rc;
}

static int open_file(struct sim_store *store, const char *dir)
{
    struct fs *fs = store->fs;
    char path[PATH_BYTES];
    snprintf(path, sizeof(path), "%s/" SNAPSHOT_DATA_NAME, dir);
    int rc = fs->ops->open(fs, path, FS_OPEN_READ_WRITE, &store->file);
    if (rc == 0) {
        /* Whoever wrote it may have been killed before he had synced it, or its name. */
        rc = fs->ops->sync(fs, store->file);
        if (rc == 0) {
            rc = fs->ops->sync_dir(fs, dir);
        }
        return rc == 0 ? read_file(store) : rc;
    }
    if (rc != ERR_NOT_FOUND) {
        return rc;
    }
    rc = fs->ops->make_dir(fs, dir);
    if (rc == 0) {
        rc = fs->ops->open(fs, path, FS_OPEN_CREATE, &store->file);
    }
    store->end = RECORDS_BEGIN;
    return rc == 0 ? fs->ops->sync_dir(fs, dir) : rc;
}

static int open_store(struct store_kind *kind, const struct store_place *place, struct store **out,
                      char *error, size_t error_size)
{
    struct sim_node *node = CONTAINER_OF(kind, struct sim_node, store_kind);
    struct sim_store *store = calloc(1, sizeof(*store));
    CHECK(store != NULL);
    CHECK(store_memory_create(&store->rows) == 0);
    store->store.ops = sim_ops(store->rows);
    store->node = node;
    store->fs = &node->disk.fs;
    int rc = open_file(store, place->dir);
    if (rc != 0) {
        snprintf(error, error_size, "%s: %s", place->dir, error_text(rc));
        sim_close(&store->store);
        return rc;
    }
    *out = &store->store;
    return 0;
}

/* ---- snapshots ---- */

static int copy(struct store_kind *kind, struct store *base, const char *path)
{
    (void)kind;
    struct sim_store *store = of(base);
    struct fs *fs = store->fs;
    struct fs_file *file;
    int rc = fs->ops->open(fs, path, FS_OPEN_CREATE, &file);
    if (rc != 0) {
        return rc;
    }
    uint64_t size = 0;
    rc = fs->ops->size(fs, store->file, &size);
    size = size < store->end ? size : store->end;
    uint8_t *data = malloc(size + 1);
    CHECK(data != NULL);
    if (rc == 0) {
        rc = fs->ops->read_at(fs, store->file, 0, data, size);
    }
    if (rc == 0) {
        rc = fs->ops->write_at(fs, file, 0, data, size);
    }
    if (rc == 0) {
        rc = fs->ops->sync(fs, file);
    }
    free(data);
    fs->ops->close(fs, file);
    return rc;
}

/* Jobs run inline: none can be cancelled. */
static void cancel_copies(struct store_kind *kind)
{
    (void)kind;
}

/* Opening has read all of it. */
static int scrub(struct store *store, uint64_t rows_max, bool *is_done)
{
    (void)store;
    (void)rows_max;
    *is_done = true;
    return 0;
}

/* The daemon marks stores; the simulator has none. */
static void mark_suspect(struct store *store)
{
    (void)store;
}

static int mark_outvoted(struct store *store)
{
    (void)store;
    return 0;
}

const struct store_kind sim_store_kind = {
    .open = open_store,
    .copy = copy,
    .cancel_copies = cancel_copies,
    .scrub = scrub,
    .mark_suspect = mark_suspect,
    .mark_outvoted = mark_outvoted,
};
