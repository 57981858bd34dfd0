/* Sends answers: headers and the beginning of the body in one write, the rest as the socket accepts
 * it. */
#include "base/check.h"
#include "http_internal.h"
#include "json/json.h"

#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>

#define SMALL_ANSWER_BYTES 65536

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

static const char *reason_of(int status)
{
    static const struct {
        int status;
        const char *reason;
    } reasons[] = {
        {200, "OK"},
        {204, "No Content"},
        {304, "Not Modified"},
        {400, "Bad Request"},
        {403, "Forbidden"},
        {404, "Not Found"},
        {405, "Method Not Allowed"},
        {408, "Request Timeout"},
        {413, "Content Too Large"},
        {414, "URI Too Long"},
        {417, "Expectation Failed"},
        {421, "Misdirected Request"},
        {426, "Upgrade Required"},
        {431, "Request Header Fields Too Large"},
        {500, "Internal Server Error"},
        {503, "Service Unavailable"},
        {505, "HTTP Version Not Supported"},
    };
    for (size_t i = 0; i < sizeof(reasons) / sizeof(reasons[0]); i++) {
        if (reasons[i].status == status) {
            return reasons[i].reason;
        }
    }
    CHECK(false);
    return "";
}

void append_date(struct buf *out)
{
    static const char *const days[] = {"Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat"};
    static const char *const months[] = {"Jan", "Feb", "Mar", "Apr", "May", "Jun",
                                         "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"};
    time_t now = time(NULL);
    struct tm parts;
    if (gmtime_r(&now, &parts) != NULL) { /* RFC 9110, 5.6.7 */
        buf_printf(out, "date: %s, %02d %s %04d %02d:%02d:%02d GMT\r\n", days[parts.tm_wday],
                   parts.tm_mday, months[parts.tm_mon], parts.tm_year + 1900, parts.tm_hour,
                   parts.tm_min, parts.tm_sec);
    }
}

static void append_page_fields(struct answer *answer, struct buf *out)
{
    if (!answer->has_etag) {
        buf_append_text(out, "cache-control: no-store\r\n");
        return;
    }
    buf_printf(out,
               "etag: %s\r\n"
               "cache-control: no-cache\r\n"
               "content-security-policy: %s\r\n"
               "referrer-policy: no-referrer\r\n"
               "x-frame-options: DENY\r\n",
               answer->etag, buf_text(&answer->policy));
}

static void append_head(struct session *session, struct buf *out)
{
    struct answer *answer = &session->answer;
    buf_printf(out, "HTTP/1.1 %d %s\r\n", answer->status, reason_of(answer->status));
    append_date(out);
    buf_append_text(out, "server: raftogram\r\n");
    /* A 304 has no body, and so no length. */
    if (answer->status != 304) {
        buf_printf(out, "content-type: %s\r\ncontent-length: %zu\r\n", answer->content_type,
                   content_of(answer).size);
    }
    if (answer->allow != NULL) {
        buf_printf(out, "allow: %s\r\n", answer->allow);
    }
    if (answer->is_upgrade_required) {
        buf_append_text(out, "upgrade: websocket\r\nsec-websocket-version: 13\r\n");
    }
    const char *upgrade = answer->is_upgrade_required ? "upgrade" : "";
    const char *both = answer->is_upgrade_required && answer->is_last ? ", " : "";
    const char *last = answer->is_last ? "close" : "";
    if (answer->is_upgrade_required || answer->is_last) {
        buf_printf(out, "connection: %s%s%s\r\n", upgrade, both, last);
    } else if (session->wire.filter.head.minor == 0) {
        buf_append_text(out, "connection: keep-alive\r\n");
    }
    append_page_fields(answer, out);
    buf_append_text(out, "x-content-type-options: nosniff\r\n\r\n");
}

/* libwebsockets continues to read */
static int await_more(struct session *session, unsigned seconds)
{
    if (lws_http_transaction_completed(session->wsi) != 0) {
        return -1;
    }
    session_set_deadline(session, seconds);
    crowd_note_idle(session);
    return 0;
}

/* Reads for a while before the connection ends: with unread bytes the kernel would reset the
 * connection, and the client might never see the answer. */
static int complete_last(struct session *session)
{
    struct http_filter *filter = &session->wire.filter;
    bool is_more_expected = filter->head.status != 0 || filter->head.body_size > 0 ||
                            filter->head.is_chunked || filter->head.expects_continue;
    http_filter_next(filter, true);
    if (!is_more_expected) {
        return -1;
    }
    (void)shutdown(session->wire.fd, SHUT_WR);
    return await_more(session, HTTP_DRAIN_S);
}

static int complete(struct session *session)
{
    bool is_last = session->answer.is_last || session->frontend->phase == HTTP_STOPPING;
    session_drop_answer(session);
    session->is_busy = false;
    if (is_last) {
        return complete_last(session);
    }
    http_filter_next(&session->wire.filter, false);
    return await_more(session, HTTP_IDLE_S);
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
    if (is_last && !lws_partial_buffered(session->wsi)) {
        return complete(session);
    }
    /* The deadline of libwebsockets would end the answer regardless of progress. */
    lws_set_timeout(session->wsi, NO_PENDING_TIMEOUT, 0);
    session_set_deadline(session, HTTP_STALL_S);
    lws_callback_on_writable(session->wsi);
    return 0;
}

/* Copies the next bytes of the body to `at`. */
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

void session_drop_answer(struct session *session)
{
    memory_give(session->frontend, session->answer_bytes);
    session->answer_bytes = 0;
    answer_finish(&session->answer);
}

/* Small answers, such as those of probes, always fit. */
static void charge(struct session *session, struct answer *answer)
{
    size_t bytes = answer->body.capacity;
    if (bytes > SMALL_ANSWER_BYTES && !memory_take(session->frontend, bytes)) {
        buf_finish(&answer->body);
        answer_error(answer, 503, "this node has no memory left for more answers: try again later");
    } else if (bytes > SMALL_ANSWER_BYTES) {
        session->answer_bytes = bytes;
    }
}

int session_answer(struct session *session, struct answer *answer)
{
    charge(session, answer);
    if (buf_failed(&answer->body) || buf_failed(&answer->policy)) {
        answer_error(answer, 503, "out of memory: try again later");
    }
    answer->is_last = answer->is_last || http_filter_is_last(&session->wire.filter);
    session->answer = *answer;
    session->sent = 0;
    session->is_busy = true;
    crowd_note_busy(session);
    session->is_head_timed = false;
    struct buf head = {0};
    append_head(session, &head);
    uint8_t *block = buf_failed(&head) ? NULL : malloc(LWS_PRE + head.size + HTTP_CHUNK_BYTES);
    if (block == NULL) {
        buf_finish(&head);
        return -1;
    }
    uint8_t *at = mempcpy(block + LWS_PRE, head.data, head.size);
    buf_finish(&head);
    if (session->wire.filter.head.method == HTTP_METHOD_HEAD) {
        session->sent = content_of(&session->answer).size;
    } else {
        at += take_body(session, at, HTTP_CHUNK_BYTES);
    }
    int rc = write_block(session, block + LWS_PRE, (size_t)(at - (block + LWS_PRE)), true);
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

bool request_argument(const struct request *request, const char *name, char *out, size_t out_size)
{
    struct bytes value;
    if (!http_find_argument(request->head->query, name, &value)) {
        return false;
    }
    struct buf text = {.max_bytes = out_size - 1};
    bool is_decoded = http_decode(value, &text) && !buf_failed(&text);
    lws_strncpy(out, is_decoded ? buf_text(&text) : "%", out_size);
    buf_finish(&text);
    return true;
}
