/* How the rows of the LMDB store are encoded: compact, checksummed, decoded within bounds.
 *
 * database  key                                      body
 * meta      a name                                   see store_lmdb.c
 * channels  channel id                               number, last sequence, last timestamp, name
 * messages  channel number, sequence                 timestamp, author size, client id size, data
 * values    key                                      value
 * recent    channel number, hash, sequence           (empty)
 * dedupe    channel number; duplicates of fixed      (none)
 *           size: hash, sequence, checksum
 *
 * A value is its checksum (4 bytes) and its body; the checksum covers database, key and body.
 * Integers in keys and bodies are "ordered": 1 to 9 bytes that sort like the number. `hash` is 8
 * bytes of the client id's hash and its `sequence` 6 bytes, both big-endian: client ids with the
 * same hash are neighbours, told apart by reading the messages themselves. */
#ifndef RAFTOGRAM_CHAT_STORE_ROW_H
#define RAFTOGRAM_CHAT_STORE_ROW_H

#include "chat/store.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum row_database {
    ROW_META,
    ROW_CHANNELS,
    ROW_MESSAGES,
    ROW_VALUES,
    ROW_RECENT,
    ROW_DEDUPE,
    ROW_DATABASES,
};

#define ROW_KEY_BYTES_MAX 511 /* LMDB's */
#define ROW_CHECKSUM_BYTES 4
#define ROW_ORDERED_BYTES_MAX 9
#define ROW_HASH_BYTES 8
#define ROW_SEQUENCE_BYTES 6
#define ROW_SEQUENCE_MAX ((UINT64_C(1) << 48) - 1)
#define ROW_DEDUPE_BYTES (ROW_HASH_BYTES + ROW_SEQUENCE_BYTES)        /* in a key of `recent` */
#define ROW_DEDUPE_ITEM_BYTES (ROW_DEDUPE_BYTES + ROW_CHECKSUM_BYTES) /* in `dedupe` */
#define ROW_SMALL_KEY_BYTES_MAX (ROW_ORDERED_BYTES_MAX + ROW_DEDUPE_BYTES)

/* A key that begins with a channel number. */
struct row_key {
    size_t size;
    uint8_t data[ROW_SMALL_KEY_BYTES_MAX];
};

struct row_dedupe {
    uint64_t channel_number;
    uint64_t hash;
    uint64_t sequence;
};

/* Writes 1 to 9 bytes; returns how many. */
size_t row_put_ordered(uint8_t *out, uint64_t value);
/* How many bytes were read; 0 if they are no ordered integer in its shortest form. */
size_t row_get_ordered(const uint8_t *data, size_t size, uint64_t *out);

/* 64 bits over database, key and body: its low half is the row's checksum, and the sum of all is
 * what the meta row and the scrub compare. */
uint64_t row_hash(enum row_database database, struct bytes key, struct bytes body);
/* Checks the checksum at the front of `value`; `body` is a view of the rest. Errors: ERR_CORRUPT.
 */
int row_open(enum row_database database, struct bytes key, struct bytes value, struct bytes *body,
             uint64_t *hash);
/* Writes the checksum over a body that stands behind it already; returns the row's hash. */
uint64_t row_seal(enum row_database database, struct bytes key, uint8_t *value, size_t size);

size_t row_channel_body_size(const struct store_channel *channel);
void row_channel_encode(const struct store_channel *channel, uint8_t *body);
/* `id` and the name are views. Errors: ERR_CORRUPT. */
int row_channel_decode(struct bytes id, struct bytes body, struct store_channel *out);

struct row_key row_message_key(uint64_t channel_number, uint64_t sequence);
/* Errors: ERR_CORRUPT. */
int row_message_key_decode(struct bytes key, uint64_t *channel_number, uint64_t *sequence);
size_t row_message_body_size(const struct message *message);
void row_message_encode(const struct message *message, uint8_t *body);

/* The fields of a message's row, as views into it. */
struct row_message {
    int64_t timestamp_ms;
    struct bytes author_id;
    struct bytes client_id;
    struct bytes payload;
};
/* Errors: ERR_CORRUPT. */
int row_message_decode(struct bytes body, struct row_message *out);

/* The key in `recent`; also what the checksum of a row of `dedupe` covers, so that a row keeps its
 * checksum when it moves from the one to the other. */
struct row_key row_dedupe_key(const struct row_dedupe *dedupe);
/* Errors: ERR_CORRUPT. */
int row_dedupe_key_decode(struct bytes key, struct row_dedupe *out);

#endif
