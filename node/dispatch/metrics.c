/* Figures for /metrics and /status. */
#include "dispatch/dispatch_internal.h"

static uint64_t subscription_lag_max(const struct dispatch *dispatch)
{
    uint64_t lag_max = 0;
    for (size_t i = 0; i < dispatch->reader_count; i++) {
        uint64_t lag = atomic_load_explicit(&dispatch->readers[i].lag_max, memory_order_relaxed);
        lag_max = lag > lag_max ? lag : lag_max;
    }
    return lag_max;
}

void dispatch_note_grpc_calls(struct dispatch *dispatch, uint64_t open)
{
    atomic_store_explicit(&dispatch->grpc_calls, open, memory_order_relaxed);
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
        .grpc_calls = atomic_load_explicit(&dispatch->grpc_calls, memory_order_relaxed),
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
