/* Tests of http_filter.h. */
#include "http/http_filter.h"

#include "http/http_internal.h"

#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#define PLAIN "GET / HTTP/1.1\r\n\r\n"

/* The statuses and methods of the requests in a stream that comes in pieces: "200G 400? …". */
static void follow(const char *text, size_t piece, char *out, size_t out_size)
{
    struct http_filter filter;
    size_t size = strlen(text);
    size_t taken = 0;
    http_filter_init(&filter);
    *out = '\0';
    while (taken < size && filter.state != HTTP_FILTER_DRAIN) {
        size_t come = taken + piece < size ? taken + piece : size;
        taken += http_filter_take(&filter, (struct bytes){text + taken, come - taken});
        if (filter.state == HTTP_FILTER_REQUEST) {
            char given[HTTP_GIVEN_BYTES_MAX];
            assert_int_equal(http_filter_give(&filter, false, given), strlen(PLAIN));
            assert_memory_equal(given, PLAIN, strlen(PLAIN));
            size_t length = strlen(out);
            snprintf(out + length, out_size - length, "%d%c ", filter.head.status,
                     "?GH"[filter.head.method]);
            assert_int_equal(http_filter_take(&filter, bytes_of_text("more")), 0);
            http_filter_next(&filter, http_filter_is_last(&filter));
        }
    }
    http_filter_finish(&filter);
}

static void assert_requests(const char *text, const char *expected)
{
    static const size_t pieces[] = {1, 2, 3, 7, 64, 100000};
    for (size_t i = 0; i < sizeof(pieces) / sizeof(pieces[0]); i++) {
        char found[256];
        follow(text, pieces[i], found, sizeof(found));
        assert_string_equal(found, expected);
    }
}

#define HOST "Host: h\r\n"
#define NEXT "HEAD / HTTP/1.1\r\n" HOST "\r\n"

static void test_each_request_becomes_one_of_our_own(void **state)
{
    assert_requests("\r\n\r\nGET /a HTTP/1.1\r\n" HOST "\r\n\r\n" NEXT NEXT, "0G 0H 0H ");
    assert_requests("GET / HTTP/1.0\r\n\r\n" NEXT, "0G ");
    assert_requests("GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n" NEXT, "0G 0H ");
    assert_requests("GET / HTTP/1.1\r\n" HOST "Connection: close\r\n\r\n" NEXT, "0G ");
}

static void test_bodies_are_skipped(void **state)
{
    assert_requests("POST / HTTP/1.1\r\n" HOST "Content-Length: 5\r\n\r\nGET /" NEXT, "0? 0H ");
    assert_requests("get / HTTP/1.1\r\n" HOST "Content-Length: 28\r\n\r\n" NEXT NEXT NEXT,
                    "0? 0H 0H ");
    assert_requests("GET / HTTP/1.1\r\n" HOST "Content-Length: 0\r\n\r\n" NEXT, "0G 0H ");
    assert_requests("POST / HTTP/1.1\r\n" HOST "Transfer-Encoding: chunked\r\n\r\n"
                    "5\r\nGET /\r\n0a ; b=c\r\n0123456789\r\n000\r\nX: y\r\nZ:\r\n\r\n" NEXT,
                    "0? 0H ");
}

static void test_a_faulty_body_is_a_refusal_and_the_end(void **state)
{
    static const char *const bodies[] = {
        "x\r\n", "\r\n",   "5\nGET /",          "5\r\nGET /5\r\n", "0\r\nX\n\r\n",
        ";\r\n", "5x\r\n", "5\r\nGET /\n0\r\n", "-1\r\n",          "1234567890abcdef0\r\n",
    };
    for (size_t i = 0; i < sizeof(bodies) / sizeof(bodies[0]); i++) {
        char text[512];
        snprintf(text, sizeof(text),
                 "POST / HTTP/1.1\r\n" HOST "Transfer-Encoding: chunked\r\n\r\n%s" NEXT, bodies[i]);
        assert_requests(text, "0? 400? ");
    }
}

static void test_nothing_follows_a_refusal(void **state)
{
    assert_requests("GET / HTTP/1.1\r\n\r\n" NEXT, "400G ");
    assert_requests("GET / HTTP/1.1\n" NEXT, "400? ");
    assert_requests("POST / HTTP/1.1\r\n" HOST "Transfer-Encoding:\r\n\r\n" NEXT, "400? ");
    assert_requests("POST / HTTP/1.1\r\n" HOST "Expect: 100-continue\r\n"
                    "Content-Length: 30\r\n\r\n" NEXT NEXT,
                    "0? ");
}

static void test_a_large_head_is_refused(void **state)
{
    static char text[2 * HTTP_HEAD_BYTES_MAX];
    memset(text, 'a', sizeof(text) - 1);
    memcpy(text, "GET /", 5);
    assert_requests(text, "414? ");
    memcpy(text, "GET / HTTP/1.1\r\nA: ", 19);
    assert_requests(text, "431? ");
}

static void test_a_handshake_has_nothing_of_the_clients_but_the_key(void **state)
{
    struct http_filter filter;
    struct bytes text = bytes_of_text(
        "GET /ws?x HTTP/1.1\r\nHost: evil\r\nConnection: keep-alive, Upgrade\r\nX: y\r\n"
        "Upgrade: h2c, websocket\r\nSec-WebSocket-Version: 13\r\nOrigin: null\r\n"
        "Sec-WebSocket-Extensions: permessage-deflate\r\n"
        "Sec-WebSocket-Key: AAECAwQFBgcICQoLDA0ODw==\r\n"
        "Sec-WebSocket-Protocol: a, raftogram.v1.json\r\n\r\n\x81");
    http_filter_init(&filter);
    assert_int_equal(http_filter_take(&filter, text), text.size - 1);
    char given[HTTP_GIVEN_BYTES_MAX];
    size_t size = http_filter_give(&filter, true, given);
    static const char expected[] = "GET /ws HTTP/1.1\r\nhost: raftogram\r\nconnection: upgrade\r\n"
                                   "upgrade: websocket\r\nsec-websocket-version: 13\r\n"
                                   "sec-websocket-key: AAECAwQFBgcICQoLDA0ODw==\r\n"
                                   "sec-websocket-protocol: raftogram.v1.json\r\n\r\n";
    assert_int_equal(size, strlen(expected));
    assert_memory_equal(given, expected, size);
    http_filter_finish(&filter);
}

/* Reads as the service thread does. Returns what recv() returned. */
static void *read_as_service(void *context)
{
    char data[64];
    wire_enter();
    return (void *)(intptr_t)recv(*(const int *)context, data, sizeof(data), 0);
}

static void test_bytes_of_an_unknown_client_are_never_read(void **state)
{
    int fds[2];
    char data[64];
    pthread_t service;
    void *count;
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, fds), 0);
    assert_int_equal(write(fds[0], "GET /", 5), 5);
    assert_int_equal(pthread_create(&service, NULL, read_as_service, &fds[1]), 0);
    assert_int_equal(pthread_join(service, &count), 0);
    assert_int_equal((intptr_t)count, 0);
    assert_int_equal(recv(fds[1], data, sizeof(data), 0), 5);
    close(fds[0]);
    close(fds[1]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_each_request_becomes_one_of_our_own),
        cmocka_unit_test(test_bodies_are_skipped),
        cmocka_unit_test(test_a_faulty_body_is_a_refusal_and_the_end),
        cmocka_unit_test(test_nothing_follows_a_refusal),
        cmocka_unit_test(test_a_large_head_is_refused),
        cmocka_unit_test(test_a_handshake_has_nothing_of_the_clients_but_the_key),
        cmocka_unit_test(test_bytes_of_an_unknown_client_are_never_read),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
