/* Where unit tests that need real files put them: in memory where there is room, since what they
 * test is not the disk, and a busy one makes each fsync take long. */
#ifndef RAFTOGRAM_TESTS_SCRATCH_H
#define RAFTOGRAM_TESTS_SCRATCH_H

#include <fcntl.h>
#include <limits.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <cmocka.h>

#define SCRATCH_FREE_BYTES (512u << 20)

static inline const char *scratch_root(void)
{
    struct statvfs stat;
    bool has_room = statvfs("/dev/shm", &stat) == 0 &&
                    (uint64_t)stat.f_bavail * stat.f_frsize >= SCRATCH_FREE_BYTES &&
                    access("/dev/shm", W_OK | X_OK) == 0;
    return has_room ? "/dev/shm" : "/tmp";
}

static inline void scratch_make_template(char *out, size_t size, const char *name)
{
    int length = snprintf(out, size, "%s/%s-XXXXXX", scratch_root(), name);
    assert_true(length > 0);
    assert_true((size_t)length < size);
}

/* Makes a directory whose name begins so; the test removes it. */
static inline void scratch_make_dir(char *out, size_t size, const char *name)
{
    scratch_make_template(out, size, name);
    assert_non_null(mkdtemp(out));
}

/* Makes a file, opened for appending; the test closes and removes it. */
static inline int scratch_make_file(char *out, size_t size, const char *name)
{
    scratch_make_template(out, size, name);
    int fd = mkostemp(out, O_APPEND);
    assert_true(fd >= 0);
    return fd;
}

#endif
