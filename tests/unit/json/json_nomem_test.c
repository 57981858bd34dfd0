/* The codec with each of its allocations failing in turn. */
#include "json/json.h"

#include "base/errors.h"
#include "lib/failing_malloc.h"
#include "unit/json/random_message.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
/* cmocka wants the two above. */
#include <cmocka.h>

#define FAILURES_MAX 100000

static void test_decoding_survives_each_failed_allocation_and_leaks_nothing(void **state)
{
    if (!CAN_FAIL) {
        skip();
    }
    struct random random;
    random_seed(&random, 11);
    ProtobufCMessage *message = random_message(&random, &kinds_descriptor, 2, 0);
    struct buf text = {0};
    json_encode(message, JSON_NAMES_CAMEL, &text);
    struct buf expected = packed(message);

    int rc = ERR_NOMEM;
    for (long failing = 0; rc != 0; failing++) {
        assert_true(failing < FAILURES_MAX);
        struct json_error error;
        ProtobufCMessage *decoded = NULL;
        long outstanding_before = outstanding;
        countdown = failing;
        rc = json_decode(&kinds_descriptor, buf_bytes(&text), &decoded, &error);
        countdown = -1;
        if (rc == 0) {
            struct buf actual = packed(decoded);
            assert_true(bytes_equal(buf_bytes(&actual), buf_bytes(&expected)));
            buf_finish(&actual);
            protobuf_c_message_free_unpacked(decoded, NULL);
        } else {
            assert_int_equal(rc, ERR_NOMEM);
            assert_null(decoded);
        }
        assert_int_equal(outstanding, outstanding_before);
    }
    buf_finish(&expected);
    buf_finish(&text);
    protobuf_c_message_free_unpacked(message, NULL);
}

static void test_encoding_without_memory_is_a_failed_buffer(void **state)
{
    if (!CAN_FAIL) {
        skip();
    }
    struct random random;
    random_seed(&random, 12);
    ProtobufCMessage *message = random_message(&random, &kinds_descriptor, 2, 0);
    struct buf out;
    long failing = 0;
    do {
        assert_true(failing < FAILURES_MAX);
        buf_init(&out, 0);
        countdown = failing++;
        json_encode(message, JSON_NAMES_CAMEL, &out);
        countdown = -1;
        bool is_failed = buf_failed(&out);
        buf_finish(&out);
        if (!is_failed) {
            break;
        }
    } while (true);
    assert_true(failing > 1);
    protobuf_c_message_free_unpacked(message, NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_decoding_survives_each_failed_allocation_and_leaks_nothing),
        cmocka_unit_test(test_encoding_without_memory_is_a_failed_buffer),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
