/* Opens and closes the LMDB store; its vtable. */
#include "store/lmdb_internal.h"

#include "base/check.h"
#include "base/errors.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { READERS_DEFAULT = 126, PATH_BYTES_MAX = 4096 };

/* ---- open ---- */

static int open_databases(struct lmdb_store *store, MDB_txn *txn, unsigned create)
{
    for (size_t i = 0; i < ROW_DATABASES; i++) {
        MDB_dbi database;
        int rc = mdb_dbi_open(txn, store_databases[i].name, store_databases[i].flags | create,
                              &database);
        if (rc != 0) {
            return rc == MDB_NOTFOUND ? ERR_CORRUPT : store_error_of(rc);
        }
        unsigned flags;
        rc = mdb_dbi_flags(txn, database, &flags);
        if (rc != 0 || flags != store_databases[i].flags) {
            return ERR_CORRUPT;
        }
        store->databases[i] = database;
    }
    return 0;
}

static int initialise(struct lmdb_store *store)
{
    MDB_txn *txn;
    int rc = store_error_of(mdb_txn_begin(store->env, NULL, 0, &txn));
    if (rc != 0) {
        return rc;
    }
    rc = open_databases(store, txn, MDB_CREATE);
    if (rc == 0) {
        rc = store_format_write(store, txn);
    }
    if (rc == 0) {
        rc = store_state_write(store, txn, &store->state);
    }
    if (rc != 0) {
        mdb_txn_abort(txn);
        return rc;
    }
    return store_error_of(mdb_txn_commit(txn));
}

/* Compares with LMDB's own counts, which is cheap. The scrub counts the rows themselves. */
static int compare_counts(struct lmdb_store *store, MDB_txn *txn)
{
    for (size_t i = ROW_META + 1; i < ROW_DATABASES; i++) {
        MDB_stat stat;
        int rc = store_error_of(mdb_stat(txn, store->databases[i], &stat));
        if (rc != 0) {
            return rc;
        }
        if (stat.ms_entries != store->state.totals[i].rows) {
            return ERR_CORRUPT;
        }
    }
    return 0;
}

static int load(struct lmdb_store *store)
{
    MDB_txn *txn;
    int rc = store_error_of(mdb_txn_begin(store->env, NULL, MDB_RDONLY, &txn));
    if (rc != 0) {
        return rc;
    }
    rc = open_databases(store, txn, 0);
    if (rc == 0) {
        rc = store_format_read(store, txn);
    }
    if (rc == 0) {
        rc = store_state_read(store, txn, &store->state);
    }
    if (rc == 0) {
        rc = compare_counts(store, txn);
    }
    if (rc != 0) {
        mdb_txn_abort(txn);
        return rc == ERR_NOT_FOUND ? ERR_CORRUPT : rc;
    }
    return store_error_of(mdb_txn_commit(txn)); /* keeps the database handles */
}

/* Sets `is_empty` if nothing was ever committed. */
static int look_for_databases(struct lmdb_store *store, bool *is_empty)
{
    MDB_stat stat;
    int rc = store_error_of(mdb_env_stat(store->env, &stat));
    *is_empty = rc == 0 && stat.ms_entries == 0;
    return rc;
}

static void on_lmdb_assertion(MDB_env *env, const char *message)
{
    const struct lmdb_store *store = mdb_env_get_userctx(env);
    store_fault_exit(&store->guard, message);
}

static int open_environment(struct lmdb_store *store, const struct store_lmdb_options *options)
{
    int rc = mdb_env_create(&store->env);
    if (rc != 0) {
        store->env = NULL;
        return store_error_of(rc);
    }
    uint64_t page = (uint64_t)sysconf(_SC_PAGESIZE);
    unsigned readers = options->readers_max != 0 ? options->readers_max : READERS_DEFAULT;
    mdb_env_set_userctx(store->env, store);
    mdb_env_set_assert(store->env, on_lmdb_assertion);
    rc = mdb_env_set_mapsize(store->env, (options->map_bytes_max + page - 1) / page * page);
    if (rc == 0) {
        rc = mdb_env_set_maxdbs(store->env, ROW_DATABASES);
    }
    if (rc == 0) {
        rc = mdb_env_set_maxreaders(store->env, readers);
    }
    if (rc == 0) {
        rc = mdb_env_open(store->env, options->dir, MDB_NOTLS, 0600);
    }
    if (rc != 0) {
        return store_error_of(rc);
    }
    int fd;
    rc = mdb_env_get_fd(store->env, &fd);
    if (rc != 0) {
        return store_error_of(rc);
    }
    rc = store_file_find_mapping(fd, &store->guard.map);
    return rc == 0 ? store_fault_watch(&store->guard) : rc;
}

static void note_bytes(struct lmdb_store *store)
{
    MDB_envinfo info;
    MDB_stat stat;
    CHECK(mdb_env_info(store->env, &info) == 0);
    CHECK(mdb_env_stat(store->env, &stat) == 0);
    atomic_store(&store->bytes_max, info.me_mapsize);
    atomic_store(&store->bytes_used, (info.me_last_pgno + 1) * stat.ms_psize);
}

static bool has_mark(const struct lmdb_store *store, const char *name)
{
    return faccessat(store->guard.dir_fd, name, F_OK, 0) == 0;
}

/* Checks every row once after a fault, and removes the mark if all are intact. */
static int acquit(struct lmdb_store *store)
{
    bool is_done = false;
    int rc = 0;
    while (rc == 0 && !is_done) {
        rc = store_lmdb_scrub(&store->store, 100000, &is_done);
    }
    if (rc == 0 && unlinkat(store->guard.dir_fd, STORE_SUSPECT_FILE, 0) != 0) {
        rc = ERR_IO;
    }
    return rc;
}

static int sync_directories(const struct lmdb_store *store)
{
    int parent = openat(store->guard.dir_fd, "..", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    int rc = fsync(store->guard.dir_fd) == 0 ? 0 : ERR_IO;
    if (parent >= 0) {
        if (fsync(parent) != 0) {
            rc = ERR_IO;
        }
        close(parent);
    }
    return rc;
}

static int open_dir(struct lmdb_store *store, const char *dir)
{
    if (mkdir(dir, 0700) != 0 && errno != EEXIST) {
        return store_error_of(errno);
    }
    store->guard.dir_fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    return store->guard.dir_fd >= 0 ? 0 : store_error_of(errno);
}

/* Checks the file, opens the environment and loads or creates the databases. */
static int open_file(struct lmdb_store *store, const struct store_lmdb_options *options,
                     char *reason, size_t reason_size)
{
    enum store_file_kind kind;
    bool suspect = has_mark(store, STORE_SUSPECT_FILE);
    if (has_mark(store, STORE_OUTVOTED_FILE)) {
        snprintf(reason, reason_size, "its contents are not what most nodes have");
        return ERR_CORRUPT;
    }
    int rc =
        store_file_check(store->path, suspect || options->is_untrusted, &kind, reason, reason_size);
    if (rc != 0) {
        return rc;
    }
    if (kind == STORE_FILE_NEW && (suspect || options->is_untrusted)) {
        snprintf(reason, reason_size, "the file is missing or blank");
        return ERR_CORRUPT;
    }
    if (kind == STORE_FILE_NEW && unlink(store->path) != 0 && errno != ENOENT) {
        return store_error_of(errno);
    }
    rc = open_environment(store, options);
    bool is_empty = false;
    if (rc == 0) {
        rc = look_for_databases(store, &is_empty);
    }
    if (rc == 0) {
        rc = is_empty ? initialise(store) : load(store);
    }
    if (rc == 0 && suspect) {
        rc = acquit(store);
    }
    if (rc == 0) {
        /* A killed process may have left a commit that is visible here but not durable yet. LMDB
         * treats it as the newest, and the log would be compacted up to it. */
        rc = store_error_of(mdb_env_sync(store->env, 1));
    }
    return rc == 0 ? sync_directories(store) : rc;
}

static void lmdb_close(struct store *base)
{
    struct lmdb_store *store = (struct lmdb_store *)base;
    if (store == NULL) {
        return;
    }
    CHECK(store->open_reads == 0);
    for (struct list *link; (link = list_pop_front(&store->idle_reads)) != NULL;) {
        struct store_read *read = LIST_ENTRY(link, struct store_read, link);
        for (size_t i = 0; i < ROW_DATABASES; i++) {
            if (read->cursors[i] != NULL) {
                mdb_cursor_close(read->cursors[i]);
            }
        }
        mdb_txn_abort(read->txn);
        free(read);
    }
    store_fault_forget(&store->guard);
    if (store->env != NULL) {
        mdb_env_close(store->env);
    }
    if (store->guard.dir_fd >= 0) {
        close(store->guard.dir_fd);
    }
    pthread_mutex_destroy(&store->lock);
    free(store->path);
    free(store->shown_path);
    free(store);
}

static void lmdb_get_stats(struct store *base, struct store_stats *out)
{
    struct lmdb_store *store = (struct lmdb_store *)base;
    *out = (struct store_stats){.bytes_used = atomic_load(&store->bytes_used),
                                .bytes_max = atomic_load(&store->bytes_max),
                                .last_commit_ns = atomic_load(&store->last_commit_ns),
                                .commits = atomic_load(&store->commits)};
}

static int lmdb_commit(struct store *base, const struct store_batch *batch)
{
    struct lmdb_store *store = (struct lmdb_store *)base;
    const struct store_guard *outer = store_fault_enter(&store->guard);
    int rc = store_commit(base, batch);
    store_fault_leave(outer);
    if (rc == 0) {
        note_bytes(store);
    }
    return rc;
}

static const struct store_ops lmdb_ops = {
    .close = lmdb_close,
    .read_begin = store_read_begin,
    .read_end = store_read_end,
    .read_meta = store_read_meta,
    .get_channel = store_get_channel,
    .seek_channel = store_seek_channel,
    .next_message = store_next_message,
    .get_dedupe = store_get_dedupe,
    .get_value = store_get_value,
    .seek_value = store_seek_value,
    .commit = lmdb_commit,
    .get_stats = lmdb_get_stats,
};

static char *shown_path(const char *home)
{
    char path[PATH_BYTES_MAX];
    snprintf(path, sizeof(path), "%s/data.mdb", home);
    return strdup(path);
}

/* Redirects marks into `home`. */
static int move_guard(struct lmdb_store *store, const char *home)
{
    if (mkdir(home, 0700) != 0 && errno != EEXIST) {
        return store_error_of(errno);
    }
    int fd = open(home, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0) {
        return store_error_of(errno);
    }
    int old = store->guard.dir_fd;
    store->guard.dir_fd = fd;
    close(old);
    return 0;
}

void store_lmdb_mark_suspect(struct store *base)
{
    store_fault_mark(&((struct lmdb_store *)base)->guard);
}

int store_lmdb_mark_outvoted(struct store *base)
{
    int dir = ((struct lmdb_store *)base)->guard.dir_fd;
    int fd = openat(dir, STORE_OUTVOTED_FILE, O_CREAT | O_WRONLY | O_CLOEXEC, 0600);
    if (fd < 0) {
        return store_error_of(errno);
    }
    close(fd);
    return fsync(dir) == 0 ? 0 : ERR_IO;
}

int store_lmdb_open(const struct store_lmdb_options *options, struct store **out, char *error,
                    size_t error_size)
{
    char path[PATH_BYTES_MAX];
    int length = snprintf(path, sizeof(path), "%s/data.mdb", options->dir);
    struct lmdb_store *store = calloc(1, sizeof(*store));
    if (store == NULL || length < 0 || (size_t)length >= sizeof(path)) {
        free(store);
        snprintf(error, error_size, "%.200s: out of memory or name too long", options->dir);
        return ERR_NOMEM;
    }
    store->store.ops = &lmdb_ops;
    store->guard.dir_fd = -1;
    store->hash_mask = UINT64_MAX;
    store->recent_rows = STORE_RECENT_ROWS;
    list_init(&store->idle_reads);
    pthread_mutex_init(&store->lock, NULL);
    store->path = strdup(path);
    store->shown_path = options->home != NULL ? shown_path(options->home) : NULL;
    store->guard.path = store->shown_path != NULL ? store->shown_path : store->path;

    char reason[256] = "";
    int rc = store->path != NULL ? open_dir(store, options->dir) : ERR_NOMEM;
    if (rc == 0) {
        const struct store_guard *outer = store_fault_enter(&store->guard);
        rc = open_file(store, options, reason, sizeof(reason));
        store_fault_leave(outer);
    }
    if (rc == 0 && options->home != NULL) {
        rc = move_guard(store, options->home);
    }
    if (rc != 0) {
        snprintf(error, error_size, "%s: %s", path, reason[0] != '\0' ? reason : error_text(rc));
        lmdb_close(&store->store);
        return rc;
    }
    note_bytes(store);
    *out = &store->store;
    return 0;
}
