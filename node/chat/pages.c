/* The cache of pages, by channel, position and limit. */
#include "chat/pages.h"

#include "base/check.h"
#include "chat/hash_table.h"

#include <assert.h>
#include <stdlib.h>

struct position {
    uint64_t channel_number;
    uint64_t after_sequence;
    uint64_t limit;
};

static_assert(sizeof(struct position) == 24, "hashed as a whole: no padding");

struct cached_page {
    struct position position;
    struct message_page *page;
    size_t bytes;
    struct list recent_link;
    UT_hash_handle hh;
};

void pages_init(struct pages *pages)
{
    *pages = (struct pages){0};
    list_init(&pages->recent);
    list_init(&pages->dropped);
}

static void drop(struct pages *pages, struct cached_page *cached)
{
    HASH_DELETE(hh, pages->by_position, cached);
    list_remove(&cached->recent_link);
    list_push_back(&pages->dropped, &cached->recent_link);
    pages->count--;
    pages->bytes -= cached->bytes;
}

static void drop_oldest(struct pages *pages)
{
    CHECK(!list_is_empty(&pages->recent));
    drop(pages, LIST_ENTRY(pages->recent.next, struct cached_page, recent_link));
}

void pages_take_dropped(struct pages *pages, struct list *out)
{
    list_splice_back(out, &pages->dropped);
}

void pages_free_dropped(struct list *dropped)
{
    struct list *link = NULL;
    while ((link = list_pop_front(dropped)) != NULL) {
        struct cached_page *cached = LIST_ENTRY(link, struct cached_page, recent_link);
        page_unref(cached->page);
        free(cached);
    }
}

void pages_finish(struct pages *pages)
{
    while (pages->count > 0) {
        drop_oldest(pages);
    }
    pages_free_dropped(&pages->dropped);
}

static struct cached_page *find(const struct pages *pages, const struct position *position)
{
    struct cached_page *cached = NULL;
    HASH_FIND(hh, pages->by_position, position, sizeof(*position), cached);
    return cached;
}

struct message_page *pages_find(struct pages *pages, uint64_t channel_number,
                                uint64_t after_sequence, size_t limit, uint64_t last_sequence)
{
    struct position position = {channel_number, after_sequence, limit};
    struct cached_page *cached = find(pages, &position);
    if (cached == NULL) {
        return NULL;
    }
    if (!cached->page->has_more && cached->page->last_sequence != last_sequence) {
        drop(pages, cached);
        return NULL;
    }
    list_remove(&cached->recent_link);
    list_push_back(&pages->recent, &cached->recent_link);
    return page_ref(cached->page);
}

static size_t bytes_of(const struct message_page *page)
{
    size_t bytes = 0;
    for (size_t i = 0; i < page->count; i++) {
        bytes += message_page_bytes(page->messages[i]);
    }
    return bytes;
}

void pages_put(struct pages *pages, uint64_t channel_number, size_t limit,
               struct message_page *page)
{
    struct position position = {channel_number, page->after_sequence, limit};
    struct cached_page *outdated = find(pages, &position);
    if (outdated != NULL) {
        drop(pages, outdated);
    }
    struct cached_page *cached = calloc(1, sizeof(*cached));
    if (cached == NULL) {
        return;
    }
    cached->position = position;
    cached->bytes = bytes_of(page);
    HASH_ADD(hh, pages->by_position, position, sizeof(cached->position), cached);
    if (cached->hh.tbl == NULL) {
        free(cached);
        return;
    }
    cached->page = page_ref(page);
    list_push_back(&pages->recent, &cached->recent_link);
    pages->count++;
    pages->bytes += cached->bytes;
    while (pages->count > PAGES_MAX || (pages->bytes > PAGES_BYTES_MAX && pages->count > 1)) {
        drop_oldest(pages);
    }
}
