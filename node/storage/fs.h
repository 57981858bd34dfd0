/* The file system as a small vtable. fs_posix() is the real one; tests and the simulator use memory
 * (tests/lib/fs_memory.h) and fault injection (tests/lib/fs_faulty.h).
 *
 * Paths are relative to the working directory or absolute. Functions return 0 or a negative ERR_*:
 * ERR_NOT_FOUND, ERR_EXISTS, ERR_NO_SPACE (ENOSPC, EDQUOT), ERR_ACCESS (EACCES, EPERM),
 * ERR_READ_ONLY, ERR_FILES (EMFILE, ENFILE), ERR_LOCKED, ERR_NOMEM, ERR_IO (all else).
 * Out-parameters stay untouched on error.
 *
 * Threads: fs_posix() by any, each open file by one at a time. */
#ifndef RAFTOGRAM_STORAGE_FS_H
#define RAFTOGRAM_STORAGE_FS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct fs;
struct fs_file; /* an open file; each implementation has its own */

enum fs_open_mode {
    FS_OPEN_READ,       /* must exist */
    FS_OPEN_READ_WRITE, /* must exist */
    FS_OPEN_CREATE,     /* read and write; ERR_EXISTS when it exists; mode 0600 */
};

/* The name is valid during the call only. Returns 0 to go on; another value ends the walk. */
typedef int (*fs_name_fn)(void *context, const char *name);

struct fs_ops {
    int (*open)(struct fs *fs, const char *path, enum fs_open_mode mode, struct fs_file **out);
    void (*close)(struct fs *fs, struct fs_file *file);
    /* Whole or error; a read past the end is ERR_CORRUPT (a file shorter than it should be). */
    int (*read_at)(struct fs *fs, struct fs_file *file, uint64_t offset, void *data, size_t size);
    int (*write_at)(struct fs *fs, struct fs_file *file, uint64_t offset, const void *data,
                    size_t size);
    /* fdatasync(2). After an error the caller must end the process: a second call may report
     * success wrongly. */
    int (*sync)(struct fs *fs, struct fs_file *file);
    int (*size)(struct fs *fs, struct fs_file *file, uint64_t *out);
    int (*truncate)(struct fs *fs, struct fs_file *file, uint64_t size);
    int (*rename)(struct fs *fs, const char *from, const char *to); /* replaces `to` */
    int (*remove)(struct fs *fs, const char *path);
    int (*make_dir)(struct fs *fs, const char *path); /* with parents, mode 0700; may exist */
    int (*list_dir)(struct fs *fs, const char *path, fs_name_fn each, void *context);
    /* fsync(2) of a directory: makes creations, renames and removals in it durable. */
    int (*sync_dir)(struct fs *fs, const char *path);
    /* An exclusive lock on the file `path` (made if absent) until fs_unlock or the process ends. */
    int (*lock)(struct fs *fs, const char *path, struct fs_file **out);
    void (*unlock)(struct fs *fs, struct fs_file *file);
};

struct fs {
    const struct fs_ops *ops;
};

/* The real file system; a static object, never freed. */
struct fs *fs_posix(void);

#endif
