/* Follows leadership: who leads, whether this node may, and transfers. */
#ifndef RAFTOGRAM_DRIVER_LEADERSHIP_H
#define RAFTOGRAM_DRIVER_LEADERSHIP_H

#include "driver/node.h"

/* How long requests wait for the name of the next leader after this node has stopped leading. */
#define NODE_NAME_WAIT_NS (100 * NS_PER_MS)
/* Time without room in the overlay before leadership is handed over. */
#define NODE_STALL_NS (5 * NS_PER_S)
#define NODE_LEAVE_RETRY_NS NS_PER_S /* between two attempts of an unfit leader to hand over */

struct node_leadership {
    raft_member leader;
    raft_term term;
    uint64_t leaderless_since_ns;
    uint64_t name_until_ns; /* NODE_NAME_WAIT_NS after this node has stopped leading */
    bool is_eligible;
    bool is_last_resort;
    bool was_log_full;       /* as last reported to the core */
    bool is_stalled;         /* the store is full, or apply has waited for room for NODE_STALL_NS */
    uint64_t full_since_ns;  /* 0: the overlay is not full */
    uint64_t leave_retry_ns; /* time of the next attempt to hand over */
    bool is_store_damaged;
    raft_member transfer_target; /* target of the transfer that runs */
};

void node_leadership_init(struct node *node);

/* Follows leader and term of the core. Returns true if either has changed. */
bool node_follow_leader(struct node *node);
/* Reports to the core whether this node may campaign, if that has changed. */
void node_update_eligible(struct node *node);
/* True if another member could lead. */
bool node_has_successor(const struct node *node);
void node_give_leadership_away(struct node *node);
/* Detects that the state machine has had no room for NODE_STALL_NS. Called every turn. */
void node_look_for_stall(struct node *node);
/* Hands leadership over to a member that is ready if this leader is not eligible. Called every
 * turn. */
void node_leave_if_unfit(struct node *node);
/* Ends transfers that have succeeded or failed, and starts the next one. Only one runs at a time.
 * Called every turn. */
void node_settle_transfers(struct node *node);
/* Asks the core for a transfer to `target`, for the first request in `transfers`. */
void node_start_transfer(struct node *node, raft_member target);

#endif
