/* Figures for /metrics and /status: the table that describes them, and their values. */
#include "base/check.h"
#include "dispatch/dispatch_internal.h"

#define ROW(type, field, name, help) METRIC_ROW(METRIC_##type, dispatch_metrics, field, name, help)
#define ROW_AS(type, field, name, status_name, help) \
    METRIC_ROW_AS(METRIC_##type, dispatch_metrics, field, name, status_name, help)

/* Rows with NULL for /status are histograms, or stand in the first part of /status, whose form the
 * reference document defines. */
const struct metric dispatch_metric_rows[] = {
    ROW_AS(GAUGE, node.uptime_seconds, "uptime_seconds", NULL, "Time since the start."),
    ROW_AS(COUNTER, messages_sent_total, "messages_sent_total", NULL,
           "Raft messages sent to peers."),
    ROW_AS(GAUGE, election_count, "election_count", NULL,
           "Elections this node began; the same as raftogram_elections_total."),
    ROW_AS(COUNTER, election_count, "elections_total", NULL, "Elections this node began."),
    ROW_AS(GAUGE, last_commit_index, "last_commit_index", NULL,
           "Highest log index known to be committed."),
    ROW_AS(COUNTER, proposals_total, "proposals_total", NULL,
           "Writes that clients asked of this node."),
    ROW_AS(COUNTER, reads_total, "reads_total", NULL,
           "Reads of clients that this node has served."),
    ROW_AS(GAUGE, applied_index, "applied_index", NULL,
           "Highest log index applied to the state machine."),
    ROW_AS(GAUGE, node.term, "term", NULL, "Current term."),
    ROW_AS(FLAG, node.is_leader, "is_leader", NULL, "1 on the leader."),
    ROW_AS(FLAG, node.has_leader, "has_leader", "has_leader", "1 while a leader is known."),
    ROW_AS(FLAG, node.has_quorum, "has_quorum", NULL,
           "1 while a majority of the nodes is in reach."),
    ROW_AS(FLAG, node.is_ready, "is_ready", NULL,
           "1 while the node serves: a leader is known, it has caught up, it is not draining."),
    ROW(COUNTER, leader_changes_total, "leader_changes_total",
        "Changes of the leader that this node saw."),
    ROW(GAUGE, proposals_pending, "proposals_pending", "Writes that wait for their result."),
    ROW(COUNTER, proposals_failed_total, "proposals_failed_total",
        "Writes that failed or whose outcome is unknown."),
    ROW(COUNTER, forwards_total, "forwards_total", "Writes sent on to the leader."),
    ROW(GAUGE, requests_pending, "requests_pending",
        "Requests that wait for the log, a quorum or a leader."),
    ROW_AS(GAUGE, node.first_index, "log_first_index", NULL, "First index in the log."),
    ROW_AS(GAUGE, node.last_index, "log_last_index", NULL, "Last index in the log."),
    ROW_AS(GAUGE, node.snapshot_index, "snapshot_index", NULL,
           "Index up to which the log was compacted."),
    ROW_AS(GAUGE, log_entries, "log_entries", NULL, "Entries in the log."),
    ROW(GAUGE, log_bytes, "log_bytes", "Size of the log on disk."),
    ROW(COUNTER, log_commits_total, "log_commits_total", "Synchronous writes of the log."),
    ROW(COUNTER, log_written_bytes_total, "log_written_bytes_total", "Bytes written to the log."),
    ROW_AS(HISTOGRAM, log_sync, "log_sync_duration_seconds", NULL,
           "One synchronous write of the log: write and fdatasync."),
    ROW_AS(HISTOGRAM, apply, "apply_duration_seconds", NULL,
           "Applying one batch of committed entries to the state machine."),
    ROW_AS(HISTOGRAM, proposal, "proposal_duration_seconds", NULL,
           "From a write's arrival at this node to its success."),
    ROW_AS(HISTOGRAM, turn_delay, "turn_delay_seconds", NULL,
           "How late the node's thread began a turn that was due."),
    ROW_AS(FLAG, node.is_damaged, "store_damaged", "is_store_damaged",
           "1 when the store fails its checksums; the node ends and repairs itself."),
    ROW_AS(FLAG, node.is_recovering, "recovering", "is_recovering",
           "1 while a wiped or damaged node is filled again: it does not count for a quorum."),
    ROW_AS(FLAG, node.is_diverged, "diverged", "is_diverged",
           "1 when this node applied something else than the leader."),
    ROW(FLAG, is_log_full, "log_full", "1 while the disk has no room for the log."),
    ROW(FLAG, is_store_full, "store_full",
        "1 while the store cannot grow: the disk is full or limits.store_size is reached."),
    ROW(GAUGE, durable_applied_index, "durable_applied_index",
        "Highest log index that the store has on disk."),
    ROW(GAUGE, store_bytes, "store_bytes", "Size of the store in use."),
    ROW(GAUGE, overlay_bytes, "overlay_bytes",
        "Applied state in memory that is not in the store yet."),
    ROW(COUNTER, store_flushes_total, "store_flushes_total",
        "Transactions that wrote applied state to the store."),
    ROW(COUNTER, messages_applied_total, "messages_applied_total",
        "Chat messages applied since the start."),
    ROW_AS(GAUGE, channel_count, "channels", NULL, "Channels."),
    ROW_AS(GAUGE, message_count, "messages", NULL, "Messages stored."),
    ROW_AS(GAUGE, value_count, "keys", NULL, "Keys in the key-value map."),
    ROW(COUNTER, dedupe_hits_total, "dedupe_hits_total",
        "Messages recognised by their client message id."),
    ROW(GAUGE, subscriptions, "subscriptions", "Subscriptions of all protocols."),
    ROW(GAUGE, subscription_lag_max, "subscription_lag_max_messages",
        "Messages that the slowest subscription has still to be sent."),
    ROW(COUNTER, peer_messages_dropped_total, "peer_messages_dropped_total",
        "Messages of any kind that were not sent to a peer, which takes them too slowly."),
    ROW(COUNTER, peer_connects_total, "peer_connects_total",
        "Streams to peers that were established."),
};
const size_t dispatch_metric_row_count =
    sizeof(dispatch_metric_rows) / sizeof(dispatch_metric_rows[0]);

static uint64_t subscription_lag_max(const struct dispatch *dispatch)
{
    uint64_t lag_max = 0;
    for (size_t i = 0; i < dispatch->reader_count; i++) {
        uint64_t lag = atomic_load_explicit(&dispatch->readers[i].lag_max, memory_order_relaxed);
        lag_max = lag > lag_max ? lag : lag_max;
    }
    return lag_max;
}

void dispatch_get_metrics(struct dispatch *dispatch, struct dispatch_metrics *out)
{
    const struct dispatch_options *options = &dispatch->options;
    struct node_status node;
    struct chat_stats chat;
    struct store_meta meta;
    struct dispatch_peer_counts peers;
    node_get_status(dispatch->node, &node);
    chat_get_stats(dispatch->chat, &chat);
    chat_get_meta(dispatch->chat, &meta);
    options->get_peer_counts(options->context, &peers);
    *out = (struct dispatch_metrics){
        .messages_sent_total = peers.messages_sent,
        .peer_messages_dropped_total = peers.messages_dropped,
        .peer_connects_total = peers.connects,
        .election_count = node.raft.elections,
        .last_commit_index = node.raft.commit_index,
        .proposals_total = node.proposals_total,
        .proposals_failed_total = node.proposals_failed,
        .reads_total = node.reads_total,
        .applied_index = node.applied_index,
        .leader_changes_total = node.leader_changes,
        .forwards_total = node.forwards_total,
        .requests_pending = node.requests_pending,
        .subscriptions = hub_count(chat_hub(dispatch->chat)),
        .dedupe_hits_total = chat.dedupe_hits,
        .log_entries = node.raft.last_index + 1 - node.first_index,
        .log_bytes = node.log_bytes,
        .store_bytes = options->store_bytes(options->context),
        .channel_count = meta.channel_count,
        .message_count = meta.message_count,
        .value_count = meta.value_count,
        .log_commits_total = node.wal.commits,
        .overlay_bytes = chat.overlay_bytes,
        .is_log_full = node.is_log_full,
        .is_store_full = node.is_store_full,
        .proposals_pending = node.proposals_pending,
        .durable_applied_index = node.durable_applied_index,
        .log_written_bytes_total = node.wal.bytes_written,
        .store_flushes_total = chat.generations_flushed,
        .messages_applied_total = chat.messages_applied,
        .subscription_lag_max = subscription_lag_max(dispatch),
    };
    dispatch_get_node_status(dispatch, &out->node);
    struct node_latencies latencies;
    node_get_latencies(dispatch->node, &latencies);
    out->log_sync = latencies.log_sync;
    out->apply = latencies.apply;
    out->proposal = latencies.proposal;
    options->get_turn_delays(options->context, &out->turn_delay);
    for (size_t method = 0; method < DISPATCH_METHOD_COUNT; method++) {
        for (size_t code = 0; code < DISPATCH_CODES; code++) {
            out->calls[method][code] =
                atomic_load_explicit(&dispatch->calls[method][code], memory_order_relaxed);
        }
    }
}

/* ---- figures of the frontends ---- */

void dispatch_add_metrics(struct dispatch *dispatch, struct metric_source *source)
{
    CHECK(source->size <= METRIC_FIGURES_BYTES_MAX);
    pthread_mutex_lock(&dispatch->watch_lock);
    list_push_back(&dispatch->metric_sources, &source->link);
    pthread_mutex_unlock(&dispatch->watch_lock);
}

void dispatch_remove_metrics(struct dispatch *dispatch, struct metric_source *source)
{
    pthread_mutex_lock(&dispatch->watch_lock);
    list_remove(&source->link);
    pthread_mutex_unlock(&dispatch->watch_lock);
}

void dispatch_walk_metrics(struct dispatch *dispatch,
                           void (*each)(void *context, const struct metric_source *source,
                                        const void *figures),
                           void *context)
{
    pthread_mutex_lock(&dispatch->watch_lock);
    LIST_FOR_EACH (link, &dispatch->metric_sources) {
        const struct metric_source *source = LIST_ENTRY(link, struct metric_source, link);
        _Alignas(max_align_t) unsigned char figures[METRIC_FIGURES_BYTES_MAX] = {0};
        source->read(source->context, figures);
        each(context, source, figures);
    }
    pthread_mutex_unlock(&dispatch->watch_lock);
}
