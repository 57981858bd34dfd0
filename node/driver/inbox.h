/* The inbox: events, jobs and requests from other threads, and the limits of requests. All
 * functions may be called on any thread, except init and finish. */
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
    atomic_uint_fast64_t requests_bytes; /* sum of the sizes of their commands */
    atomic_bool is_store_full;
};

void node_inbox_init(struct node *node);
/* Frees events and jobs. No request may be left. */
void node_inbox_finish(struct node *node);
/* Moves everything that has arrived to the lists. */
void node_inbox_take(struct node *node, struct list *events, struct list *jobs,
                     struct list *requests);
/* Refuses later requests, and moves those that have arrived to `last`. */
void node_inbox_close(struct node *node, struct list *last);

/* Counts one more request. Returns false if there are too many, or if their commands are too large.
 */
bool node_take_room(struct node *node, uint32_t command_size);
void node_give_room(struct node *node, uint32_t command_size);

#endif
