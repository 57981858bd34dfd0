/* Admission of requests. */
#ifndef RAFTOGRAM_DRIVER_ADMISSION_H
#define RAFTOGRAM_DRIVER_ADMISSION_H

#include "driver/node.h"

#define NODE_READ_WAIT_TIMEOUTS 4 /* election timeouts that a read waits for a leader */

void node_admit(struct node *node, struct node_request *request);
/* Admits a command that is in no list, again or for the first time. */
/* True if the request must not be proposed, because one before it in its chain has failed. */
static inline bool node_is_chain_broken(const struct node_request *request)
{
    return request->chain != NULL && request->chain->is_broken;
}
void node_admit_command(struct node *node, struct node_request *request);
/* Puts a request that is in no list among those that wait for a leader, in the order in which they
 * came: one that comes back goes before those that came later. */
void node_wait_for_leader(struct node *node, struct node_request *request);
/* This node has stopped leading a moment ago, and the next leader's name is due. */
bool node_is_name_due(const struct node *node);

#endif
