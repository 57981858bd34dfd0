/* Room on the disk for the log, ahead of need. */
#ifndef RAFTOGRAM_DRIVER_LOG_ROOM_H
#define RAFTOGRAM_DRIVER_LOG_ROOM_H

#include "base/log_limit.h"
#include "driver/node.h"

#ifndef NODE_LOG_SLACK_BYTES
#define NODE_LOG_SLACK_BYTES (64u << 10) /* room kept in the log for hard state, */
#endif
#define NODE_HARD_STATE_BYTES 1024u /*   which takes at most so much */

struct node_log_room {
    bool is_full;
    uint64_t wanted;       /* what did not fit: the log is full until this does */
    bool is_majority_full; /* as it was when something was to be proposed last */
    uint64_t cut_retry_ns; /* not before: the log was cut and still found no room */
    struct log_limit news; /* of the others' disks */
};

/* Room for a batch of the largest size, or for `command_bytes` if that is more. */
bool node_has_room_for_batch(struct node *node, uint64_t command_bytes);
/* Whether the others have. */
bool node_has_majority_room(struct node *node);
/* False: there is no room for the term that the message would have this node write down. If there
 * is none for its entries, they are taken out of it. */
bool node_has_room_for_message(struct node *node, struct raft_message *message);
/* Every turn: begins and ends the state of a full disk. */
void node_look_for_room(struct node *node);
/* Before the first turn. */
void node_look_for_first_room(struct node *node);
/* The leader has changed: what was known of the others' disks is not its own. */
void node_forget_full_majority(struct node *node);

#endif
