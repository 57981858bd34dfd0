#include "rpc/rpc_internal.h"

#include "base/check.h"

#include <grpc/byte_buffer_reader.h>
#include <string.h>

void rpc_message_init(struct rpc_message *message, grpc_byte_buffer *buffer)
{
    memset(message, 0, sizeof(*message));
    if (buffer == NULL) {
        return;
    }
    message->bytes.data = "";
    size_t size = grpc_byte_buffer_length(buffer);
    if (size == 0) {
        return;
    }
    grpc_byte_buffer_reader reader;
    int is_readable = grpc_byte_buffer_reader_init(&reader, buffer);
    CHECK(is_readable);
    grpc_slice *first = NULL;
    if (grpc_byte_buffer_reader_peek(&reader, &first) && GRPC_SLICE_LENGTH(*first) == size) {
        message->bytes = rpc_bytes_of_slice(first);
    } else {
        grpc_byte_buffer_reader_destroy(&reader);
        is_readable = grpc_byte_buffer_reader_init(&reader, buffer);
        CHECK(is_readable);
        message->joined = grpc_byte_buffer_reader_readall(&reader);
        message->is_joined = true;
        message->bytes = rpc_bytes_of_slice(&message->joined);
    }
    grpc_byte_buffer_reader_destroy(&reader);
}

void rpc_message_finish(struct rpc_message *message)
{
    if (message->is_joined) {
        grpc_slice_unref(message->joined);
    }
    memset(message, 0, sizeof(*message));
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
