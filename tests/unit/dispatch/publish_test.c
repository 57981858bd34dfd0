/* Publish: the order of frames, their acknowledgements, bounds, and what a failure ends. */
#include "dispatch_testing.h"

struct publishing {
    struct testing testing;
    struct dispatch_publish *publish;
    unsigned changes; /* under the watch */
    bool is_closed;   /* under the watch */
};

static void on_changed(void *context)
{
    struct publishing *publishing = context;
    CHANGE(publishing->changes++);
}

static void on_closed(void *context)
{
    struct publishing *publishing = context;
    CHANGE(publishing->is_closed = true);
}

static void open_publish(struct publishing *publishing, bool may_forward)
{
    const struct dispatch_publish_events events = {
        .changed = on_changed, .closed = on_closed, .context = publishing};
    assert_int_equal(dispatch_publish_open(publishing->testing.dispatch, may_forward, &events,
                                           &publishing->publish),
                     0);
}

static void close_publish(struct publishing *publishing)
{
    dispatch_publish_close(publishing->publish);
    publishing->publish = NULL;
    AWAIT(publishing->is_closed);
}

static int setup(void **state)
{
    static struct publishing publishing;
    publishing = (struct publishing){0};
    testing_open(&publishing.testing);
    publishing.testing.node.status.raft.role = RAFT_LEADER;
    struct answered answered;
    submit(&publishing.testing, &answered, DISPATCH_CREATE_CHANNEL, "{\"channelId\":\"a\"}");
    apply_request(&publishing.testing, take_request(&publishing.testing));
    free_message(assert_ok(&answered));
    open_publish(&publishing, false);
    *state = &publishing;
    return 0;
}

static int teardown(void **state)
{
    struct publishing *publishing = *state;
    if (publishing->publish != NULL) {
        close_publish(publishing);
    }
    testing_close(&publishing->testing);
    return 0;
}

static void publish(struct publishing *publishing, const char *json)
{
    struct dispatch_status status = {0};
    ProtobufCMessage *request;
    assert_int_equal(
        dispatch_decode(dispatch_method(DISPATCH_PUBLISH), bytes_of_text(json), &request, &status),
        0);
    assert_int_equal(dispatch_publish_frame(publishing->publish, request, strlen(json)), 0);
}

static void publish_to(struct publishing *publishing, unsigned frame, const char *channel_id)
{
    char json[128];
    snprintf(json, sizeof(json), "{\"frame\":%u,\"messages\":[{\"channelId\":\"%s\"}]}", frame,
             channel_id);
    publish(publishing, json);
}

static size_t count_submitted(struct publishing *publishing)
{
    size_t count = 0;
    pthread_mutex_lock(&watch_lock);
    LIST_FOR_EACH (link, &publishing->testing.node.requests) {
        count++;
    }
    pthread_mutex_unlock(&watch_lock);
    return count;
}

static void apply_next(struct publishing *publishing)
{
    apply_request(&publishing->testing, take_request(&publishing->testing));
}

static void assert_nothing(struct publishing *publishing)
{
    const ProtobufCMessage *response;
    struct dispatch_status status = {0};
    assert_int_equal(dispatch_publish_take(publishing->publish, &response, &status),
                     DISPATCH_PUBLISH_NOTHING);
}

static void assert_acked(struct publishing *publishing, uint64_t frame, uint64_t first_sequence,
                         size_t results)
{
    const ProtobufCMessage *message;
    struct dispatch_status status = {0};
    assert_int_equal(dispatch_publish_take(publishing->publish, &message, &status),
                     DISPATCH_PUBLISH_RESPONSE);
    const Raftogram__V1__PublishResponse *response = (const void *)message;
    assert_int_equal(response->acked_frame, frame);
    assert_int_equal(response->n_results, results);
    for (size_t i = 0; i < results; i++) {
        assert_int_equal(response->results[i]->sequence, first_sequence + i);
    }
}

static void assert_ended(struct publishing *publishing, int code, const char *reason)
{
    const ProtobufCMessage *response;
    struct dispatch_status status = {0};
    assert_int_equal(dispatch_publish_take(publishing->publish, &response, &status),
                     DISPATCH_PUBLISH_ENDED);
    assert_status(&status, code, reason);
}

/* Frame 1 alone, so that the channel is known. */
static void begin(struct publishing *publishing)
{
    publish_to(publishing, 1, "a");
    apply_next(publishing);
    assert_acked(publishing, 1, 1, 1);
}

static void test_frames_are_acknowledged_in_order_and_together(void **state)
{
    struct publishing *publishing = *state;
    begin(publishing);
    publish_to(publishing, 2, "a");
    publish(publishing, "{\"frame\":3,\"messages\":[{\"channelId\":\"a\"},{\"channelId\":\"a\"}]}");
    publish_to(publishing, 4, "a");
    assert_int_equal(count_submitted(publishing), 3);
    assert_nothing(publishing);
    apply_next(publishing);
    apply_next(publishing);
    assert_acked(publishing, 3, 2, 3);
    assert_nothing(publishing);
    assert_false(dispatch_publish_is_idle(publishing->publish));
    apply_next(publishing);
    assert_acked(publishing, 4, 5, 1);
    assert_true(dispatch_publish_is_idle(publishing->publish));
    assert_int_equal(dispatch_publish_held_bytes(publishing->publish), 0);
}

static void test_a_large_acknowledgement_comes_in_parts(void **state)
{
    struct publishing *publishing = *state;
    struct buf json = {0};
    begin(publishing);
    for (unsigned frame = 2; frame < 5; frame++) {
        buf_reset(&json);
        buf_printf(&json, "{\"frame\":%u,\"messages\":[", frame);
        for (int i = 0; i < 600; i++) {
            buf_append_text(&json, i == 0 ? "{\"channelId\":\"a\"}" : ",{\"channelId\":\"a\"}");
        }
        buf_append_text(&json, "]}");
        publish(publishing, buf_text(&json));
    }
    buf_finish(&json);
    for (int i = 0; i < 3; i++) {
        apply_next(publishing);
    }
    assert_acked(publishing, 2, 2, 600);
    assert_acked(publishing, 3, 602, 600);
    assert_acked(publishing, 4, 1202, 600);
    assert_nothing(publishing);
}

static void test_a_frame_out_of_order_ends_the_stream_after_those_before_it(void **state)
{
    struct publishing *publishing = *state;
    begin(publishing);
    publish_to(publishing, 2, "a");
    publish_to(publishing, 4, "a");
    publish_to(publishing, 3, "a");
    assert_int_equal(count_submitted(publishing), 1);
    assert_nothing(publishing);
    apply_next(publishing);
    assert_acked(publishing, 2, 2, 1);
    assert_ended(publishing, DISPATCH_INVALID_ARGUMENT, "FRAME_OUT_OF_ORDER");
}

static void test_the_first_frame_is_number_one(void **state)
{
    struct publishing *publishing = *state;
    publish_to(publishing, 0, "a");
    assert_ended(publishing, DISPATCH_INVALID_ARGUMENT, "FRAME_OUT_OF_ORDER");
}

static void test_a_faulty_frame_ends_the_stream_with_its_own_fault(void **state)
{
    struct publishing *publishing = *state;
    begin(publishing);
    publish_to(publishing, 2, "a");
    publish(publishing, "{\"frame\":3}");
    publish_to(publishing, 4, "a");
    assert_int_equal(count_submitted(publishing), 1);
    apply_next(publishing);
    assert_acked(publishing, 2, 2, 1);
    assert_ended(publishing, DISPATCH_INVALID_ARGUMENT, "INVALID_FIELD");
}

static void test_a_frame_with_a_new_channel_is_alone_on_its_way(void **state)
{
    struct publishing *publishing = *state;
    publish_to(publishing, 1, "a");
    publish_to(publishing, 2, "a");
    assert_int_equal(count_submitted(publishing), 1);
    apply_next(publishing);
    assert_acked(publishing, 1, 1, 1);
    assert_int_equal(count_submitted(publishing), 1);
    publish_to(publishing, 3, "gone");
    publish_to(publishing, 4, "a");
    assert_int_equal(count_submitted(publishing), 1);
    apply_next(publishing);
    assert_acked(publishing, 2, 2, 1);
    apply_next(publishing);
    assert_ended(publishing, DISPATCH_NOT_FOUND, "CHANNEL_NOT_FOUND");
    assert_int_equal(count_submitted(publishing), 0);
    assert_int_equal(find_channel(&publishing->testing.chat, "a").last_sequence, 2);
}

static void test_after_a_failure_nothing_is_submitted(void **state)
{
    struct publishing *publishing = *state;
    begin(publishing);
    publish_to(publishing, 2, "a");
    publish_to(publishing, 3, "a");
    struct node_request *second = take_request(&publishing->testing);
    struct node_request *third = take_request(&publishing->testing);
    assert_ptr_equal(second->chain, third->chain);
    assert_non_null(second->chain);
    end_request(second, NODE_COMMIT_UNKNOWN);
    end_request(third, NODE_NOT_LEADER);
    assert_ended(publishing, DISPATCH_ABORTED, "COMMIT_UNKNOWN");
    publish_to(publishing, 4, "a");
    assert_int_equal(count_submitted(publishing), 0);
}

static void test_a_follower_refuses_at_once_or_forwards_one_frame_at_a_time(void **state)
{
    struct publishing *publishing = *state;
    close_publish(publishing);
    publishing->is_closed = false;
    pthread_mutex_lock(&node_status_lock);
    publishing->testing.node.status.raft.role = RAFT_FOLLOWER;
    publishing->testing.node.status.raft.leader = 1;
    pthread_mutex_unlock(&node_status_lock);
    open_publish(publishing, false);
    assert_ended(publishing, DISPATCH_FAILED_PRECONDITION, "NOT_LEADER");
    close_publish(publishing);
    publishing->is_closed = false;
    open_publish(publishing, true);
    begin(publishing);
    publish_to(publishing, 2, "a");
    publish_to(publishing, 3, "a");
    assert_int_equal(count_submitted(publishing), 1);
    struct node_request *second = take_request(&publishing->testing);
    assert_true(second->may_forward);
    apply_request(&publishing->testing, second);
    assert_acked(publishing, 2, 2, 1);
    apply_next(publishing);
    assert_acked(publishing, 3, 3, 1);
}

static void test_reading_stops_at_the_bounds(void **state)
{
    struct publishing *publishing = *state;
    begin(publishing);
    for (unsigned frame = 2; frame < 2 + DISPATCH_PUBLISH_FRAMES_MAX; frame++) {
        assert_false(dispatch_publish_is_full(publishing->publish));
        publish_to(publishing, frame, "a");
    }
    assert_true(dispatch_publish_is_full(publishing->publish));
    apply_next(publishing);
    assert_acked(publishing, 2, 2, 1);
    assert_false(dispatch_publish_is_full(publishing->publish));
    while (count_submitted(publishing) > 0) {
        apply_next(publishing);
    }
}

/* An empty message is two bytes encoded and many more unpacked. */
static void test_memory_is_counted_by_messages_and_a_frame_of_too_many_is_not_kept(void **state)
{
    struct publishing *publishing = *state;
    struct buf json = {0};
    begin(publishing);
    buf_append_text(&json, "{\"frame\":2,\"messages\":[");
    for (int i = 0; i < 1000; i++) {
        buf_append_text(&json, i == 0 ? "{}" : ",{}");
    }
    buf_append_text(&json, ",{}]}");
    publish(publishing, buf_text(&json));
    assert_int_equal(dispatch_publish_held_bytes(publishing->publish), 0);
    assert_ended(publishing, DISPATCH_INVALID_ARGUMENT, "BATCH_TOO_LARGE");
    buf_finish(&json);
    close_publish(publishing);
    publishing->is_closed = false;
    open_publish(publishing, false);
    const char *frame = "{\"frame\":1,\"messages\":[{\"channelId\":\"a\"},{\"channelId\":\"a\"}]}";
    publish(publishing, frame);
    assert_true(dispatch_publish_held_bytes(publishing->publish) >= strlen(frame) + 2 * 96);
    apply_next(publishing);
    assert_acked(publishing, 1, 2, 2);
    assert_int_equal(dispatch_publish_held_bytes(publishing->publish), 0);
}

static void test_a_closed_stream_waits_for_what_is_on_its_way(void **state)
{
    struct publishing *publishing = *state;
    begin(publishing);
    publish_to(publishing, 2, "a");
    publish_to(publishing, 3, "a");
    apply_next(publishing);
    dispatch_publish_close(publishing->publish);
    publishing->publish = NULL;
    assert_false(publishing->is_closed);
    apply_next(publishing);
    AWAIT(publishing->is_closed);
    assert_int_equal(find_channel(&publishing->testing.chat, "a").last_sequence, 3);
}

static void test_a_shutdown_ends_it_after_what_is_on_its_way(void **state)
{
    struct publishing *publishing = *state;
    begin(publishing);
    publish_to(publishing, 2, "a");
    unsigned changes = publishing->changes;
    dispatch_end_streams(publishing->testing.dispatch);
    assert_true(publishing->changes > changes);
    assert_nothing(publishing);
    apply_next(publishing);
    assert_acked(publishing, 2, 2, 1);
    assert_ended(publishing, DISPATCH_UNAVAILABLE, "DRAINING");
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_frames_are_acknowledged_in_order_and_together),
        TEST(test_a_large_acknowledgement_comes_in_parts),
        TEST(test_a_frame_out_of_order_ends_the_stream_after_those_before_it),
        TEST(test_the_first_frame_is_number_one),
        TEST(test_a_faulty_frame_ends_the_stream_with_its_own_fault),
        TEST(test_a_frame_with_a_new_channel_is_alone_on_its_way),
        TEST(test_after_a_failure_nothing_is_submitted),
        TEST(test_a_follower_refuses_at_once_or_forwards_one_frame_at_a_time),
        TEST(test_reading_stops_at_the_bounds),
        TEST(test_memory_is_counted_by_messages_and_a_frame_of_too_many_is_not_kept),
        TEST(test_a_closed_stream_waits_for_what_is_on_its_way),
        TEST(test_a_shutdown_ends_it_after_what_is_on_its_way),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
