/* Tests of base/mailbox.h. */
#include "base/mailbox.h"

#include "base/clock.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <poll.h>
#include <pthread.h>
#include <string.h>

enum { POSTERS = 4, ITEMS_EACH = 5000 };

struct item {
    int poster;
    int number;
    struct list link;
};

static bool is_readable(const struct mailbox *mailbox)
{
    struct pollfd pollfd = {.fd = mailbox_fd(mailbox), .events = POLLIN};
    return poll(&pollfd, 1, 0) == 1;
}

static size_t drain(struct mailbox *mailbox)
{
    struct list out;
    list_init(&out);
    return mailbox_drain(mailbox, &out);
}

static void test_finish_accepts_null_and_zeroed_memory(void **state)
{
    struct mailbox mailbox = {0};
    mailbox_finish(&mailbox);
    mailbox_finish(NULL);
}

static void test_drained_items_keep_their_order(void **state)
{
    struct mailbox mailbox;
    struct item items[3] = {{.number = 0}, {.number = 1}, {.number = 2}};
    assert_int_equal(mailbox_init(&mailbox), 0);
    for (int i = 1; i < 3; i++) {
        mailbox_post(&mailbox, &items[i].link);
    }
    struct list out;
    list_init(&out);
    list_push_back(&out, &items[0].link);
    assert_int_equal(mailbox_drain(&mailbox, &out), 2);
    int expected = 0;
    LIST_FOR_EACH (link, &out) {
        assert_int_equal(LIST_ENTRY(link, struct item, link)->number, expected++);
    }
    assert_int_equal(expected, 3);
    mailbox_finish(&mailbox);
}

static void test_readable_exactly_while_something_waits(void **state)
{
    struct mailbox mailbox;
    struct item item;
    assert_int_equal(mailbox_init(&mailbox), 0);
    assert_false(is_readable(&mailbox));
    mailbox_post(&mailbox, &item.link);
    assert_true(is_readable(&mailbox));
    assert_int_equal(drain(&mailbox), 1);
    assert_false(is_readable(&mailbox));
    mailbox_wake(&mailbox);
    mailbox_wake(&mailbox);
    assert_true(is_readable(&mailbox));
    assert_int_equal(drain(&mailbox), 0);
    assert_false(is_readable(&mailbox));
    mailbox_finish(&mailbox);
}

static void test_wait_returns_after_its_timeout(void **state)
{
    struct mailbox mailbox;
    assert_int_equal(mailbox_init(&mailbox), 0);
    uint64_t start = clock_monotonic_ns(clock_system());
    mailbox_wait(&mailbox, 20 * NS_PER_MS);
    assert_true(clock_monotonic_ns(clock_system()) - start >= 20 * NS_PER_MS);
    mailbox_wait(&mailbox, 0);
    mailbox_finish(&mailbox);
}

struct poster {
    pthread_t thread;
    struct mailbox *mailbox;
    int number;
    struct item items[ITEMS_EACH];
};

static void *post_all(void *arg)
{
    struct poster *poster = arg;
    for (int i = 0; i < ITEMS_EACH; i++) {
        struct item *item = &poster->items[i];
        item->poster = poster->number;
        item->number = i;
        mailbox_post(poster->mailbox, &item->link);
    }
    return NULL;
}

static void test_nothing_is_lost_between_threads_and_each_keeps_its_order(void **state)
{
    static struct poster posters[POSTERS];
    struct mailbox mailbox;
    assert_int_equal(mailbox_init(&mailbox), 0);
    for (int i = 0; i < POSTERS; i++) {
        posters[i].mailbox = &mailbox;
        posters[i].number = i;
        assert_int_equal(pthread_create(&posters[i].thread, NULL, post_all, &posters[i]), 0);
    }
    int next[POSTERS] = {0};
    size_t total = 0;
    while (total < (size_t)POSTERS * ITEMS_EACH) {
        mailbox_wait(&mailbox, UINT64_MAX);
        struct list out;
        list_init(&out);
        total += mailbox_drain(&mailbox, &out);
        LIST_FOR_EACH (link, &out) {
            struct item *item = LIST_ENTRY(link, struct item, link);
            assert_int_equal(item->number, next[item->poster]++);
        }
    }
    for (int i = 0; i < POSTERS; i++) {
        assert_int_equal(pthread_join(posters[i].thread, NULL), 0);
        assert_int_equal(next[i], ITEMS_EACH);
    }
    assert_false(is_readable(&mailbox));
    mailbox_finish(&mailbox);
}

static void *wake(void *mailbox)
{
    mailbox_wake(mailbox);
    return NULL;
}

static void test_a_reader_that_waits_is_woken_without_an_item(void **state)
{
    struct mailbox mailbox;
    pthread_t thread;
    assert_int_equal(mailbox_init(&mailbox), 0);
    assert_int_equal(pthread_create(&thread, NULL, wake, &mailbox), 0);
    mailbox_wait(&mailbox, UINT64_MAX);
    assert_int_equal(pthread_join(thread, NULL), 0);
    assert_int_equal(drain(&mailbox), 0);
    mailbox_finish(&mailbox);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_finish_accepts_null_and_zeroed_memory),
        cmocka_unit_test(test_drained_items_keep_their_order),
        cmocka_unit_test(test_readable_exactly_while_something_waits),
        cmocka_unit_test(test_wait_returns_after_its_timeout),
        cmocka_unit_test(test_nothing_is_lost_between_threads_and_each_keeps_its_order),
        cmocka_unit_test(test_a_reader_that_waits_is_woken_without_an_item),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
