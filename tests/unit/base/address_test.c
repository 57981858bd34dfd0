/* Tests of base/address.h. */
#include "base/address.h"

#include "base/errors.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <string.h>

static void expect_split(const char *text, const char *host, uint16_t port, bool is_ipv6)
{
    struct address address;
    assert_int_equal(address_split(text, &address, NULL), 0);
    assert_string_equal(address.host, host);
    assert_int_equal(address.port, port);
    assert_int_equal(address.is_ipv6, is_ipv6);
}

static void expect_refusal(const char *text, const char *part_of_reason)
{
    struct address address = {.port = 42};
    const char *reason = NULL;
    assert_int_equal(address_split(text, &address, &reason), ERR_INVALID);
    assert_int_equal(address_split(text, &address, NULL), ERR_INVALID);
    assert_int_equal(address.port, 42);
    assert_non_null(reason);
    if (strstr(reason, part_of_reason) == NULL) {
        fail_msg("%s: %s", text, reason);
    }
}

static void test_good_addresses_are_split(void **state)
{
    expect_split("127.0.0.1:7000", "127.0.0.1", 7000, false);
    expect_split("0.0.0.0:1", "0.0.0.0", 1, false);
    expect_split("localhost:65535", "localhost", 65535, false);
    expect_split("Node-1.Example.COM:80", "node-1.example.com", 80, false);
    expect_split("[::1]:9000", "::1", 9000, true);
    expect_split("[FE80:0:0::0:1]:9000", "fe80::1", 9000, true);
}

static void test_address_without_port_is_refused(void **state)
{
    expect_refusal("", "has no port");
    expect_refusal("127.0.0.1", "has no port");
    expect_refusal("127.0.0.1:", "has no port");
    expect_refusal("[::1]", "has no port");
    expect_refusal("[::1]9000", "has no port");
    expect_refusal("[::1]:", "has no port");
}

static void test_bad_port_is_refused(void **state)
{
    expect_refusal("h:0", "bad port");
    expect_refusal("h:65536", "bad port");
    expect_refusal("h:99999999999999999999", "bad port");
    expect_refusal("h:007000", "bad port");
    expect_refusal("h:-1", "bad port");
    expect_refusal("h:http", "bad port");
    expect_refusal("h:80 ", "bad port");
}

static void test_bad_host_is_refused(void **state)
{
    expect_refusal(":7000", "has no host");
    expect_refusal("[]:7000", "has no host");
    expect_refusal("::1:7000", "needs brackets");
    expect_refusal("[::1:7000", "closing bracket");
    expect_refusal("[127.0.0.1]:7000", "IPv6 address between");
    expect_refusal("300.0.0.1:7000", "bad IPv4");
    expect_refusal("7000:7000", "bad IPv4");
    expect_refusal("http://host:7000", "needs brackets");
    expect_refusal("a b:7000", "unexpected character");
    expect_refusal("h\xc3\xb6st:7000", "unexpected character");
    char text[400];
    memset(text, 'a', sizeof(text));
    strcpy(text + 254, ":7000");
    expect_refusal(text, "too long");
    strcpy(text + 253, ":65535");
    struct address address;
    assert_int_equal(address_split(text, &address, NULL), 0);
    assert_int_equal(strlen(text), ADDRESS_BYTES_MAX);
}

static bool are_equal(const char *a, const char *b)
{
    struct address first;
    struct address second;
    assert_int_equal(address_split(a, &first, NULL), 0);
    assert_int_equal(address_split(b, &second, NULL), 0);
    return address_equal(&first, &second);
}

static void test_equality_ignores_the_way_of_writing(void **state)
{
    assert_true(are_equal("Host:1", "host:1"));
    assert_true(are_equal("[::1]:1", "[0:0::1]:1"));
    assert_false(are_equal("host:1", "host:2"));
    assert_false(are_equal("host:1", "host2:1"));
}

static void test_any_address_is_recognised(void **state)
{
    struct address address;
    assert_int_equal(address_split("0.0.0.0:1", &address, NULL), 0);
    assert_true(address_is_any(&address));
    assert_int_equal(address_split("[::]:1", &address, NULL), 0);
    assert_true(address_is_any(&address));
    assert_int_equal(address_split("127.0.0.1:1", &address, NULL), 0);
    assert_false(address_is_any(&address));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_good_addresses_are_split),
        cmocka_unit_test(test_address_without_port_is_refused),
        cmocka_unit_test(test_bad_port_is_refused),
        cmocka_unit_test(test_bad_host_is_refused),
        cmocka_unit_test(test_equality_ignores_the_way_of_writing),
        cmocka_unit_test(test_any_address_is_recognised),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
