/* Tests of chat/command.h. */
#include "chat/command.h"

#include "base/errors.h"
#include "base/random.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdlib.h>
#include <string.h>

static const struct bytes none = {0};

static void assert_same_bytes(struct bytes a, struct bytes b)
{
    assert_true(bytes_equal(a, b));
}

static void assert_round_trip(const struct command *command)
{
    struct buf buf = {0};
    command_encode(command, &buf);
    assert_false(buf_failed(&buf));
    struct command decoded;
    assert_int_equal(command_decode(buf_bytes(&buf), &decoded), 0);
    assert_int_equal(decoded.kind, command->kind);
    assert_int_equal(decoded.timestamp_ms, command->timestamp_ms);
    assert_same_bytes(decoded.channel_id, command->channel_id);
    assert_same_bytes(decoded.name, command->name);
    assert_same_bytes(decoded.author_id, command->author_id);
    assert_same_bytes(decoded.client_message_id, command->client_message_id);
    assert_same_bytes(decoded.payload, command->payload);
    assert_same_bytes(decoded.key, command->key);
    assert_same_bytes(decoded.value, command->value);
    buf_finish(&buf);
}

static struct command example(enum command_kind kind)
{
    struct command command = {.kind = kind, .timestamp_ms = -5};
    switch (kind) {
    case COMMAND_CREATE_CHANNEL:
        command.channel_id = bytes_of_text("general");
        command.name = bytes_of_text("General");
        break;
    case COMMAND_SEND_MESSAGE:
        command.channel_id = bytes_of_text("general");
        command.author_id = bytes_of_text("ann");
        command.client_message_id = bytes_of_text("c-1");
        command.payload = bytes_of_text("hello");
        break;
    case COMMAND_KV_SET:
        command.key = bytes_of_text("key");
        command.value = bytes_of_text("value");
        break;
    case COMMAND_KV_DELETE:
        command.key = bytes_of_text("key");
        break;
    case COMMAND_SEND_MESSAGES:
        break; /* see batch_of() */
    }
    return command;
}

static void test_every_kind_survives_encoding(void **state)
{
    for (int kind = COMMAND_CREATE_CHANNEL; kind <= COMMAND_KV_DELETE; kind++) {
        struct command command = example((enum command_kind)kind);
        assert_round_trip(&command);
        struct command empty = {.kind = (enum command_kind)kind, .timestamp_ms = INT64_MAX};
        assert_round_trip(&empty);
    }
}

/* Each decode in memory of just its size, so that ASan sees a read beyond it. */
static int decode_copy(const uint8_t *data, size_t size)
{
    uint8_t *copy = malloc(size > 0 ? size : 1);
    assert_non_null(copy);
    if (size > 0) {
        memcpy(copy, data, size);
    }
    struct command command;
    int rc = command_decode((struct bytes){copy, size}, &command);
    free(copy);
    return rc;
}

static struct command message_of(const char *channel, const char *client_id, const char *payload)
{
    return (struct command){.kind = COMMAND_SEND_MESSAGE,
                            .channel_id = bytes_of_text(channel),
                            .author_id = bytes_of_text("ann"),
                            .client_message_id = bytes_of_text(client_id),
                            .payload = bytes_of_text(payload)};
}

static void encode_batch(const struct command *messages, size_t count, struct buf *out)
{
    struct command_batch batch;
    command_batch_begin(&batch, out);
    for (size_t i = 0; i < count; i++) {
        command_batch_add(&batch, &messages[i]);
    }
    assert_false(buf_failed(out));
}

static void test_a_batch_gives_its_messages_back_in_order(void **state)
{
    const struct command messages[] = {message_of("a", "1", "x"), message_of("a", "", ""),
                                       message_of("b", "2", "y"), message_of("a", "3", "z")};
    struct buf buf = {0};
    encode_batch(messages, 4, &buf);
    assert_int_equal(command_stamp(buf.data, buf.size, 77), 0);
    assert_int_equal(command_format(buf_bytes(&buf)), 2);
    struct command decoded, message;
    assert_int_equal(command_decode(buf_bytes(&buf), &decoded), 0);
    assert_int_equal(decoded.kind, COMMAND_SEND_MESSAGES);
    assert_int_equal(decoded.message_count, 4);
    assert_int_equal(command_check(&decoded, 1), COMMAND_FINE);
    assert_int_equal(command_check(&decoded, 0), COMMAND_FAULT_PAYLOAD_TOO_LARGE);
    struct command_messages rest = command_messages_of(&decoded);
    for (size_t i = 0; i < 4; i++) {
        assert_true(command_messages_next(&rest, &message));
        assert_int_equal(message.kind, COMMAND_SEND_MESSAGE);
        assert_int_equal(message.timestamp_ms, 77);
        assert_same_bytes(message.channel_id, messages[i].channel_id);
        assert_same_bytes(message.author_id, messages[i].author_id);
        assert_same_bytes(message.client_message_id, messages[i].client_message_id);
        assert_same_bytes(message.payload, messages[i].payload);
    }
    assert_false(command_messages_next(&rest, &message));
    struct buf again = {0};
    command_encode(&decoded, &again);
    assert_same_bytes(buf_bytes(&again), buf_bytes(&buf));
    for (size_t size = 0; size < buf.size; size++) {
        int rc = decode_copy(buf.data, size);
        assert_true(rc == ERR_CORRUPT || rc == 0); /* whole messages fewer */
    }
    buf.data[0] = 1; /* a batch is no command of the first format */
    assert_int_equal(decode_copy(buf.data, buf.size), ERR_CORRUPT);
    buf_finish(&again);
    buf_finish(&buf);
}

static void test_a_batch_has_1_to_1000_messages_and_begins_with_a_channel(void **state)
{
    struct command messages[COMMAND_MESSAGES_MAX + 1];
    for (size_t i = 0; i < COMMAND_MESSAGES_MAX + 1; i++) {
        messages[i] = message_of("a", "", "x");
    }
    for (size_t count = 0; count <= COMMAND_MESSAGES_MAX + 1; count = count == 0 ? 1
                                                                      : count == 1
                                                                          ? COMMAND_MESSAGES_MAX
                                                                          : count + 1) {
        struct buf buf = {0};
        encode_batch(messages, count, &buf);
        bool is_fine = count > 0 && count <= COMMAND_MESSAGES_MAX;
        assert_int_equal(decode_copy(buf.data, buf.size), is_fine ? 0 : ERR_CORRUPT);
        buf_finish(&buf);
    }
    struct buf buf = {0};
    encode_batch(messages, 1, &buf);
    struct command decoded;
    assert_int_equal(command_decode(buf_bytes(&buf), &decoded), 0);
    uint8_t nameless[16] = {0};
    decoded.messages = (struct bytes){nameless, sizeof(nameless)};
    assert_int_equal(command_check(&decoded, 1), COMMAND_FAULT_CHANNEL_ID);
    buf_finish(&buf);
}

static void test_a_batchs_result_survives_encoding(void **state)
{
    uint8_t items[3 * COMMAND_ITEM_BYTES];
    for (unsigned i = 0; i < 3; i++) {
        command_item_write((struct command_item){UINT64_MAX - i, i == 1},
                           &items[i * COMMAND_ITEM_BYTES]);
    }
    const struct command_result results[] = {
        {.kind = COMMAND_SEND_MESSAGES, .deduplicated = true, .items = {items, sizeof(items)}},
        {.kind = COMMAND_SEND_MESSAGES, .outcome = COMMAND_CHANNEL_NOT_FOUND, .item = 999},
    };
    for (size_t i = 0; i < 2; i++) {
        struct buf buf = {0};
        struct command_result decoded;
        command_result_encode(&results[i], &buf);
        assert_int_equal(command_result_decode(buf_bytes(&buf), &decoded), 0);
        assert_int_equal(decoded.outcome, results[i].outcome);
        assert_int_equal(decoded.deduplicated, results[i].deduplicated);
        assert_int_equal(decoded.item, results[i].item);
        assert_same_bytes(decoded.items, results[i].items);
        assert_int_equal(command_result_has_stored(&decoded), i == 0);
        for (size_t size = 0; size < buf.size; size++) {
            assert_int_equal(command_result_decode((struct bytes){buf.data, size}, &decoded),
                             ERR_CORRUPT);
        }
        buf_finish(&buf);
    }
    struct command_item second = command_result_item(&results[0], 1);
    assert_true(second.sequence == UINT64_MAX - 1);
    assert_true(second.deduplicated);
}

static void test_layout_is_as_documented(void **state)
{
    struct command command = example(COMMAND_KV_SET);
    command.timestamp_ms = 0x0102030405060708;
    struct buf buf = {0};
    command_encode(&command, &buf);
    const uint8_t expected[] = {1, 3,   8,   7,   6, 5, 4, 3, 2,   1,   3,   0,   0,
                                0, 'k', 'e', 'y', 5, 0, 0, 0, 'v', 'a', 'l', 'u', 'e'};
    assert_int_equal(buf.size, sizeof expected);
    assert_memory_equal(buf.data, expected, sizeof expected);
    buf_finish(&buf);
}

static void test_truncated_or_trailing_bytes_are_corrupt(void **state)
{
    for (int kind = COMMAND_CREATE_CHANNEL; kind <= COMMAND_KV_DELETE; kind++) {
        struct command command = example((enum command_kind)kind);
        struct buf buf = {0};
        command_encode(&command, &buf);
        for (size_t size = 0; size < buf.size; size++) {
            assert_int_equal(decode_copy(buf.data, size), ERR_CORRUPT);
        }
        size_t whole = buf.size;
        buf_append_byte(&buf, 0);
        assert_int_equal(decode_copy(buf.data, whole), 0);
        assert_int_equal(decode_copy(buf.data, whole + 1), ERR_CORRUPT);
        buf_finish(&buf);
    }
}

static void test_unknown_kinds_and_lying_lengths_are_corrupt(void **state)
{
    struct command command = example(COMMAND_SEND_MESSAGE);
    struct buf buf = {0};
    command_encode(&command, &buf);
    buf.data[1] = 0;
    assert_int_equal(decode_copy(buf.data, buf.size), ERR_CORRUPT);
    buf.data[1] = 5;
    assert_int_equal(decode_copy(buf.data, buf.size), ERR_CORRUPT);
    buf.data[1] = COMMAND_SEND_MESSAGE;
    store_u32(buf.data + 10, UINT32_MAX);
    assert_int_equal(decode_copy(buf.data, buf.size), ERR_CORRUPT);
    buf.data[0] = 0;
    assert_int_equal(decode_copy(buf.data, buf.size), ERR_CORRUPT);
    buf_finish(&buf);
}

static void test_newer_format_is_told_from_corruption(void **state)
{
    const uint8_t newer[] = {COMMAND_FORMAT_VERSION + 1};
    assert_int_equal(decode_copy(newer, sizeof(newer)), ERR_VERSION);
}

static void test_stamp_changes_the_timestamp_alone(void **state)
{
    struct command command = example(COMMAND_SEND_MESSAGE);
    struct buf buf = {0};
    command_encode(&command, &buf);
    assert_int_equal(command_stamp(buf.data, buf.size, 123456789), 0);
    struct command decoded;
    assert_int_equal(command_decode(buf_bytes(&buf), &decoded), 0);
    assert_int_equal(decoded.timestamp_ms, 123456789);
    assert_same_bytes(decoded.payload, command.payload);
    assert_int_equal(command_stamp(buf.data, 9, 1), ERR_CORRUPT);
    buf_finish(&buf);
}

static enum command_fault check(const struct command *command)
{
    return command_check(command, 100);
}

static void test_check_finds_each_fault(void **state)
{
    static char filler[COMMAND_NAME_BYTES_MAX + 1];
    memset(filler, 'x', sizeof(filler));
    struct bytes id_max = {filler, COMMAND_ID_BYTES_MAX};
    struct bytes id_over = {filler, COMMAND_ID_BYTES_MAX + 1};
    struct bytes not_utf8 = bytes_of_text("\xc0\x80");
    struct bytes with_nul = {"a\0b", 3};

    struct command create = example(COMMAND_CREATE_CHANNEL);
    assert_int_equal(check(&create), COMMAND_FINE);
    create.channel_id = none;
    create.name = (struct bytes){filler, COMMAND_NAME_BYTES_MAX};
    assert_int_equal(check(&create), COMMAND_FINE);
    create.name = (struct bytes){filler, COMMAND_NAME_BYTES_MAX + 1};
    assert_int_equal(check(&create), COMMAND_FAULT_NAME);
    create.name = not_utf8;
    assert_int_equal(check(&create), COMMAND_FAULT_NAME);
    create.channel_id = id_over;
    assert_int_equal(check(&create), COMMAND_FAULT_CHANNEL_ID);

    const struct bytes bad_ids[] = {id_over, not_utf8, with_nul};
    for (size_t i = 0; i < 3; i++) {
        struct command send = example(COMMAND_SEND_MESSAGE);
        send.client_message_id = bad_ids[i];
        assert_int_equal(check(&send), COMMAND_FAULT_CLIENT_MESSAGE_ID);
        send.author_id = bad_ids[i];
        assert_int_equal(check(&send), COMMAND_FAULT_AUTHOR_ID);
        send.channel_id = bad_ids[i];
        assert_int_equal(check(&send), COMMAND_FAULT_CHANNEL_ID);
        struct command set = example(COMMAND_KV_SET);
        set.key = bad_ids[i];
        assert_int_equal(check(&set), COMMAND_FAULT_KEY);
    }
    struct command send = {.kind = COMMAND_SEND_MESSAGE, .channel_id = id_max};
    assert_int_equal(check(&send), COMMAND_FINE);
    send.payload = (struct bytes){filler, 100};
    assert_int_equal(check(&send), COMMAND_FINE);
    send.payload.size = 101;
    assert_int_equal(check(&send), COMMAND_FAULT_PAYLOAD_TOO_LARGE);
    send.channel_id = none;
    assert_int_equal(check(&send), COMMAND_FAULT_CHANNEL_ID);

    struct command set = example(COMMAND_KV_SET);
    set.value = (struct bytes){filler, 101};
    assert_int_equal(check(&set), COMMAND_FAULT_VALUE_TOO_LARGE);
    set.key = none;
    assert_int_equal(check(&set), COMMAND_FAULT_KEY);
    struct command delete = {.kind = COMMAND_KV_DELETE, .key = id_max};
    assert_int_equal(check(&delete), COMMAND_FINE);
}

static void test_description_is_one_harmless_line(void **state)
{
    struct command command = example(COMMAND_SEND_MESSAGE);
    command.channel_id = bytes_of_text("a\"b\n\x1b[31m\xff\xc2\x9bé");
    struct buf encoded = {0}, text = {0};
    command_encode(&command, &encoded);
    command_describe(buf_bytes(&encoded), &text);
    assert_string_equal(buf_text(&text),
                        "send_message timestamp_ms=-5 "
                        "channel_id=\"a\\\"b\\x0a\\x1b[31m\\xff\\xc2\\x9bé\" "
                        "author_id=\"ann\" client_message_id=\"c-1\" payload_bytes=5");
    buf_reset(&text);
    command_describe(none, &text);
    assert_string_equal(buf_text(&text), "no-op");
    buf_reset(&text);
    command_describe(bytes_of_text("junk"), &text);
    assert_non_null(strstr(buf_text(&text), "undecodable command of 4 bytes"));
    buf_finish(&text);
    buf_finish(&encoded);
}

static void test_results_survive_encoding(void **state)
{
    const struct command_result results[] = {
        {.kind = COMMAND_SEND_MESSAGE, .sequence = UINT64_MAX, .deduplicated = true},
        {.kind = COMMAND_CREATE_CHANNEL,
         .created = true,
         .channel_id = bytes_of_text("id"),
         .name = bytes_of_text("name")},
        {.kind = COMMAND_KV_DELETE, .outcome = COMMAND_REFUSED},
        {.outcome = COMMAND_REFUSED},
    };
    for (size_t i = 0; i < sizeof(results) / sizeof(results[0]); i++) {
        struct buf buf = {0};
        command_result_encode(&results[i], &buf);
        struct command_result decoded;
        assert_int_equal(command_result_decode(buf_bytes(&buf), &decoded), 0);
        assert_int_equal(decoded.kind, results[i].kind);
        assert_int_equal(decoded.outcome, results[i].outcome);
        assert_int_equal(decoded.sequence, results[i].sequence);
        assert_int_equal(decoded.deduplicated, results[i].deduplicated);
        assert_int_equal(decoded.created, results[i].created);
        assert_same_bytes(decoded.channel_id, results[i].channel_id);
        assert_same_bytes(decoded.name, results[i].name);
        for (size_t size = 0; size < buf.size; size++) {
            assert_int_equal(command_result_decode((struct bytes){buf.data, size}, &decoded),
                             ERR_CORRUPT);
        }
        buf.data[3] |= 0x80;
        assert_int_equal(command_result_decode(buf_bytes(&buf), &decoded), ERR_CORRUPT);
        buf_finish(&buf);
    }
}

static void test_damaged_bytes_never_decode_beyond_themselves(void **state)
{
    struct random random;
    random_seed(&random, 1);
    for (int round = 0; round < 20000; round++) {
        struct command command = example((enum command_kind)(1 + random_below(&random, 4)));
        struct buf buf = {0};
        command_encode(&command, &buf);
        for (uint64_t flips = 1 + random_below(&random, 3); flips > 0; flips--) {
            buf.data[random_below(&random, buf.size)] ^= (uint8_t)(1 + random_below(&random, 255));
        }
        (void)decode_copy(buf.data, buf.size);
        buf_finish(&buf);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_kind_survives_encoding),
        cmocka_unit_test(test_layout_is_as_documented),
        cmocka_unit_test(test_a_batch_gives_its_messages_back_in_order),
        cmocka_unit_test(test_a_batch_has_1_to_1000_messages_and_begins_with_a_channel),
        cmocka_unit_test(test_a_batchs_result_survives_encoding),
        cmocka_unit_test(test_truncated_or_trailing_bytes_are_corrupt),
        cmocka_unit_test(test_unknown_kinds_and_lying_lengths_are_corrupt),
        cmocka_unit_test(test_newer_format_is_told_from_corruption),
        cmocka_unit_test(test_stamp_changes_the_timestamp_alone),
        cmocka_unit_test(test_check_finds_each_fault),
        cmocka_unit_test(test_description_is_one_harmless_line),
        cmocka_unit_test(test_results_survive_encoding),
        cmocka_unit_test(test_damaged_bytes_never_decode_beyond_themselves),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
