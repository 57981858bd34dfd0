/* The life of a chat, its store and its counters. */
#include "chat/chat.h"

#include "base/check.h"
#include "base/errors.h"
#include "chat/chat_internal.h"

#include <stdlib.h>

/* Room for the largest result, so that hashing one in apply cannot run out of memory. */
enum { SCRATCH_BYTES = COMMAND_MESSAGES_MAX * COMMAND_ITEM_BYTES + 4096 };

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

static struct chat_backing *backing_create(struct store *store)
{
    struct chat_backing *backing = calloc(1, sizeof(*backing));
    if (backing != NULL) {
        backing->store = store;
        backing->users = 1;
    }
    return backing;
}

int chat_create(struct store *store, struct chat **out)
{
    struct chat *chat = calloc(1, sizeof(*chat));
    if (chat == NULL) {
        return ERR_NOMEM;
    }
    chat->ops = store->ops;
    int rc = ERR_NOMEM;
    chat->backing = backing_create(store);
    if (chat->backing == NULL) {
        goto free_chat;
    }
    rc = read_stored_meta(store, &chat->durable);
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
    pthread_mutex_init(&chat->flush_lock, NULL);
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
    free(chat->backing);
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
    CHECK(chat->backing->users == 1);
    if (chat->is_store_ours) {
        chat->backing->store->ops->close(chat->backing->store);
    }
    free(chat->backing);
    pages_finish(&chat->pages);
    overlay_finish(&chat->overlay);
    pthread_cond_destroy(&chat->frozen);
    pthread_mutex_destroy(&chat->lock);
    pthread_mutex_destroy(&chat->flush_lock);
    hub_destroy(chat->hub);
    buf_finish(&chat->applier.scratch);
    free(chat->applier.touched);
    free(chat->applier.items);
    free(chat->applier.results);
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

/* Copies under the lock. The lock may be taken although the chat is const. */
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

bool chat_is_overfull(const struct chat *chat)
{
    return atomic_load_explicit(&chat->overlay.memory_bytes, memory_order_relaxed) >=
           CHAT_OVERLAY_BYTES_MAX + CHAT_OVERLAY_SLACK_BYTES;
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

/* ---- the store ---- */

struct store *chat_backing_store(const struct chat_backing *backing)
{
    return backing->store;
}

struct chat_backing *chat_hold_store(struct chat *chat)
{
    pthread_mutex_lock(&chat->lock);
    struct chat_backing *backing = chat->backing;
    backing->users++;
    pthread_mutex_unlock(&chat->lock);
    return backing;
}

void chat_release_store(struct chat *chat, struct chat_backing *backing)
{
    pthread_mutex_lock(&chat->lock);
    CHECK(backing->users > 0);
    bool is_last = --backing->users == 0;
    pthread_mutex_unlock(&chat->lock);
    if (!is_last) {
        return;
    }
    if (backing->has_overlay) {
        overlay_finish(&backing->overlay);
    }
    backing->store->ops->close(backing->store);
    free(backing);
}

int chat_read_begin_locked(struct chat *chat, struct chat_read *out)
{
    struct chat_backing *backing = chat->backing;
    int rc = backing->store->ops->read_begin(backing->store, &out->read);
    if (rc == 0) {
        backing->users++;
        out->backing = backing;
    }
    return rc;
}

int chat_read_begin(struct chat *chat, struct chat_read *out)
{
    out->backing = chat_hold_store(chat);
    struct store *store = out->backing->store;
    int rc = store->ops->read_begin(store, &out->read);
    if (rc != 0) {
        chat_release_store(chat, out->backing);
    }
    return rc;
}

void chat_read_end(struct chat *chat, struct chat_read *read)
{
    chat->ops->read_end(read->read);
    chat_release_store(chat, read->backing);
}

/* Replaces the backing under both locks. The old backing takes the overlay with it. */
static void replace(struct chat *chat, struct chat_backing *backing, struct generation *fresh,
                    const struct store_meta *meta)
{
    CHECK(!chat->is_batch_open);
    CHECK(!chat->is_freeze_wanted);
    struct chat_backing *old = chat->backing;
    overlay_move(&chat->overlay, &old->overlay, fresh);
    old->has_overlay = true;
    chat->backing = backing;
    chat->durable = *meta;
    chat->published = *meta;
    chat->applier.working = *meta;
    chat->has_retry = false;
    atomic_store_explicit(&chat->durable_applied, meta->applied_index, memory_order_release);
    atomic_store_explicit(&chat->applied, meta->applied_index, memory_order_release);
}

int chat_replace_store(struct chat *chat, struct store *store)
{
    CHECK(store->ops == chat->ops);
    CHECK(chat->applier.read == NULL);
    struct store_meta meta;
    int rc = read_stored_meta(store, &meta);
    if (rc != 0) {
        return rc;
    }
    CHECK(meta.applied_index >= chat_applied(chat));
    struct chat_backing *backing = backing_create(store);
    struct generation *fresh = generation_create();
    if (backing == NULL || fresh == NULL) {
        free(backing);
        generation_destroy(fresh);
        return ERR_NOMEM;
    }
    pthread_mutex_lock(&chat->flush_lock);
    pthread_mutex_lock(&chat->lock);
    struct chat_backing *old = chat->backing;
    replace(chat, backing, fresh, &meta);
    pthread_mutex_unlock(&chat->lock);
    pthread_mutex_unlock(&chat->flush_lock);
    chat->is_store_ours = true;
    chat_release_store(chat, old);
    /* Set after the store, so that a thread that looks again finds the new store. */
    hub_wake_all(chat->hub);
    return 0;
}

bool chat_has_replaced_store(const struct chat *chat)
{
    return chat->is_store_ours;
}

int chat_note_damage(struct chat *chat, int rc)
{
    if (rc == ERR_CORRUPT) {
        atomic_store(&chat->is_damaged, true);
    }
    return rc;
}

void chat_set_damaged(struct chat *chat)
{
    atomic_store(&chat->is_damaged, true);
}

bool chat_is_damaged(const struct chat *chat)
{
    return atomic_load(&chat->is_damaged);
}
