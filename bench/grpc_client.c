/* A pool of gRPC channels, and calls over them. */
#include "bench/grpc_client.h"

#include "base/clock.h"
#include "base/errors.h"
#include "base/unconst.h"
#include "bench/requests.h"

#include <grpc/status.h>
#include <pthread.h>
#include <raftogram/v1/messaging.pb-c.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define RECEIVE_BYTES_MAX (4u << 20)
#define CHANNELS_MAX (ADDRESSES_MAX * 32)
#define PREPARE_CALL_NS (500 * NS_PER_MS)
#define PREPARE_PAUSE_NS (2 * NS_PER_MS)

struct grpc_client {
    struct rpc_loop *loop;
    struct rpc_channel *channels[CHANNELS_MAX]; /* address by address in turn */
    size_t channel_count;
};

static uint64_t now_ns(void)
{
    return clock_monotonic_ns(clock_system());
}

/* ---- connections ---- */

int grpc_client_open(const struct options *options, uint32_t connections, struct grpc_client **out)
{
    struct grpc_client *client = calloc(1, sizeof(*client));
    if (client == NULL) {
        return ERR_NOMEM;
    }
    int rc = rpc_loop_create("bench-grpc", &client->loop);
    if (rc != 0) {
        free(client);
        return rc;
    }
    size_t wanted = connections * options->address_count;
    wanted = wanted > CHANNELS_MAX ? CHANNELS_MAX : wanted;
    while (client->channel_count < wanted) {
        struct rpc_channel_options channel_options = {
            .address = options->addresses[client->channel_count % options->address_count],
            .receive_bytes_max = RECEIVE_BYTES_MAX,
        };
        rc = rpc_channel_create(client->loop, &channel_options,
                                &client->channels[client->channel_count]);
        if (rc != 0) {
            grpc_client_close(client);
            return rc;
        }
        client->channel_count++;
    }
    *out = client;
    return 0;
}

void grpc_client_close(struct grpc_client *client)
{
    for (size_t i = 0; i < client->channel_count; i++) {
        rpc_channel_destroy(client->channels[i]);
    }
    rpc_loop_destroy(client->loop);
    free(client);
}

size_t grpc_client_channel_count(const struct grpc_client *client)
{
    return client->channel_count;
}

struct rpc_channel *grpc_client_channel(const struct grpc_client *client, uint64_t number)
{
    return client->channels[number % client->channel_count];
}

/* ---- results ---- */

static bool contains(const char *text, const char *part)
{
    return text != NULL && strstr(text, part) != NULL;
}

/* The library's own words when it could not connect: no server saw the call. */
static bool is_refused(const struct rpc_result *result)
{
    return result->code == GRPC_STATUS_UNAVAILABLE &&
           (contains(result->message, "failed to connect") ||
            contains(result->message, "Failed to connect") ||
            contains(result->message, "Connection refused") ||
            contains(result->message, "connections to all backends failing"));
}

enum outcome grpc_client_outcome(const struct rpc_result *result)
{
    if (is_refused(result)) {
        return OUTCOME_REFUSED;
    }
    if (result->code == GRPC_STATUS_FAILED_PRECONDITION &&
        contains(result->message, "not leader")) {
        return OUTCOME_NOT_LEADER;
    }
    return result->code == GRPC_STATUS_OK ? OUTCOME_OK : OUTCOME_ERROR;
}

void grpc_client_explain(int code, const char *text, char out[LOAD_TEXT_BYTES])
{
    snprintf(out, LOAD_TEXT_BYTES, "status %d: %s", code, text == NULL ? "" : text);
}

/* ---- preparation ---- */

/* One call and its outcome, waited for. */
struct waited_call {
    pthread_mutex_t lock;
    pthread_cond_t changed;
    bool is_over;
    int code;
    bool is_acceptable;
    struct rpc_client_call *call;
};

static void waited_on_closed(void *context, const struct rpc_result *result)
{
    struct waited_call *waited = context;
    bool is_acceptable = result->code == GRPC_STATUS_OK;
    pthread_mutex_lock(&waited->lock);
    waited->code = result->code;
    waited->is_acceptable = is_acceptable;
    waited->is_over = true;
    pthread_cond_signal(&waited->changed);
    pthread_mutex_unlock(&waited->lock);
}

static bool call_and_wait(struct rpc_channel *channel, const char *path, struct bytes request)
{
    struct waited_call waited = {.is_over = false};
    pthread_mutex_init(&waited.lock, NULL);
    pthread_cond_init(&waited.changed, NULL);
    struct rpc_client_options options = {.path = path, .deadline_ns = now_ns() + PREPARE_CALL_NS};
    struct rpc_client_events events = {.on_closed = waited_on_closed, .context = &waited};
    bool is_ok = false;
    if (rpc_unary(channel, &options, request, &events, &waited.call) == 0) {
        pthread_mutex_lock(&waited.lock);
        while (!waited.is_over) {
            pthread_cond_wait(&waited.changed, &waited.lock);
        }
        pthread_mutex_unlock(&waited.lock);
        is_ok = waited.is_acceptable;
        rpc_client_release(waited.call);
    }
    pthread_cond_destroy(&waited.changed);
    pthread_mutex_destroy(&waited.lock);
    return is_ok;
}

int grpc_client_call_until_ok(const struct grpc_client *client, const char *path,
                              struct bytes request, uint64_t deadline_ns)
{
    for (uint64_t i = 0; now_ns() < deadline_ns; i++) {
        struct rpc_channel *channel = grpc_client_channel(client, i);
        if (call_and_wait(channel, path, request)) {
            return 0;
        }
        rpc_channel_reset_backoff(channel);
        nanosleep(&(struct timespec){.tv_nsec = (long)PREPARE_PAUSE_NS}, NULL);
    }
    return ERR_TIMEOUT;
}

int grpc_client_create_channel(const struct grpc_client *client, const char *channel_id,
                               uint64_t deadline_ns)
{
    Raftogram__V1__CreateChannelRequest request = RAFTOGRAM__V1__CREATE_CHANNEL_REQUEST__INIT;
    request.channel_id = unconst(channel_id);
    struct buf bytes = {0};
    request_append(&bytes, &request.base);
    int rc = grpc_client_call_until_ok(client, "/raftogram.v1.Messenger/CreateChannel",
                                       buf_bytes(&bytes), deadline_ns);
    buf_finish(&bytes);
    return rc;
}
