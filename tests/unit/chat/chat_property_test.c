/* The same log gives the same results, the same hash and the same answers to every query, wherever
 * batches, flushes and crashes fall, and whichever store is behind. */
#include "chat_fixture.h"
#include "lib/scratch.h"

#include "base/random.h"
#include "store/lmdb.h"

#include <ftw.h>
#include <unistd.h>

enum { ENTRIES = 600, CHECK_EVERY = 60, SEEDS = 150, LMDB_SEEDS = 6 };

struct entry {
    bool is_config;
    struct buf data; /* empty: a no-op */
};

/* A log, and what one straight run of it without any flush came to. */
struct script {
    struct entry entries[ENTRIES + 1]; /* by index */
    struct buf results[ENTRIES + 1];
    uint64_t hashes[ENTRIES + 1];
    struct buf dumps[ENTRIES / CHECK_EVERY + 1];
};

/* ---- the log ---- */

static const char *pick_channel(struct random *random, char *text, size_t size)
{
    static const char *const ids[] = {"a", "ab", "b", "general", "zz", "channel-40", "channel-41"};
    if (random_below(random, 10) == 0) {
        snprintf(text, size, "channel-%u", (unsigned)random_below(random, ENTRIES));
        return text;
    }
    return ids[random_below(random, sizeof(ids) / sizeof(ids[0]))];
}

static void make_command(struct random *random, struct buf *out)
{
    char channel[32], client_id[32], payload[3000], key[32];
    struct command command;
    snprintf(client_id, sizeof(client_id), "client-%u", (unsigned)random_below(random, 60));
    snprintf(key, sizeof(key), "key-%u", (unsigned)random_below(random, 25));
    size_t size = random_below(random, 20) == 0 ? sizeof(payload) - 1 : random_below(random, 40);
    memset(payload, 'a' + (int)random_below(random, 26), size);
    payload[size] = '\0';
    uint64_t kind = random_below(random, 100);
    if (kind < 15) {
        bool has_id = random_below(random, 4) != 0;
        const char *id = pick_channel(random, channel, sizeof(channel));
        command = create_command(has_id ? id : "", client_id);
    } else if (kind < 75) {
        command = send_command(pick_channel(random, channel, sizeof(channel)),
                               random_below(random, 2) == 0 ? client_id : "", payload);
    } else if (kind < 90) {
        command = set_command(key, payload);
    } else {
        command = delete_command(key);
    }
    command.timestamp_ms = (int64_t)random_below(random, 5000);
    command_encode(&command, out);
    if (random_below(random, 50) == 0) {
        out->data[1 + random_below(random, out->size - 1)] ^= 0x55;
    }
}

static void make_log(struct random *random, struct script *script)
{
    *script = (struct script){0};
    for (uint64_t index = 1; index <= ENTRIES; index++) {
        struct entry *entry = &script->entries[index];
        uint64_t kind = random_below(random, 30);
        if (kind == 0) {
            entry->is_config = true;
            buf_printf(&entry->data, "config %u", (unsigned)index);
        } else if (kind > 1) {
            make_command(random, &entry->data);
        }
    }
}

static void script_finish(struct script *script)
{
    for (size_t i = 0; i <= ENTRIES; i++) {
        buf_finish(&script->entries[i].data);
        buf_finish(&script->results[i]);
    }
    for (size_t i = 0; i <= ENTRIES / CHECK_EVERY; i++) {
        buf_finish(&script->dumps[i]);
    }
}

static void apply_entry(struct chat *chat, const struct entry *entry, uint64_t index,
                        struct buf *result)
{
    buf_reset(result);
    if (entry->is_config) {
        uint8_t cluster_id[CLUSTER_ID_BYTES] = {(uint8_t)index};
        assert_int_equal(
            chat_apply_config(chat, index, index / 100, buf_bytes(&entry->data), cluster_id), 0);
    } else {
        struct command_result answer;
        assert_int_equal(chat_apply(chat, index, index / 100, buf_bytes(&entry->data), &answer), 0);
        command_result_encode(&answer, result);
    }
}

/* ---- everything that can be asked, as text ---- */

static void dump_messages(struct chat *chat, struct random *random, const struct channel_info *info,
                          struct buf *out)
{
    uint64_t after = 0;
    bool has_more = true;
    while (has_more) {
        struct message_page *page = NULL;
        size_t limit = 1 + (size_t)random_below(random, 40);
        assert_int_equal(chat_read_page(chat, info->number, after, limit, &page), 0);
        assert_true(page->count == limit || !page->has_more);
        for (size_t i = 0; i < page->count; i++) {
            const struct message *message = page->messages[i];
            assert_int_equal(message->sequence, after + i + 1);
            buf_printf(out, " %lld ", (long long)message->timestamp_ms);
            buf_append(out, message->data,
                       message->author_size + message->client_id_size + message->payload_size);
        }
        has_more = page->has_more;
        after = page->last_sequence;
        page_unref(page);
    }
    assert_int_equal(after, info->last_sequence);
}

static void dump_channels(struct chat *chat, struct random *random, struct buf *out)
{
    enum { LIMIT_MAX = 20 };
    static struct channel_info infos[LIMIT_MAX];
    struct channel_info last = {0};
    bool has_more = true;
    while (has_more) {
        size_t limit = 1 + (size_t)random_below(random, LIMIT_MAX), count = 0;
        assert_int_equal(chat_list_channels(chat, bytes_of_text(last.id), (struct bytes){0}, limit,
                                            infos, &count, &has_more),
                         0);
        assert_true(count == limit || !has_more);
        for (size_t i = 0; i < count; i++) {
            struct channel_info found;
            assert_true(strcmp(infos[i].id, last.id) > 0);
            last = infos[i];
            assert_int_equal(chat_find_channel(chat, bytes_of_text(last.id), &found), 0);
            assert_int_equal(found.last_sequence, last.last_sequence);
            assert_int_equal(found.number, last.number);
            buf_printf(out, "\n%s %s %llu:", last.id, last.name, (unsigned long long)last.number);
            dump_messages(chat, random, &last, out);
        }
    }
}

struct value_walk {
    struct chat *chat;
    struct buf *out;
    struct buf last;
    size_t count;
};

static int dump_value(void *context, struct bytes key, struct bytes value)
{
    struct value_walk *walk = context;
    struct buf found = {0};
    assert_int_equal(chat_get_value(walk->chat, key, &found), 0);
    assert_true(bytes_equal(buf_bytes(&found), value));
    buf_finish(&found);
    buf_reset(&walk->last);
    buf_append(&walk->last, key.data, key.size);
    buf_append_text(walk->out, "\n");
    buf_append(walk->out, key.data, key.size);
    buf_append_text(walk->out, "=");
    buf_append(walk->out, value.data, value.size);
    walk->count++;
    return 0;
}

static void dump_values(struct chat *chat, struct random *random, struct buf *out)
{
    struct value_walk walk = {.chat = chat, .out = out};
    size_t limit = 0;
    do {
        struct buf after = {0};
        buf_append(&after, walk.last.data, walk.last.size);
        limit = 1 + (size_t)random_below(random, 10);
        walk.count = 0;
        assert_int_equal(
            chat_walk_values(chat, buf_bytes(&after), (struct bytes){0}, limit, dump_value, &walk),
            0);
        assert_true(walk.count <= limit);
        buf_finish(&after);
    } while (walk.count == limit);
    buf_finish(&walk.last);
}

static void dump(struct chat *chat, struct random *random, struct buf *out)
{
    struct store_meta meta;
    chat_get_meta(chat, &meta);
    buf_printf(out, "%llu %llu %llx %llu %llu %llu %.*s", (unsigned long long)meta.applied_index,
               (unsigned long long)meta.applied_term, (unsigned long long)meta.result_hash,
               (unsigned long long)meta.channel_count, (unsigned long long)meta.message_count,
               (unsigned long long)meta.value_count, (int)meta.config_size,
               (const char *)meta.config);
    dump_channels(chat, random, out);
    dump_values(chat, random, out);
    assert_false(buf_failed(out));
}

/* ---- runs ---- */

static void run_straight(struct random *random, struct script *script)
{
    struct fixture f;
    fixture_open(&f);
    for (uint64_t index = 1; index <= ENTRIES; index++) {
        chat_apply_begin(f.chat);
        apply_entry(f.chat, &script->entries[index], index, &script->results[index]);
        chat_apply_end(f.chat);
        struct store_meta meta;
        chat_get_meta(f.chat, &meta);
        script->hashes[index] = meta.result_hash;
        assert_true(script->hashes[index] != script->hashes[index - 1]);
        if (index % CHECK_EVERY == 0) {
            dump(f.chat, random, &script->dumps[index / CHECK_EVERY]);
        }
    }
    fixture_close(&f);
}

static void assert_as_in_script(struct chat *chat, struct random *random,
                                const struct script *script)
{
    struct store_meta meta;
    chat_get_meta(chat, &meta);
    uint64_t index = meta.applied_index;
    assert_int_equal(meta.result_hash, script->hashes[index]);
    chat_get_durable_meta(chat, &meta);
    assert_int_equal(meta.applied_index, chat_durable_applied(chat));
    assert_int_equal(meta.result_hash, script->hashes[meta.applied_index]);
    if (index > 0 && index % CHECK_EVERY == 0) {
        struct buf text = {0};
        dump(chat, random, &text);
        assert_true(bytes_equal(buf_bytes(&text), buf_bytes(&script->dumps[index / CHECK_EVERY])));
        buf_finish(&text);
    }
}

/* As many entries as there are before the next check, at most. */
static void apply_some(struct chat *chat, struct random *random, const struct script *script)
{
    struct buf result = {0};
    uint64_t index = chat_applied(chat);
    uint64_t count = 1 + random_below(random, 30);
    chat_apply_begin(chat);
    do {
        index++;
        apply_entry(chat, &script->entries[index], index, &result);
        assert_true(bytes_equal(buf_bytes(&result), buf_bytes(&script->results[index])));
    } while (--count > 0 && index % CHECK_EVERY != 0);
    chat_apply_end(chat);
    buf_finish(&result);
}

static void run_with_accidents(struct store *store, bool is_memory, struct random *random,
                               const struct script *script)
{
    struct chat *chat = NULL;
    assert_int_equal(chat_create(store, &chat), 0);
    assert_int_equal(chat_applied(chat), 0);
    while (chat_applied(chat) < ENTRIES) {
        apply_some(chat, random, script);
        assert_as_in_script(chat, random, script);
        uint64_t accident = random_below(random, 8);
        if (accident < 3) {
            assert_int_equal(chat_flush(chat, CHAT_FLUSH_NOW, 0), 0);
            assert_as_in_script(chat, random, script);
        } else if (accident == 3 && is_memory && chat_durable_applied(chat) < chat_applied(chat)) {
            store_memory_fail_next_commit(store, ERR_NO_SPACE);
            assert_int_equal(chat_flush(chat, CHAT_FLUSH_NOW, 0), ERR_NO_SPACE);
            assert_as_in_script(chat, random, script);
        } else if (accident == 4) {
            uint64_t durable = chat_durable_applied(chat);
            chat_destroy(chat);
            assert_int_equal(chat_create(store, &chat), 0);
            assert_int_equal(chat_applied(chat), durable);
            assert_as_in_script(chat, random, script);
        }
    }
    chat_destroy(chat);
}

static void test_same_log_gives_the_same_wherever_flushes_and_crashes_fall(void **state)
{
    static struct script script;
    for (uint64_t seed = 1; seed <= SEEDS; seed++) {
        struct random random;
        random_seed(&random, seed);
        make_log(&random, &script);
        run_straight(&random, &script);
        for (int run = 0; run < 3; run++) {
            struct store *store = NULL;
            assert_int_equal(store_memory_create(&store), 0);
            run_with_accidents(store, true, &random, &script);
            store->ops->close(store);
        }
        script_finish(&script);
    }
}

static int remove_entry(const char *path, const struct stat *stat, int flag, struct FTW *ftw)
{
    return remove(path);
}

static void test_lmdb_gives_the_same_as_memory(void **state)
{
    static struct script script;
    for (uint64_t seed = 1; seed <= LMDB_SEEDS; seed++) {
        struct random random;
        random_seed(&random, 1000 + seed);
        make_log(&random, &script);
        run_straight(&random, &script);
        char dir[64];
        scratch_make_dir(dir, sizeof(dir), "chat-property");
        struct store_lmdb_options options = {.dir = dir, .map_bytes_max = 64u << 20};
        struct store *store = NULL;
        char error[256];
        assert_int_equal(store_lmdb_open(&options, &store, error, sizeof(error)), 0);
        run_with_accidents(store, false, &random, &script);
        store->ops->close(store);
        assert_int_equal(nftw(dir, remove_entry, 8, FTW_DEPTH | FTW_PHYS), 0);
        script_finish(&script);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_same_log_gives_the_same_wherever_flushes_and_crashes_fall),
        cmocka_unit_test(test_lmdb_gives_the_same_as_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
