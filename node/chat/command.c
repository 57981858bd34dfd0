/* Commands and results: encoding, decoding, checks, and descriptions for people. */
#include "chat/command.h"

#include "base/bytes_reader.h"
#include "base/check.h"
#include "base/errors.h"
#include "base/table_hash.h"
#include "base/text.h"

#include <assert.h>
#include <inttypes.h>
#include <string.h>

enum {
    OFFSET_VERSION = 0,
    OFFSET_KIND = 1,
    OFFSET_TIMESTAMP = 2,
    COMMAND_HEADER_BYTES = 10,
    FIELDS_MAX = 4,
    RESULT_FORMAT_VERSION = 2,
    RESULT_HEADER_BYTES = 12,
    DESCRIBED_BYTES_MAX = 80,
};

enum { RESULT_IS_DEDUPLICATED = 1 << 0, RESULT_IS_CREATED = 1 << 1 };

/* Room for the lengths of all fields and for the short fields. */
static_assert(COMMAND_BYTES_MAX - COMMAND_PAYLOAD_BYTES_MAX >=
                  COMMAND_HEADER_BYTES + FIELDS_MAX * 4 + 3 * COMMAND_NAME_BYTES_MAX,
              "the largest command fits");

struct field {
    const char *name;
    size_t offset; /* of a struct bytes in struct command */
    size_t size_max;
};

struct kind {
    const char *name;
    uint8_t format_version; /* of the command, and of its result */
    struct field fields[FIELDS_MAX];
};

#define FIELD(member, max)                               \
    {                                                    \
#member, offsetof(struct command, member), (max) \
    }

/* The layout of each kind, for encoding and decoding. The number of a kind and its fields never
 * change. */
static const struct kind kinds[] = {
    [COMMAND_CREATE_CHANNEL] = {"create_channel",
                                1,
                                {FIELD(channel_id, COMMAND_ID_BYTES_MAX),
                                 FIELD(name, COMMAND_NAME_BYTES_MAX)}},
    [COMMAND_SEND_MESSAGE] = {"send_message",
                              1,
                              {FIELD(channel_id, COMMAND_ID_BYTES_MAX),
                               FIELD(author_id, COMMAND_ID_BYTES_MAX),
                               FIELD(client_message_id, COMMAND_ID_BYTES_MAX),
                               FIELD(payload, COMMAND_PAYLOAD_BYTES_MAX)}},
    [COMMAND_KV_SET] =
        {"kv_set", 1, {FIELD(key, COMMAND_ID_BYTES_MAX), FIELD(value, COMMAND_PAYLOAD_BYTES_MAX)}},
    [COMMAND_KV_DELETE] = {"kv_delete", 1, {FIELD(key, COMMAND_ID_BYTES_MAX)}},
    [COMMAND_SEND_MESSAGES] = {"send_messages", 2, {{0}}},
};

static const struct kind *find_kind(unsigned number)
{
    if (number >= sizeof(kinds) / sizeof(kinds[0]) || kinds[number].name == NULL) {
        return NULL;
    }
    return &kinds[number];
}

static const struct bytes *field_of(const struct command *command, const struct field *field)
{
    return (const struct bytes *)(const void *)((const char *)command + field->offset);
}

/* Refuses NUL although it is valid UTF-8: C strings and strings of protobuf-c cannot hold it. Such
 * an id would be truncated in answers and could collide with another. */
static bool is_text(struct bytes text, size_t size_max)
{
    return text.size <= size_max &&
           (text.size == 0 || (memchr(text.data, 0, text.size) == NULL && bytes_is_utf8(text)));
}

static bool is_required_text(struct bytes text, size_t size_max)
{
    return text.size > 0 && is_text(text, size_max);
}

static enum command_fault check_message(const struct command *command, uint32_t payload_bytes_max)
{
    if (!is_required_text(command->channel_id, COMMAND_ID_BYTES_MAX)) {
        return COMMAND_FAULT_CHANNEL_ID;
    }
    if (!is_text(command->author_id, COMMAND_ID_BYTES_MAX)) {
        return COMMAND_FAULT_AUTHOR_ID;
    }
    if (!is_text(command->client_message_id, COMMAND_ID_BYTES_MAX)) {
        return COMMAND_FAULT_CLIENT_MESSAGE_ID;
    }
    if (command->payload.size > payload_bytes_max) {
        return COMMAND_FAULT_PAYLOAD_TOO_LARGE;
    }
    return COMMAND_FINE;
}

static enum command_fault check_messages(const struct command *command, uint32_t payload_bytes_max)
{
    struct command_messages messages = command_messages_of(command);
    struct command message;
    while (command_messages_next(&messages, &message)) {
        enum command_fault fault = check_message(&message, payload_bytes_max);
        if (fault != COMMAND_FINE) {
            return fault;
        }
    }
    return COMMAND_FINE;
}

enum command_fault command_check(const struct command *command, uint32_t payload_bytes_max)
{
    switch (command->kind) {
    case COMMAND_CREATE_CHANNEL:
        if (!is_text(command->channel_id, COMMAND_ID_BYTES_MAX)) {
            return COMMAND_FAULT_CHANNEL_ID;
        }
        return is_text(command->name, COMMAND_NAME_BYTES_MAX) ? COMMAND_FINE : COMMAND_FAULT_NAME;
    case COMMAND_SEND_MESSAGE:
        return check_message(command, payload_bytes_max);
    case COMMAND_SEND_MESSAGES:
        return check_messages(command, payload_bytes_max);
    case COMMAND_KV_SET:
    case COMMAND_KV_DELETE:
        if (!is_required_text(command->key, COMMAND_ID_BYTES_MAX)) {
            return COMMAND_FAULT_KEY;
        }
        return command->value.size <= payload_bytes_max ? COMMAND_FINE
                                                        : COMMAND_FAULT_VALUE_TOO_LARGE;
    }
    CHECK(!"a known kind");
    return COMMAND_FINE;
}

static void append_sized(struct buf *out, struct bytes bytes)
{
    CHECK(bytes.size <= UINT32_MAX);
    buf_append_u32(out, (uint32_t)bytes.size);
    buf_append(out, bytes.data, bytes.size);
}

static void append_fields(struct buf *out, const struct kind *kind, const struct command *command)
{
    for (size_t i = 0; i < FIELDS_MAX && kind->fields[i].name != NULL; i++) {
        append_sized(out, *field_of(command, &kind->fields[i]));
    }
}

void command_encode(const struct command *command, struct buf *out)
{
    const struct kind *kind = find_kind((unsigned)command->kind);
    CHECK(kind != NULL);
    buf_append_byte(out, kind->format_version);
    buf_append_byte(out, (uint8_t)command->kind);
    buf_append_u64(out, (uint64_t)command->timestamp_ms);
    append_fields(out, kind, command);
    buf_append(out, command->messages.data, command->messages.size);
}

void command_batch_begin(struct command_batch *batch, struct buf *out)
{
    const struct command head = {.kind = COMMAND_SEND_MESSAGES};
    command_encode(&head, out);
    *batch = (struct command_batch){.out = out};
}

void command_batch_add(struct command_batch *batch, const struct command *message)
{
    CHECK(message->kind == COMMAND_SEND_MESSAGE);
    CHECK(message->channel_id.size > 0);
    struct command written = *message;
    if (bytes_equal(message->channel_id, batch->channel_id)) {
        written.channel_id = (struct bytes){0};
    }
    batch->channel_id = message->channel_id;
    append_fields(batch->out, &kinds[COMMAND_SEND_MESSAGE], &written);
}

/* Reads a length and that many bytes. */
static int take_sized(struct bytes_reader *reader, size_t size_max, struct bytes *out)
{
    const uint8_t *prefix = bytes_reader_take(reader, sizeof(uint32_t));
    size_t size = prefix != NULL ? load_u32(prefix) : 0;
    const uint8_t *data = bytes_reader_take(reader, size);
    if (data == NULL || size > size_max) {
        return ERR_CORRUPT;
    }
    *out = (struct bytes){data, size};
    return 0;
}

static int take_fields(struct bytes_reader *reader, const struct kind *kind, struct command *out)
{
    for (size_t i = 0; i < FIELDS_MAX && kind->fields[i].name != NULL; i++) {
        const struct field *field = &kind->fields[i];
        struct bytes *value = (struct bytes *)(void *)((char *)out + field->offset);
        int rc = take_sized(reader, field->size_max, value);
        if (rc != 0) {
            return rc;
        }
    }
    return 0;
}

/* Takes all that is left, which must be whole messages. */
static int take_messages(struct bytes_reader *reader, struct command *out)
{
    struct command command = *out;
    command.messages = (struct bytes){reader->at, bytes_reader_left(reader)};
    while (bytes_reader_left(reader) > 0) {
        struct command message = {0};
        int rc = take_fields(reader, &kinds[COMMAND_SEND_MESSAGE], &message);
        if (rc != 0 || command.message_count == COMMAND_MESSAGES_MAX) {
            return ERR_CORRUPT;
        }
        command.message_count++;
    }
    if (command.message_count == 0) {
        return ERR_CORRUPT;
    }
    *out = command;
    return 0;
}

struct command_messages command_messages_of(const struct command *command)
{
    const uint8_t *data = command->messages.data;
    return (struct command_messages){
        .at = data, .end = data + command->messages.size, .timestamp_ms = command->timestamp_ms};
}

bool command_messages_next(struct command_messages *messages, struct command *out)
{
    if (messages->at == messages->end) {
        return false;
    }
    struct bytes_reader reader = {.at = messages->at, .end = messages->end};
    struct command message = {.kind = COMMAND_SEND_MESSAGE, .timestamp_ms = messages->timestamp_ms};
    int rc = take_fields(&reader, &kinds[COMMAND_SEND_MESSAGE], &message);
    CHECK(rc == 0);
    messages->at = reader.at;
    if (message.channel_id.size == 0) {
        message.channel_id = messages->channel_id;
    }
    messages->channel_id = message.channel_id;
    *out = message;
    return true;
}

unsigned command_format(struct bytes data)
{
    const uint8_t *header = data.data;
    return data.size == 0 ? 0 : header[OFFSET_VERSION];
}

bool command_is_of_newer_version(struct bytes data)
{
    const uint8_t *header = data.data;
    return data.size >= 1 && header[OFFSET_VERSION] > COMMAND_FORMAT_VERSION;
}

int command_decode(struct bytes data, struct command *out)
{
    const uint8_t *header = data.data;
    if (command_is_of_newer_version(data)) {
        return ERR_VERSION;
    }
    if (data.size < COMMAND_HEADER_BYTES || data.size > COMMAND_BYTES_MAX) {
        return ERR_CORRUPT;
    }
    const struct kind *kind = find_kind(header[OFFSET_KIND]);
    if (kind == NULL || header[OFFSET_VERSION] != kind->format_version) {
        return ERR_CORRUPT;
    }
    struct command command = {
        .kind = (enum command_kind)header[OFFSET_KIND],
        .timestamp_ms = (int64_t)load_u64(header + OFFSET_TIMESTAMP),
    };
    struct bytes_reader rest = bytes_reader_of(
        (struct bytes){header + COMMAND_HEADER_BYTES, data.size - COMMAND_HEADER_BYTES});
    int rc = command.kind == COMMAND_SEND_MESSAGES ? take_messages(&rest, &command)
                                                   : take_fields(&rest, kind, &command);
    if (rc != 0 || bytes_reader_left(&rest) != 0) {
        return ERR_CORRUPT;
    }
    *out = command;
    return 0;
}

int command_stamp(uint8_t *data, size_t size, int64_t timestamp_ms)
{
    if (size < COMMAND_HEADER_BYTES) {
        return ERR_CORRUPT;
    }
    store_u64(data + OFFSET_TIMESTAMP, (uint64_t)timestamp_ms);
    return 0;
}

int64_t command_stamp_of(struct bytes data)
{
    const uint8_t *start = data.data;
    return data.size < COMMAND_HEADER_BYTES ? 0 : (int64_t)load_u64(start + OFFSET_TIMESTAMP);
}

uint32_t command_hash(struct bytes data)
{
    const uint8_t *start = data.data;
    if (data.size < COMMAND_HEADER_BYTES) {
        return 0;
    }
    return table_hash(start + COMMAND_HEADER_BYTES, data.size - COMMAND_HEADER_BYTES);
}

bool command_is_same(struct bytes a, struct bytes b)
{
    return a.size == b.size && a.size >= COMMAND_HEADER_BYTES &&
           memcmp(a.data, b.data, OFFSET_TIMESTAMP) == 0 &&
           memcmp((const uint8_t *)a.data + COMMAND_HEADER_BYTES,
                  (const uint8_t *)b.data + COMMAND_HEADER_BYTES,
                  a.size - COMMAND_HEADER_BYTES) == 0;
}

/* Appends the text quoted, on one line and safe for a terminal; cut if it is long. */
static void describe_text(struct bytes text, struct buf *out)
{
    const uint8_t *start = text.data;
    size_t shown = text.size < DESCRIBED_BYTES_MAX ? text.size : DESCRIBED_BYTES_MAX;
    buf_append_byte(out, '"');
    for (size_t at = 0; at < shown;) {
        size_t length = bytes_utf8_character((struct bytes){start + at, text.size - at});
        bool is_control =
            length > 0 && text_is_control(text_code_point((struct bytes){start + at, length}));
        if (length == 0 || is_control) {
            buf_printf(out, "\\x%02x", start[at]);
            at += 1;
        } else {
            if (start[at] == '"' || start[at] == '\\') {
                buf_append_byte(out, '\\');
            }
            buf_append(out, start + at, length);
            at += length;
        }
    }
    buf_append_text(out, shown < text.size ? "…\"" : "\"");
}

void command_describe(struct bytes data, struct buf *out)
{
    if (data.size == 0) {
        buf_append_text(out, "no-op");
        return;
    }
    struct command command;
    int rc = command_decode(data, &command);
    if (rc != 0) {
        buf_printf(out, "undecodable command of %zu bytes: %s", data.size, error_text(rc));
        return;
    }
    const struct kind *kind = find_kind((unsigned)command.kind);
    buf_printf(out, "%s timestamp_ms=%" PRId64, kind->name, command.timestamp_ms);
    for (size_t i = 0; i < FIELDS_MAX && kind->fields[i].name != NULL; i++) {
        const struct field *field = &kind->fields[i];
        struct bytes value = *field_of(&command, field);
        if (field->size_max == COMMAND_PAYLOAD_BYTES_MAX) {
            buf_printf(out, " %s_bytes=%zu", field->name, value.size);
        } else {
            buf_printf(out, " %s=", field->name);
            describe_text(value, out);
        }
    }
    if (command.kind == COMMAND_SEND_MESSAGES) {
        buf_printf(out, " messages=%zu bytes=%zu", command.message_count, command.messages.size);
    }
}

struct command_item command_result_item(const struct command_result *result, size_t position)
{
    CHECK(position < command_result_item_count(result));
    const uint8_t *item = (const uint8_t *)result->items.data + position * COMMAND_ITEM_BYTES;
    return (struct command_item){.sequence = load_u64(item), .deduplicated = item[8] != 0};
}

void command_item_write(struct command_item item, uint8_t out[COMMAND_ITEM_BYTES])
{
    store_u64(out, item.sequence);
    out[8] = item.deduplicated;
}

bool command_result_has_stored(const struct command_result *result)
{
    if (result->outcome != COMMAND_OK) {
        return false;
    }
    if (result->kind != COMMAND_SEND_MESSAGES) {
        return result->kind == COMMAND_SEND_MESSAGE && !result->deduplicated;
    }
    for (size_t i = 0; i < command_result_item_count(result); i++) {
        if (!command_result_item(result, i).deduplicated) {
            return true;
        }
    }
    return false;
}

/* Kind 0 is the result of a no-op and of a command that does not decode. */
static uint8_t result_version(unsigned kind)
{
    return kind == 0 ? 1 : kinds[kind].format_version;
}

void command_result_encode(const struct command_result *result, struct buf *out)
{
    unsigned flags = (result->deduplicated ? RESULT_IS_DEDUPLICATED : 0u) |
                     (result->created ? RESULT_IS_CREATED : 0u);
    bool is_batch = result->kind == COMMAND_SEND_MESSAGES;
    buf_append_byte(out, result_version(result->kind));
    buf_append_byte(out, (uint8_t)result->kind);
    buf_append_byte(out, (uint8_t)result->outcome);
    buf_append_byte(out, (uint8_t)flags);
    buf_append_u64(out, is_batch ? result->item : result->sequence);
    if (is_batch) {
        append_sized(out, result->items);
        return;
    }
    append_sized(out, result->channel_id);
    append_sized(out, result->name);
}

static int take_items(struct bytes_reader *reader, struct command_result *result)
{
    int rc = take_sized(reader, COMMAND_MESSAGES_MAX * COMMAND_ITEM_BYTES, &result->items);
    if (rc != 0 || result->items.size % COMMAND_ITEM_BYTES != 0 || result->sequence > UINT32_MAX) {
        return ERR_CORRUPT;
    }
    const uint8_t *items = result->items.data;
    for (size_t at = COMMAND_ITEM_BYTES - 1; at < result->items.size; at += COMMAND_ITEM_BYTES) {
        if (items[at] > 1) {
            return ERR_CORRUPT;
        }
    }
    result->item = (uint32_t)result->sequence;
    result->sequence = 0;
    return 0;
}

int command_result_decode(struct bytes data, struct command_result *out)
{
    const uint8_t *header = data.data;
    if (data.size >= 1 && header[0] > RESULT_FORMAT_VERSION) {
        return ERR_VERSION;
    }
    if (data.size < RESULT_HEADER_BYTES) {
        return ERR_CORRUPT;
    }
    bool is_known_kind = header[1] == 0 || find_kind(header[1]) != NULL;
    unsigned flags = header[3];
    if (!is_known_kind || header[0] != result_version(header[1]) || header[2] > COMMAND_REFUSED ||
        (flags & ~(unsigned)(RESULT_IS_DEDUPLICATED | RESULT_IS_CREATED)) != 0) {
        return ERR_CORRUPT;
    }
    struct command_result result = {
        .kind = (enum command_kind)header[1],
        .outcome = (enum command_outcome)header[2],
        .sequence = load_u64(header + 4),
        .deduplicated = (flags & RESULT_IS_DEDUPLICATED) != 0,
        .created = (flags & RESULT_IS_CREATED) != 0,
    };
    struct bytes_reader rest = bytes_reader_of(
        (struct bytes){header + RESULT_HEADER_BYTES, data.size - RESULT_HEADER_BYTES});
    int rc;
    if (result.kind == COMMAND_SEND_MESSAGES) {
        rc = take_items(&rest, &result);
    } else {
        rc = take_sized(&rest, COMMAND_ID_BYTES_MAX, &result.channel_id);
        rc = rc == 0 ? take_sized(&rest, COMMAND_NAME_BYTES_MAX, &result.name) : rc;
    }
    if (rc != 0 || bytes_reader_left(&rest) != 0) {
        return ERR_CORRUPT;
    }
    *out = result;
    return 0;
}
