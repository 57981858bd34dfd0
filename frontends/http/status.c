/* The state of the node over HTTP: /health, /livez, /readyz, /status. */
#include "base/check.h"
#include "http_internal.h"
#include "json/json.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#define STUCK_MS 10000 /* the node's thread turns many times a second while it is well */
#define KV_KEYS_MAX 1000
#define KV_BYTES_MAX (1u << 20)

static void append_text(struct buf *out, const char *text)
{
    json_append_string(out, bytes_of_text(text));
}

/* ,"name":"text" */
static void append_member(struct buf *out, const char *name, const char *text)
{
    buf_printf(out, ",\"%s\":", name);
    append_text(out, text);
}

static void append_number(struct buf *out, const char *name, uint64_t number)
{
    buf_printf(out, ",\"%s\":%" PRIu64, name, number);
}

static void append_boolean(struct buf *out, const char *name, bool value)
{
    buf_printf(out, ",\"%s\":%s", name, value ? "true" : "false");
}

static void append_leader(struct buf *out, const struct dispatch_node_status *node)
{
    if (node->has_leader) {
        append_member(out, "leader_id", node->leader_id);
        append_member(out, "leader_raft_addr", node->leader_raft_addr);
        append_member(out, "leader_grpc_addr", node->leader_grpc_addr);
    }
}

void serve_health(struct http_frontend *frontend, const struct request *request,
                  struct answer *answer)
{
    struct dispatch_node_status node;
    dispatch_get_node_status(frontend->dispatch, &node);
    struct buf *out = &answer->body;
    answer->content_type = "application/json";
    buf_append_text(out, "{\"status\":\"ok\"");
    append_member(out, "node", node.node_id);
    append_member(out, "state", node.state);
    append_member(out, "node_id", node.node_id);
    append_member(out, "role", node.role);
    append_boolean(out, "is_leader", node.is_leader);
    append_leader(out, &node);
    buf_append_text(out, "}\n");
}

/* ---- probes ---- */

struct check {
    const char *name;
    bool is_ok;
    const char *why; /* the reason if it fails */
};

/* Writes one line for each check with ?verbose or after a failure, else "ok". */
static void answer_checks(const struct request *request, struct answer *answer,
                          const struct check *checks, size_t count)
{
    char value[8];
    bool is_verbose = request_argument(request, "verbose", value, sizeof(value));
    bool is_ok = true;
    for (size_t i = 0; i < count; i++) {
        is_ok = is_ok && checks[i].is_ok;
    }
    answer->status = is_ok ? 200 : 503;
    answer->content_type = "text/plain; charset=utf-8";
    for (size_t i = 0; i < count && (is_verbose || !is_ok); i++) {
        if (checks[i].is_ok) {
            buf_printf(&answer->body, "[+]%s ok\n", checks[i].name);
        } else {
            buf_printf(&answer->body, "[-]%s failed: %s\n", checks[i].name, checks[i].why);
        }
    }
    buf_append_text(&answer->body, is_ok ? "ok\n" : "not ok\n");
}

void serve_livez(struct http_frontend *frontend, const struct request *request,
                 struct answer *answer)
{
    struct dispatch_node_status node;
    dispatch_get_node_status(frontend->dispatch, &node);
    /* The answer of this thread is the check itself. */
    const struct check checks[] = {
        {"http", true, ""},
        {"node_thread", node.turn_age_ms < STUCK_MS, "it has not turned for 10 s"},
    };
    answer_checks(request, answer, checks, sizeof(checks) / sizeof(checks[0]));
}

static const char *why_still(const struct dispatch_node_status *node)
{
    return node->is_log_without_room     ? "its disk has no room for the log"
           : node->is_store_without_room ? "its store is full"
                                         : "it makes no progress";
}

static const char *why_behind(const struct dispatch_node_status *node, char *text, size_t size)
{
    if (node->is_stale) {
        return "the node's thread hangs";
    }
    if (node->is_damaged) {
        return "the store is damaged: the node ends and is repaired at its next start";
    }
    if (node->is_diverged) {
        return "what it has applied differs from the other nodes'";
    }
    if (node->is_recovering) {
        return "its data_dir is new, or lacks what it once had: the leader has not admitted it yet";
    }
    if (node->is_standing_still) {
        snprintf(text, size, "%s: it is at entry %llu, %llu are committed", why_still(node),
                 (unsigned long long)node->applied_index, (unsigned long long)node->known_commit);
        return text;
    }
    return "entries of the leader are still missing";
}

void serve_readyz(struct http_frontend *frontend, const struct request *request,
                  struct answer *answer)
{
    struct dispatch_node_status node;
    dispatch_get_node_status(frontend->dispatch, &node);
    char why[128];
    const struct check checks[] = {
        {"leader", node.has_leader, "no leader is known"},
        {"quorum", node.has_quorum, "a majority of the nodes is out of reach"},
        {"caught_up", node.is_caught_up, why_behind(&node, why, sizeof(why))},
        {"turning", !node.is_stale, "the node's thread hangs: its disk may not answer"},
        {"not_draining", !node.is_draining && frontend->phase == HTTP_SERVING,
         "the node is shutting down"},
    };
    answer_checks(request, answer, checks, sizeof(checks) / sizeof(checks[0]));
}

/* ---- the status document ---- */

struct value_walk {
    struct buf *out;
    size_t keys;
    size_t keys_max;
    size_t bytes;
    bool is_truncated;
};

static int append_value(void *context, struct bytes key, struct bytes value)
{
    struct value_walk *walk = context;
    if (walk->keys == walk->keys_max || walk->bytes + key.size + value.size > KV_BYTES_MAX) {
        walk->is_truncated = true;
        return 1;
    }
    if (walk->keys > 0) {
        buf_append_byte(walk->out, ',');
    }
    json_append_string(walk->out, key);
    buf_append_byte(walk->out, ':');
    json_append_string(walk->out, value);
    walk->keys++;
    walk->bytes += key.size + value.size;
    return 0;
}

/* Reads ?kv_limit=N, limited to KV_KEYS_MAX. Returns false if it is not a number. */
static bool read_limit(const struct request *request, size_t *out)
{
    char text[24];
    *out = KV_KEYS_MAX;
    if (!request_argument(request, "kv_limit", text, sizeof(text))) {
        return true;
    }
    char *end;
    errno = 0;
    unsigned long long keys = strtoull(text, &end, 10);
    if (text[0] < '0' || text[0] > '9' || *end != '\0' || errno != 0) {
        return false;
    }
    *out = keys < KV_KEYS_MAX ? (size_t)keys : KV_KEYS_MAX;
    return true;
}

static void append_values(struct http_frontend *frontend, size_t keys_max, struct buf *out)
{
    struct value_walk walk = {.out = out, .keys_max = keys_max};
    buf_append_text(out, ",\"kv_data\":{");
    (void)dispatch_walk_values(frontend->dispatch, walk.keys_max + 1, append_value, &walk);
    buf_append_byte(out, '}');
    if (walk.is_truncated) {
        append_boolean(out, "kv_truncated", true);
    }
}

static void append_peers(struct buf *out, const struct dispatch_node_status *node)
{
    bool is_first = true;
    buf_append_text(out, ",\"peers\":[");
    for (size_t i = 0; i < node->member_count; i++) {
        if (node->members[i].is_self) {
            continue;
        }
        if (!is_first) {
            buf_append_byte(out, ',');
        }
        append_text(out, node->members[i].node_id);
        is_first = false;
    }
    buf_append_byte(out, ']');
}

static void append_metrics(struct buf *out, const struct dispatch_metrics *metrics,
                           const char *state)
{
    buf_printf(out, ",\"metrics\":{\"messages_sent_total\":%" PRIu64, metrics->messages_sent_total);
    append_number(out, "election_count", metrics->election_count);
    append_number(out, "last_commit_index", metrics->last_commit_index);
    append_number(out, "proposals_total", metrics->proposals_total);
    append_number(out, "reads_total", metrics->reads_total);
    append_number(out, "applied_index", metrics->applied_index);
    append_member(out, "current_state", state);
    buf_append_byte(out, '}');
}

static void append_members(struct buf *out, const struct dispatch_node_status *node)
{
    buf_append_text(out, ",\"members\":[");
    for (size_t i = 0; i < node->member_count; i++) {
        const struct dispatch_member *member = &node->members[i];
        buf_append_text(out, i == 0 ? "{\"node_id\":" : ",{\"node_id\":");
        append_text(out, member->node_id);
        append_member(out, "raft_addr", member->raft_addr);
        append_member(out, "grpc_addr", member->grpc_addr);
        append_member(out, "http_addr", member->http_addr);
        append_boolean(out, "is_self", member->is_self);
        append_boolean(out, "is_leader", member->is_leader);
        append_boolean(out, "is_connected", member->is_connected);
        append_boolean(out, "is_whole", member->is_whole);
        if (node->is_leader) {
            append_number(out, "match_index", member->match_index);
            append_number(out, "lag",
                          node->last_index > member->match_index
                              ? node->last_index - member->match_index
                              : 0);
            if (member->last_contact_ms != UINT64_MAX) {
                append_number(out, "last_contact_ms", member->last_contact_ms);
            }
        }
        buf_append_byte(out, '}');
    }
    buf_append_byte(out, ']');
}

/* Appends the figures of a table that are not elsewhere in the document. */
static void append_rows(struct buf *out, const struct metric *rows, size_t count,
                        const void *figures)
{
    for (size_t i = 0; i < count; i++) {
        if (rows[i].status_name == NULL) {
            continue;
        }
        if (rows[i].type == METRIC_FLAG) {
            append_boolean(out, rows[i].status_name, metric_value(&rows[i], figures) != 0);
        } else {
            append_number(out, rows[i].status_name, metric_value(&rows[i], figures));
        }
    }
}

static void append_source(void *out, const struct metric_source *source, const void *figures)
{
    append_rows(out, source->rows, source->row_count, figures);
}

void serve_status(struct http_frontend *frontend, const struct request *request,
                  struct answer *answer)
{
    struct dispatch_metrics metrics;
    size_t keys_max;
    if (!read_limit(request, &keys_max)) {
        answer_error(answer, 400, "kv_limit is to be a number");
        return;
    }
    dispatch_get_metrics(frontend->dispatch, &metrics);
    const struct dispatch_node_status *node = &metrics.node;
    struct buf *out = &answer->body;
    answer->content_type = "application/json";
    buf_append_text(out, "{\"node_id\":");
    append_text(out, node->node_id);
    append_member(out, "state", node->state);
    append_number(out, "term", node->term);
    append_member(out, "leader_id", node->leader_id);
    append_number(out, "commit_index", node->commit_index);
    append_number(out, "applied_index", node->applied_index);
    append_number(out, "log_length", metrics.log_entries);
    append_peers(out, node);
    append_number(out, "kv_size", metrics.value_count);
    append_values(frontend, keys_max, out);
    append_metrics(out, &metrics, node->state);
    append_member(out, "role", node->role);
    append_boolean(out, "is_leader", node->is_leader);
    append_boolean(out, "has_quorum", node->has_quorum);
    append_boolean(out, "is_ready", node->is_ready);
    append_boolean(out, "is_draining", node->is_draining);
    append_number(out, "first_index", node->first_index);
    append_number(out, "last_index", node->last_index);
    append_number(out, "snapshot_index", node->snapshot_index);
    append_number(out, "channel_count", metrics.channel_count);
    append_number(out, "message_count", metrics.message_count);
    append_rows(out, dispatch_metric_rows, dispatch_metric_row_count, &metrics);
    dispatch_walk_metrics(frontend->dispatch, append_source, out);
    append_member(out, "cluster_id", node->cluster_id);
    append_member(out, "version", RAFTOGRAM_VERSION);
    append_number(out, "uptime_seconds", node->uptime_seconds);
    append_members(out, node);
    buf_append_text(out, "}\n");
}
