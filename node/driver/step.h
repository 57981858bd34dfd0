/* Steps of the core, and what they ask for: the log, messages to peers, ready reads. */
#ifndef RAFTOGRAM_DRIVER_STEP_H
#define RAFTOGRAM_DRIVER_STEP_H

#include "driver/node.h"
#include "storage/wal.h"

#define NODE_RETRY_NS (10 * NS_PER_MS) /* before a refused read or forward is tried again */
/* Later commands wait so long for what an earlier leader owes an answer for: commands of one
 * connection must keep their order, but a leader that hangs must not stop them for long. */
#define NODE_ORDER_WAIT_NS (100 * NS_PER_MS)
#define NODE_MAINTAIN_RETRY_NS NS_PER_S
/* The log's end is marked when nothing was written for so long and for a few syncs: the mark is a
 * sync of its own, for which nobody shall wait. */
#define NODE_MARK_NS (500 * NS_PER_MS)
#define NODE_MARK_SYNCS 4
#define NODE_READY_READS_MAX (RAFT_READS_MAX + 1) /* between two looks of reads.c */

struct node_core {
    uint64_t deadline_ns; /* of the next tick */
    raft_index commit_index;
    uint64_t durable_seq;
    uint64_t staged_seq;
    struct raft_outgoing *held; /* messages that wait for wal_commit() */
    size_t held_count;
    size_t held_capacity;
    struct buf payload_scratch;                               /* of an outgoing append */
    struct raft_ready_read ready_reads[NODE_READY_READS_MAX]; /* emptied by reads.c */
    size_t ready_read_count;
    bool was_not_fresh;
    bool is_transfer_over;
    bool has_forgotten;        /* its leader says that it lacks what it had acknowledged */
    uint32_t snapshot_wanted;  /* by whom: a bit per member */
    uint64_t order_until_ns;   /* NODE_ORDER_WAIT_NS after the last change of leader */
    uint64_t forward_retry_ns; /* both 0 after a change of leader */
    uint64_t read_retry_ns;
    uint64_t mark_ns;     /* when to mark the log's end, if it is not marked */
    uint64_t maintain_ns; /* not before: the log found no room for a segment */
};

void node_core_init(struct node *node, bool is_fresh);
void node_core_finish(struct node *node);

/* One step and its effects. A message that no correct peer sends returns ERR_INVALID. */
int node_step(struct node *node, struct raft_event *event);
/* Sends what is durable, writes the log, sends the rest. At the end of a turn, and before the log
 * would have to take more than fits in one frame. */
void node_save(struct node *node);
/* Makes room in the log ahead of need. */
void node_maintain_log(struct node *node);
/* The same, also when the last try has found no room. */
void node_maintain_log_now(struct node *node);
/* Marks the end of the log (wal_mark()) when that is due. */
void node_mark_log(struct node *node);
/* The cluster's id is that of the config, for the log and for the peers. */
void node_founded(struct node *node);
/* Resets what waits for a retry: another leader may take it at once. */
void node_leader_changed(struct node *node);
void node_set_fatal(struct node *node, const char *format, ...)
    __attribute__((format(printf, 2, 3)));
/* A refused forward, or read, is tried again after NODE_RETRY_NS. */
void node_delay_forwards(struct node *node);
void node_delay_reads(struct node *node);
void node_forward_at_once(struct node *node);
void node_clear_transfer_over(struct node *node);
/* Empties `ready_reads`: reads.c has taken them. */
void node_clear_ready_reads(struct node *node);
/* Tells the peers that this node has entries. */
void node_set_not_fresh(struct node *node);
/* After a leader has said that this node lacks what it had acknowledged. */
void node_forget_incarnation(struct node *node);

#endif
