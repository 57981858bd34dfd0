/* Properties of the codec over random messages of every descriptor. */
#include "json/json.h"

#include "base/errors.h"
#include "unit/json/random_message.h"

#include <setjmp.h>
#include <stdarg.h>
/* cmocka wants the two above. */
#include <cmocka.h>

#define ROUNDS 400

static void assert_same_message(const ProtobufCMessage *a, const ProtobufCMessage *b)
{
    struct buf left = packed(a);
    struct buf right = packed(b);
    assert_true(bytes_equal(buf_bytes(&left), buf_bytes(&right)));
    buf_finish(&left);
    buf_finish(&right);
}

static void assert_round_trip(const ProtobufCMessage *message, enum json_names names)
{
    struct buf text = {0};
    json_encode(message, names, &text);
    assert_false(buf_failed(&text));
    assert_true(bytes_is_utf8(buf_bytes(&text)));

    struct json_error error = {{0}};
    ProtobufCMessage *decoded = NULL;
    if (json_decode(message->descriptor, buf_bytes(&text), &decoded, &error) != 0) {
        fail_msg("%s in %s", error.text, buf_text(&text));
    }
    assert_same_message(message, decoded);

    struct buf again = {0};
    json_encode(decoded, names, &again);
    assert_string_equal(buf_text(&text), buf_text(&again));
    buf_finish(&again);
    protobuf_c_message_free_unpacked(decoded, NULL);
    buf_finish(&text);
}

static void test_every_message_survives_a_round_trip(void **state)
{
    for (size_t i = 0; i < ALL_DESCRIPTORS; i++) {
        for (uint64_t seed = 0; seed < ROUNDS; seed++) {
            struct random random;
            random_seed(&random, seed);
            ProtobufCMessage *message = random_message(&random, all_descriptors[i], 3, 0);
            assert_round_trip(message, JSON_NAMES_CAMEL);
            assert_round_trip(message, JSON_NAMES_SNAKE);
            protobuf_c_message_free_unpacked(message, NULL);
        }
    }
}

/* A buffer that is too small at any length fails and never overflows. */
static void test_encoding_into_a_bounded_buffer_fails_cleanly(void **state)
{
    struct random random;
    random_seed(&random, 7);
    ProtobufCMessage *message = random_message(&random, &kinds_descriptor, 2, 0);
    struct buf whole = {0};
    json_encode(message, JSON_NAMES_CAMEL, &whole);
    for (size_t max = 1; max < whole.size; max++) {
        struct buf out;
        buf_init(&out, max);
        json_encode(message, JSON_NAMES_CAMEL, &out);
        assert_true(buf_failed(&out));
        assert_true(out.size <= max);
        buf_finish(&out);
    }
    struct buf exact;
    buf_init(&exact, whole.size);
    json_encode(message, JSON_NAMES_CAMEL, &exact);
    assert_false(buf_failed(&exact));
    buf_finish(&exact);
    buf_finish(&whole);
    protobuf_c_message_free_unpacked(message, NULL);
}

/* Every prefix of a text, and every text with one byte changed, decodes or is refused with a text
 * that says why; the sanitizers watch the rest. */
static void test_damaged_texts_are_refused_with_a_reason_or_decode(void **state)
{
    for (size_t i = 0; i < ALL_DESCRIPTORS; i++) {
        struct random random;
        random_seed(&random, i);
        ProtobufCMessage *message = random_message(&random, all_descriptors[i], 2, 0);
        struct buf text = {0};
        json_encode(message, JSON_NAMES_CAMEL, &text);
        size_t step = 1 + text.size / 500;
        for (size_t at = 0; at < text.size; at += step) {
            uint8_t kept = text.data[at];
            text.data[at] = (uint8_t)random_next(&random);
            struct bytes cut = {text.data, random_below(&random, 2) == 0 ? at : text.size};
            struct json_error error = {{0}};
            ProtobufCMessage *decoded = NULL;
            int rc = json_decode(all_descriptors[i], cut, &decoded, &error);
            assert_true(rc == 0 || rc == ERR_INVALID);
            assert_true((rc == 0) == (decoded != NULL));
            assert_true((rc == 0) == (error.text[0] == 0));
            protobuf_c_message_free_unpacked(decoded, NULL);
            text.data[at] = kept;
        }
        buf_finish(&text);
        protobuf_c_message_free_unpacked(message, NULL);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_message_survives_a_round_trip),
        cmocka_unit_test(test_encoding_into_a_bounded_buffer_fails_cleanly),
        cmocka_unit_test(test_damaged_texts_are_refused_with_a_reason_or_decode),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
