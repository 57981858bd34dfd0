/* The systems that raftogram-bench can load, each as a struct target. `options` must outlive the
 * target. */
#ifndef RAFTOGRAM_BENCH_TARGETS_H
#define RAFTOGRAM_BENCH_TARGETS_H

#include "bench/load.h"
#include "bench/operation.h"
#include "bench/options.h"

enum grpc_work {
    GRPC_SEND,
    GRPC_SEND_BATCH,
    GRPC_HISTORY,
    GRPC_KV_READ,
    GRPC_ETCD_PUT,
    GRPC_ETCD_RANGE,
};

/* Unary gRPC calls, to our nodes or to etcd. Errors: ERR_NOMEM, ERR_IO. */
int grpc_target_create(const struct options *options, enum grpc_work work, struct target **out);

/* Frames over Messenger.Publish: each operation is a frame, done when it is acknowledged. Errors:
 * ERR_NOMEM, ERR_IO. */
int publish_target_create(const struct options *options, struct target **out);

enum nats_work {
    NATS_JETSTREAM, /* a stream of three replicas; done when the ack comes */
    NATS_CORE,      /* done as soon as sent; nothing is stored or acknowledged */
};

/* The text protocol of NATS over TCP. Errors: ERR_NOMEM, ERR_IO. */
int nats_target_create(const struct options *options, enum nats_work work, struct target **out);

/* SendMessage over WebSocket. Errors: ERR_NOMEM, ERR_IO. */
int websocket_target_create(const struct options *options, struct target **out);

/* Results of a fan-out run besides the result of the load. */
struct fanout_result {
    /* From the due time of a message to its receipt by each subscriber. */
    struct histogram delivery;
    uint64_t delivered;        /* within the measured time */
    uint64_t surplus;          /* deliveries of a message that all subscribers had: duplicates */
    uint32_t lost_connections; /* subscribers that lost their connection */
};

struct fanout;

/* Creates subscribers over WebSocket to raftogram, or to NATS (`is_nats`). As a target it publishes
 * one message for each operation, which is done when every subscriber has the message. Takes
 * ownership of `publisher`, also on error. Errors: ERR_NOMEM, ERR_IO. */
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
