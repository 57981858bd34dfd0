/* SendMessages: limits, the fault of one message, results, and what may be repeated. */
#include "dispatch_testing.h"

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

static void create(struct testing *testing, const char *json)
{
    struct answered answered;
    submit(testing, &answered, DISPATCH_CREATE_CHANNEL, json);
    apply_request(testing, take_request(testing));
    free_message(assert_ok(&answered));
}

static void assert_item_refused(struct answered *answered, int code, const char *reason, int item)
{
    await_answer(answered);
    assert_int_equal(answered->status.has_item, item >= 0);
    if (item >= 0) {
        assert_int_equal(answered->status.item, item);
    }
    assert_refused(answered, code, reason);
}

static void test_a_faulty_message_is_refused_with_its_position(void **state)
{
    const struct {
        const char *json;
        int item;
    } cases[] = {
        {"{}", -1},
        {"{\"messages\":[]}", -1},
        {"{\"messages\":[{}]}", 0},
        {"{\"messages\":[{\"channelId\":\"a\"},{\"channelId\":\"a\"},{\"authorId\":\"x\"}]}", 2},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct answered answered;
        submit(*state, &answered, DISPATCH_SEND_MESSAGES, cases[i].json);
        assert_item_refused(&answered, DISPATCH_INVALID_ARGUMENT, "INVALID_FIELD", cases[i].item);
    }
}

/* Submits a batch of so many messages with payloads of that size to the channel "g". */
static void submit_many(struct testing *testing, struct answered *answered, size_t count,
                        size_t payload_bytes)
{
    static uint8_t payload[MAX_PAYLOAD_BYTES + 1];
    *answered = (struct answered){.call = {.method = dispatch_method(DISPATCH_SEND_MESSAGES),
                                           .deadline_ns = UINT64_MAX,
                                           .done = answered_done}};
    Raftogram__V1__SendMessageRequest message = RAFTOGRAM__V1__SEND_MESSAGE_REQUEST__INIT;
    message.channel_id = (char[]){"g"};
    message.payload = (ProtobufCBinaryData){payload_bytes, payload};
    Raftogram__V1__SendMessageRequest **list = malloc(count * sizeof(struct message *));
    assert_non_null(list);
    for (size_t i = 0; i < count; i++) {
        list[i] = &message;
    }
    Raftogram__V1__SendMessagesRequest request = RAFTOGRAM__V1__SEND_MESSAGES_REQUEST__INIT;
    request.n_messages = count;
    request.messages = list;
    size_t size = raftogram__v1__send_messages_request__get_packed_size(&request);
    uint8_t *packed = malloc(size);
    assert_non_null(packed);
    raftogram__v1__send_messages_request__pack(&request, packed);
    struct dispatch_status status;
    assert_int_equal(dispatch_decode(answered->call.method, (struct bytes){packed, size},
                                     &answered->call.request, &status),
                     0);
    free(list);
    free(packed);
    dispatch_submit(testing->dispatch, &answered->call);
}

static void test_a_batch_has_its_limits(void **state)
{
    struct testing *testing = *state;
    const struct {
        size_t count;
        size_t payload_bytes;
        const char *reason; /* NULL: it fits */
        int item;
    } cases[] = {
        {1000, 1, NULL, -1},
        {1001, 1, "BATCH_TOO_LARGE", -1},
        {1000, MAX_PAYLOAD_BYTES, NULL, -1},
        {1000, MAX_PAYLOAD_BYTES + 1, "PAYLOAD_TOO_LARGE", 0},
        {1200, MAX_PAYLOAD_BYTES, "BATCH_TOO_LARGE", -1},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct answered answered;
        submit_many(testing, &answered, cases[i].count, cases[i].payload_bytes);
        if (cases[i].reason == NULL) {
            struct node_request *request = take_request(testing);
            assert_false(request->may_repeat);
            end_request(request, NODE_DEADLINE);
            assert_refused(&answered, DISPATCH_DEADLINE_EXCEEDED, NULL);
        } else {
            assert_item_refused(&answered, DISPATCH_INVALID_ARGUMENT, cases[i].reason,
                                cases[i].item);
        }
    }
}

static void test_results_come_in_the_order_of_the_messages(void **state)
{
    struct testing *testing = *state;
    create(testing, "{\"channelId\":\"a\"}");
    create(testing, "{\"channelId\":\"b\"}");
    struct answered answered;
    submit(testing, &answered, DISPATCH_SEND_MESSAGES,
           "{\"messages\":[{\"channelId\":\"a\",\"clientMessageId\":\"1\"},"
           "{\"channelId\":\"b\",\"clientMessageId\":\"1\"},"
           "{\"channelId\":\"a\",\"clientMessageId\":\"1\"},"
           "{\"channelId\":\"a\",\"clientMessageId\":\"2\"}]}");
    struct node_request *request = take_request(testing);
    assert_true(request->may_repeat);
    apply_request(testing, request);
    Raftogram__V1__SendMessagesResponse *response = assert_ok(&answered);
    const uint64_t sequences[] = {1, 1, 1, 2};
    assert_int_equal(response->n_results, 4);
    for (size_t i = 0; i < 4; i++) {
        assert_int_equal(response->results[i]->sequence, sequences[i]);
        assert_int_equal(response->results[i]->deduplicated, i == 2);
    }
    free_message(response);
}

static void test_an_unknown_channel_is_told_with_its_position_after_leadership(void **state)
{
    struct testing *testing = *state;
    create(testing, "{\"channelId\":\"a\"}");
    const char *json = "{\"messages\":[{\"channelId\":\"a\"},{\"channelId\":\"gone\"}]}";
    struct answered answered;
    submit(testing, &answered, DISPATCH_SEND_MESSAGES, json);
    struct node_request *request = take_request(testing);
    assert_false(request->may_repeat);
    request->leader = RAFT_NO_MEMBER;
    end_request(request, NODE_NOT_LEADER);
    assert_item_refused(&answered, DISPATCH_FAILED_PRECONDITION, "NOT_LEADER", -1);
    submit(testing, &answered, DISPATCH_SEND_MESSAGES, json);
    apply_request(testing, take_request(testing));
    assert_item_refused(&answered, DISPATCH_NOT_FOUND, "CHANNEL_NOT_FOUND", 1);
    assert_int_equal(find_channel(&testing->chat, "a").last_sequence, 0);
}

static void test_a_member_that_is_too_old_is_named(void **state)
{
    for (raft_member lagging = RAFT_NO_MEMBER; lagging < 3; lagging++) {
        struct answered answered;
        submit(*state, &answered, DISPATCH_SEND_MESSAGES, "{\"messages\":[{\"channelId\":\"a\"}]}");
        struct node_request *request = take_request(*state);
        request->lagging = lagging;
        end_request(request, NODE_FORMAT_TOO_NEW);
        await_answer(&answered);
        assert_non_null(strstr(answered.status.message, lagging == RAFT_NO_MEMBER
                                                            ? "a member"
                                                            : member_addresses[lagging].node_id));
        assert_item_refused(&answered, DISPATCH_UNAVAILABLE, "MEMBER_TOO_OLD", -1);
    }
}

/* A frontend that completes the call on a thread of its own, after the node let go of the request.
 */
static void answer_later(struct dispatch_call *call)
{
}

static void test_results_outlive_the_nodes_request(void **state)
{
    struct testing *testing = *state;
    create(testing, "{\"channelId\":\"g\"}");
    struct answered answered;
    submit_many(testing, &answered, 1000, 0);
    answered.call.ready = answer_later;
    apply_request(testing, take_request(testing));
    /* The state machine's own memory changes under the result. */
    struct answered other;
    submit_many(testing, &other, 1000, 0);
    apply_request(testing, take_request(testing));
    free_message(assert_ok(&other));
    dispatch_complete(&answered.call);
    Raftogram__V1__SendMessagesResponse *response = assert_ok(&answered);
    assert_int_equal(response->n_results, 1000);
    assert_int_equal(response->results[999]->sequence, 1000);
    free_message(response);
}

static void test_a_string_that_is_no_text_is_refused_with_its_position(void **state)
{
    /* Two messages, the second with the channel "\xff". */
    const struct bytes body = {"\x0a\x03\x0a\x01g\x0a\x03\x0a\x01\xff", 10};
    const char *json = "{\"messages\":[{\"channelId\":\"a\"},{\"channelId\":7}]}";
    for (int i = 0; i < 2; i++) {
        ProtobufCMessage *message = NULL;
        struct dispatch_status status = {0};
        assert_int_equal(dispatch_decode(dispatch_method(DISPATCH_SEND_MESSAGES),
                                         i == 0 ? body : bytes_of_text(json), &message, &status),
                         ERR_INVALID);
        assert_status(&status, DISPATCH_INVALID_ARGUMENT, "INVALID_FIELD");
        assert_true(status.has_item);
        assert_int_equal(status.item, 1);
    }
}

static void test_the_position_is_in_the_details_of_the_status(void **state)
{
    struct dispatch_status status = {0};
    struct buf text = {0};
    dispatch_status_set(&status, DISPATCH_NOT_FOUND, "CHANNEL_NOT_FOUND", "no such channel");
    status.has_item = true;
    status.item = 17;
    dispatch_status_encode(&status, &text);
    Google__Rpc__Status *rpc = google__rpc__status__unpack(NULL, text.size, text.data);
    assert_non_null(rpc);
    assert_int_equal(rpc->n_details, 1);
    Google__Rpc__ErrorInfo *info = google__rpc__error_info__unpack(NULL, rpc->details[0]->value.len,
                                                                   rpc->details[0]->value.data);
    assert_int_equal(info->n_metadata, 1);
    assert_string_equal(info->metadata[0]->key, "item");
    assert_string_equal(info->metadata[0]->value, "17");
    google__rpc__error_info__free_unpacked(info, NULL);
    google__rpc__status__free_unpacked(rpc, NULL);
    buf_finish(&text);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_a_faulty_message_is_refused_with_its_position),
        TEST(test_a_batch_has_its_limits),
        TEST(test_results_come_in_the_order_of_the_messages),
        TEST(test_an_unknown_channel_is_told_with_its_position_after_leadership),
        TEST(test_a_member_that_is_too_old_is_named),
        TEST(test_results_outlive_the_nodes_request),
        TEST(test_a_string_that_is_no_text_is_refused_with_its_position),
        TEST(test_the_position_is_in_the_details_of_the_status),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
