/* A server: listens, keeps requests for calls in gRPC, counts the calls, and ends them. call.c has
 * one call. */
#include "base/check.h"
#include "base/errors.h"
#include "base/list.h"
#include "base/log.h"
#include "base/log_limit.h"
#include "rpc/rpc_internal.h"

#include <arpa/inet.h>
#include <dirent.h>
#include <netinet/in.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

/* Requests for calls that wait in gRPC, so that a burst of calls needs no step of the loop's
 * thread. */
#define SLOTS_MAX 64
/* Streams per connection beyond calls_max: the client receives RESOURCE_EXHAUSTED instead of
 * queueing, and one connection cannot open unlimited calls. */
#define STREAMS_OVER_CALLS_MAX 64
/* Time that connections without calls have to close before they are cut. */
#define GOODBYE_MS_MAX 100

struct rpc_server {
    struct rpc_loop *loop;
    grpc_server *grpc;
    struct rpc_server_handler handler;
    uint32_t calls_max;
    const struct rpc_status *busy;
    uint32_t receive_bytes_max;
    int port;
    struct rpc_tag shutdown;
    pthread_mutex_t lock; /* guards all below */
    pthread_cond_t changed;
    uint32_t slots;
    uint32_t calls;
    bool is_closing;
    struct log_limit faults;
    bool is_shut_down; /* gRPC has shut the server down */
};

grpc_server *rpc_server_grpc(struct rpc_server *server)
{
    return server->grpc;
}

const struct rpc_status *rpc_server_busy(const struct rpc_server *server)
{
    static const struct rpc_status plain = {.code = GRPC_STATUS_RESOURCE_EXHAUSTED,
                                            .message = "too many concurrent calls"};
    return server->busy != NULL ? server->busy : &plain;
}

struct rpc_loop *rpc_server_loop(struct rpc_server *server)
{
    return server->loop;
}

uint32_t rpc_server_receive_bytes_max(const struct rpc_server *server)
{
    return server->receive_bytes_max;
}

/* ---- slots and counts ---- */

static void fill_slots(struct rpc_server *server)
{
    for (;;) {
        pthread_mutex_lock(&server->lock);
        bool is_wanted = !server->is_closing && server->slots < SLOTS_MAX;
        server->slots += is_wanted;
        pthread_mutex_unlock(&server->lock);
        if (!is_wanted) {
            return;
        }
        if (rpc_call_request(server) != 0) {
            /* The next call that arrives or ends tries again. */
            uint64_t now_ns = clock_monotonic_ns(clock_system());
            uint64_t suppressed;
            pthread_mutex_lock(&server->lock);
            if (log_limit_passes(&server->faults, now_ns, "", &suppressed)) {
                log_error("rpc", "out of memory: cannot accept more calls",
                          LOG_U64("suppressed", suppressed));
            }
            server->slots--;
            pthread_cond_broadcast(&server->changed);
            pthread_mutex_unlock(&server->lock);
            return;
        }
    }
}

bool rpc_server_slot_taken(struct rpc_server *server, bool has_call)
{
    pthread_mutex_lock(&server->lock);
    server->calls += has_call;
    bool is_welcome = server->calls <= server->calls_max;
    server->slots--;
    /* If this was the last slot of an ending server, the server may be freed as soon as the lock is
     * released. */
    bool is_closing = server->is_closing;
    pthread_cond_broadcast(&server->changed);
    pthread_mutex_unlock(&server->lock);
    if (has_call && !is_closing) {
        fill_slots(server);
    }
    return is_welcome;
}

void rpc_server_handle(struct rpc_server *server, struct rpc_call *call)
{
    server->handler.on_call(server->handler.context, call);
}

void rpc_server_call_over(struct rpc_server *server)
{
    pthread_mutex_lock(&server->lock);
    bool is_short_of_slots = !server->is_closing && server->slots < SLOTS_MAX;
    pthread_mutex_unlock(&server->lock);
    if (is_short_of_slots) {
        fill_slots(server);
    }
    pthread_mutex_lock(&server->lock);
    CHECK(server->calls > 0);
    server->calls--;
    pthread_cond_broadcast(&server->changed);
    pthread_mutex_unlock(&server->lock);
}

static void on_shutdown(struct rpc_tag *tag, bool is_ok)
{
    struct rpc_server *server = CONTAINER_OF(tag, struct rpc_server, shutdown);
    pthread_mutex_lock(&server->lock);
    server->is_shut_down = true;
    pthread_cond_broadcast(&server->changed);
    pthread_mutex_unlock(&server->lock);
}

/* ---- start ---- */

static grpc_server *create_grpc_server(const struct rpc_server_options *options)
{
    struct rpc_args args = {.count = 0};
    rpc_args_add(&args, GRPC_ARG_ALLOW_REUSEPORT, 0);
    rpc_args_add_common(&args, options->receive_bytes_max);
    rpc_args_add(&args, GRPC_ARG_MAX_METADATA_SIZE, options->metadata_bytes_max);
    uint64_t streams_max = (uint64_t)options->calls_max + STREAMS_OVER_CALLS_MAX;
    rpc_args_add(&args, GRPC_ARG_MAX_CONCURRENT_STREAMS,
                 streams_max > INT32_MAX ? INT32_MAX : (uint32_t)streams_max);
    rpc_args_add_keepalive(&args, options->keepalive_ms);
    /* Half of the configured interval: the network shortens gaps between pings, and three early
     * pings cost a client its connection. */
    rpc_args_add(&args, GRPC_ARG_HTTP2_MIN_RECV_PING_INTERVAL_WITHOUT_DATA_MS,
                 options->ping_interval_min_ms / 2);
    const grpc_channel_args grpc_args = {args.count, args.list};
    return grpc_server_create(&grpc_args, NULL);
}

static void init_condition(pthread_cond_t *condition)
{
    pthread_condattr_t attributes;
    pthread_condattr_init(&attributes);
    pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    pthread_cond_init(condition, &attributes);
    pthread_condattr_destroy(&attributes);
}

static void free_server(struct rpc_server *server)
{
    grpc_server_destroy(server->grpc);
    pthread_cond_destroy(&server->changed);
    pthread_mutex_destroy(&server->lock);
    free(server);
}

int rpc_server_create(struct rpc_loop *loop, const struct rpc_server_options *options,
                      const struct rpc_server_handler *handler, struct rpc_server **out)
{
    struct rpc_server *server = calloc(1, sizeof(*server));
    if (server == NULL) {
        return ERR_NOMEM;
    }
    server->loop = loop;
    server->handler = *handler;
    server->calls_max = options->calls_max;
    server->busy = options->busy;
    server->receive_bytes_max = options->receive_bytes_max;
    server->shutdown.fn = on_shutdown;
    pthread_mutex_init(&server->lock, NULL);
    init_condition(&server->changed);
    server->grpc = create_grpc_server(options);
    grpc_server_register_completion_queue(server->grpc, rpc_loop_queue(loop), NULL);
    struct listen_fault fault;
    int rc = rpc_bind(server->grpc, options->address, &server->port, &fault);
    if (rc != 0) {
        if (options->fault != NULL) {
            *options->fault = fault;
        }
        free_server(server);
        return rc;
    }
    rpc_accept_note(server->port, options->is_for_peers);
    grpc_server_start(server->grpc);
    /* Set before the first call, since the handler may use it. */
    *out = server;
    fill_slots(server);
    return 0;
}

int rpc_server_port(const struct rpc_server *server)
{
    return server->port;
}

/* ---- stop ---- */

void rpc_server_close(struct rpc_server *server)
{
    pthread_mutex_lock(&server->lock);
    bool is_first = !server->is_closing;
    server->is_closing = true;
    pthread_mutex_unlock(&server->lock);
    if (is_first) {
        RPC_TSAN_RELEASE(&server->shutdown);
        grpc_server_shutdown_and_notify(server->grpc, rpc_loop_queue(server->loop),
                                        &server->shutdown);
    }
}

static uint16_t local_port(int fd)
{
    struct sockaddr_storage local;
    struct sockaddr_storage remote;
    socklen_t local_size = sizeof(local);
    socklen_t remote_size = sizeof(remote);
    if (getsockname(fd, (struct sockaddr *)&local, &local_size) != 0 ||
        getpeername(fd, (struct sockaddr *)&remote, &remote_size) != 0) {
        return 0; /* no connection */
    }
    switch (local.ss_family) {
    case AF_INET:
        return ntohs(((const struct sockaddr_in *)(const void *)&local)->sin_port);
    case AF_INET6:
        return ntohs(((const struct sockaddr_in6 *)(const void *)&local)->sin6_port);
    default:
        return 0;
    }
}

/* Finds gRPC's sockets through the kernel, since gRPC does not name them. */
void rpc_server_hang_up(const struct rpc_server *server)
{
    DIR *dir = opendir("/proc/self/fd");
    if (dir == NULL) {
        return;
    }
    const struct dirent *entry;
    while ((entry = readdir(dir)) != NULL) {
        int fd = (int)strtol(entry->d_name, NULL, 10);
        if (fd > 0 && local_port(fd) == server->port) {
            (void)shutdown(fd, SHUT_WR);
        }
    }
    closedir(dir);
}

static uint64_t earlier(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

/* Waits until `deadline_ns` for the calls to end, then at most GOODBYE_MS_MAX, within
 * `deadline_ns`, for the connections. Requires the lock. */
static void wait_gently(struct rpc_server *server, uint64_t deadline_ns)
{
    uint64_t goodbye_ns = 0;
    for (;;) {
        uint64_t now_ns = clock_monotonic_ns(clock_system());
        if (server->calls == 0 && goodbye_ns == 0) {
            goodbye_ns = earlier(deadline_ns, now_ns + GOODBYE_MS_MAX * NS_PER_MS);
        }
        uint64_t until_ns = server->calls == 0 ? goodbye_ns : deadline_ns;
        if (server->is_shut_down || now_ns >= until_ns) {
            return;
        }
        const struct timespec until = {(time_t)(until_ns / NS_PER_S), (long)(until_ns % NS_PER_S)};
        pthread_cond_timedwait(&server->changed, &server->lock, &until);
    }
}

void rpc_server_stop(struct rpc_server *server, uint32_t grace_ms)
{
    CHECK(!rpc_loop_is_current(server->loop));
    uint64_t deadline_ns = clock_monotonic_ns(clock_system()) + grace_ms * NS_PER_MS;
    rpc_server_close(server);
    pthread_mutex_lock(&server->lock);
    wait_gently(server, deadline_ns);
    bool is_shut_down = server->is_shut_down;
    pthread_mutex_unlock(&server->lock);
    if (!is_shut_down) {
        grpc_server_cancel_all_calls(server->grpc);
    }
    pthread_mutex_lock(&server->lock);
    while (!server->is_shut_down || server->slots > 0 || server->calls > 0) {
        pthread_cond_wait(&server->changed, &server->lock);
    }
    pthread_mutex_unlock(&server->lock);
}

void rpc_server_destroy(struct rpc_server *server)
{
    if (server == NULL) {
        return;
    }
    CHECK(server->is_shut_down);
    CHECK(server->slots == 0);
    CHECK(server->calls == 0);
    free_server(server);
}
