/* A cluster's id: whether it is set, and its text. */
#include "base/cluster.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

static void test_an_id_is_set_if_any_byte_is_not_zero(void **state)
{
    uint8_t id[CLUSTER_ID_BYTES] = {0};
    assert_false(cluster_id_is_set(id));
    id[CLUSTER_ID_BYTES - 1] = 1;
    assert_true(cluster_id_is_set(id));
}

static void test_hex_has_two_lower_case_digits_for_each_byte(void **state)
{
    const uint8_t id[CLUSTER_ID_BYTES] = {0x01, 0x23, 0x45, 0x67, 0x89, 0xab, 0xcd, 0xef, 0xff};
    char hex[CLUSTER_ID_HEX_BYTES + 1];
    cluster_id_to_hex(id, hex);
    assert_string_equal(hex, "0123456789abcdefff00000000000000");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_an_id_is_set_if_any_byte_is_not_zero),
        cmocka_unit_test(test_hex_has_two_lower_case_digits_for_each_byte),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
