/* Drains the node: hands leadership over before the process ends. */
#ifndef RAFTOGRAM_DRIVER_DRAIN_H
#define RAFTOGRAM_DRIVER_DRAIN_H

#include "driver/node.h"

#include <stdatomic.h>

struct node_drain {
    /* Written by any thread. */
    atomic_bool is_wanted;
    atomic_bool is_over;
    atomic_bool is_said_hopeless; /* a copy of is_hopeless for other threads */
    atomic_bool is_forwarding_over;
    /* The fields below belong to the node's thread. */
    bool is_active;
    bool is_hopeless;       /* no node can take over, or no node leads */
    bool is_leader_leaving; /* the leader reported that it is leaving */
    uint64_t quorum_seen_ns;
    uint64_t retry_ns;
};

/* Continues draining. Called every turn; does nothing before node_drain(). */
void node_drain_turn(struct node *node);
/* Notes the answer of a leader that is draining too and has no node to hand over to. */
void node_leader_leaves(struct node *node);
/* Notes that the leader has changed. */
void node_forget_leaving_leader(struct node *node);

#endif
