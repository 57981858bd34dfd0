/* Who may connect: what libwebsockets would hang up on is answered here, so that a client learns
 * why. */
#include "origin.h"
#include "ws.h"

#include <string.h>
#include <strings.h>

#define HEADER_BYTES_MAX 512
#define KEY_BYTES 24            /* 16 bytes in base64 */
#define PROTOCOLS_BYTES_MAX 127 /* libwebsockets' limit */

/* True if the comma-separated list has the token. */
static bool list_has(const char *list, const char *token, bool is_case_sensitive)
{
    size_t size = strlen(token);
    for (const char *at = list; *at != '\0';) {
        at += strspn(at, " \t,");
        size_t length = strcspn(at, " \t,");
        if (length == size &&
            (is_case_sensitive ? strncmp(at, token, size) : strncasecmp(at, token, size)) == 0) {
            return true;
        }
        at += length;
    }
    return false;
}

static bool is_allowed(struct http_frontend *frontend, struct lws *wsi)
{
    char origin[HEADER_BYTES_MAX];
    char host[HEADER_BYTES_MAX];
    const struct frontend_options *options = &frontend->options;
    if (lws_hdr_total_length(wsi, WSI_TOKEN_ORIGIN) == 0) {
        return true;
    }
    if (lws_hdr_copy(wsi, origin, sizeof(origin), WSI_TOKEN_ORIGIN) < 0) {
        return false;
    }
    if (lws_hdr_copy(wsi, host, sizeof(host), WSI_TOKEN_HOST) > 0 && origin_is_at(origin, host)) {
        return true;
    }
    struct dispatch_node_status node;
    dispatch_get_node_status(frontend->dispatch, &node);
    for (size_t i = 0; i < node.member_count; i++) {
        if (origin_is_at(origin, node.members[i].http_addr)) {
            return true;
        }
    }
    for (size_t i = 0; i < options->allowed_origin_count; i++) {
        if (origin_equal(origin, options->allowed_origins[i])) {
            return true;
        }
    }
    return false;
}

/* NULL or what is wrong with the handshake (RFC 6455, 4.2.1). */
static const char *handshake_fault(struct lws *wsi)
{
    char text[HEADER_BYTES_MAX];
    if (lws_hdr_total_length(wsi, WSI_TOKEN_HOST) == 0) {
        return "a WebSocket handshake needs a Host header";
    }
    if (lws_hdr_copy(wsi, text, sizeof(text), WSI_TOKEN_CONNECTION) <= 0 ||
        !list_has(text, "upgrade", false)) {
        return "a WebSocket handshake needs Connection: Upgrade";
    }
    if (lws_hdr_total_length(wsi, WSI_TOKEN_KEY) != KEY_BYTES) {
        return "a WebSocket handshake needs a Sec-WebSocket-Key of 16 bytes in base64";
    }
    if (lws_hdr_total_length(wsi, WSI_TOKEN_PROTOCOL) > 0 &&
        (lws_hdr_total_length(wsi, WSI_TOKEN_PROTOCOL) > PROTOCOLS_BYTES_MAX ||
         lws_hdr_copy(wsi, text, sizeof(text), WSI_TOKEN_PROTOCOL) < 0 ||
         !list_has(text, WS_SUBPROTOCOL, true))) {
        return "the subprotocol here is " WS_SUBPROTOCOL ", or none";
    }
    return NULL;
}

bool ws_may_upgrade(struct http_frontend *frontend, struct lws *wsi, const char *path,
                    struct answer *answer)
{
    char version[8] = "";
    if (strcmp(path, "/ws") != 0) {
        answer_error(answer, 404, "the WebSocket is at /ws");
        return false;
    }
    if (lws_hdr_total_length(wsi, WSI_TOKEN_GET_URI) == 0) {
        answer_error(answer, 405, "a WebSocket handshake is a GET");
        answer->allow = "GET, HEAD";
        return false;
    }
    if (lws_hdr_copy(wsi, version, sizeof(version), WSI_TOKEN_VERSION) <= 0 ||
        strcmp(version, "13") != 0) {
        answer_error(answer, 426, "the WebSocket version here is 13");
        answer->is_upgrade_required = true;
        return false;
    }
    const char *fault = handshake_fault(wsi);
    if (fault != NULL) {
        answer_error(answer, 400, fault);
        return false;
    }
    if (!is_allowed(frontend, wsi)) {
        answer_error(answer, 403,
                     "this origin may not connect: list it in websocket.allowed_origins");
        return false;
    }
    if (frontend->phase != HTTP_SERVING) {
        answer_error(answer, 503, "this node is shutting down: use another");
        return false;
    }
    if (frontend->session_count > frontend->options.max_connections) {
        answer_error(answer, 503, "too many connections: try again later");
        return false;
    }
    return true;
}

void serve_ws(struct http_frontend *frontend, const struct request *request, struct answer *answer)
{
    answer_error(answer, 426, "this is a WebSocket: connect with a WebSocket client");
    answer->is_upgrade_required = true;
}
