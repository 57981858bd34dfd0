/* What applying each command does, and what is seen of it when. */
#include "chat_fixture.h"

#include "base/clock.h"

static uint8_t huge[COMMAND_PAYLOAD_BYTES_MAX + 1];

static void test_new_channel_is_created_and_found(void **state)
{
    struct fixture f;
    fixture_open(&f);
    struct command_result result = apply(&f, create_command("general", "General talk"));
    assert_int_equal(result.kind, COMMAND_CREATE_CHANNEL);
    assert_int_equal(result.outcome, COMMAND_OK);
    assert_true(result.created);
    assert_bytes(result.channel_id, "general");
    assert_bytes(result.name, "General talk");
    struct channel_info info = find_channel(&f, "general");
    assert_int_equal(info.number, 1);
    assert_int_equal(info.last_sequence, 0);
    assert_int_equal(info.first_sequence, 0);
    assert_string_equal(info.id, "general");
    assert_string_equal(info.name, "General talk");
    struct channel_info none;
    assert_int_equal(chat_find_channel(f.chat, bytes_of_text("other"), &none), ERR_NOT_FOUND);
    fixture_close(&f);
}

static void test_existing_channel_keeps_its_name(void **state)
{
    struct fixture f;
    fixture_open(&f);
    apply(&f, create_command("general", "first"));
    for (int round = 0; round < 3; round++) {
        struct command_result result = apply(&f, create_command("general", "second"));
        assert_false(result.created);
        assert_bytes(result.channel_id, "general");
        assert_bytes(result.name, "first");
        flush(&f);
        if (round == 1) {
            fixture_restart(&f);
        }
    }
    struct store_meta meta;
    chat_get_meta(f.chat, &meta);
    assert_int_equal(meta.channel_count, 1);
    fixture_close(&f);
}

static void test_empty_id_becomes_the_log_index(void **state)
{
    struct fixture f;
    fixture_open(&f);
    assert_bytes(apply(&f, create_command("", "a")).channel_id, "channel-1");
    assert_true(apply(&f, create_command("channel-3", "taken")).created);
    struct command_result result = apply(&f, create_command("", "b"));
    assert_true(result.created);
    assert_bytes(result.channel_id, "channel-3-2");
    apply(&f, create_command("channel-6", "taken"));
    apply(&f, create_command("channel-6-2", "taken"));
    flush(&f);
    fixture_restart(&f);
    assert_bytes(apply(&f, create_command("", "c")).channel_id, "channel-6-3");
    fixture_close(&f);
}

static void test_sequences_start_at_one_without_gaps_in_each_channel(void **state)
{
    struct fixture f;
    fixture_open(&f);
    apply(&f, create_command("a", ""));
    apply(&f, create_command("b", ""));
    for (uint64_t i = 1; i <= 5; i++) {
        assert_int_equal(apply(&f, send_command("a", "", "x")).sequence, i);
        assert_int_equal(apply(&f, send_command("nowhere", "", "x")).outcome,
                         COMMAND_CHANNEL_NOT_FOUND);
        assert_int_equal(apply(&f, send_command("b", "", "x")).sequence, i);
        if (i == 2) {
            flush(&f);
        }
        if (i == 3) {
            flush(&f);
            fixture_restart(&f);
        }
    }
    assert_int_equal(find_channel(&f, "a").last_sequence, 5);
    assert_int_equal(find_channel(&f, "a").first_sequence, 1);
    fixture_close(&f);
}

static void test_client_id_answers_the_original_sequence_for_ever(void **state)
{
    struct fixture f;
    fixture_open(&f);
    apply(&f, create_command("a", ""));
    apply(&f, create_command("b", ""));
    apply(&f, send_command("a", "", "first"));
    struct command_result result = apply(&f, send_command("a", "id-1", "second"));
    assert_int_equal(result.sequence, 2);
    assert_false(result.deduplicated);
    for (int round = 0; round < 4; round++) {
        result = apply(&f, send_command("a", "id-1", "whatever else"));
        assert_int_equal(result.sequence, 2);
        assert_true(result.deduplicated);
        flush(&f);
        if (round >= 1) {
            fixture_restart(&f);
        }
    }
    /* In another channel it is another id; and no id is no id. */
    result = apply(&f, send_command("b", "id-1", "x"));
    assert_int_equal(result.sequence, 1);
    assert_false(result.deduplicated);
    assert_int_equal(apply(&f, send_command("a", "", "x")).sequence, 3);
    assert_int_equal(apply(&f, send_command("a", "", "x")).sequence, 4);
    fixture_close(&f);
}

static void test_client_id_is_found_while_its_generation_is_frozen(void **state)
{
    struct fixture f;
    fixture_open(&f);
    apply(&f, create_command("a", ""));
    apply(&f, send_command("a", "id-1", "x"));
    store_memory_fail_next_commit(f.store, ERR_NO_SPACE);
    assert_int_equal(chat_flush(f.chat, CHAT_FLUSH_NOW, 0), ERR_NO_SPACE);
    struct command_result result = apply(&f, send_command("a", "id-1", "x"));
    assert_true(result.deduplicated);
    assert_int_equal(result.sequence, 1);
    fixture_close(&f);
}

/* The batch's read transaction was opened before the flush: it must not be asked for what the flush
 * let go of. */
static void test_client_id_is_found_when_a_flush_falls_into_the_batch(void **state)
{
    struct fixture f;
    fixture_open(&f);
    apply(&f, create_command("a", ""));
    apply(&f, send_command("a", "id-1", "x"));
    apply(&f, set_command("key", "value"));
    store_memory_fail_next_commit(f.store, ERR_NO_SPACE);
    assert_int_equal(chat_flush(f.chat, CHAT_FLUSH_NOW, 0), ERR_NO_SPACE);
    uint64_t index = next_index(&f);
    chat_apply_begin(f.chat);
    struct command unknown = send_command("a", "id-2", "opens the transaction");
    struct command known = send_command("a", "id-1", "x");
    struct command delete = delete_command("key");
    struct command_result result;
    assert_int_equal(try_apply_at(&f, index, &unknown, &result), 0);
    flush(&f);
    assert_int_equal(try_apply_at(&f, index + 1, &known, &result), 0);
    assert_true(result.deduplicated);
    assert_int_equal(result.sequence, 1);
    assert_int_equal(try_apply_at(&f, index + 2, &delete, &result), 0);
    chat_apply_end(f.chat);
    struct store_meta meta;
    chat_get_meta(f.chat, &meta);
    assert_int_equal(meta.value_count, 0);
    fixture_close(&f);
}

static void test_timestamps_never_go_backwards_in_a_channel(void **state)
{
    struct fixture f;
    fixture_open(&f);
    apply(&f, create_command("a", ""));
    const int64_t stamps[] = {5000, 3000, 7000, 1};
    const int64_t expected[] = {5000, 5000, 7000, 7000};
    for (size_t i = 0; i < 4; i++) {
        struct command command = send_command("a", "", "x");
        command.timestamp_ms = stamps[i];
        apply(&f, command);
        flush(&f);
        fixture_restart(&f);
    }
    struct message_page *page = read_page(&f, "a", 0, 10);
    for (size_t i = 0; i < 4; i++) {
        assert_int_equal(page->messages[i]->timestamp_ms, expected[i]);
    }
    page_unref(page);
    fixture_close(&f);
}

static void test_bad_commands_are_refused_and_change_nothing(void **state)
{
    struct fixture f;
    fixture_open(&f);
    apply(&f, create_command("a", ""));
    struct command too_large = send_command("a", "", "");
    too_large.payload = (struct bytes){huge, COMMAND_PAYLOAD_BYTES_MAX + 1};
    struct command not_text = send_command("a", "\xff", "x");
    struct command_result result = apply(&f, too_large);
    assert_int_equal(result.outcome, COMMAND_REFUSED);
    result = apply(&f, not_text);
    assert_int_equal(result.outcome, COMMAND_REFUSED);
    assert_int_equal(result.kind, COMMAND_SEND_MESSAGE);
    chat_apply_begin(f.chat);
    assert_int_equal(chat_apply(f.chat, 4, 1, bytes_of_text("\x01nonsense"), &result), 0);
    assert_int_equal(result.outcome, COMMAND_REFUSED);
    chat_apply_end(f.chat);
    assert_int_equal(chat_applied(f.chat), 4);
    assert_int_equal(find_channel(&f, "a").last_sequence, 0);
    fixture_close(&f);
}

static void test_a_batch_is_stored_in_order_over_several_channels(void **state)
{
    struct fixture f;
    fixture_open(&f);
    apply(&f, create_command("a", ""));
    apply(&f, create_command("b", ""));
    apply(&f, send_command("b", "", "first"));
    for (int round = 0; round < 2; round++) {
        flush(&f);
        fixture_restart(&f); /* the channels come from the store */
        const struct command messages[] = {send_command("a", "", "1"), send_command("b", "", "2"),
                                           send_command("a", "", "3")};
        uint64_t before = find_channel(&f, "a").last_sequence;
        struct command_result result = apply(&f, batch_command(messages, 3));
        assert_int_equal(result.kind, COMMAND_SEND_MESSAGES);
        assert_int_equal(result.outcome, COMMAND_OK);
        assert_int_equal(command_result_item_count(&result), 3);
        assert_item(&result, 0, before + 1, false);
        assert_item(&result, 1, 2 + (uint64_t)round, false);
        assert_item(&result, 2, before + 2, false);
    }
    struct message_page *page = read_page(&f, "a", 0, 10);
    assert_int_equal(page->count, 4);
    assert_bytes(message_payload(page->messages[1]), "3");
    page_unref(page);
    struct store_meta meta;
    chat_get_meta(f.chat, &meta);
    assert_int_equal(meta.message_count, 7);
    assert_int_equal(meta.applied_index, 5);
    fixture_close(&f);
}

static void test_a_batch_with_an_unknown_channel_stores_nothing(void **state)
{
    struct fixture f;
    fixture_open(&f);
    apply(&f, create_command("a", ""));
    const struct command messages[] = {send_command("a", "id", "1"), send_command("a", "", "2"),
                                       send_command("nowhere", "", "3"),
                                       send_command("a", "", "4")};
    struct command_result result = apply(&f, batch_command(messages, 4));
    assert_int_equal(result.outcome, COMMAND_CHANNEL_NOT_FOUND);
    assert_int_equal(result.item, 2);
    assert_int_equal(command_result_item_count(&result), 0);
    assert_int_equal(find_channel(&f, "a").last_sequence, 0);
    result = apply(&f, send_command("a", "id", "1"));
    assert_int_equal(result.sequence, 1);
    assert_false(result.deduplicated);
    fixture_close(&f);
}

static void test_a_batch_is_deduplicated_message_by_message(void **state)
{
    struct fixture f;
    fixture_open(&f);
    apply(&f, create_command("a", ""));
    apply(&f, create_command("b", ""));
    apply(&f, send_command("a", "old", "x"));
    const struct command messages[] = {send_command("a", "new", "1"), send_command("a", "old", "2"),
                                       send_command("b", "new", "3"),
                                       send_command("a", "new", "4")};
    struct command_result result = apply(&f, batch_command(messages, 4));
    assert_true(result.deduplicated);
    assert_true(command_result_has_stored(&result));
    assert_item(&result, 0, 2, false);
    assert_item(&result, 1, 1, true);
    assert_item(&result, 2, 1, false); /* another channel, another id */
    assert_item(&result, 3, 2, true);  /* the batch's own first one */
    flush(&f);
    fixture_restart(&f);
    result = apply(&f, batch_command(messages, 4));
    assert_false(command_result_has_stored(&result));
    assert_item(&result, 0, 2, true);
    assert_item(&result, 2, 1, true);
    assert_item(&result, 3, 2, true);
    assert_int_equal(find_channel(&f, "a").last_sequence, 2);
    fixture_close(&f);
}

/* The same log gives the same state, wherever flushes and restarts fall. */
static void test_a_batch_gives_the_same_hashes_over_a_restart(void **state)
{
    struct store_meta metas[2];
    for (int round = 0; round < 2; round++) {
        struct fixture f;
        fixture_open(&f);
        apply(&f, create_command("a", ""));
        const struct command messages[] = {send_command("a", "1", "1"),
                                           send_command("a", "1", "2")};
        for (int i = 0; i < 3; i++) {
            apply(&f, batch_command(messages, 2));
            if (round == 1) {
                flush(&f);
                fixture_restart(&f);
            }
        }
        chat_get_meta(f.chat, &metas[round]);
        fixture_close(&f);
    }
    assert_true(metas[0].result_hash == metas[1].result_hash);
    assert_true(metas[0].content_hash == metas[1].content_hash);
}

static void test_a_newer_format_stops_apply(void **state)
{
    struct fixture f;
    fixture_open(&f);
    struct command_result result = {.sequence = 77};
    chat_apply_begin(f.chat);
    assert_int_equal(chat_apply(f.chat, 1, 1, bytes_of_text("\x03..........."), &result),
                     ERR_VERSION);
    chat_apply_end(f.chat);
    assert_int_equal(result.sequence, 77);
    assert_int_equal(chat_applied(f.chat), 0);
    fixture_close(&f);
}

static void test_no_op_advances_and_answers_zero(void **state)
{
    struct fixture f;
    fixture_open(&f);
    struct command_result result;
    chat_apply_begin(f.chat);
    assert_int_equal(chat_apply(f.chat, 1, 3, (struct bytes){0}, &result), 0);
    chat_apply_end(f.chat);
    assert_int_equal(result.kind, 0);
    assert_int_equal(result.outcome, COMMAND_OK);
    struct store_meta meta;
    chat_get_meta(f.chat, &meta);
    assert_int_equal(meta.applied_index, 1);
    assert_int_equal(meta.applied_term, 3);
    assert_true(meta.result_hash != 0);
    flush(&f);
    assert_int_equal(chat_durable_applied(f.chat), 1);
    fixture_close(&f);
}

static void test_config_is_kept_across_a_restart(void **state)
{
    struct fixture f;
    fixture_open(&f);
    uint8_t cluster_id[CLUSTER_ID_BYTES] = {1, 2, 3};
    chat_apply_begin(f.chat);
    assert_int_equal(chat_apply_config(f.chat, 1, 1, bytes_of_text("members"), cluster_id), 0);
    assert_int_equal(chat_apply_config(f.chat, 2, 1,
                                       (struct bytes){huge, STORE_CONFIG_BYTES_MAX + 1},
                                       cluster_id),
                     ERR_CORRUPT);
    chat_apply_end(f.chat);
    flush(&f);
    fixture_restart(&f);
    struct store_meta meta;
    chat_get_durable_meta(f.chat, &meta);
    assert_int_equal(meta.applied_index, 1);
    assert_bytes((struct bytes){meta.config, meta.config_size}, "members");
    assert_memory_equal(meta.cluster_id, cluster_id, sizeof(cluster_id));
    fixture_close(&f);
}

static void test_values_are_set_replaced_and_deleted(void **state)
{
    struct fixture f;
    fixture_open(&f);
    assert_value(&f, "k", NULL);
    apply(&f, set_command("k", "one"));
    assert_value(&f, "k", "one");
    flush(&f);
    assert_value(&f, "k", "one");
    apply(&f, set_command("k", ""));
    assert_value(&f, "k", "");
    apply(&f, delete_command("k"));
    assert_value(&f, "k", NULL);
    assert_int_equal(apply(&f, delete_command("k")).outcome, COMMAND_OK);
    assert_int_equal(apply(&f, delete_command("never")).outcome, COMMAND_OK);
    flush(&f);
    assert_value(&f, "k", NULL);
    apply(&f, set_command("brief", "x"));
    apply(&f, delete_command("brief"));
    flush(&f);
    apply(&f, set_command("k", "again"));
    flush(&f);
    fixture_restart(&f);
    assert_value(&f, "k", "again");
    assert_value(&f, "brief", NULL);
    struct store_meta meta;
    chat_get_meta(f.chat, &meta);
    assert_int_equal(meta.value_count, 1);
    fixture_close(&f);
}

static void test_batch_is_invisible_until_its_end(void **state)
{
    struct fixture f;
    fixture_open(&f);
    apply(&f, create_command("old", ""));
    apply(&f, set_command("k", "before"));
    uint64_t index = next_index(&f);
    chat_apply_begin(f.chat);
    struct command commands[] = {create_command("new", ""), send_command("old", "", "payload 1"),
                                 send_command("new", "", "payload 1"), set_command("k", "after"),
                                 set_command("l", "x")};
    struct command_result result;
    for (size_t i = 0; i < 5; i++) {
        assert_int_equal(try_apply_at(&f, index + i, &commands[i], &result), 0);
        assert_int_equal(result.outcome, COMMAND_OK);
    }
    struct channel_info info;
    assert_int_equal(chat_find_channel(f.chat, bytes_of_text("new"), &info), ERR_NOT_FOUND);
    assert_int_equal(find_channel(&f, "old").last_sequence, 0);
    assert_reads(&f, "old", 0, 10, 0, false);
    assert_value(&f, "k", "before");
    assert_value(&f, "l", NULL);
    struct channel_info listed[4];
    size_t count = 0;
    bool has_more = true;
    assert_int_equal(chat_list_channels(f.chat, (struct bytes){0}, (struct bytes){0}, 4, listed,
                                        &count, &has_more),
                     0);
    assert_int_equal(count, 1);
    assert_false(has_more);
    assert_int_equal(chat_applied(f.chat), index - 1);
    chat_apply_end(f.chat);
    assert_int_equal(chat_applied(f.chat), index + 4);
    assert_reads(&f, "old", 0, 10, 1, false);
    assert_reads(&f, "new", 0, 10, 1, false);
    assert_value(&f, "k", "after");
    assert_value(&f, "l", "x");
    fixture_close(&f);
}

/* ---- errors of the store ---- */

static void test_store_read_error_applies_nothing(void **state)
{
    struct fixture f;
    fixture_open(&f);
    apply(&f, create_command("a", "name"));
    apply(&f, send_command("a", "id-1", "payload 1"));
    apply(&f, set_command("k", "v"));
    flush(&f);
    fixture_restart(&f);
    struct store_meta before, after;
    chat_get_meta(f.chat, &before);
    struct command commands[] = {create_command("a", ""), create_command("", ""),
                                 send_command("a", "id-2", "x"), set_command("k", "w"),
                                 delete_command("k")};
    store_memory_fail_reads(f.store, ERR_IO);
    for (size_t i = 0; i < 5; i++) {
        struct command_result result = {.sequence = 77};
        assert_int_equal(try_apply(&f, commands[i], &result), ERR_IO);
        assert_int_equal(result.sequence, 77);
    }
    struct message_page *page = NULL;
    assert_int_equal(chat_read_page(f.chat, 1, 0, 10, &page), ERR_IO);
    assert_null(page);
    store_memory_fail_reads(f.store, 0);
    chat_get_meta(f.chat, &after);
    assert_memory_equal(&before, &after, sizeof(before));
    assert_int_equal(find_channel(&f, "a").last_sequence, 1);
    assert_int_equal(apply(&f, send_command("a", "id-2", "x")).sequence, 2);
    fixture_close(&f);
}

static void test_error_in_a_batch_keeps_what_went_before(void **state)
{
    struct fixture f;
    fixture_open(&f);
    apply(&f, create_command("a", ""));
    flush(&f);
    uint64_t index = next_index(&f);
    struct command fine = send_command("a", "", "payload 1");
    struct command fails = send_command("b", "", "x");
    struct command_result result;
    chat_apply_begin(f.chat);
    assert_int_equal(try_apply_at(&f, index, &fine, &result), 0);
    store_memory_fail_reads(f.store, ERR_CORRUPT);
    assert_int_equal(try_apply_at(&f, index + 1, &fails, &result), ERR_CORRUPT);
    store_memory_fail_reads(f.store, 0);
    chat_apply_end(f.chat);
    assert_int_equal(chat_applied(f.chat), index);
    assert_reads(&f, "a", 0, 10, 1, false);
    fixture_close(&f);
}

static void test_no_space_keeps_the_generation_for_the_next_flush(void **state)
{
    struct fixture f;
    fixture_open(&f);
    apply(&f, create_command("a", ""));
    send_many(&f, "a", 0, 3);
    store_memory_fail_next_commit(f.store, ERR_NO_SPACE);
    assert_int_equal(chat_flush(f.chat, CHAT_FLUSH_NOW, 100), ERR_NO_SPACE);
    assert_int_equal(chat_durable_applied(f.chat), 0);
    assert_reads(&f, "a", 0, 10, 3, false);
    send_many(&f, "a", 3, 2);
    /* Not at once again, but after a while; the frozen generation first. */
    assert_int_equal(chat_flush_deadline_ns(f.chat, 100), 100 + CHAT_GENERATION_AGE_NS);
    assert_int_equal(chat_flush(f.chat, CHAT_FLUSH_IF_DUE, 101), ERR_NO_SPACE); /* as before */
    assert_int_equal(chat_durable_applied(f.chat), 0);
    assert_int_equal(chat_flush(f.chat, CHAT_FLUSH_IF_DUE, 100 + CHAT_GENERATION_AGE_NS), 0);
    assert_int_equal(chat_durable_applied(f.chat), 4);
    assert_reads(&f, "a", 0, 10, 5, false);
    flush(&f);
    assert_int_equal(chat_durable_applied(f.chat), 6);
    fixture_restart(&f);
    assert_reads(&f, "a", 0, 10, 5, false);
    fixture_close(&f);
}

static void test_overlay_at_its_bound_is_full_until_a_flush(void **state)
{
    struct fixture f;
    fixture_open(&f);
    apply(&f, create_command("a", ""));
    struct command command = send_command("a", "", "");
    command.payload = (struct bytes){huge, COMMAND_PAYLOAD_BYTES_MAX};
    unsigned count = 0;
    for (; !chat_is_full(f.chat); count++) {
        assert_true(count < 30);
        apply(&f, command);
    }
    assert_true(count >= CHAT_OVERLAY_BYTES_MAX / COMMAND_PAYLOAD_BYTES_MAX);
    store_memory_fail_next_commit(f.store, ERR_NO_SPACE);
    assert_int_equal(chat_flush(f.chat, CHAT_FLUSH_NOW, 0), ERR_NO_SPACE);
    assert_true(chat_is_full(f.chat));
    flush(&f);
    assert_false(chat_is_full(f.chat));
    struct chat_stats stats;
    chat_get_stats(f.chat, &stats);
    assert_int_equal(stats.overlay_bytes, 0);
    assert_int_equal(stats.generations_flushed, 1);
    assert_int_equal(stats.messages_applied, count);
    fixture_close(&f);
}

/* ---- when to flush ---- */

static void count_call(void *context)
{
    ++*(unsigned *)context;
}

static void test_generation_is_due_by_entries_and_told_once(void **state)
{
    struct fixture f;
    fixture_open(&f);
    unsigned calls = 0;
    chat_set_flush_wanted(f.chat, count_call, &calls);
    for (int i = 0; i < CHAT_GENERATION_ENTRIES - 1; i++) {
        apply_no_op(&f);
    }
    assert_int_equal(calls, 0);
    assert_int_equal(chat_flush(f.chat, CHAT_FLUSH_IF_DUE, 1), 0);
    assert_int_equal(chat_durable_applied(f.chat), 0);
    apply_no_op(&f);
    apply_no_op(&f);
    assert_int_equal(calls, 1);
    assert_int_equal(chat_flush_deadline_ns(f.chat, 5), 5);
    assert_int_equal(chat_flush(f.chat, CHAT_FLUSH_IF_DUE, 5), 0);
    assert_int_equal(chat_durable_applied(f.chat), CHAT_GENERATION_ENTRIES + 1);
    assert_int_equal(chat_flush_deadline_ns(f.chat, 5), UINT64_MAX);
    fixture_close(&f);
}

static void test_generation_is_due_by_age(void **state)
{
    struct fixture f;
    fixture_open(&f);
    assert_int_equal(chat_flush_deadline_ns(f.chat, 10), UINT64_MAX);
    apply_no_op(&f);
    assert_int_equal(chat_flush_deadline_ns(f.chat, 10), 10 + CHAT_GENERATION_AGE_NS);
    assert_int_equal(chat_flush_deadline_ns(f.chat, 500), 10 + CHAT_GENERATION_AGE_NS);
    assert_int_equal(chat_flush(f.chat, CHAT_FLUSH_IF_DUE, 9 + CHAT_GENERATION_AGE_NS), 0);
    assert_int_equal(chat_durable_applied(f.chat), 0);
    assert_int_equal(chat_flush(f.chat, CHAT_FLUSH_IF_DUE, 10 + CHAT_GENERATION_AGE_NS), 0);
    assert_int_equal(chat_durable_applied(f.chat), 1);
    fixture_close(&f);
}

static void test_flush_without_anything_to_write_commits_nothing(void **state)
{
    struct fixture f;
    fixture_open(&f);
    flush(&f);
    struct store_stats stats;
    f.store->ops->get_stats(f.store, &stats);
    assert_int_equal(stats.commits, 0);
    fixture_close(&f);
}

/* ---- lists ---- */

static void assert_list(struct fixture *f, const char *after, const char *prefix, size_t limit,
                        const char *expected, bool expected_more)
{
    struct channel_info infos[16];
    size_t count = 0;
    bool has_more = !expected_more;
    assert_int_equal(chat_list_channels(f->chat, bytes_of_text(after), bytes_of_text(prefix), limit,
                                        infos, &count, &has_more),
                     0);
    char text[256] = "";
    for (size_t i = 0; i < count; i++) {
        size_t used = strlen(text);
        snprintf(text + used, sizeof(text) - used, "%s%s:%u", i > 0 ? " " : "", infos[i].id,
                 (unsigned)infos[i].last_sequence);
    }
    assert_string_equal(text, expected);
    assert_int_equal(has_more, expected_more);
}

static void test_list_merges_store_and_overlay_in_order(void **state)
{
    struct fixture f;
    fixture_open(&f);
    apply(&f, create_command("b", ""));
    apply(&f, create_command("ab", ""));
    apply(&f, create_command("d", ""));
    flush(&f);
    fixture_restart(&f);
    apply(&f, create_command("abc", ""));
    store_memory_fail_next_commit(f.store, ERR_NO_SPACE);
    assert_int_equal(chat_flush(f.chat, CHAT_FLUSH_NOW, 0), ERR_NO_SPACE);
    apply(&f, create_command("a", ""));
    apply(&f, send_command("ab", "", "x"));
    for (int round = 0; round < 4; round++) {
        assert_list(&f, "", "", 16, "a:0 ab:1 abc:0 b:0 d:0", false);
        assert_list(&f, "", "", 5, "a:0 ab:1 abc:0 b:0 d:0", false);
        assert_list(&f, "", "", 4, "a:0 ab:1 abc:0 b:0", true);
        assert_list(&f, "ab", "", 2, "abc:0 b:0", true);
        assert_list(&f, "aa", "", 1, "ab:1", true);
        assert_list(&f, "", "ab", 16, "ab:1 abc:0", false);
        assert_list(&f, "ab", "ab", 16, "abc:0", false);
        assert_list(&f, "abc", "ab", 16, "", false);
        assert_list(&f, "c", "ab", 16, "", false);
        assert_list(&f, "", "abc", 16, "abc:0", false);
        assert_list(&f, "", "x", 16, "", false);
        assert_list(&f, "d", "", 16, "", false);
        flush(&f);
        if (round == 2) {
            fixture_restart(&f);
        }
    }
    fixture_close(&f);
}

struct walk {
    char text[256];
    size_t stop_after;
};

static int note_value(void *context, struct bytes key, struct bytes value)
{
    struct walk *walk = context;
    size_t used = strlen(walk->text);
    snprintf(walk->text + used, sizeof(walk->text) - used, "%.*s=%.*s ", (int)key.size,
             (const char *)key.data, (int)value.size, (const char *)value.data);
    return walk->stop_after > 0 && --walk->stop_after == 0 ? 1 : 0;
}

static void assert_walk_of(struct fixture *f, const char *after, const char *prefix, size_t limit,
                           const char *expected)
{
    struct walk walk = {0};
    assert_int_equal(chat_walk_values(f->chat, bytes_of_text(after), bytes_of_text(prefix), limit,
                                      note_value, &walk),
                     0);
    assert_string_equal(walk.text, expected);
}

static void assert_walk(struct fixture *f, const char *after, size_t limit, const char *expected)
{
    assert_walk_of(f, after, "", limit, expected);
}

static void test_a_walk_with_a_prefix_stays_inside_it(void **state)
{
    struct fixture f;
    fixture_open(&f);
    apply(&f, set_command("a", "1"));
    apply(&f, set_command("b", "2"));
    apply(&f, set_command("ba", "3"));
    apply(&f, set_command("bb", "4"));
    apply(&f, set_command("c", "5"));
    flush(&f);
    apply(&f, set_command("b/", "6"));
    apply(&f, delete_command("ba"));
    apply(&f, set_command("bz", "7"));
    apply(&f, set_command("ca", "8"));
    for (int round = 0; round < 2; round++) {
        assert_walk_of(&f, "", "b", 16, "b=2 b/=6 bb=4 bz=7 ");
        assert_walk_of(&f, "", "b", 2, "b=2 b/=6 ");
        assert_walk_of(&f, "b/", "b", 16, "bb=4 bz=7 ");
        assert_walk_of(&f, "a", "b", 1, "b=2 ");
        assert_walk_of(&f, "bz", "b", 16, "");
        assert_walk_of(&f, "c", "b", 16, "");
        assert_walk_of(&f, "", "bc", 16, "");
        assert_walk_of(&f, "", "ca", 16, "ca=8 ");
        flush(&f);
    }
    fixture_close(&f);
}

static void test_walk_merges_both_generations_and_the_store(void **state)
{
    struct fixture f;
    fixture_open(&f);
    apply(&f, set_command("a", "store"));
    apply(&f, set_command("c", "store"));
    apply(&f, set_command("e", "store"));
    apply(&f, set_command("g", "store"));
    flush(&f);
    apply(&f, set_command("b", "frozen"));
    apply(&f, set_command("c", "frozen"));
    apply(&f, delete_command("e"));
    apply(&f, set_command("f", "frozen"));
    store_memory_fail_next_commit(f.store, ERR_NO_SPACE);
    assert_int_equal(chat_flush(f.chat, CHAT_FLUSH_NOW, 0), ERR_NO_SPACE);
    apply(&f, set_command("b", "active"));
    apply(&f, delete_command("f"));
    apply(&f, set_command("h", "active"));
    for (int round = 0; round < 3; round++) {
        assert_walk(&f, "", 16, "a=store b=active c=frozen g=store h=active ");
        assert_walk(&f, "", 2, "a=store b=active ");
        assert_walk(&f, "c", 1, "g=store ");
        assert_walk(&f, "d", 16, "g=store h=active ");
        assert_walk(&f, "h", 16, "");
        assert_walk(&f, "", 0, "");
        flush(&f);
    }
    struct walk walk = {.stop_after = 2};
    assert_int_equal(
        chat_walk_values(f.chat, (struct bytes){0}, (struct bytes){0}, 16, note_value, &walk), 1);
    assert_string_equal(walk.text, "a=store b=active ");
    fixture_close(&f);
}

/* ---- waking ---- */

static void count_notify(struct hub_listener *listener)
{
}

static void test_applied_messages_wake_after_they_can_be_read(void **state)
{
    struct fixture f;
    fixture_open(&f);
    apply(&f, create_command("a", ""));
    apply(&f, create_command("b", ""));
    struct hub_listener listener;
    struct hub_subscription subscription;
    hub_listener_init(chat_hub(f.chat), &listener, count_notify);
    assert_int_equal(hub_add(&listener, &subscription, 1, 0), 0);
    hub_wait(&subscription);
    send_many(&f, "b", 0, 1);
    struct list ready;
    list_init(&ready);
    assert_int_equal(hub_take_ready(&listener, &ready, 10), 0);
    send_many(&f, "a", 0, 2);
    assert_int_equal(hub_take_ready(&listener, &ready, 10), 1);
    assert_reads(&f, "a", 0, 10, 2, false);
    hub_remove(&subscription);
    fixture_close(&f);
}

/* The results are the same in both. */
static void test_the_hash_of_contents_tells_any_two_writings_apart(void **state)
{
    const struct command pairs[][2] = {
        {send_command("a", "id", "one"), send_command("a", "id", "two")},
        {send_command("a", "i1", "one"), send_command("a", "i2", "one")},
        {set_command("k", "one"), set_command("k", "two")},
        {set_command("k1", "one"), set_command("k2", "one")},
    };
    for (size_t i = 0; i < sizeof(pairs) / sizeof(pairs[0]); i++) {
        struct store_meta metas[3];
        for (int run = 0; run < 3; run++) {
            struct fixture f;
            fixture_open(&f);
            apply(&f, create_command("a", "name"));
            apply(&f, pairs[i][run == 2 ? 0 : run]);
            chat_get_meta(f.chat, &metas[run]);
            fixture_close(&f);
        }
        assert_true(metas[0].result_hash == metas[1].result_hash);
        assert_true(metas[0].content_hash != metas[1].content_hash);
        assert_true(metas[0].content_hash == metas[2].content_hash);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_new_channel_is_created_and_found),
        cmocka_unit_test(test_existing_channel_keeps_its_name),
        cmocka_unit_test(test_empty_id_becomes_the_log_index),
        cmocka_unit_test(test_sequences_start_at_one_without_gaps_in_each_channel),
        cmocka_unit_test(test_client_id_answers_the_original_sequence_for_ever),
        cmocka_unit_test(test_client_id_is_found_while_its_generation_is_frozen),
        cmocka_unit_test(test_client_id_is_found_when_a_flush_falls_into_the_batch),
        cmocka_unit_test(test_timestamps_never_go_backwards_in_a_channel),
        cmocka_unit_test(test_bad_commands_are_refused_and_change_nothing),
        cmocka_unit_test(test_a_batch_is_stored_in_order_over_several_channels),
        cmocka_unit_test(test_a_batch_with_an_unknown_channel_stores_nothing),
        cmocka_unit_test(test_a_batch_is_deduplicated_message_by_message),
        cmocka_unit_test(test_a_batch_gives_the_same_hashes_over_a_restart),
        cmocka_unit_test(test_a_newer_format_stops_apply),
        cmocka_unit_test(test_no_op_advances_and_answers_zero),
        cmocka_unit_test(test_config_is_kept_across_a_restart),
        cmocka_unit_test(test_values_are_set_replaced_and_deleted),
        cmocka_unit_test(test_batch_is_invisible_until_its_end),
        cmocka_unit_test(test_store_read_error_applies_nothing),
        cmocka_unit_test(test_error_in_a_batch_keeps_what_went_before),
        cmocka_unit_test(test_no_space_keeps_the_generation_for_the_next_flush),
        cmocka_unit_test(test_overlay_at_its_bound_is_full_until_a_flush),
        cmocka_unit_test(test_generation_is_due_by_entries_and_told_once),
        cmocka_unit_test(test_generation_is_due_by_age),
        cmocka_unit_test(test_flush_without_anything_to_write_commits_nothing),
        cmocka_unit_test(test_list_merges_store_and_overlay_in_order),
        cmocka_unit_test(test_walk_merges_both_generations_and_the_store),
        cmocka_unit_test(test_a_walk_with_a_prefix_stays_inside_it),
        cmocka_unit_test(test_applied_messages_wake_after_they_can_be_read),
        cmocka_unit_test(test_the_hash_of_contents_tells_any_two_writings_apart),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
