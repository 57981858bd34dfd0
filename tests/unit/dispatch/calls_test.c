/* Unary calls: fields, then leadership, then the channel; each outcome's status; reads. */
#include "dispatch_testing.h"

#define ID_257                                                         \
    "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef" \
    "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef" \
    "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef" \
    "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef+"

static int setup(void **state)
{
    static struct testing testing;
    testing_open(&testing);
    *state = &testing;
    return 0;
}

static int teardown(void **state)
{
    testing_close(*state);
    return 0;
}

static void test_a_faulty_field_is_refused_before_the_node_is_asked(void **state)
{
    const struct {
        enum dispatch_method_id id;
        const char *json;
        const char *reason;
    } cases[] = {
        {DISPATCH_SEND_MESSAGE, "{}", "INVALID_FIELD"},
        {DISPATCH_SEND_MESSAGE, "{\"channelId\":\"" ID_257 "\"}", "INVALID_FIELD"},
        {DISPATCH_SEND_MESSAGE, "{\"channelId\":\"g\",\"authorId\":\"" ID_257 "\"}",
         "INVALID_FIELD"},
        {DISPATCH_SEND_MESSAGE, "{\"channelId\":\"g\",\"clientMessageId\":\"" ID_257 "\"}",
         "INVALID_FIELD"},
        {DISPATCH_CREATE_CHANNEL, "{\"channelId\":\"" ID_257 "\"}", "INVALID_FIELD"},
        {DISPATCH_READ_HISTORY, "{}", "INVALID_FIELD"},
        {DISPATCH_READ_HISTORY, "{\"channelId\":\"" ID_257 "\"}", "INVALID_FIELD"},
        {DISPATCH_LIST_CHANNELS, "{\"prefix\":\"" ID_257 "\"}", "INVALID_FIELD"},
        {DISPATCH_LIST_CHANNELS, "{\"afterChannelId\":\"" ID_257 "\"}", "INVALID_FIELD"},
        {DISPATCH_LIST_KEYS, "{\"prefix\":\"" ID_257 "\"}", "INVALID_FIELD"},
        {DISPATCH_LIST_KEYS, "{\"afterKey\":\"" ID_257 "\"}", "INVALID_FIELD"},
        {DISPATCH_TRANSFER_LEADERSHIP, "{\"targetNodeId\":\"node9\"}", "INVALID_FIELD"},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct answered answered;
        submit(*state, &answered, cases[i].id, cases[i].json);
        assert_refused(&answered, DISPATCH_INVALID_ARGUMENT, cases[i].reason);
    }
}

static void test_the_text_of_a_refusal_names_the_rule_that_is_broken(void **state)
{
    const char *cases[][2] = {
        {"{}", "channel_id is required"},
        {"{\"channelId\":\"" ID_257 "\"}",
         "channel_id is too long: 257 bytes, at most 256 are allowed"},
        {"{\"channelId\":\"g\",\"authorId\":\"" ID_257 "\"}",
         "author_id is too long: 257 bytes, at most 256 are allowed"},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct answered answered;
        submit(*state, &answered, DISPATCH_SEND_MESSAGE, cases[i][0]);
        await_answer(&answered);
        assert_string_equal(answered.status.message, cases[i][1]);
        answered_finish(&answered);
    }
}

static void test_a_payload_over_the_limit_is_too_large_and_one_at_the_limit_is_not(void **state)
{
    struct testing *testing = *state;
    for (int over = 0; over < 2; over++) {
        struct answered answered = {.call = {.method = dispatch_method(DISPATCH_SEND_MESSAGE),
                                             .deadline_ns = UINT64_MAX,
                                             .done = answered_done}};
        uint8_t payload[MAX_PAYLOAD_BYTES + 1] = {0};
        Raftogram__V1__SendMessageRequest request = RAFTOGRAM__V1__SEND_MESSAGE_REQUEST__INIT;
        request.channel_id = (char[]){"g"};
        request.payload = (ProtobufCBinaryData){MAX_PAYLOAD_BYTES + (size_t)over, payload};
        uint8_t packed[MAX_PAYLOAD_BYTES + 100];
        size_t size = raftogram__v1__send_message_request__pack(&request, packed);
        struct dispatch_status status;
        assert_int_equal(dispatch_decode(answered.call.method, (struct bytes){packed, size},
                                         &answered.call.request, &status),
                         0);
        dispatch_submit(testing->dispatch, &answered.call);
        if (over) {
            assert_refused(&answered, DISPATCH_INVALID_ARGUMENT, "PAYLOAD_TOO_LARGE");
        } else {
            end_request(take_request(testing), NODE_DEADLINE);
            assert_refused(&answered, DISPATCH_DEADLINE_EXCEEDED, NULL);
        }
    }
}

static void test_each_outcome_has_its_status(void **state)
{
    const struct {
        enum node_outcome outcome;
        int code;
        const char *reason;
    } cases[] = {
        {NODE_NOT_LEADER, DISPATCH_FAILED_PRECONDITION, "NOT_LEADER"},
        {NODE_NO_QUORUM, DISPATCH_UNAVAILABLE, "NO_QUORUM"},
        {NODE_COMMIT_UNKNOWN, DISPATCH_ABORTED, "COMMIT_UNKNOWN"},
        {NODE_OVERLOADED, DISPATCH_RESOURCE_EXHAUSTED, "OVERLOADED"},
        {NODE_DISK_FULL, DISPATCH_RESOURCE_EXHAUSTED, "DISK_FULL"},
        {NODE_DEADLINE, DISPATCH_DEADLINE_EXCEEDED, NULL},
        {NODE_DRAINING, DISPATCH_UNAVAILABLE, "DRAINING"},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct answered answered;
        submit(*state, &answered, DISPATCH_SEND_MESSAGE, "{\"channelId\":\"g\"}");
        struct node_request *request = take_request(*state);
        request->leader = RAFT_NO_MEMBER;
        end_request(request, cases[i].outcome);
        assert_refused(&answered, cases[i].code, cases[i].reason);
    }
}

static void test_not_leader_names_the_leader_or_nobody(void **state)
{
    for (raft_member leader = RAFT_NO_MEMBER; leader < 3; leader++) {
        struct answered answered;
        submit(*state, &answered, DISPATCH_CREATE_CHANNEL, "{\"name\":\"x\"}");
        struct node_request *request = take_request(*state);
        request->leader = leader;
        end_request(request, NODE_NOT_LEADER);
        await_answer(&answered);
        assert_true(answered.status.is_not_leader);
        assert_string_equal(answered.status.message,
                            "not leader: retry on suggested leader client endpoint");
        bool is_known = leader != RAFT_NO_MEMBER;
        assert_string_equal(answered.status.leader_grpc_target,
                            is_known ? member_addresses[leader].grpc_addr : "");
        assert_string_equal(answered.status.leader_id,
                            is_known ? member_addresses[leader].node_id : "");
        answered_finish(&answered);
    }
}

static void test_what_the_node_does_not_take_is_overloaded_or_draining(void **state)
{
    struct testing *testing = *state;
    struct answered answered;
    CHANGE(testing->node.submit_error = ERR_FULL);
    submit(testing, &answered, DISPATCH_SEND_MESSAGE, "{\"channelId\":\"g\"}");
    assert_refused(&answered, DISPATCH_RESOURCE_EXHAUSTED, "OVERLOADED");
    CHANGE(testing->node.submit_error = ERR_CLOSED);
    submit(testing, &answered, DISPATCH_SEND_MESSAGE, "{\"channelId\":\"g\"}");
    assert_refused(&answered, DISPATCH_UNAVAILABLE, "DRAINING");
    CHANGE(testing->node.submit_error = 0);
}

static void test_a_request_says_whether_it_may_be_forwarded_and_repeated(void **state)
{
    for (int forward = 0; forward < 2; forward++) {
        for (int has_id = 0; has_id < 2; has_id++) {
            struct answered answered;
            submit_from(*state, &answered, DISPATCH_SEND_MESSAGE,
                        has_id ? "{\"channelId\":\"g\",\"clientMessageId\":\"m\"}"
                               : "{\"channelId\":\"g\"}",
                        forward);
            struct node_request *request = take_request(*state);
            assert_int_equal(request->kind, NODE_REQUEST_COMMAND);
            assert_int_equal(request->may_forward, forward);
            assert_int_equal(request->may_repeat, has_id);
            end_request(request, NODE_DEADLINE);
            assert_refused(&answered, DISPATCH_DEADLINE_EXCEEDED, NULL);
        }
    }
}

static void test_the_callers_deadline_is_the_requests(void **state)
{
    struct testing *testing = *state;
    struct answered answered = {.call = {.method = dispatch_method(DISPATCH_READ_HISTORY),
                                         .deadline_ns = 12345,
                                         .done = answered_done}};
    struct dispatch_status status;
    assert_int_equal(dispatch_decode(answered.call.method, bytes_of_text("{\"channelId\":\"g\"}"),
                                     &answered.call.request, &status),
                     0);
    dispatch_submit(testing->dispatch, &answered.call);
    struct node_request *request = take_request(testing);
    assert_int_equal(request->deadline_ns, 12345);
    end_request(request, NODE_DEADLINE);
    assert_refused(&answered, DISPATCH_DEADLINE_EXCEEDED, NULL);
}

static void create(struct testing *testing, const char *json)
{
    struct answered answered;
    submit(testing, &answered, DISPATCH_CREATE_CHANNEL, json);
    apply_request(testing, take_request(testing));
    free_message(assert_ok(&answered));
}

static void test_the_answer_of_create_has_the_stored_name(void **state)
{
    create(*state, "{\"channelId\":\"g\",\"name\":\"General\"}");
    struct answered answered;
    submit(*state, &answered, DISPATCH_CREATE_CHANNEL, "{\"channelId\":\"g\",\"name\":\"Other\"}");
    apply_request(*state, take_request(*state));
    Raftogram__V1__CreateChannelResponse *response = assert_ok(&answered);
    assert_string_equal(response->channel_id, "g");
    assert_string_equal(response->name, "General");
    assert_false(response->created);
    free_message(response);
}

static void test_the_channel_is_looked_for_after_leadership(void **state)
{
    struct answered answered;
    submit(*state, &answered, DISPATCH_SEND_MESSAGE, "{\"channelId\":\"missing\"}");
    struct node_request *request = take_request(*state);
    request->leader = 1;
    end_request(request, NODE_NOT_LEADER);
    assert_refused(&answered, DISPATCH_FAILED_PRECONDITION, "NOT_LEADER");
    submit(*state, &answered, DISPATCH_SEND_MESSAGE, "{\"channelId\":\"missing\"}");
    apply_request(*state, take_request(*state));
    assert_refused(&answered, DISPATCH_NOT_FOUND, "CHANNEL_NOT_FOUND");
}

static void test_a_send_answers_its_sequence_and_a_repeat_the_first_one(void **state)
{
    create(*state, "{\"channelId\":\"g\"}");
    for (int i = 0; i < 2; i++) {
        struct answered answered;
        submit(*state, &answered, DISPATCH_SEND_MESSAGE,
               "{\"channelId\":\"g\",\"clientMessageId\":\"m\"}");
        apply_request(*state, take_request(*state));
        Raftogram__V1__SendMessageResponse *response = assert_ok(&answered);
        assert_int_equal(response->sequence, 1);
        assert_int_equal(response->deduplicated, i);
        free_message(response);
    }
}

static void test_a_read_waits_for_its_barrier_and_is_answered_by_a_reader(void **state)
{
    struct testing *testing = *state;
    create(testing, "{\"channelId\":\"g\"}");
    struct answered answered;
    submit(testing, &answered, DISPATCH_READ_HISTORY, "{\"channelId\":\"g\",\"limit\":2}");
    struct node_request *request = take_request(testing);
    assert_int_equal(request->kind, NODE_REQUEST_READ);
    assert_false(request->is_leader_only);
    send_many(&testing->chat, "g", 0, 3); /* acknowledged before the barrier is reached */
    end_request(request, NODE_OK);
    Raftogram__V1__ReadHistoryResponse *response = assert_ok(&answered);
    assert_int_equal(response->n_messages, 2);
    assert_int_equal(response->messages[1]->sequence, 2);
    assert_true(response->has_more);
    free_message(response);
}

static void test_a_limit_of_zero_is_a_hundred_and_a_large_one_a_thousand(void **state)
{
    struct testing *testing = *state;
    const struct {
        const char *json;
        size_t count;
    } cases[] = {
        {"{\"channelId\":\"g\"}", 100},
        {"{\"channelId\":\"g\",\"limit\":0}", 100},
        {"{\"channelId\":\"g\",\"limit\":7}", 7},
        {"{\"channelId\":\"g\",\"limit\":4294967295}", 1000},
    };
    create(testing, "{\"channelId\":\"g\"}");
    send_many(&testing->chat, "g", 0, 1100);
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct answered answered;
        submit(testing, &answered, DISPATCH_READ_HISTORY, cases[i].json);
        end_request(take_request(testing), NODE_OK);
        Raftogram__V1__ReadHistoryResponse *response = assert_ok(&answered);
        assert_int_equal(response->n_messages, cases[i].count);
        free_message(response);
    }
}

static void test_damaged_rows_are_data_loss(void **state)
{
    struct testing *testing = *state;
    create(testing, "{\"channelId\":\"g\"}");
    flush(&testing->chat);
    store_memory_fail_reads(testing->chat.store, ERR_CORRUPT);
    struct answered answered;
    submit(testing, &answered, DISPATCH_READ_HISTORY, "{\"channelId\":\"other\"}");
    end_request(take_request(testing), NODE_OK);
    assert_refused(&answered, DISPATCH_DATA_LOSS, "CORRUPT");
    store_memory_fail_reads(testing->chat.store, 0);
}

static void test_channels_are_listed_behind_the_last_one_and_with_the_prefix(void **state)
{
    struct testing *testing = *state;
    create(testing, "{\"channelId\":\"a1\"}");
    create(testing, "{\"channelId\":\"a2\",\"name\":\"Two\"}");
    create(testing, "{\"channelId\":\"a3\"}");
    create(testing, "{\"channelId\":\"b1\"}");
    struct answered answered;
    submit(testing, &answered, DISPATCH_LIST_CHANNELS,
           "{\"prefix\":\"a\",\"afterChannelId\":\"a1\",\"limit\":1}");
    end_request(take_request(testing), NODE_OK);
    Raftogram__V1__ListChannelsResponse *response = assert_ok(&answered);
    assert_int_equal(response->n_channels, 1);
    assert_string_equal(response->channels[0]->channel_id, "a2");
    assert_string_equal(response->channels[0]->name, "Two");
    assert_true(response->has_more);
    free_message(response);
}

static char *propose(struct testing *testing, const char *command, bool is_submitted)
{
    struct answered answered = {.call = {.method = dispatch_method(DISPATCH_PROPOSE),
                                         .deadline_ns = UINT64_MAX,
                                         .done = answered_done}};
    Phalanx__ProposeRequest *request = malloc(sizeof(*request));
    phalanx__propose_request__init(request);
    request->data.len = strlen(command);
    request->data.data = (uint8_t *)strdup(command);
    answered.call.request = &request->base;
    dispatch_submit(testing->dispatch, &answered.call);
    if (is_submitted) {
        apply_request(testing, take_request(testing));
    }
    Phalanx__ProposeResponse *response = assert_ok(&answered);
    assert_int_equal(response->success, response->error[0] == '\0');
    char *error = strdup(response->error);
    free_message(response);
    return error;
}

static void test_a_bad_kv_command_is_an_answer_that_says_why(void **state)
{
    const char *cases[][2] = {
        {"", "must be a JSON object"},
        {"[]", "must be a JSON object"},
        {"{}", "op must be SET or DELETE"},
        {"{\"op\":\"set\",\"key\":\"k\"}", "op must be SET or DELETE"},
        {"{\"op\":\"SET\"}", "key must be UTF-8 of 1 to 256 bytes"},
        {"{\"op\":\"SET\",\"key\":1}", "key must be a string"},
        {"{\"op\":\"SET\",\"key\":\"" ID_257 "\"}", "key must be UTF-8 of 1 to 256 bytes"},
        {"{\"op\":\"SET\",\"key\":\"k\",\"value\":{}}", "value must be a string"},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        char *error = propose(*state, cases[i][0], false);
        if (strstr(error, cases[i][1]) == NULL || strncmp(error, "bad command", 11) != 0) {
            fail_msg("%s: %s", cases[i][0], error);
        }
        free(error);
    }
}

static void test_a_kv_command_has_its_names_in_any_case(void **state)
{
    char *error = propose(*state, "{\"Op\":\"SET\",\"KEY\":\"k\",\"Value\":\"v\"}", true);
    assert_string_equal(error, "");
    free(error);
    struct answered answered;
    submit(*state, &answered, DISPATCH_READ, "\n {\"Key\":\"k\"}");
    end_request(take_request(*state), NODE_OK);
    Phalanx__ReadResponse *response = assert_ok(&answered);
    assert_string_equal(response->value, "v");
    free_message(response);
}

static void test_keys_are_listed_behind_the_last_one_and_with_the_prefix(void **state)
{
    const char *keys[] = {"a", "b", "b/x", "b/y", "c"};
    for (size_t i = 0; i < sizeof(keys) / sizeof(keys[0]); i++) {
        char command[64];
        snprintf(command, sizeof(command), "{\"op\":\"SET\",\"key\":\"%s\"}", keys[i]);
        free(propose(*state, command, true));
    }
    const struct {
        const char *json;
        const char *listed;
        bool has_more;
    } cases[] = {
        {"{}", "a b b/x b/y c ", false},
        {"{\"limit\":2}", "a b ", true},
        {"{\"prefix\":\"b\"}", "b b/x b/y ", false},
        {"{\"prefix\":\"b\",\"afterKey\":\"b\",\"limit\":1}", "b/x ", true},
        {"{\"prefix\":\"b\",\"afterKey\":\"b\",\"limit\":2}", "b/x b/y ", false},
        {"{\"prefix\":\"d\"}", "", false},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct answered answered;
        submit(*state, &answered, DISPATCH_LIST_KEYS, cases[i].json);
        end_request(take_request(*state), NODE_OK);
        Raftogram__V1__ListKeysResponse *response = assert_ok(&answered);
        struct buf listed = {0};
        for (size_t j = 0; j < response->n_keys; j++) {
            buf_printf(&listed, "%s ", response->keys[j]);
        }
        assert_string_equal(buf_text(&listed), cases[i].listed);
        assert_int_equal(response->has_more, cases[i].has_more);
        buf_finish(&listed);
        free_message(response);
    }
}

static void test_a_key_reads_what_was_set_and_nothing_once_it_is_deleted(void **state)
{
    struct testing *testing = *state;
    const char *commands[] = {"{\"op\":\"SET\",\"key\":\"k\",\"value\":\"v\"}",
                              "{\"op\":\"DELETE\",\"key\":\"k\"}"};
    for (int i = 0; i < 2; i++) {
        free(propose(testing, commands[i], true));
        struct answered answered;
        submit(testing, &answered, DISPATCH_READ, "{\"key\":\"k\"}");
        struct node_request *request = take_request(testing);
        assert_true(request->is_leader_only); /* a follower redirects */
        end_request(request, NODE_OK);
        Phalanx__ReadResponse *response = assert_ok(&answered);
        assert_int_equal(response->found, i == 0);
        assert_string_equal(response->value, i == 0 ? "v" : "");
        free_message(response);
    }
}

static void test_a_kv_read_elsewhere_names_the_leader_or_tells_of_the_lost_quorum(void **state)
{
    struct answered answered;
    submit(*state, &answered, DISPATCH_READ, "{\"key\":\"k\"}");
    struct node_request *request = take_request(*state);
    request->leader = 2;
    end_request(request, NODE_NOT_LEADER);
    Phalanx__ReadResponse *response = assert_ok(&answered);
    assert_string_equal(response->error, "not leader");
    assert_string_equal(response->leader_addr, "h3:9000");
    free_message(response);
    submit(*state, &answered, DISPATCH_READ, "{\"key\":\"k\"}");
    end_request(take_request(*state), NODE_NO_QUORUM);
    response = assert_ok(&answered);
    assert_string_equal(response->error, "leader lost quorum — cannot serve linearizable read");
    free_message(response);
}

static void test_status_is_answered_at_once_without_the_node(void **state)
{
    struct answered answered;
    submit(*state, &answered, DISPATCH_STATUS, "{}");
    assert_int_equal(answered.dones, 1);
    Raftogram__V1__StatusResponse *response = assert_ok(&answered);
    assert_string_equal(response->node_id, "node1");
    assert_int_equal(response->n_members, 3);
    assert_string_equal(response->members[1]->grpc_addr, "h2:9000");
    free_message(response);
}

static void test_a_transfer_names_its_target_by_position(void **state)
{
    struct answered answered;
    submit(*state, &answered, DISPATCH_TRANSFER_LEADERSHIP, "{\"targetNodeId\":\"node3\"}");
    struct node_request *request = take_request(*state);
    assert_int_equal(request->kind, NODE_REQUEST_TRANSFER);
    assert_int_equal(request->transfer_target, 2);
    end_request(request, NODE_BAD_TARGET);
    assert_refused(&answered, DISPATCH_FAILED_PRECONDITION, "TARGET_UNFIT");
    submit(*state, &answered, DISPATCH_TRANSFER_LEADERSHIP, "{}");
    request = take_request(*state);
    assert_int_equal(request->transfer_target, RAFT_NO_MEMBER);
    end_request(request, NODE_BAD_TARGET);
    assert_refused(&answered, DISPATCH_UNAVAILABLE, "NO_QUORUM");
}

static void test_a_stream_is_no_unary_call(void **state)
{
    struct answered answered;
    submit(*state, &answered, DISPATCH_SUBSCRIBE, "{\"channelId\":\"g\"}");
    assert_refused(&answered, DISPATCH_UNIMPLEMENTED, NULL);
}

static void test_calls_are_counted_by_method_and_status(void **state)
{
    struct testing *testing = *state;
    struct dispatch_metrics metrics;
    create(testing, "{\"channelId\":\"g\"}");
    struct answered answered;
    submit(testing, &answered, DISPATCH_SEND_MESSAGE, "{}");
    assert_refused(&answered, DISPATCH_INVALID_ARGUMENT, "INVALID_FIELD");
    dispatch_get_metrics(testing->dispatch, &metrics);
    assert_int_equal(metrics.calls[DISPATCH_CREATE_CHANNEL][DISPATCH_OK], 1);
    assert_int_equal(metrics.calls[DISPATCH_SEND_MESSAGE][DISPATCH_INVALID_ARGUMENT], 1);
    assert_int_equal(metrics.calls[DISPATCH_SEND_MESSAGE][DISPATCH_OK], 0);
    assert_int_equal(metrics.messages_sent_total, 11);
    assert_int_equal(metrics.peer_messages_dropped_total, 12);
    assert_int_equal(metrics.peer_connects_total, 13);
    assert_int_equal(metrics.store_bytes, 4096);
    assert_int_equal(metrics.channel_count, 1);
    assert_int_equal(metrics.log_sync.count, 7);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_a_faulty_field_is_refused_before_the_node_is_asked),
        TEST(test_the_text_of_a_refusal_names_the_rule_that_is_broken),
        TEST(test_a_payload_over_the_limit_is_too_large_and_one_at_the_limit_is_not),
        TEST(test_each_outcome_has_its_status),
        TEST(test_not_leader_names_the_leader_or_nobody),
        TEST(test_what_the_node_does_not_take_is_overloaded_or_draining),
        TEST(test_a_request_says_whether_it_may_be_forwarded_and_repeated),
        TEST(test_the_callers_deadline_is_the_requests),
        TEST(test_the_answer_of_create_has_the_stored_name),
        TEST(test_the_channel_is_looked_for_after_leadership),
        TEST(test_a_send_answers_its_sequence_and_a_repeat_the_first_one),
        TEST(test_a_read_waits_for_its_barrier_and_is_answered_by_a_reader),
        TEST(test_a_limit_of_zero_is_a_hundred_and_a_large_one_a_thousand),
        TEST(test_damaged_rows_are_data_loss),
        TEST(test_channels_are_listed_behind_the_last_one_and_with_the_prefix),
        TEST(test_a_bad_kv_command_is_an_answer_that_says_why),
        TEST(test_a_kv_command_has_its_names_in_any_case),
        TEST(test_keys_are_listed_behind_the_last_one_and_with_the_prefix),
        TEST(test_a_key_reads_what_was_set_and_nothing_once_it_is_deleted),
        TEST(test_a_kv_read_elsewhere_names_the_leader_or_tells_of_the_lost_quorum),
        TEST(test_status_is_answered_at_once_without_the_node),
        TEST(test_a_transfer_names_its_target_by_position),
        TEST(test_a_stream_is_no_unary_call),
        TEST(test_calls_are_counted_by_method_and_status),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
