/* Reads a run of bytes within its bounds. */
#include "base/bytes_reader.h"

const uint8_t *bytes_reader_take(struct bytes_reader *reader, uint64_t size)
{
    if (reader->failed || size > bytes_reader_left(reader)) {
        reader->failed = true;
        return NULL;
    }
    const uint8_t *bytes = reader->at;
    reader->at += size;
    return bytes;
}

bool bytes_reader_take_varint(struct bytes_reader *reader, uint64_t *out)
{
    uint64_t value = 0;
    for (unsigned i = 0; i < VARINT_BYTES_MAX && !reader->failed; i++) {
        if (reader->at == reader->end) {
            break;
        }
        uint8_t byte = *reader->at++;
        value |= (uint64_t)(byte & 0x7f) << (7 * i);
        if (byte < 0x80) {
            *out = value;
            return true;
        }
    }
    reader->failed = true;
    return false;
}
