/* One commit: every change sorted, in one write transaction with LMDB's default sync.
 *
 * Client ids make a commit expensive. Their hashes are spread evenly, so each batch would
 * rewrite most pages of a large index and keep two generations of freed pages in the file.
 * Therefore new ids go into the small database `recent`. Each commit moves as many rows to
 * `dedupe` as it adds: a run of neighbours, in turn over the whole key space. Neighbours share
 * the pages that they change. */
#include "store/lmdb_internal.h"

#include "base/check.h"
#include "base/clock.h"
#include "base/errors.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* The commit's copies of the state that it changes in memory. They replace the originals when it
 * has succeeded. */
struct writer {
    struct lmdb_store *store;
    MDB_txn *txn;
    struct store_state state;
    struct store_scrub scrub;
    struct row_key recent_position;
};

static struct bytes bytes_of_key(const struct row_key *key)
{
    return (struct bytes){.data = key->data, .size = key->size};
}

static void account(struct writer *writer, enum row_database database, struct bytes key,
                    const uint8_t *item, int rows, uint64_t hash)
{
    struct store_totals *totals = &writer->state.totals[database];
    totals->rows += (uint64_t)(int64_t)rows;
    totals->hash += rows > 0 ? hash : 0 - hash;
    store_scrub_account(&writer->scrub, database, key, item, rows, hash);
}

static int open_cursor(struct writer *writer, enum row_database database, MDB_cursor **out)
{
    return store_error_of(mdb_cursor_open(writer->txn, writer->store->databases[database], out));
}

/* False if a view leaves the map. A page that this transaction has written may lie outside the
 * map. A page inside may be damaged, and its views must end inside too. */
static bool is_sane(const struct writer *writer, const MDB_val *value)
{
    uintptr_t at = (uintptr_t)value->mv_data;
    const struct store_mapping *map = &writer->store->guard.map;
    return at < map->begin || at >= map->end || store_map_holds(writer->store, value);
}

/* Reserves space for a row's value, with its checksum, in its page. */
static int reserve(MDB_cursor *cursor, struct bytes key, size_t size, unsigned flags, uint8_t **out)
{
    MDB_val mdb_key = store_val(key);
    MDB_val value = {.mv_size = size};
    int rc = store_error_of(mdb_cursor_put(cursor, &mdb_key, &value, flags | MDB_RESERVE));
    if (rc == 0) {
        *out = value.mv_data;
    }
    return rc;
}

/* Subtracts the key's row from the totals if there is one. The row stays, and the cursor is at
 * it. Errors: ERR_NOT_FOUND; ERR_CORRUPT: a damaged row is never overwritten, as that would hide
 * the damage. */
static int discount_row(struct writer *writer, MDB_cursor *cursor, enum row_database database,
                        struct bytes key)
{
    MDB_val mdb_key = store_val(key);
    MDB_val value = {0};
    struct bytes body;
    uint64_t hash;
    int rc = store_error_of(mdb_cursor_get(cursor, &mdb_key, &value, MDB_SET));
    if (rc == 0 && !is_sane(writer, &value)) {
        rc = ERR_CORRUPT;
    }
    if (rc == 0) {
        rc = row_open(database, key, (struct bytes){value.mv_data, value.mv_size}, &body, &hash);
    }
    if (rc == 0) {
        account(writer, database, key, NULL, -1, hash);
    }
    return rc;
}

/* ---- channels and values ---- */

static int put_channel(struct writer *writer, MDB_cursor *cursor,
                       const struct store_channel *channel)
{
    CHECK(channel->id.size > 0);
    CHECK(channel->id.size <= ROW_KEY_BYTES_MAX);
    int rc = discount_row(writer, cursor, ROW_CHANNELS, channel->id);
    if (rc != 0 && rc != ERR_NOT_FOUND) {
        return rc;
    }
    size_t size = ROW_CHECKSUM_BYTES + row_channel_body_size(channel);
    uint8_t *value;
    rc = reserve(cursor, channel->id, size, 0, &value);
    if (rc == 0) {
        row_channel_encode(channel, value + ROW_CHECKSUM_BYTES);
        account(writer, ROW_CHANNELS, channel->id, NULL, 1,
                row_seal(ROW_CHANNELS, channel->id, value, size));
    }
    return rc;
}

static int put_channels(struct writer *writer, const struct store_batch *batch)
{
    MDB_cursor *cursor;
    int rc = open_cursor(writer, ROW_CHANNELS, &cursor);
    if (rc != 0) {
        return rc;
    }
    for (size_t i = 0; i < batch->channel_count && rc == 0; i++) {
        rc = put_channel(writer, cursor, &batch->channels[i]);
    }
    mdb_cursor_close(cursor);
    return rc;
}

static int put_value(struct writer *writer, MDB_cursor *cursor, const struct store_value *row)
{
    CHECK(row->key.size > 0);
    CHECK(row->key.size <= ROW_KEY_BYTES_MAX);
    int rc = discount_row(writer, cursor, ROW_VALUES, row->key);
    if (rc != 0 && rc != ERR_NOT_FOUND) {
        return rc;
    }
    if (row->is_deleted) {
        return rc == 0 ? store_error_of(mdb_cursor_del(cursor, 0)) : 0;
    }
    size_t size = ROW_CHECKSUM_BYTES + row->value.size;
    uint8_t *value;
    rc = reserve(cursor, row->key, size, 0, &value);
    if (rc != 0) {
        return rc;
    }
    if (row->value.size != 0) {
        memcpy(value + ROW_CHECKSUM_BYTES, row->value.data, row->value.size);
    }
    account(writer, ROW_VALUES, row->key, NULL, 1, row_seal(ROW_VALUES, row->key, value, size));
    return 0;
}

static int put_values(struct writer *writer, const struct store_batch *batch)
{
    MDB_cursor *cursor;
    int rc = open_cursor(writer, ROW_VALUES, &cursor);
    if (rc != 0) {
        return rc;
    }
    for (size_t i = 0; i < batch->value_count && rc == 0; i++) {
        rc = put_value(writer, cursor, &batch->values[i]);
    }
    mdb_cursor_close(cursor);
    return rc;
}

/* ---- messages ---- */

/* Sets `out` if the last message of the store is this message's predecessor in its channel: then
 * both belong to one run. */
static int is_continued(struct writer *writer, const struct store_message *next, bool *out)
{
    struct row_key key = row_position_key(writer->state.totals[ROW_MESSAGES].rows);
    MDB_val mdb_key = store_val(bytes_of_key(&key));
    MDB_val value;
    *out = false;
    int rc = store_error_of(
        mdb_get(writer->txn, writer->store->databases[ROW_MESSAGES], &mdb_key, &value));
    if (rc != 0) {
        /* Position 0: the store has no messages yet. */
        return rc == ERR_NOT_FOUND && writer->state.totals[ROW_MESSAGES].rows > 0 ? ERR_CORRUPT : 0;
    }
    struct bytes body;
    uint64_t hash;
    struct row_message last;
    rc = is_sane(writer, &value)
             ? row_open(ROW_MESSAGES, bytes_of_key(&key),
                        (struct bytes){value.mv_data, value.mv_size}, &body, &hash)
             : ERR_CORRUPT;
    if (rc == 0) {
        rc = row_message_decode(body, &last);
    }
    if (rc == 0) {
        *out = last.channel_number == next->channel_number &&
               last.sequence + 1 == next->message->sequence;
    }
    return rc;
}

static int put_item(struct writer *writer, MDB_cursor *cursor, enum row_database database,
                    const struct row_key *key, unsigned flags)
{
    uint8_t item[ROW_SEALED_ITEM_BYTES];
    uint64_t hash = row_item_seal(database, key, item);
    struct bytes channel = {.data = key->data, .size = key->size - ROW_ITEM_BYTES};
    MDB_val mdb_channel = store_val(channel);
    MDB_val mdb_item = {.mv_size = sizeof(item), .mv_data = item};
    int rc = store_error_of(mdb_cursor_put(cursor, &mdb_channel, &mdb_item, flags));
    if (rc == 0) {
        account(writer, database, channel, item, 1, hash);
    }
    return rc;
}

static int put_message(struct writer *writer, MDB_cursor *cursor, const struct store_message *row)
{
    struct row_key key = row_position_key(writer->state.totals[ROW_MESSAGES].rows + 1);
    size_t size = ROW_CHECKSUM_BYTES + row_message_body_size(row->channel_number, row->message);
    uint8_t *value;
    int rc = reserve(cursor, bytes_of_key(&key), size, MDB_APPEND, &value);
    if (rc == 0) {
        row_message_encode(row->channel_number, row->message, value + ROW_CHECKSUM_BYTES);
        account(writer, ROW_MESSAGES, bytes_of_key(&key), NULL, 1,
                row_seal(ROW_MESSAGES, bytes_of_key(&key), value, size));
    }
    return rc;
}

static int put_run(struct writer *writer, MDB_cursor *cursor, const struct store_message *row)
{
    struct row_item run = {.channel_number = row->channel_number,
                           .first = row->message->sequence,
                           .position = writer->state.totals[ROW_MESSAGES].rows + 1};
    struct row_key key = row_item_key(&run);
    return put_item(writer, cursor, ROW_RUNS, &key, MDB_APPENDDUP);
}

static int put_messages(struct writer *writer, const struct store_batch *batch)
{
    bool is_run = false;
    if (batch->message_count == 0) {
        return 0;
    }
    int rc = is_continued(writer, &batch->messages[0], &is_run);
    if (rc != 0) {
        return rc;
    }
    MDB_cursor *messages, *runs;
    rc = open_cursor(writer, ROW_MESSAGES, &messages);
    if (rc != 0) {
        return rc;
    }
    rc = open_cursor(writer, ROW_RUNS, &runs);
    if (rc != 0) {
        goto close_messages;
    }
    for (size_t i = 0; i < batch->message_count && rc == 0; i++) {
        const struct store_message *row = &batch->messages[i];
        is_run = i == 0 ? is_run : row->channel_number == row[-1].channel_number;
        if (!is_run) {
            rc = put_run(writer, runs, row);
        }
        if (rc == 0) {
            rc = put_message(writer, messages, row);
        }
    }
    mdb_cursor_close(runs);
close_messages:
    mdb_cursor_close(messages);
    return rc;
}

/* ---- client ids ---- */

static int compare_items(const void *left, const void *right)
{
    const struct row_item *a = left;
    const struct row_item *b = right;
    if (a->channel_number != b->channel_number) {
        return a->channel_number < b->channel_number ? -1 : 1;
    }
    if (a->first != b->first) {
        return a->first < b->first ? -1 : 1;
    }
    return (a->position > b->position) - (a->position < b->position);
}

static int put_recent(struct writer *writer, MDB_cursor *cursor, const struct row_item *item)
{
    struct row_key key = row_item_key(item);
    uint8_t *value;
    int rc = reserve(cursor, bytes_of_key(&key), ROW_CHECKSUM_BYTES, MDB_NOOVERWRITE, &value);
    if (rc == 0) {
        account(writer, ROW_RECENT, bytes_of_key(&key), NULL, 1,
                row_seal(ROW_DEDUPE, bytes_of_key(&key), value, ROW_CHECKSUM_BYTES));
    }
    return rc;
}

static int put_client_ids(struct writer *writer, const struct store_batch *batch)
{
    struct row_item *items = calloc(batch->message_count + 1, sizeof(*items));
    if (items == NULL) {
        return ERR_NOMEM;
    }
    uint64_t before = writer->state.totals[ROW_MESSAGES].rows - batch->message_count;
    size_t count = 0;
    for (size_t i = 0; i < batch->message_count; i++) {
        const struct store_message *row = &batch->messages[i];
        struct bytes client_id = message_client_id(row->message);
        if (client_id.size > 0) {
            items[count++] =
                (struct row_item){.channel_number = row->channel_number,
                                  .first = store_client_id_hash(writer->store, client_id),
                                  .position = before + i + 1};
        }
    }
    qsort(items, count, sizeof(*items), compare_items);
    MDB_cursor *cursor;
    int rc = open_cursor(writer, ROW_RECENT, &cursor);
    if (rc == 0) {
        for (size_t i = 0; i < count && rc == 0; i++) {
            rc = put_recent(writer, cursor, &items[i]);
        }
        mdb_cursor_close(cursor);
    }
    free(items);
    return rc;
}

/* Moves the row at the cursor from `recent` to `dedupe`. */
static int move_row(struct writer *writer, MDB_cursor *recent, MDB_cursor *dedupe, MDB_val key,
                    MDB_val value)
{
    struct row_item row;
    struct bytes view = {.data = key.mv_data, .size = key.mv_size};
    struct bytes body;
    uint64_t hash;
    if (!is_sane(writer, &key) || !is_sane(writer, &value)) {
        return ERR_CORRUPT;
    }
    int rc = row_open(ROW_DEDUPE, view, (struct bytes){value.mv_data, value.mv_size}, &body, &hash);
    if (rc == 0) {
        rc = row_item_key_decode(view, &row);
    }
    if (rc != 0) {
        return rc;
    }
    struct row_key moved = row_item_key(&row);
    rc = store_error_of(mdb_cursor_del(recent, 0));
    if (rc != 0) {
        return rc;
    }
    account(writer, ROW_RECENT, bytes_of_key(&moved), NULL, -1, hash);
    rc = put_item(writer, dedupe, ROW_DEDUPE, &moved, MDB_NODUPDATA);
    writer->recent_position = moved;
    return rc;
}

/* Finds the first row after the position, or the very first one. */
static int find_slice(struct writer *writer, MDB_cursor *recent, MDB_val *key, MDB_val *value)
{
    struct row_key *position = &writer->recent_position;
    int rc = ERR_NOT_FOUND;
    if (position->size > 0) {
        *key = (MDB_val){.mv_size = position->size, .mv_data = position->data};
        rc = store_error_of(mdb_cursor_get(recent, key, value, MDB_SET_RANGE));
    }
    return rc == ERR_NOT_FOUND ? store_error_of(mdb_cursor_get(recent, key, value, MDB_FIRST)) : rc;
}

static int move_slice(struct writer *writer)
{
    uint64_t rows = writer->state.totals[ROW_RECENT].rows;
    if (rows <= writer->store->recent_rows) {
        return 0;
    }
    MDB_cursor *recent, *dedupe;
    int rc = open_cursor(writer, ROW_RECENT, &recent);
    if (rc != 0) {
        return rc;
    }
    rc = open_cursor(writer, ROW_DEDUPE, &dedupe);
    if (rc != 0) {
        goto close_recent;
    }
    MDB_val key = {0}, value = {0};
    rc = find_slice(writer, recent, &key, &value);
    for (uint64_t left = rows - writer->store->recent_rows; left > 0 && rc == 0; left--) {
        rc = move_row(writer, recent, dedupe, key, value);
        if (rc == 0 && left > 1) {
            /* After a deletion the cursor is before the next row. */
            rc = store_error_of(mdb_cursor_get(recent, &key, &value, MDB_NEXT));
            if (rc == ERR_NOT_FOUND) {
                rc = store_error_of(mdb_cursor_get(recent, &key, &value, MDB_FIRST));
            }
        }
    }
    rc = rc == ERR_NOT_FOUND ? ERR_CORRUPT : rc; /* fewer rows than counted */
    mdb_cursor_close(dedupe);
close_recent:
    mdb_cursor_close(recent);
    return rc;
}

/* ---- the commit ---- */

static int write_batch(struct writer *writer, const struct store_batch *batch)
{
    int rc = put_channels(writer, batch);
    if (rc == 0) {
        rc = put_messages(writer, batch);
    }
    if (rc == 0) {
        rc = put_client_ids(writer, batch);
    }
    if (rc == 0) {
        rc = move_slice(writer);
    }
    if (rc == 0) {
        rc = put_values(writer, batch);
    }
    if (rc != 0) {
        return rc;
    }
    writer->state.meta = *batch->meta;
    CHECK(batch->meta->config_size <= STORE_CONFIG_BYTES_MAX);
    const struct store_totals *totals = writer->state.totals;
    if (batch->meta->channel_count != totals[ROW_CHANNELS].rows ||
        batch->meta->message_count != totals[ROW_MESSAGES].rows ||
        batch->meta->value_count != totals[ROW_VALUES].rows) {
        return ERR_CORRUPT; /* a damaged page hid a row that was there */
    }
    return store_state_write(writer->store, writer->txn, &writer->state);
}

/* Tells a full disk from an I/O error. LMDB returns EIO for a short write too, which is how a
 * disk that becomes full shows itself: then no call has failed, and errno is unchanged. */
static int commit_txn(MDB_txn *txn)
{
    errno = 0;
    int rc = mdb_txn_commit(txn);
    return rc == EIO && errno == 0 ? ERR_NO_SPACE : store_error_of(rc);
}

int store_commit(struct store *base, const struct store_batch *batch)
{
    struct lmdb_store *store = (struct lmdb_store *)base;
    uint64_t begin = clock_monotonic_ns(clock_system());
    struct writer writer = {.store = store,
                            .state = store->state,
                            .scrub = store->scrub,
                            .recent_position = store->recent_position};
    int rc = store_error_of(mdb_txn_begin(store->env, NULL, 0, &writer.txn));
    if (rc != 0) {
        return rc;
    }
    rc = write_batch(&writer, batch);
    if (rc != 0) {
        mdb_txn_abort(writer.txn);
        return rc;
    }
    rc = commit_txn(writer.txn);
    if (rc != 0) {
        return rc;
    }
    store->state = writer.state;
    store->scrub = writer.scrub;
    store->recent_position = writer.recent_position;
    atomic_store(&store->last_commit_ns, clock_monotonic_ns(clock_system()) - begin);
    atomic_fetch_add(&store->commits, 1);
    return 0;
}
