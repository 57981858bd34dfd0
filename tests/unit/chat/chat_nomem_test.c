/* Every allocation of the module fails once: each call then answers ERR_NOMEM and has changed
 * nothing, or does without. */
#include "chat_fixture.h"

#include "base/random.h"
#include "lib/failing_malloc.h"

/* ---- the memory store does without memory badly: it is spared ---- */

static const struct store_ops *real_ops;

static int spared_read_begin(struct store *store, struct store_read **out)
{
    long kept = countdown;
    countdown = -1;
    int rc = real_ops->read_begin(store, out);
    countdown = kept;
    return rc;
}

static int spared_get_dedupe(struct store_read *read, uint64_t channel_number,
                             struct bytes client_id, uint64_t *out_sequence)
{
    long kept = countdown;
    countdown = -1;
    int rc = real_ops->get_dedupe(read, channel_number, client_id, out_sequence);
    countdown = kept;
    return rc;
}

static int spared_commit(struct store *store, const struct store_batch *batch)
{
    long kept = countdown;
    countdown = -1;
    int rc = real_ops->commit(store, batch);
    countdown = kept;
    return rc;
}

static void spare_store(struct store *store)
{
    static struct store_ops ops;
    real_ops = store->ops;
    ops = *store->ops;
    ops.read_begin = spared_read_begin;
    ops.get_dedupe = spared_get_dedupe;
    ops.commit = spared_commit;
    store->ops = &ops;
}

/* A countdown for the next call: 0, 1, 2 … until a call gets by without a failure. */
static bool was_failed(void)
{
    bool result = countdown < 0;
    countdown = -1;
    return result;
}

static long begin(void)
{
    if (!CAN_FAIL) {
        skip();
    }
    return outstanding;
}

static void open_with_contents(struct fixture *f)
{
    fixture_open(f);
    spare_store(f->store);
    apply(f, create_command("a", "name"));
    send_many(f, "a", 0, 300);
    apply(f, set_command("k", "stored"));
    flush(f);
    fixture_restart(f);
}

static void test_create_without_memory_leaves_nothing_behind(void **state)
{
    long before = begin();
    struct store *store = NULL;
    assert_int_equal(store_memory_create(&store), 0);
    spare_store(store);
    int rc = ERR_NOMEM;
    for (long n = 0; rc != 0; n++) {
        struct chat *chat = NULL;
        countdown = n;
        rc = chat_create(store, &chat);
        assert_true(was_failed() == (rc != 0));
        assert_true(rc == 0 || (rc == ERR_NOMEM && chat == NULL));
        chat_destroy(chat);
    }
    store->ops->close(store);
    assert_int_equal(outstanding, before);
}

static void apply_with_failures(struct fixture *f, struct command command)
{
    struct store_meta before, after;
    chat_get_meta(f->chat, &before);
    struct buf data = {0};
    command_encode(&command, &data);
    struct command_result result;
    int rc = ERR_NOMEM;
    for (long n = 0; rc != 0; n++) {
        uint64_t index = next_index(f);
        chat_apply_begin(f->chat);
        countdown = n;
        rc = chat_apply(f->chat, index, 1, buf_bytes(&data), &result);
        countdown = -1;
        chat_apply_end(f->chat);
        chat_get_meta(f->chat, &after);
        assert_true(rc == 0 || rc == ERR_NOMEM);
        if (rc != 0) {
            assert_memory_equal(&before, &after, sizeof(before));
        }
        assert_true(n < 100);
    }
    assert_int_equal(result.outcome, COMMAND_OK);
    assert_int_equal(after.applied_index, before.applied_index + 1);
    buf_finish(&data);
}

static void test_apply_without_memory_changes_nothing(void **state)
{
    long before = begin();
    struct fixture f;
    open_with_contents(&f);
    char payload[32], id[32];
    /* Enough for each array and table to grow more than once. */
    for (unsigned i = 1; i <= 300; i++) {
        snprintf(payload, sizeof(payload), "payload %u", 300 + i);
        snprintf(id, sizeof(id), "id-%u", i);
        apply_with_failures(&f, send_command("a", id, payload));
        apply_with_failures(&f, set_command(id, payload));
        apply_with_failures(&f, create_command(id, payload));
    }
    for (unsigned i = 1; i <= 50; i++) {
        snprintf(id, sizeof id, "batch-%u", i);
        const struct command messages[] = {
            send_command("id-1", id, "1"), send_command("id-2", "", "2"),
            send_command("id-1", "", "3"), send_command("id-1", id, "4")};
        apply_with_failures(&f, batch_command(messages, 4));
    }
    assert_int_equal(find_channel(&f, "id-1").last_sequence, 100);
    assert_int_equal(find_channel(&f, "id-2").last_sequence, 50);
    apply_with_failures(&f, create_command("", ""));
    apply_with_failures(&f, delete_command("id-7"));
    apply_with_failures(&f, delete_command("k"));
    assert_reads(&f, "a", 0, 1000, 600, false);
    assert_value(&f, "id-8", "payload 308");
    assert_value(&f, "id-7", NULL);
    assert_value(&f, "k", NULL);
    flush(&f);
    fixture_restart(&f);
    assert_reads(&f, "a", 0, 1000, 600, false);
    fixture_close(&f);
    assert_int_equal(outstanding, before);
}

static void test_flush_without_memory_keeps_the_generation(void **state)
{
    long before = begin();
    struct fixture f;
    open_with_contents(&f);
    send_many(&f, "a", 300, 400);
    apply(&f, create_command("b", ""));
    apply(&f, set_command("k", "new"));
    int rc = ERR_NOMEM;
    long n = 0;
    for (; rc != 0; n++) {
        countdown = n;
        rc = chat_flush(f.chat, CHAT_FLUSH_NOW, 0);
        countdown = -1;
        assert_true(rc == 0 || rc == ERR_NOMEM);
        assert_int_equal(chat_durable_applied(f.chat) == chat_applied(f.chat), rc == 0);
        assert_reads(&f, "a", 250, 1000, 450, false);
        assert_value(&f, "k", "new");
    }
    assert_true(n > 4);
    fixture_restart(&f);
    assert_reads(&f, "a", 250, 1000, 450, false);
    fixture_close(&f);
    assert_int_equal(outstanding, before);
}

static int ignore_value(void *context, struct bytes key, struct bytes value)
{
    return 0;
}

static int query(struct chat *chat, int kind)
{
    struct channel_info infos[4];
    struct message_page *page = NULL;
    struct buf value = {0};
    size_t count = 0;
    bool has_more = false;
    int rc = 0;
    switch (kind) {
    case 0: /* joined */
        rc = chat_read_page(chat, 1, 280, 100, &page);
        break;
    case 1: /* in memory */
        rc = chat_read_page(chat, 1, 310, 100, &page);
        break;
    case 2: /* stored */
        rc = chat_read_page(chat, 1, 0, 100, &page);
        break;
    case 3:
        rc = chat_list_channels(chat, (struct bytes){0}, (struct bytes){0}, 4, infos, &count,
                                &has_more);
        break;
    case 4:
        rc = chat_get_value(chat, bytes_of_text("k"), &value);
        break;
    default:
        rc = chat_walk_values(chat, (struct bytes){0}, (struct bytes){0}, 10, ignore_value, NULL);
        break;
    }
    page_unref(page);
    buf_finish(&value);
    return rc;
}

static void test_queries_without_memory_say_so(void **state)
{
    long before = begin();
    for (int kind = 0; kind < 6; kind++) {
        int rc = ERR_NOMEM;
        for (long n = 0; rc != 0; n++) {
            struct fixture f;
            open_with_contents(&f);
            send_many(&f, "a", 300, 20);
            apply(&f, set_command("l", "new"));
            countdown = n;
            rc = query(f.chat, kind);
            countdown = -1;
            assert_true(rc == 0 || rc == ERR_NOMEM);
            assert_int_equal(query(f.chat, kind), 0);
            fixture_close(&f);
            assert_int_equal(outstanding, before);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_create_without_memory_leaves_nothing_behind),
        cmocka_unit_test(test_apply_without_memory_changes_nothing),
        cmocka_unit_test(test_flush_without_memory_keeps_the_generation),
        cmocka_unit_test(test_queries_without_memory_say_so),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
