/* The pages most recently read from memory. All readers at the same position of a channel share
 * one page and its encodings. Bounded by count and by bytes. Called with the chat's lock held,
 * unless a function says otherwise. */
#ifndef RAFTOGRAM_CHAT_PAGES_H
#define RAFTOGRAM_CHAT_PAGES_H

#include "base/list.h"
#include "chat/page.h"

#define PAGES_MAX 64
#define PAGES_BYTES_MAX (8u << 20) /* of the messages in them */

struct cached_page;

struct pages {
    struct cached_page *by_position;
    struct list recent;  /* the most recently used at the end */
    struct list dropped; /* to be freed outside the lock: a page may be large */
    size_t count;
    size_t bytes;
};

/* Without the lock. */
void pages_init(struct pages *pages);
void pages_finish(struct pages *pages);
/* Returns a new reference to a page that is still current: it was cut by a limit, or it reaches
 * the channel's end, `last_sequence`. NULL: no such page; read it again. */
struct message_page *pages_find(struct pages *pages, uint64_t channel_number,
                                uint64_t after_sequence, size_t limit, uint64_t last_sequence);
/* Keeps its own reference, and replaces an outdated page at the position. Without memory the
 * page is not shared. */
void pages_put(struct pages *pages, uint64_t channel_number, size_t limit,
               struct message_page *page);
/* Moves the pages that the calls above dropped to the end of `out`. */
void pages_take_dropped(struct pages *pages, struct list *out);
/* Without the lock. */
void pages_free_dropped(struct list *dropped);

#endif
