/* Tests of rpc/loop.h. */
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

static int turns;
static uint64_t turn_again_ns;
static pthread_t turn_thread;

/* Asks for the next turn while it runs, five times; then by time. */
static uint64_t take_turn(void *context)
{
    turn_thread = pthread_self();
    CHANGE(turns++);
    if (turns < 5) {
        rpc_loop_turn_soon(loop);
    }
    return turns == 5 ? turn_again_ns : UINT64_MAX;
}

static void remember_thread(void *context)
{
    CHANGE(*(pthread_t *)context = pthread_self());
}

static void test_turns_run_on_the_thread_when_asked_for_and_by_time(void **state)
{
    turns = 0;
    uint64_t due_ns = now_ns() + 80 * NS_PER_MS;
    turn_again_ns = due_ns;
    rpc_loop_turn_soon(loop); /* nobody takes it yet */
    rpc_loop_set_turn(loop, take_turn, NULL);
    AWAIT(turns == 6);
    assert_true(now_ns() >= due_ns);
    pthread_t thread = pthread_self();
    assert_int_equal(rpc_loop_post(loop, 0, remember_thread, &thread), 0);
    AWAIT(!pthread_equal(thread, pthread_self()));
    assert_true(pthread_equal(thread, turn_thread));
    rpc_loop_turn_soon(loop);
    AWAIT(turns == 7);
}

static void test_no_turn_runs_after_it_was_taken_back(void **state)
{
    turns = 10;
    rpc_loop_set_turn(loop, take_turn, NULL);
    AWAIT(turns > 10);
    rpc_loop_set_turn(loop, NULL, NULL);
    int before = turns;
    rpc_loop_turn_soon(loop);
    struct job job = {.number = 3};
    /* Later than the turn that was asked for would be. */
    assert_int_equal(rpc_loop_post(loop, now_ns() + 20 * NS_PER_MS, run_job, &job), 0);
    AWAIT(ran == 1);
    assert_int_equal(turns, before);
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
        cmocka_unit_test_setup_teardown(test_turns_run_on_the_thread_when_asked_for_and_by_time,
                                        setup, teardown),
        cmocka_unit_test_setup_teardown(test_no_turn_runs_after_it_was_taken_back, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
