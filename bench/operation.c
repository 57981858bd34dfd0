/* The marker in a payload: writing it and reading its numbers. */
#include "bench/operation.h"

#include "base/check.h"

#include <string.h>

static void write_digits(char *out, size_t digits, uint64_t value)
{
    for (size_t i = digits; i-- > 0;) {
        out[i] = (char)('0' + value % 10);
        value /= 10;
    }
}

void payload_fill(char *out, size_t size, const struct operation *operation)
{
    CHECK(size >= MARKER_BYTES);
    size_t at = sizeof(MARKER) - 1;
    memcpy(out, MARKER, at);
    write_digits(out + at, MARKER_TIME_DIGITS, operation->intended_ns);
    at += MARKER_TIME_DIGITS;
    write_digits(out + at, MARKER_INDEX_DIGITS, operation->index);
    at += MARKER_INDEX_DIGITS;
    memset(out + at, 'x', size - at);
}

uint64_t payload_number(const char *text, size_t digits)
{
    uint64_t value = 0;
    for (size_t i = 0; i < digits; i++) {
        value = value * 10 + (uint64_t)(text[i] - '0');
    }
    return value;
}
