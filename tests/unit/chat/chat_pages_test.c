/* Pages: no seam between store, generations and tail, right ends, and one page for all readers. */
#include "chat_fixture.h"

static uint8_t payload_bytes[COMMAND_PAYLOAD_BYTES_MAX];

static void fail_one_flush(struct fixture *f)
{
    store_memory_fail_next_commit(f->store, ERR_NO_SPACE);
    assert_int_equal(chat_flush(f->chat, CHAT_FLUSH_NOW, 0), ERR_NO_SPACE);
}

static void assert_all_pages(struct fixture *f, uint64_t last)
{
    for (uint64_t after = 0; after <= last + 1; after++) {
        for (size_t limit = 1; limit <= last + 1; limit++) {
            size_t left = after < last ? (size_t)(last - after) : 0;
            assert_reads(f, "a", after, limit, left < limit ? left : limit, left > limit);
        }
    }
}

static void test_page_has_no_seam_between_store_frozen_and_active(void **state)
{
    struct fixture f;
    fixture_open(&f);
    apply(&f, create_command("a", ""));
    send_many(&f, "a", 0, 5);
    flush(&f);
    fixture_restart(&f);
    assert_all_pages(&f, 5);
    send_many(&f, "a", 5, 4);
    assert_all_pages(&f, 9);
    fail_one_flush(&f);
    assert_all_pages(&f, 9);
    send_many(&f, "a", 9, 3);
    assert_all_pages(&f, 12);
    flush(&f);
    assert_all_pages(&f, 12);
    flush(&f);
    assert_all_pages(&f, 12);
    fixture_close(&f);
}

static void test_page_ends_at_the_most_messages(void **state)
{
    struct fixture f;
    fixture_open(&f);
    apply(&f, create_command("a", ""));
    send_many(&f, "a", 0, 2500);
    for (int round = 0; round < 3; round++) {
        assert_reads(&f, "a", 0, 5000, 1000, true);
        assert_reads(&f, "a", 1000, 1000, 1000, true);
        assert_reads(&f, "a", 1499, 1000, 1000, true);
        assert_reads(&f, "a", 1500, 1000, 1000, false);
        assert_reads(&f, "a", 2000, SIZE_MAX, 500, false);
        if (round == 0) {
            flush(&f);
        } else {
            fixture_restart(&f);
        }
    }
    fixture_close(&f);
}

static void send_sized(struct fixture *f, const char *channel, size_t size)
{
    struct command command = send_command(channel, "", "");
    command.payload = (struct bytes){payload_bytes, size};
    assert_int_equal(apply(f, command).outcome, COMMAND_OK);
}

static void assert_span(struct fixture *f, uint64_t after, size_t count, bool has_more)
{
    struct message_page *page = read_page(f, "a", after, 1000);
    size_t bytes = 0;
    for (size_t i = 0; i < page->count; i++) {
        assert_int_equal(page->messages[i]->sequence, after + i + 1);
        bytes += message_page_bytes(page->messages[i]);
    }
    assert_int_equal(page->count, count);
    assert_int_equal(page->has_more, has_more);
    assert_true(bytes <= PAGE_BYTES_MAX || count == 1);
    page_unref(page);
}

static void assert_spans_of_quarters(struct fixture *f)
{
    assert_span(f, 0, 3, true);
    assert_span(f, 2, 3, true);
    assert_span(f, 6, 3, true);
    assert_span(f, 7, 3, false);
    assert_span(f, 9, 1, false);
}

static void test_page_ends_at_the_most_bytes(void **state)
{
    struct fixture f;
    fixture_open(&f);
    apply(&f, create_command("a", ""));
    /* Four of them are just over 1 MiB. */
    for (int i = 0; i < 4; i++) {
        send_sized(&f, "a", PAGE_BYTES_MAX / 4);
    }
    flush(&f);
    fixture_restart(&f);
    for (int i = 4; i < 10; i++) {
        send_sized(&f, "a", PAGE_BYTES_MAX / 4);
    }
    assert_spans_of_quarters(&f);
    flush(&f);
    assert_spans_of_quarters(&f);
    fixture_restart(&f);
    assert_spans_of_quarters(&f);
    fixture_close(&f);
}

static void test_message_larger_than_a_page_comes_alone(void **state)
{
    struct fixture f;
    fixture_open(&f);
    apply(&f, create_command("a", ""));
    send_sized(&f, "a", 10);
    send_sized(&f, "a", COMMAND_PAYLOAD_BYTES_MAX);
    send_sized(&f, "a", 10);
    for (int round = 0; round < 3; round++) {
        assert_span(&f, 0, 1, true);
        assert_span(&f, 1, 1, true);
        assert_span(&f, 2, 1, false);
        flush(&f);
        if (round > 0) {
            fixture_restart(&f);
        }
    }
    /* Now the large one is in the store and what follows in the run. */
    send_sized(&f, "a", 10);
    assert_span(&f, 0, 1, true);
    assert_span(&f, 1, 1, true);
    assert_span(&f, 2, 2, false);
    fixture_close(&f);
}

static void test_readers_at_one_position_share_a_page(void **state)
{
    struct fixture f;
    fixture_open(&f);
    apply(&f, create_command("a", ""));
    send_many(&f, "a", 0, 10);
    struct message_page *first = read_page(&f, "a", 4, 1000);
    struct message_page *second = read_page(&f, "a", 4, 1000);
    assert_ptr_equal(first, second);
    flush(&f);
    struct message_page *third = read_page(&f, "a", 4, 1000);
    assert_ptr_equal(first, third);
    page_unref(first);
    page_unref(second);
    page_unref(third);
    struct chat_stats stats;
    chat_get_stats(f.chat, &stats);
    assert_int_equal(stats.tail_hits, 3);
    assert_int_equal(stats.tail_misses, 0);
    fixture_close(&f);
}

static void test_shared_page_is_read_anew_when_the_channel_has_grown(void **state)
{
    struct fixture f;
    fixture_open(&f);
    apply(&f, create_command("a", ""));
    send_many(&f, "a", 0, 10);
    struct message_page *to_end = read_page(&f, "a", 4, 1000);
    struct message_page *full = read_page(&f, "a", 4, 3);
    struct message_page *to_end_exactly = read_page(&f, "a", 4, 6);
    send_many(&f, "a", 10, 1);
    assert_reads(&f, "a", 4, 1000, 7, false);
    assert_reads(&f, "a", 4, 6, 6, true);
    /* What a limit cut off is still what they would read. */
    struct message_page *full_again = read_page(&f, "a", 4, 3);
    assert_ptr_equal(full, full_again);
    assert_page(to_end, 4, 6, false);
    assert_page(full, 4, 3, true);
    assert_page(to_end_exactly, 4, 6, false);
    page_unref(to_end);
    page_unref(full);
    page_unref(full_again);
    page_unref(to_end_exactly);
    fixture_close(&f);
}

static void test_live_reader_never_goes_to_the_store(void **state)
{
    struct fixture f;
    fixture_open(&f);
    apply(&f, create_command("a", ""));
    flush(&f);
    fixture_restart(&f);
    for (uint64_t i = 0; i < 2000; i++) {
        send_many(&f, "a", i, 1);
        if (i % 100 == 50) {
            flush(&f);
        }
        assert_reads(&f, "a", i, 1000, 1, false);
    }
    struct chat_stats stats;
    chat_get_stats(f.chat, &stats);
    assert_int_equal(stats.tail_misses, 0);
    fixture_close(&f);
}

static void test_tail_keeps_the_newest_messages_and_no_more(void **state)
{
    struct fixture f;
    fixture_open(&f);
    apply(&f, create_command("a", ""));
    send_many(&f, "a", 0, 5000);
    flush(&f);
    struct chat_stats before, after;
    chat_get_stats(f.chat, &before);
    assert_reads(&f, "a", 5000 - CHAT_TAIL_MESSAGES, 1000, CHAT_TAIL_MESSAGES, false);
    chat_get_stats(f.chat, &after);
    assert_int_equal(after.tail_hits, before.tail_hits + 1);
    assert_reads(&f, "a", 5000 - CHAT_TAIL_MESSAGES - 1, 1000, CHAT_TAIL_MESSAGES + 1, false);
    chat_get_stats(f.chat, &after);
    assert_int_equal(after.tail_misses, before.tail_misses + 1);
    fixture_close(&f);
}

static void test_tails_together_are_bounded_by_bytes(void **state)
{
    struct fixture f;
    fixture_open(&f);
    const char *names[] = {"a", "b", "c", "d", "e"};
    for (int i = 0; i < 5; i++) {
        apply(&f, create_command(names[i], ""));
        for (int k = 0; k < 4; k++) {
            send_sized(&f, names[i], PAGE_BYTES_MAX / 2);
        }
        flush(&f);
    }
    /* 10 MiB were sent: the oldest channel went to the store, the newest stayed. */
    struct chat_stats before, after;
    chat_get_stats(f.chat, &before);
    page_unref(read_page(&f, "e", 0, 1));
    chat_get_stats(f.chat, &after);
    assert_int_equal(after.tail_hits, before.tail_hits + 1);
    page_unref(read_page(&f, "a", 0, 1));
    chat_get_stats(f.chat, &after);
    assert_int_equal(after.tail_misses, before.tail_misses + 1);
    assert_span(&f, 0, 1, true);
    assert_span(&f, 3, 1, false);
    fixture_close(&f);
}

static void test_many_channels_leave_memory_and_come_back(void **state)
{
    enum { CHANNELS = 10000 };
    struct fixture f;
    fixture_open(&f);
    char name[32];
    for (int round = 0; round < 2; round++) {
        for (int i = 0; i < CHANNELS; i++) {
            snprintf(name, sizeof(name), "channel %d", i);
            struct command_result result = apply(&f, create_command(name, name));
            assert_int_equal(result.created, round == 0);
            if (i % 7 == 0) {
                char payload[32];
                snprintf(payload, sizeof(payload), "payload %d", round + 1);
                assert_int_equal(apply(&f, send_command(name, "", payload)).sequence, round + 1);
            }
            if (i % 3000 == 0) {
                flush(&f);
            }
        }
    }
    flush(&f);
    for (int i = 0; i < CHANNELS; i++) {
        snprintf(name, sizeof(name), "channel %d", i);
        assert_reads(&f, name, 0, 10, i % 7 == 0 ? 2 : 0, false);
    }
    fixture_close(&f);
}

static void test_impossible_cursor_reads_nothing(void **state)
{
    struct fixture f;
    fixture_open(&f);
    apply(&f, create_command("a", ""));
    send_many(&f, "a", 0, 3);
    for (int round = 0; round < 2; round++) {
        assert_reads(&f, "a", 3, 10, 0, false);
        assert_reads(&f, "a", 4, 10, 0, false);
        assert_reads(&f, "a", UINT64_MAX, 10, 0, false);
        flush(&f);
        fixture_restart(&f);
    }
    fixture_close(&f);
}

static void test_missing_stored_message_is_damage(void **state)
{
    struct fixture f;
    fixture_open(&f);
    apply(&f, create_command("a", ""));
    send_many(&f, "a", 0, 600);
    flush(&f);
    struct message_page *page = NULL;
    struct channel_info info = find_channel(&f, "a");
    /* A store that does not find the rows stands in for one that lost them. */
    store_memory_fail_reads(f.store, ERR_NOT_FOUND);
    assert_int_equal(chat_read_page(f.chat, info.number, 0, 1000, &page), ERR_CORRUPT);
    assert_null(page);
    store_memory_fail_reads(f.store, 0);
    assert_reads(&f, "a", 0, 1000, 600, false);
    fixture_close(&f);
}

static void destroy_encoding(struct page_encoding *encoding)
{
    ++*(unsigned *)encoding->data;
    free(encoding);
}

static struct page_encoding *make_encoding(unsigned *destroyed)
{
    struct page_encoding *encoding = calloc(1, sizeof(*encoding));
    assert_non_null(encoding);
    encoding->destroy = destroy_encoding;
    encoding->data = destroyed;
    return encoding;
}

static void test_page_keeps_the_first_encoding_of_a_slot(void **state)
{
    unsigned destroyed = 0;
    struct message_page *page = page_create(0);
    assert_null(page_encoding(page, 1, NULL));
    struct page_encoding *first = make_encoding(&destroyed);
    assert_ptr_equal(page_encoding(page, 1, first), first);
    assert_ptr_equal(page_encoding(page, 1, make_encoding(&destroyed)), first);
    assert_int_equal(destroyed, 1);
    assert_ptr_equal(page_encoding(page, 1, NULL), first);
    assert_null(page_encoding(page, 0, NULL));
    page_unref(page_ref(page));
    assert_int_equal(destroyed, 1);
    page_unref(page);
    assert_int_equal(destroyed, 2);
    page_unref(NULL);
    message_unref(NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_page_has_no_seam_between_store_frozen_and_active),
        cmocka_unit_test(test_page_ends_at_the_most_messages),
        cmocka_unit_test(test_page_ends_at_the_most_bytes),
        cmocka_unit_test(test_message_larger_than_a_page_comes_alone),
        cmocka_unit_test(test_readers_at_one_position_share_a_page),
        cmocka_unit_test(test_shared_page_is_read_anew_when_the_channel_has_grown),
        cmocka_unit_test(test_live_reader_never_goes_to_the_store),
        cmocka_unit_test(test_tail_keeps_the_newest_messages_and_no_more),
        cmocka_unit_test(test_tails_together_are_bounded_by_bytes),
        cmocka_unit_test(test_many_channels_leave_memory_and_come_back),
        cmocka_unit_test(test_impossible_cursor_reads_nothing),
        cmocka_unit_test(test_missing_stored_message_is_damage),
        cmocka_unit_test(test_page_keeps_the_first_encoding_of_a_slot),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
