/* Encodes memberships and their changes, with members by name. */
#ifndef RAFTOGRAM_DRIVER_MEMBERSHIP_CODEC_H
#define RAFTOGRAM_DRIVER_MEMBERSHIP_CODEC_H

#include "driver/node.h"

/* Encodes the data of a CONFIG_CHANGE entry. Members are named by id, so that a node with another
 * membership cannot read the log. */
void node_change_encode(const struct node *node, const struct raft_change *change, struct buf *out);
/* Decodes the data of a CONFIG_CHANGE entry. Errors: ERR_CORRUPT, ERR_VERSION, ERR_FOREIGN (names
 * other members). */
int node_change_decode(const struct node *node, struct bytes data, struct raft_change *out);
/* Encodes and decodes the membership as the store keeps it. */
void node_config_encode(const struct node *node, const struct raft_config *config, struct buf *out);
int node_config_decode(const struct node *node, struct bytes data, struct raft_config *out);

#endif
