/* What raftogram-bench can put under load, each as a struct target. `options` outlives it. */
#ifndef RAFTOGRAM_BENCH_TARGETS_H
#define RAFTOGRAM_BENCH_TARGETS_H

#include "bench/load.h"
#include "bench/operation.h"
#include "bench/options.h"

enum grpc_work {
    GRPC_SEND,
    GRPC_HISTORY,
    GRPC_KV_READ,
    GRPC_ETCD_PUT,
    GRPC_ETCD_RANGE,
};

/* Unary gRPC calls, to our nodes or to etcd. Errors: ERR_NOMEM, ERR_IO. */
int grpc_target_create(const struct options *options, enum grpc_work work, struct target **out);

enum nats_work {
    NATS_JETSTREAM, /* a stream of three replicas; done when the ack comes */
    NATS_CORE,      /* done as soon as sent: nothing is stored, and nobody acknowledges */
};

/* NATS's own protocol over TCP. Errors: ERR_NOMEM, ERR_IO. */
int nats_target_create(const struct options *options, enum nats_work work, struct target **out);

/* SendMessage over WebSocket. Errors: ERR_NOMEM, ERR_IO. */
int websocket_target_create(const struct options *options, struct target **out);

/* What every fan-out run tells beside the load's own result. */
struct fanout_result {
    struct histogram delivery; /* from when a message was due to each subscriber's receiving it */
    uint64_t delivered;        /* within the measured time */
    uint64_t surplus;          /* deliveries of a message that was complete: duplicates */
    uint32_t lost_connections; /* subscribers that were cut off */
};

struct fanout;

/* Subscribers over WebSocket, to our nodes (`is_nats` false) or to NATS. The target that it is
 * publishes one message for each operation, which is done when every subscriber has it. Keeps
 * `publisher` (takes it over, also on error). Errors: ERR_NOMEM, ERR_IO. */
int fanout_create(const struct options *options, bool is_nats, struct target *publisher,
                  struct fanout **out);
struct target *fanout_target(struct fanout *fanout);
/* Before load_run(): deliveries are counted in its window. */
void fanout_watch(struct fanout *fanout, const struct load *load);
/* After load_run(). */
const struct fanout_result *fanout_result(struct fanout *fanout);
/* Accepts NULL. */
void fanout_destroy(struct fanout *fanout);

#endif
