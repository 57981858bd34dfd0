/* Tests of base/checksum.h. */
#include "base/checksum.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <string.h>

static void test_values_are_those_of_xxh3(void **state)
{
    /* From xxHash's own sanity tests: stored files depend on these never changing. */
    assert_true(checksum64("", 0) == UINT64_C(0x2d06800538d394c2));
    struct hash128 hash = hash128("", 0);
    assert_true(hash.high == UINT64_C(0x99aa06d3014798d8));
    assert_true(hash.low == UINT64_C(0x6001c324468d497f));
    assert_true(checksum32("", 0) == UINT32_C(0x38d394c2));
}

static void test_every_flipped_bit_is_noticed(void **state)
{
    uint8_t data[64];
    memset(data, 0x5a, sizeof(data));
    uint64_t before = checksum64(data, sizeof(data));
    for (size_t bit = 0; bit < sizeof(data) * 8; bit++) {
        data[bit / 8] ^= (uint8_t)(1 << bit % 8);
        assert_true(checksum64(data, sizeof(data)) != before);
        data[bit / 8] ^= (uint8_t)(1 << bit % 8);
    }
}

static void test_chained_parts_depend_on_order_and_seed(void **state)
{
    uint64_t ab = checksum64_seed(checksum64_seed(0, "a", 1), "b", 1);
    uint64_t ba = checksum64_seed(checksum64_seed(0, "b", 1), "a", 1);
    assert_true(ab != ba);
    assert_true(checksum64_seed(0, "a", 1) == checksum64("a", 1));
    assert_true(checksum64_seed(1, "a", 1) != checksum64("a", 1));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_values_are_those_of_xxh3),
        cmocka_unit_test(test_every_flipped_bit_is_noticed),
        cmocka_unit_test(test_chained_parts_depend_on_order_and_seed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
