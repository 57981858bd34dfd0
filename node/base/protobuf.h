/* The fields of an encoded protobuf message, one after the other and without a schema. */
#ifndef RAFTOGRAM_BASE_PROTOBUF_H
#define RAFTOGRAM_BASE_PROTOBUF_H

#include "base/bytes_reader.h"

enum protobuf_wire_type {
    PROTOBUF_VARINT = 0,
    PROTOBUF_FIXED64 = 1,
    PROTOBUF_BYTES = 2, /* bytes, strings, messages and packed lists */
    PROTOBUF_FIXED32 = 5,
};

/* The tag of field `number`. */
#define PROTOBUF_TAG(number, type) ((number) << 3 | (type))

struct protobuf_field {
    uint64_t tag;       /* as it is on the wire: any number, also 0 */
    uint64_t value;     /* VARINT, FIXED64, FIXED32; else 0 */
    struct bytes bytes; /* BYTES: a view; else empty */
};

static inline uint64_t protobuf_number(const struct protobuf_field *field)
{
    return field->tag >> 3;
}

static inline enum protobuf_wire_type protobuf_type(const struct protobuf_field *field)
{
    return (enum protobuf_wire_type)(field->tag & 7);
}

/* Reads the next field. Returns 1 with a field, 0 at the end, ERR_INVALID for what is not protobuf
 * and for groups. */
int protobuf_read_field(struct bytes_reader *reader, struct protobuf_field *out);

#endif
