/* Who is refused, and that both sides say why. */
#include "base/log.h"
#include "lib/scratch.h"
#include "peer_testing.h"

#include <fcntl.h>
#include <sched.h>
#include <stdlib.h>
#include <unistd.h>

static const uint8_t cluster_a[CLUSTER_ID_BYTES] = {0xaa, 1};
static const uint8_t cluster_b[CLUSTER_ID_BYTES] = {0xbb, 2};

static void set_cluster_id(struct test_node *node, const uint8_t *cluster_id)
{
    struct transport *transport = peer_transport(node->peer);
    transport->ops->set_cluster_id(transport, cluster_id);
}

/* Opens a stream to node 1 that begins with `header`, and expects its refusal. */
static void expect_refused(struct test_cluster *cluster, const struct peer_header *header, int code,
                           const char *words)
{
    struct bare_call bare;
    bare_open(&bare, cluster->addresses[0], STREAM_PATH);
    bare_send_batch(&bare, header, NULL);
    AWAIT(bare.is_closed);
    assert_int_equal(bare.code, code);
    if (strstr(bare.text, words) == NULL) {
        fail_msg("\"%s\" does not say \"%s\"", bare.text, words);
    }
    assert_false(bare.has_headers);
    bare_finish(&bare);
    assert_false(has_event(&cluster->nodes[0], PEER_EVENT_HELLO, RAFT_NO_MEMBER));
}

static void test_a_hello_that_does_not_fit_is_refused_with_the_reason(void **state)
{
    struct test_cluster cluster;
    cluster_init(&cluster, 3);
    memcpy(cluster.nodes[0].options.cluster_id, cluster_a, sizeof(cluster_a));
    node_start(&cluster.nodes[0]);
    const int code = GRPC_STATUS_FAILED_PRECONDITION;
    struct peer_header header = hello_of(&cluster, 1, 0);
    header.format_version = PEER_FORMAT_VERSION + 1;
    expect_refused(&cluster, &header, code, "node2 speaks version 2 of the peer stream");
    header = hello_of(&cluster, 1, 2);
    expect_refused(&cluster, &header, code, "node2 looks for node3 here, but this is node1");
    header = hello_of(&cluster, 0, 0);
    expect_refused(&cluster, &header, code, "another node says that it is node1, too");
    header = hello_of(&cluster, 1, 0);
    header.from_node_id = bytes_of_text("stran\nger");
    expect_refused(&cluster, &header, code, "stran?ger is not among the peers");
    header = hello_of(&cluster, 1, 0);
    header.incarnation = 0;
    expect_refused(&cluster, &header, code, "node2 does not say which data_dir it has");
    header = hello_of(&cluster, 1, 0);
    header.membership_hash++;
    expect_refused(&cluster, &header, code, "node2 and node1 are configured with different peers");
    header = hello_of(&cluster, 1, 0);
    memcpy(header.cluster_id, cluster_b, sizeof(cluster_b));
    expect_refused(&cluster, &header, code,
                   "node2 belongs to cluster bb020000000000000000000000000000, node1 to cluster "
                   "aa010000000000000000000000000000");
    header = hello_of(&cluster, 1, 0);
    char words[128];
    snprintf(words, sizeof(words),
             "node2 does not name the cluster of node1: a new node receives the id "
             "at its raft_addr, %s",
             cluster.addresses[1]);
    expect_refused(&cluster, &header, code, words);
    cluster_finish(&cluster);
}

static void test_garbage_is_refused(void **state)
{
    struct test_cluster cluster;
    cluster_init(&cluster, 3);
    node_start(&cluster.nodes[0]);
    const struct bytes garbage[] = {
        {"\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff", 12},
        {"GET / HTTP/1.1\r\n\r\n", 18},
        {"\x4a\x7f", 2},
        {"{\"from_node_id\":\"node2\"}", 24},
    };
    for (size_t i = 0; i < sizeof(garbage) / sizeof(garbage[0]); i++) {
        struct bare_call bare;
        bare_open(&bare, cluster.addresses[0], STREAM_PATH);
        bare_send(&bare, garbage[i]);
        AWAIT(bare.is_closed);
        assert_int_equal(bare.code, GRPC_STATUS_INVALID_ARGUMENT);
        bare_finish(&bare);
    }
    /* Nothing at all is no hello either. */
    struct peer_header empty = {.format_version = 0};
    expect_refused(&cluster, &empty, GRPC_STATUS_FAILED_PRECONDITION, "version 0");
    assert_false(has_event(&cluster.nodes[0], PEER_EVENT_STREAM_LOST, RAFT_NO_MEMBER));
    cluster_finish(&cluster);
}

/* Greets as node 2, then sends another batch; expects the end of the stream. */
static void expect_refused_later(struct test_cluster *cluster, const struct peer_header *second,
                                 const struct peer_message *message, int code, const char *words)
{
    struct peer_header header = hello_of(cluster, 1, 0);
    memcpy(header.cluster_id, cluster_a, sizeof(cluster_a));
    struct bare_call bare;
    bare_open(&bare, cluster->addresses[0], STREAM_PATH);
    bare_send_batch(&bare, &header, NULL);
    expect_event(&cluster->nodes[0], PEER_EVENT_HELLO, 1);
    bare_send_batch(&bare, second, message);
    AWAIT(bare.is_closed);
    assert_int_equal(bare.code, code);
    assert_non_null(strstr(bare.text, words));
    bare_finish(&bare);
    expect_event(&cluster->nodes[0], PEER_EVENT_STREAM_LOST, 1);
    assert_false(has_event(&cluster->nodes[0], PEER_EVENT_MESSAGES, 1));
}

/* Of node 2, which knows its cluster. */
static struct peer_header hello_of_a(const struct test_cluster *cluster)
{
    struct peer_header header = hello_of(cluster, 1, 0);
    memcpy(header.cluster_id, cluster_a, sizeof(cluster_a));
    return header;
}

static void test_a_stream_that_changes_its_mind_is_refused(void **state)
{
    struct test_cluster cluster;
    cluster_init(&cluster, 3);
    memcpy(cluster.nodes[0].options.cluster_id, cluster_a, sizeof(cluster_a));
    node_start(&cluster.nodes[0]);
    const int code = GRPC_STATUS_FAILED_PRECONDITION;
    struct peer_message message = {.raft = {.kind = RAFT_TIMEOUT_NOW, .term = 1}};
    struct peer_header header = hello_of_a(&cluster);
    header.incarnation++;
    expect_refused_later(&cluster, &header, &message, code, "another node, incarnation or stream");
    header = hello_of_a(&cluster);
    header.stream_id++;
    expect_refused_later(&cluster, &header, &message, code, "another node, incarnation or stream");
    header = hello_of_a(&cluster);
    header.from_node_id = bytes_of_text("node3");
    expect_refused_later(&cluster, &header, &message, code, "another node, incarnation or stream");
    header = hello_of_a(&cluster);
    memcpy(header.cluster_id, cluster_b, sizeof(cluster_b));
    expect_refused_later(&cluster, &header, &message, code, "belongs to cluster bb02");
    header = hello_of_a(&cluster);
    message.raft = (struct raft_message){.kind = RAFT_VOTE_REQUEST};
    expect_refused_later(&cluster, &header, &message, GRPC_STATUS_INVALID_ARGUMENT,
                         "a vote request for term 0");
    header = hello_of(&cluster, 1, 0);
    expect_refused_later(&cluster, &header, &message, code, "does not name the cluster of node1");
    cluster_finish(&cluster);
}

static void test_a_cluster_id_that_is_learnt_later_is_no_change_of_mind(void **state)
{
    struct test_cluster cluster;
    cluster_init(&cluster, 2);
    cluster_start(&cluster);
    set_cluster_id(&cluster.nodes[0], cluster_a);
    struct transport *transport = peer_transport(cluster.nodes[0].peer);
    transport->ops->set_not_fresh(transport);
    struct peer_message message = {.raft = {.kind = RAFT_TIMEOUT_NOW, .term = 1}};
    assert_int_equal(send_to(&cluster.nodes[0], 1, &message), 0);
    flush(&cluster.nodes[0]);
    expect_event(&cluster.nodes[1], PEER_EVENT_MESSAGES, 0);
    set_cluster_id(&cluster.nodes[1], cluster_a);
    assert_int_equal(send_to(&cluster.nodes[0], 1, &message), 0);
    assert_int_equal(send_to(&cluster.nodes[1], 0, &message), 0);
    flush(&cluster.nodes[0]);
    flush(&cluster.nodes[1]);
    expect_event(&cluster.nodes[1], PEER_EVENT_MESSAGES, 0);
    expect_event(&cluster.nodes[0], PEER_EVENT_MESSAGES, 1);
    /* Two that find out that they are not of one cluster part. */
    set_cluster_id(&cluster.nodes[1], cluster_b);
    assert_int_equal(send_to(&cluster.nodes[1], 0, &message), 0);
    flush(&cluster.nodes[1]);
    expect_event(&cluster.nodes[0], PEER_EVENT_STREAM_LOST, 1);
    expect_event(&cluster.nodes[1], PEER_EVENT_DIAL_LOST, 0);
    cluster_finish(&cluster);
}

static void test_a_stranger_at_another_address_never_hears_the_cluster_id(void **state)
{
    struct test_cluster cluster;
    cluster_init(&cluster, 2);
    memcpy(cluster.nodes[0].options.cluster_id, cluster_a, sizeof(cluster_a));
    node_start(&cluster.nodes[0]);
    /* All that it says is right, as far as it can be known from outside. */
    struct test_node stranger = {.options = cluster.nodes[1].options};
    char address[32];
    snprintf(address, sizeof(address), "127.0.0.1:%d", free_port());
    stranger.options.bind_addr = address;
    stranger.options.receiver.context = &stranger;
    list_init(&stranger.events);
    node_start(&stranger);
    uint64_t until_ns = now_ns() + 2 * NS_PER_S;
    while (now_ns() < until_ns) {
        sched_yield();
    }
    assert_false(has_event(&cluster.nodes[0], PEER_EVENT_HELLO, 1));
    assert_false(has_event(&stranger, PEER_EVENT_DIAL_UP, 0));
    node_stop(&stranger);
    cluster_finish(&cluster);
}

static void test_a_new_node_hears_the_cluster_id_at_its_address_and_is_let_in(void **state)
{
    struct test_cluster cluster;
    cluster_init(&cluster, 3);
    for (int i = 0; i < 2; i++) {
        memcpy(cluster.nodes[i].options.cluster_id, cluster_a, sizeof(cluster_a));
        cluster.nodes[i].options.is_fresh = false;
    }
    cluster_start(&cluster);
    struct peer_message message = {.raft = {.kind = RAFT_TIMEOUT_NOW, .term = 1}};
    assert_int_equal(send_to(&cluster.nodes[2], 0, &message), 0);
    flush(&cluster.nodes[2]);
    expect_event(&cluster.nodes[0], PEER_EVENT_MESSAGES, 2);
    /* As it does after each start, while it still has no id of its own. */
    node_stop(&cluster.nodes[2]);
    expect_event(&cluster.nodes[0], PEER_EVENT_STREAM_LOST, 2);
    node_start(&cluster.nodes[2]);
    expect_event(&cluster.nodes[0], PEER_EVENT_HELLO, 2);
    expect_event(&cluster.nodes[1], PEER_EVENT_HELLO, 2);
    cluster_finish(&cluster);
}

static void test_a_stream_from_before_the_founding_need_not_name_the_cluster_at_once(void **state)
{
    struct test_cluster cluster;
    cluster_init(&cluster, 3);
    node_start(&cluster.nodes[0]);
    struct peer_header header = hello_of(&cluster, 1, 0);
    struct bare_call bare;
    bare_open(&bare, cluster.addresses[0], STREAM_PATH);
    bare_send_batch(&bare, &header, NULL);
    expect_event(&cluster.nodes[0], PEER_EVENT_HELLO, 1);
    set_cluster_id(&cluster.nodes[0], cluster_a);
    struct peer_message message = {.raft = {.kind = RAFT_TIMEOUT_NOW, .term = 1}};
    bare_send_batch(&bare, &header, &message);
    expect_event(&cluster.nodes[0], PEER_EVENT_MESSAGES, 1);
    memcpy(header.cluster_id, cluster_a, sizeof(cluster_a));
    bare_send_batch(&bare, &header, &message);
    expect_event(&cluster.nodes[0], PEER_EVENT_MESSAGES, 1);
    /* It knows it by now. */
    header = hello_of(&cluster, 1, 0);
    bare_send_batch(&bare, &header, &message);
    AWAIT(bare.is_closed);
    assert_non_null(strstr(bare.text, "does not name the cluster of node1"));
    bare_finish(&bare);
    cluster_finish(&cluster);
}

/* Reads what the file has had so far, and counts the lines with all of three words. */
static int count_lines(FILE *file, const char *a, const char *b, const char *c)
{
    char line[4096];
    int count = 0;
    rewind(file);
    while (fgets(line, sizeof(line), file) != NULL) {
        count += strstr(line, a) != NULL && strstr(line, b) != NULL && strstr(line, c) != NULL;
    }
    return count;
}

static void test_both_sides_log_the_reason_once(void **state)
{
    struct test_cluster cluster;
    cluster_init(&cluster, 2);
    memcpy(cluster.nodes[0].options.cluster_id, cluster_a, sizeof(cluster_a));
    memcpy(cluster.nodes[1].options.cluster_id, cluster_b, sizeof(cluster_b));
    /* Two descriptions of one file: reading must not move where the log writes. */
    char path[64];
    int log_fd = scratch_make_file(path, sizeof(path), "raftogram-peer-log");
    FILE *lines = fopen(path, "r");
    assert_non_null(lines);
    assert_int_equal(unlink(path), 0);
    log_init(false, LOG_LEVEL_WARN);
    log_set_fd(log_fd);
    node_start(&cluster.nodes[1]);
    node_start(&cluster.nodes[0]);
    const char *reason = "node1 belongs to cluster aa01";
    uint64_t until_ns = now_ns() + AWAIT_NS;
    while (count_lines(lines, "peer refuses this node", "node2", reason) == 0 &&
           now_ns() < until_ns) {
        sched_yield();
    }
    /* Some more tries, which are not told again. */
    until_ns = now_ns() + NS_PER_S;
    while (now_ns() < until_ns) {
        sched_yield();
    }
    assert_int_equal(count_lines(lines, "peer refuses this node", "node2", reason), 1);
    assert_int_equal(count_lines(lines, "refused a stream", "node1", reason), 1);
    assert_false(has_event(&cluster.nodes[0], PEER_EVENT_DIAL_UP, 1));
    assert_false(has_event(&cluster.nodes[0], PEER_EVENT_DIAL_LOST, 1));
    cluster_finish(&cluster);
    log_init(true, LOG_LEVEL_ERROR);
    log_set_fd(2);
    fclose(lines);
    close(log_fd);
}

static void test_membership_is_the_set_of_node_ids(void **state)
{
    const struct cluster_member one[] = {{.node_id = "a"}, {.node_id = "b"}, {.node_id = "c"}};
    const struct cluster_member moved[] = {{.node_id = "c"}, {.node_id = "a"}, {.node_id = "b"}};
    const struct cluster_member other[] = {{.node_id = "a"}, {.node_id = "b"}, {.node_id = "d"}};
    const struct cluster_member joined[] = {{.node_id = "ab"}, {.node_id = "c"}};
    const struct cluster_member split[] = {{.node_id = "a"}, {.node_id = "bc"}};
    assert_true(peer_membership_hash(one, 3) == peer_membership_hash(moved, 3));
    assert_true(peer_membership_hash(one, 3) != peer_membership_hash(other, 3));
    assert_true(peer_membership_hash(one, 3) != peer_membership_hash(one, 1));
    assert_true(peer_membership_hash(joined, 2) != peer_membership_hash(split, 2));
}

int main(void)
{
    log_init(true, LOG_LEVEL_ERROR);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_hello_that_does_not_fit_is_refused_with_the_reason),
        cmocka_unit_test(test_garbage_is_refused),
        cmocka_unit_test(test_a_stream_that_changes_its_mind_is_refused),
        cmocka_unit_test(test_a_cluster_id_that_is_learnt_later_is_no_change_of_mind),
        cmocka_unit_test(test_a_stranger_at_another_address_never_hears_the_cluster_id),
        cmocka_unit_test(test_a_new_node_hears_the_cluster_id_at_its_address_and_is_let_in),
        cmocka_unit_test(test_a_stream_from_before_the_founding_need_not_name_the_cluster_at_once),
        cmocka_unit_test(test_both_sides_log_the_reason_once),
        cmocka_unit_test(test_membership_is_the_set_of_node_ids),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
