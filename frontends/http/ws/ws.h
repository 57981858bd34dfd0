/* A WebSocket connection of the HTTP frontend. Everything runs on the service thread. Callbacks of
 * dispatch on other threads post tasks to it.
 *
 * The memory of each connection is bounded:
 * - one message that is being received;
 * - WS_CALLS_MAX calls;
 * - an outbox; reading stops while it has WS_OUTBOX_PAUSE_BYTES;
 * - a cursor for each subscription;
 * - one page for all subscriptions, which is read only after the client has taken the previous one.
 * limits.memory bounds all connections together: memory.h.
 *
 * Reading order: ws.c (life, receiving, closing), ws_upgrade.c (who may connect), ws_send.c,
 * ws_call.c (requests and answers), ws_methods.c (special parameters), ws_subscription.c,
 * ws_notice.c. */
#ifndef RAFTOGRAM_HTTP_WS_H
#define RAFTOGRAM_HTTP_WS_H

#include "../http_internal.h"
#include "../jsonrpc.h"
#include "base/clock.h"
#include "json/json.h"

#define WS_SUBPROTOCOL "raftogram.v1.json"

/* Calls in flight at which reading stops, so that TCP slows the client down. */
#define WS_CALLS_PAUSE 256
/* The same limit for calls whose answers are large. */
#define WS_LARGE_CALLS_PAUSE 4
/* A batch may exceed WS_CALLS_MAX up to here. Further calls are RESOURCE_EXHAUSTED. */
#define WS_CALLS_MAX 512
#define WS_OUTBOX_PAUSE_BYTES (1u << 20)
#define WS_OUTBOX_BYTES_MAX (64u << 20) /* above it the connection is closed with 1013 */
/* Answers of one batch; above it, large ones are refused. */
#define WS_BATCH_BYTES_MAX (16u << 20)
#define WS_CLOSE_WAIT_NS (10 * NS_PER_S) /* wait for the close frame of the client */
#define WS_IDLE_PING_NS (20 * NS_PER_S)  /* silence of the client before it is pinged */
#define WS_PONG_WAIT_NS (20 * NS_PER_S)
#define WS_RECEIVE_BYTES (8u << 10) /* bytes read at once */
#define WS_TIMER_MIN_NS (10 * NS_PER_MS)
#define WS_FRAMES_MAX 32 /* frames written in one turn */

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
    struct ws_frames *frames;  /* owned by the session, which ends with the connection */
    size_t references;         /* held by the connection, calls, batches and subscriptions */
    struct buf message;        /* received part of the current message */
    uint64_t message_since_ns; /* arrival of its first byte */

    struct list outbox; /* of struct frame */
    size_t outbox_bytes;
    size_t unsent_bytes; /* bytes written to libwebsockets that the client has not taken yet */
    bool is_killed;
    size_t calls;
    size_t large_calls;
    bool is_paused; /* not reading */

    struct list subscriptions;
    size_t subscription_count;
    uint64_t subscription_last_id;
    atomic_bool has_page; /* a page is being read, waits, or is being written */
    bool is_page_written; /* the page was written; the client has not taken all of it */
    struct list ready;    /* the subscription with the page to send, by ready_link */
    struct list parked;   /* subscriptions that wait to ask for a page, by ready_link */

    bool is_leader_due; /* a leader notification must be sent */
    bool is_heartbeat_due;
    bool is_ping_due;
    bool is_ping_sent; /* sent and not answered yet */
    uint64_t ping_sent_ns;
    uint64_t last_sent_ns;
    uint64_t last_received_ns;

    int close_code; /* not 0: the connection closes when nothing is left to send */
    const char *close_reason;
    bool is_close_now; /* close without waiting for that */
    bool is_close_sent;
    uint64_t close_since_ns;
};

/* ---- ws_upgrade.c ---- */

/* True if the request asks for a WebSocket. */
bool ws_is_handshake(const struct http_head *head);
/* True if the request may become a WebSocket. Otherwise `answer` says why not. */
bool ws_may_upgrade(struct http_frontend *frontend, const struct request *request,
                    struct answer *answer);

/* ---- ws.c ---- */

/* Errors: ERR_NOMEM. */
int ws_open(struct session *session);
/* Handles the loss of the connection. */
void ws_gone(struct ws *ws);
void ws_ref(struct ws *ws);
void ws_unref(struct ws *ws);
void ws_receive(struct ws *ws, struct bytes fragment);
/* Frees the received part of a message. */
void ws_drop_message(struct ws *ws);
void ws_on_close_frame(struct ws *ws, struct bytes payload);
void ws_on_timer(struct ws *ws);
/* Notes that bytes have arrived, which shows that the client is alive. */
void ws_hears(struct ws *ws);
/* Handles the pong that replaces a faulty frame; see ws_frames.h. */
void ws_on_pong(struct ws *ws, struct bytes payload);
/* Closes the connection with a close frame. Only the first code counts. `is_now`: before queued
 * texts are sent. */
void ws_close(struct ws *ws, int code, const char *reason, bool is_now);
/* Ends the connection without a close frame, soon. */
void ws_hang_up(struct ws *ws);
/* Stops or resumes reading according to the limits. */
void ws_regulate(struct ws *ws);

/* ---- ws_send.c ---- */

/* Begins a text to send, with room for the header of the frame. */
void ws_begin_text(struct buf *out);
/* Returns the text without that room. */
struct bytes ws_text_of(const struct buf *text);
/* Queues a text of ws_begin_text(). Takes ownership. Without memory the connection ends. */
void ws_send(struct ws *ws, struct buf *text);
/* Writes what is queued. Returns -1 if the connection is broken. */
int ws_on_writable(struct ws *ws);
/* Sends what is queued without a turn through poll(2), for data that arises on the service thread.
 */
void ws_flush(struct ws *ws);
/* Writes a close frame at once; nothing is sent after it. */
int ws_write_close(struct ws *ws, int code, const char *reason);
/* True if libwebsockets holds no written bytes any more. */
void ws_note_all_sent(struct ws *ws);
/* Frees unsent texts. */
void ws_drop_outbox(struct ws *ws);

/* ---- ws_call.c ---- */

/* The answers to the requests of one frame. */
struct ws_batch {
    struct ws *ws;
    struct buf text;
    size_t count;     /* number of answers */
    size_t bytes;     /* size of the answers, taken from the budget */
    size_t waiting;   /* unfinished requests, plus one while the frame is being read */
    struct list held; /* subscriptions that continue after the batch was sent */
};

struct ws_call {
    struct dispatch_call call; /* first */
    struct task task;
    struct ws *ws;
    struct ws_batch *batch; /* NULL: the request is not part of a batch */
    char *id;               /* JSON text; NULL: a notification, without answer */
    bool is_text;           /* messages in the answer have `text` */
    bool is_large;
    size_t request_bytes; /* taken from the budget */
    size_t answer_bytes;
    struct buf answer;
};

/* Handles a complete message. */
void ws_serve_message(struct ws *ws, struct bytes text);

/* The destination of the answer to one request. */
struct ws_reply {
    struct ws *ws;
    struct ws_batch *batch;
    char *id; /* owned */
};
/* Send the answer and free the id of the reply. Exactly one of them must be called. */
void ws_reply_result(struct ws_reply *reply, struct bytes result);
void ws_reply_error(struct ws_reply *reply, int code, const char *message,
                    const struct dispatch_status *status);
/* Sends a status as an error, with its number as the code. */
void ws_reply_status(struct ws_reply *reply, const struct dispatch_status *status);
/* Sends the batch if no request of it is unfinished. */
void ws_batch_release(struct ws_batch *batch);

/* Appends the members of an error: {"status":…,"reason":…,…}. */
void ws_append_error_data(struct buf *out, const struct dispatch_status *status);

/* ---- ws_methods.c ---- */

/* Creates the request message of a method from its params. Also handles the params that the JSON
 * mapping does not have: text, encoding, op. On error `fault` gets the reason.
 * Errors: ERR_INVALID, ERR_NOMEM. */
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
    /* Posted by the reader's thread, each as a task of its own. */
    struct task opened_task;
    struct dispatch_status opened_status;
    uint64_t last_sequence;
    char cluster_id[CLUSTER_ID_HEX_BYTES + 1];
    struct task page_task;
    struct message_page *arrived; /* with page_task */
    size_t page_bytes;            /* taken from the budget */
    bool is_reading;              /* it holds the page of the connection; reader's thread only */
    struct task parked_task;
    /* Parked for lack of memory, before another subscription got the page. */
    atomic_bool is_starved;
    struct task idle_task;
    struct task ended_task;
    struct dispatch_status ended_status;
    struct task closed_task;
    /* Service thread. */
    struct message_page *page; /* to be sent */
    bool is_started;           /* its answer is being sent */
    bool is_ended;             /* ended_status must be sent after the page */
    bool is_closed;            /* dispatch_subscription_close() was called */
};

/* Opens a subscription. Takes ownership of the request message and the reply. */
void ws_subscribe(struct ws_reply *reply, ProtobufCMessage *request, bool is_text);
void ws_unsubscribe(struct ws_reply *reply, const json_t *params);
/* Runs page_task: queues the page for the socket. */
void ws_subscription_run_page(struct task *task);
/* Notes that the answer is queued: notifications may follow. */
void ws_subscription_start(struct ws_subscription *subscription);
/* Appends the notification that holds the page. */
void ws_subscription_append_page(const struct ws_subscription *subscription, struct buf *out);
/* Notes that the page was written. */
void ws_subscription_page_sent(struct ws_subscription *subscription);
/* Notes that the client has taken the written page: the next one may be read. */
void ws_release_page(struct ws *ws);
/* Lets the next subscription in rotation ask for a page, if none has one. */
void ws_ask_for_page(struct ws *ws);
/* Closes all subscriptions of a connection that is gone. */
void ws_close_subscriptions(struct ws *ws);

/* ---- ws_memory.c ---- */

/* Starts the timer that relieves memory, if the frontend has a budget. */
void ws_watch_memory(struct http_frontend *frontend);

/* ---- ws_notice.c ---- */

void ws_append_hello(struct http_frontend *frontend, struct buf *out);
void ws_append_leader(struct http_frontend *frontend, struct buf *out);
void ws_append_heartbeat(struct buf *out);
/* Notifies all connections of a changed state of the node, if the change concerns them. */
void ws_announce(struct http_frontend *frontend);

#endif
