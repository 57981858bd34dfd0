/* What becomes of a forwarded command whose streams come and go. */
#include "node_testing.h"

struct scene {
    struct net *net;
    int leader;
    int follower;
    struct net_call call;
};

static void begin(struct scene *scene)
{
    *scene = (struct scene){.net = net_create()};
    scene->leader = net_await_leader(scene->net);
    scene->follower = (scene->leader + 1) % NET_MEMBERS;
    net_run(scene->net, 100 * NS_PER_MS);
}

static void end(struct scene *scene)
{
    net_finish_call(&scene->call);
    net_destroy(scene->net);
}

/* The leader could do it, but nobody would hear. */
static void test_nothing_is_forwarded_to_a_leader_that_cannot_answer(void **state)
{
    struct scene scene;
    begin(&scene);
    net_cut(scene.net, scene.leader, scene.follower);
    net_turn(scene.net, scene.follower);
    net_call(scene.net, scene.follower, &scene.call, "a");
    net_run(scene.net, 20 * NS_PER_MS);
    assert_int_equal(scene.net->nodes[scene.follower].forwards_taken, 0);
    net_connect(scene.net, scene.leader, scene.follower);
    net_run(scene.net, 50 * NS_PER_MS);
    assert_true(scene.call.is_done);
    assert_int_equal(scene.call.request.outcome, NODE_OK);
    end(&scene);
}

static void lose_the_answer(struct scene *scene, bool may_repeat, bool is_replaced)
{
    begin(scene);
    net_hold(scene->net, scene->leader, scene->follower, true);
    net_call(scene->net, scene->follower, &scene->call, "a");
    scene->call.request.may_repeat = may_repeat;
    net_run(scene->net, 10 * NS_PER_MS);
    assert_int_equal(scene->net->nodes[scene->follower].forwards_taken, 1);
    assert_false(scene->call.is_done);
    if (is_replaced) {
        net_replace(scene->net, scene->leader, scene->follower);
    } else {
        net_cut(scene->net, scene->leader, scene->follower);
        net_run(scene->net, 5 * NS_PER_MS);
        net_connect(scene->net, scene->leader, scene->follower);
    }
    net_run(scene->net, 50 * NS_PER_MS);
    assert_true(scene->call.is_done);
}

static void test_a_lost_answer_is_unknown_at_once_or_asked_for_again(void **state)
{
    for (int i = 0; i < 4; i++) {
        struct scene scene;
        bool may_repeat = i % 2 == 1;
        lose_the_answer(&scene, may_repeat, i >= 2);
        assert_int_equal(scene.call.request.outcome, may_repeat ? NODE_OK : NODE_COMMIT_UNKNOWN);
        end(&scene);
    }
}

/* The end of the older stream comes after the newer one has begun. */
static void test_the_late_end_of_a_replaced_stream_loses_nothing(void **state)
{
    struct scene scene;
    begin(&scene);
    struct net *net = scene.net;
    uint64_t older = net->nodes[scene.leader].links[scene.follower].epoch;
    net_replace(net, scene.leader, scene.follower);
    net_turn(net, scene.follower);
    net_hold(net, scene.leader, scene.follower, true);
    net_call(net, scene.follower, &scene.call, "a");
    net_run(net, 5 * NS_PER_MS);
    node_post_event(net->nodes[scene.follower].node,
                    &net_make_event(PEER_EVENT_STREAM_LOST, scene.leader, older)->event);
    net_run(net, 5 * NS_PER_MS);
    assert_false(scene.call.is_done);
    net_hold(net, scene.leader, scene.follower, false);
    net_run(net, 20 * NS_PER_MS);
    assert_true(scene.call.is_done);
    assert_int_equal(scene.call.request.outcome, NODE_OK);
    end(&scene);
}

/* Not even one that must never be sent twice is lost when it certainly was not sent once. */
static void test_a_forward_that_never_left_goes_again(void **state)
{
    struct scene scene;
    begin(&scene);
    struct net *net = scene.net;
    net->nodes[scene.follower].links[scene.leader].is_stuck = true;
    net_call(net, scene.follower, &scene.call, "a");
    net_run(net, 5 * NS_PER_MS);
    assert_int_equal(net->nodes[scene.follower].forwards_taken, 1);
    net_cut(net, scene.follower, scene.leader);
    net_run(net, 5 * NS_PER_MS);
    assert_false(scene.call.is_done);
    net_connect(net, scene.follower, scene.leader);
    net_run(net, 50 * NS_PER_MS);
    assert_true(scene.call.is_done);
    assert_int_equal(scene.call.request.outcome, NODE_OK);
    end(&scene);
}

static void test_a_forward_that_left_is_unknown_when_its_stream_ends(void **state)
{
    struct scene scene;
    begin(&scene);
    struct net *net = scene.net;
    net_hold(net, scene.follower, scene.leader, true);
    net_call(net, scene.follower, &scene.call, "a");
    net_run(net, 5 * NS_PER_MS);
    net_cut(net, scene.follower, scene.leader);
    net_run(net, 5 * NS_PER_MS);
    assert_true(scene.call.is_done);
    assert_int_equal(scene.call.request.outcome, NODE_COMMIT_UNKNOWN);
    end(&scene);
}

/* One that finds no leader in its time was certainly not proposed. */
static void test_a_forward_that_never_left_ends_as_no_quorum(void **state)
{
    struct scene scene;
    begin(&scene);
    struct net *net = scene.net;
    net->nodes[scene.follower].links[scene.leader].is_stuck = true;
    net_call(net, scene.follower, &scene.call, "a");
    net_run(net, 5 * NS_PER_MS);
    net_isolate(net, scene.follower);
    net_run(net, 6 * NS_PER_S);
    assert_true(scene.call.is_done);
    assert_int_equal(scene.call.request.outcome, NODE_NO_QUORUM);
    end(&scene);
}

/* ---- repeated forwards ---- */

/* One more call of the message "m" over the follower, whose answer is lost with its stream. The
 * follower hears of the message's entry before or after it forwards again. */
static void send_with_a_lost_answer(struct scene *scene, struct net_call *call, bool is_replaced)
{
    struct net *net = scene->net;
    net_hold(net, scene->leader, scene->follower, true);
    net_send_message(net, scene->follower, call, "m");
    net_run(net, 10 * NS_PER_MS);
    assert_false(call->is_done);
    if (is_replaced) {
        net_replace(net, scene->leader, scene->follower);
    } else {
        net_cut(net, scene->leader, scene->follower);
        net_run(net, 5 * NS_PER_MS);
        net_connect(net, scene->leader, scene->follower);
    }
    net_run(net, 100 * NS_PER_MS);
    assert_true(call->is_done);
    assert_int_equal(call->request.outcome, NODE_OK);
    assert_int_equal(call->request.result.sequence, 1);
}

static void test_a_repeated_forward_answers_as_the_clients_first(void **state)
{
    for (int i = 0; i < 2; i++) {
        struct scene scene;
        begin(&scene);
        net_create_channel(scene.net, scene.leader);
        send_with_a_lost_answer(&scene, &scene.call, i == 1);
        assert_false(scene.call.request.result.deduplicated);
        struct net_call again;
        net_send_message(scene.net, scene.follower, &again, "m");
        net_run(scene.net, 50 * NS_PER_MS);
        assert_true(again.is_done);
        assert_true(again.request.result.deduplicated);
        assert_int_equal(again.request.result.sequence, 1);
        net_finish_call(&again);
        end(&scene);
    }
}

static void test_a_clients_repetition_stays_one_over_a_lost_answer(void **state)
{
    for (int i = 0; i < 4; i++) {
        struct scene scene;
        begin(&scene);
        net_create_channel(scene.net, scene.leader);
        /* Acknowledged by the leader; the follower may not know of it yet. */
        struct net_call first;
        net_hold(scene.net, scene.leader, scene.follower, i >= 2);
        net_send_message(scene.net, scene.leader, &first, "m");
        net_run(scene.net, 20 * NS_PER_MS);
        assert_true(first.is_done);
        assert_false(first.request.result.deduplicated);
        send_with_a_lost_answer(&scene, &scene.call, i % 2 == 1);
        assert_true(scene.call.request.result.deduplicated);
        net_finish_call(&first);
        end(&scene);
    }
}

/* The leader that stored it dies, and the next one knows it only as a repetition. */
static void test_a_forward_repeated_to_the_next_leader_answers_as_the_first(void **state)
{
    struct scene scene;
    begin(&scene);
    struct net *net = scene.net;
    net_create_channel(net, scene.leader);
    net_run(net, 100 * NS_PER_MS);
    net_hold(net, scene.leader, scene.follower, true);
    net_send_message(net, scene.follower, &scene.call, "m");
    net_run(net, 20 * NS_PER_MS); /* the third one has it */
    assert_false(scene.call.is_done);
    net_isolate(net, scene.leader);
    net_run(net, 5 * NS_PER_S);
    assert_true(scene.call.is_done);
    assert_int_equal(scene.call.request.outcome, NODE_OK);
    assert_int_equal(scene.call.request.result.sequence, 1);
    assert_false(scene.call.request.result.deduplicated);
    end(&scene);
}

int main(void)
{
    log_init(false, LOG_LEVEL_ERROR);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_nothing_is_forwarded_to_a_leader_that_cannot_answer),
        cmocka_unit_test(test_a_lost_answer_is_unknown_at_once_or_asked_for_again),
        cmocka_unit_test(test_the_late_end_of_a_replaced_stream_loses_nothing),
        cmocka_unit_test(test_a_forward_that_never_left_goes_again),
        cmocka_unit_test(test_a_forward_that_left_is_unknown_when_its_stream_ends),
        cmocka_unit_test(test_a_forward_that_never_left_ends_as_no_quorum),
        cmocka_unit_test(test_a_repeated_forward_answers_as_the_clients_first),
        cmocka_unit_test(test_a_clients_repetition_stays_one_over_a_lost_answer),
        cmocka_unit_test(test_a_forward_repeated_to_the_next_leader_answers_as_the_first),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
