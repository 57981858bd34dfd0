/* Checks the data file before LMDB opens it, and finds where it is mapped. */
#include "store/file.h"

#include "base/buf.h"
#include "base/errors.h"
#include "store/row.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

/* LMDB's own format, version 1, on a 64-bit little-endian machine: nothing but LMDB documents it,
 * and it has not changed since 0.9.0. */
enum {
    PAGE_HEADER_BYTES = 16,
    PAGE_SIZE_MIN = 512,
    PAGE_SIZE_MAX = 65536,
    PAGE_BRANCH = 0x01,
    PAGE_LEAF = 0x02,
    PAGE_OVERFLOW = 0x04,
    PAGE_META = 0x08,
    PAGE_DIRTY = 0x10, /* stays set in sub-pages, where it means nothing */
    PAGE_LEAF2 = 0x20,
    PAGE_SUBPAGE = 0x40,
    NODE_HEADER_BYTES = 8,
    NODE_BIGDATA = 0x01,
    NODE_SUBDATA = 0x02,
    NODE_DUPDATA = 0x04,
    TREE_BYTES = 48,
    TREE_DEPTH_MAX = 32,
    TREE_DUPSORT = 0x04,
    TREE_INTEGERKEY = 0x08,
    TREE_DUPFIXED = 0x10,
    META_BYTES = 152,
    META_VERSION = 1,
};
#define META_MAGIC 0xBEEFC0DEu
#define PAGE_NONE UINT64_MAX

/* What a page belongs to, and so what its nodes may look like. */
enum tree_kind {
    TREE_FREE,  /* transaction -> pages that it freed */
    TREE_MAIN,  /* name -> tree */
    TREE_PLAIN, /* key -> value */
    TREE_DUP,   /* key -> one item, a sub-page or a tree of items */
    TREE_ITEMS, /* the items of one key */
};

struct tree {
    uint16_t pad;
    uint16_t flags;
    uint16_t depth;
    uint64_t root;
};

struct meta {
    uint64_t page_size;
    uint64_t last_page;
    uint64_t transaction;
    struct tree free;
    struct tree main;
};

struct task {
    uint64_t page;
    uint16_t depth; /* 1: a leaf */
    enum tree_kind kind;
};

struct walk {
    int fd;
    uint64_t file_bytes;
    struct meta meta;
    uint8_t *page;
    uint8_t *seen; /* a bit per page: none may be used twice, which also ends every loop */
    struct task *tasks;
    size_t task_count;
    size_t task_capacity;
    const char *fault;
};

static int fail(char *error, size_t error_size, int code, const char *reason)
{
    snprintf(error, error_size, "%s", reason);
    return code;
}

static int fail_errno(char *error, size_t error_size)
{
    int code = errno == EACCES || errno == EPERM    ? ERR_ACCESS
               : errno == EROFS                     ? ERR_READ_ONLY
               : errno == EMFILE || errno == ENFILE ? ERR_FILES
                                                    : ERR_IO;
    return fail(error, error_size, code, strerror(errno));
}

/* Reads exactly `size` bytes. Errors: ERR_CORRUPT (the file ends before), ERR_IO. */
static int read_at(int fd, uint64_t offset, void *out, size_t size)
{
    for (size_t done = 0; done < size;) {
        ssize_t n = pread(fd, (uint8_t *)out + done, size - done, (off_t)(offset + done));
        if (n < 0 && errno == EINTR) {
            continue;
        }
        if (n <= 0) {
            return n < 0 ? ERR_IO : ERR_CORRUPT;
        }
        done += (size_t)n;
    }
    return 0;
}

/* ---- meta pages ---- */

static struct tree tree_load(const uint8_t *data)
{
    return (struct tree){.pad = (uint16_t)load_u32(data),
                         .flags = load_u16(data + 4),
                         .depth = load_u16(data + 6),
                         .root = load_u64(data + 40)};
}

static int meta_parse(const uint8_t *data, struct meta *out, const char **reason)
{
    if (load_u16(data + 10) != PAGE_META || load_u32(data + 16) != META_MAGIC) {
        *reason = "a meta page is no LMDB meta page";
        return ERR_CORRUPT;
    }
    if (load_u32(data + 20) != META_VERSION) {
        *reason = "written by another version of LMDB";
        return ERR_VERSION;
    }
    *out = (struct meta){.page_size = load_u32(data + 40),
                         .last_page = load_u64(data + 136),
                         .transaction = load_u64(data + 144),
                         .free = tree_load(data + 40),
                         .main = tree_load(data + 88)};
    bool is_good = out->page_size >= PAGE_SIZE_MIN && out->page_size <= PAGE_SIZE_MAX &&
                   (out->page_size & (out->page_size - 1)) == 0 && load_u64(data + 24) == 0 &&
                   out->last_page >= 1 && out->last_page < (UINT64_C(1) << 47) / out->page_size &&
                   out->free.flags == TREE_INTEGERKEY && out->main.flags == 0;
    *reason = "a meta page makes no sense";
    return is_good ? 0 : ERR_CORRUPT;
}

static int meta_read(int fd, uint64_t offset, struct meta *out, const char **reason)
{
    uint8_t data[META_BYTES];
    int rc = read_at(fd, offset, data, sizeof(data));
    if (rc != 0) {
        *reason = rc == ERR_IO ? strerror(errno) : "shorter than its meta pages";
        return rc;
    }
    return meta_parse(data, out, reason);
}

/* The newest of the two. */
static int meta_pick(int fd, struct meta *out, const char **reason)
{
    struct meta first;
    int rc = meta_read(fd, 0, &first, reason);
    if (rc != 0) {
        return rc;
    }
    struct meta second;
    rc = meta_read(fd, first.page_size, &second, reason);
    if (rc != 0) {
        return rc;
    }
    if (first.page_size != second.page_size) {
        *reason = "its meta pages disagree";
        return ERR_CORRUPT;
    }
    *out = second.transaction > first.transaction ? second : first;
    return 0;
}

/* ---- the walk ---- */

static int damaged(struct walk *walk, const char *fault)
{
    walk->fault = fault;
    return ERR_CORRUPT;
}

/* Marks `count` pages as used. */
static int claim(struct walk *walk, uint64_t page, uint64_t count)
{
    if (page < 2 || page > walk->meta.last_page || count > walk->meta.last_page - page + 1) {
        return damaged(walk, "a page number is out of range");
    }
    if ((page + count) * walk->meta.page_size > walk->file_bytes) {
        return damaged(walk, "truncated: a page that is in use lies behind the file's end");
    }
    for (uint64_t i = page; i < page + count; i++) {
        uint8_t bit = (uint8_t)(1u << (i % 8));
        if ((walk->seen[i / 8] & bit) != 0) {
            return damaged(walk, "a page is in use twice");
        }
        walk->seen[i / 8] |= bit;
    }
    return 0;
}

static int push(struct walk *walk, uint64_t page, uint16_t depth, enum tree_kind kind)
{
    if (walk->task_count == walk->task_capacity) {
        size_t capacity = walk->task_capacity != 0 ? walk->task_capacity * 2 : 256;
        struct task *tasks = realloc(walk->tasks, capacity * sizeof(*tasks));
        if (tasks == NULL) {
            return ERR_NOMEM;
        }
        walk->tasks = tasks;
        walk->task_capacity = capacity;
    }
    int rc = claim(walk, page, 1);
    if (rc != 0) {
        return rc;
    }
    walk->tasks[walk->task_count++] = (struct task){.page = page, .depth = depth, .kind = kind};
    return 0;
}

static int push_tree(struct walk *walk, const struct tree *tree, enum tree_kind kind)
{
    if (tree->root == PAGE_NONE) {
        return tree->depth == 0 ? 0 : damaged(walk, "an empty tree has a depth");
    }
    if (tree->depth == 0 || tree->depth > TREE_DEPTH_MAX) {
        return damaged(walk, "a tree's depth makes no sense");
    }
    return push(walk, tree->root, tree->depth, kind);
}

static int check_free_list(struct walk *walk, const uint8_t *data, uint64_t size)
{
    if (size < sizeof(uint64_t) || load_u64(data) > size / sizeof(uint64_t) - 1) {
        return damaged(walk, "a list of free pages is malformed");
    }
    uint64_t count = load_u64(data);
    for (uint64_t i = 1; i <= count; i++) {
        uint64_t page = load_u64(data + i * sizeof(uint64_t));
        if (page < 2 || page > walk->meta.last_page) {
            return damaged(walk, "a free page's number is out of range");
        }
    }
    return 0;
}

/* A value in pages of its own. */
static int check_overflow(struct walk *walk, uint64_t page, uint32_t size, enum tree_kind kind)
{
    uint64_t page_size = walk->meta.page_size;
    uint64_t count = (PAGE_HEADER_BYTES + (uint64_t)size + page_size - 1) / page_size;
    int rc = claim(walk, page, count);
    if (rc != 0) {
        return rc;
    }
    uint8_t header[PAGE_HEADER_BYTES];
    rc = read_at(walk->fd, page * page_size, header, sizeof(header));
    if (rc != 0) {
        return rc;
    }
    if (load_u64(header) != page || load_u16(header + 10) != PAGE_OVERFLOW ||
        load_u32(header + 12) != count) {
        return damaged(walk, "an overflow page is malformed");
    }
    if (kind != TREE_FREE) {
        return 0;
    }
    uint8_t *list = malloc(size);
    if (list == NULL) {
        return ERR_NOMEM;
    }
    rc = read_at(walk->fd, page * page_size + PAGE_HEADER_BYTES, list, size);
    if (rc == 0) {
        rc = check_free_list(walk, list, size);
    }
    free(list);
    return rc;
}

/* A page of fixed-size items: a whole page, or a sub-page within a node. */
static int check_items(struct walk *walk, const uint8_t *page, uint64_t size)
{
    uint16_t lower = load_u16(page + 12);
    if (load_u16(page + 8) != ROW_SEALED_ITEM_BYTES || lower <= PAGE_HEADER_BYTES ||
        lower % 2 != 0) {
        return damaged(walk, "a page of items is malformed");
    }
    uint64_t count = (lower - PAGE_HEADER_BYTES) / 2u;
    if (PAGE_HEADER_BYTES + count * ROW_SEALED_ITEM_BYTES > size) {
        return damaged(walk, "a page of items is overfull");
    }
    return 0;
}

static int check_tree_record(struct walk *walk, const uint8_t *key, uint16_t key_size,
                             const uint8_t *data, enum tree_kind in)
{
    struct tree tree = tree_load(data);
    if (in == TREE_DUP) {
        if (tree.flags != TREE_DUPFIXED || tree.pad != ROW_SEALED_ITEM_BYTES) {
            return damaged(walk, "a tree of items has wrong flags");
        }
        return push_tree(walk, &tree, TREE_ITEMS);
    }
    struct bytes name = {.data = key, .size = key_size};
    bool has_items =
        bytes_equal(name, bytes_of_text("runs")) || bytes_equal(name, bytes_of_text("dedupe"));
    if (tree.flags != (has_items ? TREE_DUPSORT | TREE_DUPFIXED : 0)) {
        return damaged(walk, "a database has wrong flags");
    }
    return push_tree(walk, &tree, has_items ? TREE_DUP : TREE_PLAIN);
}

static int check_sub_page(struct walk *walk, const uint8_t *data, uint32_t size)
{
    if (size < PAGE_HEADER_BYTES ||
        (load_u16(data + 10) & ~PAGE_DIRTY) != (PAGE_LEAF | PAGE_LEAF2 | PAGE_SUBPAGE)) {
        return damaged(walk, "a sub-page is malformed");
    }
    return check_items(walk, data, size);
}

/* `room` is what the page has left behind the node's header. */
static int check_leaf_node(struct walk *walk, const uint8_t *node, uint64_t room,
                           enum tree_kind kind)
{
    uint32_t size = load_u16(node) | (uint32_t)load_u16(node + 2) << 16;
    uint16_t flags = load_u16(node + 4);
    uint16_t key_size = load_u16(node + 6);
    const uint8_t *key = node + NODE_HEADER_BYTES;
    const uint8_t *data = key + key_size;
    uint64_t stored = flags == NODE_BIGDATA ? sizeof(uint64_t) : size;
    if (key_size == 0 || key_size > ROW_KEY_BYTES_MAX || key_size + stored > room) {
        return damaged(walk, "a node reaches beyond its page");
    }
    if (kind == TREE_FREE && key_size != sizeof(uint64_t)) {
        return damaged(walk, "a list of free pages has a wrong key");
    }
    if (flags == NODE_BIGDATA && (kind == TREE_FREE || kind == TREE_PLAIN)) {
        return check_overflow(walk, load_u64(data), size, kind);
    }
    if (flags == NODE_SUBDATA && kind == TREE_MAIN && size == TREE_BYTES) {
        return check_tree_record(walk, key, key_size, data, kind);
    }
    if (flags == (NODE_SUBDATA | NODE_DUPDATA) && kind == TREE_DUP && size == TREE_BYTES) {
        return check_tree_record(walk, key, key_size, data, kind);
    }
    if (flags == NODE_DUPDATA && kind == TREE_DUP) {
        return check_sub_page(walk, data, size);
    }
    if (flags == 0 && kind == TREE_FREE) {
        return check_free_list(walk, data, size);
    }
    bool is_good =
        flags == 0 && (kind == TREE_PLAIN || (kind == TREE_DUP && size == ROW_SEALED_ITEM_BYTES));
    return is_good ? 0 : damaged(walk, "a node is of a wrong kind");
}

static int check_node(struct walk *walk, const struct task *task, const uint8_t *node,
                      uint64_t room)
{
    if (task->depth == 1) {
        return check_leaf_node(walk, node, room, task->kind);
    }
    uint16_t key_size = load_u16(node + 6);
    if (key_size > ROW_KEY_BYTES_MAX || key_size > room) {
        return damaged(walk, "a node reaches beyond its page");
    }
    uint64_t child =
        load_u16(node) | (uint64_t)load_u16(node + 2) << 16 | (uint64_t)load_u16(node + 4) << 32;
    return push(walk, child, task->depth - 1, task->kind);
}

static int check_page(struct walk *walk, const struct task *task)
{
    uint64_t page_size = walk->meta.page_size;
    const uint8_t *page = walk->page;
    int rc = read_at(walk->fd, task->page * page_size, walk->page, page_size);
    if (rc != 0) {
        return rc;
    }
    uint16_t flags = load_u16(page + 10);
    if (load_u64(page) != task->page) {
        return damaged(walk, "a page bears another page's number");
    }
    if (task->kind == TREE_ITEMS && task->depth == 1) {
        return flags == (PAGE_LEAF | PAGE_LEAF2) ? check_items(walk, page, page_size)
                                                 : damaged(walk, "a page is of a wrong kind");
    }
    if (flags != (task->depth > 1 ? PAGE_BRANCH : PAGE_LEAF)) {
        return damaged(walk, "a page is of a wrong kind");
    }
    uint32_t lower = load_u16(page + 12);
    uint32_t upper = load_u16(page + 14);
    if (lower <= PAGE_HEADER_BYTES || lower % 2 != 0 || lower > upper || upper > page_size) {
        return damaged(walk, "a page's bounds make no sense");
    }
    for (uint32_t at = PAGE_HEADER_BYTES; at < lower; at += 2) {
        uint32_t offset = load_u16(page + at);
        if (offset < upper || offset + NODE_HEADER_BYTES > page_size) {
            return damaged(walk, "a node lies outside its page");
        }
        rc = check_node(walk, task, page + offset, page_size - offset - NODE_HEADER_BYTES);
        if (rc != 0) {
            return rc;
        }
    }
    return 0;
}

static int walk_pages(struct walk *walk)
{
    walk->page = malloc(walk->meta.page_size);
    walk->seen = calloc(1, walk->meta.last_page / 8 + 1);
    if (walk->page == NULL || walk->seen == NULL) {
        return ERR_NOMEM;
    }
    int rc = push_tree(walk, &walk->meta.free, TREE_FREE);
    if (rc == 0) {
        rc = push_tree(walk, &walk->meta.main, TREE_MAIN);
    }
    while (rc == 0 && walk->task_count > 0) {
        struct task task = walk->tasks[--walk->task_count];
        rc = check_page(walk, &task);
    }
    return rc;
}

static int check_deep(int fd, uint64_t file_bytes, const struct meta *meta, char *error,
                      size_t error_size)
{
    struct walk walk = {.fd = fd, .file_bytes = file_bytes, .meta = *meta};
    int rc = walk_pages(&walk);
    if (rc != 0) {
        fail(error, error_size, rc, walk.fault != NULL ? walk.fault : error_text(rc));
    }
    free(walk.page);
    free(walk.seen);
    free(walk.tasks);
    return rc;
}

/* ---- entry ---- */

/* LMDB writes its two meta pages at once when it makes a file; a power cut can leave the length
 * without the contents. Nothing was ever committed to such a file. */
static bool is_blank(int fd, uint64_t size)
{
    uint8_t data[2 * 4096];
    if (size > sizeof(data) || read_at(fd, 0, data, size) != 0) {
        return false;
    }
    for (uint64_t i = 0; i < size; i++) {
        if (data[i] != 0) {
            return false;
        }
    }
    return true;
}

static int check_open_file(int fd, bool is_deep, enum store_file_kind *kind, char *error,
                           size_t error_size)
{
    struct stat stat;
    if (fstat(fd, &stat) != 0) {
        return fail_errno(error, error_size);
    }
    if (!S_ISREG(stat.st_mode)) {
        return fail(error, error_size, ERR_IO, "not a regular file");
    }
    uint64_t size = (uint64_t)stat.st_size;
    if (is_blank(fd, size)) {
        *kind = STORE_FILE_NEW;
        return 0;
    }
    struct meta meta;
    const char *reason = NULL;
    int rc = meta_pick(fd, &meta, &reason);
    if (rc != 0) {
        return fail(error, error_size, rc, reason);
    }
    if (is_deep || (meta.last_page + 1) * meta.page_size > size) {
        rc = check_deep(fd, size, &meta, error, error_size);
        if (rc != 0) {
            return rc;
        }
    }
    *kind = STORE_FILE_SOUND;
    return 0;
}

int store_file_check(const char *path, bool is_deep, enum store_file_kind *kind, char *error,
                     size_t error_size)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0 && errno == ENOENT) {
        *kind = STORE_FILE_NEW;
        return 0;
    }
    if (fd < 0) {
        return fail_errno(error, error_size);
    }
    int rc = check_open_file(fd, is_deep, kind, error, error_size);
    close(fd);
    return rc;
}

int store_file_find_mapping(int fd, struct store_mapping *out)
{
    struct stat stat;
    FILE *maps = fopen("/proc/self/maps", "re");
    if (maps == NULL) {
        return ERR_IO;
    }
    int rc = fstat(fd, &stat) == 0 ? ERR_NOT_FOUND : ERR_IO;
    char line[8192];
    while (rc == ERR_NOT_FOUND && fgets(line, sizeof(line), maps) != NULL) {
        uint64_t begin, end, offset, inode;
        unsigned major_number, minor_number;
        if (sscanf(line, "%" SCNx64 "-%" SCNx64 " %*s %" SCNx64 " %x:%x %" SCNu64, &begin, &end,
                   &offset, &major_number, &minor_number, &inode) == 6 &&
            offset == 0 && inode == stat.st_ino) {
            *out = (struct store_mapping){.begin = (uintptr_t)begin, .end = (uintptr_t)end};
            rc = 0;
        }
    }
    fclose(maps);
    return rc;
}
