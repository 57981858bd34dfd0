/* Draining: handing over before the process ends. */
#ifndef RAFTOGRAM_DRIVER_DRAIN_H
#define RAFTOGRAM_DRIVER_DRAIN_H

#include "driver/node.h"

#include <stdatomic.h>

struct node_drain {
    /* Any thread. */
    atomic_bool is_wanted;
    atomic_bool is_over;
    atomic_bool is_said_hopeless; /* is_hopeless, for other threads */
    atomic_bool is_forwarding_over;
    /* The node's. */
    bool is_active;
    bool is_hopeless;       /* nobody can take over, or leads any more */
    bool is_leader_leaving; /* the leader said so of itself */
    uint64_t quorum_seen_ns;
    uint64_t retry_ns;
};

/* Every turn; does nothing before node_drain(). */
void node_drain_turn(struct node *node);
/* While this node drains, the leader answered that it does, too, and has nobody to hand over to. */
void node_leader_leaves(struct node *node);
/* The leader has changed. */
void node_forget_leaving_leader(struct node *node);

#endif
