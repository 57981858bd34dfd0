/* Tests of base/table_hash.h. */
#include "base/table_hash.h"

#include "base/checksum.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <string.h>

enum { KEYS = 1 << 16, COLLIDING_MAX = 256, BUCKET_MASK = 0xff };

/* Keys that all fall into bucket 0 of a table that hashes without a key, as everybody can prepare
 * them. */
static size_t prepare(char (*keys)[24])
{
    size_t count = 0;
    for (unsigned i = 0; i < KEYS && count < COLLIDING_MAX; i++) {
        snprintf(keys[count], sizeof(keys[0]), "client-id-%u", i);
        count += (checksum64(keys[count], strlen(keys[count])) & BUCKET_MASK) == 0;
    }
    return count;
}

static void test_prepared_keys_do_not_meet_in_a_keyed_table(void **state)
{
    static char keys[COLLIDING_MAX + 1][24];
    size_t count = prepare(keys);
    assert_true(count >= COLLIDING_MAX / 2);
    for (uint64_t key = 1; key <= 16; key++) {
        table_hash_set_key(key * UINT64_C(0x9e3779b97f4a7c15));
        size_t together = 0;
        for (size_t i = 0; i < count; i++) {
            together += (table_hash(keys[i], strlen(keys[i])) & BUCKET_MASK) == 0;
        }
        /* One in 256 is what chance puts there. */
        assert_true(together < 16);
    }
    table_hash_set_key(0);
}

static void test_without_a_key_it_is_the_same_in_every_process(void **state)
{
    static const char text[] = "channel";
    assert_int_equal(table_hash(text, sizeof(text)), (uint32_t)checksum64(text, sizeof(text)));
    table_hash_set_key(7);
    uint32_t keyed = table_hash(text, sizeof(text));
    assert_int_not_equal(keyed, (uint32_t)checksum64(text, sizeof(text)));
    assert_int_equal(keyed, table_hash(text, sizeof(text)));
    table_hash_set_key(0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_prepared_keys_do_not_meet_in_a_keyed_table),
        cmocka_unit_test(test_without_a_key_it_is_the_same_in_every_process),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
