/* The inbox: what other threads give to the node, and the bounds of requests. */
#include "base/errors.h"
#include "driver/node_internal.h"

bool node_take_room(struct node *node, uint32_t command_size)
{
    uint64_t live = atomic_fetch_add(&node->requests_live, 1) + 1;
    uint64_t bytes = atomic_fetch_add(&node->requests_bytes, command_size) + command_size;
    if (live <= node->options.requests_max && bytes <= NODE_REQUESTS_BYTES_MAX) {
        return true;
    }
    node_give_room(node, command_size);
    return false;
}

void node_give_room(struct node *node, uint32_t command_size)
{
    atomic_fetch_sub(&node->requests_bytes, command_size);
    atomic_fetch_sub(&node->requests_live, 1);
}

int node_submit(struct node *node, struct node_request *request)
{
    if (!node_take_room(node, request->command_size)) {
        return ERR_FULL;
    }
    pthread_mutex_lock(&node->inbox_lock);
    bool is_closed = node->is_closed;
    if (!is_closed) {
        list_push_back(&node->inbox_requests, &request->link);
    }
    pthread_mutex_unlock(&node->inbox_lock);
    if (is_closed) {
        node_give_room(node, request->command_size);
        return ERR_CLOSED;
    }
    node_wake(node);
    return 0;
}

void node_post_event(struct node *node, struct peer_event *event)
{
    pthread_mutex_lock(&node->inbox_lock);
    list_push_back(&node->inbox_events, &event->link);
    pthread_mutex_unlock(&node->inbox_lock);
    node_wake(node);
}

void node_post_job(struct node *node, struct node_job *job)
{
    pthread_mutex_lock(&node->inbox_lock);
    list_push_back(&node->inbox_jobs, &job->link);
    pthread_mutex_unlock(&node->inbox_lock);
    node_wake(node);
}

void node_set_store_full(struct node *node, bool is_full)
{
    atomic_store(&node->is_store_full, is_full);
}

void node_wake(struct node *node)
{
    if (node->options.wake != NULL) {
        node->options.wake(node->options.wake_context);
    }
}
