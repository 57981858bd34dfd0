/* Names and what they stand for. That a slow or silent name service costs nothing is for a process
 * of its own network: tests/integration/names.test.mjs. */
#include "base/clock.h"
#include "base/errors.h"
#include "rpc/name.h"

#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

#define WAIT_NS (60 * NS_PER_S)

static uint64_t now_ns(void)
{
    return clock_monotonic_ns(clock_system());
}

static void expect_target(const char *address, const char *expected)
{
    struct rpc_name *name;
    char target[RPC_TARGET_BYTES_MAX];
    char reason[RPC_NAME_REASON_BYTES_MAX];
    assert_int_equal(rpc_name_create(address, NULL, NULL, &name), 0);
    assert_true(rpc_name_target(name, target, reason));
    assert_string_equal(target, expected);
    rpc_name_look_up(name);
    rpc_name_rotate(name);
    assert_true(rpc_name_target(name, target, reason));
    assert_string_equal(target, expected);
    rpc_name_destroy(name);
}

static void test_an_ip_address_needs_no_look_up(void **state)
{
    expect_target("127.0.0.1:7000", "ipv4:127.0.0.1:7000");
    expect_target("[::1]:7000", "ipv6:[::1]:7000");
    expect_target("[2001:DB8::5]:1", "ipv6:[2001:db8::5]:1");
}

static void test_what_is_no_address_is_refused(void **state)
{
    struct rpc_name *name;
    assert_int_equal(rpc_name_create("nothing", NULL, NULL, &name), ERR_INVALID);
    assert_int_equal(rpc_name_create("[::1", NULL, NULL, &name), ERR_INVALID);
}

struct heard {
    pthread_mutex_t lock;
    pthread_cond_t changed;
    int count;
};

static void on_found(void *context)
{
    struct heard *heard = context;
    pthread_mutex_lock(&heard->lock);
    heard->count++;
    pthread_cond_broadcast(&heard->changed);
    pthread_mutex_unlock(&heard->lock);
}

static void test_a_name_is_known_after_its_look_up_and_that_is_told(void **state)
{
    struct heard heard = {.lock = PTHREAD_MUTEX_INITIALIZER, .changed = PTHREAD_COND_INITIALIZER};
    struct rpc_name *name;
    char target[RPC_TARGET_BYTES_MAX];
    char reason[RPC_NAME_REASON_BYTES_MAX];
    assert_int_equal(rpc_name_create("localhost:7000", on_found, &heard, &name), 0);
    assert_false(rpc_name_target(name, target, reason));
    assert_non_null(strstr(reason, "localhost is being looked up"));
    rpc_name_look_up(name);
    rpc_name_wait(name, now_ns() + WAIT_NS);
    assert_true(rpc_name_target(name, target, reason));
    assert_non_null(strstr(target, "7000"));
    assert_true(strncmp(target, "ipv4:127.0.0.1:7000", 19) == 0 ||
                strncmp(target, "ipv6:[", 6) == 0);
    pthread_mutex_lock(&heard.lock);
    while (heard.count == 0) {
        pthread_cond_wait(&heard.changed, &heard.lock);
    }
    pthread_mutex_unlock(&heard.lock);
    /* Another one so soon is not made, and would bring no news. */
    rpc_name_look_up(name);
    rpc_name_wait(name, now_ns() + WAIT_NS);
    rpc_name_destroy(name);
    assert_int_equal(heard.count, 1);
}

static void test_of_several_addresses_each_has_its_turn(void **state)
{
    struct rpc_name *name;
    char first[RPC_TARGET_BYTES_MAX];
    char target[RPC_TARGET_BYTES_MAX];
    char reason[RPC_NAME_REASON_BYTES_MAX];
    assert_int_equal(rpc_name_create("localhost:7000", NULL, NULL, &name), 0);
    rpc_name_look_up(name);
    rpc_name_wait(name, now_ns() + WAIT_NS);
    assert_true(rpc_name_target(name, first, reason));
    int turns = 0;
    do {
        rpc_name_rotate(name);
        assert_true(rpc_name_target(name, target, reason));
        turns++;
    } while (strcmp(first, target) != 0);
    int commas = 0;
    for (const char *c = first; *c != '\0'; c++) {
        commas += *c == ',';
    }
    assert_int_equal(turns, commas + 1);
    rpc_name_destroy(name);
}

static void test_a_name_that_does_not_exist_says_so(void **state)
{
    struct rpc_name *name;
    char target[RPC_TARGET_BYTES_MAX];
    char reason[RPC_NAME_REASON_BYTES_MAX];
    assert_int_equal(rpc_name_create("no.such.host.invalid:1", NULL, NULL, &name), 0);
    rpc_name_look_up(name);
    rpc_name_wait(name, now_ns() + WAIT_NS);
    assert_false(rpc_name_target(name, target, reason));
    assert_non_null(strstr(reason, "no.such.host.invalid cannot be looked up: "));
    rpc_name_destroy(name);
}

static void test_a_name_may_go_while_it_is_looked_up(void **state)
{
    for (int i = 0; i < 50; i++) {
        struct heard heard = {.lock = PTHREAD_MUTEX_INITIALIZER,
                              .changed = PTHREAD_COND_INITIALIZER};
        struct rpc_name *name;
        assert_int_equal(rpc_name_create("localhost:7000", on_found, &heard, &name), 0);
        rpc_name_look_up(name);
        rpc_name_destroy(name); /* after it `heard` is ours again */
        assert_true(heard.count <= 1);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_an_ip_address_needs_no_look_up),
        cmocka_unit_test(test_what_is_no_address_is_refused),
        cmocka_unit_test(test_a_name_is_known_after_its_look_up_and_that_is_told),
        cmocka_unit_test(test_of_several_addresses_each_has_its_turn),
        cmocka_unit_test(test_a_name_that_does_not_exist_says_so),
        cmocka_unit_test(test_a_name_may_go_while_it_is_looked_up),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
