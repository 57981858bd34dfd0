/* Tests of chat/hub.h. */
#include "chat/hub.h"

#include "base/clock.h"
#include "base/mailbox.h"
#include "base/random.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <pthread.h>
#include <stdatomic.h>

static unsigned notified;

static void count_notify(struct hub_listener *listener)
{
    notified++;
}

struct fixture {
    struct hub *hub;
    struct hub_listener listener;
};

static void fixture_open(struct fixture *f)
{
    assert_int_equal(hub_create(&f->hub), 0);
    hub_listener_init(f->hub, &f->listener, count_notify);
    notified = 0;
}

static size_t take(struct fixture *f, size_t max)
{
    struct list ready;
    list_init(&ready);
    size_t count = hub_take_ready(&f->listener, &ready, max);
    while (list_pop_front(&ready) != NULL) {
    }
    return count;
}

static void test_publish_wakes_only_the_channel_that_changed(void **state)
{
    struct fixture f;
    fixture_open(&f);
    struct hub_subscription a, b;
    assert_int_equal(hub_add(&f.listener, &a, 1, 0), 0);
    assert_int_equal(hub_add(&f.listener, &b, 2, 0), 0);
    hub_wait(&a);
    hub_wait(&b);
    hub_publish(f.hub, 2, 1);
    hub_publish(f.hub, 3, 1);
    struct list ready;
    list_init(&ready);
    assert_int_equal(hub_take_ready(&f.listener, &ready, 10), 1);
    assert_ptr_equal(LIST_ENTRY(ready.next, struct hub_subscription, ready_link), &b);
    assert_int_equal(hub_count(f.hub), 2);
    hub_remove(&a);
    hub_remove(&b);
    assert_int_equal(hub_count(f.hub), 0);
    hub_destroy(f.hub);
}

static void test_who_does_not_wait_is_not_woken(void **state)
{
    struct fixture f;
    fixture_open(&f);
    struct hub_subscription a;
    assert_int_equal(hub_add(&f.listener, &a, 1, 0), 0);
    hub_publish(f.hub, 1, 5);
    assert_int_equal(take(&f, 10), 0);
    assert_int_equal(notified, 0);
    hub_remove(&a);
    hub_destroy(f.hub);
}

static void test_wait_is_ready_at_once_when_there_is_more(void **state)
{
    struct fixture f;
    fixture_open(&f);
    struct hub_subscription a;
    assert_int_equal(hub_add(&f.listener, &a, 1, 3), 0);
    hub_publish(f.hub, 1, 5);
    a.after_sequence = 4;
    hub_wait(&a);
    assert_int_equal(take(&f, 10), 1);
    a.after_sequence = 5;
    hub_wait(&a);
    assert_int_equal(take(&f, 10), 0);
    hub_publish(f.hub, 1, 5);
    assert_int_equal(take(&f, 10), 0);
    hub_publish(f.hub, 1, 6);
    assert_int_equal(take(&f, 10), 1);
    hub_remove(&a);
    hub_destroy(f.hub);
}

static void test_listener_is_notified_once_until_it_takes(void **state)
{
    struct fixture f;
    fixture_open(&f);
    struct hub_subscription subscriptions[5];
    for (int i = 0; i < 5; i++) {
        assert_int_equal(hub_add(&f.listener, &subscriptions[i], 1, 0), 0);
        hub_wait(&subscriptions[i]);
    }
    hub_publish(f.hub, 1, 1);
    hub_publish(f.hub, 1, 2);
    hub_make_ready(&subscriptions[0]);
    assert_int_equal(notified, 1);
    /* Some were left: it is told again. */
    assert_int_equal(take(&f, 3), 3);
    assert_int_equal(notified, 2);
    assert_int_equal(take(&f, 3), 2);
    assert_int_equal(notified, 2);
    for (int i = 0; i < 5; i++) {
        hub_remove(&subscriptions[i]);
    }
    hub_destroy(f.hub);
}

static void test_removed_while_ready_is_not_handed_over(void **state)
{
    struct fixture f;
    fixture_open(&f);
    struct hub_subscription a, b;
    assert_int_equal(hub_add(&f.listener, &a, 1, 0), 0);
    assert_int_equal(hub_add(&f.listener, &b, 1, 0), 0);
    hub_make_ready(&a);
    hub_make_ready(&b);
    hub_remove(&a);
    struct list ready;
    list_init(&ready);
    assert_int_equal(hub_take_ready(&f.listener, &ready, 10), 1);
    assert_ptr_equal(LIST_ENTRY(ready.next, struct hub_subscription, ready_link), &b);
    /* Removed while the owner of the list goes through it. */
    hub_remove(&b);
    assert_true(list_is_empty(&ready));
    hub_publish(f.hub, 1, 9);
    hub_destroy(f.hub);
}

static void test_make_ready_twice_hands_over_once(void **state)
{
    struct fixture f;
    fixture_open(&f);
    struct hub_subscription a;
    assert_int_equal(hub_add(&f.listener, &a, 1, 0), 0);
    hub_wait(&a);
    hub_make_ready(&a);
    hub_make_ready(&a);
    hub_publish(f.hub, 1, 1);
    assert_int_equal(take(&f, 10), 1);
    assert_int_equal(take(&f, 10), 0);
    hub_remove(&a);
    hub_destroy(f.hub);
}

/* ---- threads ---- */

enum { CHANNELS = 3, SUBSCRIPTIONS = 30, READERS = 2, PUBLISHES = 20000 };
static const uint64_t deadline_ns = 20 * NS_PER_S;

struct reader {
    struct hub_listener listener;
    struct mailbox mailbox;
    struct hub_subscription subscriptions[SUBSCRIPTIONS];
    atomic_uint_fast64_t *ends; /* of the channels */
    uint64_t seed;
    bool has_failed;
};

static void wake_reader(struct hub_listener *listener)
{
    mailbox_wake(&CONTAINER_OF(listener, struct reader, listener)->mailbox);
}

static bool is_done(const struct reader *reader)
{
    for (int i = 0; i < SUBSCRIPTIONS; i++) {
        if (reader->subscriptions[i].after_sequence < PUBLISHES) {
            return false;
        }
    }
    return true;
}

/* "Reads" up to a position that the channel has by now, and waits for more. */
static void serve(struct reader *reader, struct hub_subscription *subscription,
                  struct random *random)
{
    uint64_t end = atomic_load(&reader->ends[subscription->channel_number]);
    if (end < subscription->after_sequence) {
        reader->has_failed = true;
    }
    if (random_below(random, 4) == 0 && end > subscription->after_sequence + 1) {
        subscription->after_sequence++;
        hub_make_ready(subscription);
    } else if (random_below(random, 50) == 0) {
        uint64_t number = subscription->channel_number;
        hub_remove(subscription);
        if (hub_add(&reader->listener, subscription, number, subscription->after_sequence) != 0) {
            reader->has_failed = true;
        }
        hub_make_ready(subscription);
    } else {
        subscription->after_sequence = end;
        hub_wait(subscription);
    }
}

static void *run_reader(void *context)
{
    struct reader *reader = context;
    struct random random;
    random_seed(&random, reader->seed);
    uint64_t end_ns = clock_monotonic_ns(clock_system()) + deadline_ns;
    while (!is_done(reader) && !reader->has_failed) {
        mailbox_wait(&reader->mailbox, NS_PER_S);
        if (clock_monotonic_ns(clock_system()) > end_ns) {
            reader->has_failed = true;
        }
        struct list nothing, ready;
        list_init(&nothing);
        list_init(&ready);
        mailbox_drain(&reader->mailbox, &nothing);
        hub_take_ready(&reader->listener, &ready, 8);
        struct list *link = NULL;
        while ((link = list_pop_front(&ready)) != NULL) {
            serve(reader, LIST_ENTRY(link, struct hub_subscription, ready_link), &random);
        }
    }
    return NULL;
}

/* Each reader's mailbox is the only thing that wakes it, so a lost wake-up leaves it waiting for
 * ever: that every subscription gets to the end is the proof. */
static void test_no_wake_up_is_lost_between_threads(void **state)
{
    static struct reader readers[READERS];
    atomic_uint_fast64_t ends[CHANNELS];
    struct hub *hub = NULL;
    assert_int_equal(hub_create(&hub), 0);
    for (int i = 0; i < CHANNELS; i++) {
        atomic_init(&ends[i], 0);
    }
    pthread_t threads[READERS];
    for (int r = 0; r < READERS; r++) {
        struct reader *reader = &readers[r];
        reader->ends = ends;
        reader->seed = (uint64_t)r + 1;
        assert_int_equal(mailbox_init(&reader->mailbox), 0);
        hub_listener_init(hub, &reader->listener, wake_reader);
        for (int i = 0; i < SUBSCRIPTIONS; i++) {
            assert_int_equal(
                hub_add(&reader->listener, &reader->subscriptions[i], (uint64_t)(i % CHANNELS), 0),
                0);
            hub_make_ready(&reader->subscriptions[i]);
        }
        assert_int_equal(pthread_create(&threads[r], NULL, run_reader, reader), 0);
    }
    for (uint64_t sequence = 1; sequence <= PUBLISHES; sequence++) {
        for (uint64_t channel = 0; channel < CHANNELS; channel++) {
            atomic_store(&ends[channel], sequence);
            hub_publish(hub, channel, sequence);
        }
    }
    for (int r = 0; r < READERS; r++) {
        pthread_join(threads[r], NULL);
        assert_false(readers[r].has_failed);
        for (int i = 0; i < SUBSCRIPTIONS; i++) {
            hub_remove(&readers[r].subscriptions[i]);
        }
        mailbox_finish(&readers[r].mailbox);
    }
    hub_destroy(hub);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_publish_wakes_only_the_channel_that_changed),
        cmocka_unit_test(test_who_does_not_wait_is_not_woken),
        cmocka_unit_test(test_wait_is_ready_at_once_when_there_is_more),
        cmocka_unit_test(test_listener_is_notified_once_until_it_takes),
        cmocka_unit_test(test_removed_while_ready_is_not_handed_over),
        cmocka_unit_test(test_make_ready_twice_hands_over_once),
        cmocka_unit_test(test_no_wake_up_is_lost_between_threads),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
