/* Files that only this process and its administrators may read: private keys, users, JWT keys. */
#ifndef RAFTOGRAM_AUTH_SECRET_FILE_H
#define RAFTOGRAM_AUTH_SECRET_FILE_H

#include "base/buf.h"

#include <stddef.h>
#include <sys/types.h>

/* Refuses what others may read or write. The group of the file may do both if it is one of this
 * process's groups. `error` is "PATH: reason; remedy".
 * Errors: ERR_ACCESS. */
int secret_file_check_mode(const char *path, mode_t mode, gid_t group, char *error,
                           size_t error_size);

/* Appends the file's contents, at most `max_bytes`, to `out`. Follows symbolic links, which
 * Kubernetes makes, and looks at the mode of what they lead to.
 * Errors: ERR_NOT_FOUND, ERR_ACCESS, ERR_INVALID (too large, not a file), ERR_IO, ERR_NOMEM; each
 * with `error`. */
int secret_file_read(const char *path, size_t max_bytes, struct buf *out, char *error,
                     size_t error_size);

#endif
