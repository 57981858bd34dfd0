/* Who leads, whether this node may, and how it gives leadership away. */
#ifndef RAFTOGRAM_DRIVER_LEADERSHIP_H
#define RAFTOGRAM_DRIVER_LEADERSHIP_H

#include "driver/node.h"

/* A node that has just stopped leading knows the next leader in a moment: calls wait so long for
 * its name. */
#define NODE_NAME_WAIT_NS (100 * NS_PER_MS)
#define NODE_STALL_NS (5 * NS_PER_S) /* without room in the overlay: others should lead */
#define NODE_LEAVE_RETRY_NS NS_PER_S /* before an unfit leader tries to hand over again */

struct node_leadership {
    raft_member leader;
    raft_term term;
    uint64_t leaderless_since_ns;
    uint64_t name_until_ns; /* NODE_NAME_WAIT_NS after this node has stopped leading */
    bool is_eligible;
    bool is_last_resort;
    bool was_log_full;       /* as the core was told */
    bool is_stalled;         /* apply has waited for room for NODE_STALL_NS, or the store is full */
    uint64_t full_since_ns;  /* 0: the overlay is not full */
    uint64_t leave_retry_ns; /* before leadership is offered again */
    bool is_store_damaged;
    raft_member transfer_target; /* of the one that is tried */
};

void node_leadership_init(struct node *node);

/* Follows what the core says of leader and term. True when either has changed. */
bool node_follow_leader(struct node *node);
/* Tells the core whether this node may campaign, when that has changed. */
void node_update_eligible(struct node *node);
/* Another member could lead. */
bool node_has_successor(const struct node *node);
void node_give_leadership_away(struct node *node);
/* Every turn: notices when the state machine has had no room for long. */
void node_look_for_stall(struct node *node);
/* Every turn: a leader that is not eligible hands over to a member that is ready. */
void node_leave_if_unfit(struct node *node);
/* Every turn: ends transfers that have succeeded or failed, and starts the next. They are tried one
 * after the other. */
void node_settle_transfers(struct node *node);
/* Asks the core to hand over to `target`, as the first of the requests in `transfers` wants. */
void node_start_transfer(struct node *node, raft_member target);

#endif
