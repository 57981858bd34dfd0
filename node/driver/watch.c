/* The table of forwarded commands whose entries this node looks for (repeats.c). */
#include "base/check.h"
#include "driver/node_internal.h"

struct node_request **node_watch_bucket(struct node *node, uint32_t hash)
{
    return &node->watch.buckets[hash % NODE_WATCHED_BUCKETS];
}

void node_watch_forward(struct node *node, struct node_request *request)
{
    if (!request->may_repeat || request->is_watched) {
        return;
    }
    request->is_watched = true;
    request->forward_term = node->leadership.term;
    request->watch_hash = command_hash((struct bytes){request->command, request->command_size});
    struct node_request **bucket = node_watch_bucket(node, request->watch_hash);
    request->watch_next = *bucket;
    *bucket = request;
    node->watch.count++;
}

void node_unwatch_forward(struct node *node, struct node_request *request)
{
    if (!request->is_watched) {
        return;
    }
    struct node_request **at = node_watch_bucket(node, request->watch_hash);
    while (*at != request) {
        CHECK(*at != NULL);
        at = &(*at)->watch_next;
    }
    *at = request->watch_next;
    request->is_watched = false;
    node->watch.count--;
}
