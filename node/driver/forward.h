/* Forwarding commands to the leader: the follower's side, and the leader's. */
#ifndef RAFTOGRAM_DRIVER_FORWARD_H
#define RAFTOGRAM_DRIVER_FORWARD_H

#include "driver/node.h"

/* The stream that a peer has dialled to us: its answers come on it. */
struct peer_stream_state {
    bool is_up;
    uint64_t epoch;
};

struct node_forwarding {
    uint64_t next_id;
    struct peer_stream_state streams[CLUSTER_MEMBERS_MAX];
};

void node_forwarding_init(struct node *node);
/* A stream from a peer began or ended. */
void node_note_stream(struct node *node, const struct peer_event *event, bool is_up);

/* Forwards what waits, in order: a command never overtakes an earlier one of the same connection.
 */
void node_forward_waiting(struct node *node);
/* A stream from or to the peer ended: what was forwarded to it will not be answered. `unsent` (may
 * be NULL) never left. */
void node_peer_lost(struct node *node, raft_member peer, const struct peer_unsent *unsent);
void node_forward_request(struct node *node, raft_member from, const struct peer_message *message);
void node_forward_response(struct node *node, const struct peer_message *message);

#endif
