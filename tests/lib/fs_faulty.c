/* Wraps a file system and lets its n-th call fail. */
#include "lib/fs_faulty.h"

#include "base/check.h"

#include <string.h>

#define SECTOR 512u

static struct fs_faulty *of(struct fs *fs)
{
    return (struct fs_faulty *)fs; /* its first member */
}

enum plan { PLAN_DO, PLAN_FAIL, PLAN_FAIL_AFTER_PART, PLAN_FAIL_AFTER_ALL };

static enum plan next_plan(struct fs_faulty *faulty)
{
    faulty->calls++;
    if (faulty->has_failed && faulty->is_sticky) {
        return PLAN_FAIL;
    }
    if (faulty->countdown == 0 || --faulty->countdown > 0) {
        return PLAN_DO;
    }
    faulty->has_failed = true;
    switch (faulty->effect) {
    case FS_FAULTY_PART:
        return PLAN_FAIL_AFTER_PART;
    case FS_FAULTY_WHOLE:
        return PLAN_FAIL_AFTER_ALL;
    case FS_FAULTY_NOTHING:
        break;
    }
    return PLAN_FAIL;
}

/* Runs `call`, a call of the inner file system whose effects outlive an error, by the plan. */
#define BY_PLAN(faulty, call)               \
    do {                                    \
        enum plan plan = next_plan(faulty); \
        if (plan == PLAN_DO) {              \
            return (call);                  \
        }                                   \
        if (plan == PLAN_FAIL_AFTER_ALL) {  \
            (void)(call);                   \
        }                                   \
        return (faulty)->error;             \
    } while (0)

/* The same for calls that only report: no effect to have. */
#define OR_FAIL(faulty, call) return next_plan(faulty) == PLAN_DO ? (call) : (faulty)->error

static int faulty_open(struct fs *fs, const char *path, enum fs_open_mode mode,
                       struct fs_file **out)
{
    struct fs_faulty *faulty = of(fs);
    struct fs *inner = faulty->inner;
    enum plan plan = next_plan(faulty);
    if (plan == PLAN_DO) {
        return inner->ops->open(inner, path, mode, out);
    }
    struct fs_file *file;
    if (plan == PLAN_FAIL_AFTER_ALL && inner->ops->open(inner, path, mode, &file) == 0) {
        inner->ops->close(inner, file);
    }
    return faulty->error;
}

static void faulty_close(struct fs *fs, struct fs_file *file)
{
    of(fs)->inner->ops->close(of(fs)->inner, file);
}

static int faulty_read_at(struct fs *fs, struct fs_file *file, uint64_t offset, void *data,
                          size_t size)
{
    struct fs *inner = of(fs)->inner;
    OR_FAIL(of(fs), inner->ops->read_at(inner, file, offset, data, size));
}

static int faulty_write_at(struct fs *fs, struct fs_file *file, uint64_t offset, const void *data,
                           size_t size)
{
    struct fs_faulty *faulty = of(fs);
    struct fs *inner = faulty->inner;
    switch (next_plan(faulty)) {
    case PLAN_DO:
        return inner->ops->write_at(inner, file, offset, data, size);
    case PLAN_FAIL_AFTER_ALL:
        (void)inner->ops->write_at(inner, file, offset, data, size);
        break;
    case PLAN_FAIL_AFTER_PART:
        (void)inner->ops->write_at(inner, file, offset, data, size / 2 / SECTOR * SECTOR);
        break;
    case PLAN_FAIL:
        break;
    }
    return faulty->error;
}

static int faulty_sync(struct fs *fs, struct fs_file *file)
{
    struct fs_faulty *faulty = of(fs);
    struct fs *inner = faulty->inner;
    switch (next_plan(faulty)) {
    case PLAN_DO:
        return inner->ops->sync(inner, file);
    case PLAN_FAIL_AFTER_ALL:
        (void)inner->ops->sync(inner, file);
        break;
    case PLAN_FAIL_AFTER_PART:
        if (faulty->lose != NULL) {
            faulty->lose(inner, file);
        }
        break;
    case PLAN_FAIL:
        break;
    }
    return faulty->error;
}

static int faulty_size(struct fs *fs, struct fs_file *file, uint64_t *out)
{
    struct fs *inner = of(fs)->inner;
    OR_FAIL(of(fs), inner->ops->size(inner, file, out));
}

static int faulty_truncate(struct fs *fs, struct fs_file *file, uint64_t size)
{
    struct fs *inner = of(fs)->inner;
    BY_PLAN(of(fs), inner->ops->truncate(inner, file, size));
}

static int faulty_rename(struct fs *fs, const char *from, const char *to)
{
    struct fs *inner = of(fs)->inner;
    BY_PLAN(of(fs), inner->ops->rename(inner, from, to));
}

static int faulty_remove(struct fs *fs, const char *path)
{
    struct fs *inner = of(fs)->inner;
    BY_PLAN(of(fs), inner->ops->remove(inner, path));
}

static int faulty_make_dir(struct fs *fs, const char *path)
{
    struct fs *inner = of(fs)->inner;
    BY_PLAN(of(fs), inner->ops->make_dir(inner, path));
}

static int faulty_list_dir(struct fs *fs, const char *path, fs_name_fn each, void *context)
{
    struct fs *inner = of(fs)->inner;
    OR_FAIL(of(fs), inner->ops->list_dir(inner, path, each, context));
}

static int faulty_sync_dir(struct fs *fs, const char *path)
{
    struct fs *inner = of(fs)->inner;
    BY_PLAN(of(fs), inner->ops->sync_dir(inner, path));
}

static int faulty_lock(struct fs *fs, const char *path, struct fs_file **out)
{
    struct fs *inner = of(fs)->inner;
    OR_FAIL(of(fs), inner->ops->lock(inner, path, out));
}

static void faulty_unlock(struct fs *fs, struct fs_file *file)
{
    of(fs)->inner->ops->unlock(of(fs)->inner, file);
}

static const struct fs_ops faulty_ops = {
    .open = faulty_open,
    .close = faulty_close,
    .read_at = faulty_read_at,
    .write_at = faulty_write_at,
    .sync = faulty_sync,
    .size = faulty_size,
    .truncate = faulty_truncate,
    .rename = faulty_rename,
    .remove = faulty_remove,
    .make_dir = faulty_make_dir,
    .list_dir = faulty_list_dir,
    .sync_dir = faulty_sync_dir,
    .lock = faulty_lock,
    .unlock = faulty_unlock,
};

void fs_faulty_init(struct fs_faulty *faulty, struct fs *inner)
{
    memset(faulty, 0, sizeof(*faulty));
    faulty->fs.ops = &faulty_ops;
    faulty->inner = inner;
}

void fs_faulty_arm(struct fs_faulty *faulty, uint64_t countdown, int error,
                   enum fs_faulty_effect effect, bool is_sticky)
{
    CHECK(error < 0);
    faulty->countdown = countdown;
    faulty->error = error;
    faulty->effect = effect;
    faulty->is_sticky = is_sticky;
    faulty->has_failed = false;
}
