/* /metrics: the Prometheus text format, version 0.0.4. Counters end in _total, sizes are bytes,
 * times seconds; the exception is raftogram_election_count, whose name is the reference document's.
 * No label holds a channel, a key or a user, so the number of series is fixed by the cluster. */
#include "base/clock.h"
#include "base/latency.h"
#include "base/log.h"
#include "http_internal.h"

#include <dirent.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

static void append_head(struct buf *out, const char *name, const char *type, const char *help)
{
    buf_printf(out, "# HELP %s %s\n# TYPE %s %s\n", name, help, name, type);
}

static void append_counter(struct buf *out, const char *name, uint64_t value, const char *help)
{
    append_head(out, name, "counter", help);
    buf_printf(out, "%s %" PRIu64 "\n", name, value);
}

static void append_gauge(struct buf *out, const char *name, uint64_t value, const char *help)
{
    append_head(out, name, "gauge", help);
    buf_printf(out, "%s %" PRIu64 "\n", name, value);
}

/* Node ids come from the configuration: any text. */
static void append_label(struct buf *out, const char *text)
{
    for (const char *at = text; *at != '\0'; at++) {
        switch (*at) {
        case '\\':
            buf_append_text(out, "\\\\");
            break;
        case '"':
            buf_append_text(out, "\\\"");
            break;
        case '\n':
            buf_append_text(out, "\\n");
            break;
        default:
            buf_append_byte(out, (uint8_t)*at);
            break;
        }
    }
}

/* "0.0025": no more digits than it takes. */
static void append_seconds(struct buf *out, uint64_t ns)
{
    char text[32];
    int size = snprintf(text, sizeof(text), "%" PRIu64 ".%09" PRIu64, ns / NS_PER_S, ns % NS_PER_S);
    while (text[size - 1] == '0') {
        size--;
    }
    if (text[size - 1] == '.') {
        size--;
    }
    buf_append(out, text, (size_t)size);
}

static void append_histogram(struct buf *out, const char *name, const struct latency_counts *counts,
                             const char *help)
{
    append_head(out, name, "histogram", help);
    uint64_t below = 0;
    for (size_t i = 0; i < LATENCY_BOUNDS; i++) {
        below += counts->buckets[i];
        buf_printf(out, "%s_bucket{le=\"", name);
        append_seconds(out, latency_bounds_ns[i]);
        buf_printf(out, "\"} %" PRIu64 "\n", below);
    }
    buf_printf(out, "%s_bucket{le=\"+Inf\"} %" PRIu64 "\n%s_sum ", name, counts->count, name);
    append_seconds(out, counts->sum_ns);
    buf_printf(out, "\n%s_count %" PRIu64 "\n", name, counts->count);
}

/* ---- raft ---- */

static void append_states(struct buf *out, const char *state)
{
    static const char *const states[] = {"FOLLOWER", "CANDIDATE", "LEADER"};
    append_head(out, "raftogram_current_state", "gauge", "1 for the state that the node is in.");
    for (size_t i = 0; i < sizeof(states) / sizeof(states[0]); i++) {
        buf_printf(out, "raftogram_current_state{state=\"%s\"} %d\n", states[i],
                   strcmp(states[i], state) == 0);
    }
}

static void append_reference(struct buf *out, const struct dispatch_metrics *metrics)
{
    append_counter(out, "raftogram_messages_sent_total", metrics->messages_sent_total,
                   "Raft messages sent to peers.");
    append_gauge(out, "raftogram_election_count", metrics->election_count,
                 "Elections this node began; the same as raftogram_elections_total.");
    append_counter(out, "raftogram_elections_total", metrics->election_count,
                   "Elections this node began.");
    append_gauge(out, "raftogram_last_commit_index", metrics->last_commit_index,
                 "Highest log index known to be committed.");
    append_counter(out, "raftogram_proposals_total", metrics->proposals_total,
                   "Writes that clients asked of this node.");
    append_counter(out, "raftogram_reads_total", metrics->reads_total,
                   "Reads of clients that this node has served.");
    append_gauge(out, "raftogram_applied_index", metrics->applied_index,
                 "Highest log index applied to the state machine.");
}

static void append_raft(struct buf *out, const struct dispatch_node_status *node,
                        const struct dispatch_metrics *metrics)
{
    append_gauge(out, "raftogram_term", node->term, "Current term.");
    append_gauge(out, "raftogram_is_leader", node->is_leader, "1 on the leader.");
    append_gauge(out, "raftogram_has_leader", node->has_leader, "1 while a leader is known.");
    append_gauge(out, "raftogram_has_quorum", node->has_quorum,
                 "1 while a majority of the nodes is in reach.");
    append_gauge(
        out, "raftogram_is_ready", node->is_ready,
        "1 while the node serves: a leader is known, it has caught up, it is not draining.");
    append_counter(out, "raftogram_leader_changes_total", metrics->leader_changes_total,
                   "Changes of the leader that this node saw.");
    append_gauge(out, "raftogram_proposals_pending", metrics->proposals_pending,
                 "Writes that wait for their result.");
    append_counter(out, "raftogram_proposals_failed_total", metrics->proposals_failed_total,
                   "Writes that failed or whose outcome is unknown.");
    append_counter(out, "raftogram_forwards_total", metrics->forwards_total,
                   "Writes sent on to the leader.");
    append_gauge(out, "raftogram_requests_pending", metrics->requests_pending,
                 "Requests that wait for the log, a quorum or a leader.");
    append_gauge(out, "raftogram_log_first_index", node->first_index, "First index in the log.");
    append_gauge(out, "raftogram_log_last_index", node->last_index, "Last index in the log.");
    append_gauge(out, "raftogram_snapshot_index", node->snapshot_index,
                 "Index up to which the log was compacted.");
    append_gauge(out, "raftogram_log_entries", metrics->log_entries, "Entries in the log.");
    append_gauge(out, "raftogram_log_bytes", metrics->log_bytes, "Size of the log on disk.");
    append_counter(out, "raftogram_log_commits_total", metrics->log_commits_total,
                   "Synchronous writes of the log.");
    append_counter(out, "raftogram_log_written_bytes_total", metrics->log_written_bytes_total,
                   "Bytes written to the log.");
    append_histogram(out, "raftogram_log_sync_duration_seconds", &metrics->log_sync,
                     "One synchronous write of the log: write and fdatasync.");
    append_histogram(out, "raftogram_apply_duration_seconds", &metrics->apply,
                     "Applying one batch of committed entries to the state machine.");
    append_histogram(out, "raftogram_proposal_duration_seconds", &metrics->proposal,
                     "From a write's arrival at this node to its success.");
    append_histogram(out, "raftogram_turn_delay_seconds", &metrics->turn_delay,
                     "How late the node's thread began a turn that was due.");
}

/* What needs a person. */
static void append_damage(struct buf *out, const struct dispatch_node_status *node,
                          const struct dispatch_metrics *metrics)
{
    append_gauge(out, "raftogram_store_damaged", node->is_damaged,
                 "1 when the store fails its checksums; the node ends and repairs itself.");
    append_gauge(
        out, "raftogram_recovering", node->is_recovering,
        "1 while a wiped or damaged node is filled again: it does not count for a quorum.");
    append_gauge(out, "raftogram_diverged", node->is_diverged,
                 "1 when this node applied something else than the leader.");
    append_gauge(out, "raftogram_log_full", metrics->is_log_full,
                 "1 while the disk has no room for the log.");
    append_gauge(
        out, "raftogram_store_full", metrics->is_store_full,
        "1 while the store cannot grow: the disk is full or limits.store_size is reached.");
}

static void append_chat(struct buf *out, const struct dispatch_metrics *metrics)
{
    append_gauge(out, "raftogram_durable_applied_index", metrics->durable_applied_index,
                 "Highest log index that the store has on disk.");
    append_gauge(out, "raftogram_store_bytes", metrics->store_bytes, "Size of the store in use.");
    append_gauge(out, "raftogram_overlay_bytes", metrics->overlay_bytes,
                 "Applied state in memory that is not in the store yet.");
    append_counter(out, "raftogram_store_flushes_total", metrics->store_flushes_total,
                   "Transactions that wrote applied state to the store.");
    append_counter(out, "raftogram_messages_applied_total", metrics->messages_applied_total,
                   "Chat messages applied since the start.");
    append_gauge(out, "raftogram_channels", metrics->channel_count, "Channels.");
    append_gauge(out, "raftogram_messages", metrics->message_count, "Messages stored.");
    append_gauge(out, "raftogram_keys", metrics->value_count, "Keys in the key-value map.");
    append_counter(out, "raftogram_dedupe_hits_total", metrics->dedupe_hits_total,
                   "Messages recognised by their client message id.");
    append_gauge(out, "raftogram_subscriptions", metrics->subscriptions,
                 "Subscriptions of all protocols.");
    append_gauge(out, "raftogram_grpc_calls", metrics->grpc_calls,
                 "gRPC calls that are open, subscriptions and health watches among them.");
    append_gauge(out, "raftogram_subscription_lag_max_messages", metrics->subscription_lag_max,
                 "Messages that the slowest subscription has still to be sent.");
}

/* ---- calls ---- */

/* By method and status. OK is always there, so that a rate can be taken from the first call on. */
static void append_calls(struct buf *out, const struct dispatch_metrics *metrics)
{
    append_head(out, "raftogram_calls_total", "counter",
                "Calls answered, of all protocols; for Subscribe the opening.");
    for (size_t method = 0; method < DISPATCH_METHOD_COUNT; method++) {
        for (int code = 0; code < DISPATCH_CODES; code++) {
            if (code == DISPATCH_OK || metrics->calls[method][code] > 0) {
                buf_printf(out, "raftogram_calls_total{method=\"%s\",code=\"%s\"} %" PRIu64 "\n",
                           dispatch_method((enum dispatch_method_id)method)->name,
                           dispatch_code_name(code), metrics->calls[method][code]);
            }
        }
    }
}

/* ---- peers ---- */

enum peer_metric { PEER_CONNECTED, PEER_MATCH_INDEX, PEER_LAG, PEER_LAST_CONTACT };

static void append_peer_value(struct buf *out, const struct dispatch_node_status *node,
                              const struct dispatch_member *member, enum peer_metric metric)
{
    switch (metric) {
    case PEER_CONNECTED:
        buf_printf(out, "%d\n", member->is_connected);
        break;
    case PEER_MATCH_INDEX:
        buf_printf(out, "%" PRIu64 "\n", member->match_index);
        break;
    case PEER_LAG:
        buf_printf(out, "%" PRIu64 "\n",
                   node->last_index > member->match_index ? node->last_index - member->match_index
                                                          : 0);
        break;
    case PEER_LAST_CONTACT:
        if (member->last_contact_ms == UINT64_MAX) {
            buf_append_text(out, "+Inf\n");
        } else {
            buf_printf(out, "%" PRIu64 ".%03" PRIu64 "\n", member->last_contact_ms / 1000,
                       member->last_contact_ms % 1000);
        }
        break;
    }
}

static void append_peer_metric(struct buf *out, const struct dispatch_node_status *node,
                               enum peer_metric metric, const char *name, const char *help)
{
    append_head(out, name, "gauge", help);
    for (size_t i = 0; i < node->member_count; i++) {
        if (!node->members[i].is_self) {
            buf_printf(out, "%s{peer=\"", name);
            append_label(out, node->members[i].node_id);
            buf_append_text(out, "\"} ");
            append_peer_value(out, node, &node->members[i], metric);
        }
    }
}

static void append_peers(struct buf *out, const struct dispatch_node_status *node,
                         const struct dispatch_metrics *metrics)
{
    append_counter(
        out, "raftogram_peer_messages_dropped_total", metrics->peer_messages_dropped_total,
        "Messages of any kind that were not sent to a peer, which takes them too slowly.");
    append_counter(out, "raftogram_peer_connects_total", metrics->peer_connects_total,
                   "Streams to peers that came to stand.");
    if (node->member_count < 2) {
        return;
    }
    append_peer_metric(out, node, PEER_CONNECTED, "raftogram_peer_connected",
                       "1 while the connection to the peer stands.");
    if (node->is_leader) {
        append_peer_metric(out, node, PEER_MATCH_INDEX, "raftogram_peer_match_index",
                           "Highest log index known to be on the peer.");
        append_peer_metric(out, node, PEER_LAG, "raftogram_peer_lag_entries",
                           "Entries of the log that the peer is not known to have.");
        append_peer_metric(out, node, PEER_LAST_CONTACT, "raftogram_peer_last_contact_seconds",
                           "Time since the peer was heard.");
    }
}

/* ---- this frontend ---- */

static void append_frontend(struct buf *out, const struct http_frontend *frontend)
{
    append_counter(out, "raftogram_http_requests_total", frontend->requests_total,
                   "HTTP requests answered.");
    append_gauge(out, "raftogram_http_connections", frontend->session_count,
                 "Connections to the HTTP port, WebSockets among them.");
    append_gauge(out, "raftogram_websocket_connections", frontend->socket_count,
                 "WebSocket connections.");
    append_counter(out, "raftogram_websocket_connections_opened_total", frontend->sockets_total,
                   "WebSocket connections ever opened.");
    append_counter(out, "raftogram_websocket_closed_for_fault_total",
                   frontend->closed_for_fault_total,
                   "WebSocket connections closed by this node for a fault of the client's, or for "
                   "its own overload.");
    append_gauge(out, "raftogram_websocket_calls", frontend->calls,
                 "WebSocket calls that wait for their answer.");
    append_counter(out, "raftogram_websocket_frames_received_total",
                   frontend->frames_received_total, "WebSocket messages received.");
    append_counter(out, "raftogram_websocket_frames_sent_total", frontend->frames_sent_total,
                   "WebSocket messages sent.");
    append_counter(out, "raftogram_websocket_messages_sent_total", frontend->messages_sent_total,
                   "Chat messages delivered to WebSocket subscriptions.");
}

/* ---- the process ---- */

static size_t count_fds(void)
{
    size_t count = 0;
    DIR *folder = opendir("/proc/self/fd");
    if (folder == NULL) {
        return 0;
    }
    while (readdir(folder) != NULL) {
        count++;
    }
    closedir(folder);
    return count > 3 ? count - 3 : 0; /* ., .. and the folder itself */
}

/* Pages of memory, virtual and resident. */
static bool read_memory(unsigned long *virtual_pages, unsigned long *resident_pages)
{
    FILE *file = fopen("/proc/self/statm", "re");
    if (file == NULL) {
        return false;
    }
    int count = fscanf(file, "%lu %lu", virtual_pages, resident_pages);
    fclose(file);
    return count == 2;
}

static void append_process(struct buf *out, struct http_frontend *frontend, uint64_t uptime_seconds)
{
    struct rusage usage;
    struct rlimit limit;
    unsigned long virtual_pages;
    unsigned long resident_pages;
    uint64_t page_bytes = (uint64_t)sysconf(_SC_PAGESIZE);
    if (getrusage(RUSAGE_SELF, &usage) == 0) {
        append_head(out, "process_cpu_seconds_total", "counter", "CPU time, user and system.");
        uint64_t us = (uint64_t)(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) * 1000000 +
                      (uint64_t)(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec);
        buf_printf(out, "process_cpu_seconds_total %" PRIu64 ".%06" PRIu64 "\n", us / 1000000,
                   us % 1000000);
    }
    if (read_memory(&virtual_pages, &resident_pages)) {
        append_gauge(out, "process_resident_memory_bytes", resident_pages * page_bytes,
                     "Resident memory.");
        append_gauge(out, "process_virtual_memory_bytes", virtual_pages * page_bytes,
                     "Virtual memory.");
    }
    append_gauge(out, "process_open_fds", count_fds(), "Open file descriptors.");
    if (getrlimit(RLIMIT_NOFILE, &limit) == 0) {
        append_gauge(out, "process_max_fds", limit.rlim_cur, "Limit of open file descriptors.");
    }
    if (frontend->process_start_s == 0) {
        frontend->process_start_s = (uint64_t)time(NULL) - uptime_seconds;
    }
    append_counter(out, "raftogram_log_lines_dropped_total", log_dropped_total(),
                   "Log lines that were dropped, since nobody read them in time.");
    append_gauge(out, "process_start_time_seconds", frontend->process_start_s,
                 "Start of the process, in seconds since 1970.");
}

void serve_metrics(struct http_frontend *frontend, const struct request *request,
                   struct answer *answer)
{
    struct dispatch_node_status node;
    struct dispatch_metrics metrics;
    dispatch_get_node_status(frontend->dispatch, &node);
    dispatch_get_metrics(frontend->dispatch, &metrics);
    struct buf *out = &answer->body;
    answer->content_type = "text/plain; version=0.0.4; charset=utf-8";
    append_head(out, "raftogram_build_info", "gauge", "1, with the version as a label.");
    buf_append_text(out, "raftogram_build_info{version=\"" RAFTOGRAM_VERSION "\"} 1\n");
    append_gauge(out, "raftogram_uptime_seconds", node.uptime_seconds, "Time since the start.");
    append_states(out, node.state);
    append_reference(out, &metrics);
    append_raft(out, &node, &metrics);
    append_damage(out, &node, &metrics);
    append_chat(out, &metrics);
    append_calls(out, &metrics);
    append_peers(out, &node, &metrics);
    append_frontend(out, frontend);
    append_process(out, frontend, node.uptime_seconds);
}
