/* The recv() and poll() of the program, and the table of the sockets that they filter. */

/* Hardened builds have an inline recv() of their own in the header. */
#undef _FORTIFY_SOURCE
#include "wire.h"

#include "base/check.h"

#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>

#define REQUEST_BYTES 16384
#define FRAMES_BYTES 8192

/* The wires that the service thread has added, by descriptor. */
struct wire_table {
    bool is_service_thread;
    struct wire *by_fd;
};

static _Thread_local struct wire_table table;

void wire_enter(void)
{
    table.is_service_thread = true;
}

void wire_init(struct wire *wire, int fd, const struct wire_events *events)
{
    *wire = (struct wire){.fd = fd, .events = events};
    http_filter_init(&wire->filter);
}

bool wire_add(struct wire *wire)
{
    CHECK(table.is_service_thread);
    HASH_ADD(by_fd, table.by_fd, fd, sizeof(wire->fd), wire);
    return wire->by_fd.tbl != NULL;
}

void wire_finish(struct wire *wire)
{
    if (wire->by_fd.tbl != NULL) {
        HASH_DELETE(by_fd, table.by_fd, wire);
    }
    http_filter_finish(&wire->filter);
    ws_frames_finish(&wire->frames);
}

/* Returns NULL if the descriptor does not belong to a client. */
static struct wire *find(int fd)
{
    struct wire *wire;
    HASH_FIND(by_fd, table.by_fd, &fd, sizeof(fd), wire);
    return wire;
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

/* libwebsockets never asks for less. */
static ssize_t too_little_room(void)
{
    errno = EMSGSIZE;
    return -1;
}

/* Takes from the socket only what belongs to the request: frames or the next request may follow. */
static ssize_t read_request(struct wire *wire, void *out, size_t room)
{
    uint8_t block[REQUEST_BYTES];
    if (room < HTTP_GIVEN_BYTES_MAX) {
        return too_little_room();
    }
    if (wire->filter.state == HTTP_FILTER_REQUEST) {
        return nothing_yet();
    }
    ssize_t count = receive(wire->fd, block, sizeof(block), MSG_PEEK);
    if (count <= 0) {
        return count;
    }
    size_t taken = http_filter_take(&wire->filter, (struct bytes){block, (size_t)count});
    if (taken > 0) {
        count = receive(wire->fd, block, taken, 0);
    }
    if (count <= 0) {
        return count;
    }
    if (wire->filter.state != HTTP_FILTER_REQUEST) {
        wire->events->heard(wire);
        return nothing_yet();
    }
    wire->is_upgrade = wire->events->may_upgrade(wire);
    return (ssize_t)http_filter_give(&wire->filter, wire->is_upgrade, out);
}

static ssize_t read_frames(struct wire *wire, void *out, size_t room)
{
    uint8_t block[FRAMES_BYTES];
    if (room <= WS_FRAMES_EXTRA) {
        return too_little_room();
    }
    size_t wanted = room - WS_FRAMES_EXTRA;
    ssize_t count = receive(wire->fd, block, wanted < sizeof(block) ? wanted : sizeof(block), 0);
    if (count <= 0) {
        return count;
    }
    size_t left = ws_frames_follow(&wire->frames, block, (size_t)count, out);
    wire->events->heard(wire);
    return left > 0 ? (ssize_t)left : nothing_yet();
}

/* ---- replacements of functions of the C library ---- */

/* Does not poll for the input of clients whose output waits. */
static void hold_up(struct pollfd *fds, nfds_t count)
{
    const short both = POLLIN | POLLOUT;
    for (nfds_t i = 0; i < count; i++) {
        struct wire *wire = (fds[i].events & both) == both ? find(fds[i].fd) : NULL;
        if (wire != NULL && !wire->is_websocket) {
            wire->is_held_up = true;
            fds[i].events = (short)(fds[i].events & ~POLLIN);
        }
    }
}

static void let_go(struct pollfd *fds, nfds_t count)
{
    for (nfds_t i = 0; i < count; i++) {
        struct wire *wire = (fds[i].events & POLLOUT) != 0 ? find(fds[i].fd) : NULL;
        if (wire != NULL && wire->is_held_up) {
            wire->is_held_up = false;
            fds[i].events = (short)(fds[i].events | POLLIN);
        }
    }
}

int poll(struct pollfd *fds, nfds_t count, int timeout_ms)
{
    struct timespec timeout = {.tv_sec = timeout_ms / 1000,
                               .tv_nsec = (long)(timeout_ms % 1000) * 1000000};
    if (table.is_service_thread) {
        hold_up(fds, count);
    }
    int ready = ppoll(fds, count, timeout_ms < 0 ? NULL : &timeout, NULL);
    if (table.is_service_thread) {
        let_go(fds, count);
    }
    return ready;
}

ssize_t recv(int fd, void *data, size_t size, int flags)
{
    if (!table.is_service_thread || flags != 0) {
        return receive(fd, data, size, flags);
    }
    struct wire *wire = find(fd);
    if (wire == NULL) {
        return 0; /* wire_add() had no memory: unchecked bytes are not read */
    }
    return wire->is_websocket ? read_frames(wire, data, size) : read_request(wire, data, size);
}
