/* An intrusive doubly linked list: the links live in the elements, so that queueing allocates
 * nothing. A list head is a link whose neighbours are the first and the last element. */
#ifndef RAFTOGRAM_BASE_LIST_H
#define RAFTOGRAM_BASE_LIST_H

#include "base/container.h"

#include <stdbool.h>

struct list {
    struct list *prev;
    struct list *next;
};

/* Returns the element whose `member` is `link`. For what is no link of a list: CONTAINER_OF(). */
#define LIST_ENTRY(link, type, member) CONTAINER_OF(link, type, member)

static inline void list_init(struct list *list)
{
    list->prev = list;
    list->next = list;
}

static inline bool list_is_empty(const struct list *list)
{
    return list->next == list;
}

static inline void list_insert_after(struct list *link, struct list *position)
{
    link->prev = position;
    link->next = position->next;
    position->next->prev = link;
    position->next = link;
}

static inline void list_push_back(struct list *list, struct list *link)
{
    list_insert_after(link, list->prev);
}

static inline void list_push_front(struct list *list, struct list *link)
{
    list_insert_after(link, list);
}

/* Unlinks; the link may be removed again harmlessly. */
static inline void list_remove(struct list *link)
{
    link->prev->next = link->next;
    link->next->prev = link->prev;
    list_init(link);
}

/* The first link, removed; NULL when empty. */
static inline struct list *list_pop_front(struct list *list)
{
    struct list *link = list->next;
    if (link == list) {
        return NULL;
    }
    list_remove(link);
    return link;
}

/* Moves all elements of `from` to the end of `to`. */
static inline void list_splice_back(struct list *to, struct list *from)
{
    if (list_is_empty(from)) {
        return;
    }
    from->next->prev = to->prev;
    to->prev->next = from->next;
    from->prev->next = to;
    to->prev = from->prev;
    list_init(from);
}

/* The body must not remove `link` from the list. */
#define LIST_FOR_EACH(link, head) \
    for (struct list *link = (head)->next; link != (head); link = link->next)

#endif
