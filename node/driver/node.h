/* The driver: turns events into raft_step() calls and does their effects on the log, the peers and
 * the state machine. It has no thread of its own: whoever owns it calls node_turn() whenever
 * options.wake asked for it or the deadline that the last turn gave has come. Everything outside is
 * a vtable, so the simulator runs the same code.
 *
 * The node's thread is whichever runs its turns.
 *
 * The path of a write: node_submit() -> inbox -> propose -> log (staged) -> peers, then
 * wal_commit() -> commit index -> chat_apply() -> request->done(). */
#ifndef RAFTOGRAM_NODE_H
#define RAFTOGRAM_NODE_H

#include "base/clock.h"
#include "base/cluster.h"
#include "base/latency.h"
#include "base/list.h"
#include "chat/chat.h"
#include "chat/command.h"
#include "peer/transport.h"
#include "raft/raft.h"
#include "storage/fs.h"
#include "storage/wal.h"

#include <stdbool.h>
#include <stdint.h>

#define NODE_LEADER_WAIT_NS (5 * NS_PER_S)   /* how long a forwarded request waits for a leader */
#define NODE_REQUEST_MAX_NS (10 * NS_PER_S)  /* no request waits longer */
#define NODE_REQUESTS_BYTES_MAX (128u << 20) /* of the commands of all requests that wait */

enum node_request_kind {
    NODE_REQUEST_COMMAND,  /* propose `command`; done when applied */
    NODE_REQUEST_READ,     /* ReadIndex barrier; done when chat_applied() has reached it */
    NODE_REQUEST_TRANSFER, /* give leadership to transfer_target */
};

/* How a request ended. Numbers are on the wire (ForwardResponse.code): never reused. */
enum node_outcome {
    NODE_OK = 0,
    NODE_NOT_LEADER = 1,     /* certainly not proposed or not applied */
    NODE_NO_QUORUM = 2,      /* no leader, or none that a quorum confirms; nothing was proposed */
    NODE_COMMIT_UNKNOWN = 3, /* proposed; whether it will be applied is not known */
    NODE_OVERLOADED = 4,     /* a bound was reached; nothing was proposed */
    NODE_DISK_FULL = 5,      /* nothing was proposed */
    NODE_DEADLINE = 6,       /* the caller's deadline passed */
    NODE_DRAINING = 7,       /* shutting down and nobody to forward to; nothing was proposed */
    /* 8 was CORRUPT, which nothing ever answered. */
    NODE_BAD_TARGET = 9,    /* TRANSFER: no such member, or not fit to lead */
    NODE_STANDS_STILL = 10, /* READ: this node does not get what is committed; another may */
    NODE_FORMAT_TOO_NEW =
        11, /* not all members are known to understand the command; nothing was proposed */
};

/* Commands of which none is proposed after one that has failed, whether it was refused or its
 * result is not COMMAND_OK. The caller's memory, zeroed; it must outlive its requests. */
struct node_chain {
    bool is_broken; /* the node's thread */
};

/* The caller's memory, untouched by the caller from node_submit() until done(). */
struct node_request {
    /* In. */
    enum node_request_kind kind;
    uint64_t deadline_ns; /* monotonic; UINT64_MAX: NODE_REQUEST_MAX_NS from now */
    bool may_forward;     /* COMMAND: a follower sends it to the leader */
    bool may_repeat;      /* COMMAND: applying it twice is harmless (it has a client message id) */
    bool is_leader_only;  /* READ: NODE_NOT_LEADER elsewhere, NODE_NO_QUORUM at once on failure */
    uint8_t *command;     /* COMMAND: encoded; stamped in place; must outlive the request */
    uint32_t command_size;
    struct node_chain *chain; /* COMMAND: NULL, or refused with NODE_NOT_LEADER once it is broken */
    raft_member transfer_target;
    /* Exactly once, on the node's thread (or in node_submit's, never). The views in `result` are
     * valid during the call. */
    void (*done)(struct node_request *request);
    /* Out. */
    bool was_leader; /* READ: this node led when the request came */
    enum node_outcome outcome;
    struct command_result result;
    raft_member leader; /* NOT_LEADER: who leads now, as far as is known */
    /* FORMAT_TOO_NEW: a member that is not known to understand the command; RAFT_NO_MEMBER: the
     * leader has refused it. */
    raft_member lagging;

    /* The node's own. */
    struct list link;
    uint64_t order; /* in which it came */
    uint64_t submitted_ns;
    uint64_t expires_ns;
    raft_index index;
    raft_term term;
    struct buf result_text;   /* keeps the views of `result` */
    struct buf stored_result; /* is_stored: the encoded result of its entry */
    uint64_t forward_id;
    raft_member forward_peer;
    bool has_caller_deadline;
    uint64_t proposed_cost; /* of all that was proposed up to it */
    bool is_unsure;         /* sent to a leader that was lost: it may be applied without us */
    bool is_watched;        /* forwarded: this node looks for its entry (repeats.c) */
    bool is_stored;         /* and has applied it: */
    uint32_t watch_hash;
    struct node_request *watch_next;
    raft_term forward_term; /* when it was forwarded first */
    int64_t came_wall_ms;
};

struct node_job;
struct data_dir;

struct node_options {
    const struct cluster_member *members; /* sorted by node id bytewise; copied */
    int member_count;
    raft_member self;
    uint64_t election_timeout_ns;
    uint64_t heartbeat_interval_ns;
    uint32_t requests_max; /* waiting and pending together; more are OVERLOADED */
    uint64_t seed;         /* another one in each process */
    const struct clock *clock;
    /* Any thread, also in the middle of a turn: there is something for another one. May be NULL for
     * an owner who knows. */
    void (*wake)(void *context);
    void *wake_context;
    struct wal *wal;   /* open and clean; the caller's */
    struct chat *chat; /* the caller's; chat_durable_applied() within the log */
    uint8_t new_cluster_id[CLUSTER_ID_BYTES];
    /* Compaction: every interval, and when the log has grown by 64 MiB, if at least `threshold`
     * entries were applied since the last, the log is cut but for the newest `trailing_logs`, and
     * never behind what the store has durably. Interval 0: never. */
    uint64_t snapshot_interval_ns;
    uint64_t snapshot_threshold;
    uint64_t trailing_logs;
    /* Asks for a flush of all that is applied, on the store thread; node_wake() when it is done.
     * May be NULL. */
    void (*flush_store)(void *context);
    void *flush_store_context;
    /* Snapshots. Takes the job, and brings it back by node_post_job() when node_job_run() has done
     * it, in order. NULL: this node neither sends nor receives any. */
    void (*submit_job)(void *context, struct node_job *job);
    void *job_context;
    struct data_dir *data_dir; /* the caller's; where snapshots are installed */
    /* Called on the node's thread when role, leader, quorum or readiness changed; may be NULL. */
    void (*on_change)(void *context);
    void *on_change_context;
};

struct node;

/* The log must hold what the store has not, and agree with it where they meet. Errors: ERR_CORRUPT:
 * they do not fit together, and `error` gets one line. */
int node_check_fit(const struct wal *wal, const struct chat *chat, char *error, size_t error_size);

/* Errors: ERR_NOMEM, ERR_CORRUPT (as node_check_fit()),
 * ERR_FOREIGN (the log belongs to another membership). `error` gets one line. */
int node_create(const struct node_options *options, struct node **out, char *error,
                size_t error_size);
/* Before the first turn. The transport must outlive the node's last turn. */
void node_attach(struct node *node, struct transport *transport);
/* All requests must be done (node_fail_all()). Accepts NULL. */
void node_destroy(struct node *node);

/* One turn. Returns when to call again at the latest (monotonic ns; UINT64_MAX: only when
 * woken). After a fatal error (a failed log write or sync, an unreadable store) node_fatal()
 * tells, and the process must end without another turn. */
uint64_t node_turn(struct node *node, uint64_t now_ns);
/* NULL while all is well, else one line. */
const char *node_fatal(const struct node *node);

/* Any thread. Errors: ERR_FULL (requests_max, NODE_REQUESTS_BYTES_MAX), ERR_CLOSED: then done() is
 * not called. */
int node_submit(struct node *node, struct node_request *request);
/* Any thread: for struct peer_receiver. Takes the event. */
void node_post_event(struct node *node, struct peer_event *event);
/* Any thread: a job that was submitted is done. Takes it. */
void node_post_job(struct node *node, struct node_job *job);
/* Any thread: asks for a turn. */
void node_wake(struct node *node);

/* Any thread: the store can(not) take what is applied, for lack of space. Writes that find no room
 * behind it get NODE_DISK_FULL instead of NODE_OVERLOADED. */
void node_set_store_full(struct node *node, bool is_full);

/* Any thread. Hands leadership over; what was accepted before completes; later writes get
 * NODE_NOT_LEADER (or NODE_DRAINING with nobody to lead). */
void node_drain(struct node *node);
/* Any thread: draining, not the leader any more (or nobody can take over), nothing pending. */
bool node_is_drained(const struct node *node);
/* Any thread: draining, and nobody can take over, or leads any more: all nodes are stopped at once,
 * or most are gone. There is no leader to name to late clients. */
bool node_is_hopeless(const struct node *node);
/* Any thread. From now on nothing is forwarded: commands get NODE_NOT_LEADER. */
void node_end_forwarding(struct node *node);
/* Node thread, after the last turn, or when only those of a daemon that leaves follow: ends every
 * request (NODE_COMMIT_UNKNOWN if proposed, else NODE_DRAINING), and takes no more. */
void node_fail_all(struct node *node);
/* Node thread: most nodes have applied the same, and this one something else. What it has is not to
 * be trusted; the caller sees to it that the next start throws it away, and ends the process. */
bool node_is_outvoted(const struct node *node);

/* Node thread: the store is damaged. Not ready, not to lead; the caller will end the process. */
void node_set_damaged(struct node *node);

/* A copy of the node's state as of its last turn. Any thread. */
struct node_status {
    struct raft_status raft;
    uint8_t cluster_id[CLUSTER_ID_BYTES]; /* all zero: not founded */
    uint64_t taken_ns;
    raft_index first_index;
    raft_index applied_index;
    raft_index durable_applied_index;
    raft_index snapshot_index;    /* the log before it is gone; 0: nothing is */
    uint64_t leaderless_since_ns; /* no leader known since then; 0 while one is */
    /* applied_index has not moved since then although more is known to be committed, up to
     * known_commit; 0 while all of it is applied. */
    uint64_t still_since_ns;
    raft_index known_commit;
    bool is_standing_still; /* for so long that it is not ready and takes no reads */
    bool is_ready; /* a leader is known, this node has caught up with it, and it is not draining */
    bool is_caught_up;
    bool is_draining;
    bool is_store_damaged;
    bool is_diverged;   /* applied something else than the leader, unless most agree with it */
    bool is_log_full;   /* no room on the disk */
    bool is_store_full; /* no room on the disk, or store_size is reached */
    uint64_t requests_pending;  /* of every kind */
    uint64_t proposals_pending; /* commands, forwarded ones among them */
    uint64_t proposals_total;
    uint64_t proposals_failed;
    uint64_t requests_total; /* of every kind, however they ended */
    uint64_t reads_total;    /* served */
    uint64_t leader_changes;
    uint64_t forwards_total;
    uint64_t log_bytes;
    struct wal_stats wal;
};
void node_get_status(const struct node *node, struct node_status *out);

struct node_latencies {
    struct latency_counts log_sync; /* one synchronous write of the log */
    struct latency_counts apply;    /* one batch of entries, NODE_APPLY_BATCH_MAX at most */
    struct latency_counts proposal; /* from a command's arrival here to its success */
};
/* Any thread. */
void node_get_latencies(const struct node *node, struct node_latencies *out);

#endif
