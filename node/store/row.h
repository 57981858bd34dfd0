/* How the rows of the LMDB store are encoded: compact, checksummed, decoded within bounds.
 *
 * database  key                                body
 * meta      a name                             see lmdb_meta.c
 * channels  channel id                         number, last sequence, last timestamp, name
 * messages  position: 1, 2, 3 in the order     channel number, sequence, timestamp, author size,
 *           in which they were committed       client id size, data
 * values    key                                value
 * recent    channel number, item               (empty)
 * runs      channel number                     items (duplicates): first sequence, position
 * dedupe    channel number                     items (duplicates): client id's hash, position
 *
 * Messages stand in the order of their commits, and within a commit by channel: so pages are
 * written once and full, however many channels there are. A run is a row for each stretch of
 * neighbours of one channel, and says where it begins. Client ids with the same hash are
 * neighbours, told apart by reading the messages themselves; `recent` holds those that have not
 * moved to `dedupe` yet (lmdb_commit.c).
 *
 * A value is its checksum (4 bytes) and its body; the checksum covers database, key and body.
 * Integers in keys and bodies are "ordered": 1 to 9 bytes that sort like the number. An item is 8
 * bytes (hash or sequence) and 6 bytes (position), big-endian, and in `runs` and `dedupe` a
 * checksum. */
#ifndef RAFTOGRAM_STORE_ROW_H
#define RAFTOGRAM_STORE_ROW_H

#include "store/store.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum row_database {
    ROW_META,
    ROW_CHANNELS,
    ROW_MESSAGES,
    ROW_VALUES,
    ROW_RECENT,
    ROW_RUNS,
    ROW_DEDUPE,
    ROW_DATABASES,
};

#define ROW_KEY_BYTES_MAX 511 /* LMDB's */
#define ROW_CHECKSUM_BYTES 4
#define ROW_ORDERED_BYTES_MAX 9
#define ROW_POSITION_MAX ((UINT64_C(1) << 48) - 1)
#define ROW_ITEM_BYTES 14                                           /* in a key of `recent` */
#define ROW_SEALED_ITEM_BYTES (ROW_ITEM_BYTES + ROW_CHECKSUM_BYTES) /* in `runs`, `dedupe` */
#define ROW_SMALL_KEY_BYTES_MAX (ROW_ORDERED_BYTES_MAX + ROW_ITEM_BYTES)

/* A position, or a channel number, with an item or without. */
struct row_key {
    size_t size;
    uint8_t data[ROW_SMALL_KEY_BYTES_MAX];
};

struct row_item {
    uint64_t channel_number;
    uint64_t first; /* the hash, or the sequence */
    uint64_t position;
};

/* Writes 1 to 9 bytes; returns how many. */
size_t row_put_ordered(uint8_t *out, uint64_t value);
/* Returns how many bytes were read; 0 if they are not an ordered integer in its shortest form. */
size_t row_get_ordered(const uint8_t *data, size_t size, uint64_t *out);

/* 64 bits over database, key and body: its low half is the row's checksum, and the sum of all is
 * what the meta row and the scrub compare. */
uint64_t row_hash(enum row_database database, struct bytes key, struct bytes body);
/* Checks the checksum at the front of `value`; `body` is a view of the rest. Errors: ERR_CORRUPT.
 */
int row_open(enum row_database database, struct bytes key, struct bytes value, struct bytes *body,
             uint64_t *hash);
/* Writes the checksum in front of a body that is in place already. Returns the row's hash. */
uint64_t row_seal(enum row_database database, struct bytes key, uint8_t *value, size_t size);

size_t row_channel_body_size(const struct store_channel *channel);
void row_channel_encode(const struct store_channel *channel, uint8_t *body);
/* `id` and the name are views. Errors: ERR_CORRUPT. */
int row_channel_decode(struct bytes id, struct bytes body, struct store_channel *out);

struct row_key row_position_key(uint64_t position);
size_t row_message_body_size(uint64_t channel_number, const struct message *message);
void row_message_encode(uint64_t channel_number, const struct message *message, uint8_t *body);

/* The fields of a message's row, as views into it. */
struct row_message {
    uint64_t channel_number;
    uint64_t sequence;
    int64_t timestamp_ms;
    struct bytes author_id;
    struct bytes client_id;
    struct bytes payload;
};
/* Errors: ERR_CORRUPT. */
int row_message_decode(struct bytes body, struct row_message *out);

/* The key in `recent`: channel number and item. The checksum of a sealed item covers the same
 * bytes, so that a row keeps its checksum when it moves from `recent` to `dedupe`. */
struct row_key row_item_key(const struct row_item *item);
/* Errors: ERR_CORRUPT. */
int row_item_key_decode(struct bytes key, struct row_item *out);
/* The second half of such a key, with a checksum. `out` has ROW_SEALED_ITEM_BYTES. Returns the
 * row's hash. */
uint64_t row_item_seal(enum row_database database, const struct row_key *key, uint8_t *out);
/* The whole key from a channel number's key and a sealed item, both checked. Errors: ERR_CORRUPT.
 */
int row_item_open(enum row_database database, struct bytes channel, struct bytes sealed,
                  struct row_key *out, uint64_t *hash);

#endif
