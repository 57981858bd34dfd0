/* Jobs about snapshots: copies, verifies, reads and writes them, outside the node's thread. */
#include "driver/snapshot_jobs.h"

#include "base/check.h"
#include "base/errors.h"
#include "base/log.h"
#include "driver/node_internal.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define VERIFY_ROWS 10000 /* rows between two checks of is_cancelled */

static void release_event(struct peer_event *event)
{
    if (event != NULL) {
        event->release(event);
    }
}

void node_job_destroy(struct node_job *job)
{
    if (job == NULL) {
        return;
    }
    switch (job->kind) {
    case NODE_JOB_MAKE:
        buf_finish(&job->make.manifest);
        break;
    case NODE_JOB_READ:
        buf_finish(&job->read.data);
        break;
    case NODE_JOB_RECEIVE:
        release_event(job->receive.event);
        break;
    case NODE_JOB_WRITE:
        release_event(job->write.event);
        break;
    case NODE_JOB_COMPLETE:
        if (job->complete.store != NULL) {
            job->complete.store->ops->close(job->complete.store);
        }
        break;
    case NODE_JOB_DROP:
    case NODE_JOB_FORGET:
        break;
    }
    free(job);
}

void node_files_init(struct node_files *files, struct data_dir *dir, struct chat *chat,
                     struct store_kind *store_kind)
{
    *files = (struct node_files){.dir = dir, .chat = chat, .store_kind = store_kind};
}

static void stop_serving(struct node_files *files)
{
    if (files->served_file != NULL) {
        files->dir->fs->ops->close(files->dir->fs, files->served_file);
        files->served_file = NULL;
        snapshot_manifest_finish(&files->served);
    }
}

static void stop_receiving(struct node_files *files)
{
    if (files->is_receiving) {
        snapshot_incoming_close(&files->incoming);
        files->is_receiving = false;
    }
}

void node_files_finish(struct node_files *files)
{
    stop_serving(files);
    stop_receiving(files);
}

void node_files_cancel(struct node_files *files)
{
    atomic_store(&files->is_cancelled, true);
    files->store_kind->cancel_copies(files->store_kind);
}

static int remove_file(struct fs *fs, const char *dir, const char *name)
{
    char path[PATH_MAX + 16];
    snprintf(path, sizeof(path), "%s/%s", dir, name);
    int rc = fs->ops->remove(fs, path);
    return rc == ERR_NOT_FOUND ? 0 : rc;
}

static int read_meta(struct store *store, struct store_meta *out)
{
    struct store_read *read;
    int rc = store->ops->read_begin(store, &read);
    if (rc == 0) {
        rc = store->ops->read_meta(read, out);
        store->ops->read_end(read);
    }
    return rc;
}

/* ---- sending ---- */

static int copy_store(struct node_files *files, const char *path)
{
    struct chat_backing *backing = chat_hold_store(files->chat);
    int rc = files->store_kind->copy(files->store_kind, chat_backing_store(backing), path);
    chat_release_store(files->chat, backing);
    return rc;
}

static int read_all_rows(struct node_files *files, struct store *store)
{
    bool is_done = false;
    int rc = 0;
    while (rc == 0 && !is_done) {
        bool is_cancelled = atomic_load(&files->is_cancelled);
        rc = is_cancelled ? ERR_CLOSED : files->store_kind->scrub(store, VERIFY_ROWS, &is_done);
    }
    return rc;
}

/* Reads the copy row by row before it is sent, so that damage does not spread. */
static int verify_copy(struct node_files *files, struct store_meta *meta, struct node_job *job)
{
    struct store *store = NULL;
    const struct store_place place = {.dir = files->dir->snapshots_path, .is_untrusted = true};
    int rc = files->store_kind->open(files->store_kind, &place, &store, job->reason,
                                     sizeof(job->reason));
    if (rc != 0) {
        return rc;
    }
    rc = read_all_rows(files, store);
    if (rc == 0) {
        rc = read_meta(store, meta);
    }
    store->ops->close(store);
    return rc;
}

static void describe(struct snapshot_manifest *manifest, uint64_t id, const struct store_meta *meta)
{
    *manifest = (struct snapshot_manifest){
        .id = id,
        .index = meta->applied_index,
        .term = meta->applied_term,
        .config_size = meta->config_size,
    };
    CHECK(meta->config_size <= sizeof(manifest->config));
    memcpy(manifest->cluster_id, meta->cluster_id, sizeof(manifest->cluster_id));
    memcpy(manifest->config, meta->config, meta->config_size);
}

static int make_file(struct node_files *files, struct node_job *job, const char *path)
{
    struct fs *fs = files->dir->fs;
    const char *dir = files->dir->snapshots_path;
    struct store_meta meta = {0};
    int rc = snapshot_clear_dir(fs, dir);
    if (rc == 0) {
        rc = fs->ops->make_dir(fs, dir);
    }
    if (rc == 0) {
        rc = copy_store(files, path);
    }
    if (rc == 0) {
        rc = verify_copy(files, &meta, job);
    }
    if (rc == 0) {
        rc = remove_file(fs, dir, "lock.mdb");
    }
    if (rc == 0) {
        describe(&files->served, job->make.id, &meta);
        rc = snapshot_manifest_measure(&files->served, fs, path);
    }
    return rc == 0 ? fs->ops->open(fs, path, FS_OPEN_READ, &files->served_file) : rc;
}

static int make(struct node_files *files, struct node_job *job)
{
    char path[PATH_MAX + 16];
    snprintf(path, sizeof(path), "%s/" SNAPSHOT_DATA_NAME, files->dir->snapshots_path);
    stop_serving(files);
    int rc = make_file(files, job, path);
    if (rc != 0) {
        snapshot_manifest_finish(&files->served);
        (void)snapshot_clear_dir(files->dir->fs, files->dir->snapshots_path);
        return rc;
    }
    snapshot_manifest_encode(&files->served, &job->make.manifest);
    job->make.index = files->served.index;
    job->make.bytes = files->served.size;
    job->make.chunk_count = files->served.chunk_count;
    return buf_failed(&job->make.manifest) ? ERR_NOMEM : 0;
}

static int read_chunk(struct node_files *files, struct node_job *job)
{
    if (files->served_file == NULL || files->served.id != job->read.id ||
        job->read.chunk >= files->served.chunk_count) {
        return ERR_NOT_FOUND;
    }
    void *room = buf_extend(&job->read.data, snapshot_chunk_bytes(&files->served, job->read.chunk));
    if (room == NULL) {
        return ERR_NOMEM;
    }
    return snapshot_read_chunk(&files->served, files->dir->fs, files->served_file, job->read.chunk,
                               room);
}

/* ---- receiving ---- */

static int receive(struct node_files *files, struct node_job *job)
{
    stop_receiving(files);
    int rc = snapshot_incoming_open(&files->incoming, files->dir->fs, files->dir->incoming_path,
                                    job->receive.event->snapshot_offer.manifest);
    files->is_receiving = rc == 0;
    job->receive.next_chunk = files->incoming.next_chunk;
    return rc;
}

/* Deletes a file that is unusable: it cannot be resumed, and takes room. */
static void clear_incoming(struct node_files *files)
{
    stop_receiving(files);
    (void)snapshot_clear_dir(files->dir->fs, files->dir->incoming_path);
}

static int write_chunk(struct node_files *files, struct node_job *job)
{
    if (!files->is_receiving) {
        return ERR_CLOSED;
    }
    int rc = snapshot_incoming_write(&files->incoming, job->write.chunk,
                                     job->write.event->snapshot_chunk.data);
    /* After a failed sync, the page cache may hold data that the disk does not. */
    if (rc == ERR_NO_SPACE || rc == ERR_IO) {
        clear_incoming(files);
    }
    return rc;
}

/* Checks that the store is what its manifest says. */
static int compare(const struct snapshot_manifest *manifest, struct store *store)
{
    struct store_meta meta;
    int rc = read_meta(store, &meta);
    if (rc != 0) {
        return rc;
    }
    bool is_same = meta.applied_index == manifest->index && meta.applied_term == manifest->term &&
                   meta.config_size == manifest->config_size &&
                   memcmp(meta.config, manifest->config, meta.config_size) == 0 &&
                   memcmp(meta.cluster_id, manifest->cluster_id, sizeof(meta.cluster_id)) == 0;
    return is_same ? 0 : ERR_CORRUPT;
}

static int complete(struct node_files *files, struct node_job *job)
{
    if (!files->is_receiving) {
        return ERR_CLOSED;
    }
    const char *dir = files->dir->incoming_path;
    int rc = snapshot_incoming_complete(&files->incoming);
    if (rc == 0) {
        /* The previously received store may still use its file. */
        rc = remove_file(files->dir->fs, dir, "lock.mdb");
    }
    if (rc == 0) {
        const struct store_place place = {
            .dir = dir, .home = files->dir->store_path, .is_untrusted = true};
        rc = files->store_kind->open(files->store_kind, &place, &job->complete.store, job->reason,
                                     sizeof(job->reason));
    }
    if (rc == 0) {
        rc = compare(&files->incoming.manifest, job->complete.store);
    }
    if (rc == 0) {
        stop_receiving(files);
        return 0;
    }
    if (job->complete.store != NULL) {
        job->complete.store->ops->close(job->complete.store);
        job->complete.store = NULL;
    }
    clear_incoming(files);
    return rc;
}

void node_job_run(struct node_files *files, struct node_job *job)
{
    switch (job->kind) {
    case NODE_JOB_MAKE:
        job->rc = make(files, job);
        break;
    case NODE_JOB_READ:
        job->rc = read_chunk(files, job);
        break;
    case NODE_JOB_DROP:
        stop_serving(files);
        job->rc = snapshot_clear_dir(files->dir->fs, files->dir->snapshots_path);
        break;
    case NODE_JOB_RECEIVE:
        job->rc = receive(files, job);
        break;
    case NODE_JOB_WRITE:
        job->rc = write_chunk(files, job);
        break;
    case NODE_JOB_COMPLETE:
        job->rc = complete(files, job);
        break;
    case NODE_JOB_FORGET:
        stop_receiving(files);
        break;
    }
    if (job->rc != 0 && job->reason[0] == '\0') {
        snprintf(job->reason, sizeof(job->reason), "%s", error_text(job->rc));
    }
}

/* ---- for the node's thread ---- */

struct node_job *node_job_create(enum node_job_kind kind, raft_member peer, uint64_t epoch)
{
    struct node_job *job = calloc(1, sizeof(*job));
    if (job != NULL) {
        list_init(&job->link);
        job->kind = kind;
        job->peer = peer;
        job->epoch = epoch;
    }
    return job;
}

void node_submit_job(struct node *node, struct node_job *job)
{
    node->options.submit_job(node->options.job_context, job);
}

/* The log lines are limited, because other nodes decide how often a fault occurs. */
void node_warn_of_snapshot(struct node *node, raft_member peer, const char *what,
                           const char *reason)
{
    char text[LOG_LIMIT_TEXT_BYTES];
    snprintf(text, sizeof(text), "%s: %s", what, reason);
    uint64_t suppressed;
    if (log_limit_passes(&node->snapshots.faults[peer], node->now_ns, text, &suppressed)) {
        log_warn("node", what, LOG_STR("peer", node->node_ids[peer]), LOG_STR("reason", reason),
                 LOG_U64("suppressed", suppressed));
    }
}
