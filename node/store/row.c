/* Rows of the store: keys, values and their checksums. */
#include "store/row.h"

#include "base/bytes_reader.h"
#include "base/check.h"
#include "base/checksum.h"
#include "base/errors.h"

#include <string.h>

/* The number of leading ones in the first byte says how many bytes follow, so longer encodings sort
 * behind shorter ones, and big-endian does the rest. */
size_t row_put_ordered(uint8_t *out, uint64_t value)
{
    size_t extra = 0;
    while (extra < 8 && (value >> (7 * (extra + 1))) != 0) {
        extra++;
    }
    uint8_t marks = (uint8_t)(0xff00u >> extra);
    for (size_t i = extra; i > 0; i--) {
        out[i] = (uint8_t)value;
        value >>= 8;
    }
    out[0] = (uint8_t)(marks | value);
    return extra + 1;
}

size_t row_get_ordered(const uint8_t *data, size_t size, uint64_t *out)
{
    if (size == 0) {
        return 0;
    }
    size_t extra = 0;
    while (extra < 8 && (data[0] & (0x80u >> extra)) != 0) {
        extra++;
    }
    if (size < extra + 1) {
        return 0;
    }
    uint64_t value = data[0] & (0x7fu >> extra);
    for (size_t i = 1; i <= extra; i++) {
        value = value << 8 | data[i];
    }
    if (extra > 0 && value >> (7 * extra) == 0) {
        return 0;
    }
    *out = value;
    return extra + 1;
}

/* Small magnitudes of either sign become small numbers. */
static uint64_t zigzag(int64_t value)
{
    return (uint64_t)value << 1 ^ (value < 0 ? UINT64_MAX : 0);
}

static int64_t unzigzag(uint64_t value)
{
    return (int64_t)(value >> 1 ^ ((value & 1) != 0 ? UINT64_MAX : 0));
}

static size_t ordered_size(uint64_t value)
{
    uint8_t scratch[ROW_ORDERED_BYTES_MAX];
    return row_put_ordered(scratch, value);
}

/* ---- checksums ---- */

uint64_t row_hash(enum row_database database, struct bytes key, struct bytes body)
{
    uint64_t hash = checksum64_seed((uint64_t)database, key.data, key.size);
    return checksum64_seed(hash, body.data, body.size);
}

int row_open(enum row_database database, struct bytes key, struct bytes value, struct bytes *body,
             uint64_t *hash)
{
    if (value.size < ROW_CHECKSUM_BYTES) {
        return ERR_CORRUPT;
    }
    struct bytes rest = {.data = (const uint8_t *)value.data + ROW_CHECKSUM_BYTES,
                         .size = value.size - ROW_CHECKSUM_BYTES};
    uint64_t computed = row_hash(database, key, rest);
    if (load_u32(value.data) != (uint32_t)computed) {
        return ERR_CORRUPT;
    }
    *body = rest;
    *hash = computed;
    return 0;
}

uint64_t row_seal(enum row_database database, struct bytes key, uint8_t *value, size_t size)
{
    struct bytes body = {.data = value + ROW_CHECKSUM_BYTES, .size = size - ROW_CHECKSUM_BYTES};
    uint64_t hash = row_hash(database, key, body);
    store_u32(value, (uint32_t)hash);
    return hash;
}

/* ---- reading within bounds ---- */

static uint64_t read_ordered(struct bytes_reader *reader)
{
    uint64_t value = 0;
    size_t size =
        reader->failed ? 0 : row_get_ordered(reader->at, bytes_reader_left(reader), &value);
    reader->failed = size == 0;
    reader->at += size;
    return value;
}

static struct bytes read_bytes(struct bytes_reader *reader, uint64_t size)
{
    const uint8_t *data = bytes_reader_take(reader, size);
    return data == NULL ? (struct bytes){0} : (struct bytes){data, (size_t)size};
}

static void write_bytes(uint8_t *out, struct bytes bytes)
{
    if (bytes.size != 0) {
        memcpy(out, bytes.data, bytes.size);
    }
}

/* ---- channels ---- */

size_t row_channel_body_size(const struct store_channel *channel)
{
    return ordered_size(channel->number) + ordered_size(channel->last_sequence) +
           ordered_size(zigzag(channel->last_timestamp_ms)) + channel->name.size;
}

void row_channel_encode(const struct store_channel *channel, uint8_t *body)
{
    body += row_put_ordered(body, channel->number);
    body += row_put_ordered(body, channel->last_sequence);
    body += row_put_ordered(body, zigzag(channel->last_timestamp_ms));
    write_bytes(body, channel->name);
}

int row_channel_decode(struct bytes id, struct bytes body, struct store_channel *out)
{
    struct bytes_reader reader = bytes_reader_of(body);
    struct store_channel channel = {.id = id};
    channel.number = read_ordered(&reader);
    channel.last_sequence = read_ordered(&reader);
    channel.last_timestamp_ms = unzigzag(read_ordered(&reader));
    channel.name = read_bytes(&reader, bytes_reader_left(&reader));
    if (reader.failed || channel.name.size > STORE_NAME_BYTES_MAX) {
        return ERR_CORRUPT;
    }
    *out = channel;
    return 0;
}

/* ---- messages ---- */

struct row_key row_position_key(uint64_t position)
{
    struct row_key key;
    key.size = row_put_ordered(key.data, position);
    return key;
}

size_t row_message_body_size(uint64_t channel_number, const struct message *message)
{
    return ordered_size(channel_number) + ordered_size(message->sequence) +
           ordered_size(zigzag(message->timestamp_ms)) + ordered_size(message->author_size) +
           ordered_size(message->client_id_size) + message->author_size + message->client_id_size +
           message->payload_size;
}

void row_message_encode(uint64_t channel_number, const struct message *message, uint8_t *body)
{
    body += row_put_ordered(body, channel_number);
    body += row_put_ordered(body, message->sequence);
    body += row_put_ordered(body, zigzag(message->timestamp_ms));
    body += row_put_ordered(body, message->author_size);
    body += row_put_ordered(body, message->client_id_size);
    struct bytes data = {.data = message->data,
                         .size = (size_t)message->author_size + message->client_id_size +
                                 message->payload_size};
    write_bytes(body, data);
}

int row_message_decode(struct bytes body, struct row_message *out)
{
    struct bytes_reader reader = bytes_reader_of(body);
    struct row_message message;
    message.channel_number = read_ordered(&reader);
    message.sequence = read_ordered(&reader);
    message.timestamp_ms = unzigzag(read_ordered(&reader));
    uint64_t author_size = read_ordered(&reader);
    uint64_t client_id_size = read_ordered(&reader);
    message.author_id = read_bytes(&reader, author_size);
    message.client_id = read_bytes(&reader, client_id_size);
    message.payload = read_bytes(&reader, bytes_reader_left(&reader));
    if (reader.failed || author_size > STORE_ID_BYTES_MAX || client_id_size > STORE_ID_BYTES_MAX ||
        message.payload.size > STORE_PAYLOAD_BYTES_MAX) {
        return ERR_CORRUPT;
    }
    *out = message;
    return 0;
}

/* ---- items ---- */

enum { FIRST_BYTES = 8, POSITION_BYTES = ROW_ITEM_BYTES - FIRST_BYTES };

struct row_key row_item_key(const struct row_item *item)
{
    CHECK(item->position <= ROW_POSITION_MAX);
    struct row_key key;
    key.size = row_put_ordered(key.data, item->channel_number);
    store_u64_be(key.data + key.size, item->first);
    key.size += FIRST_BYTES;
    uint8_t position[sizeof(uint64_t)];
    store_u64_be(position, item->position);
    memcpy(key.data + key.size, position + sizeof(position) - POSITION_BYTES, POSITION_BYTES);
    key.size += POSITION_BYTES;
    return key;
}

int row_item_key_decode(struct bytes key, struct row_item *out)
{
    struct bytes_reader reader = bytes_reader_of(key);
    struct row_item item;
    item.channel_number = read_ordered(&reader);
    struct bytes rest = read_bytes(&reader, ROW_ITEM_BYTES);
    if (reader.failed || bytes_reader_left(&reader) != 0) {
        return ERR_CORRUPT;
    }
    item.first = load_u64_be(rest.data);
    uint8_t position[sizeof(uint64_t)] = {0};
    memcpy(position + sizeof(position) - POSITION_BYTES, (const uint8_t *)rest.data + FIRST_BYTES,
           POSITION_BYTES);
    item.position = load_u64_be(position);
    *out = item;
    return 0;
}

uint64_t row_item_seal(enum row_database database, const struct row_key *key, uint8_t *out)
{
    struct bytes view = {.data = key->data, .size = key->size};
    uint64_t hash = row_hash(database, view, (struct bytes){0});
    memcpy(out, key->data + key->size - ROW_ITEM_BYTES, ROW_ITEM_BYTES);
    store_u32(out + ROW_ITEM_BYTES, (uint32_t)hash);
    return hash;
}

int row_item_open(enum row_database database, struct bytes channel, struct bytes sealed,
                  struct row_key *out, uint64_t *hash)
{
    uint64_t number;
    if (sealed.size != ROW_SEALED_ITEM_BYTES || channel.size == 0 ||
        channel.size > ROW_ORDERED_BYTES_MAX ||
        row_get_ordered(channel.data, channel.size, &number) != channel.size) {
        return ERR_CORRUPT;
    }
    memcpy(out->data, channel.data, channel.size);
    memcpy(out->data + channel.size, sealed.data, ROW_ITEM_BYTES);
    out->size = channel.size + ROW_ITEM_BYTES;
    *hash = row_hash(database, (struct bytes){out->data, out->size}, (struct bytes){0});
    return load_u32((const uint8_t *)sealed.data + ROW_ITEM_BYTES) == (uint32_t)*hash ? 0
                                                                                      : ERR_CORRUPT;
}
