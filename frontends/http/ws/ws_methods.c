/* Params beyond the JSON mapping of a message: text, encoding, op. */
#include "base/errors.h"
#include "phalanx/kv.pb-c.h"
#include "raftogram/v1/messaging.pb-c.h"
#include "ws.h"
#include "json/json.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int refuse(struct json_error *fault, const char *text)
{
    snprintf(fault->text, sizeof(fault->text), "%s", text);
    return ERR_INVALID;
}

/* Returns NULL if it is absent or null. */
static const json_t *member(const json_t *params, const char *name)
{
    const json_t *value = json_object_get(params, name);
    return json_is_null(value) ? NULL : value;
}

static int set_bytes(ProtobufCBinaryData *field, const void *data, size_t size)
{
    uint8_t *copy = NULL;
    if (size > 0) {
        copy = malloc(size);
        if (copy == NULL) {
            return ERR_NOMEM;
        }
        memcpy(copy, data, size);
    }
    free(field->data);
    field->data = copy;
    field->len = size;
    return 0;
}

static int apply_text(const json_t *params, Raftogram__V1__SendMessageRequest *request,
                      struct json_error *fault)
{
    const json_t *text = member(params, "text");
    if (text == NULL) {
        return 0;
    }
    if (!jsonrpc_is_string(text)) {
        return refuse(fault, "text: not a string");
    }
    if (member(params, "payload") != NULL) {
        return refuse(fault, "text: give either text or payload");
    }
    return set_bytes(&request->payload, json_string_value(text), json_string_length(text));
}

static int apply_texts(const json_t *params, Raftogram__V1__SendMessagesRequest *request,
                       struct json_error *fault)
{
    const json_t *list = member(params, "messages");
    for (size_t i = 0; i < request->n_messages; i++) {
        struct json_error own;
        int rc = apply_text(json_array_get(list, i), request->messages[i], &own);
        if (rc == ERR_INVALID) {
            snprintf(fault->text, sizeof(fault->text), "messages[%zu].%.200s", i, own.text);
        }
        if (rc != 0) {
            return rc;
        }
    }
    return 0;
}

static int apply_encoding(const json_t *params, bool *is_text, struct json_error *fault)
{
    const json_t *encoding = member(params, "encoding");
    *is_text = false;
    if (encoding == NULL) {
        return 0;
    }
    if (jsonrpc_is_string(encoding) && strcmp(json_string_value(encoding), "text") == 0) {
        *is_text = true;
        return 0;
    }
    if (jsonrpc_is_string(encoding) && strcmp(json_string_value(encoding), "base64") == 0) {
        return 0;
    }
    return refuse(fault, "encoding: \"text\" or \"base64\"");
}

/* Returns a scalar as it was written. A value that is not a scalar stays one that a command cannot
 * hold. */
static void append_value(struct buf *out, const json_t *value)
{
    if (json_is_object(value) || json_is_array(value)) {
        buf_append_text(out, json_is_object(value) ? "{}" : "[]");
    } else {
        json_append_scalar(out, value);
    }
}

/* Builds the JSON command of `data` from op, key and value. */
static int apply_command(const json_t *params, ProtobufCMessage *message, struct json_error *fault)
{
    static const char *const names[] = {"op", "key", "value"};
    Phalanx__ProposeRequest *request = (Phalanx__ProposeRequest *)(void *)message;
    struct buf command = {0};
    size_t count = 0;
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        const json_t *value = member(params, names[i]);
        if (value != NULL) {
            buf_printf(&command, "%c\"%s\":", count == 0 ? '{' : ',', names[i]);
            append_value(&command, value);
            count++;
        }
    }
    buf_append_byte(&command, '}');
    int rc = 0;
    if (count > 0 && member(params, "data") != NULL) {
        rc = refuse(fault, "data: give either data or op, key and value");
    } else if (buf_failed(&command)) {
        rc = ERR_NOMEM;
    } else if (count > 0) {
        rc = set_bytes(&request->data, command.data, command.size);
    }
    buf_finish(&command);
    return rc;
}

int ws_decode_params(const struct dispatch_method *method, const json_t *params,
                     ProtobufCMessage **out, bool *is_text, struct json_error *fault)
{
    ProtobufCMessage *message;
    int rc = params != NULL ? json_decode_value(method->input, params, &message, fault)
                            : json_decode(method->input, bytes_of_text("{}"), &message, fault);
    if (rc != 0) {
        return rc;
    }
    switch (method->id) {
    case DISPATCH_SEND_MESSAGE:
        rc = apply_text(params, (Raftogram__V1__SendMessageRequest *)(void *)message, fault);
        break;
    case DISPATCH_SEND_MESSAGES:
        rc = apply_texts(params, (Raftogram__V1__SendMessagesRequest *)(void *)message, fault);
        break;
    case DISPATCH_READ_HISTORY:
    case DISPATCH_SUBSCRIBE:
        rc = apply_encoding(params, is_text, fault);
        break;
    case DISPATCH_PROPOSE:
        rc = apply_command(params, message, fault);
        break;
    default:
        break;
    }
    if (rc != 0) {
        protobuf_c_message_free_unpacked(message, NULL);
        return rc;
    }
    *out = message;
    return 0;
}
