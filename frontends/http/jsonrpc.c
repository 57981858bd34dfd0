/* Parses JSON-RPC 2.0 messages, and checks their members. */
#include "jsonrpc.h"

#include "base/check.h"
#include "base/errors.h"
#include "json/json.h"

#include <stdio.h>
#include <string.h>

static int refuse(struct jsonrpc_fault *fault, int code, const char *message)
{
    fault->code = code;
    snprintf(fault->message, sizeof(fault->message), "%s", message);
    return ERR_INVALID;
}

int jsonrpc_parse(struct bytes text, struct jsonrpc_message *out, struct jsonrpc_fault *fault)
{
    struct json_error error;
    json_t *root;
    int rc = json_parse(text, &root, &error);
    if (rc == ERR_INVALID) {
        fault->code = JSONRPC_PARSE_ERROR;
        snprintf(fault->message, sizeof(fault->message), "parse error: %.200s", error.text);
        return ERR_INVALID;
    }
    if (rc != 0) {
        return rc;
    }
    bool is_batch = json_is_array(root);
    size_t count = is_batch ? json_array_size(root) : 1;
    if (count == 0) {
        json_decref(root);
        return refuse(fault, JSONRPC_INVALID_REQUEST, "invalid request: an empty batch");
    }
    if (count > JSONRPC_BATCH_MAX) {
        json_decref(root);
        return refuse(fault, JSONRPC_INVALID_REQUEST,
                      "invalid request: a batch holds at most 100 requests");
    }
    *out = (struct jsonrpc_message){.root = root, .is_batch = is_batch, .count = count};
    return 0;
}

void jsonrpc_finish(struct jsonrpc_message *message)
{
    json_decref(message->root);
    message->root = NULL;
}

bool jsonrpc_is_string(const json_t *value)
{
    return json_is_string(value) && !json_is_written_number(value);
}

static bool is_id(const json_t *value)
{
    return json_is_string(value) || json_is_number(value) || json_is_null(value);
}

/* Returns a string without NUL, as names and versions are; NULL if it is anything else. */
static const char *text_of(const json_t *value)
{
    if (!jsonrpc_is_string(value)) {
        return NULL;
    }
    const char *text = json_string_value(value);
    return strlen(text) == json_string_length(value) ? text : NULL;
}

int jsonrpc_request(const struct jsonrpc_message *message, size_t index,
                    struct jsonrpc_request *out, struct jsonrpc_fault *fault)
{
    CHECK(index < message->count);
    const json_t *item = message->is_batch ? json_array_get(message->root, index) : message->root;
    *out = (struct jsonrpc_request){0};
    if (!json_is_object(item)) {
        return refuse(fault, JSONRPC_INVALID_REQUEST, "invalid request: not an object");
    }
    const json_t *id = json_object_get(item, "id");
    if (id != NULL && !is_id(id)) {
        return refuse(fault, JSONRPC_INVALID_REQUEST,
                      "invalid request: id must be a string, a number or null");
    }
    out->id = id;
    const char *version = text_of(json_object_get(item, "jsonrpc"));
    if (version == NULL || strcmp(version, "2.0") != 0) {
        return refuse(fault, JSONRPC_INVALID_REQUEST, "invalid request: jsonrpc must be \"2.0\"");
    }
    const json_t *method = json_object_get(item, "method");
    if (!jsonrpc_is_string(method)) {
        return refuse(fault, JSONRPC_INVALID_REQUEST, "invalid request: method must be a string");
    }
    /* A method name with NUL is unknown, and must not match by its prefix. */
    out->method = text_of(method) != NULL ? text_of(method) : "";
    const json_t *params = json_object_get(item, "params");
    out->is_unnamed = json_is_array(params) || json_is_null(params);
    out->is_empty = out->is_unnamed && json_array_size(params) == 0; /* 0 for null, too */
    if (params != NULL && !out->is_unnamed && !json_is_object(params)) {
        return refuse(fault, JSONRPC_INVALID_REQUEST, "invalid request: params must be an object");
    }
    out->params = out->is_unnamed ? NULL : params;
    return 0;
}

static void append_head(struct buf *out, const char *id)
{
    buf_append_text(out, "{\"jsonrpc\":\"2.0\",\"id\":");
    buf_append_text(out, id != NULL ? id : "null");
}

void jsonrpc_open_result(struct buf *out, const char *id)
{
    append_head(out, id);
    buf_append_text(out, ",\"result\":");
}

void jsonrpc_append_error(struct buf *out, const char *id, int code, const char *message,
                          const char *data)
{
    append_head(out, id);
    buf_printf(out, ",\"error\":{\"code\":%d,\"message\":", code);
    json_append_string(out, bytes_of_text(message));
    if (data != NULL) {
        buf_append_text(out, ",\"data\":");
        buf_append_text(out, data);
    }
    buf_append_text(out, "}}");
}

void jsonrpc_open_notification(struct buf *out, const char *method)
{
    buf_append_text(out, "{\"jsonrpc\":\"2.0\",\"method\":");
    json_append_string(out, bytes_of_text(method));
    buf_append_text(out, ",\"params\":");
}
