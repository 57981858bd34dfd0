/* A client's WebSocket stream from any bytes: what is left of it does not depend on the pieces that
 * it comes in, and has no fault any more. */
#include "../../frontends/http/ws_frames.c"

#include "base/buf.h"
#include "base/check.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void follow(struct ws_frames *frames, struct bytes in, size_t piece, struct buf *out)
{
    for (size_t at = 0; at < in.size; at += piece) {
        size_t count = piece < in.size - at ? piece : in.size - at;
        /* Of just the size that is promised to suffice. */
        uint8_t *block = malloc(count + WS_FRAMES_EXTRA);
        CHECK(block != NULL);
        size_t left = ws_frames_follow(frames, (const uint8_t *)in.data + at, count, block);
        CHECK(left <= count + WS_FRAMES_EXTRA);
        buf_append(out, block, left);
        free(block);
    }
}

/* Takes all. */
static void check_pings(struct ws_frames *frames)
{
    uint8_t ping[WS_CONTROL_BYTES_MAX];
    while (frames->ping_count > 0) {
        CHECK(ws_frames_take_ping(frames, ping) >= 0);
    }
    CHECK(ws_frames_take_ping(frames, ping) == -1);
    CHECK(frames->pings.size == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size == 0) {
        return 0;
    }
    struct bytes in = {data + 1, size - 1};
    struct buf pieces = {0};
    struct buf whole = {0};
    struct buf again = {0};
    struct ws_frames frames = {0};
    follow(&frames, in, data[0] % 32 + 1, &pieces);
    bool is_broken = frames.is_broken;
    uint16_t close_code = frames.close_code;
    struct buf pings = frames.pings;
    frames = (struct ws_frames){0};
    follow(&frames, in, in.size + 1, &whole);
    CHECK(bytes_equal(buf_bytes(&pieces), buf_bytes(&whole)));
    CHECK(frames.is_broken == is_broken);
    CHECK(frames.close_code == close_code);
    CHECK(bytes_equal(buf_bytes(&frames.pings), buf_bytes(&pings)));
    CHECK(frames.ping_count <= WS_PINGS_MAX);
    check_pings(&frames);
    CHECK(is_broken || whole.size <= in.size);
    frames = (struct ws_frames){0};
    follow(&frames, buf_bytes(&whole), 7, &again);
    /* The one pong is that of the fault, and is dropped as those of clients are. */
    CHECK(!frames.is_broken);
    CHECK(frames.ping_count == 0);
    CHECK(is_broken || bytes_equal(buf_bytes(&again), buf_bytes(&whole)));
    CHECK(!is_broken || again.size + 11 == whole.size);
    buf_finish(&pings);
    buf_finish(&pieces);
    buf_finish(&whole);
    buf_finish(&again);
    return 0;
}
