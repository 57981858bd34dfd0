/* A page in memory: the messages, and the encodings that frontends keep in its slots. */
#include "chat/page.h"

#include "base/check.h"
#include "base/references.h"

#include <stdlib.h>

struct message_page *page_create(size_t capacity)
{
    CHECK(capacity <= PAGE_MESSAGES_MAX);
    struct message_page *page = malloc(sizeof(*page) + capacity * sizeof(struct message *));
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
    if (page == NULL || !references_drop(&page->references)) {
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
