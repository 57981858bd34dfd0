/* What the targets that speak gRPC share: connections, a call that is repeated until it succeeds,
 * and what a status means. */
#ifndef RAFTOGRAM_BENCH_GRPC_CLIENT_H
#define RAFTOGRAM_BENCH_GRPC_CLIENT_H

#include "bench/load.h"
#include "bench/operation.h"
#include "bench/options.h"
#include "rpc/rpc.h"

struct grpc_client;

/* Creates `connections` channels to each of the options' addresses, on one loop. Errors: ERR_NOMEM,
 * ERR_IO. */
int grpc_client_open(const struct options *options, uint32_t connections, struct grpc_client **out);
/* Requires that all calls are over and released. */
void grpc_client_close(struct grpc_client *client);
size_t grpc_client_channel_count(const struct grpc_client *client);
/* Returns the channel for operation `number`: one after the other, the addresses in turn. */
struct rpc_channel *grpc_client_channel(const struct grpc_client *client, uint64_t number);

/* Repeats the call, over every channel in turn, until one answers OK. Errors: ERR_TIMEOUT. */
int grpc_client_call_until_ok(const struct grpc_client *client, const char *path,
                              struct bytes request, uint64_t deadline_ns);
/* Creates a channel of the Messenger. Errors: ERR_TIMEOUT. */
int grpc_client_create_channel(const struct grpc_client *client, const char *channel_id,
                               uint64_t deadline_ns);

/* Classifies a status of our services. */
enum outcome grpc_client_outcome(const struct rpc_result *result);
/* Writes "status CODE: text". */
void grpc_client_explain(int code, const char *text, char out[LOAD_TEXT_BYTES]);

#endif
