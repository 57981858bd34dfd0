/* The cache of principals: a hash table with a list by last use. */
#include "auth/cache.h"

#include "base/buf.h"
#include "base/errors.h"

#include <stdlib.h>
#include <string.h>

struct auth_cache_entry {
    struct list used;
    struct auth_cache_entry *next; /* in the bucket */
    struct principal *principal;
    uint8_t key[AUTH_DIGEST_BYTES];
};

int auth_cache_init(struct auth_cache *cache, size_t entries_max)
{
    *cache = (struct auth_cache){.entries_max = entries_max};
    list_init(&cache->used);
    return pthread_mutex_init(&cache->lock, NULL) == 0 ? 0 : ERR_NOMEM;
}

/* Keys are digests: any of their bytes spread well. */
static struct auth_cache_entry **find(struct auth_cache *cache, const uint8_t *key)
{
    struct auth_cache_entry **place = &cache->buckets[load_u16(key) % AUTH_CACHE_BUCKETS];
    while (*place != NULL && memcmp((*place)->key, key, AUTH_DIGEST_BYTES) != 0) {
        place = &(*place)->next;
    }
    return place;
}

static void remove_at(struct auth_cache *cache, struct auth_cache_entry **place)
{
    struct auth_cache_entry *entry = *place;
    *place = entry->next;
    list_remove(&entry->used);
    cache->count--;
    principal_drop(entry->principal);
    free(entry);
}

void auth_cache_finish(struct auth_cache *cache)
{
    for (size_t i = 0; i < AUTH_CACHE_BUCKETS; i++) {
        while (cache->buckets[i] != NULL) {
            remove_at(cache, &cache->buckets[i]);
        }
    }
    pthread_mutex_destroy(&cache->lock);
}

struct principal *auth_cache_get(struct auth_cache *cache, const uint8_t key[AUTH_DIGEST_BYTES],
                                 int64_t now_ms)
{
    struct principal *found = NULL;
    pthread_mutex_lock(&cache->lock);
    struct auth_cache_entry **place = find(cache, key);
    if (*place != NULL && principal_is_expired((*place)->principal, now_ms)) {
        remove_at(cache, place);
    } else if (*place != NULL) {
        found = principal_keep((*place)->principal);
        list_remove(&(*place)->used);
        list_push_front(&cache->used, &(*place)->used);
    }
    pthread_mutex_unlock(&cache->lock);
    return found;
}

void auth_cache_put(struct auth_cache *cache, const uint8_t key[AUTH_DIGEST_BYTES],
                    struct principal *principal)
{
    struct auth_cache_entry *entry = calloc(1, sizeof(*entry));
    if (entry == NULL) {
        return;
    }
    memcpy(entry->key, key, AUTH_DIGEST_BYTES);
    pthread_mutex_lock(&cache->lock);
    struct auth_cache_entry **place = find(cache, key);
    if (*place != NULL) { /* another thread verified the same one */
        remove_at(cache, place);
    }
    if (cache->count == cache->entries_max) {
        struct auth_cache_entry *oldest =
            LIST_ENTRY(cache->used.prev, struct auth_cache_entry, used);
        remove_at(cache, find(cache, oldest->key));
    }
    entry->principal = principal_keep(principal);
    place = find(cache, key);
    entry->next = *place;
    *place = entry;
    list_push_front(&cache->used, &entry->used);
    cache->count++;
    pthread_mutex_unlock(&cache->lock);
}
