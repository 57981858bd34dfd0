/* A disk that takes time, and that can die at any call; and damage. */
#include "base/check.h"
#include "base/errors.h"
#include "node_sim.h"

#include <stdio.h>
#include <string.h>

static struct sim_disk *of(struct fs *fs)
{
    return (struct sim_disk *)(void *)fs; /* its first member */
}

/* False once the disk is dead. The call in which it dies is done, or it is not. */
static bool is_alive(struct sim_disk *disk)
{
    if (disk->is_dead) {
        return false;
    }
    if (disk->calls_left == 0 || --disk->calls_left > 0) {
        return true;
    }
    disk->is_dead = true;
    disk->node->is_dying = true;
    return sim_one_in(disk->node->sim, 2);
}

static int outcome(const struct sim_disk *disk, int rc)
{
    return disk->is_dead ? ERR_IO : rc;
}

static void spend_sync(struct sim_disk *disk)
{
    struct sim *sim = disk->node->sim;
    uint64_t time_ns = sim_between(sim, sim->levels.sync_min_ns, sim->levels.sync_max_ns);
    if (!sim->is_healing && (disk->is_slow || sim_permille(sim, sim->levels.stall_permille))) {
        time_ns *= 50;
    }
    disk->node->spent_ns += time_ns;
}

/* ---- the vtable ---- */

static int disk_open(struct fs *fs, const char *path, enum fs_open_mode mode, struct fs_file **out)
{
    struct sim_disk *disk = of(fs);
    if (mode != FS_OPEN_CREATE && (!disk->is_dead || disk->is_examined)) {
        return disk->inner->ops->open(disk->inner, path, mode, out);
    }
    struct fs_file *file = NULL;
    int rc = is_alive(disk) ? disk->inner->ops->open(disk->inner, path, mode, &file) : ERR_IO;
    if (rc == 0 && disk->is_dead) {
        disk->inner->ops->close(disk->inner, file);
        return ERR_IO;
    }
    if (rc == 0) {
        *out = file;
    }
    return rc;
}

static void disk_close(struct fs *fs, struct fs_file *file)
{
    of(fs)->inner->ops->close(of(fs)->inner, file);
}

static int disk_read_at(struct fs *fs, struct fs_file *file, uint64_t offset, void *data,
                        size_t size)
{
    struct sim_disk *disk = of(fs);
    bool is_readable = !disk->is_dead || disk->is_examined;
    return is_readable ? disk->inner->ops->read_at(disk->inner, file, offset, data, size) : ERR_IO;
}

static int disk_write_at(struct fs *fs, struct fs_file *file, uint64_t offset, const void *data,
                         size_t size)
{
    struct sim_disk *disk = of(fs);
    int rc =
        is_alive(disk) ? disk->inner->ops->write_at(disk->inner, file, offset, data, size) : ERR_IO;
    return outcome(disk, rc);
}

static int disk_sync(struct fs *fs, struct fs_file *file)
{
    struct sim_disk *disk = of(fs);
    spend_sync(disk);
    int rc = is_alive(disk) ? disk->inner->ops->sync(disk->inner, file) : ERR_IO;
    return outcome(disk, rc);
}

static int disk_size(struct fs *fs, struct fs_file *file, uint64_t *out)
{
    struct sim_disk *disk = of(fs);
    return disk->is_dead ? ERR_IO : disk->inner->ops->size(disk->inner, file, out);
}

static int disk_truncate(struct fs *fs, struct fs_file *file, uint64_t size)
{
    struct sim_disk *disk = of(fs);
    int rc = is_alive(disk) ? disk->inner->ops->truncate(disk->inner, file, size) : ERR_IO;
    return outcome(disk, rc);
}

static int disk_rename(struct fs *fs, const char *from, const char *to)
{
    struct sim_disk *disk = of(fs);
    int rc = is_alive(disk) ? disk->inner->ops->rename(disk->inner, from, to) : ERR_IO;
    return outcome(disk, rc);
}

static int disk_remove(struct fs *fs, const char *path)
{
    struct sim_disk *disk = of(fs);
    int rc = is_alive(disk) ? disk->inner->ops->remove(disk->inner, path) : ERR_IO;
    return outcome(disk, rc);
}

static int disk_make_dir(struct fs *fs, const char *path)
{
    struct sim_disk *disk = of(fs);
    return disk->is_dead ? ERR_IO : disk->inner->ops->make_dir(disk->inner, path);
}

static int disk_list_dir(struct fs *fs, const char *path, fs_name_fn each, void *context)
{
    struct sim_disk *disk = of(fs);
    return disk->is_dead ? ERR_IO : disk->inner->ops->list_dir(disk->inner, path, each, context);
}

static int disk_sync_dir(struct fs *fs, const char *path)
{
    struct sim_disk *disk = of(fs);
    spend_sync(disk);
    int rc = is_alive(disk) ? disk->inner->ops->sync_dir(disk->inner, path) : ERR_IO;
    return outcome(disk, rc);
}

static int disk_lock(struct fs *fs, const char *path, struct fs_file **out)
{
    struct sim_disk *disk = of(fs);
    return disk->is_dead ? ERR_IO : disk->inner->ops->lock(disk->inner, path, out);
}

static void disk_unlock(struct fs *fs, struct fs_file *file)
{
    of(fs)->inner->ops->unlock(of(fs)->inner, file);
}

static const struct fs_ops disk_ops = {
    .open = disk_open,
    .close = disk_close,
    .read_at = disk_read_at,
    .write_at = disk_write_at,
    .sync = disk_sync,
    .size = disk_size,
    .truncate = disk_truncate,
    .rename = disk_rename,
    .remove = disk_remove,
    .make_dir = disk_make_dir,
    .list_dir = disk_list_dir,
    .sync_dir = disk_sync_dir,
    .lock = disk_lock,
    .unlock = disk_unlock,
};

/* ---- life ---- */

void sim_disk_init(struct sim_disk *disk, struct sim_node *node)
{
    struct fs_memory *memory = fs_memory_create();
    *disk = (struct sim_disk){
        .fs = {.ops = &disk_ops},
        .inner = fs_memory_fs(memory),
        .node = node,
        .memory = memory,
    };
}

void sim_disk_finish(struct sim_disk *disk)
{
    fs_memory_destroy(disk->memory);
}

void sim_disk_wipe(struct sim_disk *disk)
{
    sim_disk_finish(disk);
    sim_disk_init(disk, disk->node);
}

void sim_disk_die(struct sim_disk *disk, bool is_power_cut)
{
    disk->is_dead = true;
    disk->calls_left = 0;
    if (is_power_cut) {
        fs_memory_power_cut(disk->memory, &disk->node->sim->random);
    } else {
        fs_memory_kill(disk->memory);
    }
}

/* ---- damage ---- */

#define FILES_MAX 64

struct files {
    char paths[FILES_MAX][96];
    size_t count;
    const char *dir;
};

static int collect(void *context, const char *name)
{
    struct files *files = context;
    if (files->count < FILES_MAX) {
        snprintf(files->paths[files->count++], sizeof(files->paths[0]), "%s/%s", files->dir, name);
    }
    return 0;
}

static void list_files(struct sim_disk *disk, const char *subdir, struct files *files)
{
    char dir[64];
    snprintf(dir, sizeof(dir), "%s/%s", disk->node->name, subdir);
    files->dir = dir;
    (void)disk->inner->ops->list_dir(disk->inner, dir, collect, files);
    files->dir = NULL;
}

/* A byte that says something, if one is found soon. */
static uint64_t find_byte(struct sim *sim, const uint8_t *data, uint64_t size)
{
    uint64_t at = sim_below(sim, size);
    for (int i = 0; i < 20 && data[at] == 0; i++) {
        at = sim_between(sim, 0, size - 1);
    }
    return at;
}

#define SECTOR_BYTES 512u
#define FRAME_MARK 0x46u
#define FRAMES_MAX 2048u

/* The end of the log becomes what it was before anything was written there. Three frames at least:
 * the last may have been under way, and the mark of the one before it with it. */
static bool lose_end(struct sim_disk *disk, const char *path, const uint8_t *data, uint64_t size)
{
    static uint32_t frames[FRAMES_MAX];
    size_t count = 0;
    uint64_t end = 0;
    if (strstr(path, "/log/log-") == NULL) {
        return false;
    }
    for (uint64_t at = 0; at + SECTOR_BYTES <= size; at += SECTOR_BYTES) {
        if (data[at] == FRAME_MARK && count < FRAMES_MAX) {
            frames[count++] = (uint32_t)at;
        }
        end = data[at] != 0 ? at + SECTOR_BYTES : end;
    }
    if (count < 3) {
        return false;
    }
    struct sim *sim = disk->node->sim;
    size_t first = sim_below(sim, count - 2);
    uint64_t from = frames[first];
    if (first + 3 < count && sim_one_in(sim, 2)) {
        from += SECTOR_BYTES; /* in the middle of the frame, or behind it */
    }
    sim_trace(sim, "%s damage: %s is zeros from %llu on", disk->node->name, path,
              (unsigned long long)from);
    (void)fs_memory_zero(disk->memory, path, from, end);
    return true;
}

static void damage_file(struct sim_disk *disk, const char *path)
{
    struct sim *sim = disk->node->sim;
    const uint8_t *data = NULL;
    uint64_t size = 0;
    if (fs_memory_peek(disk->memory, path, &data, &size) != 0) {
        return;
    }
    unsigned dice = (unsigned)sim_below(sim, 10);
    if (size == 0 || dice == 0) {
        sim_trace(sim, "%s damage: %s is removed", disk->node->name, path);
        (void)fs_memory_delete(disk->memory, path);
    } else if (dice == 1) {
        uint64_t left = sim_below(sim, size);
        sim_trace(sim, "%s damage: %s is cut to %llu", disk->node->name, path,
                  (unsigned long long)left);
        (void)fs_memory_truncate(disk->memory, path, left);
    } else if (dice > 3 || !lose_end(disk, path, data, size)) {
        uint64_t at = find_byte(sim, data, size);
        sim_trace(sim, "%s damage: a bit of %s at %llu", disk->node->name, path,
                  (unsigned long long)at);
        (void)fs_memory_flip_bit(disk->memory, path, at, (unsigned)sim_below(sim, 8));
    }
}

void sim_disk_damage(struct sim_disk *disk)
{
    struct sim *sim = disk->node->sim;
    struct files files = {.count = 0};
    unsigned where = (unsigned)sim_below(sim, 3);
    if (where != 1) {
        list_files(disk, "log", &files);
    }
    if (where != 0) {
        list_files(disk, "store", &files);
    }
    uint64_t times = sim_one_in(sim, 4) ? 1 + sim_below(sim, 6) : 1;
    for (uint64_t i = 0; i < times && files.count > 0; i++) {
        damage_file(disk, files.paths[sim_below(sim, files.count)]);
    }
}
