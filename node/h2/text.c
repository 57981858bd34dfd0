/* Texts in gRPC's HTTP headers, and compressed messages. */
#include "h2/h2_internal.h"

#include "base/clock.h"
#include "base/errors.h"
#include "base/unconst.h"

#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <zlib.h>

#define INFLATE_STEP_BYTES 16384
/* zlib: the largest window; detects gzip and zlib format. */
#define WINDOW_BITS_ANY_FORMAT (15 + 32)
#define TIMEOUT_DIGITS_MAX 8 /* gRPC over HTTP/2, "Timeout" */

char *h2_percent_encode(const char *text)
{
    static const char digits[] = "0123456789ABCDEF";
    size_t size = strlen(text);
    char *out = malloc(3 * size + 1);
    if (out == NULL) {
        return NULL;
    }
    char *at = out;
    for (size_t i = 0; i < size; i++) {
        unsigned char c = (unsigned char)text[i];
        if (c >= 0x20 && c <= 0x7E && c != '%') {
            *at++ = (char)c;
        } else {
            *at++ = '%';
            *at++ = digits[c >> 4];
            *at++ = digits[c & 15];
        }
    }
    *at = '\0';
    return out;
}

void h2_base64(struct bytes data, struct buf *out)
{
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    const uint8_t *in = data.data;
    for (size_t i = 0; i < data.size; i += 3) {
        size_t left = data.size - i;
        uint32_t group = (uint32_t)in[i] << 16;
        group |= left > 1 ? (uint32_t)in[i + 1] << 8 : 0;
        group |= left > 2 ? (uint32_t)in[i + 2] : 0;
        size_t count = left > 2 ? 4 : left + 1; /* gRPC uses no padding */
        for (size_t k = 0; k < count; k++) {
            buf_append_byte(out, (uint8_t)digits[(group >> (18 - 6 * k)) & 63]);
        }
    }
}

bool h2_parse_timeout(struct bytes text, uint64_t *out_ns)
{
    const char *at = text.data;
    if (text.size < 2 || text.size > TIMEOUT_DIGITS_MAX + 1) {
        return false;
    }
    uint64_t value = 0;
    for (size_t i = 0; i + 1 < text.size; i++) {
        if (at[i] < '0' || at[i] > '9') {
            return false;
        }
        value = value * 10 + (uint64_t)(at[i] - '0');
    }
    switch (at[text.size - 1]) {
    case 'H':
        *out_ns = value * 3600 * NS_PER_S; /* at most 3.6e20: see below */
        *out_ns = value > UINT64_MAX / (3600 * NS_PER_S) ? UINT64_MAX : *out_ns;
        return true;
    case 'M':
        *out_ns = value * 60 * NS_PER_S;
        return true;
    case 'S':
        *out_ns = value * NS_PER_S;
        return true;
    case 'm':
        *out_ns = value * NS_PER_MS;
        return true;
    case 'u':
        *out_ns = value * 1000;
        return true;
    case 'n':
        *out_ns = value;
        return true;
    default:
        return false;
    }
}

bool h2_is_grpc_type(struct bytes type)
{
    static const char wanted[] = "application/grpc";
    const char *text = type.data;
    size_t size = sizeof(wanted) - 1;
    if (type.size < size || strncasecmp(text, wanted, size) != 0) {
        return false;
    }
    return type.size == size || text[size] == '+' || text[size] == ';';
}

enum h2_encoding h2_parse_encoding(struct bytes name)
{
    if (bytes_equal(name, bytes_of_text("identity"))) {
        return H2_PLAIN;
    }
    if (bytes_equal(name, bytes_of_text("gzip")) || bytes_equal(name, bytes_of_text("deflate"))) {
        return H2_DEFLATED;
    }
    return H2_ENCODING_UNKNOWN;
}

/* Errors: ERR_CORRUPT, ERR_FULL, ERR_NOMEM. */
static int inflate_all(z_stream *stream, struct buf *out)
{
    for (;;) {
        uint8_t step[INFLATE_STEP_BYTES];
        stream->next_out = step;
        stream->avail_out = sizeof(step);
        int result = inflate(stream, Z_NO_FLUSH);
        if (result != Z_OK && result != Z_STREAM_END) {
            return result == Z_MEM_ERROR ? ERR_NOMEM : ERR_CORRUPT;
        }
        buf_append(out, step, sizeof(step) - stream->avail_out);
        if (buf_failed(out)) {
            return ERR_FULL;
        }
        if (result == Z_STREAM_END) {
            return 0;
        }
    }
}

int h2_inflate(struct bytes packed, struct buf *out)
{
    z_stream stream;
    memset(&stream, 0, sizeof(stream));
    if (inflateInit2(&stream, WINDOW_BITS_ANY_FORMAT) != Z_OK) {
        return ERR_NOMEM;
    }
    stream.next_in = unconst(packed.data); /* zlib only reads it */
    stream.avail_in = (uInt)packed.size;
    int rc = inflate_all(&stream, out);
    inflateEnd(&stream);
    return rc;
}
