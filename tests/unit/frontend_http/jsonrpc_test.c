/* Tests of jsonrpc.h. */
#include "base/errors.h"
#include "http/jsonrpc.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

/* The code that one request is refused with; 0 if it is fine. */
static int code_of(const char *text)
{
    struct jsonrpc_message message;
    struct jsonrpc_fault fault;
    struct jsonrpc_request request;
    if (jsonrpc_parse(bytes_of_text(text), &message, &fault) != 0) {
        return fault.code;
    }
    int rc = jsonrpc_request(&message, 0, &request, &fault);
    jsonrpc_finish(&message);
    return rc == 0 ? 0 : fault.code;
}

static void test_a_call_is_read(void **state)
{
    struct jsonrpc_message message;
    struct jsonrpc_fault fault;
    struct jsonrpc_request request;
    const char *text =
        "{\"jsonrpc\":\"2.0\",\"id\":7,\"method\":\"Read\",\"params\":{\"key\":\"k\"}}";
    assert_int_equal(jsonrpc_parse(bytes_of_text(text), &message, &fault), 0);
    assert_false(message.is_batch);
    assert_int_equal(message.count, 1);
    assert_int_equal(jsonrpc_request(&message, 0, &request, &fault), 0);
    assert_string_equal(request.method, "Read");
    assert_int_equal(json_integer_value(request.id), 7);
    assert_string_equal(json_string_value(json_object_get(request.params, "key")), "k");
    jsonrpc_finish(&message);
}

static void test_a_request_without_id_is_a_notification(void **state)
{
    struct jsonrpc_message message;
    struct jsonrpc_fault fault;
    struct jsonrpc_request request;
    assert_int_equal(
        jsonrpc_parse(bytes_of_text("{\"jsonrpc\":\"2.0\",\"method\":\"X\"}"), &message, &fault),
        0);
    assert_int_equal(jsonrpc_request(&message, 0, &request, &fault), 0);
    assert_null(request.id);
    assert_null(request.params);
    jsonrpc_finish(&message);
}

static void test_text_that_is_no_json_is_a_parse_error(void **state)
{
    static const char *const texts[] = {
        "", " ", "{", "nul", "{\"a\":1,}", "[1,", "\"\\x\"", "{} {}", "{'jsonrpc':'2.0'}"};
    for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
        assert_int_equal(code_of(texts[i]), JSONRPC_PARSE_ERROR);
    }
}

static void test_what_is_no_request_is_invalid(void **state)
{
    static const char *const texts[] = {
        "1",
        "null",
        "\"x\"",
        "{}",
        "[]",
        "[1]",
        "[[]]",
        "{\"method\":\"X\"}",
        "{\"jsonrpc\":\"1.0\",\"method\":\"X\"}",
        "{\"jsonrpc\":2.0,\"method\":\"X\"}",
        "{\"jsonrpc\":\"2.0\"}",
        "{\"jsonrpc\":\"2.0\",\"method\":1}",
        "{\"jsonrpc\":\"2.0\",\"method\":1.5}",
        "{\"jsonrpc\":\"2.0\",\"method\":null}",
        "{\"jsonrpc\":\"2.0\",\"method\":\"X\",\"id\":{}}",
        "{\"jsonrpc\":\"2.0\",\"method\":\"X\",\"id\":[]}",
        "{\"jsonrpc\":\"2.0\",\"method\":\"X\",\"id\":true}",
        "{\"jsonrpc\":\"2.0\",\"method\":\"X\",\"params\":1}",
        "{\"jsonrpc\":\"2.0\",\"method\":\"X\",\"params\":\"x\"}",
        "{\"jsonrpc\":\"2.0\",\"method\":\"X\",\"params\":true}",
    };
    for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
        assert_int_equal(code_of(texts[i]), JSONRPC_INVALID_REQUEST);
    }
}

static void test_ids_are_strings_numbers_and_null(void **state)
{
    static const char *const ids[] = {"\"a\"", "\"\"", "0",    "-1",
                                      "1.5",   "1e3",  "null", "18446744073709551616"};
    for (size_t i = 0; i < sizeof(ids) / sizeof(ids[0]); i++) {
        char text[128];
        snprintf(text, sizeof(text), "{\"jsonrpc\":\"2.0\",\"id\":%s,\"method\":\"X\"}", ids[i]);
        assert_int_equal(code_of(text), 0);
    }
}

/* Whether they are faulty depends on the method, and an unknown one is the greater fault. */
static void test_params_without_names_are_told_apart(void **state)
{
    static const struct {
        const char *params;
        bool is_empty;
    } cases[] = {{"[]", true}, {"null", true}, {"[1]", false}, {"[null]", false}};
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        char text[128];
        snprintf(text, sizeof(text), "{\"jsonrpc\":\"2.0\",\"method\":\"X\",\"params\":%s}",
                 cases[i].params);
        struct jsonrpc_message message;
        struct jsonrpc_fault fault;
        struct jsonrpc_request request;
        assert_int_equal(jsonrpc_parse(bytes_of_text(text), &message, &fault), 0);
        assert_int_equal(jsonrpc_request(&message, 0, &request, &fault), 0);
        assert_null(request.params);
        assert_true(request.is_unnamed);
        assert_int_equal(request.is_empty, cases[i].is_empty);
        jsonrpc_finish(&message);
    }
}

static void test_an_invalid_request_keeps_its_id_when_it_has_one(void **state)
{
    struct jsonrpc_message message;
    struct jsonrpc_fault fault;
    struct jsonrpc_request request;
    assert_int_equal(jsonrpc_parse(bytes_of_text("{\"id\":\"a\",\"method\":1}"), &message, &fault),
                     0);
    assert_int_equal(jsonrpc_request(&message, 0, &request, &fault), ERR_INVALID);
    assert_string_equal(json_string_value(request.id), "a");
    jsonrpc_finish(&message);
}

static void test_a_method_with_nul_is_no_prefix_of_itself(void **state)
{
    struct jsonrpc_message message;
    struct jsonrpc_fault fault;
    struct jsonrpc_request request;
    const char *text = "{\"jsonrpc\":\"2.0\",\"method\":\"Read\\u0000er\"}";
    assert_int_equal(jsonrpc_parse(bytes_of_text(text), &message, &fault), 0);
    assert_int_equal(jsonrpc_request(&message, 0, &request, &fault), 0);
    assert_string_equal(request.method, "");
    jsonrpc_finish(&message);
}

static void test_a_batch_holds_up_to_a_hundred(void **state)
{
    struct buf text = {0};
    struct jsonrpc_message message;
    struct jsonrpc_fault fault;
    buf_append_text(&text, "[1");
    for (int i = 1; i < JSONRPC_BATCH_MAX; i++) {
        buf_append_text(&text, ",1");
    }
    buf_append_text(&text, "]");
    assert_int_equal(jsonrpc_parse(buf_bytes(&text), &message, &fault), 0);
    assert_true(message.is_batch);
    assert_int_equal(message.count, JSONRPC_BATCH_MAX);
    jsonrpc_finish(&message);
    text.size--;
    buf_append_text(&text, ",1]");
    assert_int_equal(jsonrpc_parse(buf_bytes(&text), &message, &fault), ERR_INVALID);
    assert_int_equal(fault.code, JSONRPC_INVALID_REQUEST);
    buf_finish(&text);
}

static void test_answers_are_texts_of_the_specification(void **state)
{
    struct buf out = {0};
    jsonrpc_open_result(&out, "7");
    buf_append_text(&out, "{}}");
    assert_string_equal(buf_text(&out), "{\"jsonrpc\":\"2.0\",\"id\":7,\"result\":{}}");
    buf_reset(&out);
    jsonrpc_append_error(&out, NULL, -32700, "a \"b\"", NULL);
    assert_string_equal(buf_text(&out),
                        "{\"jsonrpc\":\"2.0\",\"id\":null,\"error\":{\"code\":-32700,"
                        "\"message\":\"a \\\"b\\\"\"}}");
    buf_reset(&out);
    jsonrpc_append_error(&out, "\"x\"", 5, "no", "{\"status\":\"NOT_FOUND\"}");
    assert_string_equal(
        buf_text(&out),
        "{\"jsonrpc\":\"2.0\",\"id\":\"x\",\"error\":{\"code\":5,\"message\":\"no\","
        "\"data\":{\"status\":\"NOT_FOUND\"}}}");
    buf_reset(&out);
    jsonrpc_open_notification(&out, "heartbeat");
    buf_append_text(&out, "{}}");
    assert_string_equal(buf_text(&out),
                        "{\"jsonrpc\":\"2.0\",\"method\":\"heartbeat\",\"params\":{}}");
    buf_finish(&out);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_call_is_read),
        cmocka_unit_test(test_a_request_without_id_is_a_notification),
        cmocka_unit_test(test_text_that_is_no_json_is_a_parse_error),
        cmocka_unit_test(test_what_is_no_request_is_invalid),
        cmocka_unit_test(test_ids_are_strings_numbers_and_null),
        cmocka_unit_test(test_params_without_names_are_told_apart),
        cmocka_unit_test(test_an_invalid_request_keeps_its_id_when_it_has_one),
        cmocka_unit_test(test_a_method_with_nul_is_no_prefix_of_itself),
        cmocka_unit_test(test_a_batch_holds_up_to_a_hundred),
        cmocka_unit_test(test_answers_are_texts_of_the_specification),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
