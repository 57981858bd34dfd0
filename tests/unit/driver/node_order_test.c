/* Calls are proposed in the order in which they came, whatever happens to leaders and streams. */
#include "node_testing.h"

static void expect_log(struct net *net, int member, const char *expected)
{
    char text[1024];
    net_log_text(net, member, text, sizeof(text));
    assert_string_equal(text, expected);
}

static int follower_of(int leader, int which)
{
    return (leader + 1 + which) % NET_MEMBERS;
}

static void test_a_command_is_applied_and_answered(void **state)
{
    struct net *net = net_create();
    int leader = net_await_leader(net);
    struct net_call calls[2];
    net_call(net, leader, &calls[0], "a");
    net_run(net, 20 * NS_PER_MS);
    net_call(net, follower_of(leader, 0), &calls[1], "b");
    net_run(net, 20 * NS_PER_MS);
    for (int i = 0; i < 2; i++) {
        net_finish_call(&calls[i]);
        assert_int_equal(calls[i].request.outcome, NODE_OK);
    }
    for (int i = 0; i < NET_MEMBERS; i++) {
        net_run(net, 100 * NS_PER_MS);
        expect_log(net, i, "a b");
    }
    net_destroy(net);
}

/* The link breaks when the first is on the wire and the second is not: both came in one turn. */
static void test_a_lost_forward_does_not_fall_behind_a_later_one(void **state)
{
    struct net *net = net_create();
    int leader = net_await_leader(net);
    int follower = follower_of(leader, 0);
    net_hold(net, follower, leader, true);
    struct net_call calls[3];
    char text[] = "0";
    for (int i = 0; i < 3; i++) {
        text[0] = (char)('a' + i);
        net_call(net, follower, &calls[i], text);
        calls[i].request.may_repeat = true;
    }
    net->nodes[follower].forwards_max = 1;
    net_turn(net, follower);
    assert_int_equal(net->nodes[follower].forwards_taken, 1);
    net->nodes[follower].forwards_max = 0;
    net_cut(net, follower, leader);
    net_turn(net, follower);
    net_connect(net, follower, leader);
    net_run(net, 200 * NS_PER_MS);
    for (int i = 0; i < 3; i++) {
        net_finish_call(&calls[i]);
        assert_int_equal(calls[i].request.outcome, NODE_OK);
    }
    expect_log(net, leader, "a b c");
    net_destroy(net);
}

/* The old leader's entries are overwritten: it sends them on before what came later. */
static void test_overwritten_commands_go_before_later_ones(void **state)
{
    struct net *net = net_create();
    int old = net_await_leader(net);
    struct net_call calls[4];
    char text[] = "0";
    net_isolate(net, old);
    for (int i = 0; i < 2; i++) {
        text[0] = (char)('a' + i);
        net_call(net, old, &calls[i], text);
        net_turn(net, old);
    }
    expect_log(net, old, "a b");
    net_run(net, 3000 * NS_PER_MS); /* another leads, the old one has stepped down */
    for (int i = 2; i < 4; i++) {
        text[0] = (char)('a' + i);
        net_call(net, old, &calls[i], text);
        net_turn(net, old);
    }
    assert_false(calls[0].is_done);
    net_rejoin(net, old);
    net_run(net, 1000 * NS_PER_MS);
    for (int i = 0; i < 4; i++) {
        net_finish_call(&calls[i]);
        assert_int_equal(calls[i].request.outcome, NODE_OK);
    }
    for (int i = 0; i < NET_MEMBERS; i++) {
        expect_log(net, i, "a b c d");
    }
    net_destroy(net);
}

/* As soon as the new leader's first entry is there it is clear that nothing of the old end of the
 * log will ever be applied, however much longer that end was. */
static void test_commands_behind_the_new_leaders_log_are_known_to_be_lost(void **state)
{
    struct net *net = net_create();
    int old = net_await_leader(net);
    struct net_call calls[40];
    net_isolate(net, old);
    for (int i = 0; i < 40; i++) {
        net_call(net, old, &calls[i], "x");
        calls[i].request.may_forward = false;
        net_turn(net, old);
    }
    net_run(net, 3000 * NS_PER_MS);
    assert_false(calls[39].is_done);
    net_rejoin(net, old);
    net_run(net, 300 * NS_PER_MS);
    for (int i = 0; i < 40; i++) {
        net_finish_call(&calls[i]);
        assert_int_equal(calls[i].request.outcome, NODE_NOT_LEADER);
    }
    expect_log(net, old, "");
    net_destroy(net);
}

/* A forward meets a leader that has handed over; a later one would reach the next leader first. */
static void forward_over_a_change(struct net *net, struct net_call *first, struct net_call *second,
                                  uint64_t answer_ns)
{
    int old = net_await_leader(net);
    int follower = follower_of(old, 0);
    net_hold(net, follower, old, true);
    net_call(net, follower, first, "a");
    net_turn(net, follower);
    assert_int_equal(net_hand_over(net, old, follower_of(old, 1)), NODE_OK);
    net_call(net, follower, second, "b");
    net_hold(net, old, follower, true);
    net_hold(net, follower, old, false);
    net_run(net, answer_ns);
    net_hold(net, old, follower, false);
    net_run(net, 200 * NS_PER_MS);
    assert_int_equal(first->request.outcome, NODE_OK);
    assert_int_equal(second->request.outcome, NODE_OK);
    net_finish_call(first);
    net_finish_call(second);
}

static void test_a_forward_that_is_refused_does_not_fall_behind_a_later_one(void **state)
{
    struct net *net = net_create();
    struct net_call calls[2];
    forward_over_a_change(net, &calls[0], &calls[1], NODE_ORDER_WAIT_NS / 4);
    expect_log(net, 0, "a b");
    net_destroy(net);
}

static void test_a_leader_that_hangs_does_not_hold_up_later_forwards(void **state)
{
    struct net *net = net_create();
    struct net_call calls[2];
    forward_over_a_change(net, &calls[0], &calls[1], 4 * NODE_ORDER_WAIT_NS);
    assert_true(calls[1].order < calls[0].order);
    net_destroy(net);
}

/* Heartbeats and votes must not wait for a thousand answers, each of which takes its time. */
static void test_a_crowd_is_answered_in_order_over_several_turns(void **state)
{
    static const uint64_t answer_ns = 50000;
    const unsigned turn_max = 50 * NS_PER_MS / 4 / answer_ns + NODE_COMPLETE_CHECK;
    struct net *net = net_create();
    int leader = net_await_leader(net);
    struct net_call *calls = calloc(NET_CALLS_MAX, sizeof(*calls));
    for (int i = 0; i < NET_CALLS_MAX; i++) {
        net_call(net, leader, &calls[i], "x");
    }
    unsigned first = net_done_count;
    net_done_clock = &net->now_ns;
    net_done_ns = answer_ns;
    for (int i = 0; i < 1000 && net_done_count < first + NET_CALLS_MAX; i++) {
        unsigned before = net_done_count;
        net_turn(net, leader);
        assert_true(net_done_count - before <= turn_max);
        net_turn(net, follower_of(leader, 0));
        net_turn(net, follower_of(leader, 1));
        net->now_ns += NS_PER_MS;
    }
    net_done_clock = NULL;
    assert_int_equal(net_done_count, first + NET_CALLS_MAX);
    for (int i = 0; i < NET_CALLS_MAX; i++) {
        net_finish_call(&calls[i]);
        assert_int_equal(calls[i].request.outcome, NODE_OK);
        assert_int_equal(calls[i].order, first + (unsigned)i + 1);
    }
    free(calls);
    net_destroy(net);
}

static void count_end(struct node_request *request)
{
    (void)request;
}

static void test_what_waits_is_bounded_by_bytes(void **state)
{
    static uint8_t command[1u << 20];
    enum { FIT = NODE_REQUESTS_BYTES_MAX / sizeof(command) };
    static struct node_request requests[FIT + 1];
    struct net *net = net_create();
    int leader = net_await_leader(net);
    for (int i = 0; i <= FIT; i++) {
        requests[i] = (struct node_request){.kind = NODE_REQUEST_COMMAND,
                                            .deadline_ns = UINT64_MAX,
                                            .command = command,
                                            .command_size = sizeof(command),
                                            .done = count_end};
        assert_int_equal(node_submit(net->nodes[leader].node, &requests[i]),
                         i < FIT ? 0 : ERR_FULL);
    }
    /* What needs no room still goes. */
    struct node_request read = {
        .kind = NODE_REQUEST_READ, .deadline_ns = UINT64_MAX, .done = count_end};
    assert_int_equal(node_submit(net->nodes[leader].node, &read), 0);
    net_destroy(net);
}

int main(void)
{
    log_init(false, LOG_LEVEL_ERROR);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_command_is_applied_and_answered),
        cmocka_unit_test(test_a_lost_forward_does_not_fall_behind_a_later_one),
        cmocka_unit_test(test_overwritten_commands_go_before_later_ones),
        cmocka_unit_test(test_commands_behind_the_new_leaders_log_are_known_to_be_lost),
        cmocka_unit_test(test_a_forward_that_is_refused_does_not_fall_behind_a_later_one),
        cmocka_unit_test(test_a_leader_that_hangs_does_not_hold_up_later_forwards),
        cmocka_unit_test(test_a_crowd_is_answered_in_order_over_several_turns),
        cmocka_unit_test(test_what_waits_is_bounded_by_bytes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
