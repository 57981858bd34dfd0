/* A full disk: nobody dies of it, nobody leads with it, and it is over when there is room. */
#include "node_testing.h"

#include <fcntl.h>

#define PAYLOAD_BYTES (60u << 10)

static uint8_t payload[PAYLOAD_BYTES];

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

static bool leads(const struct net *net, int member)
{
    return net_status(net, member).raft.role == RAFT_LEADER;
}

static bool await_leadership(struct net *net, int member, uint64_t within_ns)
{
    uint64_t until_ns = net->now_ns + within_ns;
    while (!leads(net, member) && net->now_ns < until_ns) {
        net_run(net, 50 * NS_PER_MS);
    }
    return leads(net, member);
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
        /* One of the full ones may have led for want of another. */
        assert_true(await_leadership(net, leader, 5 * NS_PER_S));
        assert_int_equal(outcome_of_a_read(net, leader), NODE_OK);
    }
    net_run(net, 200 * NS_PER_MS);
    assert_int_equal(outcome_of_a_write(net, leader, 5 * NS_PER_MS), NODE_DISK_FULL);
    make_room(net, others[1]);
    net_run(net, 2 * NS_PER_S);
    assert_int_equal(outcome_of_a_write(net, leader, 50 * NS_PER_MS), NODE_OK);
    net_destroy(net);
}

enum { BURST_CALLS = 40 };

static void hold_answers(struct net *net, int leader, bool is_held)
{
    for (int member = 0; member < NET_MEMBERS; member++) {
        if (member != leader) {
            net_hold(net, member, leader, is_held);
        }
    }
}

/* More than the leader may have on its way, over a network whose answers are late. Every call ends
 * soon, and is told why. */
static void burst(struct net *net, int leader)
{
    static struct net_call calls[BURST_CALLS];
    for (int i = 0; i < BURST_CALLS; i++) {
        net_call_bytes(net, leader, &calls[i], (struct bytes){payload, sizeof(payload)});
    }
    hold_answers(net, leader, true);
    net_run(net, 50 * NS_PER_MS);
    hold_answers(net, leader, false);
    net_run(net, NS_PER_S);
    for (int i = 0; i < BURST_CALLS; i++) {
        net_finish_call(&calls[i]);
        enum node_outcome outcome = calls[i].request.outcome;
        assert_true(outcome == NODE_OK || outcome == NODE_DISK_FULL);
    }
}

/* `before`: how many writes have moved the place in the segments where the room ends. */
static void fill_by_bursts(int before)
{
    struct net *net = net_create();
    int leader = net_await_leader(net);
    for (int i = 0; i < before; i++) {
        struct net_call call;
        net_call_bytes(net, leader, &call, (struct bytes){payload, sizeof(payload)});
        net_run(net, 5 * NS_PER_MS);
        net_finish_call(&call);
    }
    int others[] = {(leader + 1) % NET_MEMBERS, (leader + 2) % NET_MEMBERS};
    fill_disk(net, others[0]);
    fill_disk(net, others[1]);
    for (int i = 0; i < 20 && !(is_full(net, others[0]) && is_full(net, others[1])); i++) {
        burst(net, leader);
        for (int node = 0; node < NET_MEMBERS; node++) {
            assert_int_equal(chat_flush(net->nodes[node].chat, CHAT_FLUSH_NOW, net->now_ns), 0);
        }
    }
    assert_true(is_full(net, others[0]) && is_full(net, others[1]));
    burst(net, leader);
    /* Nothing is left that a new leader's first entry would have to wait behind. */
    net_isolate(net, leader);
    net_run(net, 2 * NS_PER_S);
    net_rejoin(net, leader);
    assert_true(await_leadership(net, leader, 5 * NS_PER_S));
    for (int member = 0; member < NET_MEMBERS; member++) {
        assert_int_equal(outcome_of_a_read(net, member), NODE_OK);
    }
    net_destroy(net);
}

static void test_what_is_on_its_way_finds_room_on_the_disks_of_a_full_majority(void **state)
{
    for (int before = 0; before < 64; before += 8) {
        fill_by_bursts(before);
    }
}

static void test_a_full_leader_gives_way_as_soon_as_another_can_lead(void **state)
{
    struct net *net = net_create();
    int leader = net_await_leader(net);
    int other = (leader + 1) % NET_MEMBERS;
    int absent = (leader + 2) % NET_MEMBERS;
    net_isolate(net, absent);
    fill_disk(net, leader);
    fill_disk(net, other);
    write_until_full(net, leader, leader);
    for (int i = 0; i < 40 && !is_full(net, other); i++) { /* it may have a few bytes more */
        (void)outcome_of_a_write(net, leader, 20 * NS_PER_MS);
        net_run(net, 100 * NS_PER_MS);
    }
    net_run(net, 3 * NS_PER_S);
    assert_true(is_full(net, other));
    assert_true(leads(net, leader)); /* nobody else can */
    make_room(net, other);
    assert_true(await_leadership(net, other, 5 * NS_PER_S));
    net_rejoin(net, absent);
    net_run(net, 2 * NS_PER_S);
    assert_int_equal(outcome_of_a_write(net, net_await_leader(net), 50 * NS_PER_MS), NODE_OK);
    net_destroy(net);
}

/* Of those that are left the full one alone has all: better that it leads than nobody. */
static void test_a_full_node_leads_when_nobody_else_can_and_gives_way_then(void **state)
{
    struct net *net = net_create();
    int leader = net_await_leader(net);
    int full = (leader + 1) % NET_MEMBERS;
    int behind = (leader + 2) % NET_MEMBERS;
    net_isolate(net, behind);
    fill_disk(net, full);
    write_until_full(net, leader, full);
    net_isolate(net, leader);
    net_run(net, NS_PER_S);
    net_rejoin(net, behind);
    net_isolate(net, leader); /* not from the other way round */
    assert_true(await_leadership(net, behind, 20 * NS_PER_S));
    assert_int_equal(net_status(net, behind).raft.last_index,
                     net_status(net, full).raft.last_index);
    assert_int_equal(outcome_of_a_read(net, behind), NODE_OK);
    assert_int_equal(outcome_of_a_write(net, behind, 50 * NS_PER_MS), NODE_DISK_FULL);
    make_room(net, full);
    net_run(net, 2 * NS_PER_S);
    assert_int_equal(outcome_of_a_write(net, behind, 50 * NS_PER_MS), NODE_OK);
    net_destroy(net);
}

static void flush(struct net *net, int member)
{
    assert_int_equal(chat_flush(net->nodes[member].chat, CHAT_FLUSH_NOW, net->now_ns), 0);
}

static uint64_t overlay_bytes(struct net *net, int member)
{
    struct chat_stats stats;
    chat_get_stats(net->nodes[member].chat, &stats);
    return stats.overlay_bytes;
}

/* One message more than fits into the overlay of a node whose store takes nothing. */
static void write_more_than_an_overlay(struct net *net, int idle)
{
    const int count = CHAT_OVERLAY_BYTES_MAX / PAYLOAD_BYTES * 5 / 4;
    for (int i = 0; i < count; i++) {
        struct net_call call;
        net_call_bytes(net, net_await_leader(net), &call, (struct bytes){payload, sizeof(payload)});
        net_run(net, 2 * NS_PER_MS);
        if (!call.is_done) {
            net_run(net, 20 * NS_PER_S); /* a leader that stands still gives way */
        }
        net_finish_call(&call);
        for (int node = 0; i % 64 == 0 && node < NET_MEMBERS; node++) {
            if (node != idle) {
                flush(net, node);
            }
        }
    }
}

static void test_a_leader_whose_store_stands_still_gives_way(void **state)
{
    struct net *net = net_create();
    int stuck = net_await_leader(net);
    write_more_than_an_overlay(net, stuck);
    net_run(net, 10 * NS_PER_S);
    int leader = net_await_leader(net);
    assert_int_not_equal(leader, stuck);
    assert_int_equal(outcome_of_a_write(net, leader, 50 * NS_PER_MS), NODE_OK);
    flush(net, stuck);
    net_run(net, NS_PER_S);
    flush(net, stuck);
    net_run(net, NS_PER_S);
    assert_int_equal(net_hand_over(net, leader, stuck), NODE_OK);
    net_destroy(net);
}

static void test_a_backlog_does_not_overfill_the_overlay(void **state)
{
    struct net *net = net_create();
    int late = (net_await_leader(net) + 1) % NET_MEMBERS;
    net_isolate(net, late);
    write_more_than_an_overlay(net, late);
    net_rejoin(net, late);
    net_run(net, 10 * NS_PER_S);
    assert_true(overlay_bytes(net, late) >= CHAT_OVERLAY_BYTES_MAX);
    assert_true(overlay_bytes(net, late) <
                CHAT_OVERLAY_BYTES_MAX + CHAT_OVERLAY_SLACK_BYTES + 2 * PAYLOAD_BYTES);
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
        cmocka_unit_test(test_what_is_on_its_way_finds_room_on_the_disks_of_a_full_majority),
        cmocka_unit_test(test_a_full_leader_gives_way_as_soon_as_another_can_lead),
        cmocka_unit_test(test_a_full_node_leads_when_nobody_else_can_and_gives_way_then),
        cmocka_unit_test(test_a_leader_whose_store_stands_still_gives_way),
        cmocka_unit_test(test_a_backlog_does_not_overfill_the_overlay),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
