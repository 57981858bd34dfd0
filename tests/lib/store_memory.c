/* A store in memory, as the model that LMDB is compared with. */
#include "lib/store_memory.h"

#include "base/check.h"
#include "base/errors.h"
#include "base/list.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <uthash.h>

/* A row is a chain of versions, newest first; a version is visible to the reads that began at or
 * after its commit, until a newer one is. What no open read can see is freed when the row changes.
 */
struct version {
    struct version *older;
    uint64_t commit;
    bool is_deleted;
    size_t size;
    uint8_t data[];
};

struct row {
    struct version *newest;
    size_t key_size;
    uint8_t key[];
};

/* Rows by key, bytewise. */
struct table {
    struct row **rows;
    size_t count;
    size_t capacity;
};

struct slot {
    struct message *message;
    uint64_t commit;
};

struct channel_log {
    uint64_t number;
    struct slot *slots; /* by sequence */
    size_t count;
    size_t capacity;
    UT_hash_handle hh;
};

/* Its key is the channel number and the client id. */
struct dedupe {
    uint64_t sequence;
    uint64_t commit;
    UT_hash_handle hh;
    uint8_t key[];
};

struct memory_store {
    struct store store;
    pthread_mutex_t lock;
    uint64_t commit; /* the last one's number */
    struct version *meta;
    struct table channels; /* the versions' data: struct channel_data */
    struct table values;
    struct channel_log *logs;
    struct dedupe *dedupes;
    struct list reads; /* of store_read.link: the open ones */
    uint64_t message_count;
    uint64_t live_values;
    int commit_error;
    int read_error;
    struct store_stats stats;
};

struct store_read {
    struct memory_store *store;
    uint64_t commit; /* sees this one and those before */
    struct list link;
};

struct channel_data {
    uint64_t number;
    uint64_t last_sequence;
    int64_t last_timestamp_ms;
    uint8_t name[];
};

/* The simulator has no use for a test that runs out of memory: here it ends the process. */
static void *must(void *memory)
{
    CHECK(memory != NULL);
    return memory;
}

static int compare(struct bytes a, struct bytes b)
{
    size_t size = a.size < b.size ? a.size : b.size;
    int order = size != 0 ? memcmp(a.data, b.data, size) : 0;
    return order != 0 ? order : (a.size > b.size) - (a.size < b.size);
}

static void copy_bytes(void *to, struct bytes from)
{
    if (from.size != 0) {
        memcpy(to, from.data, from.size);
    }
}

/* ---- versions ---- */

static struct version *version_create(uint64_t commit, size_t size)
{
    struct version *version = must(malloc(sizeof(*version) + size));
    *version = (struct version){.commit = commit, .size = size};
    return version;
}

static void version_free_chain(struct version *version)
{
    while (version != NULL) {
        struct version *older = version->older;
        free(version);
        version = older;
    }
}

static const struct version *version_visible(const struct version *version, uint64_t commit)
{
    while (version != NULL && version->commit > commit) {
        version = version->older;
    }
    return version;
}

static uint64_t oldest_read(const struct memory_store *store)
{
    uint64_t oldest = store->commit;
    LIST_FOR_EACH (link, &store->reads) {
        const struct store_read *read = LIST_ENTRY(link, struct store_read, link);
        oldest = read->commit < oldest ? read->commit : oldest;
    }
    return oldest;
}

static void version_push(const struct memory_store *store, struct version **newest,
                         struct version *version)
{
    version->older = *newest;
    *newest = version;
    uint64_t oldest = oldest_read(store);
    while (version->commit > oldest && version->older != NULL) {
        version = version->older;
    }
    version_free_chain(version->older);
    version->older = NULL;
}

/* ---- tables ---- */

static struct bytes row_key(const struct row *row)
{
    return (struct bytes){.data = row->key, .size = row->key_size};
}

/* The index of the first row with a key >= `key`. */
static size_t table_lower(const struct table *table, struct bytes key)
{
    size_t low = 0;
    size_t high = table->count;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (compare(row_key(table->rows[middle]), key) < 0) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return low;
}

static struct row *table_find(const struct table *table, struct bytes key)
{
    size_t at = table_lower(table, key);
    if (at == table->count || !bytes_equal(row_key(table->rows[at]), key)) {
        return NULL;
    }
    return table->rows[at];
}

static struct row *table_find_or_add(struct table *table, struct bytes key)
{
    size_t at = table_lower(table, key);
    if (at < table->count && bytes_equal(row_key(table->rows[at]), key)) {
        return table->rows[at];
    }
    if (table->count == table->capacity) {
        table->capacity = table->capacity != 0 ? table->capacity * 2 : 16;
        table->rows = must(realloc(table->rows, table->capacity * sizeof(*table->rows)));
    }
    struct row *row = must(malloc(sizeof(*row) + key.size));
    *row = (struct row){.key_size = key.size};
    copy_bytes(row->key, key);
    memmove(table->rows + at + 1, table->rows + at, (table->count - at) * sizeof(*table->rows));
    table->rows[at] = row;
    table->count++;
    return row;
}

/* The first row >= `from` (or > it) that the read can see, and its version; NULL if none. */
static const struct row *table_seek(const struct table *table, uint64_t commit, struct bytes from,
                                    bool is_exclusive, const struct version **out)
{
    for (size_t i = table_lower(table, from); i < table->count; i++) {
        const struct row *row = table->rows[i];
        if (is_exclusive && bytes_equal(row_key(row), from)) {
            continue;
        }
        const struct version *version = version_visible(row->newest, commit);
        if (version != NULL && !version->is_deleted) {
            *out = version;
            return row;
        }
    }
    return NULL;
}

static void table_finish(struct table *table)
{
    for (size_t i = 0; i < table->count; i++) {
        version_free_chain(table->rows[i]->newest);
        free(table->rows[i]);
    }
    free(table->rows);
}

/* ---- messages ---- */

static struct channel_log *find_log(struct memory_store *store, uint64_t number)
{
    struct channel_log *log;
    HASH_FIND(hh, store->logs, &number, sizeof(number), log);
    return log;
}

static struct channel_log *find_or_add_log(struct memory_store *store, uint64_t number)
{
    struct channel_log *log = find_log(store, number);
    if (log == NULL) {
        log = must(calloc(1, sizeof(*log)));
        log->number = number;
        HASH_ADD(hh, store->logs, number, sizeof(log->number), log);
    }
    return log;
}

/* The index of the first message with a sequence > `sequence`. */
static size_t log_upper(const struct channel_log *log, uint64_t sequence)
{
    size_t low = 0;
    size_t high = log->count;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (log->slots[middle].message->sequence <= sequence) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return low;
}

static size_t dedupe_key_size(struct bytes client_id)
{
    return sizeof(uint64_t) + client_id.size;
}

static void dedupe_write_key(uint8_t *out, uint64_t number, struct bytes client_id)
{
    memcpy(out, &number, sizeof(number));
    copy_bytes(out + sizeof(number), client_id);
}

static struct dedupe *find_dedupe(struct memory_store *store, uint64_t number,
                                  struct bytes client_id)
{
    uint8_t *key = must(malloc(dedupe_key_size(client_id)));
    dedupe_write_key(key, number, client_id);
    struct dedupe *dedupe;
    HASH_FIND(hh, store->dedupes, key, dedupe_key_size(client_id), dedupe);
    free(key);
    return dedupe;
}

static void add_dedupe(struct memory_store *store, uint64_t number, struct bytes client_id,
                       uint64_t sequence)
{
    CHECK(find_dedupe(store, number, client_id) == NULL);
    struct dedupe *dedupe = must(calloc(1, sizeof(*dedupe) + dedupe_key_size(client_id)));
    dedupe->sequence = sequence;
    dedupe->commit = store->commit;
    dedupe_write_key(dedupe->key, number, client_id);
    HASH_ADD_KEYPTR(hh, store->dedupes, dedupe->key, dedupe_key_size(client_id), dedupe);
}

static void add_message(struct memory_store *store, const struct store_message *row)
{
    struct channel_log *log = find_or_add_log(store, row->channel_number);
    uint64_t last = log->count > 0 ? log->slots[log->count - 1].message->sequence : 0;
    CHECK(row->message->sequence == last + 1);
    if (log->count == log->capacity) {
        log->capacity = log->capacity != 0 ? log->capacity * 2 : 16;
        log->slots = must(realloc(log->slots, log->capacity * sizeof(*log->slots)));
    }
    log->slots[log->count++] =
        (struct slot){.message = message_ref(row->message), .commit = store->commit};
    store->message_count++;
    struct bytes client_id = message_client_id(row->message);
    if (client_id.size > 0) {
        add_dedupe(store, row->channel_number, client_id, row->message->sequence);
    }
    store->stats.bytes_used +=
        row->message->author_size + row->message->client_id_size + row->message->payload_size;
}

/* ---- commit ---- */

static void put_channel(struct memory_store *store, const struct store_channel *channel)
{
    struct version *version =
        version_create(store->commit, sizeof(struct channel_data) + channel->name.size);
    struct channel_data data = {.number = channel->number,
                                .last_sequence = channel->last_sequence,
                                .last_timestamp_ms = channel->last_timestamp_ms};
    memcpy(version->data, &data, sizeof(data));
    copy_bytes(version->data + sizeof(data), channel->name);
    struct row *row = table_find_or_add(&store->channels, channel->id);
    version_push(store, &row->newest, version);
}

static void put_value(struct memory_store *store, const struct store_value *value)
{
    struct row *row = table_find_or_add(&store->values, value->key);
    if (row->newest != NULL && !row->newest->is_deleted) {
        store->live_values--;
    }
    struct version *version =
        version_create(store->commit, value->is_deleted ? 0 : value->value.size);
    version->is_deleted = value->is_deleted;
    if (!value->is_deleted) {
        store->live_values++;
        copy_bytes(version->data, value->value);
    }
    version_push(store, &row->newest, version);
}

static void check_batch(const struct store_batch *batch)
{
    CHECK(batch->meta != NULL);
    CHECK(batch->meta->config_size <= STORE_CONFIG_BYTES_MAX);
    for (size_t i = 1; i < batch->channel_count; i++) {
        CHECK(compare(batch->channels[i - 1].id, batch->channels[i].id) < 0);
    }
    for (size_t i = 1; i < batch->message_count; i++) {
        const struct store_message *a = &batch->messages[i - 1];
        const struct store_message *b = &batch->messages[i];
        CHECK(a->channel_number < b->channel_number ||
              (a->channel_number == b->channel_number &&
               a->message->sequence < b->message->sequence));
    }
    for (size_t i = 1; i < batch->value_count; i++) {
        CHECK(compare(batch->values[i - 1].key, batch->values[i].key) < 0);
    }
}

static int memory_commit(struct store *base, const struct store_batch *batch)
{
    struct memory_store *store = (struct memory_store *)base;
    check_batch(batch);
    pthread_mutex_lock(&store->lock);
    int error = store->commit_error;
    store->commit_error = 0;
    if (error != 0) {
        goto unlock;
    }
    store->commit++;
    for (size_t i = 0; i < batch->channel_count; i++) {
        put_channel(store, &batch->channels[i]);
    }
    for (size_t i = 0; i < batch->message_count; i++) {
        add_message(store, &batch->messages[i]);
    }
    for (size_t i = 0; i < batch->value_count; i++) {
        put_value(store, &batch->values[i]);
    }
    struct version *meta = version_create(store->commit, sizeof(*batch->meta));
    memcpy(meta->data, batch->meta, sizeof(*batch->meta));
    version_push(store, &store->meta, meta);
    CHECK(batch->meta->channel_count == store->channels.count);
    CHECK(batch->meta->message_count == store->message_count);
    CHECK(batch->meta->value_count == store->live_values);
    store->stats.commits++;
unlock:
    pthread_mutex_unlock(&store->lock);
    return error;
}

/* ---- reads ---- */

static int memory_read_begin(struct store *base, struct store_read **out)
{
    struct memory_store *store = (struct memory_store *)base;
    struct store_read *read = must(calloc(1, sizeof(*read)));
    read->store = store;
    pthread_mutex_lock(&store->lock);
    read->commit = store->commit;
    list_push_back(&store->reads, &read->link);
    pthread_mutex_unlock(&store->lock);
    *out = read;
    return 0;
}

static void memory_read_end(struct store_read *read)
{
    if (read == NULL) {
        return;
    }
    pthread_mutex_lock(&read->store->lock);
    list_remove(&read->link);
    pthread_mutex_unlock(&read->store->lock);
    free(read);
}

static int lock_for_read(struct store_read *read)
{
    pthread_mutex_lock(&read->store->lock);
    return read->store->read_error;
}

static int unlock_after_read(struct store_read *read, int rc)
{
    pthread_mutex_unlock(&read->store->lock);
    return rc;
}

static int memory_read_meta(struct store_read *read, struct store_meta *out)
{
    int rc = lock_for_read(read);
    if (rc == 0) {
        const struct version *version = version_visible(read->store->meta, read->commit);
        if (version != NULL) {
            memcpy(out, version->data, sizeof(*out));
        } else {
            *out = (struct store_meta){0};
        }
    }
    return unlock_after_read(read, rc);
}

static void fill_channel(const struct row *row, const struct version *version,
                         struct store_channel *out)
{
    struct channel_data data;
    memcpy(&data, version->data, sizeof(data));
    *out = (struct store_channel){
        .number = data.number,
        .id = row_key(row),
        .name = {.data = version->data + sizeof(data), .size = version->size - sizeof(data)},
        .last_sequence = data.last_sequence,
        .last_timestamp_ms = data.last_timestamp_ms};
}

static int memory_get_channel(struct store_read *read, struct bytes id, struct store_channel *out)
{
    int rc = lock_for_read(read);
    if (rc == 0) {
        const struct row *row = table_find(&read->store->channels, id);
        const struct version *version =
            row != NULL ? version_visible(row->newest, read->commit) : NULL;
        if (version != NULL) {
            fill_channel(row, version, out);
        } else {
            rc = ERR_NOT_FOUND;
        }
    }
    return unlock_after_read(read, rc);
}

static int memory_seek_channel(struct store_read *read, struct bytes from, bool is_exclusive,
                               struct store_channel *out)
{
    int rc = lock_for_read(read);
    if (rc == 0) {
        const struct version *version = NULL;
        const struct row *row =
            table_seek(&read->store->channels, read->commit, from, is_exclusive, &version);
        if (row != NULL) {
            fill_channel(row, version, out);
        } else {
            rc = ERR_NOT_FOUND;
        }
    }
    return unlock_after_read(read, rc);
}

static int memory_next_message(struct store_read *read, uint64_t channel_number,
                               uint64_t after_sequence, struct message **out)
{
    int rc = lock_for_read(read);
    if (rc == 0) {
        const struct channel_log *log = find_log(read->store, channel_number);
        size_t at = log != NULL ? log_upper(log, after_sequence) : 0;
        if (log != NULL && at < log->count && log->slots[at].commit <= read->commit) {
            *out = message_ref(log->slots[at].message);
        } else {
            rc = ERR_NOT_FOUND;
        }
    }
    return unlock_after_read(read, rc);
}

static int memory_get_dedupe(struct store_read *read, uint64_t channel_number,
                             struct bytes client_id, uint64_t *out_sequence)
{
    int rc = lock_for_read(read);
    if (rc == 0) {
        const struct dedupe *dedupe = find_dedupe(read->store, channel_number, client_id);
        if (dedupe != NULL && dedupe->commit <= read->commit) {
            *out_sequence = dedupe->sequence;
        } else {
            rc = ERR_NOT_FOUND;
        }
    }
    return unlock_after_read(read, rc);
}

static int memory_get_value(struct store_read *read, struct bytes key, struct bytes *out)
{
    int rc = lock_for_read(read);
    if (rc == 0) {
        const struct row *row = table_find(&read->store->values, key);
        const struct version *version =
            row != NULL ? version_visible(row->newest, read->commit) : NULL;
        if (version != NULL && !version->is_deleted) {
            *out = (struct bytes){.data = version->data, .size = version->size};
        } else {
            rc = ERR_NOT_FOUND;
        }
    }
    return unlock_after_read(read, rc);
}

static int memory_seek_value(struct store_read *read, struct bytes from, bool is_exclusive,
                             struct bytes *out_key, struct bytes *out_value)
{
    int rc = lock_for_read(read);
    if (rc == 0) {
        const struct version *version = NULL;
        const struct row *row =
            table_seek(&read->store->values, read->commit, from, is_exclusive, &version);
        if (row != NULL) {
            *out_key = row_key(row);
            *out_value = (struct bytes){.data = version->data, .size = version->size};
        } else {
            rc = ERR_NOT_FOUND;
        }
    }
    return unlock_after_read(read, rc);
}

static void memory_get_stats(struct store *base, struct store_stats *out)
{
    struct memory_store *store = (struct memory_store *)base;
    pthread_mutex_lock(&store->lock);
    *out = store->stats;
    pthread_mutex_unlock(&store->lock);
}

/* ---- lifetime ---- */

static void memory_close(struct store *base)
{
    struct memory_store *store = (struct memory_store *)base;
    if (store == NULL) {
        return;
    }
    CHECK(list_is_empty(&store->reads));
    struct channel_log *log, *next_log;
    HASH_ITER (hh, store->logs, log, next_log) {
        HASH_DEL(store->logs, log);
        for (size_t i = 0; i < log->count; i++) {
            message_unref(log->slots[i].message);
        }
        free(log->slots);
        free(log);
    }
    struct dedupe *dedupe, *next_dedupe;
    HASH_ITER (hh, store->dedupes, dedupe, next_dedupe) {
        HASH_DEL(store->dedupes, dedupe);
        free(dedupe);
    }
    table_finish(&store->channels);
    table_finish(&store->values);
    version_free_chain(store->meta);
    pthread_mutex_destroy(&store->lock);
    free(store);
}

static const struct store_ops memory_ops = {
    .close = memory_close,
    .read_begin = memory_read_begin,
    .read_end = memory_read_end,
    .read_meta = memory_read_meta,
    .get_channel = memory_get_channel,
    .seek_channel = memory_seek_channel,
    .next_message = memory_next_message,
    .get_dedupe = memory_get_dedupe,
    .get_value = memory_get_value,
    .seek_value = memory_seek_value,
    .commit = memory_commit,
    .get_stats = memory_get_stats,
};

int store_memory_create(struct store **out)
{
    struct memory_store *store = calloc(1, sizeof(*store));
    if (store == NULL) {
        return ERR_NOMEM;
    }
    store->store.ops = &memory_ops;
    store->stats.bytes_max = UINT64_MAX;
    list_init(&store->reads);
    pthread_mutex_init(&store->lock, NULL);
    *out = &store->store;
    return 0;
}

void store_memory_fail_next_commit(struct store *base, int error)
{
    struct memory_store *store = (struct memory_store *)base;
    pthread_mutex_lock(&store->lock);
    store->commit_error = error;
    pthread_mutex_unlock(&store->lock);
}

void store_memory_fail_reads(struct store *base, int error)
{
    struct memory_store *store = (struct memory_store *)base;
    pthread_mutex_lock(&store->lock);
    store->read_error = error;
    pthread_mutex_unlock(&store->lock);
}
