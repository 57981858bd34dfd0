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

/* Appends a label. Node ids come from the configuration and may be any text. */
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

/* Prints a number such as "0.0025", without superfluous digits. */
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

/* ---- tables ---- */

static void append_rows(struct buf *out, const struct metric *rows, size_t count,
                        const void *figures)
{
    for (size_t i = 0; i < count; i++) {
        const struct metric *row = &rows[i];
        switch (row->type) {
        case METRIC_COUNTER:
            append_counter(out, row->name, metric_value(row, figures), row->help);
            break;
        case METRIC_GAUGE:
        case METRIC_FLAG:
            append_gauge(out, row->name, metric_value(row, figures), row->help);
            break;
        case METRIC_HISTOGRAM:
            append_histogram(
                out, row->name,
                (const struct latency_counts *)(const void *)((const char *)figures + row->offset),
                row->help);
            break;
        }
    }
}

static void append_source(void *out, const struct metric_source *source, const void *figures)
{
    append_rows(out, source->rows, source->row_count, figures);
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

/* ---- calls ---- */

/* Calls by method and status. OK is always present, so that a rate can be computed from the first
 * call on. */
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

static void append_peers(struct buf *out, const struct dispatch_node_status *node)
{
    if (node->member_count < 2) {
        return;
    }
    append_peer_metric(out, node, PEER_CONNECTED, "raftogram_peer_connected",
                       "1 while the connection to the peer is established.");
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

struct http_stats {
    uint64_t requests_total;
    uint64_t session_count;
    uint64_t socket_count;
    uint64_t sockets_total;
    uint64_t closed_for_fault_total;
    uint64_t calls;
    uint64_t frames_received_total;
    uint64_t frames_sent_total;
    uint64_t messages_sent_total;
};

#define ROW(type, field, name, status_name, help) \
    METRIC_ROW_AS(METRIC_##type, http_stats, field, name, status_name, help)

static const struct metric http_metric_rows[] = {
    ROW(COUNTER, requests_total, "http_requests_total", "http_requests_total",
        "HTTP requests answered."),
    ROW(GAUGE, session_count, "http_connections", "http_connections",
        "Connections to the HTTP port, WebSockets among them."),
    ROW(GAUGE, socket_count, "websocket_connections", "websocket_connections",
        "WebSocket connections."),
    ROW(COUNTER, sockets_total, "websocket_connections_opened_total",
        "websocket_connections_opened_total", "WebSocket connections ever opened."),
    ROW(COUNTER, closed_for_fault_total, "websocket_closed_for_fault_total",
        "websocket_closed_for_fault_total",
        "WebSocket connections closed by this node for a fault of the client's, or for its own "
        "overload."),
    ROW(GAUGE, calls, "websocket_calls", "websocket_calls",
        "WebSocket calls that wait for their answer."),
    ROW(COUNTER, frames_received_total, "websocket_frames_received_total",
        "websocket_frames_received_total", "WebSocket messages received."),
    ROW(COUNTER, frames_sent_total, "websocket_frames_sent_total", "websocket_frames_sent_total",
        "WebSocket messages sent."),
    ROW(COUNTER, messages_sent_total, "websocket_messages_sent_total",
        "websocket_messages_sent_total", "Chat messages delivered to WebSocket subscriptions."),
};

/* Only the service thread changes and prints these figures. */
static void get_stats(void *context, void *figures)
{
    const struct http_frontend *frontend = context;
    *(struct http_stats *)figures = (struct http_stats){
        .requests_total = frontend->requests_total,
        .session_count = frontend->session_count,
        .socket_count = frontend->socket_count,
        .sockets_total = frontend->sockets_total,
        .closed_for_fault_total = frontend->closed_for_fault_total,
        .calls = frontend->calls,
        .frames_received_total = frontend->frames_received_total,
        .frames_sent_total = frontend->frames_sent_total,
        .messages_sent_total = frontend->messages_sent_total,
    };
}

void http_metrics_init(struct http_frontend *frontend)
{
    frontend->metrics = (struct metric_source){
        .rows = http_metric_rows,
        .row_count = sizeof(http_metric_rows) / sizeof(http_metric_rows[0]),
        .size = sizeof(struct http_stats),
        .read = get_stats,
        .context = frontend,
    };
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
    struct dispatch_metrics metrics;
    dispatch_get_metrics(frontend->dispatch, &metrics);
    struct buf *out = &answer->body;
    answer->content_type = "text/plain; version=0.0.4; charset=utf-8";
    append_head(out, "raftogram_build_info", "gauge", "1, with the version as a label.");
    buf_append_text(out, "raftogram_build_info{version=\"" RAFTOGRAM_VERSION "\"} 1\n");
    append_states(out, metrics.node.state);
    append_rows(out, dispatch_metric_rows, dispatch_metric_row_count, &metrics);
    append_calls(out, &metrics);
    append_peers(out, &metrics.node);
    dispatch_walk_metrics(frontend->dispatch, append_source, out);
    append_process(out, frontend, metrics.node.uptime_seconds);
}
