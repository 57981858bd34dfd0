/* Tests of base/check.h. */
#include "base/check.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

static void test_true_condition_passes(void **state)
{
    CHECK(1 + 1 == 2);
}

static void test_false_condition_prints_itself_and_its_place_and_aborts(void **state)
{
    int ends[2];
    assert_int_equal(pipe(ends), 0);
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        dup2(ends[1], STDERR_FILENO);
        signal(SIGABRT, SIG_DFL);
        CHECK(child == 42);
        _exit(0);
    }
    close(ends[1]);
    char text[256] = "";
    assert_true(read(ends[0], text, sizeof(text) - 1) > 0);
    close(ends[0]);
    int status = 0;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFSIGNALED(status));
    assert_int_equal(WTERMSIG(status), SIGABRT);
    assert_non_null(strstr(text, "check failed: child == 42 (tests/unit/base/check_test.c:"));
}

static void test_a_full_stderr_does_not_keep_a_failed_check_from_aborting(void **state)
{
    int ends[2];
    assert_int_equal(pipe(ends), 0);
    static const char page[4096];
    fcntl(ends[1], F_SETPIPE_SZ, sizeof(page));
    assert_int_equal(write(ends[1], page, sizeof(page)), sizeof(page));
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        dup2(ends[1], STDERR_FILENO);
        signal(SIGABRT, SIG_DFL);
        alarm(60); /* ends it otherwise, if it waits for the reader */
        CHECK(child == 42);
        _exit(0);
    }
    int status = 0;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFSIGNALED(status));
    assert_int_equal(WTERMSIG(status), SIGABRT);
    close(ends[0]);
    close(ends[1]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_true_condition_passes),
        cmocka_unit_test(test_a_full_stderr_does_not_keep_a_failed_check_from_aborting),
        cmocka_unit_test(test_false_condition_prints_itself_and_its_place_and_aborts),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
