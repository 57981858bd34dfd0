/* Decodes request bodies, JSON or protobuf, and checks their strings. */
#include "base/errors.h"
#include "base/protobuf.h"
#include "dispatch/dispatch_internal.h"
#include "json/json.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* A string that protobuf-c accepts and the contract does not. */
struct bad_string {
    const char *name;
    bool has_item; /* the string is in an element of a list, */
    uint32_t item; /* at this position */
};

static bool is_bad_string(struct bytes text)
{
    return !bytes_is_utf8(text) || memchr(text.data, 0, text.size) != NULL;
}

/* Finds the first bad string. protobuf-c does not check strings, and truncates them at NUL, so they
 * are checked in the encoded body. The requests have messages in lists only, one level deep. */
static bool find_bad_string(const ProtobufCMessageDescriptor *descriptor, struct bytes body,
                            bool is_item, struct bad_string *out)
{
    struct bytes_reader reader = bytes_reader_of(body);
    struct protobuf_field read;
    uint32_t items = 0;
    /* Unpacking has already refused malformed bodies. */
    while (protobuf_read_field(&reader, &read) > 0) {
        const ProtobufCFieldDescriptor *field =
            protobuf_c_message_descriptor_get_field(descriptor, (unsigned)protobuf_number(&read));
        if (protobuf_type(&read) != PROTOBUF_BYTES || field == NULL) {
            continue;
        }
        if (field->type == PROTOBUF_C_TYPE_STRING && read.bytes.size > 0 &&
            is_bad_string(read.bytes)) {
            out->name = field->name;
            return true;
        }
        if (field->type != PROTOBUF_C_TYPE_MESSAGE || is_item) {
            continue;
        }
        if (find_bad_string(field->descriptor, read.bytes, true, out)) {
            out->has_item = true;
            out->item = items;
            return true;
        }
        items++;
    }
    return false;
}

/* The position in "messages[2].sequence: not an integer". */
static void note_item_of_text(const struct dispatch_method *method, struct dispatch_status *status)
{
    unsigned item;
    if (method != NULL &&
        (method->id == DISPATCH_SEND_MESSAGES || method->id == DISPATCH_PUBLISH) &&
        sscanf(status->message, "messages[%u]", &item) == 1) {
        status->has_item = true;
        status->item = item;
    }
}

void dispatch_status_of_json(const struct dispatch_method *method, const char *text,
                             struct dispatch_status *status)
{
    dispatch_status_set(status, DISPATCH_INVALID_ARGUMENT, "INVALID_FIELD", "%s", text);
    note_item_of_text(method, status);
}

/* Notes a failed allocation: protobuf-c returns NULL both for a bad message and for lack of memory.
 */
static void *noting_alloc(void *has_failed, size_t size)
{
    void *memory = malloc(size);
    if (memory == NULL) {
        *(bool *)has_failed = true;
    }
    return memory;
}

static void plain_free(void *context, void *memory)
{
    (void)context;
    free(memory);
}

static int refuse_for_memory(struct dispatch_status *status)
{
    dispatch_status_set(status, DISPATCH_RESOURCE_EXHAUSTED, "OVERLOADED", "out of memory");
    return ERR_NOMEM;
}

int dispatch_decode(const struct dispatch_method *method, struct bytes body, ProtobufCMessage **out,
                    struct dispatch_status *status)
{
    const uint8_t *data = body.data;
    if (json_is_body(method->input, body)) {
        struct json_error error;
        /* Clients of phalanx.* are written in Go, where names of members have any case. */
        int rc = method->is_snake_case ? json_decode_any_case(method->input, body, out, &error)
                                       : json_decode(method->input, body, out, &error);
        if (rc == ERR_NOMEM) {
            return refuse_for_memory(status);
        }
        if (rc != 0) {
            dispatch_status_of_json(method, error.text, status);
            return ERR_INVALID;
        }
        return 0;
    }
    bool has_failed = false;
    /* The standard allocator may free the message: its memory comes from malloc(). */
    ProtobufCAllocator allocator = {noting_alloc, plain_free, &has_failed};
    ProtobufCMessage *message =
        protobuf_c_message_unpack(method->input, &allocator, body.size, data);
    if (message == NULL && has_failed) {
        return refuse_for_memory(status);
    }
    if (message == NULL) {
        dispatch_status_set(status, DISPATCH_INVALID_ARGUMENT, "INVALID_FIELD",
                            "the body is not a %s", method->input->name);
        return ERR_INVALID;
    }
    struct bad_string bad = {0};
    if (body.size > 0 && find_bad_string(method->input, body, false, &bad)) {
        protobuf_c_message_free_unpacked(message, NULL);
        dispatch_status_set(status, DISPATCH_INVALID_ARGUMENT, "INVALID_FIELD",
                            "%s must be UTF-8 without NUL", bad.name);
        status->has_item = bad.has_item;
        status->item = bad.item;
        return ERR_INVALID;
    }
    *out = message;
    return 0;
}
