/* Forwards commands to the leader: both the follower's and the leader's side. */
#ifndef RAFTOGRAM_DRIVER_FORWARD_H
#define RAFTOGRAM_DRIVER_FORWARD_H

#include "driver/node.h"

/* The stream that a peer has dialled to this node. Answers of the peer arrive on it. */
struct peer_stream_state {
    bool is_up;
    uint64_t epoch;
};

struct node_forwarding {
    uint64_t next_id;
    struct peer_stream_state streams[CLUSTER_MEMBERS_MAX];
};

void node_forwarding_init(struct node *node);
/* Notes that a stream from a peer began or ended. */
void node_note_stream(struct node *node, const struct peer_event *event, bool is_up);

/* Forwards waiting commands in order: a command never overtakes an earlier one of the same
 * connection. */
void node_forward_waiting(struct node *node);
/* Handles the end of a stream from or to the peer: commands forwarded to it will not be answered.
 * `unsent` (may be NULL) lists those that were never sent. */
void node_peer_lost(struct node *node, raft_member peer, const struct peer_unsent *unsent);
void node_forward_request(struct node *node, raft_member from, const struct peer_message *message);
void node_forward_response(struct node *node, const struct peer_message *message);

#endif
