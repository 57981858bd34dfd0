/* Snapshots between two nodes: offer, answer, chunks, ends. */
#include "peer_testing.h"

#define MANIFEST "a manifest, opaque here"

static const struct transport_ops *ops_of(struct test_node *node)
{
    return peer_transport(node->peer)->ops;
}

static int offer(struct test_node *node, raft_member to, uint64_t epoch)
{
    struct bytes manifest = {MANIFEST, sizeof(MANIFEST)};
    return ops_of(node)->snapshot_open(peer_transport(node->peer), to, epoch, 7, manifest);
}

static void answer(struct test_node *node, raft_member from, uint64_t epoch,
                   const struct peer_snapshot_answer *answer)
{
    ops_of(node)->snapshot_answer(peer_transport(node->peer), from, epoch, answer);
}

static void go_on(struct test_node *node, raft_member from, uint64_t epoch, uint32_t next_chunk)
{
    const struct peer_snapshot_answer go = {.next_chunk = next_chunk};
    answer(node, from, epoch, &go);
}

static void finish(struct test_node *node, raft_member from, uint64_t epoch,
                   enum peer_snapshot_end end, const char *reason)
{
    const struct peer_snapshot_answer over = {.is_over = true, .end = end, .reason = reason};
    answer(node, from, epoch, &over);
}

static void expect_ready(struct test_node *node, raft_member to, uint64_t epoch, uint32_t chunk)
{
    struct peer_event *event = take_event(node, PEER_EVENT_SNAPSHOT_READY, to);
    assert_int_equal(event->epoch, epoch);
    assert_int_equal(event->snapshot_ready.chunk, chunk);
    event->release(event);
}

static void expect_end(struct test_node *node, raft_member to, uint64_t epoch,
                       enum peer_snapshot_end end, const char *reason)
{
    struct peer_event *event = take_event(node, PEER_EVENT_SNAPSHOT_ENDED, to);
    assert_int_equal(event->epoch, epoch);
    assert_int_equal(event->snapshot_ended.end, end);
    if (reason != NULL) {
        assert_non_null(strstr(event->snapshot_ended.reason, reason));
    }
    event->release(event);
}

static void test_chunks_arrive_one_at_a_time_from_where_the_receiver_wants(void **state)
{
    struct test_cluster cluster;
    cluster_init(&cluster, 2);
    cluster_start(&cluster);
    struct test_node *sender = &cluster.nodes[0];
    struct test_node *receiver = &cluster.nodes[1];
    static uint8_t chunk[256 << 10];
    assert_int_equal(offer(sender, 1, 5), 0);
    assert_int_equal(offer(sender, 1, 6), ERR_BUSY);
    struct peer_event *event = take_event(receiver, PEER_EVENT_SNAPSHOT_OFFER, 0);
    uint64_t epoch = event->epoch;
    assert_int_equal(event->snapshot_offer.term, 7);
    assert_int_equal(event->snapshot_offer.manifest.size, sizeof(MANIFEST));
    assert_memory_equal(event->snapshot_offer.manifest.data, MANIFEST, sizeof(MANIFEST));
    event->release(event);
    go_on(receiver, 0, epoch, 3);
    for (uint32_t i = 3; i < 20; i++) {
        expect_ready(sender, 1, 5, i);
        memset(chunk, (int)i, sizeof(chunk));
        struct bytes data = {chunk, sizeof(chunk)};
        ops_of(sender)->snapshot_chunk(peer_transport(sender->peer), 1, 5, i, data);
        event = take_event(receiver, PEER_EVENT_SNAPSHOT_CHUNK, 0);
        assert_int_equal(event->epoch, epoch);
        assert_int_equal(event->snapshot_chunk.chunk, i);
        assert_int_equal(event->snapshot_chunk.data.size, sizeof(chunk));
        assert_int_equal(((const uint8_t *)event->snapshot_chunk.data.data)[sizeof(chunk) - 1], i);
        event->release(event);
    }
    expect_ready(sender, 1, 5, 20);
    finish(receiver, 0, epoch, PEER_SNAPSHOT_DONE, NULL);
    expect_end(sender, 1, 5, PEER_SNAPSHOT_DONE, NULL);
    expect_event(receiver, PEER_EVENT_SNAPSHOT_LOST, 0);
    assert_int_equal(offer(sender, 1, 6), 0);
    expect_event(receiver, PEER_EVENT_SNAPSHOT_OFFER, 0);
    cluster_finish(&cluster);
}

static void test_the_next_chunk_waits_for_the_release_of_the_one_before(void **state)
{
    struct test_cluster cluster;
    cluster_init(&cluster, 2);
    cluster_start(&cluster);
    struct test_node *sender = &cluster.nodes[0];
    struct test_node *receiver = &cluster.nodes[1];
    struct bytes data = {"chunk", 5};
    assert_int_equal(offer(sender, 1, 1), 0);
    uint64_t epoch = expect_event(receiver, PEER_EVENT_SNAPSHOT_OFFER, 0);
    go_on(receiver, 0, epoch, 0);
    for (uint32_t i = 0; i < 2; i++) {
        expect_ready(sender, 1, 1, i);
        ops_of(sender)->snapshot_chunk(peer_transport(sender->peer), 1, 1, i, data);
    }
    expect_ready(sender, 1, 1, 2); /* both have left */
    struct peer_event *first = take_event(receiver, PEER_EVENT_SNAPSHOT_CHUNK, 0);
    assert_false(has_event(receiver, PEER_EVENT_SNAPSHOT_CHUNK, 0));
    first->release(first);
    expect_event(receiver, PEER_EVENT_SNAPSHOT_CHUNK, 0);
    cluster_finish(&cluster);
}

static void test_a_refusal_reaches_the_sender_with_its_reason(void **state)
{
    struct test_cluster cluster;
    cluster_init(&cluster, 2);
    cluster_start(&cluster);
    assert_int_equal(offer(&cluster.nodes[0], 1, 1), 0);
    uint64_t epoch = expect_event(&cluster.nodes[1], PEER_EVENT_SNAPSHOT_OFFER, 0);
    finish(&cluster.nodes[1], 0, epoch, PEER_SNAPSHOT_REFUSED, "no room");
    expect_end(&cluster.nodes[0], 1, 1, PEER_SNAPSHOT_REFUSED, "no room");
    cluster_finish(&cluster);
}

static void test_another_cluster_is_refused_before_the_driver_hears_of_it(void **state)
{
    struct test_cluster cluster;
    cluster_init(&cluster, 2);
    cluster_start(&cluster);
    uint8_t one[CLUSTER_ID_BYTES] = {1};
    uint8_t two[CLUSTER_ID_BYTES] = {2};
    ops_of(&cluster.nodes[0])->set_cluster_id(peer_transport(cluster.nodes[0].peer), one);
    ops_of(&cluster.nodes[1])->set_cluster_id(peer_transport(cluster.nodes[1].peer), two);
    assert_int_equal(offer(&cluster.nodes[0], 1, 1), 0);
    expect_end(&cluster.nodes[0], 1, 1, PEER_SNAPSHOT_REFUSED, "cluster");
    assert_false(has_event(&cluster.nodes[1], PEER_EVENT_SNAPSHOT_OFFER, 0));
    cluster_finish(&cluster);
}

static void test_nobody_there_is_an_end_too(void **state)
{
    struct test_cluster cluster;
    cluster_init(&cluster, 2);
    cluster_start(&cluster);
    node_stop(&cluster.nodes[1]);
    assert_int_equal(offer(&cluster.nodes[0], 1, 1), 0);
    expect_end(&cluster.nodes[0], 1, 1, PEER_SNAPSHOT_BROKEN, NULL);
    cluster_finish(&cluster);
}

static void test_both_sides_hear_of_a_close(void **state)
{
    struct test_cluster cluster;
    cluster_init(&cluster, 2);
    cluster_start(&cluster);
    struct test_node *sender = &cluster.nodes[0];
    assert_int_equal(offer(sender, 1, 1), 0);
    uint64_t epoch = expect_event(&cluster.nodes[1], PEER_EVENT_SNAPSHOT_OFFER, 0);
    ops_of(sender)->snapshot_close(peer_transport(sender->peer), 1, 99); /* another one */
    assert_false(has_event(sender, PEER_EVENT_SNAPSHOT_ENDED, 1));
    ops_of(sender)->snapshot_close(peer_transport(sender->peer), 1, 1);
    expect_end(sender, 1, 1, PEER_SNAPSHOT_BROKEN, NULL);
    assert_int_equal(expect_event(&cluster.nodes[1], PEER_EVENT_SNAPSHOT_LOST, 0), epoch);
    go_on(&cluster.nodes[1], 0, epoch, 0); /* too late: nothing happens */
    cluster_finish(&cluster);
}

static void test_stopping_ends_what_is_under_way(void **state)
{
    struct test_cluster cluster;
    cluster_init(&cluster, 2);
    cluster_start(&cluster);
    assert_int_equal(offer(&cluster.nodes[0], 1, 1), 0);
    struct peer_event *event =
        take_event(&cluster.nodes[1], PEER_EVENT_SNAPSHOT_OFFER, RAFT_NO_MEMBER);
    node_stop(&cluster.nodes[0]);
    node_stop(&cluster.nodes[1]);
    event->release(event); /* later than all */
    cluster_finish(&cluster);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_chunks_arrive_one_at_a_time_from_where_the_receiver_wants),
        cmocka_unit_test(test_the_next_chunk_waits_for_the_release_of_the_one_before),
        cmocka_unit_test(test_a_refusal_reaches_the_sender_with_its_reason),
        cmocka_unit_test(test_another_cluster_is_refused_before_the_driver_hears_of_it),
        cmocka_unit_test(test_nobody_there_is_an_end_too),
        cmocka_unit_test(test_both_sides_hear_of_a_close),
        cmocka_unit_test(test_stopping_ends_what_is_under_way),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
