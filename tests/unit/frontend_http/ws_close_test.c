/* Closes whose occasions nobody can bring about from outside at will: memory that runs out, a
 * client that reads nothing or answers no ping. What libwebsockets would do is noted down here. */
#include "http/ws/ws.h"

#include "base/clock.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define WRITES_MAX 8

struct write {
    enum lws_write_protocol protocol;
    size_t size;
    uint8_t data[128];
};

static struct {
    struct write writes[WRITES_MAX];
    size_t write_count;
    bool wants_writable;
    bool is_killed;
    bool is_final;
} socket_of_test;

/* ---- in place of libwebsockets ---- */

int lws_write(struct lws *wsi, unsigned char *data, size_t size, enum lws_write_protocol protocol)
{
    assert_true(socket_of_test.write_count < WRITES_MAX);
    struct write *write = &socket_of_test.writes[socket_of_test.write_count++];
    *write = (struct write){.protocol = protocol, .size = size};
    memcpy(write->data, data, size < sizeof(write->data) ? size : sizeof(write->data));
    return (int)size;
}

int lws_callback_on_writable(struct lws *wsi)
{
    socket_of_test.wants_writable = true;
    return 1;
}

void lws_set_timeout(struct lws *wsi, enum pending_timeout reason, int seconds)
{
    socket_of_test.is_killed = seconds == LWS_TO_KILL_ASYNC;
}

void lws_set_timer_usecs(struct lws *wsi, lws_usec_t usecs)
{
}

void lws_close_reason(struct lws *wsi, enum lws_close_status status, unsigned char *data,
                      size_t size)
{
}

int lws_rx_flow_control(struct lws *wsi, int enable)
{
    return 0;
}

int lws_partial_buffered(struct lws *wsi)
{
    return 0;
}

int lws_frame_is_binary(struct lws *wsi)
{
    return 0;
}

size_t lws_remaining_packet_payload(struct lws *wsi)
{
    return 0;
}

int lws_is_final_fragment(struct lws *wsi)
{
    return socket_of_test.is_final;
}

/* ---- a connection ---- */

struct bench {
    struct http_frontend frontend;
    struct ws_frames frames;
    struct ws ws;
};

static int set_up(void **state)
{
    struct bench *bench = calloc(1, sizeof(*bench));
    memset(&socket_of_test, 0, sizeof(socket_of_test));
    bench->frontend.options.heartbeat_ms = 15000;
    bench->frontend.options.max_frame_bytes = 1u << 20;
    struct ws *ws = &bench->ws;
    ws->frontend = &bench->frontend;
    ws->wsi = (struct lws *)(void *)&socket_of_test;
    ws->frames = &bench->frames;
    ws->references = 1;
    ws->last_sent_ns = clock_monotonic_ns(clock_system());
    ws->last_received_ns = ws->last_sent_ns;
    list_init(&ws->outbox);
    list_init(&ws->subscriptions);
    list_init(&ws->ready);
    list_init(&ws->parked);
    *state = bench;
    return 0;
}

static int tear_down(void **state)
{
    struct bench *bench = *state;
    ws_drop_outbox(&bench->ws);
    buf_finish(&bench->ws.message);
    buf_finish(&bench->frontend.scratch);
    free(bench);
    return 0;
}

/* The n-th thing that was written is a close frame with this code, and the last. */
static void assert_closed(size_t n, unsigned code, const char *reason)
{
    assert_int_equal(socket_of_test.write_count, n + 1);
    const struct write *write = &socket_of_test.writes[n];
    assert_int_equal(write->protocol, 4);
    assert_int_equal(write->size, 2 + strlen(reason));
    assert_int_equal(write->data[0] << 8 | write->data[1], code);
    assert_memory_equal(write->data + 2, reason, strlen(reason));
}

static void send_text(struct ws *ws, size_t size)
{
    struct buf text = {0};
    ws_begin_text(&text);
    memset(buf_extend(&text, size), 'x', size);
    ws_send(ws, &text);
}

static void test_too_many_unread_answers_end_with_1013_before_all_that_waits(void **state)
{
    struct ws *ws = &((struct bench *)*state)->ws;
    size_t sent = 0;
    while (ws->close_code == 0) {
        assert_true(sent <= WS_OUTBOX_BYTES_MAX);
        send_text(ws, 1u << 20);
        sent += 1u << 20;
    }
    assert_true(sent > WS_OUTBOX_BYTES_MAX - (2u << 20));
    assert_true(socket_of_test.wants_writable);
    assert_int_equal(ws_on_writable(ws), 0);
    assert_closed(0, 1013, "too many answers are not read");
    assert_true(list_is_empty(&ws->outbox));
    assert_int_equal(ws->outbox_bytes, 0);
    send_text(ws, 10); /* what is answered later goes nowhere */
    assert_int_equal(ws_on_writable(ws), 0);
    assert_closed(0, 1013, "too many answers are not read");
}

static void test_an_answer_without_memory_ends_with_1013(void **state)
{
    struct ws *ws = &((struct bench *)*state)->ws;
    send_text(ws, 10);
    struct buf text = {.max_bytes = LWS_PRE + 5};
    ws_begin_text(&text);
    buf_append_text(&text, "longer than that");
    ws_send(ws, &text);
    assert_int_equal(ws_on_writable(ws), 0);
    assert_closed(0, 1013, "out of memory");
}

static void test_a_notification_without_memory_ends_with_1013(void **state)
{
    struct bench *bench = *state;
    bench->frontend.scratch.max_bytes = LWS_PRE + 5;
    bench->ws.is_heartbeat_due = true;
    assert_int_equal(ws_on_writable(&bench->ws), 0);
    assert_closed(0, 1013, "out of memory");
}

static void test_a_message_without_memory_ends_with_1013(void **state)
{
    struct bench *bench = *state;
    bench->ws.message.max_bytes = 10;
    ws_receive(&bench->ws, bytes_of_text("[1,2,3,4,5,6,7,8"));
    assert_true(socket_of_test.wants_writable);
    assert_int_equal(ws_on_writable(&bench->ws), 0);
    assert_closed(0, 1013, "out of memory");
    ws_receive(&bench->ws, bytes_of_text("9,10]")); /* drained */
    assert_int_equal(bench->frontend.closed_for_fault_total, 1);
}

static void test_pings_without_an_answer_end_with_1008_and_the_connection(void **state)
{
    struct bench *bench = *state;
    struct ws *ws = &bench->ws;
    ws->last_received_ns -= WS_IDLE_PING_NS;
    ws_on_timer(ws);
    assert_int_equal(ws_on_writable(ws), 0);
    assert_int_equal(socket_of_test.writes[0].protocol, LWS_WRITE_PING);
    assert_true(socket_of_test.writes[0].size > 0);
    ws->ping_sent_ns -= WS_PONG_WAIT_NS - NS_PER_S;
    ws_on_timer(ws);
    assert_false(socket_of_test.is_killed);
    ws->ping_sent_ns -= NS_PER_S;
    ws_on_timer(ws);
    assert_closed(1, 1008, "pings were not answered");
    assert_true(socket_of_test.is_killed);
}

static void test_any_byte_is_life(void **state)
{
    struct bench *bench = *state;
    struct ws *ws = &bench->ws;
    for (int i = 0; i < 3; i++) {
        ws->last_received_ns -= WS_IDLE_PING_NS;
        ws_on_timer(ws);
        assert_int_equal(ws_on_writable(ws), 0);
        assert_true(ws->is_ping_sent);
        ws->ping_sent_ns -= WS_PONG_WAIT_NS;
        ws_hears(ws); /* of whatever: a part of a frame, an empty pong */
        ws_on_timer(ws);
        assert_int_equal(ws->close_code, 0);
        assert_int_equal(socket_of_test.write_count, (size_t)i + 1);
    }
}

static void test_each_ping_has_its_pong(void **state)
{
    struct bench *bench = *state;
    static const uint8_t pings[] = {0x89, 0x81, 0,    0,    0, 0, 'a', 0x89, 0x80, 0,  0,
                                    0,    0,    0x89, 0x82, 0, 0, 0,   0,    'b',  'c'};
    uint8_t out[sizeof(pings) + WS_FRAMES_EXTRA];
    assert_int_equal(ws_frames_follow(&bench->frames, pings, sizeof(pings), out), 0);
    ws_hears(&bench->ws);
    assert_true(socket_of_test.wants_writable);
    assert_int_equal(ws_on_writable(&bench->ws), 0);
    assert_int_equal(socket_of_test.write_count, 3);
    static const char *const expected[] = {"a", "", "bc"};
    for (size_t i = 0; i < 3; i++) {
        const struct write *write = &socket_of_test.writes[i];
        assert_int_equal(write->protocol, LWS_WRITE_PONG);
        assert_int_equal(write->size, strlen(expected[i]));
        assert_memory_equal(write->data, expected[i], write->size);
    }
}

static void test_the_first_code_stays(void **state)
{
    struct ws *ws = &((struct bench *)*state)->ws;
    ws_close(ws, WS_CLOSE_TOO_BIG, "first", true);
    ws_close(ws, WS_CLOSE_OVERLOADED, "second", true);
    assert_int_equal(ws_on_writable(ws), 0);
    assert_closed(0, 1009, "first");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(
            test_too_many_unread_answers_end_with_1013_before_all_that_waits, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_an_answer_without_memory_ends_with_1013, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(test_a_notification_without_memory_ends_with_1013, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(test_a_message_without_memory_ends_with_1013, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(
            test_pings_without_an_answer_end_with_1008_and_the_connection, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_any_byte_is_life, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_each_ping_has_its_pong, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_the_first_code_stays, set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
