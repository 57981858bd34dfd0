/* The real file system: maps errno to ERR_*, and completes partial reads and writes. */
#include "storage/fs.h"

#include "base/errors.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

struct fs_file {
    int fd;
};

/* The Linux kernel writes at most this much in one call anyway. */
#define IO_BYTES_MAX ((size_t)1 << 30)

static int error_of_errno(int error)
{
    switch (error) {
    case ENOENT:
        return ERR_NOT_FOUND;
    case EEXIST:
        return ERR_EXISTS;
    case ENOSPC:
    case EDQUOT:
        return ERR_NO_SPACE;
    case EACCES:
    case EPERM:
        return ERR_ACCESS;
    case EROFS:
        return ERR_READ_ONLY;
    case EMFILE:
    case ENFILE:
        return ERR_FILES;
    case ENOMEM:
        return ERR_NOMEM;
    default:
        return ERR_IO;
    }
}

static int open_fd(const char *path, int flags)
{
    int fd;
    do {
        fd = open(path, flags | O_CLOEXEC, 0600);
    } while (fd < 0 && errno == EINTR);
    return fd;
}

static int open_file(const char *path, int flags, struct fs_file **out)
{
    struct fs_file *file = malloc(sizeof(*file));
    if (file == NULL) {
        return ERR_NOMEM;
    }
    file->fd = open_fd(path, flags);
    if (file->fd < 0) {
        int rc = error_of_errno(errno);
        free(file);
        return rc;
    }
    *out = file;
    return 0;
}

static int posix_open(struct fs *fs, const char *path, enum fs_open_mode mode, struct fs_file **out)
{
    static const int flags[] = {
        [FS_OPEN_READ] = O_RDONLY,
        [FS_OPEN_READ_WRITE] = O_RDWR,
        [FS_OPEN_CREATE] = O_RDWR | O_CREAT | O_EXCL,
    };
    return open_file(path, flags[mode], out);
}

static void posix_close(struct fs *fs, struct fs_file *file)
{
    if (file != NULL) {
        close(file->fd);
        free(file);
    }
}

static int posix_read_at(struct fs *fs, struct fs_file *file, uint64_t offset, void *data,
                         size_t size)
{
    uint8_t *to = data;
    while (size > 0) {
        size_t part = size < IO_BYTES_MAX ? size : IO_BYTES_MAX;
        ssize_t count = pread(file->fd, to, part, (off_t)offset);
        if (count < 0 && errno == EINTR) {
            continue;
        }
        if (count < 0) {
            return error_of_errno(errno);
        }
        if (count == 0) {
            return ERR_CORRUPT;
        }
        to += count;
        offset += (uint64_t)count;
        size -= (size_t)count;
    }
    return 0;
}

static int posix_write_at(struct fs *fs, struct fs_file *file, uint64_t offset, const void *data,
                          size_t size)
{
    const uint8_t *from = data;
    while (size > 0) {
        size_t part = size < IO_BYTES_MAX ? size : IO_BYTES_MAX;
        ssize_t count = pwrite(file->fd, from, part, (off_t)offset);
        if (count < 0 && errno == EINTR) {
            continue;
        }
        if (count <= 0) {
            return count < 0 ? error_of_errno(errno) : ERR_IO;
        }
        from += count;
        offset += (uint64_t)count;
        size -= (size_t)count;
    }
    return 0;
}

static int posix_sync(struct fs *fs, struct fs_file *file)
{
    /* EINTR too is an error here: what a failed sync has dropped, a second one does not see. */
    return fdatasync(file->fd) == 0 ? 0 : error_of_errno(errno);
}

static int posix_size(struct fs *fs, struct fs_file *file, uint64_t *out)
{
    struct stat status;
    if (fstat(file->fd, &status) != 0) {
        return error_of_errno(errno);
    }
    *out = (uint64_t)status.st_size;
    return 0;
}

static int posix_truncate(struct fs *fs, struct fs_file *file, uint64_t size)
{
    int rc;
    do {
        rc = ftruncate(file->fd, (off_t)size);
    } while (rc != 0 && errno == EINTR);
    return rc == 0 ? 0 : error_of_errno(errno);
}

static int posix_rename(struct fs *fs, const char *from, const char *to)
{
    return rename(from, to) == 0 ? 0 : error_of_errno(errno);
}

static int posix_remove(struct fs *fs, const char *path)
{
    return unlink(path) == 0 ? 0 : error_of_errno(errno);
}

static int posix_sync_dir(struct fs *fs, const char *path)
{
    int fd = open_fd(path, O_RDONLY | O_DIRECTORY);
    if (fd < 0) {
        return error_of_errno(errno);
    }
    int rc = fsync(fd) == 0 ? 0 : error_of_errno(errno);
    close(fd);
    return rc;
}

/* Makes `path` if it is not there, and its name durable; its parents exist. */
static int make_one_dir(struct fs *fs, const char *path)
{
    if (mkdir(path, 0700) != 0) {
        int error = errno;
        struct stat status;
        /* A parent that we may not write to, such as "/", may still exist. */
        if (stat(path, &status) == 0) {
            return S_ISDIR(status.st_mode) ? 0 : ERR_EXISTS;
        }
        return error_of_errno(error);
    }
    char parent[PATH_MAX];
    const char *slash = strrchr(path, '/');
    size_t size = slash == NULL ? 0 : (size_t)(slash - path);
    if (slash == NULL) {
        strcpy(parent, ".");
    } else if (size == 0) {
        strcpy(parent, "/");
    } else {
        memcpy(parent, path, size);
        parent[size] = '\0';
    }
    return posix_sync_dir(fs, parent);
}

static int posix_make_dir(struct fs *fs, const char *path)
{
    char prefix[PATH_MAX];
    size_t size = strlen(path);
    if (size == 0 || size >= sizeof(prefix)) {
        return ERR_IO;
    }
    memcpy(prefix, path, size + 1);
    while (size > 1 && prefix[size - 1] == '/') {
        prefix[--size] = '\0';
    }
    for (size_t i = 1; i < size; i++) {
        if (prefix[i] != '/' || prefix[i - 1] == '/') {
            continue;
        }
        prefix[i] = '\0';
        int rc = make_one_dir(fs, prefix);
        prefix[i] = '/';
        if (rc != 0) {
            return rc;
        }
    }
    return make_one_dir(fs, prefix);
}

static int posix_list_dir(struct fs *fs, const char *path, fs_name_fn each, void *context)
{
    DIR *dir = opendir(path);
    if (dir == NULL) {
        return error_of_errno(errno);
    }
    int rc = 0;
    while (rc == 0) {
        errno = 0;
        struct dirent *entry = readdir(dir);
        if (entry == NULL) {
            rc = errno == 0 ? 0 : error_of_errno(errno);
            break;
        }
        if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0) {
            continue;
        }
        rc = each(context, entry->d_name);
    }
    closedir(dir);
    return rc;
}

static int posix_lock(struct fs *fs, const char *path, struct fs_file **out)
{
    struct fs_file *file;
    int rc = open_file(path, O_RDWR | O_CREAT, &file);
    if (rc != 0) {
        return rc;
    }
    /* An open file description lock: unlike fcntl's older kind it is not lost when some other code
     * of this process opens and closes the file, and it conflicts within the process too. */
    struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
    if (fcntl(file->fd, F_OFD_SETLK, &lock) != 0) {
        rc = errno == EAGAIN || errno == EACCES ? ERR_LOCKED : error_of_errno(errno);
        posix_close(fs, file);
        return rc;
    }
    *out = file;
    return 0;
}

static const struct fs_ops posix_ops = {
    .open = posix_open,
    .close = posix_close,
    .read_at = posix_read_at,
    .write_at = posix_write_at,
    .sync = posix_sync,
    .size = posix_size,
    .truncate = posix_truncate,
    .rename = posix_rename,
    .remove = posix_remove,
    .make_dir = posix_make_dir,
    .list_dir = posix_list_dir,
    .sync_dir = posix_sync_dir,
    .lock = posix_lock,
    /* Closing the description releases its lock. */
    .unlock = posix_close,
};

struct fs *fs_posix(void)
{
    static struct fs fs = {.ops = &posix_ops};
    return &fs;
}
