/* The life of a connection: opening, receiving, closing. */
#include "ws.h"

#include "base/check.h"
#include "base/clock.h"
#include "base/errors.h"
#include "base/log.h"

#include <stdlib.h>
#include <string.h>

static uint64_t now_ns(void)
{
    return clock_monotonic_ns(clock_system());
}

/* ---- references ---- */

void ws_ref(struct ws *ws)
{
    ws->references++;
}

void ws_unref(struct ws *ws)
{
    CHECK(ws->references > 0);
    if (--ws->references > 0) {
        return;
    }
    struct http_frontend *frontend = ws->frontend;
    buf_finish(&ws->message);
    list_remove(&ws->link);
    free(ws);
    CHECK(frontend->socket_count > 0);
    frontend->socket_count--;
    frontend_check_empty(frontend);
}

/* ---- hanging up ---- */

/* A callback that returns -1 would have libwebsockets send a close frame of its own. */
void ws_hang_up(struct ws *ws)
{
    lws_set_timeout(ws->wsi, PENDING_TIMEOUT_USER_OK, LWS_TO_KILL_ASYNC);
}

/* ---- timers ---- */

static uint64_t least(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

static void set_timer(struct ws *ws, uint64_t now)
{
    uint64_t heartbeat_ns = (uint64_t)ws->frontend->options.heartbeat_ms * NS_PER_MS;
    uint64_t due = least(ws->last_sent_ns + heartbeat_ns, ws->last_received_ns + WS_IDLE_PING_NS);
    if (ws->is_ping_sent) {
        due = least(ws->last_sent_ns + heartbeat_ns, ws->ping_sent_ns + WS_PONG_WAIT_NS);
    }
    if (ws->close_code != 0) {
        due = ws->close_since_ns + WS_CLOSE_WAIT_NS;
    }
    uint64_t wait_ns = due > now + WS_TIMER_MIN_NS ? due - now : WS_TIMER_MIN_NS;
    lws_set_timer_usecs(ws->wsi, (lws_usec_t)(wait_ns / 1000));
}

void ws_on_timer(struct ws *ws)
{
    uint64_t now = now_ns();
    if (ws->close_code != 0) {
        if (now >= ws->close_since_ns + WS_CLOSE_WAIT_NS) {
            ws_hang_up(ws);
        } else {
            set_timer(ws, now);
        }
        return;
    }
    uint64_t heartbeat_ns = (uint64_t)ws->frontend->options.heartbeat_ms * NS_PER_MS;
    if (now >= ws->last_sent_ns + heartbeat_ns) {
        ws->is_heartbeat_due = true;
    }
    if (ws->is_ping_sent && !ws->is_paused && now >= ws->ping_sent_ns + WS_PONG_WAIT_NS) {
        /* The client is dead, or does not follow RFC 6455, 5.5.2; in that case it can read the
         * reason. */
        ws_close(ws, WS_CLOSE_POLICY, "pings were not answered", true);
        (void)ws_write_close(ws, ws->close_code, ws->close_reason);
        ws_hang_up(ws);
        return;
    }
    if (!ws->is_ping_sent && now >= ws->last_received_ns + WS_IDLE_PING_NS) {
        ws->is_ping_due = true;
    }
    if (ws->is_heartbeat_due || ws->is_ping_due) {
        lws_callback_on_writable(ws->wsi);
    }
    set_timer(ws, now);
}

void ws_hears(struct ws *ws)
{
    ws->last_received_ns = now_ns();
    ws->is_ping_sent = false;
    if (ws->frames->ping_count > 0) {
        lws_callback_on_writable(ws->wsi);
    }
}

void ws_on_pong(struct ws *ws, struct bytes payload)
{
    if (ws->frames->is_broken && bytes_equal(payload, bytes_of_text(WS_FRAMES_FAULT))) {
        ws_close(ws, WS_CLOSE_PROTOCOL_ERROR, "a faulty frame", true);
    }
}

/* ---- open and gone ---- */

int ws_open(struct session *session)
{
    struct http_frontend *frontend = session->frontend;
    struct ws *ws = calloc(1, sizeof(*ws));
    if (ws == NULL) {
        return ERR_NOMEM;
    }
    ws->frontend = frontend;
    ws->wsi = session->wsi;
    ws->references = 1;
    ws->last_sent_ns = now_ns();
    ws->last_received_ns = ws->last_sent_ns;
    list_init(&ws->outbox);
    list_init(&ws->subscriptions);
    list_init(&ws->ready);
    list_init(&ws->parked);
    list_push_back(&frontend->sockets, &ws->link);
    frontend->socket_count++;
    frontend->sockets_total++;
    session->ws = ws;
    session->wire.is_websocket = true;
    crowd_note_busy(session);
    http_filter_finish(&session->wire.filter);
    ws->frames = &session->wire.frames;
    /* Faults without a code of libwebsockets end as protocol errors. */
    lws_close_reason(ws->wsi, LWS_CLOSE_STATUS_PROTOCOL_ERR, NULL, 0);
    struct buf hello = {0};
    ws_begin_text(&hello);
    ws_append_hello(frontend, &hello);
    ws_send(ws, &hello);
    if (frontend->phase != HTTP_SERVING) {
        ws_close(ws, WS_CLOSE_GOING_AWAY, "shutting down", false);
    }
    set_timer(ws, ws->last_sent_ns);
    return 0;
}

void ws_drop_message(struct ws *ws)
{
    memory_give(ws->frontend, ws->message.size);
    buf_finish(&ws->message);
}

void ws_gone(struct ws *ws)
{
    ws->wsi = NULL;
    ws_drop_outbox(ws);
    ws_note_all_sent(ws);
    ws_drop_message(ws);
    ws_close_subscriptions(ws);
    ws_unref(ws);
}

/* ---- receiving ---- */

static bool must_pause(const struct ws *ws)
{
    return ws->close_code == 0 &&
           (ws->calls >= WS_CALLS_PAUSE || ws->large_calls >= WS_LARGE_CALLS_PAUSE ||
            ws->outbox_bytes >= WS_OUTBOX_PAUSE_BYTES);
}

void ws_regulate(struct ws *ws)
{
    bool is_paused = must_pause(ws);
    if (ws->wsi == NULL || is_paused == ws->is_paused) {
        return;
    }
    ws->is_paused = is_paused;
    if (!is_paused) {
        ws_hears(ws); /* reading was paused here; the client was not silent */
    }
    (void)lws_rx_flow_control(ws->wsi, is_paused ? 0 : 1);
}

static void take_message(struct ws *ws, struct bytes text)
{
    if (!bytes_is_utf8(text)) {
        ws_close(ws, WS_CLOSE_INVALID_TEXT, "the text is not UTF-8", true);
        return;
    }
    ws->frontend->frames_received_total++;
    ws_serve_message(ws, text);
    ws_regulate(ws);
}

static bool append_fragment(struct ws *ws, struct bytes fragment)
{
    if (!memory_take(ws->frontend, fragment.size)) {
        memory_note_want(ws->frontend);
        return false;
    }
    size_t before = ws->message.size;
    if (before == 0) {
        ws->message_since_ns = now_ns();
    }
    buf_append(&ws->message, fragment.data, fragment.size);
    if (ws->message.size == before) { /* no memory, or nothing to append */
        memory_give(ws->frontend, fragment.size);
    }
    return !buf_failed(&ws->message);
}

void ws_receive(struct ws *ws, struct bytes fragment)
{
    if (ws->close_code != 0) {
        return; /* later bytes are discarded, so that the close code arrives */
    }
    if (lws_frame_is_binary(ws->wsi)) {
        ws_close(ws, WS_CLOSE_BINARY, "text frames only", true);
        return;
    }
    size_t size = ws->message.size + fragment.size + lws_remaining_packet_payload(ws->wsi);
    if (size > ws->frontend->options.max_frame_bytes) {
        ws_drop_message(ws);
        ws_close(ws, WS_CLOSE_TOO_BIG, "the message is over max_frame_bytes", true);
        return;
    }
    bool is_last = lws_is_final_fragment(ws->wsi) != 0;
    if (is_last && ws->message.size == 0) {
        take_message(ws, fragment);
        return;
    }
    if (!append_fragment(ws, fragment)) {
        ws_drop_message(ws);
        ws_close(ws, WS_CLOSE_OVERLOADED, "out of memory", true);
        return;
    }
    if (is_last) {
        take_message(ws, buf_bytes(&ws->message));
        ws_drop_message(ws);
    }
}

/* ---- closing ---- */

void ws_close(struct ws *ws, int code, const char *reason, bool is_now)
{
    if (ws->wsi == NULL || ws->close_code != 0) {
        return;
    }
    ws->close_code = code;
    ws->close_reason = reason;
    ws->is_close_now = is_now;
    ws->close_since_ns = now_ns();
    if (code != WS_CLOSE_GOING_AWAY) {
        ws->frontend->closed_for_fault_total++;
        log_debug("ws", "closing a connection", LOG_I64("code", code), LOG_STR("reason", reason));
    }
    ws_regulate(ws);
    set_timer(ws, ws->close_since_ns);
    lws_callback_on_writable(ws->wsi);
}

/* Codes that a client may send (RFC 6455, 7.4, and the registry). */
static bool is_close_code(unsigned code)
{
    return (code >= 1000 && code <= 1003) || (code >= 1007 && code <= 1014) ||
           (code >= 3000 && code <= 4999);
}

void ws_on_close_frame(struct ws *ws, struct bytes payload)
{
    if (ws->is_close_sent) {
        ws_hang_up(ws);
        return;
    }
    const uint8_t *data = payload.data;
    const struct bytes reason = {data + 2, payload.size >= 2 ? payload.size - 2 : 0};
    unsigned code = payload.size >= 2 ? (unsigned)data[0] << 8 | data[1] : WS_CLOSE_NORMAL;
    if (ws->frames->close_code != 0) {
        code = ws->frames->close_code;
    }
    if (payload.size == 1 || !is_close_code(code)) {
        code = WS_CLOSE_PROTOCOL_ERROR;
    } else if (reason.size > 0 && !bytes_is_utf8(reason)) {
        code = WS_CLOSE_INVALID_TEXT;
    }
    /* Answers the close frame here, because libwebsockets does not know these codes. */
    (void)ws_write_close(ws, (int)code, "");
    ws_hang_up(ws);
}
