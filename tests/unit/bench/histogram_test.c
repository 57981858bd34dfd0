/* Tests of bench/histogram.h. */
#include "bench/histogram.h"

#include "base/random.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>

#include <cmocka.h>

/* Half of a bucket's relative width is not asked for: a quantile is the top of its bucket. */
static void assert_close(uint64_t value, uint64_t expected)
{
    uint64_t difference = value > expected ? value - expected : expected - value;
    if (difference * 100 > expected) {
        fail_msg("%llu is not within 1 %% of %llu", (unsigned long long)value,
                 (unsigned long long)expected);
    }
}

static int compare(const void *a, const void *b)
{
    uint64_t left = *(const uint64_t *)a;
    uint64_t right = *(const uint64_t *)b;
    return left < right ? -1 : left > right;
}

static void test_an_empty_histogram_answers_zero(void **state)
{
    static struct histogram histogram;
    histogram_init(&histogram);
    assert_int_equal(histogram_quantile(&histogram, 0.5), 0);
    assert_true(histogram_mean(&histogram) == 0);
}

static void test_small_values_are_exact(void **state)
{
    static struct histogram histogram;
    histogram_init(&histogram);
    for (uint64_t value = 1; value <= 200; value++) {
        histogram_add(&histogram, value);
    }
    assert_int_equal(histogram_quantile(&histogram, 0.5), 100);
    assert_int_equal(histogram_quantile(&histogram, 0.99), 198);
    assert_int_equal(histogram_quantile(&histogram, 1), 200);
    assert_int_equal(histogram.min, 1);
    assert_int_equal(histogram.max, 200);
}

static void test_every_single_value_is_known_to_one_percent(void **state)
{
    static struct histogram histogram;
    for (uint64_t value = 1; value < HISTOGRAM_VALUE_MAX; value += 1 + value / 3) {
        histogram_init(&histogram);
        histogram_add(&histogram, value);
        /* A larger one, so that the maximum does not hide what the bucket says. */
        histogram_add(&histogram, HISTOGRAM_VALUE_MAX);
        assert_close(histogram_quantile(&histogram, 0.5), value);
        assert_true(histogram_quantile(&histogram, 0.5) >= value);
    }
}

static void test_quantiles_are_those_of_the_sorted_values(void **state)
{
    enum { COUNT = 20000 };
    static struct histogram histogram;
    static uint64_t values[COUNT];
    struct random random;
    random_seed(&random, 42);
    histogram_init(&histogram);
    for (size_t i = 0; i < COUNT; i++) {
        values[i] = 1 + random_below(&random, UINT64_C(1) << (10 + random_below(&random, 25)));
        histogram_add(&histogram, values[i]);
    }
    qsort(values, COUNT, sizeof(values[0]), compare);
    static const double quantiles[] = {0.01, 0.25, 0.5, 0.9, 0.99, 0.999, 1};
    for (size_t i = 0; i < sizeof(quantiles) / sizeof(quantiles[0]); i++) {
        size_t rank = (size_t)(quantiles[i] * COUNT + 0.5);
        assert_close(histogram_quantile(&histogram, quantiles[i]), values[rank - 1]);
    }
    assert_int_equal(histogram_quantile(&histogram, 1), values[COUNT - 1]);
}

static void test_a_value_over_the_limit_counts_as_the_limit(void **state)
{
    static struct histogram histogram;
    histogram_init(&histogram);
    histogram_add(&histogram, UINT64_MAX);
    assert_int_equal(histogram.max, HISTOGRAM_VALUE_MAX);
    assert_int_equal(histogram_quantile(&histogram, 0.5), HISTOGRAM_VALUE_MAX);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_an_empty_histogram_answers_zero),
        cmocka_unit_test(test_small_values_are_exact),
        cmocka_unit_test(test_every_single_value_is_known_to_one_percent),
        cmocka_unit_test(test_quantiles_are_those_of_the_sorted_values),
        cmocka_unit_test(test_a_value_over_the_limit_counts_as_the_limit),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
