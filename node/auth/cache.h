/* Inside auth: principals by digest, bounded; the least recently used one makes room. Any thread.
 */
#ifndef RAFTOGRAM_AUTH_CACHE_H
#define RAFTOGRAM_AUTH_CACHE_H

#include "auth/auth.h"
#include "base/list.h"

#include <pthread.h>

#define AUTH_CACHE_BUCKETS 1024

struct auth_cache_entry;

struct auth_cache {
    pthread_mutex_t lock;
    size_t count;
    size_t entries_max;
    struct list used; /* the most recently used first */
    struct auth_cache_entry *buckets[AUTH_CACHE_BUCKETS];
};

/* Errors: ERR_NOMEM. A failed init owes no finish. */
int auth_cache_init(struct auth_cache *cache, size_t entries_max);
void auth_cache_finish(struct auth_cache *cache);

/* Returns a reference of the caller's; NULL: there is none, or it is expired and was removed. */
struct principal *auth_cache_get(struct auth_cache *cache, const uint8_t key[AUTH_DIGEST_BYTES],
                                 int64_t now_ms);
/* Keeps a reference of its own. Without memory it does nothing. */
void auth_cache_put(struct auth_cache *cache, const uint8_t key[AUTH_DIGEST_BYTES],
                    struct principal *principal);

#endif
