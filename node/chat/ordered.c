/* The skip list behind ordered.h. */
#include "chat/ordered.h"

#include "base/check.h"
#include "base/checksum.h"

#include <string.h>

int bytes_compare(struct bytes a, struct bytes b)
{
    size_t common = a.size < b.size ? a.size : b.size;
    int order = common > 0 ? memcmp(a.data, b.data, common) : 0;
    return order != 0 ? order : (a.size > b.size) - (a.size < b.size);
}

/* Returns the number of levels of a key: 1, and each further one with probability 1/4. */
static unsigned height_of(struct bytes key)
{
    uint64_t hash = checksum64(key.data, key.size);
    unsigned height = 1;
    while (height < ORDERED_LEVELS && (hash & 3) == 0) {
        hash >>= 2;
        height++;
    }
    return height;
}

/* Finds, for each level, the link that points to the first node with a key >= `key`. */
static void find_links(struct ordered *ordered, struct bytes key,
                       struct ordered_node **links[ORDERED_LEVELS])
{
    struct ordered_node **level_links = ordered->head;
    for (unsigned level = ORDERED_LEVELS; level-- > 0;) {
        while (level_links[level] != NULL && bytes_compare(level_links[level]->key, key) < 0) {
            level_links = level_links[level]->next;
        }
        links[level] = &level_links[level];
    }
}

void ordered_insert(struct ordered *ordered, struct ordered_node *node)
{
    struct ordered_node **links[ORDERED_LEVELS];
    find_links(ordered, node->key, links);
    CHECK(*links[0] == NULL || !bytes_equal((*links[0])->key, node->key));
    unsigned height = height_of(node->key);
    for (unsigned level = 0; level < ORDERED_LEVELS; level++) {
        node->next[level] = NULL;
        if (level < height) {
            node->next[level] = *links[level];
            *links[level] = node;
        }
    }
}

void ordered_remove(struct ordered *ordered, struct ordered_node *node)
{
    struct ordered_node **links[ORDERED_LEVELS];
    find_links(ordered, node->key, links);
    CHECK(*links[0] == node);
    for (unsigned level = 0; level < ORDERED_LEVELS && *links[level] == node; level++) {
        *links[level] = node->next[level];
    }
}

struct ordered_node *ordered_seek(const struct ordered *ordered, struct bytes from,
                                  bool is_exclusive)
{
    struct ordered_node *const *links = ordered->head;
    for (unsigned level = ORDERED_LEVELS; level-- > 0;) {
        while (links[level] != NULL && bytes_compare(links[level]->key, from) < 0) {
            links = links[level]->next;
        }
    }
    struct ordered_node *node = links[0];
    if (node != NULL && is_exclusive && bytes_equal(node->key, from)) {
        node = node->next[0];
    }
    return node;
}

struct ordered_node *ordered_find(const struct ordered *ordered, struct bytes key)
{
    struct ordered_node *node = ordered_seek(ordered, key, false);
    return node != NULL && bytes_equal(node->key, key) ? node : NULL;
}
