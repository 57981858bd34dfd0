/* What comes from a client's socket, before libwebsockets reads it.
 *
 * libwebsockets has no place where a program can see or change that, but it reads by recv(2), and a
 * function of that name in the program itself is found before the C library's. Ours does what that
 * does; only on the service thread and for the sockets of sessions it looks further: http_filter.h
 * and ws_frames.h say at what, and why. Both are pure, so that they can stand behind another way of
 * reading as well: all they need is to see bytes before they are taken (MSG_PEEK, SSL_peek).
 * Our poll(2) is found in the same way: while libwebsockets waits for an HTTP client to take bytes,
 * it does not read from it, but would be woken by what that has sent again and again. (Its own flow
 * control holds up what is sent, too.)
 * Everywhere else (gRPC, c-ares, systemd) both cost the look at one variable of the thread. Should
 * a later libwebsockets read in another way, a request would reach its own parser: on_request() and
 * on_upgrade() in http.c hang up on what did not come through here. */
#ifndef RAFTOGRAM_HTTP_WIRE_H
#define RAFTOGRAM_HTTP_WIRE_H

#include "http_filter.h"
#include "ws_frames.h"

struct wire {
    int fd;
    bool is_websocket; /* no HTTP any more */
    bool is_upgrade;   /* the present request: libwebsockets got a handshake for it */
    bool is_held_up;   /* during poll(): nobody asks for its input */
    struct http_filter filter;
    struct ws_frames frames;
};

struct http_frontend;

void wire_init(struct wire *wire, int fd);
void wire_finish(struct wire *wire);
/* This thread is the frontend's service thread from now on. */
void wire_enter(struct http_frontend *frontend);

#endif
