/* The body of a call, in protobuf or JSON, for every method: it is refused with a reason, or it is
 * a message whose texts are texts, which both encodings bring back as it was. */
#include "base/check.h"
#include "base/errors.h"
#include "dispatch/dispatch.h"
#include "json/json.h"

#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static struct buf packed(const ProtobufCMessage *message)
{
    struct buf out = {0};
    size_t size = protobuf_c_message_get_packed_size(message);
    uint8_t *data = buf_extend(&out, size + 1);
    CHECK(data != NULL);
    out.size = protobuf_c_message_pack(message, data);
    CHECK(out.size == size);
    return out;
}

static void check_is_same(const struct dispatch_method *method, struct bytes body,
                          const struct buf *expected)
{
    ProtobufCMessage *again = NULL;
    struct dispatch_status status = {0};
    CHECK(dispatch_decode(method, body, &again, &status) == 0);
    struct buf wire = packed(again);
    CHECK(bytes_equal(buf_bytes(&wire), buf_bytes(expected)));
    buf_finish(&wire);
    protobuf_c_message_free_unpacked(again, NULL);
}

/* Fields that we do not know are in the one encoding and not in the other. */
static bool has_unknown_fields(const ProtobufCMessage *message)
{
    return message->n_unknown_fields > 0;
}

static void check_message(const struct dispatch_method *method, const ProtobufCMessage *message)
{
    struct buf wire = packed(message);
    struct buf text = {0};
    json_encode(message, JSON_NAMES_CAMEL, &text);
    CHECK(bytes_is_utf8(buf_bytes(&text)));
    if (!has_unknown_fields(message)) {
        if (wire.size == 0 || wire.data[0] != '{') {
            check_is_same(method, buf_bytes(&wire), &wire);
        }
        check_is_same(method, buf_bytes(&text), &wire);
    }
    buf_finish(&text);
    buf_finish(&wire);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size == 0) {
        return 0;
    }
    const struct dispatch_method *method = dispatch_method(data[0] % DISPATCH_METHOD_COUNT);
    ProtobufCMessage *message = NULL;
    struct dispatch_status status = {0};
    int rc = dispatch_decode(method, (struct bytes){data + 1, size - 1}, &message, &status);
    CHECK(rc == 0 || rc == ERR_INVALID);
    if (rc == 0) {
        check_message(method, message);
        protobuf_c_message_free_unpacked(message, NULL);
    } else {
        CHECK(status.code == DISPATCH_INVALID_ARGUMENT);
        CHECK(bytes_is_utf8(bytes_of_text(status.message)));
    }
    return 0;
}
