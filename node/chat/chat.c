#include "chat/chat.h"

#include "base/check.h"
#include "base/errors.h"
#include "chat/chat_internal.h"

#include <stdlib.h>

/* Holds any result, so that hashing one in apply cannot run out of memory. */
enum { SCRATCH_BYTES = 4096 };

static int read_stored_meta(struct store *store, struct store_meta *out)
{
    struct store_read *read = NULL;
    int rc = store->ops->read_begin(store, &read);
    if (rc != 0) {
        return rc;
    }
    rc = store->ops->read_meta(read, out);
    store->ops->read_end(read);
    return rc == 0 && out->config_size > STORE_CONFIG_BYTES_MAX ? ERR_CORRUPT : rc;
}

static int reserve_scratch(struct buf *scratch)
{
    buf_init(scratch, SCRATCH_BYTES);
    if (buf_extend(scratch, SCRATCH_BYTES) == NULL) {
        return ERR_NOMEM;
    }
    buf_reset(scratch);
    return 0;
}

int chat_create(struct store *store, struct chat **out)
{
    struct chat *chat = calloc(1, sizeof *chat);
    if (chat == NULL) {
        return ERR_NOMEM;
    }
    chat->store = store;
    int rc = read_stored_meta(store, &chat->durable);
    if (rc != 0) {
        goto free_chat;
    }
    rc = reserve_scratch(&chat->applier.scratch);
    if (rc != 0) {
        goto free_chat;
    }
    rc = hub_create(&chat->hub);
    if (rc != 0) {
        goto finish_scratch;
    }
    rc = overlay_init(&chat->overlay);
    if (rc != 0) {
        goto destroy_hub;
    }
    pages_init(&chat->pages);
    pthread_mutex_init(&chat->lock, NULL);
    pthread_cond_init(&chat->frozen, NULL);
    chat->published = chat->durable;
    chat->applier.working = chat->durable;
    atomic_store(&chat->applied, chat->durable.applied_index);
    atomic_store(&chat->durable_applied, chat->durable.applied_index);
    *out = chat;
    return 0;
destroy_hub:
    hub_destroy(chat->hub);
finish_scratch:
    buf_finish(&chat->applier.scratch);
free_chat:
    free(chat);
    return rc;
}

void chat_destroy(struct chat *chat)
{
    if (chat == NULL) {
        return;
    }
    CHECK(!chat->is_batch_open);
    CHECK(!chat->is_freeze_wanted);
    pages_finish(&chat->pages);
    overlay_finish(&chat->overlay);
    pthread_cond_destroy(&chat->frozen);
    pthread_mutex_destroy(&chat->lock);
    hub_destroy(chat->hub);
    buf_finish(&chat->applier.scratch);
    free(chat->applier.touched);
    free(chat);
}

uint64_t chat_applied(const struct chat *chat)
{
    return atomic_load_explicit(&chat->applied, memory_order_acquire);
}

uint64_t chat_durable_applied(const struct chat *chat)
{
    return atomic_load_explicit(&chat->durable_applied, memory_order_acquire);
}

/* Copies under the lock, which is no part of what const promises to leave alone. */
static void copy_meta(const struct chat *chat, const struct store_meta *from,
                      struct store_meta *out)
{
    pthread_mutex_t *lock = (pthread_mutex_t *)&chat->lock;
    pthread_mutex_lock(lock);
    *out = *from;
    pthread_mutex_unlock(lock);
}

void chat_get_meta(const struct chat *chat, struct store_meta *out)
{
    copy_meta(chat, &chat->published, out);
}

void chat_get_durable_meta(const struct chat *chat, struct store_meta *out)
{
    copy_meta(chat, &chat->durable, out);
}

bool chat_is_full(const struct chat *chat)
{
    return atomic_load_explicit(&chat->overlay.memory_bytes, memory_order_relaxed) >=
           CHAT_OVERLAY_BYTES_MAX;
}

static uint64_t read_counter(const atomic_uint_fast64_t *counter)
{
    return atomic_load_explicit(counter, memory_order_relaxed);
}

void chat_get_stats(const struct chat *chat, struct chat_stats *out)
{
    *out = (struct chat_stats){
        .overlay_bytes = atomic_load_explicit(&chat->overlay.memory_bytes, memory_order_relaxed),
        .generations_flushed = read_counter(&chat->generations_flushed),
        .dedupe_hits = read_counter(&chat->dedupe_hits),
        .messages_applied = read_counter(&chat->messages_applied),
        .tail_hits = read_counter(&chat->tail_hits),
        .tail_misses = read_counter(&chat->tail_misses),
    };
}

struct hub *chat_hub(struct chat *chat)
{
    return chat->hub;
}
