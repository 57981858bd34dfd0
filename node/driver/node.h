/* The driver: turns events into raft_step() calls and carries out their effects on the log, the
 * peers and the state machine. It has no thread of its own. Its owner calls node_turn() when
 * options.wake asked for it, or when the deadline returned by the last turn has passed. Everything
 * outside is behind a vtable, so the simulator runs the same code.
 *
 * The node's thread is the thread that runs its turns.
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

/* Limit of the wait of a forwarded request for a leader. */
#define NODE_LEADER_WAIT_NS (5 * NS_PER_S)
#define NODE_REQUEST_MAX_NS (10 * NS_PER_S)  /* limit of the wait of every request */
#define NODE_REQUESTS_BYTES_MAX (128u << 20) /* limit of the commands of all open requests */

enum node_request_kind {
    NODE_REQUEST_COMMAND,  /* propose `command`; done when applied */
    NODE_REQUEST_READ,     /* ReadIndex barrier; done when chat_applied() has reached it */
    NODE_REQUEST_TRANSFER, /* transfer leadership to transfer_target */
};

/* The outcome of a request. The numbers are on the wire (ForwardResponse.code) and are never
 * reused. */
enum node_outcome {
    NODE_OK = 0,
    NODE_NOT_LEADER = 1,     /* certainly not proposed or not applied */
    NODE_NO_QUORUM = 2,      /* no leader that a quorum confirms; nothing was proposed */
    NODE_COMMIT_UNKNOWN = 3, /* proposed; whether it will be applied is unknown */
    NODE_OVERLOADED = 4,     /* a limit was reached; nothing was proposed */
    NODE_DISK_FULL = 5,      /* nothing was proposed */
    NODE_DEADLINE = 6,       /* the caller's deadline passed */
    NODE_DRAINING = 7,       /* shutting down, and no node to forward to; nothing was proposed */
    /* 8 was CORRUPT, which was never sent. */
    NODE_BAD_TARGET = 9,    /* TRANSFER: no such member, or not fit to lead */
    NODE_STANDS_STILL = 10, /* READ: this node does not get committed entries; another node may */
    NODE_FORMAT_TOO_NEW =
        11, /* not all members are known to understand the command; nothing was proposed */
};

/* Commands of which none is proposed after one that has failed, whether it was refused or its
 * result is not COMMAND_OK. The caller's memory, zeroed; it must outlive its requests. */
struct node_chain {
    bool is_broken; /* the node's thread */
};

/* A request. The memory is the caller's, who leaves it untouched from node_submit() until done().
 */
struct node_request {
    /* In. */
    enum node_request_kind kind;
    uint64_t deadline_ns; /* monotonic; UINT64_MAX: NODE_REQUEST_MAX_NS from now */
    bool may_forward;     /* COMMAND: a follower sends it to the leader */
    bool may_repeat;      /* COMMAND: applying it twice is harmless (it has a client message id) */
    /* READ: a follower answers NODE_NOT_LEADER; a failure is NODE_NO_QUORUM at once */
    bool is_leader_only;
    /* COMMAND: encoded; the leader stamps it in place; must outlive the request */
    uint8_t *command;
    uint32_t command_size;
    struct node_chain *chain; /* COMMAND: NULL, or refused with NODE_NOT_LEADER once it is broken */
    raft_member transfer_target;
    /* Runs exactly once on the node's thread, never inside node_submit(). Views in `result` are
     * valid during the call. */
    void (*done)(struct node_request *request);
    /* Out. */
    bool was_leader; /* READ: this node led when the request arrived */
    enum node_outcome outcome;
    struct command_result result;
    raft_member leader; /* NOT_LEADER: the leader, or RAFT_NO_MEMBER if unknown */
    /* FORMAT_TOO_NEW: a member that is not known to understand the command; RAFT_NO_MEMBER: the
     * leader has refused it. */
    raft_member lagging;

    /* Private to the driver. */
    struct list link;
    uint64_t order; /* order of arrival */
    uint64_t submitted_ns;
    uint64_t expires_ns;
    raft_index index;
    raft_term term;
    struct buf result_text;   /* memory of the views in `result` */
    struct buf stored_result; /* is_stored: the encoded result of its entry */
    uint64_t forward_id;
    raft_member forward_peer;
    bool has_caller_deadline;
    uint64_t proposed_cost; /* cost of everything proposed up to this request */
    bool is_unsure;         /* sent to a leader that was lost; it may have been applied */
    bool is_watched;        /* forwarded; this node looks for its entry (repeats.c) */
    bool is_stored;         /* its entry was applied here: */
    uint32_t watch_hash;
    struct node_request *watch_next;
    raft_term forward_term; /* term of the first forward */
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
    uint32_t requests_max; /* limit of open requests; more are OVERLOADED */
    uint64_t seed;         /* must differ between processes */
    const struct clock *clock;
    /* Asks the owner for a turn. Called on any thread, also during a turn. NULL if the owner needs
     * no request. */
    void (*wake)(void *context);
    void *wake_context;
    struct wal *wal;   /* open and clean; the caller's */
    struct chat *chat; /* the caller's; the log must reach chat_durable_applied() */
    uint8_t new_cluster_id[CLUSTER_ID_BYTES];
    /* Compaction is checked every interval, and when the log has grown by 64 MiB. If at least
     * `threshold` entries were applied since the last one, the log is cut except for its newest
     * `trailing_logs` entries, and never beyond durable_applied. Interval 0: never. */
    uint64_t snapshot_interval_ns;
    uint64_t snapshot_threshold;
    uint64_t trailing_logs;
    /* Asks the store thread for a flush of the applied state; it calls node_wake() afterwards. May
     * be NULL. */
    void (*flush_store)(void *context);
    void *flush_store_context;
    /* Takes ownership of a job of a snapshot, runs node_job_run() in the order of submission, and
     * returns the job by node_post_job(). NULL: this node neither sends nor receives snapshots. */
    void (*submit_job)(void *context, struct node_job *job);
    void *job_context;
    struct data_dir *data_dir; /* the caller's; where snapshots are installed */
    /* Called on the node's thread when role, leader, quorum or readiness has changed. May be NULL.
     */
    void (*on_change)(void *context);
    void *on_change_context;
};

struct node;

/* Checks that the log holds every entry after durable_applied and agrees with the store.
 * Errors: ERR_CORRUPT (they do not fit together; `error` gets one line). */
int node_check_fit(const struct wal *wal, const struct chat *chat, char *error, size_t error_size);

/* Creates a node. On error `error` gets one line.
 * Errors: ERR_NOMEM, ERR_CORRUPT (as node_check_fit()), ERR_FOREIGN (the log belongs to another
 * membership). */
int node_create(const struct node_options *options, struct node **out, char *error,
                size_t error_size);
/* Sets the transport, before the first turn. It must outlive the last turn. */
void node_attach(struct node *node, struct transport *transport);
/* Frees the node. All requests must have ended (node_fail_all()). Accepts NULL. */
void node_destroy(struct node *node);

/* Runs one turn. Returns the monotonic time of the next call at the latest; UINT64_MAX: only when
 * woken. After a fatal error (a failed write or sync of the log, an unreadable store), node_fatal()
 * returns the reason, and the process must end without another turn. */
uint64_t node_turn(struct node *node, uint64_t now_ns);
/* Returns NULL, or one line about the fatal error. */
const char *node_fatal(const struct node *node);

/* Submits a request. Any thread. On error done() is not called.
 * Errors: ERR_FULL (requests_max or NODE_REQUESTS_BYTES_MAX is reached), ERR_CLOSED. */
int node_submit(struct node *node, struct node_request *request);
/* Posts an event; for struct peer_receiver. Takes ownership. Any thread. */
void node_post_event(struct node *node, struct peer_event *event);
/* Returns a job after node_job_run(). Takes ownership. Any thread. */
void node_post_job(struct node *node, struct node_job *job);
/* Asks for a turn. Any thread. */
void node_wake(struct node *node);

/* Reports whether the store has room. Any thread. While it has none, writes without room get
 * NODE_DISK_FULL instead of NODE_OVERLOADED. */
void node_set_store_full(struct node *node, bool is_full);

/* Starts draining. Any thread. Leadership is handed over, and accepted requests complete. Later
 * writes get NODE_NOT_LEADER, or NODE_DRAINING if no node leads. */
void node_drain(struct node *node);
/* True if the node has drained: it does not lead (or no node can take over) and nothing is pending.
 * Any thread. */
bool node_is_drained(const struct node *node);
/* True if the node drains and no node leads or can take over: all nodes are stopped at once, or
 * most are gone. No leader can be named to clients then. Any thread. */
bool node_is_hopeless(const struct node *node);
/* Stops forwarding: commands get NODE_NOT_LEADER from now on. Any thread. */
void node_end_forwarding(struct node *node);
/* Ends every request (NODE_COMMIT_UNKNOWN if proposed, else NODE_DRAINING) and refuses later ones.
 * Node's thread, at the end of the daemon. */
void node_fail_all(struct node *node);
/* True if most nodes agree with each other and disagree with this one. The caller ends the process,
 * and makes the next start discard the state. Node's thread. */
bool node_is_outvoted(const struct node *node);

/* Reports a damaged store. The node is not ready and may not lead; the caller ends the process.
 * Node's thread. */
void node_set_damaged(struct node *node);

/* A copy of the node's state as of its last turn. */
struct node_status {
    struct raft_status raft;
    uint8_t cluster_id[CLUSTER_ID_BYTES]; /* all zero: not founded */
    uint64_t taken_ns;
    raft_index first_index;
    raft_index applied_index;
    raft_index durable_applied_index;
    raft_index snapshot_index;    /* last index that was compacted away; 0: none */
    uint64_t leaderless_since_ns; /* time since which no leader is known; 0 while one is */
    /* Time since which applied_index has not moved although known_commit is larger; 0 while
     * everything known to be committed is applied. */
    uint64_t still_since_ns;
    raft_index known_commit;
    bool is_standing_still; /* for NODE_STILL_TIMEOUTS: it is not ready and refuses reads */
    bool is_ready;          /* a leader is known; this node has caught up and is not draining */
    bool is_caught_up;
    bool is_draining;
    bool is_store_damaged;
    bool is_diverged;   /* its state differs from the leader's, and no majority agrees with it */
    bool is_log_full;   /* no room on the disk */
    bool is_store_full; /* no room on the disk, or store_size is reached */
    uint64_t requests_pending;  /* of every kind */
    uint64_t proposals_pending; /* commands, forwarded ones among them */
    uint64_t proposals_total;
    uint64_t proposals_failed;
    uint64_t requests_total; /* of every kind and outcome */
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
