/* Reads a run of bytes from front to back: the counterpart of buf.h.
 *
 * A read beyond the end marks the reader failed and returns nothing; later reads fail too. So a
 * decoder may read many times and ask `failed` once. What is returned is a view. */
#ifndef RAFTOGRAM_BASE_BYTES_READER_H
#define RAFTOGRAM_BASE_BYTES_READER_H

#include "base/buf.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define VARINT_BYTES_MAX 10 /* of 64 bits */

struct bytes_reader {
    const uint8_t *at;
    const uint8_t *end;
    bool failed;
};

static inline struct bytes_reader bytes_reader_of(struct bytes bytes)
{
    const uint8_t *data = bytes.data;
    return (struct bytes_reader){.at = data, .end = bytes.size > 0 ? data + bytes.size : data};
}

/* Returns how many bytes are left. */
static inline size_t bytes_reader_left(const struct bytes_reader *reader)
{
    return (size_t)(reader->end - reader->at);
}

/* Takes the next `size` bytes. Returns NULL on failure. */
const uint8_t *bytes_reader_take(struct bytes_reader *reader, uint64_t size);
/* Takes a protobuf varint. Bits beyond 64 are dropped, as protobuf does. Returns false on failure:
 * it has no last byte, or more than VARINT_BYTES_MAX. */
bool bytes_reader_take_varint(struct bytes_reader *reader, uint64_t *out);

#endif
