/* Strings, base64, names and numbers by themselves. */
#include "json/json.h"

#include "base/errors.h"
#include "base/random.h"

#include <setjmp.h>
#include <stdarg.h>
#include <string.h>
/* cmocka wants the first two above. */
#include <cmocka.h>

static void assert_string(const char *data, size_t size, const char *expected)
{
    struct buf out = {0};
    json_append_string(&out, (struct bytes){data, size});
    assert_string_equal(buf_text(&out), expected);
    buf_finish(&out);
}

static void assert_string_of(const char *text, const char *expected)
{
    assert_string(text, strlen(text), expected);
}

static void test_plain_text_is_copied(void **state)
{
    assert_string_of("", "\"\"");
    assert_string_of("a", "\"a\"");
    assert_string_of("exactly8", "\"exactly8\"");
    assert_string_of("some text of more than eight bytes / é € 😀 \x7f",
                     "\"some text of more than eight bytes / é € 😀 \x7f\"");
}

static void test_controls_quotes_and_backslashes_are_escaped(void **state)
{
    assert_string_of("a\"b\\c/", "\"a\\\"b\\\\c/\"");
    assert_string_of("\b\f\n\r\t\x01\x1f", "\"\\b\\f\\n\\r\\t\\u0001\\u001f\"");
    assert_string("a\0b", 3, "\"a\\u0000b\"");
}

/* Whatever place of an eight-byte word the special byte has. */
static void test_escapes_are_found_at_every_offset(void **state)
{
    static const char special[] = {'"', '\\', '\n', '\x01', '\x1f'};
    static const char *const escapes[] = {"\\\"", "\\\\", "\\n", "\\u0001", "\\u001f"};
    for (size_t kind = 0; kind < sizeof(special); kind++) {
        for (size_t at = 0; at < 20; at++) {
            char text[20];
            memset(text, '!', sizeof(text));
            text[at] = special[kind];
            char expected[40];
            int size = snprintf(expected, sizeof(expected), "\"%.*s%s%.*s\"", (int)at,
                                "!!!!!!!!!!!!!!!!!!!!", escapes[kind], (int)(19 - at),
                                "!!!!!!!!!!!!!!!!!!!!");
            assert_true(size > 0);
            assert_string(text, sizeof(text), expected);
        }
    }
}

static void test_what_is_not_utf8_is_replaced(void **state)
{
#define FFFD "\xEF\xBF\xBD"
    assert_string_of("\xFF", "\"" FFFD "\"");
    assert_string_of("12345678\x80z", "\"12345678" FFFD "z\"");
    assert_string_of("\xC3", "\"" FFFD "\"");
    assert_string_of("\xC0\x80", "\"" FFFD FFFD "\"");                   /* over-long */
    assert_string_of("\xE0\x80\x80", "\"" FFFD FFFD FFFD "\"");          /* over-long */
    assert_string_of("\xED\xA0\x80", "\"" FFFD FFFD FFFD "\"");          /* surrogate */
    assert_string_of("\xF4\x90\x80\x80", "\"" FFFD FFFD FFFD FFFD "\""); /* over U+10FFFF */
    assert_string_of("\xF0\x8F\xBF\xBF", "\"" FFFD FFFD FFFD FFFD "\""); /* over-long */
    assert_string_of("\xF4\x8F\xBF\xBF\xEE\x80\x80", "\"\xF4\x8F\xBF\xBF\xEE\x80\x80\"");
}

/* Random bytes: the output is UTF-8, jansson reads it, and it is the input where that was UTF-8. */
static void test_any_bytes_make_a_json_string(void **state)
{
    struct random random;
    random_seed(&random, 3);
    for (int round = 0; round < 20000; round++) {
        char text[24];
        size_t size = random_below(&random, sizeof(text) + 1);
        uint64_t mask = round % 2 == 0 ? 0xFF : 0x7F;
        for (size_t i = 0; i < size; i++) {
            text[i] = (char)(random_next(&random) & mask);
        }
        struct buf out = {0};
        json_append_string(&out, (struct bytes){text, size});
        json_t *value = NULL;
        struct json_error error = {{0}};
        assert_int_equal(json_parse(buf_bytes(&out), &value, &error), 0);
        struct bytes read = {json_string_value(value), json_string_length(value)};
        struct bytes written = {text, size};
        assert_true(bytes_equal(read, written) == bytes_is_utf8(written));
        json_decref(value);
        buf_finish(&out);
    }
}

static void assert_base64(const char *text, const char *expected)
{
    struct buf out = {0};
    buf_append_text(&out, "kept:");
    int rc = json_parse_base64(bytes_of_text(text), &out);
    assert_int_equal(rc, expected != NULL ? 0 : ERR_INVALID);
    struct bytes rest = {out.data + 5, out.size - 5};
    assert_true(bytes_equal(rest, bytes_of_text(expected != NULL ? expected : "")));
    buf_finish(&out);
}

static void test_base64_is_read_in_all_its_variants(void **state)
{
    assert_base64("", "");
    assert_base64("Zg==", "f");
    assert_base64("Zg", "f");
    assert_base64("Zm8=", "fo");
    assert_base64("Zm8", "fo");
    assert_base64("Zm9v", "foo");
    assert_base64("Zm9vYg==", "foob");
    assert_base64("Zm9vYmFy", "foobar");
    assert_base64("+/+/", "\xfb\xff\xbf");
    assert_base64("-_-_", "\xfb\xff\xbf");
    assert_base64("+_-/", "\xfb\xff\xbf");
    assert_base64("-_8", "\xfb\xff");
    assert_base64("-_8=", "\xfb\xff");
    assert_base64("Zh==", "f"); /* bits beyond the last byte are ignored */
}

static void test_bad_base64_is_refused_and_appends_nothing(void **state)
{
    static const char *const bad[] = {
        "Z",      "=",     "==",     "===",   "Z=",     "Zg=",   "Zg===",  "Zm9v=",
        "Zm9v==", "Zm9vY", "Zg==Zg", "Z g=",  "Zg=\n",  "Zm9\n", "Zm9v\n", "Zm9*",
        "é",      "Zg=g",  "=Zg=",   "Zm8==", "Zm9vY=", ".m9v",  "Z,==",   "ZmA,"};
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        assert_base64(bad[i], NULL);
    }
}

static void test_base64_round_trips_at_every_length(void **state)
{
    struct random random;
    random_seed(&random, 5);
    uint8_t data[100];
    for (size_t size = 0; size <= sizeof(data); size++) {
        for (size_t i = 0; i < size; i++) {
            data[i] = (uint8_t)random_next(&random);
        }
        struct buf text = {0};
        json_append_base64(&text, (struct bytes){data, size});
        assert_int_equal(text.size, (size + 2) / 3 * 4);
        struct buf back;
        buf_init(&back, size > 0 ? size : 1); /* not one byte more is asked for */
        assert_int_equal(json_parse_base64(buf_bytes(&text), &back), 0);
        assert_true(bytes_equal(buf_bytes(&back), (struct bytes){data, size}));
        buf_finish(&back);
        buf_finish(&text);
    }
}

static void test_base64_does_not_exceed_a_bounded_buffer(void **state)
{
    struct buf out;
    buf_init(&out, 7);
    json_append_base64(&out, (struct bytes){"123456", 6});
    assert_true(buf_failed(&out));
    assert_int_equal(out.size, 0);
    buf_finish(&out);
    buf_init(&out, 5);
    assert_int_equal(json_parse_base64(bytes_of_text("Zm9vYmFy"), &out), ERR_NOMEM);
    buf_finish(&out);
}

static void assert_camel(const char *name, const char *expected)
{
    char out[64];
    json_camel_name(name, out);
    assert_string_equal(out, expected);
}

static void test_camel_names_follow_protobuf(void **state)
{
    assert_camel("after_sequence", "afterSequence");
    assert_camel("timestamp_unix_ms", "timestampUnixMs");
    assert_camel("name", "name");
    assert_camel("field_1", "field1");
    assert_camel("a__b", "aB");
    assert_camel("_a", "A");
    assert_camel("a_", "a");
    assert_camel("alreadyCamel_x", "alreadyCamelX");
    assert_camel("", "");
}

static void test_written_numbers_are_told_from_strings(void **state)
{
    static const struct {
        const char *text;
        bool is_written_number;
    } cases[] = {
        {"1.5", true},           {"1e3", true},   {"1234567890123456789", true},
        {"-1.0", true},          {"-0", false},   {"123456789012345678", false},
        {"\"1.5\"", false},      {"\"\"", false}, {"\"\\u0000\"", false},
        {"\"\\u0000x\"", false}, {"true", false}, {"-123456789012345678", false},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        json_t *value = NULL;
        struct json_error error = {{0}};
        assert_int_equal(json_parse(bytes_of_text(cases[i].text), &value, &error), 0);
        assert_true(json_is_written_number(value) == cases[i].is_written_number);
        json_decref(value);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_plain_text_is_copied),
        cmocka_unit_test(test_controls_quotes_and_backslashes_are_escaped),
        cmocka_unit_test(test_escapes_are_found_at_every_offset),
        cmocka_unit_test(test_what_is_not_utf8_is_replaced),
        cmocka_unit_test(test_any_bytes_make_a_json_string),
        cmocka_unit_test(test_base64_is_read_in_all_its_variants),
        cmocka_unit_test(test_bad_base64_is_refused_and_appends_nothing),
        cmocka_unit_test(test_base64_round_trips_at_every_length),
        cmocka_unit_test(test_base64_does_not_exceed_a_bounded_buffer),
        cmocka_unit_test(test_camel_names_follow_protobuf),
        cmocka_unit_test(test_written_numbers_are_told_from_strings),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
