/* A frontend as the daemon sees it: it uses only dispatch.h and the generated messages, and is
 * optional at build time. */
#ifndef RAFTOGRAM_FRONTEND_H
#define RAFTOGRAM_FRONTEND_H

#include "base/budget.h"
#include "dispatch/dispatch.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* From the configuration; valid as long as the frontend runs. */
struct frontend_options {
    struct dispatch *dispatch;
    const char *grpc_bind_addr;
    const char *http_bind_addr;
    const char *web_root; /* "": the embedded page */
    bool has_reflection;
    uint32_t max_payload_bytes;
    uint32_t max_frame_bytes;
    uint32_t max_connections;
    uint32_t max_subscriptions; /* per connection */
    /* Over all connections of a frontend. gRPC: calls that are open, streams too. WebSocket: calls
     * that wait for their answer. */
    uint32_t max_calls;
    uint32_t heartbeat_ms; /* WebSocket heartbeat notifications */
    struct budget *memory; /* of all frontends together; what clients make them hold */
    const char *const *allowed_origins;
    size_t allowed_origin_count;
    const char *const *allowed_hosts;
    size_t allowed_host_count;
};

struct frontend {
    /* Listens and serves. On error one line without a newline goes to `error`, which names the
     * address, the reason and the remedy. Errors: ERR_BUSY, ERR_NOMEM, ERR_IO. */
    int (*start)(const struct frontend_options *options, void **out, char *error,
                 size_t error_size);
    /* Takes no new connections and calls; what runs goes on. Returns at once. */
    void (*close)(void *instance);
    /* In place of close() and stop() when clients still come at the very end, and the process will
     * end soon: closes the connections so that nobody hears what dispatch never said. NULL where
     * close() does as much. Any thread; returns at once. */
    void (*hang_up)(void *instance);
    /* Waits up to grace_ms for what runs, ends the rest, frees all. */
    void (*stop)(void *instance, uint32_t grace_ms);
};

extern const struct frontend frontend_grpc;
extern const struct frontend frontend_http;

#endif
