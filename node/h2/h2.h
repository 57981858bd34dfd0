/* A gRPC server over HTTP/2 (nghttp2), for clients. It has a thread of its own, so that nothing a
 * client does runs on the node's thread: bytes are parsed, messages are unpacked and answers are
 * written here. Bytes in, bytes out: what they mean is the caller's business.
 *
 * Bounds: streams and held bytes of a connection, connections, bytes of all connections (`memory`),
 * the time until a call's message is there, and calls that wait for it.
 *
 * Threads: callbacks run on the server's thread, or on one that does its work while it sleeps (see
 * h2_server_run()), which counts as the server's thread. Functions may be called from any thread
 * unless they say otherwise. No callback runs inside a function of ours. Shutdown:
 * h2_server_stop(), then h2_server_destroy().
 *
 * Reading order: server.c, listener.c, connection.c, ping.c, request.c, call.c, answer.c; then what
 * they stand on: thread.c, memory.c, text.c. */
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

/* Numbers of gRPC that the server itself answers with. */
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
    /* A message of `size` bytes is over receive_bytes_max, and was or will be thrown away. The
     * handler answers with h2_call_finish(). */
    void (*on_too_large)(void *context, struct h2_call *call, uint64_t size);
    void *context;
};

struct h2_server_options {
    const char *address;        /* host:port; port 0 picks one, see h2_server_port() */
    uint32_t receive_bytes_max; /* of a message, also when unpacked */
    /* Larger messages up to this are taken and thrown away before their call is answered, since
     * some clients look at no answer while they write; beyond it they are answered at once. */
    uint32_t discard_bytes_max;
    uint32_t metadata_bytes_max; /* of all request headers */
    uint32_t streams_max;        /* of a connection */
    uint32_t connections_max;    /* for one more, the one that is idle longest is closed */
    uint32_t waiting_max;     /* calls that wait for their message; for one more, the oldest ends */
    uint32_t message_wait_ms; /* from a call's begin, or a message's, to the whole message */
    uint32_t keepalive_ms;    /* our own pings */
    uint32_t ping_interval_min_ms;     /* clients may ping this often, with or without calls */
    struct budget *memory;             /* NULL: without a limit */
    const struct h2_status *no_memory; /* how a call ends that finds none; outlives the server */
};

/* Listens on exactly that address, and starts the thread. Calls may arrive before it returns.
 * Errors: ERR_BUSY (cannot listen; `error` says why), ERR_NOMEM, ERR_IO. */
int h2_server_create(const struct h2_server_options *options,
                     const struct h2_server_handler *handler, struct listen_fault *fault,
                     struct h2_server **out);
int h2_server_port(const struct h2_server *server);
bool h2_server_is_current(const struct h2_server *server);
/* Takes no new connections and sends GOAWAY; calls that arrive before the client has read it are
 * still served, and running ones go on. Returns at once. */
void h2_server_close(struct h2_server *server);
/* Ends the sending side of all connections (a FIN), and sends nothing any more: the client's calls
 * end with UNAVAILABLE there. For a process that is about to end. Returns at once. */
void h2_server_hang_up(struct h2_server *server);
/* Closes, waits up to grace_ms for running calls, and ends the rest. Posts still run. Blocks; not
 * from the server's thread. */
void h2_server_stop(struct h2_server *server, uint32_t grace_ms);
/* After h2_server_stop(), and when nobody posts any more. Accepts NULL. */
void h2_server_destroy(struct h2_server *server);

/* Something to do on the server's thread; in the object that it is about. */
struct h2_post {
    struct list link;
    void (*run)(struct h2_post *post);
};

/* Runs `post->run(post)` once, soon. It may be posted again when it runs. */
void h2_server_post(struct h2_server *server, struct h2_post *post);
/* The same, or at once on this thread when the server has few calls and its thread sleeps: that
 * saves a lonely call from waiting until another thread is woken. The caller holds no lock, and may
 * be kept for the time of a small send(2). */
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
    /* The message given to h2_call_send() is gone, and the connection has nothing else to write:
     * the next may be sent. May be NULL for calls that never send. */
    void (*on_sent)(struct h2_call *call, void *context);
    /* The turn that h2_call_ask_turn() asked for. May be NULL for calls that never ask. */
    void (*on_turn)(struct h2_call *call, void *context);
    /* Always, once, and last: the call is over (finished, cancelled by the client, deadline passed,
     * connection lost). The context may be freed; a reference held on the call must still be
     * dropped. */
    void (*on_closed)(struct h2_call *call, bool is_cancelled, void *context);
    void *context;
    /* The request is whole at the half-close, which message_wait_ms counts to; else at the first
     * message. */
    bool ends_with_half_close;
};

/* These are valid as long as a reference is held. */
const char *h2_call_path(const struct h2_call *call);
/* Monotonic; UINT64_MAX when the client set none. */
uint64_t h2_call_deadline_ns(const struct h2_call *call);
/* The first value of `key`; data NULL when absent. */
struct bytes h2_call_metadata(const struct h2_call *call, const char *key);
/* Open calls of its connection, itself among them. Server's thread. */
uint32_t h2_call_neighbours(const struct h2_call *call);

/* Events begin to flow. In on_call only (CHECKed). No message is read before h2_call_receive(). */
void h2_call_accept(struct h2_call *call, const struct h2_call_events *events);
/* Reads one more message. At most one receive is outstanding (CHECKed). Server's thread. */
void h2_call_receive(struct h2_call *call);
/* Sends the response headers now, if not sent yet: the client sees the stream as established. */
void h2_call_send_headers(struct h2_call *call);
/* Sends one message; at most one at a time: wait for on_sent (CHECKed). Copies `message`.
 * Errors: ERR_CLOSED when the call is over, ERR_FULL (memory; the call has been ended), ERR_NOMEM.
 */
int h2_call_send(struct h2_call *call, struct bytes message);
/* The same without a copy: `release(owner)` is called once, on any thread, when the bytes are not
 * needed any more; also on error. */
int h2_call_send_shared(struct h2_call *call, struct bytes message, void (*release)(void *owner),
                        void *owner);
/* Ends the call: later calls do nothing, and of the events only on_closed is still to come. When
 * several threads finish, the first wins. With `message` (may be NULL) as the unary answer. If a
 * send is outstanding the status follows it. Copies everything. */
void h2_call_finish(struct h2_call *call, const struct bytes *message,
                    const struct h2_status *status);
/* Asks for a turn of its connection: on_turn comes when the connection has written all it had, for
 * at most H2_TURNS_MAX calls at a time, until each has said h2_call_end_turn(). What a call reads
 * from the disk in its turn is memory that a client who does not read cannot pile up.
 * Server's thread. */
void h2_call_ask_turn(struct h2_call *call);
void h2_call_end_turn(struct h2_call *call);
/* References keep the object (not the call) alive for other threads. */
void h2_call_ref(struct h2_call *call);
void h2_call_unref(struct h2_call *call);

#define H2_TURNS_MAX 4

#endif
