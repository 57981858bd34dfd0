/* Reads what a client's socket holds before libwebsockets does.
 *
 * libwebsockets has no hook where a program can see or change received bytes. It reads with
 * recv(2), and a function of that name in the program is found before the C library's. Our recv()
 * behaves like the C library's, except on the service thread for sockets that were added here:
 * their bytes pass through http_filter.h or ws_frames.h, which explain what is changed and why.
 * Both are pure: behind another way of reading they only need to see bytes before these are taken
 * (MSG_PEEK, SSL_peek). Our poll(2) is found in the same way. While libwebsockets waits for an HTTP
 * client to take bytes, it does not read from that client, but polls for input too, and would be
 * woken again and again. (Its own flow control also stops what is sent.) On other threads (gRPC,
 * c-ares, systemd) both functions cost one look at a thread-local variable. If a later
 * libwebsockets reads in another way, a request reaches its own parser, and requests.c and http.c
 * hang up on whatever did not pass through here. */
#ifndef RAFTOGRAM_HTTP_WIRE_H
#define RAFTOGRAM_HTTP_WIRE_H

#include "http_filter.h"
#include "ws_frames.h"

#include <stdbool.h>
/* An element that cannot be added for lack of memory stays outside of a hash table, and its
 * handle's tbl is NULL. */
#define HASH_NONFATAL_OOM 1
#include <uthash.h>

struct wire;

/* Called while libwebsockets reads; on the service thread. */
struct wire_events {
    /* Bytes have arrived that are not a whole request yet. */
    void (*heard)(struct wire *wire);
    /* The filter holds a whole request: true if it may become a WebSocket. */
    bool (*may_upgrade)(struct wire *wire);
};

struct wire {
    int fd;
    UT_hash_handle by_fd; /* in the service thread's table */
    const struct wire_events *events;
    bool is_websocket; /* HTTP has ended */
    bool is_upgrade;   /* libwebsockets got a handshake for the present request */
    bool is_held_up;   /* during poll(): its input is not polled for */
    struct http_filter filter;
    struct ws_frames frames;
};

/* Makes this thread the service thread, on which recv() and poll() have the behaviour above. */
void wire_enter(void);
/* `events` must outlive the wire. */
void wire_init(struct wire *wire, int fd, const struct wire_events *events);
/* Adds a socket: from now on reads pass through it. Returns false without memory; then nothing can
 * be read from the socket. On the service thread, once. */
bool wire_add(struct wire *wire);
/* Removes it from the table and frees what it holds. On the service thread. */
void wire_finish(struct wire *wire);

#endif
