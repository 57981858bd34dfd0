/* The life of a call, the same for every method: its object, its encoding, its end. */
#include "base/check.h"
#include "base/errors.h"
#include "grpc_internal.h"
#include "json/json.h"

#include <stdlib.h>

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

struct rpc_status grpc_frontend_make_status(int code, const char *message,
                                            const struct buf *details)
{
    struct rpc_status answer = {.code = code, .message = message};
    if (!buf_failed(details) && details->size > 0) {
        answer.trailers[0] =
            (struct rpc_metadata){.key = "grpc-status-details-bin", .value = buf_bytes(details)};
        answer.trailer_count = 1;
    }
    return answer;
}

void grpc_frontend_refuse(struct rpc_call *rpc, const struct dispatch_status *status)
{
    struct buf details = {0};
    dispatch_status_encode(status, &details);
    struct rpc_status answer = grpc_frontend_make_status(status->code, status->message, &details);
    rpc_call_finish(rpc, NULL, &answer);
    buf_finish(&details);
}

void call_fail(struct call *call, const struct dispatch_status *status)
{
    grpc_frontend_refuse(call->rpc, status);
}

void call_fail_for_memory(struct call *call)
{
    struct dispatch_status status;
    dispatch_status_set(&status, DISPATCH_RESOURCE_EXHAUSTED, "OVERLOADED", "out of memory");
    call_fail(call, &status);
}

void call_answer(struct call *call, const ProtobufCMessage *response)
{
    const struct rpc_status ok = {.code = DISPATCH_OK};
    struct buf body = {0};
    encode(call, response, &body);
    if (buf_failed(&body)) {
        call_fail_for_memory(call);
    } else {
        struct bytes message = buf_bytes(&body);
        rpc_call_finish(call->rpc, &message, &ok);
    }
    buf_finish(&body);
}

int call_send(struct call *call, const ProtobufCMessage *message)
{
    struct buf body = {0};
    encode(call, message, &body);
    int rc = buf_failed(&body) ? ERR_NOMEM : rpc_call_send(call->rpc, buf_bytes(&body));
    buf_finish(&body);
    return rc;
}

/* ---- references ---- */

void call_ref(struct call *call)
{
    atomic_fetch_add_explicit(&call->references, 1, memory_order_relaxed);
}

void call_unref(struct call *call)
{
    if (atomic_fetch_sub_explicit(&call->references, 1, memory_order_acq_rel) != 1) {
        return;
    }
    struct grpc_frontend *frontend = call->frontend;
    rpc_call_unref(call->rpc);
    free(call);
    pthread_mutex_lock(&frontend->lock);
    CHECK(frontend->calls > 0);
    frontend->calls--;
    dispatch_note_grpc_calls(frontend->dispatch, frontend->calls);
    if (frontend->calls == 0) {
        pthread_cond_broadcast(&frontend->changed);
    }
    pthread_mutex_unlock(&frontend->lock);
}

/* ---- events ---- */

static void on_message(struct rpc_call *rpc, struct bytes message, void *context)
{
    struct call *call = context;
    struct dispatch_status status;
    ProtobufCMessage *request;
    call->is_json = json_is_body(call->method->input, message);
    if (dispatch_decode(call->method, message, &request, &status) != 0) {
        call_fail(call, &status);
        return;
    }
    call->kind->run(call, request);
}

static void on_half_close(struct rpc_call *rpc, void *context)
{
    struct call *call = context;
    if (call->kind->has_many_requests) {
        const struct rpc_status ok = {.code = DISPATCH_OK};
        rpc_call_finish(rpc, NULL, &ok);
        return;
    }
    struct dispatch_status status;
    dispatch_status_set(&status, DISPATCH_INTERNAL, NULL, "half-closed without a request");
    call_fail(call, &status);
}

static void on_sent(struct rpc_call *rpc, void *context)
{
    struct call *call = context;
    call->kind->sent(call);
}

static void on_closed(struct rpc_call *rpc, bool is_cancelled, void *context)
{
    struct call *call = context;
    if (call->kind->closed != NULL) {
        call->kind->closed(call);
    }
    call_unref(call);
}

/* NULL beyond calls_max, and without memory. */
static struct call *create(struct grpc_frontend *frontend, size_t size)
{
    pthread_mutex_lock(&frontend->lock);
    bool is_welcome = frontend->calls < frontend->calls_max;
    frontend->calls += is_welcome;
    dispatch_note_grpc_calls(frontend->dispatch, frontend->calls);
    pthread_mutex_unlock(&frontend->lock);
    if (!is_welcome) {
        return NULL;
    }
    struct call *call = calloc(1, size);
    if (call == NULL) {
        pthread_mutex_lock(&frontend->lock);
        frontend->calls--;
        dispatch_note_grpc_calls(frontend->dispatch, frontend->calls);
        pthread_mutex_unlock(&frontend->lock);
    }
    return call;
}

void call_start(struct grpc_frontend *frontend, struct rpc_call *rpc, const struct call_kind *kind,
                const struct dispatch_method *method)
{
    struct call *call = create(frontend, kind->size);
    if (call == NULL) {
        struct dispatch_status status;
        dispatch_status_set(&status, DISPATCH_RESOURCE_EXHAUSTED, "OVERLOADED", "%s",
                            TOO_MANY_CALLS_MESSAGE);
        grpc_frontend_refuse(rpc, &status);
        return;
    }
    call->kind = kind;
    call->frontend = frontend;
    call->method = method;
    call->rpc = rpc;
    atomic_init(&call->references, 1);
    rpc_call_ref(rpc);
    const struct rpc_call_events events = {
        .on_message = on_message,
        .on_half_close = on_half_close,
        .on_sent = kind->sent != NULL ? on_sent : NULL,
        .on_closed = on_closed,
        .context = call,
    };
    rpc_call_accept(rpc, &events);
    rpc_call_receive(rpc);
}
