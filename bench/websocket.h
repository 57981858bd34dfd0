/* A pool of WebSocket client connections on a thread of its own.
 *
 * Callbacks run on the pool's thread. socket_send() may be called from any thread. */
#ifndef RAFTOGRAM_BENCH_WEBSOCKET_H
#define RAFTOGRAM_BENCH_WEBSOCKET_H

#include "base/buf.h"

#include <stdbool.h>
#include <stddef.h>

struct socket;
struct socket_pool;

struct socket_events {
    void (*on_open)(void *context, struct socket *socket);
    /* A piece of a message; the message ends with the piece that `is_end` marks. */
    void (*on_data)(void *context, struct socket *socket, struct bytes piece, bool is_end);
    /* Called once for each connection that was lost or could not be established. It is not
     * established again. */
    void (*on_closed)(void *context, struct socket *socket);
    void *context;
};

struct socket_pool_options {
    const char *const *addresses; /* used in rotation; must outlive the pool */
    size_t address_count;
    size_t socket_count;
    const char *path;
    const char *subprotocol; /* NULL: none */
    bool is_binary;          /* what is sent */
};

/* Begins to connect. Errors: ERR_NOMEM, ERR_IO. */
int socket_pool_create(const struct socket_pool_options *options,
                       const struct socket_events *events, struct socket_pool **out);
/* Ends the pool. No callback runs after this returns. Accepts NULL. */
void socket_pool_destroy(struct socket_pool *pool);

size_t socket_index(const struct socket *socket);
struct socket *socket_pool_at(struct socket_pool *pool, size_t index);
/* Queues a copy of one message. Messages on a closed connection are lost. */
void socket_send(struct socket *socket, struct bytes message);

#endif
