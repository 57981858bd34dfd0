/* A node whose data_dir was taken back to an earlier time. */
#include "node_testing.h"

#include <fcntl.h>

enum { CALLS = 40 };

static void write_some(struct net *net)
{
    static struct net_call calls[CALLS];
    int leader = net_await_leader(net);
    for (int i = 0; i < CALLS; i++) {
        net_call(net, leader, &calls[i], "x");
    }
    for (int wait = 0; wait < 1000 && !calls[CALLS - 1].is_done; wait++) {
        net_run(net, NS_PER_MS);
    }
    for (int i = 0; i < CALLS; i++) {
        assert_int_equal(calls[i].request.outcome, NODE_OK);
        net_finish_call(&calls[i]);
    }
    net_run(net, 200 * NS_PER_MS);
}

static bool is_whole_everywhere(struct net *net, int member)
{
    bool is_whole = true;
    for (int i = 0; i < NET_MEMBERS; i++) {
        struct node_status status = net_status(net, i);
        is_whole = is_whole && status.raft.members[member].is_whole;
    }
    return is_whole;
}

static void test_an_old_copy_is_noticed_and_healed(void **state)
{
    struct net *net = net_create();
    int leader = net_await_leader(net);
    int victim = (leader + 1) % NET_MEMBERS;
    write_some(net);
    struct fs_memory *copy = fs_memory_clone(net->nodes[victim].memory);
    write_some(net);
    uint64_t before = wal_hard_state(net->nodes[victim].wal)->incarnation;
    raft_index last = net_status(net, leader).raft.commit_index;

    net_stop_node(net, victim);
    fs_memory_destroy(net->nodes[victim].memory);
    net->nodes[victim].memory = copy;
    net_start_node(net, victim);
    assert_true(wal_last_index(net->nodes[victim].wal) < last);
    net_rejoin(net, victim);
    net_run(net, 3000 * NS_PER_MS);

    assert_int_equal(net_await_leader(net), leader);
    struct node_status status = net_status(net, victim);
    assert_true(wal_hard_state(net->nodes[victim].wal)->incarnation != before);
    assert_true(status.applied_index > last);
    assert_true(status.is_ready);
    assert_true(is_whole_everywhere(net, victim));
    net_destroy(net);
}

/* Two of three hold what was acknowledged, one of them forgot: alone with the third, which never
 * had it, it must not choose a leader. */
static void test_a_forgetful_node_helps_nobody_to_lead(void **state)
{
    struct net *net = net_create();
    int leader = net_await_leader(net);
    int victim = (leader + 1) % NET_MEMBERS;
    int behind = (leader + 2) % NET_MEMBERS;
    write_some(net);
    struct fs_memory *copy = fs_memory_clone(net->nodes[victim].memory);
    net_isolate(net, behind);
    write_some(net);
    raft_index last = net_status(net, leader).raft.commit_index;

    net_stop_node(net, victim);
    fs_memory_destroy(net->nodes[victim].memory);
    net->nodes[victim].memory = copy;
    net_start_node(net, victim);
    net_connect(net, victim, leader);
    net_connect(net, leader, victim);
    /* The leader has time to tell it, and no more: then it is gone. */
    uint64_t old = wal_hard_state(net->nodes[victim].wal)->incarnation;
    for (int i = 0; i < 300 && wal_hard_state(net->nodes[victim].wal)->incarnation == old; i++) {
        net_run(net, NS_PER_MS);
    }
    assert_true(wal_hard_state(net->nodes[victim].wal)->incarnation != old);
    net_isolate(net, leader);
    net_connect(net, victim, behind);
    net_connect(net, behind, victim);
    net_run(net, 10 * NS_PER_S);
    assert_int_not_equal(net_status(net, victim).raft.role, RAFT_LEADER);
    assert_int_not_equal(net_status(net, behind).raft.role, RAFT_LEADER);

    net_rejoin(net, leader);
    net_run(net, 5 * NS_PER_S);
    (void)net_await_leader(net);
    for (int i = 0; i < NET_MEMBERS; i++) {
        assert_true(net_status(net, i).applied_index >= last);
    }
    assert_true(is_whole_everywhere(net, victim));
    net_destroy(net);
}

int main(void)
{
    log_init(false, LOG_LEVEL_ERROR);
    log_set_fd(open("/dev/null", O_WRONLY));
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_an_old_copy_is_noticed_and_healed),
        cmocka_unit_test(test_a_forgetful_node_helps_nobody_to_lead),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
