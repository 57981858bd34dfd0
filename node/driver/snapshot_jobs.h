/* Jobs that the driver runs outside its thread: all work on snapshots that may wait long for the
 * disk. A job is one step. node_job_run() does it, on a thread that runs one job after the other
 * (the simulator runs them inline). node_post_job() returns the result. */
#ifndef RAFTOGRAM_SNAPSHOT_JOBS_H
#define RAFTOGRAM_SNAPSHOT_JOBS_H

#include "base/list.h"
#include "chat/chat.h"
#include "peer/transport.h"
#include "storage/data_dir.h"
#include "storage/snapshot.h"
#include "store/store.h"

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

enum node_job_kind {
    NODE_JOB_MAKE,     /* copies the store, verifies and describes the copy, which is then served */
    NODE_JOB_READ,     /* reads a chunk of the served snapshot */
    NODE_JOB_DROP,     /* stops serving it */
    NODE_JOB_RECEIVE,  /* begins to receive a snapshot, or resumes */
    NODE_JOB_WRITE,    /* writes a chunk of it */
    NODE_JOB_COMPLETE, /* verifies all of it and opens it as a store */
    NODE_JOB_FORGET,   /* stops receiving; what has arrived is kept */
};

struct node_job {
    struct list link;
    enum node_job_kind kind;
    raft_member peer;
    uint64_t epoch;
    /* Out. */
    int rc;
    char reason[PEER_REASON_BYTES_MAX]; /* on error; may be empty */
    /* By `kind`; DROP and FORGET have no fields. */
    union {
        struct {
            uint64_t id; /* of the snapshot */
            /* Out: the manifest, the snapshot's index, and the size of the file. */
            struct buf manifest;
            uint64_t index;
            uint64_t bytes;
            uint32_t chunk_count;
        } make;
        struct {
            uint64_t id;
            uint32_t chunk;
            struct buf data; /* out */
        } read;
        struct {
            struct peer_event *event; /* holds the manifest; the driver releases it */
            uint32_t next_chunk;      /* out: the first chunk that is missing */
        } receive;
        struct {
            struct peer_event *event; /* holds the data; the driver releases it */
            uint32_t chunk;
        } write;
        struct {
            struct store *store; /* out; the caller owns it */
        } complete;
    };
};

/* Frees the job and everything that it still holds; a taken field is set to NULL before. */
void node_job_destroy(struct node_job *job);

/* The snapshot files of a data_dir. They belong to the thread that runs the jobs. */
struct node_files {
    struct data_dir *dir;
    struct chat *chat;
    struct store_kind *store_kind;
    atomic_bool is_cancelled;
    struct snapshot_manifest served;
    struct fs_file *served_file; /* NULL: no snapshot is served */
    struct snapshot_incoming incoming;
    bool is_receiving;
};

void node_files_init(struct node_files *files, struct data_dir *dir, struct chat *chat,
                     struct store_kind *store_kind);
void node_files_finish(struct node_files *files);
/* Cancels the running job, if it copies or verifies a store, and every later one, before the
 * process ends. Any thread. */
void node_files_cancel(struct node_files *files);
void node_job_run(struct node_files *files, struct node_job *job);

#endif
