/* A growable byte buffer. Zeroed memory is a valid empty buffer.
 *
 * An append that fails (out of memory, over `max_bytes`) leaves the contents unchanged and marks
 * the buffer as failed; later appends do nothing. So a writer may append many times and check
 * buf_failed() once. Appended data must not lie in the buffer itself. */
#ifndef RAFTOGRAM_BASE_BUF_H
#define RAFTOGRAM_BASE_BUF_H

#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* A view of bytes; it does not own them. */
struct bytes {
    const void *data;
    size_t size;
};

struct buf {
    uint8_t *data;
    size_t size;
    size_t capacity;
    size_t max_bytes; /* 0 means BUF_MAX_BYTES */
    bool failed;
};

#define BUF_MAX_BYTES ((size_t)1 << 30)

void buf_init(struct buf *buf, size_t max_bytes);
/* Frees the memory; the buffer is empty and usable afterwards. */
void buf_finish(struct buf *buf);
/* Empties without freeing, and forgets a failure. */
void buf_reset(struct buf *buf);
/* Removes everything after the first `size` bytes. */
void buf_cut(struct buf *buf, size_t size);
bool buf_failed(const struct buf *buf);

void buf_append(struct buf *buf, const void *data, size_t size);
void buf_append_text(struct buf *buf, const char *text);
void buf_append_byte(struct buf *buf, uint8_t byte);
/* Fixed-width integers, little-endian: the order of all our own formats but LMDB keys. */
void buf_append_u16(struct buf *buf, uint16_t value);
void buf_append_u32(struct buf *buf, uint32_t value);
void buf_append_u64(struct buf *buf, uint64_t value);
void buf_printf(struct buf *buf, const char *format, ...) __attribute__((format(printf, 2, 3)));
/* Adds `size` uninitialised bytes at the end and returns them; NULL on failure. Valid until the
 * next append. */
void *buf_extend(struct buf *buf, size_t size);
/* Returns the contents as text, with a NUL after them that is not counted in size; "" on
 * failure. */
const char *buf_text(struct buf *buf);
struct bytes buf_bytes(const struct buf *buf);

/* Readers for little-endian integers at any alignment. */
uint16_t load_u16(const void *data);
uint32_t load_u32(const void *data);
uint64_t load_u64(const void *data);
void store_u16(void *data, uint16_t value);
void store_u32(void *data, uint32_t value);
void store_u64(void *data, uint64_t value);
/* Big-endian: LMDB keys sort by it. */
uint64_t load_u64_be(const void *data);
void store_u64_be(void *data, uint64_t value);

bool bytes_equal(struct bytes a, struct bytes b);
struct bytes bytes_of_text(const char *text);
/* True if `bytes` is well-formed UTF-8 (RFC 3629: no surrogates, no over-long forms). */
bool bytes_is_utf8(struct bytes bytes);
/* How many bytes (1 to 4) the well-formed UTF-8 character at the beginning has; 0 if there is none.
 */
size_t bytes_utf8_character(struct bytes bytes);

#endif
