/* A run of messages of one channel, immutable and shared between threads by reference counting. */
#ifndef RAFTOGRAM_CHAT_PAGE_H
#define RAFTOGRAM_CHAT_PAGE_H

#include "store/message.h"

#define PAGE_MESSAGES_MAX 1000
#define PAGE_BYTES_MAX (1u << 20)
#define PAGE_ENCODINGS_MAX 4

/* Consecutive messages of one channel, shared by all readers at the same position. A frontend
 * may keep an encoded form in a slot; it is created once. */
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
/* Returns the encoding in `slot`, and puts `encoding` there if the slot is empty. If another
 * thread was first, `encoding` is destroyed and the other one returned. NULL `encoding` only
 * looks. The page owns the result. */
struct page_encoding *page_encoding(struct message_page *page, unsigned slot,
                                    struct page_encoding *encoding);

#endif
