/* Detects a node that lags behind and applies nothing. */
#ifndef RAFTOGRAM_DRIVER_PROGRESS_H
#define RAFTOGRAM_DRIVER_PROGRESS_H

#include "driver/node.h"

/* Election timeouts after which a node that applies nothing of what is committed, or has not heard
 * how much that is, is not caught up. */
#define NODE_STILL_TIMEOUTS 3

struct node_progress {
    raft_member heard_leader; /* whose AppendEntries came last, in which term, */
    raft_term heard_term;
    raft_index heard_commit; /* what was committed by it, */
    uint64_t heard_ns;       /* and when */
    raft_index still_index;  /* what was applied at still_since_ns */
    uint64_t still_since_ns; /* 0: all that is known to be committed is applied */
    bool is_still;
};

void node_progress_init(struct node *node);
/* Notes an append request that the core has taken. */
void node_note_heard(struct node *node, raft_member from, const struct raft_message *message);

/* The highest commit index that this node knows of. */
raft_index node_known_commit(const struct node *node);
/* Every turn, after applying. */
void node_look_for_progress(struct node *node);

#endif
