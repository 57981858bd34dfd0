/* The JSON mapping of protobuf for any protobuf-c message, by its descriptor (protobuf.dev,
 * "ProtoJSON"). Every frontend, the peers and raftogramctl use this codec.
 *
 * Out: lowerCamelCase or snake_case names; every field is written, defaults and empty lists
 * included; 64-bit integers are strings; bytes are standard base64 with padding; enums are names;
 * of a oneof, only the member that is set; an unset message field is null.
 * In: both spellings of names; 64-bit integers as strings or numbers (integral ones such as 1e3 or
 * 1.0 too); bytes in standard or URL-safe base64, padded or not; unknown fields are ignored; null
 * is the default; the last of a repeated key wins, but a field given in both spellings is an error,
 * as are two members of one oneof. A string field cannot hold NUL (protobuf-c ends strings with
 * it). Numbers are exact: one that its integer field cannot hold is an error, never rounded into
 * it.
 *
 * Threads: any; calls share no state. Each message, value and buffer is used by one thread at a
 * time.
 *
 * Reading order: json_text.c, json_number.c, json_parse.c, json_encode.c, json_decode.c. */
#ifndef RAFTOGRAM_JSON_JSON_H
#define RAFTOGRAM_JSON_JSON_H

#include "base/buf.h"

#include <jansson.h>
#include <protobuf-c/protobuf-c.h>

enum json_names {
    JSON_NAMES_CAMEL,
    JSON_NAMES_SNAKE,
    /* What Go's encoding/json reads into any struct of these fields: snake_case for structs with
     * tags, also lowerCamelCase, where it differs, for structs without (Go ignores case, not the
     * underscore), and 64-bit integers as numbers. */
    JSON_NAMES_GO,
};

#define JSON_DEPTH_MAX 32         /* accepted nesting of messages */
#define JSON_VALUES_MAX (1 << 17) /* values in one text; jansson uses up to 250 bytes for each */
#define JSON_MAP_KEY_SHOWN_MAX 64 /* longer keys of maps are left out of error texts */

/* Where and why decoding failed: "messages[2].sequence: not an unsigned 64-bit integer". Names are
 * spelt as the text spells them. Always printable ASCII. */
struct json_error {
    char text[256];
};

/* Appends the message as compact JSON. Strings must be UTF-8 (bad ones are written with U+FFFD). On
 * failure, buf_failed() is true. Writes directly into the buffer, without a tree. */
void json_encode(const ProtobufCMessage *message, enum json_names names, struct buf *out);

/* Decodes an object. The message is freed by protobuf_c_message_free_unpacked(out, NULL).
 * Errors: ERR_INVALID (not JSON, not an object, a wrong type, not UTF-8, too deep), ERR_NOMEM. */
int json_decode(const ProtobufCMessageDescriptor *descriptor, struct bytes text,
                ProtobufCMessage **out, struct json_error *error);
/* As json_decode(), but ignores the case of names in both spellings, as Go's encoding/json does:
 * "LeaderID" is leader_id. */
int json_decode_any_case(const ProtobufCMessageDescriptor *descriptor, struct bytes text,
                         ProtobufCMessage **out, struct json_error *error);
/* Returns whether a request body is JSON, else it is protobuf. JSON begins with '{', or with white
 * space before it if the body is no protobuf message of this type. */
bool json_is_body(const ProtobufCMessageDescriptor *descriptor, struct bytes body);
/* As json_decode(), from a parsed value, which the caller keeps. Use json_parse(): jansson alone
 * refuses integers beyond int64 and rounds reals. `error` may be NULL. */
int json_decode_value(const ProtobufCMessageDescriptor *descriptor, const json_t *value,
                      ProtobufCMessage **out, struct json_error *error);

/* Parses any JSON text. Differs from jansson in one point: a number that is not a plain integer of
 * at most 18 digits (1e3, 1.5, 18446744073709551615) becomes a string of NUL and the number as it
 * was written, so that json_decode_value() and json_append_scalar() have it exactly.
 * json_is_written_number() recognises such a string. The caller owns `out` (json_decref()). Linking
 * this module gives jansson an allocator that reports its failures to json_parse().
 * Errors: ERR_INVALID (not JSON, not UTF-8, over JSON_VALUES_MAX values), ERR_NOMEM. */
int json_parse(struct bytes text, json_t **out, struct json_error *error);
bool json_is_written_number(const json_t *value);
/* Sets the key of jansson's hash, before the first parse. Without this call it is random for each
 * process. */
void json_set_key(uint64_t key);
/* Appends a string, number, boolean or null, as for the `id` that JSON-RPC echoes. */
void json_append_scalar(struct buf *out, const json_t *value);

/* Functions for frontends. */

/* Appends `text` as a JSON string with its quotes. */
void json_append_string(struct buf *out, struct bytes text);
/* Appends base64 without quotes. */
void json_append_base64(struct buf *out, struct bytes data);
/* Standard or URL-safe, padded or not. `out` is appended to, on success only.
 * Errors: ERR_INVALID, ERR_NOMEM (see buf_failed()). */
int json_parse_base64(struct bytes text, struct buf *out);
/* "after_sequence" -> "afterSequence". `out` has at least strlen(name) + 1 bytes. */
void json_camel_name(const char *name, char *out);

#endif
