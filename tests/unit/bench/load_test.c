/* Tests of bench/load.h with a target whose behaviour is planned. */
#include "bench/load.h"

#include "base/check.h"
#include "base/clock.h"

#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

/* A server that answers on a thread of its own, one operation after the other, each after
 * `service_ns`, and once stands still. */
struct fake_server {
    struct target base;
    uint64_t service_ns;
    uint64_t stall_at; /* this operation takes stall_ns instead; UINT64_MAX: none */
    uint64_t stall_ns;
    uint64_t fail_every; /* 0: none */
    pthread_t thread;
    pthread_mutex_t lock;
    pthread_cond_t changed;
    struct list queue;
    uint64_t served;
    bool is_ending;
};

static void fake_sleep(uint64_t ns)
{
    if (ns == 0) {
        return;
    }
    struct timespec time = {(time_t)(ns / NS_PER_S), (long)(ns % NS_PER_S)};
    nanosleep(&time, NULL);
}

static void *fake_run(void *context)
{
    struct fake_server *server = context;
    pthread_mutex_lock(&server->lock);
    while (!server->is_ending) {
        struct list *link = list_pop_front(&server->queue);
        if (link == NULL) {
            pthread_cond_wait(&server->changed, &server->lock);
            continue;
        }
        struct operation *operation = LIST_ENTRY(link, struct operation, link);
        uint64_t number = server->served++;
        pthread_mutex_unlock(&server->lock);
        fake_sleep(number == server->stall_at ? server->stall_ns : server->service_ns);
        bool is_failed = server->fail_every != 0 && number % server->fail_every == 0;
        operation->on_done(operation, is_failed ? OUTCOME_ERROR : OUTCOME_OK, "told to fail");
        pthread_mutex_lock(&server->lock);
    }
    pthread_mutex_unlock(&server->lock);
    return NULL;
}

static void fake_start(struct target *base, struct operation *operation)
{
    struct fake_server *server = (struct fake_server *)(void *)base;
    pthread_mutex_lock(&server->lock);
    list_push_back(&server->queue, &operation->link);
    pthread_cond_signal(&server->changed);
    pthread_mutex_unlock(&server->lock);
}

static void fake_init(struct fake_server *server)
{
    memset(server, 0, sizeof(*server));
    server->base.start = fake_start;
    server->stall_at = UINT64_MAX;
    list_init(&server->queue);
    pthread_mutex_init(&server->lock, NULL);
    pthread_cond_init(&server->changed, NULL);
}

static void fake_launch(struct fake_server *server)
{
    CHECK(pthread_create(&server->thread, NULL, fake_run, server) == 0);
}

static void fake_stop(struct fake_server *server)
{
    pthread_mutex_lock(&server->lock);
    server->is_ending = true;
    pthread_cond_signal(&server->changed);
    pthread_mutex_unlock(&server->lock);
    pthread_join(server->thread, NULL);
    pthread_cond_destroy(&server->changed);
    pthread_mutex_destroy(&server->lock);
}

static void test_the_open_loop_charges_a_stall_to_all_that_it_delayed(void **state)
{
    static struct fake_server server;
    fake_init(&server);
    server.stall_at = 50;
    server.stall_ns = 200 * NS_PER_MS;
    fake_launch(&server);
    struct options options = {.in_flight = 4, .rate = 1000, .seconds = 0.5, .deadline_ms = 30000};
    struct load *load;
    assert_int_equal(load_create(&options, &server.base, &load), 0);
    const struct load_result *result = load_run(load);
    /* 200 operations were due during the stall; one call in four was even made. A generator that
     * omitted the others would know four slow ones. */
    assert_int_equal(result->measured_ok, 500);
    assert_int_equal(result->unfinished, 0);
    assert_true(histogram_quantile(&result->latency, 0.85) > 50 * NS_PER_MS);
    assert_true(result->latency.max >= 195 * NS_PER_MS);
    uint64_t longest_ns = 0;
    for (size_t i = 0; i < result->gap_count; i++) {
        longest_ns = result->gaps[i].ns > longest_ns ? result->gaps[i].ns : longest_ns;
    }
    assert_true(longest_ns >= 195 * NS_PER_MS);
    fake_stop(&server);
    load_destroy(load);
}

static void test_the_closed_loop_keeps_its_number_in_flight(void **state)
{
    static struct fake_server server;
    fake_init(&server);
    server.service_ns = NS_PER_MS;
    fake_launch(&server);
    struct options options = {.in_flight = 10, .seconds = 0.3, .deadline_ms = 1000};
    struct load *load;
    assert_int_equal(load_create(&options, &server.base, &load), 0);
    const struct load_result *result = load_run(load);
    /* One at a time through the server, ten waiting: each waits for the nine before it. */
    assert_true(histogram_quantile(&result->latency, 0.5) >= 10 * NS_PER_MS);
    assert_true(result->measured_ok > 0);
    assert_int_equal(result->outcomes[OUTCOME_ERROR], 0);
    fake_stop(&server);
    load_destroy(load);
}

static void test_a_count_ends_the_load(void **state)
{
    static struct fake_server server;
    fake_init(&server);
    fake_launch(&server);
    struct options options = {.in_flight = 8, .seconds = 30, .count_max = 100, .deadline_ms = 1000};
    struct load *load;
    assert_int_equal(load_create(&options, &server.base, &load), 0);
    const struct load_result *result = load_run(load);
    assert_int_equal(result->outcomes[OUTCOME_OK], 100);
    assert_true(result->measured_ns < 30 * NS_PER_S);
    fake_stop(&server);
    load_destroy(load);
}

static void test_failures_are_counted_explained_and_tried_again(void **state)
{
    static struct fake_server server;
    fake_init(&server);
    server.fail_every = 5;
    fake_launch(&server);
    struct options options = {.in_flight = 4, .seconds = 30, .count_max = 50, .deadline_ms = 1000};
    struct load *load;
    assert_int_equal(load_create(&options, &server.base, &load), 0);
    const struct load_result *result = load_run(load);
    assert_int_equal(result->outcomes[OUTCOME_ERROR], 10);
    assert_int_equal(result->outcomes[OUTCOME_OK], 40);
    assert_int_equal(result->latency.count, 40);
    assert_string_equal(result->first_error, "told to fail");
    fake_stop(&server);
    load_destroy(load);
}

static void test_a_payload_says_when_and_which(void **state)
{
    char payload[MARKER_BYTES + 10];
    struct operation operation = {.index = 4711, .intended_ns = UINT64_C(1234567890123456789)};
    payload_fill(payload, sizeof(payload), &operation);
    assert_memory_equal(payload, MARKER, sizeof(MARKER) - 1);
    const char *digits = payload + sizeof(MARKER) - 1;
    assert_true(payload_number(digits, MARKER_TIME_DIGITS) == operation.intended_ns);
    assert_int_equal(payload_number(digits + MARKER_TIME_DIGITS, MARKER_INDEX_DIGITS), 4711);
    assert_int_equal(payload[sizeof(payload) - 1], 'x');
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_the_open_loop_charges_a_stall_to_all_that_it_delayed),
        cmocka_unit_test(test_the_closed_loop_keeps_its_number_in_flight),
        cmocka_unit_test(test_a_count_ends_the_load),
        cmocka_unit_test(test_failures_are_counted_explained_and_tried_again),
        cmocka_unit_test(test_a_payload_says_when_and_which),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
