/* What the files of the HTTP frontend share: one libwebsockets context with one service thread.
 * Everything runs on that thread, except what says "any thread".
 *
 * Reading order: http.c (start, stop, the service thread), listener.c (accepts), session.c (a
 * connection's begin and end), requests.c (from a request to its answer), routes.c (which path is
 * served by what), answer.c (sends an answer), status.c, metrics.c, page.c and static_files.c, then
 * the WebSocket (ws/ws.h). wire.c, http_filter.c and ws_frames.c are between the socket and
 * libwebsockets, which sees only what they wrote. */
#ifndef RAFTOGRAM_HTTP_INTERNAL_H
#define RAFTOGRAM_HTTP_INTERNAL_H

#include "base/buf.h"
#include "base/list.h"
#include "base/listen.h"
#include "crowd.h"
#include "dispatch/dispatch.h"
#include "dispatch/frontend.h"
#include "memory.h"
#include "static_files.h"
#include "wire.h"

#include <libwebsockets.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>

/* libwebsockets' own table of a request's headers. */
#define HTTP_HEADERS_BYTES_MAX (2 * HTTP_GIVEN_BYTES_MAX)
#define HTTP_CHUNK_BYTES (64u << 10) /* of a body, written at once */
#define HTTP_HEAD_S 10    /* from its first byte, or the connection's begin, to its end */
#define HTTP_IDLE_S 60    /* between two requests */
#define HTTP_STALL_S 60   /* an answer or a body that does not get on */
#define HTTP_RESERVED_S 2 /* for the head on a connection that is one too many */
#define HTTP_DRAIN_S 5    /* for the rest of what was refused */

/* Work for the service thread, posted by other threads. */
struct task {
    struct list link;
    void (*run)(struct task *task);
    atomic_bool is_posted; /* and not begun */
};

enum http_phase {
    HTTP_SERVING,
    HTTP_CLOSING,  /* nothing new is taken */
    HTTP_STOPPING, /* what is left is ended */
};

struct http_frontend {
    struct frontend_options options;
    struct dispatch *dispatch;
    struct lws_context *context;
    struct lws_vhost *vhost;
    struct lws *listeners[LISTEN_ADDRESSES_MAX];
    size_t listener_count;
    pthread_t thread;
    struct list sessions;
    size_t session_count;
    size_t leaving_count; /* of sessions: crowd.h */
    size_t short_count;
    struct list idle;                /* sessions, the longest idle first */
    struct crowd_address *addresses; /* a hash table */
    struct list sockets;             /* of struct ws */
    size_t socket_count; /* also of connections that are gone, as long as dispatch works for them */
    size_t calls;        /* of all connections */
    struct buf scratch;  /* where a frame is put together */
    struct dispatch_watcher watcher;
    struct metric_source metrics;
    struct task watch_task;
    const char *told_role; /* what connections were told last */
    const char *told_leader_id;
    bool told_quorum;
    uint64_t process_start_s; /* since 1970; from the first look on it does not waver */
    lws_sorted_usec_list_t memory_timer;
    atomic_bool is_memory_wanted;
    atomic_uint_fast64_t memory_peak; /* of the whole budget, since memory was given back */
    uint64_t requests_total;
    uint64_t sockets_total;
    uint64_t frames_received_total;
    uint64_t frames_sent_total;
    uint64_t messages_sent_total;
    uint64_t closed_for_fault_total;
    enum http_phase phase;
    struct task close_task;
    struct task stop_task;
    struct task over_task;

    pthread_mutex_t lock;
    struct list inbox; /* tasks; under lock */
    pthread_cond_t changed;
    bool is_empty;       /* closing, and no session or socket is left; under lock */
    atomic_bool is_over; /* the service thread ends */
};

/* ---- session.c: tasks ---- */

/* Runs `task` on the service thread, soon. A task that is posted and has not run yet is not posted
 * again. Any thread. */
void frontend_post_task(struct http_frontend *frontend, struct task *task);
/* Runs the tasks that were posted. */
void frontend_run_tasks(struct http_frontend *frontend);
/* Wakes stop() when the last session and socket are gone. */
void frontend_check_empty(struct http_frontend *frontend);

/* ---- one client ---- */

struct answer {
    int status;
    const char *content_type;
    const char *allow; /* NULL or the value of an Allow header */
    bool is_upgrade_required;
    bool is_last; /* the connection ends with it */
    struct buf body;
    struct bytes shared; /* in place of body: lives as long as the program */
    bool has_etag;
    char etag[STATIC_ETAG_BYTES];
    struct buf policy; /* Content-Security-Policy; empty: none */
};

struct ws;

struct session {
    struct list link;
    struct wire wire;
    struct crowd_member crowd;
    struct http_frontend *frontend;
    struct lws *wsi;
    struct answer answer; /* what is left to send of it */
    size_t answer_bytes;  /* of it, taken from the budget */
    size_t sent;
    bool is_busy;       /* between a request and the end of its answer */
    bool is_head_timed; /* the deadline is that of a head */
    struct ws *ws;      /* NULL while it is HTTP */
};

/* ---- session.c: begin and end ---- */

/* Takes the descriptor, also without memory. */
void session_create(struct http_frontend *frontend, int fd, const struct sockaddr_storage *from,
                    const struct wire_events *events);
/* Frees the session when its connection is gone. */
void session_destroy(struct session *session);
/* Closes the connection after that time, unless another deadline is set before. */
static inline void session_set_deadline(struct session *session, unsigned seconds)
{
    lws_set_timer_usecs(session->wsi, (lws_usec_t)seconds * LWS_US_PER_SEC);
}

/* ---- hosts.c ---- */

/* True if a page of the head's Origin may open a WebSocket here. */
bool frontend_allows_origin(struct http_frontend *frontend, const struct http_head *head);
/* True if the head's Host is served here, else `answer` says why not. */
bool frontend_allows_host(struct http_frontend *frontend, const struct http_head *head,
                          struct answer *answer);

/* ---- requests.c ---- */

extern const struct wire_events requests_wire_events;
/* Answers the filter's present request. Returns what the libwebsockets callback must return. */
int requests_serve(struct session *session);
/* The session's deadline has passed. Returns what the libwebsockets callback must return. */
int requests_end_late(struct session *session);

/* ---- answer.c ---- */

/* Begins to send; takes what `answer` holds. Returns what the libwebsockets callback must return.
 */
int session_answer(struct session *session, struct answer *answer);
/* The socket takes more. */
int session_continue(struct session *session);
/* Frees what is left of the answer. */
void session_drop_answer(struct session *session);

void answer_finish(struct answer *answer);
/* An error as JSON: {"error": message}. */
void answer_error(struct answer *answer, int status, const char *message);
/* "date: …" with its line end, as all answers have it. */
void append_date(struct buf *out);

struct request;
/* An argument of the query, decoded; false if it is not there. Without memory, or cut short, it is
 * a value that nobody takes: "%". */
bool request_argument(const struct request *request, const char *name, char *out, size_t out_size);

/* ---- listener.c ---- */

extern const struct lws_protocols listener_protocol;

/* Accepts from now on; takes the sockets in every case. Errors: ERR_NOMEM. */
int listener_start(struct http_frontend *frontend, const struct listen_sockets *sockets);
void listener_stop(struct http_frontend *frontend);

/* ---- routes.c ---- */

struct request {
    const char *path; /* decoded */
    bool is_over;     /* of a connection that is one too many: crowd.h */
    const struct http_head *head;
};

struct route {
    const char *path;
    bool is_probe; /* it tells how the node is, at every bound */
    void (*serve)(struct http_frontend *frontend, const struct request *request,
                  struct answer *answer);
};

/* NULL: one of the page's, perhaps. */
const struct route *route_find(const char *path);

void serve_health(struct http_frontend *frontend, const struct request *request,
                  struct answer *answer);
void serve_livez(struct http_frontend *frontend, const struct request *request,
                 struct answer *answer);
void serve_readyz(struct http_frontend *frontend, const struct request *request,
                  struct answer *answer);
void serve_ws(struct http_frontend *frontend, const struct request *request, struct answer *answer);
void serve_status(struct http_frontend *frontend, const struct request *request,
                  struct answer *answer);

/* Sets frontend->metrics: the figures of this frontend, read on its service thread. */
void http_metrics_init(struct http_frontend *frontend);
void serve_metrics(struct http_frontend *frontend, const struct request *request,
                   struct answer *answer);
/* Every path that is none of the above. */
void serve_page(struct http_frontend *frontend, const struct request *request,
                struct answer *answer);

#endif
