/* What the driver has done outside its thread: all about snapshots that touches the disk for long.
 * A job is one step; node_job_run() does it, on a thread that runs one after the other (the
 * simulator runs them inline), and node_post_job() brings the result back. */
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
    NODE_JOB_MAKE,     /* copies the store, verifies the copy, describes it; it is served then */
    NODE_JOB_READ,     /* a chunk of the snapshot that is served */
    NODE_JOB_DROP,     /* serves it no more */
    NODE_JOB_RECEIVE,  /* begins to receive, or goes on where it ended */
    NODE_JOB_WRITE,    /* a chunk of it */
    NODE_JOB_COMPLETE, /* verifies all of it and opens it as a store */
    NODE_JOB_FORGET,   /* receives no more; what has come is kept */
};

struct node_job {
    struct list link;
    enum node_job_kind kind;
    raft_member peer;
    uint64_t epoch;
    /* Out. */
    int rc;
    char reason[PEER_REASON_BYTES_MAX]; /* on error; may be empty */
    /* By `kind`; DROP and FORGET have nothing. */
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
            struct peer_event *event; /* has the manifest; the driver's to release */
            uint32_t next_chunk;      /* out: the first chunk that is missing */
        } receive;
        struct {
            struct peer_event *event; /* has the data; the driver's to release */
            uint32_t chunk;
        } write;
        struct {
            struct store *store; /* out; the caller's to close or to pass on */
        } complete;
    };
};

/* Frees it with all that it holds but what has been set to NULL. */
void node_job_destroy(struct node_job *job);

/* The snapshots of a data_dir: the thread's that runs the jobs. */
struct node_files {
    struct data_dir *dir;
    struct chat *chat;
    struct store_kind *store_kind;
    atomic_bool is_cancelled;
    struct snapshot_manifest served;
    struct fs_file *served_file; /* NULL: none is served */
    struct snapshot_incoming incoming;
    bool is_receiving;
};

void node_files_init(struct node_files *files, struct data_dir *dir, struct chat *chat,
                     struct store_kind *store_kind);
void node_files_finish(struct node_files *files);
/* Soon ends the job that runs, if it copies or verifies a store, and every later one: before the
 * process ends. Any thread. */
void node_files_cancel(struct node_files *files);
void node_job_run(struct node_files *files, struct node_job *job);

#endif
