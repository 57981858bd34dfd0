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
    const char *home; /* where the file will be renamed to: the mark of a fault is left there, and
                         it is what messages name; NULL: `dir`; made when absent */
};

/* Opens with LMDB's default sync (never NOSYNC, NOMETASYNC, WRITEMAP), MDB_NOTLS, and checks the
 * format version and the file's size before anything is read.
 * Errors: ERR_VERSION, ERR_CORRUPT (with a line in `error`), ERR_IO, ERR_ACCESS, ERR_NO_SPACE,
 * ERR_NOMEM. `error` gets one line that names the file and the reason. */
int store_lmdb_open(const struct store_lmdb_options *options, struct store **out, char *error,
                    size_t error_size);

/* Verifies up to `rows_max` rows from where the last call stopped; true in `is_done` after the last
 * row of a pass, when counts and the additive hash have been compared with the meta row.
 * Errors: ERR_CORRUPT, ERR_IO. Store thread only. */
int store_lmdb_scrub(struct store *store, uint64_t rows_max, bool *is_done);

/* Leaves the mark that a fault would leave: the next open checks everything. Any thread. */
void store_lmdb_mark_suspect(struct store *store);

/* Leaves the mark that the contents, sound as they may be, are not what the other nodes have: the
 * next open is ERR_CORRUPT. Any thread. Errors: ERR_IO, ERR_NO_SPACE. */
int store_lmdb_mark_outvoted(struct store *store);

/* What another thread needs to end a copy that runs. */
struct store_copying {
    pthread_mutex_t lock;
    int fd; /* -1: none runs */
    bool is_cancelled;
};
void store_copying_init(struct store_copying *copying);
void store_copying_finish(struct store_copying *copying);
/* Ends the copy that runs within a few of its writes, and all that would begin. Any thread. */
void store_copying_cancel(struct store_copying *copying);

/* A compacted copy of a durable commit at `path` (mdb_env_copyfd2, MDB_CP_COMPACT), synced. Any
 * thread; commits go on meanwhile. `copying` may be NULL.
 * Errors: ERR_NO_SPACE, ERR_IO, ERR_CLOSED (cancelled). After any there is no file. */
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

/* Ends the process with one line on stderr and exit code 1 when a page in the map of an open store
 * cannot be read (SIGBUS) or LMDB stumbles over a damaged one (SIGSEGV within it), and leaves a
 * file `suspect` in the store's directory: the next store_lmdb_open() then checks every page and
 * row, and removes it when all is well. Other faults end the process as ever. */
void store_lmdb_install_fault_handler(void);

#endif
