/* What the files of this frontend share: the frontend, and the life of one call.
 *
 * Reading order: grpc_frontend.c, call.c, unary.c, subscribe.c, health.c, reflection.c,
 * descriptors.c. */
#ifndef RAFTOGRAM_FRONTENDS_GRPC_INTERNAL_H
#define RAFTOGRAM_FRONTENDS_GRPC_INTERNAL_H

#include "base/list.h"
#include "descriptors.h"
#include "dispatch/dispatch.h"
#include "h2/h2.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>

/* The health watches of all clients; the server's thread. */
struct health {
    struct dispatch_watcher watcher;
    struct h2_post post; /* looks at the watches; queued while is_refreshing */
    atomic_bool is_refreshing;
    struct list watches;
};

struct grpc_frontend {
    struct dispatch *dispatch;
    struct h2_server *server;
    struct health health;
    struct metric_source metrics;
    struct descriptor_set descriptors;
    bool has_reflection;
    uint32_t calls_max;
    uint32_t request_bytes_max;
    struct buf busy_details; /* what `busy` carries */
    struct h2_status busy;
    atomic_bool is_closing;
    pthread_mutex_t lock;
    pthread_cond_t changed;
    /* Under the lock. */
    uint32_t objects; /* struct call objects that exist */
    uint32_t calls;   /* of them: those whose request came, but for probes */
    uint32_t probes;
};

/* ---- one call ---- */

struct call;

/* What a method does with its calls. All run on the server's thread. */
struct call_kind {
    size_t size; /* of the object, which begins with a struct call; the rest is zeroed */
    /* A request came. Takes it. */
    void (*run)(struct call *call, ProtobufCMessage *request);
    /* What was sent on the call's stream has left. NULL for kinds that only answer. */
    void (*sent)(struct call *call);
    /* The turn that was asked for. NULL for kinds that never ask. */
    void (*turn)(struct call *call);
    /* The call is over. The object lives on while others hold references. May be NULL. */
    void (*closed)(struct call *call);
    bool is_unary;          /* runs when the client has half-closed, so that there is no second */
    bool has_many_requests; /* after the first, `sent` asks for the next with h2_call_receive() */
    bool is_probe;          /* has room of its own: is served at every bound */
};

/* References: one until `closed`, one for each callback that is still to come from dispatch. */
struct call {
    const struct call_kind *kind;
    struct grpc_frontend *frontend;
    struct h2_call *stream; /* a reference of our own: h2_call_*() is fine at any time */
    const struct dispatch_method *method;
    atomic_uint references;
    bool is_json; /* as the last request was, so the answers */
    /* The server's thread. */
    bool has_request;
    ProtobufCMessage *request; /* of a unary call, until the half-close */
    /* Under the frontend's lock. */
    bool is_counted;
    bool is_probe;
};

/* In on_call: takes the call, and reads its first request; beyond calls_max it is refused then. */
void call_start(struct grpc_frontend *frontend, struct h2_call *stream,
                const struct call_kind *kind, const struct dispatch_method *method);
void call_ref(struct call *call);
void call_unref(struct call *call);

/* Ends the call with one answer, or only with a status. Any thread; nothing happens when it is
 * over. */
void call_answer(struct call *call, const ProtobufCMessage *response);
void call_fail(struct call *call, const struct dispatch_status *status);
/* As call_fail(), with OVERLOADED. */
void call_fail_for_memory(struct call *call);
/* A message of a stream, in the encoding of the request; `sent` follows. Errors: ERR_CLOSED,
 * ERR_NOMEM. */
int call_send(struct call *call, const ProtobufCMessage *message);
#define TOO_MANY_CALLS_MESSAGE "too many calls are open: try again later"

/* `details` as dispatch_status_encode() made them; they and the message must outlive the result. */
struct h2_status grpc_frontend_make_status(int code, const char *message,
                                           const struct buf *details);
/* As call_fail() for a call that was not started. */
void grpc_frontend_refuse(struct h2_call *stream, const struct dispatch_status *status);

/* ---- services: each takes the call if the path is one of its own ---- */

bool health_take(struct grpc_frontend *frontend, struct h2_call *stream);
bool reflection_take(struct grpc_frontend *frontend, struct h2_call *stream);

/* Those of dispatch's methods. */
extern const struct call_kind unary_kind;
extern const struct call_kind subscribe_kind;

/* Before the server starts. */
void health_init(struct grpc_frontend *frontend);
/* When the server is there. */
void health_start(struct grpc_frontend *frontend);
/* The node's state or is_closing changed: tells the watches. Any thread. */
void health_refresh(struct grpc_frontend *frontend);
/* After the server has stopped. */
void health_stop(struct grpc_frontend *frontend);
/* A Grpc__Health__V1__HealthCheckResponse__ServingStatus; SERVICE_UNKNOWN for a service that is
 * none of ours. */
int health_status(const char *service, bool is_ready, bool is_closing);

#endif
