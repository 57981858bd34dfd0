/* Tests of rpc/message.h: joining, decompression, limits. */
#include "rpc/rpc_internal.h"
#include "unit/rpc/rpc_testing.h"

#include <zlib.h>

#define PARTS_MAX 8

static grpc_byte_buffer *buffer_of(const char *data, size_t size, size_t part_bytes,
                                   grpc_compression_algorithm algorithm)
{
    grpc_slice slices[PARTS_MAX];
    size_t count = 0;
    for (size_t at = 0; at < size; at += part_bytes) {
        assert_true(count < PARTS_MAX);
        size_t part = size - at < part_bytes ? size - at : part_bytes;
        slices[count++] = grpc_slice_from_copied_buffer(data + at, part);
    }
    grpc_byte_buffer *buffer =
        algorithm == GRPC_COMPRESS_NONE
            ? grpc_raw_byte_buffer_create(slices, count)
            : grpc_raw_compressed_byte_buffer_create(slices, count, algorithm);
    for (size_t i = 0; i < count; i++) {
        grpc_slice_unref(slices[i]);
    }
    return buffer;
}

static size_t compress_zeros(size_t size, int window_bits, char *out, size_t out_size)
{
    char *zeros = calloc(1, size);
    z_stream stream;
    memset(&stream, 0, sizeof(stream));
    assert_int_equal(deflateInit2(&stream, 9, Z_DEFLATED, window_bits, 8, Z_DEFAULT_STRATEGY),
                     Z_OK);
    stream.next_in = (Bytef *)zeros;
    stream.avail_in = (uInt)size;
    stream.next_out = (Bytef *)out;
    stream.avail_out = (uInt)out_size;
    assert_int_equal(deflate(&stream, Z_FINISH), Z_STREAM_END);
    deflateEnd(&stream);
    free(zeros);
    return stream.total_out;
}

static int read_and_drop(grpc_byte_buffer *buffer, size_t bytes_max, size_t *size)
{
    struct rpc_message message;
    int rc = rpc_message_init(&message, buffer, bytes_max);
    if (rc == 0) {
        assert_non_null(message.bytes.data);
        *size = message.bytes.size;
        rpc_message_finish(&message);
    }
    grpc_byte_buffer_destroy(buffer);
    return rc;
}

static void test_slices_are_joined_in_order(void **state)
{
    grpc_byte_buffer *buffer = buffer_of("hello, world", 12, 5, GRPC_COMPRESS_NONE);
    struct rpc_message message;
    assert_int_equal(rpc_message_init(&message, buffer, 100), 0);
    assert_int_equal(message.bytes.size, 12);
    assert_memory_equal(message.bytes.data, "hello, world", 12);
    rpc_message_finish(&message);
    grpc_byte_buffer_destroy(buffer);
}

static void test_one_slice_is_not_copied(void **state)
{
    static const char text[100] = "longer than what a slice holds inline";
    grpc_slice slice = grpc_slice_from_static_buffer(text, sizeof(text));
    grpc_byte_buffer *buffer = grpc_raw_byte_buffer_create(&slice, 1);
    struct rpc_message message;
    assert_int_equal(rpc_message_init(&message, buffer, 100), 0);
    assert_ptr_equal(message.bytes.data, text);
    rpc_message_finish(&message);
    grpc_byte_buffer_destroy(buffer);
}

static void test_absent_message_has_no_data(void **state)
{
    struct rpc_message message;
    assert_int_equal(rpc_message_init(&message, NULL, 100), 0);
    assert_null(message.bytes.data);
    rpc_message_finish(&message);
}

static void test_compressed_message_is_bounded_by_what_it_becomes(void **state)
{
    char packed[4096];
    const int gzip_and_deflate[] = {15 + 16, 15};
    for (size_t i = 0; i < 2; i++) {
        /* A multiple of the inflate step and one that is none. */
        for (size_t extra = 0; extra < 2; extra++) {
            size_t plain = 65536 + extra;
            size_t size = compress_zeros(plain, gzip_and_deflate[i], packed, sizeof(packed));
            for (size_t part = size / 4; part <= size; part += size / 4) {
                size_t seen = 0;
                grpc_byte_buffer *buffer = buffer_of(packed, size, part, GRPC_COMPRESS_GZIP);
                assert_int_equal(read_and_drop(buffer, plain, &seen), 0);
                assert_int_equal(seen, plain);
                buffer = buffer_of(packed, size, part, GRPC_COMPRESS_GZIP);
                assert_int_equal(read_and_drop(buffer, plain - 1, &seen), ERR_FULL);
            }
        }
    }
}

static void test_damaged_compression_is_corrupt(void **state)
{
    char packed[4096];
    size_t size = compress_zeros(65536, 15 + 16, packed, sizeof(packed));
    size_t seen = 0;
    for (size_t cut = 1; cut < size; cut++) {
        grpc_byte_buffer *buffer = buffer_of(packed, cut, cut, GRPC_COMPRESS_GZIP);
        assert_int_equal(read_and_drop(buffer, 100000, &seen), ERR_CORRUPT);
    }
    for (size_t at = 0; at < size; at++) {
        packed[at] ^= (char)0xff;
        grpc_byte_buffer *buffer = buffer_of(packed, size, size, GRPC_COMPRESS_GZIP);
        int rc = read_and_drop(buffer, 100000, &seen);
        assert_true(rc == 0 || rc == ERR_CORRUPT || rc == ERR_FULL);
        packed[at] ^= (char)0xff;
    }
}

static void start_gzip_echo(struct run *run, struct fixture *fixture, size_t size)
{
    /* The C core's own word for it. */
    const struct rpc_metadata gzip = {"grpc-internal-encoding-request", {"gzip", 4}};
    struct rpc_client_options options = plain_options("/echo");
    options.metadata = &gzip;
    options.metadata_count = 1;
    memset(run, 0, sizeof(*run));
    const struct rpc_client_events events = run_events(run);
    char *zeros = calloc(1, size);
    assert_int_equal(
        rpc_unary(fixture->channel, &options, (struct bytes){zeros, size}, &events, &run->call), 0);
    free(zeros);
}

static void test_gzip_request_is_understood_and_a_bomb_refused(void **state)
{
    struct fixture fixture;
    struct run run;
    fixture_init(&fixture, &default_server);
    start_gzip_echo(&run, &fixture, MESSAGE_MAX);
    run_wait(&run);
    assert_int_equal(run.code, GRPC_STATUS_OK);
    assert_int_equal(run.response_size, MESSAGE_MAX);
    start_gzip_echo(&run, &fixture, 20 * MESSAGE_MAX);
    run_wait(&run);
    assert_int_equal(run.code, GRPC_STATUS_RESOURCE_EXHAUSTED);
    assert_string_equal(run.text, "message is too large");
    fixture_finish(&fixture);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_slices_are_joined_in_order),
        cmocka_unit_test(test_one_slice_is_not_copied),
        cmocka_unit_test(test_absent_message_has_no_data),
        cmocka_unit_test(test_compressed_message_is_bounded_by_what_it_becomes),
        cmocka_unit_test(test_damaged_compression_is_corrupt),
        cmocka_unit_test(test_gzip_request_is_understood_and_a_bomb_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
