/* Tests of unary calls over rpc. */
#include "unit/rpc/rpc_testing.h"

static void test_echo_answers_with_the_request(void **state)
{
    struct fixture fixture;
    struct run run;
    fixture_init(&fixture, &default_server);
    run_unary(&run, fixture.channel, "/echo", bytes_of_text("hello"));
    assert_int_equal(run.code, GRPC_STATUS_OK);
    assert_int_equal(run.response_size, 5);
    assert_memory_equal(run.answers[0].data, "hello", 5);
    AWAIT(fixture.closed == 1);
    assert_int_equal(fixture.cancelled, 0);
    assert_true(fixture.deadline_ns == UINT64_MAX);
    fixture_finish(&fixture);
}

static void test_empty_message_is_not_a_missing_one(void **state)
{
    struct fixture fixture;
    struct run run;
    fixture_init(&fixture, &default_server);
    run_unary(&run, fixture.channel, "/echo", (struct bytes){NULL, 0});
    assert_int_equal(run.code, GRPC_STATUS_OK);
    assert_true(run.has_response);
    assert_int_equal(run.response_size, 0);
    fixture_finish(&fixture);
}

static void test_large_message_of_many_slices_is_joined(void **state)
{
    struct fixture fixture;
    struct run run;
    fixture_init(&fixture, &default_server);
    char *large = malloc(MESSAGE_MAX);
    memset(large, 'x', MESSAGE_MAX);
    run_unary(&run, fixture.channel, "/echo", (struct bytes){large, MESSAGE_MAX});
    assert_int_equal(run.code, GRPC_STATUS_OK);
    assert_int_equal(run.response_size, MESSAGE_MAX);
    free(large);
    fixture_finish(&fixture);
}

static void test_oversize_message_is_resource_exhausted(void **state)
{
    struct fixture fixture;
    struct run run;
    fixture_init(&fixture, &default_server);
    char *large = calloc(1, MESSAGE_MAX + 1);
    run_unary(&run, fixture.channel, "/echo", (struct bytes){large, MESSAGE_MAX + 1});
    assert_int_equal(run.code, GRPC_STATUS_RESOURCE_EXHAUSTED);
    free(large);
    AWAIT(fixture.closed == 1);
    assert_int_equal(fixture.cancelled, 1);
    fixture_finish(&fixture);
}

static void test_unknown_method_is_unimplemented(void **state)
{
    struct fixture fixture;
    struct run run;
    fixture_init(&fixture, &default_server);
    run_unary(&run, fixture.channel, "/nothing", bytes_of_text(""));
    assert_int_equal(run.code, GRPC_STATUS_UNIMPLEMENTED);
    assert_string_equal(run.text, "no such method");
    assert_false(run.has_response);
    fixture_finish(&fixture);
}

static void test_status_details_travel_raw(void **state)
{
    struct fixture fixture;
    struct run run;
    fixture_init(&fixture, &default_server);
    run_unary(&run, fixture.channel, "/details", bytes_of_text(""));
    assert_int_equal(run.code, GRPC_STATUS_FAILED_PRECONDITION);
    assert_string_equal(run.text, "not leader: retry");
    assert_int_equal(run.details_size, 5);
    assert_memory_equal(run.details, "\x08\x09\x00\xffx", 5);
    fixture_finish(&fixture);
}

static void test_request_metadata_is_seen(void **state)
{
    struct fixture fixture;
    struct run run = {0};
    fixture_init(&fixture, &default_server);
    const struct rpc_metadata metadata[] = {{"token", {"first", 5}}, {"token", {"second", 6}}};
    struct rpc_client_options options = plain_options("/metadata");
    options.metadata = metadata;
    options.metadata_count = 2;
    const struct rpc_client_events events = run_events(&run);
    assert_int_equal(rpc_unary(fixture.channel, &options, bytes_of_text(""), &events, &run.call),
                     0);
    run_wait(&run);
    assert_int_equal(run.code, GRPC_STATUS_OK);
    assert_int_equal(run.response_size, 5);
    assert_memory_equal(run.answers[0].data, "first", 5);
    fixture_finish(&fixture);
}

static void test_illegal_metadata_is_refused_without_a_callback(void **state)
{
    struct fixture fixture;
    struct run run = {0};
    fixture_init(&fixture, &default_server);
    const struct rpc_metadata metadata = {"token", {"line\nbreak", 10}};
    struct rpc_client_options options = plain_options("/metadata");
    options.metadata = &metadata;
    options.metadata_count = 1;
    const struct rpc_client_events events = run_events(&run);
    assert_int_equal(rpc_unary(fixture.channel, &options, bytes_of_text(""), &events, &run.call),
                     ERR_INVALID);
    assert_int_equal(run.closed, 0);
    fixture_finish(&fixture);
}

static void test_passed_deadline_closes_the_call_as_cancelled(void **state)
{
    struct fixture fixture;
    struct run run = {0};
    fixture_init(&fixture, &default_server);
    struct rpc_client_options options = plain_options("/hold");
    uint64_t start_ns = now_ns();
    options.deadline_ns = start_ns + 200 * NS_PER_MS;
    const struct rpc_client_events events = run_events(&run);
    assert_int_equal(rpc_unary(fixture.channel, &options, bytes_of_text(""), &events, &run.call),
                     0);
    run_wait(&run);
    assert_int_equal(run.code, GRPC_STATUS_DEADLINE_EXCEEDED);
    assert_true(now_ns() - start_ns >= 190 * NS_PER_MS);
    AWAIT(fixture.closed == 1);
    assert_int_equal(fixture.cancelled, 1);
    /* The server knew the deadline, give or take what the way took. */
    assert_true(fixture.deadline_ns >= options.deadline_ns - 100 * NS_PER_MS);
    assert_true(fixture.deadline_ns <= options.deadline_ns + 500 * NS_PER_MS);
    /* A finish after the end does nothing; what is held stays readable. */
    finish_with(fixture.held, GRPC_STATUS_OK, NULL);
    assert_string_equal(rpc_call_path(fixture.held), "/hold");
    assert_int_equal(rpc_call_send(fixture.held, bytes_of_text("x")), ERR_CLOSED);
    fixture_finish(&fixture);
}

static void test_client_cancel_reaches_the_server(void **state)
{
    struct fixture fixture;
    struct run run;
    fixture_init(&fixture, &default_server);
    run_start_unary(&run, fixture.channel, "/hold", bytes_of_text("x"));
    AWAIT(fixture.messages == 1);
    rpc_client_cancel(run.call);
    run_wait(&run);
    assert_int_equal(run.code, GRPC_STATUS_CANCELLED);
    AWAIT(fixture.closed == 1);
    assert_int_equal(fixture.cancelled, 1);
    fixture_finish(&fixture);
}

static void test_any_thread_may_finish(void **state)
{
    struct fixture fixture;
    struct run run;
    fixture_init(&fixture, &default_server);
    for (int i = 0; i < 20; i++) {
        run_unary(&run, fixture.channel, "/elsewhere", bytes_of_text("x"));
        assert_int_equal(run.code, GRPC_STATUS_OK);
        assert_memory_equal(run.answers[0].data, "elsewhere", 9);
    }
    AWAIT(elsewhere_finished == elsewhere_started);
    fixture_finish(&fixture);
}

#define RACES 300

static void *race_finish(void *argument)
{
    finish_with(argument, GRPC_STATUS_ABORTED, "raced");
    return NULL;
}

static void test_finish_may_race_with_cancel(void **state)
{
    struct fixture fixture;
    struct run run;
    fixture_init(&fixture, &default_server);
    for (int i = 0; i < RACES; i++) {
        run_start_unary(&run, fixture.channel, "/hold", bytes_of_text("x"));
        AWAIT(fixture.messages == i + 1);
        pthread_t thread;
        assert_int_equal(pthread_create(&thread, NULL, race_finish, fixture.held), 0);
        rpc_client_cancel(run.call);
        run_wait(&run);
        assert_true(run.code == GRPC_STATUS_ABORTED || run.code == GRPC_STATUS_CANCELLED);
        pthread_join(thread, NULL);
        AWAIT(fixture.closed == i + 1);
        rpc_call_unref(fixture.held);
        CHANGE(fixture.held = NULL);
    }
    fixture_finish(&fixture);
}

#define CONCURRENT 1000

static void test_a_thousand_concurrent_calls_are_all_answered(void **state)
{
    struct fixture fixture;
    fixture_init(&fixture, &default_server);
    struct run *runs = calloc(CONCURRENT, sizeof(*runs));
    for (int i = 0; i < CONCURRENT; i++) {
        run_start_unary(&runs[i], fixture.channel, "/echo", bytes_of_text("hello"));
    }
    for (int i = 0; i < CONCURRENT; i++) {
        run_wait(&runs[i]);
        assert_int_equal(runs[i].code, GRPC_STATUS_OK);
        assert_memory_equal(runs[i].answers[0].data, "hello", 5);
    }
    free(runs);
    fixture_finish(&fixture);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_echo_answers_with_the_request),
        cmocka_unit_test(test_empty_message_is_not_a_missing_one),
        cmocka_unit_test(test_large_message_of_many_slices_is_joined),
        cmocka_unit_test(test_oversize_message_is_resource_exhausted),
        cmocka_unit_test(test_unknown_method_is_unimplemented),
        cmocka_unit_test(test_status_details_travel_raw),
        cmocka_unit_test(test_request_metadata_is_seen),
        cmocka_unit_test(test_illegal_metadata_is_refused_without_a_callback),
        cmocka_unit_test(test_passed_deadline_closes_the_call_as_cancelled),
        cmocka_unit_test(test_client_cancel_reaches_the_server),
        cmocka_unit_test(test_any_thread_may_finish),
        cmocka_unit_test(test_finish_may_race_with_cancel),
        cmocka_unit_test(test_a_thousand_concurrent_calls_are_all_answered),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
