/* The inbox: what other threads give to the node, and the bounds of requests. All functions but
 * those of creation and end are for any thread. */
#ifndef RAFTOGRAM_DRIVER_INBOX_H
#define RAFTOGRAM_DRIVER_INBOX_H

#include "driver/node.h"

#include <pthread.h>
#include <stdatomic.h>

struct node_inbox {
    pthread_mutex_t lock;
    struct list requests;
    struct list events;
    struct list jobs;
    bool is_closed;
    atomic_uint_fast64_t requests_live;
    atomic_uint_fast64_t requests_bytes; /* of their commands */
    atomic_bool is_store_full;
};

void node_inbox_init(struct node *node);
/* Frees events and jobs. There must be no requests. */
void node_inbox_finish(struct node *node);
/* Appends all that has come to the lists. */
void node_inbox_take(struct node *node, struct list *events, struct list *jobs,
                     struct list *requests);
/* Refuses later requests, and appends those that have come to `last`. */
void node_inbox_close(struct node *node, struct list *last);

/* One more request; false when there are too many, or too large ones. */
bool node_take_room(struct node *node, uint32_t command_size);
void node_give_room(struct node *node, uint32_t command_size);

#endif
