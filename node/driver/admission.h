/* Admission of requests. */
#ifndef RAFTOGRAM_DRIVER_ADMISSION_H
#define RAFTOGRAM_DRIVER_ADMISSION_H

#include "driver/node.h"

#define NODE_READ_WAIT_TIMEOUTS 4 /* how long a read waits for a leader, in election timeouts */

void node_admit(struct node *node, struct node_request *request);
/* True if the request must not be proposed, because one before it in its chain has failed. */
static inline bool node_is_chain_broken(const struct node_request *request)
{
    return request->chain != NULL && request->chain->is_broken;
}
/* Admits a command that is in no list, for the first time or again. */
void node_admit_command(struct node *node, struct node_request *request);
/* Adds a request that is in no list to `waiting`, in the order of arrival. A request that comes
 * back is placed before requests that arrived later. */
void node_wait_for_leader(struct node *node, struct node_request *request);
/* True if this node stopped leading less than NODE_NAME_WAIT_NS ago and the next leader is not
 * known yet. */
bool node_is_name_due(const struct node *node);

#endif
