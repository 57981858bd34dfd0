/* The channel arguments that servers and channels have in common. */
#include "base/check.h"
#include "base/unconst.h"
#include "rpc/rpc_internal.h"

/* Time after a ping without an answer until the peer is considered gone. */
#define KEEPALIVE_TIMEOUT_MS_MIN 500

void rpc_args_add(struct rpc_args *args, const char *key, uint32_t value)
{
    CHECK(args->count < RPC_ARGS_MAX);
    grpc_arg *arg = &args->list[args->count++];
    arg->type = GRPC_ARG_INTEGER;
    arg->key = unconst(key); /* gRPC only reads it */
    arg->value.integer = value > INT32_MAX ? INT32_MAX : (int)value;
}

void rpc_args_add_text(struct rpc_args *args, const char *key, const char *value)
{
    CHECK(args->count < RPC_ARGS_MAX);
    grpc_arg *arg = &args->list[args->count++];
    arg->type = GRPC_ARG_STRING;
    arg->key = unconst(key); /* gRPC only reads them */
    arg->value.string = unconst(value);
}

void rpc_args_add_common(struct rpc_args *args, uint32_t receive_bytes_max)
{
    rpc_args_add(args, GRPC_ARG_ENABLE_CHANNELZ, 0);
    rpc_args_add(args, GRPC_ARG_MAX_RECEIVE_MESSAGE_LENGTH, receive_bytes_max);
    /* rpc_message_init() decompresses, within bounds. */
    rpc_args_add(args, GRPC_ARG_ENABLE_PER_MESSAGE_DECOMPRESSION, 0);
}

void rpc_args_add_keepalive(struct rpc_args *args, uint32_t keepalive_ms)
{
    rpc_args_add(args, GRPC_ARG_KEEPALIVE_PERMIT_WITHOUT_CALLS, 1);
    if (keepalive_ms == 0) {
        return;
    }
    rpc_args_add(args, GRPC_ARG_KEEPALIVE_TIME_MS, keepalive_ms);
    rpc_args_add(args, GRPC_ARG_KEEPALIVE_TIMEOUT_MS,
                 keepalive_ms < KEEPALIVE_TIMEOUT_MS_MIN ? KEEPALIVE_TIMEOUT_MS_MIN : keepalive_ms);
    rpc_args_add(args, GRPC_ARG_HTTP2_MAX_PINGS_WITHOUT_DATA, 0);
}
