/* The head of an HTTP/1 request (RFC 9112). Pure. Requests are parsed only here. A head that this
 * does not understand has a status, with which the connection ends. */
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
    int status;          /* 0, or the status of the refusal */
    const char *message; /* why */

    enum http_method method;
    unsigned minor; /* of HTTP/1.x: 0 or 1 */
    struct bytes path;
    struct bytes query; /* the part after the question mark */
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

/* The received part of a head. `looked` is where the last call stopped; begin with 0. */
struct http_head_end {
    size_t size; /* size of the head with its empty line; 0: incomplete */
    size_t looked;
    const char *fault; /* bytes that no head contains: a bare CR or LF, NUL, or no HTTP at all */
};
void http_head_find_end(struct bytes text, struct http_head_end *end);

/* Reads a whole head. */
void http_head_read(struct bytes text, struct http_head *out);
void http_head_refuse(struct http_head *out, int status, const char *message);
/* Makes the refusal of a head that is too large, of which `text` has arrived. */
void http_head_refuse_large(struct bytes text, struct http_head *out);

/* Decodes percent signs in a path or a part of a query. Returns false for a faulty one, or NUL. */
bool http_decode(struct bytes text, struct buf *out);
/* Finds the value of an argument, not decoded. Returns false if there is none of that name. An
 * argument without "=" has an empty value. */
bool http_find_argument(struct bytes query, const char *name, struct bytes *out);

#endif
