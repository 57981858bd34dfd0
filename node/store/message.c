/* A message in memory: one allocation for its header and its three byte fields. */
#include "store/message.h"

#include "base/check.h"
#include "base/references.h"

#include <stdlib.h>
#include <string.h>

/* Upper bound of what protobuf adds around the three byte fields of a message: two 64-bit varints,
 * five tags and four lengths. So 1 MiB of messages is at most 1 MiB on the wire. */
enum { FRAMING_BYTES = 40 };

static uint8_t *put(uint8_t *at, struct bytes bytes)
{
    if (bytes.size > 0) {
        memcpy(at, bytes.data, bytes.size);
    }
    return at + bytes.size;
}

struct message *message_create(uint64_t sequence, int64_t timestamp_ms, struct bytes author_id,
                               struct bytes client_message_id, struct bytes payload)
{
    CHECK(author_id.size <= UINT32_MAX);
    CHECK(client_message_id.size <= UINT32_MAX);
    CHECK(payload.size <= UINT32_MAX);
    struct message *message =
        malloc(sizeof(*message) + author_id.size + client_message_id.size + payload.size);
    if (message == NULL) {
        return NULL;
    }
    atomic_init(&message->references, 1);
    message->sequence = sequence;
    message->timestamp_ms = timestamp_ms;
    message->author_size = (uint32_t)author_id.size;
    message->client_id_size = (uint32_t)client_message_id.size;
    message->payload_size = (uint32_t)payload.size;
    put(put(put(message->data, author_id), client_message_id), payload);
    return message;
}

struct message *message_ref(struct message *message)
{
    atomic_fetch_add_explicit(&message->references, 1, memory_order_relaxed);
    return message;
}

void message_unref(struct message *message)
{
    if (message != NULL && references_drop(&message->references)) {
        free(message);
    }
}

struct bytes message_author_id(const struct message *message)
{
    return (struct bytes){message->data, message->author_size};
}

struct bytes message_client_id(const struct message *message)
{
    return (struct bytes){message->data + message->author_size, message->client_id_size};
}

struct bytes message_payload(const struct message *message)
{
    return (struct bytes){message->data + message->author_size + message->client_id_size,
                          message->payload_size};
}

size_t message_page_bytes(const struct message *message)
{
    return (size_t)message->author_size + message->client_id_size + message->payload_size +
           FRAMING_BYTES;
}
