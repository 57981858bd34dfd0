/* Growing buffers whose first failure sticks. */
#include "base/buf.h"

#include "base/check.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { BUF_CAPACITY_MIN = 64 };

void buf_init(struct buf *buf, size_t max_bytes)
{
    *buf = (struct buf){.max_bytes = max_bytes};
}

void buf_finish(struct buf *buf)
{
    if (buf == NULL) {
        return;
    }
    free(buf->data);
    buf_init(buf, buf->max_bytes);
}

void buf_reset(struct buf *buf)
{
    buf->size = 0;
    buf->failed = false;
}

void buf_cut(struct buf *buf, size_t size)
{
    buf->size = size < buf->size ? size : buf->size;
}

bool buf_failed(const struct buf *buf)
{
    return buf->failed;
}

/* Makes room for `size` bytes of contents and a NUL behind them, which max_bytes does not count. */
static bool reserve(struct buf *buf, size_t size)
{
    if (buf->failed) {
        return false;
    }
    size_t max = buf->max_bytes != 0 ? buf->max_bytes : BUF_MAX_BYTES;
    if (size > max - buf->size) {
        buf->failed = true;
        return false;
    }
    size_t needed = buf->size + size + 1;
    if (needed <= buf->capacity) {
        return true;
    }
    size_t capacity = buf->capacity != 0 ? buf->capacity : BUF_CAPACITY_MIN;
    while (capacity < needed) {
        capacity *= 2;
    }
    if (capacity > max + 1) {
        capacity = max + 1;
    }
    uint8_t *data = realloc(buf->data, capacity);
    if (data == NULL) {
        buf->failed = true;
        return false;
    }
    buf->data = data;
    buf->capacity = capacity;
    return true;
}

void *buf_extend(struct buf *buf, size_t size)
{
    if (!reserve(buf, size)) {
        return NULL;
    }
    void *room = buf->data + buf->size;
    buf->size += size;
    return room;
}

void buf_append(struct buf *buf, const void *data, size_t size)
{
    if (size == 0) {
        return;
    }
    void *room = buf_extend(buf, size);
    if (room != NULL) {
        memcpy(room, data, size);
    }
}

void buf_append_text(struct buf *buf, const char *text)
{
    buf_append(buf, text, strlen(text));
}

void buf_append_byte(struct buf *buf, uint8_t byte)
{
    buf_append(buf, &byte, sizeof(byte));
}

void buf_append_u16(struct buf *buf, uint16_t value)
{
    uint8_t bytes[sizeof(value)];
    store_u16(bytes, value);
    buf_append(buf, bytes, sizeof(bytes));
}

void buf_append_u32(struct buf *buf, uint32_t value)
{
    uint8_t bytes[sizeof(value)];
    store_u32(bytes, value);
    buf_append(buf, bytes, sizeof(bytes));
}

void buf_append_u64(struct buf *buf, uint64_t value)
{
    uint8_t bytes[sizeof(value)];
    store_u64(bytes, value);
    buf_append(buf, bytes, sizeof(bytes));
}

void buf_printf(struct buf *buf, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    va_list args_again;
    va_copy(args_again, args);
    int size = vsnprintf(NULL, 0, format, args);
    if (size < 0) {
        buf->failed = true;
    } else if (reserve(buf, (size_t)size)) {
        vsnprintf((char *)buf->data + buf->size, (size_t)size + 1, format, args_again);
        buf->size += (size_t)size;
    }
    va_end(args_again);
    va_end(args);
}

const char *buf_text(struct buf *buf)
{
    if (!reserve(buf, 0)) {
        return "";
    }
    buf->data[buf->size] = '\0';
    return (const char *)buf->data;
}

struct bytes buf_bytes(const struct buf *buf)
{
    return (struct bytes){.data = buf->data, .size = buf->size};
}

uint16_t load_u16(const void *data)
{
    const uint8_t *b = data;
    return (uint16_t)(b[0] | b[1] << 8);
}

uint32_t load_u32(const void *data)
{
    const uint8_t *b = data;
    return (uint32_t)b[0] | (uint32_t)b[1] << 8 | (uint32_t)b[2] << 16 | (uint32_t)b[3] << 24;
}

uint64_t load_u64(const void *data)
{
    const uint8_t *b = data;
    return (uint64_t)load_u32(b) | (uint64_t)load_u32(b + 4) << 32;
}

void store_u16(void *data, uint16_t value)
{
    uint8_t *b = data;
    b[0] = (uint8_t)value;
    b[1] = (uint8_t)(value >> 8);
}

void store_u32(void *data, uint32_t value)
{
    uint8_t *b = data;
    store_u16(b, (uint16_t)value);
    store_u16(b + 2, (uint16_t)(value >> 16));
}

void store_u64(void *data, uint64_t value)
{
    uint8_t *b = data;
    store_u32(b, (uint32_t)value);
    store_u32(b + 4, (uint32_t)(value >> 32));
}

uint64_t load_u64_be(const void *data)
{
    return __builtin_bswap64(load_u64(data));
}

void store_u64_be(void *data, uint64_t value)
{
    store_u64(data, __builtin_bswap64(value));
}

bool bytes_equal(struct bytes a, struct bytes b)
{
    return a.size == b.size && (a.size == 0 || memcmp(a.data, b.data, a.size) == 0);
}

struct bytes bytes_of_text(const char *text)
{
    return (struct bytes){.data = text, .size = strlen(text)};
}

static bool is_continuation(uint8_t byte)
{
    return (byte & 0xc0) == 0x80;
}

/* RFC 3629, section 4. The second byte's range is what excludes over-long forms (E0, F0),
 * surrogates (ED) and code points above U+10FFFF (F4). */
size_t bytes_utf8_character(struct bytes bytes)
{
    const uint8_t *b = bytes.data;
    if (bytes.size == 0) {
        return 0;
    }
    if (b[0] < 0x80) {
        return 1;
    }
    if (b[0] < 0xc2 || b[0] > 0xf4) {
        return 0;
    }
    size_t length = b[0] < 0xe0 ? 2 : b[0] < 0xf0 ? 3 : 4;
    if (bytes.size < length) {
        return 0;
    }
    uint8_t second_min = b[0] == 0xe0 ? 0xa0 : b[0] == 0xf0 ? 0x90 : 0x80;
    uint8_t second_max = b[0] == 0xed ? 0x9f : b[0] == 0xf4 ? 0x8f : 0xbf;
    if (b[1] < second_min || b[1] > second_max) {
        return 0;
    }
    for (size_t i = 2; i < length; i++) {
        if (!is_continuation(b[i])) {
            return 0;
        }
    }
    return length;
}

bool bytes_is_utf8(struct bytes bytes)
{
    const uint8_t *next = bytes.data;
    size_t left = bytes.size;
    while (left > 0) {
        size_t length = bytes_utf8_character((struct bytes){.data = next, .size = left});
        if (length == 0) {
            return false;
        }
        next += length;
        left -= length;
    }
    return true;
}
