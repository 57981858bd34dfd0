/* The life of a call, the same for every method: its object, its encoding, its end. */
#include "base/check.h"
#include "base/errors.h"
#include "base/references.h"
#include "grpc_internal.h"
#include "json/json.h"

#include <stdlib.h>

/* At most calls_max calls that are no probes are open. One part in CALLS_KEPT_PART of them
 * is for connections with few calls. */
#define CALLS_KEPT_PART 4
#define FEW_CALLS 64
#define PROBES_MAX 256

/* ---- encoding ---- */

static void encode(const struct call *call, const ProtobufCMessage *message, struct buf *out)
{
    if (call->is_json) {
        json_encode(message, call->method->is_snake_case ? JSON_NAMES_SNAKE : JSON_NAMES_CAMEL,
                    out);
        return;
    }
    uint8_t *room = buf_extend(out, protobuf_c_message_get_packed_size(message));
    if (room != NULL) {
        protobuf_c_message_pack(message, room);
    }
}

struct h2_status grpc_frontend_make_status(int code, const char *message, const struct buf *details)
{
    struct h2_status answer = {.code = code, .message = message};
    if (!buf_failed(details) && details->size > 0) {
        answer.trailers[0] =
            (struct h2_metadata){.key = "grpc-status-details-bin", .value = buf_bytes(details)};
        answer.trailer_count = 1;
    }
    return answer;
}

void grpc_frontend_refuse(struct h2_call *stream, const struct dispatch_status *status)
{
    struct buf details = {0};
    dispatch_status_encode(status, &details);
    struct h2_status answer = grpc_frontend_make_status(status->code, status->message, &details);
    h2_call_finish(stream, NULL, &answer);
    buf_finish(&details);
}

void call_fail(struct call *call, const struct dispatch_status *status)
{
    grpc_frontend_refuse(call->stream, status);
}

void call_fail_for_memory(struct call *call)
{
    struct dispatch_status status;
    dispatch_status_set(&status, DISPATCH_RESOURCE_EXHAUSTED, "OVERLOADED", "out of memory");
    call_fail(call, &status);
}

void call_answer(struct call *call, const ProtobufCMessage *response)
{
    const struct h2_status ok = {.code = DISPATCH_OK};
    struct buf body = {0};
    encode(call, response, &body);
    if (buf_failed(&body)) {
        call_fail_for_memory(call);
    } else {
        struct bytes message = buf_bytes(&body);
        h2_call_finish(call->stream, &message, &ok);
    }
    buf_finish(&body);
}

int call_send(struct call *call, const ProtobufCMessage *message)
{
    struct buf body = {0};
    encode(call, message, &body);
    int rc = buf_failed(&body) ? ERR_NOMEM : h2_call_send(call->stream, buf_bytes(&body));
    buf_finish(&body);
    return rc;
}

/* ---- size ---- */

static bool is_batch(const struct dispatch_method *method)
{
    return method != NULL &&
           (method->id == DISPATCH_SEND_MESSAGES || method->id == DISPATCH_PUBLISH);
}

bool grpc_frontend_is_too_large(const struct grpc_frontend *frontend,
                                const struct dispatch_method *method, size_t size)
{
    return size > frontend->request_bytes_max && !is_batch(method);
}

void grpc_frontend_refuse_large(void *context, struct h2_call *stream, uint64_t size)
{
    const struct grpc_frontend *frontend = context;
    const int code =
        size <= TOLD_BYTES_MAX ? DISPATCH_INVALID_ARGUMENT : DISPATCH_RESOURCE_EXHAUSTED;
    struct dispatch_status status;
    if (is_batch(dispatch_method_by_path(h2_call_path(stream)))) {
        dispatch_status_set(&status, code, DISPATCH_BATCH_TOO_LARGE,
                            "the batch has %llu bytes; at most %u are allowed in protobuf",
                            (unsigned long long)size, DISPATCH_BATCH_BYTES_MAX);
    } else {
        dispatch_status_set(&status, code, "PAYLOAD_TOO_LARGE",
                            "the request has %llu bytes; limits.max_payload_bytes allows %u",
                            (unsigned long long)size, frontend->request_bytes_max);
    }
    grpc_frontend_refuse(stream, &status);
}

/* ---- admission ---- */

static bool is_probe(const struct call *call)
{
    return call->kind->is_probe || call->method->id == DISPATCH_STATUS;
}

/* Returns whether the connection may have one more call. The last part of calls_max is for
 * connections with few calls, so that no connection uses all. */
static bool has_room(const struct call *call)
{
    const struct grpc_frontend *frontend = call->frontend;
    if (call->is_probe) {
        return frontend->probes < PROBES_MAX;
    }
    uint32_t last = frontend->calls_max / CALLS_KEPT_PART;
    return frontend->calls + last < frontend->calls_max ||
           (frontend->calls < frontend->calls_max && h2_call_neighbours(call->stream) <= FEW_CALLS);
}

/* Counts a call when its request is complete: calls that never send one have their own limit and
 * timeout. Returns false if the call was refused. */
static bool admit(struct call *call)
{
    struct grpc_frontend *frontend = call->frontend;
    call->is_probe = is_probe(call);
    if (atomic_load(&frontend->is_closing) && !call->is_probe) {
        struct dispatch_status status;
        dispatch_status_set(&status, DISPATCH_UNAVAILABLE, "DRAINING",
                            "this node is shutting down: call another");
        call_fail(call, &status);
        return false;
    }
    pthread_mutex_lock(&frontend->lock);
    call->is_counted = has_room(call);
    if (call->is_counted) {
        *(call->is_probe ? &frontend->probes : &frontend->calls) += 1;
    }
    pthread_mutex_unlock(&frontend->lock);
    if (!call->is_counted) {
        h2_call_finish(call->stream, NULL, &frontend->busy);
    }
    return call->is_counted;
}

/* ---- references ---- */

void call_ref(struct call *call)
{
    atomic_fetch_add_explicit(&call->references, 1, memory_order_relaxed);
}

void call_unref(struct call *call)
{
    if (!references_drop(&call->references)) {
        return;
    }
    struct grpc_frontend *frontend = call->frontend;
    h2_call_unref(call->stream);
    pthread_mutex_lock(&frontend->lock);
    if (call->is_counted) {
        *(call->is_probe ? &frontend->probes : &frontend->calls) -= 1;
    }
    CHECK(frontend->objects > 0);
    frontend->objects--;
    if (frontend->objects == 0) {
        pthread_cond_broadcast(&frontend->changed);
    }
    pthread_mutex_unlock(&frontend->lock);
    free(call);
}

/* ---- events ---- */

static void fail_internally(struct call *call, const char *reason)
{
    struct dispatch_status status;
    dispatch_status_set(&status, DISPATCH_INTERNAL, NULL, "%s", reason);
    call_fail(call, &status);
}

static void on_message(struct h2_call *stream, struct bytes message, void *context)
{
    struct call *call = context;
    struct dispatch_status status;
    ProtobufCMessage *request;
    if (call->has_request && !call->kind->has_many_requests) {
        fail_internally(call, "a second request on a call that takes one");
        return;
    }
    if (!call->has_request && !admit(call)) {
        return;
    }
    call->has_request = true;
    if (grpc_frontend_is_too_large(call->frontend, call->method, message.size)) {
        grpc_frontend_refuse_large(call->frontend, stream, message.size);
        return;
    }
    call->is_json = json_is_body(call->method->input, message);
    call->request_bytes = message.size;
    if (dispatch_decode(call->method, message, &request, &status) != 0) {
        if (call->kind->refused != NULL) {
            call->kind->refused(call, &status);
        } else {
            call_fail(call, &status);
        }
        return;
    }
    if (call->kind->is_unary) {
        call->request = request;
    } else {
        call->kind->run(call, request);
    }
    if (!call->kind->has_many_requests) {
        h2_call_receive(stream); /* the half-close */
    }
}

static void on_half_close(struct h2_call *stream, void *context)
{
    struct call *call = context;
    if (call->kind->half_closed != NULL) {
        call->kind->half_closed(call);
    } else if (call->kind->has_many_requests) {
        const struct h2_status ok = {.code = DISPATCH_OK};
        h2_call_finish(stream, NULL, &ok);
    } else if (!call->has_request) {
        fail_internally(call, "half-closed without a request");
    } else if (call->request != NULL) {
        ProtobufCMessage *request = call->request;
        call->request = NULL;
        call->kind->run(call, request);
    }
}

static void on_sent(struct h2_call *stream, void *context)
{
    struct call *call = context;
    call->kind->sent(call);
}

static void on_turn(struct h2_call *stream, void *context)
{
    struct call *call = context;
    call->kind->turn(call);
}

static void on_closed(struct h2_call *stream, bool is_cancelled, void *context)
{
    struct call *call = context;
    if (call->request != NULL) {
        protobuf_c_message_free_unpacked(call->request, NULL);
        call->request = NULL;
    }
    if (call->kind->closed != NULL) {
        call->kind->closed(call);
    }
    call_unref(call);
}

void call_start(struct grpc_frontend *frontend, struct h2_call *stream,
                const struct call_kind *kind, const struct dispatch_method *method)
{
    struct call *call = calloc(1, kind->size);
    if (call == NULL) {
        h2_call_finish(stream, NULL, &frontend->busy);
        return;
    }
    pthread_mutex_lock(&frontend->lock);
    frontend->objects++;
    pthread_mutex_unlock(&frontend->lock);
    call->kind = kind;
    call->frontend = frontend;
    call->method = method;
    call->stream = stream;
    atomic_init(&call->references, 1);
    h2_call_ref(stream);
    const struct h2_call_events events = {
        .on_message = on_message,
        .on_half_close = on_half_close,
        .on_sent = kind->sent != NULL ? on_sent : NULL,
        .on_turn = kind->turn != NULL ? on_turn : NULL,
        .on_closed = on_closed,
        .context = call,
        .ends_with_half_close = kind->is_unary,
        .is_patient = kind->begin != NULL,
    };
    h2_call_accept(stream, &events);
    if (kind->begin == NULL) {
        h2_call_receive(stream);
    } else if (admit(call)) {
        call->has_request = true;
        kind->begin(call);
    }
}
