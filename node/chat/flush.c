/* The store thread's part: freezes a generation, writes it in one transaction, drops it. */
#include "base/check.h"
#include "base/errors.h"
#include "chat/chat_internal.h"

#include <stdlib.h>

enum { SETTLE_MAX = 256 /* channels settled under one hold of the lock */ };

/* The state of a channel of a generation after it is written. */
struct settled_channel {
    struct overlay_channel *channel;
    uint64_t last_sequence;
    size_t message_bytes;
};

/* A generation in the form that the store takes. */
struct written {
    struct store_channel *rows;
    struct settled_channel *settled;
    struct store_value *values;
};

bool chat_is_due_by_size(const struct chat *chat)
{
    const struct generation *active = chat->overlay.active;
    return active->data_bytes >= CHAT_GENERATION_BYTES ||
           active->entry_count >= CHAT_GENERATION_ENTRIES;
}

void chat_freeze(struct chat *chat, struct generation *spare)
{
    CHECK(!chat->is_batch_open);
    overlay_freeze(&chat->overlay, spare, &chat->published);
}

void chat_set_flush_wanted(struct chat *chat, void (*fn)(void *context), void *context)
{
    chat->applier.flush_wanted = fn;
    chat->applier.flush_wanted_context = context;
}

/* The age starts when the store thread first sees content, because apply has no clock. */
static uint64_t active_deadline(struct generation *active, uint64_t now_ns)
{
    if (!active->has_age) {
        active->has_age = true;
        active->since_ns = now_ns;
    }
    return active->since_ns + CHAT_GENERATION_AGE_NS;
}

static uint64_t deadline(struct chat *chat, uint64_t now_ns)
{
    if (chat->overlay.frozen != NULL) {
        return chat->has_retry ? chat->retry_ns : UINT64_MAX;
    }
    struct generation *active = chat->overlay.active;
    if (active->entry_count == 0) {
        return UINT64_MAX;
    }
    uint64_t by_age = active_deadline(active, now_ns);
    return chat_is_due_by_size(chat) ? now_ns : by_age;
}

uint64_t chat_flush_deadline_ns(struct chat *chat, uint64_t now_ns)
{
    pthread_mutex_lock(&chat->lock);
    uint64_t result = deadline(chat, now_ns);
    pthread_mutex_unlock(&chat->lock);
    return result;
}

/* Freezes the active generation. Under the lock. A generation ends between two batches; within a
 * batch, the end of the batch freezes it. */
static void freeze_at_batch_boundary(struct chat *chat, struct generation *spare)
{
    if (!chat->is_batch_open) {
        chat_freeze(chat, spare);
        return;
    }
    chat->spare = spare;
    chat->is_freeze_wanted = true;
    while (chat->is_freeze_wanted) {
        pthread_cond_wait(&chat->frozen, &chat->lock);
    }
}

/* Sets *has_frozen if there is a generation to write. Errors: ERR_NOMEM. */
static int make_frozen(struct chat *chat, enum chat_flush_reason reason, uint64_t now_ns,
                       bool *has_frozen)
{
    struct generation *spare = generation_create();
    if (spare == NULL) {
        return ERR_NOMEM;
    }
    pthread_mutex_lock(&chat->lock);
    uint64_t due_ns = deadline(chat, now_ns);
    bool is_due = due_ns <= now_ns;
    if (reason == CHAT_FLUSH_NOW) {
        is_due = chat->overlay.frozen != NULL || chat->overlay.active->entry_count > 0;
    }
    if (is_due && chat->overlay.frozen == NULL) {
        freeze_at_batch_boundary(chat, spare);
        spare = NULL;
    }
    *has_frozen = is_due;
    pthread_mutex_unlock(&chat->lock);
    generation_destroy(spare);
    return 0;
}

/* ---- the frozen generation, which no thread changes: without the lock ---- */

static int compare_messages(const void *a, const void *b)
{
    const struct store_message *left = a;
    const struct store_message *right = b;
    if (left->channel_number != right->channel_number) {
        return left->channel_number < right->channel_number ? -1 : 1;
    }
    return left->message->sequence < right->message->sequence ? -1 : 1;
}

static int compare_channel_numbers(const void *a, const void *b)
{
    const struct overlay_channel *left = *(struct overlay_channel *const *)a;
    const struct overlay_channel *right = *(struct overlay_channel *const *)b;
    return (left->number > right->number) - (left->number < right->number);
}

static int compare_row_ids(const void *a, const void *b)
{
    return bytes_compare(((const struct store_channel *)a)->id,
                         ((const struct store_channel *)b)->id);
}

static void sort(void *array, size_t count, size_t size, int (*compare)(const void *, const void *))
{
    if (count > 1) {
        qsort(array, count, size, compare);
    }
}

/* A listed channel was created in this generation or has messages in it. So its row as of the
 * freeze is that of its last message here, although the channel itself may have newer ones. */
static void fill_channels(const struct generation *frozen, struct written *written)
{
    size_t at = 0;
    for (size_t i = 0; i < frozen->channel_count; i++) {
        struct overlay_channel *channel = frozen->channels[i];
        struct store_channel row = {
            .number = channel->number, .id = channel_id(channel), .name = channel_name(channel)};
        struct settled_channel settled = {.channel = channel};
        for (; at < frozen->message_count && frozen->messages[at].channel_number == channel->number;
             at++) {
            const struct message *message = frozen->messages[at].message;
            row.last_sequence = message->sequence;
            row.last_timestamp_ms = message->timestamp_ms;
            settled.message_bytes += overlay_message_bytes(message);
        }
        settled.last_sequence = row.last_sequence;
        written->rows[i] = row;
        written->settled[i] = settled;
    }
    CHECK(at == frozen->message_count);
}

static void fill_values(const struct generation *frozen, struct store_value *values)
{
    size_t count = 0;
    for (const struct ordered_node *node = ordered_first(&frozen->values); node != NULL;
         node = ordered_next(node)) {
        const struct overlay_value *value = generation_value(node);
        values[count++] = (struct store_value){
            .key = value_key(value), .value = value_bytes(value), .is_deleted = value->is_deleted};
    }
    CHECK(count == frozen->value_count);
}

static void written_finish(struct written *written)
{
    free(written->rows);
    free(written->settled);
    free(written->values);
}

static int written_init(struct written *written, struct generation *frozen)
{
    *written = (struct written){
        .rows = calloc(frozen->channel_count + 1, sizeof(*written->rows)),
        .settled = calloc(frozen->channel_count + 1, sizeof(*written->settled)),
        .values = calloc(frozen->value_count + 1, sizeof(*written->values)),
    };
    if (written->rows == NULL || written->settled == NULL || written->values == NULL) {
        written_finish(written);
        return ERR_NOMEM;
    }
    sort(frozen->messages, frozen->message_count, sizeof(*frozen->messages), compare_messages);
    sort(frozen->channels, frozen->channel_count, sizeof(*frozen->channels),
         compare_channel_numbers);
    fill_channels(frozen, written);
    sort(written->rows, frozen->channel_count, sizeof(*written->rows), compare_row_ids);
    fill_values(frozen, written->values);
    return 0;
}

static int commit(struct chat *chat, const struct generation *frozen, const struct written *written)
{
    struct store_batch batch = {
        .channels = written->rows,
        .channel_count = frozen->channel_count,
        .messages = frozen->messages,
        .message_count = frozen->message_count,
        .values = written->values,
        .value_count = frozen->value_count,
        .meta = &frozen->meta,
    };
    return chat_note_damage(chat, chat->ops->commit(chat->backing->store, &batch));
}

/* ---- after the commit ---- */

static void publish_durable(struct chat *chat, const struct generation *frozen)
{
    uint64_t before = chat->durable.applied_index;
    CHECK(frozen->meta.applied_index == before + frozen->entry_count);
    CHECK(frozen->meta.applied_index <= chat->published.applied_index);
    chat->durable = frozen->meta;
    chat->has_retry = false;
    atomic_store_explicit(&chat->durable_applied, frozen->meta.applied_index, memory_order_release);
}

/* Settles up to SETTLE_MAX channels from `next` on, while the garbage has room. Returns the next
 * index. A channel stays pinned until it is trimmed too. Under the lock. */
static size_t settle_some(struct overlay *overlay, const struct settled_channel *settled,
                          size_t next, size_t count, struct overlay_garbage *garbage)
{
    for (size_t i = 0; i < SETTLE_MAX && next < count; i++) {
        struct overlay_channel *channel = settled[next].channel;
        if (channel->durable_sequence < settled[next].last_sequence) {
            overlay_settle_channel(overlay, channel, settled[next].last_sequence,
                                   settled[next].message_bytes);
        }
        if (overlay_trim_channel(overlay, channel, garbage)) {
            return next;
        }
        channel->pins--;
        next++;
    }
    return next;
}

/* Works in small pieces, so that neither apply nor a reader waits for all of it. */
static void settle(struct chat *chat, const struct settled_channel *settled, size_t count,
                   struct overlay_garbage *garbage)
{
    size_t next = 0;
    while (next < count) {
        pthread_mutex_lock(&chat->lock);
        next = settle_some(&chat->overlay, settled, next, count, garbage);
        pthread_mutex_unlock(&chat->lock);
        overlay_garbage_free(garbage);
    }
    bool has_more = true;
    while (has_more) {
        pthread_mutex_lock(&chat->lock);
        has_more = overlay_trim(&chat->overlay, garbage);
        pthread_mutex_unlock(&chat->lock);
        overlay_garbage_free(garbage);
    }
}

static int write_frozen(struct chat *chat)
{
    struct overlay_garbage *garbage = calloc(1, sizeof(*garbage));
    if (garbage == NULL) {
        return ERR_NOMEM;
    }
    struct generation *frozen = chat->overlay.frozen;
    struct written written;
    int rc = written_init(&written, frozen);
    if (rc != 0) {
        goto free_garbage;
    }
    rc = commit(chat, frozen, &written);
    if (rc != 0) {
        goto finish_written;
    }
    pthread_mutex_lock(&chat->lock);
    overlay_detach_frozen(&chat->overlay);
    publish_durable(chat, frozen);
    pthread_mutex_unlock(&chat->lock);
    settle(chat, written.settled, frozen->channel_count, garbage);
    generation_destroy(frozen);
    chat_count(&chat->generations_flushed);
finish_written:
    written_finish(&written);
free_garbage:
    free(garbage);
    return rc;
}

static int flush(struct chat *chat, enum chat_flush_reason reason, uint64_t now_ns)
{
    bool has_frozen = false;
    int rc = make_frozen(chat, reason, now_ns, &has_frozen);
    if (rc == 0 && !has_frozen && chat->has_retry) {
        return chat->retry_error;
    }
    if (rc != 0 || !has_frozen) {
        return rc;
    }
    rc = write_frozen(chat);
    if (rc != 0) {
        pthread_mutex_lock(&chat->lock);
        chat->has_retry = true;
        chat->retry_error = rc;
        chat->retry_ns = now_ns + CHAT_GENERATION_AGE_NS;
        pthread_mutex_unlock(&chat->lock);
    }
    return rc;
}

int chat_flush(struct chat *chat, enum chat_flush_reason reason, uint64_t now_ns)
{
    pthread_mutex_lock(&chat->flush_lock);
    int rc = flush(chat, reason, now_ns);
    pthread_mutex_unlock(&chat->flush_lock);
    return rc;
}
