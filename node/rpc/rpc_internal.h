/* What the files of this room share. */
#ifndef RAFTOGRAM_RPC_INTERNAL_H
#define RAFTOGRAM_RPC_INTERNAL_H

#include "rpc/rpc.h"

#include <grpc/byte_buffer.h>
#include <grpc/slice.h>
#include <grpc/support/time.h>
#include <stdbool.h>

/* gRPC is not instrumented, so ThreadSanitizer does not see that what was done before a start is
 * visible after the completion. */
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

/* What a completion queue hands back: embedded in the object that the operation belongs to, which
 * CONTAINER_OF() finds again. */
struct rpc_tag {
    void (*fn)(struct rpc_tag *tag, bool is_ok);
};

grpc_completion_queue *rpc_loop_queue(struct rpc_loop *loop);
bool rpc_loop_is_current(const struct rpc_loop *loop);

/* Our clock and gRPC's monotonic clock are the same one. UINT64_MAX: never. */
gpr_timespec rpc_timespec(uint64_t monotonic_ns);
uint64_t rpc_timespec_ns(gpr_timespec time);

/* A received message as one run of bytes: in place when it came plain and in one slice, else joined
 * and decompressed. */
struct rpc_message {
    struct bytes bytes;
    struct buf joined;
};

/* The bytes are valid until rpc_message_finish() and as long as `buffer`. `buffer` NULL gives data
 * NULL; an empty message has data that is not NULL. A failed init owes no finish. Errors: ERR_FULL
 * (more than bytes_max), ERR_CORRUPT (cannot be decompressed), ERR_NOMEM. */
int rpc_message_init(struct rpc_message *message, grpc_byte_buffer *buffer, size_t bytes_max);
void rpc_message_finish(struct rpc_message *message);
/* How a call ends whose message failed. */
struct rpc_status rpc_message_status(int error);
/* A buffer of one slice with a copy of `bytes`. */
grpc_byte_buffer *rpc_buffer_of_bytes(struct bytes bytes);

grpc_slice rpc_slice_of_bytes(struct bytes bytes);
/* A view into `slice`, which must stay where it is. */
struct bytes rpc_bytes_of_slice(const grpc_slice *slice);
/* The first value of `key`; data NULL when absent. */
struct bytes rpc_metadata_find(const grpc_metadata_array *array, const char *key);
/* Copies. False if gRPC would refuse the key or the value. */
bool rpc_metadata_copy(const struct rpc_metadata *from, grpc_metadata *to);
void rpc_metadata_unref(grpc_metadata *metadata, size_t count);

/* rpc_call_send_headers() sends it, so that the client can tell an open stream from one that was
 * refused by trailers alone: gRPC reports empty initial metadata for both. */
#define RPC_HEADERS_MARK "raftogram-stream"

/* Arguments for a server or a channel. */
#define RPC_ARGS_MAX 20

struct rpc_args {
    grpc_arg list[RPC_ARGS_MAX];
    size_t count;
};

/* `key` must outlive `args`. */
void rpc_args_add(struct rpc_args *args, const char *key, uint32_t value);
/* So must `value`. */
void rpc_args_add_text(struct rpc_args *args, const char *key, const char *value);
/* What servers and channels have in common. */
void rpc_args_add_common(struct rpc_args *args, uint32_t receive_bytes_max);
/* Our own pings, with and without calls; 0: none. */
void rpc_args_add_keepalive(struct rpc_args *args, uint32_t keepalive_ms);

/* Adds what `text` stands for; `port` is the first's. Errors: ERR_BUSY, ERR_ACCESS, ERR_INVALID,
 * with `fault`. */
int rpc_bind(grpc_server *server, const char *text, int *port, struct listen_fault *fault);

/* Whether connections to this port are the other nodes' (accept.c). */
void rpc_accept_note(int port, bool is_for_peers);

/* Calls report to their server; on the loop's thread. */
grpc_server *rpc_server_grpc(struct rpc_server *server);
/* What a call beyond calls_max hears. */
const struct rpc_status *rpc_server_busy(const struct rpc_server *server);
struct rpc_loop *rpc_server_loop(struct rpc_server *server);
uint32_t rpc_server_receive_bytes_max(const struct rpc_server *server);
/* A slot (a request for the next call) came back, with a call or because the server ends. A call
 * for which it returns false is one too many. */
bool rpc_server_slot_taken(struct rpc_server *server, bool has_call);
void rpc_server_handle(struct rpc_server *server, struct rpc_call *call);
/* The last that a call does with its server. */
void rpc_server_call_over(struct rpc_server *server);
/* Asks gRPC for one more call. Errors: ERR_NOMEM. */
int rpc_call_request(struct rpc_server *server);

/* Calls of a channel. */
uint32_t rpc_channel_receive_bytes_max(const struct rpc_channel *channel);
grpc_call *rpc_channel_call_begin(struct rpc_channel *channel, const char *path,
                                  uint64_t deadline_ns);
/* The last that a call does with its channel. */
void rpc_channel_call_over(struct rpc_channel *channel);

#endif
