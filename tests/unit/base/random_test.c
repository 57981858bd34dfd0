/* Tests of base/random.h. */
#include "base/random.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <string.h>

static void test_sequence_is_that_of_the_reference_implementation(void **state)
{
    struct random random = {.state = {1, 2, 3, 4}};
    static const uint64_t expected[] = {11520, 0, 1509978240, UINT64_C(1215971899390074240)};
    for (size_t i = 0; i < sizeof(expected) / sizeof(expected[0]); i++) {
        assert_true(random_next(&random) == expected[i]);
    }
}

static void test_a_seed_gives_the_same_sequence_again(void **state)
{
    struct random a;
    struct random b;
    struct random c;
    random_seed(&a, 7);
    random_seed(&b, 7);
    random_seed(&c, 8);
    int same_as_c = 0;
    for (int i = 0; i < 1000; i++) {
        uint64_t value = random_next(&a);
        assert_true(value == random_next(&b));
        same_as_c += value == random_next(&c);
    }
    assert_int_equal(same_as_c, 0);
}

static void test_seed_zero_is_as_good_as_any(void **state)
{
    struct random random;
    random_seed(&random, 0);
    uint64_t seen = 0;
    for (int i = 0; i < 64; i++) {
        seen |= random_next(&random);
    }
    assert_true(seen == UINT64_MAX);
}

static void test_below_stays_below_and_reaches_everything(void **state)
{
    struct random random;
    random_seed(&random, 1);
    int seen[7] = {0};
    for (int i = 0; i < 7000; i++) {
        uint64_t value = random_below(&random, 7);
        assert_true(value < 7);
        seen[value]++;
    }
    for (int i = 0; i < 7; i++) {
        assert_in_range(seen[i], 800, 1200);
    }
    assert_int_equal(random_below(&random, 1), 0);
    assert_true(random_below(&random, UINT64_MAX) < UINT64_MAX);
}

static void test_random_bytes_fill_everything_and_differ(void **state)
{
    uint8_t a[1024] = {0};
    uint8_t b[1024] = {0};
    random_bytes(a, sizeof(a));
    random_bytes(b, sizeof(b));
    random_bytes(b, 0);
    assert_memory_not_equal(a, b, sizeof(a));
    static const uint8_t zeros[16] = {0};
    assert_memory_not_equal(a + sizeof(a) - sizeof(zeros), zeros, sizeof(zeros));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_sequence_is_that_of_the_reference_implementation),
        cmocka_unit_test(test_a_seed_gives_the_same_sequence_again),
        cmocka_unit_test(test_seed_zero_is_as_good_as_any),
        cmocka_unit_test(test_below_stays_below_and_reaches_everything),
        cmocka_unit_test(test_random_bytes_fill_everything_and_differ),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
