/* One outgoing call. As in call.c, any thread starts operations under the lock, and they complete
 * on the loop's thread. The call is over when RECV_STATUS and all other operations have
 * completed. */
#include "base/check.h"
#include "base/errors.h"
#include "base/list.h"
#include "rpc/rpc_internal.h"

#include <grpc/support/alloc.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#define DETAILS_KEY "grpc-status-details-bin"

struct rpc_client_call {
    struct rpc_channel *channel;
    bool is_unary;
    struct rpc_client_events events;
    atomic_uint references;
    struct rpc_tag opened;   /* streams: initial metadata, sent and received */
    struct rpc_tag received; /* streams */
    struct rpc_tag sent;
    struct rpc_tag half_closed;
    struct rpc_tag ended; /* the status; unary: everything */
    grpc_metadata metadata[RPC_CLIENT_METADATA_MAX];
    size_t metadata_count;
    grpc_metadata_array initial;
    grpc_metadata_array trailing;
    grpc_status_code code;
    grpc_slice text;
    bool are_headers_known; /* on_headers was called or is not needed; loop's thread */
    pthread_mutex_t lock;   /* guards all below, and operations on `grpc` */
    grpc_call *grpc;        /* NULL when the call is over */
    grpc_byte_buffer *incoming;
    grpc_byte_buffer *outgoing;
    unsigned pending; /* operations that have not completed */
    bool is_sending;
    bool is_half_closing; /* requested: done, or waiting for an outstanding send */
    bool is_ended;        /* the status is known: no operation may be started */
};

static void start(struct rpc_client_call *call, const grpc_op *ops, size_t count,
                  struct rpc_tag *tag)
{
    call->pending++;
    RPC_TSAN_RELEASE(tag);
    grpc_call_error error = grpc_call_start_batch(call->grpc, ops, count, tag, NULL);
    CHECK(error == GRPC_CALL_OK);
}

/* ---- the end ---- */

static void free_call(struct rpc_client_call *call)
{
    rpc_metadata_unref(call->metadata, call->metadata_count);
    grpc_metadata_array_destroy(&call->initial);
    grpc_metadata_array_destroy(&call->trailing);
    grpc_slice_unref(call->text);
    if (call->incoming != NULL) {
        grpc_byte_buffer_destroy(call->incoming);
    }
    if (call->outgoing != NULL) {
        grpc_byte_buffer_destroy(call->outgoing);
    }
    pthread_mutex_destroy(&call->lock);
    free(call);
}

void rpc_client_release(struct rpc_client_call *call)
{
    if (atomic_fetch_sub_explicit(&call->references, 1, memory_order_acq_rel) == 1) {
        free_call(call);
    }
}

/* Reads the message of an OK answer. Without a readable message, the result is an error. */
static void read_response(struct rpc_client_call *call, struct rpc_message *response,
                          struct rpc_result *result)
{
    int rc =
        rpc_message_init(response, call->incoming, rpc_channel_receive_bytes_max(call->channel));
    if (rc != 0) {
        const struct rpc_status status = rpc_message_status(rc);
        result->code = status.code;
        result->message = status.message;
    } else if (response->bytes.data == NULL) {
        result->code = GRPC_STATUS_INTERNAL;
        result->message = "the server answered OK without a message";
    }
    result->response = response->bytes;
}

static void report(struct rpc_client_call *call)
{
    char *text = grpc_slice_to_c_string(call->text);
    struct rpc_result result = {
        .code = (int)call->code,
        .message = text,
        .details = rpc_metadata_find(&call->trailing, DETAILS_KEY),
    };
    struct rpc_message response = {.bytes = {NULL, 0}};
    if (call->is_unary && call->code == GRPC_STATUS_OK) {
        read_response(call, &response, &result);
    }
    /* If this was the channel's last call, the callback may destroy the channel. */
    rpc_channel_call_over(call->channel);
    call->events.on_closed(call->events.context, &result);
    gpr_free(text);
    rpc_message_finish(&response);
}

/* Called after each completion. Ends the call after the last one. */
static void settle(struct rpc_client_call *call)
{
    pthread_mutex_lock(&call->lock);
    bool is_over = call->is_ended && call->pending == 0;
    pthread_mutex_unlock(&call->lock);
    if (!is_over) {
        return;
    }
    report(call);
    pthread_mutex_lock(&call->lock);
    grpc_call *grpc = call->grpc;
    call->grpc = NULL;
    pthread_mutex_unlock(&call->lock);
    grpc_call_unref(grpc);
    rpc_client_release(call);
}

/* ---- completions ---- */

static void complete(struct rpc_client_call *call)
{
    pthread_mutex_lock(&call->lock);
    call->pending--;
    pthread_mutex_unlock(&call->lock);
}

static void on_ended(struct rpc_tag *tag, bool is_ok)
{
    struct rpc_client_call *call = CONTAINER_OF(tag, struct rpc_client_call, ended);
    pthread_mutex_lock(&call->lock);
    call->pending--;
    call->is_ended = true;
    pthread_mutex_unlock(&call->lock);
    settle(call);
}

static void tell_headers(struct rpc_client_call *call)
{
    if (!call->are_headers_known) {
        call->are_headers_known = true;
        if (call->events.on_headers != NULL) {
            call->events.on_headers(call->events.context);
        }
    }
}

/* If the server refused at once by trailers alone, the initial metadata are empty. */
static void on_opened(struct rpc_tag *tag, bool is_ok)
{
    struct rpc_client_call *call = CONTAINER_OF(tag, struct rpc_client_call, opened);
    complete(call);
    if (is_ok && rpc_metadata_find(&call->initial, RPC_HEADERS_MARK).data != NULL) {
        tell_headers(call);
    }
    settle(call);
}

static void start_receive(struct rpc_client_call *call)
{
    grpc_op op;
    memset(&op, 0, sizeof(op));
    op.op = GRPC_OP_RECV_MESSAGE;
    op.data.recv_message.recv_message = &call->incoming;
    start(call, &op, 1, &call->received);
}

static void cancel(struct rpc_client_call *call, grpc_status_code code, const char *text)
{
    pthread_mutex_lock(&call->lock);
    if (!call->is_ended) {
        grpc_call_cancel_with_status(call->grpc, code, text, NULL);
    }
    pthread_mutex_unlock(&call->lock);
}

static void deliver(struct rpc_client_call *call, grpc_byte_buffer *buffer)
{
    struct rpc_message message;
    int rc = rpc_message_init(&message, buffer, rpc_channel_receive_bytes_max(call->channel));
    if (rc != 0) {
        const struct rpc_status status = rpc_message_status(rc);
        cancel(call, (grpc_status_code)status.code, status.message);
        return;
    }
    tell_headers(call);
    call->events.on_message(call->events.context, message.bytes);
    rpc_message_finish(&message);
}

static void on_received(struct rpc_tag *tag, bool is_ok)
{
    struct rpc_client_call *call = CONTAINER_OF(tag, struct rpc_client_call, received);
    grpc_byte_buffer *buffer = call->incoming;
    call->incoming = NULL;
    if (buffer != NULL) {
        deliver(call, buffer);
        grpc_byte_buffer_destroy(buffer);
    }
    pthread_mutex_lock(&call->lock);
    call->pending--;
    /* Also after the status, until gRPC reports that no message is left. */
    if (buffer != NULL) {
        start_receive(call);
    }
    pthread_mutex_unlock(&call->lock);
    settle(call);
}

/* Requires the lock and no outstanding send. */
static void start_half_close(struct rpc_client_call *call)
{
    grpc_op op;
    memset(&op, 0, sizeof(op));
    op.op = GRPC_OP_SEND_CLOSE_FROM_CLIENT;
    start(call, &op, 1, &call->half_closed);
}

static void on_sent(struct rpc_tag *tag, bool is_ok)
{
    struct rpc_client_call *call = CONTAINER_OF(tag, struct rpc_client_call, sent);
    pthread_mutex_lock(&call->lock);
    call->pending--;
    call->is_sending = false;
    grpc_byte_buffer *buffer = call->outgoing;
    call->outgoing = NULL;
    if (call->is_half_closing && !call->is_ended) {
        start_half_close(call);
    }
    bool is_wanted = is_ok && !call->is_ended;
    pthread_mutex_unlock(&call->lock);
    grpc_byte_buffer_destroy(buffer);
    if (is_wanted && call->events.on_sent != NULL) {
        call->events.on_sent(call->events.context);
    }
    settle(call);
}

static void on_half_closed(struct rpc_tag *tag, bool is_ok)
{
    struct rpc_client_call *call = CONTAINER_OF(tag, struct rpc_client_call, half_closed);
    complete(call);
    settle(call);
}

/* ---- opening ---- */

static int copy_metadata(struct rpc_client_call *call, const struct rpc_client_options *options)
{
    if (options->metadata_count > RPC_CLIENT_METADATA_MAX) {
        return ERR_INVALID;
    }
    for (size_t i = 0; i < options->metadata_count; i++) {
        if (!rpc_metadata_copy(&options->metadata[i], &call->metadata[i])) {
            return ERR_INVALID;
        }
        call->metadata_count++;
    }
    return 0;
}

static int create_call(struct rpc_channel *channel, const struct rpc_client_options *options,
                       const struct rpc_client_events *events, struct rpc_client_call **out)
{
    struct rpc_client_call *call = calloc(1, sizeof(*call));
    if (call == NULL) {
        return ERR_NOMEM;
    }
    call->channel = channel;
    call->events = *events;
    atomic_init(&call->references, 2); /* the caller's and the loop's */
    call->opened.fn = on_opened;
    call->received.fn = on_received;
    call->sent.fn = on_sent;
    call->half_closed.fn = on_half_closed;
    call->ended.fn = on_ended;
    call->text = grpc_empty_slice();
    grpc_metadata_array_init(&call->initial);
    grpc_metadata_array_init(&call->trailing);
    pthread_mutex_init(&call->lock, NULL);
    int rc = copy_metadata(call, options);
    if (rc != 0) {
        free_call(call);
        return rc;
    }
    call->grpc = rpc_channel_call_begin(channel, options->path, options->deadline_ns);
    *out = call;
    return 0;
}

static void put_headers(struct rpc_client_call *call, grpc_op *op)
{
    op->op = GRPC_OP_SEND_INITIAL_METADATA;
    op->data.send_initial_metadata.metadata = call->metadata;
    op->data.send_initial_metadata.count = call->metadata_count;
}

static void put_receive_headers(struct rpc_client_call *call, grpc_op *op)
{
    op->op = GRPC_OP_RECV_INITIAL_METADATA;
    op->data.recv_initial_metadata.recv_initial_metadata = &call->initial;
}

static void put_receive_status(struct rpc_client_call *call, grpc_op *op)
{
    op->op = GRPC_OP_RECV_STATUS_ON_CLIENT;
    op->data.recv_status_on_client.trailing_metadata = &call->trailing;
    op->data.recv_status_on_client.status = &call->code;
    op->data.recv_status_on_client.status_details = &call->text;
}

int rpc_unary(struct rpc_channel *channel, const struct rpc_client_options *options,
              struct bytes request, const struct rpc_client_events *events,
              struct rpc_client_call **out)
{
    struct rpc_client_call *call;
    int rc = create_call(channel, options, events, &call);
    if (rc != 0) {
        return rc;
    }
    call->is_unary = true;
    call->outgoing = rpc_buffer_of_bytes(request);
    grpc_op ops[6];
    memset(ops, 0, sizeof(ops));
    put_headers(call, &ops[0]);
    ops[1].op = GRPC_OP_SEND_MESSAGE;
    ops[1].data.send_message.send_message = call->outgoing;
    ops[2].op = GRPC_OP_SEND_CLOSE_FROM_CLIENT;
    put_receive_headers(call, &ops[3]);
    ops[4].op = GRPC_OP_RECV_MESSAGE;
    ops[4].data.recv_message.recv_message = &call->incoming;
    put_receive_status(call, &ops[5]);
    /* Set before the start, since callbacks may use it. */
    *out = call;
    pthread_mutex_lock(&call->lock);
    start(call, ops, 6, &call->ended);
    pthread_mutex_unlock(&call->lock);
    return 0;
}

int rpc_stream_open(struct rpc_channel *channel, const struct rpc_client_options *options,
                    const struct rpc_client_events *events, struct rpc_client_call **out)
{
    struct rpc_client_call *call;
    int rc = create_call(channel, options, events, &call);
    if (rc != 0) {
        return rc;
    }
    grpc_op ops[2];
    memset(ops, 0, sizeof(ops));
    put_headers(call, &ops[0]);
    put_receive_headers(call, &ops[1]);
    grpc_op status;
    memset(&status, 0, sizeof(status));
    put_receive_status(call, &status);
    *out = call;
    pthread_mutex_lock(&call->lock);
    start(call, ops, 2, &call->opened);
    start(call, &status, 1, &call->ended);
    start_receive(call);
    pthread_mutex_unlock(&call->lock);
    return 0;
}

/* ---- while it runs ---- */

int rpc_stream_send(struct rpc_client_call *call, struct bytes message, bool is_more_coming)
{
    CHECK(!call->is_unary);
    grpc_byte_buffer *buffer = rpc_buffer_of_bytes(message);
    pthread_mutex_lock(&call->lock);
    CHECK(!call->is_sending || call->is_ended);
    bool is_open = !call->is_ended && !call->is_half_closing;
    if (is_open) {
        grpc_op op;
        memset(&op, 0, sizeof(op));
        op.op = GRPC_OP_SEND_MESSAGE;
        op.flags = is_more_coming ? GRPC_WRITE_BUFFER_HINT : 0;
        op.data.send_message.send_message = buffer;
        call->outgoing = buffer;
        call->is_sending = true;
        start(call, &op, 1, &call->sent);
    }
    pthread_mutex_unlock(&call->lock);
    if (!is_open) {
        grpc_byte_buffer_destroy(buffer);
        return ERR_CLOSED;
    }
    return 0;
}

void rpc_stream_close_send(struct rpc_client_call *call)
{
    CHECK(!call->is_unary);
    pthread_mutex_lock(&call->lock);
    if (!call->is_ended && !call->is_half_closing) {
        call->is_half_closing = true;
        if (!call->is_sending) {
            start_half_close(call);
        }
    }
    pthread_mutex_unlock(&call->lock);
}

void rpc_client_cancel(struct rpc_client_call *call)
{
    cancel(call, GRPC_STATUS_CANCELLED, "cancelled");
}
