/* An intrusive map ordered by bytes (a skip list). The overlay uses it where a range is read in
 * order and merged with the store's. Zeroed memory is a valid empty map. It has no lock.
 *
 * A node's height comes from its key's hash, not from chance: equal contents have equal shapes. */
#ifndef RAFTOGRAM_CHAT_ORDERED_H
#define RAFTOGRAM_CHAT_ORDERED_H

#include "base/buf.h"

#include <stdbool.h>

#define ORDERED_LEVELS 10 /* a quarter of the nodes at each level: good for a million */

struct ordered_node {
    struct bytes key; /* the owner's; unchanged while in the map */
    struct ordered_node *next[ORDERED_LEVELS];
};

struct ordered {
    struct ordered_node *head[ORDERED_LEVELS];
};

/* Less than, equal to or greater than 0, bytewise; a prefix sorts first. */
int bytes_compare(struct bytes a, struct bytes b);

/* The node's key must be set and not be in the map. */
void ordered_insert(struct ordered *ordered, struct ordered_node *node);
/* The node must be in the map. */
void ordered_remove(struct ordered *ordered, struct ordered_node *node);
/* NULL when there is none. */
struct ordered_node *ordered_find(const struct ordered *ordered, struct bytes key);
/* The first node with a key >= `from`, or > `from` when is_exclusive; NULL at the end. */
struct ordered_node *ordered_seek(const struct ordered *ordered, struct bytes from,
                                  bool is_exclusive);

static inline struct ordered_node *ordered_first(const struct ordered *ordered)
{
    return ordered->head[0];
}

static inline struct ordered_node *ordered_next(const struct ordered_node *node)
{
    return node->next[0];
}

#endif
