/* Checks the frames of a WebSocket client before libwebsockets (4.1) reads them. Pure.
 *
 * libwebsockets has these faults:
 * - It loses empty pongs, and answers the first of several pings instead of the latest (RFC 6455,
 *   5.5.3). So pings are kept here and answered by ws_send.c; neither pings nor pongs are passed
 *   on.
 * - It accepts frames without a mask.
 * - It does not read what follows a faulty frame, so that the kernel resets the connection and the
 *   close code is lost.
 * - It answers the close codes 1012 to 1014 as faults.
 *
 * So a faulty frame (RFC 6455, 5.1 to 5.5) is replaced by a marked pong in its place in the stream.
 * Everything before it is served, and then the connection is closed with 1002. Later bytes are
 * dropped, except for a close frame. Those close codes are replaced by 1000 and remembered. */
#ifndef RAFTOGRAM_HTTP_WS_FRAMES_H
#define RAFTOGRAM_HTTP_WS_FRAMES_H

#include "base/buf.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* The payload of the pong for a faulty frame, the only pong that libwebsockets sees. */
#define WS_FRAMES_FAULT "fault"
/* Bytes that may be written beyond those that were read: a held header, or the pong. */
#define WS_FRAMES_EXTRA 16
#define WS_CONTROL_BYTES_MAX 125 /* RFC 6455, 5.5 */
/* Pings that wait for their pongs. If there are more, the latest are kept (RFC 6455, 5.5.3). */
#define WS_PINGS_MAX 16

struct ws_frames {
    uint8_t header[14]; /* of the frame that is being read */
    size_t header_size; /* bytes of it that have arrived */
    size_t header_end;  /* its final size, as far as known */
    uint64_t at;        /* position in the payload */
    uint64_t size;      /* of the payload */
    bool is_in_message; /* a message has arrived in part */
    bool is_broken;
    uint16_t close_code;                /* close code that was replaced; 0: none */
    uint8_t ping[WS_CONTROL_BYTES_MAX]; /* the received part of the payload */
    struct buf pings;                   /* whole ones: the size in a byte, and the payload */
    size_t ping_count;
};

void ws_frames_finish(struct ws_frames *frames);

/* Follows `size` bytes. What libwebsockets may read goes to `out`, which has room for
 * WS_FRAMES_EXTRA more bytes. Returns its size. */
size_t ws_frames_follow(struct ws_frames *frames, const uint8_t *data, size_t size, uint8_t *out);
/* Takes the payload of the oldest waiting ping. Returns its size, or -1 if there is none. */
int ws_frames_take_ping(struct ws_frames *frames, uint8_t out[WS_CONTROL_BYTES_MAX]);

#endif
