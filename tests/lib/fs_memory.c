/* A file system in memory that loses what was not synced at a power cut. */
#include "lib/fs_memory.h"

#include "base/check.h"
#include "base/errors.h"

#include <stdlib.h>
#include <string.h>

#define SECTOR 512u

/* A sector as it was at the last sync; NULL: zeros. */
struct old_sector {
    uint64_t number;
    uint8_t *data;
    bool
        is_lost; /* a sync has failed: no later one writes the sector, unless it is written again */
};

/* The bytes beyond `size` are zeros. */
struct inode {
    unsigned references;
    uint8_t *data;
    uint64_t size;
    uint64_t durable_size;
    uint64_t capacity; /* whole sectors */
    bool *is_dirty;    /* by sector */
    struct old_sector *old;
    size_t old_count;
    size_t old_capacity;
    bool is_locked;
};

struct name {
    char *path;
    struct inode *inode;
};

struct names {
    struct name *items;
    size_t count;
};

/* A creation (to, inode), a rename (from, to, inode) or a removal (from). */
struct change {
    char *from;
    char *to;
    struct inode *inode;
};

struct fs_memory {
    struct fs fs;
    struct names current;
    struct names durable;
    struct change *changes; /* not synced, in order */
    size_t change_count;
    char **dirs;
    size_t dir_count;
    uint64_t capacity;
    uint64_t used;
    uint64_t epoch;
};

struct fs_file {
    struct inode *inode;
    uint64_t epoch;
    bool is_writable;
    bool is_lock;
};

/* ---- memory ---- */

static void *grow(void *data, size_t size)
{
    void *grown = realloc(data, size == 0 ? 1 : size);
    CHECK(grown != NULL);
    return grown;
}

static char *copy_text(const char *text)
{
    char *copy = text == NULL ? NULL : strdup(text);
    CHECK(text == NULL || copy != NULL);
    return copy;
}

static struct fs_memory *of(struct fs *fs)
{
    return (struct fs_memory *)fs; /* its first member */
}

/* ---- inodes ---- */

static void release(struct fs_memory *memory, struct inode *inode)
{
    if (inode == NULL || --inode->references > 0) {
        return;
    }
    memory->used -= inode->size;
    for (size_t i = 0; i < inode->old_count; i++) {
        free(inode->old[i].data);
    }
    free(inode->old);
    free(inode->is_dirty);
    free(inode->data);
    free(inode);
}

static struct inode *retain(struct inode *inode)
{
    if (inode != NULL) {
        inode->references++;
    }
    return inode;
}

static bool is_zero(const uint8_t *sector)
{
    static const uint8_t zeros[SECTOR];
    return memcmp(sector, zeros, SECTOR) == 0;
}

static void make_room(struct inode *inode, uint64_t size)
{
    if (size <= inode->capacity) {
        return;
    }
    uint64_t capacity = inode->capacity * 2 > size ? inode->capacity * 2 : size;
    capacity = (capacity + SECTOR - 1) / SECTOR * SECTOR;
    inode->data = grow(inode->data, capacity);
    memset(inode->data + inode->capacity, 0, capacity - inode->capacity);
    inode->is_dirty = grow(inode->is_dirty, capacity / SECTOR * sizeof(bool));
    memset(inode->is_dirty + inode->capacity / SECTOR, 0,
           (capacity - inode->capacity) / SECTOR * sizeof(bool));
    inode->capacity = capacity;
}

/* Remembers the sectors of [offset, offset + size) before they change. */
static void remember(struct inode *inode, uint64_t offset, uint64_t size)
{
    for (size_t i = 0; i < inode->old_count; i++) {
        uint64_t at = inode->old[i].number * SECTOR;
        if (at + SECTOR > offset && at < offset + size) {
            inode->old[i].is_lost = false;
        }
    }
    for (uint64_t number = offset / SECTOR; number * SECTOR < offset + size; number++) {
        if (inode->is_dirty[number]) {
            continue;
        }
        inode->is_dirty[number] = true;
        if (inode->old_count == inode->old_capacity) {
            inode->old_capacity = inode->old_capacity == 0 ? 16 : inode->old_capacity * 2;
            inode->old = grow(inode->old, inode->old_capacity * sizeof(*inode->old));
        }
        struct old_sector *old = &inode->old[inode->old_count++];
        *old = (struct old_sector){.number = number};
        if (!is_zero(inode->data + number * SECTOR)) {
            old->data = grow(NULL, SECTOR);
            memcpy(old->data, inode->data + number * SECTOR, SECTOR);
        }
    }
}

static void set_size(struct fs_memory *memory, struct inode *inode, uint64_t size)
{
    make_room(inode, size);
    if (size < inode->size) {
        remember(inode, size, inode->size - size);
        memset(inode->data + size, 0, inode->size - size);
    }
    memory->used += size - inode->size;
    inode->size = size;
}

static void forget_old(struct inode *inode)
{
    size_t lost = 0;
    for (size_t i = 0; i < inode->old_count; i++) {
        if (inode->old[i].is_lost) {
            inode->old[lost++] = inode->old[i];
            continue;
        }
        inode->is_dirty[inode->old[i].number] = false;
        free(inode->old[i].data);
    }
    inode->old_count = lost;
    inode->durable_size = inode->size;
}

static void cut_inode(struct fs_memory *memory, struct inode *inode, struct random *random)
{
    for (size_t i = 0; i < inode->old_count; i++) {
        if (!inode->old[i].is_lost && random_below(random, 2) == 0) {
            continue;
        }
        inode->old[i].is_lost = false;
        uint8_t *sector = inode->data + inode->old[i].number * SECTOR;
        if (inode->old[i].data == NULL) {
            memset(sector, 0, SECTOR);
        } else {
            memcpy(sector, inode->old[i].data, SECTOR);
        }
    }
    if (inode->size != inode->durable_size && random_below(random, 2) == 0) {
        memory->used += inode->durable_size - inode->size;
        inode->size = inode->durable_size;
    }
    if (inode->capacity > inode->size) {
        memset(inode->data + inode->size, 0, inode->capacity - inode->size);
    }
    forget_old(inode);
    inode->is_locked = false;
}

static struct inode *clone_inode(const struct inode *inode)
{
    struct inode *clone = calloc(1, sizeof(*clone));
    CHECK(clone != NULL);
    make_room(clone, inode->capacity);
    clone->size = inode->size;
    clone->durable_size = inode->durable_size;
    if (inode->capacity > 0) {
        memcpy(clone->data, inode->data, inode->capacity);
        memcpy(clone->is_dirty, inode->is_dirty, inode->capacity / SECTOR * sizeof(bool));
    }
    clone->old_count = inode->old_count;
    clone->old_capacity = inode->old_count;
    clone->old = grow(NULL, inode->old_count * sizeof(*clone->old));
    for (size_t i = 0; i < inode->old_count; i++) {
        clone->old[i] =
            (struct old_sector){.number = inode->old[i].number, .is_lost = inode->old[i].is_lost};
        if (inode->old[i].data != NULL) {
            clone->old[i].data = grow(NULL, SECTOR);
            memcpy(clone->old[i].data, inode->old[i].data, SECTOR);
        }
    }
    return clone;
}

/* ---- names ---- */

static struct name *find(const struct names *names, const char *path)
{
    for (size_t i = 0; i < names->count; i++) {
        if (strcmp(names->items[i].path, path) == 0) {
            return &names->items[i];
        }
    }
    return NULL;
}

static void erase(struct fs_memory *memory, struct names *names, const char *path)
{
    struct name *name = find(names, path);
    if (name == NULL) {
        return;
    }
    free(name->path);
    release(memory, name->inode);
    *name = names->items[--names->count];
}

static void set_name(struct fs_memory *memory, struct names *names, const char *path,
                     struct inode *inode)
{
    retain(inode);
    erase(memory, names, path);
    names->items = grow(names->items, (names->count + 1) * sizeof(*names->items));
    names->items[names->count++] = (struct name){copy_text(path), inode};
}

static void erase_all(struct fs_memory *memory, struct names *names)
{
    while (names->count > 0) {
        erase(memory, names, names->items[names->count - 1].path);
    }
}

static void apply(struct fs_memory *memory, struct names *names, const struct change *change)
{
    if (change->from != NULL) {
        erase(memory, names, change->from);
    }
    if (change->to != NULL) {
        set_name(memory, names, change->to, change->inode);
    }
}

static void free_change(struct fs_memory *memory, struct change *change)
{
    free(change->from);
    free(change->to);
    release(memory, change->inode);
}

/* Does it now, durably once its directory is synced. */
static void change_names(struct fs_memory *memory, const char *from, const char *to,
                         struct inode *inode)
{
    struct change change = {copy_text(from), copy_text(to), retain(inode)};
    apply(memory, &memory->current, &change);
    memory->changes = grow(memory->changes, (memory->change_count + 1) * sizeof(*memory->changes));
    memory->changes[memory->change_count++] = change;
}

static size_t parent_size(const char *path)
{
    const char *slash = strrchr(path, '/');
    return slash == NULL ? 0 : (size_t)(slash - path);
}

static bool is_in_dir(const char *path, const char *dir)
{
    size_t size = parent_size(path);
    if (size == 0) {
        return path[0] == '/' ? strcmp(dir, "/") == 0 : strcmp(dir, ".") == 0;
    }
    return strlen(dir) == size && memcmp(path, dir, size) == 0;
}

static bool dir_exists(const struct fs_memory *memory, const char *path)
{
    if (strcmp(path, "/") == 0 || strcmp(path, ".") == 0) {
        return true;
    }
    for (size_t i = 0; i < memory->dir_count; i++) {
        if (strcmp(memory->dirs[i], path) == 0) {
            return true;
        }
    }
    return false;
}

static bool has_parent(const struct fs_memory *memory, const char *path)
{
    for (size_t i = 0; i < memory->dir_count; i++) {
        if (is_in_dir(path, memory->dirs[i])) {
            return true;
        }
    }
    return is_in_dir(path, "/") || is_in_dir(path, ".");
}

/* ---- the vtable ---- */

static struct fs_file *new_file(struct fs_memory *memory, struct inode *inode, bool is_writable)
{
    struct fs_file *file = grow(NULL, sizeof(*file));
    *file = (struct fs_file){
        .inode = retain(inode),
        .epoch = memory->epoch,
        .is_writable = is_writable,
    };
    return file;
}

static struct inode *create_inode(struct fs_memory *memory, const char *path)
{
    struct inode *inode = calloc(1, sizeof(*inode));
    CHECK(inode != NULL);
    change_names(memory, NULL, path, inode);
    return inode;
}

static int memory_open(struct fs *fs, const char *path, enum fs_open_mode mode,
                       struct fs_file **out)
{
    struct fs_memory *memory = of(fs);
    struct name *name = find(&memory->current, path);
    if (mode == FS_OPEN_CREATE) {
        if (name != NULL) {
            return ERR_EXISTS;
        }
        if (!has_parent(memory, path)) {
            return ERR_NOT_FOUND;
        }
        *out = new_file(memory, create_inode(memory, path), true);
        return 0;
    }
    if (name == NULL) {
        return ERR_NOT_FOUND;
    }
    *out = new_file(memory, name->inode, mode != FS_OPEN_READ);
    return 0;
}

static void memory_close(struct fs *fs, struct fs_file *file)
{
    if (file != NULL) {
        release(of(fs), file->inode);
        free(file);
    }
}

static bool is_stale(struct fs *fs, const struct fs_file *file)
{
    return file->epoch != of(fs)->epoch;
}

static int memory_read_at(struct fs *fs, struct fs_file *file, uint64_t offset, void *data,
                          size_t size)
{
    const struct inode *inode = file->inode;
    if (is_stale(fs, file)) {
        return ERR_IO;
    }
    if (offset > inode->size || size > inode->size - offset) {
        return ERR_CORRUPT;
    }
    if (size > 0) {
        memcpy(data, inode->data + offset, size);
    }
    return 0;
}

static int memory_write_at(struct fs *fs, struct fs_file *file, uint64_t offset, const void *data,
                           size_t size)
{
    struct fs_memory *memory = of(fs);
    struct inode *inode = file->inode;
    CHECK(file->is_writable);
    if (is_stale(fs, file)) {
        return ERR_IO;
    }
    uint64_t end = offset + size;
    uint64_t more = end > inode->size ? end - inode->size : 0;
    if (memory->capacity != 0 && more > 0 && memory->used + more > memory->capacity) {
        return ERR_NO_SPACE;
    }
    if (more > 0) {
        set_size(memory, inode, end);
    }
    if (size > 0) {
        remember(inode, offset, size);
        memcpy(inode->data + offset, data, size);
    }
    return 0;
}

static int memory_sync(struct fs *fs, struct fs_file *file)
{
    if (is_stale(fs, file)) {
        return ERR_IO;
    }
    forget_old(file->inode);
    return 0;
}

void fs_memory_lose_writes(struct fs *fs, struct fs_file *file)
{
    if (is_stale(fs, file)) {
        return;
    }
    for (size_t i = 0; i < file->inode->old_count; i++) {
        file->inode->old[i].is_lost = true;
    }
}

static int memory_size(struct fs *fs, struct fs_file *file, uint64_t *out)
{
    if (is_stale(fs, file)) {
        return ERR_IO;
    }
    *out = file->inode->size;
    return 0;
}

static int memory_truncate(struct fs *fs, struct fs_file *file, uint64_t size)
{
    CHECK(file->is_writable);
    if (is_stale(fs, file)) {
        return ERR_IO;
    }
    set_size(of(fs), file->inode, size);
    return 0;
}

static char *moved_path(const char *path, const char *from, const char *to)
{
    size_t size = strlen(from);
    if (path == NULL || strncmp(path, from, size) != 0 ||
        (path[size] != '/' && path[size] != '\0')) {
        return NULL;
    }
    char *moved = grow(NULL, strlen(to) + strlen(path + size) + 1);
    strcpy(moved, to);
    strcat(moved, path + size);
    return moved;
}

static void move_path(char **path, const char *from, const char *to)
{
    char *moved = moved_path(*path, from, to);
    if (moved != NULL) {
        free(*path);
        *path = moved;
    }
}

/* Durable at once: good enough for what renames directories. */
static void rename_dir(struct fs_memory *memory, const char *from, const char *to)
{
    for (size_t i = 0; i < memory->dir_count; i++) {
        move_path(&memory->dirs[i], from, to);
    }
    for (size_t i = 0; i < memory->current.count; i++) {
        move_path(&memory->current.items[i].path, from, to);
    }
    for (size_t i = 0; i < memory->durable.count; i++) {
        move_path(&memory->durable.items[i].path, from, to);
    }
    for (size_t i = 0; i < memory->change_count; i++) {
        move_path(&memory->changes[i].from, from, to);
        move_path(&memory->changes[i].to, from, to);
    }
}

static int memory_rename(struct fs *fs, const char *from, const char *to)
{
    struct fs_memory *memory = of(fs);
    if (!has_parent(memory, to)) {
        return ERR_NOT_FOUND;
    }
    struct name *name = find(&memory->current, from);
    if (name != NULL) {
        struct inode *inode = retain(name->inode);
        change_names(memory, from, to, inode);
        release(memory, inode);
        return 0;
    }
    if (!dir_exists(memory, from)) {
        return ERR_NOT_FOUND;
    }
    if (dir_exists(memory, to) || find(&memory->current, to) != NULL) {
        return ERR_EXISTS;
    }
    rename_dir(memory, from, to);
    return 0;
}

static int memory_remove(struct fs *fs, const char *path)
{
    if (find(&of(fs)->current, path) == NULL) {
        return ERR_NOT_FOUND;
    }
    change_names(of(fs), path, NULL, NULL);
    return 0;
}

static void add_dir(struct fs_memory *memory, const char *path, size_t size)
{
    char *copy = grow(NULL, size + 1);
    memcpy(copy, path, size);
    copy[size] = '\0';
    if (size == 0 || dir_exists(memory, copy)) {
        free(copy);
        return;
    }
    memory->dirs = grow(memory->dirs, (memory->dir_count + 1) * sizeof(*memory->dirs));
    memory->dirs[memory->dir_count++] = copy;
}

static int memory_make_dir(struct fs *fs, const char *path)
{
    if (find(&of(fs)->current, path) != NULL) {
        return ERR_EXISTS;
    }
    size_t size = strlen(path);
    for (size_t i = 1; i < size; i++) {
        if (path[i] == '/') {
            add_dir(of(fs), path, i);
        }
    }
    add_dir(of(fs), path, size);
    return 0;
}

static int memory_list_dir(struct fs *fs, const char *path, fs_name_fn each, void *context)
{
    struct fs_memory *memory = of(fs);
    if (!dir_exists(memory, path)) {
        return ERR_NOT_FOUND;
    }
    int rc = 0;
    for (size_t i = 0; i < memory->dir_count && rc == 0; i++) {
        const char *dir = memory->dirs[i];
        if (is_in_dir(dir, path)) {
            rc = each(context, dir + parent_size(dir) + (strchr(dir, '/') != NULL));
        }
    }
    for (size_t i = 0; i < memory->current.count && rc == 0; i++) {
        const char *name = memory->current.items[i].path;
        if (is_in_dir(name, path)) {
            rc = each(context, name + parent_size(name) + (strchr(name, '/') != NULL));
        }
    }
    return rc;
}

static int memory_sync_dir(struct fs *fs, const char *path)
{
    struct fs_memory *memory = of(fs);
    if (!dir_exists(memory, path)) {
        return ERR_NOT_FOUND;
    }
    size_t kept = 0;
    for (size_t i = 0; i < memory->change_count; i++) {
        struct change *change = &memory->changes[i];
        if (is_in_dir(change->to != NULL ? change->to : change->from, path)) {
            apply(memory, &memory->durable, change);
            free_change(memory, change);
        } else {
            memory->changes[kept++] = *change;
        }
    }
    memory->change_count = kept;
    return 0;
}

static int memory_lock(struct fs *fs, const char *path, struct fs_file **out)
{
    struct fs_memory *memory = of(fs);
    if (!has_parent(memory, path)) {
        return ERR_NOT_FOUND;
    }
    struct name *name = find(&memory->current, path);
    struct inode *inode = name == NULL ? create_inode(memory, path) : name->inode;
    if (inode->is_locked) {
        return ERR_LOCKED;
    }
    inode->is_locked = true;
    *out = new_file(memory, inode, true);
    (*out)->is_lock = true;
    return 0;
}

static void memory_unlock(struct fs *fs, struct fs_file *file)
{
    if (file != NULL && !is_stale(fs, file)) {
        CHECK(file->is_lock);
        file->inode->is_locked = false;
    }
    memory_close(fs, file);
}

static const struct fs_ops memory_ops = {
    .open = memory_open,
    .close = memory_close,
    .read_at = memory_read_at,
    .write_at = memory_write_at,
    .sync = memory_sync,
    .size = memory_size,
    .truncate = memory_truncate,
    .rename = memory_rename,
    .remove = memory_remove,
    .make_dir = memory_make_dir,
    .list_dir = memory_list_dir,
    .sync_dir = memory_sync_dir,
    .lock = memory_lock,
    .unlock = memory_unlock,
};

/* ---- life and death ---- */

struct fs_memory *fs_memory_create(void)
{
    struct fs_memory *memory = calloc(1, sizeof(*memory));
    CHECK(memory != NULL);
    memory->fs.ops = &memory_ops;
    return memory;
}

static void drop_changes(struct fs_memory *memory)
{
    for (size_t i = 0; i < memory->change_count; i++) {
        free_change(memory, &memory->changes[i]);
    }
    memory->change_count = 0;
}

void fs_memory_destroy(struct fs_memory *memory)
{
    if (memory == NULL) {
        return;
    }
    drop_changes(memory);
    erase_all(memory, &memory->current);
    erase_all(memory, &memory->durable);
    for (size_t i = 0; i < memory->dir_count; i++) {
        free(memory->dirs[i]);
    }
    free(memory->dirs);
    free(memory->changes);
    free(memory->current.items);
    free(memory->durable.items);
    free(memory);
}

struct fs *fs_memory_fs(struct fs_memory *memory)
{
    return &memory->fs;
}

/* Which inode has become which. */
struct twins {
    const struct inode **from;
    struct inode **to;
    size_t count;
};

static struct inode *twin_of(struct fs_memory *clone, struct twins *twins, struct inode *inode)
{
    for (size_t i = 0; i < twins->count; i++) {
        if (twins->from[i] == inode) {
            return twins->to[i];
        }
    }
    if (inode == NULL) {
        return NULL;
    }
    twins->from = grow(twins->from, (twins->count + 1) * sizeof(*twins->from));
    twins->to = grow(twins->to, (twins->count + 1) * sizeof(*twins->to));
    twins->from[twins->count] = inode;
    twins->to[twins->count] = clone_inode(inode);
    clone->used += inode->size;
    return twins->to[twins->count++];
}

struct fs_memory *fs_memory_clone(const struct fs_memory *memory)
{
    struct fs_memory *clone = fs_memory_create();
    struct twins twins = {0};
    clone->capacity = memory->capacity;
    for (size_t i = 0; i < memory->dir_count; i++) {
        add_dir(clone, memory->dirs[i], strlen(memory->dirs[i]));
    }
    for (size_t i = 0; i < memory->current.count; i++) {
        const struct name *name = &memory->current.items[i];
        set_name(clone, &clone->current, name->path, twin_of(clone, &twins, name->inode));
    }
    for (size_t i = 0; i < memory->durable.count; i++) {
        const struct name *name = &memory->durable.items[i];
        set_name(clone, &clone->durable, name->path, twin_of(clone, &twins, name->inode));
    }
    clone->changes = grow(NULL, memory->change_count * sizeof(*clone->changes));
    for (size_t i = 0; i < memory->change_count; i++) {
        const struct change *change = &memory->changes[i];
        clone->changes[clone->change_count++] = (struct change){
            copy_text(change->from),
            copy_text(change->to),
            retain(twin_of(clone, &twins, change->inode)),
        };
    }
    free(twins.from);
    free(twins.to);
    return clone;
}

void fs_memory_kill(struct fs_memory *memory)
{
    memory->epoch++;
    for (size_t i = 0; i < memory->current.count; i++) {
        memory->current.items[i].inode->is_locked = false;
    }
}

void fs_memory_power_cut(struct fs_memory *memory, struct random *random)
{
    memory->epoch++;
    for (size_t i = 0; i < memory->change_count; i++) {
        if (random_below(random, 2) == 0) {
            apply(memory, &memory->durable, &memory->changes[i]);
        }
    }
    drop_changes(memory);
    erase_all(memory, &memory->current);
    for (size_t i = 0; i < memory->durable.count; i++) {
        const struct name *name = &memory->durable.items[i];
        cut_inode(memory, name->inode, random);
        set_name(memory, &memory->current, name->path, name->inode);
    }
}

void fs_memory_set_capacity(struct fs_memory *memory, uint64_t bytes)
{
    memory->capacity = bytes;
}

uint64_t fs_memory_used(const struct fs_memory *memory)
{
    return memory->used;
}

/* ---- damage ---- */

int fs_memory_flip_bit(struct fs_memory *memory, const char *path, uint64_t byte, unsigned bit)
{
    struct name *name = find(&memory->current, path);
    if (name == NULL) {
        return ERR_NOT_FOUND;
    }
    if (byte >= name->inode->size || bit >= 8) {
        return ERR_INVALID;
    }
    name->inode->data[byte] ^= (uint8_t)(1u << bit);
    return 0;
}

int fs_memory_zero(struct fs_memory *memory, const char *path, uint64_t from, uint64_t to)
{
    struct name *name = find(&memory->current, path);
    if (name == NULL) {
        return ERR_NOT_FOUND;
    }
    if (from > to || to > name->inode->size) {
        return ERR_INVALID;
    }
    memset(name->inode->data + from, 0, to - from);
    return 0;
}

int fs_memory_truncate(struct fs_memory *memory, const char *path, uint64_t size)
{
    struct name *name = find(&memory->current, path);
    if (name == NULL) {
        return ERR_NOT_FOUND;
    }
    if (size > name->inode->size) {
        return ERR_INVALID;
    }
    set_size(memory, name->inode, size);
    forget_old(name->inode);
    return 0;
}

int fs_memory_delete(struct fs_memory *memory, const char *path)
{
    if (find(&memory->current, path) == NULL) {
        return ERR_NOT_FOUND;
    }
    struct change change = {.from = copy_text(path)};
    apply(memory, &memory->current, &change);
    apply(memory, &memory->durable, &change);
    free(change.from);
    return 0;
}

int fs_memory_peek(struct fs_memory *memory, const char *path, const uint8_t **data, uint64_t *size)
{
    struct name *name = find(&memory->current, path);
    if (name == NULL) {
        return ERR_NOT_FOUND;
    }
    *data = name->inode->data;
    *size = name->inode->size;
    return 0;
}
