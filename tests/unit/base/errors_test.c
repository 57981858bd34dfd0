/* Tests of base/errors.h. */
#include "base/errors.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <string.h>

static void test_every_code_has_a_text_of_its_own(void **state)
{
    for (int code = 0; code >= ERR_FILES; code--) {
        assert_string_not_equal(error_text(code), "unknown error");
        for (int other = 0; other > code; other--) {
            assert_string_not_equal(error_text(code), error_text(other));
        }
    }
}

static void test_unknown_codes_have_a_text_too(void **state)
{
    assert_string_equal(error_text(1), "unknown error");
    assert_string_equal(error_text(ERR_FILES - 1), "unknown error");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_code_has_a_text_of_its_own),
        cmocka_unit_test(test_unknown_codes_have_a_text_too),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
