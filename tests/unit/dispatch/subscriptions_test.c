/* Subscriptions: opening, pages, backpressure, the ways to end, and closing in every state. */
#include "dispatch_testing.h"

/* A subscription as a frontend holds it. Under the watch, from the reader's thread. */
struct listening {
    struct dispatch_subscription *subscription;
    int opened;
    int pages;
    int ended;
    int closed;
    struct dispatch_status status; /* of `opened` or `ended` */
    uint64_t last_sequence;        /* as `opened` said */
    char cluster_id[40];
    uint64_t received; /* the last sequence; each page must follow the one before */
    size_t page_count; /* messages in the newest page */
    bool has_fault;
    bool is_reading_allowed;
    int asked; /* whether it may be read */
    int idle;
};

static void on_opened(void *context, const struct dispatch_status *status, uint64_t last_sequence,
                      const char *cluster_id)
{
    struct listening *listening = context;
    CHANGE(listening->opened++; listening->status = *status;
           listening->last_sequence = last_sequence;
           snprintf(listening->cluster_id, sizeof(listening->cluster_id), "%s", cluster_id));
}

static void on_page(void *context, struct message_page *page)
{
    struct listening *listening = context;
    size_t count = dispatch_page_count(page, DISPATCH_PAGE_PROTOBUF);
    struct bytes encoded = dispatch_page_encoded(page, DISPATCH_PAGE_PROTOBUF);
    Raftogram__V1__SubscribeChunk *chunk =
        raftogram__v1__subscribe_chunk__unpack(NULL, encoded.size, encoded.data);
    CHECK(chunk != NULL);
    bool has_fault = chunk->n_messages != count || count == 0;
    uint64_t sequence = listening->received;
    for (size_t i = 0; i < chunk->n_messages; i++) {
        has_fault = has_fault || chunk->messages[i]->sequence != ++sequence;
    }
    raftogram__v1__subscribe_chunk__free_unpacked(chunk, NULL);
    CHANGE(listening->pages++; listening->received = sequence; listening->page_count = count;
           listening->has_fault = listening->has_fault || has_fault);
}

static void on_ended(void *context, const struct dispatch_status *status)
{
    struct listening *listening = context;
    CHANGE(listening->ended++; listening->status = *status);
}

static void on_closed(void *context)
{
    struct listening *listening = context;
    CHANGE(listening->closed++);
}

static bool may_read(void *context)
{
    struct listening *listening = context;
    bool is_allowed;
    CHANGE(listening->asked++; is_allowed = listening->is_reading_allowed);
    return is_allowed;
}

static void on_idle(void *context)
{
    struct listening *listening = context;
    CHANGE(listening->idle++);
}

static void subscribe(struct testing *testing, struct listening *listening, const char *json)
{
    struct dispatch_status status;
    ProtobufCMessage *request = NULL;
    *listening = (struct listening){.is_reading_allowed = true};
    assert_int_equal(dispatch_decode(dispatch_method(DISPATCH_SUBSCRIBE), bytes_of_text(json),
                                     &request, &status),
                     0);
    const struct dispatch_subscription_events events = {.opened = on_opened,
                                                        .page = on_page,
                                                        .ended = on_ended,
                                                        .closed = on_closed,
                                                        .idle = on_idle,
                                                        .may_read = may_read,
                                                        .context = listening};
    assert_int_equal(dispatch_subscribe(testing->dispatch, request, UINT64_MAX, &events,
                                        &listening->subscription),
                     0);
}

/* Subscribes behind `after`; it must be in place. */
static void open_behind(struct testing *testing, struct listening *listening, unsigned after)
{
    char json[64];
    snprintf(json, sizeof(json), "{\"channelId\":\"g\",\"afterSequence\":%u}", after);
    subscribe(testing, listening, json);
    end_request(take_request(testing), NODE_OK);
    AWAIT(listening->opened == 1);
    assert_status(&listening->status, DISPATCH_OK, NULL);
    listening->received = after;
}

static void close_listening(struct listening *listening)
{
    dispatch_subscription_close(listening->subscription);
    AWAIT(listening->closed == 1);
    assert_int_equal(listening->opened, 1);
    assert_false(listening->has_fault);
}

static void next_page(struct listening *listening)
{
    int before = listening->pages;
    dispatch_subscription_next(listening->subscription);
    AWAIT(listening->pages == before + 1);
}

static int setup(void **state)
{
    static struct testing testing;
    testing_open(&testing);
    apply(&testing.chat, create_command("g", "General"));
    *state = &testing;
    return 0;
}

static int teardown(void **state)
{
    testing_close(*state);
    return 0;
}

static void assert_open_refused(struct testing *testing, const char *json, bool asks_node,
                                enum node_outcome outcome, int code, const char *reason)
{
    struct listening listening;
    subscribe(testing, &listening, json);
    if (asks_node) {
        end_request(take_request(testing), outcome);
    }
    AWAIT(listening.opened == 1);
    assert_status(&listening.status, code, reason);
    close_listening(&listening);
    assert_int_equal(listening.pages, 0);
    assert_int_equal(listening.ended, 0);
}

static void test_fields_are_checked_without_asking_the_node(void **state)
{
    assert_open_refused(*state, "{}", false, NODE_OK, DISPATCH_INVALID_ARGUMENT, "INVALID_FIELD");
}

static void test_the_check_is_linearizable_and_its_failure_is_the_answer(void **state)
{
    assert_open_refused(*state, "{\"channelId\":\"g\"}", true, NODE_NO_QUORUM, DISPATCH_UNAVAILABLE,
                        "NO_QUORUM");
    assert_open_refused(*state, "{\"channelId\":\"g\"}", true, NODE_DEADLINE,
                        DISPATCH_DEADLINE_EXCEEDED, NULL);
}

static void test_a_channel_that_does_not_exist_is_not_found(void **state)
{
    assert_open_refused(*state, "{\"channelId\":\"missing\"}", true, NODE_OK, DISPATCH_NOT_FOUND,
                        "CHANNEL_NOT_FOUND");
}

static void test_a_cursor_past_the_end_or_of_another_cluster_is_refused(void **state)
{
    assert_open_refused(*state, "{\"channelId\":\"g\",\"afterSequence\":1}", true, NODE_OK,
                        DISPATCH_OUT_OF_RANGE, "CURSOR_AHEAD");
    assert_open_refused(*state, "{\"channelId\":\"g\",\"clusterId\":\"ff\"}", true, NODE_OK,
                        DISPATCH_FAILED_PRECONDITION, "CLUSTER_CHANGED");
}

static void test_what_the_node_does_not_take_is_refused(void **state)
{
    struct testing *testing = *state;
    CHANGE(testing->node.submit_error = ERR_FULL);
    assert_open_refused(testing, "{\"channelId\":\"g\"}", false, NODE_OK,
                        DISPATCH_RESOURCE_EXHAUSTED, "OVERLOADED");
    CHANGE(testing->node.submit_error = ERR_CLOSED);
    assert_open_refused(testing, "{\"channelId\":\"g\"}", false, NODE_OK, DISPATCH_UNAVAILABLE,
                        "DRAINING");
    CHANGE(testing->node.submit_error = 0);
}

static void test_stored_messages_come_first_and_new_ones_follow_without_a_seam(void **state)
{
    struct testing *testing = *state;
    struct listening listening;
    send_many(&testing->chat, "g", 0, 3);
    open_behind(testing, &listening, 0);
    assert_int_equal(listening.last_sequence, 3);
    next_page(&listening);
    assert_int_equal(listening.received, 3);
    dispatch_subscription_next(listening.subscription);
    send_many(&testing->chat, "g", 3, 2);
    AWAIT(listening.received == 5);
    close_listening(&listening);
}

static void test_live_only_begins_at_the_end(void **state)
{
    struct testing *testing = *state;
    struct listening listening;
    send_many(&testing->chat, "g", 0, 3);
    subscribe(testing, &listening, "{\"channelId\":\"g\",\"liveOnly\":true}");
    end_request(take_request(testing), NODE_OK);
    AWAIT(listening.opened == 1);
    listening.received = 3;
    dispatch_subscription_next(listening.subscription);
    send_many(&testing->chat, "g", 3, 1);
    AWAIT(listening.received == 4);
    close_listening(&listening);
}

static void test_no_page_comes_unasked(void **state)
{
    struct testing *testing = *state;
    struct listening slow;
    struct listening quick;
    open_behind(testing, &slow, 0);
    open_behind(testing, &quick, 0);
    dispatch_subscription_next(slow.subscription);
    dispatch_subscription_next(quick.subscription);
    send_many(&testing->chat, "g", 0, 1);
    AWAIT(slow.pages == 1 && quick.pages == 1);
    for (unsigned i = 1; i < 20; i++) {
        dispatch_subscription_next(quick.subscription);
        send_many(&testing->chat, "g", i, 1);
        AWAIT(quick.received == i + 1);
    }
    ASSERT_NOW(slow.pages == 1);
    next_page(&slow); /* what it missed comes in one page */
    assert_int_equal(slow.page_count, 19);
    close_listening(&slow);
    close_listening(&quick);
}

static void test_a_long_channel_comes_page_by_page(void **state)
{
    struct testing *testing = *state;
    struct listening listening;
    send_many(&testing->chat, "g", 0, 2500);
    open_behind(testing, &listening, 0);
    next_page(&listening);
    assert_int_equal(listening.received, 1000);
    next_page(&listening);
    next_page(&listening);
    assert_int_equal(listening.received, 2500);
    close_listening(&listening);
}

static void test_damage_ends_it_with_data_loss(void **state)
{
    struct testing *testing = *state;
    struct listening listening;
    send_many(&testing->chat, "g", 0, 600); /* more than is kept in memory */
    flush(&testing->chat);
    open_behind(testing, &listening, 0);
    store_memory_fail_reads(testing->chat.store, ERR_CORRUPT);
    dispatch_subscription_next(listening.subscription);
    AWAIT(listening.ended == 1);
    assert_status(&listening.status, DISPATCH_DATA_LOSS, "CORRUPT");
    store_memory_fail_reads(testing->chat.store, 0);
    dispatch_subscription_next(listening.subscription); /* does nothing any more */
    close_listening(&listening);
    assert_int_equal(listening.pages, 0);
}

static void test_ten_seconds_without_a_leader_end_it(void **state)
{
    struct testing *testing = *state;
    struct listening listening;
    open_behind(testing, &listening, 0);
    set_leaderless_since(&testing->node, clock_monotonic_ns(clock_system()) - 11 * NS_PER_S);
    AWAIT(listening.ended == 1);
    assert_status(&listening.status, DISPATCH_UNAVAILABLE, "NO_QUORUM");
    close_listening(&listening);
}

static void test_draining_ends_those_that_are_open_and_refuses_new_ones(void **state)
{
    struct testing *testing = *state;
    struct listening listening;
    open_behind(testing, &listening, 0);
    dispatch_end_streams(testing->dispatch);
    AWAIT(listening.ended == 1);
    assert_status(&listening.status, DISPATCH_UNAVAILABLE, "DRAINING");
    close_listening(&listening);
    assert_open_refused(testing, "{\"channelId\":\"g\"}", false, NODE_OK, DISPATCH_UNAVAILABLE,
                        "DRAINING");
}

static void test_a_close_before_the_check_is_done_waits_for_it(void **state)
{
    struct testing *testing = *state;
    struct listening listening;
    subscribe(testing, &listening, "{\"channelId\":\"g\"}");
    struct node_request *request = take_request(testing);
    dispatch_subscription_close(listening.subscription);
    ASSERT_NOW(listening.closed == 0);
    end_request(request, NODE_OK);
    AWAIT(listening.closed == 1);
    assert_int_equal(listening.opened, 1);
}

static void test_it_can_be_closed_while_a_page_is_asked_for(void **state)
{
    struct testing *testing = *state;
    for (unsigned i = 0; i < 50; i++) {
        struct listening listening;
        open_behind(testing, &listening, i);
        dispatch_subscription_next(listening.subscription);
        send_many(&testing->chat, "g", i, 1); /* the page and the close meet on the reader */
        close_listening(&listening);
    }
}

static void test_subscriptions_and_their_lag_are_in_the_metrics(void **state)
{
    struct testing *testing = *state;
    struct listening listening;
    struct dispatch_metrics metrics;
    send_many(&testing->chat, "g", 0, 5);
    open_behind(testing, &listening, 0);
    dispatch_get_metrics(testing->dispatch, &metrics);
    assert_int_equal(metrics.subscriptions, 1);
    assert_int_equal(metrics.calls[DISPATCH_SUBSCRIBE][DISPATCH_OK], 1);
    AWAIT((dispatch_get_metrics(testing->dispatch, &metrics), metrics.subscription_lag_max == 5));
    close_listening(&listening);
    dispatch_get_metrics(testing->dispatch, &metrics);
    assert_int_equal(metrics.subscriptions, 0);
}

static void test_a_page_that_may_not_be_read_comes_when_it_is_asked_for_again(void **state)
{
    struct testing *testing = *state;
    struct listening listening;
    open_behind(testing, &listening, 0);
    assert_true(dispatch_subscription_next(listening.subscription));
    AWAIT(listening.idle == 1);
    CHANGE(listening.is_reading_allowed = false);
    int asked = listening.asked;
    send_many(&testing->chat, "g", 0, 3);
    AWAIT(listening.asked == asked + 1);
    assert_true(dispatch_subscription_next(listening.subscription));
    AWAIT(listening.asked == asked + 2);
    assert_int_equal(listening.pages, 0);
    CHANGE(listening.is_reading_allowed = true);
    next_page(&listening);
    assert_int_equal(listening.received, 3);
    close_listening(&listening);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_fields_are_checked_without_asking_the_node),
        TEST(test_the_check_is_linearizable_and_its_failure_is_the_answer),
        TEST(test_a_channel_that_does_not_exist_is_not_found),
        TEST(test_a_cursor_past_the_end_or_of_another_cluster_is_refused),
        TEST(test_what_the_node_does_not_take_is_refused),
        TEST(test_stored_messages_come_first_and_new_ones_follow_without_a_seam),
        TEST(test_live_only_begins_at_the_end),
        TEST(test_no_page_comes_unasked),
        TEST(test_a_page_that_may_not_be_read_comes_when_it_is_asked_for_again),
        TEST(test_a_long_channel_comes_page_by_page),
        TEST(test_damage_ends_it_with_data_loss),
        TEST(test_ten_seconds_without_a_leader_end_it),
        TEST(test_draining_ends_those_that_are_open_and_refuses_new_ones),
        TEST(test_a_close_before_the_check_is_done_waits_for_it),
        TEST(test_it_can_be_closed_while_a_page_is_asked_for),
        TEST(test_subscriptions_and_their_lag_are_in_the_metrics),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
