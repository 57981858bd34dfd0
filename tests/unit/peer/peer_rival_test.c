/* Two processes with one node id: the first stays, the other is refused, and all are told. */
#include "base/log.h"
#include "lib/scratch.h"
#include "peer_testing.h"

#include <fcntl.h>
#include <sched.h>
#include <unistd.h>

/* Another process that says it is node 2; it listens elsewhere. */
struct rival {
    struct test_node node;
    char address[32];
};

static void rival_start(struct rival *rival, const struct test_cluster *cluster)
{
    memset(rival, 0, sizeof(*rival));
    rival->node.options = cluster->nodes[1].options;
    rival->node.options.incarnation++;
    snprintf(rival->address, sizeof(rival->address), "127.0.0.1:%d", free_port());
    rival->node.options.bind_addr = rival->address;
    rival->node.options.receiver.context = &rival->node;
    list_init(&rival->node.events);
    node_start(&rival->node);
}

static struct peer_message vote_for(raft_term term)
{
    return (struct peer_message){
        .raft = {.kind = RAFT_VOTE_REQUEST, .term = term, .vote_request = {.for_term = term}}};
}

static void open_bare(struct bare_call *bare, const struct test_cluster *cluster, uint64_t process)
{
    struct peer_header header = hello_of(cluster, 1, 0);
    header.process = process;
    header.listen_addr = bytes_of_text("10.1.2.3:7000");
    bare_open(bare, cluster->addresses[0], STREAM_PATH);
    bare_send_batch(bare, &header, NULL);
}

/* Counts the lines of the file so far with all of the words. */
static int count_lines(FILE *file, const char *const *words, size_t count)
{
    char line[4096];
    int lines = 0;
    rewind(file);
    while (fgets(line, sizeof(line), file) != NULL) {
        bool has_all = true;
        for (size_t i = 0; i < count; i++) {
            has_all = has_all && strstr(line, words[i]) != NULL;
        }
        lines += has_all;
    }
    return lines;
}

static void await_line(FILE *file, const char *const *words, size_t count)
{
    uint64_t until_ns = now_ns() + AWAIT_NS;
    while (count_lines(file, words, count) == 0 && now_ns() < until_ns) {
        sched_yield();
    }
    if (count_lines(file, words, count) != 1) {
        fail_msg("no line, or several, with \"%s\"", words[0]);
    }
}

static void test_the_newcomer_is_refused_while_the_first_answers_and_all_are_told(void **state)
{
    char path[64];
    int log_fd = scratch_make_file(path, sizeof(path), "raftogram-rival-log");
    FILE *lines = fopen(path, "r");
    assert_non_null(lines);
    assert_int_equal(unlink(path), 0);
    log_init(false, LOG_LEVEL_WARN);
    log_set_fd(log_fd);
    struct test_cluster cluster;
    cluster_init(&cluster, 2);
    cluster_start(&cluster);
    struct rival rival;
    rival_start(&rival, &cluster);
    const char *address = cluster.addresses[1];
    const char *const refuser[] = {"refused a stream", "two processes have node_id node2", address,
                                   rival.address};
    const char *const refused[] = {"peer refuses this node", "two processes have node_id node2",
                                   address, rival.address};
    const char *const first[] = {"two processes have this node's id", address, rival.address};
    await_line(lines, refuser, 4);
    await_line(lines, refused, 4);
    await_line(lines, first, 3);
    /* Its further tries change nothing, and are not told again. */
    uint64_t until_ns = now_ns() + 3 * NS_PER_S;
    while (now_ns() < until_ns) {
        sched_yield();
    }
    assert_int_equal(count_lines(lines, refuser, 4), 1);
    assert_int_equal(count_lines(lines, refused, 4), 1);
    assert_int_equal(count_lines(lines, first, 3), 1);
    assert_false(has_event(&cluster.nodes[0], PEER_EVENT_STREAM_LOST, 1));
    assert_false(has_event(&cluster.nodes[1], PEER_EVENT_DIAL_LOST, 0));
    assert_false(has_event(&cluster.nodes[0], PEER_EVENT_HELLO, 1));
    assert_false(has_event(&rival.node, PEER_EVENT_DIAL_UP, 0));
    struct peer_message message = vote_for(1);
    assert_int_equal(send_to(&cluster.nodes[1], 0, &message), 0);
    flush(&cluster.nodes[1]);
    assert_int_equal(expect_event(&cluster.nodes[0], PEER_EVENT_MESSAGES, 1), 1);
    /* When the first has gone, the other one has its turn. */
    node_stop(&cluster.nodes[1]);
    assert_int_equal(expect_event(&cluster.nodes[0], PEER_EVENT_HELLO, 1), 2);
    node_stop(&rival.node);
    cluster_finish(&cluster);
    log_init(true, LOG_LEVEL_ERROR);
    log_set_fd(2);
    fclose(lines);
    close(log_fd);
}

static void test_a_stream_that_gives_no_sign_of_life_makes_room(void **state)
{
    struct test_cluster cluster;
    cluster_init(&cluster, 2);
    node_start(&cluster.nodes[0]);
    struct bare_call silent; /* it answers no probe, as one whose host has lost its power */
    open_bare(&silent, &cluster, 1);
    assert_int_equal(expect_event(&cluster.nodes[0], PEER_EVENT_HELLO, 1), 1);
    uint64_t begin_ns = now_ns();
    node_start(&cluster.nodes[1]);
    assert_int_equal(expect_event(&cluster.nodes[0], PEER_EVENT_HELLO, 1), 2);
    assert_true(now_ns() - begin_ns >= 2 * ELECTION_TIMEOUT_MS * NS_PER_MS);
    AWAIT(silent.is_closed);
    assert_int_equal(silent.code, GRPC_STATUS_ABORTED);
    expect_event(&cluster.nodes[1], PEER_EVENT_DIAL_UP, 0);
    bare_finish(&silent);
    cluster_finish(&cluster);
}

static void test_what_a_hello_brought_is_kept_until_the_first_has_gone(void **state)
{
    struct test_cluster cluster;
    cluster_init(&cluster, 2);
    cluster.nodes[0].options.election_timeout_ms = 60000;
    node_start(&cluster.nodes[0]);
    struct bare_call first;
    open_bare(&first, &cluster, 1);
    assert_int_equal(expect_event(&cluster.nodes[0], PEER_EVENT_HELLO, 1), 1);
    struct peer_header header = hello_of(&cluster, 1, 0);
    struct peer_message message = vote_for(7);
    struct bare_call second;
    bare_open(&second, cluster.addresses[0], STREAM_PATH);
    bare_send_batch(&second, &header, &message);
    assert_false(has_event(&cluster.nodes[0], PEER_EVENT_HELLO, 1));
    bare_finish(&first);
    assert_int_equal(expect_event(&cluster.nodes[0], PEER_EVENT_STREAM_LOST, 1), 1);
    assert_int_equal(expect_event(&cluster.nodes[0], PEER_EVENT_HELLO, 1), 2);
    struct peer_event *event = take_event(&cluster.nodes[0], PEER_EVENT_MESSAGES, 1);
    assert_int_equal(event->epoch, 2);
    assert_int_equal(event->messages.items[0].raft.term, 7);
    event->release(event);
    AWAIT(second.has_headers);
    bare_finish(&second);
    cluster_finish(&cluster);
}

static void test_of_several_newcomers_the_newest_waits(void **state)
{
    struct test_cluster cluster;
    cluster_init(&cluster, 2);
    cluster.nodes[0].options.election_timeout_ms = 60000;
    node_start(&cluster.nodes[0]);
    struct bare_call first;
    open_bare(&first, &cluster, 1);
    expect_event(&cluster.nodes[0], PEER_EVENT_HELLO, 1);
    struct bare_call second;
    struct bare_call third;
    open_bare(&second, &cluster, 2);
    open_bare(&third, &cluster, 3);
    AWAIT(second.is_closed);
    assert_int_equal(second.code, GRPC_STATUS_ABORTED);
    bare_finish(&third); /* and goes */
    /* A batch is the sign of life: whoever came between the two is refused by it. */
    struct bare_call fourth;
    open_bare(&fourth, &cluster, 4);
    struct peer_header header = hello_of(&cluster, 1, 0);
    header.process = 1;
    do {
        bare_send_batch(&first, &header, NULL);
    } while (!fourth.is_closed && !first.is_closed);
    AWAIT(fourth.is_closed);
    assert_false(first.is_closed);
    assert_int_equal(fourth.code, GRPC_STATUS_FAILED_PRECONDITION);
    assert_non_null(strstr(fourth.text, "two processes have node_id node2"));
    assert_non_null(strstr(fourth.text, "10.1.2.3:7000"));
    bare_finish(&first);
    bare_finish(&second);
    bare_finish(&fourth);
    cluster_finish(&cluster);
}

static void test_the_same_process_replaces_its_own_stream_at_once(void **state)
{
    struct test_cluster cluster;
    cluster_init(&cluster, 2);
    cluster.nodes[0].options.election_timeout_ms = 60000;
    node_start(&cluster.nodes[0]);
    struct bare_call first;
    struct bare_call second;
    open_bare(&first, &cluster, 5);
    assert_int_equal(expect_event(&cluster.nodes[0], PEER_EVENT_HELLO, 1), 1);
    open_bare(&second, &cluster, 5);
    assert_int_equal(expect_event(&cluster.nodes[0], PEER_EVENT_HELLO, 1), 2);
    AWAIT(first.is_closed);
    assert_int_equal(first.code, GRPC_STATUS_ABORTED);
    bare_finish(&first);
    bare_finish(&second);
    cluster_finish(&cluster);
}

int main(void)
{
    log_init(true, LOG_LEVEL_ERROR);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_the_newcomer_is_refused_while_the_first_answers_and_all_are_told),
        cmocka_unit_test(test_a_stream_that_gives_no_sign_of_life_makes_room),
        cmocka_unit_test(test_what_a_hello_brought_is_kept_until_the_first_has_gone),
        cmocka_unit_test(test_of_several_newcomers_the_newest_waits),
        cmocka_unit_test(test_the_same_process_replaces_its_own_stream_at_once),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
