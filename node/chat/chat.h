/* The state machine: channels, messages, dedupe and the key-value map, as an in-memory overlay on a
 * store. Apply is deterministic: its results depend on the log alone.
 *
 * An entry counts as applied when it is in the overlay. The store thread freezes the overlay from
 * time to time (a generation), writes it in one durable transaction and drops it. Invariants:
 * durable_applied <= applied, and the overlay covers exactly (durable_applied, applied].
 *
 * Threads: apply calls from one thread (the node's). Reads from any thread. chat_flush() from one
 * thread (the store's). */
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

/* The hash of what is written begins anew so often (store_meta.content_hash), so that nodes which
 * began to hash at different entries soon agree again. */
#ifndef CHAT_HASH_ENTRIES
#define CHAT_HASH_ENTRIES 1024u
#endif

struct chat;

/* Takes the store's contents as the starting point. The store stays the caller's and must outlive
 * the chat. Errors: ERR_CORRUPT, ERR_IO, ERR_NOMEM. */
int chat_create(struct store *store, struct chat **out);
/* No thread may be inside any call. What is not flushed is dropped: the log has it. Accepts NULL.
 */
void chat_destroy(struct chat *chat);

/* ---- apply: node thread ---- */

/* A batch of applies; readers see all of it or, at chat_apply_end(), none of it before. */
void chat_apply_begin(struct chat *chat);
/* `index` must be applied + 1 (CHECKed). Empty data is a no-op: *out is zeroed with COMMAND_OK.
 * Errors: ERR_CORRUPT, ERR_IO (the store cannot be read), ERR_NOMEM, ERR_VERSION (a command of a
 * newer format, which newer nodes apply: refusing it would part us from them). On any of them the
 * entry was not applied and the node must stop applying; what the batch had before it stands, and
 * chat_apply_end() is owed. A command that is no good is no error: COMMAND_REFUSED. */
int chat_apply(struct chat *chat, uint64_t index, uint64_t term, struct bytes data,
               struct command_result *out);
/* A config change: the membership as of `index`, opaque; and the cluster's id.
 * Errors: ERR_CORRUPT (over STORE_CONFIG_BYTES_MAX: not applied). */
int chat_apply_config(struct chat *chat, uint64_t index, uint64_t term, struct bytes config,
                      const uint8_t cluster_id[CLUSTER_ID_BYTES]);
/* Publishes, and wakes the subscriptions of the channels that changed. */
void chat_apply_end(struct chat *chat);
/* The overlay is at its bound: propose nothing until a flush has made room. */
bool chat_is_full(const struct chat *chat);
/* It has used what is kept for entries on their way, too: apply nothing more. */
bool chat_is_overfull(const struct chat *chat);

/* ---- the store ---- */

/* Between batches, on the node's thread: the state machine is that of `store` from now on, which
 * must be at or beyond chat_applied() and of the same kind. The overlay is dropped, subscriptions
 * stay and look again. Waits for a flush that is being written. `store` becomes the chat's: closed
 * by chat_destroy(). So is the one before it, whoever opened that, by the last that reads it.
 * Errors: ERR_CORRUPT, ERR_IO, ERR_NOMEM: nothing has changed. */
int chat_replace_store(struct chat *chat, struct store *store);
/* Whether the store that chat_create() was given has been closed. */
bool chat_has_replaced_store(const struct chat *chat);
/* Keeps the newest store open until the release, for what is no query: copies, scrubs. Any thread.
 */
struct chat_backing;
struct chat_backing *chat_hold_store(struct chat *chat);
struct store *chat_backing_store(const struct chat_backing *backing);
void chat_release_store(struct chat *chat, struct chat_backing *backing);
/* A read, an apply or a flush has met damage. Any thread. */
bool chat_is_damaged(const struct chat *chat);
/* Something else has. */
void chat_set_damaged(struct chat *chat);

/* ---- positions: any thread ---- */

uint64_t chat_applied(const struct chat *chat);
uint64_t chat_durable_applied(const struct chat *chat);
/* As of the last chat_apply_end(); all fields. */
void chat_get_meta(const struct chat *chat, struct store_meta *out);
/* What the store had durably when chat_durable_applied() last moved. */
void chat_get_durable_meta(const struct chat *chat, struct store_meta *out);

/* ---- flush: store thread ---- */

enum chat_flush_reason { CHAT_FLUSH_IF_DUE, CHAT_FLUSH_NOW };
/* Writes one generation if there is one to write. `now_ns` is monotonic. On ERR_NO_SPACE and
 * ERR_NOMEM the generation is kept for a later call: CHAT_FLUSH_NOW, or CHAT_FLUSH_IF_DUE after
 * CHAT_GENERATION_AGE_NS (until then that says the same without a try). It goes first then, so that
 * one call may not be enough for all: to have everything durable, call until chat_durable_applied()
 * is where chat_applied() was. Waits for the end of an open batch. Errors: those of store commit.
 */
int chat_flush(struct chat *chat, enum chat_flush_reason reason, uint64_t now_ns);
/* When CHAT_FLUSH_IF_DUE will have something to do if nothing more is applied; UINT64_MAX: never.
 * Any thread. A generation's age begins with the first call of this or of chat_flush() that sees
 * something in it: so ask after applying. */
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
/* Messages with sequence > after_sequence, at most `limit` (1 or more; PAGE_MESSAGES_MAX) and
 * PAGE_BYTES_MAX (always at least one if there is one). The page is a new reference, and one page
 * for all who read at the same position with the same limit from memory. A channel number that
 * chat_find_channel() did not give reads as empty. Errors: ERR_CORRUPT (also: a message is
 * missing), ERR_IO, ERR_NOMEM. */
int chat_read_page(struct chat *chat, uint64_t channel_number, uint64_t after_sequence,
                   size_t limit, struct message_page **out);
/* Up to `limit` channels with id > after and the prefix, ascending, into `out` (room for limit);
 * `has_more` tells. */
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
