/* What the files of the LMDB store share. Only they and their tests include this. */
#ifndef RAFTOGRAM_STORE_LMDB_INTERNAL_H
#define RAFTOGRAM_STORE_LMDB_INTERNAL_H

#include "base/list.h"
#include "store/file.h"
#include "store/lmdb.h"
#include "store/row.h"

#include <lmdb.h>
#include <pthread.h>
#include <stdatomic.h>

#define STORE_FORMAT_VERSION 1
/* Client ids wait in `recent` until there are this many, and then move to `dedupe` a slice at a
 * time (lmdb_commit.c). */
#define STORE_RECENT_ROWS 65536

/* The number of rows of a database, and the sum of their hashes (modulo 2^64). */
struct store_totals {
    uint64_t rows;
    uint64_t hash;
};

/* The meta row: rewritten by each commit. */
struct store_state {
    struct store_meta meta;
    struct store_totals totals[ROW_DATABASES]; /* that of ROW_META stays zero */
};

/* A pass over all rows, in slices. Its position is the last row that it has read. */
struct store_scrub {
    bool is_running;
    enum row_database database;
    bool has_key; /* false: at the beginning of `database` */
    size_t key_size;
    uint8_t key[ROW_KEY_BYTES_MAX];
    uint8_t item[ROW_SEALED_ITEM_BYTES]; /* in `runs` and `dedupe`: the duplicate of the key */
    struct store_totals seen[ROW_DATABASES];
    uint64_t unreleased_rows; /* read since store_release_pages() */
};

struct lmdb_store {
    struct store store;
    MDB_env *env;
    MDB_dbi databases[ROW_DATABASES];
    char *path;       /* of the data file */
    char *shown_path; /* where it will be; NULL: there */
    struct store_guard guard;
    uint64_t hash_seed;
    uint64_t hash_mask;   /* all ones; tests weaken it */
    uint64_t recent_rows; /* STORE_RECENT_ROWS; tests lower it */

    /* Store thread only. */
    struct store_state state;
    struct store_scrub scrub;
    struct row_key recent_position; /* the next slice of `recent` begins after it */

    pthread_mutex_t lock; /* over the lists */
    struct list idle_reads;
    size_t open_reads;

    atomic_uint_least64_t bytes_used;
    atomic_uint_least64_t last_commit_ns;
    atomic_uint_least64_t commits;
    atomic_uint_least64_t bytes_max;
};

struct store_read {
    struct lmdb_store *store;
    MDB_txn *txn;
    struct list link;
    MDB_cursor *cursors[ROW_DATABASES]; /* opened at first use, closed with the store */
    bool is_renewed[ROW_DATABASES];
    /* The message at the cursor of `messages`: its neighbour is found without a search. */
    bool has_place;
    uint64_t place_channel;
    uint64_t place_sequence;
};

struct store_database {
    const char *name;
    unsigned flags; /* of mdb_dbi_open() */
};
extern const struct store_database store_databases[ROW_DATABASES];

/* lmdb_base.c */

/* Returns the ERR_* for an error of LMDB or an errno. */
int store_error_of(int rc);
MDB_val store_val(struct bytes bytes);
struct bytes store_bytes_of(MDB_val value);

/* For pointers that come from a damaged page. */
bool store_map_holds(const struct lmdb_store *store, const MDB_val *value);
/* mdb_get and mdb_cursor_get for readers, under the guard: MDB_NOTFOUND is ERR_NOT_FOUND, a view
 * outside the map ERR_CORRUPT. */
int store_get(const struct lmdb_store *store, MDB_txn *txn, enum row_database database,
              struct bytes key, struct bytes *value);
int store_cursor_get(const struct lmdb_store *store, MDB_cursor *cursor, MDB_val *key,
                     MDB_val *value, MDB_cursor_op op);
uint64_t store_client_id_hash(const struct lmdb_store *store, struct bytes client_id);
/* Whether its rows are sealed items, duplicates of the channel's number. */
bool store_has_items(enum row_database database);

/* Gives the mapped pages back to the page cache. A full pass maps the whole file, and the
 * process would otherwise appear to grow with its store. */
void store_release_pages(const struct lmdb_store *store);

/* lmdb_meta.c: the two rows of `meta`. Errors: ERR_NOT_FOUND, ERR_CORRUPT, ERR_VERSION. */
int store_format_read(struct lmdb_store *store, MDB_txn *txn);
int store_format_write(struct lmdb_store *store, MDB_txn *txn);
int store_state_read(const struct lmdb_store *store, MDB_txn *txn, struct store_state *out);
int store_state_write(struct lmdb_store *store, MDB_txn *txn, const struct store_state *state);

/* lmdb_commit.c */

int store_commit(struct store *store, const struct store_batch *batch);

/* lmdb_scrub.c */

/* Accounts for a row that was added (+1) or removed (-1) before the position of a running pass.
 * `item` only if store_has_items(). */
void store_scrub_account(struct store_scrub *scrub, enum row_database database, struct bytes key,
                         const uint8_t *item, int rows, uint64_t hash);

/* The read half of the vtable, in lmdb_read.c. */
int store_read_begin(struct store *store, struct store_read **out);
void store_read_end(struct store_read *read);
/* The read's cursor on a database, at an unspecified position. */
int store_read_cursor(struct store_read *read, enum row_database database, MDB_cursor **out);
int store_read_meta(struct store_read *read, struct store_meta *out);
int store_get_channel(struct store_read *read, struct bytes id, struct store_channel *out);
int store_seek_channel(struct store_read *read, struct bytes from, bool is_exclusive,
                       struct store_channel *out);
int store_next_message(struct store_read *read, uint64_t channel_number, uint64_t after_sequence,
                       struct message **out);
int store_get_dedupe(struct store_read *read, uint64_t channel_number, struct bytes client_id,
                     uint64_t *out_sequence);
int store_get_value(struct store_read *read, struct bytes key, struct bytes *out);
int store_seek_value(struct store_read *read, struct bytes from, bool is_exclusive,
                     struct bytes *out_key, struct bytes *out_value);

#endif
