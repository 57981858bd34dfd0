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
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
