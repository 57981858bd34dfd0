/* Reading the LMDB store: read transactions and those kept for the next, rows by key and in order,
 * messages out of runs, and client message ids. */
#include "store/lmdb_internal.h"

#include "base/check.h"
#include "base/errors.h"

#include <stdlib.h>
#include <string.h>

/* ---- transactions ---- */

static struct store_read *take_idle(struct lmdb_store *store)
{
    pthread_mutex_lock(&store->lock);
    struct list *link = list_pop_front(&store->idle_reads);
    store->open_reads++;
    pthread_mutex_unlock(&store->lock);
    return link != NULL ? LIST_ENTRY(link, struct store_read, link) : NULL;
}

/* Keeps a reset transaction for the next read: it keeps its reader slot and its cursors, so that
 * the next read starts without a search or an allocation. NULL only counts. */
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
        memset(read->is_renewed, 0, sizeof(read->is_renewed));
        read->has_place = false;
        *out = read;
        return 0;
    }
    read = calloc(1, sizeof(*read));
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

/* Reads the body of one row. ERR_NOT_FOUND also for keys that no row can have. */
static int get_row(struct store_read *read, enum row_database database, struct bytes key,
                   struct bytes *body)
{
    if (key.size == 0 || key.size > ROW_KEY_BYTES_MAX) {
        return ERR_NOT_FOUND;
    }
    struct bytes value;
    int rc = store_get(read->store, read->txn, database, key, &value);
    uint64_t hash;
    return rc == 0 ? row_open(database, key, value, body, &hash) : rc;
}

/* The first row with a key >= `from`, or > `from`. */
static int seek_row(struct store_read *read, enum row_database database, struct bytes from,
                    bool is_exclusive, struct bytes *key, struct bytes *body)
{
    if (from.size > ROW_KEY_BYTES_MAX) {
        /* No key is this long: the keys after `from` are those after its prefix. */
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
    if (rc == 0 && is_exclusive && from.size != 0 && bytes_equal(store_bytes_of(found), from)) {
        rc = store_cursor_get(read->store, cursor, &found, &value, MDB_NEXT);
    }
    uint64_t hash;
    if (rc == 0) {
        rc = row_open(database, store_bytes_of(found), store_bytes_of(value), body, &hash);
    }
    if (rc == 0) {
        *key = store_bytes_of(found);
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

static int open_message(struct bytes key, struct bytes value, struct row_message *out)
{
    struct bytes body;
    uint64_t hash;
    int rc = row_open(ROW_MESSAGES, key, value, &body, &hash);
    return rc == 0 ? row_message_decode(body, out) : rc;
}

static int open_run(uint64_t channel_number, MDB_val item, struct row_item *out)
{
    struct row_key channel = row_position_key(channel_number);
    struct row_key key;
    uint64_t hash;
    int rc = row_item_open(ROW_RUNS, (struct bytes){channel.data, channel.size},
                           store_bytes_of(item), &key, &hash);
    return rc == 0 ? row_item_key_decode((struct bytes){key.data, key.size}, out) : rc;
}

/* Finds the run that holds the message if it exists: the last run that begins at or before it. */
static int find_run(struct store_read *read, uint64_t channel_number, uint64_t sequence,
                    struct row_item *out, bool *is_last)
{
    const struct lmdb_store *store = read->store;
    MDB_cursor *cursor;
    int rc = store_read_cursor(read, ROW_RUNS, &cursor);
    if (rc != 0) {
        return rc;
    }
    struct row_item wanted = {.channel_number = channel_number, .first = sequence};
    struct row_key first = row_item_key(&wanted);
    size_t key_size = first.size - ROW_ITEM_BYTES;
    uint8_t item[ROW_SEALED_ITEM_BYTES] = {0};
    memcpy(item, first.data + key_size, ROW_ITEM_BYTES);
    MDB_val key = {.mv_size = key_size, .mv_data = first.data};
    MDB_val found = {.mv_size = sizeof(item), .mv_data = item};
    rc = store_cursor_get(store, cursor, &key, &found, MDB_GET_BOTH_RANGE);
    *is_last = rc == ERR_NOT_FOUND;
    if (rc == ERR_NOT_FOUND) {
        /* After all of the channel's runs, or the channel has none. */
        rc = store_cursor_get(store, cursor, &key, &found, MDB_SET);
        if (rc == 0) {
            rc = store_cursor_get(store, cursor, &key, &found, MDB_LAST_DUP);
        }
        return rc == 0 ? open_run(channel_number, found, out) : rc;
    }
    struct row_item run;
    if (rc == 0) {
        rc = open_run(channel_number, found, &run);
    }
    if (rc == 0 && run.first > sequence) {
        rc = store_cursor_get(store, cursor, &key, &found, MDB_PREV_DUP);
        if (rc == 0) {
            rc = open_run(channel_number, found, &run);
        }
        rc = rc == ERR_NOT_FOUND ? ERR_CORRUPT : rc; /* the run of sequence 1 is missing */
    } else if (rc == 0) {
        *is_last = true; /* perhaps not, but a run has at least its first message */
    }
    if (rc == 0) {
        *out = run;
    }
    return rc;
}

/* Moves the cursor of `messages` to the message. Positions and sequences have no gaps, so a
 * message that is not in its place is a lost row, except after the end of a channel's last run. */
static int find_message(struct store_read *read, uint64_t channel_number, uint64_t sequence,
                        struct row_message *out)
{
    struct row_item run;
    bool is_last;
    int rc = find_run(read, channel_number, sequence, &run, &is_last);
    if (rc != 0) {
        return rc;
    }
    MDB_cursor *cursor;
    MDB_stat stat;
    rc = store_read_cursor(read, ROW_MESSAGES, &cursor);
    if (rc == 0) {
        rc = store_error_of(mdb_stat(read->txn, read->store->databases[ROW_MESSAGES], &stat));
    }
    if (rc != 0) {
        return rc;
    }
    bool may_be_absent = is_last && sequence > run.first;
    uint64_t position = run.position + (sequence - run.first);
    if (position > stat.ms_entries || position < run.position) {
        return may_be_absent ? ERR_NOT_FOUND : ERR_CORRUPT;
    }
    struct row_key wanted = row_position_key(position);
    MDB_val key = {.mv_size = wanted.size, .mv_data = wanted.data};
    MDB_val value = {0};
    rc = store_cursor_get(read->store, cursor, &key, &value, MDB_SET_KEY);
    if (rc == 0) {
        rc = open_message(store_bytes_of(key), store_bytes_of(value), out);
    }
    if (rc != 0) {
        return rc == ERR_NOT_FOUND ? ERR_CORRUPT : rc;
    }
    if (out->channel_number == channel_number && out->sequence == sequence) {
        return 0;
    }
    return may_be_absent && out->channel_number != channel_number ? ERR_NOT_FOUND : ERR_CORRUPT;
}

/* Moves to the next message if it is the wanted one. */
static int step_to_message(struct store_read *read, uint64_t channel_number, uint64_t sequence,
                           struct row_message *out)
{
    if (!read->has_place || read->place_channel != channel_number ||
        read->place_sequence + 1 != sequence) {
        return ERR_NOT_FOUND;
    }
    MDB_val key = {0}, value = {0};
    int rc = store_cursor_get(read->store, read->cursors[ROW_MESSAGES], &key, &value, MDB_NEXT);
    if (rc == 0) {
        rc = open_message(store_bytes_of(key), store_bytes_of(value), out);
    }
    if (rc != 0) {
        return rc;
    }
    return out->channel_number == channel_number && out->sequence == sequence ? 0 : ERR_NOT_FOUND;
}

int store_next_message(struct store_read *read, uint64_t channel_number, uint64_t after_sequence,
                       struct message **out)
{
    if (after_sequence == UINT64_MAX) {
        return ERR_NOT_FOUND;
    }
    uint64_t sequence = after_sequence + 1;
    struct row_message row;
    int rc = step_to_message(read, channel_number, sequence, &row);
    read->has_place = false;
    if (rc == ERR_NOT_FOUND) {
        rc = find_message(read, channel_number, sequence, &row);
    }
    if (rc != 0) {
        return rc;
    }
    struct message *message =
        message_create(sequence, row.timestamp_ms, row.author_id, row.client_id, row.payload);
    if (message == NULL) {
        return ERR_NOMEM;
    }
    read->has_place = true;
    read->place_channel = channel_number;
    read->place_sequence = sequence;
    *out = message;
    return 0;
}

/* ---- dedupe ---- */

/* Compares one row of a chain of client ids with the same hash. ERR_NOT_FOUND after the chain's
 * end. A missing message is damage: both were written together. */
static int try_dedupe(struct store_read *read, struct bytes key, const struct row_item *wanted,
                      struct bytes client_id, bool *is_same, uint64_t *sequence)
{
    struct row_item item;
    int rc = row_item_key_decode(key, &item);
    if (rc != 0) {
        return rc;
    }
    if (item.channel_number != wanted->channel_number || item.first != wanted->first) {
        return ERR_NOT_FOUND;
    }
    struct row_key position = row_position_key(item.position);
    struct bytes body;
    struct row_message message;
    rc = get_row(read, ROW_MESSAGES, (struct bytes){position.data, position.size}, &body);
    if (rc == 0) {
        rc = row_message_decode(body, &message);
    }
    if (rc == 0 && message.channel_number != wanted->channel_number) {
        rc = ERR_CORRUPT;
    }
    if (rc != 0) {
        return rc == ERR_NOT_FOUND ? ERR_CORRUPT : rc;
    }
    *is_same = bytes_equal(message.client_id, client_id);
    *sequence = message.sequence;
    return 0;
}

static int find_recent(struct store_read *read, const struct row_item *wanted,
                       struct bytes client_id, uint64_t *out_sequence)
{
    MDB_cursor *cursor;
    int rc = store_read_cursor(read, ROW_RECENT, &cursor);
    struct row_key first = row_item_key(wanted);
    MDB_val key = {.mv_size = first.size, .mv_data = first.data};
    MDB_val value = {0};
    if (rc == 0) {
        rc = store_cursor_get(read->store, cursor, &key, &value, MDB_SET_RANGE);
    }
    while (rc == 0) {
        bool is_same = false;
        struct bytes body;
        uint64_t hash, sequence;
        rc = row_open(ROW_DEDUPE, store_bytes_of(key), store_bytes_of(value), &body, &hash);
        if (rc == 0) {
            rc = try_dedupe(read, store_bytes_of(key), wanted, client_id, &is_same, &sequence);
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

static int find_settled(struct store_read *read, const struct row_item *wanted,
                        struct bytes client_id, uint64_t *out_sequence)
{
    MDB_cursor *cursor;
    int rc = store_read_cursor(read, ROW_DEDUPE, &cursor);
    struct row_key first = row_item_key(wanted);
    size_t key_size = first.size - ROW_ITEM_BYTES;
    uint8_t item[ROW_SEALED_ITEM_BYTES] = {0};
    memcpy(item, first.data + key_size, ROW_ITEM_BYTES);
    MDB_val key = {.mv_size = key_size, .mv_data = first.data};
    MDB_val value = {.mv_size = sizeof(item), .mv_data = item};
    if (rc == 0) {
        rc = store_cursor_get(read->store, cursor, &key, &value, MDB_GET_BOTH_RANGE);
    }
    while (rc == 0) {
        bool is_same = false;
        struct row_key row;
        uint64_t hash, sequence;
        rc = row_item_open(ROW_DEDUPE, (struct bytes){first.data, key_size}, store_bytes_of(value),
                           &row, &hash);
        if (rc == 0) {
            rc = try_dedupe(read, (struct bytes){row.data, row.size}, wanted, client_id, &is_same,
                            &sequence);
        }
        if (rc == 0 && is_same) {
            *out_sequence = sequence;
            return 0;
        }
        if (rc == 0) {
            rc = store_cursor_get(read->store, cursor, &key, &value, MDB_NEXT_DUP);
        }
    }
    return rc;
}

int store_get_dedupe(struct store_read *read, uint64_t channel_number, struct bytes client_id,
                     uint64_t *out_sequence)
{
    struct row_item wanted = {.channel_number = channel_number,
                              .first = store_client_id_hash(read->store, client_id)};
    int rc = find_recent(read, &wanted, client_id, out_sequence);
    return rc == ERR_NOT_FOUND ? find_settled(read, &wanted, client_id, out_sequence) : rc;
}
