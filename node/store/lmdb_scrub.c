/* The scrub reads every row in key order, a slice at a time, while commits go on between slices.
 *
 * Sums over a changing database: commits and slices run on the same thread, so no row changes
 * during a slice, and each commit tells the scrub which rows came and went behind the place where
 * it stands (store_scrub_account). What it has summed up is therefore always the sum over the rows
 * of *now* from the first one to its place; at the end it must equal the totals in the meta row, at
 * whatever commit it gets there. */
#include "store/lmdb_internal.h"

#include "base/check.h"
#include "base/errors.h"
#include "base/log.h"

#include <string.h>

enum { RELEASE_ROWS = 100000 };

static int compare_keys(const void *a, size_t a_size, const void *b, size_t b_size)
{
    size_t size = a_size < b_size ? a_size : b_size;
    int order = size != 0 ? memcmp(a, b, size) : 0;
    return order != 0 ? order : (a_size > b_size) - (a_size < b_size);
}

static void add(struct store_totals *totals, int rows, uint64_t hash)
{
    totals->rows += (uint64_t)(int64_t)rows;
    totals->hash += rows > 0 ? hash : 0 - hash;
}

void store_scrub_account(struct store_scrub *scrub, enum row_database database, struct bytes key,
                         const uint8_t *item, int rows, uint64_t hash)
{
    if (!scrub->is_running || database > scrub->database) {
        return;
    }
    if (database == scrub->database) {
        int order =
            scrub->has_key ? compare_keys(key.data, key.size, scrub->key, scrub->key_size) : 1;
        if (order == 0 && item != NULL) {
            order = memcmp(item, scrub->item, ROW_SEALED_ITEM_BYTES);
        }
        if (order > 0) {
            return;
        }
    }
    add(&scrub->seen[database], rows, hash);
}

/* Checks one row, and that a search for its key arrives at it: a damaged branch page would hide it
 * from readers, not from us. */
static int verify_row(struct store_read *read, enum row_database database, MDB_val key,
                      MDB_val value, uint64_t *hash)
{
    const struct lmdb_store *store = read->store;
    struct bytes view = {.data = key.mv_data, .size = key.mv_size};
    struct bytes row = {.data = value.mv_data, .size = value.mv_size};
    struct bytes body;
    MDB_val found = value;
    int rc;
    if (store_has_items(database)) {
        struct row_key whole;
        rc = row_item_open(database, view, row, &whole, hash);
        MDB_cursor *cursor;
        if (rc == 0) {
            rc = store_error_of(mdb_cursor_open(read->txn, store->databases[database], &cursor));
        }
        if (rc == 0) {
            rc = store_error_of(mdb_cursor_get(cursor, &key, &found, MDB_GET_BOTH));
            mdb_cursor_close(cursor);
        }
    } else {
        rc = row_open(database == ROW_RECENT ? ROW_DEDUPE : database, view, row, &body, hash);
        if (rc == 0) {
            rc = store_error_of(mdb_get(read->txn, store->databases[database], &key, &found));
        }
    }
    if (rc == ERR_NOT_FOUND || (rc == 0 && found.mv_data != value.mv_data)) {
        return ERR_CORRUPT;
    }
    return rc;
}

static void remember(struct store_scrub *scrub, MDB_val key, MDB_val value)
{
    scrub->has_key = true;
    scrub->key_size = key.mv_size;
    memcpy(scrub->key, key.mv_data, key.mv_size);
    if (store_has_items(scrub->database)) {
        memcpy(scrub->item, value.mv_data, ROW_SEALED_ITEM_BYTES);
    }
}

/* The first row behind the scrub's place; the row there may be gone by now. */
static int seek_behind(struct store_read *read, MDB_cursor *cursor, MDB_val *key, MDB_val *value)
{
    struct store_scrub *scrub = &read->store->scrub;
    if (!scrub->has_key) {
        return store_cursor_get(read->store, cursor, key, value, MDB_FIRST);
    }
    *key = (MDB_val){.mv_size = scrub->key_size, .mv_data = scrub->key};
    if (store_has_items(scrub->database)) {
        /* Items never leave: the one at our place is there, or damage. */
        *value = (MDB_val){.mv_size = ROW_SEALED_ITEM_BYTES, .mv_data = scrub->item};
        int rc = store_cursor_get(read->store, cursor, key, value, MDB_GET_BOTH);
        return rc == 0 ? store_cursor_get(read->store, cursor, key, value, MDB_NEXT)
                       : (rc == ERR_NOT_FOUND ? ERR_CORRUPT : rc);
    }
    int rc = store_cursor_get(read->store, cursor, key, value, MDB_SET_RANGE);
    if (rc == 0 && compare_keys(key->mv_data, key->mv_size, scrub->key, scrub->key_size) == 0) {
        rc = store_cursor_get(read->store, cursor, key, value, MDB_NEXT);
    }
    return rc;
}

/* Rows of one database, at most `*left`. True in `is_end` at its end. */
static int scrub_database(struct store_read *read, uint64_t *left, bool *is_end)
{
    struct store_scrub *scrub = &read->store->scrub;
    MDB_cursor *cursor;
    int rc = store_read_cursor(read, scrub->database, &cursor);
    if (rc != 0) {
        return rc;
    }
    MDB_val key = {0}, value = {0};
    rc = seek_behind(read, cursor, &key, &value);
    while (rc == 0 && *left > 0) {
        bool is_behind = !scrub->has_key ||
                         compare_keys(key.mv_data, key.mv_size, scrub->key, scrub->key_size) > 0 ||
                         store_has_items(scrub->database);
        uint64_t hash;
        rc = is_behind ? verify_row(read, scrub->database, key, value, &hash) : ERR_CORRUPT;
        if (rc == 0) {
            add(&scrub->seen[scrub->database], 1, hash);
            remember(scrub, key, value);
            --*left;
            rc = store_cursor_get(read->store, cursor, &key, &value, MDB_NEXT);
        }
    }
    *is_end = rc == ERR_NOT_FOUND;
    return rc == ERR_NOT_FOUND ? 0 : rc;
}

static int compare_totals(const struct lmdb_store *store, enum row_database database)
{
    const struct store_totals *seen = &store->scrub.seen[database];
    const struct store_totals *expected = &store->state.totals[database];
    if (seen->rows == expected->rows && seen->hash == expected->hash) {
        return 0;
    }
    log_error("store", "rows are missing or foreign", LOG_STR("file", store->guard.path),
              LOG_U64("database", database), LOG_U64("rows", seen->rows),
              LOG_U64("expected", expected->rows));
    return ERR_CORRUPT;
}

static int scrub_slice(struct store_read *read, uint64_t rows_max, bool *is_done)
{
    struct lmdb_store *store = read->store;
    struct store_scrub *scrub = &store->scrub;
    for (uint64_t left = rows_max; left > 0 && !*is_done;) {
        bool is_end;
        int rc = scrub_database(read, &left, &is_end);
        if (rc == ERR_CORRUPT) {
            log_error("store", "a row is damaged", LOG_STR("file", store->guard.path),
                      LOG_U64("database", scrub->database),
                      LOG_U64("row", scrub->seen[scrub->database].rows));
        }
        if (rc != 0) {
            return rc;
        }
        if (is_end && scrub->database + 1 < ROW_DATABASES) {
            scrub->database++;
            scrub->has_key = false;
        } else if (is_end) {
            *is_done = true;
        }
    }
    for (size_t i = ROW_META + 1; i < ROW_DATABASES && *is_done; i++) {
        int rc = compare_totals(store, i);
        if (rc != 0) {
            return rc;
        }
    }
    return 0;
}

int store_lmdb_scrub(struct store *base, uint64_t rows_max, bool *is_done)
{
    struct lmdb_store *store = (struct lmdb_store *)base;
    CHECK(rows_max > 0);
    if (!store->scrub.is_running) {
        store->scrub = (struct store_scrub){.is_running = true};
    }
    store->scrub.unreleased_rows += rows_max;
    struct store_read *read;
    int rc = store_read_begin(base, &read);
    if (rc != 0) {
        return rc;
    }
    bool is_end = false;
    const struct store_guard *outer = store_fault_enter(&store->guard);
    rc = scrub_slice(read, rows_max, &is_end);
    store_fault_leave(outer);
    store_read_end(read);
    if (is_end || store->scrub.unreleased_rows >= RELEASE_ROWS) {
        store->scrub.unreleased_rows = 0;
        store_release_pages(store);
    }
    if (rc != 0 || is_end) {
        store->scrub.is_running = false;
    }
    if (rc == 0) {
        *is_done = is_end;
    }
    return rc;
}
