/* Whose data_dir it is: read back, mended when damaged, refused when it is another's. */
#include "base/errors.h"
#include "lib/fs_memory.h"
#include "storage/data_dir.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#define DIR "data"
#define IDENTITY DIR "/identity"

static int open_dir(struct fs_memory *memory, const char *node_id, struct data_dir *dir,
                    char *error, size_t error_size)
{
    return data_dir_open(dir, fs_memory_fs(memory), DIR, node_id, error, error_size);
}

/* Opens and closes; what was mended comes back. */
static int reopen(struct fs_memory *memory, const char *node_id, const char **mended)
{
    static struct data_dir dir;
    static char error[1024];
    int rc = open_dir(memory, node_id, &dir, error, sizeof(error));
    if (rc == 0) {
        *mended = dir.identity_mended;
        data_dir_close(&dir);
    } else {
        *mended = error;
    }
    return rc;
}

static void put(struct fs_memory *memory, const char *path, const char *text, size_t size)
{
    struct fs *fs = fs_memory_fs(memory);
    struct fs_file *file;
    (void)fs_memory_delete(memory, path);
    assert_int_equal(fs->ops->open(fs, path, FS_OPEN_CREATE, &file), 0);
    if (size > 0) {
        assert_int_equal(fs->ops->write_at(fs, file, 0, text, size), 0);
    }
    fs->ops->close(fs, file);
}

static size_t get(struct fs_memory *memory, char *text)
{
    const uint8_t *data;
    uint64_t size;
    assert_int_equal(fs_memory_peek(memory, IDENTITY, &data, &size), 0);
    memcpy(text, data, size);
    return (size_t)size;
}

/* One in which a node has worked. */
static struct fs_memory *make_used(void)
{
    struct fs_memory *memory = fs_memory_create();
    const char *mended;
    assert_int_equal(reopen(memory, "node1", &mended), 0);
    assert_string_equal(mended, "");
    struct fs *fs = fs_memory_fs(memory);
    assert_int_equal(fs->ops->make_dir(fs, DIR "/log"), 0);
    put(memory, DIR "/log/begun", "", 0);
    assert_int_equal(reopen(memory, "node1", &mended), 0);
    assert_string_equal(mended, "");
    return memory;
}

static void test_any_flipped_bit_of_the_identity_is_mended(void **state)
{
    struct fs_memory *memory = make_used();
    char whole[1024];
    size_t size = get(memory, whole);
    for (size_t byte = 0; byte < size; byte++) {
        for (unsigned bit = 0; bit < 8; bit++) {
            const char *mended;
            assert_int_equal(fs_memory_flip_bit(memory, IDENTITY, byte, bit), 0);
            if (reopen(memory, "node1", &mended) != 0) {
                fail_msg("bit %u of byte %zu: %s", bit, byte, mended);
            }
            assert_string_equal(mended, "it was damaged");
            char now[1024];
            assert_int_equal(get(memory, now), size);
            assert_memory_equal(now, whole, size);
        }
    }
    fs_memory_destroy(memory);
}

static void test_an_identity_that_is_cut_blank_or_missing_is_mended(void **state)
{
    struct fs_memory *memory = make_used();
    static const char zeros[2000];
    char whole[1024];
    const char *mended;
    size_t size = get(memory, whole);
    for (size_t left = 0; left < size; left++) {
        assert_int_equal(fs_memory_truncate(memory, IDENTITY, left), 0);
        if (reopen(memory, "node1", &mended) != 0) {
            fail_msg("%zu bytes left: %s", left, mended);
        }
        assert_string_equal(mended, "it was damaged");
    }
    put(memory, IDENTITY, zeros, size);
    assert_int_equal(reopen(memory, "node1", &mended), 0);
    put(memory, IDENTITY, zeros, sizeof(zeros));
    assert_int_equal(reopen(memory, "node1", &mended), 0);
    assert_string_equal(mended, "it was damaged");
    assert_int_equal(fs_memory_delete(memory, IDENTITY), 0);
    assert_int_equal(reopen(memory, "node1", &mended), 0);
    assert_string_equal(mended, "it was missing");
    fs_memory_destroy(memory);
}

static void test_another_nodes_directory_is_refused(void **state)
{
    struct fs_memory *memory = make_used();
    const char *why;
    assert_int_equal(reopen(memory, "node2", &why), ERR_FOREIGN);
    assert_non_null(strstr(why, "belongs to node \"node1\", not to \"node2\""));
    /* A damaged one is not taken either. */
    assert_int_equal(fs_memory_flip_bit(memory, IDENTITY, 40, 1), 0);
    assert_int_equal(reopen(memory, "node2", &why), ERR_FOREIGN);
    assert_int_equal(reopen(memory, "node1", &why), 0);
    fs_memory_destroy(memory);
}

static void test_an_identity_of_the_older_format_is_taken_over(void **state)
{
    struct fs_memory *memory = make_used();
    static const char older[] = "raftogram data_dir 1\nnode_id: node1\n";
    static const char others[] = "raftogram data_dir 1\nnode_id: node3\n";
    const char *mended;
    char whole[1024];
    size_t size = get(memory, whole);
    put(memory, IDENTITY, older, sizeof(older) - 1);
    assert_int_equal(reopen(memory, "node1", &mended), 0);
    assert_string_equal(mended, "");
    char now[1024];
    assert_int_equal(get(memory, now), size);
    assert_memory_equal(now, whole, size);
    put(memory, IDENTITY, others, sizeof(others) - 1);
    assert_int_equal(reopen(memory, "node1", &mended), ERR_FOREIGN);
    fs_memory_destroy(memory);
}

static void test_a_newer_or_foreign_file_is_refused(void **state)
{
    struct fs_memory *memory = make_used();
    static const char newer[] = "raftogram data_dir 3\nnode_id: node1\nchecksum: of another kind\n";
    static const char key[] = "-----BEGIN OPENSSH PRIVATE KEY-----\n";
    const char *why;
    put(memory, IDENTITY, newer, sizeof(newer) - 1);
    assert_int_equal(reopen(memory, "node1", &why), ERR_VERSION);
    fs_memory_destroy(memory);
    /* No node has worked here. */
    memory = fs_memory_create();
    struct fs *fs = fs_memory_fs(memory);
    assert_int_equal(fs->ops->make_dir(fs, DIR), 0);
    put(memory, IDENTITY, key, sizeof(key) - 1);
    assert_int_equal(reopen(memory, "node1", &why), ERR_CORRUPT);
    assert_non_null(strstr(why, "not written by raftogram"));
    fs_memory_destroy(memory);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_any_flipped_bit_of_the_identity_is_mended),
        cmocka_unit_test(test_an_identity_that_is_cut_blank_or_missing_is_mended),
        cmocka_unit_test(test_another_nodes_directory_is_refused),
        cmocka_unit_test(test_an_identity_of_the_older_format_is_taken_over),
        cmocka_unit_test(test_a_newer_or_foreign_file_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
