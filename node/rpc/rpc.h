/* gRPC over the C core: a loop (completion queue and its thread), servers with unary and streaming
 * calls, and client channels with unary calls and streams. It carries bytes. The caller interprets
 * them.
 *
 * Threads: callbacks run on the loop's thread. Other functions may be called from any thread. No
 * callback runs inside a function of this module, unless its comment says so.
 * Shutdown: rpc_server_stop(), rpc_channel_destroy() for all, then rpc_loop_destroy(). */
#ifndef RAFTOGRAM_RPC_RPC_H
#define RAFTOGRAM_RPC_RPC_H

#include "base/buf.h"
#include "base/clock.h"
#include "base/latency.h"
#include "base/listen.h"

#include <grpc/grpc.h>
#include <stdbool.h>
#include <stdint.h>

/* ---- loop ---- */

struct rpc_loop;

/* Starts a thread named `name` (15 characters at most). The first loop calls grpc_init().
 * Errors: ERR_NOMEM, ERR_IO. */
int rpc_loop_create(const char *name, struct rpc_loop **out);
/* Creates a loop on the thread of `host`, which must outlive it. gRPC's poller lets one thread at a
 * time wait for all connections, so that two threads would wake each other for each event. Errors:
 * ERR_NOMEM. */
int rpc_loop_share(struct rpc_loop *host, struct rpc_loop **out);
/* Waits for the thread. Requires that all servers, channels and references to calls are released.
 * Accepts NULL. */
void rpc_loop_destroy(struct rpc_loop *loop);
/* Runs `fn(context)` on the loop's thread, once, at `deadline_ns` of the monotonic clock (0: as
 * soon as possible), after the events that are queued.
 * Errors: ERR_NOMEM; ERR_CLOSED while the loop is being destroyed. Posts that are not due by then
 * run early, so that no context is lost. */
int rpc_loop_post(struct rpc_loop *loop, uint64_t deadline_ns, void (*fn)(void *context),
                  void *context);

/* Sets the function that the loop's thread runs after queued events, on two occasions: when
 * rpc_loop_turn_soon() asked for it, and at the time that it returned last (monotonic ns;
 * UINT64_MAX: only when asked). It suits work that begins and ends with calls, since a switch of
 * threads costs more than all else about a call. `fn` NULL removes it. After the return, the
 * previous function does not run any more. A loop has one such function. Not from the loop's
 * thread, and not for a sharing loop (CHECKed). */
void rpc_loop_set_turn(struct rpc_loop *loop, uint64_t (*fn)(void *context), void *context);
/* Requests a turn. Any thread, also before rpc_loop_set_turn(). Several requests before a turn
 * count as one. */
void rpc_loop_turn_soon(struct rpc_loop *loop);
/* Returns how late turns began after they were requested or due. Any thread. */
void rpc_loop_turn_delays(const struct rpc_loop *loop, struct latency_counts *out);
/* Returns the delay of the current turn. Only in a turn. */
uint64_t rpc_loop_turn_delay_ns(const struct rpc_loop *loop);

/* ---- server ---- */

struct rpc_server;
struct rpc_call; /* one incoming call; reference counted */

struct rpc_metadata {
    const char *key; /* lower case */
    struct bytes value;
};

#define RPC_STATUS_METADATA_MAX 4

struct rpc_status {
    int code;            /* GRPC_STATUS_* */
    const char *message; /* NULL: none */
    struct rpc_metadata trailers[RPC_STATUS_METADATA_MAX];
    size_t trailer_count; /* binary values under keys that end in -bin */
};

struct rpc_server_handler {
    /* A call arrived: its path, metadata and deadline are known. The handler sets the call's events
     * by rpc_call_accept() or answers with rpc_call_finish(), before it returns (CHECKed). */
    void (*on_call)(void *context, struct rpc_call *call);
    void *context;
};

struct rpc_server_options {
    const char *address;         /* host:port; port 0 picks one, see rpc_server_port() */
    uint32_t receive_bytes_max;  /* larger messages end their call with RESOURCE_EXHAUSTED */
    uint32_t metadata_bytes_max; /* of all request headers */
    uint32_t calls_max; /* concurrent calls of all connections; more are answered with `busy` */
    const struct rpc_status *busy; /* outlives the server; NULL: a plain RESOURCE_EXHAUSTED */
    uint32_t keepalive_ms;         /* interval of the server's pings; 0: none */
    uint32_t ping_interval_min_ms; /* clients may ping this often, with or without calls */
    struct listen_fault *fault;    /* NULL, or receives why listening failed */
    bool is_for_peers; /* for other nodes: may use descriptors that are reserved for them */
};

/* Listens on all addresses of a name. Address reuse is off, so that a port in use is an error.
 * Calls may arrive before it returns. Errors: ERR_BUSY, ERR_ACCESS, ERR_INVALID (cannot listen; see
 * `fault`), ERR_NOMEM. */
int rpc_server_create(struct rpc_loop *loop, const struct rpc_server_options *options,
                      const struct rpc_server_handler *handler, struct rpc_server **out);
int rpc_server_port(const struct rpc_server *server);
/* Refuses new calls and sends GOAWAY. Running calls continue. */
void rpc_server_close(struct rpc_server *server);
/* Shuts down the sending side of all connections (a FIN) before the process ends. The clients'
 * calls end with UNAVAILABLE, while rpc_server_close() would cancel calls that arrive meanwhile. */
void rpc_server_hang_up(const struct rpc_server *server);
/* Closes, waits up to grace_ms for running calls, cancels the rest, waits for them. Blocks; not
 * from the loop's thread. */
void rpc_server_stop(struct rpc_server *server, uint32_t grace_ms);
/* After rpc_server_stop(). Accepts NULL. */
void rpc_server_destroy(struct rpc_server *server);

struct rpc_call_events {
    /* One request message (a view, valid during the callback); after rpc_call_receive(). */
    void (*on_message)(struct rpc_call *call, struct bytes message, void *context);
    /* The client half-closed: no more messages. */
    void (*on_half_close)(struct rpc_call *call, void *context);
    /* The message given to rpc_call_send() has left for the transport: the next may be sent.
     * May be NULL for calls that never use rpc_call_send(). */
    void (*on_sent)(struct rpc_call *call, void *context);
    /* Called exactly once, as the last event: the call is over (finished, cancelled by the client,
     * deadline passed, connection lost). The context may be freed. References to the call must
     * still be dropped. */
    void (*on_closed)(struct rpc_call *call, bool is_cancelled, void *context);
    void *context;
};

/* These are valid until on_closed or as long as a reference is held. */
const char *rpc_call_path(const struct rpc_call *call);
/* Empty if first requested after the end. */
const char *rpc_call_peer(struct rpc_call *call);
/* Monotonic; UINT64_MAX when the client set none. */
uint64_t rpc_call_deadline_ns(const struct rpc_call *call);
/* Returns the first value of `key`; data NULL if absent. */
struct bytes rpc_call_metadata(const struct rpc_call *call, const char *key);

/* Starts the call's events. In on_call only (CHECKed). No message is read before
 * rpc_call_receive(). */
void rpc_call_accept(struct rpc_call *call, const struct rpc_call_events *events);
/* Reads one more message. At most one receive is outstanding (CHECKed). Does nothing after the
 * half-close. */
void rpc_call_receive(struct rpc_call *call);
/* Sends the initial metadata, unless they were sent. The client then sees the stream as
 * established. */
void rpc_call_send_headers(struct rpc_call *call);
/* Sends one message. The next may be sent after on_sent (CHECKed). Copies `message`.
 * Errors: ERR_CLOSED (the call is over). */
int rpc_call_send(struct rpc_call *call, struct bytes message);
/* As rpc_call_send() with a shared slice, to which it takes a reference. */
int rpc_call_send_slice(struct rpc_call *call, grpc_slice slice);
/* Ends the call. Later functions do nothing, and the only event left is on_closed. If several
 * threads finish the call, the first wins. `message` (may be NULL) is the unary answer, sent in one
 * batch. The status follows an outstanding send. Any thread. Copies everything. */
void rpc_call_finish(struct rpc_call *call, const struct bytes *message,
                     const struct rpc_status *status);
/* References keep the object, not the call, alive for other threads. */
void rpc_call_ref(struct rpc_call *call);
void rpc_call_unref(struct rpc_call *call);

/* ---- client ---- */

struct rpc_channel;

struct rpc_channel_options {
    const char *address; /* the server's name in requests */
    /* NULL, or what to dial, by rpc_name_target(). If NULL, gRPC looks `address` up within the time
     * of a dial, unless it is an IP address. */
    const char *target;
    uint32_t backoff_min_ms; /* reconnect; 0: 50; gRPC 1.51 uses at least 100 (+-20 %) */
    uint32_t backoff_max_ms; /* 0: 1000 */
    uint32_t keepalive_ms;   /* pings, also without calls; 0: none */
    uint32_t receive_bytes_max;
};

/* Creates a channel with its own subchannel pool. It connects when first used. Errors:
 * ERR_NOMEM. */
int rpc_channel_create(struct rpc_loop *loop, const struct rpc_channel_options *options,
                       struct rpc_channel **out);
/* Requires that its calls are over. Accepts NULL. */
void rpc_channel_destroy(struct rpc_channel *channel);
/* Resets the reconnect backoff and dials. Calls that do not wait for readiness fail until the dial
 * has ended. */
void rpc_channel_reset_backoff(struct rpc_channel *channel);

/* The result of a client call. Views are valid during the callback only. */
struct rpc_result {
    int code; /* GRPC_STATUS_* */
    const char *message;
    struct bytes details;  /* grpc-status-details-bin, raw; empty when absent */
    struct bytes response; /* unary and OK: the message, data not NULL (OK without one is
                              reported as INTERNAL); otherwise data NULL */
};

struct rpc_client_events {
    /* Streams: the server established the stream by rpc_call_send_headers() or sent its first
     * message. Not called for a refused stream. May be NULL. */
    void (*on_headers)(void *context);
    /* Streams: one message. The next is read when this returns. */
    void (*on_message)(void *context, struct bytes message);
    /* Streams: the transport took the message of rpc_stream_send(). */
    void (*on_sent)(void *context);
    /* Called exactly once, as the last event. */
    void (*on_closed)(void *context, const struct rpc_result *result);
    void *context;
};

#define RPC_CLIENT_METADATA_MAX 16

struct rpc_client_call; /* one outgoing call; lives until on_closed returned and
                           rpc_client_release() */

/* Options of a call. A refused dial ends it at once. */
struct rpc_client_options {
    const char *path;                    /* /package.Service/Method */
    uint64_t deadline_ns;                /* monotonic; UINT64_MAX: none */
    const struct rpc_metadata *metadata; /* copied */
    size_t metadata_count;
};

/* Starts a call with one request and one answer. Sets `out` before the first callback. Errors (no
 * callback then): ERR_NOMEM; ERR_INVALID (metadata that HTTP/2 cannot carry, or too much). */
int rpc_unary(struct rpc_channel *channel, const struct rpc_client_options *options,
              struct bytes request, const struct rpc_client_events *events,
              struct rpc_client_call **out);
/* Opens a stream in both directions; client and server streaming are special cases. Otherwise as
 * rpc_unary(). */
int rpc_stream_open(struct rpc_channel *channel, const struct rpc_client_options *options,
                    const struct rpc_client_events *events, struct rpc_client_call **out);
/* Sends one message. The next may be sent after on_sent (CHECKed). `is_more_coming` lets the
 * transport wait for the next message (GRPC_WRITE_BUFFER_HINT). Errors: ERR_CLOSED. */
int rpc_stream_send(struct rpc_client_call *call, struct bytes message, bool is_more_coming);
/* Half-closes the stream after an outstanding send. Later sends return ERR_CLOSED. */
void rpc_stream_close_send(struct rpc_client_call *call);
/* Cancels the call. on_closed follows with GRPC_STATUS_CANCELLED, unless the call is already
 * over. */
void rpc_client_cancel(struct rpc_client_call *call);
/* Drops the caller's reference. Required once for each started call. */
void rpc_client_release(struct rpc_client_call *call);

#endif
