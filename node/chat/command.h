/* Commands: the contents of a log entry of type COMMAND, and the result of applying one.
 *
 * Encoding (little-endian): u8 format version, u8 kind, i64 timestamp_ms, then the kind's fields in
 * the order of struct command, each as a u32 length and its bytes. The timestamp has a fixed place,
 * so that the leader can stamp a forwarded command. An entry without data is a no-op, not a
 * command.
 *
 * Each kind has the format version that introduced it, so that older nodes read all older kinds.
 * SEND_MESSAGES is of version 2. It has the fields of SEND_MESSAGE for each message, one message
 * after the other. An empty channel_id means the channel of the message before. */
#ifndef RAFTOGRAM_CHAT_COMMAND_H
#define RAFTOGRAM_CHAT_COMMAND_H

#include "base/buf.h"
#include "store/store.h"

#include <stdbool.h>
#include <stdint.h>

#define COMMAND_FORMAT_VERSION 2 /* the newest that this program understands */
#define COMMAND_FORMAT_OLDEST 1  /* every node understands it */
#define COMMAND_ID_BYTES_MAX STORE_ID_BYTES_MAX
#define COMMAND_NAME_BYTES_MAX STORE_NAME_BYTES_MAX
#define COMMAND_PAYLOAD_BYTES_MAX \
    STORE_PAYLOAD_BYTES_MAX /* the most that limits.max_payload_bytes may say */
#define COMMAND_BYTES_MAX (COMMAND_PAYLOAD_BYTES_MAX + 4096)
#define COMMAND_MESSAGES_MAX 1000 /* of one SEND_MESSAGES */

enum command_kind {
    COMMAND_CREATE_CHANNEL = 1, /* channel_id (may be empty), name */
    COMMAND_SEND_MESSAGE = 2,   /* channel_id, author_id, client_message_id, payload */
    COMMAND_KV_SET = 3,         /* key, value */
    COMMAND_KV_DELETE = 4,      /* key */
    COMMAND_SEND_MESSAGES = 5,  /* messages: all are stored or none */
};

struct command {
    enum command_kind kind;
    int64_t timestamp_ms; /* wall time of the leader that proposed it */
    struct bytes channel_id;
    struct bytes name;
    struct bytes author_id;
    struct bytes client_message_id;
    struct bytes payload;
    struct bytes key;
    struct bytes value;
    struct bytes messages; /* encoded; read by command_messages_next() */
    size_t message_count;
};

/* Why a command is refused before it is proposed, and (with the largest limits) in apply. */
enum command_fault {
    COMMAND_FINE,
    COMMAND_FAULT_CHANNEL_ID, /* missing, over-long or not UTF-8 */
    COMMAND_FAULT_NAME,
    COMMAND_FAULT_AUTHOR_ID,
    COMMAND_FAULT_CLIENT_MESSAGE_ID,
    COMMAND_FAULT_PAYLOAD_TOO_LARGE,
    COMMAND_FAULT_KEY,
    COMMAND_FAULT_VALUE_TOO_LARGE,
};
enum command_fault command_check(const struct command *command, uint32_t payload_bytes_max);

void command_encode(const struct command *command, struct buf *out);

/* Writes a SEND_MESSAGES message by message. */
struct command_batch {
    struct buf *out;
    struct bytes channel_id; /* of the last message; the caller's */
};
void command_batch_begin(struct command_batch *batch, struct buf *out);
/* Appends a SEND_MESSAGE. Its channel_id must stay valid until the next call. */
void command_batch_add(struct command_batch *batch, const struct command *message);

/* Reads the messages of a decoded SEND_MESSAGES. */
struct command_messages {
    const uint8_t *at;
    const uint8_t *end;
    struct bytes channel_id;
    int64_t timestamp_ms;
};
struct command_messages command_messages_of(const struct command *command);
/* Sets `out` to the next message, as a SEND_MESSAGE. Returns false at the end. */
bool command_messages_next(struct command_messages *messages, struct command *out);

/* The fields are views into `data`. Errors: ERR_CORRUPT (malformed, trailing bytes), ERR_VERSION.
 */
int command_decode(struct bytes data, struct command *out);
bool command_is_of_newer_version(struct bytes data);
/* Returns the format version of an encoded command; 0 for a no-op. */
unsigned command_format(struct bytes data);
/* Overwrites the timestamp of an encoded command. Errors: ERR_CORRUPT (too short). */
int command_stamp(uint8_t *data, size_t size, int64_t timestamp_ms);
/* The timestamp of an encoded command; 0 when it is too short. */
int64_t command_stamp_of(struct bytes data);
/* Hashes an encoded command without its timestamp, for tables (base/table_hash.h). */
uint32_t command_hash(struct bytes data);
/* True if the commands differ at most in their timestamps. */
bool command_is_same(struct bytes a, struct bytes b);
/* Describes a command in one line, for raftogram -dump-log. */
void command_describe(struct bytes data, struct buf *out);

enum command_outcome {
    COMMAND_OK,
    COMMAND_CHANNEL_NOT_FOUND,
    COMMAND_REFUSED, /* it does not decode or breaks a limit; nothing was changed */
};

struct command_result {
    enum command_kind kind;
    enum command_outcome outcome;
    uint64_t sequence;       /* SEND_MESSAGE */
    bool deduplicated;       /* SEND_MESSAGE; SEND_MESSAGES: of at least one message */
    bool created;            /* CREATE_CHANNEL */
    uint32_t item;           /* SEND_MESSAGES that is not OK: position of the message at fault */
    struct bytes items;      /* SEND_MESSAGES: read by command_result_item(); valid as channel_id */
    struct bytes channel_id; /* CREATE_CHANNEL; valid until the next apply or as long as the bytes
                                decoded from */
    struct bytes name;       /* CREATE_CHANNEL: the stored one */
};

/* One message's part of the result of a SEND_MESSAGES. */
#define COMMAND_ITEM_BYTES 9
struct command_item {
    uint64_t sequence;
    bool deduplicated;
};
static inline size_t command_result_item_count(const struct command_result *result)
{
    return result->items.size / COMMAND_ITEM_BYTES;
}
struct command_item command_result_item(const struct command_result *result, size_t position);
void command_item_write(struct command_item item, uint8_t out[COMMAND_ITEM_BYTES]);
/* Returns whether the command stored a message. */
bool command_result_has_stored(const struct command_result *result);

/* For forwarded answers. */
void command_result_encode(const struct command_result *result, struct buf *out);
int command_result_decode(struct bytes data, struct command_result *out);

#endif
