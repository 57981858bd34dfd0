/* A message with a field of every kind that protobuf-c knows. Written by hand, as our .proto files
 * need few of the kinds:
 *
 *   enum Colour { RED = 0; GREEN = 1; DARK_BLUE = 7; }
 *   message Kinds { one field of each type; a repeated one of each; the maps and the oneof below }
 */
#ifndef RAFTOGRAM_TESTS_ALL_KINDS_H
#define RAFTOGRAM_TESTS_ALL_KINDS_H

#include "base/unconst.h"
#include <protobuf-c/protobuf-c.h>
#include <stddef.h>
#include <stdint.h>

struct kinds;
struct kinds_name_entry;
struct kinds_number_entry;

/* name, number, type, C type, descriptor */
#define KINDS_SINGLE(X)                              \
    X(an_int32, 1, INT32, int32_t, NULL)             \
    X(a_sint32, 2, SINT32, int32_t, NULL)            \
    X(an_sfixed32, 3, SFIXED32, int32_t, NULL)       \
    X(an_int64, 4, INT64, int64_t, NULL)             \
    X(a_sint64, 5, SINT64, int64_t, NULL)            \
    X(an_sfixed64, 6, SFIXED64, int64_t, NULL)       \
    X(a_uint32, 7, UINT32, uint32_t, NULL)           \
    X(a_fixed32, 8, FIXED32, uint32_t, NULL)         \
    X(a_uint64, 9, UINT64, uint64_t, NULL)           \
    X(a_fixed64, 10, FIXED64, uint64_t, NULL)        \
    X(a_float, 11, FLOAT, float, NULL)               \
    X(a_double, 12, DOUBLE, double, NULL)            \
    X(a_bool, 13, BOOL, protobuf_c_boolean, NULL)    \
    X(an_enum, 14, ENUM, int, &colour_descriptor)    \
    X(a_string, 15, STRING, char *, NULL)            \
    X(a_bytes, 16, BYTES, ProtobufCBinaryData, NULL) \
    X(a_message, 17, MESSAGE, struct kinds *, &kinds_descriptor)

#define KINDS_REPEATED(X)                                                             \
    X(int32_list, 18, INT32, int32_t, NULL)                                           \
    X(sint32_list, 19, SINT32, int32_t, NULL)                                         \
    X(sfixed32_list, 20, SFIXED32, int32_t, NULL)                                     \
    X(int64_list, 21, INT64, int64_t, NULL)                                           \
    X(sint64_list, 22, SINT64, int64_t, NULL)                                         \
    X(sfixed64_list, 23, SFIXED64, int64_t, NULL)                                     \
    X(uint32_list, 24, UINT32, uint32_t, NULL)                                        \
    X(fixed32_list, 25, FIXED32, uint32_t, NULL)                                      \
    X(uint64_list, 26, UINT64, uint64_t, NULL)                                        \
    X(fixed64_list, 27, FIXED64, uint64_t, NULL)                                      \
    X(float_list, 28, FLOAT, float, NULL)                                             \
    X(double_list, 29, DOUBLE, double, NULL)                                          \
    X(bool_list, 30, BOOL, protobuf_c_boolean, NULL)                                  \
    X(enum_list, 31, ENUM, int, &colour_descriptor)                                   \
    X(string_list, 32, STRING, char *, NULL)                                          \
    X(bytes_list, 33, BYTES, ProtobufCBinaryData, NULL)                               \
    X(message_list, 34, MESSAGE, struct kinds *, &kinds_descriptor)                   \
    X(name_map, 35, MESSAGE, struct kinds_name_entry *, &kinds_name_entry_descriptor) \
    X(number_map, 36, MESSAGE, struct kinds_number_entry *, &kinds_number_entry_descriptor)

#define KINDS_ONEOF(X)                           \
    X(choice_text, 37, STRING, char *, NULL)     \
    X(choice_number, 38, UINT64, uint64_t, NULL) \
    X(choice_message, 39, MESSAGE, struct kinds *, &kinds_descriptor)

#define KINDS_FIELDS 39

#define KINDS_DECLARE_ONE(name, id, kind, c_type, of) c_type name;
#define KINDS_DECLARE_LIST(name, id, kind, c_type, of) \
    size_t n_##name;                                   \
    c_type *name;

struct kinds {
    ProtobufCMessage base;
    KINDS_SINGLE(KINDS_DECLARE_ONE)
    KINDS_REPEATED(KINDS_DECLARE_LIST)
    uint32_t choice_case;
    union {
        KINDS_ONEOF(KINDS_DECLARE_ONE)
    } choice;
};

/* map<string, Kinds> */
struct kinds_name_entry {
    ProtobufCMessage base;
    char *key;
    struct kinds *value;
};

/* map<int32, uint64> */
struct kinds_number_entry {
    ProtobufCMessage base;
    int32_t key;
    uint64_t value;
};

static const ProtobufCMessageDescriptor kinds_descriptor;

static const ProtobufCEnumValue colour_values[] = {
    {"RED", "RED", 0}, {"GREEN", "GREEN", 1}, {"DARK_BLUE", "DARK_BLUE", 7}};
static const ProtobufCIntRange colour_ranges[] = {{0, 0}, {7, 2}, {0, 3}};
static const ProtobufCEnumValueIndex colour_names[] = {{"DARK_BLUE", 2}, {"GREEN", 1}, {"RED", 0}};
static const ProtobufCEnumDescriptor colour_descriptor = {.magic =
                                                              PROTOBUF_C__ENUM_DESCRIPTOR_MAGIC,
                                                          .name = "tests.Colour",
                                                          .short_name = "Colour",
                                                          .n_values = 3,
                                                          .values = colour_values,
                                                          .n_value_names = 3,
                                                          .values_by_name = colour_names,
                                                          .n_value_ranges = 2,
                                                          .value_ranges = colour_ranges};

static inline void kinds_name_entry_init(ProtobufCMessage *message);
static inline void kinds_number_entry_init(ProtobufCMessage *message);
static inline void kinds_init(ProtobufCMessage *message);

static const ProtobufCFieldDescriptor kinds_name_entry_fields[] = {
    {.name = "key",
     .id = 1,
     .label = PROTOBUF_C_LABEL_NONE,
     .type = PROTOBUF_C_TYPE_STRING,
     .offset = offsetof(struct kinds_name_entry, key),
     .default_value = &protobuf_c_empty_string},
    {.name = "value",
     .id = 2,
     .label = PROTOBUF_C_LABEL_NONE,
     .type = PROTOBUF_C_TYPE_MESSAGE,
     .offset = offsetof(struct kinds_name_entry, value),
     .descriptor = &kinds_descriptor}};
static const ProtobufCFieldDescriptor kinds_number_entry_fields[] = {
    {.name = "key",
     .id = 1,
     .label = PROTOBUF_C_LABEL_NONE,
     .type = PROTOBUF_C_TYPE_INT32,
     .offset = offsetof(struct kinds_number_entry, key)},
    {.name = "value",
     .id = 2,
     .label = PROTOBUF_C_LABEL_NONE,
     .type = PROTOBUF_C_TYPE_UINT64,
     .offset = offsetof(struct kinds_number_entry, value)}};
static const ProtobufCIntRange kinds_entry_ranges[] = {{1, 0}, {0, 2}};

static const ProtobufCMessageDescriptor kinds_name_entry_descriptor = {
    .magic = PROTOBUF_C__MESSAGE_DESCRIPTOR_MAGIC,
    .name = "tests.Kinds.NameMapEntry",
    .short_name = "NameMapEntry",
    .sizeof_message = sizeof(struct kinds_name_entry),
    .n_fields = 2,
    .fields = kinds_name_entry_fields,
    .n_field_ranges = 1,
    .field_ranges = kinds_entry_ranges,
    .message_init = kinds_name_entry_init};
static const ProtobufCMessageDescriptor kinds_number_entry_descriptor = {
    .magic = PROTOBUF_C__MESSAGE_DESCRIPTOR_MAGIC,
    .name = "tests.Kinds.NumberMapEntry",
    .short_name = "NumberMapEntry",
    .sizeof_message = sizeof(struct kinds_number_entry),
    .n_fields = 2,
    .fields = kinds_number_entry_fields,
    .n_field_ranges = 1,
    .field_ranges = kinds_entry_ranges,
    .message_init = kinds_number_entry_init};

#define KINDS_DESCRIBE_ONE(field, number, kind, c_type, of) \
    {.name = #field,                                        \
     .id = number,                                          \
     .label = PROTOBUF_C_LABEL_NONE,                        \
     .type = PROTOBUF_C_TYPE_##kind,                        \
     .offset = offsetof(struct kinds, field),               \
     .descriptor = of,                                      \
     .default_value =                                       \
         PROTOBUF_C_TYPE_##kind == PROTOBUF_C_TYPE_STRING ? &protobuf_c_empty_string : NULL},
#define KINDS_DESCRIBE_LIST(field, number, kind, c_type, of) \
    {.name = #field,                                         \
     .id = number,                                           \
     .label = PROTOBUF_C_LABEL_REPEATED,                     \
     .type = PROTOBUF_C_TYPE_##kind,                         \
     .quantifier_offset = offsetof(struct kinds, n_##field), \
     .offset = offsetof(struct kinds, field),                \
     .descriptor = of,                                       \
     .flags = PROTOBUF_C_TYPE_##kind < PROTOBUF_C_TYPE_STRING ? PROTOBUF_C_FIELD_FLAG_PACKED : 0},
#define KINDS_DESCRIBE_ONEOF(field, number, kind, c_type, of)                                \
    {.name = #field,                                                                         \
     .id = number,                                                                           \
     .label = PROTOBUF_C_LABEL_NONE,                                                         \
     .type = PROTOBUF_C_TYPE_##kind,                                                         \
     .quantifier_offset = offsetof(struct kinds, choice_case),                               \
     .offset = offsetof(struct kinds, choice.field),                                         \
     .descriptor = of,                                                                       \
     .default_value =                                                                        \
         PROTOBUF_C_TYPE_##kind == PROTOBUF_C_TYPE_STRING ? &protobuf_c_empty_string : NULL, \
     .flags = PROTOBUF_C_FIELD_FLAG_ONEOF},

static const ProtobufCFieldDescriptor kinds_fields[KINDS_FIELDS] = {KINDS_SINGLE(
    KINDS_DESCRIBE_ONE) KINDS_REPEATED(KINDS_DESCRIBE_LIST) KINDS_ONEOF(KINDS_DESCRIBE_ONEOF)};
static const ProtobufCIntRange kinds_ranges[] = {{1, 0}, {0, KINDS_FIELDS}};

static const ProtobufCMessageDescriptor kinds_descriptor = {
    .magic = PROTOBUF_C__MESSAGE_DESCRIPTOR_MAGIC,
    .name = "tests.Kinds",
    .short_name = "Kinds",
    .sizeof_message = sizeof(struct kinds),
    .n_fields = KINDS_FIELDS,
    .fields = kinds_fields,
    .n_field_ranges = 1,
    .field_ranges = kinds_ranges,
    .message_init = kinds_init};

static inline void kinds_name_entry_init(ProtobufCMessage *message)
{
    *(struct kinds_name_entry *)(void *)message =
        (struct kinds_name_entry){.base = PROTOBUF_C_MESSAGE_INIT(&kinds_name_entry_descriptor),
                                  .key = unconst(protobuf_c_empty_string)};
}

static inline void kinds_number_entry_init(ProtobufCMessage *message)
{
    *(struct kinds_number_entry *)(void *)message = (struct kinds_number_entry){
        .base = PROTOBUF_C_MESSAGE_INIT(&kinds_number_entry_descriptor)};
}

static inline void kinds_init(ProtobufCMessage *message)
{
    *(struct kinds *)(void *)message =
        (struct kinds){.base = PROTOBUF_C_MESSAGE_INIT(&kinds_descriptor),
                       .a_string = unconst(protobuf_c_empty_string)};
}

#endif
