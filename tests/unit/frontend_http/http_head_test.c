/* Tests of http_head.h. */
#include "http/http_head.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

static int status_of(const char *text)
{
    struct http_head head;
    http_head_read(bytes_of_text(text), &head);
    assert_true((head.status == 0) == (head.message == NULL));
    return head.status;
}

/* The status of a GET of HTTP/1.1 with a Host and these lines. */
static int status_with(const char *lines)
{
    char text[4096];
    snprintf(text, sizeof(text), "GET / HTTP/1.1\r\nHost: h\r\n%s\r\n\r\n", lines);
    return status_of(text);
}

static void assert_text(struct bytes bytes, const char *text)
{
    assert_int_equal(bytes.size, strlen(text));
    assert_memory_equal(bytes.data, text, bytes.size);
}

static void test_a_head_is_taken_apart(void **state)
{
    struct http_head head;
    http_head_read(bytes_of_text("GET /a?b=c&d HTTP/1.1\r\nhOST:  x:1 \r\nX-A: 1\r\nUpgrade:\r\n"
                                 "Connection: a, Close\r\nconnection: keep-alive , UPGRADE\r\n"
                                 "Upgrade: foo, WebSocket\r\nOrigin: http://x\r\n"
                                 "Sec-WebSocket-Protocol: a\r\n"
                                 "Sec-WebSocket-Protocol: b,raftogram.v1.json\r\n\r\n"),
                   &head);
    assert_int_equal(head.status, 0);
    assert_int_equal(head.method, HTTP_METHOD_GET);
    assert_int_equal(head.minor, 1);
    assert_text(head.path, "/a");
    assert_text(head.query, "b=c&d");
    assert_text(head.host, "x:1");
    assert_text(head.origin, "http://x");
    assert_true(head.wants_close);
    assert_true(head.wants_keep_alive);
    assert_true(head.has_connection_upgrade);
    assert_true(head.wants_websocket);
    assert_true(head.offers_subprotocol);
}

static void test_methods_are_case_sensitive(void **state)
{
    static const struct {
        const char *text;
        enum http_method method;
    } cases[] = {{"GET", HTTP_METHOD_GET},    {"HEAD", HTTP_METHOD_HEAD},
                 {"get", HTTP_METHOD_OTHER},  {"Get", HTTP_METHOD_OTHER},
                 {"GETS", HTTP_METHOD_OTHER}, {"G", HTTP_METHOD_OTHER}};
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        char text[128];
        struct http_head head;
        snprintf(text, sizeof(text), "%s / HTTP/1.1\r\nHost: h\r\n\r\n", cases[i].text);
        http_head_read(bytes_of_text(text), &head);
        assert_int_equal(head.status, 0);
        assert_int_equal(head.method, cases[i].method);
    }
}

static void test_an_absolute_target_has_the_host(void **state)
{
    struct http_head head;
    http_head_read(bytes_of_text("GET HTTP://h:1/a HTTP/1.1\r\nHost: other\r\n\r\n"), &head);
    assert_text(head.path, "/a");
    assert_text(head.host, "h:1");
    http_head_read(bytes_of_text("GET http://h?q HTTP/1.0\r\n\r\n"), &head);
    assert_text(head.path, "/");
    assert_text(head.query, "q");
    assert_int_equal(head.status, 0);
    assert_int_equal(status_of("GET http:///a HTTP/1.1\r\nHost: h\r\n\r\n"), 400);
    assert_int_equal(status_of("GET https://h/a HTTP/1.1\r\nHost: h\r\n\r\n"), 400);
}

static void test_the_body_has_one_length(void **state)
{
    struct http_head head;
    http_head_read(bytes_of_text("POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 17\r\n\r\n"),
                   &head);
    assert_int_equal(head.status, 0);
    assert_int_equal(head.body_size, 17);
    http_head_read(
        bytes_of_text("POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding:\tChunked \r\n\r\n"), &head);
    assert_int_equal(head.status, 0);
    assert_true(head.is_chunked);
    static const char *const bad[] = {
        "Content-Length: 1\r\nContent-Length: 2",
        "Content-Length: 1\r\nContent-Length: 1",
        "Content-Length: 1, 1",
        "Content-Length: -1",
        "Content-Length: +1",
        "Content-Length: 1x",
        "Content-Length:",
        "Content-Length: 9999999999999999999",
        "Content-Length: 1\r\nTransfer-Encoding: chunked",
        "Transfer-Encoding:",
        "Transfer-Encoding: identity",
        "Transfer-Encoding: gzip, chunked",
        "Transfer-Encoding: chunked, chunked",
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked",
    };
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        assert_int_equal(status_with(bad[i]), 400);
    }
    assert_int_equal(status_of("POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n"), 400);
}

static void test_the_host_is_one_and_there(void **state)
{
    assert_int_equal(status_of("GET / HTTP/1.1\r\n\r\n"), 400);
    assert_int_equal(status_of("GET / HTTP/1.1\r\nHost:\r\n\r\n"), 400);
    assert_int_equal(status_of("GET / HTTP/1.0\r\n\r\n"), 0);
    assert_int_equal(status_with("Host: h"), 400);
    assert_int_equal(status_with("hoST: other"), 400);
}

static void test_what_is_no_head_has_a_status(void **state)
{
    assert_int_equal(status_of("GET /\r\n\r\n"), 400);
    assert_int_equal(status_of("GET  / HTTP/1.1\r\n\r\n"), 400);
    assert_int_equal(status_of("GET / a HTTP/1.1\r\n\r\n"), 400);
    assert_int_equal(status_of("GET  HTTP/1.1\r\n\r\n"), 400);
    assert_int_equal(status_of("GET /\t HTTP/1.1\r\n\r\n"), 400);
    assert_int_equal(status_of("GET a HTTP/1.1\r\nHost: h\r\n\r\n"), 400);
    assert_int_equal(status_of("GET * HTTP/1.1\r\nHost: h\r\n\r\n"), 400);
    assert_int_equal(status_of("GET / HTTP/2.0\r\n\r\n"), 505);
    assert_int_equal(status_of("GET / HTTP/1.11\r\n\r\n"), 505);
    assert_int_equal(status_of("GET / http/1.1\r\n\r\n"), 400);
    assert_int_equal(status_of("PRI * HTTP/2.0\r\n\r\n"), 400);
    assert_int_equal(status_with("Host : x"), 400);
    assert_int_equal(status_with(": x"), 400);
    assert_int_equal(status_with("X"), 400);
    assert_int_equal(status_with("X: x\r\n y"), 400);
    assert_int_equal(status_with("X: a\x7f"), 400);
    assert_int_equal(status_with("Origin: a\r\nOrigin: a"), 400);
    assert_int_equal(status_with("Sec-WebSocket-Key: a\r\nSec-WebSocket-Key: a"), 400);
    assert_int_equal(status_with("Expect: something"), 417);
}

static void test_many_fields_are_refused(void **state)
{
    char lines[2048] = "A: a";
    for (int i = 2; i < HTTP_FIELDS_MAX; i++) {
        strcat(lines, "\r\nA: a");
    }
    assert_int_equal(status_with(lines), 0);
    strcat(lines, "\r\nA: a");
    assert_int_equal(status_with(lines), 431);
}

static void test_the_end_is_found_in_any_pieces(void **state)
{
    const char *text = "GET / HTTP/1.1\r\nA: b\r\n\r\nGET / HTTP/1.1\r\n";
    size_t size = strlen("GET / HTTP/1.1\r\nA: b\r\n\r\n");
    for (size_t come = 0; come < size; come++) {
        struct http_head_end end = {0};
        http_head_find_end((struct bytes){text, come}, &end);
        assert_int_equal(end.size, 0);
        assert_null(end.fault);
        http_head_find_end(bytes_of_text(text), &end);
        assert_int_equal(end.size, size);
    }
}

static void test_lines_end_with_both_bytes(void **state)
{
    static const char *const bad[] = {
        "GET / HTTP/1.1\n",
        "GET / HTTP/1.1\r\nA: b\n\r\n",
        "GET / HTTP/1.1\r\rA",
        "GET / HTTP/1.1\r\nA\rB",
        "get\r\n",
        "\x16\x03",
        "G(",
        "\n",
    };
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        struct http_head_end end = {0};
        http_head_find_end(bytes_of_text(bad[i]), &end);
        assert_non_null(end.fault);
        end = (struct http_head_end){0};
        for (size_t come = 0; come <= strlen(bad[i]) && end.fault == NULL; come++) {
            http_head_find_end((struct bytes){bad[i], come}, &end);
        }
        assert_non_null(end.fault);
    }
    struct http_head_end end = {0};
    http_head_find_end((struct bytes){"GET /\0", 6}, &end);
    assert_non_null(end.fault);
}

static void test_too_large_is_the_line_or_the_headers(void **state)
{
    struct http_head head;
    http_head_refuse_large(bytes_of_text("GET /aaaa"), &head);
    assert_int_equal(head.status, 414);
    http_head_refuse_large(bytes_of_text("GET / HTTP/1.1\r\nA"), &head);
    assert_int_equal(head.status, 431);
}

static void test_percent_signs_are_decoded(void **state)
{
    struct buf out = {0};
    assert_true(http_decode(bytes_of_text("/%41%c3%B6+%2f"), &out));
    assert_string_equal(buf_text(&out), "/A\xc3\xb6+/");
    buf_finish(&out);
    static const char *const bad[] = {"%", "%4", "%zz", "a%", "%00", "%4g"};
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        assert_false(http_decode(bytes_of_text(bad[i]), &out));
        buf_finish(&out);
    }
}

static void test_arguments_are_found_by_their_whole_name(void **state)
{
    struct bytes value;
    struct bytes query = bytes_of_text("verbosely=1&a=b=c&verbose&kv_limit=&x");
    assert_true(http_find_argument(query, "verbose", &value));
    assert_text(value, "");
    assert_true(http_find_argument(query, "a", &value));
    assert_text(value, "b=c");
    assert_true(http_find_argument(query, "kv_limit", &value));
    assert_text(value, "");
    assert_false(http_find_argument(query, "verb", &value));
    assert_false(http_find_argument((struct bytes){NULL, 0}, "a", &value));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_head_is_taken_apart),
        cmocka_unit_test(test_methods_are_case_sensitive),
        cmocka_unit_test(test_an_absolute_target_has_the_host),
        cmocka_unit_test(test_the_body_has_one_length),
        cmocka_unit_test(test_the_host_is_one_and_there),
        cmocka_unit_test(test_what_is_no_head_has_a_status),
        cmocka_unit_test(test_many_fields_are_refused),
        cmocka_unit_test(test_the_end_is_found_in_any_pieces),
        cmocka_unit_test(test_lines_end_with_both_bytes),
        cmocka_unit_test(test_too_large_is_the_line_or_the_headers),
        cmocka_unit_test(test_percent_signs_are_decoded),
        cmocka_unit_test(test_arguments_are_found_by_their_whole_name),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
