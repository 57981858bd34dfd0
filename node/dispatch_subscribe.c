/* Subscriptions: a linearizable check first, then a cursor that a reader thread moves forward, one
 * page at a time and only when the frontend asked for it. */
#include "base/check.h"
#include "base/errors.h"
#include "dispatch_internal.h"
#include "json/json.h"

#include <stdlib.h>
#include <string.h>

struct dispatch_subscription {
    struct node_request request; /* first: the barrier */
    struct reader_job open_job;
    struct reader_job close_job;
    struct hub_subscription hub;
    struct list link; /* in its reader's list while open */
    struct dispatch *dispatch;
    struct reader *reader;
    struct dispatch_subscription_events events;
    Raftogram__V1__SubscribeRequest *query; /* until opened */
    pthread_mutex_t lock; /* between the reader and dispatch_subscription_next() */
    bool is_open;         /* in the hub and in the reader's list */
    bool is_behind;       /* more is stored behind the cursor than the hub has heard of */
    /* Reader's thread. */
    uint64_t end_sequence; /* of the channel, when it was opened */
    bool is_opened;        /* `opened` was called */
    bool is_closing;
};

static void refuse(struct dispatch_subscription *subscription, const struct dispatch_status *status)
{
    subscription->is_opened = true;
    count_call(subscription->dispatch, DISPATCH_SUBSCRIBE, status->code);
    subscription->events.opened(subscription->events.context, status, 0, "");
}

/* Takes it out of the hub, so that nothing wakes it any more. */
static void leave_hub(struct dispatch_subscription *subscription)
{
    pthread_mutex_lock(&subscription->lock);
    bool was_open = subscription->is_open;
    subscription->is_open = false;
    if (was_open) {
        hub_remove(&subscription->hub);
    }
    pthread_mutex_unlock(&subscription->lock);
    if (was_open) {
        list_remove(&subscription->link);
    }
}

static void finish_if_closing(struct dispatch_subscription *subscription)
{
    if (!subscription->is_closing || !subscription->is_opened) {
        return;
    }
    leave_hub(subscription);
    if (subscription->query != NULL) {
        raftogram__v1__subscribe_request__free_unpacked(subscription->query, NULL);
    }
    subscription->events.closed(subscription->events.context);
    pthread_mutex_destroy(&subscription->lock);
    free(subscription);
}

/* Checks what only a node that is current can: the channel, its end, the cluster. */
static bool check_cursor(struct dispatch_subscription *subscription, struct channel_info *channel,
                         struct dispatch_status *status)
{
    const Raftogram__V1__SubscribeRequest *query = subscription->query;
    struct dispatch_node_status node;
    dispatch_get_status(subscription->dispatch, &node);
    if (query->cluster_id[0] != '\0' && strcmp(query->cluster_id, node.cluster_id) != 0) {
        dispatch_status_set(status, DISPATCH_FAILED_PRECONDITION, "CLUSTER_CHANGED",
                            "the cursor is of another cluster; this one is %s", node.cluster_id);
        return false;
    }
    int rc =
        chat_find_channel(subscription->dispatch->chat, bytes_of_text(query->channel_id), channel);
    if (rc != 0) {
        status_of_error(rc, status);
        return false;
    }
    if (!query->live_only && query->after_sequence > channel->last_sequence) {
        dispatch_status_set(status, DISPATCH_OUT_OF_RANGE, "CURSOR_AHEAD",
                            "after_sequence is %llu, but the channel ends at %llu",
                            (unsigned long long)query->after_sequence,
                            (unsigned long long)channel->last_sequence);
        return false;
    }
    return true;
}

static void open_subscription(struct reader_job *job, struct reader *reader)
{
    struct dispatch_subscription *subscription =
        LIST_ENTRY(job, struct dispatch_subscription, open_job);
    struct dispatch_status status = {0};
    struct channel_info channel;
    const char *fault = channel_id_fault(subscription->query->channel_id);
    if (fault != NULL) {
        dispatch_status_set(&status, DISPATCH_INVALID_ARGUMENT, "INVALID_FIELD", "%s", fault);
        refuse(subscription, &status);
    } else if (subscription->request.outcome != NODE_OK) {
        status_of_outcome(subscription->dispatch, &subscription->request, &status);
        refuse(subscription, &status);
    } else if (!check_cursor(subscription, &channel, &status)) {
        refuse(subscription, &status);
    } else {
        uint64_t after = subscription->query->live_only ? channel.last_sequence
                                                        : subscription->query->after_sequence;
        int rc = hub_add(&reader->listener, &subscription->hub, channel.number, after);
        if (rc != 0) {
            status_of_error(rc, &status);
            refuse(subscription, &status);
        } else {
            struct dispatch_node_status node;
            dispatch_get_status(subscription->dispatch, &node);
            list_push_back(&reader->subscriptions, &subscription->link);
            subscription->is_opened = true;
            subscription->end_sequence = channel.last_sequence;
            count_call(subscription->dispatch, DISPATCH_SUBSCRIBE, DISPATCH_OK);
            pthread_mutex_lock(&subscription->lock);
            subscription->is_behind = true;
            subscription->is_open = true;
            pthread_mutex_unlock(&subscription->lock);
            subscription->events.opened(subscription->events.context, &status,
                                        channel.last_sequence, node.cluster_id);
        }
    }
    finish_if_closing(subscription);
}

static void barrier_done(struct node_request *request)
{
    struct dispatch_subscription *subscription = (struct dispatch_subscription *)(void *)request;
    reader_post(subscription->reader, &subscription->open_job);
}

int dispatch_subscribe(struct dispatch *dispatch, ProtobufCMessage *request, uint64_t deadline_ns,
                       const struct dispatch_subscription_events *events,
                       struct dispatch_subscription **out)
{
    struct dispatch_subscription *subscription = calloc(1, sizeof(*subscription));
    if (subscription == NULL) {
        protobuf_c_message_free_unpacked(request, NULL);
        return ERR_NOMEM;
    }
    subscription->dispatch = dispatch;
    subscription->reader = reader_pick(dispatch);
    subscription->events = *events;
    subscription->query = (Raftogram__V1__SubscribeRequest *)(void *)request;
    subscription->open_job.run = open_subscription;
    subscription->request = (struct node_request){
        .kind = NODE_REQUEST_READ, .deadline_ns = deadline_ns, .done = barrier_done};
    list_init(&subscription->link);
    pthread_mutex_init(&subscription->lock, NULL);
    *out = subscription;
    if (channel_id_fault(subscription->query->channel_id) != NULL) {
        barrier_done(&subscription->request); /* refused there, without asking the leader */
    } else if (atomic_load(&dispatch->is_ending)) {
        subscription->request.outcome = NODE_DRAINING;
        barrier_done(&subscription->request);
    } else if (node_submit(dispatch->node, &subscription->request) != 0) {
        subscription->request.outcome = NODE_OVERLOADED;
        barrier_done(&subscription->request);
    }
    return 0;
}

void dispatch_subscription_next(struct dispatch_subscription *subscription)
{
    pthread_mutex_lock(&subscription->lock);
    if (subscription->is_open && subscription->is_behind) {
        hub_make_ready(&subscription->hub);
    } else if (subscription->is_open) {
        hub_wait(&subscription->hub);
    }
    pthread_mutex_unlock(&subscription->lock);
}

static void close_subscription(struct reader_job *job, struct reader *reader)
{
    (void)reader;
    struct dispatch_subscription *subscription =
        LIST_ENTRY(job, struct dispatch_subscription, close_job);
    subscription->is_closing = true;
    finish_if_closing(subscription);
}

void dispatch_subscription_close(struct dispatch_subscription *subscription)
{
    subscription->close_job.run = close_subscription;
    reader_post(subscription->reader, &subscription->close_job);
}

/* ---- serving ---- */

static void end_subscription(struct dispatch_subscription *subscription,
                             const struct dispatch_status *status)
{
    leave_hub(subscription);
    subscription->events.ended(subscription->events.context, status);
}

void subscription_serve(struct hub_subscription *hub_subscription)
{
    struct dispatch_subscription *subscription =
        LIST_ENTRY(hub_subscription, struct dispatch_subscription, hub);
    if (!subscription->is_open) {
        return;
    }
    struct message_page *page = NULL;
    int rc = chat_read_page(subscription->dispatch->chat, hub_subscription->channel_number,
                            hub_subscription->after_sequence, PAGE_MESSAGES_MAX, &page);
    if (rc != 0) {
        struct dispatch_status status = {0};
        status_of_error(rc, &status);
        end_subscription(subscription, &status);
        return;
    }
    pthread_mutex_lock(&subscription->lock);
    subscription->is_behind = page->has_more;
    if (page->count == 0) {
        hub_wait(hub_subscription);
    } else {
        hub_subscription->after_sequence = page->last_sequence;
    }
    pthread_mutex_unlock(&subscription->lock);
    if (page->count > 0) {
        subscription->events.page(subscription->events.context, page);
    }
    page_unref(page);
}

void subscription_sweep(struct reader *reader, uint64_t now_ns)
{
    if (list_is_empty(&reader->subscriptions)) {
        return;
    }
    struct dispatch *dispatch = reader->dispatch;
    struct node_status node;
    node_get_status(dispatch->node, &node);
    struct dispatch_status status = {0};
    if (atomic_load(&dispatch->is_ending)) {
        dispatch_status_set(&status, DISPATCH_UNAVAILABLE, "DRAINING",
                            "this node is shutting down: subscribe on another");
    } else if (node.leaderless_since_ns != 0 &&
               now_ns > node.leaderless_since_ns + SUBSCRIPTION_LEADERLESS_NS) {
        dispatch_status_set(&status, DISPATCH_UNAVAILABLE, "NO_QUORUM",
                            "this node has had no leader for 10 s");
    } else {
        return;
    }
    struct list *link = reader->subscriptions.next;
    while (link != &reader->subscriptions) {
        struct dispatch_subscription *subscription =
            LIST_ENTRY(link, struct dispatch_subscription, link);
        link = link->next;
        end_subscription(subscription, &status);
    }
}

/* How far its subscriptions are behind their channels' ends. */
void subscription_measure_lag(struct reader *reader)
{
    uint64_t lag_max = 0;
    LIST_FOR_EACH (link, &reader->subscriptions) {
        const struct dispatch_subscription *subscription =
            LIST_ENTRY(link, struct dispatch_subscription, link);
        uint64_t end = hub_last_sequence(&subscription->hub);
        if (end < subscription->end_sequence) {
            end = subscription->end_sequence;
        }
        uint64_t after = subscription->hub.after_sequence;
        if (end > after && end - after > lag_max) {
            lag_max = end - after;
        }
    }
    atomic_store_explicit(&reader->lag_max, lag_max, memory_order_relaxed);
}

void dispatch_end_subscriptions(struct dispatch *dispatch)
{
    atomic_store(&dispatch->is_ending, true);
    for (size_t i = 0; i < dispatch->reader_count; i++) {
        mailbox_wake(&dispatch->readers[i].mailbox);
    }
}

/* ---- pages ---- */

struct stored_messages *stored_messages_create(const struct message_page *page)
{
    size_t text = 0;
    for (size_t i = 0; i < page->count; i++) {
        text += page->messages[i]->author_size + page->messages[i]->client_id_size + 2;
    }
    size_t head = sizeof(struct stored_messages);
    size_t rows = page->count * sizeof(Raftogram__V1__StoredMessage);
    size_t links = page->count * sizeof(Raftogram__V1__StoredMessage *);
    char *block = malloc(head + rows + links + text);
    if (block == NULL) {
        return NULL;
    }
    struct stored_messages *messages = (struct stored_messages *)(void *)block;
    Raftogram__V1__StoredMessage *row = (Raftogram__V1__StoredMessage *)(void *)(block + head);
    messages->count = page->count;
    messages->list = (Raftogram__V1__StoredMessage **)(void *)(block + head + rows);
    char *at = block + head + rows + links;
    for (size_t i = 0; i < page->count; i++, row++) {
        const struct message *message = page->messages[i];
        struct bytes author = message_author_id(message);
        struct bytes client_id = message_client_id(message);
        struct bytes payload = message_payload(message);
        raftogram__v1__stored_message__init(row);
        row->sequence = message->sequence;
        row->timestamp_unix_ms = message->timestamp_ms;
        row->payload.data = (uint8_t *)(uintptr_t)payload.data;
        row->payload.len = payload.size;
        row->author_id = at;
        at = mempcpy(at, author.data, author.size);
        *at++ = '\0';
        row->client_message_id = at;
        at = mempcpy(at, client_id.data, client_id.size);
        *at++ = '\0';
        messages->list[i] = row;
    }
    return messages;
}

void stored_messages_destroy(struct stored_messages *messages)
{
    free(messages);
}

/* As the codec writes a StoredMessage, but with `text` for a payload that is UTF-8. */
static void append_text_message(const Raftogram__V1__StoredMessage *message, struct buf *out)
{
    struct bytes payload = {message->payload.data, message->payload.len};
    buf_printf(out, "{\"sequence\":\"%llu\",\"authorId\":", (unsigned long long)message->sequence);
    json_append_string(out, bytes_of_text(message->author_id));
    buf_append_text(out, ",\"text\":");
    json_append_string(out, payload);
    buf_append_text(out, ",\"clientMessageId\":");
    json_append_string(out, bytes_of_text(message->client_message_id));
    buf_printf(out, ",\"timestampUnixMs\":\"%lld\"}", (long long)message->timestamp_unix_ms);
}

void dispatch_messages_json(struct Raftogram__V1__StoredMessage *const *messages, size_t count,
                            bool as_text, struct buf *out)
{
    buf_append_byte(out, '[');
    for (size_t i = 0; i < count; i++) {
        if (i > 0) {
            buf_append_byte(out, ',');
        }
        struct bytes payload = {messages[i]->payload.data, messages[i]->payload.len};
        if (as_text && bytes_is_utf8(payload)) {
            append_text_message(messages[i], out);
        } else {
            json_encode(&messages[i]->base, JSON_NAMES_CAMEL, out);
        }
    }
    buf_append_byte(out, ']');
}

static void encode_page(const struct stored_messages *messages, enum dispatch_page_format format,
                        struct buf *out)
{
    if (format == DISPATCH_PAGE_PROTOBUF) {
        Raftogram__V1__SubscribeChunk chunk = RAFTOGRAM__V1__SUBSCRIBE_CHUNK__INIT;
        chunk.n_messages = messages->count;
        chunk.messages = messages->list;
        size_t size = protobuf_c_message_get_packed_size(&chunk.base);
        uint8_t *data = buf_extend(out, size);
        if (data != NULL) {
            protobuf_c_message_pack(&chunk.base, data);
        }
        return;
    }
    buf_append_text(out, "{\"messages\":");
    dispatch_messages_json(messages->list, messages->count, format == DISPATCH_PAGE_JSON_TEXT, out);
    buf_append_byte(out, '}');
}

static void destroy_encoding(struct page_encoding *encoding)
{
    free(encoding->data);
    free(encoding);
}

struct bytes dispatch_page_encoded(struct message_page *page, enum dispatch_page_format format)
{
    static_assert(DISPATCH_PAGE_JSON_TEXT < PAGE_ENCODINGS_MAX, "a slot for each format");
    struct page_encoding *encoding = page_encoding(page, format, NULL);
    if (encoding == NULL) {
        struct buf text = {0};
        struct stored_messages *messages = stored_messages_create(page);
        encoding = calloc(1, sizeof(*encoding));
        if (messages != NULL && encoding != NULL) {
            encode_page(messages, format, &text);
        }
        stored_messages_destroy(messages);
        if (messages == NULL || encoding == NULL || buf_failed(&text)) {
            free(encoding);
            buf_finish(&text);
            return (struct bytes){0};
        }
        encoding->destroy = destroy_encoding;
        encoding->data = text.data;
        encoding->size = text.size;
        encoding = page_encoding(page, format, encoding);
    }
    return (struct bytes){encoding->data, encoding->size};
}

size_t dispatch_page_count(const struct message_page *page)
{
    return page->count;
}

uint64_t dispatch_page_last_sequence(const struct message_page *page)
{
    return page->last_sequence;
}

struct message_page *dispatch_page_ref(struct message_page *page)
{
    return page_ref(page);
}

void dispatch_page_unref(struct message_page *page)
{
    page_unref(page);
}
