/* The gRPC frontend: listens, and gives each call to the service that knows its path. */
#include "base/check.h"
#include "base/errors.h"
#include "base/log.h"
#include "dispatch/frontend.h"
#include "grpc_internal.h"

#include <stdio.h>
#include <stdlib.h>

/* The largest payload in base64 takes 4 MiB. What is larger is answered like any other payload that
 * is too large; beyond this gRPC itself refuses it, and cannot say so in our words. */
#define RECEIVE_BYTES_MAX (16u << 20)
#define METADATA_BYTES_MAX (16u << 10)
#define KEEPALIVE_MS 20000
#define PING_INTERVAL_MIN_MS 5000 /* what clients set is 10 s and more */
/* Calls that the server takes only to refuse them with our own status. */
#define CALLS_OVER_MAX 64

/* If the path is one of dispatch's methods. */
static bool take_method(struct grpc_frontend *frontend, struct rpc_call *rpc)
{
    const struct dispatch_method *method = dispatch_method_by_path(rpc_call_path(rpc));
    if (method == NULL) {
        return false;
    }
    call_start(frontend, rpc, method->is_streaming ? &subscribe_kind : &unary_kind, method);
    return true;
}

static void on_call(void *context, struct rpc_call *rpc)
{
    struct grpc_frontend *frontend = context;
    if (take_method(frontend, rpc) || health_take(frontend, rpc) ||
        reflection_take(frontend, rpc)) {
        return;
    }
    struct dispatch_status status;
    dispatch_status_set(&status, DISPATCH_UNIMPLEMENTED, NULL, "unknown method %s",
                        rpc_call_path(rpc));
    grpc_frontend_refuse(rpc, &status);
}

static void free_frontend(struct grpc_frontend *frontend)
{
    pthread_cond_destroy(&frontend->changed);
    pthread_mutex_destroy(&frontend->lock);
    buf_finish(&frontend->busy_details);
    free(frontend);
}

/* A flood is refused by the server with the words that call.c uses, without an object a call. */
static void prepare_busy(struct grpc_frontend *frontend)
{
    struct dispatch_status status;
    dispatch_status_set(&status, DISPATCH_RESOURCE_EXHAUSTED, "OVERLOADED", "%s",
                        TOO_MANY_CALLS_MESSAGE);
    dispatch_status_encode(&status, &frontend->busy_details);
    frontend->busy =
        grpc_frontend_make_status(status.code, TOO_MANY_CALLS_MESSAGE, &frontend->busy_details);
}

static int listen_on(struct grpc_frontend *frontend, const char *address,
                     struct listen_fault *fault)
{
    const struct rpc_server_options options = {
        .address = address,
        .receive_bytes_max = RECEIVE_BYTES_MAX,
        .metadata_bytes_max = METADATA_BYTES_MAX,
        .calls_max = frontend->calls_max + CALLS_OVER_MAX,
        .busy = &frontend->busy,
        .keepalive_ms = KEEPALIVE_MS,
        .ping_interval_min_ms = PING_INTERVAL_MIN_MS,
        .fault = fault,
    };
    const struct rpc_server_handler handler = {.on_call = on_call, .context = frontend};
    return rpc_server_create(frontend->loop, &options, &handler, &frontend->server);
}

static void explain(int rc, const struct listen_fault *fault, const char *address, char *error,
                    size_t error_size)
{
    if (rc == ERR_BUSY || rc == ERR_ACCESS || rc == ERR_INVALID) {
        listen_explain(fault, address, "gRPC", "cluster.grpc_bind_addr", error, error_size);
    } else {
        snprintf(error, error_size, "%s: cannot serve gRPC: %s; free some memory and try again",
                 address, error_text(rc));
    }
}

static int start(const struct frontend_options *options, void **out, char *error, size_t error_size)
{
    int rc = ERR_NOMEM;
    struct listen_fault fault = {.number = 0};
    struct grpc_frontend *frontend = calloc(1, sizeof(*frontend));
    if (frontend == NULL) {
        goto fail;
    }
    frontend->dispatch = options->dispatch;
    frontend->has_reflection = options->has_reflection;
    frontend->calls_max = options->max_calls;
    pthread_mutex_init(&frontend->lock, NULL);
    pthread_cond_init(&frontend->changed, NULL);
    rc = descriptor_set_init(&frontend->descriptors, descriptor_set_of_proto);
    CHECK(rc == 0);
    prepare_busy(frontend);
    rc = options->rpc_loop != NULL ? rpc_loop_share(options->rpc_loop, &frontend->loop)
                                   : rpc_loop_create("grpc", &frontend->loop);
    if (rc != 0) {
        goto free_frontend;
    }
    health_start(frontend);
    rc = listen_on(frontend, options->grpc_bind_addr, &fault);
    if (rc != 0) {
        goto stop_health;
    }
    log_info("grpc", "listening", LOG_STR("address", options->grpc_bind_addr),
             LOG_I64("port", rpc_server_port(frontend->server)));
    *out = frontend;
    return 0;
stop_health:
    health_stop(frontend);
    rpc_loop_destroy(frontend->loop);
free_frontend:
    free_frontend(frontend);
fail:
    explain(rc, &fault, options->grpc_bind_addr, error, error_size);
    return rc;
}

static void close_frontend(void *instance)
{
    struct grpc_frontend *frontend = instance;
    atomic_store(&frontend->is_closing, true);
    rpc_server_close(frontend->server);
    health_refresh(frontend);
}

static void stop(void *instance, uint32_t grace_ms)
{
    struct grpc_frontend *frontend = instance;
    close_frontend(frontend);
    rpc_server_stop(frontend->server, grace_ms);
    /* What dispatch still works on for calls that are over comes back to their objects. */
    pthread_mutex_lock(&frontend->lock);
    while (frontend->calls > 0) {
        pthread_cond_wait(&frontend->changed, &frontend->lock);
    }
    pthread_mutex_unlock(&frontend->lock);
    health_stop(frontend);
    rpc_server_destroy(frontend->server);
    rpc_loop_destroy(frontend->loop);
    free_frontend(frontend);
}

/* close() would cancel calls that arrive before the client has read the GOAWAY. */
static void hang_up(void *instance)
{
    struct grpc_frontend *frontend = instance;
    rpc_server_hang_up(frontend->server);
}

const struct frontend frontend_grpc = {
    .name = "grpc",
    .start = start,
    .close = close_frontend,
    .hang_up = hang_up,
    .stop = stop,
};
