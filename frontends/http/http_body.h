/* The body of a request (RFC 9112, 6 and 7): where it ends. Pure. */
#ifndef RAFTOGRAM_HTTP_HTTP_BODY_H
#define RAFTOGRAM_HTTP_HTTP_BODY_H

#include "http_head.h"

#define HTTP_CHUNK_LINE_BYTES_MAX 1024 /* a size with its extensions, or a trailer */
#define HTTP_TRAILER_BYTES_MAX 8192

enum http_body_state {
    HTTP_BODY_DATA, /* data of a known length, or of a chunk */
    HTTP_BODY_SIZE, /* the line before a chunk */
    HTTP_BODY_DATA_END,
    HTTP_BODY_TRAILER,
    HTTP_BODY_DONE,
    HTTP_BODY_FAULTY,
};

struct http_body {
    enum http_body_state state;
    bool is_chunked;
    uint64_t left;  /* of the data */
    uint64_t total; /* data so far */
    size_t line_bytes;
    size_t trailer_bytes;
    unsigned digits;
    bool is_extension; /* after the digits of a size */
    bool has_return;   /* the last byte of the line was a CR */
};

/* Begins the body that the head announces. The state is done at once if there is none. */
void http_body_begin(struct http_body *body, const struct http_head *head);
/* Follows bytes up to the end of the body. Returns how many belong to it. `data` gets the next
 * piece of the data among them, which may be empty. */
size_t http_body_follow(struct http_body *body, struct bytes in, struct bytes *data);

#endif
