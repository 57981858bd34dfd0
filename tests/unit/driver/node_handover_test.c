/* Leadership goes from one to the next, and the calls that come meanwhile. */
#include "node_testing.h"

enum { CALLS_MAX = 100 };

/* One more call each millisecond, while another member is made the leader; returns how many. */
static int call_over_a_change(struct net *net, int old, struct net_call *calls, bool may_forward)
{
    struct net_call transfer;
    net_ask_to_hand_over(net, old, (old + 1) % NET_MEMBERS, &transfer);
    int count = 0;
    while (count < CALLS_MAX && !transfer.is_done) {
        net_call(net, old, &calls[count], "x");
        calls[count++].request.may_forward = may_forward;
        net_run(net, NS_PER_MS);
    }
    assert_int_equal(transfer.request.outcome, NODE_OK);
    net_run(net, 20 * NS_PER_MS);
    return count;
}

/* A client that is sent on at once to the right node loses no time. */
static void test_who_has_handed_over_names_the_next_leader(void **state)
{
    struct net *net = net_create();
    int old = net_await_leader(net);
    struct net_call calls[CALLS_MAX];
    int count = call_over_a_change(net, old, calls, false);
    assert_true(count >= 2);
    for (int i = 0; i < count; i++) {
        net_finish_call(&calls[i]);
        if (calls[i].request.outcome != NODE_OK) {
            assert_int_equal(calls[i].request.outcome, NODE_NOT_LEADER);
            assert_int_equal(calls[i].request.leader, (old + 1) % NET_MEMBERS);
        }
    }
    net_destroy(net);
}

static void test_what_may_be_forwarded_is_forwarded_to_the_next_leader(void **state)
{
    struct net *net = net_create();
    int old = net_await_leader(net);
    struct net_call calls[CALLS_MAX];
    int count = call_over_a_change(net, old, calls, true);
    for (int i = 0; i < count; i++) {
        net_finish_call(&calls[i]);
        assert_int_equal(calls[i].request.outcome, NODE_OK);
    }
    net_destroy(net);
}

/* Probes would take it out of service otherwise, at each hand-over. */
static void test_who_knows_the_next_leader_is_ready(void **state)
{
    struct net *net = net_create();
    for (int round = 0; round < 10; round++) {
        int old = net_await_leader(net);
        int next = (old + 1) % NET_MEMBERS;
        int third = (old + 2) % NET_MEMBERS;
        net_run(net, 100 * NS_PER_MS);
        struct net_call transfer;
        net_ask_to_hand_over(net, old, next, &transfer);
        bool is_known = false;
        for (int i = 0; i < 100; i++) {
            for (int turn = 0; turn < 2 * NET_MEMBERS; turn++) {
                net_turn(net, turn % NET_MEMBERS);
                struct node_status status = net_status(net, third);
                is_known = is_known || status.raft.leader == next;
                assert_true(status.is_ready || status.raft.leader == RAFT_NO_MEMBER);
            }
            net->now_ns += NS_PER_MS / 10;
        }
        assert_true(is_known);
        net_run(net, 50 * NS_PER_MS);
        assert_true(transfer.is_done);
    }
    net_destroy(net);
}

/* Nobody takes over: it is said after a moment that nobody leads. */
static void test_where_nobody_takes_over_nobody_is_named(void **state)
{
    struct net *net = net_create();
    int old = net_await_leader(net);
    net_isolate(net, old);
    while (net_status(net, old).raft.role == RAFT_LEADER) {
        net_run(net, NS_PER_MS);
    }
    struct net_call call;
    net_call(net, old, &call, "x");
    call.request.may_forward = false;
    net_run(net, NODE_NAME_WAIT_NS / 2);
    assert_false(call.is_done);
    net_run(net, NODE_NAME_WAIT_NS);
    net_finish_call(&call);
    assert_int_equal(call.request.outcome, NODE_NOT_LEADER);
    assert_int_equal(call.request.leader, RAFT_NO_MEMBER);
    /* From then on at once. */
    net_call(net, old, &call, "x");
    call.request.may_forward = false;
    net_turn(net, old);
    net_finish_call(&call);
    assert_int_equal(call.request.outcome, NODE_NOT_LEADER);
    net_destroy(net);
}

static void test_who_asked_for_another_leader_does_not_hear_ok(void **state)
{
    struct net *net = net_create();
    int old = net_await_leader(net);
    int first = (old + 1) % NET_MEMBERS;
    struct net_call transfers[3];
    net_ask_to_hand_over(net, old, first, &transfers[0]);
    net_ask_to_hand_over(net, old, (old + 2) % NET_MEMBERS, &transfers[1]);
    net_ask_to_hand_over(net, old, RAFT_NO_MEMBER, &transfers[2]);
    net_run(net, 100 * NS_PER_MS);
    assert_int_equal(net_await_leader(net), first);
    const enum node_outcome outcomes[] = {NODE_OK, NODE_NOT_LEADER, NODE_OK};
    for (int i = 0; i < 3; i++) {
        net_finish_call(&transfers[i]);
        assert_int_equal(transfers[i].request.outcome, outcomes[i]);
        assert_int_equal(transfers[i].request.leader, first);
    }
    net_destroy(net);
}

static void test_after_a_transfer_that_fails_the_next_is_tried(void **state)
{
    struct net *net = net_create();
    int old = net_await_leader(net);
    int gone = (old + 1) % NET_MEMBERS;
    int next = (old + 2) % NET_MEMBERS;
    net_isolate(net, gone);
    struct net_call transfers[2];
    net_ask_to_hand_over(net, old, gone, &transfers[0]);
    net_ask_to_hand_over(net, old, next, &transfers[1]);
    net_run(net, 2 * NS_PER_S);
    net_finish_call(&transfers[0]);
    net_finish_call(&transfers[1]);
    assert_int_equal(transfers[0].request.outcome, NODE_BAD_TARGET);
    assert_int_equal(transfers[1].request.outcome, NODE_OK);
    assert_int_equal(net_await_leader(net), next);
    net_destroy(net);
}

static void test_who_leaves_forwards_no_more_and_names_the_leader(void **state)
{
    struct net *net = net_create();
    int leader = net_await_leader(net);
    int leaving = (leader + 1) % NET_MEMBERS;
    net_run(net, 100 * NS_PER_MS);
    struct net_call calls[2];
    net_call(net, leaving, &calls[0], "before");
    net_run(net, 50 * NS_PER_MS);
    node_end_forwarding(net->nodes[leaving].node);
    net_call(net, leaving, &calls[1], "after");
    net_run(net, 50 * NS_PER_MS);
    const enum node_outcome outcomes[] = {NODE_OK, NODE_NOT_LEADER};
    for (int i = 0; i < 2; i++) {
        net_finish_call(&calls[i]);
        assert_int_equal(calls[i].request.outcome, outcomes[i]);
    }
    assert_int_equal(calls[1].request.leader, leader);
    net_destroy(net);
}

int main(void)
{
    log_init(false, LOG_LEVEL_ERROR);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_who_has_handed_over_names_the_next_leader),
        cmocka_unit_test(test_what_may_be_forwarded_is_forwarded_to_the_next_leader),
        cmocka_unit_test(test_who_knows_the_next_leader_is_ready),
        cmocka_unit_test(test_where_nobody_takes_over_nobody_is_named),
        cmocka_unit_test(test_who_asked_for_another_leader_does_not_hear_ok),
        cmocka_unit_test(test_after_a_transfer_that_fails_the_next_is_tried),
        cmocka_unit_test(test_who_leaves_forwards_no_more_and_names_the_leader),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
