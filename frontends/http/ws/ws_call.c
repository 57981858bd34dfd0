/* Requests and their answers. */
#include "base/check.h"
#include "base/errors.h"
#include "raftogram/v1/messaging.pb-c.h"
#include "ws.h"
#include "json/json.h"

#include <stdlib.h>
#include <string.h>

#define SMALL_ANSWER_BYTES 4096 /* answers up to this size are never left out of a batch */
/* Limit of the tree of a JSON text: a part of the budget, so that one always fits. */
#define TREE_FACTOR 8
#define TREE_PART 4

/* ---- answers ---- */

void ws_append_error_data(struct buf *out, const struct dispatch_status *status)
{
    buf_append_text(out, "{\"status\":");
    json_append_string(out, bytes_of_text(dispatch_code_name(status->code)));
    if (status->reason != NULL) {
        buf_append_text(out, ",\"reason\":");
        json_append_string(out, bytes_of_text(status->reason));
    }
    if (status->has_item) {
        buf_printf(out, ",\"item\":\"%u\"", (unsigned)status->item);
    }
    if (status->is_not_leader) {
        buf_append_text(out, ",\"leaderGrpcTarget\":");
        json_append_string(out, bytes_of_text(status->leader_grpc_target));
        buf_append_text(out, ",\"raftLeaderId\":");
        json_append_string(out, bytes_of_text(status->leader_id));
    }
    buf_append_byte(out, '}');
}

static void append_error(struct buf *out, const char *id, int code, const char *message,
                         const struct dispatch_status *status)
{
    struct buf data = {0};
    if (status != NULL) {
        ws_append_error_data(&data, status);
    }
    jsonrpc_append_error(out, id, code, message, status != NULL ? buf_text(&data) : NULL);
    buf_finish(&data);
}

/* ---- batches ---- */

static struct ws_batch *create_batch(struct ws *ws)
{
    struct ws_batch *batch = calloc(1, sizeof(*batch));
    if (batch == NULL) {
        return NULL;
    }
    batch->ws = ws;
    batch->waiting = 1;
    list_init(&batch->held);
    ws_begin_text(&batch->text);
    buf_append_byte(&batch->text, '[');
    ws_ref(ws);
    return batch;
}

void ws_batch_release(struct ws_batch *batch)
{
    if (batch == NULL || --batch->waiting > 0) {
        return;
    }
    struct ws *ws = batch->ws;
    memory_give(ws->frontend, batch->bytes);
    if (batch->count > 0) {
        buf_append_byte(&batch->text, ']');
        ws_send(ws, &batch->text);
    } else {
        buf_finish(&batch->text);
    }
    struct list *link;
    while ((link = list_pop_front(&batch->held)) != NULL) {
        ws_subscription_start(LIST_ENTRY(link, struct ws_subscription, ready_link));
    }
    free(batch);
    ws_unref(ws);
}

/* Sends an answer alone or with its batch. Takes ownership of the text. */
static void deliver(struct ws *ws, struct ws_batch *batch, struct buf *text)
{
    if (batch == NULL) {
        ws_send(ws, text);
        return;
    }
    if (buf_failed(text)) {
        ws_close(ws, WS_CLOSE_OVERLOADED, "out of memory", true);
    } else {
        struct bytes answer = ws_text_of(text);
        if (batch->count > 0) {
            buf_append_byte(&batch->text, ',');
        }
        buf_append(&batch->text, answer.data, answer.size);
        memory_take_over(ws->frontend, answer.size);
        batch->bytes += answer.size;
        batch->count++;
    }
    buf_finish(text);
}

static void finish_reply(struct ws_reply *reply, struct buf *text)
{
    if (reply->id != NULL) {
        deliver(reply->ws, reply->batch, text);
    } else {
        buf_finish(text);
    }
    free(reply->id);
    reply->id = NULL;
}

void ws_reply_result(struct ws_reply *reply, struct bytes result)
{
    struct buf text = {0};
    ws_begin_text(&text);
    jsonrpc_open_result(&text, reply->id);
    buf_append(&text, result.data, result.size);
    buf_append_byte(&text, '}');
    finish_reply(reply, &text);
}

void ws_reply_error(struct ws_reply *reply, int code, const char *message,
                    const struct dispatch_status *status)
{
    struct buf text = {0};
    ws_begin_text(&text);
    append_error(&text, reply->id, code, message, status);
    finish_reply(reply, &text);
}

void ws_reply_status(struct ws_reply *reply, const struct dispatch_status *status)
{
    ws_reply_error(reply, status->code, status->message, status);
}

static void set_overloaded(struct dispatch_status *status, const char *message)
{
    dispatch_status_set(status, DISPATCH_RESOURCE_EXHAUSTED, "OVERLOADED", "%s", message);
}

static void reply_overloaded(struct ws_reply *reply, const char *message)
{
    struct dispatch_status status;
    set_overloaded(&status, message);
    ws_reply_status(reply, &status);
}

/* ---- calls ---- */

/* Any thread. */
static void append_result(const struct ws_call *call, struct buf *out)
{
    if (call->is_text && call->call.method->id == DISPATCH_READ_HISTORY) {
        const Raftogram__V1__ReadHistoryResponse *history =
            (const Raftogram__V1__ReadHistoryResponse *)(const void *)call->call.response;
        buf_append_text(out, "{\"messages\":");
        dispatch_messages_json(history->messages, history->n_messages, true, out);
        buf_printf(out, ",\"hasMore\":%s}", history->has_more ? "true" : "false");
        return;
    }
    json_encode(call->call.response, JSON_NAMES_CAMEL, out);
}

/* The outcome of a mutation is always reported. A read can be repeated. */
static void charge_answer(struct ws_call *call)
{
    struct http_frontend *frontend = call->ws->frontend;
    if (call->is_large && call->answer.size > SMALL_ANSWER_BYTES &&
        !memory_take(frontend, call->answer.size)) {
        struct dispatch_status status;
        set_overloaded(&status, "this node has no memory left for the answer: try again later");
        buf_finish(&call->answer);
        ws_begin_text(&call->answer);
        append_error(&call->answer, call->id, status.code, status.message, &status);
        call->answer_bytes = 0;
        return;
    }
    if (!call->is_large || call->answer.size <= SMALL_ANSWER_BYTES) {
        memory_take_over(frontend, call->answer.size);
    }
    call->answer_bytes = call->answer.size;
}

/* Encodes the answer on the calling thread, so that the service thread only sends. Any thread. */
static void call_done(struct dispatch_call *dispatch_call)
{
    struct ws_call *call = (struct ws_call *)(void *)dispatch_call;
    if (call->id != NULL) {
        ws_begin_text(&call->answer);
        const struct dispatch_status *status = &call->call.status;
        if (status->code == DISPATCH_OK) {
            jsonrpc_open_result(&call->answer, call->id);
            append_result(call, &call->answer);
            buf_append_byte(&call->answer, '}');
        } else {
            append_error(&call->answer, call->id, status->code, status->message, status);
        }
        charge_answer(call);
    }
    frontend_post_task(call->ws->frontend, &call->task);
}

/* The size of a batch is limited. Answers of mutations are small, so no outcome is lost. */
static void replace_if_too_large(struct ws_call *call)
{
    if (call->batch == NULL || call->answer.size <= SMALL_ANSWER_BYTES ||
        call->batch->text.size + call->answer.size <= WS_BATCH_BYTES_MAX) {
        return;
    }
    struct dispatch_status status;
    set_overloaded(&status, "the batch's answers are too large: ask for less at once");
    buf_finish(&call->answer);
    ws_begin_text(&call->answer);
    append_error(&call->answer, call->id, status.code, status.message, &status);
}

static void finish_call(struct task *task)
{
    struct ws_call *call = CONTAINER_OF(task, struct ws_call, task);
    struct ws *ws = call->ws;
    struct ws_reply reply = {.ws = ws, .batch = call->batch, .id = call->id};
    ws->calls--;
    ws->large_calls -= call->is_large;
    ws->frontend->calls--;
    memory_give(ws->frontend, call->request_bytes + call->answer_bytes);
    if (reply.id != NULL) {
        replace_if_too_large(call);
    }
    finish_reply(&reply, &call->answer);
    ws_batch_release(call->batch);
    ws_flush(ws);
    free(call);
    ws_unref(ws);
}

/* Starts a call. Takes ownership of the request message and the reply. */
static void submit(struct ws_reply *reply, const struct dispatch_method *method,
                   ProtobufCMessage *request, bool is_text)
{
    struct ws *ws = reply->ws;
    struct http_frontend *frontend = ws->frontend;
    struct ws_call *call = NULL;
    /* Charges the size of the request until it is answered. Most of it is in strings and bytes. */
    size_t bytes = sizeof(*call) + 2 * protobuf_c_message_get_packed_size(request);
    bool may_run = ws->calls < WS_CALLS_MAX && frontend->calls < frontend->options.max_calls &&
                   memory_take(frontend, bytes);
    if (may_run) {
        call = calloc(1, sizeof(*call));
    }
    if (may_run && call == NULL) {
        memory_give(frontend, bytes);
    }
    if (call == NULL) {
        memory_note_want(frontend);
        protobuf_c_message_free_unpacked(request, NULL);
        reply_overloaded(reply, "too many calls are in flight: try again later");
        return;
    }
    call->call = (struct dispatch_call){
        .method = method,
        .request = request,
        .deadline_ns = UINT64_MAX,
        .may_forward = true,
        .done = call_done,
    };
    call->task.run = finish_call;
    call->ws = ws;
    call->batch = reply->batch;
    call->id = reply->id;
    call->is_text = is_text;
    call->request_bytes = bytes;
    call->is_large = method->id == DISPATCH_READ_HISTORY || method->id == DISPATCH_LIST_CHANNELS;
    if (call->batch != NULL) {
        call->batch->waiting++;
    }
    ws->calls++;
    ws->large_calls += call->is_large;
    frontend->calls++;
    ws_ref(ws);
    dispatch_submit(frontend->dispatch, &call->call);
}

/* `method` is NULL where the fault is in no field. */
static void refuse_params(struct ws_reply *reply, const struct dispatch_method *method,
                          const char *message)
{
    struct dispatch_status status;
    dispatch_status_of_json(method, message, &status);
    ws_reply_error(reply, JSONRPC_INVALID_PARAMS, status.message, &status);
}

static void run_request(struct ws_reply *reply, const struct jsonrpc_request *request)
{
    bool is_unsubscribe = strcmp(request->method, "Unsubscribe") == 0;
    const struct dispatch_method *method = dispatch_method_by_name(request->method);
    bool is_missing = method == NULL || method->is_client_streaming;
    if (is_missing && !is_unsubscribe) {
        ws_reply_error(reply, JSONRPC_METHOD_NOT_FOUND, "no such method", NULL);
        return;
    }
    bool has_params = is_unsubscribe || method->input->n_fields > 0;
    if (request->is_unnamed && (has_params || !request->is_empty)) {
        refuse_params(reply, NULL, "invalid params: give them by name, in an object");
        return;
    }
    if (is_unsubscribe) {
        ws_unsubscribe(reply, request->params);
        return;
    }
    ProtobufCMessage *message;
    struct json_error fault;
    bool is_text = false;
    int rc = ws_decode_params(method, request->params, &message, &is_text, &fault);
    if (rc == ERR_INVALID) {
        refuse_params(reply, method, fault.text);
    } else if (rc != 0) {
        reply_overloaded(reply, "out of memory");
    } else if (method->is_streaming) {
        ws_subscribe(reply, message, is_text);
    } else {
        submit(reply, method, message, is_text);
    }
}

/* Returns the id as JSON text; NULL: no memory. */
static char *copy_id(const json_t *id)
{
    struct buf text = {0};
    json_append_scalar(&text, id);
    char *copy = buf_failed(&text) ? NULL : strdup(buf_text(&text));
    buf_finish(&text);
    return copy;
}

static void serve_request(struct ws *ws, struct ws_batch *batch,
                          const struct jsonrpc_message *message, size_t index)
{
    struct jsonrpc_request request;
    struct jsonrpc_fault fault = {0};
    struct ws_reply reply = {.ws = ws, .batch = batch};
    int rc = jsonrpc_request(message, index, &request, &fault);
    /* An invalid request without an id is answered with a null id, since it is unknown whether an
     * answer is expected. */
    bool wants_answer = request.id != NULL || fault.code == JSONRPC_INVALID_REQUEST;
    if (wants_answer) {
        reply.id = request.id != NULL ? copy_id(request.id) : strdup("null");
    }
    if (wants_answer && reply.id == NULL) {
        ws_close(ws, WS_CLOSE_OVERLOADED, "out of memory", true);
    } else if (rc == 0) {
        run_request(&reply, &request);
    } else {
        ws_reply_error(&reply, fault.code, fault.message, NULL);
    }
}

static void serve_batch(struct ws *ws, const struct jsonrpc_message *message)
{
    struct ws_batch *batch = create_batch(ws);
    if (batch == NULL) {
        ws_close(ws, WS_CLOSE_OVERLOADED, "out of memory", true);
        return;
    }
    for (size_t i = 0; i < message->count; i++) {
        serve_request(ws, batch, message, i);
    }
    ws_batch_release(batch);
}

static void serve_text(struct ws *ws, struct bytes text)
{
    struct jsonrpc_message message;
    struct jsonrpc_fault fault;
    int rc = jsonrpc_parse(text, &message, &fault);
    if (rc == ERR_INVALID) {
        struct ws_reply reply = {.ws = ws, .id = strdup("null")};
        ws_reply_error(&reply, fault.code, fault.message, NULL);
        return;
    }
    if (rc != 0) {
        ws_close(ws, WS_CLOSE_OVERLOADED, "out of memory", true);
        return;
    }
    if (message.is_batch) {
        serve_batch(ws, &message);
    } else {
        serve_request(ws, NULL, &message, 0);
    }
    jsonrpc_finish(&message);
}

void ws_serve_message(struct ws *ws, struct bytes text)
{
    /* A tree of small values is many times larger than its text. It is freed before this returns.
     */
    size_t bytes = memory_part(ws->frontend, TREE_PART, TREE_FACTOR * text.size);
    if (!memory_take(ws->frontend, bytes)) {
        ws_close(ws, WS_CLOSE_OVERLOADED, "out of memory", true);
        return;
    }
    serve_text(ws, text);
    memory_give(ws->frontend, bytes);
}
