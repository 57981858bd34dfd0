/* A frontend as the daemon sees it: it uses only dispatch.h and the generated messages, and is
 * optional at build time. */
#ifndef RAFTOGRAM_FRONTEND_H
#define RAFTOGRAM_FRONTEND_H

#include "base/budget.h"
#include "dispatch/dispatch.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Options from the configuration. They stay valid while the frontend runs. */
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
    /* Limit over all connections of a frontend. gRPC: open calls, including streams. WebSocket:
     * calls that wait for their answer. */
    uint32_t max_calls;
    uint32_t heartbeat_ms; /* interval of WebSocket heartbeat notifications */
    struct budget *memory; /* shared by all frontends: memory that clients make them hold */
    const char *const *allowed_origins;
    size_t allowed_origin_count;
    const char *const *allowed_hosts;
    size_t allowed_host_count;
};

/* The functions of one frontend. */
struct frontend {
    /* Begins to listen and serve. `*out` is the instance for the other functions. On error, `error`
     * gets one line without a newline that names the address, the reason and the remedy.
     * Errors: ERR_BUSY, ERR_NOMEM, ERR_IO. */
    int (*start)(const struct frontend_options *options, void **out, char *error,
                 size_t error_size);
    /* Refuses new connections and calls. Running calls continue. Returns at once. */
    void (*close)(void *instance);
    /* Replaces close() and stop() if clients still connect shortly before the process ends. Closes
     * the connections, so that no client gets an answer that dispatch did not give. NULL if close()
     * is enough. Any thread; returns at once. */
    void (*hang_up)(void *instance);
    /* Waits up to grace_ms for running calls, ends the others, and frees the instance. */
    void (*stop)(void *instance, uint32_t grace_ms);
};

extern const struct frontend frontend_grpc;
extern const struct frontend frontend_http;

#endif
