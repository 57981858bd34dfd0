#include "http/http_head.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

/* What libwebsockets would see of a head with these lines; its status if it is refused. */
static int read_head(const char *text, struct http_head *head, char *out, size_t out_size)
{
    struct buf passed = {0};
    http_head_read(bytes_of_text(text), head, &passed);
    snprintf(out, out_size, "%s", buf_text(&passed));
    assert_true(passed.size <= strlen(text) + 2);
    buf_finish(&passed);
    return head->status;
}

static int status_of(const char *text)
{
    struct http_head head;
    char out[16384];
    return read_head(text, &head, out, sizeof(out));
}

static void test_only_known_headers_are_passed(void **state)
{
    struct http_head head;
    char out[1024];
    const char *text =
        "GET /a?b=c HTTP/1.1\r\nhOST:  x:1 \r\nX-A: 1\r\nX-Auth-Token: 2\r\nUpgrade:\r\n"
        "Connection: a\r\nconnection: b\r\n\r\n";
    assert_int_equal(read_head(text, &head, out, sizeof(out)), 0);
    assert_string_equal(out,
                        "GET /a?b=c HTTP/1.1\r\nhOST:x:1\r\nConnection:a\r\nconnection:b\r\n\r\n");
}

static void test_an_absolute_target_is_a_path(void **state)
{
    struct http_head head;
    char out[1024];
    (void)read_head("GET HTTP://h:1/a HTTP/1.1\n\n", &head, out, sizeof(out));
    assert_string_equal(out, "GET /a HTTP/1.1\r\n\r\n");
    (void)read_head("GET http://h HTTP/1.0\n\n", &head, out, sizeof(out));
    assert_string_equal(out, "GET / HTTP/1.0\r\n\r\n");
}

static void test_the_body_has_one_length(void **state)
{
    struct http_head head;
    char out[1024];
    (void)read_head("POST / HTTP/1.1\r\nContent-Length: 17\r\ncontent-length: 17\r\n\r\n", &head,
                    out, sizeof(out));
    assert_int_equal(head.status, 0);
    assert_int_equal(head.body_size, 17);
    (void)read_head("POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n", &head, out,
                    sizeof(out));
    assert_true(head.is_chunked);
    static const char *const bad[] = {
        "Content-Length: 1\r\nContent-Length: 2",
        "Content-Length: -1",
        "Content-Length: 1x",
        "Content-Length:",
        "Content-Length: 9999999999999999999",
        "Content-Length: 1\r\nTransfer-Encoding: chunked",
    };
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        char text[256];
        snprintf(text, sizeof(text), "POST / HTTP/1.1\r\n%s\r\n\r\n", bad[i]);
        assert_int_equal(status_of(text), 400);
    }
}

static void test_what_is_no_head_has_a_status(void **state)
{
    assert_int_equal(status_of("GET /\r\n\r\n"), 400);
    assert_int_equal(status_of("GET  / HTTP/1.1\r\n\r\n"), 400);
    assert_int_equal(status_of("GET / a HTTP/1.1\r\n\r\n"), 400);
    assert_int_equal(status_of("GET  HTTP/1.1\r\n\r\n"), 400);
    assert_int_equal(status_of("GET /\t HTTP/1.1\r\n\r\n"), 400);
    assert_int_equal(status_of("GET / HTTP/2.0\r\n\r\n"), 505);
    assert_int_equal(status_of("GET / HTTP/1.11\r\n\r\n"), 505);
    assert_int_equal(status_of("OPTIONS * HTTP/1.1\r\n\r\n"), 405);
    assert_int_equal(status_of("CONNECT a:1 HTTP/1.1\r\n\r\n"), 405);
    assert_int_equal(status_of("GET / HTTP/1.1\r\nHost : x\r\n\r\n"), 400);
    assert_int_equal(status_of("GET / HTTP/1.1\r\n: x\r\n\r\n"), 400);
    assert_int_equal(status_of("GET / HTTP/1.1\r\nHost\r\n\r\n"), 400);
    assert_int_equal(status_of("GET / HTTP/1.1\r\nHost: x\r\n y\r\n\r\n"), 400);
    assert_int_equal(status_of("GET / HTTP/1.1\r\nHost: x\r\nHost: x\r\n\r\n"), 400);
    assert_int_equal(status_of("GET / HTTP/1.1\r\nX: a\rb\r\n\r\n"), 400);
}

static void test_what_libwebsockets_has_no_room_for_is_refused(void **state)
{
    char text[4096] = "GET /";
    for (int i = 0; i <= HTTP_ARGUMENTS_MAX; i++) {
        strcat(text, "?a");
    }
    strcat(text, " HTTP/1.1\r\n\r\n");
    assert_int_equal(status_of(text), 414);
    strcpy(text, "GET / HTTP/1.1\r\n");
    for (int i = 0; i < HTTP_PASSED_HEADERS_MAX; i++) {
        strcat(text, "Origin: a\r\n");
    }
    assert_int_equal(status_of(text), 0);
    strcat(text, "Origin: a\r\n\r\n");
    assert_int_equal(status_of(text), 431);
}

static void test_the_end_is_an_empty_line_however_it_comes(void **state)
{
    static const char *const heads[] = {"GET / HTTP/1.1\r\nA: b\r\n\r\n", "GET / HTTP/1.1\n\n",
                                        "GET / HTTP/1.1\nA: b\n\r\n"};
    for (size_t i = 0; i < sizeof(heads) / sizeof(heads[0]); i++) {
        size_t size = strlen(heads[i]);
        char text[128];
        snprintf(text, sizeof(text), "%s\n\nGET", heads[i]);
        for (size_t come = 0; come < size; come++) {
            assert_int_equal(http_head_end((struct bytes){text, come}, 0), 0);
            size_t from = come > 3 ? come - 3 : 0;
            assert_int_equal(http_head_end((struct bytes){text, size}, from), size);
        }
        assert_int_equal(http_head_end(bytes_of_text(text), 0), size);
    }
}

static void test_a_request_is_known_by_its_first_bytes(void **state)
{
    assert_true(http_head_may_begin(bytes_of_text("G")));
    assert_true(http_head_may_begin(bytes_of_text("POST ")));
    assert_true(http_head_may_begin(bytes_of_text("GET / anything")));
    assert_false(http_head_may_begin(bytes_of_text("get ")));
    assert_false(http_head_may_begin(bytes_of_text("\x16\x03")));
    assert_false(http_head_may_begin(bytes_of_text("PRI * HTTP/2.0")));
    assert_false(http_head_may_begin(bytes_of_text("GETS")));
}

static void test_too_large_is_the_line_or_the_headers(void **state)
{
    struct http_head head;
    http_head_refuse_large(bytes_of_text("GET /aaaa"), &head);
    assert_int_equal(head.status, 414);
    http_head_refuse_large(bytes_of_text("GET / HTTP/1.1\r\nA"), &head);
    assert_int_equal(head.status, 431);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_only_known_headers_are_passed),
        cmocka_unit_test(test_an_absolute_target_is_a_path),
        cmocka_unit_test(test_the_body_has_one_length),
        cmocka_unit_test(test_what_is_no_head_has_a_status),
        cmocka_unit_test(test_what_libwebsockets_has_no_room_for_is_refused),
        cmocka_unit_test(test_the_end_is_an_empty_line_however_it_comes),
        cmocka_unit_test(test_a_request_is_known_by_its_first_bytes),
        cmocka_unit_test(test_too_large_is_the_line_or_the_headers),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
