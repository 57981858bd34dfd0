/* The table of forwarded commands whose entries this node looks for (repeats.c). */
#ifndef RAFTOGRAM_DRIVER_WATCH_H
#define RAFTOGRAM_DRIVER_WATCH_H

#include "driver/node.h"

#define NODE_WATCHED_BUCKETS 1024u

struct node_watch {
    struct node_request *buckets[NODE_WATCHED_BUCKETS]; /* by watch_hash */
    size_t count;
};

/* Adds a forwarded request: its entry is looked for until the request ends. */
void node_watch_forward(struct node *node, struct node_request *request);
void node_unwatch_forward(struct node *node, struct node_request *request);
/* Returns the list of the requests with this hash, linked by watch_next. */
struct node_request **node_watch_bucket(struct node *node, uint32_t hash);

#endif
