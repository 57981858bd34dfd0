/* Tests of the real file system behind fs.h. */
#include "storage/fs.h"

#include "base/errors.h"
#include "lib/scratch.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

struct place {
    char dir[64];
    char path[128];
};

static int setup(void **state)
{
    struct place *place = calloc(1, sizeof(*place));
    scratch_make_dir(place->dir, sizeof(place->dir), "raftogram-fs");
    *state = place;
    return 0;
}

static int teardown(void **state)
{
    struct place *place = *state;
    char command[128];
    snprintf(command, sizeof(command), "rm -rf '%s'", place->dir);
    int rc = system(command);
    free(place);
    return rc;
}

static const char *path_of(struct place *place, const char *name)
{
    snprintf(place->path, sizeof(place->path), "%s/%s", place->dir, name);
    return place->path;
}

static void test_what_is_written_is_read_back(void **state)
{
    struct place *place = *state;
    struct fs *fs = fs_posix();
    struct fs_file *file;
    assert_int_equal(fs->ops->open(fs, path_of(place, "a"), FS_OPEN_CREATE, &file), 0);
    assert_int_equal(fs->ops->write_at(fs, file, 1000, "hello", 5), 0);
    assert_int_equal(fs->ops->sync(fs, file), 0);
    uint64_t size = 0;
    assert_int_equal(fs->ops->size(fs, file, &size), 0);
    assert_int_equal(size, 1005);
    char data[6] = {0};
    assert_int_equal(fs->ops->read_at(fs, file, 1000, data, 5), 0);
    assert_string_equal(data, "hello");
    assert_int_equal(fs->ops->read_at(fs, file, 1001, data, 5), ERR_CORRUPT);
    assert_int_equal(fs->ops->truncate(fs, file, 10), 0);
    assert_int_equal(fs->ops->size(fs, file, &size), 0);
    assert_int_equal(size, 10);
    fs->ops->close(fs, file);
    struct stat status;
    assert_int_equal(stat(place->path, &status), 0);
    assert_int_equal(status.st_mode & 0777, 0600);
}

static void test_open_tells_absent_from_existing(void **state)
{
    struct place *place = *state;
    struct fs *fs = fs_posix();
    struct fs_file *file = NULL;
    assert_int_equal(fs->ops->open(fs, path_of(place, "a"), FS_OPEN_READ, &file), ERR_NOT_FOUND);
    assert_int_equal(fs->ops->open(fs, place->path, FS_OPEN_READ_WRITE, &file), ERR_NOT_FOUND);
    assert_null(file);
    assert_int_equal(fs->ops->open(fs, place->path, FS_OPEN_CREATE, &file), 0);
    fs->ops->close(fs, file);
    assert_int_equal(fs->ops->open(fs, place->path, FS_OPEN_CREATE, &file), ERR_EXISTS);
    assert_int_equal(fs->ops->remove(fs, place->path), 0);
    assert_int_equal(fs->ops->remove(fs, place->path), ERR_NOT_FOUND);
}

static void test_make_dir_makes_parents_that_only_we_can_read(void **state)
{
    struct place *place = *state;
    struct fs *fs = fs_posix();
    assert_int_equal(fs->ops->make_dir(fs, path_of(place, "x//y/z/")), 0);
    assert_int_equal(fs->ops->make_dir(fs, path_of(place, "x/y/z")), 0);
    struct stat status;
    assert_int_equal(stat(path_of(place, "x/y"), &status), 0);
    assert_int_equal(status.st_mode & 0777, 0700);
    struct fs_file *file;
    assert_int_equal(fs->ops->open(fs, path_of(place, "f"), FS_OPEN_CREATE, &file), 0);
    fs->ops->close(fs, file);
    assert_int_equal(fs->ops->make_dir(fs, path_of(place, "f")), ERR_EXISTS);
}

static int count_name(void *context, const char *name)
{
    int *count = context;
    (*count)++;
    return strcmp(name, "stop") == 0 ? ERR_FULL : 0;
}

static void test_list_dir_gives_each_name_once(void **state)
{
    struct place *place = *state;
    struct fs *fs = fs_posix();
    struct fs_file *file;
    int count = 0;
    assert_int_equal(fs->ops->list_dir(fs, place->dir, count_name, &count), 0);
    assert_int_equal(count, 0);
    assert_int_equal(fs->ops->open(fs, path_of(place, "a"), FS_OPEN_CREATE, &file), 0);
    fs->ops->close(fs, file);
    char from[128];
    strcpy(from, place->path);
    assert_int_equal(fs->ops->rename(fs, from, path_of(place, "stop")), 0);
    assert_int_equal(fs->ops->sync_dir(fs, place->dir), 0);
    assert_int_equal(fs->ops->list_dir(fs, place->dir, count_name, &count), ERR_FULL);
    assert_int_equal(count, 1);
    assert_int_equal(fs->ops->list_dir(fs, path_of(place, "none"), count_name, &count),
                     ERR_NOT_FOUND);
}

static void test_a_second_lock_is_refused_until_the_first_is_released(void **state)
{
    struct place *place = *state;
    struct fs *fs = fs_posix();
    struct fs_file *first;
    struct fs_file *second;
    assert_int_equal(fs->ops->lock(fs, path_of(place, "lock"), &first), 0);
    assert_int_equal(fs->ops->lock(fs, place->path, &second), ERR_LOCKED);
    fs->ops->unlock(fs, first);
    assert_int_equal(fs->ops->lock(fs, place->path, &second), 0);
    fs->ops->unlock(fs, second);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_what_is_written_is_read_back, setup, teardown),
        cmocka_unit_test_setup_teardown(test_open_tells_absent_from_existing, setup, teardown),
        cmocka_unit_test_setup_teardown(test_make_dir_makes_parents_that_only_we_can_read, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(test_list_dir_gives_each_name_once, setup, teardown),
        cmocka_unit_test_setup_teardown(test_a_second_lock_is_refused_until_the_first_is_released,
                                        setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
