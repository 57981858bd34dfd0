/* Encodes the requests of the operations. */
#include "bench/requests.h"

#include "base/check.h"
#include "base/clock.h"
#include "base/unconst.h"

#include <raftogram/v1/messaging.pb-c.h>
#include <stdio.h>

struct request_ids request_ids_of_run(void)
{
    return (struct request_ids){clock_monotonic_ns(clock_system()) / NS_PER_MS};
}

void request_make_id(const struct request_ids *ids, uint64_t number, char out[REQUEST_ID_BYTES + 1])
{
    snprintf(out, REQUEST_ID_BYTES + 1, "%05llx%07llx", (unsigned long long)(ids->run & 0xfffff),
             (unsigned long long)(number & 0xfffffff));
}

void request_append(struct buf *out, const ProtobufCMessage *message)
{
    uint8_t *room = buf_extend(out, protobuf_c_message_get_packed_size(message));
    CHECK(room != NULL);
    protobuf_c_message_pack(message, room);
}

/* The messages of one operation. They share their payload. */
struct batch {
    Raftogram__V1__SendMessageRequest messages[MESSAGES_PER_OPERATION_MAX];
    Raftogram__V1__SendMessageRequest *list[MESSAGES_PER_OPERATION_MAX];
    char ids[MESSAGES_PER_OPERATION_MAX][REQUEST_ID_BYTES + 1];
    char payload[PAYLOAD_BYTES_MAX];
};

static void fill(struct batch *batch, const struct options *options, const struct request_ids *ids,
                 const struct operation *operation)
{
    payload_fill(batch->payload, options->payload_bytes, operation);
    for (uint32_t i = 0; i < options->messages_per_operation; i++) {
        Raftogram__V1__SendMessageRequest *message = &batch->messages[i];
        raftogram__v1__send_message_request__init(message);
        message->channel_id = unconst(options->channel);
        message->author_id = unconst("bench");
        message->payload.data = (uint8_t *)batch->payload;
        message->payload.len = options->payload_bytes;
        if (!options->is_without_ids) {
            uint64_t number = operation->number * options->messages_per_operation + i;
            request_make_id(ids, number, batch->ids[i]);
            message->client_message_id = batch->ids[i];
        }
        batch->list[i] = message;
    }
}

void request_send(const struct options *options, const struct request_ids *ids,
                  const struct operation *operation, struct buf *out)
{
    struct batch batch;
    fill(&batch, options, ids, operation);
    request_append(out, &batch.messages[0].base);
}

void request_send_batch(const struct options *options, const struct request_ids *ids,
                        const struct operation *operation, struct buf *out)
{
    struct batch batch;
    fill(&batch, options, ids, operation);
    Raftogram__V1__SendMessagesRequest request = RAFTOGRAM__V1__SEND_MESSAGES_REQUEST__INIT;
    request.messages = batch.list;
    request.n_messages = options->messages_per_operation;
    request_append(out, &request.base);
}

void request_frame(const struct options *options, const struct request_ids *ids,
                   const struct operation *operation, uint64_t frame, struct buf *out)
{
    struct batch batch;
    fill(&batch, options, ids, operation);
    Raftogram__V1__PublishRequest request = RAFTOGRAM__V1__PUBLISH_REQUEST__INIT;
    request.frame = frame;
    request.messages = batch.list;
    request.n_messages = options->messages_per_operation;
    request_append(out, &request.base);
}
