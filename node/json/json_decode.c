/* Decodes parsed JSON to messages. protobuf_c_message_free_unpacked() may free a message at any
 * point of its construction: lists count only finished elements, and a oneof's case is set last. */
#include "json/json_internal.h"

#include "base/check.h"
#include "base/errors.h"
#include "base/unconst.h"

#include <float.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define JSON_FIELDS_MAX 128                 /* of one message in our .proto files */
#define DOUBLE_EXACT_MAX 9007199254740992.0 /* 2^53: integers up to here are exact in a double */

/* The decoder's place in the text: a chain of names and indices up to the outermost object. */
struct place {
    const struct place *parent;
    const char *name; /* NULL: an element of a list, or an entry of a map */
    size_t index;
    const char *key; /* of a map's entry, else NULL */
    unsigned depth;  /* of messages */
};

struct decoder {
    struct json_error *error;
    bool is_any_case;
};

static int decode_message(const struct decoder *decoder, const struct place *place,
                          const ProtobufCMessageDescriptor *descriptor, const json_t *object,
                          ProtobufCMessage **out);

/* Errors */

static void append_place(struct buf *text, const struct place *place)
{
    if (place->parent == NULL) {
        return;
    }
    append_place(text, place->parent);
    if (place->name != NULL) {
        buf_append_text(text, text->size > 0 ? "." : "");
        buf_append_text(text, place->name);
    } else if (place->key == NULL) {
        buf_printf(text, "[%zu]", place->index);
    } else {
        bool is_long = strlen(place->key) > JSON_MAP_KEY_SHOWN_MAX;
        buf_printf(text, "[\"%s\"]", is_long ? "..." : place->key);
    }
}

static int refuse(const struct decoder *decoder, const struct place *place, const char *reason)
{
    struct buf text;
    buf_init(&text, sizeof(decoder->error->text) * 2);
    append_place(&text, place);
    buf_append_text(&text, text.size > 0 ? ": " : "");
    buf_append_text(&text, reason);
    json_refuse(decoder->error, buf_failed(&text) ? reason : buf_text(&text));
    buf_finish(&text);
    return ERR_INVALID;
}

/* Numbers */

static struct bytes string_bytes(const json_t *value)
{
    return (struct bytes){json_string_value(value), json_string_length(value)};
}

/* The number's text, where the value has one: written numbers and strings. */
static struct bytes number_text(const json_t *value)
{
    return json_is_written_number(value) ? json_written_number(value) : string_bytes(value);
}

static bool read_integer(const json_t *value, bool *is_negative, uint64_t *magnitude)
{
    if (json_is_integer(value)) {
        json_int_t integer = json_integer_value(value);
        *is_negative = integer < 0;
        *magnitude = integer < 0 ? 0 - (uint64_t)integer : (uint64_t)integer;
        return true;
    }
    if (json_is_real(value)) {
        double real = json_real_value(value);
        if (fabs(real) > DOUBLE_EXACT_MAX || real != trunc(real)) {
            return false;
        }
        *is_negative = real < 0;
        *magnitude = (uint64_t)fabs(real);
        return true;
    }
    return json_is_string(value) && json_number_integer(number_text(value), is_negative, magnitude);
}

/* `max` is the largest value of the type; the smallest is -max - 1. */
static bool read_signed(const json_t *value, int64_t max, int64_t *out)
{
    bool is_negative = false;
    uint64_t magnitude = 0;
    if (!read_integer(value, &is_negative, &magnitude) ||
        magnitude > (uint64_t)max + (is_negative ? 1 : 0)) {
        return false;
    }
    *out = is_negative ? (int64_t)(0 - magnitude) : (int64_t)magnitude;
    return true;
}

static bool read_unsigned(const json_t *value, uint64_t max, uint64_t *out)
{
    bool is_negative = false;
    uint64_t magnitude = 0;
    if (!read_integer(value, &is_negative, &magnitude) || magnitude > max ||
        (is_negative && magnitude > 0)) {
        return false;
    }
    *out = magnitude;
    return true;
}

static bool read_real(const json_t *value, double *out)
{
    if (json_is_number(value)) {
        *out = json_number_value(value);
        return true;
    }
    if (!json_is_string(value)) {
        return false;
    }
    struct bytes text = number_text(value);
    if (bytes_equal(text, bytes_of_text("NaN"))) {
        *out = NAN;
    } else if (bytes_equal(text, bytes_of_text("Infinity"))) {
        *out = INFINITY;
    } else if (bytes_equal(text, bytes_of_text("-Infinity"))) {
        *out = -INFINITY;
    } else if (json_is_number_text(text)) {
        *out = strtod(text.data, NULL);
        return isfinite(*out);
    } else {
        return false;
    }
    return true;
}

static bool read_float(const json_t *value, float *out)
{
    double real = 0;
    if (!read_real(value, &real)) {
        return false;
    }
    if (isfinite(real) && fabs(real) > (double)FLT_MAX) {
        return false;
    }
    *out = (float)real;
    return true;
}

/* Scalars */

static int decode_signed(const struct decoder *decoder, const struct place *place,
                         const json_t *value, size_t size, void *out)
{
    int64_t integer = 0;
    if (size == sizeof(int32_t)) {
        if (!read_signed(value, INT32_MAX, &integer)) {
            return refuse(decoder, place, "not a signed 32-bit integer");
        }
        *(int32_t *)out = (int32_t)integer;
        return 0;
    }
    if (!read_signed(value, INT64_MAX, &integer)) {
        return refuse(decoder, place, "not a signed 64-bit integer");
    }
    *(int64_t *)out = integer;
    return 0;
}

static int decode_unsigned(const struct decoder *decoder, const struct place *place,
                           const json_t *value, size_t size, void *out)
{
    uint64_t integer = 0;
    if (size == sizeof(uint32_t)) {
        if (!read_unsigned(value, UINT32_MAX, &integer)) {
            return refuse(decoder, place, "not an unsigned 32-bit integer");
        }
        *(uint32_t *)out = (uint32_t)integer;
        return 0;
    }
    if (!read_unsigned(value, UINT64_MAX, &integer)) {
        return refuse(decoder, place, "not an unsigned 64-bit integer");
    }
    *(uint64_t *)out = integer;
    return 0;
}

/* Accepts any name of the enum and any number: an unknown number is a value of a newer version. */
static int decode_enum(const struct decoder *decoder, const struct place *place,
                       const ProtobufCEnumDescriptor *descriptor, const json_t *value, int *out)
{
    char reason[128];
    if (json_is_string(value) && !json_is_written_number(value)) {
        struct bytes text = string_bytes(value);
        for (unsigned i = 0; i < descriptor->n_value_names; i++) {
            const ProtobufCEnumValueIndex *known = &descriptor->values_by_name[i];
            if (bytes_equal(text, bytes_of_text(known->name))) {
                *out = descriptor->values[known->index].value;
                return 0;
            }
        }
        snprintf(reason, sizeof(reason), "not a name of %s", descriptor->short_name);
        return refuse(decoder, place, reason);
    }
    int64_t integer = 0;
    if (!read_signed(value, INT32_MAX, &integer)) {
        snprintf(reason, sizeof(reason), "not a name or number of %s", descriptor->short_name);
        return refuse(decoder, place, reason);
    }
    *out = (int)integer;
    return 0;
}

static int decode_string(const struct decoder *decoder, const struct place *place,
                         const json_t *value, char **out)
{
    if (!json_is_string(value) || json_is_written_number(value)) {
        return refuse(decoder, place, "not a string");
    }
    struct bytes text = string_bytes(value);
    if (memchr(text.data, 0, text.size) != NULL) {
        return refuse(decoder, place, "contains NUL");
    }
    char *copy = malloc(text.size + 1);
    if (copy == NULL) {
        return ERR_NOMEM;
    }
    memcpy(copy, text.data, text.size);
    copy[text.size] = 0;
    *out = copy;
    return 0;
}

static int decode_bytes(const struct decoder *decoder, const struct place *place,
                        const json_t *value, ProtobufCBinaryData *out)
{
    if (!json_is_string(value) || json_is_written_number(value)) {
        return refuse(decoder, place, "not a string");
    }
    struct bytes text = string_bytes(value);
    if (text.size == 0) {
        *out = (ProtobufCBinaryData){0};
        return 0;
    }
    size_t size = json_base64_decoded_size(text);
    uint8_t *data = malloc(size + 1);
    if (data == NULL) {
        return ERR_NOMEM;
    }
    if (!json_base64_decode(text, data)) {
        free(data);
        return refuse(decoder, place, "not base64");
    }
    *out = (ProtobufCBinaryData){.len = size, .data = data};
    return 0;
}

/* Decodes one value into `out`, which is written on success only. */
static int decode_value(const struct decoder *decoder, const struct place *place,
                        const ProtobufCFieldDescriptor *field, const json_t *value, void *out)
{
    switch (field->type) {
    case PROTOBUF_C_TYPE_INT32:
    case PROTOBUF_C_TYPE_SINT32:
    case PROTOBUF_C_TYPE_SFIXED32:
    case PROTOBUF_C_TYPE_INT64:
    case PROTOBUF_C_TYPE_SINT64:
    case PROTOBUF_C_TYPE_SFIXED64:
        return decode_signed(decoder, place, value, json_value_size(field), out);
    case PROTOBUF_C_TYPE_UINT32:
    case PROTOBUF_C_TYPE_FIXED32:
    case PROTOBUF_C_TYPE_UINT64:
    case PROTOBUF_C_TYPE_FIXED64:
        return decode_unsigned(decoder, place, value, json_value_size(field), out);
    case PROTOBUF_C_TYPE_FLOAT:
        return read_float(value, out) ? 0 : refuse(decoder, place, "not a 32-bit float");
    case PROTOBUF_C_TYPE_DOUBLE:
        return read_real(value, out) ? 0 : refuse(decoder, place, "not a 64-bit float");
    case PROTOBUF_C_TYPE_BOOL:
        if (!json_is_boolean(value)) {
            return refuse(decoder, place, "not true or false");
        }
        *(protobuf_c_boolean *)out = json_is_true(value);
        return 0;
    case PROTOBUF_C_TYPE_ENUM:
        return decode_enum(decoder, place, field->descriptor, value, out);
    case PROTOBUF_C_TYPE_STRING:
        return decode_string(decoder, place, value, out);
    case PROTOBUF_C_TYPE_BYTES:
        return decode_bytes(decoder, place, value, out);
    case PROTOBUF_C_TYPE_MESSAGE:
        return decode_message(decoder, place, field->descriptor, value, out);
    }
    CHECK(field->type <= PROTOBUF_C_TYPE_MESSAGE);
    return ERR_INVALID;
}

/* Lists and maps */

static int decode_list(const struct decoder *decoder, const struct place *place,
                       const ProtobufCFieldDescriptor *field, const json_t *list,
                       ProtobufCMessage *message)
{
    if (!json_is_array(list)) {
        return refuse(decoder, place, "not a list");
    }
    size_t total = json_array_size(list);
    if (total == 0) {
        return 0;
    }
    size_t size = json_value_size(field);
    char *values = calloc(total, size);
    if (values == NULL) {
        return ERR_NOMEM;
    }
    *(void **)json_member_of(message, field->offset) = values;
    size_t *count = json_member_of(message, field->quantifier_offset);
    for (size_t i = 0; i < total; i++) {
        struct place element = {.parent = place, .index = i, .depth = place->depth};
        int rc = decode_value(decoder, &element, field, json_array_get(list, i), values + i * size);
        if (rc != 0) {
            return rc;
        }
        *count = i + 1;
    }
    return 0;
}

/* A key is a JSON string, independent of its type. */
static int decode_map_key(const struct decoder *decoder, const struct place *place,
                          const ProtobufCFieldDescriptor *field, const char *key, void *out)
{
    if (field->type == PROTOBUF_C_TYPE_BOOL) {
        bool is_true = strcmp(key, "true") == 0;
        if (!is_true && strcmp(key, "false") != 0) {
            return refuse(decoder, place, "not a boolean key");
        }
        *(protobuf_c_boolean *)out = is_true;
        return 0;
    }
    json_t *value = json_string(key);
    if (value == NULL) {
        return ERR_NOMEM;
    }
    int rc = decode_value(decoder, place, field, value, out);
    json_decref(value);
    return rc;
}

static int decode_map_entry(const struct decoder *decoder, const struct place *place,
                            const ProtobufCMessageDescriptor *descriptor, const json_t *value,
                            ProtobufCMessage **out)
{
    ProtobufCMessage *entry = malloc(descriptor->sizeof_message);
    if (entry == NULL) {
        return ERR_NOMEM;
    }
    protobuf_c_message_init(descriptor, entry);
    const ProtobufCFieldDescriptor *fields = descriptor->fields;
    int rc = decode_map_key(decoder, place, &fields[0], place->key,
                            json_member_of(entry, fields[0].offset));
    if (rc == 0) {
        rc = decode_value(decoder, place, &fields[1], value,
                          json_member_of(entry, fields[1].offset));
    }
    if (rc != 0) {
        protobuf_c_message_free_unpacked(entry, NULL);
        return rc;
    }
    *out = entry;
    return 0;
}

static int decode_map(const struct decoder *decoder, const struct place *place,
                      const ProtobufCFieldDescriptor *field, const json_t *object,
                      ProtobufCMessage *message)
{
    if (!json_is_object(object)) {
        return refuse(decoder, place, "not an object");
    }
    size_t total = json_object_size(object);
    if (total == 0) {
        return 0;
    }
    ProtobufCMessage **entries = calloc(total, sizeof(*entries));
    if (entries == NULL) {
        return ERR_NOMEM;
    }
    *(void **)json_member_of(message, field->offset) = entries;
    size_t *count = json_member_of(message, field->quantifier_offset);
    /* jansson's iterator takes a mutable pointer but changes nothing. */
    json_t *map = unconst(object);
    for (void *at = json_object_iter(map); at != NULL; at = json_object_iter_next(map, at)) {
        struct place entry = {
            .parent = place, .key = json_object_iter_key(at), .depth = place->depth};
        int rc = decode_map_entry(decoder, &entry, field->descriptor, json_object_iter_value(at),
                                  &entries[*count]);
        if (rc != 0) {
            return rc;
        }
        (*count)++;
    }
    return 0;
}

/* Messages */

/* The fields of a message that were set so far, by their index in the descriptor. */
struct seen_fields {
    uint64_t bits[JSON_FIELDS_MAX / 64];
};

static bool mark_seen(struct seen_fields *seen, size_t index)
{
    uint64_t bit = UINT64_C(1) << index % 64;
    bool was_seen = (seen->bits[index / 64] & bit) != 0;
    seen->bits[index / 64] |= bit;
    return was_seen;
}

static char to_lower(char c)
{
    return c >= 'A' && c <= 'Z' ? (char)(c - 'A' + 'a') : c;
}

/* Returns whether `key` is the lowerCamelCase form of `name`. */
static bool is_camel_name(const char *name, const char *key, bool is_any_case)
{
    bool is_upper = false;
    for (; *name != 0; name++) {
        if (*name == '_') {
            is_upper = true;
            continue;
        }
        bool is_letter = *name >= 'a' && *name <= 'z';
        char expected = is_upper && is_letter ? (char)(*name - 'a' + 'A') : *name;
        if (is_any_case ? to_lower(*key) != *name : *key != expected) {
            return false;
        }
        key++;
        is_upper = false;
    }
    return *key == 0;
}

/* Returns whether `key` is `name`, which is in lower case. */
static bool is_snake_name(const char *name, const char *key, bool is_any_case)
{
    if (!is_any_case) {
        return strcmp(name, key) == 0;
    }
    for (; *name != 0; name++, key++) {
        if (to_lower(*key) != *name) {
            return false;
        }
    }
    return *key == 0;
}

/* Returns NULL if the message has no such field. */
static const ProtobufCFieldDescriptor *find_field(const ProtobufCMessageDescriptor *descriptor,
                                                  const char *key, bool is_any_case)
{
    for (unsigned i = 0; i < descriptor->n_fields; i++) {
        const ProtobufCFieldDescriptor *field = &descriptor->fields[i];
        if (is_snake_name(field->name, key, is_any_case) ||
            is_camel_name(field->name, key, is_any_case)) {
            return field;
        }
    }
    return NULL;
}

/* Marks the member as set, if the message has a mark for it. */
static void mark_present(const ProtobufCFieldDescriptor *field, ProtobufCMessage *message)
{
    if (json_is_oneof(field)) {
        *(uint32_t *)json_member_of(message, field->quantifier_offset) = field->id;
    } else if (field->label == PROTOBUF_C_LABEL_OPTIONAL && field->type != PROTOBUF_C_TYPE_STRING &&
               field->type != PROTOBUF_C_TYPE_MESSAGE) {
        *(protobuf_c_boolean *)json_member_of(message, field->quantifier_offset) = true;
    }
}

static int decode_field(const struct decoder *decoder, const struct place *place,
                        const ProtobufCFieldDescriptor *field, const json_t *value,
                        ProtobufCMessage *message)
{
    if (json_is_null(value)) {
        return 0;
    }
    if (json_is_map(field)) {
        return decode_map(decoder, place, field, value, message);
    }
    if (field->label == PROTOBUF_C_LABEL_REPEATED) {
        return decode_list(decoder, place, field, value, message);
    }
    if (json_is_oneof(field) &&
        *(const uint32_t *)json_member(message, field->quantifier_offset) != 0) {
        return refuse(decoder, place, "another member of the same oneof is set too");
    }
    int rc = decode_value(decoder, place, field, value, json_member_of(message, field->offset));
    if (rc == 0) {
        mark_present(field, message);
    }
    return rc;
}

static int decode_fields(const struct decoder *decoder, const struct place *place, json_t *object,
                         ProtobufCMessage *message)
{
    const ProtobufCMessageDescriptor *descriptor = message->descriptor;
    struct seen_fields seen = {0};
    CHECK(descriptor->n_fields <= JSON_FIELDS_MAX);
    for (void *at = json_object_iter(object); at != NULL; at = json_object_iter_next(object, at)) {
        const char *key = json_object_iter_key(at);
        const ProtobufCFieldDescriptor *field = find_field(descriptor, key, decoder->is_any_case);
        if (field == NULL) {
            continue;
        }
        struct place member = {.parent = place, .name = key, .depth = place->depth};
        bool is_other_spelling = strcmp(key, field->name) != 0;
        if (mark_seen(&seen, (size_t)(field - descriptor->fields)) ||
            (is_other_spelling && json_object_get(object, field->name) != NULL)) {
            return refuse(decoder, &member, "given in both spellings");
        }
        int rc = decode_field(decoder, &member, field, json_object_iter_value(at), message);
        if (rc != 0) {
            return rc;
        }
    }
    return 0;
}

static int decode_message(const struct decoder *decoder, const struct place *place,
                          const ProtobufCMessageDescriptor *descriptor, const json_t *object,
                          ProtobufCMessage **out)
{
    if (!json_is_object(object)) {
        return refuse(decoder, place, "not an object");
    }
    struct place inside = *place;
    inside.depth++;
    if (inside.depth > JSON_DEPTH_MAX) {
        return refuse(decoder, place, "nested too deeply");
    }
    ProtobufCMessage *message = malloc(descriptor->sizeof_message);
    if (message == NULL) {
        return ERR_NOMEM;
    }
    protobuf_c_message_init(descriptor, message);
    int rc = decode_fields(decoder, &inside, unconst(object), message);
    if (rc != 0) {
        protobuf_c_message_free_unpacked(message, NULL);
        return rc;
    }
    *out = message;
    return 0;
}

static int decode_outermost(const struct decoder *decoder,
                            const ProtobufCMessageDescriptor *descriptor, const json_t *value,
                            ProtobufCMessage **out)
{
    struct place outermost = {0};
    return decode_message(decoder, &outermost, descriptor, value, out);
}

int json_decode_value(const ProtobufCMessageDescriptor *descriptor, const json_t *value,
                      ProtobufCMessage **out, struct json_error *error)
{
    const struct decoder decoder = {.error = error};
    return decode_outermost(&decoder, descriptor, value, out);
}

static int decode_text(const struct decoder *decoder, const ProtobufCMessageDescriptor *descriptor,
                       struct bytes text, ProtobufCMessage **out)
{
    json_t *value = NULL;
    int rc = json_parse(text, &value, decoder->error);
    if (rc != 0) {
        return rc;
    }
    rc = decode_outermost(decoder, descriptor, value, out);
    json_decref(value);
    return rc;
}

int json_decode(const ProtobufCMessageDescriptor *descriptor, struct bytes text,
                ProtobufCMessage **out, struct json_error *error)
{
    const struct decoder decoder = {.error = error};
    return decode_text(&decoder, descriptor, text, out);
}

int json_decode_any_case(const ProtobufCMessageDescriptor *descriptor, struct bytes text,
                         ProtobufCMessage **out, struct json_error *error)
{
    const struct decoder decoder = {.error = error, .is_any_case = true};
    return decode_text(&decoder, descriptor, text, out);
}

/* JSON or protobuf */

static bool is_white_space(char c)
{
    return c == ' ' || c == '\t' || c == '\r' || c == '\n';
}

/* Each byte of JSON's white space is a tag of protobuf, too: 0x0a is field 1 with a length, 0x20 a
 * varint of field 4, 0x09 and 0x0d are field 1 with eight and four bytes. "\n{" begins a message
 * whose first field has 123 bytes, as an id or a key may well have. So white space alone decides
 * nothing. A body that is a complete message of its type, and begins with a field of the type, is
 * protobuf: its fields are the caller's data and must not be read as another request. A JSON text
 * is such a message only if its lengths and wire types fit to the last byte, for instance a
 * newline, a brace and exactly 123 bytes. A body without leading white space is never ambiguous. */
bool json_is_body(const ProtobufCMessageDescriptor *descriptor, struct bytes body)
{
    const char *text = body.data;
    size_t at = 0;
    while (at < body.size && is_white_space(text[at])) {
        at++;
    }
    if (at == body.size || text[at] != '{') {
        return false;
    }
    unsigned number = (unsigned)text[0] >> 3;
    if (at == 0 || protobuf_c_message_descriptor_get_field(descriptor, number) == NULL) {
        return true;
    }
    ProtobufCMessage *message = protobuf_c_message_unpack(descriptor, NULL, body.size, body.data);
    protobuf_c_message_free_unpacked(message, NULL);
    return message == NULL;
}
