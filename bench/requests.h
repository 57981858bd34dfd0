/* The encoded requests of the Messenger that write. */
#ifndef RAFTOGRAM_BENCH_REQUESTS_H
#define RAFTOGRAM_BENCH_REQUESTS_H

#include "base/buf.h"
#include "bench/operation.h"
#include "bench/options.h"

#include <protobuf-c/protobuf-c.h>

#define REQUEST_ID_BYTES 12

/* Keeps the message ids of two runs apart. */
struct request_ids {
    uint64_t run;
};

struct request_ids request_ids_of_run(void);
/* Ids of runs differ in their first digits, those of one run's messages in the others. */
void request_make_id(const struct request_ids *ids, uint64_t number,
                     char out[REQUEST_ID_BYTES + 1]);

/* Appends any message, encoded. */
void request_append(struct buf *out, const ProtobufCMessage *message);
/* Appends the SendMessageRequest of `operation`. */
void request_send(const struct options *options, const struct request_ids *ids,
                  const struct operation *operation, struct buf *out);
/* Appends the SendMessagesRequest of `operation`: messages_per_operation messages. */
void request_send_batch(const struct options *options, const struct request_ids *ids,
                        const struct operation *operation, struct buf *out);
/* Appends frame number `frame` of a Publish with the messages of `operation`. */
void request_frame(const struct options *options, const struct request_ids *ids,
                   const struct operation *operation, uint64_t frame, struct buf *out);

#endif
