/* The JSON codec over any bytes. The first byte chooses the message, the rest is the text.
 * Beyond not crashing: what decodes encodes to a text that decodes to the same message, and
 * json_parse() accepts what jansson accepts and nothing else. */
#include "json/json.h"

#include "base/check.h"
#include "base/errors.h"
#include "unit/json/random_message.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_round_trip(const ProtobufCMessage *message, enum json_names names)
{
    struct buf text = {0};
    json_encode(message, names, &text);
    CHECK(!buf_failed(&text));
    struct json_error error;
    ProtobufCMessage *again = NULL;
    CHECK(json_decode(message->descriptor, buf_bytes(&text), &again, &error) == 0);
    struct buf left = packed(message);
    struct buf right = packed(again);
    CHECK(bytes_equal(buf_bytes(&left), buf_bytes(&right)));
    buf_finish(&left);
    buf_finish(&right);
    protobuf_c_message_free_unpacked(again, NULL);
    buf_finish(&text);
}

static void check_against_jansson(struct bytes text)
{
    json_t *ours = NULL;
    struct json_error error;
    int rc = json_parse(text, &ours, &error);
    json_error_t cause;
    json_t *theirs = json_loadb(text.data, text.size,
                                JSON_DECODE_ANY | JSON_ALLOW_NUL | JSON_DECODE_INT_AS_REAL, &cause);
    bool has_nul = text.size > 0 && memchr(text.data, 0, text.size) != NULL;
    if (has_nul) {
        CHECK(rc == ERR_INVALID); /* where jansson is lax */
    } else if (theirs != NULL) {
        CHECK(rc == 0);
    } else if (rc == 0) {
        CHECK(json_error_code(&cause) == json_error_numeric_overflow);
    }
    json_decref(theirs);
    json_decref(ours);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size == 0) {
        return 0;
    }
    const ProtobufCMessageDescriptor *descriptor = all_descriptors[data[0] % ALL_DESCRIPTORS];
    struct bytes text = {data + 1, size - 1};
    struct json_error error = {{0}};
    ProtobufCMessage *message = NULL;
    int rc = json_decode(descriptor, text, &message, &error);
    CHECK(rc == 0 || rc == ERR_INVALID);
    if (rc == 0) {
        check_round_trip(message, JSON_NAMES_CAMEL);
        check_round_trip(message, JSON_NAMES_SNAKE);
        protobuf_c_message_free_unpacked(message, NULL);
    } else {
        CHECK(error.text[0] != 0);
    }
    check_against_jansson(text);

    /* The same bytes as a string and as base64. */
    struct buf out = {0};
    json_append_string(&out, text);
    CHECK(bytes_is_utf8(buf_bytes(&out)));
    buf_reset(&out);
    (void)json_parse_base64(text, &out);
    buf_finish(&out);
    return 0;
}
