/* A node that has applied something else than the others. */
#include "node_testing.h"

#include <fcntl.h>

enum { BATCH = 128 };

/* Enough commands that a checkpoint is passed. */
static void pass_checkpoint(struct net *net)
{
    static struct net_call calls[BATCH];
    for (unsigned i = 0; i < NODE_CHECKPOINT_ENTRIES / BATCH + 1; i++) {
        int leader = net_await_leader(net);
        for (int call = 0; call < BATCH; call++) {
            net_call(net, leader, &calls[call], "x");
        }
        for (int wait = 0; wait < 1000 && !calls[BATCH - 1].is_done; wait++) {
            net_run(net, 10 * NS_PER_MS);
        }
        for (int call = 0; call < BATCH; call++) {
            net_finish_call(&calls[call]);
        }
    }
    net_run(net, 200 * NS_PER_MS);
}

static bool is_outvoted(struct net *net, int member)
{
    return node_is_outvoted(net->nodes[member].node);
}

static void expect_only_outvoted(struct net *net, int odd)
{
    for (int i = 0; i < NET_MEMBERS; i++) {
        struct node_status status = net_status(net, i);
        assert_int_equal(is_outvoted(net, i), i == odd);
        assert_int_equal(status.is_ready, i != odd);
        assert_int_equal(status.is_diverged && i != odd, false);
    }
}

static void test_nodes_that_agree_stay_as_they_are(void **state)
{
    struct net *net = net_create();
    int leader = net_await_leader(net);
    pass_checkpoint(net);
    expect_only_outvoted(net, -1);
    assert_int_equal(net_await_leader(net), leader);
    net_destroy(net);
}

static void test_a_follower_that_differs_is_outvoted(void **state)
{
    struct net *net = net_create();
    net->odd_one = (net_await_leader(net) + 1) % NET_MEMBERS;
    pass_checkpoint(net);
    expect_only_outvoted(net, net->odd_one);
    net_destroy(net);
}

/* Damage never spreads: not even from the leader. */
static void test_a_leader_that_differs_is_outvoted_and_leads_no_more(void **state)
{
    struct net *net = net_create();
    net->odd_one = net_await_leader(net);
    pass_checkpoint(net);
    net_run(net, NS_PER_S);
    assert_int_not_equal(net_await_leader(net), net->odd_one);
    expect_only_outvoted(net, net->odd_one);
    net_destroy(net);
}

static void test_of_two_that_differ_nobody_is_outvoted_until_the_third_is_back(void **state)
{
    struct net *net = net_create();
    int leader = net_await_leader(net);
    int third = (leader + 2) % NET_MEMBERS;
    net->odd_one = (leader + 1) % NET_MEMBERS;
    net_isolate(net, third);
    pass_checkpoint(net);
    assert_false(is_outvoted(net, leader));
    assert_false(is_outvoted(net, net->odd_one));
    assert_true(net_status(net, net->odd_one).is_diverged);
    assert_false(net_status(net, net->odd_one).is_ready);
    net_rejoin(net, third);
    net_run(net, NS_PER_S);
    pass_checkpoint(net);
    expect_only_outvoted(net, net->odd_one);
    net_destroy(net);
}

static void test_a_node_that_wrote_something_else_with_the_same_results_is_outvoted(void **state)
{
    struct net *net = net_create();
    net->odd_one = (net_await_leader(net) + 1) % NET_MEMBERS;
    net->is_odd_in_contents = true;
    pass_checkpoint(net);
    expect_only_outvoted(net, net->odd_one);
    net_destroy(net);
}

/* In a rolling upgrade nodes of the older version say nothing of contents. */
static void test_a_node_that_does_not_know_the_contents_agrees(void **state)
{
    struct net *net = net_create();
    net->older_one = net_await_leader(net);
    pass_checkpoint(net);
    expect_only_outvoted(net, -1);
    net_destroy(net);
}

int main(void)
{
    log_init(false, LOG_LEVEL_ERROR);
    log_set_fd(open("/dev/null", O_WRONLY));
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_nodes_that_agree_stay_as_they_are),
        cmocka_unit_test(test_a_follower_that_differs_is_outvoted),
        cmocka_unit_test(test_a_leader_that_differs_is_outvoted_and_leads_no_more),
        cmocka_unit_test(test_a_node_that_wrote_something_else_with_the_same_results_is_outvoted),
        cmocka_unit_test(test_a_node_that_does_not_know_the_contents_agrees),
        cmocka_unit_test(test_of_two_that_differ_nobody_is_outvoted_until_the_third_is_back),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
