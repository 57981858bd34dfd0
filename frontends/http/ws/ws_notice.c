/* Notifications that a client does not ask for: hello, leader, heartbeat. */
#include "ws.h"
#include "json/json.h"

#include <string.h>

static void append_member(struct buf *out, const char *name, const char *text)
{
    buf_printf(out, "\"%s\":", name);
    json_append_string(out, bytes_of_text(text));
}

static void append_state(struct buf *out, const struct dispatch_node_status *node)
{
    append_member(out, "role", node->role);
    buf_append_byte(out, ',');
    append_member(out, "leaderId", node->leader_id);
    buf_printf(out, ",\"hasQuorum\":%s", node->has_quorum ? "true" : "false");
}

void ws_append_hello(struct http_frontend *frontend, struct buf *out)
{
    const struct frontend_options *options = &frontend->options;
    struct dispatch_node_status node;
    dispatch_get_node_status(frontend->dispatch, &node);
    jsonrpc_open_notification(out, "hello");
    buf_append_byte(out, '{');
    append_member(out, "nodeId", node.node_id);
    buf_append_byte(out, ',');
    append_state(out, &node);
    buf_append_byte(out, ',');
    append_member(out, "clusterId", node.cluster_id);
    buf_append_byte(out, ',');
    append_member(out, "version", RAFTOGRAM_VERSION);
    buf_printf(out, ",\"heartbeatMs\":%u,\"maxPayloadBytes\":%u,\"maxFrameBytes\":%u,\"peers\":[",
               options->heartbeat_ms, options->max_payload_bytes, options->max_frame_bytes);
    for (size_t i = 0; i < node.member_count; i++) {
        buf_append_text(out, i == 0 ? "{" : ",{");
        append_member(out, "nodeId", node.members[i].node_id);
        buf_append_byte(out, ',');
        append_member(out, "httpAddr", node.members[i].http_addr);
        buf_append_byte(out, '}');
    }
    buf_append_text(out, "]}}");
}

void ws_append_leader(struct http_frontend *frontend, struct buf *out)
{
    struct dispatch_node_status node;
    dispatch_get_node_status(frontend->dispatch, &node);
    jsonrpc_open_notification(out, "leader");
    buf_append_byte(out, '{');
    append_state(out, &node);
    buf_append_text(out, "}}");
}

void ws_append_heartbeat(struct buf *out)
{
    jsonrpc_open_notification(out, "heartbeat");
    buf_append_text(out, "{}}");
}

void ws_announce(struct http_frontend *frontend)
{
    struct dispatch_node_status node;
    dispatch_get_node_status(frontend->dispatch, &node);
    /* Roles and ids are static texts of dispatch's. */
    if (node.role == frontend->told_role && node.leader_id == frontend->told_leader_id &&
        node.has_quorum == frontend->told_quorum) {
        return;
    }
    frontend->told_role = node.role;
    frontend->told_leader_id = node.leader_id;
    frontend->told_quorum = node.has_quorum;
    LIST_FOR_EACH (link, &frontend->sockets) {
        struct ws *ws = LIST_ENTRY(link, struct ws, link);
        if (ws->wsi != NULL) {
            ws->is_leader_due = true;
            lws_callback_on_writable(ws->wsi);
        }
    }
}
