/* One incoming call. Any thread may start operations, under the call's lock. They complete on the
 * loop's thread, where all callbacks run without the lock. The call is over when RECV_CLOSE and all
 * other operations have completed. */
#include "base/check.h"
#include "base/errors.h"
#include "base/list.h"
#include "rpc/rpc_internal.h"

#include <grpc/support/alloc.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

/* The status and, if there is one, the last message, kept until they are sent. */
struct answer {
    grpc_byte_buffer *message;
    grpc_status_code code;
    grpc_slice text;
    bool has_text;
    grpc_metadata trailers[RPC_STATUS_METADATA_MAX];
    size_t trailer_count;
};

struct rpc_call {
    struct rpc_server *server;
    grpc_call_details details;
    grpc_metadata_array metadata;
    char *path;
    uint64_t deadline_ns;
    struct rpc_call_events events; /* set once, on the loop's thread */
    atomic_uint references;
    struct rpc_tag arrived;
    struct rpc_tag closed;
    struct rpc_tag received;
    struct rpc_tag headers_sent;
    struct rpc_tag sent;
    struct rpc_tag answered;
    int cancelled;
    pthread_mutex_t lock; /* guards all below, and operations on `grpc` */
    grpc_call *grpc;      /* NULL when the call is over */
    char *peer;
    grpc_byte_buffer *incoming;
    grpc_byte_buffer *outgoing;
    struct answer answer;
    unsigned pending; /* operations that have not completed */
    bool is_accepted;
    bool is_receiving;
    bool is_half_closed;
    bool are_headers_sent;
    bool is_sending;
    bool is_finishing; /* the answer is known: sent, or waiting for an outstanding send */
    bool is_closed;    /* RECV_CLOSE completed: no operation may be started */
};

static void start(struct rpc_call *call, const grpc_op *ops, size_t count, struct rpc_tag *tag)
{
    call->pending++;
    RPC_TSAN_RELEASE(tag);
    grpc_call_error error = grpc_call_start_batch(call->grpc, ops, count, tag, NULL);
    CHECK(error == GRPC_CALL_OK);
}

/* Adds SEND_INITIAL_METADATA unless it was sent. Returns how many operations were added. */
static size_t put_headers(struct rpc_call *call, grpc_op *op)
{
    if (call->are_headers_sent) {
        return 0;
    }
    call->are_headers_sent = true;
    op->op = GRPC_OP_SEND_INITIAL_METADATA;
    return 1;
}

static bool is_ended(const struct rpc_call *call)
{
    return call->is_closed || call->is_finishing;
}

/* ---- the end ---- */

static void free_call(struct rpc_call *call)
{
    grpc_call_details_destroy(&call->details);
    rpc_metadata_unref(call->metadata.metadata, call->metadata.count);
    grpc_metadata_array_destroy(&call->metadata);
    gpr_free(call->path);
    gpr_free(call->peer);
    if (call->outgoing != NULL) {
        grpc_byte_buffer_destroy(call->outgoing);
    }
    if (call->answer.message != NULL) {
        grpc_byte_buffer_destroy(call->answer.message);
    }
    if (call->answer.has_text) {
        grpc_slice_unref(call->answer.text);
    }
    rpc_metadata_unref(call->answer.trailers, call->answer.trailer_count);
    pthread_mutex_destroy(&call->lock);
    free(call);
}

void rpc_call_ref(struct rpc_call *call)
{
    atomic_fetch_add_explicit(&call->references, 1, memory_order_relaxed);
}

void rpc_call_unref(struct rpc_call *call)
{
    if (atomic_fetch_sub_explicit(&call->references, 1, memory_order_acq_rel) == 1) {
        free_call(call);
    }
}

/* Called after each completion. Ends the call after the last one. */
static void settle(struct rpc_call *call)
{
    pthread_mutex_lock(&call->lock);
    bool is_over = call->is_closed && call->pending == 0;
    bool is_accepted = call->is_accepted;
    pthread_mutex_unlock(&call->lock);
    if (!is_over) {
        return;
    }
    if (is_accepted) {
        call->events.on_closed(call, call->cancelled != 0, call->events.context);
    }
    pthread_mutex_lock(&call->lock);
    grpc_call *grpc = call->grpc;
    call->grpc = NULL;
    pthread_mutex_unlock(&call->lock);
    grpc_call_unref(grpc);
    rpc_server_call_over(call->server);
    rpc_call_unref(call);
}

/* ---- completions ---- */

static void on_closed(struct rpc_tag *tag, bool is_ok)
{
    struct rpc_call *call = CONTAINER_OF(tag, struct rpc_call, closed);
    pthread_mutex_lock(&call->lock);
    call->pending--;
    call->is_closed = true;
    pthread_mutex_unlock(&call->lock);
    settle(call);
}

static void deliver(struct rpc_call *call, grpc_byte_buffer *buffer)
{
    struct rpc_message message;
    int rc = rpc_message_init(&message, buffer, rpc_server_receive_bytes_max(call->server));
    if (rc != 0) {
        const struct rpc_status status = rpc_message_status(rc);
        rpc_call_finish(call, NULL, &status);
        return;
    }
    call->events.on_message(call, message.bytes, call->events.context);
    rpc_message_finish(&message);
}

static void on_received(struct rpc_tag *tag, bool is_ok)
{
    struct rpc_call *call = CONTAINER_OF(tag, struct rpc_call, received);
    pthread_mutex_lock(&call->lock);
    call->pending--;
    call->is_receiving = false;
    grpc_byte_buffer *buffer = call->incoming;
    call->incoming = NULL;
    bool is_wanted = !is_ended(call);
    /* Without a message, the client half-closed or the call failed. on_closed reports a failure. */
    bool is_half_close = buffer == NULL && !grpc_call_failed_before_recv_message(call->grpc);
    call->is_half_closed |= buffer == NULL;
    pthread_mutex_unlock(&call->lock);
    if (is_wanted && buffer != NULL) {
        deliver(call, buffer);
    } else if (is_wanted && is_half_close) {
        call->events.on_half_close(call, call->events.context);
    }
    if (buffer != NULL) {
        grpc_byte_buffer_destroy(buffer);
    }
    settle(call);
}

static void on_headers_sent(struct rpc_tag *tag, bool is_ok)
{
    struct rpc_call *call = CONTAINER_OF(tag, struct rpc_call, headers_sent);
    pthread_mutex_lock(&call->lock);
    call->pending--;
    pthread_mutex_unlock(&call->lock);
    settle(call);
}

/* Requires the lock and no outstanding send. */
static void start_answer(struct rpc_call *call)
{
    grpc_op ops[3];
    memset(ops, 0, sizeof(ops));
    size_t count = put_headers(call, &ops[0]);
    if (call->answer.message != NULL) {
        ops[count].op = GRPC_OP_SEND_MESSAGE;
        ops[count++].data.send_message.send_message = call->answer.message;
    }
    ops[count].op = GRPC_OP_SEND_STATUS_FROM_SERVER;
    ops[count].data.send_status_from_server.status = call->answer.code;
    ops[count].data.send_status_from_server.trailing_metadata = call->answer.trailers;
    ops[count].data.send_status_from_server.trailing_metadata_count = call->answer.trailer_count;
    if (call->answer.has_text) {
        ops[count].data.send_status_from_server.status_details = &call->answer.text;
    }
    count++;
    start(call, ops, count, &call->answered);
}

static void on_sent(struct rpc_tag *tag, bool is_ok)
{
    struct rpc_call *call = CONTAINER_OF(tag, struct rpc_call, sent);
    pthread_mutex_lock(&call->lock);
    call->pending--;
    call->is_sending = false;
    grpc_byte_buffer *buffer = call->outgoing;
    call->outgoing = NULL;
    if (call->is_finishing && !call->is_closed) {
        start_answer(call);
    }
    bool is_wanted = is_ok && !is_ended(call);
    pthread_mutex_unlock(&call->lock);
    grpc_byte_buffer_destroy(buffer);
    if (is_wanted && call->events.on_sent != NULL) {
        call->events.on_sent(call, call->events.context);
    }
    settle(call);
}

static void on_answered(struct rpc_tag *tag, bool is_ok)
{
    struct rpc_call *call = CONTAINER_OF(tag, struct rpc_call, answered);
    pthread_mutex_lock(&call->lock);
    call->pending--;
    pthread_mutex_unlock(&call->lock);
    settle(call);
}

/* ---- arrival ---- */

static void open_call(struct rpc_call *call)
{
    call->path = grpc_slice_to_c_string(call->details.method);
    call->deadline_ns = rpc_timespec_ns(call->details.deadline);
    /* The values belong to gRPC's call. References let them outlive it. */
    for (size_t i = 0; i < call->metadata.count; i++) {
        grpc_slice_ref(call->metadata.metadata[i].key);
        grpc_slice_ref(call->metadata.metadata[i].value);
    }
    grpc_op op;
    memset(&op, 0, sizeof(op));
    op.op = GRPC_OP_RECV_CLOSE_ON_SERVER;
    op.data.recv_close_on_server.cancelled = &call->cancelled;
    pthread_mutex_lock(&call->lock);
    start(call, &op, 1, &call->closed);
    pthread_mutex_unlock(&call->lock);
}

static void on_arrived(struct rpc_tag *tag, bool is_ok)
{
    struct rpc_call *call = CONTAINER_OF(tag, struct rpc_call, arrived);
    struct rpc_server *server = call->server;
    if (!is_ok) {
        call->metadata.count = 0;
        free_call(call);
        rpc_server_slot_taken(server, false);
        return;
    }
    bool is_welcome = rpc_server_slot_taken(server, true);
    open_call(call);
    if (!is_welcome) {
        rpc_call_finish(call, NULL, rpc_server_busy(server));
        return;
    }
    rpc_server_handle(server, call);
    /* Nothing can have completed meanwhile, since completions run on this thread. */
    pthread_mutex_lock(&call->lock);
    CHECK(call->is_accepted || call->is_finishing);
    pthread_mutex_unlock(&call->lock);
}

int rpc_call_request(struct rpc_server *server)
{
    struct rpc_call *call = calloc(1, sizeof(*call));
    if (call == NULL) {
        return ERR_NOMEM;
    }
    call->server = server;
    atomic_init(&call->references, 1);
    call->arrived.fn = on_arrived;
    call->closed.fn = on_closed;
    call->received.fn = on_received;
    call->headers_sent.fn = on_headers_sent;
    call->sent.fn = on_sent;
    call->answered.fn = on_answered;
    pthread_mutex_init(&call->lock, NULL);
    grpc_call_details_init(&call->details);
    grpc_metadata_array_init(&call->metadata);
    grpc_completion_queue *queue = rpc_loop_queue(rpc_server_loop(server));
    RPC_TSAN_RELEASE(&call->arrived);
    grpc_call_error error =
        grpc_server_request_call(rpc_server_grpc(server), &call->grpc, &call->details,
                                 &call->metadata, queue, queue, &call->arrived);
    CHECK(error == GRPC_CALL_OK);
    return 0;
}

/* ---- public ---- */

const char *rpc_call_path(const struct rpc_call *call)
{
    return call->path;
}

const char *rpc_call_peer(struct rpc_call *call)
{
    pthread_mutex_lock(&call->lock);
    if (call->peer == NULL && call->grpc != NULL) {
        call->peer = grpc_call_get_peer(call->grpc);
    }
    const char *peer = call->peer != NULL ? call->peer : "";
    pthread_mutex_unlock(&call->lock);
    return peer;
}

uint64_t rpc_call_deadline_ns(const struct rpc_call *call)
{
    return call->deadline_ns;
}

struct bytes rpc_call_metadata(const struct rpc_call *call, const char *key)
{
    return rpc_metadata_find(&call->metadata, key);
}

void rpc_call_accept(struct rpc_call *call, const struct rpc_call_events *events)
{
    CHECK(rpc_loop_is_current(rpc_server_loop(call->server)));
    pthread_mutex_lock(&call->lock);
    CHECK(!call->is_accepted);
    call->events = *events;
    call->is_accepted = true;
    pthread_mutex_unlock(&call->lock);
}

void rpc_call_receive(struct rpc_call *call)
{
    pthread_mutex_lock(&call->lock);
    CHECK(call->is_accepted);
    CHECK(!call->is_receiving);
    if (!is_ended(call) && !call->is_half_closed) {
        grpc_op op;
        memset(&op, 0, sizeof(op));
        op.op = GRPC_OP_RECV_MESSAGE;
        op.data.recv_message.recv_message = &call->incoming;
        call->is_receiving = true;
        start(call, &op, 1, &call->received);
    }
    pthread_mutex_unlock(&call->lock);
}

void rpc_call_send_headers(struct rpc_call *call)
{
    grpc_metadata mark;
    memset(&mark, 0, sizeof(mark));
    mark.key = grpc_slice_from_static_string(RPC_HEADERS_MARK);
    mark.value = grpc_slice_from_static_string("open");
    grpc_op op;
    memset(&op, 0, sizeof(op));
    pthread_mutex_lock(&call->lock);
    if (!is_ended(call) && put_headers(call, &op) > 0) {
        op.data.send_initial_metadata.metadata = &mark;
        op.data.send_initial_metadata.count = 1;
        start(call, &op, 1, &call->headers_sent);
    }
    pthread_mutex_unlock(&call->lock);
}

/* Takes ownership of `buffer`. */
static int send_buffer(struct rpc_call *call, grpc_byte_buffer *buffer)
{
    pthread_mutex_lock(&call->lock);
    CHECK(!call->is_sending || is_ended(call));
    bool is_open = !is_ended(call);
    if (is_open) {
        grpc_op ops[2];
        memset(ops, 0, sizeof(ops));
        size_t count = put_headers(call, &ops[0]);
        ops[count].op = GRPC_OP_SEND_MESSAGE;
        ops[count++].data.send_message.send_message = buffer;
        call->outgoing = buffer;
        call->is_sending = true;
        start(call, ops, count, &call->sent);
    }
    pthread_mutex_unlock(&call->lock);
    if (!is_open) {
        grpc_byte_buffer_destroy(buffer);
        return ERR_CLOSED;
    }
    return 0;
}

int rpc_call_send(struct rpc_call *call, struct bytes message)
{
    return send_buffer(call, rpc_buffer_of_bytes(message));
}

int rpc_call_send_slice(struct rpc_call *call, grpc_slice slice)
{
    return send_buffer(call, grpc_raw_byte_buffer_create(&slice, 1));
}

static void fill_answer(struct answer *answer, const struct bytes *message,
                        const struct rpc_status *status)
{
    CHECK(status->trailer_count <= RPC_STATUS_METADATA_MAX);
    answer->code = (grpc_status_code)status->code;
    if (message != NULL) {
        answer->message = rpc_buffer_of_bytes(*message);
    }
    if (status->message != NULL) {
        answer->text = grpc_slice_from_copied_string(status->message);
        answer->has_text = true;
    }
    for (size_t i = 0; i < status->trailer_count; i++) {
        bool is_legal = rpc_metadata_copy(&status->trailers[i], &answer->trailers[i]);
        CHECK(is_legal);
        answer->trailer_count++;
    }
}

static void answer_on_loop(void *context)
{
    struct rpc_call *call = context;
    pthread_mutex_lock(&call->lock);
    call->pending--;
    if (!call->is_closed) {
        start_answer(call);
    }
    pthread_mutex_unlock(&call->lock);
    settle(call);
}

/* The loop's thread starts the answers, many at a time. If another thread starts an operation, gRPC
 * hands work between the threads and wakes the loop for each. Requires the lock. */
static void pass_answer(struct rpc_call *call)
{
    struct rpc_loop *loop = rpc_server_loop(call->server);
    if (!rpc_loop_is_current(loop) && rpc_loop_post(loop, 0, answer_on_loop, call) == 0) {
        call->pending++;
        return;
    }
    start_answer(call);
}

void rpc_call_finish(struct rpc_call *call, const struct bytes *message,
                     const struct rpc_status *status)
{
    pthread_mutex_lock(&call->lock);
    if (!is_ended(call)) {
        call->is_finishing = true;
        fill_answer(&call->answer, message, status);
        if (!call->is_sending) {
            pass_answer(call);
        }
    }
    pthread_mutex_unlock(&call->lock);
}
