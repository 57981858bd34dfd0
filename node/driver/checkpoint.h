/* Detects diverging state: nodes exchange the hashes of what they have applied. */
#ifndef RAFTOGRAM_DRIVER_CHECKPOINT_H
#define RAFTOGRAM_DRIVER_CHECKPOINT_H

#include "base/log_limit.h"
#include "driver/node.h"

#ifndef NODE_CHECKPOINT_ENTRIES
#define NODE_CHECKPOINT_ENTRIES CHAT_HASH_ENTRIES /* entries between two checkpoints */
#endif
#define NODE_CHECKPOINTS_MAX 64u

/* The hashes of one checkpoint. `results` covers all results since the first entry. `contents`
 * covers what was written since the previous checkpoint. A node of an older version, or one that
 * started in between, does not know `contents`; 0 matches every value. */
struct checkpoint {
    raft_index index;
    uint64_t hash;
    uint64_t contents; /* 0: not known */
};

struct node_checkpoints {
    /* Checkpoints of each member, this node included. Rings, by index / NODE_CHECKPOINT_ENTRIES. */
    struct checkpoint kept[CLUSTER_MEMBERS_MAX][NODE_CHECKPOINTS_MAX];
    raft_index sent;
    bool is_diverged;
    bool is_outvoted;
    struct log_limit news; /* limits log lines about the state */
};

/* Records the hashes at applied_index, which is a checkpoint. */
void node_take_checkpoint(struct node *node);
/* At the end of a turn: sends the checkpoints taken since the last call to the other members. */
void node_send_checkpoints(struct node *node);
/* Compares a checkpoint of a member with the checkpoint of this node. */
void node_compare_checkpoint(struct node *node, raft_member from, const struct checkpoint *said);

#endif
