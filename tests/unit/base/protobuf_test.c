/* Tests of base/protobuf.h. */
#include "base/protobuf.h"

#include "base/errors.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

static int read_one(const char *encoded, size_t size, struct protobuf_field *out)
{
    struct bytes_reader reader = bytes_reader_of((struct bytes){encoded, size});
    return protobuf_read_field(&reader, out);
}

static void test_fields_of_every_type_are_read_in_order(void **state)
{
    const char message[] = "\x08\x96\x01"                         /* 1: 150 */
                           "\x11\x01\x00\x00\x00\x00\x00\x00\x80" /* 2: 2^63 + 1 */
                           "\x1a\x03"
                           "abc"                       /* 3: "abc" */
                           "\x25\x02\x00\x00\x80"      /* 4: 2^31 + 2 */
                           "\x2a\x00"                  /* 5: "" */
                           "\x80\x80\x80\x80\x20\x07"; /* 2^30: 7 */
    struct bytes_reader reader = bytes_reader_of((struct bytes){message, sizeof(message) - 1});
    struct protobuf_field field;
    assert_int_equal(protobuf_read_field(&reader, &field), 1);
    assert_int_equal(field.tag, PROTOBUF_TAG(1, PROTOBUF_VARINT));
    assert_int_equal(field.value, 150);
    assert_int_equal(field.bytes.size, 0);
    assert_int_equal(protobuf_read_field(&reader, &field), 1);
    assert_int_equal(field.tag, PROTOBUF_TAG(2, PROTOBUF_FIXED64));
    assert_int_equal(field.value, (UINT64_C(1) << 63) + 1);
    assert_int_equal(protobuf_read_field(&reader, &field), 1);
    assert_int_equal(field.tag, PROTOBUF_TAG(3, PROTOBUF_BYTES));
    assert_int_equal(field.value, 0);
    assert_int_equal(field.bytes.size, 3);
    assert_memory_equal(field.bytes.data, "abc", 3);
    assert_int_equal(protobuf_read_field(&reader, &field), 1);
    assert_int_equal(field.tag, PROTOBUF_TAG(4, PROTOBUF_FIXED32));
    assert_int_equal(field.value, (UINT64_C(1) << 31) + 2);
    assert_int_equal(protobuf_read_field(&reader, &field), 1);
    assert_int_equal(field.bytes.size, 0);
    assert_int_equal(protobuf_read_field(&reader, &field), 1);
    assert_int_equal(protobuf_number(&field), UINT64_C(1) << 30);
    assert_int_equal(protobuf_type(&field), PROTOBUF_VARINT);
    assert_int_equal(field.value, 7);
    assert_int_equal(protobuf_read_field(&reader, &field), 0);
}

static void test_cut_fields_are_invalid(void **state)
{
    const char *const fields[] = {"\x08\x96\x01", "\x11\x01\x02\x03\x04\x05\x06\x07\x08",
                                  ("\x1a\x03"
                                   "abc"),
                                  "\x25\x01\x02\x03\x04"};
    for (size_t i = 0; i < sizeof(fields) / sizeof(fields[0]); i++) {
        struct protobuf_field field = {.tag = 77};
        for (size_t size = 1; size < strlen(fields[i]); size++) {
            assert_int_equal(read_one(fields[i], size, &field), ERR_INVALID);
        }
        assert_int_equal(field.tag, 77);
        assert_int_equal(read_one(fields[i], strlen(fields[i]), &field), 1);
    }
}

static void test_groups_and_unknown_types_are_invalid(void **state)
{
    struct protobuf_field field;
    assert_int_equal(read_one("\x0b\x00", 2, &field), ERR_INVALID);
    assert_int_equal(read_one("\x0c\x00", 2, &field), ERR_INVALID);
    assert_int_equal(read_one("\x0e\x00", 2, &field), ERR_INVALID);
    assert_int_equal(read_one("\x0f\x00", 2, &field), ERR_INVALID);
}

static void test_size_beyond_any_memory_is_invalid(void **state)
{
    struct protobuf_field field;
    const char huge[] = "\x0a\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01"
                        "a";
    assert_int_equal(read_one(huge, sizeof(huge) - 1, &field), ERR_INVALID);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_fields_of_every_type_are_read_in_order),
        cmocka_unit_test(test_cut_fields_are_invalid),
        cmocka_unit_test(test_groups_and_unknown_types_are_invalid),
        cmocka_unit_test(test_size_beyond_any_memory_is_invalid),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
