/* The inside of struct chat, shared by chat.c, apply.c, flush.c and query.c.
 *
 * There is one lock. Apply holds it for one entry at a time, and never while it reads the store
 * or creates a message. A reader holds it to take references. The store thread holds it for a
 * freeze, and briefly to drop references. Changes of a batch are invisible until its end
 * publishes them all under one hold of the lock. Store reads and commits run without the lock. */
#ifndef RAFTOGRAM_CHAT_CHAT_INTERNAL_H
#define RAFTOGRAM_CHAT_CHAT_INTERNAL_H

#include "chat/chat.h"
#include "chat/overlay.h"
#include "chat/pages.h"

#include <pthread.h>

/* A channel that the open batch changed. */
struct touched_channel {
    struct overlay_channel *channel;
    uint64_t number;
    uint64_t last_sequence;
};

/* A message of a SEND_MESSAGES. */
struct batch_item {
    struct overlay_channel *channel; /* pinned until the command is applied */
    int64_t last_timestamp_ms;       /* the channel's, before the message */
    bool is_stored;
};

/* A store and its readers. The chat uses the newest. An older one is closed, with its overlay,
 * by its last reader. */
struct chat_backing {
    struct store *store;
    size_t users; /* under the lock; the chat itself is one */
    bool has_overlay;
    struct overlay overlay;
};

/* A read transaction, and what keeps its store open. */
struct chat_read {
    struct store_read *read;
    struct chat_backing *backing;
};

/* The node thread's own. */
struct applier {
    struct store_meta working;
    struct touched_channel *touched;
    size_t touched_count;
    size_t touched_capacity;
    /* One read transaction serves a batch. It is reopened after a flush has dropped entries from
     * the overlay that the transaction does not see. */
    struct store_read *read;
    uint64_t read_epoch;
    struct buf scratch;
    /* Of the SEND_MESSAGES that is being applied: COMMAND_MESSAGES_MAX each, made by the first. */
    struct batch_item *items;
    uint8_t *results;
    char id[COMMAND_ID_BYTES_MAX];
    char name[COMMAND_NAME_BYTES_MAX];
    void (*flush_wanted)(void *context);
    void *flush_wanted_context;
};

struct chat {
    const struct store_ops *ops; /* of every store that it ever has */
    struct hub *hub;
    struct applier applier;
    bool is_store_ours; /* set by chat_replace_store(): node thread */

    /* Held for a whole flush and while the store is replaced. Lock order: flush_lock, then lock. */
    pthread_mutex_t flush_lock;
    pthread_mutex_t lock;
    /* Under the lock: */
    struct chat_backing *backing; /* changed by the node thread, with both locks */
    pthread_cond_t frozen;        /* is_freeze_wanted became false */
    bool is_batch_open;
    bool is_freeze_wanted; /* the end of the batch is to freeze, with `spare` */
    struct generation *spare;
    struct overlay overlay;
    struct pages pages;
    struct store_meta published;
    struct store_meta durable;
    bool has_retry; /* the last commit of the frozen generation failed, with: */
    int retry_error;
    uint64_t retry_ns;

    atomic_bool is_damaged;
    atomic_uint_fast64_t applied;
    atomic_uint_fast64_t durable_applied;
    atomic_uint_fast64_t generations_flushed;
    atomic_uint_fast64_t dedupe_hits;
    atomic_uint_fast64_t messages_applied;
    atomic_uint_fast64_t tail_hits;
    atomic_uint_fast64_t tail_misses;
};

/* Begin a read of the newest store: without the lock held, and with it. */
int chat_read_begin(struct chat *chat, struct chat_read *out);
int chat_read_begin_locked(struct chat *chat, struct chat_read *out);
/* Without the lock. Entries in memory may be gone afterwards, pinned or not. */
void chat_read_end(struct chat *chat, struct chat_read *read);
/* Returns `rc`. Records ERR_CORRUPT as damage of the store. */
int chat_note_damage(struct chat *chat, int rc);

static inline void chat_count(atomic_uint_fast64_t *counter)
{
    atomic_fetch_add_explicit(counter, 1, memory_order_relaxed);
}

/* True if the active generation is due by size. Under the lock. */
bool chat_is_due_by_size(const struct chat *chat);
/* Under the lock, between batches. Takes over `spare`. */
void chat_freeze(struct chat *chat, struct generation *spare);

#endif
