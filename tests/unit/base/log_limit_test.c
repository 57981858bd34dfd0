/* What a stranger can make us log. */
#include "base/clock.h"
#include "base/log_limit.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

static bool passes(struct log_limit *limit, uint64_t now_ns, const char *text)
{
    uint64_t suppressed = 0;
    return log_limit_passes(limit, now_ns, text, &suppressed);
}

static void test_a_repeated_text_is_written_once_a_minute(void **state)
{
    struct log_limit limit = {0};
    int written = 0;
    for (uint64_t now_ns = NS_PER_S; now_ns < 121 * NS_PER_S; now_ns += NS_PER_S) {
        written += passes(&limit, now_ns, "refused");
    }
    assert_int_equal(written, 2);
}

static void test_digits_make_no_news(void **state)
{
    struct log_limit limit = {0};
    assert_true(passes(&limit, NS_PER_S, "from 10.0.0.1:4242: refused"));
    assert_false(passes(&limit, NS_PER_S, "from 10.0.0.1:51: refused"));
    assert_false(passes(&limit, NS_PER_S, "from 10.0.0.1:: refused"));
    assert_true(passes(&limit, NS_PER_S, "from 10.0.0.1:4242: refused again"));
    assert_true(passes(&limit, NS_PER_S, "from 10.0.0.1:4242: re"));
}

static void test_what_changes_with_each_line_is_bounded_too(void **state)
{
    struct log_limit limit = {0};
    int written = 0;
    for (int i = 0; i < 1000; i++) {
        char text[32];
        snprintf(text, sizeof(text), "stranger %c%c", 'a' + i % 26, 'a' + i / 26 % 26);
        written += passes(&limit, NS_PER_S + (uint64_t)i * NS_PER_MS, text);
        log_limit_reset(&limit);
    }
    assert_int_equal(written, LOG_LIMIT_LINES_MAX);
    uint64_t suppressed = 0;
    assert_true(log_limit_passes(&limit, 100 * NS_PER_S, "another", &suppressed));
    assert_int_equal(suppressed, 1000 - LOG_LIMIT_LINES_MAX);
    assert_true(log_limit_passes(&limit, 100 * NS_PER_S, "yet another", &suppressed));
    assert_int_equal(suppressed, 0);
}

static void test_after_a_reset_the_same_text_is_news(void **state)
{
    struct log_limit limit = {0};
    assert_true(passes(&limit, NS_PER_S, "lost"));
    assert_false(passes(&limit, NS_PER_S, "lost"));
    log_limit_reset(&limit);
    assert_true(passes(&limit, NS_PER_S, "lost"));
}

static void test_long_texts_are_compared_up_to_what_is_kept(void **state)
{
    char text[2 * LOG_LIMIT_TEXT_BYTES];
    memset(text, 'x', sizeof(text));
    text[sizeof(text) - 1] = '\0';
    struct log_limit limit = {0};
    assert_true(passes(&limit, NS_PER_S, text));
    assert_false(passes(&limit, NS_PER_S, text));
    assert_true(passes(&limit, NS_PER_S, ""));
    assert_false(passes(&limit, NS_PER_S, ""));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_repeated_text_is_written_once_a_minute),
        cmocka_unit_test(test_digits_make_no_news),
        cmocka_unit_test(test_what_changes_with_each_line_is_bounded_too),
        cmocka_unit_test(test_after_a_reset_the_same_text_is_news),
        cmocka_unit_test(test_long_texts_are_compared_up_to_what_is_kept),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
