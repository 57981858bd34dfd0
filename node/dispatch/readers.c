/* Reader threads: they serve all reads that may wait for the disk. */
#include "base/check.h"
#include "base/errors.h"
#include "dispatch/dispatch_internal.h"

#include <stdio.h>

#define THREAD_NAME_BYTES_MAX 15 /* pthread_setname_np() refuses more */

static void wake_reader(struct hub_listener *listener)
{
    struct reader *reader = CONTAINER_OF(listener, struct reader, listener);
    mailbox_wake(&reader->mailbox);
}

/* Serves up to READER_BATCH_MAX subscriptions. Returns true if more may be ready. */
static bool serve_subscriptions(struct reader *reader)
{
    struct list ready;
    list_init(&ready);
    size_t count = hub_take_ready(&reader->listener, &ready, READER_BATCH_MAX);
    struct list *link;
    while ((link = list_pop_front(&ready)) != NULL) {
        subscription_serve(LIST_ENTRY(link, struct hub_subscription, ready_link));
    }
    return count == READER_BATCH_MAX;
}

static void *run_reader(void *context)
{
    struct reader *reader = context;
    uint64_t sweep_ns = 0;
    bool has_more = false;
    while (!atomic_load(&reader->is_stopping)) {
        uint64_t now_ns = clock_monotonic_ns(clock_system());
        if (now_ns >= sweep_ns) {
            subscription_sweep(reader, now_ns);
            subscription_measure_lag(reader);
            sweep_ns = now_ns + READER_TICK_NS;
        }
        if (!has_more) {
            mailbox_wait(&reader->mailbox, sweep_ns - now_ns);
        }
        struct list jobs;
        list_init(&jobs);
        (void)mailbox_drain(&reader->mailbox, &jobs);
        struct list *link;
        while ((link = list_pop_front(&jobs)) != NULL) {
            struct reader_job *job = LIST_ENTRY(link, struct reader_job, link);
            job->run(job, reader);
            atomic_fetch_sub(&reader->jobs, 1);
        }
        has_more = serve_subscriptions(reader);
    }
    return NULL;
}

int readers_start(struct dispatch *dispatch, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        struct reader *reader = &dispatch->readers[i];
        reader->dispatch = dispatch;
        list_init(&reader->subscriptions);
        hub_listener_init(chat_hub(dispatch->chat), &reader->listener, wake_reader);
        int rc = mailbox_init(&reader->mailbox);
        if (rc != 0) {
            readers_stop(dispatch);
            return rc;
        }
        if (pthread_create(&reader->thread, NULL, run_reader, reader) != 0) {
            mailbox_finish(&reader->mailbox);
            readers_stop(dispatch);
            return ERR_NOMEM;
        }
        char name[THREAD_NAME_BYTES_MAX + 1];
        snprintf(name, sizeof(name), "reader%zu", i);
        (void)pthread_setname_np(reader->thread, name);
        dispatch->reader_count++;
    }
    return 0;
}

void readers_stop(struct dispatch *dispatch)
{
    for (size_t i = 0; i < dispatch->reader_count; i++) {
        struct reader *reader = &dispatch->readers[i];
        atomic_store(&reader->is_stopping, true);
        mailbox_wake(&reader->mailbox);
        pthread_join(reader->thread, NULL);
        CHECK(list_is_empty(&reader->subscriptions));
        mailbox_finish(&reader->mailbox);
    }
    dispatch->reader_count = 0;
}
