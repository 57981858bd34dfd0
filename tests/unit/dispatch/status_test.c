/* What a node says of itself, as long as its thread turns and when it does not. */
#include "base/log.h"
#include "dispatch_testing.h"

struct counter {
    struct dispatch_watcher watcher; /* first */
    int told;
};

static void count(struct dispatch_watcher *watcher)
{
    ((struct counter *)(void *)watcher)->told++;
}

/* A leader whose last turn was so long ago. */
static void set_turn_age(struct testing *testing, uint64_t age_ns)
{
    pthread_mutex_lock(&node_status_lock);
    struct node_status *status = &testing->node.status;
    status->raft.role = RAFT_LEADER;
    status->raft.leader = 0;
    status->raft.has_quorum = true;
    status->is_ready = true;
    status->is_caught_up = true;
    status->taken_ns = clock_monotonic_ns(clock_system()) - age_ns;
    pthread_mutex_unlock(&node_status_lock);
}

static void assert_claims_nothing(const struct dispatch_node_status *status)
{
    assert_true(status->is_stale);
    assert_string_equal(status->role, "follower");
    assert_string_equal(status->state, "FOLLOWER");
    assert_false(status->is_leader);
    assert_false(status->has_leader);
    assert_string_equal(status->leader_id, "");
    assert_string_equal(status->leader_grpc_addr, "");
    assert_string_equal(status->leader_raft_addr, "");
    assert_false(status->has_quorum);
    assert_false(status->is_ready);
    assert_false(status->is_caught_up);
    for (size_t i = 0; i < status->member_count; i++) {
        assert_false(status->members[i].is_leader);
    }
}

static void test_a_leader_that_turns_says_so(void **state)
{
    struct testing testing;
    testing_open_with(&testing, 60 * NS_PER_S);
    set_turn_age(&testing, 0);
    struct dispatch_node_status status;
    dispatch_get_node_status(testing.dispatch, &status);
    assert_false(status.is_stale);
    assert_string_equal(status.role, "leader");
    assert_true(status.is_leader);
    assert_string_equal(status.leader_id, "node1");
    assert_true(status.has_quorum);
    assert_true(status.is_ready);
    testing_close(&testing);
}

static void test_a_status_of_three_election_timeouts_ago_claims_nothing(void **state)
{
    struct testing testing;
    testing_open_with(&testing, 100 * NS_PER_MS);
    set_turn_age(&testing, 300 * NS_PER_MS);
    struct dispatch_node_status status;
    dispatch_get_node_status(testing.dispatch, &status);
    assert_claims_nothing(&status);
    assert_in_range(status.turn_age_ms, 300, 100000);
    testing_close(&testing);
}

static void test_watchers_are_told_when_it_grows_old_and_when_it_is_back(void **state)
{
    struct testing testing;
    struct counter counter = {.watcher = {.changed = count}};
    testing_open_with(&testing, 10 * NS_PER_S);
    dispatch_watch(testing.dispatch, &counter.watcher);
    set_turn_age(&testing, 0);
    dispatch_look_at_age(testing.dispatch);
    assert_int_equal(counter.told, 0);
    set_turn_age(&testing, 30 * NS_PER_S);
    for (int i = 0; i < 3; i++) {
        dispatch_look_at_age(testing.dispatch);
        assert_int_equal(counter.told, 1);
    }
    set_turn_age(&testing, 0);
    for (int i = 0; i < 3; i++) {
        dispatch_look_at_age(testing.dispatch);
        assert_int_equal(counter.told, 2);
    }
    dispatch_unwatch(testing.dispatch, &counter.watcher);
    testing_close(&testing);
}

int main(void)
{
    log_init(false, LOG_LEVEL_ERROR);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_leader_that_turns_says_so),
        cmocka_unit_test(test_a_status_of_three_election_timeouts_ago_claims_nothing),
        cmocka_unit_test(test_watchers_are_told_when_it_grows_old_and_when_it_is_back),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
