/* The published status: a copy of the node's state for other threads. */
#ifndef RAFTOGRAM_DRIVER_STATUS_H
#define RAFTOGRAM_DRIVER_STATUS_H

#include "driver/node.h"

#include <pthread.h>

/* Entries behind the leader's commit index that count as caught up. */
#define NODE_CAUGHT_UP_LAG_MAX 8192u

struct node_published {
    pthread_mutex_t lock;
    struct node_status status;
};

void node_status_init(struct node *node);
void node_status_finish(struct node *node);

/* Publishes a copy of the state. Calls on_change if role, leader, quorum or readiness has changed.
 */
void node_publish_status(struct node *node);

#endif
