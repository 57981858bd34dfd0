/* Checks the frames of a WebSocket before libwebsockets parses them. */
#include "ws_frames.h"

#include <string.h>

#define MASKED 0x80
#define FINAL 0x80
#define RESERVED_BITS 0x70
#define OPCODE_CONTINUATION 0
#define OPCODE_BINARY 2
#define OPCODE_CLOSE 8
#define OPCODE_PING 9
#define OPCODE_PONG 10
#define LENGTH_16 126
#define LENGTH_64 127
#define MASK_BYTES 4

void ws_frames_finish(struct ws_frames *frames)
{
    buf_finish(&frames->pings);
}

static size_t length_end(uint8_t second)
{
    size_t length = second & 0x7f;
    return 2 + (length == LENGTH_64 ? 8 : length == LENGTH_16 ? 2 : 0);
}

static uint64_t payload_size(const struct ws_frames *frames)
{
    size_t end = length_end(frames->header[1]);
    uint64_t size = end == 2 ? frames->header[1] & 0x7f : 0;
    for (size_t i = 2; i < end; i++) {
        size = size << 8 | frames->header[i];
    }
    return size;
}

/* The second byte of the codes 1012 to 1014, 0x03f4 to 0x03f6, becomes that of 1000, 0x03e8; their
 * first is the same. */
static void replace_close_code(struct ws_frames *frames, uint8_t *byte)
{
    const uint8_t *mask = frames->header + frames->header_end - MASK_BYTES;
    uint8_t value = *byte ^ mask[frames->at];
    if (frames->at == 0) {
        frames->close_code = (uint16_t)(value << 8);
        return;
    }
    unsigned code = frames->close_code | value;
    frames->close_code = 0;
    if (code >= 1012 && code <= 1014) {
        frames->close_code = (uint16_t)code;
        *byte = 0xe8 ^ mask[1];
    }
}

static unsigned opcode_of(const struct ws_frames *frames)
{
    return frames->header[0] & 0x0f;
}

static bool is_close(const struct ws_frames *frames)
{
    return opcode_of(frames) == OPCODE_CLOSE;
}

/* RFC 6455, 5.1, 5.2, 5.4, 5.5: by its first two bytes. */
static bool is_faulty(const struct ws_frames *frames)
{
    unsigned opcode = frames->header[0] & 0x0f;
    bool is_control = opcode >= OPCODE_CLOSE;
    bool is_reserved = (opcode > OPCODE_BINARY && !is_control) || opcode > OPCODE_PONG;
    bool is_whole = (frames->header[0] & FINAL) != 0 && (frames->header[1] & 0x7f) < LENGTH_16;
    bool is_continuation = opcode == OPCODE_CONTINUATION;
    bool is_out_of_order = !is_control && is_continuation != frames->is_in_message;
    return is_out_of_order || (frames->header[1] & MASKED) == 0 ||
           (frames->header[0] & RESERVED_BITS) != 0 || is_reserved || (is_control && !is_whole);
}

static bool is_header_read(const struct ws_frames *frames)
{
    return frames->header_size >= 2 && frames->header_size == frames->header_end;
}

/* ---- pings ---- */

static void drop_oldest_ping(struct ws_frames *frames)
{
    size_t taken = 1 + (size_t)frames->pings.data[0];
    memmove(frames->pings.data, frames->pings.data + taken, frames->pings.size - taken);
    buf_cut(&frames->pings, frames->pings.size - taken);
    frames->ping_count--;
}

/* Without memory it is left unanswered. */
static void keep_ping(struct ws_frames *frames)
{
    struct buf *pings = &frames->pings;
    size_t before = pings->size;
    if (frames->ping_count == WS_PINGS_MAX) {
        drop_oldest_ping(frames);
        before = pings->size;
    }
    buf_append_byte(pings, (uint8_t)frames->size);
    buf_append(pings, frames->ping, (size_t)frames->size);
    if (buf_failed(pings)) {
        pings->failed = false;
        buf_cut(pings, before);
        return;
    }
    frames->ping_count++;
}

int ws_frames_take_ping(struct ws_frames *frames, uint8_t out[WS_CONTROL_BYTES_MAX])
{
    if (frames->ping_count == 0) {
        return -1;
    }
    int size = frames->pings.data[0];
    memcpy(out, frames->pings.data + 1, (size_t)size);
    drop_oldest_ping(frames);
    if (frames->ping_count == 0) {
        buf_finish(&frames->pings);
    }
    return size;
}

static void follow_ping(struct ws_frames *frames, const uint8_t *data, size_t size)
{
    if (opcode_of(frames) != OPCODE_PING || frames->is_broken) {
        return;
    }
    const uint8_t *mask = frames->header + frames->header_end - MASK_BYTES;
    for (size_t i = 0; i < size; i++) {
        uint64_t at = frames->at + i;
        frames->ping[at] = data[i] ^ mask[at % MASK_BYTES];
    }
}

static void end_if_read(struct ws_frames *frames)
{
    if (frames->at != frames->size) {
        return;
    }
    if (opcode_of(frames) == OPCODE_PING && !frames->is_broken) {
        keep_ping(frames);
    }
    frames->header_size = 0;
    frames->at = 0;
}

static void follow_close(struct ws_frames *frames, uint8_t *data, size_t size)
{
    if (!is_close(frames)) {
        return;
    }
    uint64_t before = frames->at;
    for (size_t i = 0; i < size && frames->at < 2; i++, frames->at++) {
        replace_close_code(frames, data + i);
    }
    frames->at = before;
}

/* Behind a fault only a close frame is, so that the client can end the connection in good order. */
static bool is_passed(const struct ws_frames *frames)
{
    if (frames->is_broken) {
        return is_close(frames) && !is_faulty(frames);
    }
    return opcode_of(frames) != OPCODE_PING && opcode_of(frames) != OPCODE_PONG;
}

static size_t put_fault(uint8_t *out)
{
    static const uint8_t head[] = {
        FINAL | OPCODE_PONG, MASKED | (sizeof(WS_FRAMES_FAULT) - 1), 0, 0, 0, 0};
    memcpy(out, head, sizeof(head));
    memcpy(out + sizeof(head), WS_FRAMES_FAULT, sizeof(WS_FRAMES_FAULT) - 1);
    return sizeof(head) + sizeof(WS_FRAMES_FAULT) - 1;
}

/* What is known of the length is faulty: over 2^63, or not in the fewest bytes (RFC 6455, 5.2). */
static bool is_length_faulty(const struct ws_frames *frames)
{
    size_t end = length_end(frames->header[1]);
    if (frames->header_size < end || end == 2) {
        return false;
    }
    uint64_t size = payload_size(frames);
    return size > INT64_MAX || size < (end == 4 ? 126u : 65536u);
}

/* The next byte of a header; returns how many go out: none before it is whole, and free of faults.
 */
static size_t follow_header(struct ws_frames *frames, uint8_t byte, uint8_t *out)
{
    frames->header[frames->header_size++] = byte;
    size_t size = frames->header_size;
    if (size < 2) {
        return 0;
    }
    bool is_fault = size == 2 ? is_faulty(frames) : is_length_faulty(frames);
    if (size == 2) {
        size_t mask_size = frames->header[1] & MASKED ? MASK_BYTES : 0;
        frames->header_end = length_end(frames->header[1]) + mask_size;
    }
    bool is_first_fault = is_fault && !frames->is_broken;
    frames->is_broken = frames->is_broken || is_fault;
    if (is_header_read(frames)) {
        frames->size = payload_size(frames);
        end_if_read(frames);
    }
    if (is_first_fault) {
        return put_fault(out);
    }
    if (size < frames->header_end || !is_passed(frames)) {
        return 0;
    }
    if ((frames->header[0] & 0x0f) <= OPCODE_BINARY) {
        frames->is_in_message = (frames->header[0] & FINAL) == 0;
    }
    memcpy(out, frames->header, size);
    return size;
}

size_t ws_frames_follow(struct ws_frames *frames, const uint8_t *data, size_t size, uint8_t *out)
{
    size_t kept = 0;
    for (size_t at = 0; at < size;) {
        if (!is_header_read(frames)) {
            kept += follow_header(frames, data[at++], out + kept);
            continue;
        }
        bool is_kept = is_passed(frames);
        uint64_t left = frames->size - frames->at;
        size_t taken = left < size - at ? (size_t)left : size - at;
        follow_ping(frames, data + at, taken);
        if (is_kept) {
            memcpy(out + kept, data + at, taken);
            follow_close(frames, out + kept, taken);
            kept += taken;
        }
        frames->at += taken;
        end_if_read(frames);
        at += taken;
    }
    return kept;
}
