/* Unary gRPC calls as work: the services of raftogram, and KV of etcd, whose messages are small
 * enough to be encoded here. */
#include "base/check.h"
#include "base/clock.h"
#include "base/errors.h"
#include "base/unconst.h"
#include "bench/targets.h"
#include "rpc/rpc.h"

#include <grpc/status.h>
#include <phalanx/kv.pb-c.h>
#include <pthread.h>
#include <raftogram/v1/messaging.pb-c.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define RECEIVE_BYTES_MAX (4u << 20)
#define IN_FLIGHT_PER_CONNECTION 64u
#define CHANNELS_MAX (ADDRESSES_MAX * 32)
#define PREPARE_CALL_NS (500 * NS_PER_MS)
#define PREPARE_PAUSE_NS (2 * NS_PER_MS)
#define ID_BYTES 12

/* Field tags of etcd's messages: field number << 3 | 2, for length-delimited. */
#define ETCD_KEY_TAG 0x0a
#define ETCD_VALUE_TAG 0x12

struct grpc_target {
    struct target base;
    const struct options *options;
    enum grpc_work work;
    struct rpc_loop *loop;
    struct rpc_channel *channels[CHANNELS_MAX]; /* one for each address, in rotation */
    size_t channel_count;
    uint64_t run_id; /* keeps the message ids of two runs apart */
    pthread_mutex_t lock;
    pthread_cond_t ended;
    uint32_t running;
    bool is_ending; /* on_done() is not called any more */
};

static const char *const paths[] = {
    [GRPC_SEND] = "/raftogram.v1.Messenger/SendMessage",
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

static void append_message(struct buf *out, const ProtobufCMessage *message)
{
    uint8_t *room = buf_extend(out, protobuf_c_message_get_packed_size(message));
    CHECK(room != NULL);
    protobuf_c_message_pack(message, room);
}

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

/* Ids of two runs differ in their first digits, those of two operations of one run in the others.
 */
static void make_id(const struct grpc_target *target, uint64_t number, char out[ID_BYTES + 1])
{
    snprintf(out, ID_BYTES + 1, "%05llx%07llx", (unsigned long long)(target->run_id & 0xfffff),
             (unsigned long long)(number & 0xfffffff));
}

static void encode_send(const struct grpc_target *target, const struct operation *operation,
                        struct buf *out)
{
    char payload[PAYLOAD_BYTES_MAX];
    char id[ID_BYTES + 1];
    payload_fill(payload, target->options->payload_bytes, operation);
    make_id(target, operation->number, id);
    Raftogram__V1__SendMessageRequest request = RAFTOGRAM__V1__SEND_MESSAGE_REQUEST__INIT;
    request.channel_id = unconst(target->options->channel);
    request.author_id = unconst("bench");
    request.payload.data = (uint8_t *)payload;
    request.payload.len = target->options->payload_bytes;
    if (!target->options->is_without_ids) {
        request.client_message_id = id;
    }
    append_message(out, &request.base);
}

static void encode_etcd_put(const struct grpc_target *target, const struct operation *operation,
                            struct buf *out)
{
    char payload[PAYLOAD_BYTES_MAX];
    char id[ID_BYTES + 1];
    payload_fill(payload, target->options->payload_bytes, operation);
    make_id(target, operation->number, id);
    append_etcd_field(out, ETCD_KEY_TAG, bytes_of_text(id));
    append_etcd_field(out, ETCD_VALUE_TAG, (struct bytes){payload, target->options->payload_bytes});
}

static void encode_request(const struct grpc_target *target, const struct operation *operation,
                           struct buf *out)
{
    switch (target->work) {
    case GRPC_SEND:
        encode_send(target, operation, out);
        break;
    case GRPC_HISTORY: {
        Raftogram__V1__ReadHistoryRequest request = RAFTOGRAM__V1__READ_HISTORY_REQUEST__INIT;
        request.channel_id = unconst(target->options->channel);
        request.limit = 1;
        append_message(out, &request.base);
        break;
    }
    case GRPC_KV_READ: {
        Phalanx__ReadRequest request = PHALANX__READ_REQUEST__INIT;
        request.key = unconst(target->options->channel);
        append_message(out, &request.base);
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

static bool contains(const char *text, const char *part)
{
    return text != NULL && strstr(text, part) != NULL;
}

/* The message of gRPC when it could not connect: no server received the call. */
static bool is_refused(const struct rpc_result *result)
{
    return result->code == GRPC_STATUS_UNAVAILABLE &&
           (contains(result->message, "failed to connect") ||
            contains(result->message, "Failed to connect") ||
            contains(result->message, "Connection refused") ||
            contains(result->message, "connections to all backends failing"));
}

/* phalanx.KV reports errors inside an OK answer. */
static enum outcome kv_read_outcome(struct bytes response, const char **text)
{
    Phalanx__ReadResponse *answer =
        phalanx__read_response__unpack(NULL, response.size, response.data);
    enum outcome outcome = OUTCOME_ERROR;
    *text = "an answer that is no ReadResponse, or the key is not found";
    if (answer != NULL && contains(answer->error, "not leader")) {
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
    if (is_refused(result)) {
        return OUTCOME_REFUSED;
    }
    if (result->code == GRPC_STATUS_FAILED_PRECONDITION &&
        contains(result->message, "not leader")) {
        return OUTCOME_NOT_LEADER;
    }
    if (result->code != GRPC_STATUS_OK) {
        return OUTCOME_ERROR;
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
        snprintf(text_with_code, sizeof(text_with_code), "status %d: %s", result->code,
                 text == NULL ? "" : text);
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
    struct rpc_channel *channel = target->channels[operation->number % target->channel_count];
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

/* One synchronous call and its outcome. */
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

static bool call_and_wait(struct grpc_target *target, struct rpc_channel *channel, const char *path,
                          struct bytes request)
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

/* Repeats the call, at the addresses in rotation, until one answers OK. */
static int call_until_ok(struct grpc_target *target, const char *path, struct bytes request,
                         uint64_t deadline_ns)
{
    for (size_t i = 0; now_ns() < deadline_ns; i++) {
        struct rpc_channel *channel = target->channels[i % target->channel_count];
        if (call_and_wait(target, channel, path, request)) {
            return 0;
        }
        rpc_channel_reset_backoff(channel);
        nanosleep(&(struct timespec){.tv_nsec = (long)PREPARE_PAUSE_NS}, NULL);
    }
    return ERR_TIMEOUT;
}

static int prepare_channel(struct grpc_target *target, uint64_t deadline_ns)
{
    Raftogram__V1__CreateChannelRequest request = RAFTOGRAM__V1__CREATE_CHANNEL_REQUEST__INIT;
    request.channel_id = unconst(target->options->channel);
    struct buf bytes = {0};
    append_message(&bytes, &request.base);
    int rc = call_until_ok(target, "/raftogram.v1.Messenger/CreateChannel", buf_bytes(&bytes),
                           deadline_ns);
    buf_finish(&bytes);
    if (rc == 0 && target->work == GRPC_HISTORY) {
        struct operation first = {.number = 0};
        encode_send(target, &first, &bytes);
        rc = call_until_ok(target, paths[GRPC_SEND], buf_bytes(&bytes), deadline_ns);
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
    append_message(&bytes, &request.base);
    int rc = call_until_ok(target, "/phalanx.KV/Propose", buf_bytes(&bytes), deadline_ns);
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
    int rc = call_until_ok(target, paths[GRPC_ETCD_PUT], buf_bytes(&bytes), deadline_ns);
    buf_finish(&bytes);
    free(value);
    return rc;
}

static int grpc_prepare(struct target *base, uint64_t deadline_ns)
{
    struct grpc_target *target = (struct grpc_target *)(void *)base;
    switch (target->work) {
    case GRPC_SEND:
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
    for (size_t i = 0; i < target->channel_count; i++) {
        rpc_channel_destroy(target->channels[i]);
    }
    rpc_loop_destroy(target->loop);
    pthread_cond_destroy(&target->ended);
    pthread_mutex_destroy(&target->lock);
    free(target);
}

static size_t connections_wanted(const struct options *options)
{
    size_t count = options->connections;
    if (count == 0) {
        count = options->rate > 0 ? 1 : 1 + (options->in_flight - 1) / IN_FLIGHT_PER_CONNECTION;
    }
    size_t total = count * options->address_count;
    return total > CHANNELS_MAX ? CHANNELS_MAX : total;
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
    target->run_id = now_ns() / NS_PER_MS;
    int rc = rpc_loop_create("bench-grpc", &target->loop);
    if (rc != 0) {
        free(target);
        return rc;
    }
    pthread_mutex_init(&target->lock, NULL);
    pthread_cond_init(&target->ended, NULL);
    size_t wanted = connections_wanted(options);
    while (target->channel_count < wanted) {
        struct rpc_channel_options channel_options = {
            .address = options->addresses[target->channel_count % options->address_count],
            .receive_bytes_max = RECEIVE_BYTES_MAX,
        };
        rc = rpc_channel_create(target->loop, &channel_options,
                                &target->channels[target->channel_count]);
        if (rc != 0) {
            grpc_destroy(&target->base);
            return rc;
        }
        target->channel_count++;
    }
    *out = &target->base;
    return 0;
}
