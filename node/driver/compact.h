/* Cutting the log: when it is due, how far, and for whom the rest is held back. */
#ifndef RAFTOGRAM_DRIVER_COMPACT_H
#define RAFTOGRAM_DRIVER_COMPACT_H

#include "driver/node.h"

#define NODE_HOLD_NS (30 * NS_PER_S)   /* how long the log is kept for a peer without progress */
#define NODE_COMPACT_BYTES (64u << 20) /* growth of the log after which it is looked at early */
#define NODE_HOLD_BYTES_MAX (1u << 30) /* of log on the disk; beyond it nothing is held back */

/* What a peer still needs from the log: all behind `index`. */
struct log_hold {
    raft_index index;
    uint64_t until_ns;
    bool is_transfer; /* of a snapshot that ends at `index` */
};

struct node_compaction {
    uint64_t at_ns;        /* when to look again whether the log can be cut, or */
    uint64_t at_bytes;     /* when it has grown to so much */
    raft_index last_index; /* what was applied when it was cut last */
    bool is_due;
    bool is_flush_asked;
    struct log_hold holds[CLUSTER_MEMBERS_MAX];
};

void node_compaction_init(struct node *node);

/* At the end of a turn: cuts the log if that is due. */
void node_compact(struct node *node);
/* The disk is full: cuts at once what nobody needs, if nothing is staged. */
void node_cut_for_room(struct node *node, bool keeps_trailing);
/* Keeps the log behind `index` for a peer that makes progress, for a while. */
void node_hold_log(struct node *node, raft_member member, raft_index index, bool is_transfer);
/* A snapshot up to `index` has taken the place of the log. */
void node_note_log_replaced(struct node *node, raft_index index);

#endif
