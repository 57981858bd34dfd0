/* The checks of its data file that LMDB leaves out, made with plain reads before LMDB sees the
 * file: it trusts its meta pages, follows any offset that stands in a page, and takes SIGBUS for a
 * page behind the file's end. */
#ifndef RAFTOGRAM_STORE_FILE_H
#define RAFTOGRAM_STORE_FILE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum store_file_kind {
    STORE_FILE_NEW, /* absent, empty, or an initialisation that never reached the disk */
    STORE_FILE_SOUND,
};

/* Looks at the meta pages and the file's size. If the file is shorter than its meta page says
 * (LMDB need not write a page that was freed before its commit), or with `is_deep`, walks every
 * page that the newest meta page leads to, checks all that LMDB would trust, and lets a file pass
 * that lacks unused pages only.
 * Errors: ERR_CORRUPT, ERR_VERSION, ERR_ACCESS, ERR_IO, ERR_NOMEM; `error` says why, without the
 * file's name. */
int store_file_check(const char *path, bool is_deep, enum store_file_kind *kind, char *error,
                     size_t error_size);

/* Where LMDB has mapped the file. */
struct store_mapping {
    uintptr_t begin;
    uintptr_t end;
};

/* Looks it up in /proc/self/maps. Errors: ERR_IO, ERR_NOT_FOUND. */
int store_file_find_mapping(int fd, struct store_mapping *out);

/* What a fault in a store is answered with: the mark goes into the directory, the line on stderr
 * names the path. */
struct store_guard {
    struct store_mapping map;
    int dir_fd;
    const char *path;
};

/* For the handler of store_lmdb_install_fault_handler(): faults in the map are this store's. The
 * guard must live until it is forgotten. Errors: ERR_FULL. */
int store_fault_watch(const struct store_guard *guard);
void store_fault_forget(const struct store_guard *guard);
/* Until the leave every fault of this thread is this store's, wherever its address lies: a damaged
 * page can send LMDB anywhere. Nests: pass what enter returned to leave. */
const struct store_guard *store_fault_enter(const struct store_guard *guard);
void store_fault_leave(const struct store_guard *outer);
/* Leaves the mark. Async-signal-safe. */
void store_fault_mark(const struct store_guard *guard);
/* Leaves the mark and ends the process with one line. Async-signal-safe. */
_Noreturn void store_fault_exit(const struct store_guard *guard, const char *reason);

#define STORE_SUSPECT_FILE "suspect"
#define STORE_OUTVOTED_FILE "outvoted"

#endif
