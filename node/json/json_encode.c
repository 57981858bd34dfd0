/* Encodes messages as JSON, directly into the buffer. */
#include "json/json_internal.h"

#include "base/check.h"

#include <string.h>

#define NAME_MAX_BYTES 128 /* of a field in our .proto files */

struct encoder {
    struct buf *out;
    enum json_names names;
};

static void encode_message(const struct encoder *encoder, const ProtobufCMessage *message);

bool json_is_map(const ProtobufCFieldDescriptor *field)
{
    if (field->label != PROTOBUF_C_LABEL_REPEATED || field->type != PROTOBUF_C_TYPE_MESSAGE) {
        return false;
    }
    const ProtobufCMessageDescriptor *entry = field->descriptor;
    size_t length = strlen(entry->short_name);
    size_t suffix = strlen("Entry");
    return length > suffix && strcmp(entry->short_name + length - suffix, "Entry") == 0 &&
           entry->n_fields == 2 && entry->fields[0].id == 1 && entry->fields[1].id == 2 &&
           strcmp(entry->fields[0].name, "key") == 0 && strcmp(entry->fields[1].name, "value") == 0;
}

size_t json_value_size(const ProtobufCFieldDescriptor *field)
{
    switch (field->type) {
    case PROTOBUF_C_TYPE_INT32:
    case PROTOBUF_C_TYPE_SINT32:
    case PROTOBUF_C_TYPE_SFIXED32:
        return sizeof(int32_t);
    case PROTOBUF_C_TYPE_UINT32:
    case PROTOBUF_C_TYPE_FIXED32:
        return sizeof(uint32_t);
    case PROTOBUF_C_TYPE_INT64:
    case PROTOBUF_C_TYPE_SINT64:
    case PROTOBUF_C_TYPE_SFIXED64:
        return sizeof(int64_t);
    case PROTOBUF_C_TYPE_UINT64:
    case PROTOBUF_C_TYPE_FIXED64:
        return sizeof(uint64_t);
    case PROTOBUF_C_TYPE_FLOAT:
        return sizeof(float);
    case PROTOBUF_C_TYPE_DOUBLE:
        return sizeof(double);
    case PROTOBUF_C_TYPE_BOOL:
        return sizeof(protobuf_c_boolean);
    case PROTOBUF_C_TYPE_ENUM:
        return sizeof(int);
    case PROTOBUF_C_TYPE_STRING:
        return sizeof(char *);
    case PROTOBUF_C_TYPE_BYTES:
        return sizeof(ProtobufCBinaryData);
    case PROTOBUF_C_TYPE_MESSAGE:
        return sizeof(ProtobufCMessage *);
    }
    CHECK(field->type <= PROTOBUF_C_TYPE_MESSAGE);
    return 0;
}

static void append_u64(const struct encoder *encoder, uint64_t value)
{
    bool is_quoted = encoder->names != JSON_NAMES_GO;
    buf_append_text(encoder->out, is_quoted ? "\"" : "");
    json_append_u64(encoder->out, value);
    buf_append_text(encoder->out, is_quoted ? "\"" : "");
}

static void append_i64(const struct encoder *encoder, int64_t value)
{
    bool is_quoted = encoder->names != JSON_NAMES_GO;
    buf_append_text(encoder->out, is_quoted ? "\"" : "");
    json_append_i64(encoder->out, value);
    buf_append_text(encoder->out, is_quoted ? "\"" : "");
}

/* An unknown value is written as a number. */
static void append_enum(struct buf *out, const ProtobufCEnumDescriptor *descriptor, int value)
{
    const ProtobufCEnumValue *known = protobuf_c_enum_descriptor_get_value(descriptor, value);
    if (known != NULL) {
        json_append_string(out, bytes_of_text(known->name));
    } else {
        json_append_i64(out, value);
    }
}

static void append_bytes(struct buf *out, const ProtobufCBinaryData *value)
{
    buf_append_byte(out, '"');
    json_append_base64(out, (struct bytes){value->data, value->data != NULL ? value->len : 0});
    buf_append_byte(out, '"');
}

/* Writes one value: a field or an element of a list. */
static void encode_value(const struct encoder *encoder, const ProtobufCFieldDescriptor *field,
                         const void *value)
{
    struct buf *out = encoder->out;
    switch (field->type) {
    case PROTOBUF_C_TYPE_INT32:
    case PROTOBUF_C_TYPE_SINT32:
    case PROTOBUF_C_TYPE_SFIXED32:
        json_append_i64(out, *(const int32_t *)value);
        return;
    case PROTOBUF_C_TYPE_UINT32:
    case PROTOBUF_C_TYPE_FIXED32:
        json_append_u64(out, *(const uint32_t *)value);
        return;
    case PROTOBUF_C_TYPE_INT64:
    case PROTOBUF_C_TYPE_SINT64:
    case PROTOBUF_C_TYPE_SFIXED64:
        append_i64(encoder, *(const int64_t *)value);
        return;
    case PROTOBUF_C_TYPE_UINT64:
    case PROTOBUF_C_TYPE_FIXED64:
        append_u64(encoder, *(const uint64_t *)value);
        return;
    case PROTOBUF_C_TYPE_FLOAT:
        json_append_float(out, *(const float *)value);
        return;
    case PROTOBUF_C_TYPE_DOUBLE:
        json_append_double(out, *(const double *)value);
        return;
    case PROTOBUF_C_TYPE_BOOL:
        buf_append_text(out, *(const protobuf_c_boolean *)value ? "true" : "false");
        return;
    case PROTOBUF_C_TYPE_ENUM:
        append_enum(out, field->descriptor, *(const int *)value);
        return;
    case PROTOBUF_C_TYPE_STRING: {
        const char *text = *(char *const *)value;
        json_append_string(out, bytes_of_text(text != NULL ? text : ""));
        return;
    }
    case PROTOBUF_C_TYPE_BYTES:
        append_bytes(out, value);
        return;
    case PROTOBUF_C_TYPE_MESSAGE: {
        const ProtobufCMessage *message = *(ProtobufCMessage *const *)value;
        if (message != NULL) {
            encode_message(encoder, message);
        } else {
            buf_append_text(out, "null");
        }
        return;
    }
    }
}

static void encode_list(const struct encoder *encoder, const ProtobufCFieldDescriptor *field,
                        const char *values, size_t count)
{
    size_t size = json_value_size(field);
    buf_append_byte(encoder->out, '[');
    for (size_t i = 0; i < count && !buf_failed(encoder->out); i++) {
        if (i > 0) {
            buf_append_byte(encoder->out, ',');
        }
        encode_value(encoder, field, values + i * size);
    }
    buf_append_byte(encoder->out, ']');
}

/* Keys are strings in JSON, independent of their type in the message. */
static void encode_map_key(const struct encoder *encoder, const ProtobufCFieldDescriptor *field,
                           const void *key)
{
    size_t before = encoder->out->size;
    encode_value(encoder, field, key);
    bool is_string = before < encoder->out->size && encoder->out->data[before] == '"';
    if (!is_string) {
        encoder->out->size = before;
        buf_append_byte(encoder->out, '"');
        encode_value(encoder, field, key);
        buf_append_byte(encoder->out, '"');
    }
}

static void encode_map(const struct encoder *encoder, ProtobufCMessage *const *entries,
                       size_t count)
{
    buf_append_byte(encoder->out, '{');
    for (size_t i = 0; i < count && !buf_failed(encoder->out); i++) {
        const ProtobufCFieldDescriptor *fields = entries[i]->descriptor->fields;
        if (i > 0) {
            buf_append_byte(encoder->out, ',');
        }
        encode_map_key(encoder, &fields[0], json_member(entries[i], fields[0].offset));
        buf_append_byte(encoder->out, ':');
        encode_value(encoder, &fields[1], json_member(entries[i], fields[1].offset));
    }
    buf_append_byte(encoder->out, '}');
}

/* proto2 only: returns whether an optional field is not set. */
static bool is_absent_optional(const ProtobufCFieldDescriptor *field,
                               const ProtobufCMessage *message)
{
    if (field->label != PROTOBUF_C_LABEL_OPTIONAL || json_is_oneof(field) ||
        field->type == PROTOBUF_C_TYPE_MESSAGE) {
        return false;
    }
    if (field->type == PROTOBUF_C_TYPE_STRING) {
        return *(char *const *)json_member(message, field->offset) == NULL;
    }
    return !*(const protobuf_c_boolean *)json_member(message, field->quantifier_offset);
}

static void encode_field(const struct encoder *encoder, const ProtobufCFieldDescriptor *field,
                         const ProtobufCMessage *message)
{
    const void *member = json_member(message, field->offset);
    if (field->label == PROTOBUF_C_LABEL_REPEATED) {
        size_t count = *(const size_t *)json_member(message, field->quantifier_offset);
        const void *values = *(void *const *)member;
        if (json_is_map(field)) {
            encode_map(encoder, values, count);
        } else {
            encode_list(encoder, field, values, count);
        }
    } else if (is_absent_optional(field, message)) {
        buf_append_text(encoder->out, "null");
    } else {
        encode_value(encoder, field, member);
    }
}

/* Writes the field's name with what comes before and after it. Names are identifiers and need no
 * escapes. */
static void append_name(struct buf *out, const char *name, bool is_camel, bool is_first)
{
    char text[NAME_MAX_BYTES];
    size_t length = strlen(name);
    CHECK(length + sizeof("{\"\":") <= sizeof(text));
    text[0] = is_first ? '{' : ',';
    text[1] = '"';
    if (is_camel) {
        json_camel_name(name, text + 2);
        length = strlen(text + 2);
    } else {
        memcpy(text + 2, name, length);
    }
    text[length + 2] = '"';
    text[length + 3] = ':';
    buf_append(out, text, length + 4);
}

static bool is_other_oneof_member(const ProtobufCFieldDescriptor *field,
                                  const ProtobufCMessage *message)
{
    return json_is_oneof(field) &&
           *(const uint32_t *)json_member(message, field->quantifier_offset) != field->id;
}

static void encode_message(const struct encoder *encoder, const ProtobufCMessage *message)
{
    const ProtobufCMessageDescriptor *descriptor = message->descriptor;
    bool is_first = true;
    for (unsigned i = 0; i < descriptor->n_fields; i++) {
        const ProtobufCFieldDescriptor *field = &descriptor->fields[i];
        if (is_other_oneof_member(field, message)) {
            continue;
        }
        append_name(encoder->out, field->name, encoder->names == JSON_NAMES_CAMEL, is_first);
        encode_field(encoder, field, message);
        is_first = false;
        if (encoder->names == JSON_NAMES_GO && strchr(field->name, '_') != NULL) {
            append_name(encoder->out, field->name, true, false);
            encode_field(encoder, field, message);
        }
    }
    buf_append_text(encoder->out, is_first ? "{}" : "}");
}

void json_encode(const ProtobufCMessage *message, enum json_names names, struct buf *out)
{
    struct encoder encoder = {.out = out, .names = names};
    encode_message(&encoder, message);
}
