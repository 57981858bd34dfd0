/* How an answer leaves: headers and the beginning of the body in one write, the rest as the socket
 * takes it. */
#include "base/check.h"
#include "http_internal.h"
#include "json/json.h"

#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#define DRAIN_S 5 /* for the rest of a request that was refused */

void answer_error(struct answer *answer, int status, const char *message)
{
    answer->status = status;
    answer->content_type = "application/json";
    buf_reset(&answer->body);
    buf_append_text(&answer->body, "{\"error\":");
    json_append_string(&answer->body, bytes_of_text(message));
    buf_append_text(&answer->body, "}\n");
}

void answer_finish(struct answer *answer)
{
    buf_finish(&answer->body);
    buf_finish(&answer->policy);
    *answer = (struct answer){0};
}

static struct bytes content_of(const struct answer *answer)
{
    return answer->shared.data != NULL ? answer->shared : buf_bytes(&answer->body);
}

static bool add_header(struct lws *wsi, const char *name, const char *value, uint8_t **at,
                       uint8_t *end)
{
    return lws_add_http_header_by_name(wsi, (const unsigned char *)name,
                                       (const unsigned char *)value, (int)strlen(value), at,
                                       end) == 0;
}

static bool add_page_headers(struct lws *wsi, struct answer *answer, uint8_t **at, uint8_t *end)
{
    if (!answer->has_etag) {
        return add_header(wsi, "cache-control:", "no-store", at, end);
    }
    return add_header(wsi, "etag:", answer->etag, at, end) &&
           add_header(wsi, "cache-control:", "no-cache", at, end) &&
           add_header(wsi, "content-security-policy:", buf_text(&answer->policy), at, end) &&
           add_header(wsi, "referrer-policy:", "no-referrer", at, end) &&
           add_header(wsi, "x-frame-options:", "DENY", at, end);
}

static bool add_headers(struct session *session, uint8_t **at, uint8_t *end)
{
    struct lws *wsi = session->wsi;
    struct answer *answer = &session->answer;
    if (lws_add_http_header_status(wsi, (unsigned int)answer->status, at, end) != 0) {
        return false;
    }
    /* A 304 has no body, and so no length. */
    if (answer->status != 304 &&
        (!add_header(wsi, "content-type:", answer->content_type, at, end) ||
         lws_add_http_header_content_length(wsi, content_of(answer).size, at, end) != 0)) {
        return false;
    }
    return (answer->allow == NULL || add_header(wsi, "allow:", answer->allow, at, end)) &&
           (!answer->is_upgrade_required ||
            (add_header(wsi, "upgrade:", "websocket", at, end) &&
             add_header(wsi, "connection:", "upgrade", at, end) &&
             add_header(wsi, "sec-websocket-version:", "13", at, end))) &&
           (!answer->is_last || add_header(wsi, "connection:", "close", at, end)) &&
           add_page_headers(wsi, answer, at, end) &&
           add_header(wsi, "x-content-type-options:", "nosniff", at, end) &&
           lws_finalize_http_header(wsi, at, end) == 0;
}

static int complete(struct session *session)
{
    bool is_whole = session->answer.is_whole;
    /* How long a body in chunks is, libwebsockets does not know. */
    bool is_last = session->answer.is_last ||
                   lws_hdr_total_length(session->wsi, WSI_TOKEN_HTTP_TRANSFER_ENCODING) > 0;
    answer_finish(&session->answer);
    session->is_busy = false;
    if (is_whole) {
        return 0;
    }
    if (session->wire.mode == WIRE_DRAIN) {
        /* With bytes left unread the kernel would reset the connection, and the client might never
         * see the answer. */
        (void)shutdown(session->wire.fd, SHUT_WR);
        lws_set_timeout(session->wsi, PENDING_TIMEOUT_USER_OK, DRAIN_S);
        return 0;
    }
    if (is_last || session->frontend->phase == HTTP_STOPPING) {
        return -1;
    }
    return lws_http_transaction_completed(session->wsi) != 0 ? -1 : 0;
}

/* Writes what the block holds, and that it is the end if nothing is left. */
static int write_block(struct session *session, uint8_t *data, size_t size, bool is_header)
{
    bool is_last = session->sent == content_of(&session->answer).size;
    enum lws_write_protocol kind = is_header ? LWS_WRITE_HTTP_HEADERS
                                   : is_last ? LWS_WRITE_HTTP_FINAL
                                             : LWS_WRITE_HTTP;
    if (size > 0 && lws_write(session->wsi, data, size, kind) < (int)size) {
        return -1;
    }
    if (is_last) {
        return complete(session);
    }
    lws_callback_on_writable(session->wsi);
    return 0;
}

/* Copies the next bytes of the body behind `at`. */
static size_t take_body(struct session *session, uint8_t *at, size_t room)
{
    struct bytes content = content_of(&session->answer);
    size_t left = content.size - session->sent;
    size_t size = left < room ? left : room;
    if (size > 0) {
        memcpy(at, (const char *)content.data + session->sent, size);
        session->sent += size;
    }
    return size;
}

int session_answer(struct session *session, struct answer *answer)
{
    if (buf_failed(&answer->body) || buf_failed(&answer->policy)) {
        answer_error(answer, 503, "out of memory: try again later");
    }
    session->answer = *answer;
    session->sent = 0;
    session->is_busy = true;
    bool is_head = lws_hdr_total_length(session->wsi, WSI_TOKEN_HEAD_URI) > 0;
    size_t room = answer->is_whole ? content_of(answer).size : HTTP_CHUNK_BYTES;
    uint8_t *block = malloc(LWS_PRE + HTTP_ANSWER_HEADERS_MAX + room);
    if (block == NULL) {
        return -1;
    }
    uint8_t *start = block + LWS_PRE;
    uint8_t *at = start;
    if (!add_headers(session, &at, start + HTTP_ANSWER_HEADERS_MAX)) {
        free(block);
        return -1;
    }
    if (answer->is_whole) {
        /* Before an upgrade libwebsockets does not know the version yet, and writes HTTP/1.0. */
        memcpy(start, "HTTP/1.1", strlen("HTTP/1.1"));
    }
    if (is_head) {
        session->sent = content_of(&session->answer).size;
    } else {
        at += take_body(session, at, room);
    }
    int rc = write_block(session, start, (size_t)(at - start), true);
    free(block);
    return rc;
}

int session_continue(struct session *session)
{
    if (!session->is_busy) {
        return 0;
    }
    uint8_t *block = malloc(LWS_PRE + HTTP_CHUNK_BYTES);
    if (block == NULL) {
        return -1;
    }
    size_t size = take_body(session, block + LWS_PRE, HTTP_CHUNK_BYTES);
    int rc = write_block(session, block + LWS_PRE, size, false);
    free(block);
    return rc;
}
