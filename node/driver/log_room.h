/* Reserves room on the disk for the log, ahead of need. */
#ifndef RAFTOGRAM_DRIVER_LOG_ROOM_H
#define RAFTOGRAM_DRIVER_LOG_ROOM_H

#include "base/log_limit.h"
#include "driver/node.h"

#ifndef NODE_LOG_SLACK_BYTES
#define NODE_LOG_SLACK_BYTES (64u << 10) /* room kept in the log for hard states */
#endif
#define NODE_HARD_STATE_BYTES 1024u /* size limit of one hard state */

struct node_log_room {
    bool is_full;
    uint64_t wanted;       /* bytes that did not fit; the log is full until they do */
    bool is_majority_full; /* as of the last attempt to propose */
    uint64_t cut_retry_ns; /* earliest time of the next compaction for room */
    struct log_limit news; /* limits log lines about the disks of other members */
};

/* True if the log has room for the largest batch, or for `command_bytes` if that is more. */
bool node_has_room_for_batch(struct node *node, uint64_t command_bytes);
/* True if enough other members have room too. */
bool node_has_majority_room(struct node *node);
/* Returns false if there is no room for the term that the message would make this node write.
 * Removes the entries from the message if there is no room for them. */
bool node_has_room_for_message(struct node *node, struct raft_message *message);
/* Enters and leaves the state of a full disk. Called every turn. */
void node_look_for_room(struct node *node);
/* Checks the room before the first turn. */
void node_look_for_first_room(struct node *node);
/* Forgets the state of the other members' disks, because the leader has changed. */
void node_forget_full_majority(struct node *node);

#endif
