/* Nodes that are stopped, one or all at once. */
#include "node_testing.h"

#define HOPE_NS (2 * NS_PER_S) /* more than three election timeouts */

static void test_all_that_drain_at_once_know_soon_that_nobody_will_lead(void **state)
{
    struct net *net = net_create();
    int leader = net_await_leader(net);
    net_run(net, 100 * NS_PER_MS);
    struct net_call accepted;
    net_call(net, leader, &accepted, "a");
    for (int i = 0; i < NET_MEMBERS; i++) {
        node_drain(net->nodes[i].node);
    }
    net_run(net, 100 * NS_PER_MS);
    assert_true(accepted.is_done);
    assert_int_equal(accepted.request.outcome, NODE_OK);
    assert_true(node_is_drained(net->nodes[leader].node));
    assert_true(node_is_hopeless(net->nodes[leader].node));
    for (int i = 1; i < NET_MEMBERS; i++) {
        int follower = (leader + i) % NET_MEMBERS;
        struct net_call late;
        net_call(net, follower, &late, "b");
        net_run(net, 20 * NS_PER_MS);
        assert_true(late.is_done);
        assert_int_equal(late.request.outcome, NODE_DRAINING);
        assert_true(node_is_hopeless(net->nodes[follower].node));
        assert_true(node_is_drained(net->nodes[follower].node));
        net_finish_call(&late);
    }
    net_finish_call(&accepted);
    net_destroy(net);
}

static void test_who_drains_alone_hands_over_and_is_not_hopeless(void **state)
{
    struct net *net = net_create();
    int leader = net_await_leader(net);
    net_run(net, 100 * NS_PER_MS);
    node_drain(net->nodes[leader].node);
    net_run(net, 100 * NS_PER_MS);
    struct net_call late;
    net_call(net, leader, &late, "b");
    net_run(net, 50 * NS_PER_MS);
    assert_true(late.is_done);
    assert_int_equal(late.request.outcome, NODE_OK); /* forwarded to the next */
    assert_true(node_is_drained(net->nodes[leader].node));
    assert_false(node_is_hopeless(net->nodes[leader].node));
    net_finish_call(&late);
    net_destroy(net);
}

static void test_who_drains_waits_for_a_quorum_only_so_long(void **state)
{
    struct net *net = net_create();
    int leader = net_await_leader(net);
    net_run(net, 100 * NS_PER_MS);
    net_isolate(net, leader);
    struct net_call pending;
    net_call(net, leader, &pending, "a");
    net_run(net, NS_PER_MS);
    node_drain(net->nodes[leader].node);
    net_run(net, 2 * HOPE_NS);
    assert_true(pending.is_done);
    assert_int_equal(pending.request.outcome, NODE_COMMIT_UNKNOWN);
    assert_true(node_is_drained(net->nodes[leader].node));
    struct net_call late;
    net_call(net, leader, &late, "b");
    net_run(net, NS_PER_MS);
    assert_true(late.is_done);
    assert_int_equal(late.request.outcome, NODE_DRAINING);
    net_finish_call(&pending);
    net_finish_call(&late);
    net_destroy(net);
}

int main(void)
{
    log_init(false, LOG_LEVEL_ERROR);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_all_that_drain_at_once_know_soon_that_nobody_will_lead),
        cmocka_unit_test(test_who_drains_alone_hands_over_and_is_not_hopeless),
        cmocka_unit_test(test_who_drains_waits_for_a_quorum_only_so_long),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
