/* Unary gRPC calls as work: our own services, and etcd's KV, whose messages are small enough to be
 * encoded here. */
#include "base/check.h"
#include "base/clock.h"
#include "base/errors.h"
#include "base/unconst.h"
#include "bench/grpc_client.h"
#include "bench/requests.h"
#include "bench/targets.h"

#include <phalanx/kv.pb-c.h>
#include <pthread.h>
#include <raftogram/v1/messaging.pb-c.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define IN_FLIGHT_PER_CONNECTION 64u

/* Field tags of etcd's messages: field number << 3 | 2, for length-delimited. */
#define ETCD_KEY_TAG 0x0a
#define ETCD_VALUE_TAG 0x12

struct grpc_target {
    struct target base;
    const struct options *options;
    enum grpc_work work;
    struct grpc_client *client;
    struct request_ids ids;
    pthread_mutex_t lock;
    pthread_cond_t ended;
    uint32_t running;
    bool is_ending; /* on_done() is called no more */
};

static const char *const paths[] = {
    [GRPC_SEND] = "/raftogram.v1.Messenger/SendMessage",
    [GRPC_SEND_BATCH] = "/raftogram.v1.Messenger/SendMessages",
    [GRPC_HISTORY] = "/raftogram.v1.Messenger/ReadHistory",
    [GRPC_KV_READ] = "/phalanx.KV/Read",
    [GRPC_ETCD_PUT] = "/etcdserverpb.KV/Put",
    [GRPC_ETCD_RANGE] = "/etcdserverpb.KV/Range",
};

static uint64_t now_ns(void)
{
    return clock_monotonic_ns(clock_system());
}

/* ---- requests ---- */

static void append_etcd_field(struct buf *out, uint8_t tag, struct bytes value)
{
    buf_append_byte(out, tag);
    size_t rest = value.size;
    for (; rest >= 0x80; rest >>= 7) {
        buf_append_byte(out, (uint8_t)(rest | 0x80));
    }
    buf_append_byte(out, (uint8_t)rest);
    buf_append(out, value.data, value.size);
}

static void encode_etcd_put(const struct grpc_target *target, const struct operation *operation,
                            struct buf *out)
{
    char payload[PAYLOAD_BYTES_MAX];
    char id[REQUEST_ID_BYTES + 1];
    payload_fill(payload, target->options->payload_bytes, operation);
    request_make_id(&target->ids, operation->number, id);
    append_etcd_field(out, ETCD_KEY_TAG, bytes_of_text(id));
    append_etcd_field(out, ETCD_VALUE_TAG, (struct bytes){payload, target->options->payload_bytes});
}

static void encode_request(const struct grpc_target *target, const struct operation *operation,
                           struct buf *out)
{
    switch (target->work) {
    case GRPC_SEND:
        request_send(target->options, &target->ids, operation, out);
        break;
    case GRPC_SEND_BATCH:
        request_send_batch(target->options, &target->ids, operation, out);
        break;
    case GRPC_HISTORY: {
        Raftogram__V1__ReadHistoryRequest request = RAFTOGRAM__V1__READ_HISTORY_REQUEST__INIT;
        request.channel_id = unconst(target->options->channel);
        request.limit = 1;
        request_append(out, &request.base);
        break;
    }
    case GRPC_KV_READ: {
        Phalanx__ReadRequest request = PHALANX__READ_REQUEST__INIT;
        request.key = unconst(target->options->channel);
        request_append(out, &request.base);
        break;
    }
    case GRPC_ETCD_PUT:
        encode_etcd_put(target, operation, out);
        break;
    case GRPC_ETCD_RANGE:
        append_etcd_field(out, ETCD_KEY_TAG, bytes_of_text(target->options->channel));
        break;
    }
}

/* ---- answers ---- */

/* phalanx.KV tells errors inside an OK answer. */
static enum outcome kv_read_outcome(struct bytes response, const char **text)
{
    Phalanx__ReadResponse *answer =
        phalanx__read_response__unpack(NULL, response.size, response.data);
    enum outcome outcome = OUTCOME_ERROR;
    *text = "an answer that is no ReadResponse, or the key is not found";
    if (answer != NULL && strstr(answer->error, "not leader") != NULL) {
        outcome = OUTCOME_NOT_LEADER;
    } else if (answer != NULL && answer->error[0] != '\0') {
        *text = "phalanx.KV Read answered an error";
    } else if (answer != NULL && answer->found) {
        outcome = OUTCOME_OK;
    }
    if (answer != NULL) {
        phalanx__read_response__free_unpacked(answer, NULL);
    }
    return outcome;
}

static enum outcome outcome_of(const struct grpc_target *target, const struct rpc_result *result,
                               const char **text)
{
    *text = result->message;
    enum outcome outcome = grpc_client_outcome(result);
    if (outcome != OUTCOME_OK) {
        return outcome;
    }
    if (target->work == GRPC_KV_READ) {
        return kv_read_outcome(result->response, text);
    }
    bool is_read = target->work == GRPC_HISTORY || target->work == GRPC_ETCD_RANGE;
    if (is_read && result->response.size < target->options->payload_bytes) {
        *text = "a read without the message in its answer";
        return OUTCOME_ERROR;
    }
    return OUTCOME_OK;
}

/* ---- calls ---- */

/* `operation->call` needs the target too. */
struct running_call {
    struct grpc_target *target;
    struct operation *operation;
    struct rpc_client_call *call;
};

static void call_over(struct grpc_target *target)
{
    pthread_mutex_lock(&target->lock);
    target->running--;
    pthread_cond_signal(&target->ended);
    pthread_mutex_unlock(&target->lock);
}

static void on_closed(void *context, const struct rpc_result *result)
{
    struct running_call *running = context;
    struct grpc_target *target = running->target;
    struct operation *operation = running->operation;
    rpc_client_release(running->call);
    free(running);
    const char *text;
    enum outcome outcome = outcome_of(target, result, &text);
    char text_with_code[LOAD_TEXT_BYTES];
    if (outcome == OUTCOME_ERROR) {
        grpc_client_explain(result->code, text, text_with_code);
        text = text_with_code;
    }
    pthread_mutex_lock(&target->lock);
    bool is_ending = target->is_ending;
    pthread_mutex_unlock(&target->lock);
    if (!is_ending) {
        operation->on_done(operation, outcome, text);
    }
    call_over(target);
}

static int start_call(struct grpc_target *target, struct operation *operation, uint64_t deadline_ns)
{
    static const struct rpc_metadata forward = {"raftogram-forward", {"1", 1}};
    struct rpc_client_options options = {
        .path = paths[target->work],
        .deadline_ns = deadline_ns,
        .metadata = &forward,
        .metadata_count = target->options->is_forwarding_set ? 1 : 0,
    };
    struct running_call *running = malloc(sizeof(*running));
    if (running == NULL) {
        return ERR_NOMEM;
    }
    running->target = target;
    running->operation = operation;
    struct rpc_client_events events = {.on_closed = on_closed, .context = running};
    struct buf request;
    buf_init(&request, 0);
    encode_request(target, operation, &request);
    pthread_mutex_lock(&target->lock);
    target->running++;
    pthread_mutex_unlock(&target->lock);
    struct rpc_channel *channel = grpc_client_channel(target->client, operation->number);
    int rc = rpc_unary(channel, &options, buf_bytes(&request), &events, &running->call);
    buf_finish(&request);
    if (rc != 0) {
        free(running);
        call_over(target);
    }
    return rc;
}

static void grpc_start(struct target *base, struct operation *operation)
{
    struct grpc_target *target = (struct grpc_target *)(void *)base;
    uint64_t deadline_ns = now_ns() + target->options->deadline_ms * NS_PER_MS;
    int rc = start_call(target, operation, deadline_ns);
    CHECK(rc == 0);
}

/* ---- preparation ---- */

static int prepare_channel(struct grpc_target *target, uint64_t deadline_ns)
{
    int rc = grpc_client_create_channel(target->client, target->options->channel, deadline_ns);
    if (rc == 0 && target->work == GRPC_HISTORY) {
        struct operation first = {.number = 0};
        struct buf bytes = {0};
        request_send(target->options, &target->ids, &first, &bytes);
        rc = grpc_client_call_until_ok(target->client, paths[GRPC_SEND], buf_bytes(&bytes),
                                       deadline_ns);
        buf_finish(&bytes);
    }
    return rc;
}

static int prepare_kv(struct grpc_target *target, uint64_t deadline_ns)
{
    char *value = malloc(target->options->payload_bytes + 1);
    if (value == NULL) {
        return ERR_NOMEM;
    }
    memset(value, 'x', target->options->payload_bytes);
    value[target->options->payload_bytes] = '\0';
    struct buf command = {0};
    buf_printf(&command, "{\"op\":\"SET\",\"key\":\"%s\",\"value\":\"%s\"}",
               target->options->channel, value);
    free(value);
    Phalanx__ProposeRequest request = PHALANX__PROPOSE_REQUEST__INIT;
    request.data.data = command.data;
    request.data.len = command.size;
    struct buf bytes = {0};
    request_append(&bytes, &request.base);
    int rc = grpc_client_call_until_ok(target->client, "/phalanx.KV/Propose", buf_bytes(&bytes),
                                       deadline_ns);
    buf_finish(&bytes);
    buf_finish(&command);
    return rc;
}

static int prepare_etcd(struct grpc_target *target, uint64_t deadline_ns)
{
    char *value = calloc(1, target->options->payload_bytes);
    if (value == NULL) {
        return ERR_NOMEM;
    }
    struct buf bytes = {0};
    append_etcd_field(&bytes, ETCD_KEY_TAG, bytes_of_text(target->options->channel));
    append_etcd_field(&bytes, ETCD_VALUE_TAG,
                      (struct bytes){value, target->options->payload_bytes});
    int rc = grpc_client_call_until_ok(target->client, paths[GRPC_ETCD_PUT], buf_bytes(&bytes),
                                       deadline_ns);
    buf_finish(&bytes);
    free(value);
    return rc;
}

static int grpc_prepare(struct target *base, uint64_t deadline_ns)
{
    struct grpc_target *target = (struct grpc_target *)(void *)base;
    switch (target->work) {
    case GRPC_SEND:
    case GRPC_SEND_BATCH:
    case GRPC_HISTORY:
        return prepare_channel(target, deadline_ns);
    case GRPC_KV_READ:
        return prepare_kv(target, deadline_ns);
    case GRPC_ETCD_PUT:
    case GRPC_ETCD_RANGE:
        return prepare_etcd(target, deadline_ns);
    }
    return ERR_INVALID;
}

/* ---- life ---- */

static void grpc_destroy(struct target *base)
{
    struct grpc_target *target = (struct grpc_target *)(void *)base;
    pthread_mutex_lock(&target->lock);
    target->is_ending = true;
    /* Every call has a deadline. */
    while (target->running > 0) {
        pthread_cond_wait(&target->ended, &target->lock);
    }
    pthread_mutex_unlock(&target->lock);
    grpc_client_close(target->client);
    pthread_cond_destroy(&target->ended);
    pthread_mutex_destroy(&target->lock);
    free(target);
}

static uint32_t connections_wanted(const struct options *options)
{
    if (options->connections != 0) {
        return options->connections;
    }
    return options->rate > 0 ? 1 : 1 + (options->in_flight - 1) / IN_FLIGHT_PER_CONNECTION;
}

int grpc_target_create(const struct options *options, enum grpc_work work, struct target **out)
{
    struct grpc_target *target = calloc(1, sizeof(*target));
    if (target == NULL) {
        return ERR_NOMEM;
    }
    target->base = (struct target){grpc_prepare, grpc_start, NULL, grpc_destroy};
    target->options = options;
    target->work = work;
    target->ids = request_ids_of_run();
    int rc = grpc_client_open(options, connections_wanted(options), &target->client);
    if (rc != 0) {
        free(target);
        return rc;
    }
    pthread_mutex_init(&target->lock, NULL);
    pthread_cond_init(&target->ended, NULL);
    *out = &target->base;
    return 0;
}
