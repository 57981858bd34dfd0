/* The head of an HTTP/1 request (RFC 9112), pure. Everything that a request says is read here and
 * nowhere else: what this does not understand has a status, and the connection ends with it. */
#ifndef RAFTOGRAM_HTTP_HTTP_HEAD_H
#define RAFTOGRAM_HTTP_HTTP_HEAD_H

#include "base/buf.h"

#include <stdbool.h>
#include <stdint.h>

#define HTTP_HEAD_BYTES_MAX 8192 /* with its line ends */
#define HTTP_FIELDS_MAX 64

enum http_method {
    HTTP_METHOD_OTHER,
    HTTP_METHOD_GET,
    HTTP_METHOD_HEAD,
};

/* All views are into the text that was read. An absent field is empty, with data NULL. */
struct http_head {
    int status;          /* 0, or what the request is refused with */
    const char *message; /* why */

    enum http_method method;
    unsigned minor; /* of HTTP/1.x: 0 or 1 */
    struct bytes path;
    struct bytes query; /* what follows the question mark */
    struct bytes host;  /* of an absolute target, else of the Host field */

    uint64_t body_size;
    bool is_chunked;
    bool has_length;
    bool expects_continue;

    bool wants_close;
    bool wants_keep_alive;
    bool has_connection_upgrade;
    bool wants_websocket; /* Upgrade names websocket */
    bool offers_subprotocol;
    struct bytes websocket_key;
    struct bytes websocket_version;
    struct bytes origin;
    struct bytes if_none_match;
};

/* How far a head has come. `looked` is where the last call stopped; begin with 0. */
struct http_head_end {
    size_t size; /* of the head with its empty line; 0 while that has not come */
    size_t looked;
    const char *fault; /* these bytes are in no head: a bare CR or LF, NUL, or no HTTP at all */
};
void http_head_find_end(struct bytes text, struct http_head_end *end);

/* Reads a whole head. */
void http_head_read(struct bytes text, struct http_head *out);
void http_head_refuse(struct http_head *out, int status, const char *message);
/* The refusal of a head that is too large, of which `text` has come. */
void http_head_refuse_large(struct bytes text, struct http_head *out);

/* A path or a part of a query without its percent signs. False: a faulty one, or NUL. */
bool http_decode(struct bytes text, struct buf *out);
/* The value of an argument, not decoded: false if there is none of that name. One without "=" has
 * an empty value. */
bool http_find_argument(struct bytes query, const char *name, struct bytes *out);

#endif
