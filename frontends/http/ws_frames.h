/* The headers of a client's WebSocket frames, followed before libwebsockets (4.1) reads them, pure.
 *
 * It loses empty pongs, and answers the first of several pings and not the latest (RFC
 * 6455, 5.5.3). So pings are kept here for us to answer, and neither they nor pongs go further. It
 * takes frames without a mask; what follows a faulty frame it leaves unread, so that the kernel
 * resets the connection and the close code gets lost; and it answers the close codes 1012 to 1014
 * as faults. So a faulty frame (RFC 6455, 5.1 to 5.5) is replaced by a pong that says so, in its
 * place in the stream: everything before is served, and then the connection is closed with 1002.
 * What comes behind is dropped, but for a close frame. Those close codes are replaced by 1000, and
 * remembered. */
#ifndef RAFTOGRAM_HTTP_WS_FRAMES_H
#define RAFTOGRAM_HTTP_WS_FRAMES_H

#include "base/buf.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* What the pong for a faulty frame holds: the only pong that libwebsockets sees. */
#define WS_FRAMES_FAULT "fault"
/* What may go out beyond what comes in: a header that was held, or the pong. */
#define WS_FRAMES_EXTRA 16
#define WS_CONTROL_BYTES_MAX 125 /* RFC 6455, 5.5 */
/* Pings that wait for their pongs; of more the latest stay (RFC 6455, 5.5.3). */
#define WS_PINGS_MAX 16

struct ws_frames {
    uint8_t header[14]; /* of the frame that is being read */
    size_t header_size; /* of it, so far */
    size_t header_end;  /* what it will be, as far as is known */
    uint64_t at;        /* in the payload */
    uint64_t size;      /* of the payload */
    bool is_in_message; /* that came in part */
    bool is_broken;
    uint16_t close_code;                /* that was replaced; 0: none */
    uint8_t ping[WS_CONTROL_BYTES_MAX]; /* the payload, as far as it has come */
    struct buf pings;                   /* whole ones: the size in a byte, and the payload */
    size_t ping_count;
};

void ws_frames_finish(struct ws_frames *frames);

/* Follows `size` bytes; what is left for libwebsockets goes to `out`, which has room for
 * WS_FRAMES_EXTRA more. Returns its size. */
size_t ws_frames_follow(struct ws_frames *frames, const uint8_t *data, size_t size, uint8_t *out);
/* Takes the payload of the oldest ping that waits; returns its size, or -1 when none does. */
int ws_frames_take_ping(struct ws_frames *frames, uint8_t out[WS_CONTROL_BYTES_MAX]);

#endif
