#include "chat/message.h"

#include "base/check.h"

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
        malloc(sizeof *message + author_id.size + client_message_id.size + payload.size);
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

/* True for whoever dropped the last reference. The acquire makes all that others did with the
 * object happen before it is freed. */
static bool drop_reference(atomic_uint *references)
{
    unsigned before = atomic_fetch_sub_explicit(references, 1, memory_order_acq_rel);
    CHECK(before != 0);
    return before == 1;
}

void message_unref(struct message *message)
{
    if (message != NULL && drop_reference(&message->references)) {
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

struct message_page *page_create(size_t capacity)
{
    CHECK(capacity <= PAGE_MESSAGES_MAX);
    struct message_page *page = malloc(sizeof *page + capacity * sizeof(struct message *));
    if (page == NULL) {
        return NULL;
    }
    atomic_init(&page->references, 1);
    page->after_sequence = 0;
    page->last_sequence = 0;
    page->has_more = false;
    page->count = 0;
    for (size_t i = 0; i < PAGE_ENCODINGS_MAX; i++) {
        atomic_init(&page->encodings[i], NULL);
    }
    return page;
}

struct message_page *page_ref(struct message_page *page)
{
    atomic_fetch_add_explicit(&page->references, 1, memory_order_relaxed);
    return page;
}

void page_unref(struct message_page *page)
{
    if (page == NULL || !drop_reference(&page->references)) {
        return;
    }
    for (size_t i = 0; i < PAGE_ENCODINGS_MAX; i++) {
        struct page_encoding *encoding =
            atomic_load_explicit(&page->encodings[i], memory_order_relaxed);
        if (encoding != NULL) {
            encoding->destroy(encoding);
        }
    }
    for (size_t i = 0; i < page->count; i++) {
        message_unref(page->messages[i]);
    }
    free(page);
}

struct page_encoding *page_encoding(struct message_page *page, unsigned slot,
                                    struct page_encoding *encoding)
{
    CHECK(slot < PAGE_ENCODINGS_MAX);
    struct page_encoding *first =
        atomic_load_explicit(&page->encodings[slot], memory_order_acquire);
    if (encoding == NULL) {
        return first;
    }
    if (first == NULL &&
        atomic_compare_exchange_strong_explicit(&page->encodings[slot], &first, encoding,
                                                memory_order_acq_rel, memory_order_acquire)) {
        return encoding;
    }
    encoding->destroy(encoding);
    return first;
}
