/* The gRPC frontend: listens, and passes each call to the service of its path. */
#include "base/check.h"
#include "base/errors.h"
#include "base/log.h"
#include "dispatch/frontend.h"
#include "grpc_internal.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Largest ratio of a request to its payload: base64 in JSON with each character escaped takes 8
 * bytes for one. The other fields are bounded and grow in the same way. */
#define PAYLOAD_FACTOR 8u
#define FIELDS_BYTES_MAX (32u << 10)
/* The largest batch as base64 in JSON, and the names of the fields of a thousand messages. */
#define BATCH_BYTES_MAX (DISPATCH_BATCH_BYTES_MAX / 3 * 4 + (256u << 10))
#define METADATA_BYTES_MAX (16u << 10)
#define KEEPALIVE_MS 20000
#define PING_INTERVAL_MIN_MS 5000 /* clients use 10 s and more */
#define MESSAGE_WAIT_MS 10000
#define STREAMS_MAX 1000u /* of a connection */
/* So that a client receives RESOURCE_EXHAUSTED instead of queueing if few calls are allowed. */
#define STREAMS_OVER_CALLS 64u

/* Takes the call if its path is one of dispatch's methods. */
static const struct call_kind *kind_of(const struct dispatch_method *method)
{
    return method->is_client_streaming ? &publish_kind
           : method->is_streaming      ? &subscribe_kind
                                       : &unary_kind;
}

static bool take_method(struct grpc_frontend *frontend, struct h2_call *stream)
{
    const struct dispatch_method *method = dispatch_method_by_path(h2_call_path(stream));
    if (method == NULL) {
        return false;
    }
    call_start(frontend, stream, kind_of(method), method);
    return true;
}

static void on_call(void *context, struct h2_call *stream)
{
    struct grpc_frontend *frontend = context;
    if (take_method(frontend, stream) || health_take(frontend, stream) ||
        reflection_take(frontend, stream)) {
        return;
    }
    struct dispatch_status status;
    dispatch_status_set(&status, DISPATCH_UNIMPLEMENTED, NULL, "unknown method %s",
                        h2_call_path(stream));
    grpc_frontend_refuse(stream, &status);
}

static void free_frontend(struct grpc_frontend *frontend)
{
    pthread_cond_destroy(&frontend->changed);
    pthread_mutex_destroy(&frontend->lock);
    buf_finish(&frontend->busy_details);
    free(frontend);
}

/* Encoded once, so that a flood is refused cheaply, also if out of memory. */
static void prepare_busy(struct grpc_frontend *frontend)
{
    struct dispatch_status status;
    dispatch_status_set(&status, DISPATCH_RESOURCE_EXHAUSTED, "OVERLOADED", "%s",
                        TOO_MANY_CALLS_MESSAGE);
    dispatch_status_encode(&status, &frontend->busy_details);
    frontend->busy =
        grpc_frontend_make_status(status.code, TOO_MANY_CALLS_MESSAGE, &frontend->busy_details);
}

static uint32_t streams_max(uint32_t calls_max)
{
    return calls_max < STREAMS_MAX - STREAMS_OVER_CALLS ? calls_max + STREAMS_OVER_CALLS
                                                        : STREAMS_MAX;
}

static int listen_on(struct grpc_frontend *frontend, const struct frontend_options *options,
                     struct listen_fault *fault)
{
    const struct h2_server_options server = {
        .address = options->grpc_bind_addr,
        .receive_bytes_max = frontend->request_bytes_max > BATCH_BYTES_MAX
                                 ? frontend->request_bytes_max
                                 : BATCH_BYTES_MAX,
        .discard_bytes_max = TOLD_BYTES_MAX,
        .metadata_bytes_max = METADATA_BYTES_MAX,
        .streams_max = streams_max(frontend->calls_max),
        .connections_max = options->max_connections,
        .waiting_max = frontend->calls_max,
        .message_wait_ms = MESSAGE_WAIT_MS,
        .keepalive_ms = KEEPALIVE_MS,
        .ping_interval_min_ms = PING_INTERVAL_MIN_MS,
        .memory = options->memory,
        .no_memory = &frontend->busy,
    };
    const struct h2_server_handler handler = {
        .on_call = on_call, .on_too_large = grpc_frontend_refuse_large, .context = frontend};
    return h2_server_create(&server, &handler, fault, &frontend->server);
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

struct grpc_stats {
    uint64_t calls;
};

static const struct metric metric_rows[] = {
    METRIC_ROW_AS(METRIC_GAUGE, grpc_stats, calls, "grpc_calls", "grpc_calls",
                  "gRPC calls that are open, subscriptions and health watches among them."),
};

static void get_stats(void *context, void *figures)
{
    struct grpc_frontend *frontend = context;
    pthread_mutex_lock(&frontend->lock);
    ((struct grpc_stats *)figures)->calls = frontend->calls + frontend->probes;
    pthread_mutex_unlock(&frontend->lock);
}

static void offer_metrics(struct grpc_frontend *frontend)
{
    frontend->metrics = (struct metric_source){
        .rows = metric_rows,
        .row_count = sizeof(metric_rows) / sizeof(metric_rows[0]),
        .size = sizeof(struct grpc_stats),
        .read = get_stats,
        .context = frontend,
    };
    dispatch_add_metrics(frontend->dispatch, &frontend->metrics);
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
    frontend->memory = options->memory;
    frontend->request_bytes_max = PAYLOAD_FACTOR * options->max_payload_bytes + FIELDS_BYTES_MAX;
    pthread_mutex_init(&frontend->lock, NULL);
    pthread_cond_init(&frontend->changed, NULL);
    rc = descriptor_set_init(&frontend->descriptors, descriptor_set_of_proto);
    CHECK(rc == 0);
    prepare_busy(frontend);
    health_init(frontend);
    rc = listen_on(frontend, options, &fault);
    if (rc != 0) {
        goto free_frontend;
    }
    health_start(frontend);
    offer_metrics(frontend);
    log_info("grpc", "listening", LOG_STR("address", options->grpc_bind_addr),
             LOG_I64("port", h2_server_port(frontend->server)));
    *out = frontend;
    return 0;
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
    h2_server_close(frontend->server);
    health_refresh(frontend);
}

static void stop(void *instance, uint32_t grace_ms)
{
    struct grpc_frontend *frontend = instance;
    close_frontend(frontend);
    h2_server_stop(frontend->server, grace_ms);
    /* Waits for dispatch's answers to calls that are over, since they use the calls' objects. */
    pthread_mutex_lock(&frontend->lock);
    while (frontend->objects > 0) {
        pthread_cond_wait(&frontend->changed, &frontend->lock);
    }
    pthread_mutex_unlock(&frontend->lock);
    dispatch_remove_metrics(frontend->dispatch, &frontend->metrics);
    health_stop(frontend);
    h2_server_destroy(frontend->server);
    free_frontend(frontend);
}

/* close() would cancel calls that arrive before the client has read the GOAWAY. */
static void hang_up(void *instance)
{
    struct grpc_frontend *frontend = instance;
    h2_server_hang_up(frontend->server);
}

const struct frontend frontend_grpc = {
    .start = start,
    .close = close_frontend,
    .hang_up = hang_up,
    .stop = stop,
};
