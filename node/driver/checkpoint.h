/* Detects diverging state: nodes tell each other the hashes of what they have applied. */
#ifndef RAFTOGRAM_DRIVER_CHECKPOINT_H
#define RAFTOGRAM_DRIVER_CHECKPOINT_H

#include "base/log_limit.h"
#include "driver/node.h"

#ifndef NODE_CHECKPOINT_ENTRIES
#define NODE_CHECKPOINT_ENTRIES CHAT_HASH_ENTRIES /* how often apply hashes are compared */
#endif
#define NODE_CHECKPOINTS_MAX 64u

/* Results are hashed from the first entry on, contents since the checkpoint before. A node of an
 * older version, or one that began in between, does not know the contents: they agree with any. */
struct checkpoint {
    raft_index index;
    uint64_t hash;
    uint64_t contents; /* 0: not known */
};

struct node_checkpoints {
    /* Of each member, itself too; rings, by index / NODE_CHECKPOINT_ENTRIES. */
    struct checkpoint kept[CLUSTER_MEMBERS_MAX][NODE_CHECKPOINTS_MAX];
    raft_index sent;
    bool is_diverged;
    bool is_outvoted;
    struct log_limit news; /* of the state */
};

/* Records the hashes at applied_index, which is a checkpoint. */
void node_take_checkpoint(struct node *node);
/* At the end of a turn: sends the checkpoints taken since the last call to the other members. */
void node_send_checkpoints(struct node *node);
/* Compares what a member has sent with this node's own checkpoint. */
void node_compare_checkpoint(struct node *node, raft_member from, const struct checkpoint *said);

#endif
