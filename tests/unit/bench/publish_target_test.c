/* The target of Publish, against a Messenger that acknowledges as the test says. */
#include "base/check.h"
#include "bench/load.h"
#include "bench/targets.h"
#include "rpc/rpc.h"

#include <grpc/status.h>
#include <raftogram/v1/messaging.pb-c.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define FRAMES 200
#define MESSAGES 3

/* A Messenger that acknowledges what came while its last response was on its way. All of it runs on
 * the loop's thread, and is read by the test when the server has stopped. */
struct fake_messenger {
    struct rpc_loop *loop;
    struct rpc_server *server;
    char address[64];
    uint64_t frames_max;    /* of a stream, then it ends as on a follower; 0: no end */
    size_t missing_results; /* in each response */
    unsigned streams;
    uint64_t frames;
    uint64_t messages;
    uint64_t disorder; /* frames that did not have the next number */
};

struct fake_stream {
    struct fake_messenger *messenger;
    struct rpc_call *call;
    uint64_t frame; /* that came last */
    uint64_t acked;
    bool is_sending;
};

static void finish(struct rpc_call *call, int code, const char *text)
{
    const struct rpc_status status = {.code = code, .message = text};
    struct bytes empty = {"", 0};
    rpc_call_finish(call, code == GRPC_STATUS_OK ? &empty : NULL, &status);
}

static void acknowledge(struct fake_stream *stream)
{
    if (stream->is_sending || stream->acked == stream->frame) {
        return;
    }
    Raftogram__V1__SendMessageResponse row = RAFTOGRAM__V1__SEND_MESSAGE_RESPONSE__INIT;
    Raftogram__V1__SendMessageResponse *rows[FRAMES * MESSAGES];
    size_t count = (stream->frame - stream->acked) * MESSAGES - stream->messenger->missing_results;
    CHECK(count <= FRAMES * MESSAGES);
    for (size_t i = 0; i < count; i++) {
        rows[i] = &row;
    }
    Raftogram__V1__PublishResponse response = RAFTOGRAM__V1__PUBLISH_RESPONSE__INIT;
    response.acked_frame = stream->frame;
    response.results = rows;
    response.n_results = count;
    struct buf bytes = {0};
    uint8_t *room = buf_extend(&bytes, raftogram__v1__publish_response__get_packed_size(&response));
    CHECK(room != NULL);
    raftogram__v1__publish_response__pack(&response, room);
    stream->is_sending = true;
    stream->acked = stream->frame;
    (void)rpc_call_send(stream->call, buf_bytes(&bytes)); /* the client may be gone */
    buf_finish(&bytes);
}

static void on_frame(struct rpc_call *call, struct bytes message, void *context)
{
    struct fake_stream *stream = context;
    struct fake_messenger *messenger = stream->messenger;
    Raftogram__V1__PublishRequest *request =
        raftogram__v1__publish_request__unpack(NULL, message.size, message.data);
    CHECK(request != NULL);
    messenger->frames++;
    messenger->messages += request->n_messages;
    messenger->disorder += request->frame != stream->frame + 1;
    stream->frame = request->frame;
    raftogram__v1__publish_request__free_unpacked(request, NULL);
    if (stream->frame == messenger->frames_max) {
        finish(call, GRPC_STATUS_FAILED_PRECONDITION, "not leader");
        return;
    }
    acknowledge(stream);
    rpc_call_receive(call);
}

static void on_sent(struct rpc_call *call, void *context)
{
    struct fake_stream *stream = context;
    stream->is_sending = false;
    acknowledge(stream);
}

static void on_half_close(struct rpc_call *call, void *context)
{
    finish(call, GRPC_STATUS_OK, NULL);
}

static void on_closed(struct rpc_call *call, bool is_cancelled, void *context)
{
    free(context);
}

static void on_create_channel(struct rpc_call *call, struct bytes message, void *context)
{
    finish(call, GRPC_STATUS_OK, NULL);
}

static void on_call(void *context, struct rpc_call *call)
{
    struct fake_messenger *messenger = context;
    struct fake_stream *stream = calloc(1, sizeof(*stream));
    CHECK(stream != NULL);
    stream->messenger = messenger;
    stream->call = call;
    bool is_publish = strcmp(rpc_call_path(call), "/raftogram.v1.Messenger/Publish") == 0;
    messenger->streams += is_publish;
    const struct rpc_call_events events = {
        .on_message = is_publish ? on_frame : on_create_channel,
        .on_half_close = on_half_close,
        .on_sent = on_sent,
        .on_closed = on_closed,
        .context = stream,
    };
    rpc_call_accept(call, &events);
    rpc_call_receive(call);
}

static void start_messenger(struct fake_messenger *messenger)
{
    const struct rpc_server_options options = {
        .address = "127.0.0.1:0",
        .receive_bytes_max = 1 << 20,
        .metadata_bytes_max = 8192,
        .calls_max = 100,
        .ping_interval_min_ms = 1000,
    };
    const struct rpc_server_handler handler = {on_call, messenger};
    assert_int_equal(rpc_loop_create("messenger", &messenger->loop), 0);
    assert_int_equal(rpc_server_create(messenger->loop, &options, &handler, &messenger->server), 0);
    snprintf(messenger->address, sizeof(messenger->address), "127.0.0.1:%d",
             rpc_server_port(messenger->server));
}

/* Publishes `count_max` frames (0: for a while) and stops the messenger. `check` sees the result.
 */
static void publish(struct fake_messenger *messenger, uint32_t connections, uint32_t count_max,
                    void (*check)(const struct load_result *result))
{
    start_messenger(messenger);
    const struct options options = {
        .work = "publish",
        .addresses = {messenger->address},
        .address_count = 1,
        .channel = "bench",
        .in_flight = 16,
        .connections = connections,
        .payload_bytes = 100,
        .messages_per_operation = MESSAGES,
        .seconds = count_max != 0 ? 60 : 0.2,
        .deadline_ms = 30000,
        .count_max = count_max,
    };
    struct target *target;
    struct load *load;
    assert_int_equal(publish_target_create(&options, &target), 0);
    assert_int_equal(target->prepare(target, clock_monotonic_ns(clock_system()) + 30 * NS_PER_S),
                     0);
    assert_int_equal(load_create(&options, target, &load), 0);
    const struct load_result *result = load_run(load);
    target->destroy(target);
    rpc_server_stop(messenger->server, 0);
    rpc_server_destroy(messenger->server);
    rpc_loop_destroy(messenger->loop);
    check(result);
    load_destroy(load);
}

static void check_all_are_stored(const struct load_result *result)
{
    assert_int_equal(result->outcomes[OUTCOME_OK], FRAMES);
    assert_int_equal(result->unfinished, 0);
}

static void test_every_frame_is_acknowledged_over_one_stream(void **state)
{
    struct fake_messenger messenger = {.frames_max = 0};
    publish(&messenger, 0, FRAMES, check_all_are_stored);
    assert_int_equal(messenger.streams, 1);
    assert_int_equal(messenger.frames, FRAMES);
    assert_int_equal(messenger.messages, FRAMES * MESSAGES);
    assert_int_equal(messenger.disorder, 0);
}

static void test_frames_are_spread_over_the_connections(void **state)
{
    struct fake_messenger messenger = {.frames_max = 0};
    publish(&messenger, 4, FRAMES, check_all_are_stored);
    assert_int_equal(messenger.streams, 4);
    assert_int_equal(messenger.disorder, 0);
}

static void check_refusals(const struct load_result *result)
{
    assert_true(result->outcomes[OUTCOME_OK] > 0);
    assert_true(result->outcomes[OUTCOME_NOT_LEADER] > 0);
    assert_int_equal(result->outcomes[OUTCOME_ERROR], 0);
    assert_int_equal(result->unfinished, 0);
}

static void test_a_stream_that_ended_is_opened_again_and_numbered_from_one(void **state)
{
    struct fake_messenger messenger = {.frames_max = 20};
    publish(&messenger, 0, 0, check_refusals);
    assert_true(messenger.streams > 1);
    assert_int_equal(messenger.disorder, 0);
}

static void check_nothing_is_stored(const struct load_result *result)
{
    assert_int_equal(result->outcomes[OUTCOME_OK], 0);
    assert_true(result->outcomes[OUTCOME_ERROR] > 0);
    assert_int_equal(result->unfinished, 0);
}

static void test_an_acknowledgement_without_all_results_is_an_error(void **state)
{
    struct fake_messenger messenger = {.missing_results = 1};
    publish(&messenger, 0, 0, check_nothing_is_stored);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_frame_is_acknowledged_over_one_stream),
        cmocka_unit_test(test_frames_are_spread_over_the_connections),
        cmocka_unit_test(test_a_stream_that_ended_is_opened_again_and_numbered_from_one),
        cmocka_unit_test(test_an_acknowledgement_without_all_results_is_an_error),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
