/* The node's turn. */
#ifndef RAFTOGRAM_DRIVER_TURN_H
#define RAFTOGRAM_DRIVER_TURN_H

#include "base/log_limit.h"
#include "driver/node.h"

#define NODE_MISSING_NS (5 * NS_PER_S) /* interval of log lines about missing nodes */

struct node_turns {
    struct log_limit message_faults[CLUSTER_MEMBERS_MAX];
    struct raft_change *change_scratch;
    size_t change_capacity;
    uint64_t missing_log_ns; /* time of the next such line */
};

void node_turns_finish(struct node *node);

#endif
