/* The store's rows over any bytes: what decodes encodes to the same bytes, and a sealed row opens
 * while one with any other bit does not. */
#include "base/check.h"
#include "base/errors.h"
#include "chat/command.h"
#include "fuzz/input.h"
#include "store/row.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static uint8_t *allocate(size_t size)
{
    uint8_t *data = malloc(size + 1);
    CHECK(data != NULL);
    return data;
}

static void fuzz_ordered(struct bytes in)
{
    uint64_t value;
    uint8_t out[ROW_ORDERED_BYTES_MAX];
    size_t size = row_get_ordered(in.data, in.size, &value);
    CHECK(size <= in.size);
    if (size > 0) {
        CHECK(row_put_ordered(out, value) == size);
        CHECK(memcmp(out, in.data, size) == 0);
    }
}

static void fuzz_channel(struct bytes body)
{
    struct store_channel channel;
    int rc = row_channel_decode(bytes_of_text("id"), body, &channel);
    CHECK(rc == 0 || rc == ERR_CORRUPT);
    if (rc == 0) {
        CHECK(row_channel_body_size(&channel) == body.size);
        uint8_t *out = allocate(body.size);
        row_channel_encode(&channel, out);
        CHECK(bytes_equal((struct bytes){out, body.size}, body));
        free(out);
    }
}

static void fuzz_message(struct bytes body)
{
    struct row_message row;
    int rc = row_message_decode(body, &row);
    CHECK(rc == 0 || rc == ERR_CORRUPT);
    if (rc != 0) {
        return;
    }
    struct message *message =
        message_create(row.sequence, row.timestamp_ms, row.author_id, row.client_id, row.payload);
    CHECK(message != NULL);
    CHECK(row_message_body_size(row.channel_number, message) == body.size);
    uint8_t *out = allocate(body.size);
    row_message_encode(row.channel_number, message, out);
    CHECK(bytes_equal((struct bytes){out, body.size}, body));
    free(out);
    message_unref(message);
}

static void fuzz_item(struct bytes key)
{
    struct row_item item;
    int rc = row_item_key_decode(key, &item);
    CHECK(rc == 0 || rc == ERR_CORRUPT);
    if (rc != 0) {
        return;
    }
    struct row_key again = row_item_key(&item);
    CHECK(bytes_equal((struct bytes){again.data, again.size}, key));
    uint8_t sealed[ROW_SEALED_ITEM_BYTES];
    uint64_t hash = row_item_seal(ROW_DEDUPE, &again, sealed);
    struct bytes channel = {again.data, again.size - ROW_ITEM_BYTES};
    struct row_key opened;
    uint64_t opened_hash;
    struct bytes view = {sealed, sizeof(sealed)};
    CHECK(row_item_open(ROW_DEDUPE, channel, view, &opened, &opened_hash) == 0);
    CHECK(opened_hash == hash);
    CHECK(bytes_equal((struct bytes){opened.data, opened.size}, key));
    CHECK(row_item_open(ROW_RUNS, channel, view, &opened, &opened_hash) == ERR_CORRUPT);
}

static void fuzz_seal(struct input input)
{
    unsigned bit = take_u16(&input);
    enum row_database database = take_u8(&input) % ROW_DATABASES;
    struct bytes key = take_bytes(&input, take_u8(&input));
    struct bytes body = {input.next, input.left};
    size_t size = ROW_CHECKSUM_BYTES + body.size;
    uint8_t *value = allocate(size);
    if (body.size > 0) {
        memcpy(value + ROW_CHECKSUM_BYTES, body.data, body.size);
    }
    uint64_t hash = row_seal(database, key, value, size);
    struct bytes opened = {0};
    uint64_t opened_hash = 0;
    CHECK(row_open(database, key, (struct bytes){value, size}, &opened, &opened_hash) == 0);
    CHECK(opened_hash == hash);
    CHECK(bytes_equal(opened, body));
    value[bit / 8 % size] ^= (uint8_t)(1u << bit % 8);
    CHECK(row_open(database, key, (struct bytes){value, size}, &opened, &opened_hash) ==
          ERR_CORRUPT);
    free(value);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct bytes in = {data, size};
    fuzz_ordered(in);
    fuzz_channel(in);
    fuzz_message(in);
    fuzz_item(in);
    fuzz_seal((struct input){data, size});
    struct input input = {data, size};
    struct bytes channel = take_bytes(&input, take_u8(&input));
    struct row_key key;
    uint64_t hash;
    (void)row_item_open(ROW_DEDUPE, channel, (struct bytes){input.next, input.left}, &key, &hash);
    struct bytes body;
    (void)row_open(ROW_META, channel, (struct bytes){input.next, input.left}, &body, &hash);
    return 0;
}
