/* A WebSocket connection, inside the HTTP frontend. Everything runs on the service thread; what
 * dispatch calls back on other threads is posted here as tasks.
 *
 * Memory is bounded for each connection: one message being received, WS_CALLS_MAX calls, an outbox
 * that stops reading at WS_OUTBOX_PAUSE_BYTES, for each subscription a cursor, and one page for all
 * of them, that is read only when the client has taken what came before. All together are bounded
 * by limits.memory: memory.h.
 *
 * Reading order: ws.c (life, receiving, closing), ws_upgrade.c (who may connect), ws_send.c,
 * ws_call.c (requests and answers), ws_methods.c (what is special about some), ws_subscription.c,
 * ws_notice.c. */
#ifndef RAFTOGRAM_HTTP_WS_H
#define RAFTOGRAM_HTTP_WS_H

#include "../http_internal.h"
#include "../jsonrpc.h"
#include "base/clock.h"
#include "json/json.h"

#define WS_SUBPROTOCOL "raftogram.v1.json"

/* Calls in flight, from which reading stops: the client is slowed down by TCP. */
#define WS_CALLS_PAUSE 256
/* The same of calls whose answers are large. */
#define WS_LARGE_CALLS_PAUSE 4
/* A batch may go beyond; from here on calls are RESOURCE_EXHAUSTED. */
#define WS_CALLS_MAX 512
#define WS_OUTBOX_PAUSE_BYTES (1u << 20)
#define WS_OUTBOX_BYTES_MAX (64u << 20)  /* beyond: closed with 1013 */
#define WS_BATCH_BYTES_MAX (16u << 20)   /* of a batch's answers; beyond, large ones are refused */
#define WS_CLOSE_WAIT_NS (10 * NS_PER_S) /* for the client to answer a close frame */
#define WS_IDLE_PING_NS (20 * NS_PER_S)  /* of silence from the client, until it is pinged */
#define WS_PONG_WAIT_NS (20 * NS_PER_S)
#define WS_RECEIVE_BYTES (8u << 10) /* read at once */
#define WS_TIMER_MIN_NS (10 * NS_PER_MS)
#define WS_FRAMES_MAX 32 /* written in one turn */

enum ws_close_code {
    WS_CLOSE_NORMAL = 1000,
    WS_CLOSE_GOING_AWAY = 1001,
    WS_CLOSE_PROTOCOL_ERROR = 1002,
    WS_CLOSE_BINARY = 1003,
    WS_CLOSE_INVALID_TEXT = 1007,
    WS_CLOSE_POLICY = 1008,
    WS_CLOSE_TOO_BIG = 1009,
    WS_CLOSE_OVERLOADED = 1013,
};

struct ws {
    struct list link; /* in http_frontend.sockets */
    struct http_frontend *frontend;
    struct lws *wsi;           /* NULL once the connection is gone */
    struct ws_frames *frames;  /* of the session, that goes with the connection */
    size_t references;         /* the connection, calls, batches and subscriptions */
    struct buf message;        /* what has come of it */
    uint64_t message_since_ns; /* its first byte */

    struct list outbox; /* of struct frame */
    size_t outbox_bytes;
    size_t unsent_bytes; /* with libwebsockets: what the client has not taken yet of what was
                            written */
    bool is_killed;
    size_t calls;
    size_t large_calls;
    bool is_paused; /* not reading */

    struct list subscriptions;
    size_t subscription_count;
    uint64_t subscription_last_id;
    atomic_bool has_page; /* one is being read, waits, or is being written */
    bool is_page_written; /* but the client has not taken all of it */
    struct list ready;    /* the subscription with the page to send, by ready_link */
    struct list parked;   /* those that are to ask for their next page, by ready_link */

    bool is_leader_due; /* a leader notification */
    bool is_heartbeat_due;
    bool is_ping_due;
    bool is_ping_sent; /* and not answered */
    uint64_t ping_sent_ns;
    uint64_t last_sent_ns;
    uint64_t last_received_ns;

    int close_code; /* not 0: to be closed once nothing is left to send */
    const char *close_reason;
    bool is_close_now; /* do not wait for that */
    bool is_close_sent;
    uint64_t close_since_ns;
};

/* ---- ws_upgrade.c ---- */

/* The request asks for a WebSocket. */
bool ws_is_handshake(const struct http_head *head);
/* True if such a request may become one, else `answer` says why not. */
bool ws_may_upgrade(struct http_frontend *frontend, const struct request *request,
                    struct answer *answer);

/* ---- ws.c ---- */

/* Errors: ERR_NOMEM. */
int ws_open(struct session *session);
/* The connection is gone. */
void ws_gone(struct ws *ws);
void ws_ref(struct ws *ws);
void ws_unref(struct ws *ws);
void ws_receive(struct ws *ws, struct bytes fragment);
/* Frees what has come of a message. */
void ws_drop_message(struct ws *ws);
void ws_on_close_frame(struct ws *ws, struct bytes payload);
void ws_on_timer(struct ws *ws);
/* Bytes have come, whatever they are: the client lives. */
void ws_hears(struct ws *ws);
/* The pong that stands for a faulty frame: ws_frames.h. */
void ws_on_pong(struct ws *ws, struct bytes payload);
/* Ends the connection with a close frame; the first code stays. With `is_now` before what waits. */
void ws_close(struct ws *ws, int code, const char *reason, bool is_now);
/* Hangs up without another word, soon. */
void ws_hang_up(struct ws *ws);
/* Stops or resumes reading, as the bounds have it. */
void ws_regulate(struct ws *ws);

/* ---- ws_send.c ---- */

/* Begins a text to send: room for the frame's header comes first. */
void ws_begin_text(struct buf *out);
/* The text without that room. */
struct bytes ws_text_of(const struct buf *text);
/* Queues a text of ws_begin_text(); takes it. Without memory the connection ends. */
void ws_send(struct ws *ws, struct buf *text);
/* Returns -1 when the connection is broken. */
int ws_on_writable(struct ws *ws);
/* Sends what waits without a turn through poll(2), for what comes on the service thread. */
void ws_flush(struct ws *ws);
/* Writes a close frame at once; nothing is sent after it. */
int ws_write_close(struct ws *ws, int code, const char *reason);
/* libwebsockets has nothing left of what was written. */
void ws_note_all_sent(struct ws *ws);
/* Frees what was not sent. */
void ws_drop_outbox(struct ws *ws);

/* ---- ws_call.c ---- */

/* Answers of the requests that came in one frame. */
struct ws_batch {
    struct ws *ws;
    struct buf text;
    size_t count;     /* answers in it */
    size_t bytes;     /* of them, taken from the budget */
    size_t waiting;   /* requests that are not done, and the one that reads them */
    struct list held; /* subscriptions that may go on when it is sent */
};

struct ws_call {
    struct dispatch_call call; /* first */
    struct task task;
    struct ws *ws;
    struct ws_batch *batch; /* NULL: a request by itself */
    char *id;               /* JSON text; NULL: no answer */
    bool is_text;           /* messages of the answer have `text` */
    bool is_large;
    size_t request_bytes; /* taken from the budget */
    size_t answer_bytes;
    struct buf answer;
};

/* A whole message has come. */
void ws_serve_message(struct ws *ws, struct bytes text);

/* Where the answer to one request goes. */
struct ws_reply {
    struct ws *ws;
    struct ws_batch *batch;
    char *id; /* owned */
};
/* Each sends the one answer, and frees the reply's id. */
void ws_reply_result(struct ws_reply *reply, struct bytes result);
void ws_reply_error(struct ws_reply *reply, int code, const char *message,
                    const struct dispatch_status *status);
/* A status as an error: its number is the code. */
void ws_reply_status(struct ws_reply *reply, const struct dispatch_status *status);
/* Sends the batch if this was the last it waited for. */
void ws_batch_release(struct ws_batch *batch);

/* The members of an error: {"status":…,"reason":…,…}. */
void ws_append_error_data(struct buf *out, const struct dispatch_status *status);

/* ---- ws_methods.c ---- */

/* The request message of a method from params; also what the mapping does not know: text, encoding,
 * op. `fault` gets why not. Errors: ERR_INVALID, ERR_NOMEM. */
int ws_decode_params(const struct dispatch_method *method, const json_t *params,
                     ProtobufCMessage **out, bool *is_text, struct json_error *fault);

/* ---- ws_subscription.c ---- */

struct ws_subscription {
    struct list link;
    struct list ready_link; /* in ws.ready, ws.written or ws_batch.held */
    struct ws *ws;
    uint64_t id;
    char *channel_id;
    enum dispatch_page_format format;
    struct dispatch_subscription *subscription;
    struct ws_reply reply; /* until opened */
    /* From the reader's thread, each by its own task. */
    struct task opened_task;
    struct dispatch_status opened_status;
    uint64_t last_sequence;
    char cluster_id[CLUSTER_ID_HEX_BYTES + 1];
    struct task page_task;
    struct message_page *arrived; /* with page_task */
    size_t page_bytes;            /* taken from the budget */
    bool is_reading;              /* it has the connection's one page; reader's thread alone */
    struct task parked_task;
    atomic_bool is_starved; /* parked for want of memory, and not since another has the page */
    struct task idle_task;
    struct task ended_task;
    struct dispatch_status ended_status;
    struct task closed_task;
    /* Service thread. */
    struct message_page *page; /* to be sent */
    bool is_started;           /* its answer is on its way */
    bool is_ended;             /* ended_status is to be told after the page */
    bool is_closed;            /* dispatch was told to close */
};

/* Takes the request message and the reply. */
void ws_subscribe(struct ws_reply *reply, ProtobufCMessage *request, bool is_text);
void ws_unsubscribe(struct ws_reply *reply, const json_t *params);
/* Of page_task: the page waits for the socket. */
void ws_subscription_run_page(struct task *task);
/* Its answer is queued: notifications may follow. */
void ws_subscription_start(struct ws_subscription *subscription);
/* Appends the notification with the page. */
void ws_subscription_append_page(const struct ws_subscription *subscription, struct buf *out);
/* The page was written. */
void ws_subscription_page_sent(struct ws_subscription *subscription);
/* The client has taken the page that was written: another one may be read. */
void ws_release_page(struct ws *ws);
/* Has the next subscription in turn ask for its page, if none has one. */
void ws_ask_for_page(struct ws *ws);
/* All of a connection that is gone. */
void ws_close_subscriptions(struct ws *ws);

/* ---- ws_memory.c ---- */

/* Begins to look after memory, if the frontend has a budget. */
void ws_watch_memory(struct http_frontend *frontend);

/* ---- ws_notice.c ---- */

void ws_append_hello(struct http_frontend *frontend, struct buf *out);
void ws_append_leader(struct http_frontend *frontend, struct buf *out);
void ws_append_heartbeat(struct buf *out);
/* The node's state changed: tells all connections, if it is what they are told. */
void ws_announce(struct http_frontend *frontend);

#endif
