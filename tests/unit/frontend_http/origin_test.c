#include "http/origin.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

static void test_the_page_of_the_same_host_may_connect(void **state)
{
    assert_true(origin_is_at("http://127.0.0.1:8080", "127.0.0.1:8080"));
    assert_true(origin_is_at("http://Chat.Example:8080", "chat.example:8080"));
    assert_true(origin_is_at("http://[::1]:8080", "[::1]:8080"));
}

static void test_a_default_port_may_be_left_out(void **state)
{
    assert_true(origin_is_at("http://chat.example", "chat.example"));
    assert_true(origin_is_at("http://chat.example", "chat.example:80"));
    assert_true(origin_is_at("http://chat.example:80", "chat.example"));
    assert_true(origin_is_at("https://chat.example", "chat.example"));
    assert_true(origin_is_at("https://chat.example", "chat.example:443"));
    assert_true(origin_is_at("http://[::1]", "[::1]:80"));
}

static void test_another_place_may_not(void **state)
{
    assert_false(origin_is_at("http://evil.example", "chat.example"));
    assert_false(origin_is_at("http://chat.example:8081", "chat.example:8080"));
    assert_false(origin_is_at("http://chat.example", "chat.example:8080"));
    assert_false(origin_is_at("https://chat.example", "chat.example:80"));
    assert_false(origin_is_at("http://chat.example.evil", "chat.example"));
    assert_false(origin_is_at("http://evilchat.example", "chat.example"));
    assert_false(origin_is_at("http://127.0.0.1:8080@evil", "127.0.0.1:8080"));
    assert_false(origin_is_at("http://127.0.0.1:80800", "127.0.0.1:8080"));
}

static void test_what_is_no_origin_may_not(void **state)
{
    assert_false(origin_is_at("null", "null"));
    assert_false(origin_is_at("", ""));
    assert_false(origin_is_at("http://", ""));
    assert_false(origin_is_at("http://a:", "a"));
    assert_false(origin_is_at("http://a:x", "a"));
    assert_false(origin_is_at("http://a:0", "a:0"));
    assert_false(origin_is_at("http://a:65537", "a:1"));
    assert_false(origin_is_at("http://[::1", "[::1"));
    assert_false(origin_is_at("chat.example", "chat.example"));
    assert_false(origin_is_at("http://a/", "a"));
}

static void test_listed_origins_are_compared_whole(void **state)
{
    assert_true(origin_equal("https://chat.example", "https://chat.example"));
    assert_true(origin_equal("https://chat.example", "HTTPS://Chat.Example/"));
    assert_true(origin_equal("null", "null"));
    assert_false(origin_equal("http://chat.example", "https://chat.example"));
    assert_false(origin_equal("https://chat.example.evil", "https://chat.example"));
    assert_false(origin_equal("https://chat", "https://chat.example"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_the_page_of_the_same_host_may_connect),
        cmocka_unit_test(test_a_default_port_may_be_left_out),
        cmocka_unit_test(test_another_place_may_not),
        cmocka_unit_test(test_what_is_no_origin_may_not),
        cmocka_unit_test(test_listed_origins_are_compared_whole),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
