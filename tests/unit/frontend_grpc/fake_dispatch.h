/* A dispatch that the test holds in its hands: calls and subscriptions wait until the test answers
 * them, so that every order of events can be made. It stands in for the whole of node/dispatch*.c.
 * One watch (lock and condition) guards what the threads share. */
#ifndef RAFTOGRAM_TESTS_FAKE_DISPATCH_H
#define RAFTOGRAM_TESTS_FAKE_DISPATCH_H

#include "base/check.h"
#include "base/clock.h"
#include "base/errors.h"
#include "dispatch/dispatch.h"
#include "lib/await.h"
#include "phalanx/kv.pb-c.h"
#include "raftogram/v1/messaging.pb-c.h"
#include "json/json.h"

#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define FAKE_CALLS_MAX 16

/* The fake's one subscription at a time. */
struct dispatch_subscription {
    struct dispatch_subscription_events events;
    int asked;
    bool is_closing;
};

struct message_page {
    int references; /* under the watch */
    struct bytes encoded[2];
};

static struct {
    struct dispatch_call *calls[FAKE_CALLS_MAX]; /* submitted, in order */
    size_t call_count;
    bool is_answering_at_once;
    char *channel_ids[FAKE_CALLS_MAX]; /* of SendMessage requests */
    struct dispatch_subscription *subscription;
    struct dispatch_subscription *subscription_memory;
    bool has_no_memory;
    bool is_ready;
    struct dispatch_watcher *watcher;
} fake; /* under the watch */

void dispatch_add_metrics(struct dispatch *dispatch, struct metric_source *source)
{
    (void)dispatch;
    list_init(&source->link);
}

void dispatch_remove_metrics(struct dispatch *dispatch, struct metric_source *source)
{
    (void)dispatch;
    list_remove(&source->link);
}

void dispatch_status_set(struct dispatch_status *status, int code, const char *reason,
                         const char *format, ...)
{
    *status = (struct dispatch_status){.code = code, .reason = reason};
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(status->message, sizeof(status->message), format, arguments);
    va_end(arguments);
}

/* The reason itself stands for the encoded details. */
void dispatch_status_encode(const struct dispatch_status *status, struct buf *out)
{
    if (status->reason != NULL) {
        buf_append_text(out, status->reason);
    }
}

int dispatch_decode(const struct dispatch_method *method, struct bytes body, ProtobufCMessage **out,
                    struct dispatch_status *status)
{
    struct json_error error;
    ProtobufCMessage *message = NULL;
    if (json_is_body(method->input, body)) {
        (void)json_decode(method->input, body, &message, &error);
    } else {
        message = protobuf_c_message_unpack(method->input, NULL, body.size, body.data);
    }
    if (message == NULL) {
        dispatch_status_set(status, DISPATCH_INVALID_ARGUMENT, "INVALID_FIELD", "not a %s",
                            method->input->name);
        return ERR_INVALID;
    }
    *out = message;
    return 0;
}

/* ---- unary calls ---- */

/* Answers with sequence 7, or with `found` for a Read. */
static inline void fake_answer(struct dispatch_call *call)
{
    Raftogram__V1__SendMessageResponse sent = RAFTOGRAM__V1__SEND_MESSAGE_RESPONSE__INIT;
    Phalanx__ReadResponse read = PHALANX__READ_RESPONSE__INIT;
    sent.sequence = 7;
    read.found = true;
    call->status = (struct dispatch_status){.code = DISPATCH_OK};
    call->response = call->method->id == DISPATCH_READ ? &read.base : &sent.base;
    protobuf_c_message_free_unpacked(call->request, NULL);
    call->done(call);
}

static inline void fake_refuse(struct dispatch_call *call)
{
    dispatch_status_set(&call->status, DISPATCH_FAILED_PRECONDITION, "NOT_LEADER", "not leader");
    call->response = NULL;
    protobuf_c_message_free_unpacked(call->request, NULL);
    call->done(call);
}

void dispatch_submit(struct dispatch *dispatch, struct dispatch_call *call)
{
    pthread_mutex_lock(&watch_lock);
    bool is_answering_at_once = fake.is_answering_at_once;
    CHECK(fake.call_count < FAKE_CALLS_MAX);
    fake.calls[fake.call_count] = call;
    if (call->method->id == DISPATCH_SEND_MESSAGE) {
        const Raftogram__V1__SendMessageRequest *request = (const void *)call->request;
        fake.channel_ids[fake.call_count] = strdup(request->channel_id);
    }
    fake.call_count++;
    pthread_cond_broadcast(&watch_changed);
    pthread_mutex_unlock(&watch_lock);
    if (is_answering_at_once) {
        fake_answer(call);
    }
}

/* ---- publishing: no test of this frontend alone publishes ---- */

int dispatch_publish_open(struct dispatch *dispatch, bool may_forward,
                          const struct dispatch_publish_events *events,
                          struct dispatch_publish **out)
{
    return ERR_NOMEM;
}

int dispatch_publish_frame(struct dispatch_publish *publish, ProtobufCMessage *request,
                           size_t bytes)
{
    protobuf_c_message_free_unpacked(request, NULL);
    return ERR_NOMEM;
}

int dispatch_publish_fail(struct dispatch_publish *publish, const struct dispatch_status *status)
{
    return ERR_NOMEM;
}

bool dispatch_publish_is_full(const struct dispatch_publish *publish)
{
    return true;
}

size_t dispatch_publish_held_bytes(const struct dispatch_publish *publish)
{
    return 0;
}

bool dispatch_publish_is_idle(const struct dispatch_publish *publish)
{
    return true;
}

enum dispatch_publish_news dispatch_publish_take(struct dispatch_publish *publish,
                                                 const ProtobufCMessage **response,
                                                 struct dispatch_status *status)
{
    return DISPATCH_PUBLISH_NOTHING;
}

void dispatch_publish_close(struct dispatch_publish *publish)
{
}

/* ---- subscriptions ---- */

int dispatch_subscribe(struct dispatch *dispatch, ProtobufCMessage *request, uint64_t deadline_ns,
                       const struct dispatch_subscription_events *events,
                       struct dispatch_subscription **out)
{
    protobuf_c_message_free_unpacked(request, NULL);
    pthread_mutex_lock(&watch_lock);
    bool has_no_memory = fake.has_no_memory;
    pthread_mutex_unlock(&watch_lock);
    if (has_no_memory) {
        return ERR_NOMEM;
    }
    struct dispatch_subscription *subscription = calloc(1, sizeof(*subscription));
    CHECK(subscription != NULL);
    subscription->events = *events;
    *out = subscription;
    CHANGE(fake.subscription = subscription);
    return 0;
}

void dispatch_complete(struct dispatch_call *call)
{
    CHECK(call != NULL); /* the fake calls done() itself */
}

bool dispatch_subscription_next(struct dispatch_subscription *subscription)
{
    CHANGE(CHECK(!subscription->is_closing); subscription->asked++);
    return false;
}

void dispatch_subscription_close(struct dispatch_subscription *subscription)
{
    CHANGE(CHECK(!subscription->is_closing); subscription->is_closing = true);
}

static inline void fake_open(struct dispatch_subscription *subscription)
{
    const struct dispatch_status ok = {.code = DISPATCH_OK};
    subscription->events.opened(subscription->events.context, &ok, 0, "");
}

/* Waits for the frontend to close it, and says `closed`. */
static inline void fake_close(struct dispatch_subscription *subscription)
{
    AWAIT(subscription->is_closing);
    subscription->events.closed(subscription->events.context);
    free(subscription);
}

struct bytes dispatch_page_encoded(struct message_page *page, enum dispatch_page_format format)
{
    return page->encoded[format];
}

struct message_page *dispatch_page_ref(struct message_page *page)
{
    CHANGE(page->references++);
    return page;
}

void dispatch_page_unref(struct message_page *page)
{
    CHANGE(page->references--);
}

/* ---- state ---- */

void dispatch_get_node_status(struct dispatch *dispatch, struct dispatch_node_status *out)
{
    memset(out, 0, sizeof(*out));
    pthread_mutex_lock(&watch_lock);
    out->is_ready = fake.is_ready;
    pthread_mutex_unlock(&watch_lock);
}

void dispatch_watch(struct dispatch *dispatch, struct dispatch_watcher *watcher)
{
    CHANGE(fake.watcher = watcher);
}

void dispatch_unwatch(struct dispatch *dispatch, struct dispatch_watcher *watcher)
{
    CHANGE(CHECK(fake.watcher == watcher); fake.watcher = NULL);
}

static inline void fake_set_ready(bool is_ready)
{
    CHANGE(fake.is_ready = is_ready);
    fake.watcher->changed(fake.watcher);
}

static inline void fake_reset(void)
{
    for (size_t i = 0; i < fake.call_count; i++) {
        free(fake.channel_ids[i]);
    }
    memset(&fake, 0, sizeof(fake));
}

#endif
