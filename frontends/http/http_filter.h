/* What stands between a client's socket and libwebsockets while the connection is HTTP, pure: bytes
 * in, bytes out.
 *
 * libwebsockets (4.1) sees no byte that a client wrote. Each request is read whole here; what it
 * gets in its place is one of two requests of our own, so that it answers at the right time: a GET
 * for all that is answered as HTTP, or the handshake of a WebSocket, which has nothing of the
 * client's but the key and is only given when that may be accepted. What the request says, the
 * session knows from `head`. Bodies are taken here as well: they are dropped up to now. */
#ifndef RAFTOGRAM_HTTP_HTTP_FILTER_H
#define RAFTOGRAM_HTTP_HTTP_FILTER_H

#include "http_body.h"
#include "http_head.h"

/* Of a body that nobody asked for, so that the connection goes on behind it. */
#define HTTP_SKIPPED_BYTES_MAX (16u << 20)
/* What http_filter_give() needs. */
#define HTTP_GIVEN_BYTES_MAX 512

enum http_filter_state {
    HTTP_FILTER_HEAD,    /* the next request is awaited, or has come in part */
    HTTP_FILTER_REQUEST, /* one is whole, or refused: `head` is valid until it is answered */
    HTTP_FILTER_SKIP,    /* the rest of an answered request */
    HTTP_FILTER_DRAIN,   /* nothing more is served, and what comes is dropped */
};

struct http_filter {
    enum http_filter_state state;
    struct buf text; /* of the head, as far as it has come */
    struct http_head_end end;
    struct http_head head;
    struct http_body body;
};

void http_filter_init(struct http_filter *filter);
void http_filter_finish(struct http_filter *filter);

/* True when part of a request has come. */
bool http_filter_has_begun(const struct http_filter *filter);
/* Follows bytes up to the end of the next request's head; returns how many were taken. None are
 * while a request is not answered: they stay where they are. */
size_t http_filter_take(struct http_filter *filter, struct bytes in);
/* Puts a refusal in the place of the next request. */
void http_filter_refuse(struct http_filter *filter, int status, const char *message);
/* Writes what libwebsockets gets for the present request; returns its size. */
size_t http_filter_give(const struct http_filter *filter, bool is_upgrade,
                        char out[HTTP_GIVEN_BYTES_MAX]);
/* The request must be the connection's last: it says so, or what follows cannot be trusted. */
bool http_filter_is_last(const struct http_filter *filter);
/* The present request is answered: `is_last`, or the next one is awaited. */
void http_filter_next(struct http_filter *filter, bool is_last);

#endif
