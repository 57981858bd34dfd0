/* Tests of servers: binding, limits, stopping. */
#include "unit/rpc/rpc_testing.h"

#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

static void expect_fault(struct fixture *fixture, const char *address, int rc, const char *words)
{
    struct rpc_server_options options = default_server;
    struct listen_fault fault = {.number = -1};
    options.address = address;
    options.fault = &fault;
    const struct rpc_server_handler handler = {.on_call = test_on_call, .context = fixture};
    struct rpc_server *server = NULL;
    assert_int_equal(rpc_server_create(fixture->server_loop, &options, &handler, &server), rc);
    assert_null(server);
    char text[512];
    listen_explain(&fault, address, "gRPC", "cluster.grpc_bind_addr", text, sizeof(text));
    assert_ptr_equal(strstr(text, address), text);
    if (strstr(text, words) == NULL || strstr(text, "cluster.grpc_bind_addr") == NULL) {
        fail_msg("\"%s\" does not say \"%s\"", text, words);
    }
}

static void test_an_address_that_cannot_be_bound_is_told_as_what_it_is(void **state)
{
    struct fixture fixture;
    fixture_init(&fixture, &default_server);
    expect_fault(&fixture, fixture.address, ERR_BUSY, "in use by another process; stop that");
    expect_fault(&fixture, "no.such.host.invalid:1", ERR_INVALID, "cannot be looked up");
    /* RFC 5737: nobody's, so not ours */
    expect_fault(&fixture, "192.0.2.1:7000", ERR_INVALID, "not one of this machine's");
    expect_fault(&fixture, "nonsense", ERR_INVALID, "it is not host:port");
    fixture_finish(&fixture);
}

static bool connects(int family, int port)
{
    struct sockaddr_in ipv4 = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
    struct sockaddr_in6 ipv6 = {.sin6_family = AF_INET6, .sin6_port = htons((uint16_t)port)};
    ipv4.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    ipv6.sin6_addr = in6addr_loopback;
    int fd = socket(family, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_true(fd >= 0);
    int rc = family == AF_INET ? connect(fd, (struct sockaddr *)&ipv4, sizeof(ipv4))
                               : connect(fd, (struct sockaddr *)&ipv6, sizeof(ipv6));
    close(fd);
    return rc == 0;
}

static void expect_kinds(const char *address, bool has_ipv4, bool has_ipv6)
{
    struct fixture fixture;
    struct rpc_server_options options = default_server;
    options.address = address;
    fixture_init(&fixture, &options);
    int port = rpc_server_port(fixture.server);
    assert_int_equal(connects(AF_INET, port), has_ipv4);
    assert_int_equal(connects(AF_INET6, port), has_ipv6);
    fixture_finish(&fixture);
}

static void test_what_is_written_is_bound_and_nothing_else(void **state)
{
    struct listen_addresses loopback;
    struct listen_fault fault;
    int fd;
    assert_int_equal(listen_resolve("[::1]:0", &loopback, &fault), 0);
    if (listen_open(&loopback.list[0], 1, &fd) != 0) {
        skip(); /* a machine without IPv6 */
    }
    close(fd);
    expect_kinds("0.0.0.0:0", true, false);
    expect_kinds("127.0.0.1:0", true, false);
    expect_kinds("[::1]:0", false, true);
    expect_kinds("[::]:0", true, true);
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
        run_start_stream(&held[i], fixture.channel, "/upload");
        AWAIT(fixture.accepted == i + 1);
    }
    run_unary(&run, fixture.channel, "/echo", bytes_of_text("x"));
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
        run_unary(&run, fixture.channel, "/echo", bytes_of_text("x"));
    } while (run.code != GRPC_STATUS_OK && now_ns() < until_ns);
    assert_int_equal(run.code, GRPC_STATUS_OK);
    fixture_finish(&fixture);
}

static void test_stop_cancels_what_outlives_the_grace(void **state)
{
    struct fixture fixture;
    struct run run;
    fixture_init(&fixture, &default_server);
    run_start_stream(&run, fixture.channel, "/hold");
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
    run_start_stream(&run, fixture.channel, "/hold");
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
    run_unary(&run, fixture.channel, "/echo", bytes_of_text("x"));
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
        run_unary(&storm->run, storm->fixture->channel, "/elsewhere", bytes_of_text("x"));
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
        cmocka_unit_test(test_an_address_that_cannot_be_bound_is_told_as_what_it_is),
        cmocka_unit_test(test_what_is_written_is_bound_and_nothing_else),
        cmocka_unit_test(test_calls_beyond_the_maximum_are_refused),
        cmocka_unit_test(test_stop_cancels_what_outlives_the_grace),
        cmocka_unit_test(test_closed_server_lets_running_calls_finish),
        cmocka_unit_test(test_stop_without_calls_does_not_wait_out_the_grace),
        cmocka_unit_test(test_stop_survives_calls_that_finish_on_other_threads),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
