/* Random messages of any descriptor, and every descriptor of our .proto files. */
#ifndef RAFTOGRAM_TESTS_RANDOM_MESSAGE_H
#define RAFTOGRAM_TESTS_RANDOM_MESSAGE_H

#include "base/buf.h"
#include "base/check.h"
#include "base/random.h"
#include "google/rpc/error_details.pb-c.h"
#include "google/rpc/status.pb-c.h"
#include "grpc/health/v1/health.pb-c.h"
#include "grpc/reflection/v1/reflection.pb-c.h"
#include "phalanx/consensus.pb-c.h"
#include "phalanx/kv.pb-c.h"
#include "raftogram/v1/cluster.pb-c.h"
#include "raftogram/v1/messaging.pb-c.h"
#include "unit/json/all_kinds.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const ProtobufCMessageDescriptor *const all_descriptors[] = {
    &kinds_descriptor,
    &raftogram__v1__create_channel_request__descriptor,
    &raftogram__v1__create_channel_response__descriptor,
    &raftogram__v1__send_message_request__descriptor,
    &raftogram__v1__send_message_response__descriptor,
    &raftogram__v1__read_history_request__descriptor,
    &raftogram__v1__read_history_response__descriptor,
    &raftogram__v1__subscribe_request__descriptor,
    &raftogram__v1__subscribe_chunk__descriptor,
    &raftogram__v1__stored_message__descriptor,
    &raftogram__v1__list_channels_request__descriptor,
    &raftogram__v1__list_channels_response__descriptor,
    &raftogram__v1__channel__descriptor,
    &raftogram__v1__not_leader__descriptor,
    &raftogram__v1__status_request__descriptor,
    &raftogram__v1__status_response__descriptor,
    &raftogram__v1__member__descriptor,
    &raftogram__v1__transfer_leadership_request__descriptor,
    &raftogram__v1__transfer_leadership_response__descriptor,
    &phalanx__propose_request__descriptor,
    &phalanx__propose_response__descriptor,
    &phalanx__read_request__descriptor,
    &phalanx__read_response__descriptor,
    &phalanx__log_entry__descriptor,
    &phalanx__append_entries_request__descriptor,
    &phalanx__append_entries_response__descriptor,
    &phalanx__request_vote_request__descriptor,
    &phalanx__request_vote_response__descriptor,
    &phalanx__peer_batch__descriptor,
    &phalanx__stream_probe__descriptor,
    &google__rpc__status__descriptor,
    &google__rpc__error_info__descriptor,
    &grpc__health__v1__health_check_request__descriptor,
    &grpc__health__v1__health_check_response__descriptor,
    &grpc__reflection__v1__server_reflection_request__descriptor,
    &grpc__reflection__v1__server_reflection_response__descriptor,
};

#define ALL_DESCRIPTORS (sizeof(all_descriptors) / sizeof(all_descriptors[0]))

static inline void *random_memory(size_t count, size_t size)
{
    void *memory = calloc(count, size);
    CHECK(memory != NULL);
    return memory;
}

/* Small numbers, large ones and the ends of every type, as 64 bits to cut from. */
static inline uint64_t random_integer(struct random *random)
{
    static const uint64_t ends[] = {
        0,         1,         UINT64_MAX, INT64_MAX, (uint64_t)INT64_MIN,
        INT32_MAX, INT32_MIN, UINT32_MAX, 1u << 31,  UINT64_C(1) << 53};
    switch (random_below(random, 3)) {
    case 0:
        return random_below(random, 1000);
    case 1:
        return ends[random_below(random, sizeof(ends) / sizeof(ends[0]))];
    default:
        return random_next(random) >> random_below(random, 64);
    }
}

/* Finite, or one of the three special values; always the same NaN, as JSON has only one. */
static inline double random_double(struct random *random)
{
    switch (random_below(random, 6)) {
    case 0:
        return (double)__builtin_nan("");
    case 1:
        return random_below(random, 2) == 0 ? __builtin_inf() : -__builtin_inf();
    case 2:
        return (double)(int64_t)random_integer(random);
    default:
        return ((double)random_next(random) - 0x1p63) /
               (double)(1 + random_below(random, 1u << 30));
    }
}

static inline char *random_string(struct random *random, const char *prefix)
{
    static const char *const pieces[] = {"a",        "channel",
                                         "\"",       "\\",
                                         "/",        "\n",
                                         "\x01",     "\x7f",
                                         "\xc3\xa9", "_",
                                         "\t\r",     "\xe2\x82\xac",
                                         " ",        "\xf0\x9f\x98\x80"};
    struct buf text = {0};
    buf_append_text(&text, prefix);
    for (uint64_t left = random_below(random, 12); left > 0; left--) {
        buf_append_text(&text, pieces[random_below(random, sizeof(pieces) / sizeof(pieces[0]))]);
    }
    char *copy = strdup(buf_text(&text));
    CHECK(copy != NULL);
    buf_finish(&text);
    return copy;
}

static inline ProtobufCBinaryData random_binary(struct random *random)
{
    ProtobufCBinaryData data = {.len = random_below(random, 20)};
    if (data.len > 0) {
        data.data = random_memory(1, data.len);
        for (size_t i = 0; i < data.len; i++) {
            data.data[i] = (uint8_t)random_next(random);
        }
    }
    return data;
}

static inline ProtobufCMessage *random_message(struct random *random,
                                               const ProtobufCMessageDescriptor *descriptor,
                                               unsigned depth, size_t index);

/* Writes one value and returns its size. Keys of maps get `index`, so that they differ. */
static inline size_t random_value(struct random *random, const ProtobufCFieldDescriptor *field,
                                  unsigned depth, size_t index, void *out)
{
    bool is_key = strcmp(field->name, "key") == 0;
    char prefix[24];
    switch (field->type) {
    case PROTOBUF_C_TYPE_INT32:
    case PROTOBUF_C_TYPE_SINT32:
    case PROTOBUF_C_TYPE_SFIXED32:
    case PROTOBUF_C_TYPE_UINT32:
    case PROTOBUF_C_TYPE_FIXED32:
        *(uint32_t *)out = is_key ? (uint32_t)index : (uint32_t)random_integer(random);
        return sizeof(uint32_t);
    case PROTOBUF_C_TYPE_INT64:
    case PROTOBUF_C_TYPE_SINT64:
    case PROTOBUF_C_TYPE_SFIXED64:
    case PROTOBUF_C_TYPE_UINT64:
    case PROTOBUF_C_TYPE_FIXED64:
        *(uint64_t *)out = random_integer(random);
        return sizeof(uint64_t);
    case PROTOBUF_C_TYPE_FLOAT:
        *(float *)out = (float)random_double(random);
        return sizeof(float);
    case PROTOBUF_C_TYPE_DOUBLE:
        *(double *)out = random_double(random);
        return sizeof(double);
    case PROTOBUF_C_TYPE_BOOL:
        *(protobuf_c_boolean *)out = random_below(random, 2) == 0;
        return sizeof(protobuf_c_boolean);
    case PROTOBUF_C_TYPE_ENUM:
        *(int *)out = (int)random_below(random, 10);
        return sizeof(int);
    case PROTOBUF_C_TYPE_STRING:
        snprintf(prefix, sizeof(prefix), "%zu", index);
        *(char **)out = random_string(random, is_key ? prefix : "");
        return sizeof(char *);
    case PROTOBUF_C_TYPE_BYTES:
        *(ProtobufCBinaryData *)out = random_binary(random);
        return sizeof(ProtobufCBinaryData);
    case PROTOBUF_C_TYPE_MESSAGE:
        *(ProtobufCMessage **)out = random_message(random, field->descriptor, depth, index);
        return sizeof(ProtobufCMessage *);
    }
    return 0;
}

static inline void random_list(struct random *random, const ProtobufCFieldDescriptor *field,
                               unsigned depth, char *message)
{
    size_t count = random_below(random, 4);
    if (count == 0) {
        return;
    }
    char *values = random_memory(count, sizeof(ProtobufCBinaryData));
    size_t at = 0;
    for (size_t i = 0; i < count; i++) {
        at += random_value(random, field, depth, i, values + at);
    }
    *(size_t *)(void *)(message + field->quantifier_offset) = count;
    *(void **)(void *)(message + field->offset) = values;
}

/* Freed by protobuf_c_message_free_unpacked(). Messages nest `depth` deep at most. */
static inline ProtobufCMessage *random_message(struct random *random,
                                               const ProtobufCMessageDescriptor *descriptor,
                                               unsigned depth, size_t index)
{
    char *message = random_memory(1, descriptor->sizeof_message);
    protobuf_c_message_init(descriptor, message);
    bool is_entry =
        strcmp(descriptor->fields != NULL ? descriptor->fields[0].name : "", "key") == 0;
    for (unsigned i = 0; i < descriptor->n_fields; i++) {
        const ProtobufCFieldDescriptor *field = &descriptor->fields[i];
        bool is_oneof = (field->flags & PROTOBUF_C_FIELD_FLAG_ONEOF) != 0;
        uint32_t *oneof_case = (uint32_t *)(void *)(message + field->quantifier_offset);
        bool is_too_deep = field->type == PROTOBUF_C_TYPE_MESSAGE && depth == 0 && !is_entry;
        bool is_left_out = !is_entry && random_below(random, 3) == 0;
        if (is_too_deep || is_left_out || (is_oneof && *oneof_case != 0)) {
            continue;
        }
        unsigned inside = depth > 0 ? depth - 1 : 0;
        if (field->label == PROTOBUF_C_LABEL_REPEATED) {
            random_list(random, field, inside, message);
        } else {
            random_value(random, field, inside, index, message + field->offset);
            if (is_oneof) {
                *oneof_case = field->id;
            }
        }
    }
    return (ProtobufCMessage *)(void *)message;
}

/* The message's protobuf bytes, by which messages are compared. */
static inline struct buf packed(const ProtobufCMessage *message)
{
    struct buf out = {0};
    size_t size = protobuf_c_message_get_packed_size(message);
    uint8_t *to = buf_extend(&out, size);
    CHECK(to != NULL);
    CHECK(protobuf_c_message_pack(message, to) == size);
    return out;
}

#endif
