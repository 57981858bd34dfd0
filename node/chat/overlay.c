/* The overlay: channels and values in memory, and their two generations. */
#include "chat/overlay.h"

#include "base/check.h"
#include "base/errors.h"
#include "chat/chat.h"

#include <stdlib.h>
#include <string.h>

enum {
    RUN_CAPACITY_MIN = 4,
    RUN_SHRINK_MIN = 64,
    LIST_CAPACITY_MIN = 64,
    MESSAGE_OVERHEAD = 32, /* allocator, slots in the run and in the generation */
    ROTATE_MAX = 8,
};

/* A key in one generation. */
struct value_slot {
    struct ordered_node order;
    struct list changed_link;
    struct overlay_value *published; /* NULL: not in this generation for readers */
    struct overlay_value *pending;   /* of the open batch; NULL: unchanged by it */
    uint8_t key[];
};

size_t overlay_message_bytes(const struct message *message)
{
    return sizeof(*message) + message->author_size + message->client_id_size +
           message->payload_size + MESSAGE_OVERHEAD;
}

static void add_memory(struct overlay *overlay, size_t bytes)
{
    overlay->active->memory_bytes += bytes;
    atomic_fetch_add_explicit(&overlay->memory_bytes, bytes, memory_order_relaxed);
}

/* Returns the array with room for one more element, moved if needed. Returns NULL and changes
 * nothing if there is no memory. */
static void *grow(void *array, size_t count, size_t *capacity, size_t element_size)
{
    if (count < *capacity) {
        return array;
    }
    size_t grown = *capacity != 0 ? *capacity * 2 : LIST_CAPACITY_MIN;
    void *moved = realloc(array, grown * element_size);
    if (moved != NULL) {
        *capacity = grown;
    }
    return moved;
}

/* ---- channels ---- */

static struct message **run_slot(const struct overlay_channel *channel, size_t position)
{
    return &channel->run[(channel->run_start + position) & (channel->run_capacity - 1)];
}

struct message *channel_run_message(const struct overlay_channel *channel, uint64_t sequence)
{
    uint64_t first = channel_run_first(channel);
    CHECK(sequence >= first);
    CHECK(sequence <= channel->last_sequence);
    return *run_slot(channel, (size_t)(sequence - first));
}

static int resize_run(struct overlay_channel *channel, size_t capacity)
{
    CHECK(capacity >= channel->run_count);
    struct message **run = malloc(capacity * sizeof(struct message *));
    if (run == NULL) {
        return ERR_NOMEM;
    }
    for (size_t i = 0; i < channel->run_count; i++) {
        run[i] = *run_slot(channel, i);
    }
    free(channel->run);
    channel->run = run;
    channel->run_start = 0;
    channel->run_capacity = capacity;
    return 0;
}

static int reserve_run(struct overlay_channel *channel)
{
    if (channel->run_count < channel->run_capacity) {
        return 0;
    }
    return resize_run(channel,
                      channel->run_capacity != 0 ? channel->run_capacity * 2 : RUN_CAPACITY_MIN);
}

/* Drops the first message of the run, which must be durable. */
static struct message *pop_tail(struct overlay *overlay, struct overlay_channel *channel)
{
    CHECK(channel->run_count > 0);
    CHECK(channel_run_first(channel) <= channel->durable_sequence);
    struct message *message = *run_slot(channel, 0);
    channel->run_start = (channel->run_start + 1) & (channel->run_capacity - 1);
    channel->run_count--;
    size_t bytes = overlay_message_bytes(message);
    CHECK(overlay->tail_bytes >= bytes);
    overlay->tail_bytes -= bytes;
    return message;
}

static bool has_tail(const struct overlay_channel *channel)
{
    return channel->run_count > 0 && channel_run_first(channel) <= channel->durable_sequence;
}

static void make_recent(struct overlay *overlay, struct overlay_channel *channel)
{
    list_remove(&channel->recent_link);
    list_push_back(&overlay->recent, &channel->recent_link);
}

struct overlay_channel *overlay_find_channel(struct overlay *overlay, struct bytes id)
{
    struct overlay_channel *channel = NULL;
    HASH_FIND(by_id, overlay->by_id, id.data, id.size, channel);
    if (channel != NULL) {
        make_recent(overlay, channel);
    }
    return channel;
}

struct overlay_channel *overlay_find_number(struct overlay *overlay, uint64_t number)
{
    struct overlay_channel *channel = NULL;
    HASH_FIND(by_number, overlay->by_number, &number, sizeof(number), channel);
    if (channel != NULL) {
        make_recent(overlay, channel);
    }
    return channel;
}

static void free_channel(struct overlay_channel *channel)
{
    free(channel->run);
    free(channel);
}

static int add_channel(struct overlay *overlay, const struct store_channel *row,
                       struct overlay_channel **out)
{
    struct overlay_channel *channel = calloc(1, sizeof(*channel) + row->id.size + row->name.size);
    if (channel == NULL) {
        return ERR_NOMEM;
    }
    channel->number = row->number;
    channel->last_sequence = row->last_sequence;
    channel->last_timestamp_ms = row->last_timestamp_ms;
    channel->published_sequence = row->last_sequence;
    channel->durable_sequence = row->last_sequence;
    channel->id_size = row->id.size;
    channel->name_size = row->name.size;
    memcpy(channel->text, row->id.data, row->id.size);
    if (row->name.size > 0) {
        memcpy(channel->text + row->id.size, row->name.data, row->name.size);
    }
    HASH_ADD_KEYPTR(by_id, overlay->by_id, channel->text, channel->id_size, channel);
    if (channel->by_id.tbl == NULL) {
        goto free_channel;
    }
    HASH_ADD(by_number, overlay->by_number, number, sizeof(channel->number), channel);
    if (channel->by_number.tbl == NULL) {
        goto remove_id;
    }
    channel->order.key = channel_id(channel);
    ordered_insert(&overlay->channels, &channel->order);
    list_push_back(&overlay->recent, &channel->recent_link);
    overlay->channel_count++;
    *out = channel;
    return 0;
remove_id:
    HASH_DELETE(by_id, overlay->by_id, channel);
free_channel:
    free_channel(channel);
    return ERR_NOMEM;
}

static void remove_channel(struct overlay *overlay, struct overlay_channel *channel)
{
    CHECK(channel->pins == 0);
    CHECK(channel->run_count == 0);
    HASH_DELETE(by_id, overlay->by_id, channel);
    HASH_DELETE(by_number, overlay->by_number, channel);
    ordered_remove(&overlay->channels, &channel->order);
    list_remove(&channel->recent_link);
    overlay->channel_count--;
}

/* Bounds the table while no flush trims it: drops the oldest clean channel, if one of the oldest
 * few is clean. */
static void make_way(struct overlay *overlay)
{
    if (overlay->channel_count < OVERLAY_CHANNELS_MAX) {
        return;
    }
    for (int i = 0; i < ROTATE_MAX; i++) {
        struct overlay_channel *channel =
            LIST_ENTRY(overlay->recent.next, struct overlay_channel, recent_link);
        if (channel->pins > 0) {
            make_recent(overlay, channel);
            continue;
        }
        while (channel->run_count > 0) {
            message_unref(pop_tail(overlay, channel));
        }
        remove_channel(overlay, channel);
        free_channel(channel);
        return;
    }
}

int overlay_load_channel(struct overlay *overlay, const struct store_channel *row,
                         struct overlay_channel **out)
{
    make_way(overlay);
    int rc = add_channel(overlay, row, out);
    if (rc == 0) {
        (*out)->is_published = true;
    }
    return rc;
}

/* ---- changes ---- */

static int reserve_listing(struct generation *generation)
{
    struct overlay_channel **channels =
        grow(generation->channels, generation->channel_count, &generation->channel_capacity,
             sizeof(struct overlay_channel *));
    if (channels == NULL) {
        return ERR_NOMEM;
    }
    generation->channels = channels;
    return 0;
}

static int reserve_message(struct generation *generation)
{
    struct store_message *messages =
        grow(generation->messages, generation->message_count, &generation->message_capacity,
             sizeof(struct store_message));
    if (messages == NULL) {
        return ERR_NOMEM;
    }
    generation->messages = messages;
    return 0;
}

/* Lists the channel in the active generation. Must follow reserve_listing(). */
static void list_channel(struct overlay *overlay, struct overlay_channel *channel)
{
    struct generation *active = overlay->active;
    if (channel->generation == active->number) {
        return;
    }
    channel->generation = active->number;
    channel->pins++;
    active->channels[active->channel_count++] = channel;
    add_memory(overlay, sizeof(*channel) + channel->id_size + channel->name_size);
}

int overlay_create_channel(struct overlay *overlay, uint64_t number, struct bytes id,
                           struct bytes name, struct overlay_channel **out)
{
    int rc = reserve_listing(overlay->active);
    if (rc == 0) {
        struct store_channel row = {.number = number, .id = id, .name = name};
        rc = add_channel(overlay, &row, out);
    }
    if (rc == 0) {
        list_channel(overlay, *out);
    }
    return rc;
}

int overlay_append_message(struct overlay *overlay, struct overlay_channel *channel,
                           struct message *message)
{
    struct generation *active = overlay->active;
    CHECK(message->sequence == channel->last_sequence + 1);
    int rc = reserve_listing(active);
    if (rc == 0) {
        rc = reserve_message(active);
    }
    if (rc == 0) {
        rc = reserve_run(channel);
    }
    struct bytes client_id = message_client_id(message);
    size_t dedupe_bytes = 0;
    if (rc == 0 && client_id.size > 0) {
        dedupe_bytes = dedupe_entry_bytes(client_id);
        rc = dedupe_add(&active->dedupe, channel->number, client_id, message->sequence);
    }
    if (rc != 0) {
        return rc;
    }
    active->messages[active->message_count++] =
        (struct store_message){.channel_number = channel->number, .message = message};
    channel->last_sequence = message->sequence;
    channel->last_timestamp_ms = message->timestamp_ms;
    channel->run_count++;
    *run_slot(channel, channel->run_count - 1) = message;
    list_channel(overlay, channel);
    add_memory(overlay, overlay_message_bytes(message) + dedupe_bytes);
    return 0;
}

void overlay_take_back_message(struct overlay *overlay, struct overlay_channel *channel,
                               int64_t last_timestamp_ms)
{
    struct generation *active = overlay->active;
    CHECK(active->message_count > 0);
    CHECK(channel->run_count > 0);
    struct message *message = active->messages[--active->message_count].message;
    CHECK(message == *run_slot(channel, channel->run_count - 1));
    struct bytes client_id = message_client_id(message);
    size_t bytes = overlay_message_bytes(message);
    if (client_id.size > 0) {
        dedupe_remove(&active->dedupe, channel->number, client_id);
        bytes += dedupe_entry_bytes(client_id);
    }
    channel->run_count--;
    channel->last_sequence--;
    channel->last_timestamp_ms = last_timestamp_ms;
    active->memory_bytes -= bytes;
    atomic_fetch_sub_explicit(&overlay->memory_bytes, bytes, memory_order_relaxed);
    message_unref(message);
}

static struct value_slot *slot_of(const struct ordered_node *node)
{
    return CONTAINER_OF(node, struct value_slot, order);
}

static struct overlay_value *create_value(struct bytes key, struct bytes bytes, bool is_deleted)
{
    struct overlay_value *value = malloc(sizeof(*value) + key.size + bytes.size);
    if (value == NULL) {
        return NULL;
    }
    atomic_init(&value->references, 1);
    value->is_deleted = is_deleted;
    value->key_size = (uint32_t)key.size;
    value->value_size = (uint32_t)bytes.size;
    memcpy(value->data, key.data, key.size);
    if (bytes.size > 0) {
        memcpy(value->data + key.size, bytes.data, bytes.size);
    }
    return value;
}

static struct value_slot *add_slot(struct overlay *overlay, struct bytes key)
{
    struct value_slot *slot = calloc(1, sizeof(*slot) + key.size);
    if (slot == NULL) {
        return NULL;
    }
    memcpy(slot->key, key.data, key.size);
    slot->order.key = (struct bytes){slot->key, key.size};
    list_init(&slot->changed_link);
    ordered_insert(&overlay->active->values, &slot->order);
    overlay->active->value_count++;
    add_memory(overlay, sizeof(*slot) + key.size);
    return slot;
}

int overlay_set_value(struct overlay *overlay, struct bytes key, struct bytes value,
                      bool is_deleted)
{
    struct overlay_value *pending = create_value(key, value, is_deleted);
    if (pending == NULL) {
        return ERR_NOMEM;
    }
    struct ordered_node *node = ordered_find(&overlay->active->values, key);
    struct value_slot *slot = node != NULL ? slot_of(node) : add_slot(overlay, key);
    if (slot == NULL) {
        value_unref(pending);
        return ERR_NOMEM;
    }
    if (slot->pending == NULL) {
        list_push_back(&overlay->active->changed_values, &slot->changed_link);
    }
    value_unref(slot->pending);
    slot->pending = pending;
    /* The replaced value stays counted until the flush: a key that is overwritten again and again
     * must make a flush due too. */
    add_memory(overlay, sizeof(*pending) + key.size + value.size);
    return 0;
}

void overlay_publish_values(struct overlay *overlay)
{
    struct list *link = NULL;
    while ((link = list_pop_front(&overlay->active->changed_values)) != NULL) {
        struct value_slot *slot = LIST_ENTRY(link, struct value_slot, changed_link);
        value_unref(slot->published);
        slot->published = slot->pending;
        slot->pending = NULL;
    }
}

/* ---- look-ups ---- */

bool overlay_find_dedupe(const struct overlay *overlay, uint64_t channel_number,
                         struct bytes client_id, uint64_t *out_sequence)
{
    return dedupe_find(&overlay->active->dedupe, channel_number, client_id, out_sequence) ||
           (overlay->frozen != NULL &&
            dedupe_find(&overlay->frozen->dedupe, channel_number, client_id, out_sequence));
}

struct overlay_value *overlay_find_published_value(const struct overlay *overlay, struct bytes key)
{
    const struct generation *generations[] = {overlay->active, overlay->frozen};
    for (size_t i = 0; i < 2 && generations[i] != NULL; i++) {
        const struct ordered_node *node = ordered_find(&generations[i]->values, key);
        if (node != NULL && slot_of(node)->published != NULL) {
            return slot_of(node)->published;
        }
    }
    return NULL;
}

struct overlay_value *overlay_find_working_value(const struct overlay *overlay, struct bytes key)
{
    const struct ordered_node *node = ordered_find(&overlay->active->values, key);
    if (node != NULL && slot_of(node)->pending != NULL) {
        return slot_of(node)->pending;
    }
    return overlay_find_published_value(overlay, key);
}

static const struct ordered_node *skip_unpublished(const struct ordered_node *node)
{
    while (node != NULL && slot_of(node)->published == NULL) {
        node = ordered_next(node);
    }
    return node;
}

void overlay_seek_values(const struct overlay *overlay, struct bytes from, bool is_exclusive,
                         struct overlay_value_cursor *out)
{
    *out = (struct overlay_value_cursor){
        .newer = ordered_seek(&overlay->active->values, from, is_exclusive),
        .older = overlay->frozen != NULL
                     ? ordered_seek(&overlay->frozen->values, from, is_exclusive)
                     : NULL,
    };
}

struct overlay_value *overlay_next_value(struct overlay_value_cursor *cursor)
{
    cursor->newer = skip_unpublished(cursor->newer);
    cursor->older = skip_unpublished(cursor->older);
    if (cursor->newer == NULL && cursor->older == NULL) {
        return NULL;
    }
    int order = cursor->older == NULL   ? -1
                : cursor->newer == NULL ? 1
                                        : bytes_compare(cursor->newer->key, cursor->older->key);
    struct overlay_value *value =
        order <= 0 ? slot_of(cursor->newer)->published : slot_of(cursor->older)->published;
    if (order <= 0) {
        cursor->newer = ordered_next(cursor->newer);
    }
    if (order >= 0) {
        cursor->older = ordered_next(cursor->older);
    }
    return value;
}

struct overlay_value *value_ref(struct overlay_value *value)
{
    atomic_fetch_add_explicit(&value->references, 1, memory_order_relaxed);
    return value;
}

void value_unref(struct overlay_value *value)
{
    if (value != NULL &&
        atomic_fetch_sub_explicit(&value->references, 1, memory_order_acq_rel) == 1) {
        free(value);
    }
}

/* ---- generations ---- */

struct generation *generation_create(void)
{
    struct generation *generation = calloc(1, sizeof(*generation));
    if (generation != NULL) {
        list_init(&generation->changed_values);
    }
    return generation;
}

void generation_destroy(struct generation *generation)
{
    if (generation == NULL) {
        return;
    }
    struct ordered_node *node = ordered_first(&generation->values);
    while (node != NULL) {
        struct value_slot *slot = slot_of(node);
        node = ordered_next(node);
        value_unref(slot->published);
        value_unref(slot->pending);
        free(slot);
    }
    dedupe_finish(&generation->dedupe);
    free(generation->messages);
    free(generation->channels);
    free(generation);
}

const struct overlay_value *generation_value(const struct ordered_node *node)
{
    return slot_of(node)->published;
}

void overlay_freeze(struct overlay *overlay, struct generation *next, const struct store_meta *meta)
{
    CHECK(overlay->frozen == NULL);
    CHECK(list_is_empty(&overlay->active->changed_values));
    next->number = overlay->active->number + 1;
    overlay->frozen = overlay->active;
    overlay->frozen->meta = *meta;
    overlay->active = next;
}

struct generation *overlay_detach_frozen(struct overlay *overlay)
{
    struct generation *frozen = overlay->frozen;
    CHECK(frozen != NULL);
    overlay->frozen = NULL;
    overlay->epoch++;
    atomic_fetch_sub_explicit(&overlay->memory_bytes, frozen->memory_bytes, memory_order_relaxed);
    return frozen;
}

void overlay_settle_channel(struct overlay *overlay, struct overlay_channel *channel,
                            uint64_t last_sequence, size_t message_bytes)
{
    CHECK(channel->pins > 0);
    CHECK(last_sequence >= channel->durable_sequence);
    CHECK(last_sequence <= channel->last_sequence);
    channel->durable_sequence = last_sequence;
    overlay->tail_bytes += message_bytes;
}

static bool drop_front(struct overlay *overlay, struct overlay_channel *channel,
                       struct overlay_garbage *garbage)
{
    if (garbage->message_count == OVERLAY_TRIM_MAX) {
        return false;
    }
    garbage->messages[garbage->message_count++] = pop_tail(overlay, channel);
    return true;
}

bool overlay_trim_channel(struct overlay *overlay, struct overlay_channel *channel,
                          struct overlay_garbage *garbage)
{
    while (channel->run_count > CHAT_TAIL_MESSAGES && has_tail(channel)) {
        if (!drop_front(overlay, channel, garbage)) {
            return true;
        }
    }
    if (channel->run_capacity > RUN_SHRINK_MIN && channel->run_capacity / 4 > channel->run_count) {
        size_t capacity = channel->run_capacity;
        while (capacity > RUN_SHRINK_MIN && capacity / 2 > channel->run_count) {
            capacity /= 2;
        }
        /* If there is no memory, the larger array is kept. */
        (void)resize_run(channel, capacity);
    }
    return false;
}

bool overlay_trim(struct overlay *overlay, struct overlay_garbage *garbage)
{
    for (size_t i = 0; i < OVERLAY_TRIM_MAX; i++) {
        bool has_many_channels = overlay->channel_count > OVERLAY_CHANNELS_MAX;
        if (overlay->tail_bytes <= CHAT_TAIL_BYTES_MAX && !has_many_channels) {
            return false;
        }
        struct overlay_channel *channel =
            LIST_ENTRY(overlay->recent.next, struct overlay_channel, recent_link);
        bool is_going = has_many_channels && channel->pins == 0;
        while (has_tail(channel) && (is_going || overlay->tail_bytes > CHAT_TAIL_BYTES_MAX)) {
            if (!drop_front(overlay, channel, garbage)) {
                return true;
            }
        }
        if (is_going) {
            if (garbage->channel_count == OVERLAY_TRIM_MAX) {
                return true;
            }
            remove_channel(overlay, channel);
            garbage->channels[garbage->channel_count++] = channel;
        } else if (overlay->tail_bytes > CHAT_TAIL_BYTES_MAX || channel->pins > 0) {
            make_recent(overlay, channel);
        }
        if (channel->run_count == 0) {
            free(channel->run);
            channel->run = NULL;
            channel->run_capacity = 0;
        }
    }
    /* Without progress everything left is pinned; the next flush tries again. */
    return garbage->message_count + garbage->channel_count > 0;
}

void overlay_garbage_free(struct overlay_garbage *garbage)
{
    for (size_t i = 0; i < garbage->message_count; i++) {
        message_unref(garbage->messages[i]);
    }
    for (size_t i = 0; i < garbage->channel_count; i++) {
        free_channel(garbage->channels[i]);
    }
    garbage->message_count = 0;
    garbage->channel_count = 0;
}

/* ---- lifetime ---- */

int overlay_init(struct overlay *overlay)
{
    *overlay = (struct overlay){0};
    list_init(&overlay->recent);
    overlay->active = generation_create();
    if (overlay->active == NULL) {
        return ERR_NOMEM;
    }
    overlay->active->number = 1;
    return 0;
}

void overlay_move(struct overlay *overlay, struct overlay *to, struct generation *fresh)
{
    *to = (struct overlay){
        .by_id = overlay->by_id,
        .by_number = overlay->by_number,
        .channels = overlay->channels,
        .channel_count = overlay->channel_count,
        .tail_bytes = overlay->tail_bytes,
        .active = overlay->active,
        .frozen = overlay->frozen,
        .epoch = overlay->epoch,
    };
    list_init(&to->recent);
    list_splice_back(&to->recent, &overlay->recent);
    fresh->number = overlay->active->number + 1;
    overlay->by_id = NULL;
    overlay->by_number = NULL;
    overlay->channels = (struct ordered){0};
    overlay->channel_count = 0;
    overlay->tail_bytes = 0;
    overlay->active = fresh;
    overlay->frozen = NULL;
    overlay->epoch++;
    /* Other threads read it without the lock. */
    atomic_store_explicit(&overlay->memory_bytes, 0, memory_order_relaxed);
}

void overlay_finish(struct overlay *overlay)
{
    /* HASH_CLEAR() frees only the tables; the list of recent channels has every channel. */
    HASH_CLEAR(by_id, overlay->by_id);
    HASH_CLEAR(by_number, overlay->by_number);
    struct list *link = NULL;
    while ((link = list_pop_front(&overlay->recent)) != NULL) {
        struct overlay_channel *channel = LIST_ENTRY(link, struct overlay_channel, recent_link);
        for (size_t i = 0; i < channel->run_count; i++) {
            message_unref(*run_slot(channel, i));
        }
        free_channel(channel);
    }
    generation_destroy(overlay->active);
    generation_destroy(overlay->frozen);
}
