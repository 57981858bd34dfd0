/* Pages: stored messages as protobuf-c messages, and their encodings, which all readers share. */
#include "base/check.h"
#include "base/unconst.h"
#include "dispatch/dispatch_internal.h"
#include "json/json.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

/* A frontend adds text around a JSON page (the channel id, escaped). Both together have at most 1
 * MiB. */
#define JSON_PAGE_BYTES_MAX (PAGE_BYTES_MAX - 2048)

struct stored_messages *stored_messages_create(const struct message_page *page)
{
    size_t text = 0;
    for (size_t i = 0; i < page->count; i++) {
        text += page->messages[i]->author_size + page->messages[i]->client_id_size + 2;
    }
    size_t head = sizeof(struct stored_messages);
    size_t rows = page->count * sizeof(Raftogram__V1__StoredMessage);
    size_t links = page->count * sizeof(Raftogram__V1__StoredMessage *);
    char *block = malloc(head + rows + links + text);
    if (block == NULL) {
        return NULL;
    }
    struct stored_messages *messages = (struct stored_messages *)(void *)block;
    Raftogram__V1__StoredMessage *row = (Raftogram__V1__StoredMessage *)(void *)(block + head);
    messages->count = page->count;
    messages->list = (Raftogram__V1__StoredMessage **)(void *)(block + head + rows);
    char *at = block + head + rows + links;
    for (size_t i = 0; i < page->count; i++, row++) {
        const struct message *message = page->messages[i];
        struct bytes author = message_author_id(message);
        struct bytes client_id = message_client_id(message);
        struct bytes payload = message_payload(message);
        raftogram__v1__stored_message__init(row);
        row->sequence = message->sequence;
        row->timestamp_unix_ms = message->timestamp_ms;
        row->payload.data = unconst(payload.data);
        row->payload.len = payload.size;
        row->author_id = at;
        at = mempcpy(at, author.data, author.size);
        *at++ = '\0';
        row->client_message_id = at;
        at = mempcpy(at, client_id.data, client_id.size);
        *at++ = '\0';
        messages->list[i] = row;
    }
    return messages;
}

void stored_messages_destroy(struct stored_messages *messages)
{
    free(messages);
}

/* Writes a StoredMessage as the JSON codec does, but with `text` if the payload is UTF-8. */
static void append_text_message(const Raftogram__V1__StoredMessage *message, struct buf *out)
{
    struct bytes payload = {message->payload.data, message->payload.len};
    buf_printf(out, "{\"sequence\":\"%llu\",\"authorId\":", (unsigned long long)message->sequence);
    json_append_string(out, bytes_of_text(message->author_id));
    buf_append_text(out, ",\"text\":");
    json_append_string(out, payload);
    buf_append_text(out, ",\"clientMessageId\":");
    json_append_string(out, bytes_of_text(message->client_message_id));
    buf_printf(out, ",\"timestampUnixMs\":\"%lld\"}", (long long)message->timestamp_unix_ms);
}

/* Appends the array, at most `bytes_max` bytes but at least one message. Returns the number of
 * messages. */
static size_t append_messages(struct Raftogram__V1__StoredMessage *const *messages, size_t count,
                              bool as_text, size_t bytes_max, struct buf *out)
{
    size_t i = 0;
    size_t begin = out->size;
    buf_append_byte(out, '[');
    for (; i < count; i++) {
        size_t before = out->size;
        if (i > 0) {
            buf_append_byte(out, ',');
        }
        struct bytes payload = {messages[i]->payload.data, messages[i]->payload.len};
        if (as_text && bytes_is_utf8(payload)) {
            append_text_message(messages[i], out);
        } else {
            json_encode(&messages[i]->base, JSON_NAMES_CAMEL, out);
        }
        if (i > 0 && out->size - begin > bytes_max) {
            buf_cut(out, before);
            break;
        }
    }
    buf_append_byte(out, ']');
    return i;
}

void dispatch_messages_json(struct Raftogram__V1__StoredMessage *const *messages, size_t count,
                            bool as_text, struct buf *out)
{
    (void)append_messages(messages, count, as_text, SIZE_MAX, out);
}

static size_t encode_page(const struct stored_messages *messages, enum dispatch_page_format format,
                          struct buf *out)
{
    if (format == DISPATCH_PAGE_PROTOBUF) {
        Raftogram__V1__SubscribeChunk chunk = RAFTOGRAM__V1__SUBSCRIBE_CHUNK__INIT;
        chunk.n_messages = messages->count;
        chunk.messages = messages->list;
        size_t size = protobuf_c_message_get_packed_size(&chunk.base);
        uint8_t *data = buf_extend(out, size);
        if (data != NULL) {
            protobuf_c_message_pack(&chunk.base, data);
        }
        return messages->count;
    }
    buf_append_text(out, "{\"messages\":");
    size_t count = append_messages(messages->list, messages->count,
                                   format == DISPATCH_PAGE_JSON_TEXT, JSON_PAGE_BYTES_MAX, out);
    buf_append_byte(out, '}');
    return count;
}

static void destroy_encoding(struct page_encoding *encoding)
{
    free(encoding->data);
    free(encoding);
}

struct page_encoding *dispatch_encode_page(struct message_page *page,
                                           enum dispatch_page_format format)
{
    static_assert(DISPATCH_PAGE_JSON_TEXT < PAGE_ENCODINGS_MAX, "a slot for each format");
    struct page_encoding *encoding = page_encoding(page, format, NULL);
    if (encoding != NULL) {
        return encoding;
    }
    struct buf text = {0};
    struct stored_messages *messages = stored_messages_create(page);
    encoding = calloc(1, sizeof(*encoding));
    if (messages != NULL && encoding != NULL) {
        encoding->count = encode_page(messages, format, &text);
    }
    stored_messages_destroy(messages);
    if (messages == NULL || encoding == NULL || buf_failed(&text)) {
        free(encoding);
        buf_finish(&text);
        return NULL;
    }
    encoding->destroy = destroy_encoding;
    encoding->data = text.data;
    encoding->size = text.size;
    return page_encoding(page, format, encoding);
}

struct bytes dispatch_page_encoded(struct message_page *page, enum dispatch_page_format format)
{
    const struct page_encoding *encoding = page_encoding(page, format, NULL);
    CHECK(encoding != NULL);
    return (struct bytes){encoding->data, encoding->size};
}

size_t dispatch_page_count(struct message_page *page, enum dispatch_page_format format)
{
    const struct page_encoding *encoding = page_encoding(page, format, NULL);
    CHECK(encoding != NULL);
    return encoding->count;
}

struct message_page *dispatch_page_ref(struct message_page *page)
{
    return page_ref(page);
}

void dispatch_page_unref(struct message_page *page)
{
    page_unref(page);
}
