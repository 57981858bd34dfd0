/* Tests of the scalars with units. */
#include "config/value.h"

#include "base/errors.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

struct pair {
    const char *text;
    uint64_t value;
};

static void test_durations_need_their_unit(void **state)
{
    static const struct pair good[] = {
        {"150ms", UINT64_C(150000000)},    {"2s", UINT64_C(2000000000)},        {"0ms", 0},
        {"5m", UINT64_C(5) * 60000000000}, {"1h", UINT64_C(3600) * 1000000000},
    };
    for (size_t i = 0; i < COUNT(good); i++) {
        uint64_t value = 1;
        assert_int_equal(config_read_duration(good[i].text, &value), 0);
        assert_true(value == good[i].value);
    }
    static const char *const bad[] = {"",        "500",  "ms",  "-1s",  "1.5s",
                                      "1 s",     "1sec", "01s", "1s ",  "1d",
                                      "1m30s",   "0x1s", "1S",  "1us2", "99999999999999999999s",
                                      "5124096h"};
    for (size_t i = 0; i < COUNT(bad); i++) {
        uint64_t value = 42;
        assert_int_equal(config_read_duration(bad[i], &value), ERR_INVALID);
        assert_true(value == 42);
    }
}

static void test_sizes_are_bytes_or_binary_units(void **state)
{
    static const struct pair good[] = {
        {"0", 0},
        {"65536", 65536},
        {"64KiB", 65536},
        {"1MiB", 1 << 20},
        {"1GiB", 1 << 30},
        {"2TiB", UINT64_C(2) << 40},
        {"18446744073709551615", UINT64_MAX},
    };
    for (size_t i = 0; i < COUNT(good); i++) {
        uint64_t value = 1;
        assert_int_equal(config_read_size(good[i].text, &value), 0);
        assert_true(value == good[i].value);
    }
    static const char *const bad[] = {"",           "KiB", "64KB", "64kib", "64K",
                                      "1.5MiB",     "-1",  "064",  "1 MiB", "18446744073709551616",
                                      "16777216TiB"};
    for (size_t i = 0; i < COUNT(bad); i++) {
        uint64_t value = 42;
        assert_int_equal(config_read_size(bad[i], &value), ERR_INVALID);
        assert_true(value == 42);
    }
}

static void test_counts_are_digits_only(void **state)
{
    uint64_t value = 1;
    assert_int_equal(config_read_count("0", &value), 0);
    assert_true(value == 0);
    assert_int_equal(config_read_count("8192", &value), 0);
    assert_true(value == 8192);
    static const char *const bad[] = {"", "+1", "-1", "1e3", "0x10", "010", "1_000", "8KiB"};
    for (size_t i = 0; i < COUNT(bad); i++) {
        assert_int_equal(config_read_count(bad[i], &value), ERR_INVALID);
    }
}

static void test_numbers_are_written_in_the_largest_unit_that_fits(void **state)
{
    char text[CONFIG_VALUE_TEXT_SIZE];
    config_write_duration(UINT64_C(1500000000), text);
    assert_string_equal(text, "1500ms");
    config_write_duration(UINT64_C(120) * 1000000000, text);
    assert_string_equal(text, "2m");
    config_write_duration(0, text);
    assert_string_equal(text, "0ms");
    config_write_size(65536, text);
    assert_string_equal(text, "64KiB");
    config_write_size(65537, text);
    assert_string_equal(text, "65537");
    config_write_size(0, text);
    assert_string_equal(text, "0");
}

static void test_words_are_typed_as_yaml_does(void **state)
{
    static const char *const nulls[] = {"", "~", "null", "NULL"};
    static const char *const bools[] = {"true", "False"};
    static const char *const numbers[] = {"0", "42", "-1", "+1.5", ".5", "1e3", "0x1F"};
    static const char *const strings[] = {"node1", "127.0.0.1", "yes", "1a", "inf", "nan",
                                          "150ms", "-",         "1 2", ".a", "tru"};
    for (size_t i = 0; i < COUNT(nulls); i++) {
        assert_int_equal(config_word_of(nulls[i]), CONFIG_WORD_NULL);
    }
    for (size_t i = 0; i < COUNT(bools); i++) {
        assert_int_equal(config_word_of(bools[i]), CONFIG_WORD_BOOL);
    }
    for (size_t i = 0; i < COUNT(numbers); i++) {
        assert_int_equal(config_word_of(numbers[i]), CONFIG_WORD_NUMBER);
    }
    for (size_t i = 0; i < COUNT(strings); i++) {
        assert_int_equal(config_word_of(strings[i]), CONFIG_WORD_STRING);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_durations_need_their_unit),
        cmocka_unit_test(test_sizes_are_bytes_or_binary_units),
        cmocka_unit_test(test_counts_are_digits_only),
        cmocka_unit_test(test_numbers_are_written_in_the_largest_unit_that_fits),
        cmocka_unit_test(test_words_are_typed_as_yaml_does),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
