/* A full disk: nobody dies of it, nobody leads with it, and it is over when there is room. */
#include "node_testing.h"

#include <fcntl.h>

#define PAYLOAD_BYTES (60u << 10)

static void fill_disk(struct net *net, int member)
{
    struct fs_memory *memory = net->nodes[member].memory;
    fs_memory_set_capacity(memory, fs_memory_used(memory));
}

static void make_room(struct net *net, int member)
{
    fs_memory_set_capacity(net->nodes[member].memory, 0);
}

/* Commands until the spare segment is used and the last one is full, as far as it goes. */
static void write_until_full(struct net *net, int member, int full)
{
    static uint8_t payload[PAYLOAD_BYTES];
    for (int i = 0; i < 400 && !net_status(net, full).is_log_full; i++) {
        struct net_call call;
        net_call_bytes(net, member, &call, (struct bytes){payload, sizeof(payload)});
        net_run(net, 5 * NS_PER_MS);
        for (int wait = 0; wait < 1000 && !call.is_done; wait++) {
            net_run(net, 5 * NS_PER_MS);
        }
        net_finish_call(&call);
        /* The store takes what it is given: only the log's disk is full. */
        for (int node = 0; node < NET_MEMBERS; node++) {
            assert_int_equal(chat_flush(net->nodes[node].chat, CHAT_FLUSH_NOW, net->now_ns), 0);
        }
    }
    assert_true(net_status(net, full).is_log_full);
}

static void test_a_leader_whose_disk_is_full_gives_way_and_can_lead_again(void **state)
{
    struct net *net = net_create();
    int full = net_await_leader(net);
    int other = (full + 1) % NET_MEMBERS;
    fill_disk(net, full);
    write_until_full(net, full, full);
    net_run(net, 200 * NS_PER_MS);
    int leader = net_await_leader(net);
    assert_int_not_equal(leader, full);
    assert_int_not_equal(net_hand_over(net, leader, full), NODE_OK);
    /* Nothing is proposed to it now that would make it look. */
    make_room(net, full);
    net_run(net, 2 * NS_PER_S);
    assert_false(net_status(net, full).is_log_full);
    leader = net_await_leader(net);
    assert_int_equal(net_hand_over(net, leader, full), NODE_OK);
    assert_int_equal(net_await_leader(net), full);
    struct net_call call;
    net_call(net, other, &call, "again");
    net_run(net, 50 * NS_PER_MS);
    net_finish_call(&call);
    assert_int_equal(call.request.outcome, NODE_OK);
    net_destroy(net);
}

/* A full node still takes what comes, one at a time, until nothing fits. */
static void write_until_nothing_fits(struct net *net, int member, int full)
{
    static uint8_t payload[PAYLOAD_BYTES];
    raft_index last = 0;
    for (int i = 0; i < 100 && net_status(net, full).raft.last_index > last; i++) {
        last = net_status(net, full).raft.last_index;
        struct net_call call;
        net_call_bytes(net, member, &call, (struct bytes){payload, sizeof(payload)});
        net_run(net, 500 * NS_PER_MS);
        net_finish_call(&call);
        assert_int_equal(call.request.outcome, NODE_OK);
    }
    assert_int_equal(net_status(net, full).raft.last_index, last);
}

/* Every change of term and every vote takes room in the log. */
static void test_a_follower_whose_disk_is_full_outlives_any_number_of_elections(void **state)
{
    struct net *net = net_create();
    int leader = net_await_leader(net);
    int full = (leader + 1) % NET_MEMBERS;
    fill_disk(net, full);
    write_until_full(net, leader, full);
    write_until_nothing_fits(net, leader, full);
    raft_term before = net_status(net, full).raft.term;
    for (int i = 0; i < 300; i++) {
        leader = net_await_leader(net);
        int next = NET_MEMBERS - leader - full;
        assert_int_equal(net_hand_over(net, leader, next), NODE_OK);
    }
    /* It does not follow any more, and does not say that it does. */
    net_run(net, NS_PER_S);
    assert_true(net_status(net, full).raft.term < before + 300);
    assert_false(net_status(net, full).is_ready);
    make_room(net, full);
    for (int i = 0; i < 100 && !net_status(net, full).is_ready; i++) {
        net_run(net, 100 * NS_PER_MS);
    }
    assert_true(net_status(net, full).is_ready);
    net_destroy(net);
}

static bool is_full(const struct net *net, int member)
{
    return net_status(net, member).is_log_full;
}

static enum node_outcome outcome_of_a_write(struct net *net, int member, uint64_t within_ns)
{
    struct net_call call;
    net_call(net, member, &call, "small");
    net_run(net, within_ns);
    net_finish_call(&call);
    return call.request.outcome;
}

static enum node_outcome outcome_of_a_read(struct net *net, int member)
{
    struct net_call read = {0};
    read.request = (struct node_request){
        .kind = NODE_REQUEST_READ, .deadline_ns = UINT64_MAX, .done = net_done};
    assert_int_equal(node_submit(net->nodes[member].node, &read.request), 0);
    net_run(net, 100 * NS_PER_MS);
    assert_true(read.is_done);
    return read.request.outcome;
}

/* Nobody waits for what cannot be: neither those whose writes are on their way when the disks are
 * full, nor those who come later. And reads go on, also after an election. */
static void test_a_majority_of_full_disks_refuses_writes_and_serves_reads(void **state)
{
    struct net *net = net_create();
    int leader = net_await_leader(net);
    int others[] = {(leader + 1) % NET_MEMBERS, (leader + 2) % NET_MEMBERS};
    fill_disk(net, others[0]);
    fill_disk(net, others[1]);
    write_until_full(net, leader, others[0]);
    if (!is_full(net, others[1])) {
        write_until_full(net, leader, others[1]);
    }
    net_run(net, 200 * NS_PER_MS);
    assert_false(is_full(net, leader));
    for (int i = 0; i < 200; i++) {
        assert_int_equal(outcome_of_a_write(net, leader, 5 * NS_PER_MS), NODE_DISK_FULL);
    }
    assert_int_equal(outcome_of_a_write(net, others[0], 20 * NS_PER_MS), NODE_DISK_FULL);
    assert_int_equal(outcome_of_a_read(net, leader), NODE_OK);
    assert_int_equal(outcome_of_a_read(net, others[1]), NODE_OK);
    for (int i = 0; i < 40; i++) { /* each time one entry more */
        net_isolate(net, leader);
        net_run(net, 2 * NS_PER_S);
        net_rejoin(net, leader);
        assert_int_equal(net_await_leader(net), leader);
        assert_int_equal(outcome_of_a_read(net, leader), NODE_OK);
    }
    net_run(net, 200 * NS_PER_MS);
    assert_int_equal(outcome_of_a_write(net, leader, 5 * NS_PER_MS), NODE_DISK_FULL);
    make_room(net, others[1]);
    net_run(net, 2 * NS_PER_S);
    assert_int_equal(outcome_of_a_write(net, leader, 50 * NS_PER_MS), NODE_OK);
    net_destroy(net);
}

int main(void)
{
    log_init(false, LOG_LEVEL_ERROR);
    log_set_fd(open("/dev/null", O_WRONLY));
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_leader_whose_disk_is_full_gives_way_and_can_lead_again),
        cmocka_unit_test(test_a_follower_whose_disk_is_full_outlives_any_number_of_elections),
        cmocka_unit_test(test_a_majority_of_full_disks_refuses_writes_and_serves_reads),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
