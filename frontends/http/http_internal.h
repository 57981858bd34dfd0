/* Declarations that the files of the HTTP frontend share. There is one libwebsockets context with
 * one service thread. Everything runs on that thread, except functions that say "any thread".
 *
 * Reading order: http.c (start, stop, the service thread), listener.c (accepts), session.c (begin
 * and end of a connection), requests.c (from a request to its answer), routes.c (what serves which
 * path), answer.c (sends an answer), status.c, metrics.c, page.c and static_files.c, then the
 * WebSocket (ws/ws.h). wire.c, http_filter.c and ws_frames.c are between the socket and
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
#define HTTP_CHUNK_BYTES (64u << 10) /* bytes of a body written at once */
#define HTTP_HEAD_S 10    /* limit of a head, from its first byte or the begin of the connection */
#define HTTP_IDLE_S 60    /* between two requests */
#define HTTP_STALL_S 60   /* limit of an answer or a body without progress */
#define HTTP_RESERVED_S 2 /* limit of the head on a connection beyond the limit */
#define HTTP_DRAIN_S 5    /* limit of the rest of a refused request */

/* Work for the service thread, posted by other threads. */
struct task {
    struct list link;
    void (*run)(struct task *task);
    atomic_bool is_posted; /* posted and not started */
};

enum http_phase {
    HTTP_SERVING,
    HTTP_CLOSING,  /* nothing new is accepted */
    HTTP_STOPPING, /* everything left is ended */
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
    struct buf scratch;  /* memory in which a frame is built */
    struct dispatch_watcher watcher;
    struct metric_source metrics;
    struct task watch_task;
    const char *told_role; /* last state sent to connections */
    const char *told_leader_id;
    bool told_quorum;
    uint64_t process_start_s; /* since 1970; constant after the first read */
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
/* Runs the posted tasks. */
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
    struct bytes shared; /* replaces `body`; lives as long as the program */
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
    struct answer answer; /* unsent part of the answer */
    size_t answer_bytes;  /* size of it, taken from the budget */
    size_t sent;
    bool is_busy;       /* between a request and the end of its answer */
    bool is_head_timed; /* the deadline is that of a head */
    struct ws *ws;      /* NULL while it is HTTP */
};

/* ---- session.c: begin and end ---- */

/* Begins a session. Takes ownership of the descriptor, also on error. */
void session_create(struct http_frontend *frontend, int fd, const struct sockaddr_storage *from,
                    const struct wire_events *events);
/* Frees the session when its connection is gone. */
void session_destroy(struct session *session);
/* Sets the deadline of the session, at which the connection is closed; replaces an earlier one. */
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

/* Begins to send. Takes ownership of the contents of `answer`. Returns what the libwebsockets
 * callback must return. */
int session_answer(struct session *session, struct answer *answer);
/* Continues to send when the socket is writable. */
int session_continue(struct session *session);
/* Frees the unsent part of the answer. */
void session_drop_answer(struct session *session);

void answer_finish(struct answer *answer);
/* Sets the body to an error as JSON: {"error": message}. */
void answer_error(struct answer *answer, int status, const char *message);
/* Appends "date: …" with its line end, which all answers have. */
void append_date(struct buf *out);

struct request;
/* Reads an argument of the query, decoded. Returns false if it is absent. Without memory or room
 * the value is "%", which no route accepts. */
bool request_argument(const struct request *request, const char *name, char *out, size_t out_size);

/* ---- listener.c ---- */

extern const struct lws_protocols listener_protocol;

/* Begins to accept. Takes ownership of the sockets, also on error. Errors: ERR_NOMEM. */
int listener_start(struct http_frontend *frontend, const struct listen_sockets *sockets);
void listener_stop(struct http_frontend *frontend);

/* ---- routes.c ---- */

struct request {
    const char *path; /* decoded */
    bool is_over;     /* the connection is beyond the limit: crowd.h */
    const struct http_head *head;
};

struct route {
    const char *path;
    bool is_probe; /* it reports the health of the node, also beyond limits */
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
