/* Filters the bytes between the socket of a client and libwebsockets while the connection is HTTP.
 * Pure: bytes in, bytes out.
 *
 * libwebsockets (4.1) sees no byte that a client wrote. Each request is read completely here. In
 * its place libwebsockets gets one of two generated requests, so that it calls back at the right
 * time. One is a GET, for everything that is answered as HTTP. The other is the handshake of a
 * WebSocket, given only if it may be accepted; of the client's request it has only the key. The
 * session reads the request from `head`. Bodies are read here too, and dropped. */
#ifndef RAFTOGRAM_HTTP_HTTP_FILTER_H
#define RAFTOGRAM_HTTP_HTTP_FILTER_H

#include "http_body.h"
#include "http_head.h"

/* Limit of an unexpected body that is read so that the connection can continue. */
#define HTTP_SKIPPED_BYTES_MAX (16u << 20)
/* Size of the buffer for http_filter_give(). */
#define HTTP_GIVEN_BYTES_MAX 512

enum http_filter_state {
    HTTP_FILTER_HEAD,    /* waits for the next request, or has a part of it */
    HTTP_FILTER_REQUEST, /* has a whole or refused request; `head` is valid until it is answered */
    HTTP_FILTER_SKIP,    /* skips the rest of an answered request */
    HTTP_FILTER_DRAIN,   /* serves nothing more; drops what arrives */
};

struct http_filter {
    enum http_filter_state state;
    struct buf text; /* received part of the head */
    struct http_head_end end;
    struct http_head head;
    struct http_body body;
};

void http_filter_init(struct http_filter *filter);
void http_filter_finish(struct http_filter *filter);

/* True if part of a request has arrived. */
bool http_filter_has_begun(const struct http_filter *filter);
/* Takes bytes up to the end of the head of the next request. Returns how many were taken; 0 while a
 * request is not answered. */
size_t http_filter_take(struct http_filter *filter, struct bytes in);
/* Replaces the next request by a refusal. */
void http_filter_refuse(struct http_filter *filter, int status, const char *message);
/* Writes the bytes that libwebsockets gets for the present request. Returns their number. */
size_t http_filter_give(const struct http_filter *filter, bool is_upgrade,
                        char out[HTTP_GIVEN_BYTES_MAX]);
/* True if the request must be the last of the connection: it says so, or what follows cannot be
 * trusted. */
bool http_filter_is_last(const struct http_filter *filter);
/* Notes that the present request is answered. Without `is_last` the next one is awaited. */
void http_filter_next(struct http_filter *filter, bool is_last);

#endif
