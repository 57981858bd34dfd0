/* Turns what nghttp2 reads into calls: headers, bytes of messages, end. nghttp2 has checked all
 * that HTTP requires. */
#include "h2/h2_internal.h"

#include "base/clock.h"

#include <stdlib.h>
#include <string.h>

/* RFC 9113 6.5.2: what a header counts in addition to its bytes. */
#define HEADER_BYTES 32

static struct h2_call *call_of(nghttp2_session *session, int32_t stream_id)
{
    return nghttp2_session_get_stream_user_data(session, stream_id);
}

static struct h2_call *take_call(struct h2_connection *connection, int32_t stream_id)
{
    if (connection->call_count < FEW_CALLS) {
        h2_take_over(connection, CALL_BYTES);
    } else if (!h2_take(connection, CALL_BYTES, false)) {
        return NULL;
    }
    struct h2_call *call = h2_call_create(connection, stream_id);
    if (call == NULL) {
        h2_give(connection, CALL_BYTES);
    }
    return call;
}

static int on_begin_headers(nghttp2_session *session, const nghttp2_frame *frame, void *context)
{
    struct h2_connection *connection = context;
    if (frame->hd.type != NGHTTP2_HEADERS || frame->headers.cat != NGHTTP2_HCAT_REQUEST) {
        return 0;
    }
    struct h2_call *call = take_call(connection, frame->hd.stream_id);
    if (call == NULL) {
        /* gRPC clients report it as RESOURCE_EXHAUSTED. */
        (void)nghttp2_submit_rst_stream(session, NGHTTP2_FLAG_NONE, frame->hd.stream_id,
                                        NGHTTP2_ENHANCE_YOUR_CALM);
        return 0;
    }
    (void)nghttp2_session_set_stream_user_data(session, frame->hd.stream_id, call);
    return 0;
}

/* ---- headers ---- */

static bool is_name(const uint8_t *name, size_t size, const char *wanted)
{
    return strlen(wanted) == size && memcmp(name, wanted, size) == 0;
}

static bool begins_with(const uint8_t *name, size_t size, const char *wanted)
{
    size_t length = strlen(wanted);
    return size >= length && memcmp(name, wanted, length) == 0;
}

static void take_timeout(struct h2_call *call, struct bytes value)
{
    uint64_t timeout_ns;
    uint64_t now_ns = call->server->now_ns;
    if (!h2_parse_timeout(value, &timeout_ns)) {
        call->is_timeout_bad = true;
    } else if (timeout_ns < UINT64_MAX - now_ns) {
        call->deadline_ns = now_ns + timeout_ns;
    }
}

static void keep_metadata(struct h2_call *call, const uint8_t *name, size_t name_size,
                          struct bytes value)
{
    buf_append(&call->metadata, name, name_size);
    buf_append_byte(&call->metadata, 0);
    buf_append_u32(&call->metadata, (uint32_t)value.size);
    buf_append(&call->metadata, value.data, value.size);
}

static void take_header(struct h2_call *call, const uint8_t *name, size_t name_size,
                        struct bytes value)
{
    if (is_name(name, name_size, ":path")) {
        free(call->path);
        call->path = strndup(value.data, value.size);
    } else if (is_name(name, name_size, ":method")) {
        call->is_post = bytes_equal(value, bytes_of_text("POST"));
    } else if (is_name(name, name_size, "content-type")) {
        call->is_grpc = h2_is_grpc_type(value);
    } else if (is_name(name, name_size, "grpc-timeout")) {
        take_timeout(call, value);
    } else if (is_name(name, name_size, "grpc-encoding")) {
        call->encoding = h2_parse_encoding(value);
    } else if (name_size > 0 && name[0] != ':' && !begins_with(name, name_size, "grpc-") &&
               !is_name(name, name_size, "te") && !is_name(name, name_size, "user-agent")) {
        keep_metadata(call, name, name_size, value);
    }
}

static int on_header(nghttp2_session *session, const nghttp2_frame *frame, const uint8_t *name,
                     size_t name_size, const uint8_t *value, size_t value_size, uint8_t flags,
                     void *context)
{
    struct h2_call *call = call_of(session, frame->hd.stream_id);
    if (call == NULL || frame->headers.cat != NGHTTP2_HCAT_REQUEST) {
        return 0; /* trailers are ignored */
    }
    call->header_bytes += name_size + value_size + HEADER_BYTES;
    if (call->header_bytes <= call->server->options.metadata_bytes_max) {
        take_header(call, name, name_size, (struct bytes){value, value_size});
    }
    return 0;
}

/* ---- frames ---- */

static int on_frame(nghttp2_session *session, const nghttp2_frame *frame, void *context)
{
    if (frame->hd.type == NGHTTP2_PING) {
        h2_connection_on_ping(context, frame);
        return 0;
    }
    if (frame->hd.type != NGHTTP2_HEADERS && frame->hd.type != NGHTTP2_DATA) {
        return 0;
    }
    struct h2_call *call = call_of(session, frame->hd.stream_id);
    if (call == NULL) {
        return 0;
    }
    if (frame->hd.type == NGHTTP2_HEADERS && frame->headers.cat == NGHTTP2_HCAT_REQUEST) {
        h2_call_begin(call);
    }
    if ((frame->hd.flags & NGHTTP2_FLAG_END_STREAM) != 0) {
        h2_call_half_close(call);
    }
    return 0;
}

static int on_data(nghttp2_session *session, uint8_t flags, int32_t stream_id, const uint8_t *data,
                   size_t size, void *context)
{
    struct h2_call *call = call_of(session, stream_id);
    /* Consumed at once, so that one call does not block the others. */
    (void)nghttp2_session_consume_connection(session, size);
    if (call == NULL) {
        (void)nghttp2_session_consume_stream(session, stream_id, size);
        return 0;
    }
    h2_call_feed(call, data, size);
    return 0;
}

static int on_stream_close(nghttp2_session *session, int32_t stream_id, uint32_t error_code,
                           void *context)
{
    struct h2_call *call = call_of(session, stream_id);
    if (call != NULL) {
        h2_call_close(call);
    }
    return 0;
}

void h2_set_request_callbacks(nghttp2_session_callbacks *callbacks)
{
    nghttp2_session_callbacks_set_on_begin_headers_callback(callbacks, on_begin_headers);
    nghttp2_session_callbacks_set_on_header_callback(callbacks, on_header);
    nghttp2_session_callbacks_set_on_frame_recv_callback(callbacks, on_frame);
    nghttp2_session_callbacks_set_on_data_chunk_recv_callback(callbacks, on_data);
    nghttp2_session_callbacks_set_on_stream_close_callback(callbacks, on_stream_close);
}
