/* The store is replaced by that of a snapshot, under readers and subscribers. */
#include "chat_fixture.h"

#include "base/clock.h"
#include "base/mailbox.h"

#include <pthread.h>

/* Messages 1 .. count of "room", the same for each who applies so many; and a value. */
static void apply_messages(struct fixture *f, uint64_t count)
{
    struct store_meta meta;
    chat_get_meta(f->chat, &meta);
    if (meta.applied_index == 0) {
        apply(f, create_command("room", "Room"));
        meta.applied_index = 1;
    }
    for (uint64_t i = meta.applied_index; i <= count; i++) {
        char text[32];
        snprintf(text, sizeof(text), "message %u", (unsigned)i);
        apply(f, send_command("room", text, text));
    }
}

static void flush_all(struct fixture *f)
{
    while (chat_durable_applied(f->chat) < chat_applied(f->chat)) {
        assert_int_equal(chat_flush(f->chat, CHAT_FLUSH_NOW, 1), 0);
    }
}

/* A store as a snapshot brings it: `count` messages. */
static struct store *make_snapshot(uint64_t count)
{
    struct fixture f;
    fixture_open(&f);
    apply_messages(&f, count);
    flush_all(&f);
    chat_destroy(f.chat);
    buf_finish(&f.encoded);
    return f.store;
}

static uint64_t read_all(struct chat *chat, uint64_t number)
{
    uint64_t last = 0;
    bool has_more = true;
    while (has_more) {
        struct message_page *page;
        assert_int_equal(chat_read_page(chat, number, last, 100, &page), 0);
        for (size_t i = 0; i < page->count; i++) {
            assert_int_equal(page->messages[i]->sequence, last + 1);
            last++;
        }
        has_more = page->has_more;
        page_unref(page);
    }
    return last;
}

static void close_all(struct fixture *f)
{
    bool is_replaced = chat_has_replaced_store(f->chat);
    chat_destroy(f->chat);
    if (!is_replaced) {
        f->store->ops->close(f->store);
    }
    buf_finish(&f->encoded);
}

static void test_the_new_store_takes_the_place_of_all_that_was(void **state)
{
    struct fixture f;
    fixture_open(&f);
    apply_messages(&f, 50);
    flush_all(&f);
    apply_messages(&f, 80); /* in the overlay alone */
    assert_int_equal(chat_replace_store(f.chat, make_snapshot(300)), 0);
    assert_int_equal(chat_applied(f.chat), 301);
    assert_int_equal(chat_durable_applied(f.chat), 301);
    struct channel_info info;
    assert_int_equal(chat_find_channel(f.chat, bytes_of_text("room"), &info), 0);
    assert_int_equal(info.last_sequence, 300);
    assert_int_equal(read_all(f.chat, info.number), 300);
    /* It goes on from there, and knows the client ids that came with the snapshot. */
    struct command_result result = apply(&f, send_command("room", "message 299", "again"));
    assert_true(result.deduplicated);
    assert_int_equal(result.sequence, 299);
    result = apply(&f, send_command("room", "message 301", "new"));
    assert_int_equal(result.sequence, 301);
    flush_all(&f);
    assert_int_equal(read_all(f.chat, info.number), 301);
    close_all(&f);
}

static void test_it_comes_to_the_same_as_applying(void **state)
{
    struct fixture f, g;
    fixture_open(&f);
    fixture_open(&g);
    apply_messages(&f, 10);
    assert_int_equal(chat_replace_store(f.chat, make_snapshot(100)), 0);
    apply_messages(&f, 120);
    apply_messages(&g, 120);
    struct store_meta of_f, of_g;
    chat_get_meta(f.chat, &of_f);
    chat_get_meta(g.chat, &of_g);
    assert_int_equal(of_f.applied_index, of_g.applied_index);
    assert_int_equal(of_f.result_hash, of_g.result_hash);
    assert_int_equal(of_f.message_count, of_g.message_count);
    close_all(&f);
    close_all(&g);
}

static void test_a_store_that_cannot_be_read_changes_nothing(void **state)
{
    struct fixture f;
    fixture_open(&f);
    apply_messages(&f, 20);
    struct store *bad = make_snapshot(40);
    store_memory_fail_reads(bad, ERR_CORRUPT);
    assert_int_equal(chat_replace_store(f.chat, bad), ERR_CORRUPT);
    bad->ops->close(bad);
    assert_int_equal(chat_applied(f.chat), 21);
    assert_false(chat_has_replaced_store(f.chat));
    apply_messages(&f, 30);
    flush_all(&f);
    close_all(&f);
}

static void test_the_old_store_stays_open_while_it_is_held(void **state)
{
    struct fixture f;
    fixture_open(&f);
    apply_messages(&f, 20);
    flush_all(&f);
    struct chat_backing *held = chat_hold_store(f.chat);
    struct store *old = chat_backing_store(held);
    assert_int_equal(chat_replace_store(f.chat, make_snapshot(40)), 0);
    struct store_read *read;
    struct store_meta meta;
    assert_int_equal(old->ops->read_begin(old, &read), 0);
    assert_int_equal(old->ops->read_meta(read, &meta), 0);
    old->ops->read_end(read);
    assert_int_equal(meta.applied_index, 21);
    chat_release_store(f.chat, held);
    close_all(&f);
}

static void ignore(struct hub_listener *listener)
{
}

static void test_subscriptions_look_again_whether_they_wait_or_read(void **state)
{
    struct fixture f;
    fixture_open(&f);
    apply_messages(&f, 5);
    struct channel_info info;
    assert_int_equal(chat_find_channel(f.chat, bytes_of_text("room"), &info), 0);
    struct hub_listener listener;
    hub_listener_init(chat_hub(f.chat), &listener, ignore);
    struct hub_subscription waiting, reading;
    assert_int_equal(hub_add(&listener, &waiting, info.number, 5), 0);
    assert_int_equal(hub_add(&listener, &reading, info.number, 5), 0);
    hub_wait(&waiting);
    struct list ready;
    list_init(&ready);
    assert_int_equal(hub_take_ready(&listener, &ready, 10), 0);
    assert_int_equal(chat_replace_store(f.chat, make_snapshot(9)), 0);
    assert_int_equal(hub_take_ready(&listener, &ready, 10), 1);
    assert_ptr_equal(list_pop_front(&ready), &waiting.ready_link);
    hub_wait(&reading); /* what it read was of before */
    assert_int_equal(hub_take_ready(&listener, &ready, 10), 1);
    assert_ptr_equal(list_pop_front(&ready), &reading.ready_link);
    hub_wait(&reading); /* now it has looked */
    assert_int_equal(hub_take_ready(&listener, &ready, 10), 0);
    hub_remove(&waiting);
    hub_remove(&reading);
    close_all(&f);
}

/* ---- threads ---- */

enum { ROUNDS = 12, STEP = 400, READERS = 3 };

struct world {
    struct chat *chat;
    atomic_bool is_done;
    atomic_uint_fast64_t acknowledged; /* messages of "room" */
};

static void *read_for_ever(void *context)
{
    struct world *world = context;
    struct channel_info info;
    while (!atomic_load(&world->is_done)) {
        uint64_t least = atomic_load(&world->acknowledged);
        if (least == 0) {
            continue;
        }
        assert_int_equal(chat_find_channel(world->chat, bytes_of_text("room"), &info), 0);
        assert_true(info.last_sequence >= least);
        assert_true(read_all(world->chat, info.number) >= least);
        struct channel_info listed[4];
        size_t count;
        bool has_more;
        struct bytes none = {0};
        assert_int_equal(chat_list_channels(world->chat, none, none, 4, listed, &count, &has_more),
                         0);
        assert_int_equal(count, 1);
        assert_true(listed[0].last_sequence >= least);
    }
    return NULL;
}

static void *flush_for_ever(void *context)
{
    struct world *world = context;
    uint64_t now_ns = 1;
    while (!atomic_load(&world->is_done)) {
        assert_int_equal(chat_flush(world->chat, CHAT_FLUSH_NOW, now_ns++), 0);
    }
    return NULL;
}

static void test_readers_and_flushes_never_see_a_seam(void **state)
{
    struct fixture f;
    fixture_open(&f);
    struct world world = {.chat = f.chat};
    pthread_t threads[READERS + 1];
    for (int i = 0; i < READERS; i++) {
        assert_int_equal(pthread_create(&threads[i], NULL, read_for_ever, &world), 0);
    }
    assert_int_equal(pthread_create(&threads[READERS], NULL, flush_for_ever, &world), 0);
    uint64_t count = 0;
    for (int round = 0; round < ROUNDS; round++) {
        count += STEP;
        apply_messages(&f, count);
        atomic_store(&world.acknowledged, count);
        count += STEP;
        struct store *next = make_snapshot(count);
        assert_int_equal(chat_replace_store(f.chat, next), 0);
        atomic_store(&world.acknowledged, count);
    }
    atomic_store(&world.is_done, true);
    for (int i = 0; i <= READERS; i++) {
        pthread_join(threads[i], NULL);
    }
    close_all(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_the_new_store_takes_the_place_of_all_that_was),
        cmocka_unit_test(test_it_comes_to_the_same_as_applying),
        cmocka_unit_test(test_a_store_that_cannot_be_read_changes_nothing),
        cmocka_unit_test(test_the_old_store_stays_open_while_it_is_held),
        cmocka_unit_test(test_subscriptions_look_again_whether_they_wait_or_read),
        cmocka_unit_test(test_readers_and_flushes_never_see_a_seam),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
