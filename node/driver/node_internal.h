/* Inside the driver: struct node, and what its files share. All of it belongs
 * to the node's thread, unless it says otherwise. */
#ifndef RAFTOGRAM_NODE_INTERNAL_H
#define RAFTOGRAM_NODE_INTERNAL_H

#include "base/log_limit.h"
#include "base/random.h"
#include "driver/node.h"
#include "driver/snapshot_jobs.h"

#include <pthread.h>
#include <stdatomic.h>

/* Of one turn, unless its first command alone is larger: it must fit in one frame of the log. The
 * simulator builds with smaller bounds, here and in raft.h and snapshot.h. */
#ifndef NODE_PROPOSE_BYTES_MAX
#define NODE_PROPOSE_BYTES_MAX (1u << 20)
#endif
/* Proposed and not applied yet, by one leader: more wait. So what is on its way when the disks of a
 * majority fill up still finds room there. */
#ifndef NODE_PENDING_BYTES_MAX
#define NODE_PENDING_BYTES_MAX (2u << 20)
#endif
#define NODE_PENDING_ENTRY_BYTES 1024u /* of an entry besides its command: the frame of its own */
#ifndef NODE_LOG_SLACK_BYTES
#define NODE_LOG_SLACK_BYTES (64u << 10) /* room kept in the log for hard state, */
#endif
#define NODE_HARD_STATE_BYTES 1024u /*   which takes at most so much */
#define NODE_APPLY_BATCH_MAX 1024u  /* entries between chat_apply_begin() and _end() */
#define NODE_APPLY_TURN_MAX 8192u   /* entries applied in one turn, */
#define NODE_APPLY_CHECK 64u /*   and after how many it is asked whether that takes too long */
/* Requests answered in one turn, and after how many it is asked whether that takes too long: more
 * than a quarter of the heartbeat's interval, which must not wait for them. */
#ifndef NODE_COMPLETE_TURN_MAX
#define NODE_COMPLETE_TURN_MAX 4096u
#endif
#define NODE_COMPLETE_CHECK 64u
#define NODE_CAUGHT_UP_LAG_MAX 8192u /* entries behind the leader's commit that are level */
#ifndef NODE_CHECKPOINT_ENTRIES
#define NODE_CHECKPOINT_ENTRIES CHAT_HASH_ENTRIES /* how often apply hashes are compared */
#endif
#define NODE_CHECKPOINTS_MAX 64u
#define NODE_RETRY_NS (10 * NS_PER_MS) /* before a refused read or forward is tried again */
/* Later commands wait so long for what an earlier leader owes an answer for: commands of one
 * connection must keep their order, but a leader that hangs must not stop them for long. */
#define NODE_ORDER_WAIT_NS (100 * NS_PER_MS)
/* A node that has just stopped leading knows the next leader in a moment: calls wait so long for
 * its name. */
#define NODE_NAME_WAIT_NS (100 * NS_PER_MS)
#define NODE_STALL_NS (5 * NS_PER_S) /* without room in the overlay: others should lead */
#define NODE_LEAVE_RETRY_NS NS_PER_S /* before an unfit leader tries to hand over again */
#define NODE_MAINTAIN_RETRY_NS NS_PER_S
/* The log's end is marked when nothing was written for so long and for a few syncs: the mark is a
 * sync of its own, for which nobody shall wait. */
#define NODE_MARK_NS (500 * NS_PER_MS)
#define NODE_MARK_SYNCS 4
#define NODE_MISSING_NS (5 * NS_PER_S) /* how often an unfounded node says who is missing */
#define NODE_HOLD_NS (30 * NS_PER_S)   /* how long the log is kept for a peer without progress */
#define NODE_COMPACT_BYTES (64u << 20) /* growth of the log after which it is looked at early */
#define NODE_HOLD_BYTES_MAX (1u << 30) /* of log on the disk; beyond it nothing is held back */
#define NODE_SNAPSHOT_RETRY_NS (500 * NS_PER_MS)
#define NODE_SNAPSHOT_REFUSED_NS (5 * NS_PER_S)    /* after a no: before it is tried again */
#define NODE_SNAPSHOT_STALL_NS (60 * NS_PER_S)     /* a transfer without progress is given up */
#define NODE_SNAPSHOT_INSTALL_NS (1800 * NS_PER_S) /* verifying and opening it may take */
#define NODE_SNAPSHOT_KEPT_NS (300 * NS_PER_S)     /* a snapshot that nobody uses */
#define NODE_WATCHED_BUCKETS 1024u
#define NODE_READY_READS_MAX (RAFT_READS_MAX + 1) /* between two looks of reads.c */
#define NODE_READ_WAIT_TIMEOUTS 4 /* election timeouts that a read waits for a leader */
/* Election timeouts after which a node that applies nothing of what is committed, or has not heard
 * how much that is, is not caught up. */
#define NODE_STILL_TIMEOUTS 3

/* Requests whose read index was asked for together. */
struct read_group {
    struct list link;
    struct list requests;
    uint64_t id;
    raft_index index;
};

/* The stream that a peer has dialled to us: its answers come on it. */
struct peer_stream_state {
    bool is_up;
    uint64_t epoch;
};

/* Results are hashed from the first entry on, contents since the checkpoint before. A node of an
 * older version, or one that began in between, does not know the contents: they agree with any. */
struct checkpoint {
    raft_index index;
    uint64_t hash;
    uint64_t contents; /* 0: not known */
};

/* The snapshot that this node serves. */
struct snapshot_served {
    bool is_known;
    uint64_t id;
    raft_index index;
    uint64_t bytes;
    uint32_t chunk_count;
    uint64_t used_ns;
    struct buf manifest;
};

struct snapshot_sending {
    bool is_active; /* the transport owes an end */
    uint64_t epoch;
    uint64_t id;
    uint32_t chunk;    /* what the peer asked for last */
    uint32_t failures; /* in a row, before the first chunk */
    uint64_t progress_ns;
    uint64_t retry_ns;
};

struct snapshot_receiving {
    bool is_active;
    bool is_completing; /* all is there: it is verified, and then installed */
    raft_member from;
    uint64_t epoch;
    raft_index index;
    raft_term term;
    uint32_t chunk_count;
    struct raft_config config;
};

/* What a peer still needs from the log: all behind `index`. */
struct log_hold {
    raft_index index;
    uint64_t until_ns;
    bool is_transfer; /* of a snapshot that ends at `index` */
};

struct node {
    struct node_options options;
    char (*node_ids)[CLUSTER_NODE_ID_BYTES_MAX + 1];
    struct raft *raft;
    struct wal *wal;
    struct chat *chat;
    struct transport *transport;
    raft_member self;
    struct raft_config config; /* as of applied_index */

    /* Inbox: any thread. */
    pthread_mutex_t inbox_lock;
    struct list inbox_requests;
    struct list inbox_events;
    struct list inbox_jobs;
    bool is_closed;
    atomic_uint_fast64_t requests_live;
    atomic_uint_fast64_t requests_bytes; /* of their commands */
    atomic_bool drain_wanted;
    atomic_bool is_drained;
    atomic_bool is_hopeless; /* is_drain_hopeless, for other threads */
    atomic_bool is_forwarding_over;
    atomic_bool is_store_full;

    /* Node thread. */
    uint64_t now_ns;
    uint64_t raft_deadline_ns;
    raft_index commit_index;
    raft_index applied_index;
    raft_member heard_leader; /* whose AppendEntries came last, in which term, */
    raft_term heard_term;
    raft_index heard_commit; /* what was committed by it, */
    uint64_t heard_ns;       /* and when */
    raft_index still_index;  /* what was applied at still_since_ns */
    uint64_t still_since_ns; /* 0: all that is known to be committed is applied */
    bool is_standing_still;
    raft_member leader;
    raft_term leader_term;
    uint64_t durable_seq;
    uint64_t staged_seq;
    struct raft_outgoing *held; /* messages that wait for wal_commit() */
    size_t held_count;
    size_t held_capacity;
    struct raft_entry *entry_scratch; /* RAFT_APPEND_ENTRIES_MAX */
    struct raft_change *change_scratch;
    size_t change_capacity;
    struct buf payload_scratch; /* of an outgoing append */
    struct buf encode_scratch;

    struct list waiting;       /* commands that cannot be proposed or forwarded yet, in order */
    struct list pending;       /* proposed here, by index; all in one term */
    struct list forwarded;     /* sent to the leader, by link, in order of their ids */
    struct list reads_new;     /* to be asked for */
    struct list reads_asked;   /* read_group: in the core */
    struct list reads_indexed; /* read_group: index known, waiting for apply */
    struct list answered;      /* forwarded and answered, but was it the first? repeats.c */
    struct node_request *watched[NODE_WATCHED_BUCKETS]; /* by watch_hash */
    size_t watched_count;
    struct list transfers;
    struct list finished;   /* done() is due */
    size_t completions;     /* in this turn, */
    uint64_t completing_ns; /* and the time that they took */
    struct peer_stream_state streams[RAFT_MEMBERS_MAX];
    struct log_limit message_faults[RAFT_MEMBERS_MAX];
    struct log_limit snapshot_faults[RAFT_MEMBERS_MAX];
    struct log_limit room_news;  /* of the others' disks */
    struct log_limit state_news; /* of their checkpoints */
    uint64_t next_forward_id;
    uint64_t next_read_id;
    uint64_t next_order;
    uint64_t forward_retry_ns;
    uint64_t name_until_ns;  /* NODE_NAME_WAIT_NS after this node has stopped leading */
    uint64_t order_until_ns; /* NODE_ORDER_WAIT_NS after the last change of leader */
    uint64_t read_retry_ns;
    uint64_t expire_at_ns; /* lower bound of all expires_ns */
    uint64_t leaderless_since_ns;
    raft_term proposed_term;   /* when this node proposed last, */
    raft_index proposed_index; /* the last entry then, */
    uint64_t proposed_cost;    /* and the cost of all since it began; */
    uint64_t applied_cost;     /* of those that were applied */
    bool is_transfer_over;
    raft_member transfer_target; /* of the one that is tried */
    bool is_draining;
    bool is_drain_hopeless; /* nobody can take over, or leads any more */
    bool is_leader_leaving; /* the leader said so of itself */
    uint64_t quorum_seen_ns;
    bool is_eligible;
    bool is_last_resort;
    bool is_stalled;         /* apply has waited for room for NODE_STALL_NS, or the store is full */
    uint64_t full_since_ns;  /* 0: the overlay is not full */
    uint64_t leave_retry_ns; /* before leadership is offered again */
    bool is_diverged;
    bool is_outvoted;
    bool is_store_damaged;
    bool is_log_full;
    bool was_log_full;     /* as the core was told */
    uint64_t room_wanted;  /* what did not fit: the log is full until this does */
    bool is_majority_full; /* as it was when something was to be proposed last */
    bool was_not_fresh;
    bool has_forgotten; /* its leader says that it lacks what it had acknowledged */
    struct random random;
    bool is_changed;
    uint64_t drain_retry_ns;
    uint64_t mark_ns;          /* when to mark the log's end, if it is not marked */
    uint64_t maintain_ns;      /* not before: the log found no room for a segment */
    uint64_t missing_log_ns;   /* when to say again who is missing */
    uint64_t compact_at_ns;    /* when to look again whether the log can be cut, or */
    uint64_t compact_at_bytes; /* when it has grown to so much */
    uint64_t cut_retry_ns;     /* not before: the log was cut and still found no room */
    raft_index compacted_at;   /* what was applied when it was cut last */
    bool is_compaction_due;
    bool is_flush_asked;
    struct log_hold holds[RAFT_MEMBERS_MAX];
    struct raft_ready_read ready_reads[NODE_READY_READS_MAX]; /* since reads.c took them */
    size_t ready_read_count;
    uint32_t snapshot_wanted; /* by whom: a bit per member */
    struct snapshot_served served;
    bool is_making;
    uint64_t make_retry_ns;
    uint64_t snapshot_epoch;
    uint64_t snapshot_count;
    uint64_t snapshot_turn_ns;
    struct snapshot_sending sendings[RAFT_MEMBERS_MAX];
    struct snapshot_receiving receiving;
    /* Of each member, itself too; rings, by index / NODE_CHECKPOINT_ENTRIES. */
    struct checkpoint checkpoints[RAFT_MEMBERS_MAX][NODE_CHECKPOINTS_MAX];
    raft_index checkpoint_sent;

    uint64_t proposals_total;
    uint64_t proposals_pending;
    uint64_t proposals_failed;
    uint64_t reads_total;
    uint64_t leader_changes;
    uint64_t forwards_total;

    struct latency log_sync_latency;
    struct latency apply_latency;
    struct latency proposal_latency;

    char fatal[256];
    pthread_mutex_t status_lock;
    struct node_status status;
};

/* This node leads, or has leadership to give away. */
static inline bool node_leads(const struct node *node)
{
    return raft_can_propose(node->raft) != RAFT_PROPOSE_NOT_LEADER;
}

/* step.c */

/* One step and its effects. A message that no correct peer sends returns ERR_INVALID. */
int node_step(struct node *node, struct raft_event *event);
/* Sends what is durable, writes the log, sends the rest. At the end of a turn, and before the log
 * would have to take more than fits in one frame. */
void node_save(struct node *node);
/* Makes room in the log ahead of need. */
void node_maintain_log(struct node *node);
/* Marks the end of the log (wal_mark()) when that is due. */
void node_mark_log(struct node *node);
/* The cluster's id is that of the config, for the log and for the peers. */
void node_founded(struct node *node);
/* Resets what waits for a retry: another leader may take it at once. */
void node_leader_changed(struct node *node);
void node_set_fatal(struct node *node, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

/* inbox.c */

/* Any thread. One more request; false when there are too many, or too large ones. */
bool node_take_room(struct node *node, uint32_t command_size);
void node_give_room(struct node *node, uint32_t command_size);

/* leadership.c */

/* Follows what the core says of leader and term. */
void node_follow_leader(struct node *node);
/* Tells the core whether this node may campaign, when that has changed. */
void node_update_eligible(struct node *node);
/* Another member could lead. */
bool node_has_successor(const struct node *node);
void node_give_leadership_away(struct node *node);
/* Every turn: notices when the state machine has had no room for long. */
void node_look_for_stall(struct node *node);
/* Every turn: a leader that is not eligible hands over to a member that is ready. */
void node_leave_if_unfit(struct node *node);
/* Every turn: ends transfers that have succeeded or failed, and starts the next. They are tried one
 * after the other. */
void node_settle_transfers(struct node *node);

/* progress.c */

/* The highest commit index that this node knows of. */
raft_index node_known_commit(const struct node *node);
/* Every turn, after applying. */
void node_look_for_progress(struct node *node);

/* status.c */

/* Publishes a copy of the state, and calls on_change when it differs in what others ask for. */
void node_publish_status(struct node *node);

/* apply.c */

/* Applies what is committed, as far as this turn may. */
void node_apply(struct node *node);

/* drain.c */

/* Every turn; does nothing before node_drain(). */
void node_drain_turn(struct node *node);
/* While this node drains, the leader answered that it does, too, and has nobody to hand over to. */
void node_leader_leaves(struct node *node);

/* admission.c */

void node_admit(struct node *node, struct node_request *request);
/* Admits a command that is in no list, again or for the first time. */
void node_admit_command(struct node *node, struct node_request *request);
/* Puts a request that is in no list among those that wait for a leader, in the order in which they
 * came: one that comes back goes before those that came later. */
void node_wait_for_leader(struct node *node, struct node_request *request);
/* This node has stopped leading a moment ago, and the next leader's name is due. */
bool node_is_name_due(const struct node *node);
void node_start_transfer(struct node *node, raft_member target);

/* propose.c */

/* Proposes or forwards what waits, asks for read indexes. */
void node_push_requests(struct node *node);
/* When what waits may go at the earliest, as far as only time is missing: 0 is now, UINT64_MAX when
 * it is not a matter of time. */
uint64_t node_push_ns(const struct node *node);
/* The entry at `index` with `term` was applied with this result. */
void node_entry_applied(struct node *node, raft_index index, raft_term term,
                        const struct command_result *result);
/* A snapshot has taken the place of the entries up to `index`: nobody knows any more which. Those
 * behind it are gone. */
void node_drop_pending(struct node *node, raft_index index, raft_term term);

/* completion.c */

/* A request in one of the lists ends then at the latest: node_expire() must look. */
void node_note_expiry(struct node *node, uint64_t expires_ns);
void node_finish_request(struct node *node, struct node_request *request,
                         enum node_outcome outcome);
/* All of a list. */
void node_finish_requests(struct node *node, struct list *requests, enum node_outcome outcome);
/* Calls done() of what is finished, as far as this turn may. */
void node_complete(struct node *node);
/* Calls done() of all that is finished. */
void node_complete_all(struct node *node);

/* expiry.c */

/* Every turn: ends the requests whose time is over. */
void node_expire(struct node *node);

/* forward.c */

/* Forwards what waits, in order: a command never overtakes an earlier one of the same connection.
 */
void node_forward_waiting(struct node *node);
/* A stream from or to the peer ended: what was forwarded to it will not be answered. `unsent` (may
 * be NULL) never left. */
void node_peer_lost(struct node *node, raft_member peer, const struct peer_unsent *unsent);
void node_forward_request(struct node *node, raft_member from, const struct peer_message *message);
void node_forward_response(struct node *node, const struct peer_message *message);

/* watch.c */

/* It was forwarded: its entry is looked for until it ends. */
void node_watch_forward(struct node *node, struct node_request *request);
void node_unwatch_forward(struct node *node, struct node_request *request);
/* Where the requests of a hash are linked by watch_next. */
struct node_request **node_watch_bucket(struct node *node, uint32_t hash);

/* repeats.c */

/* An entry with this command was applied with this result. */
void node_note_stored(struct node *node, struct bytes data, raft_term term,
                      const struct command_result *result);
/* Ends a request whose entry was applied here. */
void node_finish_stored(struct node *node, struct node_request *request);
/* True: the answer in request->result, for the entry at `index`, waits until that is applied. */
bool node_keep_answer(struct node *node, struct node_request *request, raft_index index);
/* After entries were applied: ends what waited for them. */
void node_release_answers(struct node *node);

/* reads.c */

/* Asks for one read index for all of `reads_new`. */
void node_ask_read_index(struct node *node);
/* Takes the ready reads that node_step() has kept: their requests wait for apply, or to be asked
 * for again. */
void node_take_ready_reads(struct node *node);
/* Moves reads whose index is applied to `finished`, or all when nothing is applied any more. */
void node_release_reads(struct node *node);

/* log_room.c */

/* Room for a batch of the largest size, or for `command_bytes` if that is more. */
bool node_has_room_for_batch(struct node *node, uint64_t command_bytes);
/* Whether the others have. */
bool node_has_majority_room(struct node *node);
/* False: there is no room for the term that the message would have this node write down. If there
 * is none for its entries, they are taken out of it. */
bool node_has_room_for_message(struct node *node, struct raft_message *message);
/* Every turn: begins and ends the state of a full disk. */
void node_look_for_room(struct node *node);

/* checkpoint.c */

/* What is applied by now ends at a checkpoint. */
void node_take_checkpoint(struct node *node);
/* At the end of a turn: tells the others of those that were taken since the last call. */
void node_send_checkpoints(struct node *node);
void node_compare_checkpoint(struct node *node, raft_member from, const struct checkpoint *said);

/* compact.c */

/* At the end of a turn: cuts the log if that is due. */
void node_compact(struct node *node);
/* The disk is full: cuts at once what nobody needs, if nothing is staged. */
void node_cut_for_room(struct node *node, bool keeps_trailing);
/* Keeps the log behind `index` for a peer that makes progress, for a while. */
void node_hold_log(struct node *node, raft_member member, raft_index index, bool is_transfer);

/* snapshots.c */

/* An event about snapshots; true when it was taken and will be released. */
bool node_snapshot_event(struct node *node, struct peer_event *event);
/* Takes the job. */
void node_snapshot_job_done(struct node *node, struct node_job *job);

/* snapshot_send.c */

/* Every turn: begins and ends transfers. Returns when to call again at the latest. */
uint64_t node_snapshots_turn(struct node *node);
void node_snapshot_wants_chunk(struct node *node, const struct peer_event *event);
void node_snapshot_sending_ended(struct node *node, const struct peer_event *event);
void node_snapshot_made(struct node *node, struct node_job *job);
void node_snapshot_chunk_read(struct node *node, struct node_job *job);

/* snapshot_receive.c */

/* Take the event. */
void node_snapshot_offered(struct node *node, struct peer_event *event);
void node_snapshot_chunk_came(struct node *node, struct peer_event *event);
/* Leave it to the caller. */
void node_snapshot_receiving_lost(struct node *node, const struct peer_event *event);
void node_snapshot_taken_up(struct node *node, const struct node_job *job);
void node_snapshot_chunk_written(struct node *node, const struct node_job *job);
void node_snapshot_completed(struct node *node, struct node_job *job);

/* snapshot_jobs.c */

/* NULL when there is no memory. */
struct node_job *node_job_create(enum node_job_kind kind, raft_member peer, uint64_t epoch);
/* Hands the job to the thread that runs jobs. */
void node_submit_job(struct node *node, struct node_job *job);
/* Logs a fault of a transfer, with a limit for each peer. */
void node_warn_of_snapshot(struct node *node, raft_member peer, const char *what,
                           const char *reason);

/* membership_codec.c */

/* A CONFIG_CHANGE entry's data. Members are named, so that a log cannot be read by another
 * membership. */
void node_change_encode(const struct node *node, const struct raft_change *change, struct buf *out);
/* Errors: ERR_CORRUPT, ERR_VERSION, ERR_FOREIGN (names other members). */
int node_change_decode(const struct node *node, struct bytes data, struct raft_change *out);
/* The membership as the store keeps it. */
void node_config_encode(const struct node *node, const struct raft_config *config, struct buf *out);
int node_config_decode(const struct node *node, struct bytes data, struct raft_config *out);

#endif
