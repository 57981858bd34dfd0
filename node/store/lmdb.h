/* The store in LMDB. Only this module includes LMDB's lmdb.h; other modules use struct store_kind.
 */
#ifndef RAFTOGRAM_STORE_LMDB_H
#define RAFTOGRAM_STORE_LMDB_H

#include "store/store.h"

#include <pthread.h>

struct store_lmdb_options {
    const char *dir;        /* made when absent */
    uint64_t map_bytes_max; /* address space, and the most that the store may grow to */
    uint32_t readers_max;   /* 0: 126; more reads at once get ERR_FULL */
    bool is_untrusted;      /* a received file: walk all its pages before LMDB follows them */
    const char *home; /* the directory that the file will be renamed into; NULL: `dir`. Fault marks
                         are left there, and messages name it. Created if absent. */
};

/* Opens with LMDB's default sync (never NOSYNC, NOMETASYNC, WRITEMAP) and MDB_NOTLS. Checks the
 * format version and the file's size before it reads anything else. Errors: ERR_VERSION,
 * ERR_CORRUPT (with a line in `error`), ERR_IO, ERR_ACCESS, ERR_NO_SPACE, ERR_NOMEM. `error`
 * gets one line that names the file and the reason. */
int store_lmdb_open(const struct store_lmdb_options *options, struct store **out, char *error,
                    size_t error_size);

/* Verifies up to `rows_max` rows from where the last call stopped. Sets `is_done` after the last
 * row of a pass, once counts and the additive hash have been compared with the meta row. Errors:
 * ERR_CORRUPT, ERR_IO. Store thread only. */
int store_lmdb_scrub(struct store *store, uint64_t rows_max, bool *is_done);

/* Leaves the mark that a fault leaves: the next open checks everything. Any thread. */
void store_lmdb_mark_suspect(struct store *store);

/* Leaves a mark that the contents differ from those of the other nodes, even if every row is
 * intact: the next open returns ERR_CORRUPT. Any thread. Errors: ERR_IO, ERR_NO_SPACE. */
int store_lmdb_mark_outvoted(struct store *store);

/* Lets another thread cancel a running copy. */
struct store_copying {
    pthread_mutex_t lock;
    int fd; /* -1: none runs */
    bool is_cancelled;
};
void store_copying_init(struct store_copying *copying);
void store_copying_finish(struct store_copying *copying);
/* Ends the running copy within a few of its writes, and every later copy at once. Any thread. */
void store_copying_cancel(struct store_copying *copying);

/* Writes a compacted, synced copy of a durable commit to `path` (mdb_env_copyfd2,
 * MDB_CP_COMPACT). Any thread; commits continue meanwhile. `copying` may be NULL. Errors:
 * ERR_NO_SPACE, ERR_IO, ERR_CLOSED (cancelled). After an error there is no file. */
int store_lmdb_copy(struct store *store, const char *path, struct store_copying *copying);

/* The kind of store that LMDB is; `kind.open` opens with `map_bytes_max`. It must outlive its
 * stores. */
struct store_lmdb_kind {
    struct store_kind kind;
    uint64_t map_bytes_max;
    struct store_copying copying;
};
void store_lmdb_kind_init(struct store_lmdb_kind *kind, uint64_t map_bytes_max);
void store_lmdb_kind_finish(struct store_lmdb_kind *kind);

/* Installs a handler for faults in an open store: SIGBUS when a mapped page cannot be read,
 * SIGSEGV when LMDB follows a damaged page. The handler writes one line to stderr, leaves a file
 * `suspect` in the store's directory and exits with code 1. The next store_lmdb_open() then
 * checks every page and row, and removes the file if all are intact. Other faults end the
 * process as usual. */
void store_lmdb_install_fault_handler(void);

#endif
