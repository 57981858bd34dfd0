/* Applies log entries: changes the overlay and returns results. No clock, no randomness, no I/O
 * except reads of the store. The same log gives the same results, regardless of flushes and
 * restarts. */
#include "base/check.h"
#include "base/checksum.h"
#include "base/errors.h"
#include "chat/chat_internal.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { ENTRY_MEMORY = 64, TOUCHED_CAPACITY_MIN = 64, CREATED_ID_BYTES_MAX = 64 };

/* What the store does not have to hash apart from commands' results. */
static const char config_mark[] = "config";

/* ---- reading the store ---- */

/* Releases the lock and begins a read. Called with the lock held, directly after a look-up in the
 * overlay. The transaction then sees everything that the overlay had dropped before that look-up.
 */
static int unlock_and_begin_read(struct chat *chat)
{
    struct applier *applier = &chat->applier;
    uint64_t epoch = chat->overlay.epoch;
    pthread_mutex_unlock(&chat->lock);
    if (applier->read != NULL && applier->read_epoch == epoch) {
        return 0;
    }
    if (applier->read != NULL) {
        chat->ops->read_end(applier->read);
        applier->read = NULL;
    }
    /* Only this thread replaces the store. */
    int rc = chat->ops->read_begin(chat->backing->store, &applier->read);
    applier->read_epoch = epoch;
    return rc;
}

static void end_read(struct chat *chat)
{
    if (chat->applier.read != NULL) {
        chat->ops->read_end(chat->applier.read);
        chat->applier.read = NULL;
    }
}

/* Errors: ERR_NOT_FOUND, and those of the store. */
static int find_channel(struct chat *chat, struct bytes id, struct overlay_channel **out)
{
    *out = overlay_find_channel(&chat->overlay, id);
    if (*out != NULL) {
        return 0;
    }
    struct store_channel row;
    int rc = unlock_and_begin_read(chat);
    if (rc == 0) {
        rc = chat->ops->get_channel(chat->applier.read, id, &row);
    }
    pthread_mutex_lock(&chat->lock);
    /* Only this thread adds channels, so the channel is still not in the table. */
    return rc == 0 ? overlay_load_channel(&chat->overlay, &row, out) : rc;
}

/* Errors: ERR_NOT_FOUND, and those of the store. */
static int find_dedupe(struct chat *chat, struct overlay_channel *channel, struct bytes client_id,
                       uint64_t *out_sequence)
{
    if (overlay_find_dedupe(&chat->overlay, channel->number, client_id, out_sequence)) {
        return 0;
    }
    if (channel->last_sequence == 0) {
        return ERR_NOT_FOUND;
    }
    channel->pins++;
    int rc = unlock_and_begin_read(chat);
    if (rc == 0) {
        rc = chat->ops->get_dedupe(chat->applier.read, channel->number, client_id, out_sequence);
    }
    pthread_mutex_lock(&chat->lock);
    channel->pins--;
    return rc;
}

/* Returns 0 if the key has a value, ERR_NOT_FOUND, or an error of the store. */
static int find_value(struct chat *chat, struct bytes key)
{
    const struct overlay_value *value = overlay_find_working_value(&chat->overlay, key);
    if (value != NULL) {
        return value->is_deleted ? ERR_NOT_FOUND : 0;
    }
    struct bytes stored;
    int rc = unlock_and_begin_read(chat);
    if (rc == 0) {
        rc = chat->ops->get_value(chat->applier.read, key, &stored);
    }
    pthread_mutex_lock(&chat->lock);
    return rc;
}

/* ---- what is written ---- */

static void hash_bytes(struct store_meta *working, const void *data, size_t size)
{
    working->content_hash = checksum64_seed(working->content_hash, data, size);
}

static void hash_numbers(struct store_meta *working, uint64_t a, uint64_t b, uint64_t c, uint64_t d)
{
    uint8_t numbers[32];
    store_u64(numbers, a);
    store_u64(numbers + 8, b);
    store_u64(numbers + 16, c);
    store_u64(numbers + 24, d);
    hash_bytes(working, numbers, sizeof(numbers));
}

/* Hashes the value as the overlay has it, which is what the store will get; not as the command had
 * it. */
static void hash_message(struct store_meta *working, uint64_t channel_number,
                         const struct message *message)
{
    hash_numbers(working, channel_number, message->sequence, (uint64_t)message->timestamp_ms,
                 (uint64_t)message->author_size << 32 | message->client_id_size);
    hash_bytes(working, message->data,
               (size_t)message->author_size + message->client_id_size + message->payload_size);
}

static void hash_channel(struct store_meta *working, const struct overlay_channel *channel)
{
    struct bytes id = channel_id(channel);
    struct bytes name = channel_name(channel);
    hash_numbers(working, channel->number, id.size, name.size, 0);
    hash_bytes(working, id.data, id.size);
    hash_bytes(working, name.data, name.size);
}

static void hash_value(struct store_meta *working, const struct overlay_value *value)
{
    hash_numbers(working, value->key_size, value->value_size, value->is_deleted, 0);
    hash_bytes(working, value->data, (size_t)value->key_size + value->value_size);
}

/* ---- commands; each one takes effect completely or, on error, not at all ---- */

static int reserve_touched(struct applier *applier)
{
    if (applier->touched_count < applier->touched_capacity) {
        return 0;
    }
    size_t capacity =
        applier->touched_capacity != 0 ? applier->touched_capacity * 2 : TOUCHED_CAPACITY_MIN;
    struct touched_channel *touched = realloc(applier->touched, capacity * sizeof(*touched));
    if (touched == NULL) {
        return ERR_NOMEM;
    }
    applier->touched = touched;
    applier->touched_capacity = capacity;
    return 0;
}

/* Marks a channel as changed. Must follow reserve_touched(). The channel is pinned, because the
 * active generation lists it. */
static void touch(struct applier *applier, struct overlay_channel *channel)
{
    if (!channel->is_touched) {
        channel->is_touched = true;
        applier->touched[applier->touched_count++].channel = channel;
    }
}

/* The result may be used after the channel has left memory. */
static void answer_channel(struct applier *applier, const struct overlay_channel *channel,
                           bool created, struct command_result *out)
{
    struct bytes id = channel_id(channel);
    struct bytes name = channel_name(channel);
    CHECK(id.size <= sizeof(applier->id));
    CHECK(name.size <= sizeof(applier->name));
    memcpy(applier->id, id.data, id.size);
    memcpy(applier->name, name.data, name.size);
    out->created = created;
    out->channel_id = (struct bytes){applier->id, id.size};
    out->name = (struct bytes){applier->name, name.size};
}

/* Generates the id of a channel that was requested without one. Errors: those of the store. */
static int choose_id(struct chat *chat, uint64_t index, char id[CREATED_ID_BYTES_MAX])
{
    snprintf(id, CREATED_ID_BYTES_MAX, "channel-%llu", (unsigned long long)index);
    for (uint64_t number = 2;; number++) {
        struct overlay_channel *taken = NULL;
        int rc = find_channel(chat, bytes_of_text(id), &taken);
        if (rc != 0) {
            return rc == ERR_NOT_FOUND ? 0 : rc;
        }
        snprintf(id, CREATED_ID_BYTES_MAX, "channel-%llu-%llu", (unsigned long long)index,
                 (unsigned long long)number);
    }
}

static int apply_create_channel(struct chat *chat, uint64_t index, const struct command *command,
                                struct command_result *out)
{
    struct applier *applier = &chat->applier;
    struct overlay_channel *channel = NULL;
    char chosen[CREATED_ID_BYTES_MAX];
    struct bytes id = command->channel_id;
    int rc = ERR_NOT_FOUND;
    if (id.size > 0) {
        rc = find_channel(chat, id, &channel);
    } else {
        int chosen_rc = choose_id(chat, index, chosen);
        if (chosen_rc != 0) {
            return chosen_rc;
        }
        id = bytes_of_text(chosen);
    }
    if (rc == 0) {
        answer_channel(applier, channel, false, out);
        return 0;
    }
    if (rc != ERR_NOT_FOUND) {
        return rc;
    }
    rc = reserve_touched(applier);
    if (rc == 0) {
        rc = overlay_create_channel(&chat->overlay, index, id, command->name, &channel);
    }
    if (rc != 0) {
        return rc;
    }
    touch(applier, channel);
    hash_channel(&applier->working, channel);
    applier->working.channel_count++;
    answer_channel(applier, channel, true, out);
    return 0;
}

static int append_message(struct chat *chat, struct overlay_channel *channel,
                          const struct command *command)
{
    /* Messenger: timestamps within a channel never decrease, regardless of the leader's clock. */
    int64_t timestamp_ms = command->timestamp_ms > channel->last_timestamp_ms
                               ? command->timestamp_ms
                               : channel->last_timestamp_ms;
    int rc = reserve_touched(&chat->applier);
    if (rc != 0) {
        return rc;
    }
    struct message *message =
        message_create(channel->last_sequence + 1, timestamp_ms, command->author_id,
                       command->client_message_id, command->payload);
    if (message == NULL) {
        return ERR_NOMEM;
    }
    rc = overlay_append_message(&chat->overlay, channel, message);
    if (rc != 0) {
        message_unref(message);
        return rc;
    }
    touch(&chat->applier, channel);
    hash_message(&chat->applier.working, channel->number, message);
    chat->applier.working.message_count++;
    chat_count(&chat->messages_applied);
    return 0;
}

/* Sets `out` to the sequence: that of an earlier message with the same client id, or a new one. */
static int store_message(struct chat *chat, struct overlay_channel *channel,
                         const struct command *command, struct command_item *out)
{
    out->deduplicated = false;
    if (command->client_message_id.size > 0) {
        int rc = find_dedupe(chat, channel, command->client_message_id, &out->sequence);
        if (rc == 0) {
            out->deduplicated = true;
            chat_count(&chat->dedupe_hits);
            return 0;
        }
        if (rc != ERR_NOT_FOUND) {
            return rc;
        }
    }
    int rc = append_message(chat, channel, command);
    if (rc == 0) {
        out->sequence = channel->last_sequence;
    }
    return rc;
}

static int apply_send_message(struct chat *chat, const struct command *command,
                              struct command_result *out)
{
    struct overlay_channel *channel = NULL;
    int rc = find_channel(chat, command->channel_id, &channel);
    if (rc == ERR_NOT_FOUND) {
        out->outcome = COMMAND_CHANNEL_NOT_FOUND;
        return 0;
    }
    if (rc != 0) {
        return rc;
    }
    struct command_item item;
    rc = store_message(chat, channel, command, &item);
    if (rc == 0) {
        out->sequence = item.sequence;
        out->deduplicated = item.deduplicated;
    }
    return rc;
}

/* ---- SEND_MESSAGES: the channels first, since all messages are stored or none ---- */

static int reserve_items(struct applier *applier)
{
    if (applier->items == NULL) {
        applier->items = malloc(COMMAND_MESSAGES_MAX * sizeof(*applier->items));
    }
    if (applier->results == NULL) {
        applier->results = malloc(COMMAND_MESSAGES_MAX * COMMAND_ITEM_BYTES);
    }
    return applier->items == NULL || applier->results == NULL ? ERR_NOMEM : 0;
}

/* Finds and pins the channel of each message. `count` is the number of those that were. */
static int find_item_channels(struct chat *chat, const struct command *command,
                              struct command_result *out, size_t *count)
{
    struct batch_item *items = chat->applier.items;
    struct command_messages messages = command_messages_of(command);
    struct command message;
    struct overlay_channel *channel = NULL;
    *count = 0;
    while (command_messages_next(&messages, &message)) {
        /* Most batches are of one channel. */
        int rc = channel != NULL && bytes_equal(message.channel_id, channel_id(channel))
                     ? 0
                     : find_channel(chat, message.channel_id, &channel);
        if (rc == ERR_NOT_FOUND) {
            out->outcome = COMMAND_CHANNEL_NOT_FOUND;
            out->item = (uint32_t)*count;
            return 0;
        }
        if (rc != 0) {
            return rc;
        }
        channel->pins++;
        items[(*count)++] = (struct batch_item){.channel = channel};
    }
    return 0;
}

/* Takes back what the first `count` messages have stored. */
static void take_items_back(struct chat *chat, size_t count)
{
    while (count > 0) {
        const struct batch_item *item = &chat->applier.items[--count];
        if (item->is_stored) {
            overlay_take_back_message(&chat->overlay, item->channel, item->last_timestamp_ms);
            chat->applier.working.message_count--;
            atomic_fetch_sub_explicit(&chat->messages_applied, 1, memory_order_relaxed);
        }
    }
}

/* Stores the first `count` messages. */
static int store_items(struct chat *chat, const struct command *command, size_t count,
                       struct command_result *out)
{
    struct applier *applier = &chat->applier;
    struct command_messages messages = command_messages_of(command);
    struct command message;
    bool has_duplicates = false;
    for (size_t i = 0; i < count && command_messages_next(&messages, &message); i++) {
        struct batch_item *item = &applier->items[i];
        struct command_item result;
        item->last_timestamp_ms = item->channel->last_timestamp_ms;
        int rc = store_message(chat, item->channel, &message, &result);
        if (rc != 0) {
            take_items_back(chat, i);
            return rc;
        }
        item->is_stored = !result.deduplicated;
        has_duplicates |= result.deduplicated;
        command_item_write(result, &applier->results[i * COMMAND_ITEM_BYTES]);
    }
    out->deduplicated = has_duplicates;
    out->items = (struct bytes){applier->results, count * COMMAND_ITEM_BYTES};
    return 0;
}

static int apply_send_messages(struct chat *chat, const struct command *command,
                               struct command_result *out)
{
    size_t count;
    int rc = reserve_items(&chat->applier);
    if (rc != 0) {
        return rc;
    }
    rc = find_item_channels(chat, command, out, &count);
    if (rc == 0 && out->outcome == COMMAND_OK) {
        rc = store_items(chat, command, count, out);
    }
    for (size_t i = 0; i < count; i++) {
        chat->applier.items[i].channel->pins--;
    }
    return rc;
}

static int apply_value(struct chat *chat, const struct command *command)
{
    bool is_deletion = command->kind == COMMAND_KV_DELETE;
    int found = find_value(chat, command->key);
    if (found != 0 && found != ERR_NOT_FOUND) {
        return found;
    }
    if (is_deletion && found != 0) {
        return 0;
    }
    int rc = overlay_set_value(&chat->overlay, command->key, command->value, is_deletion);
    if (rc == 0) {
        hash_value(&chat->applier.working,
                   overlay_find_working_value(&chat->overlay, command->key));
    }
    if (rc == 0 && is_deletion) {
        chat->applier.working.value_count--;
    } else if (rc == 0 && found != 0) {
        chat->applier.working.value_count++;
    }
    return rc;
}

static int apply_command(struct chat *chat, uint64_t index, const struct command *command,
                         struct command_result *out)
{
    switch (command->kind) {
    case COMMAND_CREATE_CHANNEL:
        return apply_create_channel(chat, index, command, out);
    case COMMAND_SEND_MESSAGE:
        return apply_send_message(chat, command, out);
    case COMMAND_SEND_MESSAGES:
        return apply_send_messages(chat, command, out);
    case COMMAND_KV_SET:
    case COMMAND_KV_DELETE:
        return apply_value(chat, command);
    }
    CHECK(!"a known kind");
    return 0;
}

/* ---- entries ---- */

/* Records an applied entry. `hashed` describes its effect, which is the same on every node. Under
 * the lock. */
static void record_entry(struct chat *chat, uint64_t index, uint64_t term, size_t data_bytes,
                         struct buf *hashed)
{
    struct store_meta *working = &chat->applier.working;
    buf_append_u64(hashed, index);
    CHECK(!buf_failed(hashed));
    working->result_hash = checksum64_seed(working->result_hash, hashed->data, hashed->size);
    hash_bytes(working, hashed->data, hashed->size);
    working->applied_index = index;
    working->applied_term = term;
    struct generation *active = chat->overlay.active;
    active->entry_count++;
    active->data_bytes += data_bytes;
    active->memory_bytes += ENTRY_MEMORY;
    atomic_fetch_add_explicit(&chat->overlay.memory_bytes, ENTRY_MEMORY, memory_order_relaxed);
}

static void begin_contents(struct store_meta *working, uint64_t index)
{
    if ((index - 1) % CHAT_HASH_ENTRIES == 0) {
        working->content_hash = 0;
        working->content_from = index - 1;
    }
}

static void check_next(const struct chat *chat, uint64_t index, uint64_t term)
{
    CHECK(chat->is_batch_open);
    CHECK(index == chat->applier.working.applied_index + 1);
    CHECK(term >= chat->applier.working.applied_term);
}

void chat_apply_begin(struct chat *chat)
{
    pthread_mutex_lock(&chat->lock);
    CHECK(!chat->is_batch_open);
    chat->is_batch_open = true;
    pthread_mutex_unlock(&chat->lock);
}

int chat_apply(struct chat *chat, uint64_t index, uint64_t term, struct bytes data,
               struct command_result *out)
{
    check_next(chat, index, term);
    struct command command;
    struct command_result result = {.outcome = COMMAND_OK};
    int decoded = data.size > 0 ? command_decode(data, &command) : 0;
    if (decoded == ERR_VERSION) {
        /* Newer nodes apply this command. A refusal here would make the states diverge. */
        return ERR_VERSION;
    }
    bool has_command = data.size > 0 && decoded == 0;
    if (has_command) {
        result.kind = command.kind;
    }
    if (decoded != 0 ||
        (has_command && command_check(&command, COMMAND_PAYLOAD_BYTES_MAX) != COMMAND_FINE)) {
        result.outcome = COMMAND_REFUSED;
        has_command = false;
    }
    struct buf *hashed = &chat->applier.scratch;
    buf_reset(hashed);
    struct store_meta *working = &chat->applier.working;
    const uint64_t hash_before = working->content_hash;
    const uint64_t from_before = working->content_from;
    begin_contents(working, index);
    pthread_mutex_lock(&chat->lock);
    int rc = has_command ? apply_command(chat, index, &command, &result) : 0;
    if (rc == 0) {
        command_result_encode(&result, hashed);
        record_entry(chat, index, term, data.size, hashed);
    }
    pthread_mutex_unlock(&chat->lock);
    if (rc == 0) {
        *out = result;
    } else {
        working->content_hash = hash_before;
        working->content_from = from_before;
    }
    return chat_note_damage(chat, rc);
}

int chat_apply_config(struct chat *chat, uint64_t index, uint64_t term, struct bytes config,
                      const uint8_t cluster_id[CLUSTER_ID_BYTES])
{
    check_next(chat, index, term);
    if (config.size > STORE_CONFIG_BYTES_MAX) {
        return ERR_CORRUPT;
    }
    struct store_meta *working = &chat->applier.working;
    begin_contents(working, index);
    memset(working->config, 0, sizeof(working->config));
    if (config.size > 0) {
        memcpy(working->config, config.data, config.size);
    }
    working->config_size = (uint32_t)config.size;
    memcpy(working->cluster_id, cluster_id, sizeof(working->cluster_id));
    struct buf *hashed = &chat->applier.scratch;
    buf_reset(hashed);
    buf_append_text(hashed, config_mark);
    buf_append(hashed, cluster_id, CLUSTER_ID_BYTES);
    buf_append(hashed, config.data, config.size);
    pthread_mutex_lock(&chat->lock);
    record_entry(chat, index, term, config.size, hashed);
    pthread_mutex_unlock(&chat->lock);
    return 0;
}

/* Under the lock. */
static void publish(struct chat *chat)
{
    struct applier *applier = &chat->applier;
    for (size_t i = 0; i < applier->touched_count; i++) {
        struct touched_channel *touched = &applier->touched[i];
        struct overlay_channel *channel = touched->channel;
        channel->is_touched = false;
        channel->is_published = true;
        channel->published_sequence = channel->last_sequence;
        touched->number = channel->number;
        touched->last_sequence = channel->last_sequence;
    }
    overlay_publish_values(&chat->overlay);
    chat->published = applier->working;
    atomic_store_explicit(&chat->applied, applier->working.applied_index, memory_order_release);
}

void chat_apply_end(struct chat *chat)
{
    struct applier *applier = &chat->applier;
    end_read(chat);
    pthread_mutex_lock(&chat->lock);
    CHECK(chat->is_batch_open);
    publish(chat);
    chat->is_batch_open = false;
    if (chat->is_freeze_wanted) {
        chat_freeze(chat, chat->spare);
        chat->spare = NULL;
        chat->is_freeze_wanted = false;
        pthread_cond_signal(&chat->frozen);
    }
    struct generation *active = chat->overlay.active;
    bool is_newly_due = chat_is_due_by_size(chat) && !active->is_due_told;
    active->is_due_told |= is_newly_due;
    pthread_mutex_unlock(&chat->lock);
    for (size_t i = 0; i < applier->touched_count; i++) {
        hub_publish(chat->hub, applier->touched[i].number, applier->touched[i].last_sequence);
    }
    applier->touched_count = 0;
    if (is_newly_due && applier->flush_wanted != NULL) {
        applier->flush_wanted(applier->flush_wanted_context);
    }
}
