/* grpc.health.v1.Health. A watch receives the current state at once, and then each change. If
 * changes are faster than they can be sent, it receives the last one. */
#include "grpc/health/v1/health.pb-c.h"
#include "grpc_internal.h"

#include <string.h>

#define STATUS(name) GRPC__HEALTH__V1__HEALTH_CHECK_RESPONSE__SERVING_STATUS__##name

/* `needs_leader`: works only on a node that is ready. "" is the process. */
static const struct {
    const char *name;
    bool needs_leader;
} services[] = {
    {"", false},
    {"raftogram.v1.Cluster", false},
    {"raftogram.v1.Messenger", true},
    {"phalanx.KV", true},
};

#define SERVICE_COUNT (sizeof(services) / sizeof(services[0]))

/* Returns this table's name, so that a watch need not copy the client's. */
static const char *find_service(const char *name)
{
    for (size_t i = 0; i < SERVICE_COUNT; i++) {
        if (strcmp(services[i].name, name) == 0) {
            return services[i].name;
        }
    }
    return NULL;
}

int health_status(const char *service, bool is_ready, bool is_closing)
{
    for (size_t i = 0; i < SERVICE_COUNT; i++) {
        if (service != NULL && strcmp(services[i].name, service) == 0) {
            bool is_serving = !is_closing && (is_ready || !services[i].needs_leader);
            return is_serving ? STATUS(SERVING) : STATUS(NOT_SERVING);
        }
    }
    return STATUS(SERVICE_UNKNOWN);
}

static int current_status(struct grpc_frontend *frontend, const char *service)
{
    struct dispatch_node_status node;
    dispatch_get_node_status(frontend->dispatch, &node);
    return health_status(service, node.is_ready, atomic_load(&frontend->is_closing));
}

static Grpc__Health__V1__HealthCheckResponse make_response(int status)
{
    Grpc__Health__V1__HealthCheckResponse response = GRPC__HEALTH__V1__HEALTH_CHECK_RESPONSE__INIT;
    response.status = (Grpc__Health__V1__HealthCheckResponse__ServingStatus)status;
    return response;
}

/* Returns the service's name in the table; NULL for an unknown service. Frees the request. */
static const char *take_service(ProtobufCMessage *request)
{
    const char *service = find_service(((Grpc__Health__V1__HealthCheckRequest *)request)->service);
    protobuf_c_message_free_unpacked(request, NULL);
    return service;
}

/* ---- Check ---- */

static void run_check(struct call *call, ProtobufCMessage *request)
{
    const char *service = take_service(request);
    if (service == NULL) {
        struct dispatch_status status;
        dispatch_status_set(&status, DISPATCH_NOT_FOUND, NULL, "unknown service");
        call_fail(call, &status);
        return;
    }
    Grpc__Health__V1__HealthCheckResponse response =
        make_response(current_status(call->frontend, service));
    call_answer(call, &response.base);
}

static const struct call_kind check_kind = {
    .size = sizeof(struct call), .run = run_check, .is_unary = true, .is_probe = true};

/* ---- Watch ---- */

struct watch_call {
    struct call call; /* first */
    struct list link;
    const char *service; /* NULL: unknown */
    bool is_watching;    /* is in the list and uses the fields below */
    bool is_sending;
    int told; /* the last status that was sent; -1: none */
};

/* Sends the status if it changed. The status of a closing frontend is the last. */
static void send_status(struct watch_call *watch)
{
    if (watch->is_sending) {
        return;
    }
    int status = current_status(watch->call.frontend, watch->service);
    if (status != watch->told) {
        Grpc__Health__V1__HealthCheckResponse response = make_response(status);
        if (call_send(&watch->call, &response.base) == 0) {
            watch->told = status;
            watch->is_sending = true;
        }
    } else if (atomic_load(&watch->call.frontend->is_closing)) {
        struct dispatch_status end;
        dispatch_status_set(&end, DISPATCH_UNAVAILABLE, "DRAINING", "this node is shutting down");
        call_fail(&watch->call, &end);
    }
}

static void run_watch(struct call *call, ProtobufCMessage *request)
{
    struct watch_call *watch = (struct watch_call *)call;
    watch->service = take_service(request);
    watch->told = -1;
    watch->is_watching = true;
    list_push_back(&call->frontend->health.watches, &watch->link);
    send_status(watch);
}

static void watch_sent(struct call *call)
{
    struct watch_call *watch = (struct watch_call *)call;
    watch->is_sending = false;
    send_status(watch);
}

static void watch_closed(struct call *call)
{
    struct watch_call *watch = (struct watch_call *)call;
    if (watch->is_watching) {
        list_remove(&watch->link);
    }
}

static const struct call_kind watch_kind = {
    .size = sizeof(struct watch_call),
    .run = run_watch,
    .sent = watch_sent,
    .closed = watch_closed,
    .is_probe = true,
};

/* ---- changes ---- */

/* Server's thread. */
static void tell_all(struct h2_post *post)
{
    struct grpc_frontend *frontend = CONTAINER_OF(post, struct grpc_frontend, health.post);
    /* First, so that later changes cause another update. */
    atomic_store(&frontend->health.is_refreshing, false);
    LIST_FOR_EACH (link, &frontend->health.watches) {
        send_status(LIST_ENTRY(link, struct watch_call, link));
    }
}

void health_refresh(struct grpc_frontend *frontend)
{
    if (atomic_exchange(&frontend->health.is_refreshing, true)) {
        return;
    }
    h2_server_post(frontend->server, &frontend->health.post);
}

static void on_change(struct dispatch_watcher *watcher)
{
    health_refresh(CONTAINER_OF(watcher, struct grpc_frontend, health.watcher));
}

void health_init(struct grpc_frontend *frontend)
{
    list_init(&frontend->health.watches);
    frontend->health.post.run = tell_all;
}

void health_start(struct grpc_frontend *frontend)
{
    frontend->health.watcher.changed = on_change;
    dispatch_watch(frontend->dispatch, &frontend->health.watcher);
}

void health_stop(struct grpc_frontend *frontend)
{
    dispatch_unwatch(frontend->dispatch, &frontend->health.watcher);
}

/* ---- paths ---- */

static const struct dispatch_method check_method = {
    .name = "Check",
    .path = "/grpc.health.v1.Health/Check",
    .service = "grpc.health.v1.Health",
    .input = &grpc__health__v1__health_check_request__descriptor,
    .output = &grpc__health__v1__health_check_response__descriptor,
};

static const struct dispatch_method watch_method = {
    .name = "Watch",
    .path = "/grpc.health.v1.Health/Watch",
    .service = "grpc.health.v1.Health",
    .input = &grpc__health__v1__health_check_request__descriptor,
    .output = &grpc__health__v1__health_check_response__descriptor,
    .is_streaming = true,
};

bool health_take(struct grpc_frontend *frontend, struct h2_call *stream)
{
    const char *path = h2_call_path(stream);
    if (strcmp(path, check_method.path) == 0) {
        call_start(frontend, stream, &check_kind, &check_method);
        return true;
    }
    if (strcmp(path, watch_method.path) == 0) {
        call_start(frontend, stream, &watch_kind, &watch_method);
        return true;
    }
    return false;
}
