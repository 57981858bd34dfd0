/* JSON-RPC 2.0 (jsonrpc.org/specification): parses frames and writes answers. Pure: it knows no
 * socket and no method.
 *
 * In one way it is stricter than the specification: params must be an object or absent, because all
 * parameters have names. Methods without parameters also accept an empty list and null. */
#ifndef RAFTOGRAM_HTTP_JSONRPC_H
#define RAFTOGRAM_HTTP_JSONRPC_H

#include "base/buf.h"

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>

#define JSONRPC_BATCH_MAX 100

enum jsonrpc_code {
    JSONRPC_PARSE_ERROR = -32700,
    JSONRPC_INVALID_REQUEST = -32600,
    JSONRPC_METHOD_NOT_FOUND = -32601,
    JSONRPC_INVALID_PARAMS = -32602,
};

struct jsonrpc_message {
    json_t *root;
    bool is_batch;
    size_t count; /* number of requests; 1 if it is not a batch */
};

/* The reason why a text or a request is refused; sent as the answer. */
struct jsonrpc_fault {
    int code;
    char message[256];
};

/* Parses a frame. On success the caller must call jsonrpc_finish(). Errors: ERR_INVALID (not JSON;
 * an empty or too large batch), with `fault`, which must be answered with a null id; ERR_NOMEM. */
int jsonrpc_parse(struct bytes text, struct jsonrpc_message *out, struct jsonrpc_fault *fault);
void jsonrpc_finish(struct jsonrpc_message *message);

/* One request. Its fields are views into the message. */
struct jsonrpc_request {
    const char *method;
    const json_t *params; /* an object, or NULL */
    bool is_unnamed;      /* params were a list or null */
    bool is_empty;        /* unnamed, and nothing in it */
    const json_t *id;     /* NULL: a notification, which is not answered */
};

/* Reads one request. Errors: ERR_INVALID with `fault`, which must be answered with out->id or a
 * null id. */
int jsonrpc_request(const struct jsonrpc_message *message, size_t index,
                    struct jsonrpc_request *out, struct jsonrpc_fault *fault);

/* True for a string of the text itself (json_parse() also makes strings of some numbers). */
bool jsonrpc_is_string(const json_t *value);

/* Answers. `id` is the id as JSON text; NULL is null. */

/* {"jsonrpc":"2.0","id":…,"result": — the result and a closing brace must follow. */
void jsonrpc_open_result(struct buf *out, const char *id);
/* Appends a whole error answer. `data` is JSON text, or NULL. */
void jsonrpc_append_error(struct buf *out, const char *id, int code, const char *message,
                          const char *data);
/* {"jsonrpc":"2.0","method":"…","params": — the params and a closing brace must follow. */
void jsonrpc_open_notification(struct buf *out, const char *method);

#endif
