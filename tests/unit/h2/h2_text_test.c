/* What gRPC writes into HTTP headers, and its compressed messages. */
#include "base/check.h"
#include "base/clock.h"
#include "base/errors.h"
#include "h2/h2_internal.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <zlib.h>

#include <cmocka.h>

static void test_timeouts_are_digits_and_a_unit(void **state)
{
    static const struct {
        const char *text;
        uint64_t ns;
    } good[] = {
        {"1n", 1},
        {"5u", 5000},
        {"20m", 20 * NS_PER_MS},
        {"0S", 0},
        {"3S", 3 * NS_PER_S},
        {"2M", 120 * NS_PER_S},
        {"00000001H", 3600 * NS_PER_S},
        {"99999999H", UINT64_MAX},
    };
    static const char *const bad[] = {"",     "S",   "1",          "1s", "-1S",
                                      "1.5S", "1 S", "123456789S", "1SS"};
    for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++) {
        uint64_t ns = 7;
        assert_true(h2_parse_timeout(bytes_of_text(good[i].text), &ns));
        assert_int_equal(ns, good[i].ns);
    }
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        uint64_t ns = 7;
        assert_false(h2_parse_timeout(bytes_of_text(bad[i]), &ns));
    }
}

static void test_only_application_grpc_is_grpc(void **state)
{
    static const char *const good[] = {"application/grpc", "application/grpc+json",
                                       "application/grpc;charset=utf-8", "Application/GRPC+proto"};
    static const char *const bad[] = {"",
                                      "application/grp",
                                      "application/grpcx",
                                      "application/json",
                                      "application/grpc-web",
                                      "text/plain"};
    for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++) {
        assert_true(h2_is_grpc_type(bytes_of_text(good[i])));
    }
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        assert_false(h2_is_grpc_type(bytes_of_text(bad[i])));
    }
}

static void test_messages_are_percent_encoded(void **state)
{
    char *text = h2_percent_encode("100% of \xc3\xa9\n");
    assert_string_equal(text, "100%25 of %C3%A9%0A");
    free(text);
}

static void test_binary_values_are_base64_without_padding(void **state)
{
    static const struct {
        const char *plain;
        const char *encoded;
    } rows[] = {{"", ""}, {"f", "Zg"}, {"fo", "Zm8"}, {"foo", "Zm9v"}, {"foob", "Zm9vYg"}};
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct buf out = {0};
        h2_base64(bytes_of_text(rows[i].plain), &out);
        assert_string_equal(buf_text(&out), rows[i].encoded);
        buf_finish(&out);
    }
}

static struct bytes packed_zeros(uint8_t *room, size_t room_size, size_t size)
{
    void *zeros = calloc(1, size);
    uLongf packed = room_size;
    assert_int_equal(compress(room, &packed, zeros, size), Z_OK);
    free(zeros);
    return (struct bytes){room, packed};
}

static void test_a_small_message_unpacks_within_the_limit_only(void **state)
{
    uint8_t room[65536];
    struct bytes packed = packed_zeros(room, sizeof(room), 1 << 20);
    struct buf out;
    buf_init(&out, 1 << 20);
    assert_int_equal(h2_inflate(packed, &out), 0);
    assert_int_equal(out.size, 1 << 20);
    buf_finish(&out);
    buf_init(&out, (1 << 20) - 1);
    assert_int_equal(h2_inflate(packed, &out), ERR_FULL);
    buf_finish(&out);
}

static void test_what_is_cut_off_or_no_deflate_is_corrupt(void **state)
{
    uint8_t room[65536];
    struct bytes packed = packed_zeros(room, sizeof(room), 1000);
    for (size_t size = 1; size < packed.size; size++) {
        struct buf out;
        buf_init(&out, 1 << 20);
        assert_int_equal(h2_inflate((struct bytes){packed.data, size}, &out), ERR_CORRUPT);
        buf_finish(&out);
    }
    struct buf out;
    buf_init(&out, 1 << 20);
    assert_int_equal(h2_inflate(bytes_of_text("plain"), &out), ERR_CORRUPT);
    buf_finish(&out);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_timeouts_are_digits_and_a_unit),
        cmocka_unit_test(test_only_application_grpc_is_grpc),
        cmocka_unit_test(test_messages_are_percent_encoded),
        cmocka_unit_test(test_binary_values_are_base64_without_padding),
        cmocka_unit_test(test_a_small_message_unpacks_within_the_limit_only),
        cmocka_unit_test(test_what_is_cut_off_or_no_deflate_is_corrupt),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
