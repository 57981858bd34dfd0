/* The test file systems themselves: what they promise the tests that build on them. */
#include "base/errors.h"
#include "lib/fs_faulty.h"
#include "lib/fs_memory.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <string.h>

static struct fs_file *create(struct fs *fs, const char *path, char fill, size_t size)
{
    struct fs_file *file;
    char data[4096];
    memset(data, fill, sizeof(data));
    assert_int_equal(fs->ops->make_dir(fs, "a/b"), 0);
    assert_int_equal(fs->ops->open(fs, path, FS_OPEN_CREATE, &file), 0);
    assert_int_equal(fs->ops->write_at(fs, file, 0, data, size), 0);
    return file;
}

static bool exists(struct fs *fs, const char *path)
{
    struct fs_file *file;
    if (fs->ops->open(fs, path, FS_OPEN_READ, &file) != 0) {
        return false;
    }
    fs->ops->close(fs, file);
    return true;
}

static void test_what_is_synced_survives_every_power_cut(void **state)
{
    for (uint64_t seed = 0; seed < 50; seed++) {
        struct random random;
        random_seed(&random, seed);
        struct fs_memory *memory = fs_memory_create();
        struct fs *fs = fs_memory_fs(memory);
        struct fs_file *file = create(fs, "a/b/c", 'x', 3000);
        assert_int_equal(fs->ops->sync(fs, file), 0);
        assert_int_equal(fs->ops->sync_dir(fs, "a/b"), 0);
        fs->ops->close(fs, file);
        fs_memory_power_cut(memory, &random);
        const uint8_t *data;
        uint64_t size;
        assert_int_equal(fs_memory_peek(memory, "a/b/c", &data, &size), 0);
        assert_int_equal(size, 3000);
        assert_int_equal(data[0], 'x');
        assert_int_equal(data[2999], 'x');
        fs_memory_destroy(memory);
    }
}

static void test_what_is_not_synced_is_lost_in_part_by_whole_sectors(void **state)
{
    unsigned names = 0;
    unsigned old_sectors = 0;
    unsigned new_sectors = 0;
    for (uint64_t seed = 0; seed < 50; seed++) {
        struct random random;
        random_seed(&random, seed);
        struct fs_memory *memory = fs_memory_create();
        struct fs *fs = fs_memory_fs(memory);
        struct fs_file *file = create(fs, "a/b/c", 'x', 2048);
        assert_int_equal(fs->ops->sync(fs, file), 0);
        assert_int_equal(fs->ops->sync_dir(fs, "a/b"), 0);
        char data[2048];
        memset(data, 'y', sizeof(data));
        assert_int_equal(fs->ops->write_at(fs, file, 0, data, sizeof(data)), 0);
        fs->ops->close(fs, file);
        assert_int_equal(fs->ops->rename(fs, "a/b/c", "a/b/d"), 0);
        fs_memory_power_cut(memory, &random);
        const char *path = exists(fs, "a/b/d") ? "a/b/d" : "a/b/c";
        names += path[4] == 'd';
        assert_int_equal(exists(fs, "a/b/c"), path[4] == 'c');
        const uint8_t *kept;
        uint64_t size;
        assert_int_equal(fs_memory_peek(memory, path, &kept, &size), 0);
        assert_int_equal(size, 2048);
        for (size_t at = 0; at < 2048; at += 512) {
            old_sectors += kept[at] == 'x';
            new_sectors += kept[at] == 'y';
            assert_int_equal(kept[at], kept[at + 511]);
        }
        fs_memory_destroy(memory);
    }
    assert_in_range(names, 10, 40);
    assert_in_range(old_sectors, 60, 140);
    assert_int_equal(old_sectors + new_sectors, 200);
}

static void test_a_killed_process_loses_its_locks_and_nothing_else(void **state)
{
    struct fs_memory *memory = fs_memory_create();
    struct fs *fs = fs_memory_fs(memory);
    struct fs_file *file = create(fs, "a/b/c", 'x', 100);
    struct fs_file *lock;
    struct fs_file *other;
    assert_int_equal(fs->ops->lock(fs, "a/lock", &lock), 0);
    assert_int_equal(fs->ops->lock(fs, "a/lock", &other), ERR_LOCKED);
    fs_memory_kill(memory);
    assert_int_equal(fs->ops->write_at(fs, file, 0, "z", 1), ERR_IO);
    fs->ops->close(fs, file);
    fs->ops->unlock(fs, lock);
    assert_int_equal(fs->ops->lock(fs, "a/lock", &lock), 0);
    fs->ops->unlock(fs, lock);
    assert_true(exists(fs, "a/b/c"));
    fs_memory_destroy(memory);
}

static void test_a_clone_is_independent_and_loses_the_same(void **state)
{
    struct fs_memory *memory = fs_memory_create();
    struct fs *fs = fs_memory_fs(memory);
    struct fs_file *file = create(fs, "a/b/c", 'x', 4096);
    fs->ops->close(fs, file);
    assert_int_equal(fs->ops->sync_dir(fs, "a/b"), 0);
    struct fs_memory *clone = fs_memory_clone(memory);
    struct random random;
    random_seed(&random, 5);
    fs_memory_power_cut(clone, &random);
    random_seed(&random, 5);
    const uint8_t *mine;
    uint64_t size;
    assert_int_equal(fs_memory_peek(memory, "a/b/c", &mine, &size), 0);
    assert_int_equal(mine[4095], 'x');
    fs_memory_power_cut(memory, &random);
    const uint8_t *theirs;
    uint64_t other;
    assert_int_equal(fs_memory_peek(memory, "a/b/c", &mine, &size), 0);
    assert_int_equal(fs_memory_peek(clone, "a/b/c", &theirs, &other), 0);
    assert_int_equal(size, other);
    assert_memory_equal(mine, theirs, size);
    fs_memory_destroy(clone);
    fs_memory_destroy(memory);
}

static void test_a_directory_moves_with_its_files(void **state)
{
    struct fs_memory *memory = fs_memory_create();
    struct fs *fs = fs_memory_fs(memory);
    fs->ops->close(fs, create(fs, "a/b/c", 'x', 10));
    assert_int_equal(fs->ops->rename(fs, "a/b", "a/damaged"), 0);
    assert_false(exists(fs, "a/b/c"));
    assert_true(exists(fs, "a/damaged/c"));
    assert_int_equal(fs->ops->rename(fs, "a/b", "a/x"), ERR_NOT_FOUND);
    fs_memory_destroy(memory);
}

static void test_the_nth_call_fails_with_the_chosen_effect(void **state)
{
    struct fs_memory *memory = fs_memory_create();
    struct fs_faulty faulty;
    fs_faulty_init(&faulty, fs_memory_fs(memory));
    struct fs *fs = &faulty.fs;
    struct fs_file *file = create(fs, "a/b/c", 'x', 2048);
    char data[2048];
    memset(data, 'y', sizeof(data));
    fs_faulty_arm(&faulty, 2, ERR_NO_SPACE, FS_FAULTY_PART, true);
    uint64_t size;
    assert_int_equal(fs->ops->size(fs, file, &size), 0);
    assert_int_equal(fs->ops->write_at(fs, file, 0, data, sizeof(data)), ERR_NO_SPACE);
    assert_int_equal(fs->ops->size(fs, file, &size), ERR_NO_SPACE);
    fs_faulty_arm(&faulty, 0, ERR_IO, FS_FAULTY_NOTHING, false);
    assert_int_equal(fs->ops->read_at(fs, file, 0, data, sizeof(data)), 0);
    assert_int_equal(data[1023], 'y');
    assert_int_equal(data[1024], 'x');
    fs->ops->close(fs, file);
    fs_faulty_arm(&faulty, 1, ERR_IO, FS_FAULTY_WHOLE, false);
    assert_int_equal(fs->ops->remove(fs, "a/b/c"), ERR_IO);
    assert_false(exists(fs, "a/b/c"));
    fs_memory_destroy(memory);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_what_is_synced_survives_every_power_cut),
        cmocka_unit_test(test_what_is_not_synced_is_lost_in_part_by_whole_sectors),
        cmocka_unit_test(test_a_killed_process_loses_its_locks_and_nothing_else),
        cmocka_unit_test(test_a_clone_is_independent_and_loses_the_same),
        cmocka_unit_test(test_a_directory_moves_with_its_files),
        cmocka_unit_test(test_the_nth_call_fails_with_the_chosen_effect),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
