/* What the files of this module share. */
#ifndef RAFTOGRAM_H2_INTERNAL_H
#define RAFTOGRAM_H2_INTERNAL_H

#include "base/mailbox.h"
#include "h2/h2.h"

#include <nghttp2/nghttp2.h>
#include <pthread.h>
#include <stdatomic.h>

/* What a call and its stream take besides their messages. */
#define CALL_BYTES 2048u
/* Of the memory for all, one connection has at most this part. */
#define CONNECTION_SHARE 8u
/* This part is not for what is large. */
#define KEPT_SHARE 8u
#define LARGE_BYTES (64u << 10)
/* A connection with so few calls gets one more at every bound: it may be a probe. */
#define FEW_CALLS 16u
#define MESSAGE_PREFIX_BYTES 5u /* of a gRPC message: flag and length */

#define OUT_BYTES 65536u       /* of frames for the socket at a time */
#define OUT_FRAME_BYTES 32768u /* of one more */
/* Calls get their turns while less than this waits in all messages of their connection. */
#define UNSENT_BYTES_MAX (4u << 20)

struct h2_connection;

struct h2_server {
    struct h2_server_options options;
    struct h2_server_handler handler;
    int port;
    struct listen_sockets listeners; /* none once closed */
    int epoll_fd;
    pthread_t thread;
    struct mailbox mailbox; /* of h2_post.link */
    atomic_bool is_closing;
    atomic_bool is_hanging_up;
    atomic_bool is_ending;        /* the thread is to end */
    atomic_uint_fast64_t stop_ns; /* when what still runs is ended; UINT64_MAX: not yet */
    atomic_uint_fast64_t connection_count;
    atomic_uint_fast64_t call_count;
    /* All below, and all connections and their calls: whoever holds this is the server's thread.
     * The thread itself always does, but while it sleeps. */
    pthread_mutex_t lock;
    uint64_t now_ns;         /* of its round */
    struct list posts;       /* its own, by h2_post.link */
    struct list connections; /* by h2_connection.link */
    struct list idle;        /* without calls, the longest idle first: h2_connection.idle_link */
    struct list dirty;       /* with something to write: h2_connection.dirty_link */
    struct list doomed;      /* to be closed: h2_connection.dirty_link */
    struct list waiting;     /* for a message, the oldest first: h2_call.waiting_link */
    uint32_t waiting_count;
    uint8_t *scratch;      /* OUT_BYTES + OUT_FRAME_BYTES: what is being written */
    struct list lingering; /* answered early, the oldest first: h2_call.linger_link */
    struct list timed;     /* with a deadline: h2_call.timed_link */
    uint64_t timed_ns;     /* the earliest of them, or before it */
    uint64_t tick_ns;      /* when connections are looked over next */
    uint64_t peak_bytes;   /* of the budget, since memory was given back */
    uint64_t goodbye_ns;   /* when connections without calls are cut; 0: not yet */
    bool is_goaway_sent;   /* to all connections */
    bool is_stopped;       /* under stop_lock */
    pthread_mutex_t stop_lock;
    pthread_cond_t stopped;
};

struct h2_connection {
    struct h2_server *server;
    struct list link;
    struct list idle_link;
    struct list dirty_link;
    int fd;
    nghttp2_session *session;
    struct list calls; /* by h2_call.link */
    uint32_t call_count;
    atomic_uint_fast64_t held_bytes; /* taken from the budget for its calls */
    struct list turns;               /* calls that wait for one: h2_call.turn_link */
    uint32_t turns_taken;
    struct list sent;      /* calls to be told: h2_call.sent_link */
    uint64_t unsent_bytes; /* of the messages that its calls were given to send */
    /* What the socket did not take at once; NULL: nothing. */
    uint8_t *out;
    size_t out_begin;
    size_t out_end;
    bool is_polling_out;
    bool is_doomed;
    bool is_greeted; /* the client's first frame came */
    bool is_leaving; /* closed once all is written */
    uint64_t born_ns;
    uint64_t heard_ns;    /* the last bytes came */
    uint64_t progress_ns; /* the last bytes went, or there were none to go */
    uint64_t pinged_ns;   /* our ping that was not answered; 0: none */
    uint64_t ping_ns;     /* the client's last ping */
    unsigned ping_strikes;
};

enum h2_encoding { H2_PLAIN, H2_DEFLATED, H2_ENCODING_UNKNOWN };

/* A message on its way out: the prefix, and bytes of ours or of somebody else. */
struct h2_outgoing {
    uint8_t prefix[MESSAGE_PREFIX_BYTES];
    struct bytes bytes;
    void (*release)(void *owner);
    void *owner;
    size_t sent; /* of prefix and bytes */
    uint64_t held_bytes;
    bool is_set;
};

struct h2_answer {
    int code;
    char *message; /* percent-encoded; NULL: none */
    char *trailer_keys[H2_TRAILERS_MAX];
    struct buf trailers[H2_TRAILERS_MAX]; /* as they are on the wire */
    size_t trailer_count;
};

struct h2_call {
    struct h2_post pump; /* queued while is_queued */
    atomic_uint references;
    struct h2_server *server;
    /* The server's thread. */
    struct h2_connection *connection; /* NULL when the call is over */
    int32_t stream_id;
    struct list link;
    struct list waiting_link;
    struct list timed_link;
    struct list linger_link;
    uint64_t linger_ns; /* since when */
    struct list turn_link;
    struct list sent_link;
    struct h2_call_events events;
    bool is_accepted;
    bool is_waiting;
    bool is_receiving;
    bool is_half_closed;
    bool has_turn;
    uint64_t unsent_bytes; /* its part of the connection's */
    bool is_submitted;     /* response headers are nghttp2's */
    bool is_answered;      /* and the status */
    bool is_feeding;
    /* Request headers, until the call begins. */
    bool is_post;
    bool is_grpc;
    bool is_timeout_bad;
    enum h2_encoding encoding;
    size_t header_bytes;
    char *path;
    struct buf metadata; /* key, NUL, u32 size, value; again and again */
    uint64_t begin_ns;   /* of the wait for a message */
    uint64_t deadline_ns;
    /* Request bytes: a message that is not whole, and what came while nobody received. */
    struct buf partial;
    struct buf backlog;
    uint64_t too_large;    /* a message of so many bytes is being thrown away; 0: none */
    uint64_t discard_left; /* of it */
    uint64_t held_bytes;   /* of the budget: all but `outgoing` */

    pthread_mutex_t lock; /* all below */
    bool is_queued;
    bool is_headers_wanted;
    bool is_finishing;
    bool is_closed;
    bool is_turn_over;
    struct h2_outgoing outgoing;
    struct h2_answer answer;
};

/* ---- thread.c ---- */

uint64_t h2_now_ns(void);
/* This thread does the server's work from now on; NULL: none's. Returns whose it did before. */
const struct h2_server *h2_server_enter(const struct h2_server *server);
/* Something is to be written: soon. */
void h2_connection_mark(struct h2_connection *connection);

/* ---- memory.c ---- */

/* Takes bytes of the budget for the connection. What is large leaves a part of it to the others.
 * False: too much for it, or for all. Any thread. */
bool h2_take(struct h2_connection *connection, uint64_t bytes, bool is_large);
/* In any case. */
void h2_take_over(struct h2_connection *connection, uint64_t bytes);
void h2_give(struct h2_connection *connection, uint64_t bytes);

/* ---- listener.c ---- */

/* Errors: those of listen_sockets_open(). */
int h2_listen(struct h2_server *server, struct listen_fault *fault);
/* Takes the connections that wait at any of the listening sockets. */
void h2_accept(struct h2_server *server);

/* ---- connection.c ---- */

/* Takes `fd`, also on error. Errors: ERR_NOMEM, ERR_IO. */
int h2_connection_create(struct h2_server *server, int fd);
void h2_connection_ready(struct h2_connection *connection, uint32_t events);
void h2_connection_flush(struct h2_connection *connection);
/* It is closed soon. */
void h2_connection_doom(struct h2_connection *connection);
void h2_connection_destroy(struct h2_connection *connection);
/* Pings, and dooms it when it is dead, stuck or says nothing. */
void h2_connection_tick(struct h2_connection *connection, uint64_t now_ns);

/* ---- ping.c ---- */

/* Asks the client to go. What it sent before it read that is still served. */
void h2_connection_goaway(struct h2_connection *connection);
void h2_connection_on_ping(struct h2_connection *connection, const nghttp2_frame *frame);

/* ---- request.c: frames to calls ---- */

void h2_set_request_callbacks(nghttp2_session_callbacks *callbacks);

/* ---- call.c ---- */

/* NULL: no memory. */
struct h2_call *h2_call_create(struct h2_connection *connection, int32_t stream_id);
/* The headers are there. */
void h2_call_begin(struct h2_call *call);
void h2_call_feed(struct h2_call *call, const uint8_t *data, size_t size);
void h2_call_half_close(struct h2_call *call);
/* It was answered before its client had sent all: takes the rest for a while, for nothing. A client
 * whose stream is reset while it writes may never look at the answer (Node's does not). */
void h2_call_linger(struct h2_call *call);
void h2_call_reset(struct h2_call *call);
/* The stream is gone. */
void h2_call_close(struct h2_call *call);
void h2_call_end(struct h2_call *call, int code, const char *message);
void h2_call_end_for_memory(struct h2_call *call);
/* Its message is there, or it is over. */
void h2_call_stop_waiting(struct h2_call *call);
/* With the lock: queues h2_call_pump(). */
void h2_call_wake(struct h2_call *call);

/* ---- answer.c ---- */

void h2_call_pump(struct h2_post *post);
/* Answers in HTTP alone, such as 415. */
void h2_call_refuse(struct h2_call *call, const char *http_status, const char *message);
/* Lets go of the bytes; what was held for them goes back to the connection. */
void h2_outgoing_finish(struct h2_connection *connection, struct h2_outgoing *outgoing);
void h2_answer_finish(struct h2_answer *answer);

/* ---- text.c ---- */

/* gRPC's "Percent-Encoded": a text of its own. NULL: no memory. */
char *h2_percent_encode(const char *text);
void h2_base64(struct bytes data, struct buf *out);
/* False when it is not a timeout. */
bool h2_parse_timeout(struct bytes text, uint64_t *out_ns);
/* application/grpc, alone or with +subtype or ;parameters. */
bool h2_is_grpc_type(struct bytes type);
enum h2_encoding h2_parse_encoding(struct bytes name);
/* Appends what gzip or zlib format holds. Errors: ERR_CORRUPT, ERR_FULL (out->max_bytes),
 * ERR_NOMEM. */
int h2_inflate(struct bytes packed, struct buf *out);

#endif
