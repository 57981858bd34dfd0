/* What the files of this frontend share: the frontend and the life of one call.
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

/* Larger requests up to this size are read to their end and answered with the reason. Clients that
 * send more are faulty. */
#define TOLD_BYTES_MAX (16u << 20)

/* The health watches of all clients. Server's thread. */
struct health {
    struct dispatch_watcher watcher;
    struct h2_post post; /* updates the watches; queued while is_refreshing */
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
    struct budget *memory; /* NULL: without a limit */
    uint32_t calls_max;
    uint32_t request_bytes_max; /* of a request that is no batch */
    struct buf busy_details;    /* details of `busy` */
    struct h2_status busy;
    atomic_bool is_closing;
    pthread_mutex_t lock;
    pthread_cond_t changed;
    /* Guarded by the lock. */
    uint32_t objects; /* existing struct call objects */
    uint32_t calls;   /* calls whose request is complete, without probes */
    uint32_t probes;
};

/* ---- one call ---- */

struct call;

/* The functions of a method. All run on the server's thread. */
struct call_kind {
    size_t size; /* size of the object, which begins with a struct call; the rest is zeroed */
    /* The call has been accepted and counted, before its first request. It reads requests itself,
     * with h2_call_receive(), also after run() and refused(). NULL: the first request is read, and
     * the call counts from then on. */
    void (*begin)(struct call *call);
    /* Handles a request, of which it takes ownership. */
    void (*run)(struct call *call, ProtobufCMessage *request);
    /* A request does not decode. NULL: the call ends with that status. */
    void (*refused)(struct call *call, const struct dispatch_status *status);
    /* The client sends no more. NULL: a call of many requests ends with OK. */
    void (*half_closed)(struct call *call);
    /* The message of call_send() was sent. NULL for kinds that only answer. */
    void (*sent)(struct call *call);
    /* The requested turn. NULL for kinds that never ask. */
    void (*turn)(struct call *call);
    /* The call is over. The object exists while references are held. May be NULL. */
    void (*closed)(struct call *call);
    bool is_unary;          /* runs at the half-close, so that no second request follows */
    bool has_many_requests; /* after the first, `sent` reads the next with h2_call_receive() */
    bool is_probe;          /* has its own limit: is served even if calls_max is reached */
};

/* References: one until `closed`, and one for each expected callback of dispatch. */
struct call {
    const struct call_kind *kind;
    struct grpc_frontend *frontend;
    struct h2_call *stream; /* with a reference: h2_call_*() may be called at any time */
    const struct dispatch_method *method;
    atomic_uint references;
    size_t request_bytes; /* encoded bytes of the last request */
    bool is_json;         /* whether the last request was JSON; answers are alike */
    /* Server's thread. */
    bool has_request;
    ProtobufCMessage *request; /* of a unary call, until the half-close */
    /* Guarded by the frontend's lock. */
    bool is_counted;
    bool is_probe;
};

/* Called in on_call. Accepts the call and reads its first request. Beyond calls_max, the call is
 * refused then. */
void call_start(struct grpc_frontend *frontend, struct h2_call *stream,
                const struct call_kind *kind, const struct dispatch_method *method);
void call_ref(struct call *call);
void call_unref(struct call *call);

/* Ends the call with an answer or with a status alone. Any thread. Does nothing if the call is
 * over. */
void call_answer(struct call *call, const ProtobufCMessage *response);
void call_fail(struct call *call, const struct dispatch_status *status);
/* As call_fail(), with OVERLOADED. */
void call_fail_for_memory(struct call *call);
/* Sends a message of a stream, in the encoding of the request. `sent` follows. Errors: ERR_CLOSED,
 * ERR_NOMEM. */
int call_send(struct call *call, const ProtobufCMessage *message);
#define TOO_MANY_CALLS_MESSAGE "too many calls are open: try again later"

/* Returns a status. `details` are those of dispatch_status_encode(). They and the message must
 * outlive the result. */
struct h2_status grpc_frontend_make_status(int code, const char *message,
                                           const struct buf *details);
/* True for a message of a size that only a batch may have. */
bool grpc_frontend_is_too_large(const struct grpc_frontend *frontend,
                                const struct dispatch_method *method, size_t size);
/* Ends the call, whose request has `size` bytes. `context` is the frontend. */
void grpc_frontend_refuse_large(void *context, struct h2_call *stream, uint64_t size);
/* As call_fail(), for a call that was not started. */
void grpc_frontend_refuse(struct h2_call *stream, const struct dispatch_status *status);

/* ---- services: each takes the call if the path is one of its own ---- */

bool health_take(struct grpc_frontend *frontend, struct h2_call *stream);
bool reflection_take(struct grpc_frontend *frontend, struct h2_call *stream);

/* The kinds of dispatch's methods. */
extern const struct call_kind unary_kind;
extern const struct call_kind subscribe_kind;
extern const struct call_kind publish_kind;

/* Called before the server starts. */
void health_init(struct grpc_frontend *frontend);
/* Called after the server was created. */
void health_start(struct grpc_frontend *frontend);
/* Updates the watches after a change of the node's state or of is_closing. Any thread. */
void health_refresh(struct grpc_frontend *frontend);
/* Called after the server has stopped. */
void health_stop(struct grpc_frontend *frontend);
/* Returns a Grpc__Health__V1__HealthCheckResponse__ServingStatus; SERVICE_UNKNOWN for an unknown
 * service. */
int health_status(const char *service, bool is_ready, bool is_closing);

#endif
