/* The state machine: channels, messages, dedupe and the key-value map, as an in-memory overlay
 * on a store. Apply is deterministic: its results depend on the log alone.
 *
 * An entry is applied once it is in the overlay. The store thread periodically freezes the
 * overlay (a generation), writes it in one durable transaction and drops it. Invariants:
 * durable_applied <= applied, and the overlay covers exactly (durable_applied, applied].
 *
 * Threads: apply functions on one thread (the node's), chat_flush() on one thread (the store's),
 * reads on any thread. */
#ifndef RAFTOGRAM_CHAT_CHAT_H
#define RAFTOGRAM_CHAT_CHAT_H

#include "base/cluster.h"
#include "chat/command.h"
#include "chat/hub.h"
#include "chat/page.h"
#include "store/store.h"

#include <stdbool.h>
#include <stdint.h>

#define CHAT_GENERATION_BYTES (1u << 20) /* when the active overlay is due for a flush: */
#define CHAT_GENERATION_ENTRIES 8192     /*   bytes, entries, */
#define CHAT_GENERATION_AGE_NS (UINT64_C(1000000000)) /* or age */
#define CHAT_OVERLAY_BYTES_MAX (64u << 20)            /* both generations, */
#define CHAT_OVERLAY_SLACK_BYTES (8u << 20)           /*   and what was proposed by then */
#define CHAT_TAIL_MESSAGES 256         /* newest messages of a channel kept for live readers, */
#define CHAT_TAIL_BYTES_MAX (8u << 20) /*   and their bytes over all channels */

/* Interval, in entries, at which the contents' hash restarts (store_meta.content_hash). Nodes
 * that started to hash at different entries agree again after the next restart. */
#ifndef CHAT_HASH_ENTRIES
#define CHAT_HASH_ENTRIES 1024u
#endif

struct chat;

/* Starts from the store's contents. The caller keeps the store, which must outlive the chat.
 * Errors: ERR_CORRUPT, ERR_IO, ERR_NOMEM. */
int chat_create(struct store *store, struct chat **out);
/* Requires that no other call is running. Entries that are not flushed are dropped; the log has
 * them. Accepts NULL. */
void chat_destroy(struct chat *chat);

/* ---- apply: node thread ---- */

/* Begins a batch. Readers see nothing of it before chat_apply_end(), and then all of it. */
void chat_apply_begin(struct chat *chat);
/* Applies one entry. `index` must be applied + 1 (CHECKed). Empty data is a no-op: `*out` is
 * zeroed, with COMMAND_OK. A command that breaks a limit is no error; its outcome is
 * COMMAND_REFUSED. Errors: ERR_CORRUPT, ERR_IO (the store cannot be read), ERR_NOMEM,
 * ERR_VERSION (a command of a newer format: newer nodes apply it, so refusing it would make the
 * states diverge). After an error the entry is not applied and the node must stop applying.
 * Earlier entries of the batch remain applied, and chat_apply_end() must still be called. */
int chat_apply(struct chat *chat, uint64_t index, uint64_t term, struct bytes data,
               struct command_result *out);
/* Applies a config change: the membership as of `index` (opaque) and the cluster's id. Errors:
 * ERR_CORRUPT (over STORE_CONFIG_BYTES_MAX: not applied). */
int chat_apply_config(struct chat *chat, uint64_t index, uint64_t term, struct bytes config,
                      const uint8_t cluster_id[CLUSTER_ID_BYTES]);
/* Publishes the batch, and wakes the subscriptions of the channels that it changed. */
void chat_apply_end(struct chat *chat);
/* True if the overlay is at its bound: propose nothing until a flush has reduced it. */
bool chat_is_full(const struct chat *chat);
/* True if the reserve for entries that were already proposed is used up as well: apply nothing. */
bool chat_is_overfull(const struct chat *chat);

/* ---- the store ---- */

/* Replaces the store, which must be at or beyond chat_applied() and of the same kind. Between
 * batches, on the node's thread. Waits for a running flush, drops the overlay, and makes all
 * subscriptions read again. The chat takes ownership of `store` and closes it in chat_destroy().
 * The previous store, whoever opened it, is closed when its last reader ends. Errors:
 * ERR_CORRUPT, ERR_IO, ERR_NOMEM: nothing has changed. */
int chat_replace_store(struct chat *chat, struct store *store);
/* True if the store that was passed to chat_create() has been closed. */
bool chat_has_replaced_store(const struct chat *chat);
/* Keeps the newest store open until chat_release_store(), for copies and scrubs. Any thread. */
struct chat_backing;
struct chat_backing *chat_hold_store(struct chat *chat);
struct store *chat_backing_store(const struct chat_backing *backing);
void chat_release_store(struct chat *chat, struct chat_backing *backing);
/* True if a read, an apply or a flush has found damage. Any thread. */
bool chat_is_damaged(const struct chat *chat);
/* Reports damage that was found elsewhere. */
void chat_set_damaged(struct chat *chat);

/* ---- positions: any thread ---- */

uint64_t chat_applied(const struct chat *chat);
uint64_t chat_durable_applied(const struct chat *chat);
/* Copies all fields as of the last chat_apply_end(). */
void chat_get_meta(const struct chat *chat, struct store_meta *out);
/* Copies the store's durable state as of the last change of chat_durable_applied(). */
void chat_get_durable_meta(const struct chat *chat, struct store_meta *out);

/* ---- flush: store thread ---- */

enum chat_flush_reason { CHAT_FLUSH_IF_DUE, CHAT_FLUSH_NOW };
/* Writes one generation if one is due. `now_ns` is monotonic. Waits for the end of an open
 * batch. After ERR_NO_SPACE and ERR_NOMEM the generation is kept: CHAT_FLUSH_NOW retries it at
 * once, CHAT_FLUSH_IF_DUE after CHAT_GENERATION_AGE_NS (until then it returns the same error
 * without a retry). A kept generation is written before newer entries. To make everything
 * durable, repeat the call until chat_durable_applied() reaches the earlier chat_applied().
 * Errors: those of the store's commit. */
int chat_flush(struct chat *chat, enum chat_flush_reason reason, uint64_t now_ns);
/* Returns when CHAT_FLUSH_IF_DUE will have work if nothing more is applied; UINT64_MAX: never.
 * Any thread. A generation's age starts with the first call of this or of chat_flush() that
 * finds entries in it, so call this after applying. */
uint64_t chat_flush_deadline_ns(struct chat *chat, uint64_t now_ns);
/* Called on the node thread when the active overlay becomes due by size; may be NULL. */
void chat_set_flush_wanted(struct chat *chat, void (*fn)(void *context), void *context);

/* ---- queries: any thread; each is consistent in itself and as of chat_applied() or later ---- */

struct channel_info {
    uint64_t number;
    uint64_t last_sequence;
    uint64_t first_sequence; /* 1, or 0 while the channel is empty */
    char id[COMMAND_ID_BYTES_MAX + 1];
    char name[COMMAND_NAME_BYTES_MAX + 1];
};

/* Errors: ERR_NOT_FOUND, ERR_CORRUPT, ERR_IO, ERR_NOMEM. */
int chat_find_channel(struct chat *chat, struct bytes id, struct channel_info *out);
/* Reads messages with sequence > after_sequence: at most `limit` (1 to PAGE_MESSAGES_MAX) and
 * PAGE_BYTES_MAX, but at least one if there is one. `*out` is a new reference to a page that all
 * readers at the same position with the same limit share. A channel number that
 * chat_find_channel() did not return reads as empty. Errors: ERR_CORRUPT (also: a message is
 * missing), ERR_IO, ERR_NOMEM. */
int chat_read_page(struct chat *chat, uint64_t channel_number, uint64_t after_sequence,
                   size_t limit, struct message_page **out);
/* Lists up to `limit` channels with id > after and the prefix, ascending. `out` has space for
 * `limit`. `has_more`: the list was cut by the limit. */
int chat_list_channels(struct chat *chat, struct bytes after, struct bytes prefix, size_t limit,
                       struct channel_info *out, size_t *out_count, bool *has_more);
/* Appends the value to `out`. Errors: ERR_NOT_FOUND … */
int chat_get_value(struct chat *chat, struct bytes key, struct buf *out);
/* Walks the keys with the prefix in key order, starting after `after` (empty: at the first), over
 * at most `limit` values. `each` returns 0 to go on; else the walk ends and returns that. It is
 * called without any lock of ours held; the views are valid during the call. */
typedef int (*chat_value_fn)(void *context, struct bytes key, struct bytes value);
int chat_walk_values(struct chat *chat, struct bytes after, struct bytes prefix, size_t limit,
                     chat_value_fn each, void *context);

struct chat_stats {
    uint64_t overlay_bytes;
    uint64_t generations_flushed;
    uint64_t dedupe_hits;
    uint64_t messages_applied; /* since start */
    uint64_t tail_hits;        /* pages served from memory alone */
    uint64_t tail_misses;
};
void chat_get_stats(const struct chat *chat, struct chat_stats *out);
struct hub *chat_hub(struct chat *chat);

#endif
