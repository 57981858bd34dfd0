/* Handles a complete request: its answer, or the upgrade to a WebSocket. */
#include "http_internal.h"
#include "ws/ws.h"

static void note_heard(struct wire *wire)
{
    struct session *session = CONTAINER_OF(wire, struct session, wire);
    if (session->ws != NULL) {
        ws_hears(session->ws);
        return;
    }
    crowd_note_idle(session);
    if (http_filter_has_begun(&session->wire.filter) && !session->is_head_timed) {
        session->is_head_timed = true;
        session_set_deadline(session, session->crowd.is_reserved ? HTTP_RESERVED_S : HTTP_HEAD_S);
    }
}

int requests_end_late(struct session *session)
{
    struct http_filter *filter = &session->wire.filter;
    if (!http_filter_has_begun(filter)) {
        return -1;
    }
    struct answer answer = {0};
    http_filter_refuse(filter, 408, "the request's head did not come in time");
    answer_error(&answer, filter->head.status, filter->head.message);
    return session_answer(session, &answer);
}

static void refuse_method(struct answer *answer)
{
    answer_error(answer, 405, "only GET and HEAD are served here");
    answer->allow = "GET, HEAD";
}

static void serve_request(struct session *session, const struct request *request,
                          struct answer *answer)
{
    struct http_frontend *frontend = session->frontend;
    const struct http_head *head = request->head;
    const struct route *route = route_find(request->path);
    if (ws_is_handshake(head)) {
        if (ws_may_upgrade(frontend, request, answer)) {
            /* Possible only if the state changed after the head was read. */
            answer_error(answer, 503, "this node is shutting down: use another");
        }
        return;
    }
    if (request->is_over && (route == NULL || !route->is_probe)) {
        answer_error(answer, 503, "too many connections: try again later");
    } else if (head->method == HTTP_METHOD_OTHER) {
        refuse_method(answer);
    } else if (route != NULL) {
        route->serve(frontend, request, answer);
    } else {
        serve_page(frontend, request, answer);
    }
}

/* Decodes the path. Returns false if `answer` says why not. */
static bool decode_path(const struct http_head *head, struct buf *path, struct answer *answer)
{
    bool is_decoded = http_decode(head->path, path);
    if (!is_decoded) {
        answer_error(answer, 400, "the path has a faulty percent sign");
        answer->is_last = true;
    } else if (buf_failed(path)) {
        answer_error(answer, 503, "out of memory: try again later");
    }
    return is_decoded && !buf_failed(path);
}

int requests_serve(struct session *session)
{
    struct answer answer = {.status = 200};
    struct buf path = {0};
    const struct http_head *head = &session->wire.filter.head;
    session->frontend->requests_total++;
    if (session->wire.filter.state != HTTP_FILTER_REQUEST || session->is_busy) {
        return -1; /* it did not pass through wire.c */
    }
    if (head->status != 0) {
        answer_error(&answer, head->status, head->message);
    } else if (*(const char *)head->path.data != '/') {
        refuse_method(&answer); /* CONNECT host:port, OPTIONS * */
        answer.is_last = true;
    } else if (frontend_allows_host(session->frontend, head, &answer) &&
               decode_path(head, &path, &answer)) {
        const struct request request = {
            .path = buf_text(&path), .head = head, .is_over = crowd_is_over(session)};
        serve_request(session, &request, &answer);
        answer.is_last = answer.is_last || request.is_over;
    }
    buf_finish(&path);
    return session_answer(session, &answer);
}

static bool may_upgrade(struct wire *wire)
{
    struct session *session = CONTAINER_OF(wire, struct session, wire);
    const struct http_head *head = &session->wire.filter.head;
    struct answer answer = {0};
    struct buf path = {0};
    bool may = false;
    if (ws_is_handshake(head) && frontend_allows_host(session->frontend, head, &answer) &&
        decode_path(head, &path, &answer)) {
        const struct request request = {
            .path = buf_text(&path), .head = head, .is_over = crowd_is_over(session)};
        may = ws_may_upgrade(session->frontend, &request, &answer);
    }
    buf_finish(&path);
    answer_finish(&answer);
    return may;
}

const struct wire_events requests_wire_events = {.heard = note_heard, .may_upgrade = may_upgrade};
