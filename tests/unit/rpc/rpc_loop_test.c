#include "unit/rpc/rpc_testing.h"

static struct rpc_loop *loop;
static int order[8];
static int ran;

struct job {
    int number;
    uint64_t ran_ns;
};

static void run_job(void *context)
{
    struct job *job = context;
    job->ran_ns = now_ns();
    CHANGE(order[ran++] = job->number);
}

static int setup(void **state)
{
    ran = 0;
    return rpc_loop_create("test-loop", &loop);
}

static int teardown(void **state)
{
    rpc_loop_destroy(loop);
    return 0;
}

static void test_posts_run_in_order(void **state)
{
    struct job jobs[8];
    for (int i = 0; i < 8; i++) {
        jobs[i].number = i;
        assert_int_equal(rpc_loop_post(loop, 0, run_job, &jobs[i]), 0);
    }
    AWAIT(ran == 8);
    for (int i = 0; i < 8; i++) {
        assert_int_equal(order[i], i);
    }
}

static void test_posts_run_by_deadline_and_not_before(void **state)
{
    uint64_t start_ns = now_ns();
    struct job late = {.number = 1};
    struct job soon = {.number = 0};
    assert_int_equal(rpc_loop_post(loop, start_ns + 120 * NS_PER_MS, run_job, &late), 0);
    assert_int_equal(rpc_loop_post(loop, start_ns + 40 * NS_PER_MS, run_job, &soon), 0);
    AWAIT(ran == 2);
    assert_int_equal(order[0], 0);
    assert_int_equal(order[1], 1);
    assert_true(soon.ran_ns >= start_ns + 40 * NS_PER_MS);
    assert_true(late.ran_ns >= start_ns + 120 * NS_PER_MS);
    print_message("late by %d us\n", (int)((late.ran_ns - start_ns - 120 * NS_PER_MS) / 1000));
}

static void repost(void *context)
{
    int rc = rpc_loop_post(loop, 0, repost, context);
    CHANGE(ran += rc == 0);
}

static void test_reposting_ends_with_the_loop(void **state)
{
    assert_int_equal(rpc_loop_post(loop, 0, repost, NULL), 0);
    AWAIT(ran >= 100);
}

static void test_destroy_runs_what_was_not_due(void **state)
{
    struct rpc_loop *other;
    struct job job = {.number = 7};
    assert_int_equal(rpc_loop_create("test-other", &other), 0);
    assert_int_equal(rpc_loop_post(other, now_ns() + 3600 * NS_PER_S, run_job, &job), 0);
    assert_int_equal(rpc_loop_post(other, UINT64_MAX, run_job, &job), 0);
    rpc_loop_destroy(other);
    assert_int_equal(ran, 2);
}

static void test_a_sharing_loop_runs_its_own_posts_when_it_is_destroyed(void **state)
{
    struct rpc_loop *sharing;
    assert_int_equal(rpc_loop_share(loop, &sharing), 0);
    struct job of_host = {.number = 1};
    struct job of_sharing = {.number = 0};
    uint64_t never_ns = now_ns() + 3600 * NS_PER_S;
    assert_int_equal(rpc_loop_post(loop, never_ns, run_job, &of_host), 0);
    assert_int_equal(rpc_loop_post(sharing, never_ns, run_job, &of_sharing), 0);
    rpc_loop_destroy(sharing);
    assert_int_equal(ran, 1);
    assert_int_equal(order[0], 0);
    rpc_loop_destroy(loop);
    assert_int_equal(ran, 2);
    assert_int_equal(order[1], 1);
    loop = NULL;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_posts_run_in_order, setup, teardown),
        cmocka_unit_test_setup_teardown(test_posts_run_by_deadline_and_not_before, setup, teardown),
        cmocka_unit_test_setup_teardown(test_reposting_ends_with_the_loop, setup, teardown),
        cmocka_unit_test_setup_teardown(test_a_sharing_loop_runs_its_own_posts_when_it_is_destroyed,
                                        setup, teardown),
        cmocka_unit_test_setup_teardown(test_destroy_runs_what_was_not_due, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
