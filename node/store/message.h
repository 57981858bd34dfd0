/* A stored message: immutable, shared between threads by reference counting. */
#ifndef RAFTOGRAM_STORE_MESSAGE_H
#define RAFTOGRAM_STORE_MESSAGE_H

#include "base/buf.h"

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

struct message {
    atomic_uint references;
    uint64_t sequence;
    int64_t timestamp_ms;
    uint32_t author_size;
    uint32_t client_id_size;
    uint32_t payload_size;
    uint8_t data[]; /* author id, client message id, payload */
};

/* Creates a message with one reference. NULL: out of memory. */
struct message *message_create(uint64_t sequence, int64_t timestamp_ms, struct bytes author_id,
                               struct bytes client_message_id, struct bytes payload);
struct message *message_ref(struct message *message);
void message_unref(struct message *message); /* accepts NULL */
struct bytes message_author_id(const struct message *message);
struct bytes message_client_id(const struct message *message);
struct bytes message_payload(const struct message *message);
/* Returns the bytes that count against a page's 1 MiB: its fields, and a constant for framing. */
size_t message_page_bytes(const struct message *message);

#endif
