/* Tests of base/latency.h. */
#include "base/latency.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <pthread.h>

static void test_bounds_ascend(void **state)
{
    for (size_t i = 1; i < LATENCY_BOUNDS; i++) {
        assert_true(latency_bounds_ns[i] > latency_bounds_ns[i - 1]);
    }
}

static void test_zeroed_memory_is_empty(void **state)
{
    struct latency latency = {0};
    struct latency_counts counts;
    latency_read(&latency, &counts);
    assert_int_equal(counts.count, 0);
    assert_int_equal(counts.sum_ns, 0);
}

static void test_a_duration_counts_in_the_first_bucket_that_holds_it(void **state)
{
    struct latency latency = {0};
    struct latency_counts counts;
    for (size_t i = 0; i < LATENCY_BOUNDS; i++) {
        latency_record(&latency, latency_bounds_ns[i]);
        latency_record(&latency, latency_bounds_ns[i] + 1);
    }
    latency_read(&latency, &counts);
    assert_int_equal(counts.buckets[0], 1);
    for (size_t i = 1; i < LATENCY_BOUNDS; i++) {
        assert_int_equal(counts.buckets[i], 2);
    }
    assert_int_equal(counts.buckets[LATENCY_BOUNDS], 1);
    assert_int_equal(counts.count, 2 * LATENCY_BOUNDS);
}

static void test_extremes_have_a_bucket_and_the_sum_is_exact(void **state)
{
    struct latency latency = {0};
    struct latency_counts counts;
    uint64_t hour_ns = UINT64_C(3600000000000);
    latency_record(&latency, 0);
    latency_record(&latency, hour_ns);
    latency_record(&latency, 7);
    latency_read(&latency, &counts);
    assert_int_equal(counts.buckets[0], 2);
    assert_int_equal(counts.buckets[LATENCY_BOUNDS], 1);
    assert_true(counts.sum_ns == hour_ns + 7);
}

#define RECORDS 200000

static void *record_many(void *context)
{
    for (uint64_t i = 0; i < RECORDS; i++) {
        latency_record(context, i);
    }
    return NULL;
}

static void test_a_reader_sees_counts_that_only_grow(void **state)
{
    static struct latency latency;
    struct latency_counts counts;
    pthread_t writer;
    assert_int_equal(pthread_create(&writer, NULL, record_many, &latency), 0);
    uint64_t last = 0;
    do {
        latency_read(&latency, &counts);
        assert_true(counts.count >= last);
        last = counts.count;
    } while (last < RECORDS);
    pthread_join(writer, NULL);
    latency_read(&latency, &counts);
    assert_true(counts.sum_ns == (uint64_t)RECORDS * (RECORDS - 1) / 2);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_bounds_ascend),
        cmocka_unit_test(test_zeroed_memory_is_empty),
        cmocka_unit_test(test_a_duration_counts_in_the_first_bucket_that_holds_it),
        cmocka_unit_test(test_extremes_have_a_bucket_and_the_sum_is_exact),
        cmocka_unit_test(test_a_reader_sees_counts_that_only_grow),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
