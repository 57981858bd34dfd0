/* Compacts the log: decides when and how far, and what is kept for followers. */
#ifndef RAFTOGRAM_DRIVER_COMPACT_H
#define RAFTOGRAM_DRIVER_COMPACT_H

#include "driver/node.h"

#define NODE_HOLD_NS (30 * NS_PER_S) /* how long entries are kept for a peer without progress */
/* Growth after which compaction is checked before its interval ends. */
#define NODE_COMPACT_BYTES (64u << 20)
/* Size of the log on disk above which nothing is kept for peers. */
#define NODE_HOLD_BYTES_MAX (1u << 30)

/* Entries that are kept for a peer: all after `index`. */
struct log_hold {
    raft_index index;
    uint64_t until_ns;
    bool is_transfer; /* the peer receives a snapshot that ends at `index` */
};

struct node_compaction {
    uint64_t at_ns;        /* time of the next check, */
    uint64_t at_bytes;     /* or size of the log at which it is made earlier */
    raft_index last_index; /* applied_index at the last compaction */
    bool is_due;
    bool is_flush_asked;
    struct log_hold holds[CLUSTER_MEMBERS_MAX];
};

void node_compaction_init(struct node *node);

/* Compacts the log if that is due. Called at the end of each turn. */
void node_compact(struct node *node);
/* Compacts at once, because the disk is full. Does nothing while entries are staged. */
void node_cut_for_room(struct node *node, bool keeps_trailing);
/* Keeps the entries after `index` for a peer that makes progress, for NODE_HOLD_NS. */
void node_hold_log(struct node *node, raft_member member, raft_index index, bool is_transfer);
/* Notes that a snapshot up to `index` has replaced the log. */
void node_note_log_replaced(struct node *node, raft_index index);

#endif
