/* Reads files of secrets, and refuses those that others may access. */
#include "auth/secret_file.h"

#include "base/errors.h"

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static bool is_own_group(gid_t group)
{
    int count = getgroups(0, NULL);
    gid_t *groups = count > 0 ? calloc((size_t)count, sizeof(*groups)) : NULL;
    bool is_own = group == getegid();
    count = groups != NULL ? getgroups(count, groups) : 0;
    for (int i = 0; i < count && !is_own; i++) {
        is_own = groups[i] == group;
    }
    free(groups);
    return is_own;
}

int secret_file_check_mode(const char *path, mode_t mode, gid_t group, char *error,
                           size_t error_size)
{
    const char *who = NULL;
    if ((mode & S_IRWXO & ~(mode_t)S_IXOTH) != 0) {
        who = "others";
    } else if ((mode & S_IRWXG & ~(mode_t)S_IXGRP) != 0 && !is_own_group(group)) {
        who = "a group that this process is not in";
    }
    if (who == NULL) {
        return 0;
    }
    snprintf(error, error_size, "%s: %s can read or write it (mode %04o); run: chmod 0600 %s", path,
             who, (unsigned)(mode & 07777), path);
    return ERR_ACCESS;
}

static int fail_open(const char *path, int number, char *error, size_t error_size)
{
    snprintf(error, error_size, "%s: cannot be read: %s", path, strerror(number));
    switch (number) {
    case ENOENT:
    case ENOTDIR:
        return ERR_NOT_FOUND;
    case EACCES:
    case EPERM:
        return ERR_ACCESS;
    default:
        return ERR_IO;
    }
}

static int read_all(int fd, const char *path, size_t max_bytes, struct buf *out, char *error,
                    size_t error_size)
{
    char piece[4096];
    size_t total = 0;
    for (;;) {
        ssize_t size = read(fd, piece, sizeof(piece));
        if (size < 0 && errno == EINTR) {
            continue;
        }
        if (size < 0) {
            return fail_open(path, errno, error, error_size);
        }
        if (size == 0) {
            break;
        }
        total += (size_t)size;
        if (total > max_bytes) {
            snprintf(error, error_size, "%s: is larger than %zu bytes", path, max_bytes);
            return ERR_INVALID;
        }
        buf_append(out, piece, (size_t)size);
    }
    if (buf_failed(out)) {
        snprintf(error, error_size, "%s: out of memory", path);
        return ERR_NOMEM;
    }
    return 0;
}

int secret_file_read(const char *path, size_t max_bytes, struct buf *out, char *error,
                     size_t error_size)
{
    /* Not blocking: the path may name a FIFO. */
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
    if (fd < 0) {
        return fail_open(path, errno, error, error_size);
    }
    struct stat status;
    int rc;
    if (fstat(fd, &status) != 0) {
        rc = fail_open(path, errno, error, error_size);
    } else if (!S_ISREG(status.st_mode)) {
        snprintf(error, error_size, "%s: is not a regular file", path);
        rc = ERR_INVALID;
    } else {
        rc = secret_file_check_mode(path, status.st_mode, status.st_gid, error, error_size);
    }
    if (rc == 0) {
        rc = read_all(fd, path, max_bytes, out, error, error_size);
    }
    close(fd);
    return rc;
}
