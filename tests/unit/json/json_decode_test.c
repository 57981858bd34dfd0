/* What the decoder takes, and what it says about what it refuses. */
#include "json/json.h"

#include "base/errors.h"
#include "unit/json/random_message.h"

#include <setjmp.h>
#include <stdarg.h>
/* cmocka wants the two above. */
#include <cmocka.h>

#define HISTORY &raftogram__v1__read_history_response__descriptor
#define READ &raftogram__v1__read_history_request__descriptor

static void assert_refused_bytes(const ProtobufCMessageDescriptor *descriptor, struct bytes text,
                                 const char *reason)
{
    struct json_error error = {{0}};
    ProtobufCMessage *message = NULL;
    assert_int_equal(json_decode(descriptor, text, &message, &error), ERR_INVALID);
    assert_null(message);
    assert_string_equal(error.text, reason);
}

static void assert_refused(const ProtobufCMessageDescriptor *descriptor, const char *text,
                           const char *reason)
{
    assert_refused_bytes(descriptor, bytes_of_text(text), reason);
}

/* Decodes, and encodes to `expected`. */
static void assert_decoded(const ProtobufCMessageDescriptor *descriptor, const char *text,
                           const char *expected)
{
    struct json_error error = {{0}};
    ProtobufCMessage *message = NULL;
    if (json_decode(descriptor, bytes_of_text(text), &message, &error) != 0) {
        fail_msg("%s in %s", error.text, text);
    }
    struct buf out = {0};
    json_encode(message, JSON_NAMES_CAMEL, &out);
    assert_string_equal(buf_text(&out), expected);
    buf_finish(&out);
    protobuf_c_message_free_unpacked(message, NULL);
}

/* The one field `name` of struct kinds, given as `value`. */
static struct kinds *decode_kind(const char *name, const char *value, struct json_error *error)
{
    char text[256];
    int size = snprintf(text, sizeof(text), "{\"%s\":%s}", name, value);
    CHECK(size > 0);
    CHECK((size_t)size < sizeof(text));
    ProtobufCMessage *message = NULL;
    int rc = json_decode(&kinds_descriptor, bytes_of_text(text), &message, error);
    CHECK((rc == 0) == (message != NULL));
    return (struct kinds *)(void *)message;
}

static void assert_kind_refused(const char *name, const char *value, const char *reason)
{
    struct json_error error = {{0}};
    struct kinds *kinds = decode_kind(name, value, &error);
    if (kinds != NULL) {
        fail_msg("%s was accepted for %s", value, name);
    }
    char expected[256];
    snprintf(expected, sizeof(expected), "%s: %s", name, reason);
    assert_string_equal(error.text, expected);
}

#define ASSERT_KIND(field, value, expected)                         \
    do {                                                            \
        struct json_error error_ = {{0}};                           \
        struct kinds *kinds_ = decode_kind(#field, value, &error_); \
        if (kinds_ == NULL) {                                       \
            fail_msg("%s: %s", value, error_.text);                 \
        }                                                           \
        assert_true(kinds_->field == (expected));                   \
        protobuf_c_message_free_unpacked(&kinds_->base, NULL);      \
    } while (0)

static void test_both_spellings_of_names_are_read(void **state)
{
    static const char *const expected = "{\"channelId\":\"c\",\"afterSequence\":\"5\",\"limit\":3}";
    assert_decoded(READ, "{\"channelId\":\"c\",\"afterSequence\":\"5\",\"limit\":3}", expected);
    assert_decoded(READ, "{\"channel_id\":\"c\",\"after_sequence\":5,\"limit\":\"3\"}", expected);
    assert_decoded(READ, " {\n\"limit\" : 3 , \"channel_id\":\"c\",\"afterSequence\":5} ",
                   expected);
}

static void test_field_in_both_spellings_is_refused(void **state)
{
    assert_refused(READ, "{\"channelId\":\"a\",\"channel_id\":\"b\"}",
                   "channelId: given in both spellings");
    assert_refused(READ, "{\"channel_id\":\"b\",\"channelId\":\"a\"}",
                   "channelId: given in both spellings");
}

static void test_other_spellings_are_unknown_fields(void **state)
{
    static const char *const empty = "{\"channelId\":\"\",\"afterSequence\":\"0\",\"limit\":0}";
    assert_decoded(READ, "{\"ChannelId\":1,\"channelid\":1,\"channel_Id\":1,\"channelI\":1}",
                   empty);
    assert_decoded(READ, "{\"channelIds\":1,\"channel\":1,\"\":1,\"_channel_id\":1}", empty);
}

static void test_unknown_fields_are_ignored_whatever_they_hold(void **state)
{
    assert_decoded(
        READ, "{\"x\":[{\"channelId\":1}],\"y\":1e999,\"z\":99999999999999999999999,\"limit\":1}",
        "{\"channelId\":\"\",\"afterSequence\":\"0\",\"limit\":1}");
}

static void test_null_is_the_default(void **state)
{
    assert_decoded(READ, "{\"channelId\":null,\"afterSequence\":null,\"limit\":null}",
                   "{\"channelId\":\"\",\"afterSequence\":\"0\",\"limit\":0}");
    assert_decoded(HISTORY, "{\"messages\":null,\"hasMore\":null}",
                   "{\"messages\":[],\"hasMore\":false}");
    assert_decoded(&phalanx__peer_message__descriptor, "{\"timeoutNow\":null}", "{}");
    assert_decoded(&phalanx__peer_message__descriptor,
                   "{\"timeoutNow\":null,\"applyHash\":{},\"voteRequest\":null}",
                   "{\"applyHash\":{\"index\":\"0\",\"hash\":\"0\",\"contents\":\"0\"}}");
    assert_decoded(&google__rpc__error_info__descriptor, "{\"metadata\":null}",
                   "{\"reason\":\"\",\"domain\":\"\",\"metadata\":{}}");
}

static void test_last_of_a_repeated_key_wins(void **state)
{
    assert_decoded(READ, "{\"limit\":1,\"limit\":2}",
                   "{\"channelId\":\"\",\"afterSequence\":\"0\",\"limit\":2}");
    assert_decoded(READ, "{\"limit\":\"bad\",\"limit\":2}",
                   "{\"channelId\":\"\",\"afterSequence\":\"0\",\"limit\":2}");
    assert_decoded(READ, "{\"limit\":1,\"limit\":null}",
                   "{\"channelId\":\"\",\"afterSequence\":\"0\",\"limit\":0}");
}

static void test_what_is_not_one_json_object_is_refused(void **state)
{
    assert_refused(READ, "", "not JSON: unexpected token at byte 0");
    assert_refused(READ, "{", "not JSON: string or '}' expected at byte 1");
    assert_refused(READ, "{\"limit\":1} x", "not JSON: end of file expected at byte 13");
    assert_refused(READ, "{}{}", "not JSON: end of file expected at byte 3");
    assert_refused(READ, "{\"limit\":1,}", "not JSON: string or '}' expected at byte 12");
    assert_refused(READ, "{\"limit\":01}", "not JSON: invalid token at byte 10");
    assert_refused(READ, "{\"limit\":1.}", "not JSON: invalid token at byte 11");
    assert_refused(READ, "{limit:1}", "not JSON: string or '}' expected at byte 6");
    assert_refused(READ, "{1.5:1}", "not JSON: NUL byte in object key not supported");
    assert_refused(READ, "{\"a\\u0000\":1}",
                   "not JSON: NUL byte in object key not supported at byte 10");
    assert_refused(READ, "{\"channelId\":\"\xFF\"}",
                   "not JSON: unable to decode byte 0xff at byte 14");
    assert_refused(READ, "{\"channelId\":\"\\ud800\"}",
                   "not JSON: invalid Unicode '\\uD800' at byte 21");
    assert_refused_bytes(READ, (struct bytes){"{\"limit\":1}\0", 12}, "not JSON: NUL byte");
    assert_refused_bytes(READ, (struct bytes){"{\"limit\":1\0}", 12}, "not JSON: NUL byte");
    assert_refused(READ, "[]", "not an object");
    assert_refused(READ, "\"x\"", "not an object");
    assert_refused(READ, "null", "not an object");
    assert_refused(READ, "1.5", "not an object");
}

static void test_errors_say_where_and_why(void **state)
{
    assert_refused(HISTORY, "{\"messages\":[{},{},{\"sequence\":true}]}",
                   "messages[2].sequence: not an unsigned 64-bit integer");
    assert_refused(HISTORY, "{\"messages\":[{\"client_message_id\":1}]}",
                   "messages[0].client_message_id: not a string");
    assert_refused(HISTORY, "{\"messages\":[{\"clientMessageId\":1.5}]}",
                   "messages[0].clientMessageId: not a string");
    assert_refused(HISTORY, "{\"messages\":[{\"payload\":\"a b=\"}]}",
                   "messages[0].payload: not base64");
    assert_refused(HISTORY, "{\"messages\":[{\"payload\":1e3}]}",
                   "messages[0].payload: not a string");
    assert_refused(HISTORY, "{\"messages\":[null]}", "messages[0]: not an object");
    assert_refused(HISTORY, "{\"messages\":{}}", "messages: not a list");
    assert_refused(HISTORY, "{\"messages\":\"\"}", "messages: not a list");
    assert_refused(HISTORY, "{\"hasMore\":1}", "hasMore: not true or false");
    assert_refused(HISTORY, "{\"hasMore\":\"true\"}", "hasMore: not true or false");
    assert_refused(READ, "{\"limit\":4294967296}", "limit: not an unsigned 32-bit integer");
    assert_refused(READ, "{\"channelId\":[]}", "channelId: not a string");
    assert_refused(&google__rpc__status__descriptor, "{\"code\":2147483648}",
                   "code: not a signed 32-bit integer");
    assert_refused(&grpc__health__v1__health_check_response__descriptor, "{\"status\":\"serving\"}",
                   "status: not a name of ServingStatus");
    assert_refused(&grpc__health__v1__health_check_response__descriptor, "{\"status\":1.5}",
                   "status: not a name or number of ServingStatus");
    assert_refused(&google__rpc__error_info__descriptor, "{\"metadata\":[]}",
                   "metadata: not an object");
    assert_refused(&google__rpc__error_info__descriptor, "{\"metadata\":{\"a\":1}}",
                   "metadata[\"a\"]: not a string");
    assert_refused(&google__rpc__error_info__descriptor, "{\"metadata\":{\"a\":null}}",
                   "metadata[\"a\"]: not a string");
    assert_kind_refused("a_message", "[]", "not an object");
    assert_kind_refused("a_float", "1e39", "not a 32-bit float");
    assert_kind_refused("a_float", "\"inf\"", "not a 32-bit float");
    assert_kind_refused("a_double", "1e309", "not a 64-bit float");
    assert_kind_refused("a_double", "\"\"", "not a 64-bit float");
    assert_kind_refused("a_double", "\" 1\"", "not a 64-bit float");
    assert_kind_refused("a_double", "\"0x10\"", "not a 64-bit float");
    assert_kind_refused("an_int64", "{}", "not a signed 64-bit integer");
}

static void test_error_text_is_short_and_printable(void **state)
{
    struct buf text = {0};
    buf_append_text(&text, "{\"metadata\":{\"");
    for (int i = 0; i < 1000; i++) {
        buf_append_text(&text, "é");
    }
    buf_append_text(&text, "\":1}}");
    assert_refused_bytes(&google__rpc__error_info__descriptor, buf_bytes(&text),
                         "metadata[\"...\"]: not a string");
    buf_finish(&text);
    assert_refused(&google__rpc__error_info__descriptor, "{\"metadata\":{\"é\\n\":1}}",
                   "metadata[\"???\"]: not a string");
    assert_int_equal(json_decode(READ, bytes_of_text("[]"), NULL, NULL), ERR_INVALID);
}

static void test_string_with_nul_is_refused(void **state)
{
    assert_refused(READ, "{\"channelId\":\"a\\u0000\"}", "channelId: contains NUL");
    assert_refused(READ, "{\"channelId\":\"\\u0000\"}", "channelId: contains NUL");
    assert_refused(HISTORY, "{\"messages\":[{\"payload\":\"\\u0000\"}]}",
                   "messages[0].payload: not base64");
}

static void test_two_members_of_one_oneof_are_refused(void **state)
{
    assert_refused(&phalanx__peer_message__descriptor, "{\"timeoutNow\":{},\"applyHash\":{}}",
                   "applyHash: another member of the same oneof is set too");
    assert_refused(&kinds_descriptor, "{\"choiceText\":\"a\",\"choiceNumber\":\"1\"}",
                   "choiceNumber: another member of the same oneof is set too");
    assert_refused(&kinds_descriptor, "{\"choiceMessage\":{\"aBool\":0}}",
                   "choiceMessage.aBool: not true or false");
}

static void test_unsigned_integers_are_exact_in_every_form(void **state)
{
    ASSERT_KIND(a_uint64, "18446744073709551615", UINT64_MAX);
    ASSERT_KIND(a_uint64, "\"18446744073709551615\"", UINT64_MAX);
    ASSERT_KIND(a_uint64, "18446744073709551615.0", UINT64_MAX);
    ASSERT_KIND(a_uint64, "1.8446744073709551615e19", UINT64_MAX);
    ASSERT_KIND(a_uint64, "184467440737095516150e-1", UINT64_MAX);
    ASSERT_KIND(a_uint64, "9223372036854775808", UINT64_C(9223372036854775808));
    ASSERT_KIND(a_uint64, "9223372036854775809", UINT64_C(9223372036854775809));
    ASSERT_KIND(a_uint64, "9007199254740993.0", UINT64_C(9007199254740993));
    ASSERT_KIND(a_uint64, "999999999999999999", UINT64_C(999999999999999999));
    ASSERT_KIND(a_uint64, "1000000000000000000", UINT64_C(1000000000000000000));
    ASSERT_KIND(a_uint64, "1e3", 1000);
    ASSERT_KIND(a_uint64, "\"1e3\"", 1000);
    ASSERT_KIND(a_uint64, "1E+3", 1000);
    ASSERT_KIND(a_uint64, "1.0", 1);
    ASSERT_KIND(a_uint64, "\"1.0\"", 1);
    ASSERT_KIND(a_uint64, "1.50e1", 15);
    ASSERT_KIND(a_uint64, "100e-2", 1);
    ASSERT_KIND(a_uint64, "0", 0);
    ASSERT_KIND(a_uint64, "-0", 0);
    ASSERT_KIND(a_uint64, "-0.0", 0);
    ASSERT_KIND(a_uint64, "0e999999999999999999999", 0);
    ASSERT_KIND(a_uint64, "\"-0\"", 0);
    ASSERT_KIND(a_fixed64, "1e19", UINT64_C(10000000000000000000));
    ASSERT_KIND(a_uint32, "4294967295", UINT32_MAX);
    ASSERT_KIND(a_uint32, "4.294967295e9", UINT32_MAX);
    ASSERT_KIND(a_fixed32, "\"4294967295\"", UINT32_MAX);
}

static void test_signed_integers_are_exact_in_every_form(void **state)
{
    ASSERT_KIND(an_int64, "-9223372036854775808", INT64_MIN);
    ASSERT_KIND(an_int64, "\"-9223372036854775808\"", INT64_MIN);
    ASSERT_KIND(a_sint64, "9223372036854775807", INT64_MAX);
    ASSERT_KIND(a_sint64, "9223372036854775807.000", INT64_MAX);
    ASSERT_KIND(an_sfixed64, "-1e18", -INT64_C(1000000000000000000));
    ASSERT_KIND(an_int32, "-2147483648", INT32_MIN);
    ASSERT_KIND(a_sint32, "2147483647", INT32_MAX);
    ASSERT_KIND(an_sfixed32, "\"-1\"", -1);
}

static void test_integers_out_of_range_or_not_integral_are_refused(void **state)
{
    static const char *const never[] = {
        "\"\"",    "\" 1\"",  "\"1 \"",  "\"+1\"",        "\"01\"",       "\"1.\"",
        "\".5\"",  "\"1e\"",  "\"0x1\"", "\"NaN\"",       "\"Infinity\"", "\"-\"",
        "1.5",     "\"1.5\"", "1e-1",    "true",          "[]",           "{}",
        "\"1_0\"", "\"१\"",   "1e400",   "\"1\\u00001\"", "\"\\u00001 \""};
    for (size_t i = 0; i < sizeof(never) / sizeof(never[0]); i++) {
        assert_kind_refused("a_uint64", never[i], "not an unsigned 64-bit integer");
        assert_kind_refused("an_int64", never[i], "not a signed 64-bit integer");
        assert_kind_refused("a_uint32", never[i], "not an unsigned 32-bit integer");
        assert_kind_refused("an_int32", never[i], "not a signed 32-bit integer");
    }
    static const char *const wide[] = {"18446744073709551616",   "\"18446744073709551616\"",
                                       "18446744073709551615.1", "1e20",
                                       "99999999999999999999",   "1e999999999999999999999999"};
    for (size_t i = 0; i < sizeof(wide) / sizeof(wide[0]); i++) {
        assert_kind_refused("a_uint64", wide[i], "not an unsigned 64-bit integer");
        assert_kind_refused("a_fixed64", wide[i], "not an unsigned 64-bit integer");
    }
    assert_kind_refused("a_uint64", "-1", "not an unsigned 64-bit integer");
    assert_kind_refused("a_uint64", "\"-1\"", "not an unsigned 64-bit integer");
    assert_kind_refused("a_uint32", "-1", "not an unsigned 32-bit integer");
    assert_kind_refused("a_fixed32", "4294967296", "not an unsigned 32-bit integer");
    assert_kind_refused("an_int64", "9223372036854775808", "not a signed 64-bit integer");
    assert_kind_refused("a_sint64", "-9223372036854775809", "not a signed 64-bit integer");
    assert_kind_refused("an_sfixed32", "2147483648", "not a signed 32-bit integer");
    assert_kind_refused("an_int32", "-2147483649", "not a signed 32-bit integer");
}

static void test_floats_take_numbers_strings_and_the_special_names(void **state)
{
    ASSERT_KIND(a_double, "0.1", 0.1);
    ASSERT_KIND(a_double, "\"0.1\"", 0.1);
    ASSERT_KIND(a_double, "7", 7.0);
    ASSERT_KIND(a_double, "18446744073709551616", 0x1p64);
    ASSERT_KIND(a_double, "1e-999", 0.0);
    ASSERT_KIND(a_double, "\"-Infinity\"", -(double)__builtin_inf());
    ASSERT_KIND(a_float, "\"Infinity\"", __builtin_inff());
    ASSERT_KIND(a_float, "0.1", 0.1f);
    struct json_error error = {{0}};
    struct kinds *kinds = decode_kind("a_double", "\"NaN\"", &error);
    assert_non_null(kinds);
    assert_true(kinds->a_double != kinds->a_double);
    protobuf_c_message_free_unpacked(&kinds->base, NULL);
}

static void test_enums_take_names_and_any_number(void **state)
{
    ASSERT_KIND(an_enum, "\"DARK_BLUE\"", 7);
    ASSERT_KIND(an_enum, "1", 1);
    ASSERT_KIND(an_enum, "1.0", 1);
    ASSERT_KIND(an_enum, "-12345", -12345);
    assert_kind_refused("an_enum", "\"1\"", "not a name of Colour");
    assert_kind_refused("an_enum", "\"DARK\"", "not a name of Colour");
    assert_kind_refused("an_enum", "\"DARK_BLUE\\u0000\"", "not a name of Colour");
    assert_kind_refused("an_enum", "2147483648", "not a name or number of Colour");
}

static void test_map_keys_are_read_by_their_type(void **state)
{
    struct json_error error = {{0}};
    struct kinds *kinds = decode_kind("number_map", "{\"1\":2,\"-3\":\"4\"}", &error);
    assert_non_null(kinds);
    assert_int_equal(kinds->n_number_map, 2);
    assert_int_equal(kinds->number_map[0]->key, 1);
    assert_int_equal(kinds->number_map[0]->value, 2);
    assert_int_equal(kinds->number_map[1]->key, -3);
    assert_int_equal(kinds->number_map[1]->value, 4);
    protobuf_c_message_free_unpacked(&kinds->base, NULL);
    assert_refused(&kinds_descriptor, "{\"numberMap\":{\"x\":1}}",
                   "numberMap[\"x\"]: not a signed 32-bit integer");
    assert_refused(&kinds_descriptor, "{\"nameMap\":{\"x\":{\"aBool\":1}}}",
                   "nameMap[\"x\"].aBool: not true or false");
}

static void test_nesting_is_accepted_up_to_its_limit(void **state)
{
    for (int depth = JSON_DEPTH_MAX - 1; depth <= JSON_DEPTH_MAX + 1; depth++) {
        struct buf text = {0};
        for (int i = 1; i < depth; i++) {
            buf_append_text(&text, "{\"aMessage\":");
        }
        buf_append_text(&text, "{");
        for (int i = 0; i < depth; i++) {
            buf_append_byte(&text, '}');
        }
        struct json_error error = {{0}};
        ProtobufCMessage *message = NULL;
        int rc = json_decode(&kinds_descriptor, buf_bytes(&text), &message, &error);
        assert_int_equal(rc, depth <= JSON_DEPTH_MAX ? 0 : ERR_INVALID);
        if (rc != 0) {
            assert_non_null(strstr(error.text, "aMessage.aMessage"));
        }
        protobuf_c_message_free_unpacked(message, NULL);
        buf_finish(&text);
    }
}

static void test_deep_nesting_of_unknown_fields_is_refused_not_a_crash(void **state)
{
    struct buf text = {0};
    buf_append_text(&text, "{\"x\":");
    for (int i = 0; i < 100000; i++) {
        buf_append_byte(&text, '[');
    }
    assert_refused_bytes(READ, buf_bytes(&text),
                         "not JSON: maximum parsing depth reached at byte 2053");
    buf_finish(&text);
}

static void test_values_of_one_text_are_bounded(void **state)
{
    struct buf text = {0};
    buf_append_text(&text, "{\"messages\":[{}");
    for (int i = 0; i < JSON_VALUES_MAX; i++) {
        buf_append_text(&text, ",{}");
    }
    buf_append_text(&text, "]}");
    assert_refused_bytes(HISTORY, buf_bytes(&text), "more than 131072 values");
    buf_finish(&text);

    /* Brackets in a string are no values. */
    struct buf quoted = {0};
    buf_append_text(&quoted, "{\"channelId\":\"\\\"");
    for (int i = 0; i < JSON_VALUES_MAX; i++) {
        buf_append_byte(&quoted, '[');
    }
    buf_append_text(&quoted, "\"}");
    ProtobufCMessage *message = NULL;
    struct json_error error = {{0}};
    assert_int_equal(json_decode(READ, buf_bytes(&quoted), &message, &error), 0);
    protobuf_c_message_free_unpacked(message, NULL);
    buf_finish(&quoted);
}

static void test_values_made_without_json_parse_are_read_if_they_are_exact(void **state)
{
    ProtobufCMessage *message = NULL;
    struct json_error error = {{0}};
    json_t *exact = json_pack("{s:f}", "aUint64", 9007199254740992.0);
    assert_int_equal(json_decode_value(&kinds_descriptor, exact, &message, &error), 0);
    assert_true(((struct kinds *)(void *)message)->a_uint64 == UINT64_C(9007199254740992));
    protobuf_c_message_free_unpacked(message, NULL);
    json_decref(exact);
    json_t *rounded = json_pack("{s:f}", "aUint64", 18446744073709549568.0);
    assert_int_equal(json_decode_value(&kinds_descriptor, rounded, &message, &error), ERR_INVALID);
    assert_string_equal(error.text, "aUint64: not an unsigned 64-bit integer");
    json_decref(rounded);
}

static void test_parsed_scalars_are_echoed_as_they_were_written(void **state)
{
    static const char *const texts[] = {"1",    "-7",   "1.50", "1e3",   "18446744073709551616",
                                        "true", "null", "1E5",  "false", "\"a\\u0000\\n\"",
                                        "\"\"", "-0.0"};
    for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
        json_t *value = NULL;
        struct json_error error = {{0}};
        assert_int_equal(json_parse(bytes_of_text(texts[i]), &value, &error), 0);
        struct buf out = {0};
        json_append_scalar(&out, value);
        assert_string_equal(buf_text(&out), texts[i]);
        buf_finish(&out);
        json_decref(value);
    }
}

static void test_names_in_any_case_are_read_where_asked(void **state)
{
    static const char *const texts[] = {
        "{\"Term\":4,\"LeaderID\":\"n\",\"PrevLogIndex\":7,\"PrevLogTerm\":3,\"LeaderCommit\":2,"
        "\"Entries\":[{\"Index\":8,\"Term\":4,\"Data\":\"eHk=\",\"Type\":0}]}",
        "{\"TERM\":4,\"leader_ID\":\"n\",\"Prev_Log_Index\":7,\"prevlogterm\":3,\"leaderCommit\":2,"
        "\"ENTRIES\":[{\"index\":8,\"tErm\":4,\"data\":\"eHk=\"}]}",
    };
    for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
        struct json_error error = {{0}};
        ProtobufCMessage *message = NULL;
        assert_int_equal(json_decode_any_case(&phalanx__append_entries_request__descriptor,
                                              bytes_of_text(texts[i]), &message, &error),
                         0);
        const Phalanx__AppendEntriesRequest *request = (const void *)message;
        assert_int_equal(request->term, 4);
        assert_string_equal(request->leader_id, "n");
        assert_int_equal(request->prev_log_index, 7);
        assert_int_equal(request->prev_log_term, 3);
        assert_int_equal(request->leader_commit, 2);
        assert_int_equal(request->n_entries, 1);
        assert_int_equal(request->entries[0]->index, 8);
        assert_memory_equal(request->entries[0]->data.data, "xy", 2);
        protobuf_c_message_free_unpacked(message, NULL);
    }
}

static void test_a_name_in_two_cases_is_refused_where_case_does_not_count(void **state)
{
    static const char *const texts[] = {
        "{\"Key\":\"a\",\"key\":\"b\"}",
        "{\"key\":\"a\",\"KEY\":\"b\"}",
        "{\"KEY\":\"a\",\"Key\":\"b\"}",
    };
    for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
        struct json_error error = {{0}};
        ProtobufCMessage *message = NULL;
        assert_int_equal(json_decode_any_case(&phalanx__read_request__descriptor,
                                              bytes_of_text(texts[i]), &message, &error),
                         ERR_INVALID);
        assert_non_null(strstr(error.text, "given in both spellings"));
    }
}

static void test_white_space_before_the_brace_is_json(void **state)
{
    static const char *const texts[] = {
        "{}",
        " {}",
        " { }",
        "\t{}",
        "\r\n{ }",
        "\n{\"channelId\":\"c\"}",
        "\n\n{\"limit\":1}",
        " {\"channelId\":\"c\"}",
        "\r{\"channelId\":\"c\"}",
        "\t\t{\"channelId\":\"c\"}",
        " \n\r\t {\n  \"channelId\": \"c\",\n  \"limit\": 1\n}\n",
    };
    for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
        assert_true(json_is_body(READ, bytes_of_text(texts[i])));
    }
    /* A type without fields has no message that could begin so. */
    assert_true(json_is_body(&raftogram__v1__status_request__descriptor, bytes_of_text("\n{}")));
    assert_false(json_is_body(READ, bytes_of_text("")));
    assert_false(json_is_body(READ, bytes_of_text(" \n")));
    assert_false(json_is_body(READ, bytes_of_text("[{}]")));
    assert_false(json_is_body(READ, bytes_of_text("\v{}")));
}

/* Every message of the type whose encoding begins as white space and a brace do. */
static void test_white_space_before_the_brace_never_hides_a_protobuf_message(void **state)
{
    static const size_t sizes[] = {'{', ' ', '\n', '\t', '\r'};
    for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
        char id[128] = {0};
        memset(id, ' ', sizes[i]);
        id[0] = '{';
        if (sizes[i] == '{') {
            /* With the length before it this would be whole JSON: {"a":"…"}. */
            memcpy(id, "\"a\":\"", 5);
            memcpy(id + sizes[i] - 2, "\"}", 2);
        }
        Raftogram__V1__ReadHistoryRequest request = RAFTOGRAM__V1__READ_HISTORY_REQUEST__INIT;
        request.channel_id = id;
        for (request.limit = 0; request.limit < 3; request.limit++) {
            uint8_t wire[256];
            size_t size = raftogram__v1__read_history_request__pack(&request, wire);
            assert_int_equal(wire[0], '\n');
            assert_false(json_is_body(READ, (struct bytes){wire, size}));
            /* Cut short it is no message any more. */
            assert_true(json_is_body(READ, (struct bytes){wire, size - 1}));
        }
    }
    Phalanx__RequestVoteRequest vote = PHALANX__REQUEST_VOTE_REQUEST__INIT;
    vote.last_log_term = '{';
    uint8_t wire[16];
    size_t size = phalanx__request_vote_request__pack(&vote, wire);
    assert_memory_equal(wire, " {", size);
    assert_false(json_is_body(vote.base.descriptor, (struct bytes){wire, size}));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_both_spellings_of_names_are_read),
        cmocka_unit_test(test_field_in_both_spellings_is_refused),
        cmocka_unit_test(test_other_spellings_are_unknown_fields),
        cmocka_unit_test(test_unknown_fields_are_ignored_whatever_they_hold),
        cmocka_unit_test(test_null_is_the_default),
        cmocka_unit_test(test_last_of_a_repeated_key_wins),
        cmocka_unit_test(test_what_is_not_one_json_object_is_refused),
        cmocka_unit_test(test_errors_say_where_and_why),
        cmocka_unit_test(test_error_text_is_short_and_printable),
        cmocka_unit_test(test_string_with_nul_is_refused),
        cmocka_unit_test(test_two_members_of_one_oneof_are_refused),
        cmocka_unit_test(test_unsigned_integers_are_exact_in_every_form),
        cmocka_unit_test(test_signed_integers_are_exact_in_every_form),
        cmocka_unit_test(test_integers_out_of_range_or_not_integral_are_refused),
        cmocka_unit_test(test_floats_take_numbers_strings_and_the_special_names),
        cmocka_unit_test(test_enums_take_names_and_any_number),
        cmocka_unit_test(test_map_keys_are_read_by_their_type),
        cmocka_unit_test(test_nesting_is_accepted_up_to_its_limit),
        cmocka_unit_test(test_deep_nesting_of_unknown_fields_is_refused_not_a_crash),
        cmocka_unit_test(test_values_of_one_text_are_bounded),
        cmocka_unit_test(test_values_made_without_json_parse_are_read_if_they_are_exact),
        cmocka_unit_test(test_parsed_scalars_are_echoed_as_they_were_written),
        cmocka_unit_test(test_names_in_any_case_are_read_where_asked),
        cmocka_unit_test(test_a_name_in_two_cases_is_refused_where_case_does_not_count),
        cmocka_unit_test(test_white_space_before_the_brace_is_json),
        cmocka_unit_test(test_white_space_before_the_brace_never_hides_a_protobuf_message),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
