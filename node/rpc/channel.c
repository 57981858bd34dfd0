/* A channel: gRPC's connection to one address, and how it dials again. */
#include "base/check.h"
#include "base/errors.h"
#include "rpc/rpc_internal.h"

#include <arpa/inet.h>
#include <grpc/grpc_security.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define BACKOFF_MIN_MS_DEFAULT 50
#define BACKOFF_MAX_MS_DEFAULT 1000
/* Time limit of one dial. gRPC derives it from MIN_RECONNECT_BACKOFF_MS, which does not delay the
 * next dial after a refused one. */
#define DIAL_MS_MIN 1000

struct rpc_channel {
    struct rpc_loop *loop;
    grpc_channel *grpc;
    uint32_t receive_bytes_max;
    atomic_size_t calls;
};

/* Names an IPv4 address as such, since gRPC throttles repeated look-ups. Other addresses go to
 * DNS. */
static const char *target_scheme(const char *address)
{
    const char *colon = strrchr(address, ':');
    char host[INET_ADDRSTRLEN];
    if (colon == NULL || (size_t)(colon - address) >= sizeof(host)) {
        return "";
    }
    memcpy(host, address, (size_t)(colon - address));
    host[colon - address] = '\0';
    struct in_addr parsed;
    return inet_pton(AF_INET, host, &parsed) == 1 ? "ipv4:" : "";
}

static void add_args(struct rpc_args *args, const struct rpc_channel_options *options)
{
    uint32_t backoff_min_ms =
        options->backoff_min_ms > 0 ? options->backoff_min_ms : BACKOFF_MIN_MS_DEFAULT;
    uint32_t backoff_max_ms =
        options->backoff_max_ms > 0 ? options->backoff_max_ms : BACKOFF_MAX_MS_DEFAULT;
    rpc_args_add(args, GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL, 1);
    rpc_args_add(args, GRPC_ARG_ENABLE_RETRIES, 0);
    rpc_args_add(args, GRPC_ARG_ENABLE_HTTP_PROXY, 0);
    rpc_args_add(args, GRPC_ARG_SERVICE_CONFIG_DISABLE_RESOLUTION, 1);
    rpc_args_add_common(args, options->receive_bytes_max);
    rpc_args_add(args, GRPC_ARG_INITIAL_RECONNECT_BACKOFF_MS, backoff_min_ms);
    rpc_args_add(args, GRPC_ARG_MAX_RECONNECT_BACKOFF_MS, backoff_max_ms);
    rpc_args_add(args, GRPC_ARG_MIN_RECONNECT_BACKOFF_MS,
                 backoff_max_ms > DIAL_MS_MIN ? backoff_max_ms : DIAL_MS_MIN);
    rpc_args_add(args, GRPC_ARG_DNS_MIN_TIME_BETWEEN_RESOLUTIONS_MS, backoff_max_ms);
    rpc_args_add_keepalive(args, options->keepalive_ms);
}

int rpc_channel_create(struct rpc_loop *loop, const struct rpc_channel_options *options,
                       struct rpc_channel **out)
{
    struct rpc_channel *channel = calloc(1, sizeof(*channel));
    if (channel == NULL) {
        return ERR_NOMEM;
    }
    channel->loop = loop;
    channel->receive_bytes_max = options->receive_bytes_max;
    atomic_init(&channel->calls, 0);
    char *target = NULL;
    struct rpc_args args = {.count = 0};
    add_args(&args, options);
    if (options->target != NULL) {
        rpc_args_add_text(&args, GRPC_ARG_DEFAULT_AUTHORITY, options->address);
        target = strdup(options->target);
    } else if (asprintf(&target, "%s%s", target_scheme(options->address), options->address) < 0) {
        target = NULL;
    }
    if (target == NULL) {
        free(channel);
        return ERR_NOMEM;
    }
    const grpc_channel_args grpc_args = {args.count, args.list};
    grpc_channel_credentials *credentials = grpc_insecure_credentials_create();
    channel->grpc = grpc_channel_create(target, credentials, &grpc_args);
    grpc_channel_credentials_release(credentials);
    free(target);
    *out = channel;
    return 0;
}

void rpc_channel_destroy(struct rpc_channel *channel)
{
    if (channel == NULL) {
        return;
    }
    CHECK(atomic_load(&channel->calls) == 0);
    grpc_channel_destroy(channel->grpc);
    free(channel);
}

void rpc_channel_reset_backoff(struct rpc_channel *channel)
{
    grpc_channel_reset_connect_backoff(channel->grpc);
}

uint32_t rpc_channel_receive_bytes_max(const struct rpc_channel *channel)
{
    return channel->receive_bytes_max;
}

grpc_call *rpc_channel_call_begin(struct rpc_channel *channel, const char *path,
                                  uint64_t deadline_ns)
{
    grpc_slice method = grpc_slice_from_copied_string(path);
    grpc_call *call = grpc_channel_create_call(channel->grpc, NULL, GRPC_PROPAGATE_DEFAULTS,
                                               rpc_loop_queue(channel->loop), method, NULL,
                                               rpc_timespec(deadline_ns), NULL);
    grpc_slice_unref(method);
    atomic_fetch_add(&channel->calls, 1);
    return call;
}

void rpc_channel_call_over(struct rpc_channel *channel)
{
    size_t before = atomic_fetch_sub(&channel->calls, 1);
    CHECK(before > 0);
}
