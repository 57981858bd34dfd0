/* Tests of base/clock.h. */
#include "base/clock.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <time.h>

static void test_monotonic_clock_never_goes_back(void **state)
{
    uint64_t before = clock_monotonic_ns(clock_system());
    assert_true(before > 0);
    for (int i = 0; i < 10000; i++) {
        uint64_t now = clock_monotonic_ns(clock_system());
        assert_true(now >= before);
        before = now;
    }
}

static void test_wall_clock_counts_milliseconds_since_1970(void **state)
{
    int64_t before = (int64_t)time(NULL) * 1000;
    int64_t now = clock_wall_ms(clock_system());
    /* time(2) may lag behind clock_gettime(2) by a kernel tick. */
    assert_true(now >= before);
    assert_true(now < before + 60 * 1000);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_monotonic_clock_never_goes_back),
        cmocka_unit_test(test_wall_clock_counts_milliseconds_since_1970),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
