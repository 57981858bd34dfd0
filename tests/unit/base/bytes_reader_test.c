/* Tests of base/bytes_reader.h. */
#include "base/bytes_reader.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

static void test_takes_are_views_in_order(void **state)
{
    const uint8_t data[] = {1, 2, 3, 4, 5};
    struct bytes_reader reader = bytes_reader_of((struct bytes){data, sizeof(data)});
    assert_ptr_equal(bytes_reader_take(&reader, 2), data);
    assert_ptr_equal(bytes_reader_take(&reader, 0), data + 2);
    assert_ptr_equal(bytes_reader_take(&reader, 3), data + 2);
    assert_int_equal(bytes_reader_left(&reader), 0);
    assert_false(reader.failed);
}

static void test_take_beyond_the_end_fails_and_stays_failed(void **state)
{
    const uint8_t data[] = {1, 2, 3};
    struct bytes_reader reader = bytes_reader_of((struct bytes){data, sizeof(data)});
    uint64_t value = 77;
    assert_null(bytes_reader_take(&reader, UINT64_MAX));
    assert_true(reader.failed);
    assert_null(bytes_reader_take(&reader, 1));
    assert_false(bytes_reader_take_varint(&reader, &value));
    assert_int_equal(value, 77);
    assert_int_equal(bytes_reader_left(&reader), 3);
}

static void test_reader_of_nothing_is_at_its_end(void **state)
{
    struct bytes_reader reader = bytes_reader_of((struct bytes){NULL, 0});
    assert_int_equal(bytes_reader_left(&reader), 0);
    assert_null(bytes_reader_take(&reader, 1));
    assert_true(reader.failed);
}

static void expect_varint(const char *encoded, size_t size, uint64_t expected)
{
    struct bytes_reader reader = bytes_reader_of((struct bytes){encoded, size});
    uint64_t value = 0;
    assert_true(bytes_reader_take_varint(&reader, &value));
    assert_int_equal(value, expected);
    assert_int_equal(bytes_reader_left(&reader), 0);
}

static void test_varints_of_every_length_are_read(void **state)
{
    expect_varint("\0", 1, 0);
    expect_varint("\x7f", 1, 127);
    expect_varint("\x80\x01", 2, 128);
    expect_varint("\xff\xff\xff\xff\x0f", 5, UINT32_MAX);
    expect_varint("\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", 10, UINT64_MAX);
    expect_varint("\xff\xff\xff\xff\xff\xff\xff\xff\xff\x7f", 10, UINT64_MAX); /* dropped bits */
    expect_varint("\x80\x80\x00", 3, 0);                                       /* longer than due */
}

static void test_varint_without_a_last_byte_fails(void **state)
{
    const char endless[] = "\x80\x80\x80\x80\x80\x80\x80\x80\x80\x80\x01";
    for (size_t size = 0; size < sizeof(endless); size++) {
        struct bytes_reader reader = bytes_reader_of((struct bytes){endless, size});
        uint64_t value = 77;
        assert_false(bytes_reader_take_varint(&reader, &value));
        assert_true(reader.failed);
        assert_int_equal(value, 77);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_takes_are_views_in_order),
        cmocka_unit_test(test_take_beyond_the_end_fails_and_stays_failed),
        cmocka_unit_test(test_reader_of_nothing_is_at_its_end),
        cmocka_unit_test(test_varints_of_every_length_are_read),
        cmocka_unit_test(test_varint_without_a_last_byte_fails),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
