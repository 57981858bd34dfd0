/* The directory that holds all data of a node. One process locks it; it belongs to one node id.
 *
 *   LOCK        locked while a process uses it
 *   identity    format version and node id, written once
 *   log/        the Raft log (wal.h)
 *   store/      the state machine
 *   snapshots/  the file that this node serves to others; created when it is needed
 *   incoming/   a snapshot that this node is receiving
 *   install     while the snapshot in incoming/ replaces log and store
 *   damaged-<time>/  what was set aside
 *
 * Threads: one at a time. The daemon opens and closes it while nothing else runs. In between only
 * the node's thread calls functions; other threads may read the paths, which do not change. */
#ifndef RAFTOGRAM_STORAGE_DATA_DIR_H
#define RAFTOGRAM_STORAGE_DATA_DIR_H

#include "storage/fs.h"

#include <limits.h>
#include <stdbool.h>
#include <stdint.h>

/* 2: the identity has a checksum. */
#define DATA_DIR_FORMAT_VERSION 2

struct data_dir {
    struct fs *fs;
    struct fs_file *lock;
    char path[PATH_MAX - 64];
    char log_path[PATH_MAX];
    char store_path[PATH_MAX];
    char snapshots_path[PATH_MAX];
    char incoming_path[PATH_MAX];
    /* What data_dir_open() repaired in the identity of a directory in use, in a word or two; "":
     * nothing. */
    const char *identity_mended;
};

/* Creates the directory with its parents (mode 0700) if absent, locks it, and checks or writes
 * the identity. A damaged identity is rewritten unless its readable part names another node. On
 * error `error` gets one line: path, reason, remedy. Errors: ERR_LOCKED, ERR_FOREIGN (another
 * node's), ERR_VERSION, ERR_CORRUPT (not a data_dir), ERR_INVALID (path too long), those of fs.
 * A failed open owes no close. */
int data_dir_open(struct data_dir *dir, struct fs *fs, const char *path, const char *node_id,
                  char *error, size_t error_size);
void data_dir_close(struct data_dir *dir);
/* Moves log and store into damaged-<wall_ms>/, durably; both are absent afterwards. Only the log
 * when `is_store_kept`, only the store when `is_log_kept`. */
int data_dir_set_aside(struct data_dir *dir, int64_t wall_ms, bool is_log_kept, bool is_store_kept);

/* A snapshot takes the place of log and store in steps that each survive a crash:
 *   1. incoming/data.mdb is whole and durable (snapshot_incoming_complete());
 *   2. data_dir_begin_install() leaves the mark: from now on there is no way back;
 *   3. the log is reset to begin behind the snapshot (wal_reset());
 *   4. data_dir_swap_store() renames the file over the store's;
 *   5. data_dir_end_install() takes the mark away.
 * After a crash between 2 and 5 boot.c does 4, 3 and 5 again: each may be repeated. */

/* Errors: ERR_NO_SPACE (there is no mark), others: the process must end. */
int data_dir_begin_install(struct data_dir *dir);
bool data_dir_is_installing(struct data_dir *dir);
/* Errors: ERR_NOT_FOUND (nothing to rename: an earlier call did it), those of fs; the process
 * must end. */
int data_dir_swap_store(struct data_dir *dir);
/* Also reverts a data_dir_begin_install() that no other step followed. Errors: as above. */
int data_dir_end_install(struct data_dir *dir);

#endif
