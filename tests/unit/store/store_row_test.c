/* Tests of store/row.h. */
#include "store/row.h"

#include "base/errors.h"
#include "base/random.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <string.h>

static uint64_t random_of_any_size(struct random *random)
{
    return random_next(random) >> random_below(random, 64);
}

static int compare(const uint8_t *a, size_t a_size, const uint8_t *b, size_t b_size)
{
    int order = memcmp(a, b, a_size < b_size ? a_size : b_size);
    return order != 0 ? order : (a_size > b_size) - (a_size < b_size);
}

static void test_ordered_integers_sort_like_their_numbers(void **state)
{
    struct random random;
    random_seed(&random, 1);
    for (int i = 0; i < 100000; i++) {
        uint64_t a = random_of_any_size(&random);
        uint64_t b = random_below(&random, 3) == 0 ? a + 1 : random_of_any_size(&random);
        uint8_t left[ROW_ORDERED_BYTES_MAX], right[ROW_ORDERED_BYTES_MAX];
        size_t left_size = row_put_ordered(left, a);
        size_t right_size = row_put_ordered(right, b);
        int order = compare(left, left_size, right, right_size);
        assert_int_equal((order > 0) - (order < 0), (a > b) - (a < b));
        uint64_t back = ~a;
        assert_int_equal(row_get_ordered(left, left_size, &back), left_size);
        assert_true(back == a);
        assert_int_equal(row_get_ordered(left, left_size - 1, &back), 0);
    }
}

static void test_each_number_has_one_encoding(void **state)
{
    static const uint64_t edges[] = {0, 127, 128, 16383, 16384, UINT64_MAX >> 8, UINT64_MAX};
    static const size_t sizes[] = {1, 1, 2, 2, 3, 8, 9};
    for (size_t i = 0; i < sizeof(edges) / sizeof(edges[0]); i++) {
        uint8_t data[ROW_ORDERED_BYTES_MAX];
        assert_int_equal(row_put_ordered(data, edges[i]), sizes[i]);
    }
    static const uint8_t too_long[] = {0x80, 0x7f};
    static const uint8_t far_too_long[] = {0xff, 0, 0, 0, 0, 0, 0, 0, 1};
    uint64_t value;
    assert_int_equal(row_get_ordered(too_long, sizeof(too_long), &value), 0);
    assert_int_equal(row_get_ordered(far_too_long, sizeof(far_too_long), &value), 0);
}

static void test_any_bytes_decode_within_bounds(void **state)
{
    struct random random;
    random_seed(&random, 2);
    for (int i = 0; i < 200000; i++) {
        uint8_t data[40];
        struct bytes bytes = {data, (size_t)random_below(&random, sizeof(data))};
        for (size_t at = 0; at < bytes.size; at++) {
            data[at] = (uint8_t)random_of_any_size(&random);
        }
        struct store_channel channel;
        struct row_message message;
        struct row_item item;
        struct bytes body;
        uint64_t hash;
        if (row_message_decode(bytes, &message) == 0) {
            const uint8_t *end = (const uint8_t *)message.payload.data + message.payload.size;
            assert_ptr_equal(end, data + bytes.size);
        }
        if (row_channel_decode(bytes, bytes, &channel) == 0) {
            assert_true(channel.name.size < bytes.size);
        }
        (void)row_item_key_decode(bytes, &item);
        (void)row_open(ROW_VALUES, bytes, bytes, &body, &hash);
    }
}

static void test_checksum_covers_database_key_and_body(void **state)
{
    uint8_t value[ROW_CHECKSUM_BYTES + 4] = {[ROW_CHECKSUM_BYTES] = 'b', 'o', 'd', 'y'};
    struct bytes key = bytes_of_text("key");
    struct bytes row = {value, sizeof(value)};
    struct bytes body;
    uint64_t hash, sealed = row_seal(ROW_VALUES, key, value, sizeof(value));
    assert_int_equal(row_open(ROW_VALUES, key, row, &body, &hash), 0);
    assert_true(hash == sealed);
    assert_true(bytes_equal(body, bytes_of_text("body")));
    assert_int_equal(row_open(ROW_CHANNELS, key, row, &body, &hash), ERR_CORRUPT);
    assert_int_equal(row_open(ROW_VALUES, bytes_of_text("kez"), row, &body, &hash), ERR_CORRUPT);
    for (size_t bit = 0; bit < 8 * sizeof(value); bit++) {
        value[bit / 8] ^= (uint8_t)(1u << bit % 8);
        assert_int_equal(row_open(ROW_VALUES, key, row, &body, &hash), ERR_CORRUPT);
        value[bit / 8] ^= (uint8_t)(1u << bit % 8);
    }
    row.size = ROW_CHECKSUM_BYTES - 1;
    assert_int_equal(row_open(ROW_VALUES, key, row, &body, &hash), ERR_CORRUPT);
}

static void test_item_keeps_its_hash_when_it_is_sealed(void **state)
{
    struct row_item item = {.channel_number = 300, .first = 1, .position = ROW_POSITION_MAX};
    struct row_key key = row_item_key(&item);
    struct row_key channel = row_position_key(item.channel_number);
    uint8_t sealed[ROW_SEALED_ITEM_BYTES];
    uint64_t hash = row_item_seal(ROW_DEDUPE, &key, sealed);
    struct row_key opened;
    struct row_item decoded;
    uint64_t opened_hash;
    struct bytes number = {channel.data, channel.size};
    struct bytes view = {sealed, sizeof(sealed)};
    assert_int_equal(row_item_open(ROW_DEDUPE, number, view, &opened, &opened_hash), 0);
    assert_true(opened_hash == hash);
    assert_int_equal(row_item_key_decode((struct bytes){opened.data, opened.size}, &decoded), 0);
    assert_memory_equal(&decoded, &item, sizeof(item));
    assert_int_equal(row_item_open(ROW_RUNS, number, view, &opened, &opened_hash), ERR_CORRUPT);
    sealed[3] ^= 1;
    assert_int_equal(row_item_open(ROW_DEDUPE, number, view, &opened, &opened_hash), ERR_CORRUPT);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_ordered_integers_sort_like_their_numbers),
        cmocka_unit_test(test_each_number_has_one_encoding),
        cmocka_unit_test(test_any_bytes_decode_within_bounds),
        cmocka_unit_test(test_checksum_covers_database_key_and_body),
        cmocka_unit_test(test_item_keeps_its_hash_when_it_is_sealed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
