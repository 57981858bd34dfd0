/* Bytes that were changed on the way between two nodes. */
#include "base/log.h"
#include "peer/peer_internal.h"
#include "peer_testing.h"

#include <unistd.h>

static struct raft_entry entries[] = {{.term = 3, .data = "hello", .size = 5},
                                      {.term = 3, .data = "world", .size = 5}};

static struct peer_message append_message(void)
{
    struct peer_message message = {.kind = PEER_MESSAGE_RAFT,
                                   .raft = {.kind = RAFT_APPEND_REQUEST, .peer = 1, .term = 3}};
    message.raft.append_request.prev_index = 7;
    message.raft.append_request.prev_term = 2;
    message.raft.append_request.commit = 6;
    message.raft.append_request.count = 2;
    message.raft.append_request.entries = entries;
    return message;
}

/* A batch with one append request in it. */
static void make_sealed(const struct peer_header *header, struct buf *wire)
{
    struct peer_message message = append_message();
    buf_init(wire, 0);
    uint8_t *room = buf_extend(wire, peer_header_size(header));
    assert_non_null(room);
    peer_header_write(header, room);
    assert_int_equal(peer_message_append(&message, header->from_node_id, wire), 0);
    peer_batch_seal(wire->data, wire->size, peer_header_size(header));
}

static void test_any_flipped_bit_of_a_batch_is_noticed(void **state)
{
    struct test_cluster cluster;
    cluster_init(&cluster, 3);
    struct peer_header header = hello_of(&cluster, 1, 0);
    struct buf wire;
    make_sealed(&header, &wire);
    struct peer_batch batch;
    assert_int_equal(peer_batch_scan(buf_bytes(&wire), &batch), 0);
    assert_true(batch.checksum != 0);
    assert_true(peer_batch_is_sound(buf_bytes(&wire), &batch));
    unsigned unsealed = 0;
    for (size_t byte = 0; byte < wire.size; byte++) {
        for (unsigned bit = 0; bit < 8; bit++) {
            uint8_t *data = wire.data;
            data[byte] ^= (uint8_t)(1u << bit);
            int rc = peer_batch_scan(buf_bytes(&wire), &batch);
            bool is_taken = rc == 0 && peer_batch_is_sound(buf_bytes(&wire), &batch);
            if (is_taken) {
                /* The field itself is gone: a stream that had it once must have it always. */
                assert_int_equal(batch.checksum, 0);
                unsealed++;
            }
            data[byte] ^= (uint8_t)(1u << bit);
        }
    }
    assert_true(unsealed < 32);
    buf_finish(&wire);
    cluster_finish(&cluster);
}

/* A stream that is sealed from the beginning, and then one more batch. */
static void expect_refused_batch(struct test_cluster *cluster, struct bytes second)
{
    struct peer_header header = hello_of(cluster, 1, 0);
    struct buf hello;
    make_sealed(&header, &hello);
    struct bare_call bare;
    bare_open(&bare, cluster->addresses[0], STREAM_PATH);
    bare_send(&bare, buf_bytes(&hello));
    expect_event(&cluster->nodes[0], PEER_EVENT_HELLO, 1);
    expect_event(&cluster->nodes[0], PEER_EVENT_MESSAGES, 1);
    bare_send(&bare, second);
    AWAIT(bare.is_closed);
    assert_int_equal(bare.code, GRPC_STATUS_INVALID_ARGUMENT);
    assert_non_null(strstr(bare.text, "its checksum is wrong"));
    bare_finish(&bare);
    buf_finish(&hello);
    expect_event(&cluster->nodes[0], PEER_EVENT_STREAM_LOST, 1);
    assert_false(has_event(&cluster->nodes[0], PEER_EVENT_MESSAGES, 1));
}

static void test_a_changed_batch_ends_its_stream(void **state)
{
    struct test_cluster cluster;
    cluster_init(&cluster, 3);
    node_start(&cluster.nodes[0]);
    struct peer_header header = hello_of(&cluster, 1, 0);
    struct buf wire;
    make_sealed(&header, &wire);
    uint8_t *payload = memmem(wire.data, wire.size, "world", 5);
    assert_non_null(payload);
    payload[0] ^= 1;
    expect_refused_batch(&cluster, buf_bytes(&wire));
    payload[0] ^= 1;
    /* Without a checksum, on a stream that has them. */
    memset((uint8_t *)wire.data + peer_header_size(&header) - 8, 0, 8);
    expect_refused_batch(&cluster, buf_bytes(&wire));
    buf_finish(&wire);
    cluster_finish(&cluster);
}

/* gRPC waits for the rest of a message that never was, and takes all that follows for it. */
static void test_a_stream_on_which_nothing_passes_is_ended(void **state)
{
    struct test_cluster cluster;
    cluster_init(&cluster, 3);
    node_start(&cluster.nodes[0]);
    struct peer_header header = hello_of(&cluster, 1, 0);
    struct buf hello;
    make_sealed(&header, &hello);
    struct bare_call bare;
    bare_open(&bare, cluster.addresses[0], STREAM_PATH);
    bare_send(&bare, buf_bytes(&hello));
    expect_event(&cluster.nodes[0], PEER_EVENT_HELLO, 1);
    uint64_t until_ns = now_ns() + 3 * STREAM_SILENCE_NS;
    while (!bare.is_closed && now_ns() < until_ns) {
        usleep(10000);
    }
    assert_true(bare.is_closed);
    assert_int_equal(bare.code, GRPC_STATUS_UNAVAILABLE);
    assert_non_null(strstr(bare.text, "no whole batch has come"));
    bare_finish(&bare);
    buf_finish(&hello);
    cluster_finish(&cluster);
}

/* Longer than a silent one would: the nodes give signs. */
static void test_an_idle_stream_stays(void **state)
{
    struct test_cluster cluster;
    cluster_init(&cluster, 2);
    cluster_start(&cluster);
    uint64_t until_ns = now_ns() + STREAM_SILENCE_NS + 3 * NS_PER_S;
    while (now_ns() < until_ns) {
        usleep(10000);
        for (int i = 0; i < 2; i++) {
            assert_false(has_event(&cluster.nodes[i], PEER_EVENT_STREAM_LOST, 1 - i));
        }
    }
    cluster_finish(&cluster);
}

int main(void)
{
    log_init(true, LOG_LEVEL_ERROR);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_any_flipped_bit_of_a_batch_is_noticed),
        cmocka_unit_test(test_a_changed_batch_ends_its_stream),
        cmocka_unit_test(test_a_stream_on_which_nothing_passes_is_ended),
        cmocka_unit_test(test_an_idle_stream_stays),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
