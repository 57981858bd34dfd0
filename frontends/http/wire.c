/* Hardened builds have an inline recv() of their own in the header. */
#undef _FORTIFY_SOURCE
#include "wire.h"

#include "http_internal.h"

#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>

#define REQUEST_BYTES 16384
#define FRAMES_BYTES 8192

/* Set on service threads only. */
static _Thread_local struct http_frontend *served;

void wire_init(struct wire *wire, int fd)
{
    *wire = (struct wire){.fd = fd};
    http_filter_init(&wire->filter);
}

void wire_finish(struct wire *wire)
{
    http_filter_finish(&wire->filter);
    ws_frames_finish(&wire->frames);
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

/* libwebsockets never asks for less. */
static ssize_t too_little_room(void)
{
    errno = EMSGSIZE;
    return -1;
}

/* Takes no more from the socket than belongs to the request: what follows can be frames or the next
 * request, and that is for later. */
static ssize_t read_request(struct session *session, void *out, size_t room)
{
    struct wire *wire = &session->wire;
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
        session_hears(session);
        return nothing_yet();
    }
    wire->is_upgrade = session_may_upgrade(session);
    return (ssize_t)http_filter_give(&wire->filter, wire->is_upgrade, out);
}

static ssize_t read_frames(struct session *session, void *out, size_t room)
{
    struct wire *wire = &session->wire;
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
    session_hears(session);
    return left > 0 ? (ssize_t)left : nothing_yet();
}

/* ---- in place of the C library's ---- */

/* Asks for no input of those whose output waits. */
static void hold_up(struct pollfd *fds, nfds_t count)
{
    const short both = POLLIN | POLLOUT;
    for (nfds_t i = 0; i < count; i++) {
        struct session *session =
            (fds[i].events & both) == both ? frontend_session(served, fds[i].fd) : NULL;
        if (session != NULL && !session->wire.is_websocket) {
            session->wire.is_held_up = true;
            fds[i].events = (short)(fds[i].events & ~POLLIN);
        }
    }
}

static void let_go(struct pollfd *fds, nfds_t count)
{
    for (nfds_t i = 0; i < count; i++) {
        struct session *session =
            (fds[i].events & POLLOUT) != 0 ? frontend_session(served, fds[i].fd) : NULL;
        if (session != NULL && session->wire.is_held_up) {
            session->wire.is_held_up = false;
            fds[i].events = (short)(fds[i].events | POLLIN);
        }
    }
}

int poll(struct pollfd *fds, nfds_t count, int timeout_ms)
{
    struct timespec timeout = {.tv_sec = timeout_ms / 1000,
                               .tv_nsec = (long)(timeout_ms % 1000) * 1000000};
    if (served != NULL) {
        hold_up(fds, count);
    }
    int ready = ppoll(fds, count, timeout_ms < 0 ? NULL : &timeout, NULL);
    if (served != NULL) {
        let_go(fds, count);
    }
    return ready;
}

ssize_t recv(int fd, void *data, size_t size, int flags)
{
    if (served == NULL || flags != 0) {
        return receive(fd, data, size, flags);
    }
    struct session *session = frontend_session(served, fd);
    if (session == NULL) {
        return 0; /* of a client that there was no memory to remember: nothing comes unread by us */
    }
    return session->wire.is_websocket ? read_frames(session, data, size)
                                      : read_request(session, data, size);
}
