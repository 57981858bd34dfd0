/* Commands: the contents of a log entry of type COMMAND, and the result of applying one.
 *
 * Encoding (little-endian): u8 format version (1), u8 kind, i64 timestamp_ms, then the kind's
 * fields in the order of struct command, each as a u32 length and its bytes. The timestamp has a
 * fixed place, so that the leader can stamp a forwarded command. An entry without data is a
 * no-op, not a command. */
#ifndef RAFTOGRAM_CHAT_COMMAND_H
#define RAFTOGRAM_CHAT_COMMAND_H

#include "base/buf.h"
#include "store/store.h"

#include <stdbool.h>
#include <stdint.h>

#define COMMAND_FORMAT_VERSION 1
#define COMMAND_ID_BYTES_MAX STORE_ID_BYTES_MAX
#define COMMAND_NAME_BYTES_MAX STORE_NAME_BYTES_MAX
#define COMMAND_PAYLOAD_BYTES_MAX \
    STORE_PAYLOAD_BYTES_MAX /* the most that limits.max_payload_bytes may say */
#define COMMAND_BYTES_MAX (COMMAND_PAYLOAD_BYTES_MAX + 4096)

enum command_kind {
    COMMAND_CREATE_CHANNEL = 1, /* channel_id (may be empty), name */
    COMMAND_SEND_MESSAGE = 2,   /* channel_id, author_id, client_message_id, payload */
    COMMAND_KV_SET = 3,         /* key, value */
    COMMAND_KV_DELETE = 4,      /* key */
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
/* The fields are views into `data`. Errors: ERR_CORRUPT (malformed, trailing bytes), ERR_VERSION.
 */
int command_decode(struct bytes data, struct command *out);
bool command_is_of_newer_version(struct bytes data);
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
    bool deduplicated;       /* SEND_MESSAGE */
    bool created;            /* CREATE_CHANNEL */
    struct bytes channel_id; /* CREATE_CHANNEL; valid until the next apply or as long as the bytes
                                decoded from */
    struct bytes name;       /* CREATE_CHANNEL: the stored one */
};

/* For forwarded answers. */
void command_result_encode(const struct command_result *result, struct buf *out);
int command_result_decode(struct bytes data, struct command_result *out);

#endif
