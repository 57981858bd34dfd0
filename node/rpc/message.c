/* Converts bytes, slices and metadata from and to gRPC. Decompresses messages within bounds. */
#include "rpc/rpc_internal.h"

#include "base/check.h"
#include "base/errors.h"

#include <grpc/byte_buffer_reader.h>
#include <string.h>
#include <zlib.h>

#define INFLATE_STEP_BYTES 16384
/* zlib: the largest window; detects gzip and zlib format. */
#define WINDOW_BITS_ANY_FORMAT (15 + 32)

/* Appends the decompressed `input`. Errors: as inflate_into(). */
static int inflate_slice(z_stream *stream, grpc_slice *input, struct buf *out, bool *is_ended)
{
    stream->next_in = GRPC_SLICE_START_PTR(*input);
    stream->avail_in = (uInt)GRPC_SLICE_LENGTH(*input);
    do {
        uint8_t step[INFLATE_STEP_BYTES];
        stream->next_out = step;
        stream->avail_out = sizeof(step);
        int result = inflate(stream, Z_NO_FLUSH);
        if (result == Z_BUF_ERROR) {
            return 0; /* needs more input */
        }
        if (result != Z_OK && result != Z_STREAM_END) {
            return result == Z_MEM_ERROR ? ERR_NOMEM : ERR_CORRUPT;
        }
        buf_append(out, step, sizeof(step) - stream->avail_out);
        if (buf_failed(out)) {
            return ERR_FULL;
        }
        *is_ended = result == Z_STREAM_END;
    } while (!*is_ended && (stream->avail_in > 0 || stream->avail_out == 0));
    return 0;
}

/* Decompresses a message. gRPC's own decompression has no bound, but a small message may expand to
 * a huge one. Errors: ERR_CORRUPT, ERR_FULL, ERR_NOMEM. */
static int inflate_into(grpc_byte_buffer_reader *reader, struct buf *out)
{
    z_stream stream;
    memset(&stream, 0, sizeof(stream));
    if (inflateInit2(&stream, WINDOW_BITS_ANY_FORMAT) != Z_OK) {
        return ERR_NOMEM;
    }
    int rc = 0;
    bool is_ended = false;
    grpc_slice *slice = NULL;
    while (rc == 0 && !is_ended && grpc_byte_buffer_reader_peek(reader, &slice)) {
        rc = inflate_slice(&stream, slice, out, &is_ended);
    }
    inflateEnd(&stream);
    if (rc == 0 && !is_ended) {
        return ERR_CORRUPT;
    }
    return rc;
}

/* Errors: ERR_NOMEM. */
static int join(struct rpc_message *message, grpc_byte_buffer_reader *reader, size_t size)
{
    uint8_t *at = NULL;
    grpc_slice *slice = NULL;
    while (grpc_byte_buffer_reader_peek(reader, &slice)) {
        if (GRPC_SLICE_LENGTH(*slice) == size) {
            message->bytes = rpc_bytes_of_slice(slice);
            return 0;
        }
        if (at == NULL) {
            at = buf_extend(&message->joined, size);
        }
        if (at == NULL) {
            return ERR_NOMEM;
        }
        memcpy(at, GRPC_SLICE_START_PTR(*slice), GRPC_SLICE_LENGTH(*slice));
        at += GRPC_SLICE_LENGTH(*slice);
    }
    message->bytes = buf_bytes(&message->joined);
    return 0;
}

int rpc_message_init(struct rpc_message *message, grpc_byte_buffer *buffer, size_t bytes_max)
{
    memset(message, 0, sizeof(*message));
    if (buffer == NULL) {
        return 0;
    }
    size_t size = grpc_byte_buffer_length(buffer);
    if (size > bytes_max) {
        return ERR_FULL;
    }
    message->bytes.data = "";
    if (size == 0) {
        return 0;
    }
    buf_init(&message->joined, bytes_max);
    grpc_byte_buffer_reader reader;
    int is_readable = grpc_byte_buffer_reader_init(&reader, buffer);
    CHECK(is_readable);
    int rc = 0;
    if (buffer->data.raw.compression == GRPC_COMPRESS_NONE) {
        rc = join(message, &reader, size);
    } else {
        rc = inflate_into(&reader, &message->joined);
        message->bytes = buf_bytes(&message->joined);
    }
    grpc_byte_buffer_reader_destroy(&reader);
    if (rc != 0) {
        rpc_message_finish(message);
    } else if (message->bytes.data == NULL) {
        message->bytes.data = "";
    }
    return rc;
}

void rpc_message_finish(struct rpc_message *message)
{
    buf_finish(&message->joined);
    memset(message, 0, sizeof(*message));
}

struct rpc_status rpc_message_status(int error)
{
    switch (error) {
    case ERR_FULL:
        return (struct rpc_status){.code = GRPC_STATUS_RESOURCE_EXHAUSTED,
                                   .message = "message is too large"};
    case ERR_NOMEM:
        return (struct rpc_status){.code = GRPC_STATUS_RESOURCE_EXHAUSTED,
                                   .message = "out of memory for the message"};
    default:
        return (struct rpc_status){.code = GRPC_STATUS_INTERNAL,
                                   .message = "message cannot be decompressed"};
    }
}

grpc_byte_buffer *rpc_buffer_of_bytes(struct bytes bytes)
{
    grpc_slice slice = rpc_slice_of_bytes(bytes);
    grpc_byte_buffer *buffer = grpc_raw_byte_buffer_create(&slice, 1);
    grpc_slice_unref(slice);
    return buffer;
}

grpc_slice rpc_slice_of_bytes(struct bytes bytes)
{
    if (bytes.size == 0) {
        return grpc_empty_slice();
    }
    return grpc_slice_from_copied_buffer(bytes.data, bytes.size);
}

struct bytes rpc_bytes_of_slice(const grpc_slice *slice)
{
    return (struct bytes){GRPC_SLICE_START_PTR(*slice), GRPC_SLICE_LENGTH(*slice)};
}

struct bytes rpc_metadata_find(const grpc_metadata_array *array, const char *key)
{
    for (size_t i = 0; i < array->count; i++) {
        if (grpc_slice_str_cmp(array->metadata[i].key, key) == 0) {
            return rpc_bytes_of_slice(&array->metadata[i].value);
        }
    }
    return (struct bytes){NULL, 0};
}

static bool is_binary_key(const char *key)
{
    size_t length = strlen(key);
    return length >= 4 && memcmp(key + length - 4, "-bin", 4) == 0;
}

bool rpc_metadata_copy(const struct rpc_metadata *from, grpc_metadata *to)
{
    memset(to, 0, sizeof(*to));
    grpc_slice key = grpc_slice_from_copied_string(from->key);
    grpc_slice value = rpc_slice_of_bytes(from->value);
    if (!grpc_header_key_is_legal(key) ||
        (!is_binary_key(from->key) && !grpc_header_nonbin_value_is_legal(value))) {
        grpc_slice_unref(key);
        grpc_slice_unref(value);
        return false;
    }
    to->key = key;
    to->value = value;
    return true;
}

void rpc_metadata_unref(grpc_metadata *metadata, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        grpc_slice_unref(metadata[i].key);
        grpc_slice_unref(metadata[i].value);
    }
}
