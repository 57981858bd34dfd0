/* Tests of base/budget.h. */
#include "base/budget.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <pthread.h>

static void test_takes_up_to_the_limit_and_no_byte_more(void **state)
{
    struct budget budget;
    budget_init(&budget, 100);
    assert_true(budget_take(&budget, 60));
    assert_false(budget_take(&budget, 41));
    assert_true(budget_take(&budget, 40));
    assert_false(budget_take(&budget, 1));
    assert_true(budget_take(&budget, 0));
    assert_int_equal(budget_used(&budget), 100);
    assert_int_equal(atomic_load(&budget.refused_total), 2);
}

static void test_a_refusal_takes_nothing(void **state)
{
    struct budget budget;
    budget_init(&budget, 10);
    assert_false(budget_take(&budget, UINT64_MAX));
    assert_int_equal(budget_used(&budget), 0);
    assert_true(budget_take(&budget, 10));
    budget_give(&budget, 10);
    assert_int_equal(budget_used(&budget), 0);
}

static void test_what_is_taken_over_the_limit_has_later_takers_refused(void **state)
{
    struct budget budget;
    budget_init(&budget, 10);
    budget_take_over(&budget, 25);
    assert_int_equal(budget_used(&budget), 25);
    assert_false(budget_take(&budget, 0));
    budget_give(&budget, 20);
    assert_true(budget_take(&budget, 5));
    assert_false(budget_take(&budget, 1));
}

#define THREADS 4
#define ROUNDS 50000

static void *take_and_give(void *context)
{
    struct budget *budget = context;
    for (int i = 0; i < ROUNDS; i++) {
        if (budget_take(budget, 3)) {
            if (budget_used(budget) > 10) {
                return budget;
            }
            budget_give(budget, 3);
        }
    }
    return NULL;
}

static void test_threads_never_exceed_the_limit_together(void **state)
{
    struct budget budget;
    pthread_t threads[THREADS];
    budget_init(&budget, 10);
    for (int i = 0; i < THREADS; i++) {
        assert_int_equal(pthread_create(&threads[i], NULL, take_and_give, &budget), 0);
    }
    for (int i = 0; i < THREADS; i++) {
        void *fault = NULL;
        pthread_join(threads[i], &fault);
        assert_null(fault);
    }
    assert_int_equal(budget_used(&budget), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_takes_up_to_the_limit_and_no_byte_more),
        cmocka_unit_test(test_a_refusal_takes_nothing),
        cmocka_unit_test(test_what_is_taken_over_the_limit_has_later_takers_refused),
        cmocka_unit_test(test_threads_never_exceed_the_limit_together),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
