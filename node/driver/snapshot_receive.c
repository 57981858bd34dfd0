/* Snapshots: to followers that need what the log has no more, and from a leader that says so. The
 * steps that take long are jobs (node_jobs.h); here is who gets what, and the switch. */
#include "base/check.h"
#include "base/checksum.h"
#include "base/errors.h"
#include "base/log.h"
#include "driver/node_internal.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const struct transport_ops *ops(const struct node *node)
{
    return node->transport->ops;
}

static const char *name_of(const struct node *node, raft_member member)
{
    return node->node_ids[member];
}

static bool leads(const struct node *node)
{
    return raft_can_propose(node->raft) != RAFT_PROPOSE_NOT_LEADER;
}

static struct node_job *create_job(enum node_job_kind kind, raft_member peer, uint64_t epoch)
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

static void submit(struct node *node, struct node_job *job)
{
    node->options.submit_job(node->options.job_context, job);
}

/* Others decide how often there is a reason to. */
static void warn(struct node *node, raft_member peer, const char *what, const char *reason)
{
    char text[LOG_LIMIT_TEXT_BYTES];
    snprintf(text, sizeof(text), "%s: %s", what, reason);
    uint64_t suppressed;
    if (log_limit_passes(&node->snapshot_faults[peer], node->now_ns, text, &suppressed)) {
        log_warn("node", what, LOG_STR("peer", name_of(node, peer)), LOG_STR("reason", reason),
                 LOG_U64("suppressed", suppressed));
    }
}

/* ---- sending ---- */

/* The two nodes' ids must differ even when index and term do not. */
static uint64_t new_snapshot_id(struct node *node)
{
    uint64_t parts[] = {wal_hard_state(node->wal)->incarnation, node->now_ns, node->options.seed,
                        ++node->snapshot_count};
    return checksum64(parts, sizeof(parts));
}

/* The log goes on behind it. */
static bool is_served_useful(const struct node *node)
{
    return node->served.is_known && node->served.index + 1 >= wal_first_index(node->wal);
}

static void make(struct node *node)
{
    struct node_job *job = create_job(NODE_JOB_MAKE, RAFT_NO_MEMBER, 0);
    if (job == NULL) {
        return;
    }
    job->id = new_snapshot_id(node);
    node->is_making = true;
    node->served.is_known = false;
    /* The copy is of this or a later state: the log behind it must be there when it is done. */
    raft_index durable = chat_durable_applied(node->chat);
    for (raft_member i = 0; i < node->options.member_count; i++) {
        if ((node->snapshot_wanted >> i & 1u) != 0) {
            node_hold_log(node, i, durable, true);
        }
    }
    submit(node, job);
}

static void open_to(struct node *node, raft_member peer, raft_term term)
{
    struct snapshot_sending *sending = &node->sendings[peer];
    sending->epoch = ++node->snapshot_epoch;
    int rc = ops(node)->snapshot_open(node->transport, peer, sending->epoch, term,
                                      buf_bytes(&node->served.manifest));
    if (rc != 0) {
        sending->retry_ns = node->now_ns + NODE_SNAPSHOT_RETRY_NS;
        return;
    }
    sending->is_active = true;
    sending->id = node->served.id;
    sending->progress_ns = node->now_ns;
    sending->chunk = 0;
    node->served.used_ns = node->now_ns;
    if (!node->holds[peer].is_transfer || node->holds[peer].index != node->served.index) {
        /* Once: a peer that never takes a chunk does not hold the log for ever. */
        node_hold_log(node, peer, node->served.index, true);
    }
    log_info("node", "sending a snapshot", LOG_STR("peer", name_of(node, peer)),
             LOG_U64("index", node->served.index), LOG_U64("bytes", node->served.bytes));
}

static void start_sending(struct node *node)
{
    struct raft_status status;
    raft_get_status(node->raft, node->now_ns, &status);
    for (raft_member i = 0; i < node->options.member_count; i++) {
        const struct snapshot_sending *sending = &node->sendings[i];
        bool is_due = (node->snapshot_wanted >> i & 1u) != 0 && status.members[i].is_connected &&
                      !sending->is_active && node->now_ns >= sending->retry_ns;
        if (!is_due || node->is_making) {
            continue;
        }
        if (is_served_useful(node)) {
            open_to(node, i, status.term);
        } else if (node->now_ns >= node->make_retry_ns) {
            make(node);
        }
    }
}

static void drop_served(struct node *node)
{
    struct node_job *job = create_job(NODE_JOB_DROP, RAFT_NO_MEMBER, 0);
    if (job != NULL) {
        node->served.is_known = false;
        submit(node, job);
    }
}

static bool is_any_sending(const struct node *node)
{
    for (raft_member i = 0; i < node->options.member_count; i++) {
        if (node->sendings[i].is_active) {
            return true;
        }
    }
    return false;
}

/* A peer that neither takes nor ends is given up. The last silence, while it verifies and installs
 * the whole, may be longer. */
static void end_stalled(struct node *node, bool is_leader)
{
    for (raft_member i = 0; i < node->options.member_count; i++) {
        const struct snapshot_sending *sending = &node->sendings[i];
        bool is_last = sending->chunk >= node->served.chunk_count;
        uint64_t patience_ns = is_last ? NODE_SNAPSHOT_INSTALL_NS : NODE_SNAPSHOT_STALL_NS;
        if (sending->is_active &&
            (!is_leader || node->now_ns > sending->progress_ns + patience_ns)) {
            ops(node)->snapshot_close(node->transport, i, sending->epoch);
        }
    }
}

uint64_t node_snapshots_turn(struct node *node)
{
    if (node->options.submit_job == NULL) {
        return UINT64_MAX;
    }
    bool is_leader = leads(node);
    end_stalled(node, is_leader);
    if (is_leader && node->snapshot_wanted != 0) {
        start_sending(node);
    }
    bool is_sending = is_any_sending(node);
    if (node->served.is_known && !is_sending &&
        node->now_ns > node->served.used_ns + NODE_SNAPSHOT_KEPT_NS) {
        drop_served(node);
    }
    bool is_busy = is_sending || node->served.is_known || (is_leader && node->snapshot_wanted != 0);
    return is_busy ? node->now_ns + NODE_SNAPSHOT_RETRY_NS : UINT64_MAX;
}

static void made(struct node *node, struct node_job *job)
{
    node->is_making = false;
    if (job->rc != 0) {
        log_error("node", "no snapshot can be made", LOG_STR("reason", job->reason));
        node->make_retry_ns = node->now_ns + NODE_SNAPSHOT_REFUSED_NS;
        if (job->rc == ERR_CORRUPT) {
            chat_set_damaged(node->chat);
        }
        return;
    }
    buf_finish(&node->served.manifest);
    node->served = (struct snapshot_served){
        .is_known = true,
        .id = job->id,
        .index = job->index,
        .bytes = job->bytes,
        .chunk_count = job->chunk_count,
        .used_ns = node->now_ns,
        .manifest = job->data,
    };
    job->data = (struct buf){0};
    log_info("node", "a snapshot is made", LOG_U64("index", job->index),
             LOG_U64("bytes", job->bytes));
}

static void wants_chunk(struct node *node, const struct peer_event *event)
{
    struct snapshot_sending *sending = &node->sendings[event->peer];
    if (!sending->is_active || sending->epoch != event->epoch) {
        return;
    }
    sending->progress_ns = node->now_ns;
    sending->chunk = event->snapshot_ready.chunk;
    node->served.used_ns = node->now_ns;
    node_hold_log(node, event->peer, node->served.index, true);
    if (!node->served.is_known || sending->id != node->served.id ||
        event->snapshot_ready.chunk > node->served.chunk_count) {
        ops(node)->snapshot_close(node->transport, event->peer, event->epoch);
        return;
    }
    if (event->snapshot_ready.chunk == node->served.chunk_count) {
        return; /* it has all: its end says what became of it */
    }
    struct node_job *job = create_job(NODE_JOB_READ, event->peer, event->epoch);
    if (job == NULL) {
        ops(node)->snapshot_close(node->transport, event->peer, event->epoch);
        return;
    }
    job->id = sending->id;
    job->chunk = event->snapshot_ready.chunk;
    submit(node, job);
}

static void chunk_read(struct node *node, struct node_job *job)
{
    if (job->rc == 0) {
        ops(node)->snapshot_chunk(node->transport, job->peer, job->epoch, job->chunk,
                                  buf_bytes(&job->data));
        return;
    }
    log_error("node", "a snapshot cannot be read", LOG_STR("reason", job->reason),
              LOG_U64("chunk", job->chunk));
    ops(node)->snapshot_close(node->transport, job->peer, job->epoch);
    if (job->rc == ERR_CORRUPT && node->served.is_known && node->served.id == job->id) {
        drop_served(node); /* the next one is made anew */
    }
}

static void sending_ended(struct node *node, const struct peer_event *event)
{
    struct snapshot_sending *sending = &node->sendings[event->peer];
    if (!sending->is_active || sending->epoch != event->epoch) {
        return;
    }
    sending->is_active = false;
    bool is_done = event->snapshot_ended.end == PEER_SNAPSHOT_DONE;
    /* At once when it broke off on its way, later when it did not even begin. */
    sending->failures = is_done || sending->chunk > 0 ? 0 : sending->failures + 1;
    bool is_late = event->snapshot_ended.end == PEER_SNAPSHOT_REFUSED || sending->failures > 1;
    uint64_t pause_ns = is_late ? NODE_SNAPSHOT_REFUSED_NS : NODE_SNAPSHOT_RETRY_NS;
    sending->retry_ns = node->now_ns + (is_done ? 0 : pause_ns);
    if (is_done) {
        node_hold_log(node, event->peer, node->served.index, true);
        log_info("node", "a peer has the snapshot", LOG_STR("peer", name_of(node, event->peer)));
    } else {
        warn(node, event->peer, "a snapshot did not arrive", event->snapshot_ended.reason);
    }
    struct raft_event step = {.kind = RAFT_EVENT_SNAPSHOT_SENT,
                              .snapshot = {.peer = event->peer, .success = is_done}};
    (void)node_step(node, &step);
}

/* ---- receiving ---- */

static void answer(struct node *node, raft_member from, uint64_t epoch, enum peer_snapshot_end end,
                   const char *reason)
{
    const struct peer_snapshot_answer over = {.is_over = true, .end = end, .reason = reason};
    ops(node)->snapshot_answer(node->transport, from, epoch, &over);
}

/* Ends what is being received, with a word to the sender. */
static void stop_receiving(struct node *node, enum peer_snapshot_end end, const char *reason)
{
    struct snapshot_receiving *receiving = &node->receiving;
    receiving->is_active = false;
    answer(node, receiving->from, receiving->epoch, end, reason);
    if (end != PEER_SNAPSHOT_DONE) {
        warn(node, receiving->from, "a snapshot is not received", reason);
    }
}

/* NULL when it may be received; else why not, and `end` says whether it ever will. */
static const char *find_fault(struct node *node, const struct peer_event *event,
                              const struct snapshot_manifest *manifest, struct raft_config *config,
                              enum peer_snapshot_end *end)
{
    struct raft_status status;
    raft_get_status(node->raft, node->now_ns, &status);
    const uint8_t *own = wal_hard_state(node->wal)->cluster_id;
    *end = PEER_SNAPSHOT_BROKEN;
    /* A leader sends one only to who has answered it in this term. */
    if (event->snapshot_offer.term != status.term || status.leader != event->peer) {
        return "its sender does not lead here";
    }
    if (node->receiving.is_active && node->receiving.is_completing) {
        return "another snapshot is being installed";
    }
    *end = PEER_SNAPSHOT_REFUSED;
    if (raft_cluster_id_is_set(own) &&
        memcmp(own, manifest->cluster_id, RAFT_CLUSTER_ID_BYTES) != 0) {
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
    return is_needed ? NULL : "it is here already";
}

static void begin_receiving(struct node *node, struct peer_event *event,
                            const struct snapshot_manifest *manifest,
                            const struct raft_config *config)
{
    struct node_job *job = create_job(NODE_JOB_RECEIVE, event->peer, event->epoch);
    if (job == NULL) {
        answer(node, event->peer, event->epoch, PEER_SNAPSHOT_BROKEN, "out of memory");
        event->release(event);
        return;
    }
    if (node->receiving.is_active) {
        stop_receiving(node, PEER_SNAPSHOT_BROKEN, "another snapshot came");
    }
    node->receiving = (struct snapshot_receiving){
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
    job->event = event;
    submit(node, job);
}

static void offered(struct node *node, struct peer_event *event)
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
            warn(node, event->peer, "refused a snapshot", fault);
        }
        answer(node, event->peer, event->epoch, end, fault);
        event->release(event);
    }
    snapshot_manifest_finish(&manifest);
}

/* From now on until it ends this node does not campaign. */
static void complete(struct node *node)
{
    struct node_job *job =
        create_job(NODE_JOB_COMPLETE, node->receiving.from, node->receiving.epoch);
    if (job == NULL) {
        stop_receiving(node, PEER_SNAPSHOT_BROKEN, "out of memory");
        return;
    }
    node->receiving.is_completing = true;
    struct raft_event step = {.kind = RAFT_EVENT_SNAPSHOT_INSTALLING,
                              .snapshot = {.is_active = true}};
    (void)node_step(node, &step);
    submit(node, job);
}

static bool is_current(const struct node *node, raft_member from, uint64_t epoch)
{
    const struct snapshot_receiving *receiving = &node->receiving;
    return receiving->is_active && receiving->from == from && receiving->epoch == epoch;
}

static void took_up(struct node *node, const struct node_job *job)
{
    if (!is_current(node, job->peer, job->epoch)) {
        return;
    }
    if (job->rc != 0) {
        stop_receiving(node, job->rc == ERR_NO_SPACE ? PEER_SNAPSHOT_REFUSED : PEER_SNAPSHOT_BROKEN,
                       job->reason);
        return;
    }
    if (job->chunk > 0) {
        log_info("node", "a snapshot goes on where it ended", LOG_U64("chunk", job->chunk));
    }
    const struct peer_snapshot_answer go_on = {.next_chunk = job->chunk};
    ops(node)->snapshot_answer(node->transport, job->peer, job->epoch, &go_on);
    if (job->chunk == node->receiving.chunk_count) {
        complete(node);
    }
}

static void chunk_came(struct node *node, struct peer_event *event)
{
    bool is_wanted = is_current(node, event->peer, event->epoch) && !node->receiving.is_completing;
    struct node_job *job = is_wanted ? create_job(NODE_JOB_WRITE, event->peer, event->epoch) : NULL;
    if (job == NULL) {
        if (is_wanted) {
            stop_receiving(node, PEER_SNAPSHOT_BROKEN, "out of memory");
        }
        event->release(event);
        return;
    }
    job->chunk = event->snapshot_chunk.chunk;
    job->event = event;
    submit(node, job);
}

static void wrote(struct node *node, const struct node_job *job)
{
    if (!is_current(node, job->peer, job->epoch)) {
        return;
    }
    if (job->rc != 0) {
        stop_receiving(node, job->rc == ERR_NO_SPACE ? PEER_SNAPSHOT_REFUSED : PEER_SNAPSHOT_BROKEN,
                       job->reason);
    } else if (job->chunk + 1 == node->receiving.chunk_count) {
        complete(node);
    }
}

static void receiving_lost(struct node *node, const struct peer_event *event)
{
    /* What is complete is installed, whoever still listens. */
    if (!is_current(node, event->peer, event->epoch) || node->receiving.is_completing) {
        return;
    }
    node->receiving.is_active = false;
    log_info("node", "the stream of a snapshot was lost",
             LOG_STR("peer", name_of(node, event->peer)));
    struct node_job *job = create_job(NODE_JOB_FORGET, event->peer, event->epoch);
    if (job != NULL) {
        submit(node, job);
    }
}

/* ---- the switch ---- */

/* Log and store on the disk; data_dir.h says why in this order. True when both are the new ones. */
static bool switch_files(struct node *node)
{
    struct data_dir *dir = node->options.data_dir;
    int rc = data_dir_begin_install(dir);
    if (rc == 0) {
        rc = wal_reset(node->wal, node->receiving.index, node->receiving.term);
    }
    if (rc == ERR_NO_SPACE) {
        rc = data_dir_end_install(dir); /* nothing has changed but its mark */
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
        node_set_fatal(node, "a snapshot cannot be installed: %s; the next start goes on with it",
                       error_text(rc));
    }
    return rc == 0;
}

static void tell_core(struct node *node)
{
    const struct snapshot_receiving *receiving = &node->receiving;
    node->config = receiving->config;
    node->applied_index = receiving->index;
    node->compacted_at = receiving->index;
    struct raft_event step = {.kind = RAFT_EVENT_SNAPSHOT_INSTALLED,
                              .snapshot = {.index = receiving->index,
                                           .term = receiving->term,
                                           .config = receiving->config}};
    int rc = node_step(node, &step);
    CHECK(rc == 0);
    if (!node->was_not_fresh) {
        node->was_not_fresh = true;
        ops(node)->set_not_fresh(node->transport);
    }
    node_founded(node);
    node_drop_pending(node, receiving->index, receiving->term);
    node_release_reads(node);
}

/* All in one go on the node's thread: nothing is appended, applied or voted in between. */
static void install(struct node *node, struct node_job *job)
{
    struct snapshot_receiving *receiving = &node->receiving;
    if (node->fatal[0] != '\0') {
        return;
    }
    node_save(node); /* what waits for a save goes out before the log is replaced */
    if (node->fatal[0] != '\0') {
        return;
    }
    bool is_needed = !leads(node) && raft_can_install(node->raft, receiving->index,
                                                      receiving->term) == RAFT_INSTALL_RESET_LOG;
    if (!is_needed) {
        stop_receiving(node, PEER_SNAPSHOT_DONE, "it is here already");
        return;
    }
    if (!switch_files(node)) {
        stop_receiving(node, PEER_SNAPSHOT_REFUSED, "no room to install it");
        return;
    }
    int rc = chat_replace_store(node->chat, job->store);
    if (rc != 0) {
        node_set_fatal(node, "an installed snapshot cannot be used: %s", error_text(rc));
        return;
    }
    job->store = NULL; /* the chat's */
    tell_core(node);
    CHECK(chat_durable_applied(node->chat) + 1 == wal_first_index(node->wal));
    log_info("node", "a snapshot is installed", LOG_U64("index", receiving->index),
             LOG_U64("term", receiving->term));
    stop_receiving(node, PEER_SNAPSHOT_DONE, NULL);
    node->is_changed = true;
}

static void completed(struct node *node, struct node_job *job)
{
    CHECK(node->receiving.is_active);
    CHECK(node->receiving.is_completing);
    if (job->rc == 0) {
        install(node, job);
    } else {
        stop_receiving(node, PEER_SNAPSHOT_BROKEN, job->reason);
    }
    struct raft_event step = {.kind = RAFT_EVENT_SNAPSHOT_INSTALLING};
    (void)node_step(node, &step);
}

/* ---- what comes in ---- */

bool node_snapshot_event(struct node *node, struct peer_event *event)
{
    switch (event->kind) {
    case PEER_EVENT_SNAPSHOT_OFFER:
        offered(node, event);
        return true;
    case PEER_EVENT_SNAPSHOT_CHUNK:
        chunk_came(node, event);
        return true;
    case PEER_EVENT_SNAPSHOT_LOST:
        receiving_lost(node, event);
        return false;
    case PEER_EVENT_SNAPSHOT_READY:
        wants_chunk(node, event);
        return false;
    case PEER_EVENT_SNAPSHOT_ENDED:
        sending_ended(node, event);
        return false;
    default:
        return false;
    }
}

void node_snapshot_job_done(struct node *node, struct node_job *job)
{
    switch (job->kind) {
    case NODE_JOB_MAKE:
        made(node, job);
        break;
    case NODE_JOB_READ:
        chunk_read(node, job);
        break;
    case NODE_JOB_RECEIVE:
        took_up(node, job);
        break;
    case NODE_JOB_WRITE:
        wrote(node, job);
        break;
    case NODE_JOB_COMPLETE:
        completed(node, job);
        break;
    case NODE_JOB_DROP:
    case NODE_JOB_FORGET:
        break;
    }
    node_job_destroy(job);
}
