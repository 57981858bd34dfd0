/* Tests of channels: dialling, lost servers, deadlines. */
#include "unit/rpc/rpc_testing.h"

#include <arpa/inet.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

static void stop_server(struct fixture *fixture)
{
    rpc_server_stop(fixture->server, 0);
    rpc_server_destroy(fixture->server);
    fixture->server = NULL;
}

static void test_refused_dial_fails_at_once(void **state)
{
    struct fixture fixture;
    struct run run;
    fixture_init(&fixture, &default_server);
    stop_server(&fixture);
    uint64_t start_ns = now_ns();
    run_unary(&run, fixture.channel, "/echo", bytes_of_text("x"));
    assert_int_equal(run.code, GRPC_STATUS_UNAVAILABLE);
    run_start_stream(&run, fixture.channel, "/chat");
    run_wait(&run);
    assert_int_equal(run.code, GRPC_STATUS_UNAVAILABLE);
    assert_int_equal(run.headers, 0);
    assert_true(now_ns() - start_ns < 5 * NS_PER_S);
    fixture_finish(&fixture);
}

static void test_lost_server_ends_a_stream_as_unavailable(void **state)
{
    struct fixture fixture;
    struct run run;
    fixture_init(&fixture, &default_server);
    run_start_stream(&run, fixture.channel, "/chat");
    run_send(&run, bytes_of_text("x"));
    AWAIT(run.messages == 1);
    stop_server(&fixture);
    run_wait(&run);
    assert_int_equal(run.code, GRPC_STATUS_UNAVAILABLE);
    fixture_finish(&fixture);
}

/* The server comes back on its old port. */
static void listen_again(struct fixture *fixture)
{
    struct rpc_server_options options = default_server;
    char address[64];
    memcpy(address, fixture->address, sizeof(address));
    options.address = address;
    fixture_listen(fixture, &options);
}

static void test_channel_reconnects_when_the_server_returns(void **state)
{
    struct fixture fixture;
    struct run run;
    fixture_init(&fixture, &default_server);
    run_unary(&run, fixture.channel, "/echo", bytes_of_text("x"));
    assert_int_equal(run.code, GRPC_STATUS_OK);
    stop_server(&fixture);
    run_unary(&run, fixture.channel, "/echo", bytes_of_text("x"));
    assert_int_equal(run.code, GRPC_STATUS_UNAVAILABLE);
    listen_again(&fixture);
    uint64_t start_ns = now_ns();
    do {
        run_unary(&run, fixture.channel, "/echo", bytes_of_text("x"));
    } while (run.code == GRPC_STATUS_UNAVAILABLE && now_ns() - start_ns < 10 * NS_PER_S);
    assert_int_equal(run.code, GRPC_STATUS_OK);
    uint64_t took_ms = (now_ns() - start_ns) / NS_PER_MS;
    print_message("reconnected after %d ms\n", (int)took_ms);
    assert_true(took_ms < 2000);
    fixture_finish(&fixture);
}

static void test_reset_backoff_dials_again_at_once(void **state)
{
    struct fixture fixture;
    struct run run = {0};
    fixture_init(&fixture, &default_server);
    stop_server(&fixture);
    /* A channel that would not try again within this test. */
    rpc_channel_destroy(fixture.channel);
    const struct rpc_channel_options slow = {.address = fixture.address,
                                             .backoff_min_ms = 100000,
                                             .backoff_max_ms = 100000,
                                             .receive_bytes_max = MESSAGE_MAX};
    assert_int_equal(rpc_channel_create(fixture.client_loop, &slow, &fixture.channel), 0);
    run_unary(&run, fixture.channel, "/echo", bytes_of_text("x"));
    assert_int_equal(run.code, GRPC_STATUS_UNAVAILABLE);
    listen_again(&fixture);
    run_unary(&run, fixture.channel, "/echo", bytes_of_text("x"));
    assert_int_equal(run.code, GRPC_STATUS_UNAVAILABLE);
    uint64_t start_ns = now_ns();
    rpc_channel_reset_backoff(fixture.channel);
    do {
        run_unary(&run, fixture.channel, "/echo", bytes_of_text("x"));
    } while (run.code == GRPC_STATUS_UNAVAILABLE && now_ns() - start_ns < 10 * NS_PER_S);
    assert_int_equal(run.code, GRPC_STATUS_OK);
    print_message("reconnected after %d us\n", (int)((now_ns() - start_ns) / 1000));
    fixture_finish(&fixture);
}

static int listen_silently(char *address, size_t size)
{
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    struct sockaddr_in name = {.sin_family = AF_INET};
    name.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    socklen_t length = sizeof(name);
    assert_int_equal(bind(fd, (const struct sockaddr *)&name, length), 0);
    assert_int_equal(listen(fd, 8), 0);
    assert_int_equal(getsockname(fd, (struct sockaddr *)&name, &length), 0);
    snprintf(address, size, "127.0.0.1:%d", ntohs(name.sin_port));
    return fd;
}

static void test_peer_that_never_speaks_is_given_up(void **state)
{
    struct fixture fixture;
    struct run run = {0};
    fixture_init(&fixture, &default_server);
    rpc_channel_destroy(fixture.channel);
    char address[64];
    int fd = listen_silently(address, sizeof(address));
    const struct rpc_channel_options options = {.address = address,
                                                .receive_bytes_max = MESSAGE_MAX};
    assert_int_equal(rpc_channel_create(fixture.client_loop, &options, &fixture.channel), 0);
    run_unary(&run, fixture.channel, "/echo", bytes_of_text("x"));
    assert_int_equal(run.code, GRPC_STATUS_UNAVAILABLE);
    fixture_finish(&fixture);
    close(fd);
}

/* Forwards bytes both ways until it is frozen: what a peer that stopped or a cut cable looks like.
 */
struct proxy {
    int listen_fd;
    uint16_t server_port;
    bool is_frozen;   /* under the watch */
    bool is_finished; /* under the watch */
};

static int dial(uint16_t port)
{
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    struct sockaddr_in name = {.sin_family = AF_INET, .sin_port = htons(port)};
    name.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    int rc = connect(fd, (const struct sockaddr *)&name, sizeof(name));
    CHECK(rc == 0);
    return fd;
}

static bool forward(int from_fd, int to_fd)
{
    char bytes[65536];
    ssize_t size = recv(from_fd, bytes, sizeof(bytes), 0);
    return size > 0 && send(to_fd, bytes, (size_t)size, MSG_NOSIGNAL) == size;
}

static void *run_proxy(void *argument)
{
    struct proxy *proxy = argument;
    struct pollfd fds[2] = {{.events = POLLIN}, {.events = POLLIN}};
    fds[0].fd = accept(proxy->listen_fd, NULL, NULL);
    fds[1].fd = dial(proxy->server_port);
    bool is_open = true;
    pthread_mutex_lock(&watch_lock);
    while (is_open && !proxy->is_frozen) {
        pthread_mutex_unlock(&watch_lock);
        poll(fds, 2, 10);
        for (int i = 0; i < 2; i++) {
            is_open &= fds[i].revents == 0 || forward(fds[i].fd, fds[1 - i].fd);
        }
        pthread_mutex_lock(&watch_lock);
    }
    while (!proxy->is_finished) {
        pthread_cond_wait(&watch_changed, &watch_lock);
    }
    pthread_mutex_unlock(&watch_lock);
    close(fds[0].fd);
    close(fds[1].fd);
    return NULL;
}

static void test_frozen_peer_is_noticed_by_both_sides(void **state)
{
    struct fixture fixture;
    struct run run;
    struct rpc_server_options server = default_server;
    server.keepalive_ms = 200;
    server.ping_interval_min_ms = 200;
    fixture_init(&fixture, &server);
    rpc_channel_destroy(fixture.channel);
    char address[64];
    struct proxy proxy = {.server_port = (uint16_t)rpc_server_port(fixture.server)};
    proxy.listen_fd = listen_silently(address, sizeof(address));
    pthread_t thread;
    assert_int_equal(pthread_create(&thread, NULL, run_proxy, &proxy), 0);
    const struct rpc_channel_options options = {
        .address = address, .keepalive_ms = 200, .receive_bytes_max = MESSAGE_MAX};
    assert_int_equal(rpc_channel_create(fixture.client_loop, &options, &fixture.channel), 0);
    run_start_stream(&run, fixture.channel, "/hold");
    AWAIT(run.headers == 1);
    uint64_t start_ns = now_ns();
    CHANGE(proxy.is_frozen = true);
    run_wait(&run);
    assert_int_equal(run.code, GRPC_STATUS_UNAVAILABLE);
    AWAIT(fixture.closed == 1);
    assert_int_equal(fixture.cancelled, 1);
    print_message("noticed after %d ms\n", (int)((now_ns() - start_ns) / NS_PER_MS));
    assert_true(now_ns() - start_ns < 5 * NS_PER_S);
    CHANGE(proxy.is_finished = true);
    pthread_join(thread, NULL);
    fixture_finish(&fixture);
    close(proxy.listen_fd);
}

static void test_stop_does_not_wait_for_a_silent_connection(void **state)
{
    struct fixture fixture;
    fixture_init(&fixture, &default_server);
    int fd = dial((uint16_t)rpc_server_port(fixture.server));
    struct run run;
    run_unary(&run, fixture.channel, "/echo", bytes_of_text("x"));
    uint64_t start_ns = now_ns();
    stop_server(&fixture);
    assert_true(now_ns() - start_ns < 5 * NS_PER_S);
    close(fd);
    fixture_finish(&fixture);
}

static void test_frequent_pings_without_calls_are_tolerated(void **state)
{
    struct fixture fixture;
    struct run run = {0};
    struct rpc_server_options server = default_server;
    server.ping_interval_min_ms = 100;
    server.keepalive_ms = 100;
    fixture_init(&fixture, &server);
    rpc_channel_destroy(fixture.channel);
    const struct rpc_channel_options options = {
        .address = fixture.address, .keepalive_ms = 100, .receive_bytes_max = MESSAGE_MAX};
    assert_int_equal(rpc_channel_create(fixture.client_loop, &options, &fixture.channel), 0);
    run_start_stream(&run, fixture.channel, "/hold");
    AWAIT(run.headers == 1);
    /* Time for some ten pings of each side. */
    uint64_t until_ns = now_ns() + NS_PER_S;
    pthread_mutex_lock(&watch_lock);
    while (run.closed == 0 && watch_wait(until_ns)) {
    }
    pthread_mutex_unlock(&watch_lock);
    assert_int_equal(run.closed, 0);
    finish_with(fixture.held, GRPC_STATUS_OK, NULL);
    run_wait(&run);
    assert_int_equal(run.code, GRPC_STATUS_OK);
    fixture_finish(&fixture);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_refused_dial_fails_at_once),
        cmocka_unit_test(test_lost_server_ends_a_stream_as_unavailable),
        cmocka_unit_test(test_channel_reconnects_when_the_server_returns),
        cmocka_unit_test(test_reset_backoff_dials_again_at_once),
        cmocka_unit_test(test_peer_that_never_speaks_is_given_up),
        cmocka_unit_test(test_frozen_peer_is_noticed_by_both_sides),
        cmocka_unit_test(test_stop_does_not_wait_for_a_silent_connection),
        cmocka_unit_test(test_frequent_pings_without_calls_are_tolerated),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
