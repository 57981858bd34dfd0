/* Tests of unary calls through the gRPC frontend. */
#include "unit/frontend_grpc/grpc_testing.h"

#define SEND "/raftogram.v1.Messenger/SendMessage"
#define READ "/phalanx.KV/Read"

static void test_answer_uses_the_encoding_of_the_request(void **state)
{
    static const uint8_t encoded_request[] = {0x0a, 1, 'c'};
    static const uint8_t encoded_answer[] = {0x08, 7};
    struct fixture fixture;
    struct run run;
    fixture_init(&fixture);
    CHANGE(fake.is_answering_at_once = true);
    run_unary(&run, fixture.channel, SEND, bytes_of_text("{\"channelId\":\"c\"}"));
    assert_int_equal(run.code, GRPC_STATUS_OK);
    assert_string_equal(run_answer(&run, 0), "{\"sequence\":\"7\",\"deduplicated\":false}");
    run_unary(&run, fixture.channel, SEND,
              (struct bytes){encoded_request, sizeof(encoded_request)});
    assert_int_equal(run.code, GRPC_STATUS_OK);
    assert_int_equal(run.answers[0].size, sizeof(encoded_answer));
    assert_memory_equal(run.answers[0].data, encoded_answer, sizeof(encoded_answer));
    run_unary(&run, fixture.channel, SEND, (struct bytes){"", 0});
    assert_memory_equal(run.answers[0].data, encoded_answer, sizeof(encoded_answer));
    assert_string_equal(fake.channel_ids[0], "c");
    assert_string_equal(fake.channel_ids[1], "c");
    assert_string_equal(fake.channel_ids[2], "");
    fixture_finish(&fixture);
}

static void test_kv_writes_snake_case(void **state)
{
    struct fixture fixture;
    struct run run;
    fixture_init(&fixture);
    CHANGE(fake.is_answering_at_once = true);
    run_unary(&run, fixture.channel, READ, bytes_of_text("{\"key\":\"k\"}"));
    assert_string_equal(run_answer(&run, 0),
                        "{\"value\":\"\",\"found\":true,\"leader_addr\":\"\",\"error\":\"\"}");
    fixture_finish(&fixture);
}

static void test_unknown_method_is_named(void **state)
{
    static const char *const paths[] = {"/no.such.Service/Method", "/raftogram.v1.Messenger/",
                                        "/raftogram.v1.Messenger/sendMessage", "/"};
    struct fixture fixture;
    struct run run;
    char expected[128];
    fixture_init(&fixture);
    for (size_t i = 0; i < sizeof(paths) / sizeof(paths[0]); i++) {
        run_unary(&run, fixture.channel, paths[i], bytes_of_text("{}"));
        snprintf(expected, sizeof(expected), "unknown method %s", paths[i]);
        assert_int_equal(run.code, GRPC_STATUS_UNIMPLEMENTED);
        assert_string_equal(run.text, expected);
    }
    fixture_finish(&fixture);
}

static void test_body_that_does_not_decode_is_refused_with_details(void **state)
{
    struct fixture fixture;
    struct run run;
    fixture_init(&fixture);
    run_unary(&run, fixture.channel, SEND, bytes_of_text("zzz"));
    assert_int_equal(run.code, GRPC_STATUS_INVALID_ARGUMENT);
    assert_string_equal(run.text, "not a raftogram.v1.SendMessageRequest");
    assert_string_equal(run.details, "INVALID_FIELD");
    ASSERT_NOW(fake.call_count == 0);
    fixture_finish(&fixture);
}

static void test_refusal_of_dispatch_arrives_whole(void **state)
{
    struct fixture fixture;
    struct run run;
    fixture_init(&fixture);
    run_start_unary(&run, fixture.channel, SEND, bytes_of_text("{}"));
    AWAIT(fake.call_count == 1);
    fake_refuse(fake.calls[0]);
    run_wait(&run);
    assert_int_equal(run.code, GRPC_STATUS_FAILED_PRECONDITION);
    assert_string_equal(run.text, "not leader");
    assert_string_equal(run.details, "NOT_LEADER");
    fixture_finish(&fixture);
}

static void start_with(struct run *run, struct fixture *fixture, uint64_t deadline_ns,
                       const char *forward)
{
    memset(run, 0, sizeof(*run));
    const struct rpc_metadata metadata = {"raftogram-forward", bytes_of_text(forward)};
    const struct rpc_client_options options = {
        .path = SEND, .deadline_ns = deadline_ns, .metadata = &metadata, .metadata_count = 1};
    const struct rpc_client_events events = run_events(run);
    assert_int_equal(
        rpc_unary(fixture->channel, &options, bytes_of_text("{}"), &events, &run->call), 0);
}

static void test_deadline_and_leave_to_forward_reach_dispatch(void **state)
{
    struct fixture fixture;
    struct run run[3];
    fixture_init(&fixture);
    uint64_t now_ns = clock_monotonic_ns(clock_system());
    start_with(&run[0], &fixture, now_ns + 60 * NS_PER_S, "1");
    AWAIT(fake.call_count == 1);
    start_with(&run[1], &fixture, UINT64_MAX, "0");
    AWAIT(fake.call_count == 2);
    run_start_unary(&run[2], fixture.channel, SEND, bytes_of_text("{}"));
    AWAIT(fake.call_count == 3);
    assert_true(fake.calls[0]->may_forward);
    assert_false(fake.calls[1]->may_forward);
    assert_false(fake.calls[2]->may_forward);
    assert_true(fake.calls[0]->deadline_ns > now_ns + 50 * NS_PER_S);
    assert_true(fake.calls[0]->deadline_ns < now_ns + 70 * NS_PER_S);
    assert_true(fake.calls[1]->deadline_ns == UINT64_MAX);
    for (int i = 0; i < 3; i++) {
        fake_answer(fake.calls[i]);
        run_wait(&run[i]);
        assert_int_equal(run[i].code, GRPC_STATUS_OK);
    }
    fixture_finish(&fixture);
}

static void test_answer_to_a_client_that_left_is_dropped(void **state)
{
    struct fixture fixture;
    struct run run[2];
    fixture_init(&fixture);
    run_start_unary(&run[0], fixture.channel, SEND, bytes_of_text("{}"));
    AWAIT(fake.call_count == 1);
    run_start_unary(&run[1], fixture.channel, SEND, bytes_of_text("{}"));
    AWAIT(fake.call_count == 2);
    run_cancel(&run[0]);
    run_cancel(&run[1]);
    assert_int_equal(run[0].code, GRPC_STATUS_CANCELLED);
    fake_answer(fake.calls[0]);
    fake_refuse(fake.calls[1]);
    fixture_finish(&fixture);
}

static uint32_t open_calls(struct fixture *fixture)
{
    pthread_mutex_lock(&fixture->frontend->lock);
    uint32_t calls = fixture->frontend->calls;
    pthread_mutex_unlock(&fixture->frontend->lock);
    return calls;
}

static void test_calls_beyond_the_maximum_are_overloaded(void **state)
{
    struct frontend_options options = default_options;
    struct fixture fixture;
    struct run held[2];
    struct run run;
    options.max_calls = 2;
    fixture_init_with(&fixture, &options);
    for (size_t i = 0; i < 2; i++) {
        run_start_unary(&held[i], fixture.channel, SEND, bytes_of_text("{}"));
        AWAIT(fake.call_count == i + 1);
    }
    run_unary(&run, fixture.channel, SEND, bytes_of_text("{}"));
    assert_int_equal(run.code, GRPC_STATUS_RESOURCE_EXHAUSTED);
    assert_string_equal(run.details, "OVERLOADED");
    fake_answer(fake.calls[0]);
    run_wait(&held[0]);
    AWAIT(open_calls(&fixture) == 1);
    CHANGE(fake.is_answering_at_once = true);
    run_unary(&run, fixture.channel, SEND, bytes_of_text("{}"));
    assert_int_equal(run.code, GRPC_STATUS_OK);
    fake_answer(fake.calls[1]);
    run_wait(&held[1]);
    fixture_finish(&fixture);
}

static void test_half_close_without_a_request_is_an_error(void **state)
{
    struct fixture fixture;
    struct run run;
    fixture_init(&fixture);
    run_start_stream(&run, fixture.channel, SEND);
    rpc_stream_close_send(run.call);
    run_wait(&run);
    assert_int_equal(run.code, GRPC_STATUS_INTERNAL);
    assert_string_equal(run.text, "half-closed without a request");
    fixture_finish(&fixture);
}

static void test_second_request_of_a_unary_call_is_refused_and_none_is_run(void **state)
{
    struct fixture fixture;
    struct run run;
    fixture_init(&fixture);
    run_stream(&run, &fixture, SEND, "{}");
    run_send(&run, bytes_of_text("{}"));
    run_wait(&run);
    assert_int_equal(run.code, GRPC_STATUS_INTERNAL);
    assert_string_equal(run.text, "a second request on a call that takes one");
    assert_int_equal(fake.call_count, 0);
    fixture_finish(&fixture);
}

/* ---- start and stop ---- */

static void test_taken_address_is_explained(void **state)
{
    struct frontend_options options = default_options;
    struct fixture fixture;
    char address[32];
    char error[256];
    char expected[256];
    void *instance = NULL;
    fixture_init(&fixture);
    snprintf(address, sizeof(address), "127.0.0.1:%d", h2_server_port(fixture.frontend->server));
    options.grpc_bind_addr = address;
    struct dispatch_watcher *watcher = fake.watcher;
    assert_int_equal(frontend_grpc.start(&options, &instance, error, sizeof(error)), ERR_BUSY);
    snprintf(expected, sizeof(expected),
             "%s: cannot listen for gRPC: the address is in use by another process; stop that "
             "process, or change cluster.grpc_bind_addr",
             address);
    assert_string_equal(error, expected);
    assert_null(instance);
    assert_ptr_equal(fake.watcher, watcher);
    fixture_finish(&fixture);
}

static void *stop_frontend(void *argument)
{
    struct fixture *fixture = argument;
    frontend_grpc.stop(fixture->frontend, 0);
    CHANGE(fixture->frontend = NULL);
    return NULL;
}

static void test_stop_waits_for_what_dispatch_still_holds(void **state)
{
    struct fixture fixture;
    struct run run;
    pthread_t thread;
    fixture_init(&fixture);
    run_start_unary(&run, fixture.channel, SEND, bytes_of_text("{}"));
    AWAIT(fake.call_count == 1);
    assert_int_equal(pthread_create(&thread, NULL, stop_frontend, &fixture), 0);
    run_wait(&run);
    assert_int_not_equal(run.code, GRPC_STATUS_OK);
    ASSERT_NOW(fixture.frontend != NULL);
    fake_answer(fake.calls[0]);
    pthread_join(thread, NULL);
    assert_null(fixture.frontend);
    fixture_finish(&fixture);
}

static void test_closed_frontend_lets_calls_finish(void **state)
{
    struct fixture fixture;
    struct run run;
    struct run late;
    fixture_init(&fixture);
    run_start_unary(&run, fixture.channel, SEND, bytes_of_text("{}"));
    AWAIT(fake.call_count == 1);
    frontend_grpc.close(fixture.frontend);
    run_unary(&late, fixture.channel, SEND, bytes_of_text("{}"));
    assert_int_not_equal(late.code, GRPC_STATUS_OK);
    fake_answer(fake.calls[0]);
    run_wait(&run);
    assert_int_equal(run.code, GRPC_STATUS_OK);
    assert_int_equal(fake.call_count, 1);
    fixture_finish(&fixture);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_answer_uses_the_encoding_of_the_request),
        cmocka_unit_test(test_kv_writes_snake_case),
        cmocka_unit_test(test_unknown_method_is_named),
        cmocka_unit_test(test_body_that_does_not_decode_is_refused_with_details),
        cmocka_unit_test(test_refusal_of_dispatch_arrives_whole),
        cmocka_unit_test(test_deadline_and_leave_to_forward_reach_dispatch),
        cmocka_unit_test(test_answer_to_a_client_that_left_is_dropped),
        cmocka_unit_test(test_calls_beyond_the_maximum_are_overloaded),
        cmocka_unit_test(test_half_close_without_a_request_is_an_error),
        cmocka_unit_test(test_second_request_of_a_unary_call_is_refused_and_none_is_run),
        cmocka_unit_test(test_taken_address_is_explained),
        cmocka_unit_test(test_stop_waits_for_what_dispatch_still_holds),
        cmocka_unit_test(test_closed_frontend_lets_calls_finish),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
