/* Tests of origin.h. */
#include "http/origin.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

static const char *const hosts[] = {"chat.example", "Other.Example"};
static const char *const origins[] = {"https://app.example", "https://b.example/", "null"};
static const char *const here[] = {"127.0.0.1:8080", "127.0.0.1:8081", "", "node3.example:8082"};
static const char *const elsewhere[] = {"10.0.0.1:8080", "10.0.0.2:8080"};

static const struct origin_rules local = {hosts, 2, origins, 3, here, 4};
static const struct origin_rules remote = {NULL, 0, NULL, 0, elsewhere, 2};

static bool is_host(const char *host)
{
    return origin_host_is_allowed(&local, bytes_of_text(host));
}

static bool is_origin(const struct origin_rules *rules, const char *origin, const char *host)
{
    return origin_is_allowed(rules, bytes_of_text(origin), bytes_of_text(host));
}

static void test_known_hosts_are_allowed_with_any_port(void **state)
{
    static const char *const good[] = {
        "127.0.0.1",     "127.0.0.1:8080", "10.1.2.3:1",    "[::1]",        "[2001:DB8::1]:8080",
        "localhost",     "LocalHost:1",    "localhost.",    "chat.example", "CHAT.example.:81",
        "other.example", "node3.example",  "chat.example:",
    };
    for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++) {
        assert_true(is_host(good[i]));
    }
}

static void test_foreign_hosts_are_not(void **state)
{
    static const char *const bad[] = {
        "evil.example",
        "a.chat.example",
        "chat.example.evil",
        "localhost.evil",
        "127.1",
        "0x7f.0.0.1",
        "127.0.0.1.evil",
        "2130706433",
        "::1",
        "[::1",
        "[evil]",
        "[127.0.0.1]",
        "",
        ":80",
        "chat.example:x",
        "localhost:0",
        "localhost:65536",
        "local host",
        "chat.example/",
        "a@localhost",
        "localhost:80:80",
        "[::1]x",
        "[::1%25lo]",
        "chat.example..",
    };
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        assert_false(is_host(bad[i]));
    }
}

static void test_the_page_of_the_same_host_may_connect(void **state)
{
    assert_true(is_origin(&local, "http://127.0.0.1:9999", "127.0.0.1:9999"));
    assert_true(is_origin(&local, "http://Chat.Example:9999", "chat.example:9999"));
    assert_true(is_origin(&local, "http://[::1]:9999", "[::1]:9999"));
    assert_true(is_origin(&local, "http://chat.example", "chat.example"));
    assert_true(is_origin(&local, "http://chat.example", "chat.example:80"));
    assert_true(is_origin(&local, "http://chat.example:80", "chat.example"));
    assert_true(is_origin(&local, "ws://chat.example:9999", "chat.example:9999"));
}

static void test_a_proxy_with_tls_is_at_the_default_port(void **state)
{
    assert_true(is_origin(&local, "https://chat.example", "chat.example"));
    assert_true(is_origin(&local, "https://chat.example", "chat.example:443"));
    assert_true(is_origin(&local, "https://chat.example:443", "chat.example"));
    assert_false(is_origin(&local, "https://chat.example:9999", "chat.example:9999"));
    assert_false(is_origin(&local, "https://127.0.0.1:8080", "127.0.0.1:8080"));
    assert_false(is_origin(&local, "https://chat.example", "chat.example:80"));
    assert_false(is_origin(&local, "http://chat.example", "chat.example:443"));
}

static void test_a_foreign_host_is_no_pages_origin(void **state)
{
    assert_false(is_origin(&local, "http://evil.example:8080", "evil.example:8080"));
    assert_false(is_origin(&local, "http://evil.example", "evil.example"));
}

static void test_another_place_or_scheme_may_not(void **state)
{
    static const char *const bad[] = {
        "http://evil.example",        "http://chat.example:9998",  "http://chat.example.evil:9999",
        "ftp://chat.example:9999",    "chat.example:9999",         "http://",
        "http://chat.example:9999/",  "http://chat.example:9999x", "http://a@chat.example:9999",
        "httpx://chat.example:9999",  "://chat.example:9999",      "",
        "https://127.0.0.1:8081",     "file://127.0.0.1:8081",     "http://evil.example:8081",
        "http://localhost.evil:8081", "http://10.0.0.1:8081",
    };
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        assert_false(is_origin(&local, bad[i], "chat.example:9999"));
    }
    assert_false(is_origin(&remote, "null", "10.0.0.1:8080"));
}

static void test_pages_of_the_other_nodes_may_also_by_another_name(void **state)
{
    static const char *const good[] = {
        "http://127.0.0.1:8081",    "http://node3.example:8082", "http://localhost:8080",
        "http://localhost:8081",    "http://127.0.0.2:8081",     "http://[::1]:8081",
        "http://chat.example:8081", "http://other.example:8082",
    };
    for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++) {
        assert_true(is_origin(&local, good[i], "127.0.0.1:8080"));
    }
    assert_false(is_origin(&local, "http://localhost:8082", "127.0.0.1:8080"));
    assert_false(is_origin(&local, "http://localhost", "127.0.0.1:8080"));
    assert_false(is_origin(&local, "https://localhost:8081", "127.0.0.1:8080"));
}

/* Any program of the person's machine may have that port there. */
static void test_localhost_is_no_peer_of_nodes_on_other_machines(void **state)
{
    assert_false(is_origin(&remote, "http://localhost:8080", "10.0.0.1:8080"));
    assert_false(is_origin(&remote, "http://127.0.0.1:8080", "10.0.0.1:8080"));
    assert_true(is_origin(&remote, "http://localhost:8080", "localhost:8080"));
    assert_true(is_origin(&remote, "http://10.0.0.2:8080", "10.0.0.1:8080"));
}

static void test_a_listed_origin_is_compared_as_a_whole(void **state)
{
    assert_true(is_origin(&local, "https://app.example", "127.0.0.1"));
    assert_true(is_origin(&local, "https://APP.example", "127.0.0.1"));
    assert_true(is_origin(&local, "https://b.example", "127.0.0.1"));
    assert_true(is_origin(&local, "null", "127.0.0.1"));
    assert_false(is_origin(&local, "http://app.example", "127.0.0.1"));
    assert_false(is_origin(&local, "https://app.example:444", "127.0.0.1"));
    assert_false(is_origin(&local, "https://app.example.evil", "127.0.0.1"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_known_hosts_are_allowed_with_any_port),
        cmocka_unit_test(test_foreign_hosts_are_not),
        cmocka_unit_test(test_the_page_of_the_same_host_may_connect),
        cmocka_unit_test(test_a_proxy_with_tls_is_at_the_default_port),
        cmocka_unit_test(test_a_foreign_host_is_no_pages_origin),
        cmocka_unit_test(test_another_place_or_scheme_may_not),
        cmocka_unit_test(test_pages_of_the_other_nodes_may_also_by_another_name),
        cmocka_unit_test(test_localhost_is_no_peer_of_nodes_on_other_machines),
        cmocka_unit_test(test_a_listed_origin_is_compared_as_a_whole),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
