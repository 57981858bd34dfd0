/* Subscriptions. A page arrives from a reader's thread and waits until the socket takes it. Only
 * then the next one is asked for. */
#include "base/check.h"
#include "base/errors.h"
#include "raftogram/v1/messaging.pb-c.h"
#include "ws.h"
#include "json/json.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#define SUBSCRIPTION_BYTES 4096 /* memory of one subscription, here and in dispatch */
/* Charge for a page while it is read: the page and its encoding. */
#define PAGE_BYTES_RESERVED (3u << 20)

/* ---- on the reader's thread ---- */

static void on_opened(void *context, const struct dispatch_status *status, uint64_t last_sequence,
                      const char *cluster_id)
{
    struct ws_subscription *subscription = context;
    subscription->opened_status = *status;
    subscription->last_sequence = last_sequence;
    lws_strncpy(subscription->cluster_id, cluster_id, sizeof(subscription->cluster_id));
    frontend_post_task(subscription->ws->frontend, &subscription->opened_task);
}

static bool may_read(void *context)
{
    struct ws_subscription *subscription = context;
    struct ws *ws = subscription->ws;
    bool is_taken = atomic_exchange(&ws->has_page, true);
    bool is_starved = !is_taken && !memory_take(ws->frontend, PAGE_BYTES_RESERVED);
    if (!is_taken && !is_starved) {
        subscription->is_reading = true;
        return true;
    }
    if (is_starved) {
        atomic_store(&ws->has_page, false);
        memory_note_want(ws->frontend);
    }
    atomic_store(&subscription->is_starved, is_starved);
    frontend_post_task(ws->frontend, &subscription->parked_task);
    return false;
}

/* Charges the actual size of the page and its encoding. */
static void on_page(void *context, struct message_page *page)
{
    struct ws_subscription *subscription = context;
    struct http_frontend *frontend = subscription->ws->frontend;
    subscription->is_reading = false;
    subscription->arrived = dispatch_page_ref(page);
    subscription->page_bytes = 2 * dispatch_page_encoded(page, subscription->format).size;
    memory_take_over(frontend, subscription->page_bytes);
    memory_give(frontend, PAGE_BYTES_RESERVED);
    frontend_post_task(frontend, &subscription->page_task);
}

static void stop_reading(struct ws_subscription *subscription)
{
    struct http_frontend *frontend = subscription->ws->frontend;
    subscription->is_reading = false;
    memory_give(frontend, PAGE_BYTES_RESERVED);
    atomic_store(&subscription->ws->has_page, false);
    frontend_post_task(frontend, &subscription->idle_task);
}

static void on_idle(void *context)
{
    stop_reading(context);
}

static void on_ended(void *context, const struct dispatch_status *status)
{
    struct ws_subscription *subscription = context;
    subscription->ended_status = *status;
    if (subscription->is_reading) {
        stop_reading(subscription);
    }
    frontend_post_task(subscription->ws->frontend, &subscription->ended_task);
}

static void on_closed(void *context)
{
    struct ws_subscription *subscription = context;
    frontend_post_task(subscription->ws->frontend, &subscription->closed_task);
}

/* ---- the connection's one page ---- */

void ws_ask_for_page(struct ws *ws)
{
    struct list *link;
    while (ws->wsi != NULL && !atomic_load(&ws->has_page) &&
           (link = list_pop_front(&ws->parked)) != NULL) {
        struct ws_subscription *subscription = LIST_ENTRY(link, struct ws_subscription, ready_link);
        if (dispatch_subscription_next(subscription->subscription)) {
            return;
        }
    }
}

void ws_release_page(struct ws *ws)
{
    atomic_store(&ws->has_page, false);
    ws_ask_for_page(ws);
}

static void drop_page(struct ws_subscription *subscription)
{
    dispatch_page_unref(subscription->page);
    subscription->page = NULL;
    memory_give(subscription->ws->frontend, subscription->page_bytes);
    subscription->page_bytes = 0;
}

static void run_parked(struct task *task)
{
    struct ws_subscription *subscription = CONTAINER_OF(task, struct ws_subscription, parked_task);
    struct ws *ws = subscription->ws;
    if (subscription->is_closed) {
        return;
    }
    list_remove(&subscription->ready_link);
    list_push_back(&ws->parked, &subscription->ready_link);
    /* A starved subscription asks again later; see ws_memory.c. */
    if (!atomic_load(&subscription->is_starved)) {
        ws_ask_for_page(ws);
    }
}

static void run_idle(struct task *task)
{
    ws_ask_for_page(CONTAINER_OF(task, struct ws_subscription, idle_task)->ws);
}

/* ---- ending ---- */

static void close_subscription(struct ws_subscription *subscription)
{
    if (subscription->is_closed) {
        return;
    }
    subscription->is_closed = true;
    subscription->ws->subscription_count--;
    list_remove(&subscription->link);
    list_remove(&subscription->ready_link);
    if (subscription->page != NULL) {
        drop_page(subscription);
        ws_release_page(subscription->ws);
    }
    dispatch_subscription_close(subscription->subscription);
}

void ws_close_subscriptions(struct ws *ws)
{
    while (!list_is_empty(&ws->subscriptions)) {
        close_subscription(LIST_ENTRY(ws->subscriptions.next, struct ws_subscription, link));
    }
}

static void run_closed(struct task *task)
{
    struct ws_subscription *subscription = CONTAINER_OF(task, struct ws_subscription, closed_task);
    struct ws *ws = subscription->ws;
    CHECK(subscription->is_closed);
    free(subscription->reply.id);
    free(subscription->channel_id);
    free(subscription);
    memory_give(ws->frontend, SUBSCRIPTION_BYTES);
    ws_unref(ws);
}

static void append_id(struct buf *out, const struct ws_subscription *subscription)
{
    buf_printf(out, "{\"subscription\":\"%" PRIu64 "\"", subscription->id);
}

static void tell_ended(struct ws_subscription *subscription)
{
    const struct dispatch_status *status = &subscription->ended_status;
    struct buf text = {0};
    ws_begin_text(&text);
    jsonrpc_open_notification(&text, "ended");
    append_id(&text, subscription);
    buf_printf(&text, ",\"code\":%d,\"message\":", status->code);
    json_append_string(&text, bytes_of_text(status->message));
    buf_append_text(&text, ",\"data\":");
    ws_append_error_data(&text, status);
    buf_append_text(&text, "}}");
    ws_send(subscription->ws, &text);
    close_subscription(subscription);
}

static void run_ended(struct task *task)
{
    struct ws_subscription *subscription = CONTAINER_OF(task, struct ws_subscription, ended_task);
    if (subscription->is_closed) {
        return;
    }
    subscription->is_ended = true;
    if (subscription->is_started && subscription->page == NULL) {
        tell_ended(subscription);
    }
}

/* ---- opening ---- */

static void run_opened(struct task *task)
{
    struct ws_subscription *subscription = CONTAINER_OF(task, struct ws_subscription, opened_task);
    struct ws_reply *reply = &subscription->reply;
    struct ws_batch *batch = reply->batch;
    struct ws *ws = subscription->ws;
    ws->calls--;
    if (subscription->opened_status.code != DISPATCH_OK) {
        ws_reply_status(reply, &subscription->opened_status);
        close_subscription(subscription);
    } else if (!subscription->is_closed) {
        struct buf result = {0};
        append_id(&result, subscription);
        buf_append_text(&result, ",\"channelId\":");
        json_append_string(&result, bytes_of_text(subscription->channel_id));
        buf_printf(&result, ",\"lastSequence\":\"%" PRIu64 "\",\"clusterId\":\"%s\"}",
                   subscription->last_sequence, subscription->cluster_id);
        ws_reply_result(reply, buf_bytes(&result));
        buf_finish(&result);
        if (batch != NULL) {
            list_push_back(&batch->held, &subscription->ready_link);
        } else {
            ws_subscription_start(subscription);
        }
    }
    ws_batch_release(batch);
    ws_regulate(ws);
}

static struct ws_subscription *create(struct ws_reply *reply,
                                      const Raftogram__V1__SubscribeRequest *request, bool is_text)
{
    struct ws *ws = reply->ws;
    if (!memory_take(ws->frontend, SUBSCRIPTION_BYTES)) {
        return NULL;
    }
    struct ws_subscription *subscription = calloc(1, sizeof(*subscription));
    char *channel_id = strdup(request->channel_id);
    if (subscription == NULL || channel_id == NULL) {
        free(subscription);
        free(channel_id);
        memory_give(ws->frontend, SUBSCRIPTION_BYTES);
        return NULL;
    }
    subscription->ws = ws;
    subscription->id = ++ws->subscription_last_id;
    subscription->channel_id = channel_id;
    subscription->format = is_text ? DISPATCH_PAGE_JSON_TEXT : DISPATCH_PAGE_JSON;
    subscription->opened_task.run = run_opened;
    subscription->page_task.run = ws_subscription_run_page;
    subscription->ended_task.run = run_ended;
    subscription->closed_task.run = run_closed;
    subscription->parked_task.run = run_parked;
    subscription->idle_task.run = run_idle;
    list_init(&subscription->ready_link);
    list_push_back(&ws->subscriptions, &subscription->link);
    ws->subscription_count++;
    return subscription;
}

void ws_subscribe(struct ws_reply *reply, ProtobufCMessage *request, bool is_text)
{
    struct ws *ws = reply->ws;
    struct ws_subscription *subscription = NULL;
    struct dispatch_status status;
    if (ws->subscription_count >= ws->frontend->options.max_subscriptions) {
        dispatch_status_set(&status, DISPATCH_RESOURCE_EXHAUSTED, "OVERLOADED",
                            "too many subscriptions on this connection");
    } else {
        dispatch_status_set(&status, DISPATCH_RESOURCE_EXHAUSTED, "OVERLOADED", "out of memory");
        subscription = create(reply, (Raftogram__V1__SubscribeRequest *)(void *)request, is_text);
    }
    if (subscription == NULL) {
        protobuf_c_message_free_unpacked(request, NULL);
        ws_reply_status(reply, &status);
        return;
    }
    const struct dispatch_subscription_events events = {
        .opened = on_opened,
        .page = on_page,
        .idle = on_idle,
        .may_read = may_read,
        .ended = on_ended,
        .closed = on_closed,
        .context = subscription,
        .format = subscription->format,
    };
    subscription->reply = *reply;
    if (dispatch_subscribe(ws->frontend->dispatch, request, UINT64_MAX, &events,
                           &subscription->subscription) != 0) {
        list_remove(&subscription->link);
        ws->subscription_count--;
        free(subscription->channel_id);
        free(subscription);
        memory_give(ws->frontend, SUBSCRIPTION_BYTES);
        ws_reply_status(reply, &status);
        return;
    }
    /* An opening subscription counts as a call. */
    ws->calls++;
    if (reply->batch != NULL) {
        reply->batch->waiting++;
    }
    ws_ref(ws);
}

void ws_subscription_start(struct ws_subscription *subscription)
{
    subscription->is_started = true;
    if (subscription->is_ended) {
        tell_ended(subscription);
    } else {
        (void)dispatch_subscription_next(subscription->subscription);
    }
}

/* ---- unsubscribing ---- */

static struct ws_subscription *find(const struct ws *ws, const json_t *id)
{
    if (!jsonrpc_is_string(id)) {
        return NULL;
    }
    LIST_FOR_EACH (link, &ws->subscriptions) {
        struct ws_subscription *subscription = LIST_ENTRY(link, struct ws_subscription, link);
        char text[24];
        snprintf(text, sizeof(text), "%" PRIu64, subscription->id);
        if (subscription->is_started && strcmp(text, json_string_value(id)) == 0) {
            return subscription;
        }
    }
    return NULL;
}

void ws_unsubscribe(struct ws_reply *reply, const json_t *params)
{
    const json_t *id = json_object_get(params, "subscription");
    struct dispatch_status status;
    if (!jsonrpc_is_string(id)) {
        dispatch_status_set(&status, DISPATCH_INVALID_ARGUMENT, "INVALID_FIELD",
                            "subscription: the string that Subscribe answered");
        ws_reply_error(reply, JSONRPC_INVALID_PARAMS, status.message, &status);
        return;
    }
    struct ws_subscription *subscription = find(reply->ws, id);
    if (subscription == NULL) {
        dispatch_status_set(&status, DISPATCH_NOT_FOUND, "SUBSCRIPTION_NOT_FOUND",
                            "no such subscription on this connection");
        ws_reply_status(reply, &status);
        return;
    }
    close_subscription(subscription);
    ws_reply_result(reply, bytes_of_text("{}"));
}

/* ---- pages ---- */

void ws_subscription_run_page(struct task *task)
{
    struct ws_subscription *subscription = CONTAINER_OF(task, struct ws_subscription, page_task);
    struct message_page *page = subscription->arrived;
    subscription->arrived = NULL;
    CHECK(subscription->page == NULL);
    subscription->page = page;
    if (subscription->is_closed) {
        drop_page(subscription);
        ws_release_page(subscription->ws);
        return;
    }
    list_push_back(&subscription->ws->ready, &subscription->ready_link);
    ws_flush(subscription->ws);
}

void ws_subscription_append_page(const struct ws_subscription *subscription, struct buf *out)
{
    struct bytes page = dispatch_page_encoded(subscription->page, subscription->format);
    jsonrpc_open_notification(out, "messages");
    append_id(out, subscription);
    buf_append_text(out, ",\"channelId\":");
    json_append_string(out, bytes_of_text(subscription->channel_id));
    buf_append_byte(out, ',');
    /* {"messages":[…]} without its opening brace. */
    buf_append(out, (const char *)page.data + 1, page.size - 1);
    buf_append_byte(out, '}');
}

void ws_subscription_page_sent(struct ws_subscription *subscription)
{
    subscription->ws->frontend->messages_sent_total +=
        dispatch_page_count(subscription->page, subscription->format);
    drop_page(subscription);
    if (subscription->is_ended) {
        tell_ended(subscription);
    }
}
