/* Tests of streams: order, backpressure, ends. */
#include "unit/rpc/rpc_testing.h"

#define CHUNK_BYTES 65536

static void test_download_delivers_every_message_and_then_the_status(void **state)
{
    struct fixture fixture;
    struct run run;
    fixture_init(&fixture, &default_server);
    run_start_stream(&run, fixture.channel, "/download");
    run_send(&run, bytes_of_text("100"));
    rpc_stream_close_send(run.call);
    run_wait(&run);
    assert_int_equal(run.code, GRPC_STATUS_OK);
    assert_int_equal(run.headers, 1);
    assert_int_equal(run.messages, 100);
    assert_int_equal(run.message_bytes, 100 * CHUNK_BYTES);
    AWAIT(fixture.closed == 1);
    assert_int_equal(fixture.cancelled, 0);
    fixture_finish(&fixture);
}

static int sent_when_stalled(struct fixture *fixture)
{
    /* Stalled: nothing more was sent for a while, however long that takes to come about. */
    int sent = -1;
    for (;;) {
        pthread_mutex_lock(&watch_lock);
        uint64_t until_ns = now_ns() + NS_PER_S;
        sent = fixture->sent;
        while (fixture->sent == sent && watch_wait(until_ns)) {
        }
        bool is_held = fixture->sent == sent;
        pthread_mutex_unlock(&watch_lock);
        if (is_held) {
            return sent;
        }
    }
}

static void test_slow_reader_holds_the_sender_back(void **state)
{
    struct fixture fixture;
    struct run run;
    fixture_init(&fixture, &default_server);
    run_start_stream(&run, fixture.channel, "/download");
    run.is_held = true;
    run_send(&run, bytes_of_text("1000"));
    AWAIT(run.messages == 1);
    int sent = sent_when_stalled(&fixture);
    assert_true(sent < 500);
    CHANGE(run.is_held = false);
    run_wait(&run);
    assert_int_equal(run.code, GRPC_STATUS_OK);
    assert_int_equal(run.messages, 1000);
    fixture_finish(&fixture);
}

static void test_cancelled_reader_ends_the_sender(void **state)
{
    struct fixture fixture;
    struct run run;
    fixture_init(&fixture, &default_server);
    run_start_stream(&run, fixture.channel, "/download");
    run_send(&run, bytes_of_text("100000"));
    AWAIT(run.messages > 10);
    rpc_client_cancel(run.call);
    run_wait(&run);
    assert_int_equal(run.code, GRPC_STATUS_CANCELLED);
    AWAIT(fixture.closed == 1);
    assert_int_equal(fixture.cancelled, 1);
    fixture_finish(&fixture);
}

static void test_upload_is_counted_after_half_close(void **state)
{
    struct fixture fixture;
    struct run run;
    fixture_init(&fixture, &default_server);
    run_start_stream(&run, fixture.channel, "/upload");
    static const char part[1000];
    for (int i = 0; i < 50; i++) {
        int sent = run.sent;
        assert_int_equal(rpc_stream_send(run.call, (struct bytes){part, 1000}, i < 49), 0);
        AWAIT(run.sent > sent);
    }
    rpc_stream_close_send(run.call);
    assert_int_equal(rpc_stream_send(run.call, bytes_of_text("late"), false), ERR_CLOSED);
    run_wait(&run);
    assert_int_equal(run.code, GRPC_STATUS_OK);
    assert_int_equal(run.messages, 1);
    assert_int_equal(run.message_bytes, 5); /* "50000" */
    assert_int_equal(fixture.messages, 50);
    fixture_finish(&fixture);
}

static void test_half_close_follows_an_outstanding_send(void **state)
{
    struct fixture fixture;
    struct run run;
    fixture_init(&fixture, &default_server);
    run_start_stream(&run, fixture.channel, "/upload");
    assert_int_equal(rpc_stream_send(run.call, bytes_of_text("x"), false), 0);
    rpc_stream_close_send(run.call);
    run_wait(&run);
    assert_int_equal(run.code, GRPC_STATUS_OK);
    assert_int_equal(fixture.messages, 1);
    fixture_finish(&fixture);
}

static void test_ping_pong_answers_each_message(void **state)
{
    struct fixture fixture;
    struct run run;
    fixture_init(&fixture, &default_server);
    run_start_stream(&run, fixture.channel, "/chat");
    for (int i = 1; i <= 200; i++) {
        run_send(&run, bytes_of_text("ping"));
        AWAIT(run.messages == i);
    }
    rpc_stream_close_send(run.call);
    run_wait(&run);
    assert_int_equal(run.code, GRPC_STATUS_OK);
    assert_int_equal(run.headers, 1);
    AWAIT(fixture.closed == 1);
    assert_int_equal(fixture.cancelled, 0);
    fixture_finish(&fixture);
}

static void test_headers_arrive_before_any_message(void **state)
{
    struct fixture fixture;
    struct run run;
    fixture_init(&fixture, &default_server);
    run_start_stream(&run, fixture.channel, "/hold");
    AWAIT(run.headers == 1);
    assert_int_equal(run.closed, 0);
    assert_int_equal(run.messages, 0);
    finish_with(fixture.held, GRPC_STATUS_OK, NULL);
    run_wait(&run);
    assert_int_equal(run.code, GRPC_STATUS_OK);
    fixture_finish(&fixture);
}

static void test_refused_stream_has_no_headers(void **state)
{
    struct fixture fixture;
    struct run run;
    fixture_init(&fixture, &default_server);
    for (int i = 0; i < 100; i++) {
        run_start_stream(&run, fixture.channel, "/nothing");
        run_wait(&run);
        assert_int_equal(run.code, GRPC_STATUS_UNIMPLEMENTED);
        assert_int_equal(run.headers, 0);
    }
    fixture_finish(&fixture);
}

static void test_finish_follows_an_outstanding_send(void **state)
{
    struct fixture fixture;
    struct run run;
    fixture_init(&fixture, &default_server);
    run_start_stream(&run, fixture.channel, "/hold");
    AWAIT(fixture.held != NULL);
    assert_int_equal(rpc_call_send(fixture.held, bytes_of_text("last words")), 0);
    finish_with(fixture.held, GRPC_STATUS_ABORTED, "enough");
    finish_with(fixture.held, GRPC_STATUS_OK, "ignored");
    assert_int_equal(rpc_call_send(fixture.held, bytes_of_text("more")), ERR_CLOSED);
    run_wait(&run);
    assert_int_equal(run.code, GRPC_STATUS_ABORTED);
    assert_string_equal(run.text, "enough");
    assert_int_equal(run.messages, 1);
    fixture_finish(&fixture);
}

static void test_shared_slice_is_sent_and_kept(void **state)
{
    struct fixture fixture;
    struct run run;
    fixture_init(&fixture, &default_server);
    run_start_stream(&run, fixture.channel, "/hold");
    AWAIT(fixture.held != NULL);
    grpc_slice slice = grpc_slice_from_copied_string("a frame that two readers may share");
    assert_int_equal(rpc_call_send_slice(fixture.held, slice), 0);
    AWAIT(run.messages == 1);
    assert_int_equal(grpc_slice_str_cmp(slice, "a frame that two readers may share"), 0);
    grpc_slice_unref(slice);
    finish_with(fixture.held, GRPC_STATUS_OK, NULL);
    run_wait(&run);
    assert_int_equal(run.message_bytes, 34);
    fixture_finish(&fixture);
}

static void test_oversize_stream_message_ends_the_call(void **state)
{
    struct fixture fixture;
    struct run run;
    fixture_init(&fixture, &default_server);
    run_start_stream(&run, fixture.channel, "/upload");
    char *large = calloc(1, MESSAGE_MAX + 1);
    assert_int_equal(rpc_stream_send(run.call, (struct bytes){large, MESSAGE_MAX + 1}, false), 0);
    free(large);
    run_wait(&run);
    assert_int_equal(run.code, GRPC_STATUS_RESOURCE_EXHAUSTED);
    AWAIT(fixture.closed == 1);
    assert_int_equal(fixture.cancelled, 1);
    fixture_finish(&fixture);
}

#define RACES 200

static void *race_send(void *argument)
{
    struct rpc_call *call = argument;
    static const char chunk[CHUNK_BYTES];
    if (rpc_call_send(call, (struct bytes){chunk, sizeof(chunk)}) == 0) {
        finish_with(call, GRPC_STATUS_OK, NULL);
    }
    return NULL;
}

static void test_send_may_race_with_cancel(void **state)
{
    struct fixture fixture;
    struct run run;
    fixture_init(&fixture, &default_server);
    for (int i = 0; i < RACES; i++) {
        run_start_stream(&run, fixture.channel, "/hold");
        AWAIT(fixture.accepted == i + 1);
        pthread_t thread;
        assert_int_equal(pthread_create(&thread, NULL, race_send, fixture.held), 0);
        rpc_client_cancel(run.call);
        pthread_join(thread, NULL);
        run_wait(&run);
        AWAIT(fixture.closed == i + 1);
        rpc_call_unref(fixture.held);
        CHANGE(fixture.held = NULL);
    }
    fixture_finish(&fixture);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_download_delivers_every_message_and_then_the_status),
        cmocka_unit_test(test_slow_reader_holds_the_sender_back),
        cmocka_unit_test(test_cancelled_reader_ends_the_sender),
        cmocka_unit_test(test_upload_is_counted_after_half_close),
        cmocka_unit_test(test_half_close_follows_an_outstanding_send),
        cmocka_unit_test(test_ping_pong_answers_each_message),
        cmocka_unit_test(test_headers_arrive_before_any_message),
        cmocka_unit_test(test_refused_stream_has_no_headers),
        cmocka_unit_test(test_finish_follows_an_outstanding_send),
        cmocka_unit_test(test_shared_slice_is_sent_and_kept),
        cmocka_unit_test(test_oversize_stream_message_ends_the_call),
        cmocka_unit_test(test_send_may_race_with_cancel),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
