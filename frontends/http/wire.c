/* Hardened builds have an inline recv() of their own in the header. */
#undef _FORTIFY_SOURCE
#include "wire.h"

#include "http_internal.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>

#define DRAIN_BYTES 16384
#define FRAMES_BYTES 8192

/* Set on service threads only. */
static _Thread_local struct http_frontend *served;

void wire_init(struct wire *wire, int fd)
{
    *wire = (struct wire){.fd = fd};
    buf_init(&wire->pending, HTTP_HEAD_BYTES_MAX);
}

void wire_finish(struct wire *wire)
{
    buf_finish(&wire->pending);
}

void wire_enter(struct http_frontend *frontend)
{
    served = frontend;
}

static ssize_t receive(int fd, void *data, size_t size, int flags)
{
    return recvfrom(fd, data, size, flags, NULL, NULL);
}

static ssize_t nothing_yet(void)
{
    errno = EAGAIN;
    return -1;
}

/* ---- heads ---- */

/* Hands over a request that stands for the refused one; what is answered to it, the session knows.
 */
static ssize_t pass_refused(struct wire *wire, void *out)
{
    static const char request[] = "GET / HTTP/1.1\r\nconnection:close\r\n\r\n";
    wire->mode = WIRE_DRAIN;
    buf_finish(&wire->pending);
    memcpy(out, request, sizeof(request) - 1);
    return sizeof(request) - 1;
}

static ssize_t pass_pending(struct wire *wire, void *out)
{
    size_t size = wire->pending.size;
    memcpy(out, wire->pending.data, size);
    buf_finish(&wire->pending);
    wire->mode = WIRE_RAW;
    return (ssize_t)size;
}

static ssize_t pass_head(struct wire *wire, void *out, size_t room)
{
    struct buf passed = {0};
    http_head_read(buf_bytes(&wire->pending), &wire->head, &passed);
    if (wire->head.status == 0 && buf_failed(&passed)) {
        wire->head.status = 503;
        wire->head.message = "out of memory: try again later";
    } else if (passed.size > room) {
        http_head_refuse_large(buf_bytes(&wire->pending), &wire->head);
    }
    if (wire->head.status != 0) {
        buf_finish(&passed);
        return pass_refused(wire, out);
    }
    size_t size = passed.size;
    memcpy(out, passed.data, size);
    buf_finish(&passed);
    buf_finish(&wire->pending);
    wire->body_left = wire->head.body_size;
    wire->mode = wire->head.is_chunked ? WIRE_RAW : wire->body_left > 0 ? WIRE_BODY : WIRE_HEAD;
    return (ssize_t)size;
}

/* Empty lines before a request are ignored: RFC 9112, 2.2. */
static void drop_empty_lines(struct buf *text)
{
    size_t count = 0;
    while (count < text->size && (text->data[count] == '\r' || text->data[count] == '\n')) {
        count++;
    }
    memmove(text->data, text->data + count, text->size - count);
    text->size -= count;
}

/* Takes no more from the socket than belongs to the head: what follows can be a body, frames or the
 * next request, and which of them is known only when libwebsockets has seen this one. */
static ssize_t read_head(struct wire *wire, void *out, size_t room)
{
    uint8_t block[HTTP_HEAD_BYTES_MAX];
    size_t held = wire->pending.size;
    size_t wanted = sizeof(block) < room ? sizeof(block) : room;
    if (wanted <= held) {
        errno = EMSGSIZE; /* never, as long as libwebsockets does not ask for less than before */
        return -1;
    }
    ssize_t count = receive(wire->fd, block, wanted - held, MSG_PEEK);
    if (count <= 0) {
        return count;
    }
    buf_append(&wire->pending, block, (size_t)count);
    if (buf_failed(&wire->pending)) {
        errno = ENOMEM;
        return -1;
    }
    size_t end = http_head_end(buf_bytes(&wire->pending), held > 3 ? held - 3 : 0);
    if (held == 0 && wire->pending.data[0] <= '\r') {
        drop_empty_lines(&wire->pending);
        end = http_head_end(buf_bytes(&wire->pending), 0);
    }
    size_t extra = end > 0 ? wire->pending.size - end : 0;
    count = receive(wire->fd, block, (size_t)count - extra, 0);
    if (count <= 0) {
        return count;
    }
    if (wire->pending.size > 0 && !http_head_may_begin(buf_bytes(&wire->pending))) {
        wire->pending.size -= extra;
        return pass_pending(wire, out);
    }
    wire->pending.size -= extra;
    if (end > 0) {
        return pass_head(wire, out, room);
    }
    if (wire->pending.size >= wanted) {
        http_head_refuse_large(buf_bytes(&wire->pending), &wire->head);
        return pass_refused(wire, out);
    }
    return nothing_yet();
}

/* ---- what follows ---- */

static ssize_t read_body(struct wire *wire, void *out, size_t room)
{
    size_t wanted = wire->body_left < room ? (size_t)wire->body_left : room;
    ssize_t count = receive(wire->fd, out, wanted, 0);
    if (count > 0) {
        wire->body_left -= (uint64_t)count;
        if (wire->body_left == 0) {
            wire->mode = WIRE_HEAD;
        }
    }
    return count;
}

static ssize_t drain(struct wire *wire)
{
    uint8_t block[DRAIN_BYTES];
    ssize_t count = receive(wire->fd, block, sizeof(block), 0);
    return count > 0 ? nothing_yet() : count;
}

static ssize_t read_frames(struct wire *wire, void *out, size_t room)
{
    uint8_t block[FRAMES_BYTES];
    if (room <= WS_FRAMES_EXTRA) {
        errno = EMSGSIZE; /* never, as long as libwebsockets does not ask for less than before */
        return -1;
    }
    size_t wanted = room - WS_FRAMES_EXTRA;
    ssize_t count = receive(wire->fd, block, wanted < sizeof(block) ? wanted : sizeof(block), 0);
    if (count <= 0) {
        return count;
    }
    size_t left = ws_frames_follow(&wire->frames, block, (size_t)count, out);
    return left > 0 ? (ssize_t)left : nothing_yet();
}

/* ---- in place of the C library's ---- */

static ssize_t wire_receive(struct wire *wire, void *out, size_t room)
{
    switch (wire->mode) {
    case WIRE_HEAD:
        return read_head(wire, out, room);
    case WIRE_BODY:
        return read_body(wire, out, room);
    case WIRE_DRAIN:
        return drain(wire);
    case WIRE_FRAMES:
        return read_frames(wire, out, room);
    case WIRE_RAW:
        break;
    }
    return receive(wire->fd, out, room, 0);
}

ssize_t recv(int fd, void *data, size_t size, int flags)
{
    if (served != NULL && flags == 0) {
        struct wire *wire = frontend_wire(served, fd);
        if (wire != NULL) {
            return wire_receive(wire, data, size);
        }
    }
    return receive(fd, data, size, flags);
}
