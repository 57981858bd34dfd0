/* The inbox: events, jobs and requests from other threads, and the limits of requests. */
#include "base/check.h"
#include "base/errors.h"
#include "driver/node_internal.h"

void node_inbox_init(struct node *node)
{
    struct node_inbox *inbox = &node->inbox;
    pthread_mutex_init(&inbox->lock, NULL);
    list_init(&inbox->requests);
    list_init(&inbox->events);
    list_init(&inbox->jobs);
}

void node_inbox_finish(struct node *node)
{
    struct node_inbox *inbox = &node->inbox;
    CHECK(list_is_empty(&inbox->requests));
    struct list *link;
    while ((link = list_pop_front(&inbox->events)) != NULL) {
        struct peer_event *event = LIST_ENTRY(link, struct peer_event, link);
        event->release(event);
    }
    while ((link = list_pop_front(&inbox->jobs)) != NULL) {
        node_job_destroy(LIST_ENTRY(link, struct node_job, link));
    }
    pthread_mutex_destroy(&inbox->lock);
}

void node_inbox_take(struct node *node, struct list *events, struct list *jobs,
                     struct list *requests)
{
    struct node_inbox *inbox = &node->inbox;
    pthread_mutex_lock(&inbox->lock);
    list_splice_back(events, &inbox->events);
    list_splice_back(jobs, &inbox->jobs);
    list_splice_back(requests, &inbox->requests);
    pthread_mutex_unlock(&inbox->lock);
}

void node_inbox_close(struct node *node, struct list *last)
{
    struct node_inbox *inbox = &node->inbox;
    pthread_mutex_lock(&inbox->lock);
    inbox->is_closed = true;
    list_splice_back(last, &inbox->requests);
    pthread_mutex_unlock(&inbox->lock);
}

bool node_take_room(struct node *node, uint32_t command_size)
{
    uint64_t live = atomic_fetch_add(&node->inbox.requests_live, 1) + 1;
    uint64_t bytes = atomic_fetch_add(&node->inbox.requests_bytes, command_size) + command_size;
    if (live <= node->options.requests_max && bytes <= NODE_REQUESTS_BYTES_MAX) {
        return true;
    }
    node_give_room(node, command_size);
    return false;
}

void node_give_room(struct node *node, uint32_t command_size)
{
    atomic_fetch_sub(&node->inbox.requests_bytes, command_size);
    atomic_fetch_sub(&node->inbox.requests_live, 1);
}

int node_submit(struct node *node, struct node_request *request)
{
    if (!node_take_room(node, request->command_size)) {
        return ERR_FULL;
    }
    pthread_mutex_lock(&node->inbox.lock);
    bool is_closed = node->inbox.is_closed;
    if (!is_closed) {
        list_push_back(&node->inbox.requests, &request->link);
    }
    pthread_mutex_unlock(&node->inbox.lock);
    if (is_closed) {
        node_give_room(node, request->command_size);
        return ERR_CLOSED;
    }
    node_wake(node);
    return 0;
}

void node_post_event(struct node *node, struct peer_event *event)
{
    pthread_mutex_lock(&node->inbox.lock);
    list_push_back(&node->inbox.events, &event->link);
    pthread_mutex_unlock(&node->inbox.lock);
    node_wake(node);
}

void node_post_job(struct node *node, struct node_job *job)
{
    pthread_mutex_lock(&node->inbox.lock);
    list_push_back(&node->inbox.jobs, &job->link);
    pthread_mutex_unlock(&node->inbox.lock);
    node_wake(node);
}

void node_set_store_full(struct node *node, bool is_full)
{
    atomic_store(&node->inbox.is_store_full, is_full);
}

void node_wake(struct node *node)
{
    if (node->options.wake != NULL) {
        node->options.wake(node->options.wake_context);
    }
}
