/* Fields of encoded protobuf messages. */
#include "base/protobuf.h"

#include "base/errors.h"

static bool read_payload(struct bytes_reader *reader, struct protobuf_field *out)
{
    const uint8_t *fixed;
    uint64_t size;
    switch (protobuf_type(out)) {
    case PROTOBUF_VARINT:
        return bytes_reader_take_varint(reader, &out->value);
    case PROTOBUF_FIXED64:
        fixed = bytes_reader_take(reader, sizeof(uint64_t));
        out->value = fixed != NULL ? load_u64(fixed) : 0;
        return fixed != NULL;
    case PROTOBUF_FIXED32:
        fixed = bytes_reader_take(reader, sizeof(uint32_t));
        out->value = fixed != NULL ? load_u32(fixed) : 0;
        return fixed != NULL;
    case PROTOBUF_BYTES:
        if (!bytes_reader_take_varint(reader, &size)) {
            return false;
        }
        out->bytes = (struct bytes){bytes_reader_take(reader, size), (size_t)size};
        return !reader->failed;
    default:
        return false;
    }
}

int protobuf_read_field(struct bytes_reader *reader, struct protobuf_field *out)
{
    if (bytes_reader_left(reader) == 0) {
        return 0;
    }
    struct protobuf_field field = {.bytes = {"", 0}};
    if (!bytes_reader_take_varint(reader, &field.tag) || !read_payload(reader, &field)) {
        return ERR_INVALID;
    }
    *out = field;
    return 1;
}
