/* What arrives as a log entry or as a forwarded answer: any bytes decode to something that encodes
 * to the same bytes again, or to an error. */
#include "base/check.h"
#include "chat/command.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void fuzz_command(struct bytes input, struct buf *encoded)
{
    struct command command;
    if (command_decode(input, &command) != 0) {
        return;
    }
    (void)command_check(&command, COMMAND_PAYLOAD_BYTES_MAX);
    command_encode(&command, encoded);
    CHECK(bytes_equal(buf_bytes(encoded), input));
    CHECK(command_stamp(encoded->data, encoded->size, 1) == 0);
    CHECK(command_decode(buf_bytes(encoded), &command) == 0);
    CHECK(command.timestamp_ms == 1);
}

static void fuzz_result(struct bytes input, struct buf *encoded)
{
    struct command_result result;
    if (command_result_decode(input, &result) != 0) {
        return;
    }
    command_result_encode(&result, encoded);
    CHECK(bytes_equal(buf_bytes(encoded), input));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct bytes input = {data, size};
    struct buf encoded = {0};
    fuzz_command(input, &encoded);
    buf_reset(&encoded);
    fuzz_result(input, &encoded);
    buf_reset(&encoded);
    command_describe(input, &encoded);
    CHECK(bytes_is_utf8(buf_bytes(&encoded)));
    buf_finish(&encoded);
    return 0;
}
