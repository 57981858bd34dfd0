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

void request_send(const struct options *options, const struct request_ids *ids,
                  const struct operation *operation, struct buf *out)
{
    char payload[PAYLOAD_BYTES_MAX];
    char id[REQUEST_ID_BYTES + 1];
    payload_fill(payload, options->payload_bytes, operation);
    request_make_id(ids, operation->number, id);
    Raftogram__V1__SendMessageRequest request = RAFTOGRAM__V1__SEND_MESSAGE_REQUEST__INIT;
    request.channel_id = unconst(options->channel);
    request.author_id = unconst("bench");
    request.payload.data = (uint8_t *)payload;
    request.payload.len = options->payload_bytes;
    if (!options->is_without_ids) {
        request.client_message_id = id;
    }
    request_append(out, &request.base);
}
