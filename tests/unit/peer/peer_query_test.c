/* The unary calls of the reference document. */
#include "base/log.h"
#include "peer_testing.h"
#include "phalanx/consensus.pb-c.h"

#define APPEND_ENTRIES_PATH "/phalanx.Consensus/AppendEntries"
#define REQUEST_VOTE_PATH "/phalanx.Consensus/RequestVote"

static struct test_cluster cluster;

static int start_one(void **state)
{
    cluster_init(&cluster, 3);
    node_start(&cluster.nodes[0]);
    return 0;
}

static int stop_one(void **state)
{
    cluster_finish(&cluster);
    return 0;
}

/* Takes the query, answers it, and waits for the end of the call. */
static void answer(struct bare_call *bare, struct peer_event *event, bool is_granted)
{
    const struct peer_answer given = {
        .term = 12, .granted_or_success = is_granted, .last_log_index = UINT64_C(1) << 60};
    event->query.answer(event, &given);
    event->release(event);
    AWAIT(bare->is_closed);
    assert_int_equal(bare->code, GRPC_STATUS_OK);
}

static void test_an_append_in_protobuf_is_answered_in_protobuf(void **state)
{
    char leader[] = "node2";
    uint8_t data[] = {'x', 'y'};
    Phalanx__LogEntry entry = PHALANX__LOG_ENTRY__INIT;
    entry.term = 3;
    entry.data.data = data;
    entry.data.len = sizeof(data);
    Phalanx__LogEntry *entries[] = {&entry};
    Phalanx__AppendEntriesRequest request = PHALANX__APPEND_ENTRIES_REQUEST__INIT;
    request.term = 4;
    request.leader_id = leader;
    request.prev_log_index = 7;
    request.prev_log_term = 2;
    request.leader_commit = 6;
    request.entries = entries;
    request.n_entries = 1;
    uint8_t wire[256];
    size_t size = phalanx__append_entries_request__pack(&request, wire);
    struct bare_call bare;
    bare_unary(&bare, cluster.addresses[0], APPEND_ENTRIES_PATH, (struct bytes){wire, size});
    struct peer_event *event = take_event(&cluster.nodes[0], PEER_EVENT_QUERY, 1);
    assert_non_null(event->query.request);
    const struct raft_message *got = &event->query.request->raft;
    assert_int_equal(got->kind, RAFT_APPEND_REQUEST);
    assert_int_equal(got->peer, 1);
    assert_int_equal(got->term, 4);
    assert_int_equal(got->append_request.prev_index, 7);
    assert_int_equal(got->append_request.prev_term, 2);
    assert_int_equal(got->append_request.commit, 6);
    assert_int_equal(got->append_request.count, 1);
    assert_int_equal(got->append_request.entries[0].term, 3);
    assert_memory_equal(got->append_request.entries[0].data, "xy", 2);
    answer(&bare, event, true);
    Phalanx__AppendEntriesResponse *response = phalanx__append_entries_response__unpack(
        NULL, bare.response_size, (const uint8_t *)bare.response);
    assert_non_null(response);
    assert_int_equal(response->term, 12);
    assert_true(response->success);
    assert_true(response->last_log_index == UINT64_C(1) << 60);
    phalanx__append_entries_response__free_unpacked(response, NULL);
    bare_finish(&bare);
}

static void test_an_append_in_json_is_answered_as_go_reads_it(void **state)
{
    struct bare_call bare;
    bare_unary(&bare, cluster.addresses[0], APPEND_ENTRIES_PATH,
               bytes_of_text("{\"term\":\"4\",\"leader_id\":\"nobody\",\"prevLogIndex\":7,"
                             "\"entries\":[{\"index\":8,\"term\":4,\"data\":\"eHk=\"}]}"));
    struct peer_event *event = take_event(&cluster.nodes[0], PEER_EVENT_QUERY, RAFT_NO_MEMBER);
    assert_int_equal(event->peer, RAFT_NO_MEMBER);
    const struct raft_message *got = &event->query.request->raft;
    assert_int_equal(got->append_request.prev_index, 7);
    assert_memory_equal(got->append_request.entries[0].data, "xy", 2);
    answer(&bare, event, false);
    const char *expected = "{\"term\":12,\"success\":false,"
                           "\"last_log_index\":1152921504606846976,"
                           "\"lastLogIndex\":1152921504606846976,";
    assert_memory_equal(bare.response, expected, strlen(expected));
    bare_finish(&bare);
}

static void test_votes_are_answered_in_both_encodings(void **state)
{
    struct bare_call bare;
    bare_unary(&bare, cluster.addresses[0], REQUEST_VOTE_PATH,
               bytes_of_text("\r\n{\"Term\":9,\"CandidateID\":\"node3\",\"LastLogIndex\":5,"
                             "\"last_log_term\":4,\"IsPreVote\":true}"));
    struct peer_event *event = take_event(&cluster.nodes[0], PEER_EVENT_QUERY, 2);
    const struct raft_message *got = &event->query.request->raft;
    assert_int_equal(got->kind, RAFT_VOTE_REQUEST);
    assert_int_equal(got->term, 8);
    assert_int_equal(got->vote_request.for_term, 9);
    assert_int_equal(got->vote_request.last_index, 5);
    assert_int_equal(got->vote_request.last_term, 4);
    assert_true(got->vote_request.is_pre_vote);
    answer(&bare, event, true);
    const char *expected = "{\"term\":12,\"vote_granted\":true,\"voteGranted\":true,";
    assert_memory_equal(bare.response, expected, strlen(expected));
    bare_finish(&bare);

    /* An empty body is protobuf, and all defaults. */
    bare_unary(&bare, cluster.addresses[0], REQUEST_VOTE_PATH, (struct bytes){"", 0});
    event = take_event(&cluster.nodes[0], PEER_EVENT_QUERY, RAFT_NO_MEMBER);
    assert_int_equal(event->query.request->raft.term, 0);
    answer(&bare, event, false);
    Phalanx__RequestVoteResponse *response = phalanx__request_vote_response__unpack(
        NULL, bare.response_size, (const uint8_t *)bare.response);
    assert_non_null(response);
    assert_int_equal(response->term, 12);
    assert_false(response->vote_granted);
    phalanx__request_vote_response__free_unpacked(response, NULL);
    bare_finish(&bare);
}

static void expect_code(const char *path, struct bytes body, int code)
{
    struct bare_call bare;
    bare_unary(&bare, cluster.addresses[0], path, body);
    AWAIT(bare.is_closed);
    assert_int_equal(bare.code, code);
    bare_finish(&bare);
    assert_false(has_event(&cluster.nodes[0], PEER_EVENT_QUERY, RAFT_NO_MEMBER));
}

static void test_bad_bodies_are_invalid_arguments(void **state)
{
    const int code = GRPC_STATUS_INVALID_ARGUMENT;
    expect_code(APPEND_ENTRIES_PATH, bytes_of_text("{\"term\":"), code);
    expect_code(APPEND_ENTRIES_PATH, bytes_of_text("{\"term\":-1}"), code);
    expect_code(APPEND_ENTRIES_PATH, bytes_of_text("garbage"), code);
    expect_code(APPEND_ENTRIES_PATH, (struct bytes){"\x2a\x02\x20\x07", 4},
                code); /* entry type 7 */
    expect_code(REQUEST_VOTE_PATH, (struct bytes){"\xff", 1}, code);
    expect_code(REQUEST_VOTE_PATH, (struct bytes){"\x12\x02\xc3\x28", 4}, code); /* not UTF-8 */
}

static void test_an_unknown_method_is_unimplemented(void **state)
{
    expect_code("/phalanx.Consensus/Nothing", (struct bytes){"", 0}, GRPC_STATUS_UNIMPLEMENTED);
}

static void test_a_call_without_a_message_is_refused(void **state)
{
    struct bare_call bare;
    bare_open(&bare, cluster.addresses[0], REQUEST_VOTE_PATH);
    rpc_stream_close_send(bare.call);
    AWAIT(bare.is_closed);
    assert_int_equal(bare.code, GRPC_STATUS_INVALID_ARGUMENT);
    bare_finish(&bare);
}

static void test_a_query_that_waits_is_unavailable_when_the_peer_stops(void **state)
{
    struct bare_call bare;
    bare_unary(&bare, cluster.addresses[0], REQUEST_VOTE_PATH, (struct bytes){"", 0});
    struct peer_event *event = take_event(&cluster.nodes[0], PEER_EVENT_QUERY, RAFT_NO_MEMBER);
    node_stop(&cluster.nodes[0]);
    AWAIT(bare.is_closed);
    assert_int_equal(bare.code, GRPC_STATUS_UNAVAILABLE);
    bare_finish(&bare);
    /* Too late, and harmless. */
    const struct peer_answer given = {.term = 1};
    event->query.answer(event, &given);
    event->release(event);
}

static void test_a_query_may_be_answered_after_the_caller_left(void **state)
{
    struct bare_call bare;
    bare_unary(&bare, cluster.addresses[0], REQUEST_VOTE_PATH, (struct bytes){"", 0});
    struct peer_event *event = take_event(&cluster.nodes[0], PEER_EVENT_QUERY, RAFT_NO_MEMBER);
    bare_finish(&bare);
    const struct peer_answer given = {.term = 1};
    event->query.answer(event, &given);
    event->release(event);
}

int main(void)
{
    log_init(true, LOG_LEVEL_ERROR);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_an_append_in_protobuf_is_answered_in_protobuf,
                                        start_one, stop_one),
        cmocka_unit_test_setup_teardown(test_an_append_in_json_is_answered_as_go_reads_it,
                                        start_one, stop_one),
        cmocka_unit_test_setup_teardown(test_votes_are_answered_in_both_encodings, start_one,
                                        stop_one),
        cmocka_unit_test_setup_teardown(test_bad_bodies_are_invalid_arguments, start_one, stop_one),
        cmocka_unit_test_setup_teardown(test_an_unknown_method_is_unimplemented, start_one,
                                        stop_one),
        cmocka_unit_test_setup_teardown(test_a_call_without_a_message_is_refused, start_one,
                                        stop_one),
        cmocka_unit_test_setup_teardown(test_a_query_that_waits_is_unavailable_when_the_peer_stops,
                                        start_one, stop_one),
        cmocka_unit_test_setup_teardown(test_a_query_may_be_answered_after_the_caller_left,
                                        start_one, stop_one),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
