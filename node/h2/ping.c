/* Pings and GOAWAY of a connection. */
#include "h2/h2_internal.h"

#include "base/clock.h"

#include <string.h>

#define PING_STRIKES_MAX 2

static const uint8_t goodbye[8] = {'g', 'o', 'o', 'd', 'b', 'y', 'e', '!'};

static void submit_goaway(struct h2_connection *connection, uint32_t code, const char *reason)
{
    (void)nghttp2_submit_goaway(connection->session, NGHTTP2_FLAG_NONE,
                                nghttp2_session_get_last_proc_stream_id(connection->session), code,
                                (const uint8_t *)reason, strlen(reason));
}

void h2_connection_on_ping(struct h2_connection *connection, const nghttp2_frame *frame)
{
    if ((frame->hd.flags & NGHTTP2_FLAG_ACK) != 0) {
        if (memcmp(frame->ping.opaque_data, goodbye, sizeof(goodbye)) == 0) {
            submit_goaway(connection, NGHTTP2_NO_ERROR, ""); /* the client has read the notice */
        }
        return;
    }
    uint64_t now_ns = connection->server->now_ns;
    /* Half of the configured interval: the network shortens gaps between pings. */
    uint64_t least_ns = connection->server->options.ping_interval_min_ms * NS_PER_MS / 2;
    bool is_early = connection->ping_ns != 0 && now_ns < connection->ping_ns + least_ns;
    connection->ping_ns = now_ns;
    if (is_early && ++connection->ping_strikes > PING_STRIKES_MAX) {
        submit_goaway(connection, NGHTTP2_ENHANCE_YOUR_CALM, "too_many_pings");
        connection->is_leaving = true;
    }
}

void h2_connection_goaway(struct h2_connection *connection)
{
    (void)nghttp2_submit_shutdown_notice(connection->session);
    (void)nghttp2_submit_ping(connection->session, NGHTTP2_FLAG_NONE, goodbye);
    h2_connection_mark(connection);
}
