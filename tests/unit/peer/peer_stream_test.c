/* Two or three whole nodes: what they say to each other, and when one comes, goes or lags. */
#include "peer_messages.h"
#include "peer_testing.h"

#include "base/log.h"

#include <sched.h>
#include <signal.h>
#include <spawn.h>
#include <stdnoreturn.h>
#include <sys/prctl.h>
#include <sys/wait.h>

static struct peer_message numbered(uint64_t number)
{
    return (struct peer_message){.kind = PEER_MESSAGE_APPLY_HASH,
                                 .apply_hash = {.index = number, .hash = number}};
}

static void test_every_kind_arrives_as_it_was_sent(void **state)
{
    struct test_cluster cluster;
    cluster_init(&cluster, 3);
    cluster_start(&cluster);
    struct peer_message samples[SAMPLES_MAX];
    size_t count = make_samples(samples);
    for (size_t i = 0; i < count; i++) {
        assert_int_equal(send_to(&cluster.nodes[0], 2, &samples[i]), 0);
    }
    flush(&cluster.nodes[0]);
    struct peer_event *event = take_event(&cluster.nodes[2], PEER_EVENT_MESSAGES, 0);
    assert_int_equal(event->messages.count, count); /* one flush is one batch */
    for (size_t i = 0; i < count; i++) {
        assert_true(is_same_message(&event->messages.items[i], &samples[i]));
    }
    assert_int_equal(batches_of(&cluster.nodes[1]), 0);
    event->release(event);
    struct peer_stats stats;
    peer_get_stats(cluster.nodes[0].peer, &stats);
    assert_int_equal(stats.messages_sent, 10); /* the others are not Raft's */
    assert_int_equal(stats.messages_dropped, 0);
    assert_int_equal(stats.connects, 2);
    cluster_finish(&cluster);
}

static void test_a_3_mib_entry_and_4096_entries_arrive_whole(void **state)
{
    struct test_cluster cluster;
    cluster_init(&cluster, 2);
    cluster_start(&cluster);
    const uint32_t large_size = 3u << 20;
    char *large = malloc(large_size);
    for (uint32_t i = 0; i < large_size; i++) {
        large[i] = (char)(i * 2654435761u >> 24);
    }
    struct raft_entry *entries = calloc(RAFT_APPEND_ENTRIES_MAX, sizeof(*entries));
    for (uint32_t i = 0; i < RAFT_APPEND_ENTRIES_MAX; i++) {
        entries[i] = (struct raft_entry){.term = 2, .data = large + i, .size = 256};
    }
    const struct raft_entry one = {.term = 2, .data = large, .size = large_size};
    const struct peer_message messages[2] = {
        {.raft = {.kind = RAFT_APPEND_REQUEST,
                  .term = 2,
                  .append_request = {.prev_index = 9, .count = 1, .entries = &one}}},
        {.raft = {.kind = RAFT_APPEND_REQUEST,
                  .term = 2,
                  .append_request = {.prev_index = 10,
                                     .count = RAFT_APPEND_ENTRIES_MAX,
                                     .entries = entries}}},
    };
    assert_int_equal(send_to(&cluster.nodes[0], 1, &messages[0]), 0);
    assert_int_equal(send_to(&cluster.nodes[0], 1, &messages[1]), 0);
    flush(&cluster.nodes[0]);
    struct peer_event *event = take_event(&cluster.nodes[1], PEER_EVENT_MESSAGES, 0);
    assert_int_equal(event->messages.count, 2);
    assert_true(is_same_message(&event->messages.items[0], &messages[0]));
    assert_true(is_same_message(&event->messages.items[1], &messages[1]));
    event->release(event);
    free(entries);
    free(large);
    cluster_finish(&cluster);
}

/* Takes batches until `count` numbered messages have come, which must be 0, 1, 2, ... */
static void expect_numbers(struct test_node *node, raft_member from, uint64_t first, uint64_t count)
{
    uint64_t expected = first;
    while (expected < first + count) {
        struct peer_event *event = take_event(node, PEER_EVENT_MESSAGES, from);
        for (size_t i = 0; i < event->messages.count; i++) {
            assert_int_equal(event->messages.items[i].apply_hash.index, expected++);
        }
        event->release(event);
    }
}

static void test_order_is_kept_and_batches_are_joined_while_a_send_is_on_its_way(void **state)
{
    struct test_cluster cluster;
    cluster_init(&cluster, 2);
    cluster_start(&cluster);
    const uint64_t count = 50000;
    for (uint64_t i = 0; i < count; i++) {
        struct peer_message message = numbered(i);
        int rc;
        while ((rc = send_to(&cluster.nodes[0], 1, &message)) == ERR_FULL) {
            flush(&cluster.nodes[0]);
        }
        assert_int_equal(rc, 0);
        flush(&cluster.nodes[0]);
    }
    expect_numbers(&cluster.nodes[1], 0, 0, count);
    assert_true(batches_of(&cluster.nodes[1]) < count);
    cluster_finish(&cluster);
}

static void test_nothing_is_sent_before_the_flush_and_to_who_is_not_connected(void **state)
{
    struct test_cluster cluster;
    cluster_init(&cluster, 3);
    node_start(&cluster.nodes[0]);
    node_start(&cluster.nodes[1]);
    expect_event(&cluster.nodes[0], PEER_EVENT_DIAL_UP, 1);
    struct peer_message message = numbered(0);
    assert_int_equal(send_to(&cluster.nodes[0], 2, &message), ERR_CLOSED);
    assert_int_equal(send_to(&cluster.nodes[0], 1, &message), 0);
    message = numbered(1);
    assert_int_equal(send_to(&cluster.nodes[0], 1, &message), 0);
    assert_int_equal(batches_of(&cluster.nodes[1]), 0);
    flush(&cluster.nodes[0]);
    struct peer_event *event = take_event(&cluster.nodes[1], PEER_EVENT_MESSAGES, 0);
    assert_int_equal(event->messages.count, 2);
    event->release(event);
    cluster_finish(&cluster);
}

static void test_a_refused_dial_is_told_and_the_stream_stands_soon_after_the_start(void **state)
{
    struct test_cluster cluster;
    cluster_init(&cluster, 2);
    node_start(&cluster.nodes[0]);
    uint64_t began_ns = now_ns();
    expect_event(&cluster.nodes[0], PEER_EVENT_DIAL_REFUSED, 1);
    assert_true(now_ns() - began_ns < 500 * NS_PER_MS);
    /* Until the backoff has grown to its longest. */
    for (int i = 0; i < 6; i++) {
        expect_event(&cluster.nodes[0], PEER_EVENT_DIAL_REFUSED, 1);
    }
    node_start(&cluster.nodes[1]);
    began_ns = now_ns();
    expect_event(&cluster.nodes[0], PEER_EVENT_DIAL_UP, 1);
    uint64_t took_ms = (now_ns() - began_ns) / NS_PER_MS;
    print_message("up %d ms after the start\n", (int)took_ms);
    assert_true(took_ms < 1200); /* not by the backoff: the other was heard */
    cluster_finish(&cluster);
}

static void test_a_dial_that_nobody_answers_is_not_called_refused(void **state)
{
    /* Accepts connections by its backlog and never says a word. */
    struct test_cluster cluster;
    cluster_init(&cluster, 2);
    struct sockaddr_in address = {.sin_family = AF_INET};
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    socklen_t size = sizeof(address);
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_int_equal(bind(fd, (struct sockaddr *)&address, size), 0);
    assert_int_equal(listen(fd, 16), 0);
    assert_int_equal(getsockname(fd, (struct sockaddr *)&address, &size), 0);
    snprintf(cluster.addresses[1], sizeof(cluster.addresses[1]), "127.0.0.1:%d",
             ntohs(address.sin_port));
    node_start(&cluster.nodes[0]);
    int first = accept(fd, NULL, NULL);
    uint64_t began_ns = now_ns();
    int second = accept(fd, NULL, NULL); /* the first was given up, and dialled again */
    uint64_t took_ms = (now_ns() - began_ns) / NS_PER_MS;
    print_message("given up after %d ms\n", (int)took_ms);
    assert_true(took_ms >= ELECTION_TIMEOUT_MS / 2);
    assert_true(took_ms < 4 * ELECTION_TIMEOUT_MS);
    assert_false(has_event(&cluster.nodes[0], PEER_EVENT_DIAL_REFUSED, 1));
    close(first);
    close(second);
    close(fd);
    cluster_finish(&cluster);
}

static void test_the_end_of_one_side_is_told_on_the_other(void **state)
{
    struct test_cluster cluster;
    cluster_init(&cluster, 3);
    cluster_start(&cluster);
    node_stop(&cluster.nodes[1]);
    uint64_t began_ns = now_ns();
    assert_int_equal(expect_event(&cluster.nodes[0], PEER_EVENT_STREAM_LOST, 1), 1);
    expect_event(&cluster.nodes[0], PEER_EVENT_DIAL_LOST, 1);
    expect_event(&cluster.nodes[0], PEER_EVENT_DIAL_REFUSED, 1); /* redialled at once */
    print_message("lost and refused after %d us\n", (int)((now_ns() - began_ns) / 1000));
    assert_true(now_ns() - began_ns < NS_PER_S);
    expect_event(&cluster.nodes[2], PEER_EVENT_STREAM_LOST, 1);
    struct peer_message message = numbered(0);
    assert_int_equal(send_to(&cluster.nodes[0], 1, &message), ERR_CLOSED);
    /* The others are not disturbed. */
    assert_int_equal(send_to(&cluster.nodes[0], 2, &message), 0);
    flush(&cluster.nodes[0]);
    expect_numbers(&cluster.nodes[2], 0, 0, 1);
    /* It comes back as a new incarnation, in a new epoch. */
    cluster.nodes[1].options.incarnation = 777;
    cluster.nodes[1].options.is_fresh = false;
    node_start(&cluster.nodes[1]);
    struct peer_event *hello = take_event(&cluster.nodes[0], PEER_EVENT_HELLO, 1);
    assert_int_equal(hello->epoch, 2);
    assert_int_equal(hello->hello.incarnation, 777);
    assert_false(hello->hello.is_fresh);
    hello->release(hello);
    expect_event(&cluster.nodes[0], PEER_EVENT_DIAL_UP, 1);
    cluster_finish(&cluster);
}

static void test_a_newer_stream_replaces_the_older(void **state)
{
    struct test_cluster cluster;
    cluster_init(&cluster, 2);
    node_start(&cluster.nodes[0]);
    struct peer_header header = hello_of(&cluster, 1, 0);
    struct bare_call first;
    bare_open(&first, cluster.addresses[0], STREAM_PATH);
    bare_send_batch(&first, &header, NULL);
    assert_int_equal(expect_event(&cluster.nodes[0], PEER_EVENT_HELLO, 1), 1);
    AWAIT(first.has_headers);
    struct bare_call second;
    header.stream_id = 2;
    bare_open(&second, cluster.addresses[0], STREAM_PATH);
    struct peer_message message = numbered(0);
    bare_send_batch(&second, &header, &message); /* a hello may carry messages */
    assert_int_equal(expect_event(&cluster.nodes[0], PEER_EVENT_HELLO, 1), 2);
    assert_int_equal(expect_event(&cluster.nodes[0], PEER_EVENT_MESSAGES, 1), 2);
    assert_int_equal(expect_event(&cluster.nodes[0], PEER_EVENT_STREAM_LOST, 1), 1);
    AWAIT(first.is_closed);
    assert_int_equal(first.code, GRPC_STATUS_ABORTED);
    message = numbered(1);
    bare_send_batch(&second, &header, &message);
    assert_int_equal(expect_event(&cluster.nodes[0], PEER_EVENT_MESSAGES, 1), 2);
    bare_finish(&second);
    assert_int_equal(expect_event(&cluster.nodes[0], PEER_EVENT_STREAM_LOST, 1), 2);
    bare_finish(&first);
    cluster_finish(&cluster);
}

/* Sends batches of one message until the stream has paused: then a send stays unsent for long. */
static uint64_t fill(struct test_node *from, struct test_node *to, const struct raft_entry *entry)
{
    uint64_t sent = 0;
    for (;;) {
        const struct peer_message message = {
            .raft = {.kind = RAFT_APPEND_REQUEST,
                     .term = 1,
                     .append_request = {.prev_index = sent, .count = 1, .entries = entry}}};
        size_t before = batches_of(to);
        int rc = send_to(from, 1, &message);
        if (rc == ERR_FULL) {
            return sent;
        }
        assert_int_equal(rc, 0);
        sent++;
        flush(from);
        uint64_t until_ns = now_ns() + 2 * NS_PER_MS;
        while (batches_of(to) == before && now_ns() < until_ns) {
            sched_yield();
        }
    }
}

static void test_reading_pauses_while_events_are_not_released(void **state)
{
    struct test_cluster cluster;
    cluster_init(&cluster, 2);
    cluster_start(&cluster);
    const uint32_t size = 64u << 10;
    char *data = calloc(1, size);
    const struct raft_entry entry = {.term = 1, .data = data, .size = size};
    uint64_t sent = fill(&cluster.nodes[0], &cluster.nodes[1], &entry);
    assert_true(batches_of(&cluster.nodes[1]) <= PEER_UNHANDLED_BATCHES_MAX);
    struct peer_stats stats;
    peer_get_stats(cluster.nodes[0].peer, &stats);
    assert_int_equal(stats.messages_dropped, 1);
    assert_int_equal(stats.messages_sent, sent);
    /* Released, it all comes, in order. */
    uint64_t expected = 0;
    while (expected < sent) {
        struct peer_event *event = take_event(&cluster.nodes[1], PEER_EVENT_MESSAGES, 0);
        for (size_t i = 0; i < event->messages.count; i++) {
            assert_int_equal(event->messages.items[i].raft.append_request.prev_index, expected++);
        }
        event->release(event);
    }
    free(data);
    cluster_finish(&cluster);
}

/* Returns how many of three forwards that were not flushed were named: the end of an earlier send
 * may have taken them along. */
static uint64_t lose_forwards(void)
{
    struct test_cluster cluster;
    cluster_init(&cluster, 2);
    cluster_start(&cluster);
    struct peer_message forward = {.kind = PEER_MESSAGE_FORWARD_REQUEST};
    forward.forward_request.id = 41;
    assert_int_equal(send_to(&cluster.nodes[0], 1, &forward), 0);
    flush(&cluster.nodes[0]);
    expect_event(&cluster.nodes[1], PEER_EVENT_MESSAGES, 0);
    for (uint64_t id = 42; id < 45; id++) {
        forward.forward_request.id = id;
        assert_int_equal(send_to(&cluster.nodes[0], 1, &forward), 0);
    }
    node_stop(&cluster.nodes[1]);
    struct peer_event *event = take_event(&cluster.nodes[0], PEER_EVENT_DIAL_LOST, 1);
    struct peer_unsent unsent = event->dial_lost.unsent;
    event->release(event);
    if (unsent.count > 0) {
        assert_true(unsent.first >= 42);
        assert_int_equal(unsent.first + unsent.count, 45);
    }
    cluster_finish(&cluster);
    return unsent.count;
}

static void test_a_lost_stream_names_the_forwards_that_never_left(void **state)
{
    uint64_t most = 0;
    for (int i = 0; i < 20 && most < 3; i++) {
        uint64_t count = lose_forwards();
        most = count > most ? count : most;
    }
    assert_int_equal(most, 3);
}

static void test_events_may_be_released_after_the_peer_is_gone(void **state)
{
    struct test_cluster cluster;
    cluster_init(&cluster, 2);
    cluster_start(&cluster);
    struct peer_message message = numbered(5);
    assert_int_equal(send_to(&cluster.nodes[0], 1, &message), 0);
    flush(&cluster.nodes[0]);
    struct peer_event *event = take_event(&cluster.nodes[1], PEER_EVENT_MESSAGES, 0);
    cluster_finish(&cluster);
    assert_int_equal(event->messages.items[0].apply_hash.index, 5);
    event->release(event);
}

static void test_stop_ends_all_events(void **state)
{
    for (int round = 0; round < 10; round++) {
        struct test_cluster cluster;
        cluster_init(&cluster, 3);
        for (int i = 0; i < 3; i++) {
            node_start(&cluster.nodes[i]);
        }
        if (round % 2 == 0) {
            expect_event(&cluster.nodes[0], PEER_EVENT_DIAL_UP, 1);
        }
        peer_stop(cluster.nodes[0].peer);
        drop_events(&cluster.nodes[0]);
        peer_stop(cluster.nodes[1].peer);
        node_stop(&cluster.nodes[2]);
        assert_true(list_is_empty(&cluster.nodes[0].events));
        cluster_finish(&cluster);
    }
}

static void test_a_taken_port_is_an_error(void **state)
{
    struct test_cluster cluster;
    cluster_init(&cluster, 2);
    node_start(&cluster.nodes[0]);
    cluster.nodes[1].options.bind_addr = cluster.addresses[0];
    assert_int_equal(peer_create(&cluster.nodes[1].options, &cluster.nodes[1].peer), ERR_BUSY);
    cluster_finish(&cluster);
}

static void start_child(struct test_cluster *cluster, pid_t *pid)
{
    char program[] = "/proc/self/exe";
    char *arguments[] = {program, cluster->addresses[0], cluster->addresses[1], NULL};
    assert_int_equal(posix_spawn(pid, program, NULL, NULL, arguments, environ), 0);
}

/* Node 2 in a process of its own, until it is killed. */
static noreturn void run_child(char **addresses)
{
    log_init(true, LOG_LEVEL_ERROR);
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    struct test_cluster cluster;
    cluster_init(&cluster, 2);
    for (int i = 0; i < 2; i++) {
        snprintf(cluster.addresses[i], sizeof(cluster.addresses[i]), "%s", addresses[i]);
    }
    node_start(&cluster.nodes[1]);
    for (;;) {
        pause();
    }
}

/* What fast failover builds on. */
static void test_a_killed_process_is_noticed_at_once(void **state)
{
    struct test_cluster cluster;
    cluster_init(&cluster, 2);
    node_start(&cluster.nodes[0]);
    uint64_t longest_us = 0;
    for (int round = 0; round < 10; round++) {
        pid_t pid;
        start_child(&cluster, &pid);
        expect_event(&cluster.nodes[0], PEER_EVENT_HELLO, 1);
        expect_event(&cluster.nodes[0], PEER_EVENT_DIAL_UP, 1);
        drop_events(&cluster.nodes[0]);
        struct peer_stats stats;
        peer_get_stats(cluster.nodes[0].peer, &stats);
        assert_int_equal(stats.connects, round + 1);
        uint64_t began_ns = now_ns();
        assert_int_equal(kill(pid, SIGKILL), 0);
        expect_event(&cluster.nodes[0], PEER_EVENT_STREAM_LOST, 1);
        expect_event(&cluster.nodes[0], PEER_EVENT_DIAL_LOST, 1);
        uint64_t lost_us = (now_ns() - began_ns) / 1000;
        expect_event(&cluster.nodes[0], PEER_EVENT_DIAL_REFUSED, 1);
        uint64_t took_us = (now_ns() - began_ns) / 1000;
        longest_us = took_us > longest_us ? took_us : longest_us;
        print_message("lost after %d us, refused after %d us\n", (int)lost_us, (int)took_us);
        assert_int_equal(waitpid(pid, NULL, 0), pid);
    }
    assert_true(longest_us < 1000000);
    cluster_finish(&cluster);
}

int main(int argc, char **argv)
{
    if (argc == 3) {
        run_child(argv + 1);
    }
    log_init(true, getenv("VERBOSE") != NULL ? LOG_LEVEL_DEBUG : LOG_LEVEL_ERROR);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_kind_arrives_as_it_was_sent),
        cmocka_unit_test(test_a_3_mib_entry_and_4096_entries_arrive_whole),
        cmocka_unit_test(test_order_is_kept_and_batches_are_joined_while_a_send_is_on_its_way),
        cmocka_unit_test(test_nothing_is_sent_before_the_flush_and_to_who_is_not_connected),
        cmocka_unit_test(test_a_refused_dial_is_told_and_the_stream_stands_soon_after_the_start),
        cmocka_unit_test(test_a_dial_that_nobody_answers_is_not_called_refused),
        cmocka_unit_test(test_the_end_of_one_side_is_told_on_the_other),
        cmocka_unit_test(test_a_killed_process_is_noticed_at_once),
        cmocka_unit_test(test_a_newer_stream_replaces_the_older),
        cmocka_unit_test(test_reading_pauses_while_events_are_not_released),
        cmocka_unit_test(test_a_lost_stream_names_the_forwards_that_never_left),
        cmocka_unit_test(test_events_may_be_released_after_the_peer_is_gone),
        cmocka_unit_test(test_stop_ends_all_events),
        cmocka_unit_test(test_a_taken_port_is_an_error),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
