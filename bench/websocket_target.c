/* SendMessage over WebSocket as work: JSON-RPC calls whose ids are the operations' indexes. */
#include "base/check.h"
#include "base/clock.h"
#include "base/errors.h"
#include "bench/targets.h"
#include "bench/websocket.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define CONNECTIONS_DEFAULT_MAX 64
#define ANSWER_BYTES_MAX (1u << 20)
#define POLL_PAUSE_NS (2 * NS_PER_MS)
#define CREATE_AGAIN_NS (200 * NS_PER_MS)

struct websocket_target {
    struct target base;
    const struct options *options;
    struct socket_pool *pool;
    size_t socket_count;
    struct buf *answers; /* by socket: an incomplete message; the thread of the pool only */
    uint64_t run_id;
    pthread_mutex_t lock;
    size_t open_count;
    size_t closed_count;
    bool is_channel_there;
    struct operation **operations; /* by index; NULL: not running */
    size_t *socket_of;             /* by index */
};

static uint64_t now_ns(void)
{
    return clock_monotonic_ns(clock_system());
}

static struct operation *take_operation(struct websocket_target *target, uint64_t index)
{
    pthread_mutex_lock(&target->lock);
    struct operation *operation = NULL;
    if (index < target->options->in_flight) {
        operation = target->operations[index];
        target->operations[index] = NULL;
    }
    pthread_mutex_unlock(&target->lock);
    return operation;
}

/* Returns the outcome of an error answer, by the name of its reason. */
static enum outcome error_outcome(const char *text)
{
    return strstr(text, "\"NOT_LEADER\"") != NULL ? OUTCOME_NOT_LEADER : OUTCOME_ERROR;
}

static void on_answer(struct websocket_target *target, const char *text)
{
    /* Answers have "id"; notifications (hello, leader, heartbeat) do not. */
    const char *id = strstr(text, "\"id\":");
    if (id == NULL) {
        return;
    }
    id += strlen("\"id\":");
    id += strspn(id, " ");
    bool is_result = strstr(text, "\"result\"") != NULL;
    if (*id == '"') {
        pthread_mutex_lock(&target->lock);
        target->is_channel_there = target->is_channel_there || is_result;
        pthread_mutex_unlock(&target->lock);
        return;
    }
    struct operation *operation = take_operation(target, strtoull(id, NULL, 10));
    if (operation != NULL) {
        operation->on_done(operation, is_result ? OUTCOME_OK : error_outcome(text), text);
    }
}

static void on_open(void *context, struct socket *socket)
{
    struct websocket_target *target = context;
    pthread_mutex_lock(&target->lock);
    target->open_count++;
    pthread_mutex_unlock(&target->lock);
}

static void on_data(void *context, struct socket *socket, struct bytes piece, bool is_end)
{
    struct websocket_target *target = context;
    struct buf *answer = &target->answers[socket_index(socket)];
    buf_append(answer, piece.data, piece.size);
    if (is_end) {
        on_answer(target, buf_text(answer));
        buf_reset(answer);
    }
}

static void on_closed(void *context, struct socket *socket)
{
    struct websocket_target *target = context;
    pthread_mutex_lock(&target->lock);
    target->closed_count++;
    pthread_mutex_unlock(&target->lock);
    for (uint32_t i = 0; i < target->options->in_flight; i++) {
        pthread_mutex_lock(&target->lock);
        bool is_of_it =
            target->operations[i] != NULL && target->socket_of[i] == socket_index(socket);
        pthread_mutex_unlock(&target->lock);
        struct operation *operation = is_of_it ? take_operation(target, i) : NULL;
        if (operation != NULL) {
            operation->on_done(operation, OUTCOME_ERROR, "connection lost before the answer");
        }
    }
}

static void websocket_start(struct target *base, struct operation *operation)
{
    struct websocket_target *target = (struct websocket_target *)(void *)base;
    size_t place = operation->number % target->socket_count;
    char payload[PAYLOAD_BYTES_MAX];
    payload_fill(payload, target->options->payload_bytes, operation);
    struct buf call = {0};
    buf_printf(&call,
               "{\"jsonrpc\":\"2.0\",\"id\":%u,\"method\":\"SendMessage\",\"params\":{"
               "\"channelId\":\"%s\",\"authorId\":\"bench\",",
               operation->index, target->options->channel);
    if (!target->options->is_without_ids) {
        buf_printf(&call, "\"clientMessageId\":\"%05llx%07llx\",",
                   (unsigned long long)(target->run_id & 0xfffff),
                   (unsigned long long)(operation->number & 0xfffffff));
    }
    buf_append_text(&call, "\"text\":\"");
    buf_append(&call, payload, target->options->payload_bytes);
    buf_append_text(&call, "\"}}");
    pthread_mutex_lock(&target->lock);
    target->operations[operation->index] = operation;
    target->socket_of[operation->index] = place;
    pthread_mutex_unlock(&target->lock);
    socket_send(socket_pool_at(target->pool, place), buf_bytes(&call));
    buf_finish(&call);
}

static void ask_for_channel(struct websocket_target *target)
{
    struct buf call = {0};
    buf_printf(&call,
               "{\"jsonrpc\":\"2.0\",\"id\":\"prepare\",\"method\":\"CreateChannel\","
               "\"params\":{\"channelId\":\"%s\"}}",
               target->options->channel);
    socket_send(socket_pool_at(target->pool, 0), buf_bytes(&call));
    buf_finish(&call);
}

static int websocket_prepare(struct target *base, uint64_t deadline_ns)
{
    struct websocket_target *target = (struct websocket_target *)(void *)base;
    uint64_t ask_ns = 0;
    while (now_ns() < deadline_ns) {
        pthread_mutex_lock(&target->lock);
        bool is_open = target->open_count == target->socket_count;
        bool is_broken = target->closed_count > 0;
        bool is_ready = is_open && target->is_channel_there;
        pthread_mutex_unlock(&target->lock);
        if (is_broken) {
            return ERR_IO;
        }
        if (is_ready) {
            return 0;
        }
        if (is_open && now_ns() >= ask_ns) {
            ask_for_channel(target);
            ask_ns = now_ns() + CREATE_AGAIN_NS;
        }
        nanosleep(&(struct timespec){.tv_nsec = (long)POLL_PAUSE_NS}, NULL);
    }
    return ERR_TIMEOUT;
}

static void websocket_destroy(struct target *base)
{
    struct websocket_target *target = (struct websocket_target *)(void *)base;
    socket_pool_destroy(target->pool);
    for (size_t i = 0; target->answers != NULL && i < target->socket_count; i++) {
        buf_finish(&target->answers[i]);
    }
    pthread_mutex_destroy(&target->lock);
    free(target->answers);
    free(target->operations);
    free(target->socket_of);
    free(target);
}

int websocket_target_create(const struct options *options, struct target **out)
{
    struct websocket_target *target = calloc(1, sizeof(*target));
    if (target == NULL) {
        return ERR_NOMEM;
    }
    target->base = (struct target){websocket_prepare, websocket_start, NULL, websocket_destroy};
    target->options = options;
    target->run_id = now_ns() / NS_PER_MS;
    pthread_mutex_init(&target->lock, NULL);
    target->socket_count = options->connections * options->address_count;
    if (options->connections == 0) {
        target->socket_count = options->in_flight < CONNECTIONS_DEFAULT_MAX
                                   ? options->in_flight
                                   : CONNECTIONS_DEFAULT_MAX;
    }
    target->answers = calloc(target->socket_count, sizeof(*target->answers));
    target->operations = calloc(options->in_flight, sizeof(*target->operations));
    target->socket_of = calloc(options->in_flight, sizeof(*target->socket_of));
    if (target->answers == NULL || target->operations == NULL || target->socket_of == NULL) {
        websocket_destroy(&target->base);
        return ERR_NOMEM;
    }
    for (size_t i = 0; i < target->socket_count; i++) {
        buf_init(&target->answers[i], ANSWER_BYTES_MAX);
    }
    struct socket_pool_options pool_options = {
        .addresses = options->addresses,
        .address_count = options->address_count,
        .socket_count = target->socket_count,
        .path = "/ws",
        .subprotocol = "raftogram.v1.json",
    };
    struct socket_events events = {on_open, on_data, on_closed, target};
    int rc = socket_pool_create(&pool_options, &events, &target->pool);
    if (rc != 0) {
        websocket_destroy(&target->base);
        return rc;
    }
    *out = &target->base;
    return 0;
}
