/* Snapshots: sending and receiving. Long steps are jobs (snapshot_jobs.h). */
#ifndef RAFTOGRAM_DRIVER_SNAPSHOTS_H
#define RAFTOGRAM_DRIVER_SNAPSHOTS_H

#include "base/log_limit.h"
#include "driver/node.h"
#include "driver/snapshot_jobs.h"

#define NODE_SNAPSHOT_RETRY_NS (500 * NS_PER_MS)
#define NODE_SNAPSHOT_REFUSED_NS (5 * NS_PER_S)    /* pause after a refused transfer */
#define NODE_SNAPSHOT_STALL_NS (60 * NS_PER_S)     /* limit of a transfer without progress */
#define NODE_SNAPSHOT_INSTALL_NS (1800 * NS_PER_S) /* limit of verifying and opening a snapshot */
#define NODE_SNAPSHOT_KEPT_NS (300 * NS_PER_S)     /* how long an unused snapshot is kept */

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
    bool is_active; /* the transport has yet to report the end */
    uint64_t epoch;
    uint64_t id;
    uint32_t chunk;    /* last chunk that the peer asked for */
    uint32_t failures; /* consecutive failures before the first chunk */
    uint64_t progress_ns;
    uint64_t retry_ns;
};

struct snapshot_receiving {
    bool is_active;
    bool is_completing; /* all chunks have arrived; it is verified and then installed */
    raft_member from;
    uint64_t epoch;
    raft_index index;
    raft_term term;
    uint32_t chunk_count;
    struct raft_config config;
};

struct node_snapshots {
    struct log_limit faults[CLUSTER_MEMBERS_MAX]; /* snapshot_jobs.c */
    /* snapshot_send.c */
    struct snapshot_served served;
    bool is_making;
    uint64_t make_retry_ns;
    uint64_t epoch;
    uint64_t count;
    uint64_t turn_ns; /* when node_snapshots_turn() is due at the latest */
    struct snapshot_sending sendings[CLUSTER_MEMBERS_MAX];
    /* snapshot_receive.c */
    struct snapshot_receiving receiving;
};

/* Handles an event about snapshots. Returns true if it took ownership. */
bool node_snapshot_event(struct node *node, struct peer_event *event);
/* Handles a finished job. Takes ownership. */
void node_snapshot_job_done(struct node *node, struct node_job *job);

/* ---- snapshot_send.c ---- */

void node_snapshots_finish(struct node *node);
/* Begins and ends transfers. Called every turn. */
void node_snapshots_turn(struct node *node);
void node_snapshot_wants_chunk(struct node *node, const struct peer_event *event);
void node_snapshot_sending_ended(struct node *node, const struct peer_event *event);
void node_snapshot_made(struct node *node, struct node_job *job);
void node_snapshot_chunk_read(struct node *node, struct node_job *job);

/* ---- snapshot_receive.c ---- */

/* These take ownership of the event. */
void node_snapshot_offered(struct node *node, struct peer_event *event);
void node_snapshot_chunk_came(struct node *node, struct peer_event *event);
/* These leave the event to the caller. */
void node_snapshot_receiving_lost(struct node *node, const struct peer_event *event);
void node_snapshot_taken_up(struct node *node, const struct node_job *job);
void node_snapshot_chunk_written(struct node *node, const struct node_job *job);
void node_snapshot_completed(struct node *node, struct node_job *job);

/* ---- snapshot_jobs.c ---- */

/* Returns NULL if there is no memory. */
struct node_job *node_job_create(enum node_job_kind kind, raft_member peer, uint64_t epoch);
/* Hands the job to the thread that runs jobs. */
void node_submit_job(struct node *node, struct node_job *job);
/* Logs a fault of a transfer, with a limit for each peer. */
void node_warn_of_snapshot(struct node *node, raft_member peer, const char *what,
                           const char *reason);

#endif
