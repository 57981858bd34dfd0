/* The outgoing half of a call, and its references. Any thread sets what to send, under the call's
 * lock. The server's thread passes it to nghttp2. */
#include "h2/h2_internal.h"

#include "base/check.h"
#include "base/errors.h"
#include "base/references.h"
#include "base/unconst.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define HEADERS_MAX (5 + H2_TRAILERS_MAX)
/* Header of an established stream. rpc.h recognises it, since gRPC's client reports empty headers
 * for a refused stream too. */
#define STREAM_MARK "raftogram-stream"
/* CALL_BYTES covers smaller messages. */
#define SMALL_ANSWER_BYTES 2048u

/* ---- what to send ---- */

void h2_call_wake(struct h2_call *call)
{
    if (!call->is_queued) {
        call->is_queued = true;
        h2_call_ref(call);
        h2_server_post(call->server, &call->pump);
    }
}

static void free_copy(void *owner)
{
    free(owner);
}

void h2_outgoing_finish(struct h2_connection *connection, struct h2_outgoing *outgoing)
{
    if (!outgoing->is_set) {
        return;
    }
    h2_give(connection, outgoing->held_bytes);
    if (outgoing->release != NULL) {
        outgoing->release(outgoing->owner);
    }
    memset(outgoing, 0, sizeof(*outgoing));
}

/* Requires the lock and an open call. Takes ownership of `owner`, also on error. Errors:
 * ERR_FULL. */
static int set_outgoing(struct h2_call *call, struct bytes message, void (*release)(void *owner),
                        void *owner)
{
    struct h2_outgoing *outgoing = &call->outgoing;
    CHECK(!outgoing->is_set);
    uint64_t held_bytes = message.size > SMALL_ANSWER_BYTES ? message.size : 0;
    if (held_bytes > 0 && !h2_take(call->connection, held_bytes, held_bytes > LARGE_BYTES)) {
        release(owner);
        return ERR_FULL;
    }
    *outgoing = (struct h2_outgoing){
        .prefix = {0, (uint8_t)(message.size >> 24), (uint8_t)(message.size >> 16),
                   (uint8_t)(message.size >> 8), (uint8_t)message.size},
        .bytes = message,
        .release = release,
        .owner = owner,
        .held_bytes = held_bytes,
        .is_set = true,
    };
    return 0;
}

static void set_trailer(struct h2_answer *answer, const struct h2_metadata *from)
{
    size_t length = strlen(from->key);
    struct buf *value = &answer->trailers[answer->trailer_count];
    if (length >= 4 && memcmp(from->key + length - 4, "-bin", 4) == 0) {
        h2_base64(from->value, value);
    } else {
        buf_append(value, from->value.data, from->value.size);
    }
    char *key = strdup(from->key);
    if (key == NULL || buf_failed(value)) {
        free(key); /* the status is sent without this detail */
        buf_finish(value);
        return;
    }
    answer->trailer_keys[answer->trailer_count++] = key;
}

static void set_answer(struct h2_answer *answer, const struct h2_status *status)
{
    CHECK(status->trailer_count <= H2_TRAILERS_MAX);
    answer->code = status->code;
    answer->message = status->message != NULL ? h2_percent_encode(status->message) : NULL;
    for (size_t i = 0; i < status->trailer_count; i++) {
        set_trailer(answer, &status->trailers[i]);
    }
}

void h2_answer_finish(struct h2_answer *answer)
{
    free(answer->message);
    for (size_t i = 0; i < answer->trailer_count; i++) {
        free(answer->trailer_keys[i]);
        buf_finish(&answer->trailers[i]);
    }
}

static bool is_open(const struct h2_call *call)
{
    return !call->is_finishing && !call->is_closed;
}

static const struct h2_status *no_memory(const struct h2_call *call)
{
    static const struct h2_status plain = {.code = H2_RESOURCE_EXHAUSTED,
                                           .message = "out of memory"};
    const struct h2_status *own = call->server->options.no_memory;
    return own != NULL ? own : &plain;
}

/* Requires the lock and an open call. */
static void finish(struct h2_call *call, const struct h2_status *status)
{
    call->is_finishing = true;
    set_answer(&call->answer, status);
    h2_call_wake(call);
}

int h2_call_send_shared(struct h2_call *call, struct bytes message, void (*release)(void *owner),
                        void *owner)
{
    pthread_mutex_lock(&call->lock);
    if (!is_open(call)) {
        pthread_mutex_unlock(&call->lock);
        release(owner);
        return ERR_CLOSED;
    }
    int rc = set_outgoing(call, message, release, owner);
    if (rc != 0) {
        finish(call, no_memory(call));
    } else {
        h2_call_wake(call);
    }
    pthread_mutex_unlock(&call->lock);
    return rc;
}

int h2_call_send(struct h2_call *call, struct bytes message)
{
    void *copy = malloc(message.size + 1);
    if (copy == NULL) {
        return ERR_NOMEM;
    }
    if (message.size > 0) {
        memcpy(copy, message.data, message.size);
    }
    return h2_call_send_shared(call, (struct bytes){copy, message.size}, free_copy, copy);
}

void h2_call_finish(struct h2_call *call, const struct bytes *message,
                    const struct h2_status *status)
{
    void *copy = NULL;
    if (message != NULL) {
        copy = malloc(message->size + 1);
        if (copy != NULL && message->size > 0) {
            memcpy(copy, message->data, message->size);
        }
        status = copy == NULL ? no_memory(call) : status;
    }
    pthread_mutex_lock(&call->lock);
    if (is_open(call)) {
        if (copy != NULL &&
            set_outgoing(call, (struct bytes){copy, message->size}, free_copy, copy) != 0) {
            status = no_memory(call);
        }
        copy = NULL;
        finish(call, status);
    }
    pthread_mutex_unlock(&call->lock);
    free(copy);
}

void h2_call_end(struct h2_call *call, int code, const char *message)
{
    const struct h2_status status = {.code = code, .message = message};
    h2_call_finish(call, NULL, &status);
}

void h2_call_end_for_memory(struct h2_call *call)
{
    h2_call_finish(call, NULL, no_memory(call));
}

void h2_call_send_headers(struct h2_call *call)
{
    pthread_mutex_lock(&call->lock);
    if (is_open(call)) {
        call->is_headers_wanted = true;
        h2_call_wake(call);
    }
    pthread_mutex_unlock(&call->lock);
}

void h2_call_end_turn(struct h2_call *call)
{
    pthread_mutex_lock(&call->lock);
    if (!call->is_closed) {
        call->is_turn_over = true;
        h2_call_wake(call);
    }
    pthread_mutex_unlock(&call->lock);
}

/* ---- headers ---- */

struct headers {
    nghttp2_nv list[HEADERS_MAX];
    size_t count;
    char code[12];
};

/* nghttp2 copies the header. */
static void add(struct headers *headers, const char *name, struct bytes value)
{
    headers->list[headers->count++] = (nghttp2_nv){
        .name = unconst(name),
        .value = unconst(value.data),
        .namelen = strlen(name),
        .valuelen = value.size,
        .flags = NGHTTP2_NV_FLAG_NONE,
    };
}

static void add_text(struct headers *headers, const char *name, const char *value)
{
    add(headers, name, bytes_of_text(value));
}

static void add_answer(struct headers *headers, const struct h2_answer *answer)
{
    snprintf(headers->code, sizeof(headers->code), "%d", answer->code);
    add_text(headers, "grpc-status", headers->code);
    if (answer->message != NULL) {
        add_text(headers, "grpc-message", answer->message);
    }
    for (size_t i = 0; i < answer->trailer_count; i++) {
        add(headers, answer->trailer_keys[i], buf_bytes(&answer->trailers[i]));
    }
}

static void add_first(struct headers *headers, const char *http_status)
{
    add_text(headers, ":status", http_status);
    add_text(headers, "content-type", "application/grpc");
}

/* ---- sending ---- */

static void note_sent(struct h2_call *call)
{
    struct h2_connection *connection = call->connection;
    connection->unsent_bytes -= call->unsent_bytes;
    call->unsent_bytes = 0;
    if (!call->is_finishing && list_is_empty(&call->sent_link)) {
        list_push_back(&connection->sent, &call->sent_link);
    }
}

/* Copies what fits. Returns true at the end of the message. Requires the lock. */
static bool copy_outgoing(struct h2_outgoing *outgoing, uint8_t *out, size_t room, size_t *used)
{
    if (outgoing->sent < MESSAGE_PREFIX_BYTES) {
        size_t count = MESSAGE_PREFIX_BYTES - outgoing->sent;
        count = count < room ? count : room;
        memcpy(out, outgoing->prefix + outgoing->sent, count);
        outgoing->sent += count;
        *used = count;
    }
    if (outgoing->sent >= MESSAGE_PREFIX_BYTES) {
        size_t at = outgoing->sent - MESSAGE_PREFIX_BYTES;
        size_t count = outgoing->bytes.size - at;
        count = count < room - *used ? count : room - *used;
        if (count > 0) {
            memcpy(out + *used, (const uint8_t *)outgoing->bytes.data + at, count);
        }
        outgoing->sent += count;
        *used += count;
    }
    return outgoing->sent == MESSAGE_PREFIX_BYTES + outgoing->bytes.size;
}

static int submit_trailers(struct h2_call *call)
{
    struct headers headers = {.count = 0};
    add_answer(&headers, &call->answer);
    call->is_answered = true;
    return nghttp2_submit_trailer(call->connection->session, call->stream_id, headers.list,
                                  headers.count);
}

static ssize_t read_message(nghttp2_session *session, int32_t stream_id, uint8_t *out, size_t room,
                            uint32_t *flags, nghttp2_data_source *source, void *context)
{
    struct h2_call *call = source->ptr;
    struct h2_outgoing done = {0};
    size_t used = 0;
    ssize_t result = NGHTTP2_ERR_DEFERRED;
    pthread_mutex_lock(&call->lock);
    if (call->outgoing.is_set) {
        if (copy_outgoing(&call->outgoing, out, room, &used)) {
            done = call->outgoing;
            memset(&call->outgoing, 0, sizeof(call->outgoing));
            note_sent(call);
        }
        result = (ssize_t)used;
    }
    if (!call->outgoing.is_set && call->is_finishing) {
        *flags |= NGHTTP2_DATA_FLAG_EOF | NGHTTP2_DATA_FLAG_NO_END_STREAM;
        result = (ssize_t)used;
        if (submit_trailers(call) != 0) { /* out of memory */
            (void)nghttp2_submit_rst_stream(session, NGHTTP2_FLAG_NONE, stream_id,
                                            NGHTTP2_ENHANCE_YOUR_CALM);
        }
    }
    pthread_mutex_unlock(&call->lock);
    h2_outgoing_finish(call->connection, &done);
    return result;
}

/* Requires the lock. */
static void submit(struct h2_call *call)
{
    nghttp2_session *session = call->connection->session;
    struct headers headers = {.count = 0};
    const nghttp2_data_provider provider = {.source.ptr = call, .read_callback = read_message};
    bool is_status_alone = call->is_finishing && !call->outgoing.is_set && !call->is_headers_wanted;
    add_first(&headers, "200");
    if (is_status_alone) {
        add_answer(&headers, &call->answer);
        call->is_answered = true;
    }
    if (call->is_headers_wanted) {
        add_text(&headers, STREAM_MARK, "open");
    }
    call->is_submitted = true;
    if (nghttp2_submit_response(session, call->stream_id, headers.list, headers.count,
                                is_status_alone ? NULL : &provider) != 0) {
        (void)nghttp2_submit_rst_stream(session, NGHTTP2_FLAG_NONE, call->stream_id,
                                        NGHTTP2_ENHANCE_YOUR_CALM); /* out of memory */
    }
}

/* Requires the lock. */
static void settle_turn(struct h2_call *call)
{
    struct h2_connection *connection = call->connection;
    if (call->outgoing.is_set && call->unsent_bytes == 0) {
        call->unsent_bytes = call->outgoing.bytes.size;
        connection->unsent_bytes += call->unsent_bytes;
        call->is_turn_over = true;
    }
    if (call->is_turn_over && call->has_turn) {
        call->has_turn = false;
        connection->turns_taken--;
    }
    call->is_turn_over = false;
}

void h2_call_pump(struct h2_post *post)
{
    struct h2_call *call = CONTAINER_OF(post, struct h2_call, pump);
    pthread_mutex_lock(&call->lock);
    call->is_queued = false;
    if (!call->is_closed && !call->is_answered) {
        settle_turn(call);
        bool has_news = call->outgoing.is_set || call->is_finishing || call->is_headers_wanted;
        if (has_news && !call->is_submitted) {
            submit(call);
        } else if (has_news) {
            /* An error means that it was not deferred. */
            (void)nghttp2_session_resume_data(call->connection->session, call->stream_id);
        }
        h2_connection_mark(call->connection);
    }
    pthread_mutex_unlock(&call->lock);
    h2_call_unref(call);
}

void h2_call_refuse(struct h2_call *call, const char *http_status, const char *message)
{
    struct headers headers = {.count = 0};
    pthread_mutex_lock(&call->lock);
    call->is_finishing = true;
    call->is_submitted = true;
    call->is_answered = true;
    add_first(&headers, http_status);
    add_text(&headers, "grpc-status", "13");
    add_text(&headers, "grpc-message", message);
    (void)nghttp2_submit_response(call->connection->session, call->stream_id, headers.list,
                                  headers.count, NULL);
    pthread_mutex_unlock(&call->lock);
}

/* ---- references ---- */

void h2_call_ref(struct h2_call *call)
{
    atomic_fetch_add_explicit(&call->references, 1, memory_order_relaxed);
}

void h2_call_unref(struct h2_call *call)
{
    if (!references_drop(&call->references)) {
        return;
    }
    free(call->path);
    buf_finish(&call->metadata);
    h2_answer_finish(&call->answer);
    pthread_mutex_destroy(&call->lock);
    free(call);
}
