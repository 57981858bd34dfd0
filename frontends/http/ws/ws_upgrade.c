/* Checks who may connect. Requests at which libwebsockets would just disconnect are answered here,
 * so that the client learns the reason. */
#include "origin.h"
#include "ws.h"

#include <ctype.h>
#include <string.h>

#define KEY_BYTES 24 /* 16 bytes in base64 */

bool ws_is_handshake(const struct http_head *head)
{
    /* An Upgrade in HTTP/1.0 is ignored: RFC 9110, 7.8. */
    return head->status == 0 && head->wants_websocket && head->minor > 0;
}

static bool is_key(struct bytes key)
{
    const unsigned char *data = key.data;
    for (size_t i = 0; i < key.size; i++) {
        bool is_padding = i >= KEY_BYTES - 2;
        if (is_padding ? data[i] != '=' : !isalnum(data[i]) && data[i] != '+' && data[i] != '/') {
            return false;
        }
    }
    return key.size == KEY_BYTES;
}

/* Returns NULL, or what is wrong with the handshake (RFC 6455, 4.2.1). */
static const char *handshake_fault(const struct http_head *head)
{
    if (!head->has_connection_upgrade) {
        return "a WebSocket handshake needs Connection: Upgrade";
    }
    if (!is_key(head->websocket_key)) {
        return "a WebSocket handshake needs a Sec-WebSocket-Key of 16 bytes in base64";
    }
    if (head->is_chunked || head->body_size > 0) {
        return "a WebSocket handshake has no body";
    }
    return NULL;
}

bool ws_may_upgrade(struct http_frontend *frontend, const struct request *request,
                    struct answer *answer)
{
    const struct http_head *head = request->head;
    if (strcmp(request->path, "/ws") != 0) {
        answer_error(answer, 404, "the WebSocket is at /ws");
        return false;
    }
    if (head->method != HTTP_METHOD_GET) {
        answer_error(answer, 405, "a WebSocket handshake is a GET");
        answer->allow = "GET, HEAD";
        return false;
    }
    if (!bytes_equal(head->websocket_version, bytes_of_text("13"))) {
        answer_error(answer, 426, "the WebSocket version here is 13");
        answer->is_upgrade_required = true;
        return false;
    }
    const char *fault = handshake_fault(head);
    if (fault != NULL) {
        answer_error(answer, 400, fault);
        return false;
    }
    if (head->origin.data != NULL && !frontend_allows_origin(frontend, head)) {
        answer_error(answer, 403,
                     "this origin may not connect: list it in websocket.allowed_origins");
        return false;
    }
    if (frontend->phase != HTTP_SERVING) {
        answer_error(answer, 503, "this node is shutting down: use another");
        return false;
    }
    if (request->is_over) {
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
