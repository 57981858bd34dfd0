/* Steps of the core, and their effects: the log, messages to peers, ready reads. */
#ifndef RAFTOGRAM_DRIVER_STEP_H
#define RAFTOGRAM_DRIVER_STEP_H

#include "driver/node.h"
#include "storage/wal.h"

#define NODE_RETRY_NS (10 * NS_PER_MS) /* pause before a refused read or forward is repeated */
/* How long later commands wait for commands whose outcome an earlier leader still has to report.
 * Commands of one connection keep their order, but a leader that hangs must not block them for
 * long. */
#define NODE_ORDER_WAIT_NS (100 * NS_PER_MS)
#define NODE_MAINTAIN_RETRY_NS NS_PER_S
/* The end of the log is marked after nothing was written for so long. The mark is a sync of its
 * own, which no request should wait for. */
#define NODE_MARK_NS (500 * NS_PER_MS)
#define NODE_MARK_SYNCS 4
/* Limit of ready reads between two calls of node_take_ready_reads(). */
#define NODE_READY_READS_MAX (RAFT_READS_MAX + 1)

struct node_core {
    uint64_t deadline_ns; /* time of the next tick */
    raft_index commit_index;
    uint64_t durable_seq;
    uint64_t staged_seq;
    struct raft_outgoing *held; /* messages that wait for wal_commit() */
    size_t held_count;
    size_t held_capacity;
    struct buf payload_scratch;                               /* payloads of an outgoing append */
    struct raft_ready_read ready_reads[NODE_READY_READS_MAX]; /* emptied by reads.c */
    size_t ready_read_count;
    bool was_not_fresh;
    bool is_transfer_over;
    /* The leader reports that this node lacks entries that it had acknowledged. */
    bool has_forgotten;
    uint32_t snapshot_wanted;  /* members that need a snapshot, a bit each */
    uint64_t order_until_ns;   /* NODE_ORDER_WAIT_NS after the last change of leader */
    uint64_t forward_retry_ns; /* both 0 after a change of leader */
    uint64_t read_retry_ns;
    uint64_t mark_ns;     /* when to mark the end of the log, if it is not marked */
    uint64_t maintain_ns; /* earliest time of the next attempt to create a segment */
};

void node_core_init(struct node *node, bool is_fresh);
void node_core_finish(struct node *node);

/* Runs one step and carries out its effects. Errors: ERR_INVALID (a message that no correct peer
 * sends). */
int node_step(struct node *node, struct raft_event *event);
/* Sends the messages that need no save, commits the log, and sends the rest. Called at the end of a
 * turn, and before the staged entries exceed one frame. */
void node_save(struct node *node);
/* Creates segments of the log ahead of need. */
void node_maintain_log(struct node *node);
/* Does the same, even if the last attempt has found no room. */
void node_maintain_log_now(struct node *node);
/* Marks the end of the log (wal_mark()) when that is due. */
void node_mark_log(struct node *node);
/* Passes the cluster id of the config to the log and the peers. */
void node_founded(struct node *node);
/* Resets the times of retries, because another leader may accept at once. */
void node_leader_changed(struct node *node);
void node_set_fatal(struct node *node, const char *format, ...)
    __attribute__((format(printf, 2, 3)));
/* Schedules the retry of a refused forward or read after NODE_RETRY_NS. */
void node_delay_forwards(struct node *node);
void node_delay_reads(struct node *node);
void node_forward_at_once(struct node *node);
void node_clear_transfer_over(struct node *node);
/* Empties `ready_reads`: reads.c has taken them. */
void node_clear_ready_reads(struct node *node);
/* Reports to the peers that this node has entries. */
void node_set_not_fresh(struct node *node);
/* Continues under a new incarnation after a leader has reported that this node lacks entries that
 * it had acknowledged. */
void node_forget_incarnation(struct node *node);

#endif
