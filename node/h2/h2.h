/* A gRPC server over HTTP/2 (nghttp2), for clients. It has its own thread, so that the work for
 * clients never runs on the node's thread: parsing, decompression and writing happen here. It
 * carries bytes. The caller interprets them.
 *
 * Bounds: streams and held bytes of a connection, connections, bytes of all connections (`memory`),
 * the time until a call's message is complete, and calls that wait for their message.
 *
 * Threads: callbacks run on the server's thread, or on one that does its work while it sleeps
 * (h2_server_run()) and counts as the server's thread. Functions may be called from any thread
 * unless they say otherwise. No callback runs inside a function of this module. Shutdown:
 * h2_server_stop(), then h2_server_destroy().
 *
 * Reading order: server.c, listener.c, connection.c, ping.c, request.c, call.c, answer.c; then
 * their ground: thread.c, memory.c, text.c. */
#ifndef RAFTOGRAM_H2_H2_H
#define RAFTOGRAM_H2_H2_H

#include "base/budget.h"
#include "base/buf.h"
#include "base/list.h"
#include "base/listen.h"

#include <stdbool.h>
#include <stdint.h>

struct h2_server;
struct h2_call; /* one incoming call; reference counted */

/* gRPC status codes that the server itself uses. */
enum h2_code {
    H2_OK = 0,
    H2_CANCELLED = 1,
    H2_INVALID_ARGUMENT = 3,
    H2_DEADLINE_EXCEEDED = 4,
    H2_RESOURCE_EXHAUSTED = 8,
    H2_UNIMPLEMENTED = 12,
    H2_INTERNAL = 13,
};

struct h2_metadata {
    const char *key; /* lower case */
    struct bytes value;
};

#define H2_TRAILERS_MAX 4

struct h2_status {
    int code;
    const char *message; /* NULL: none */
    struct h2_metadata trailers[H2_TRAILERS_MAX];
    size_t trailer_count; /* binary values under keys that end in -bin */
};

struct h2_server_handler {
    /* A call arrived: its path, metadata and deadline are known. The handler accepts it by
     * h2_call_accept() or answers with h2_call_finish() before it returns (CHECKed). */
    void (*on_call)(void *context, struct h2_call *call);
    /* A message of `size` bytes exceeds receive_bytes_max and was or will be discarded. The handler
     * answers with h2_call_finish(). */
    void (*on_too_large)(void *context, struct h2_call *call, uint64_t size);
    void *context;
};

struct h2_server_options {
    const char *address;        /* host:port; port 0 picks one, see h2_server_port() */
    uint32_t receive_bytes_max; /* of a message, also after decompression */
    /* Larger messages up to this size are read and discarded before their call is answered, since
     * some clients read no answer while they write. Beyond it, calls are answered at once. */
    uint32_t discard_bytes_max;
    uint32_t metadata_bytes_max; /* of all request headers */
    uint32_t streams_max;        /* of a connection */
    uint32_t connections_max;    /* a further one closes the connection that is idle longest */
    uint32_t waiting_max;     /* calls that wait for their message; a further one ends the oldest */
    uint32_t message_wait_ms; /* from the begin of a call, or of a message, to the whole message */
    uint32_t keepalive_ms;    /* interval of the server's pings; 0: none */
    uint32_t ping_interval_min_ms;     /* clients may ping this often, with or without calls */
    struct budget *memory;             /* NULL: unlimited */
    const struct h2_status *no_memory; /* status of a call without memory; outlives the server */
};

/* Listens on exactly `address` and starts the thread. Calls may arrive before it returns.
 * Errors: ERR_BUSY (cannot listen; see `fault`), ERR_NOMEM, ERR_IO. */
int h2_server_create(const struct h2_server_options *options,
                     const struct h2_server_handler *handler, struct listen_fault *fault,
                     struct h2_server **out);
int h2_server_port(const struct h2_server *server);
bool h2_server_is_current(const struct h2_server *server);
/* Accepts no new connections and sends GOAWAY. Serves calls that arrive before the client has read
 * it. Running calls continue. Returns at once. */
void h2_server_close(struct h2_server *server);
/* Shuts down the sending side of all connections (a FIN) before the process ends. The clients'
 * calls end with UNAVAILABLE. Returns at once. */
void h2_server_hang_up(struct h2_server *server);
/* Closes the server, waits up to grace_ms for running calls, and ends the rest. Posts still run.
 * Blocks. Not from the server's thread. */
void h2_server_stop(struct h2_server *server, uint32_t grace_ms);
/* Called after h2_server_stop() and the last post. Accepts NULL. */
void h2_server_destroy(struct h2_server *server);

/* Work for the server's thread, embedded in the object that it is for. */
struct h2_post {
    struct list link;
    void (*run)(struct h2_post *post);
};

/* Runs `post->run(post)` once, soon. It may be posted again when it runs. */
void h2_server_post(struct h2_server *server, struct h2_post *post);
/* As h2_server_post(), but runs the post at once on this thread if the server has few calls and its
 * thread sleeps, so that a lonely call need not wait for another thread. The caller holds no lock.
 * It may block for the time of a small send(2). */
void h2_server_run(struct h2_server *server, struct h2_post *post);

struct h2_server_stats {
    uint64_t connections;
    uint64_t calls;
};

void h2_server_get_stats(struct h2_server *server, struct h2_server_stats *out);

struct h2_call_events {
    /* One request message (a view, valid during the callback); after h2_call_receive(). */
    void (*on_message)(struct h2_call *call, struct bytes message, void *context);
    /* The client half-closed: no more messages; after h2_call_receive(). */
    void (*on_half_close)(struct h2_call *call, void *context);
    /* The message of h2_call_send() was sent and the connection has nothing else to write. The next
     * may be sent. May be NULL for calls that never send. */
    void (*on_sent)(struct h2_call *call, void *context);
    /* The turn that h2_call_ask_turn() asked for. May be NULL for calls that never ask. */
    void (*on_turn)(struct h2_call *call, void *context);
    /* Called exactly once, as the last event: the call is over (finished, cancelled by the client,
     * deadline passed, connection lost). The context may be freed. References to the call must
     * still be dropped. */
    void (*on_closed)(struct h2_call *call, bool is_cancelled, void *context);
    void *context;
    /* message_wait_ms ends at the half-close, not at the first message. */
    bool ends_with_half_close;
    /* A message may come at any time: message_wait_ms begins with its first byte. */
    bool is_patient;
};

/* These are valid as long as a reference is held. */
const char *h2_call_path(const struct h2_call *call);
/* Monotonic; UINT64_MAX when the client set none. */
uint64_t h2_call_deadline_ns(const struct h2_call *call);
/* Returns the first value of `key`; data NULL if absent. */
struct bytes h2_call_metadata(const struct h2_call *call, const char *key);
/* Returns the number of open calls of its connection, including itself. Server's thread. */
uint32_t h2_call_neighbours(const struct h2_call *call);

/* Starts the call's events. In on_call only (CHECKed). No message is read before
 * h2_call_receive(). */
void h2_call_accept(struct h2_call *call, const struct h2_call_events *events);
/* Reads one more message. At most one receive is outstanding (CHECKed). Server's thread. */
void h2_call_receive(struct h2_call *call);
/* Sends the response headers, unless they were sent. The client then sees the stream as
 * established. */
void h2_call_send_headers(struct h2_call *call);
/* Sends one message. The next may be sent after on_sent (CHECKed). Copies `message`.
 * Errors: ERR_CLOSED (the call is over), ERR_FULL (over the memory limit; the call was ended),
 * ERR_NOMEM. */
int h2_call_send(struct h2_call *call, struct bytes message);
/* As h2_call_send(), without a copy. `release(owner)` is called exactly once, on any thread, after
 * the last use of the bytes, also on error. */
int h2_call_send_shared(struct h2_call *call, struct bytes message, void (*release)(void *owner),
                        void *owner);
/* Ends the call. Later functions do nothing, and the only event left is on_closed. If several
 * threads finish the call, the first wins. `message` (may be NULL) is the unary answer. The status
 * follows an outstanding send. Copies everything. */
void h2_call_finish(struct h2_call *call, const struct bytes *message,
                    const struct h2_status *status);
/* Requests a turn of its connection. on_turn follows when the connection has written everything. At
 * most H2_TURNS_MAX calls have a turn, until each calls h2_call_end_turn(). So a client that does
 * not read cannot make the server hold many pages from the disk. Server's thread. */
void h2_call_ask_turn(struct h2_call *call);
void h2_call_end_turn(struct h2_call *call);
/* References keep the object, not the call, alive for other threads. */
void h2_call_ref(struct h2_call *call);
void h2_call_unref(struct h2_call *call);

#define H2_TURNS_MAX 4

#endif
