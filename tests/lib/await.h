/* What threads of a test share: one lock and condition, a way to change it and to wait for it. */
#ifndef RAFTOGRAM_TESTS_AWAIT_H
#define RAFTOGRAM_TESTS_AWAIT_H

#include "base/clock.h"

#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#define AWAIT_SECONDS 30

static pthread_mutex_t watch_lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t watch_changed = PTHREAD_COND_INITIALIZER;

/* Changes shared state and wakes whoever awaits it. */
#define CHANGE(statement)                       \
    do {                                        \
        pthread_mutex_lock(&watch_lock);        \
        statement;                              \
        pthread_cond_broadcast(&watch_changed); \
        pthread_mutex_unlock(&watch_lock);      \
    } while (0)

static inline bool watch_wait(uint64_t deadline_ns)
{
    struct timespec until;
    clock_gettime(CLOCK_REALTIME, &until);
    until.tv_sec += 1;
    pthread_cond_timedwait(&watch_changed, &watch_lock, &until);
    return clock_monotonic_ns(clock_system()) < deadline_ns;
}

/* Waits until the condition holds; fails the test after AWAIT_SECONDS. */
#define AWAIT(condition)                                                                         \
    do {                                                                                         \
        uint64_t await_until_ns = clock_monotonic_ns(clock_system()) + AWAIT_SECONDS * NS_PER_S; \
        pthread_mutex_lock(&watch_lock);                                                         \
        bool await_in_time = true;                                                               \
        while (!(condition) && await_in_time) {                                                  \
            await_in_time = watch_wait(await_until_ns);                                          \
        }                                                                                        \
        bool await_is_met = (condition);                                                         \
        pthread_mutex_unlock(&watch_lock);                                                       \
        if (!await_is_met) {                                                                     \
            fail_msg("not within %d s: %s", AWAIT_SECONDS, #condition);                          \
        }                                                                                        \
    } while (0)

/* Fails the test unless the condition holds at this moment. */
#define ASSERT_NOW(condition)                   \
    do {                                        \
        pthread_mutex_lock(&watch_lock);        \
        bool assert_is_met = (condition);       \
        pthread_mutex_unlock(&watch_lock);      \
        if (!assert_is_met) {                   \
            fail_msg("not so: %s", #condition); \
        }                                       \
    } while (0)

#endif
