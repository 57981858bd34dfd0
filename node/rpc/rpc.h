/* gRPC over the C core: a loop (completion queue and its thread), servers with unary and streaming
 * calls, and client channels with unary calls and streams. Bytes in, bytes out: what they mean is
 * the caller's business.
 *
 * Threads: callbacks run on the loop's thread. Every other function may be called from any thread.
 * Callbacks never run inside a call of ours by the same thread, except where said.
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
/* A loop on the thread of `host`, which must outlive it: for rooms of one process whose calls come
 * one after the other. gRPC's poller lets one thread at a time wait for all connections, so that
 * two threads would wake each other for each event. Errors: ERR_NOMEM. */
int rpc_loop_share(struct rpc_loop *host, struct rpc_loop **out);
/* Waits for the thread. Servers, channels and references to calls must be gone. Accepts NULL. */
void rpc_loop_destroy(struct rpc_loop *loop);
/* Runs `fn(context)` on the loop's thread, once, at `deadline_ns` of the monotonic clock (0: as
 * soon as possible), after the events that wait there already.
 * Errors: ERR_NOMEM; ERR_CLOSED while the loop is being destroyed (what is not due by then runs
 * early, so that no context is lost). */
int rpc_loop_post(struct rpc_loop *loop, uint64_t deadline_ns, void (*fn)(void *context),
                  void *context);

/* A function that the loop's thread runs, after the events that wait there, whenever
 * rpc_loop_turn_soon() asked for it or the time that it returned last has come (monotonic ns;
 * UINT64_MAX: only when asked). For work that begins and ends with calls: between a call's arrival,
 * that work and the answer no thread is changed, which costs more than all else about a call.
 * `fn` NULL: none any more. When this returns, the one before does not run and will not. One for a
 * loop; not from the loop's thread, not for a sharing loop (CHECKed). */
void rpc_loop_set_turn(struct rpc_loop *loop, uint64_t (*fn)(void *context), void *context);
/* Any thread, also before rpc_loop_set_turn(). Many calls before a turn are one. */
void rpc_loop_turn_soon(struct rpc_loop *loop);
/* How late turns began: from when they were asked for, or due. Any thread. */
void rpc_loop_turn_delays(const struct rpc_loop *loop, struct latency_counts *out);
/* That of the turn which runs. In a turn. */
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
    uint32_t calls_max; /* concurrent, over all connections; more are answered with `busy` */
    const struct rpc_status *busy; /* outlives the server; NULL: a plain RESOURCE_EXHAUSTED */
    uint32_t keepalive_ms;         /* our own pings; 0: none */
    uint32_t ping_interval_min_ms; /* clients may ping this often, with or without calls */
    struct listen_fault *fault;    /* NULL, or gets the reason why it cannot listen */
    bool is_for_peers; /* the other nodes': may take descriptors that clients have to leave */
};

/* Listens, on all addresses of a name. Address reuse is off, so that a taken port is an error.
 * Calls may arrive before it returns. Errors: ERR_BUSY, ERR_ACCESS, ERR_INVALID (cannot listen,
 * with `fault`), ERR_NOMEM. */
int rpc_server_create(struct rpc_loop *loop, const struct rpc_server_options *options,
                      const struct rpc_server_handler *handler, struct rpc_server **out);
int rpc_server_port(const struct rpc_server *server);
/* Refuses new calls and sends GOAWAY; running calls go on. */
void rpc_server_close(struct rpc_server *server);
/* Ends the sending side of all connections (a FIN), and nothing else: the client's calls end with
 * UNAVAILABLE there, where rpc_server_close() would cancel those that arrive meanwhile. For a
 * process that is about to end. */
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
    /* Always, once, and last: the call is over (finished, cancelled by the client, deadline passed,
     * connection lost). The context may be freed; a reference held on the call must still be
     * dropped. */
    void (*on_closed)(struct rpc_call *call, bool is_cancelled, void *context);
    void *context;
};

/* These are valid until on_closed or as long as a reference is held. */
const char *rpc_call_path(const struct rpc_call *call);
/* Empty when first asked for after the end. */
const char *rpc_call_peer(struct rpc_call *call);
/* Monotonic; UINT64_MAX when the client set none. */
uint64_t rpc_call_deadline_ns(const struct rpc_call *call);
/* The first value of `key`; data NULL when absent. */
struct bytes rpc_call_metadata(const struct rpc_call *call, const char *key);

/* Events begin to flow. In on_call only (CHECKed). No message is read before rpc_call_receive(). */
void rpc_call_accept(struct rpc_call *call, const struct rpc_call_events *events);
/* Reads one more message. At most one receive is outstanding (CHECKed). Does nothing after the
 * half-close. */
void rpc_call_receive(struct rpc_call *call);
/* Sends initial metadata now, if not sent yet: the client sees the stream as established. */
void rpc_call_send_headers(struct rpc_call *call);
/* Sends one message; at most one at a time: wait for on_sent (CHECKed). Copies `message`.
 * Errors: ERR_CLOSED when the call is over. */
int rpc_call_send(struct rpc_call *call, struct bytes message);
/* As rpc_call_send() with a shared slice: takes a reference of its own. */
int rpc_call_send_slice(struct rpc_call *call, grpc_slice slice);
/* Ends the call: later calls do nothing, and of the events only on_closed is still to come. When
 * several threads finish, the first wins. With `message` (may be NULL) as the unary answer, in one
 * batch. If a send is outstanding the status follows it. Any thread. Copies everything. */
void rpc_call_finish(struct rpc_call *call, const struct bytes *message,
                     const struct rpc_status *status);
/* References keep the object (not the call) alive for other threads. */
void rpc_call_ref(struct rpc_call *call);
void rpc_call_unref(struct rpc_call *call);

/* ---- client ---- */

struct rpc_channel;

struct rpc_channel_options {
    const char *address; /* of the server: what requests name it by */
    /* NULL, or what is dialled, by rpc_name_target(). Without it `address` is an IP address, or
     * gRPC looks it up, within the time of a dial. */
    const char *target;
    uint32_t backoff_min_ms; /* reconnect; 0: 50; gRPC 1.51 knows none below 100 (+-20 %) */
    uint32_t backoff_max_ms; /* 0: 1000 */
    uint32_t keepalive_ms;   /* pings, also without calls; 0: none */
    uint32_t receive_bytes_max;
};

/* A subchannel pool of its own. Connects when first used. Errors: ERR_NOMEM. */
int rpc_channel_create(struct rpc_loop *loop, const struct rpc_channel_options *options,
                       struct rpc_channel **out);
/* Its calls must be over. Accepts NULL. */
void rpc_channel_destroy(struct rpc_channel *channel);
/* Forgets the reconnect backoff and dials now. Calls that do not wait for readiness fail until the
 * dial is done. */
void rpc_channel_reset_backoff(struct rpc_channel *channel);

/* The end of a client call. Views are valid during the callback only. */
struct rpc_result {
    int code; /* GRPC_STATUS_* */
    const char *message;
    struct bytes details;  /* grpc-status-details-bin, raw; empty when absent */
    struct bytes response; /* unary and OK: the message, data not NULL (OK without one is
                              reported as INTERNAL); otherwise data NULL */
};

struct rpc_client_events {
    /* Streams: the server said by rpc_call_send_headers() that it stands, or sent its first
     * message. Never for a stream that was refused. May be NULL. */
    void (*on_headers)(void *context);
    /* Streams: one message; the next is read when this returns. */
    void (*on_message)(void *context, struct bytes message);
    /* Streams: the message given to rpc_stream_send() has been taken. */
    void (*on_sent)(void *context);
    /* Always, once, last. */
    void (*on_closed)(void *context, const struct rpc_result *result);
    void *context;
};

#define RPC_CLIENT_METADATA_MAX 16

struct rpc_client_call; /* one outgoing call; lives until on_closed returned and
                           rpc_client_release() */

/* A refused dial fails the call at once. */
struct rpc_client_options {
    const char *path;                    /* /package.Service/Method */
    uint64_t deadline_ns;                /* monotonic; UINT64_MAX: none */
    const struct rpc_metadata *metadata; /* copied */
    size_t metadata_count;
};

/* One request, one answer. `out` is set before the first callback.
 * Errors (no callback then): ERR_NOMEM; ERR_INVALID (metadata that HTTP/2 cannot carry, or too
 * much). */
int rpc_unary(struct rpc_channel *channel, const struct rpc_client_options *options,
              struct bytes request, const struct rpc_client_events *events,
              struct rpc_client_call **out);
/* A stream in both directions (client streaming and server streaming are special cases). Otherwise
 * as rpc_unary(). */
int rpc_stream_open(struct rpc_channel *channel, const struct rpc_client_options *options,
                    const struct rpc_client_events *events, struct rpc_client_call **out);
/* At most one outstanding: wait for on_sent (CHECKed). `is_more_coming` lets the transport wait for
 * the next message (GRPC_WRITE_BUFFER_HINT). Errors: ERR_CLOSED. */
int rpc_stream_send(struct rpc_client_call *call, struct bytes message, bool is_more_coming);
/* Half-close; follows an outstanding send. Later sends are ERR_CLOSED. */
void rpc_stream_close_send(struct rpc_client_call *call);
/* on_closed follows with GRPC_STATUS_CANCELLED unless it was over already. */
void rpc_client_cancel(struct rpc_client_call *call);
/* The caller's reference; needed once for each call started. */
void rpc_client_release(struct rpc_client_call *call);

#endif
