/* Tests of base/buf.h. */
#include "base/buf.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <string.h>

static void test_zeroed_memory_is_an_empty_buffer(void **state)
{
    struct buf buf = {0};
    assert_false(buf_failed(&buf));
    assert_int_equal(buf_bytes(&buf).size, 0);
    assert_string_equal(buf_text(&buf), "");
    buf_finish(&buf);
    buf_finish(&buf);
    buf_finish(NULL);
}

static void test_appends_follow_one_another(void **state)
{
    struct buf buf = {0};
    buf_append_text(&buf, "one");
    buf_append_byte(&buf, ' ');
    buf_append(&buf, "two", 3);
    buf_append(&buf, NULL, 0);
    buf_printf(&buf, " %s %d", "three", 4);
    assert_string_equal(buf_text(&buf), "one two three 4");
    assert_int_equal(buf.size, strlen("one two three 4"));
    buf_finish(&buf);
}

static void test_contents_survive_growth(void **state)
{
    struct buf buf = {0};
    for (uint32_t i = 0; i < 100000; i++) {
        buf_append_u32(&buf, i);
    }
    assert_false(buf_failed(&buf));
    for (uint32_t i = 0; i < 100000; i++) {
        assert_int_equal(load_u32(buf.data + i * 4), i);
    }
    buf_finish(&buf);
}

static void test_limit_is_exact_and_text_fits_at_it(void **state)
{
    struct buf buf;
    buf_init(&buf, 100);
    memset(buf_extend(&buf, 100), 'x', 100);
    assert_false(buf_failed(&buf));
    assert_int_equal(strlen(buf_text(&buf)), 100);
    buf_append_byte(&buf, 'y');
    assert_true(buf_failed(&buf));
    buf_finish(&buf);
}

static void test_failed_append_keeps_contents_and_stops_later_ones(void **state)
{
    struct buf buf;
    buf_init(&buf, 8);
    buf_append_text(&buf, "12345");
    buf_append_text(&buf, "6789");
    assert_true(buf_failed(&buf));
    buf_append_text(&buf, "6");
    buf_append_u64(&buf, 1);
    buf_printf(&buf, "%d", 7);
    assert_null(buf_extend(&buf, 1));
    assert_string_equal(buf_text(&buf), "");
    assert_int_equal(buf.size, 5);
    assert_memory_equal(buf.data, "12345", 5);
    buf_reset(&buf);
    buf_append_text(&buf, "12345678");
    assert_false(buf_failed(&buf));
    assert_string_equal(buf_text(&buf), "12345678");
    buf_finish(&buf);
}

static void test_sizes_that_would_wrap_around_are_refused(void **state)
{
    struct buf buf = {0};
    buf_append_text(&buf, "x");
    assert_null(buf_extend(&buf, SIZE_MAX));
    assert_true(buf_failed(&buf));
    buf_reset(&buf);
    assert_null(buf_extend(&buf, BUF_MAX_BYTES + 1));
    buf_finish(&buf);
}

static void test_finish_keeps_the_limit(void **state)
{
    struct buf buf;
    buf_init(&buf, 2);
    buf_append_text(&buf, "ab");
    buf_finish(&buf);
    buf_append_text(&buf, "abc");
    assert_true(buf_failed(&buf));
    buf_finish(&buf);
}

static void test_integers_are_little_endian_at_any_alignment(void **state)
{
    static const uint8_t expected[] = {0x02, 0x01, 0x06, 0x05, 0x04, 0x03, 0x0e,
                                       0x0d, 0x0c, 0x0b, 0x0a, 0x09, 0x08, 0x07};
    struct buf buf = {0};
    buf_append_byte(&buf, 0xff);
    buf_append_u16(&buf, 0x0102);
    buf_append_u32(&buf, 0x03040506);
    buf_append_u64(&buf, UINT64_C(0x0708090a0b0c0d0e));
    assert_int_equal(buf.size, 1 + sizeof(expected));
    assert_memory_equal(buf.data + 1, expected, sizeof(expected));
    assert_int_equal(load_u16(buf.data + 1), 0x0102);
    assert_int_equal(load_u32(buf.data + 3), 0x03040506);
    assert_true(load_u64(buf.data + 7) == UINT64_C(0x0708090a0b0c0d0e));
    buf_finish(&buf);
}

static void test_high_bits_survive_loading(void **state)
{
    uint8_t bytes[8];
    store_u64(bytes, UINT64_MAX - 1);
    assert_true(load_u64(bytes) == UINT64_MAX - 1);
    store_u32(bytes, UINT32_MAX);
    assert_true(load_u32(bytes) == UINT32_MAX);
    store_u16(bytes, UINT16_MAX);
    assert_int_equal(load_u16(bytes), UINT16_MAX);
}

static void test_big_endian_keys_sort_as_numbers(void **state)
{
    static const uint64_t values[] = {0, 1, 255, 256, UINT64_C(1) << 32, UINT64_MAX};
    for (size_t i = 0; i < sizeof(values) / sizeof(values[0]); i++) {
        uint8_t a[8];
        uint8_t b[8];
        store_u64_be(a, values[i]);
        assert_true(load_u64_be(a) == values[i]);
        for (size_t j = 0; j < i; j++) {
            store_u64_be(b, values[j]);
            assert_true(memcmp(b, a, sizeof(a)) < 0);
        }
    }
}

static void test_bytes_are_equal_by_contents(void **state)
{
    assert_true(bytes_equal(bytes_of_text("abc"), (struct bytes){.data = "abcd", .size = 3}));
    assert_false(bytes_equal(bytes_of_text("abc"), bytes_of_text("abd")));
    assert_false(bytes_equal(bytes_of_text("abc"), bytes_of_text("ab")));
    assert_true(bytes_equal((struct bytes){0}, bytes_of_text("")));
}

static void test_well_formed_utf8_is_accepted(void **state)
{
    static const char *const good[] = {
        "",
        "plain",
        "\xc2\x80",
        "\xdf\xbf",
        "\xe0\xa0\x80",
        "\xed\x9f\xbf",
        "\xee\x80\x80",
        "\xef\xbf\xbf",
        "\xf0\x90\x80\x80",
        "\xf4\x8f\xbf\xbf",
        "gr\xc3\xbc\xc3\x9f \xe2\x82\xac \xf0\x9f\x98\x80",
    };
    for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++) {
        assert_true(bytes_is_utf8(bytes_of_text(good[i])));
    }
    assert_true(bytes_is_utf8((struct bytes){.data = "a\0b", .size = 3}));
    assert_true(bytes_is_utf8((struct bytes){0}));
}

static void test_malformed_utf8_is_refused(void **state)
{
    static const char *const bad[] = {
        "\x80",             /* a continuation alone */
        "\xbf",             /* the same */
        "\xc0\xaf",         /* over-long slash */
        "\xc1\xbf",         /* over-long */
        "\xe0\x9f\xbf",     /* over-long */
        "\xf0\x8f\xbf\xbf", /* over-long */
        "\xed\xa0\x80",     /* a surrogate */
        "\xed\xbf\xbf",     /* a surrogate */
        "\xf4\x90\x80\x80", /* above U+10FFFF */
        "\xf5\x80\x80\x80", /* above U+10FFFF */
        "\xff",             /* never in UTF-8 */
        "\xc3",             /* cut short */
        "\xe2\x82",         /* cut short */
        "\xf0\x9f\x98",     /* cut short */
        "\xc3(",            /* no continuation */
        "\xe2\x82(",        /* no continuation */
        "\xf0\x9f\x98(",    /* no continuation */
        "good\xfe",         /* never in UTF-8 */
    };
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        assert_false(bytes_is_utf8(bytes_of_text(bad[i])));
    }
}

static void test_character_length_is_that_of_the_first_character(void **state)
{
    assert_int_equal(bytes_utf8_character(bytes_of_text("")), 0);
    assert_int_equal(bytes_utf8_character(bytes_of_text("ab")), 1);
    assert_int_equal(bytes_utf8_character(bytes_of_text("\xc3\xbcx")), 2);
    assert_int_equal(bytes_utf8_character(bytes_of_text("\xe2\x82\xacx")), 3);
    assert_int_equal(bytes_utf8_character(bytes_of_text("\xf0\x9f\x98\x80x")), 4);
    assert_int_equal(bytes_utf8_character(bytes_of_text("\xff")), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_zeroed_memory_is_an_empty_buffer),
        cmocka_unit_test(test_appends_follow_one_another),
        cmocka_unit_test(test_contents_survive_growth),
        cmocka_unit_test(test_limit_is_exact_and_text_fits_at_it),
        cmocka_unit_test(test_failed_append_keeps_contents_and_stops_later_ones),
        cmocka_unit_test(test_sizes_that_would_wrap_around_are_refused),
        cmocka_unit_test(test_finish_keeps_the_limit),
        cmocka_unit_test(test_integers_are_little_endian_at_any_alignment),
        cmocka_unit_test(test_high_bits_survive_loading),
        cmocka_unit_test(test_big_endian_keys_sort_as_numbers),
        cmocka_unit_test(test_bytes_are_equal_by_contents),
        cmocka_unit_test(test_well_formed_utf8_is_accepted),
        cmocka_unit_test(test_malformed_utf8_is_refused),
        cmocka_unit_test(test_character_length_is_that_of_the_first_character),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
