/* A chat on a memory store and one-line helpers for the tests of this module. */
#ifndef RAFTOGRAM_TESTS_CHAT_FIXTURE_H
#define RAFTOGRAM_TESTS_CHAT_FIXTURE_H

#include "base/check.h"
#include "base/errors.h"
#include "chat/chat.h"
#include "lib/store_memory.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct fixture {
    struct store *store;
    struct chat *chat;
    struct buf encoded;
};

static inline void fixture_open(struct fixture *fixture)
{
    *fixture = (struct fixture){0};
    assert_int_equal(store_memory_create(&fixture->store), 0);
    assert_int_equal(chat_create(fixture->store, &fixture->chat), 0);
}

static inline void fixture_close(struct fixture *fixture)
{
    chat_destroy(fixture->chat);
    fixture->store->ops->close(fixture->store);
    buf_finish(&fixture->encoded);
}

/* As after a crash: the store as it is, the overlay lost. */
static inline void fixture_restart(struct fixture *fixture)
{
    chat_destroy(fixture->chat);
    assert_int_equal(chat_create(fixture->store, &fixture->chat), 0);
}

static inline struct command create_command(const char *id, const char *name)
{
    return (struct command){.kind = COMMAND_CREATE_CHANNEL,
                            .timestamp_ms = 1000,
                            .channel_id = bytes_of_text(id),
                            .name = bytes_of_text(name)};
}

static inline struct command send_command(const char *channel, const char *client_id,
                                          const char *payload)
{
    return (struct command){.kind = COMMAND_SEND_MESSAGE,
                            .timestamp_ms = 1000,
                            .channel_id = bytes_of_text(channel),
                            .author_id = bytes_of_text("author"),
                            .client_message_id = bytes_of_text(client_id),
                            .payload = bytes_of_text(payload)};
}

/* SEND_MESSAGES of these messages, in memory that the next call reuses. */
static inline struct command batch_command(const struct command *messages, size_t count)
{
    static uint8_t memory[1 << 16];
    static struct command command;
    struct buf encoded = {0};
    struct command_batch batch;
    command_batch_begin(&batch, &encoded);
    for (size_t i = 0; i < count; i++) {
        command_batch_add(&batch, &messages[i]);
    }
    assert_false(buf_failed(&encoded));
    assert_true(encoded.size <= sizeof(memory));
    memcpy(memory, encoded.data, encoded.size);
    assert_int_equal(command_decode((struct bytes){memory, encoded.size}, &command), 0);
    command.timestamp_ms = messages[0].timestamp_ms;
    buf_finish(&encoded);
    return command;
}

static inline void assert_item(const struct command_result *result, size_t position,
                               uint64_t sequence, bool deduplicated)
{
    struct command_item item = command_result_item(result, position);
    assert_int_equal(item.sequence, sequence);
    assert_int_equal(item.deduplicated, deduplicated);
}

static inline struct command set_command(const char *key, const char *value)
{
    return (struct command){.kind = COMMAND_KV_SET,
                            .timestamp_ms = 1000,
                            .key = bytes_of_text(key),
                            .value = bytes_of_text(value)};
}

static inline struct command delete_command(const char *key)
{
    return (struct command){
        .kind = COMMAND_KV_DELETE, .timestamp_ms = 1000, .key = bytes_of_text(key)};
}

static inline uint64_t next_index(const struct fixture *fixture)
{
    struct store_meta meta;
    chat_get_meta(fixture->chat, &meta);
    return meta.applied_index + 1;
}

/* Within a batch. */
static inline int try_apply_at(struct fixture *fixture, uint64_t index,
                               const struct command *command, struct command_result *out)
{
    buf_reset(&fixture->encoded);
    command_encode(command, &fixture->encoded);
    assert_false(buf_failed(&fixture->encoded));
    return chat_apply(fixture->chat, index, 1, buf_bytes(&fixture->encoded), out);
}

/* As a batch of its own. */
static inline int try_apply(struct fixture *fixture, struct command command,
                            struct command_result *out)
{
    uint64_t index = next_index(fixture);
    chat_apply_begin(fixture->chat);
    int rc = try_apply_at(fixture, index, &command, out);
    chat_apply_end(fixture->chat);
    return rc;
}

static inline struct command_result apply(struct fixture *fixture, struct command command)
{
    struct command_result result;
    assert_int_equal(try_apply(fixture, command, &result), 0);
    return result;
}

static inline void apply_no_op(struct fixture *fixture)
{
    struct command_result result;
    uint64_t index = next_index(fixture);
    chat_apply_begin(fixture->chat);
    assert_int_equal(chat_apply(fixture->chat, index, 1, (struct bytes){0}, &result), 0);
    chat_apply_end(fixture->chat);
}

static inline void flush(struct fixture *fixture)
{
    assert_int_equal(chat_flush(fixture->chat, CHAT_FLUSH_NOW, 0), 0);
}

static inline void assert_bytes(struct bytes bytes, const char *text)
{
    assert_int_equal(bytes.size, strlen(text));
    assert_memory_equal(bytes.data, text, bytes.size);
}

static inline struct channel_info find_channel(struct fixture *fixture, const char *id)
{
    struct channel_info info;
    assert_int_equal(chat_find_channel(fixture->chat, bytes_of_text(id), &info), 0);
    return info;
}

static inline struct message_page *read_page(struct fixture *fixture, const char *id,
                                             uint64_t after_sequence, size_t limit)
{
    struct message_page *page = NULL;
    uint64_t number = find_channel(fixture, id).number;
    assert_int_equal(chat_read_page(fixture->chat, number, after_sequence, limit, &page), 0);
    return page;
}

/* Sequences after+1 … after+count, each with the payload that send_many() gave it. */
static inline void assert_page(const struct message_page *page, uint64_t after, size_t count,
                               bool has_more)
{
    assert_int_equal(page->after_sequence, after);
    assert_int_equal(page->count, count);
    assert_int_equal(page->last_sequence, after + count);
    assert_int_equal(page->has_more, has_more);
    for (size_t i = 0; i < count; i++) {
        char expected[32];
        snprintf(expected, sizeof(expected), "payload %zu", (size_t)after + i + 1);
        assert_int_equal(page->messages[i]->sequence, after + i + 1);
        assert_bytes(message_payload(page->messages[i]), expected);
    }
}

static inline void assert_reads(struct fixture *fixture, const char *id, uint64_t after,
                                size_t limit, size_t count, bool has_more)
{
    struct message_page *page = read_page(fixture, id, after, limit);
    assert_page(page, after, count, has_more);
    page_unref(page);
}

/* Sequences from+1 … from+count, one batch. */
static inline void send_many(struct fixture *fixture, const char *channel, uint64_t from,
                             size_t count)
{
    uint64_t index = next_index(fixture);
    chat_apply_begin(fixture->chat);
    for (size_t i = 0; i < count; i++) {
        char payload[32];
        snprintf(payload, sizeof(payload), "payload %zu", (size_t)from + i + 1);
        struct command command = send_command(channel, "", payload);
        struct command_result result;
        assert_int_equal(try_apply_at(fixture, index + i, &command, &result), 0);
        assert_int_equal(result.sequence, from + i + 1);
    }
    chat_apply_end(fixture->chat);
}

static inline void assert_value(struct fixture *fixture, const char *key, const char *value)
{
    struct buf buf = {0};
    int rc = chat_get_value(fixture->chat, bytes_of_text(key), &buf);
    if (value == NULL) {
        assert_int_equal(rc, ERR_NOT_FOUND);
    } else {
        assert_int_equal(rc, 0);
        assert_bytes(buf_bytes(&buf), value);
    }
    buf_finish(&buf);
}

#endif
