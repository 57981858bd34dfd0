/* Values for the fields of requests. protobuf-c declares them mutable, although it only reads them.
 */
#ifndef RAFTOGRAM_CTL_FIELD_H
#define RAFTOGRAM_CTL_FIELD_H

#include "base/buf.h"
#include "base/unconst.h"

#include <protobuf-c/protobuf-c.h>
#include <stdint.h>

/* NULL becomes the empty text, proto3's default. */
static inline char *field_of_text(const char *text)
{
    return unconst(text == NULL ? "" : text);
}

static inline ProtobufCBinaryData field_of_bytes(struct bytes bytes)
{
    return (ProtobufCBinaryData){bytes.size, unconst(bytes.data)};
}

#endif
