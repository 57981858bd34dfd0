/* Subscriptions. A linearizable read comes first. Then a reader thread moves a cursor forward, one
 * page at a time and only when the frontend has asked for it. */
#include "base/errors.h"
#include "dispatch/dispatch_internal.h"

#include <stdlib.h>
#include <string.h>

struct dispatch_subscription {
    /* The read barrier; first, so that barrier_done() finds the subscription. */
    struct node_request request;
    struct reader_job open_job;
    struct reader_job close_job;
    struct hub_subscription hub;
    struct list link; /* in its reader's list while open */
    struct dispatch *dispatch;
    struct reader *reader;
    struct dispatch_subscription_events events;
    Raftogram__V1__SubscribeRequest *query; /* until opened */
    pthread_mutex_t lock;                   /* guards is_open, is_behind and the state in the hub */
    bool is_open;                           /* in the hub and in the reader's list */
    /* Messages may be stored after the cursor that the hub does not know of. */
    bool is_behind;
    /* The fields below belong to the reader's thread. */
    uint64_t end_sequence; /* end of the channel when the subscription was opened */
    bool is_opened;        /* `opened` was called */
    bool is_closing;
};

static void refuse(struct dispatch_subscription *subscription, const struct dispatch_status *status)
{
    subscription->is_opened = true;
    dispatch_count_call(subscription->dispatch, DISPATCH_SUBSCRIBE, status->code);
    subscription->events.opened(subscription->events.context, status, 0, "");
}

/* Removes the subscription from the hub, so that no commit wakes it. */
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

/* Checks the cursor after the barrier: the cluster id, the channel and its end. */
static bool check_cursor(struct dispatch_subscription *subscription, struct channel_info *channel,
                         struct dispatch_status *status)
{
    const Raftogram__V1__SubscribeRequest *query = subscription->query;
    char cluster_id[CLUSTER_ID_HEX_BYTES + 1];
    dispatch_get_cluster_id(subscription->dispatch, cluster_id);
    if (query->cluster_id[0] != '\0' && strcmp(query->cluster_id, cluster_id) != 0) {
        dispatch_status_set(status, DISPATCH_FAILED_PRECONDITION, "CLUSTER_CHANGED",
                            "the cursor is of another cluster; this one is %s", cluster_id);
        return false;
    }
    int rc =
        chat_find_channel(subscription->dispatch->chat, bytes_of_text(query->channel_id), channel);
    if (rc != 0) {
        dispatch_status_of_error(rc, status);
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

/* Returns NULL, or one line that says which field is wrong. */
static const char *field_fault(const Raftogram__V1__SubscribeRequest *query)
{
    if (strlen(query->cluster_id) > COMMAND_ID_BYTES_MAX) {
        return "cluster_id is at most 256 bytes";
    }
    return dispatch_channel_id_fault(query->channel_id);
}

static void open_subscription(struct reader_job *job, struct reader *reader)
{
    struct dispatch_subscription *subscription =
        CONTAINER_OF(job, struct dispatch_subscription, open_job);
    struct dispatch_status status = {0};
    struct channel_info channel;
    const char *fault = field_fault(subscription->query);
    if (fault != NULL) {
        dispatch_status_set(&status, DISPATCH_INVALID_ARGUMENT, "INVALID_FIELD", "%s", fault);
        refuse(subscription, &status);
    } else if (subscription->request.outcome != NODE_OK) {
        dispatch_status_of_outcome(subscription->dispatch, &subscription->request, &status);
        refuse(subscription, &status);
    } else if (!check_cursor(subscription, &channel, &status)) {
        refuse(subscription, &status);
    } else {
        uint64_t after = subscription->query->live_only ? channel.last_sequence
                                                        : subscription->query->after_sequence;
        int rc = hub_add(&reader->listener, &subscription->hub, channel.number, after);
        if (rc != 0) {
            dispatch_status_of_error(rc, &status);
            refuse(subscription, &status);
        } else {
            char cluster_id[CLUSTER_ID_HEX_BYTES + 1];
            dispatch_get_cluster_id(subscription->dispatch, cluster_id);
            list_push_back(&reader->subscriptions, &subscription->link);
            subscription->is_opened = true;
            subscription->end_sequence = channel.last_sequence;
            dispatch_count_call(subscription->dispatch, DISPATCH_SUBSCRIBE, DISPATCH_OK);
            pthread_mutex_lock(&subscription->lock);
            subscription->is_behind = true;
            subscription->is_open = true;
            pthread_mutex_unlock(&subscription->lock);
            subscription->events.opened(subscription->events.context, &status,
                                        channel.last_sequence, cluster_id);
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
    if (field_fault(subscription->query) != NULL) {
        /* open_subscription() refuses it; the leader is not asked */
        barrier_done(&subscription->request);
    } else if (atomic_load(&dispatch->is_ending)) {
        subscription->request.outcome = NODE_DRAINING;
        barrier_done(&subscription->request);
    } else {
        int rc = node_submit(dispatch->node, &subscription->request);
        if (rc != 0) {
            subscription->request.outcome = rc == ERR_CLOSED ? NODE_DRAINING : NODE_OVERLOADED;
            barrier_done(&subscription->request);
        }
    }
    return 0;
}

bool dispatch_subscription_next(struct dispatch_subscription *subscription)
{
    pthread_mutex_lock(&subscription->lock);
    bool is_reading = subscription->is_open && subscription->is_behind;
    if (is_reading) {
        hub_make_ready(&subscription->hub);
    } else if (subscription->is_open) {
        hub_wait(&subscription->hub);
    }
    pthread_mutex_unlock(&subscription->lock);
    return is_reading;
}

static void close_subscription(struct reader_job *job, struct reader *reader)
{
    (void)reader;
    struct dispatch_subscription *subscription =
        CONTAINER_OF(job, struct dispatch_subscription, close_job);
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

/* Asks the frontend. Sets is_behind first: after a refusal the frontend may ask for the page again
 * at any moment, and dispatch_subscription_next() must then make it ready. */
static bool may_read(struct dispatch_subscription *subscription)
{
    if (subscription->events.may_read == NULL) {
        return true;
    }
    pthread_mutex_lock(&subscription->lock);
    subscription->is_behind = true;
    pthread_mutex_unlock(&subscription->lock);
    return subscription->events.may_read(subscription->events.context);
}

void subscription_serve(struct hub_subscription *hub_subscription)
{
    struct dispatch_subscription *subscription =
        CONTAINER_OF(hub_subscription, struct dispatch_subscription, hub);
    if (!subscription->is_open || !may_read(subscription)) {
        return;
    }
    struct dispatch_status status = {0};
    struct message_page *page = NULL;
    int rc = chat_read_page(subscription->dispatch->chat, hub_subscription->channel_number,
                            hub_subscription->after_sequence, PAGE_MESSAGES_MAX, &page);
    if (rc != 0) {
        dispatch_status_of_error(rc, &status);
        end_subscription(subscription, &status);
        return;
    }
    const struct page_encoding *encoding =
        page->count > 0 ? dispatch_encode_page(page, subscription->events.format) : NULL;
    if (page->count > 0 && encoding == NULL) {
        page_unref(page);
        dispatch_status_of_error(ERR_NOMEM, &status);
        end_subscription(subscription, &status);
        return;
    }
    pthread_mutex_lock(&subscription->lock);
    subscription->is_behind = page->has_more;
    if (page->count == 0) {
        hub_wait(hub_subscription);
    } else {
        hub_subscription->after_sequence = page->messages[encoding->count - 1]->sequence;
        subscription->is_behind = page->has_more || encoding->count < page->count;
    }
    pthread_mutex_unlock(&subscription->lock);
    if (page->count > 0) {
        subscription->events.page(subscription->events.context, page);
    } else if (subscription->events.idle != NULL) {
        subscription->events.idle(subscription->events.context);
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
    uint64_t leaderless_since_ns = dispatch_leaderless_since(dispatch, &node, now_ns);
    struct dispatch_status status = {0};
    if (atomic_load(&dispatch->is_ending)) {
        dispatch_status_set(&status, DISPATCH_UNAVAILABLE, "DRAINING",
                            "this node is shutting down: subscribe on another");
    } else if (leaderless_since_ns != 0 &&
               now_ns > leaderless_since_ns + SUBSCRIPTION_LEADERLESS_NS) {
        dispatch_status_set(&status, DISPATCH_UNAVAILABLE, "NO_QUORUM",
                            "this node has had no leader for 10 s");
    } else if (node.still_since_ns != 0 &&
               now_ns > node.still_since_ns + SUBSCRIPTION_LEADERLESS_NS) {
        dispatch_status_set(&status, DISPATCH_UNAVAILABLE, "NO_QUORUM",
                            "this node has stayed at entry %llu for 10 s while %llu are committed: "
                            "subscribe on another",
                            (unsigned long long)node.applied_index,
                            (unsigned long long)node.known_commit);
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

void dispatch_end_streams(struct dispatch *dispatch)
{
    atomic_store(&dispatch->is_ending, true);
    for (size_t i = 0; i < dispatch->reader_count; i++) {
        mailbox_wake(&dispatch->readers[i].mailbox);
    }
    dispatch_end_publishes(dispatch);
}
