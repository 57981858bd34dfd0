/* Receives a snapshot from the leader and installs it. Long steps are jobs (snapshot_jobs.h). */
#include "base/check.h"
#include "base/errors.h"
#include "base/log.h"
#include "driver/node_internal.h"

#include <string.h>

static const struct transport_ops *ops(const struct node *node)
{
    return node->transport->ops;
}

static const char *name_of(const struct node *node, raft_member member)
{
    return node->node_ids[member];
}

static void answer(struct node *node, raft_member from, uint64_t epoch, enum peer_snapshot_end end,
                   const char *reason)
{
    const struct peer_snapshot_answer over = {.is_over = true, .end = end, .reason = reason};
    ops(node)->snapshot_answer(node->transport, from, epoch, &over);
}

/* Ends the transfer that is being received, and sends the reason to the sender. */
static void stop_receiving(struct node *node, enum peer_snapshot_end end, const char *reason)
{
    struct snapshot_receiving *receiving = &node->snapshots.receiving;
    receiving->is_active = false;
    answer(node, receiving->from, receiving->epoch, end, reason);
    if (end != PEER_SNAPSHOT_DONE) {
        node_warn_of_snapshot(node, receiving->from, "a snapshot is not received", reason);
    }
}

/* Returns NULL if the snapshot may be received, else the reason. `end` says whether a later attempt
 * may succeed. */
static const char *find_fault(struct node *node, const struct peer_event *event,
                              const struct snapshot_manifest *manifest, struct raft_config *config,
                              enum peer_snapshot_end *end)
{
    struct raft_status status;
    raft_get_status(node->raft, node->now_ns, &status);
    const uint8_t *own = wal_hard_state(node->wal)->cluster_id;
    *end = PEER_SNAPSHOT_BROKEN;
    /* A leader sends a snapshot only to a node that has answered it in this term. */
    if (event->snapshot_offer.term != status.term || status.leader != event->peer) {
        return "its sender is not the leader";
    }
    if (node->snapshots.receiving.is_active && node->snapshots.receiving.is_completing) {
        return "another snapshot is being installed";
    }
    *end = PEER_SNAPSHOT_REFUSED;
    if (cluster_id_is_set(own) && memcmp(own, manifest->cluster_id, CLUSTER_ID_BYTES) != 0) {
        return "the snapshot is of another cluster";
    }
    struct bytes members = {manifest->config, manifest->config_size};
    int rc = node_config_decode(node, members, config);
    if (rc != 0 || manifest->term > event->snapshot_offer.term ||
        manifest->index > RAFT_INDEX_MAX) {
        return rc == ERR_FOREIGN ? "the snapshot names other members" : "the snapshot is malformed";
    }
    *end = PEER_SNAPSHOT_DONE;
    bool is_needed =
        raft_can_install(node->raft, manifest->index, manifest->term) == RAFT_INSTALL_RESET_LOG;
    return is_needed ? NULL : "this node already has it";
}

static void begin_receiving(struct node *node, struct peer_event *event,
                            const struct snapshot_manifest *manifest,
                            const struct raft_config *config)
{
    struct node_job *job = node_job_create(NODE_JOB_RECEIVE, event->peer, event->epoch);
    if (job == NULL) {
        answer(node, event->peer, event->epoch, PEER_SNAPSHOT_BROKEN, "out of memory");
        event->release(event);
        return;
    }
    if (node->snapshots.receiving.is_active) {
        stop_receiving(node, PEER_SNAPSHOT_BROKEN, "another snapshot came");
    }
    node->snapshots.receiving = (struct snapshot_receiving){
        .is_active = true,
        .from = event->peer,
        .epoch = event->epoch,
        .index = manifest->index,
        .term = manifest->term,
        .chunk_count = manifest->chunk_count,
        .config = *config,
    };
    log_info("node", "receiving a snapshot", LOG_STR("peer", name_of(node, event->peer)),
             LOG_U64("index", manifest->index), LOG_U64("bytes", manifest->size));
    job->receive.event = event;
    node_submit_job(node, job);
}

void node_snapshot_offered(struct node *node, struct peer_event *event)
{
    struct snapshot_manifest manifest = {0};
    struct raft_config config;
    enum peer_snapshot_end end = PEER_SNAPSHOT_REFUSED;
    int rc = node->options.submit_job == NULL
                 ? ERR_CLOSED
                 : snapshot_manifest_decode(event->snapshot_offer.manifest, &manifest);
    const char *fault = rc != 0 ? error_text(rc) : NULL;
    if (rc == 0) {
        fault = find_fault(node, event, &manifest, &config, &end);
    }
    if (fault == NULL) {
        begin_receiving(node, event, &manifest, &config);
    } else {
        if (end == PEER_SNAPSHOT_REFUSED) {
            node_warn_of_snapshot(node, event->peer, "refused a snapshot", fault);
        }
        answer(node, event->peer, event->epoch, end, fault);
        event->release(event);
    }
    snapshot_manifest_finish(&manifest);
}

/* This node does not campaign until the transfer ends. */
static void complete(struct node *node)
{
    struct node_job *job = node_job_create(NODE_JOB_COMPLETE, node->snapshots.receiving.from,
                                           node->snapshots.receiving.epoch);
    if (job == NULL) {
        stop_receiving(node, PEER_SNAPSHOT_BROKEN, "out of memory");
        return;
    }
    node->snapshots.receiving.is_completing = true;
    struct raft_event step = {.kind = RAFT_EVENT_SNAPSHOT_INSTALLING,
                              .snapshot = {.is_active = true}};
    (void)node_step(node, &step);
    node_submit_job(node, job);
}

static bool is_current(const struct node *node, raft_member from, uint64_t epoch)
{
    const struct snapshot_receiving *receiving = &node->snapshots.receiving;
    return receiving->is_active && receiving->from == from && receiving->epoch == epoch;
}

void node_snapshot_taken_up(struct node *node, const struct node_job *job)
{
    if (!is_current(node, job->peer, job->epoch)) {
        return;
    }
    if (job->rc != 0) {
        stop_receiving(node, job->rc == ERR_NO_SPACE ? PEER_SNAPSHOT_REFUSED : PEER_SNAPSHOT_BROKEN,
                       job->reason);
        return;
    }
    if (job->receive.next_chunk > 0) {
        log_info("node", "a snapshot goes on where it ended",
                 LOG_U64("chunk", job->receive.next_chunk));
    }
    const struct peer_snapshot_answer go_on = {.next_chunk = job->receive.next_chunk};
    ops(node)->snapshot_answer(node->transport, job->peer, job->epoch, &go_on);
    if (job->receive.next_chunk == node->snapshots.receiving.chunk_count) {
        complete(node);
    }
}

void node_snapshot_chunk_came(struct node *node, struct peer_event *event)
{
    bool is_wanted =
        is_current(node, event->peer, event->epoch) && !node->snapshots.receiving.is_completing;
    struct node_job *job =
        is_wanted ? node_job_create(NODE_JOB_WRITE, event->peer, event->epoch) : NULL;
    if (job == NULL) {
        if (is_wanted) {
            stop_receiving(node, PEER_SNAPSHOT_BROKEN, "out of memory");
        }
        event->release(event);
        return;
    }
    job->write.chunk = event->snapshot_chunk.chunk;
    job->write.event = event;
    node_submit_job(node, job);
}

void node_snapshot_chunk_written(struct node *node, const struct node_job *job)
{
    if (!is_current(node, job->peer, job->epoch)) {
        return;
    }
    if (job->rc != 0) {
        stop_receiving(node, job->rc == ERR_NO_SPACE ? PEER_SNAPSHOT_REFUSED : PEER_SNAPSHOT_BROKEN,
                       job->reason);
    } else if (job->write.chunk + 1 == node->snapshots.receiving.chunk_count) {
        complete(node);
    }
}

void node_snapshot_receiving_lost(struct node *node, const struct peer_event *event)
{
    /* A complete snapshot is installed even if the sender is gone. */
    if (!is_current(node, event->peer, event->epoch) || node->snapshots.receiving.is_completing) {
        return;
    }
    node->snapshots.receiving.is_active = false;
    log_info("node", "the stream of a snapshot was lost",
             LOG_STR("peer", name_of(node, event->peer)));
    struct node_job *job = node_job_create(NODE_JOB_FORGET, event->peer, event->epoch);
    if (job != NULL) {
        node_submit_job(node, job);
    }
}

/* ---- the switch ---- */

/* Replaces log and store on disk, in the order that data_dir.h explains. Returns true if both are
 * the new ones. */
static bool switch_files(struct node *node)
{
    struct data_dir *dir = node->options.data_dir;
    int rc = data_dir_begin_install(dir);
    if (rc == 0) {
        rc = wal_reset(node->wal, node->snapshots.receiving.index, node->snapshots.receiving.term);
    }
    if (rc == ERR_NO_SPACE) {
        rc = data_dir_end_install(dir); /* only its mark has changed */
        if (rc == 0) {
            return false;
        }
    }
    if (rc == 0) {
        rc = data_dir_swap_store(dir);
    }
    if (rc == 0) {
        rc = data_dir_end_install(dir);
    }
    if (rc != 0) {
        node_set_fatal(node, "a snapshot cannot be installed: %s; the next start continues it",
                       error_text(rc));
    }
    return rc == 0;
}

static void tell_core(struct node *node)
{
    const struct snapshot_receiving *receiving = &node->snapshots.receiving;
    node_note_state_replaced(node, receiving->index, &receiving->config);
    node_note_log_replaced(node, receiving->index);
    struct raft_event step = {.kind = RAFT_EVENT_SNAPSHOT_INSTALLED,
                              .snapshot = {.index = receiving->index,
                                           .term = receiving->term,
                                           .config = receiving->config}};
    int rc = node_step(node, &step);
    CHECK(rc == 0);
    node_set_not_fresh(node);
    node_founded(node);
    node_drop_pending(node, receiving->index, receiving->term);
    node_release_reads(node);
}

/* Installs the snapshot within one turn: nothing is appended, applied or voted in between. */
static void install(struct node *node, struct node_job *job)
{
    struct snapshot_receiving *receiving = &node->snapshots.receiving;
    if (node->fatal[0] != '\0') {
        return;
    }
    node_save(node); /* messages that wait for a save are sent before the log is replaced */
    if (node->fatal[0] != '\0') {
        return;
    }
    bool is_needed =
        !node_leads(node) &&
        raft_can_install(node->raft, receiving->index, receiving->term) == RAFT_INSTALL_RESET_LOG;
    if (!is_needed) {
        stop_receiving(node, PEER_SNAPSHOT_DONE, "this node already has it");
        return;
    }
    if (!switch_files(node)) {
        stop_receiving(node, PEER_SNAPSHOT_REFUSED, "no room to install it");
        return;
    }
    int rc = chat_replace_store(node->chat, job->complete.store);
    if (rc != 0) {
        node_set_fatal(node, "an installed snapshot cannot be used: %s", error_text(rc));
        return;
    }
    job->complete.store = NULL; /* the chat owns it */
    tell_core(node);
    CHECK(chat_durable_applied(node->chat) + 1 == wal_first_index(node->wal));
    log_info("node", "a snapshot is installed", LOG_U64("index", receiving->index),
             LOG_U64("term", receiving->term));
    stop_receiving(node, PEER_SNAPSHOT_DONE, NULL);
    node->is_changed = true;
}

void node_snapshot_completed(struct node *node, struct node_job *job)
{
    CHECK(node->snapshots.receiving.is_active);
    CHECK(node->snapshots.receiving.is_completing);
    if (job->rc == 0) {
        install(node, job);
    } else {
        stop_receiving(node, PEER_SNAPSHOT_BROKEN, job->reason);
    }
    struct raft_event step = {.kind = RAFT_EVENT_SNAPSHOT_INSTALLING};
    (void)node_step(node, &step);
}
