/* What the files of this module share. */
#ifndef RAFTOGRAM_JSON_JSON_INTERNAL_H
#define RAFTOGRAM_JSON_JSON_INTERNAL_H

#include "json/json.h"

/* Returns whether the field is a map. protobuf-c has no mark for maps: they are lists of messages
 * named ...Entry with a key and a value. */
bool json_is_map(const ProtobufCFieldDescriptor *field);

static inline bool json_is_oneof(const ProtobufCFieldDescriptor *field)
{
    return (field->flags & PROTOBUF_C_FIELD_FLAG_ONEOF) != 0;
}

/* Returns the member of a message at the descriptor's offset. */
static inline const void *json_member(const ProtobufCMessage *message, unsigned offset)
{
    return (const char *)message + offset;
}

static inline void *json_member_of(ProtobufCMessage *message, unsigned offset)
{
    return (char *)message + offset;
}

/* Returns the size of one value of the field in a message or a list. */
size_t json_value_size(const ProtobufCFieldDescriptor *field);

/* Returns how many bytes json_base64_decode() writes. */
size_t json_base64_decoded_size(struct bytes text);
/* Returns false if `text` is not base64. */
bool json_base64_decode(struct bytes text, uint8_t *out);

/* Numbers: see json_number.c. */

/* Returns the length of the longest run at `text` that may belong to a number. */
size_t json_number_span(const char *text, size_t size);
/* Returns whether all of `text` is one number by RFC 8259's grammar. */
bool json_is_number_text(struct bytes text);
/* Returns an integer's exact sign and magnitude. Returns false if `text` is no number, has a
 * fraction, or does not fit 64 bits. */
bool json_number_integer(struct bytes text, bool *is_negative, uint64_t *magnitude);
/* Returns the digits after the NUL of a written number (see json_parse()). */
struct bytes json_written_number(const json_t *value);

void json_append_u64(struct buf *out, uint64_t value);
void json_append_i64(struct buf *out, int64_t value);
/* Appends the shortest text that reads back as the same number; NaN and infinities as JSON
 * strings. */
void json_append_double(struct buf *out, double value);
void json_append_float(struct buf *out, float value);

/* Writes `reason` (made printable) as the whole error. Returns ERR_INVALID. */
int json_refuse(struct json_error *error, const char *reason);

#endif
