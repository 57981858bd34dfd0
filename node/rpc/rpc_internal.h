/* What the files of this module share. */
#ifndef RAFTOGRAM_RPC_INTERNAL_H
#define RAFTOGRAM_RPC_INTERNAL_H

#include "rpc/rpc.h"

#include <grpc/byte_buffer.h>
#include <grpc/slice.h>
#include <grpc/support/time.h>
#include <stdbool.h>

/* gRPC is not instrumented. These marks tell ThreadSanitizer that writes before the start of an
 * operation are visible after its completion. */
#if defined(__SANITIZE_THREAD__)
#define RPC_TSAN 1
#elif defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define RPC_TSAN 1
#endif
#endif
#ifdef RPC_TSAN
#include <sanitizer/tsan_interface.h>
#define RPC_TSAN_RELEASE(address) __tsan_release(address)
#define RPC_TSAN_ACQUIRE(address) __tsan_acquire(address)
#else
#define RPC_TSAN_RELEASE(address) ((void)(address))
#define RPC_TSAN_ACQUIRE(address) ((void)(address))
#endif

/* What a completion queue returns. Embedded in the operation's object, which CONTAINER_OF()
 * finds. */
struct rpc_tag {
    void (*fn)(struct rpc_tag *tag, bool is_ok);
};

grpc_completion_queue *rpc_loop_queue(struct rpc_loop *loop);
bool rpc_loop_is_current(const struct rpc_loop *loop);

/* Converts times. clock.h and gRPC's monotonic clock are the same clock. UINT64_MAX: never. */
gpr_timespec rpc_timespec(uint64_t monotonic_ns);
uint64_t rpc_timespec_ns(gpr_timespec time);

/* A received message as one run of bytes: in place if it is one uncompressed slice, else joined and
 * decompressed. */
struct rpc_message {
    struct bytes bytes;
    struct buf joined;
};

/* The bytes are valid until rpc_message_finish() and as long as `buffer`. `buffer` NULL gives data
 * NULL; an empty message has data that is not NULL. A failed init owes no finish. Errors: ERR_FULL
 * (more than bytes_max), ERR_CORRUPT (cannot be decompressed), ERR_NOMEM. */
int rpc_message_init(struct rpc_message *message, grpc_byte_buffer *buffer, size_t bytes_max);
void rpc_message_finish(struct rpc_message *message);
/* Returns the status of a call whose message failed. */
struct rpc_status rpc_message_status(int error);
/* Returns a buffer of one slice with a copy of `bytes`. */
grpc_byte_buffer *rpc_buffer_of_bytes(struct bytes bytes);

grpc_slice rpc_slice_of_bytes(struct bytes bytes);
/* Returns a view into `slice`, which must not move. */
struct bytes rpc_bytes_of_slice(const grpc_slice *slice);
/* Returns the first value of `key`; data NULL if absent. */
struct bytes rpc_metadata_find(const grpc_metadata_array *array, const char *key);
/* Copies a key and a value. Returns false if gRPC would refuse them. */
bool rpc_metadata_copy(const struct rpc_metadata *from, grpc_metadata *to);
void rpc_metadata_unref(grpc_metadata *metadata, size_t count);

/* Sent by rpc_call_send_headers(), so that the client can distinguish an open stream from one that
 * was refused by trailers alone. gRPC reports empty initial metadata for both. */
#define RPC_HEADERS_MARK "raftogram-stream"

/* Arguments for a server or a channel. */
#define RPC_ARGS_MAX 20

struct rpc_args {
    grpc_arg list[RPC_ARGS_MAX];
    size_t count;
};

/* `key` must outlive `args`. */
void rpc_args_add(struct rpc_args *args, const char *key, uint32_t value);
/* `key` and `value` must outlive `args`. */
void rpc_args_add_text(struct rpc_args *args, const char *key, const char *value);
/* Adds what servers and channels have in common. */
void rpc_args_add_common(struct rpc_args *args, uint32_t receive_bytes_max);
/* Adds pings, with and without calls; 0: none. */
void rpc_args_add_keepalive(struct rpc_args *args, uint32_t keepalive_ms);

/* Adds the addresses of `text`. `port` is that of the first. Errors: ERR_BUSY, ERR_ACCESS,
 * ERR_INVALID, see `fault`. */
int rpc_bind(grpc_server *server, const char *text, int *port, struct listen_fault *fault);

/* Notes whether a port is for other nodes (accept.c). */
void rpc_accept_note(int port, bool is_for_peers);

/* Calls report to their server; on the loop's thread. */
grpc_server *rpc_server_grpc(struct rpc_server *server);
/* Returns the status of a call beyond calls_max. */
const struct rpc_status *rpc_server_busy(const struct rpc_server *server);
struct rpc_loop *rpc_server_loop(struct rpc_server *server);
uint32_t rpc_server_receive_bytes_max(const struct rpc_server *server);
/* Notes that a slot (a request for the next call) completed, with a call or because the server
 * ends. Returns false if the call exceeds calls_max. */
bool rpc_server_slot_taken(struct rpc_server *server, bool has_call);
void rpc_server_handle(struct rpc_server *server, struct rpc_call *call);
/* Called as the last use of the server by a call. */
void rpc_server_call_over(struct rpc_server *server);
/* Asks gRPC for one more call. Errors: ERR_NOMEM. */
int rpc_call_request(struct rpc_server *server);

/* Functions for calls of a channel. */
uint32_t rpc_channel_receive_bytes_max(const struct rpc_channel *channel);
grpc_call *rpc_channel_call_begin(struct rpc_channel *channel, const char *path,
                                  uint64_t deadline_ns);
/* Called as the last use of the channel by a call. */
void rpc_channel_call_over(struct rpc_channel *channel);

#endif
