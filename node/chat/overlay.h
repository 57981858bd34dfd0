/* Entries that are applied and not yet durable in the store, and the newest messages.
 *
 * All channels in memory are in one table, dirty or not. Each holds a contiguous run of messages
 * that ends at its last message. The run contains every message that is not durable. Messages
 * that have become durable remain as the tail for live readers until they are trimmed from the
 * front. So a page is "store up to the run, then the run": a store read that begins after the
 * run was looked at sees every message before it.
 *
 * There are two generations. `active` takes the changes; `frozen` is being written by the store
 * thread. A generation lists what it has to write, and holds its own client ids and values.
 *
 * All functions are called with the chat's lock held, unless they say otherwise. Working fields
 * are as of the last apply, published ones as of the last chat_apply_end(). Readers use the
 * published ones only. */
#ifndef RAFTOGRAM_CHAT_OVERLAY_H
#define RAFTOGRAM_CHAT_OVERLAY_H

#include "base/list.h"
#include "chat/dedupe.h"
#include "chat/hash_table.h"
#include "chat/ordered.h"
#include "store/store.h"

#include <stdatomic.h>

#define OVERLAY_CHANNELS_MAX 4096 /* in the table, without the dirty ones */
#define OVERLAY_TRIM_MAX 512      /* messages or channels dropped under one hold of the lock */

struct overlay_channel {
    UT_hash_handle by_id;
    UT_hash_handle by_number;
    struct ordered_node order;
    struct list recent_link;
    uint64_t number;
    uint64_t last_sequence; /* working */
    int64_t last_timestamp_ms;
    bool is_touched;   /* in the open batch */
    bool is_published; /* false: made in the open batch */
    uint64_t published_sequence;
    uint64_t durable_sequence; /* the store has the messages up to it */
    uint64_t generation;       /* the newest that lists the channel */
    unsigned pins;             /* by generations, readers, apply: it must stay in the table */
    struct message **run;      /* a ring; the last one is last_sequence */
    size_t run_start;
    size_t run_count;
    size_t run_capacity; /* 0 or a power of two */
    size_t id_size;
    size_t name_size;
    char text[]; /* id, name */
};

/* Immutable once published; shared with readers. */
struct overlay_value {
    atomic_uint references;
    bool is_deleted;
    uint32_t key_size;
    uint32_t value_size;
    uint8_t data[]; /* key, value */
};

struct generation {
    uint64_t number;
    struct store_message *messages; /* in the order of the log; the runs hold the references */
    size_t message_count;
    size_t message_capacity;
    struct overlay_channel **channels; /* pinned */
    size_t channel_count;
    size_t channel_capacity;
    struct dedupe dedupe;
    struct ordered values; /* of value_slot */
    size_t value_count;
    struct list changed_values; /* of value_slot, in the open batch */
    size_t entry_count;         /* log entries, also those that changed nothing */
    size_t data_bytes;          /* of those entries */
    size_t memory_bytes;
    bool is_due_told;
    bool has_age;
    uint64_t since_ns;      /* has_age: when it was first seen with something to write */
    struct store_meta meta; /* frozen: as of the freeze */
};

struct overlay {
    struct overlay_channel *by_id;
    struct overlay_channel *by_number;
    struct ordered channels; /* by id */
    struct list recent;      /* all channels, the most recently used at the end */
    size_t channel_count;
    size_t tail_bytes; /* of the durable messages in runs */
    struct generation *active;
    struct generation *frozen;  /* may be NULL */
    uint64_t epoch;             /* rises before any durable entry is dropped */
    atomic_size_t memory_bytes; /* of both generations */
};

/* References dropped under the lock, to be freed outside. */
struct overlay_garbage {
    struct message *messages[OVERLAY_TRIM_MAX];
    size_t message_count;
    struct overlay_channel *channels[OVERLAY_TRIM_MAX];
    size_t channel_count;
};

/* Errors: ERR_NOMEM. */
int overlay_init(struct overlay *overlay);
void overlay_finish(struct overlay *overlay);
/* Moves everything to `to`, and leaves an empty overlay with `fresh` as its active generation. */
void overlay_move(struct overlay *overlay, struct overlay *to, struct generation *fresh);

/* ---- channels ---- */

static inline struct bytes channel_id(const struct overlay_channel *channel)
{
    return (struct bytes){channel->text, channel->id_size};
}

static inline struct bytes channel_name(const struct overlay_channel *channel)
{
    return (struct bytes){channel->text + channel->id_size, channel->name_size};
}

/* The sequence of the first message in the run; last_sequence + 1 when it is empty. */
static inline uint64_t channel_run_first(const struct overlay_channel *channel)
{
    return channel->last_sequence - channel->run_count + 1;
}

/* A message in the run; not a new reference. */
struct message *channel_run_message(const struct overlay_channel *channel, uint64_t sequence);

/* NULL: not in memory. A found channel becomes the most recently used. */
struct overlay_channel *overlay_find_channel(struct overlay *overlay, struct bytes id);
struct overlay_channel *overlay_find_number(struct overlay *overlay, uint64_t number);
/* Takes a row of the store into the table, and may drop a clean channel. Errors: ERR_NOMEM. */
int overlay_load_channel(struct overlay *overlay, const struct store_channel *row,
                         struct overlay_channel **out);

/* ---- changes, of the active generation; on ERR_NOMEM nothing was changed ---- */

int overlay_create_channel(struct overlay *overlay, uint64_t number, struct bytes id,
                           struct bytes name, struct overlay_channel **out);
/* The message must be the channel's next. Takes over the reference on success. */
int overlay_append_message(struct overlay *overlay, struct overlay_channel *channel,
                           struct message *message);
/* Takes back the last overlay_append_message() of the open batch: messages go in the reverse order
 * in which they came. `last_timestamp_ms` is the channel's from before. */
void overlay_take_back_message(struct overlay *overlay, struct overlay_channel *channel,
                               int64_t last_timestamp_ms);
int overlay_set_value(struct overlay *overlay, struct bytes key, struct bytes value,
                      bool is_deleted);
/* Makes the batch's values visible to readers. Channels are published by the caller. */
void overlay_publish_values(struct overlay *overlay);

/* ---- look-ups in both generations ---- */

bool overlay_find_dedupe(const struct overlay *overlay, uint64_t channel_number,
                         struct bytes client_id, uint64_t *out_sequence);
/* The newest value or its deletion (is_deleted); NULL: ask the store. Not a new reference. */
struct overlay_value *overlay_find_working_value(const struct overlay *overlay, struct bytes key);
struct overlay_value *overlay_find_published_value(const struct overlay *overlay, struct bytes key);
/* Walks the published values and deletions in the order of keys; for one hold of the lock. */
struct overlay_value_cursor {
    const struct ordered_node *newer;
    const struct ordered_node *older;
};
/* An empty `after` is before all. */
void overlay_seek_values(const struct overlay *overlay, struct bytes from, bool is_exclusive,
                         struct overlay_value_cursor *out);
/* NULL at the end. Not a new reference. */
struct overlay_value *overlay_next_value(struct overlay_value_cursor *cursor);

static inline struct bytes value_key(const struct overlay_value *value)
{
    return (struct bytes){value->data, value->key_size};
}

static inline struct bytes value_bytes(const struct overlay_value *value)
{
    return (struct bytes){value->data + value->key_size, value->value_size};
}

struct overlay_value *value_ref(struct overlay_value *value);
void value_unref(struct overlay_value *value); /* any thread; accepts NULL */

/* ---- generations ---- */

/* NULL: no memory. Without the lock. */
struct generation *generation_create(void);
/* Releases what it holds alone, not its channels and messages. Without the lock. Accepts NULL. */
void generation_destroy(struct generation *generation);
/* The value that a slot of `values` publishes; for the store thread, on a frozen generation. */
const struct overlay_value *generation_value(const struct ordered_node *node);

/* Makes the active generation the frozen one (there must be none), and `next` the active one. */
void overlay_freeze(struct overlay *overlay, struct generation *next,
                    const struct store_meta *meta);
/* After the commit: takes the frozen generation away. Its channels are still pinned. */
struct generation *overlay_detach_frozen(struct overlay *overlay);
/* What a message counts as part of a tail. */
size_t overlay_message_bytes(const struct message *message);
/* Turns messages of a detached generation's channel, which still pins it, into tail: those up to
 * `last_sequence`, of `message_bytes` bytes. */
void overlay_settle_channel(struct overlay *overlay, struct overlay_channel *channel,
                            uint64_t last_sequence, size_t message_bytes);
/* Drop what exceeds the bounds of the channel, or of the whole overlay, as far as it is durable.
 * True: the garbage is full, and more may be left to drop. */
bool overlay_trim_channel(struct overlay *overlay, struct overlay_channel *channel,
                          struct overlay_garbage *garbage);
bool overlay_trim(struct overlay *overlay, struct overlay_garbage *garbage);
/* Without the lock. Empties it. */
void overlay_garbage_free(struct overlay_garbage *garbage);

#endif
