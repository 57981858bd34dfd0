/* The published status: a copy of the node's state for other threads. */
#ifndef RAFTOGRAM_DRIVER_STATUS_H
#define RAFTOGRAM_DRIVER_STATUS_H

#include "driver/node.h"

#include <pthread.h>

#define NODE_CAUGHT_UP_LAG_MAX 8192u /* entries behind the leader's commit that are level */

struct node_published {
    pthread_mutex_t lock;
    struct node_status status;
};

void node_status_init(struct node *node);
void node_status_finish(struct node *node);

/* Publishes a copy of the state, and calls on_change when it differs in what others ask for. */
void node_publish_status(struct node *node);

#endif
