/* Reads on any thread. References are taken under the lock; everything else runs without it. */
#include "base/check.h"
#include "base/errors.h"
#include "chat/chat_internal.h"

#include <stdlib.h>
#include <string.h>

/* ---- channels ---- */

static void fill_info(struct bytes id, struct bytes name, uint64_t number, uint64_t last_sequence,
                      struct channel_info *out)
{
    memcpy(out->id, id.data, id.size);
    out->id[id.size] = '\0';
    if (name.size > 0) {
        memcpy(out->name, name.data, name.size);
    }
    out->name[name.size] = '\0';
    out->number = number;
    out->last_sequence = last_sequence;
    out->first_sequence = last_sequence > 0 ? 1 : 0;
}

static int fill_info_of_row(const struct store_channel *row, struct channel_info *out)
{
    if (row->id.size > COMMAND_ID_BYTES_MAX || row->name.size > COMMAND_NAME_BYTES_MAX) {
        return ERR_CORRUPT;
    }
    fill_info(row->id, row->name, row->number, row->last_sequence, out);
    return 0;
}

static void fill_info_of_channel(const struct overlay_channel *channel, uint64_t last_sequence,
                                 struct channel_info *out)
{
    fill_info(channel_id(channel), channel_name(channel), channel->number, last_sequence, out);
}

static int find_stored_channel(struct chat *chat, struct bytes id, struct channel_info *out)
{
    struct chat_read read;
    int rc = chat_read_begin(chat, &read);
    if (rc != 0) {
        return rc;
    }
    struct store_channel row;
    rc = chat->ops->get_channel(read.read, id, &row);
    if (rc == 0) {
        rc = fill_info_of_row(&row, out);
    }
    chat_read_end(chat, &read);
    return rc;
}

int chat_find_channel(struct chat *chat, struct bytes id, struct channel_info *out)
{
    if (id.size == 0 || id.size > COMMAND_ID_BYTES_MAX) {
        return ERR_NOT_FOUND;
    }
    pthread_mutex_lock(&chat->lock);
    const struct overlay_channel *channel = overlay_find_channel(&chat->overlay, id);
    bool is_in_memory = channel != NULL;
    bool is_published = is_in_memory && channel->is_published;
    if (is_published) {
        fill_info_of_channel(channel, channel->published_sequence, out);
    }
    pthread_mutex_unlock(&chat->lock);
    if (is_in_memory) {
        return is_published ? 0 : ERR_NOT_FOUND;
    }
    /* A read that begins now sees everything that the overlay had dropped by then. */
    return chat_note_damage(chat, find_stored_channel(chat, id, out));
}

/* ---- pages ---- */

/* A page that is being built. */
struct page_draft {
    uint64_t channel_number;
    size_t limit;
    uint64_t last_sequence; /* the channel's end */
    size_t bytes;
    struct message_page *page;
};

/* Takes ownership of the reference if the message fits; at least one message always does. */
static bool draft_add(struct page_draft *draft, struct message *message)
{
    size_t bytes = message_page_bytes(message);
    if (draft->page->count > 0 && draft->bytes + bytes > PAGE_BYTES_MAX) {
        return false;
    }
    draft->page->messages[draft->page->count++] = message;
    draft->page->last_sequence = message->sequence;
    draft->bytes += bytes;
    return true;
}

static int draft_begin(struct page_draft *draft, uint64_t after_sequence, size_t capacity)
{
    draft->page = page_create(capacity);
    if (draft->page == NULL) {
        return ERR_NOMEM;
    }
    draft->page->after_sequence = after_sequence;
    draft->page->last_sequence = after_sequence;
    return 0;
}

/* Adds up to `count` messages of the store. A row that is not the next sequence means that one is
 * missing: that is damage, never skipped. Returns ERR_NOT_FOUND at the end of the stored messages.
 */
static int draft_add_stored(struct chat *chat, struct page_draft *draft, struct store_read *read,
                            size_t count, bool *is_full)
{
    *is_full = false;
    for (size_t i = 0; i < count && !*is_full; i++) {
        uint64_t after = draft->page->last_sequence;
        struct message *message = NULL;
        int rc = chat->ops->next_message(read, draft->channel_number, after, &message);
        if (rc != 0) {
            return rc;
        }
        if (message->sequence != after + 1) {
            message_unref(message);
            return ERR_CORRUPT;
        }
        *is_full = !draft_add(draft, message);
        if (*is_full) {
            message_unref(message);
        }
    }
    return 0;
}

/* Reads a channel that is not in memory: it is completely stored, and ends where the store has no
 * more rows. */
static int read_stored_page(struct chat *chat, struct page_draft *draft, uint64_t after_sequence)
{
    int rc = draft_begin(draft, after_sequence, draft->limit);
    if (rc != 0) {
        return rc;
    }
    struct chat_read read;
    rc = chat_read_begin(chat, &read);
    if (rc != 0) {
        return rc;
    }
    bool is_full = false;
    rc = after_sequence < UINT64_MAX
             ? draft_add_stored(chat, draft, read.read, draft->limit, &is_full)
             : ERR_NOT_FOUND;
    if (rc == 0 && !is_full) {
        struct message *next = NULL;
        rc = chat->ops->next_message(read.read, draft->channel_number, draft->page->last_sequence,
                                     &next);
        message_unref(next);
        is_full = rc == 0;
    }
    chat_read_end(chat, &read);
    draft->page->has_more = is_full;
    return rc == ERR_NOT_FOUND ? 0 : rc;
}

/* Takes references to up to `count_max` messages of the run, from `sequence` on. Returns their
 * number. The last one may exceed the size limit. Under the lock. */
static size_t take_run(const struct overlay_channel *channel, uint64_t sequence, size_t count_max,
                       struct message **out)
{
    size_t count = 0;
    size_t bytes = 0;
    while (count < count_max && bytes <= PAGE_BYTES_MAX) {
        struct message *message = channel_run_message(channel, sequence + count);
        bytes += message_page_bytes(message);
        out[count++] = message_ref(message);
    }
    return count;
}

/* Adds the taken messages that fit, and releases the others. */
static void draft_add_run(struct page_draft *draft, struct message *const *run, size_t count,
                          bool is_full)
{
    for (size_t i = 0; i < count; i++) {
        is_full = is_full || !draft_add(draft, run[i]);
        if (is_full) {
            message_unref(run[i]);
        }
    }
    draft->page->has_more = draft->page->last_sequence < draft->last_sequence;
}

/* Reads the first `stored_count` messages from the store, then the run. The messages of the run
 * were taken before the transaction began, so the store has everything before them. */
static int read_joined_page(struct chat *chat, struct page_draft *draft, size_t stored_count,
                            struct message *const *run, size_t run_count)
{
    struct chat_read read;
    int rc = chat_read_begin(chat, &read);
    bool is_full = false;
    if (rc == 0) {
        rc = draft_add_stored(chat, draft, read.read, stored_count, &is_full);
        chat_read_end(chat, &read);
    }
    draft_add_run(draft, run, run_count, is_full || rc != 0);
    /* What the overlay has dropped is in the store, unless the store has lost it. */
    return rc == ERR_NOT_FOUND ? ERR_CORRUPT : rc;
}

/* Finds or creates the shared page of messages that are all in memory. Under the lock. */
static int read_run_page(struct chat *chat, const struct overlay_channel *channel,
                         struct page_draft *draft, uint64_t after_sequence, size_t capacity)
{
    draft->page = pages_find(&chat->pages, draft->channel_number, after_sequence, draft->limit,
                             draft->last_sequence);
    if (draft->page != NULL) {
        return 0;
    }
    struct message *run[PAGE_MESSAGES_MAX];
    int rc = draft_begin(draft, after_sequence, capacity);
    if (rc == 0) {
        size_t count = take_run(channel, after_sequence + 1, capacity, run);
        draft_add_run(draft, run, count, false);
    }
    if (rc == 0 && draft->page->count > 0) {
        pages_put(&chat->pages, draft->channel_number, draft->limit, draft->page);
    }
    return rc;
}

/* Reads a page of a channel in memory. Called with the lock held; returns without it. */
static int read_page_and_unlock(struct chat *chat, const struct overlay_channel *channel,
                                struct page_draft *draft, uint64_t after_sequence)
{
    struct list dropped;
    list_init(&dropped);
    draft->last_sequence = channel->is_published ? channel->published_sequence : 0;
    uint64_t left =
        draft->last_sequence > after_sequence ? draft->last_sequence - after_sequence : 0;
    size_t capacity = left < draft->limit ? (size_t)left : draft->limit;
    uint64_t before_run = channel_run_first(channel) - 1;
    uint64_t stored = before_run > after_sequence ? before_run - after_sequence : 0;
    size_t stored_count = stored < capacity ? (size_t)stored : capacity;
    struct message *run[PAGE_MESSAGES_MAX];
    size_t run_count = 0;
    int rc = 0;
    if (stored_count == 0) {
        rc = read_run_page(chat, channel, draft, after_sequence, capacity);
        pages_take_dropped(&chat->pages, &dropped);
    } else {
        rc = draft_begin(draft, after_sequence, capacity);
        if (rc == 0) {
            run_count = take_run(channel, before_run + 1, capacity - stored_count, run);
        }
    }
    pthread_mutex_unlock(&chat->lock);
    pages_free_dropped(&dropped);
    chat_count(stored_count == 0 ? &chat->tail_hits : &chat->tail_misses);
    if (rc == 0 && stored_count > 0) {
        rc = read_joined_page(chat, draft, stored_count, run, run_count);
    }
    return rc;
}

int chat_read_page(struct chat *chat, uint64_t channel_number, uint64_t after_sequence,
                   size_t limit, struct message_page **out)
{
    CHECK(limit > 0);
    struct page_draft draft = {
        .channel_number = channel_number,
        .limit = limit < PAGE_MESSAGES_MAX ? limit : PAGE_MESSAGES_MAX,
    };
    int rc = 0;
    pthread_mutex_lock(&chat->lock);
    const struct overlay_channel *channel = overlay_find_number(&chat->overlay, channel_number);
    if (channel != NULL) {
        rc = read_page_and_unlock(chat, channel, &draft, after_sequence);
    } else {
        pthread_mutex_unlock(&chat->lock);
        chat_count(&chat->tail_misses);
        rc = read_stored_page(chat, &draft, after_sequence);
    }
    if (rc != 0) {
        page_unref(draft.page);
        return chat_note_damage(chat, rc);
    }
    *out = draft.page;
    return 0;
}

/* ---- lists ---- */

static bool has_prefix(struct bytes bytes, struct bytes prefix)
{
    return bytes.size >= prefix.size &&
           (prefix.size == 0 || memcmp(bytes.data, prefix.data, prefix.size) == 0);
}

/* A channel in memory, as of the begin of the list; pinned. */
struct listed_channel {
    struct overlay_channel *channel;
    uint64_t last_sequence;
};

/* The begin of a list, and the next row of the store in it. */
struct channel_list {
    struct bytes from;
    bool is_exclusive;
    struct bytes prefix;
    struct chat_read read;
    struct store_channel row;
    bool has_row;
    char cursor[COMMAND_ID_BYTES_MAX];
};

/* Takes the first `max` published channels in memory of the list. Under the lock. */
static size_t pin_listed(struct chat *chat, const struct channel_list *list, size_t max,
                         struct listed_channel *out)
{
    size_t count = 0;
    struct ordered_node *node =
        ordered_seek(&chat->overlay.channels, list->from, list->is_exclusive);
    for (; node != NULL && count < max && has_prefix(node->key, list->prefix);
         node = ordered_next(node)) {
        struct overlay_channel *channel = CONTAINER_OF(node, struct overlay_channel, order);
        if (channel->is_published) {
            channel->pins++;
            out[count++] = (struct listed_channel){channel, channel->published_sequence};
        }
    }
    return count;
}

static void unpin_listed(struct chat *chat, const struct listed_channel *listed, size_t count)
{
    pthread_mutex_lock(&chat->lock);
    for (size_t i = 0; i < count; i++) {
        listed[i].channel->pins--;
    }
    pthread_mutex_unlock(&chat->lock);
}

static int next_row(struct chat *chat, struct channel_list *list)
{
    int rc = chat->ops->seek_channel(list->read.read, list->from, list->is_exclusive, &list->row);
    list->has_row = rc == 0 && has_prefix(list->row.id, list->prefix);
    if (!list->has_row) {
        return rc == ERR_NOT_FOUND ? 0 : rc;
    }
    if (list->row.id.size > sizeof(list->cursor)) {
        return ERR_CORRUPT;
    }
    /* Views are valid until the next call, so the cursor is a copy. */
    memcpy(list->cursor, list->row.id.data, list->row.id.size);
    list->from = (struct bytes){list->cursor, list->row.id.size};
    list->is_exclusive = true;
    return 0;
}

/* If a channel is in overlay and store, the state of the overlay counts. */
static int merge_channels(struct chat *chat, struct channel_list *list,
                          const struct listed_channel *listed, size_t listed_count, size_t limit,
                          struct channel_info *out, size_t *out_count, bool *has_more)
{
    size_t count = 0;
    size_t at = 0;
    int rc = next_row(chat, list);
    while (rc == 0 && count < limit && (at < listed_count || list->has_row)) {
        int order = at == listed_count ? 1
                    : !list->has_row   ? -1
                                     : bytes_compare(channel_id(listed[at].channel), list->row.id);
        if (order <= 0) {
            fill_info_of_channel(listed[at].channel, listed[at].last_sequence, &out[count]);
            at++;
        } else {
            rc = fill_info_of_row(&list->row, &out[count]);
        }
        if (rc == 0 && order >= 0) {
            rc = next_row(chat, list);
        }
        count++;
    }
    if (rc == 0) {
        *out_count = count;
        *has_more = at < listed_count || list->has_row;
    }
    return rc;
}

int chat_list_channels(struct chat *chat, struct bytes after, struct bytes prefix, size_t limit,
                       struct channel_info *out, size_t *out_count, bool *has_more)
{
    CHECK(limit < SIZE_MAX / sizeof(struct listed_channel));
    struct listed_channel *listed = malloc((limit + 1) * sizeof(*listed));
    if (listed == NULL) {
        return ERR_NOMEM;
    }
    bool is_after = bytes_compare(after, prefix) >= 0;
    struct channel_list list = {
        .from = is_after ? after : prefix,
        .is_exclusive = is_after && after.size > 0,
        .prefix = prefix,
    };
    pthread_mutex_lock(&chat->lock);
    /* Begins under the lock, so that overlay and transaction show the same moment. */
    int rc = chat_read_begin_locked(chat, &list.read);
    size_t count = rc == 0 ? pin_listed(chat, &list, limit + 1, listed) : 0;
    pthread_mutex_unlock(&chat->lock);
    if (rc == 0) {
        rc = merge_channels(chat, &list, listed, count, limit, out, out_count, has_more);
        unpin_listed(chat, listed, count);
        chat_read_end(chat, &list.read);
    }
    free(listed);
    return chat_note_damage(chat, rc);
}

/* ---- values ---- */

static int get_stored_value(struct chat *chat, struct bytes key, struct buf *out)
{
    struct chat_read read;
    int rc = chat_read_begin(chat, &read);
    if (rc != 0) {
        return rc;
    }
    struct bytes value;
    rc = chat->ops->get_value(read.read, key, &value);
    if (rc == 0) {
        buf_append(out, value.data, value.size);
    }
    chat_read_end(chat, &read);
    return rc;
}

int chat_get_value(struct chat *chat, struct bytes key, struct buf *out)
{
    if (key.size == 0 || key.size > COMMAND_ID_BYTES_MAX) {
        return ERR_NOT_FOUND;
    }
    pthread_mutex_lock(&chat->lock);
    struct overlay_value *value = overlay_find_published_value(&chat->overlay, key);
    if (value != NULL) {
        value_ref(value);
    }
    pthread_mutex_unlock(&chat->lock);
    int rc = 0;
    if (value == NULL) {
        rc = get_stored_value(chat, key, out);
    } else if (value->is_deleted) {
        rc = ERR_NOT_FOUND;
    } else {
        buf_append(out, value_bytes(value).data, value_bytes(value).size);
    }
    value_unref(value);
    return rc == 0 && buf_failed(out) ? ERR_NOMEM : chat_note_damage(chat, rc);
}

/* The part of a walk in the overlay: values and deletions, with references. */
struct value_list {
    struct overlay_value **values;
    size_t count;
    size_t capacity;
};

static int value_list_add(struct value_list *list, struct overlay_value *value)
{
    if (list->count == list->capacity) {
        size_t capacity = list->capacity != 0 ? list->capacity * 2 : 64;
        struct overlay_value **values = realloc(list->values, capacity * sizeof(*values));
        if (values == NULL) {
            return ERR_NOMEM;
        }
        list->values = values;
        list->capacity = capacity;
    }
    list->values[list->count++] = value_ref(value);
    return 0;
}

static void value_list_finish(struct value_list *list)
{
    for (size_t i = 0; i < list->count; i++) {
        value_unref(list->values[i]);
    }
    free(list->values);
}

/* The range of a walk. */
struct value_range {
    struct bytes from;
    bool is_exclusive;
    struct bytes prefix;
};

/* Takes entries of the overlay. Deletions do not count towards the limit: each only hides a row of
 * the store. Under the lock. */
static int take_values(struct chat *chat, const struct value_range *range, size_t limit,
                       struct value_list *out)
{
    struct overlay_value_cursor cursor;
    overlay_seek_values(&chat->overlay, range->from, range->is_exclusive, &cursor);
    size_t live = 0;
    int rc = 0;
    while (rc == 0 && live < limit) {
        struct overlay_value *value = overlay_next_value(&cursor);
        if (value == NULL || !has_prefix(value_key(value), range->prefix)) {
            break;
        }
        live += value->is_deleted ? 0 : 1;
        rc = value_list_add(out, value);
    }
    return rc;
}

/* The next row of the store in a walk. */
struct value_row {
    struct chat_read read;
    struct bytes key;
    struct bytes value;
    bool has_row;
    char cursor[COMMAND_ID_BYTES_MAX];
};

static int next_value_row(struct chat *chat, struct value_row *row, const struct value_range *range)
{
    int rc = chat->ops->seek_value(row->read.read, range->from, range->is_exclusive, &row->key,
                                   &row->value);
    row->has_row = rc == 0 && has_prefix(row->key, range->prefix);
    if (rc != 0) {
        return rc == ERR_NOT_FOUND ? 0 : rc;
    }
    if (row->key.size > sizeof(row->cursor)) {
        return ERR_CORRUPT;
    }
    memcpy(row->cursor, row->key.data, row->key.size);
    return 0;
}

static int merge_values(struct chat *chat, const struct value_list *list, struct value_row *row,
                        const struct value_range *range, size_t limit, chat_value_fn each,
                        void *context)
{
    size_t at = 0;
    size_t told = 0;
    int rc = next_value_row(chat, row, range);
    while (rc == 0 && told < limit && (at < list->count || row->has_row)) {
        const struct overlay_value *value = at < list->count ? list->values[at] : NULL;
        int order = value == NULL   ? 1
                    : !row->has_row ? -1
                                    : bytes_compare(value_key(value), row->key);
        if (order > 0) {
            told++;
            rc = each(context, row->key, row->value);
        } else {
            at++;
            if (!value->is_deleted) {
                told++;
                rc = each(context, value_key(value), value_bytes(value));
            }
        }
        if (rc == 0 && order >= 0) {
            const struct value_range rest = {
                .from = {row->cursor, row->key.size},
                .is_exclusive = true,
                .prefix = range->prefix,
            };
            rc = next_value_row(chat, row, &rest);
        }
    }
    return rc;
}

int chat_walk_values(struct chat *chat, struct bytes after, struct bytes prefix, size_t limit,
                     chat_value_fn each, void *context)
{
    bool is_after = bytes_compare(after, prefix) >= 0;
    const struct value_range range = {
        .from = is_after ? after : prefix,
        .is_exclusive = is_after && after.size > 0,
        .prefix = prefix,
    };
    struct value_list list = {0};
    struct value_row row = {0};
    pthread_mutex_lock(&chat->lock);
    int rc = chat_read_begin_locked(chat, &row.read);
    bool has_read = rc == 0;
    if (rc == 0) {
        rc = take_values(chat, &range, limit, &list);
    }
    pthread_mutex_unlock(&chat->lock);
    if (rc == 0) {
        rc = merge_values(chat, &list, &row, &range, limit, each, context);
    }
    if (has_read) {
        chat_read_end(chat, &row.read);
    }
    value_list_finish(&list);
    return chat_note_damage(chat, rc);
}
