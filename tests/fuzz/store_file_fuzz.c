/* The store's data file with any of its bytes changed, as one that another node has sent: it is
 * refused, or LMDB can follow it anywhere, and what a scrub then calls sound is what was committed.
 *
 * The input names the changes, a few bytes each, so that inputs stay small while the file is whole
 * otherwise. */
#include "base/check.h"
#include "base/errors.h"
#include "fuzz/input.h"
#include "lib/store_batches.h"
#include "lib/store_digest.h"
#include "store/lmdb.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#define BASES 3
#define CHANGES_MAX 24
#define PAGE_BYTES 4096u
#define MAP_BYTES (16u << 20)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* A store of a few commits; its two meta pages lead to the last and to the one before. */
struct base {
    uint8_t *data;
    size_t size;
    uint64_t digests[2];
};

static char directory[64];

static void remove_directory(void)
{
    static const char *const names[] = {"data.mdb", "lock.mdb", "suspect"};
    char path[128];
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        snprintf(path, sizeof(path), "%s/%s", directory, names[i]);
        (void)unlink(path);
    }
    (void)rmdir(directory);
}

static void make_directory(void)
{
    bool has_memory = access("/dev/shm", W_OK) == 0;
    snprintf(directory, sizeof(directory), "%s/store_fuzz_XXXXXX",
             has_memory ? "/dev/shm" : "/tmp");
    CHECK(mkdtemp(directory) != NULL);
    CHECK(atexit(remove_directory) == 0);
}

static void data_path(char path[128])
{
    snprintf(path, 128, "%s/data.mdb", directory);
}

static int open_store(bool is_untrusted, struct store **out)
{
    struct store_lmdb_options options = {
        .dir = directory, .map_bytes_max = MAP_BYTES, .is_untrusted = is_untrusted};
    char error[512] = "";
    int rc = store_lmdb_open(&options, out, error, sizeof(error));
    CHECK(rc == 0 || error[0] != '\0');
    return rc;
}

static void read_file(struct base *base)
{
    char path[128];
    data_path(path);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    struct stat stat;
    CHECK(fd >= 0);
    CHECK(fstat(fd, &stat) == 0);
    base->size = (size_t)stat.st_size;
    base->data = malloc(base->size);
    CHECK(base->data != NULL);
    CHECK(pread(fd, base->data, base->size, 0) == stat.st_size);
    close(fd);
}

/* Of one page and of many, with overflow pages in the last. */
static void base_make(struct base *base, size_t which)
{
    static const size_t sizes[BASES] = {2, 40, 60};
    struct store_batches *batches = malloc(sizeof(*batches));
    CHECK(batches != NULL);
    store_batches_init(batches, which + 1, which * 20 + 1);
    batches->message_bytes_max = which == 2 ? 4000 : 100;
    struct store *store = NULL;
    char path[128];
    data_path(path);
    (void)unlink(path);
    CHECK(open_store(false, &store) == 0);
    for (int i = 0; i < 6; i++) {
        struct store_meta meta;
        CHECK(store->ops->commit(store, store_batches_next(batches, sizes[which], which * 10)) ==
              0);
        CHECK(store_digest(store, &base->digests[i % 2], &meta) == 0);
    }
    store->ops->close(store);
    store_batches_finish(batches);
    free(batches);
    read_file(base);
}

static void change(uint8_t *data, size_t *size, struct input *input)
{
    unsigned kind = take_u8(input);
    size_t pages = *size / PAGE_BYTES;
    size_t at = take_u16(input) % (pages > 0 ? pages : 1) * PAGE_BYTES;
    if (kind == 0) {
        *size = at + take_u16(input) % PAGE_BYTES;
        return;
    }
    if (at + PAGE_BYTES > *size) {
        return;
    }
    if (kind == 1) { /* a page that went elsewhere */
        memmove(data + at, data + take_u16(input) % pages * PAGE_BYTES, PAGE_BYTES);
        return;
    }
    /* Most of what LMDB trusts is at the beginning of pages. */
    size_t offset = take_u16(input) % (kind < 128 ? 192u : PAGE_BYTES);
    for (unsigned i = 0; i <= kind % 8 && offset + i < PAGE_BYTES; i++) {
        uint8_t *byte = data + at + offset + i;
        *byte = (uint8_t)(kind & 64 ? take_u8(input) : *byte ^ take_u8(input));
    }
}

static void write_file(const uint8_t *data, size_t size)
{
    char path[128];
    data_path(path);
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    CHECK(fd >= 0);
    CHECK(write(fd, data, size) == (ssize_t)size);
    close(fd);
}

static bool scrub(struct store *store)
{
    bool is_done = false;
    int rc = 0;
    while (rc == 0 && !is_done) {
        rc = store_lmdb_scrub(store, 1000, &is_done);
    }
    CHECK(rc == 0 || rc == ERR_CORRUPT);
    return rc == 0;
}

static void check_store(struct store *store, const struct base *base)
{
    struct store_meta meta;
    uint64_t digest = 0;
    bool is_sound = scrub(store);
    int rc = store_digest(store, &digest, &meta);
    CHECK(rc == 0 || rc == ERR_CORRUPT || rc == ERR_NOT_FOUND);
    if (is_sound && !(rc == 0 && meta.applied_index == 0)) {
        CHECK(rc == 0);
        CHECK(digest == base->digests[0] || digest == base->digests[1]);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct base bases[BASES];
    struct input input = {data, size};
    struct base *base = &bases[take_u8(&input) % BASES];
    if (directory[0] == '\0') {
        make_directory();
    }
    if (base->data == NULL) {
        base_make(base, (size_t)(base - bases));
    }
    uint8_t *file = malloc(base->size);
    CHECK(file != NULL);
    memcpy(file, base->data, base->size);
    size_t file_size = base->size;
    for (int i = 0; i < CHANGES_MAX && input.left > 0; i++) {
        change(file, &file_size, &input);
    }
    write_file(file, file_size);
    free(file);
    struct store *store = NULL;
    if (open_store(true, &store) == 0) {
        check_store(store, base);
        store->ops->close(store);
    }
    return 0;
}
