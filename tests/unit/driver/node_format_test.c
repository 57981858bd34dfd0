/* Which commands a leader proposes and a follower forwards, by what the members understand. */
#include "node_testing.h"

#include "base/log.h"

struct scene {
    struct net *net;
    int leader;
    int follower;
    int third;
};

static void begin(struct scene *scene)
{
    *scene = (struct scene){.net = net_create()};
    scene->leader = net_await_leader(scene->net);
    scene->follower = (scene->leader + 1) % NET_MEMBERS;
    scene->third = (scene->leader + 2) % NET_MEMBERS;
    net_create_channel(scene->net, scene->leader);
    net_run(scene->net, 100 * NS_PER_MS);
}

/* The member restarts as another version: its streams begin anew. */
static void change_version(struct scene *scene, int member, unsigned format)
{
    net_isolate(scene->net, member);
    net_run(scene->net, 10 * NS_PER_MS);
    scene->net->nodes[member].command_format = format;
    net_rejoin(scene->net, member);
    net_run(scene->net, 100 * NS_PER_MS);
}

/* Sends a batch of two messages to a node; returns the outcome. */
static enum node_outcome send_batch(struct scene *scene, int member, const char *id,
                                    struct net_call *call)
{
    net_send_batch(scene->net, member, call, id, 2);
    net_run(scene->net, 100 * NS_PER_MS);
    net_finish_call(call);
    return call->request.outcome;
}

static void test_a_batch_waits_until_every_member_understands_it(void **state)
{
    struct scene scene;
    struct net_call call;
    begin(&scene);
    change_version(&scene, scene.third, 1);
    for (int i = 0; i < 2; i++) {
        int member = i == 0 ? scene.leader : scene.follower;
        assert_int_equal(send_batch(&scene, member, "m", &call), NODE_FORMAT_TOO_NEW);
        assert_int_equal(call.request.lagging, i == 0 ? scene.third : RAFT_NO_MEMBER);
    }
    /* What is of the first format goes on. */
    net_send_message(scene.net, scene.follower, &call, "single");
    net_run(scene.net, 100 * NS_PER_MS);
    assert_int_equal(call.request.outcome, NODE_OK);
    assert_int_equal(call.request.result.sequence, 1);
    net_finish_call(&call);
    change_version(&scene, scene.third, COMMAND_FORMAT_VERSION);
    assert_int_equal(send_batch(&scene, scene.follower, "m", &call), NODE_OK);
    net_destroy(scene.net);
}

static void test_a_batch_is_not_forwarded_to_a_leader_that_does_not_understand_it(void **state)
{
    struct scene scene;
    struct net_call call;
    begin(&scene);
    struct net_node *leader = &scene.net->nodes[scene.leader];
    net_cut(scene.net, scene.leader, scene.follower);
    leader->command_format = 1;
    net_connect(scene.net, scene.leader, scene.follower);
    net_run(scene.net, 10 * NS_PER_MS);
    unsigned forwards = scene.net->nodes[scene.follower].forwards_taken;
    assert_int_equal(send_batch(&scene, scene.follower, "m", &call), NODE_FORMAT_TOO_NEW);
    assert_int_equal(call.request.lagging, scene.leader);
    assert_int_equal(scene.net->nodes[scene.follower].forwards_taken, forwards);
    net_destroy(scene.net);
}

/* Once a batch is in the log, no member can be without it. */
static void test_a_cluster_that_has_used_a_format_goes_on_using_it(void **state)
{
    struct scene scene;
    struct net_call call;
    begin(&scene);
    assert_int_equal(send_batch(&scene, scene.leader, "first", &call), NODE_OK);
    change_version(&scene, scene.third, 1);
    assert_int_equal(send_batch(&scene, scene.leader, "second", &call), NODE_OK);
    /* Both others restart while the third is down: their log knows. */
    net_isolate(scene.net, scene.third);
    net_stop_node(scene.net, scene.leader);
    net_stop_node(scene.net, scene.follower);
    net_start_node(scene.net, scene.leader);
    net_start_node(scene.net, scene.follower);
    net_connect(scene.net, scene.leader, scene.follower);
    net_connect(scene.net, scene.follower, scene.leader);
    net_run(scene.net, 5 * NS_PER_S);
    net_send_batch(scene.net, scene.follower, &call, "third", 2);
    net_run(scene.net, 500 * NS_PER_MS);
    net_finish_call(&call);
    assert_int_equal(call.request.outcome, NODE_OK);
    net_destroy(scene.net);
}

static void test_a_forwarded_batch_whose_answer_is_lost_answers_as_the_clients_first(void **state)
{
    struct scene scene;
    struct net_call call;
    begin(&scene);
    net_hold(scene.net, scene.leader, scene.follower, true);
    net_send_batch(scene.net, scene.follower, &call, "m", 3);
    net_run(scene.net, 10 * NS_PER_MS);
    assert_false(call.is_done);
    net_cut(scene.net, scene.leader, scene.follower);
    net_run(scene.net, 5 * NS_PER_MS);
    net_connect(scene.net, scene.leader, scene.follower);
    net_run(scene.net, 100 * NS_PER_MS);
    assert_true(call.is_done);
    assert_int_equal(call.request.outcome, NODE_OK);
    assert_false(call.request.result.deduplicated);
    net_finish_call(&call);
    net_destroy(scene.net);
}

int main(void)
{
    log_init(false, LOG_LEVEL_ERROR);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_batch_waits_until_every_member_understands_it),
        cmocka_unit_test(test_a_batch_is_not_forwarded_to_a_leader_that_does_not_understand_it),
        cmocka_unit_test(test_a_cluster_that_has_used_a_format_goes_on_using_it),
        cmocka_unit_test(test_a_forwarded_batch_whose_answer_is_lost_answers_as_the_clients_first),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
