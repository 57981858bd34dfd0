/* Sends texts in order, then one page of each subscription in rotation, only as fast as the client
 * reads. */
#include "ws.h"

#include "base/check.h"
#include "base/clock.h"

#include <stdlib.h>
#include <string.h>

#define SCRATCH_KEPT_BYTES (2u << 20)
/* libwebsockets does not publish this value. Its lws_close_reason() drains what the client still
 * sends for only 5 s, and loses its position in a message. */
#define WRITE_CLOSE ((enum lws_write_protocol)4)

struct frame {
    struct list link;
    struct buf text;
};

void ws_begin_text(struct buf *out)
{
    (void)buf_extend(out, LWS_PRE);
}

struct bytes ws_text_of(const struct buf *text)
{
    CHECK(text->size >= LWS_PRE);
    return (struct bytes){text->data + LWS_PRE, text->size - LWS_PRE};
}

void ws_send(struct ws *ws, struct buf *text)
{
    if (ws->wsi == NULL || ws->is_close_sent) {
        buf_finish(text);
        return;
    }
    struct frame *frame = malloc(sizeof(*frame));
    if (frame == NULL || buf_failed(text)) {
        free(frame);
        buf_finish(text);
        ws_close(ws, WS_CLOSE_OVERLOADED, "out of memory", true);
        return;
    }
    frame->text = *text;
    list_push_back(&ws->outbox, &frame->link);
    ws->outbox_bytes += frame->text.size;
    memory_take_over(ws->frontend, frame->text.size);
    if (ws->outbox_bytes > WS_OUTBOX_BYTES_MAX) {
        ws_close(ws, WS_CLOSE_OVERLOADED, "too many answers are not read", true);
        return;
    }
    lws_callback_on_writable(ws->wsi);
}

static void free_frame(struct ws *ws, struct frame *frame)
{
    ws->outbox_bytes -= frame->text.size;
    memory_give(ws->frontend, frame->text.size);
    buf_finish(&frame->text);
    free(frame);
}

void ws_note_all_sent(struct ws *ws)
{
    memory_give(ws->frontend, ws->unsent_bytes);
    ws->unsent_bytes = 0;
}

void ws_drop_outbox(struct ws *ws)
{
    struct list *link;
    while ((link = list_pop_front(&ws->outbox)) != NULL) {
        free_frame(ws, LIST_ENTRY(link, struct frame, link));
    }
}

/* ---- writing ---- */

/* Writes a text that has headroom. Returns 0, or -1 if the connection is broken. */
static int write_text(struct ws *ws, const struct buf *text)
{
    size_t size = text->size - LWS_PRE;
    if (lws_write(ws->wsi, text->data + LWS_PRE, size, LWS_WRITE_TEXT) < (int)size) {
        return -1;
    }
    ws->last_sent_ns = clock_monotonic_ns(clock_system());
    ws->is_heartbeat_due = false;
    ws->frontend->frames_sent_total++;
    if (lws_partial_buffered(ws->wsi)) {
        ws->unsent_bytes += size;
        memory_take_over(ws->frontend, size);
    }
    return 0;
}

int ws_write_close(struct ws *ws, int code, const char *reason)
{
    uint8_t block[LWS_PRE + WS_CONTROL_BYTES_MAX];
    size_t size = strlen(reason);
    CHECK(size <= WS_CONTROL_BYTES_MAX - 2);
    block[LWS_PRE] = (uint8_t)(code >> 8);
    block[LWS_PRE + 1] = (uint8_t)code;
    memcpy(block + LWS_PRE + 2, reason, size);
    ws->is_close_sent = true;
    ws_drop_outbox(ws);
    return lws_write(ws->wsi, block + LWS_PRE, size + 2, WRITE_CLOSE) < 0 ? -1 : 0;
}

/* Pings have a payload, because some libraries lose empty pongs. */
static int write_ping(struct ws *ws)
{
    static const char payload[] = "raftogram";
    uint8_t block[LWS_PRE + sizeof(payload)];
    ws->is_ping_due = false;
    ws->is_ping_sent = true;
    ws->ping_sent_ns = clock_monotonic_ns(clock_system());
    memcpy(block + LWS_PRE, payload, sizeof(payload) - 1);
    return lws_write(ws->wsi, block + LWS_PRE, sizeof(payload) - 1, LWS_WRITE_PING) < 0 ? -1 : 0;
}

static int write_pong(struct ws *ws)
{
    uint8_t block[LWS_PRE + WS_CONTROL_BYTES_MAX];
    int size = ws_frames_take_ping(ws->frames, block + LWS_PRE);
    CHECK(size >= 0);
    return lws_write(ws->wsi, block + LWS_PRE, (size_t)size, LWS_WRITE_PONG) < 0 ? -1 : 0;
}

/* Returns the scratch buffer of the frontend, empty except for the headroom. */
static struct buf *scratch(struct ws *ws)
{
    struct buf *text = &ws->frontend->scratch;
    if (text->capacity > SCRATCH_KEPT_BYTES) {
        buf_finish(text);
    }
    buf_reset(text);
    ws_begin_text(text);
    return text;
}

static int write_scratch(struct ws *ws, const struct buf *text)
{
    if (buf_failed(text)) {
        ws_close(ws, WS_CLOSE_OVERLOADED, "out of memory", true);
        return 0;
    }
    return write_text(ws, text);
}

static int write_notice(struct ws *ws)
{
    struct buf *text = scratch(ws);
    if (ws->is_leader_due) {
        ws->is_leader_due = false;
        ws_append_leader(ws->frontend, text);
    } else {
        ws->is_heartbeat_due = false;
        ws_append_heartbeat(text);
    }
    return write_scratch(ws, text);
}

static int write_page(struct ws *ws)
{
    struct ws_subscription *subscription =
        LIST_ENTRY(list_pop_front(&ws->ready), struct ws_subscription, ready_link);
    struct buf *text = scratch(ws);
    ws_subscription_append_page(subscription, text);
    int rc = write_scratch(ws, text);
    /* The next page is asked for after the socket has taken this one and the other subscriptions
     * have had theirs. */
    ws->is_page_written = true;
    list_push_back(&ws->parked, &subscription->ready_link);
    ws_subscription_page_sent(subscription);
    return rc;
}

static int write_frame(struct ws *ws)
{
    struct frame *frame = LIST_ENTRY(list_pop_front(&ws->outbox), struct frame, link);
    int rc = write_text(ws, &frame->text);
    free_frame(ws, frame);
    return rc;
}

static bool has_more(const struct ws *ws)
{
    return !list_is_empty(&ws->outbox) || ws->is_leader_due || !list_is_empty(&ws->ready) ||
           ws->is_ping_due || ws->is_heartbeat_due || ws->frames->ping_count > 0;
}

static int write_next(struct ws *ws)
{
    if (ws->frames->ping_count > 0) {
        return write_pong(ws);
    }
    if (!list_is_empty(&ws->outbox)) {
        return write_frame(ws);
    }
    if (ws->is_leader_due) {
        return write_notice(ws);
    }
    if (ws->is_ping_due) {
        return write_ping(ws);
    }
    return list_is_empty(&ws->ready) ? write_notice(ws) : write_page(ws);
}

/* True if a close need not wait any longer. When the node shuts down, calls are answered first, and
 * subscriptions learn that they ended. */
static bool may_close(const struct ws *ws)
{
    bool is_quiet = ws->calls == 0 && ws->subscription_count == 0 && !has_more(ws);
    return ws->close_code != 0 && (ws->is_close_now || is_quiet);
}

static int write_all(struct ws *ws)
{
    int rc = 0;
    if (ws->is_close_sent) {
        return 0;
    }
    /* libwebsockets keeps what the socket did not take, and calls again when it is written. */
    for (int i = 0; i < WS_FRAMES_MAX && rc == 0 && !may_close(ws) && has_more(ws) &&
                    !lws_partial_buffered(ws->wsi);
         i++) {
        rc = write_next(ws);
    }
    if (rc != 0) {
        return -1;
    }
    if (may_close(ws)) {
        return ws_write_close(ws, ws->close_code, ws->close_reason);
    }
    ws_regulate(ws);
    if (lws_partial_buffered(ws->wsi)) {
        lws_callback_on_writable(ws->wsi); /* pages are asked for in that callback */
        return 0;
    }
    ws_note_all_sent(ws);
    if (ws->is_page_written) {
        ws->is_page_written = false;
        ws_release_page(ws);
    }
    if (has_more(ws)) {
        lws_callback_on_writable(ws->wsi);
    }
    return 0;
}

int ws_on_writable(struct ws *ws)
{
    return write_all(ws);
}

void ws_flush(struct ws *ws)
{
    if (ws->wsi == NULL || lws_partial_buffered(ws->wsi)) {
        return; /* this function is called again when it may continue */
    }
    if (write_all(ws) != 0) {
        ws_hang_up(ws);
    }
}
