/* Checks of the data file that LMDB omits, made with plain reads before LMDB opens the file.
 * LMDB trusts its meta pages, follows any offset found in a page, and gets SIGBUS for a page
 * beyond the file's end. */
#ifndef RAFTOGRAM_STORE_FILE_H
#define RAFTOGRAM_STORE_FILE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum store_file_kind {
    STORE_FILE_NEW, /* absent, empty, or an initialisation that never reached the disk */
    STORE_FILE_SOUND,
};

/* Checks the meta pages and the file's size. Walks every page that the newest meta page leads
 * to, and checks all that LMDB would trust, in two cases: with `is_deep`, and if the file is
 * shorter than its meta page says (LMDB need not write a page that was freed before its commit).
 * A file that lacks only unused pages is accepted. Errors: ERR_CORRUPT, ERR_VERSION, ERR_ACCESS,
 * ERR_IO, ERR_NOMEM; `error` gets the reason, without the file's name. */
int store_file_check(const char *path, bool is_deep, enum store_file_kind *kind, char *error,
                     size_t error_size);

/* Where LMDB has mapped the file. */
struct store_mapping {
    uintptr_t begin;
    uintptr_t end;
};

/* Looks it up in /proc/self/maps. Errors: ERR_IO, ERR_NOT_FOUND. */
int store_file_find_mapping(int fd, struct store_mapping *out);

/* What the fault handler needs: the mark goes into the directory, the line on stderr names the
 * path. */
struct store_guard {
    struct store_mapping map;
    int dir_fd;
    const char *path;
};

/* Attributes faults in the map to this store, for the handler of
 * store_lmdb_install_fault_handler(). The guard must live until it is forgotten. Errors:
 * ERR_FULL. */
int store_fault_watch(const struct store_guard *guard);
void store_fault_forget(const struct store_guard *guard);
/* Attributes every fault of this thread to this store until store_fault_leave(), whatever the
 * address: a damaged page can make LMDB read anywhere. Calls nest: pass the result of enter to
 * leave. */
const struct store_guard *store_fault_enter(const struct store_guard *guard);
void store_fault_leave(const struct store_guard *outer);
/* Leaves the mark. Async-signal-safe. */
void store_fault_mark(const struct store_guard *guard);
/* Leaves the mark and ends the process with one line. Async-signal-safe. */
_Noreturn void store_fault_exit(const struct store_guard *guard, const char *reason);

#define STORE_SUSPECT_FILE "suspect"
#define STORE_OUTVOTED_FILE "outvoted"

#endif
