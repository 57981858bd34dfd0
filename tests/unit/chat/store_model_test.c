/* The LMDB store against the memory store: the same batches, then the same answers to everything
 * that can be asked. */
#include "store/lmdb_internal.h"

#include "base/errors.h"
#include "lib/scratch.h"
#include "lib/store_batches.h"
#include "lib/store_memory.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

struct pair {
    char dir[64];
    struct store *lmdb;
    struct store *memory;
};

static struct store *open_store(const char *dir)
{
    char error[256] = "";
    struct store_lmdb_options options = {.dir = dir, .map_bytes_max = UINT64_C(1) << 30};
    struct store *store = NULL;
    int rc = store_lmdb_open(&options, &store, error, sizeof(error));
    if (rc != 0) {
        fail_msg("open: %d %s", rc, error);
    }
    return store;
}

static void pair_open(struct pair *pair)
{
    scratch_make_dir(pair->dir, sizeof(pair->dir), "store-model");
    pair->lmdb = open_store(pair->dir);
    assert_int_equal(store_memory_create(&pair->memory), 0);
}

static void pair_close(struct pair *pair)
{
    pair->lmdb->ops->close(pair->lmdb);
    pair->memory->ops->close(pair->memory);
    char command[128];
    snprintf(command, sizeof(command), "rm -rf %s", pair->dir);
    assert_int_equal(system(command), 0);
}

static void assert_same_bytes(struct bytes a, struct bytes b)
{
    assert_int_equal(a.size, b.size);
    assert_true(bytes_equal(a, b));
}

static void assert_same_channel(const struct store_channel *a, const struct store_channel *b)
{
    assert_int_equal(a->number, b->number);
    assert_int_equal(a->last_sequence, b->last_sequence);
    assert_true(a->last_timestamp_ms == b->last_timestamp_ms);
    assert_same_bytes(a->id, b->id);
    assert_same_bytes(a->name, b->name);
}

static void compare_channels(struct pair *pair, struct store_read *a, struct store_read *b)
{
    struct bytes from = {0};
    char id[64] = "";
    for (;;) {
        struct store_channel left, right;
        int rc = pair->lmdb->ops->seek_channel(a, from, true, &left);
        assert_int_equal(pair->memory->ops->seek_channel(b, from, true, &right), rc);
        if (rc == ERR_NOT_FOUND) {
            break;
        }
        assert_int_equal(rc, 0);
        assert_same_channel(&left, &right);
        assert_true(left.id.size < sizeof(id));
        memcpy(id, left.id.data, left.id.size);
        from = (struct bytes){id, left.id.size};
        assert_int_equal(pair->lmdb->ops->get_channel(a, from, &left), 0);
        assert_same_channel(&left, &right);
        assert_int_equal(pair->lmdb->ops->seek_channel(a, from, false, &left), 0);
        assert_same_channel(&left, &right);
    }
}

static void compare_messages(struct pair *pair, struct store_read *a, struct store_read *b,
                             uint64_t number)
{
    for (uint64_t after = 0;; after++) {
        struct message *left = NULL, *right = NULL;
        int rc = pair->lmdb->ops->next_message(a, number, after, &left);
        assert_int_equal(pair->memory->ops->next_message(b, number, after, &right), rc);
        if (rc == ERR_NOT_FOUND) {
            break;
        }
        assert_int_equal(rc, 0);
        assert_int_equal(left->sequence, right->sequence);
        assert_true(left->timestamp_ms == right->timestamp_ms);
        assert_same_bytes(message_author_id(left), message_author_id(right));
        assert_same_bytes(message_client_id(left), message_client_id(right));
        assert_same_bytes(message_payload(left), message_payload(right));
        struct bytes client_id = message_client_id(left);
        if (client_id.size > 0) {
            uint64_t sequence = 0;
            assert_int_equal(pair->lmdb->ops->get_dedupe(a, number, client_id, &sequence), 0);
            assert_int_equal(sequence, left->sequence);
            rc = pair->memory->ops->get_dedupe(b, number + 1, client_id, &sequence);
            assert_int_equal(rc, ERR_NOT_FOUND);
            rc = pair->lmdb->ops->get_dedupe(a, number + 1, client_id, &sequence);
            assert_int_equal(rc, ERR_NOT_FOUND);
        }
        message_unref(left);
        message_unref(right);
    }
}

static void compare_values(struct pair *pair, struct store_read *a, struct store_read *b)
{
    for (size_t i = 0; i < STORE_BATCHES_KEYS_MAX; i++) {
        char key[16];
        snprintf(key, sizeof(key), "key-%04zu", i);
        struct bytes left, right;
        int rc = pair->lmdb->ops->get_value(a, bytes_of_text(key), &left);
        assert_int_equal(pair->memory->ops->get_value(b, bytes_of_text(key), &right), rc);
        if (rc == 0) {
            assert_same_bytes(left, right);
        }
        for (int is_exclusive = 0; is_exclusive < 2; is_exclusive++) {
            struct bytes left_key, right_key;
            rc = pair->lmdb->ops->seek_value(a, bytes_of_text(key), is_exclusive, &left_key, &left);
            assert_int_equal(pair->memory->ops->seek_value(b, bytes_of_text(key), is_exclusive,
                                                           &right_key, &right),
                             rc);
            if (rc == 0) {
                assert_same_bytes(left_key, right_key);
                assert_same_bytes(left, right);
            }
        }
    }
}

static void compare(struct pair *pair, struct store_read *a, struct store_read *b,
                    const struct store_batches *batches)
{
    struct store_meta left, right;
    assert_int_equal(pair->lmdb->ops->read_meta(a, &left), 0);
    assert_int_equal(pair->memory->ops->read_meta(b, &right), 0);
    assert_int_equal(left.applied_index, right.applied_index);
    assert_int_equal(left.applied_term, right.applied_term);
    assert_true(left.result_hash == right.result_hash);
    assert_memory_equal(left.cluster_id, right.cluster_id, sizeof(left.cluster_id));
    assert_int_equal(left.channel_count, right.channel_count);
    assert_int_equal(left.message_count, right.message_count);
    assert_int_equal(left.value_count, right.value_count);
    assert_int_equal(left.config_size, right.config_size);
    assert_memory_equal(left.config, right.config, left.config_size);
    compare_channels(pair, a, b);
    for (size_t i = 0; i < batches->channel_count; i++) {
        compare_messages(pair, a, b, batches->channels[i].number);
    }
    compare_values(pair, a, b);
}

static void compare_now(struct pair *pair, const struct store_batches *batches)
{
    struct store_read *a, *b;
    assert_int_equal(pair->lmdb->ops->read_begin(pair->lmdb, &a), 0);
    assert_int_equal(pair->memory->ops->read_begin(pair->memory, &b), 0);
    compare(pair, a, b, batches);
    pair->lmdb->ops->read_end(a);
    pair->memory->ops->read_end(b);
}

static void scrub_once(struct store *store)
{
    for (bool is_done = false; !is_done;) {
        assert_int_equal(store_lmdb_scrub(store, 100, &is_done), 0);
    }
}

static void commit_both(struct pair *pair, const struct store_batch *batch)
{
    assert_int_equal(pair->lmdb->ops->commit(pair->lmdb, batch), 0);
    assert_int_equal(pair->memory->ops->commit(pair->memory, batch), 0);
}

/* One run: random sizes, reads held over commits, reopening, a scrub that runs all the while. */
static void run_seed(uint64_t seed, size_t channels, uint64_t recent_rows, uint64_t hash_mask)
{
    struct pair pair;
    pair_open(&pair);
    struct store_batches *batches = malloc(sizeof(*batches));
    store_batches_init(batches, seed, channels);
    struct store_read *old_lmdb = NULL, *old_memory = NULL;
    for (int step = 0; step < 25; step++) {
        ((struct lmdb_store *)pair.lmdb)->recent_rows = recent_rows;
        ((struct lmdb_store *)pair.lmdb)->hash_mask = hash_mask;
        batches->message_bytes_max = random_below(&batches->random, 10) == 0 ? 20000 : 150;
        size_t messages = (size_t)random_below(&batches->random, 120);
        size_t values = (size_t)random_below(&batches->random, 20);
        commit_both(&pair, store_batches_next(batches, messages, values));
        bool is_done;
        assert_int_equal(
            store_lmdb_scrub(pair.lmdb, 1 + random_below(&batches->random, 300), &is_done), 0);
        if (old_lmdb != NULL && random_below(&batches->random, 2) == 0) {
            compare(&pair, old_lmdb, old_memory, batches);
            pair.lmdb->ops->read_end(old_lmdb);
            pair.memory->ops->read_end(old_memory);
            old_lmdb = NULL;
        }
        if (old_lmdb == NULL && random_below(&batches->random, 4) == 0) {
            pair.lmdb->ops->close(pair.lmdb);
            pair.lmdb = open_store(pair.dir);
            ((struct lmdb_store *)pair.lmdb)->hash_mask = hash_mask;
        }
        if (old_lmdb == NULL) {
            assert_int_equal(pair.lmdb->ops->read_begin(pair.lmdb, &old_lmdb), 0);
            assert_int_equal(pair.memory->ops->read_begin(pair.memory, &old_memory), 0);
        }
        if (step % 8 == 0) {
            compare_now(&pair, batches);
        }
    }
    compare(&pair, old_lmdb, old_memory, batches);
    pair.lmdb->ops->read_end(old_lmdb);
    pair.memory->ops->read_end(old_memory);
    compare_now(&pair, batches);
    scrub_once(pair.lmdb);
    scrub_once(pair.lmdb);
    store_batches_finish(batches);
    free(batches);
    pair_close(&pair);
}

static void test_lmdb_answers_like_memory(void **state)
{
    for (uint64_t seed = 1; seed <= 12; seed++) {
        static const size_t channels[] = {1, 3, 20, 200};
        run_seed(seed, channels[seed % 4], STORE_RECENT_ROWS, UINT64_MAX);
    }
}

static void test_client_ids_are_found_wherever_they_have_moved(void **state)
{
    for (uint64_t seed = 100; seed < 112; seed++) {
        static const size_t channels[] = {1, 2, 30, 300};
        run_seed(seed, channels[seed % 4], seed % 3 * 40, UINT64_MAX);
    }
}

static void test_client_ids_with_equal_hashes_are_told_apart(void **state)
{
    for (uint64_t seed = 200; seed < 208; seed++) {
        run_seed(seed, 1 + seed % 3, seed % 2 * 100, 0xf);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_lmdb_answers_like_memory),
        cmocka_unit_test(test_client_ids_are_found_wherever_they_have_moved),
        cmocka_unit_test(test_client_ids_with_equal_hashes_are_told_apart),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
