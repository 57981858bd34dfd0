/* A stored message: immutable, shared between threads by reference counting. */
#ifndef RAFTOGRAM_CHAT_MESSAGE_H
#define RAFTOGRAM_CHAT_MESSAGE_H

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

/* With one reference. NULL when there is no memory. */
struct message *message_create(uint64_t sequence, int64_t timestamp_ms, struct bytes author_id,
                               struct bytes client_message_id, struct bytes payload);
struct message *message_ref(struct message *message);
void message_unref(struct message *message); /* accepts NULL */
struct bytes message_author_id(const struct message *message);
struct bytes message_client_id(const struct message *message);
struct bytes message_payload(const struct message *message);
/* What it counts against a page's 1 MiB: its fields and a constant for framing. */
size_t message_page_bytes(const struct message *message);

#define PAGE_MESSAGES_MAX 1000
#define PAGE_BYTES_MAX (1u << 20)
#define PAGE_ENCODINGS_MAX 4

/* Consecutive messages of one channel, shared by all readers at the same position. A frontend may
 * keep an encoded form in a slot, made once. */
struct page_encoding {
    void (*destroy)(struct page_encoding *encoding);
    size_t size;
    void *data;
    size_t count; /* messages in it, from the first on: an encoding may be too long for all */
};

struct message_page {
    atomic_uint references;
    uint64_t after_sequence; /* the position that it was read from */
    uint64_t last_sequence;  /* of the last message in it; after_sequence when empty */
    bool has_more;           /* the channel had more when it was read */
    size_t count;
    _Atomic(struct page_encoding *) encodings[PAGE_ENCODINGS_MAX];
    struct message *messages[];
};

struct message_page *page_create(size_t capacity);
struct message_page *page_ref(struct message_page *page);
void page_unref(struct message_page *page); /* accepts NULL */
/* The encoding in `slot`; if another thread put one first, `encoding` is destroyed and that one
 * returned. NULL `encoding` only looks. Owned by the page. */
struct page_encoding *page_encoding(struct message_page *page, unsigned slot,
                                    struct page_encoding *encoding);

#endif
