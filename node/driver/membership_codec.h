/* Memberships and their changes as bytes, with members by name. */
#ifndef RAFTOGRAM_DRIVER_MEMBERSHIP_CODEC_H
#define RAFTOGRAM_DRIVER_MEMBERSHIP_CODEC_H

#include "driver/node.h"

/* A CONFIG_CHANGE entry's data. Members are named, so that a log cannot be read by another
 * membership. */
void node_change_encode(const struct node *node, const struct raft_change *change, struct buf *out);
/* Errors: ERR_CORRUPT, ERR_VERSION, ERR_FOREIGN (names other members). */
int node_change_decode(const struct node *node, struct bytes data, struct raft_change *out);
/* The membership as the store keeps it. */
void node_config_encode(const struct node *node, const struct raft_config *config, struct buf *out);
int node_config_decode(const struct node *node, struct bytes data, struct raft_config *out);

#endif
