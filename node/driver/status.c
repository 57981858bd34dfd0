/* The published status: a copy of the node's state for other threads. */
#include "driver/node_internal.h"

#include <string.h>

static bool is_caught_up(const struct node *node, const struct raft_status *status)
{
    if (!status->is_whole || node->is_diverged || node->is_store_damaged ||
        node->is_standing_still) {
        return false;
    }
    if (status->role == RAFT_LEADER) {
        return status->is_ready &&
               node->applied_index + NODE_CAUGHT_UP_LAG_MAX >= status->commit_index;
    }
    /* The leader's first word, by which it became known, counts. */
    return node->heard_leader != RAFT_NO_MEMBER && node->heard_leader == status->leader &&
           node->heard_term == status->term &&
           node->now_ns <=
               node->heard_ns + NODE_STILL_TIMEOUTS * node->options.election_timeout_ns &&
           node->applied_index + NODE_CAUGHT_UP_LAG_MAX >= node->heard_commit;
}

void node_publish_status(struct node *node)
{
    struct node_status status = {
        .taken_ns = node->now_ns,
        .first_index = wal_first_index(node->wal),
        .applied_index = node->applied_index,
        .durable_applied_index = chat_durable_applied(node->chat),
        .snapshot_index = wal_first_index(node->wal) - 1,
        .leaderless_since_ns = node->leaderless_since_ns,
        .still_since_ns = node->still_since_ns,
        .known_commit = node_known_commit(node),
        .is_standing_still = node->is_standing_still,
        .is_draining = node->is_draining,
        .is_store_damaged = node->is_store_damaged,
        .is_diverged = node->is_diverged,
        .is_log_full = node->is_log_full,
        .is_store_full = atomic_load(&node->is_store_full),
        .requests_pending = atomic_load(&node->requests_live),
        .proposals_total = node->proposals_total,
        .proposals_pending = node->proposals_pending,
        .proposals_failed = node->proposals_failed,
        .requests_total = node->next_order,
        .reads_total = node->reads_total,
        .leader_changes = node->leader_changes,
        .forwards_total = node->forwards_total,
        .log_bytes = wal_bytes(node->wal),
    };
    wal_get_stats(node->wal, &status.wal);
    raft_get_status(node->raft, node->now_ns, &status.raft);
    /* The log knows it before the entry that says so is known to be committed. */
    memcpy(status.cluster_id,
           status.raft.config.is_founded ? status.raft.config.cluster_id
                                         : wal_hard_state(node->wal)->cluster_id,
           sizeof(status.cluster_id));
    status.is_caught_up = is_caught_up(node, &status.raft);
    status.is_ready = status.is_caught_up && status.raft.leader != RAFT_NO_MEMBER &&
                      status.raft.has_quorum && !node->is_draining;
    pthread_mutex_lock(&node->status_lock);
    bool is_changed = node->is_changed || status.is_ready != node->status.is_ready ||
                      status.raft.has_quorum != node->status.raft.has_quorum ||
                      status.raft.role != node->status.raft.role;
    node->status = status;
    pthread_mutex_unlock(&node->status_lock);
    node->is_changed = false;
    if (is_changed && node->options.on_change != NULL) {
        node->options.on_change(node->options.on_change_context);
    }
}

void node_get_status(const struct node *node, struct node_status *out)
{
    struct node *mutable = (struct node *)(uintptr_t)node;
    pthread_mutex_lock(&mutable->status_lock);
    *out = node->status;
    pthread_mutex_unlock(&mutable->status_lock);
}

void node_get_latencies(const struct node *node, struct node_latencies *out)
{
    latency_read(&node->log_sync_latency, &out->log_sync);
    latency_read(&node->apply_latency, &out->apply);
    latency_read(&node->proposal_latency, &out->proposal);
}
