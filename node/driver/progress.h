/* Detects a node that lags behind and applies nothing. */
#ifndef RAFTOGRAM_DRIVER_PROGRESS_H
#define RAFTOGRAM_DRIVER_PROGRESS_H

#include "driver/node.h"

/* How long a node may apply nothing of what is committed, or hear nothing about the commit index,
 * before it is not caught up. In election timeouts. */
#define NODE_STILL_TIMEOUTS 3

struct node_progress {
    raft_member heard_leader; /* sender of the last AppendEntries */
    raft_term heard_term;
    raft_index heard_commit; /* commit index in it */
    uint64_t heard_ns;       /* its arrival */
    raft_index still_index;  /* applied_index at still_since_ns */
    uint64_t still_since_ns; /* 0: everything known to be committed is applied */
    bool is_still;
};

void node_progress_init(struct node *node);
/* Records an append request that the core has accepted. */
void node_note_heard(struct node *node, raft_member from, const struct raft_message *message);

/* Returns the highest commit index that this node knows of. */
raft_index node_known_commit(const struct node *node);
/* Detects that nothing is applied. Called every turn, after node_apply(). */
void node_look_for_progress(struct node *node);

#endif
