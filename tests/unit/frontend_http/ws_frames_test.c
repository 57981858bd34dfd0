/* Tests of ws_frames.h. */
#include "http/ws_frames.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#define FRAME_BYTES_MAX 70100

static const uint8_t mask[4] = {0x11, 0x22, 0x33, 0x44};

/* A masked frame; returns its size. */
static size_t put_frame(uint8_t *out, uint8_t first, const void *payload, size_t size)
{
    size_t at = 0;
    out[at++] = first;
    if (size < 126) {
        out[at++] = (uint8_t)(0x80 | size);
    } else if (size < 65536) {
        out[at++] = 0x80 | 126;
        out[at++] = (uint8_t)(size >> 8);
        out[at++] = (uint8_t)size;
    } else {
        out[at++] = 0x80 | 127;
        for (int shift = 56; shift >= 0; shift -= 8) {
            out[at++] = (uint8_t)((uint64_t)size >> shift);
        }
    }
    memcpy(out + at, mask, sizeof(mask));
    at += sizeof(mask);
    for (size_t i = 0; i < size; i++) {
        out[at++] = ((const uint8_t *)payload)[i] ^ mask[i % 4];
    }
    return at;
}

/* Follows the stream in pieces; returns what comes out of it. */
static size_t follow(struct ws_frames *frames, const uint8_t *in, size_t size, size_t piece,
                     uint8_t *out)
{
    size_t total = 0;
    for (size_t at = 0; at < size; at += piece) {
        size_t count = piece < size - at ? piece : size - at;
        size_t left = ws_frames_follow(frames, in + at, count, out + total);
        assert_true(left <= count + WS_FRAMES_EXTRA);
        total += left;
    }
    return total;
}

static uint8_t stream[3 * FRAME_BYTES_MAX];
static uint8_t passed[2 * sizeof(stream)];
static uint8_t payload[70000];

static void test_masked_frames_pass_unchanged(void **state)
{
    static const size_t sizes[] = {0, 1, 125, 126, 1000, 65535, 65536, 70000};
    static const size_t pieces[] = {1, 2, 3, 7, 4096, sizeof(stream)};
    /* Bytes that would be faults if they were taken for headers. */
    memset(payload, 0x01, sizeof(payload));
    for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
        size_t size = put_frame(stream, 0x81, payload, sizes[i]);
        size += put_frame(stream + size, 0x02, payload, 5);
        size += put_frame(stream + size, 0x80, payload, 5);
        size += put_frame(stream + size, 0x81, payload, sizes[i]);
        for (size_t j = 0; j < sizeof(pieces) / sizeof(pieces[0]); j++) {
            struct ws_frames frames = {0};
            assert_int_equal(follow(&frames, stream, size, pieces[j], passed), size);
            assert_memory_equal(passed, stream, size);
            assert_false(frames.is_broken);
        }
    }
}

static void test_a_faulty_frame_becomes_a_pong_in_its_place(void **state)
{
    static const uint8_t faulty[][12] = {
        {0x81, 2, '{', '}'},
        {0x81, 0},
        {0x88, 0},
        {0x89, 1, 'x'},
        {0xc1, 0x80},
        {0x91, 0x81, 1, 2, 3, 4, 5},
        {0x83, 0x80},
        {0x8b, 0x80},
        {0x09, 0x80},
        {0x80, 0x80},
        {0x81, 0xfe, 0, 125, 1, 2, 3, 4},
        {0x81, 0xff, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 1, 2},
        {0x89, 0xfe, 0, 126},
    };
    /* Whole frames, but for the last, whose payload is 126 bytes of what follows. */
    static const size_t faulty_sizes[] = {4, 2, 2, 3,       6,          7,      6,
                                          6, 6, 6, 8 + 125, 14 + 65535, 8 + 126};
    static const uint8_t pong[] = {0x8a, 0x85, 0, 0, 0, 0, 'f', 'a', 'u', 'l', 't'};
    for (size_t i = 0; i < sizeof(faulty_sizes) / sizeof(faulty_sizes[0]); i++) {
        memset(stream, 0, FRAME_BYTES_MAX);
        size_t before = put_frame(stream, 0x81, "abc", 3);
        memcpy(stream + before, faulty[i], sizeof(faulty[i]));
        size_t size = before + faulty_sizes[i];
        size += put_frame(stream + size, 0x81, "dropped", 7);
        size += put_frame(stream + size, 0xc1, "", 0);
        size_t close_size = put_frame(stream + size, 0x88, "\x03\xe8", 2);
        size += close_size;
        for (size_t piece = 1; piece <= 64; piece++) {
            struct ws_frames frames = {0};
            size_t out = follow(&frames, stream, size, piece, passed);
            assert_true(frames.is_broken);
            assert_int_equal(out, before + sizeof(pong) + close_size);
            assert_memory_equal(passed, stream, before);
            assert_memory_equal(passed + before, pong, sizeof(pong));
            assert_memory_equal(passed + out - close_size, stream + size - close_size, close_size);
        }
    }
}

static void test_a_faulty_close_behind_a_fault_is_dropped(void **state)
{
    static const uint8_t faulty[][8] = {
        {0xa8, 0x80},
        {0x08, 0x80},
        {0x88, 0},
    };
    for (size_t i = 0; i < sizeof(faulty) / sizeof(faulty[0]); i++) {
        size_t size = put_frame(stream, 0x83, "", 0);
        memcpy(stream + size, faulty[i], 6);
        size += faulty[i][1] == 0 ? 2 : 6;
        struct ws_frames frames = {0};
        assert_int_equal(follow(&frames, stream, size, 1, passed), 11);
        /* Also where the close is the first fault itself. */
        frames = (struct ws_frames){0};
        assert_int_equal(follow(&frames, stream + 6, size - 6, 1, passed), 11);
    }
}

static void test_a_text_inside_a_fragmented_text_is_faulty(void **state)
{
    size_t size = put_frame(stream, 0x01, "{", 1);
    size_t ping_size = put_frame(stream + size, 0x89, "x", 1);
    size += ping_size;
    size_t good = size;
    size += put_frame(stream + size, 0x80, "}", 1);
    size += put_frame(stream + size, 0x81, "{}", 2);
    struct ws_frames frames = {0};
    assert_int_equal(follow(&frames, stream, size, 5, passed), size - ping_size);
    assert_false(frames.is_broken);
    ws_frames_finish(&frames);
    frames = (struct ws_frames){0};
    (void)put_frame(stream + good, 0x81, "}", 1);
    assert_int_equal(follow(&frames, stream, size, 5, passed), good - ping_size + 11);
    assert_true(frames.is_broken);
    ws_frames_finish(&frames);
}

static void test_pings_are_kept_and_pongs_dropped(void **state)
{
    size_t size = put_frame(stream, 0x89, "", 0);
    size += put_frame(stream + size, 0x8a, "pong", 4);
    size += put_frame(stream + size, 0x8a, "", 0);
    size += put_frame(stream + size, 0x89, "second ping", 11);
    memset(payload, 'x', WS_CONTROL_BYTES_MAX);
    size += put_frame(stream + size, 0x89, payload, WS_CONTROL_BYTES_MAX);
    for (size_t piece = 1; piece <= size; piece++) {
        struct ws_frames frames = {0};
        uint8_t ping[WS_CONTROL_BYTES_MAX];
        assert_int_equal(follow(&frames, stream, size, piece, passed), 0);
        assert_int_equal(ws_frames_take_ping(&frames, ping), 0);
        assert_int_equal(ws_frames_take_ping(&frames, ping), 11);
        assert_memory_equal(ping, "second ping", 11);
        assert_int_equal(ws_frames_take_ping(&frames, ping), WS_CONTROL_BYTES_MAX);
        assert_memory_equal(ping, payload, WS_CONTROL_BYTES_MAX);
        assert_int_equal(ws_frames_take_ping(&frames, ping), -1);
        assert_null(frames.pings.data);
    }
}

static void test_of_too_many_pings_the_latest_stay(void **state)
{
    struct ws_frames frames = {0};
    uint8_t ping[WS_CONTROL_BYTES_MAX];
    for (uint8_t i = 0; i < 200; i++) {
        size_t size = put_frame(stream, 0x89, &i, 1);
        assert_int_equal(follow(&frames, stream, size, 100, passed), 0);
    }
    for (uint8_t i = 200 - WS_PINGS_MAX; i < 200; i++) {
        assert_int_equal(ws_frames_take_ping(&frames, ping), 1);
        assert_int_equal(ping[0], i);
    }
    assert_int_equal(ws_frames_take_ping(&frames, ping), -1);
}

static void test_only_the_codes_1012_to_1014_are_replaced(void **state)
{
    static const char text[] = "xxreason";
    for (unsigned code = 990; code < 1030; code++) {
        bool is_replaced = code >= 1012 && code <= 1014;
        memcpy(payload, text, sizeof(text));
        payload[0] = (uint8_t)(code >> 8);
        payload[1] = (uint8_t)code;
        size_t size = put_frame(stream, 0x88, payload, sizeof(text));
        for (size_t piece = 1; piece <= size; piece++) {
            struct ws_frames frames = {0};
            assert_int_equal(follow(&frames, stream, size, piece, passed), size);
            assert_int_equal(frames.close_code, is_replaced ? code : 0);
            unsigned got = (unsigned)(passed[6] ^ mask[0]) << 8 | (passed[7] ^ mask[1]);
            assert_int_equal(got, is_replaced ? 1000 : code);
            assert_memory_equal(passed + 8, stream + 8, size - 8);
        }
    }
}

static void test_a_short_close_is_left_alone(void **state)
{
    for (size_t size = 0; size < 2; size++) {
        struct ws_frames frames = {0};
        size_t total = put_frame(stream, 0x88, "\x03", size);
        total += put_frame(stream + total, 0x81, "abc", 3);
        assert_int_equal(follow(&frames, stream, total, 1, passed), total);
        assert_memory_equal(passed, stream, total);
        assert_false(frames.is_broken);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_masked_frames_pass_unchanged),
        cmocka_unit_test(test_a_faulty_frame_becomes_a_pong_in_its_place),
        cmocka_unit_test(test_a_faulty_close_behind_a_fault_is_dropped),
        cmocka_unit_test(test_a_text_inside_a_fragmented_text_is_faulty),
        cmocka_unit_test(test_pings_are_kept_and_pongs_dropped),
        cmocka_unit_test(test_of_too_many_pings_the_latest_stay),
        cmocka_unit_test(test_only_the_codes_1012_to_1014_are_replaced),
        cmocka_unit_test(test_a_short_close_is_left_alone),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
