/* What comes from a client's socket, before libwebsockets reads it.
 *
 * libwebsockets has no place where a program can see or change that, but it reads by recv(2), and a
 * function of that name in the program itself is found before the C library's. Ours does what that
 * does, in one system call; only on the service thread and for the sockets of sessions it looks
 * further: http_head.h and ws_frames.h say at what, and why. Everywhere else (gRPC, c-ares,
 * systemd) it costs the look at one variable of the thread. Should a later libwebsockets read in
 * another way, everything still works but for what those two mend, and their tests say so. */
#ifndef RAFTOGRAM_HTTP_WIRE_H
#define RAFTOGRAM_HTTP_WIRE_H

#include "http_head.h"
#include "ws_frames.h"

enum wire_mode {
    WIRE_HEAD,   /* of a request */
    WIRE_BODY,   /* of a request with a content-length */
    WIRE_RAW,    /* what libwebsockets is to judge by itself */
    WIRE_DRAIN,  /* a refused request: the rest is read so that the answer arrives */
    WIRE_FRAMES, /* WebSocket */
};

struct wire {
    int fd;
    enum wire_mode mode;
    struct buf pending;    /* what has come of a head */
    struct http_head head; /* of the current request */
    uint64_t body_left;
    struct ws_frames frames;
};

struct http_frontend;

void wire_init(struct wire *wire, int fd);
void wire_finish(struct wire *wire);
/* This thread is the frontend's service thread from now on. */
void wire_enter(struct http_frontend *frontend);

#endif
