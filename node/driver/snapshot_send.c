/* Sends snapshots to followers that need entries which the log no longer has. */
#include "base/checksum.h"
#include "base/errors.h"
#include "base/log.h"
#include "driver/node_internal.h"

static const struct transport_ops *ops(const struct node *node)
{
    return node->transport->ops;
}

static const char *name_of(const struct node *node, raft_member member)
{
    return node->node_ids[member];
}

/* Snapshots of two nodes must have different ids, even if index and term are equal. */
static uint64_t new_snapshot_id(struct node *node)
{
    uint64_t parts[] = {wal_hard_state(node->wal)->incarnation, node->now_ns, node->options.seed,
                        ++node->snapshots.count};
    return checksum64(parts, sizeof(parts));
}

/* The follower continues with the log after the snapshot. */
static bool is_served_useful(const struct node *node)
{
    return node->snapshots.served.is_known &&
           node->snapshots.served.index + 1 >= wal_first_index(node->wal);
}

static void make(struct node *node)
{
    struct node_job *job = node_job_create(NODE_JOB_MAKE, RAFT_NO_MEMBER, 0);
    if (job == NULL) {
        return;
    }
    job->make.id = new_snapshot_id(node);
    node->snapshots.is_making = true;
    node->snapshots.served.is_known = false;
    /* The copy holds the current or a later state. The log after the current index must still exist
     * when the copy is complete. */
    raft_index durable = chat_durable_applied(node->chat);
    for (raft_member i = 0; i < node->options.member_count; i++) {
        if ((node->core.snapshot_wanted >> i & 1u) != 0) {
            node_hold_log(node, i, durable, true);
        }
    }
    node_submit_job(node, job);
}

static void open_to(struct node *node, raft_member peer, raft_term term)
{
    struct snapshot_sending *sending = &node->snapshots.sendings[peer];
    sending->epoch = ++node->snapshots.epoch;
    int rc = ops(node)->snapshot_open(node->transport, peer, sending->epoch, term,
                                      buf_bytes(&node->snapshots.served.manifest));
    if (rc != 0) {
        sending->retry_ns = node->now_ns + NODE_SNAPSHOT_RETRY_NS;
        return;
    }
    sending->is_active = true;
    sending->id = node->snapshots.served.id;
    sending->progress_ns = node->now_ns;
    sending->chunk = 0;
    node->snapshots.served.used_ns = node->now_ns;
    if (!node->compaction.holds[peer].is_transfer ||
        node->compaction.holds[peer].index != node->snapshots.served.index) {
        /* Held once only: a peer that never takes a chunk must not hold the log indefinitely. */
        node_hold_log(node, peer, node->snapshots.served.index, true);
    }
    log_info("node", "sending a snapshot", LOG_STR("peer", name_of(node, peer)),
             LOG_U64("index", node->snapshots.served.index),
             LOG_U64("bytes", node->snapshots.served.bytes));
}

static void start_sending(struct node *node)
{
    struct raft_status status;
    raft_get_status(node->raft, node->now_ns, &status);
    for (raft_member i = 0; i < node->options.member_count; i++) {
        const struct snapshot_sending *sending = &node->snapshots.sendings[i];
        bool is_due = (node->core.snapshot_wanted >> i & 1u) != 0 &&
                      status.members[i].is_connected && !sending->is_active &&
                      node->now_ns >= sending->retry_ns;
        if (!is_due || node->snapshots.is_making) {
            continue;
        }
        if (is_served_useful(node)) {
            open_to(node, i, status.term);
        } else if (node->now_ns >= node->snapshots.make_retry_ns) {
            make(node);
        }
    }
}

static void drop_served(struct node *node)
{
    struct node_job *job = node_job_create(NODE_JOB_DROP, RAFT_NO_MEMBER, 0);
    if (job != NULL) {
        node->snapshots.served.is_known = false;
        node_submit_job(node, job);
    }
}

static bool is_any_sending(const struct node *node)
{
    for (raft_member i = 0; i < node->options.member_count; i++) {
        if (node->snapshots.sendings[i].is_active) {
            return true;
        }
    }
    return false;
}

/* Ends transfers without progress. The limit is longer while the peer verifies and installs the
 * whole snapshot. */
static void end_stalled(struct node *node, bool is_leader)
{
    for (raft_member i = 0; i < node->options.member_count; i++) {
        const struct snapshot_sending *sending = &node->snapshots.sendings[i];
        bool is_last = sending->chunk >= node->snapshots.served.chunk_count;
        uint64_t patience_ns = is_last ? NODE_SNAPSHOT_INSTALL_NS : NODE_SNAPSHOT_STALL_NS;
        if (sending->is_active &&
            (!is_leader || node->now_ns > sending->progress_ns + patience_ns)) {
            ops(node)->snapshot_close(node->transport, i, sending->epoch);
        }
    }
}

static uint64_t next_look_ns(struct node *node)
{
    if (node->options.submit_job == NULL) {
        return UINT64_MAX;
    }
    bool is_leader = node_leads(node);
    end_stalled(node, is_leader);
    if (is_leader && node->core.snapshot_wanted != 0) {
        start_sending(node);
    }
    bool is_sending = is_any_sending(node);
    if (node->snapshots.served.is_known && !is_sending &&
        node->now_ns > node->snapshots.served.used_ns + NODE_SNAPSHOT_KEPT_NS) {
        drop_served(node);
    }
    bool is_busy = is_sending || node->snapshots.served.is_known ||
                   (is_leader && node->core.snapshot_wanted != 0);
    return is_busy ? node->now_ns + NODE_SNAPSHOT_RETRY_NS : UINT64_MAX;
}

void node_snapshots_turn(struct node *node)
{
    node->snapshots.turn_ns = next_look_ns(node);
}

void node_snapshots_finish(struct node *node)
{
    buf_finish(&node->snapshots.served.manifest);
}

void node_snapshot_made(struct node *node, struct node_job *job)
{
    node->snapshots.is_making = false;
    if (job->rc != 0) {
        log_error("node", "a snapshot cannot be created", LOG_STR("reason", job->reason));
        node->snapshots.make_retry_ns = node->now_ns + NODE_SNAPSHOT_REFUSED_NS;
        if (job->rc == ERR_CORRUPT) {
            chat_set_damaged(node->chat);
        }
        return;
    }
    buf_finish(&node->snapshots.served.manifest);
    node->snapshots.served = (struct snapshot_served){
        .is_known = true,
        .id = job->make.id,
        .index = job->make.index,
        .bytes = job->make.bytes,
        .chunk_count = job->make.chunk_count,
        .used_ns = node->now_ns,
        .manifest = job->make.manifest,
    };
    job->make.manifest = (struct buf){0};
    log_info("node", "a snapshot was created", LOG_U64("index", job->make.index),
             LOG_U64("bytes", job->make.bytes));
}

void node_snapshot_wants_chunk(struct node *node, const struct peer_event *event)
{
    struct snapshot_sending *sending = &node->snapshots.sendings[event->peer];
    if (!sending->is_active || sending->epoch != event->epoch) {
        return;
    }
    sending->progress_ns = node->now_ns;
    sending->chunk = event->snapshot_ready.chunk;
    node->snapshots.served.used_ns = node->now_ns;
    node_hold_log(node, event->peer, node->snapshots.served.index, true);
    if (!node->snapshots.served.is_known || sending->id != node->snapshots.served.id ||
        event->snapshot_ready.chunk > node->snapshots.served.chunk_count) {
        ops(node)->snapshot_close(node->transport, event->peer, event->epoch);
        return;
    }
    if (event->snapshot_ready.chunk == node->snapshots.served.chunk_count) {
        return; /* the peer has all chunks; the end of the transfer reports the result */
    }
    struct node_job *job = node_job_create(NODE_JOB_READ, event->peer, event->epoch);
    if (job == NULL) {
        ops(node)->snapshot_close(node->transport, event->peer, event->epoch);
        return;
    }
    job->read.id = sending->id;
    job->read.chunk = event->snapshot_ready.chunk;
    node_submit_job(node, job);
}

void node_snapshot_chunk_read(struct node *node, struct node_job *job)
{
    if (job->rc == 0) {
        ops(node)->snapshot_chunk(node->transport, job->peer, job->epoch, job->read.chunk,
                                  buf_bytes(&job->read.data));
        return;
    }
    log_error("node", "a snapshot cannot be read", LOG_STR("reason", job->reason),
              LOG_U64("chunk", job->read.chunk));
    ops(node)->snapshot_close(node->transport, job->peer, job->epoch);
    if (job->rc == ERR_CORRUPT && node->snapshots.served.is_known &&
        node->snapshots.served.id == job->read.id) {
        drop_served(node); /* the next transfer gets a new snapshot */
    }
}

void node_snapshot_sending_ended(struct node *node, const struct peer_event *event)
{
    struct snapshot_sending *sending = &node->snapshots.sendings[event->peer];
    if (!sending->is_active || sending->epoch != event->epoch) {
        return;
    }
    sending->is_active = false;
    bool is_done = event->snapshot_ended.end == PEER_SNAPSHOT_DONE;
    /* A transfer that broke off is resumed at once. One that did not begin is repeated after a
     * pause. */
    sending->failures = is_done || sending->chunk > 0 ? 0 : sending->failures + 1;
    bool is_late = event->snapshot_ended.end == PEER_SNAPSHOT_REFUSED || sending->failures > 1;
    uint64_t pause_ns = is_late ? NODE_SNAPSHOT_REFUSED_NS : NODE_SNAPSHOT_RETRY_NS;
    sending->retry_ns = node->now_ns + (is_done ? 0 : pause_ns);
    if (is_done) {
        node_hold_log(node, event->peer, node->snapshots.served.index, true);
        log_info("node", "a peer has the snapshot", LOG_STR("peer", name_of(node, event->peer)));
    } else {
        node_warn_of_snapshot(node, event->peer, "a snapshot was not delivered",
                              event->snapshot_ended.reason);
    }
    struct raft_event step = {.kind = RAFT_EVENT_SNAPSHOT_SENT,
                              .snapshot = {.peer = event->peer, .success = is_done}};
    (void)node_step(node, &step);
}
