/* The incoming half of a call, and its life. All of it runs on the server's thread. */
#include "h2/h2_internal.h"

#include "base/check.h"
#include "base/errors.h"

#include <stdlib.h>
#include <string.h>

/* CALL_BYTES covers messages up to this size. */
#define SMALL_MESSAGE_BYTES 512u

static void advance(struct h2_call *call);

/* ---- life ---- */

struct h2_call *h2_call_create(struct h2_connection *connection, int32_t stream_id)
{
    struct h2_server *server = connection->server;
    struct h2_call *call = calloc(1, sizeof(*call));
    if (call == NULL) {
        return NULL;
    }
    call->pump.run = h2_call_pump;
    list_init(&call->pump.link);
    atomic_init(&call->references, 1);
    call->server = server;
    call->connection = connection;
    call->stream_id = stream_id;
    list_init(&call->waiting_link);
    list_init(&call->timed_link);
    list_init(&call->linger_link);
    list_init(&call->turn_link);
    list_init(&call->sent_link);
    call->deadline_ns = UINT64_MAX;
    call->held_bytes = CALL_BYTES;
    buf_init(&call->partial, server->options.receive_bytes_max + (size_t)MESSAGE_PREFIX_BYTES);
    pthread_mutex_init(&call->lock, NULL);
    list_push_back(&connection->calls, &call->link);
    list_remove(&connection->idle_link);
    connection->call_count++;
    atomic_fetch_add(&server->call_count, 1);
    return call;
}

static bool is_over(struct h2_call *call)
{
    pthread_mutex_lock(&call->lock);
    bool is_ended = call->is_finishing || call->is_closed;
    pthread_mutex_unlock(&call->lock);
    return is_ended;
}

void h2_call_stop_waiting(struct h2_call *call)
{
    if (call->is_waiting) {
        call->is_waiting = false;
        list_remove(&call->waiting_link);
        call->server->waiting_count--;
    }
}

/* Starts the wait for a message or the half-close. If too many calls wait, ends the oldest. */
static void start_waiting(struct h2_call *call)
{
    struct h2_server *server = call->server;
    if (call->is_waiting) {
        return;
    }
    call->is_waiting = true;
    call->begin_ns = server->now_ns;
    list_push_back(&server->waiting, &call->waiting_link);
    if (++server->waiting_count > server->options.waiting_max) {
        struct h2_call *oldest = LIST_ENTRY(server->waiting.next, struct h2_call, waiting_link);
        h2_call_end_for_memory(oldest);
        h2_call_stop_waiting(oldest);
    }
}

static void drop_input(struct h2_call *call)
{
    buf_finish(&call->partial);
    buf_finish(&call->backlog);
    h2_give(call->connection, call->held_bytes);
    call->held_bytes = 0;
}

static void leave_connection(struct h2_call *call)
{
    struct h2_connection *connection = call->connection;
    h2_call_stop_waiting(call);
    list_remove(&call->timed_link);
    list_remove(&call->linger_link);
    list_remove(&call->turn_link);
    list_remove(&call->sent_link);
    list_remove(&call->link);
    connection->unsent_bytes -= call->unsent_bytes;
    connection->turns_taken -= call->has_turn;
    call->has_turn = false;
    if (--connection->call_count == 0 && !connection->is_doomed) {
        list_push_back(&call->server->idle, &connection->idle_link);
    }
    h2_connection_mark(connection); /* other calls may get a turn */
    call->connection = NULL;
}

void h2_call_close(struct h2_call *call)
{
    struct h2_server *server = call->server;
    struct h2_outgoing outgoing;
    pthread_mutex_lock(&call->lock);
    call->is_closed = true;
    outgoing = call->outgoing;
    memset(&call->outgoing, 0, sizeof(call->outgoing));
    pthread_mutex_unlock(&call->lock);
    h2_outgoing_finish(call->connection, &outgoing);
    drop_input(call);
    leave_connection(call);
    if (call->is_accepted) {
        call->events.on_closed(call, !call->is_answered, call->events.context);
    }
    atomic_fetch_sub(&server->call_count, 1);
    h2_call_unref(call);
}

/* ---- begin ---- */

static void watch_deadline(struct h2_call *call)
{
    struct h2_server *server = call->server;
    if (call->deadline_ns == UINT64_MAX) {
        return;
    }
    list_push_back(&server->timed, &call->timed_link);
    if (call->deadline_ns < server->timed_ns) {
        server->timed_ns = call->deadline_ns;
    }
}

static void refuse_encoding(struct h2_call *call)
{
    static const struct h2_status status = {
        .code = H2_UNIMPLEMENTED,
        .message = "unknown grpc-encoding: send identity, deflate or gzip",
        .trailers = {{"grpc-accept-encoding", {"identity,deflate,gzip", 21}}},
        .trailer_count = 1,
    };
    h2_call_finish(call, NULL, &status);
}

void h2_call_begin(struct h2_call *call)
{
    const struct h2_server *server = call->server;
    if (call->header_bytes > server->options.metadata_bytes_max) {
        h2_call_end(call, H2_RESOURCE_EXHAUSTED, "the request's metadata are too large");
    } else if (call->path == NULL || buf_failed(&call->metadata)) {
        h2_call_end_for_memory(call);
    } else if (!call->is_post) {
        h2_call_refuse(call, "405", "a gRPC call is a POST");
    } else if (!call->is_grpc) {
        h2_call_refuse(call, "415", "the content-type is not application/grpc");
    } else if (call->is_timeout_bad) {
        h2_call_end(call, H2_INTERNAL, "malformed grpc-timeout");
    } else if (call->encoding == H2_ENCODING_UNKNOWN) {
        refuse_encoding(call);
    } else {
        watch_deadline(call);
        start_waiting(call);
        server->handler.on_call(server->handler.context, call);
        CHECK(call->is_accepted || is_over(call));
    }
}

void h2_call_accept(struct h2_call *call, const struct h2_call_events *events)
{
    CHECK(h2_server_is_current(call->server));
    CHECK(!call->is_accepted);
    call->events = *events;
    call->is_accepted = true;
    if (events->is_patient) {
        h2_call_stop_waiting(call);
    }
}

/* ---- messages ---- */

static bool hold(struct h2_call *call, uint64_t bytes, bool is_large)
{
    if (!h2_take(call->connection, bytes, is_large)) {
        h2_call_end_for_memory(call);
        return false;
    }
    call->held_bytes += bytes;
    return true;
}

static void consume(struct h2_call *call, size_t size)
{
    (void)nghttp2_session_consume_stream(call->connection->session, call->stream_id, size);
}

static void give_message(struct h2_call *call, struct bytes message)
{
    call->is_receiving = false;
    if (!call->events.ends_with_half_close) {
        h2_call_stop_waiting(call);
    }
    call->events.on_message(call, message, call->events.context);
}

static void give_packed(struct h2_call *call, struct bytes packed)
{
    struct buf plain;
    buf_init(&plain, call->server->options.receive_bytes_max);
    int rc = packed.size > 0 ? h2_inflate(packed, &plain) : 0;
    if (rc == ERR_CORRUPT) {
        h2_call_end(call, H2_INTERNAL, "the message cannot be decompressed");
    } else if (rc == ERR_FULL) {
        h2_call_end(call, H2_RESOURCE_EXHAUSTED, "the message is too large when decompressed");
    } else if (rc != 0) {
        h2_call_end_for_memory(call);
    } else if (hold(call, plain.size, plain.size > LARGE_BYTES)) {
        give_message(call, plain.size > 0 ? buf_bytes(&plain) : (struct bytes){"", 0});
    }
    buf_finish(&plain);
}

/* gRPC over HTTP/2, "Compressed-Flag". */
static void give_framed(struct h2_call *call, const uint8_t *frame, size_t size)
{
    struct bytes message = {frame + MESSAGE_PREFIX_BYTES, size};
    if (frame[0] == 0) {
        give_message(call, message);
    } else if (call->encoding == H2_DEFLATED) {
        give_packed(call, message);
    } else {
        h2_call_end(call, H2_INTERNAL, "a compressed message without a grpc-encoding");
    }
}

static size_t framed_size(const uint8_t *prefix)
{
    return (size_t)prefix[1] << 24 | (size_t)prefix[2] << 16 | (size_t)prefix[3] << 8 | prefix[4];
}

static void refuse_too_large(struct h2_call *call, uint64_t size)
{
    call->server->handler.on_too_large(call->server->handler.context, call, size);
    CHECK(is_over(call));
}

/* Returns false if the message will not be read or the call was ended. */
static bool check_prefix(struct h2_call *call, const uint8_t *prefix)
{
    size_t size = framed_size(prefix);
    if (prefix[0] > 1) {
        h2_call_end(call, H2_INTERNAL, "the message's first byte is neither 0 nor 1");
        return false;
    }
    if (size > call->server->options.receive_bytes_max) {
        if (size <= call->server->options.discard_bytes_max) {
            call->too_large = call->discard_left = size;
        } else {
            refuse_too_large(call, size);
        }
        return false;
    }
    return true;
}

/* Returns the bytes taken. */
static size_t discard(struct h2_call *call, size_t size)
{
    size_t taken = call->discard_left < size ? (size_t)call->discard_left : size;
    call->discard_left -= taken;
    if (call->discard_left == 0) {
        refuse_too_large(call, call->too_large);
    }
    return taken;
}

/* Returns how many of the next `size` bytes belong to the message that `partial` begins. */
static size_t wanted(const struct h2_call *call, size_t size)
{
    size_t have = call->partial.size;
    size_t whole = MESSAGE_PREFIX_BYTES;
    if (have >= MESSAGE_PREFIX_BYTES) {
        whole += framed_size(call->partial.data);
    }
    return whole - have < size ? whole - have : size;
}

/* Takes bytes of an incomplete message. Returns their number; 0: the call was ended. */
static size_t gather(struct h2_call *call, const uint8_t *data, size_t size)
{
    size_t count = wanted(call, size);
    start_waiting(call);
    if (!hold(call, count, true)) {
        return 0;
    }
    buf_append(&call->partial, data, count);
    if (buf_failed(&call->partial)) {
        h2_call_end_for_memory(call);
        return 0;
    }
    if (call->partial.size < MESSAGE_PREFIX_BYTES) {
        return count;
    }
    if (call->partial.size == MESSAGE_PREFIX_BYTES && !check_prefix(call, call->partial.data)) {
        buf_reset(&call->partial);
        return count;
    }
    size_t message_size = framed_size(call->partial.data);
    if (call->partial.size == MESSAGE_PREFIX_BYTES + message_size) {
        struct buf whole = call->partial;
        memset(&call->partial, 0, sizeof(call->partial));
        buf_init(&call->partial, whole.max_bytes);
        give_framed(call, whole.data, message_size);
        buf_finish(&whole);
    }
    return count;
}

/* Takes a message that is complete in `data`, in place. Returns its bytes; 0: it is incomplete, or
 * the call was ended. */
static size_t take_whole(struct h2_call *call, const uint8_t *data, size_t size)
{
    if (call->partial.size > 0 || size < MESSAGE_PREFIX_BYTES) {
        return 0;
    }
    if (!check_prefix(call, data)) {
        start_waiting(call); /* for the rest, if it is discarded */
        return MESSAGE_PREFIX_BYTES;
    }
    size_t message_size = framed_size(data);
    if (size - MESSAGE_PREFIX_BYTES < message_size) {
        return 0;
    }
    if (message_size > SMALL_MESSAGE_BYTES && !hold(call, message_size, false)) {
        return 0;
    }
    give_framed(call, data, message_size);
    return MESSAGE_PREFIX_BYTES + message_size;
}

/* Returns how many bytes were handled: it stops when no receive is outstanding. */
static size_t parse(struct h2_call *call, const uint8_t *data, size_t size)
{
    size_t at = 0;
    while (at < size) {
        if (is_over(call)) {
            return size; /* dropped */
        }
        if (!call->is_receiving) {
            return at;
        }
        if (call->too_large > 0) {
            at += discard(call, size - at);
            continue;
        }
        size_t taken = take_whole(call, data + at, size - at);
        if (taken == 0 && !is_over(call)) {
            taken = gather(call, data + at, size - at);
        }
        at += taken;
    }
    return at;
}

void h2_call_feed(struct h2_call *call, const uint8_t *data, size_t size)
{
    size_t taken = 0;
    if (call->backlog.size == 0) {
        call->is_feeding = true;
        taken = parse(call, data, size);
        call->is_feeding = false;
        consume(call, taken);
    }
    if (taken < size && hold(call, size - taken, true)) {
        /* The stream's window bounds this, since the bytes are not consumed. */
        buf_append(&call->backlog, data + taken, size - taken);
        if (buf_failed(&call->backlog)) {
            h2_call_end_for_memory(call);
        }
    }
    advance(call);
}

/* Handles what waited for a receive. */
static void advance(struct h2_call *call)
{
    if (call->is_feeding) {
        return;
    }
    call->is_feeding = true;
    if (call->backlog.size > 0 && (call->is_receiving || is_over(call))) {
        struct buf backlog = call->backlog;
        memset(&call->backlog, 0, sizeof(call->backlog));
        size_t taken = parse(call, backlog.data, backlog.size);
        consume(call, taken);
        buf_append(&call->backlog, backlog.data + taken, backlog.size - taken);
        buf_finish(&backlog);
    }
    call->is_feeding = false;
    if (!call->is_half_closed || !call->is_receiving || call->backlog.size > 0 || is_over(call)) {
        return;
    }
    if (call->too_large > 0) {
        refuse_too_large(call, call->too_large);
        return;
    }
    if (call->partial.size > 0) {
        h2_call_end(call, H2_INTERNAL, "half-closed in the middle of a message");
        return;
    }
    call->is_receiving = false;
    h2_call_stop_waiting(call);
    call->events.on_half_close(call, call->events.context);
}

void h2_call_half_close(struct h2_call *call)
{
    call->is_half_closed = true;
    advance(call);
}

void h2_call_linger(struct h2_call *call)
{
    h2_call_stop_waiting(call);
    call->linger_ns = call->server->now_ns;
    list_push_back(&call->server->lingering, &call->linger_link);
}

/* RFC 9113 8.1: the answer is complete, and the rest of the request is not needed. */
void h2_call_reset(struct h2_call *call)
{
    list_remove(&call->linger_link);
    (void)nghttp2_submit_rst_stream(call->connection->session, NGHTTP2_FLAG_NONE, call->stream_id,
                                    NGHTTP2_NO_ERROR);
    h2_connection_mark(call->connection);
}

void h2_call_receive(struct h2_call *call)
{
    CHECK(h2_server_is_current(call->server));
    CHECK(call->is_accepted);
    CHECK(!call->is_receiving);
    if (call->connection == NULL || is_over(call)) {
        return;
    }
    if (call->is_submitted && call->partial.size == 0 && call->backlog.size == 0) {
        /* A stream of requests: the last one was handled. */
        h2_give(call->connection, call->held_bytes - CALL_BYTES);
        call->held_bytes = CALL_BYTES;
    }
    call->is_receiving = true;
    advance(call);
}

/* ---- properties ---- */

const char *h2_call_path(const struct h2_call *call)
{
    return call->path;
}

uint64_t h2_call_deadline_ns(const struct h2_call *call)
{
    return call->deadline_ns;
}

struct bytes h2_call_metadata(const struct h2_call *call, const char *key)
{
    size_t at = 0;
    while (at < call->metadata.size) {
        const char *name = (const char *)call->metadata.data + at;
        at += strlen(name) + 1;
        uint32_t size = load_u32(call->metadata.data + at);
        at += sizeof(size);
        if (strcmp(name, key) == 0) {
            return (struct bytes){call->metadata.data + at, size};
        }
        at += size;
    }
    return (struct bytes){NULL, 0};
}

uint32_t h2_call_neighbours(const struct h2_call *call)
{
    return call->connection != NULL ? call->connection->call_count : 0;
}

void h2_call_ask_turn(struct h2_call *call)
{
    CHECK(h2_server_is_current(call->server));
    if (call->connection == NULL || call->has_turn || is_over(call)) {
        return;
    }
    if (list_is_empty(&call->turn_link)) {
        list_push_back(&call->connection->turns, &call->turn_link);
        h2_connection_mark(call->connection);
    }
}
