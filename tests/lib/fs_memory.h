/* A file system in memory that can lose power.
 *
 * Writes are visible at once, and durable only after sync(); names are durable only after
 * sync_dir(). A power cut keeps, of what was not synced, an arbitrary subset: each 512-byte sector
 * is old or new, each size old or new, each creation, rename and removal done or not. (A new
 * directory is durable at once, as with fs_posix().) The same seed and the same calls give the same
 * result.
 *
 * No globals: the simulator has one for each node. One thread. */
#ifndef RAFTOGRAM_TESTS_FS_MEMORY_H
#define RAFTOGRAM_TESTS_FS_MEMORY_H

#include "base/random.h"
#include "storage/fs.h"

struct fs_memory;

/* Ends the process when there is no memory, as all functions here do. */
struct fs_memory *fs_memory_create(void);
/* Open files must have been closed. */
void fs_memory_destroy(struct fs_memory *memory);
/* A copy of files and names with what is not synced; no open files. The caller destroys it. */
struct fs_memory *fs_memory_clone(const struct fs_memory *memory);
/* Lives as long as `memory`. */
struct fs *fs_memory_fs(struct fs_memory *memory);

/* The process dies: what was written stays. Locks are released; files that are still open can only
 * be closed, all else on them is ERR_IO. */
void fs_memory_kill(struct fs_memory *memory);
/* The machine dies. */
void fs_memory_power_cut(struct fs_memory *memory, struct random *random);

/* Writes beyond `bytes` in all get ERR_NO_SPACE; 0: no limit. */
void fs_memory_set_capacity(struct fs_memory *memory, uint64_t bytes);
uint64_t fs_memory_used(const struct fs_memory *memory);

/* What Linux does when an fsync fails: what was written and not synced stays to be read, but no
 * later sync makes it durable; a power cut takes it. For struct fs_faulty. */
void fs_memory_lose_writes(struct fs *fs, struct fs_file *file);

/* Damage, durable at once. Errors: ERR_NOT_FOUND, ERR_INVALID (beyond the end). */
int fs_memory_flip_bit(struct fs_memory *memory, const char *path, uint64_t byte, unsigned bit);
int fs_memory_zero(struct fs_memory *memory, const char *path, uint64_t from, uint64_t to);
int fs_memory_truncate(struct fs_memory *memory, const char *path, uint64_t size);
int fs_memory_delete(struct fs_memory *memory, const char *path);
/* The contents, for tests that look closely: a view until the next write. */
int fs_memory_peek(struct fs_memory *memory, const char *path, const uint8_t **data,
                   uint64_t *size);

#endif
