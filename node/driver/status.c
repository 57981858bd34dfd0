/* The published status: a copy of the node's state for other threads. */
#include "base/unconst.h"
#include "driver/node_internal.h"

#include <string.h>

void node_status_init(struct node *node)
{
    pthread_mutex_init(&node->published.lock, NULL);
}

void node_status_finish(struct node *node)
{
    pthread_mutex_destroy(&node->published.lock);
}

static bool is_caught_up(const struct node *node, const struct raft_status *status)
{
    if (!status->is_whole || node->checkpoints.is_diverged || node->leadership.is_store_damaged ||
        node->progress.is_still) {
        return false;
    }
    if (status->role == RAFT_LEADER) {
        return status->is_ready &&
               node->applied_index + NODE_CAUGHT_UP_LAG_MAX >= status->commit_index;
    }
    /* The first message of the leader, which made it known, counts. */
    return node->progress.heard_leader != RAFT_NO_MEMBER &&
           node->progress.heard_leader == status->leader &&
           node->progress.heard_term == status->term &&
           node->now_ns <=
               node->progress.heard_ns + NODE_STILL_TIMEOUTS * node->options.election_timeout_ns &&
           node->applied_index + NODE_CAUGHT_UP_LAG_MAX >= node->progress.heard_commit;
}

void node_publish_status(struct node *node)
{
    struct node_status status = {
        .taken_ns = node->now_ns,
        .first_index = wal_first_index(node->wal),
        .applied_index = node->applied_index,
        .durable_applied_index = chat_durable_applied(node->chat),
        .snapshot_index = wal_first_index(node->wal) - 1,
        .leaderless_since_ns = node->leadership.leaderless_since_ns,
        .still_since_ns = node->progress.still_since_ns,
        .known_commit = node_known_commit(node),
        .is_standing_still = node->progress.is_still,
        .is_draining = node->drain.is_active,
        .is_store_damaged = node->leadership.is_store_damaged,
        .is_diverged = node->checkpoints.is_diverged,
        .is_log_full = node->log_room.is_full,
        .is_store_full = atomic_load(&node->inbox.is_store_full),
        .requests_pending = atomic_load(&node->inbox.requests_live),
        .proposals_total = node->counters.proposals_total,
        .proposals_pending = node->counters.proposals_pending,
        .proposals_failed = node->counters.proposals_failed,
        .requests_total = node->requests.next_order,
        .reads_total = node->counters.reads_total,
        .leader_changes = node->counters.leader_changes,
        .forwards_total = node->counters.forwards_total,
        .log_bytes = wal_bytes(node->wal),
    };
    wal_get_stats(node->wal, &status.wal);
    raft_get_status(node->raft, node->now_ns, &status.raft);
    /* The log has the id before its entry is known to be committed. */
    memcpy(status.cluster_id,
           status.raft.config.is_founded ? status.raft.config.cluster_id
                                         : wal_hard_state(node->wal)->cluster_id,
           sizeof(status.cluster_id));
    status.is_caught_up = is_caught_up(node, &status.raft);
    status.is_ready = status.is_caught_up && status.raft.leader != RAFT_NO_MEMBER &&
                      status.raft.has_quorum && !node->drain.is_active;
    pthread_mutex_lock(&node->published.lock);
    bool is_changed = node->is_changed || status.is_ready != node->published.status.is_ready ||
                      status.raft.has_quorum != node->published.status.raft.has_quorum ||
                      status.raft.role != node->published.status.raft.role;
    node->published.status = status;
    pthread_mutex_unlock(&node->published.lock);
    node->is_changed = false;
    if (is_changed && node->options.on_change != NULL) {
        node->options.on_change(node->options.on_change_context);
    }
}

void node_get_status(const struct node *node, struct node_status *out)
{
    struct node *mutable = unconst(node);
    pthread_mutex_lock(&mutable->published.lock);
    *out = node->published.status;
    pthread_mutex_unlock(&mutable->published.lock);
}

void node_get_latencies(const struct node *node, struct node_latencies *out)
{
    latency_read(&node->counters.log_sync_latency, &out->log_sync);
    latency_read(&node->counters.apply_latency, &out->apply);
    latency_read(&node->counters.proposal_latency, &out->proposal);
}
