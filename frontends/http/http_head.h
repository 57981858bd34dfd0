/* The head of an HTTP/1 request before libwebsockets parses it, pure.
 *
 * Its parser drops a connection whose headers are too large without a word, and waits for ever
 * behind a header like "X-A:", whose name begins as one that it knows and then ends. So it gets no
 * header but those that something here reads; what cannot be served is found here and has a status.
 */
#ifndef RAFTOGRAM_HTTP_HEAD_H
#define RAFTOGRAM_HTTP_HEAD_H

#include "base/buf.h"

#include <stdbool.h>
#include <stdint.h>

#define HTTP_HEAD_BYTES_MAX 8192 /* with its line ends */
/* Of headers that are passed on, and of arguments in the query: libwebsockets keeps a table of
 * about 90 for both. */
#define HTTP_PASSED_HEADERS_MAX 32
#define HTTP_ARGUMENTS_MAX 32

struct http_head {
    int status;          /* 0, or what the request is to be refused with */
    const char *message; /* why */
    uint64_t body_size;
    bool is_chunked; /* how long the body is, it says itself */
};

/* False when these first bytes cannot begin a request with a method that libwebsockets knows. */
bool http_head_may_begin(struct bytes text);
/* The size of the head that `text` begins with, its empty line included; 0 while that has not come.
 * What lies before `from` was looked through already. */
size_t http_head_end(struct bytes text, size_t from);
/* Reads a whole head and appends what libwebsockets shall see of it: never more than `text` has,
 * but for the CR of each line that came without. */
void http_head_read(struct bytes text, struct http_head *out, struct buf *passed);
/* The refusal of a head that is too large, of which `text` has come. */
void http_head_refuse_large(struct bytes text, struct http_head *out);

#endif
