/* struct node, for the files of the driver. Each of its parts is declared in the header of the file
 * that changes it. A part belongs to the node's thread unless its header says otherwise. */
#ifndef RAFTOGRAM_NODE_INTERNAL_H
#define RAFTOGRAM_NODE_INTERNAL_H

#include "base/random.h"
#include "driver/admission.h"
#include "driver/apply.h"
#include "driver/checkpoint.h"
#include "driver/compact.h"
#include "driver/completion.h"
#include "driver/drain.h"
#include "driver/expiry.h"
#include "driver/formats.h"
#include "driver/forward.h"
#include "driver/inbox.h"
#include "driver/leadership.h"
#include "driver/log_room.h"
#include "driver/membership_codec.h"
#include "driver/node.h"
#include "driver/progress.h"
#include "driver/propose.h"
#include "driver/reads.h"
#include "driver/repeats.h"
#include "driver/snapshots.h"
#include "driver/status.h"
#include "driver/step.h"
#include "driver/turn.h"
#include "driver/watch.h"

/* Counters, increased where the event happens and published by status.c. */
struct node_counters {
    uint64_t proposals_total;
    uint64_t proposals_pending;
    uint64_t proposals_failed;
    uint64_t reads_total;
    uint64_t leader_changes;
    uint64_t forwards_total;
    struct latency log_sync_latency;
    struct latency apply_latency;
    struct latency proposal_latency;
};

struct node {
    struct node_options options;
    char (*node_ids)[CLUSTER_NODE_ID_BYTES_MAX + 1];
    struct raft *raft;
    struct wal *wal;
    struct chat *chat;
    struct transport *transport;
    raft_member self;
    struct random random;

    uint64_t now_ns;           /* time of this turn */
    raft_index applied_index;  /* apply.c */
    struct raft_config config; /* as of applied_index; apply.c */
    bool is_changed;           /* on_change is due after the next publication */
    char fatal[256];           /* node_set_fatal() */

    struct node_inbox inbox;
    struct node_requests requests;
    struct node_proposals proposals;
    struct node_forwarding forwarding;
    struct node_formats formats;
    struct node_watch watch;
    struct node_reads reads;
    struct node_core core;
    struct node_leadership leadership;
    struct node_drain drain;
    struct node_progress progress;
    struct node_log_room log_room;
    struct node_compaction compaction;
    struct node_checkpoints checkpoints;
    struct node_snapshots snapshots;
    struct node_turns turns;
    struct node_counters counters;
    struct node_published published;

    /* Scratch memory of the current function; not kept between calls. */
    struct raft_entry *entry_scratch; /* RAFT_APPEND_ENTRIES_MAX */
    struct buf encode_scratch;
};

/* True if this node leads or is handing leadership over. */
static inline bool node_leads(const struct node *node)
{
    return raft_can_propose(node->raft) != RAFT_PROPOSE_NOT_LEADER;
}

#endif
