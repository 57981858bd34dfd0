#include "unit/rpc/rpc_testing.h"

static void test_taken_port_is_busy(void **state)
{
    struct fixture fixture;
    fixture_init(&fixture, &default_server);
    struct rpc_server_options options = default_server;
    options.address = fixture.address;
    const struct rpc_server_handler handler = {.on_call = test_on_call, .context = &fixture};
    struct rpc_server *second = NULL;
    assert_int_equal(rpc_server_create(fixture.server_loop, &options, &handler, &second), ERR_BUSY);
    options.address = "no.such.host.invalid:1";
    assert_int_equal(rpc_server_create(fixture.server_loop, &options, &handler, &second), ERR_BUSY);
    options.address = "192.0.2.1:7000"; /* RFC 5737: nobody's, so not ours */
    assert_int_equal(rpc_server_create(fixture.server_loop, &options, &handler, &second), ERR_BUSY);
    assert_null(second);
    fixture_finish(&fixture);
}

static void test_calls_beyond_the_maximum_are_refused(void **state)
{
    struct fixture fixture;
    struct run held[3];
    struct run run;
    struct rpc_server_options options = default_server;
    options.calls_max = 3;
    fixture_init(&fixture, &options);
    for (int i = 0; i < 3; i++) {
        run_start_stream(&held[i], &fixture, "/upload");
        AWAIT(fixture.accepted == i + 1);
    }
    run_unary(&run, &fixture, "/echo", bytes_of_text("x"));
    assert_int_equal(run.code, GRPC_STATUS_RESOURCE_EXHAUSTED);
    for (int i = 0; i < 3; i++) {
        rpc_stream_close_send(held[i].call);
        run_wait(&held[i]);
        assert_int_equal(held[i].code, GRPC_STATUS_OK);
    }
    AWAIT(fixture.closed == 3);
    /* The count goes down just after on_closed. */
    uint64_t until_ns = now_ns() + AWAIT_SECONDS * NS_PER_S;
    do {
        run_unary(&run, &fixture, "/echo", bytes_of_text("x"));
    } while (run.code != GRPC_STATUS_OK && now_ns() < until_ns);
    assert_int_equal(run.code, GRPC_STATUS_OK);
    fixture_finish(&fixture);
}

static void test_stop_cancels_what_outlives_the_grace(void **state)
{
    struct fixture fixture;
    struct run run;
    fixture_init(&fixture, &default_server);
    run_start_stream(&run, &fixture, "/hold");
    AWAIT(fixture.accepted == 1);
    uint64_t start_ns = now_ns();
    rpc_server_stop(fixture.server, 200);
    assert_true(now_ns() - start_ns >= 200 * NS_PER_MS);
    assert_int_equal(fixture.closed, 1);
    assert_int_equal(fixture.cancelled, 1);
    run_wait(&run);
    assert_int_not_equal(run.code, GRPC_STATUS_OK);
    /* References outlive the server, but not the call. */
    rpc_server_destroy(fixture.server);
    fixture.server = NULL;
    assert_string_equal(rpc_call_path(fixture.held), "/hold");
    assert_int_equal(rpc_call_send(fixture.held, bytes_of_text("x")), ERR_CLOSED);
    fixture_finish(&fixture);
}

static void *finish_after_close(void *argument)
{
    struct rpc_call *call = argument;
    finish_with(call, GRPC_STATUS_OK, "in time");
    return NULL;
}

static void test_closed_server_lets_running_calls_finish(void **state)
{
    struct fixture fixture;
    struct run run;
    fixture_init(&fixture, &default_server);
    run_start_stream(&run, &fixture, "/hold");
    AWAIT(fixture.accepted == 1);
    rpc_server_close(fixture.server);
    rpc_server_close(fixture.server);
    pthread_t thread;
    assert_int_equal(pthread_create(&thread, NULL, finish_after_close, fixture.held), 0);
    rpc_server_stop(fixture.server, 60000);
    pthread_join(thread, NULL);
    run_wait(&run);
    assert_int_equal(run.code, GRPC_STATUS_OK);
    assert_int_equal(fixture.cancelled, 0);
    fixture_finish(&fixture);
}

static void test_stop_without_calls_does_not_wait_out_the_grace(void **state)
{
    struct fixture fixture;
    struct run run;
    fixture_init(&fixture, &default_server);
    run_unary(&run, &fixture, "/echo", bytes_of_text("x"));
    uint64_t start_ns = now_ns();
    rpc_server_stop(fixture.server, 60000);
    assert_true(now_ns() - start_ns < 20 * NS_PER_S);
    fixture_finish(&fixture);
}

struct storm {
    struct fixture *fixture;
    struct run run;
};

static void *storm_calls(void *argument)
{
    struct storm *storm = argument;
    do {
        run_unary(&storm->run, storm->fixture, "/elsewhere", bytes_of_text("x"));
    } while (storm->run.code == GRPC_STATUS_OK);
    return NULL;
}

#define STORM_THREADS 4

static void test_stop_survives_calls_that_finish_on_other_threads(void **state)
{
    for (int round = 0; round < 10; round++) {
        struct fixture fixture;
        struct storm storms[STORM_THREADS];
        pthread_t threads[STORM_THREADS];
        fixture_init(&fixture, &default_server);
        for (int i = 0; i < STORM_THREADS; i++) {
            storms[i].fixture = &fixture;
            assert_int_equal(pthread_create(&threads[i], NULL, storm_calls, &storms[i]), 0);
        }
        AWAIT(fixture.closed >= 20);
        rpc_server_stop(fixture.server, round % 2 == 0 ? 0 : 1000);
        for (int i = 0; i < STORM_THREADS; i++) {
            pthread_join(threads[i], NULL);
        }
        AWAIT(elsewhere_finished == elsewhere_started);
        fixture_finish(&fixture);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_taken_port_is_busy),
        cmocka_unit_test(test_calls_beyond_the_maximum_are_refused),
        cmocka_unit_test(test_stop_cancels_what_outlives_the_grace),
        cmocka_unit_test(test_closed_server_lets_running_calls_finish),
        cmocka_unit_test(test_stop_without_calls_does_not_wait_out_the_grace),
        cmocka_unit_test(test_stop_survives_calls_that_finish_on_other_threads),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
