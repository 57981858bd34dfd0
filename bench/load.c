/* The load engine: starts operations, counts their outcomes, finds gaps. */
#include "bench/load.h"

#include "base/check.h"
#include "base/clock.h"
#include "base/errors.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

/* Pause of a closed loop before it repeats a failed operation, so that it does not measure how fast
 * a dead server refuses. */
#define RETRY_PAUSE_NS (10 * NS_PER_MS)
/* Extra time after the deadline of an operation. */
#define DRAIN_EXTRA_NS NS_PER_S

struct load {
    const struct options *options;
    struct target *target;
    pthread_mutex_t lock;
    pthread_cond_t changed;
    struct operation *operations;
    uint32_t operation_count;
    struct list idle;
    struct list parked; /* closed loop: failed, to be started again after a pause */
    uint32_t outstanding;
    uint32_t never_started; /* open loop: due, but all operations were in flight for too long */
    uint64_t next_number;
    uint64_t last_ok_ns; /* 0: none yet */
    atomic_uint_least64_t begin_ns;
    atomic_uint_least64_t end_ns;
    struct load_result result;
};

static uint64_t now_ns(void)
{
    return clock_monotonic_ns(clock_system());
}

static uint64_t process_cpu_ns(void)
{
    struct timespec time;
    CHECK(clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &time) == 0);
    return (uint64_t)time.tv_sec * NS_PER_S + (uint64_t)time.tv_nsec;
}

static void sleep_until(uint64_t deadline_ns)
{
    struct timespec deadline = {
        .tv_sec = (time_t)(deadline_ns / NS_PER_S),
        .tv_nsec = (long)(deadline_ns % NS_PER_S),
    };
    while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &deadline, NULL) != 0) {
    }
}

static bool is_open_loop(const struct load *load)
{
    return load->options->rate > 0;
}

static bool has_more_to_start(const struct load *load)
{
    return load->options->count_max == 0 || load->next_number < load->options->count_max;
}

/* After the first OK. */
static void record_gap(struct load *load, uint64_t now)
{
    struct load_result *result = &load->result;
    if (load->last_ok_ns != 0 && now >= load->last_ok_ns + LOAD_GAP_MIN_NS &&
        result->gap_count < LOAD_GAPS_MAX) {
        result->gaps[result->gap_count++] =
            (struct load_gap){load->last_ok_ns, now - load->last_ok_ns};
    }
}

static void record(struct load *load, const struct operation *operation, enum outcome outcome,
                   const char *text, uint64_t now)
{
    struct load_result *result = &load->result;
    result->outcomes[outcome]++;
    if (outcome == OUTCOME_ERROR && result->first_error[0] == '\0') {
        snprintf(result->first_error, sizeof(result->first_error), "%s",
                 text == NULL ? "no reason given" : text);
    }
    if (outcome != OUTCOME_OK) {
        return;
    }
    record_gap(load, now);
    load->last_ok_ns = now;
    /* Open loop: everything due in the window counts, however late its answer. */
    uint64_t moment = is_open_loop(load) ? operation->intended_ns : now;
    if (moment >= load->begin_ns && moment < load->end_ns) {
        result->measured_ok++;
        histogram_add(&result->latency, now - operation->intended_ns);
    }
}

static void operation_begin(struct load *load, struct operation *operation, uint64_t intended_ns)
{
    operation->number = load->next_number++;
    operation->intended_ns = intended_ns;
    load->outstanding++;
}

static void on_done(struct operation *operation, enum outcome outcome, const char *text)
{
    struct load *load = operation->owner;
    uint64_t now = now_ns();
    pthread_mutex_lock(&load->lock);
    CHECK(load->outstanding > 0);
    load->outstanding--;
    record(load, operation, outcome, text, now);
    bool is_started_again = false;
    if (!is_open_loop(load) && now < load->end_ns && has_more_to_start(load)) {
        if (outcome == OUTCOME_OK) {
            operation_begin(load, operation, now);
            is_started_again = true;
        } else {
            list_push_back(&load->parked, &operation->link);
        }
    } else {
        list_push_back(&load->idle, &operation->link);
        pthread_cond_signal(&load->changed);
    }
    pthread_mutex_unlock(&load->lock);
    if (is_started_again) {
        load->target->start(load->target, operation);
    }
}

int load_create(const struct options *options, struct target *target, struct load **out)
{
    struct load *load = calloc(1, sizeof(*load));
    if (load == NULL) {
        return ERR_NOMEM;
    }
    load->operations = calloc(options->in_flight, sizeof(*load->operations));
    if (load->operations == NULL) {
        free(load);
        return ERR_NOMEM;
    }
    load->options = options;
    load->target = target;
    load->operation_count = options->in_flight;
    pthread_mutex_init(&load->lock, NULL);
    pthread_condattr_t attributes;
    pthread_condattr_init(&attributes);
    pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    pthread_cond_init(&load->changed, &attributes);
    pthread_condattr_destroy(&attributes);
    list_init(&load->idle);
    list_init(&load->parked);
    load->end_ns = UINT64_MAX;
    for (uint32_t i = 0; i < load->operation_count; i++) {
        load->operations[i].index = i;
        load->operations[i].on_done = on_done;
        load->operations[i].owner = load;
        list_push_back(&load->idle, &load->operations[i].link);
    }
    *out = load;
    return 0;
}

void load_destroy(struct load *load)
{
    if (load == NULL) {
        return;
    }
    pthread_cond_destroy(&load->changed);
    pthread_mutex_destroy(&load->lock);
    free(load->operations);
    free(load);
}

struct operation *load_operation(struct load *load, uint64_t index)
{
    return index < load->operation_count ? &load->operations[index] : NULL;
}

void load_window(const struct load *load, uint64_t *begin_ns, uint64_t *end_ns)
{
    *begin_ns = load->begin_ns;
    *end_ns = load->end_ns;
}

/* Takes a waiting operation from `list` and starts it. Returns NULL if there is none or the work is
 * done. */
static struct operation *take(struct load *load, struct list *list, uint64_t intended_ns)
{
    pthread_mutex_lock(&load->lock);
    struct operation *operation = NULL;
    if (has_more_to_start(load)) {
        struct list *link = list_pop_front(list);
        if (link != NULL) {
            operation = LIST_ENTRY(link, struct operation, link);
            operation_begin(load, operation, intended_ns);
        }
    }
    pthread_mutex_unlock(&load->lock);
    return operation;
}

static void start_all(struct load *load, struct list *list)
{
    for (;;) {
        struct operation *operation = take(load, list, now_ns());
        if (operation == NULL) {
            break;
        }
        load->target->start(load->target, operation);
    }
    if (load->target->flush != NULL) {
        load->target->flush(load->target);
    }
}

static bool is_all_done(struct load *load)
{
    pthread_mutex_lock(&load->lock);
    bool is_done = !has_more_to_start(load) && load->outstanding == 0;
    pthread_mutex_unlock(&load->lock);
    return is_done;
}

static void run_closed(struct load *load)
{
    start_all(load, &load->idle);
    while (now_ns() < load->end_ns && !is_all_done(load)) {
        sleep_until(now_ns() + RETRY_PAUSE_NS);
        start_all(load, &load->parked);
    }
}

/* Returns how long after the end it waits for an answer, or for a free operation. */
static uint64_t patience_ns(const struct load *load)
{
    return load->options->deadline_ms * NS_PER_MS + DRAIN_EXTRA_NS;
}

/* Waits until an operation is free. Returns false if none is by `give_up_ns`. */
static bool await_idle(struct load *load, uint64_t give_up_ns)
{
    pthread_mutex_lock(&load->lock);
    while (list_is_empty(&load->idle) && now_ns() < give_up_ns) {
        uint64_t until = now_ns() + RETRY_PAUSE_NS;
        struct timespec deadline = {
            .tv_sec = (time_t)(until / NS_PER_S),
            .tv_nsec = (long)(until % NS_PER_S),
        };
        pthread_cond_timedwait(&load->changed, &load->lock, &deadline);
    }
    bool is_idle = !list_is_empty(&load->idle);
    pthread_mutex_unlock(&load->lock);
    return is_idle;
}

static void run_open(struct load *load, uint64_t start_ns)
{
    double interval_ns = (double)NS_PER_S / load->options->rate;
    for (uint64_t i = 0; has_more_to_start(load); i++) {
        uint64_t due_ns = start_ns + (uint64_t)((double)i * interval_ns);
        if (due_ns >= load->end_ns) {
            break;
        }
        if (now_ns() < due_ns) {
            /* Everything due is sent before the thread sleeps. A late schedule is caught up at
             * once. */
            if (load->target->flush != NULL) {
                load->target->flush(load->target);
            }
            sleep_until(due_ns);
        }
        /* Operations due before the end are started after it too. To leave them out would hide the
         * stall that delayed them. */
        if (!await_idle(load, load->end_ns + patience_ns(load))) {
            load->never_started = (uint32_t)((double)(load->end_ns - due_ns) / interval_ns) + 1;
            break;
        }
        struct operation *operation = take(load, &load->idle, due_ns);
        CHECK(operation != NULL);
        load->target->start(load->target, operation);
    }
    if (load->target->flush != NULL) {
        load->target->flush(load->target);
    }
}

static void drain(struct load *load)
{
    uint64_t give_up_ns = now_ns() + patience_ns(load);
    for (;;) {
        pthread_mutex_lock(&load->lock);
        uint32_t outstanding = load->outstanding;
        pthread_mutex_unlock(&load->lock);
        if (outstanding == 0 || now_ns() > give_up_ns) {
            load->result.unfinished = outstanding + load->never_started;
            return;
        }
        sleep_until(now_ns() + NS_PER_MS);
    }
}

const struct load_result *load_run(struct load *load)
{
    uint64_t start_ns = now_ns();
    uint64_t begin_ns = start_ns + (uint64_t)(load->options->warmup_seconds * (double)NS_PER_S);
    uint64_t planned_ns = (uint64_t)(load->options->seconds * (double)NS_PER_S);
    load->begin_ns = begin_ns;
    load->end_ns = begin_ns + planned_ns;
    uint64_t cpu_before_ns = process_cpu_ns();
    if (is_open_loop(load)) {
        run_open(load, start_ns);
    } else {
        run_closed(load);
    }
    uint64_t end_ns = now_ns();
    load->result.cpu_ns = process_cpu_ns() - cpu_before_ns;
    drain(load);
    pthread_mutex_lock(&load->lock);
    /* With a count the work may be over early. */
    load->result.measured_ns = end_ns < load->end_ns ? end_ns - begin_ns : planned_ns;
    record_gap(load, end_ns);
    pthread_mutex_unlock(&load->lock);
    return &load->result;
}
