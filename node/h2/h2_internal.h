/* What the files of this module share. */
#ifndef RAFTOGRAM_H2_INTERNAL_H
#define RAFTOGRAM_H2_INTERNAL_H

#include "base/mailbox.h"
#include "h2/h2.h"

#include <nghttp2/nghttp2.h>
#include <pthread.h>
#include <stdatomic.h>

/* Memory of a call and its stream, without their messages. */
#define CALL_BYTES 2048u
/* One connection uses at most this part of the memory. */
#define CONNECTION_SHARE 8u
/* Large allocations leave this part of the memory free. */
#define KEPT_SHARE 8u
#define LARGE_BYTES (64u << 10)
/* A connection with fewer calls may always open another, which may be a health probe. */
#define FEW_CALLS 16u
#define MESSAGE_PREFIX_BYTES 5u /* of a gRPC message: flag and length */

#define OUT_BYTES 65536u       /* frames that are written at a time */
#define OUT_FRAME_BYTES 32768u /* one further frame */
/* A call gets a turn only while the unsent messages of its connection have less than this. */
#define UNSENT_BYTES_MAX (4u << 20)

struct h2_connection;

struct h2_server {
    struct h2_server_options options;
    struct h2_server_handler handler;
    int port;
    struct listen_sockets listeners; /* none after closing */
    int epoll_fd;
    pthread_t thread;
    struct mailbox mailbox; /* of h2_post.link */
    atomic_bool is_closing;
    atomic_bool is_hanging_up;
    atomic_bool is_ending;        /* the thread ends */
    atomic_uint_fast64_t stop_ns; /* when running calls are ended; UINT64_MAX: not stopping */
    atomic_uint_fast64_t connection_count;
    atomic_uint_fast64_t call_count;
    /* Guards all below, all connections and their calls. Its holder counts as the server's
     * thread. The thread itself holds it except while it sleeps. */
    pthread_mutex_t lock;
    uint64_t now_ns;         /* time of the current round */
    struct list posts;       /* posts from its own thread, by h2_post.link */
    struct list connections; /* by h2_connection.link */
    struct list idle;        /* without calls, longest idle first, by h2_connection.idle_link */
    struct list dirty;       /* with something to write, by h2_connection.dirty_link */
    struct list doomed;      /* to be closed, by h2_connection.dirty_link */
    struct list waiting;     /* for a message, oldest first, by h2_call.waiting_link */
    uint32_t waiting_count;
    uint8_t *scratch;      /* OUT_BYTES + OUT_FRAME_BYTES: bytes that are being written */
    struct list lingering; /* answered early, oldest first, by h2_call.linger_link */
    struct list timed;     /* with a deadline, by h2_call.timed_link */
    uint64_t timed_ns;     /* earliest deadline, or an earlier time */
    uint64_t tick_ns;      /* when connections are checked next */
    uint64_t peak_bytes;   /* peak of the budget since memory was returned to the system */
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
    atomic_uint_fast64_t held_bytes; /* bytes of the budget for its calls */
    struct list turns;               /* calls that wait for a turn, by h2_call.turn_link */
    uint32_t turns_taken;
    struct list sent;      /* calls that await on_sent, by h2_call.sent_link */
    uint64_t unsent_bytes; /* bytes of its calls' unsent messages */
    /* Bytes that the socket did not accept; NULL: none. */
    uint8_t *out;
    size_t out_begin;
    size_t out_end;
    bool is_polling_out;
    bool is_doomed;
    bool is_greeted; /* the client's first frame arrived */
    bool is_leaving; /* is closed after everything is written */
    uint64_t born_ns;
    uint64_t heard_ns;    /* when the last bytes arrived */
    uint64_t progress_ns; /* when bytes were last sent, or none were waiting */
    uint64_t pinged_ns;   /* time of the unanswered ping; 0: none */
    uint64_t ping_ns;     /* time of the client's last ping */
    unsigned ping_strikes;
};

enum h2_encoding { H2_PLAIN, H2_DEFLATED, H2_ENCODING_UNKNOWN };

/* An outgoing message: the prefix and the bytes, which `owner` holds. */
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
    struct buf trailers[H2_TRAILERS_MAX]; /* encoded for the wire */
    size_t trailer_count;
};

struct h2_call {
    struct h2_post pump; /* queued while is_queued */
    atomic_uint references;
    struct h2_server *server;
    /* Server's thread. */
    struct h2_connection *connection; /* NULL after the end of the call */
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
    uint64_t unsent_bytes; /* its part of the connection's unsent_bytes */
    bool is_submitted;     /* nghttp2 has the response headers */
    bool is_answered;      /* nghttp2 has the status */
    bool is_feeding;
    /* Request headers, until the call begins. */
    bool is_post;
    bool is_grpc;
    bool is_timeout_bad;
    enum h2_encoding encoding;
    size_t header_bytes;
    char *path;
    struct buf metadata; /* repeated: key, NUL, u32 size, value */
    uint64_t begin_ns;   /* when the wait for a message began */
    uint64_t deadline_ns;
    /* Request bytes: an incomplete message, and bytes that arrived while no receive was
     * outstanding. */
    struct buf partial;
    struct buf backlog;
    uint64_t too_large;    /* size of the message that is being discarded; 0: none */
    uint64_t discard_left; /* bytes left to discard */
    uint64_t held_bytes;   /* bytes of the budget, without `outgoing` */

    pthread_mutex_t lock; /* guards all below */
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
/* Marks this thread as the one that does the server's work; NULL: no server's. Returns the previous
 * server. */
const struct h2_server *h2_server_enter(const struct h2_server *server);
/* Marks the connection as having something to write. */
void h2_connection_mark(struct h2_connection *connection);

/* ---- memory.c ---- */

/* Takes bytes of the budget for the connection. A large allocation leaves KEPT_SHARE free. Returns
 * false beyond the limit of the connection or of all. Any thread. */
bool h2_take(struct h2_connection *connection, uint64_t bytes, bool is_large);
/* As h2_take(), but never fails. */
void h2_take_over(struct h2_connection *connection, uint64_t bytes);
void h2_give(struct h2_connection *connection, uint64_t bytes);

/* ---- listener.c ---- */

/* Errors: those of listen_sockets_open(). */
int h2_listen(struct h2_server *server, struct listen_fault *fault);
/* Accepts the connections that wait at the listening sockets. */
void h2_accept(struct h2_server *server);

/* ---- connection.c ---- */

/* Takes ownership of `fd`, also on error. Errors: ERR_NOMEM, ERR_IO. */
int h2_connection_create(struct h2_server *server, int fd);
void h2_connection_ready(struct h2_connection *connection, uint32_t events);
void h2_connection_flush(struct h2_connection *connection);
/* Marks the connection to be closed at the end of the round. */
void h2_connection_doom(struct h2_connection *connection);
void h2_connection_destroy(struct h2_connection *connection);
/* Pings the client. Dooms the connection if it is dead, stuck or silent. */
void h2_connection_tick(struct h2_connection *connection, uint64_t now_ns);

/* ---- ping.c ---- */

/* Sends GOAWAY. Calls that the client sent before it read that are still served. */
void h2_connection_goaway(struct h2_connection *connection);
void h2_connection_on_ping(struct h2_connection *connection, const nghttp2_frame *frame);

/* ---- request.c: frames to calls ---- */

void h2_set_request_callbacks(nghttp2_session_callbacks *callbacks);

/* ---- call.c ---- */

/* Returns NULL if out of memory. */
struct h2_call *h2_call_create(struct h2_connection *connection, int32_t stream_id);
/* Called after the headers. */
void h2_call_begin(struct h2_call *call);
void h2_call_feed(struct h2_call *call, const uint8_t *data, size_t size);
void h2_call_half_close(struct h2_call *call);
/* Called for a call that was answered before its client had sent everything. Reads and drops the
 * rest for a while: if the stream is reset while a client writes, some clients (Node's) never read
 * the answer. */
void h2_call_linger(struct h2_call *call);
void h2_call_reset(struct h2_call *call);
/* Called at the end of the stream. */
void h2_call_close(struct h2_call *call);
void h2_call_end(struct h2_call *call, int code, const char *message);
void h2_call_end_for_memory(struct h2_call *call);
/* Called when its message is complete or the call is over. */
void h2_call_stop_waiting(struct h2_call *call);
/* Queues h2_call_pump(). Requires the lock. */
void h2_call_wake(struct h2_call *call);

/* ---- answer.c ---- */

void h2_call_pump(struct h2_post *post);
/* Answers in HTTP alone, such as 415. */
void h2_call_refuse(struct h2_call *call, const char *http_status, const char *message);
/* Releases the bytes and gives their share of the budget back. */
void h2_outgoing_finish(struct h2_connection *connection, struct h2_outgoing *outgoing);
void h2_answer_finish(struct h2_answer *answer);

/* ---- text.c ---- */

/* Returns gRPC's "Percent-Encoded" text, allocated; NULL if out of memory. */
char *h2_percent_encode(const char *text);
void h2_base64(struct bytes data, struct buf *out);
/* Returns false for a malformed timeout. */
bool h2_parse_timeout(struct bytes text, uint64_t *out_ns);
/* Returns whether the type is application/grpc, alone or with +subtype or ;parameters. */
bool h2_is_grpc_type(struct bytes type);
enum h2_encoding h2_parse_encoding(struct bytes name);
/* Appends the decompressed `packed` (gzip or zlib format). Errors: ERR_CORRUPT, ERR_FULL
 * (out->max_bytes), ERR_NOMEM. */
int h2_inflate(struct bytes packed, struct buf *out);

#endif
