/* Manifests, chunks, partial files, and the steps of an installation on a file system in memory. */
#include "base/errors.h"
#include "lib/fs_faulty.h"
#include "lib/fs_memory.h"
#include "storage/data_dir.h"
#include "storage/snapshot.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define CHUNKS 20
#define FILE_BYTES ((CHUNKS - 1) * SNAPSHOT_CHUNK_BYTES + 1000)

struct bench {
    struct fs_memory *memory;
    struct fs *fs;
    uint8_t *contents;
    struct snapshot_manifest manifest;
    struct buf encoded;
};

static void write_file(struct fs *fs, const char *path, const void *data, size_t size)
{
    struct fs_file *file;
    (void)fs->ops->remove(fs, path);
    assert_int_equal(fs->ops->open(fs, path, FS_OPEN_CREATE, &file), 0);
    assert_int_equal(fs->ops->write_at(fs, file, 0, data, size), 0);
    fs->ops->close(fs, file);
}

static int set_up(void **state)
{
    struct bench *bench = calloc(1, sizeof(*bench));
    bench->memory = fs_memory_create();
    bench->fs = fs_memory_fs(bench->memory);
    bench->contents = malloc(FILE_BYTES);
    for (size_t i = 0; i < FILE_BYTES; i++) {
        bench->contents[i] = (uint8_t)(i * 2654435761u >> 13);
    }
    assert_int_equal(bench->fs->ops->make_dir(bench->fs, "out"), 0);
    write_file(bench->fs, "out/data.mdb", bench->contents, FILE_BYTES);
    bench->manifest = (struct snapshot_manifest){
        .id = 42, .index = 1000, .term = 7, .config_size = 5, .config = "abcd"};
    memset(bench->manifest.cluster_id, 9, sizeof(bench->manifest.cluster_id));
    assert_int_equal(snapshot_manifest_measure(&bench->manifest, bench->fs, "out/data.mdb"), 0);
    snapshot_manifest_encode(&bench->manifest, &bench->encoded);
    assert_false(buf_failed(&bench->encoded));
    *state = bench;
    return 0;
}

static int tear_down(void **state)
{
    struct bench *bench = *state;
    snapshot_manifest_finish(&bench->manifest);
    buf_finish(&bench->encoded);
    free(bench->contents);
    fs_memory_destroy(bench->memory);
    free(bench);
    return 0;
}

static struct bytes chunk_of(const struct bench *bench, uint32_t chunk)
{
    return (struct bytes){bench->contents + (size_t)chunk * SNAPSHOT_CHUNK_BYTES,
                          snapshot_chunk_bytes(&bench->manifest, chunk)};
}

static void open_incoming(struct bench *bench, struct snapshot_incoming *incoming,
                          uint32_t next_chunk)
{
    assert_int_equal(snapshot_incoming_open(incoming, bench->fs, "in", buf_bytes(&bench->encoded)),
                     0);
    assert_int_equal(incoming->next_chunk, next_chunk);
}

static void write_chunks(struct bench *bench, struct snapshot_incoming *incoming, uint32_t end)
{
    for (uint32_t i = incoming->next_chunk; i < end; i++) {
        assert_int_equal(snapshot_incoming_write(incoming, i, chunk_of(bench, i)), 0);
    }
}

static void test_a_manifest_comes_back_as_it_went(void **state)
{
    struct bench *bench = *state;
    struct snapshot_manifest back;
    assert_int_equal(snapshot_manifest_decode(buf_bytes(&bench->encoded), &back), 0);
    assert_int_equal(back.id, 42);
    assert_int_equal(back.index, 1000);
    assert_int_equal(back.term, 7);
    assert_int_equal(back.size, FILE_BYTES);
    assert_int_equal(back.chunk_count, CHUNKS);
    assert_int_equal(back.config_size, 5);
    assert_memory_equal(back.config, "abcd", 5);
    assert_memory_equal(back.cluster_id, bench->manifest.cluster_id, 16);
    assert_memory_equal(back.checksums, bench->manifest.checksums, CHUNKS * sizeof(uint64_t));
    snapshot_manifest_finish(&back);
}

static void test_any_damaged_byte_of_a_manifest_is_found(void **state)
{
    struct bench *bench = *state;
    struct snapshot_manifest back;
    for (size_t i = 0; i < bench->encoded.size; i++) {
        bench->encoded.data[i] ^= 0x40;
        int rc = snapshot_manifest_decode(buf_bytes(&bench->encoded), &back);
        assert_true(rc == ERR_CORRUPT || rc == ERR_VERSION);
        bench->encoded.data[i] ^= 0x40;
    }
    for (size_t size = 0; size < bench->encoded.size; size++) {
        struct bytes cut = {bench->encoded.data, size};
        assert_int_equal(snapshot_manifest_decode(cut, &back), ERR_CORRUPT);
    }
}

static void test_a_damaged_byte_of_the_file_is_found_when_its_chunk_is_read(void **state)
{
    struct bench *bench = *state;
    uint8_t *data = malloc(SNAPSHOT_CHUNK_BYTES);
    struct fs_file *file;
    assert_int_equal(bench->fs->ops->open(bench->fs, "out/data.mdb", FS_OPEN_READ, &file), 0);
    for (uint64_t at = 0; at < FILE_BYTES; at += 9973) {
        uint32_t chunk = (uint32_t)(at / SNAPSHOT_CHUNK_BYTES);
        assert_int_equal(fs_memory_flip_bit(bench->memory, "out/data.mdb", at, at % 8), 0);
        for (uint32_t i = 0; i < CHUNKS; i++) {
            assert_int_equal(snapshot_read_chunk(&bench->manifest, bench->fs, file, i, data),
                             i == chunk ? ERR_CORRUPT : 0);
        }
        assert_int_equal(fs_memory_flip_bit(bench->memory, "out/data.mdb", at, at % 8), 0);
    }
    bench->fs->ops->close(bench->fs, file);
    free(data);
}

static void test_a_transfer_goes_on_where_it_ended(void **state)
{
    struct bench *bench = *state;
    struct snapshot_incoming incoming;
    for (uint32_t done = 0; done < CHUNKS; done++) {
        open_incoming(bench, &incoming, done);
        write_chunks(bench, &incoming, done + 1);
        snapshot_incoming_close(&incoming);
    }
    open_incoming(bench, &incoming, CHUNKS);
    assert_int_equal(snapshot_incoming_complete(&incoming), 0);
    snapshot_incoming_close(&incoming);
    const uint8_t *data;
    uint64_t size;
    assert_int_equal(fs_memory_peek(bench->memory, "in/data.mdb", &data, &size), 0);
    assert_int_equal(size, FILE_BYTES);
    assert_memory_equal(data, bench->contents, FILE_BYTES);
}

static void test_a_power_cut_in_a_transfer_leaves_a_good_beginning(void **state)
{
    struct bench *bench = *state;
    for (uint64_t seed = 0; seed < 50; seed++) {
        struct random random;
        random_seed(&random, seed);
        struct snapshot_incoming incoming;
        assert_int_equal(
            snapshot_incoming_open(&incoming, bench->fs, "in", buf_bytes(&bench->encoded)), 0);
        write_chunks(bench, &incoming, CHUNKS);
        snapshot_incoming_close(&incoming);
        fs_memory_power_cut(bench->memory, &random);
        assert_int_equal(
            snapshot_incoming_open(&incoming, bench->fs, "in", buf_bytes(&bench->encoded)), 0);
        write_chunks(bench, &incoming, CHUNKS);
        assert_int_equal(snapshot_incoming_complete(&incoming), 0);
        snapshot_incoming_close(&incoming);
        assert_int_equal(snapshot_clear_dir(bench->fs, "in"), 0);
    }
}

static void test_another_snapshot_begins_anew(void **state)
{
    struct bench *bench = *state;
    struct snapshot_incoming incoming;
    open_incoming(bench, &incoming, 0);
    write_chunks(bench, &incoming, 2);
    snapshot_incoming_close(&incoming);
    bench->manifest.id++;
    buf_reset(&bench->encoded);
    snapshot_manifest_encode(&bench->manifest, &bench->encoded);
    open_incoming(bench, &incoming, 0);
    snapshot_incoming_close(&incoming);
}

static void test_chunks_that_are_not_due_or_not_sound_are_refused(void **state)
{
    struct bench *bench = *state;
    struct snapshot_incoming incoming;
    open_incoming(bench, &incoming, 0);
    assert_int_equal(snapshot_incoming_write(&incoming, 1, chunk_of(bench, 1)), ERR_INVALID);
    assert_int_equal(snapshot_incoming_write(&incoming, 0, chunk_of(bench, CHUNKS - 1)),
                     ERR_INVALID);
    assert_int_equal(snapshot_incoming_write(&incoming, 0, chunk_of(bench, 1)), ERR_CORRUPT);
    write_chunks(bench, &incoming, CHUNKS);
    assert_int_equal(snapshot_incoming_write(&incoming, CHUNKS, chunk_of(bench, 0)), ERR_INVALID);
    snapshot_incoming_close(&incoming);
}

static void test_what_the_disk_garbled_is_found_at_the_end(void **state)
{
    struct bench *bench = *state;
    struct snapshot_incoming incoming;
    open_incoming(bench, &incoming, 0);
    write_chunks(bench, &incoming, CHUNKS);
    assert_int_equal(fs_memory_flip_bit(bench->memory, "in/data.mdb", 300000, 1), 0);
    assert_int_equal(snapshot_incoming_complete(&incoming), ERR_CORRUPT);
    snapshot_incoming_close(&incoming);
}

static void test_every_failing_call_of_a_transfer_is_reported(void **state)
{
    struct bench *bench = *state;
    struct fs_faulty faulty;
    fs_faulty_init(&faulty, bench->fs);
    bool has_failed = true;
    for (uint64_t countdown = 1; has_failed; countdown++) {
        struct snapshot_incoming incoming = {0};
        fs_faulty_arm(&faulty, countdown, ERR_IO, FS_FAULTY_PART, true);
        int rc = snapshot_incoming_open(&incoming, &faulty.fs, "in", buf_bytes(&bench->encoded));
        for (uint32_t i = incoming.next_chunk; rc == 0 && i < CHUNKS; i++) {
            rc = snapshot_incoming_write(&incoming, i, chunk_of(bench, i));
        }
        if (rc == 0) {
            rc = snapshot_incoming_complete(&incoming);
        }
        has_failed = faulty.has_failed;
        assert_int_equal(rc != 0, has_failed);
        snapshot_incoming_close(&incoming);
    }
    fs_faulty_arm(&faulty, 0, ERR_IO, FS_FAULTY_NOTHING, false);
}

/* The process or the machine dies at each call of the switch: afterwards either nothing has begun,
 * or the mark is there, or all is done; and the store is always one of the two, whole. */
static void test_a_crash_in_the_switch_leaves_the_old_or_the_new_store(void **state)
{
    struct bench *bench = *state;
    (void)bench;
    for (uint64_t seed = 0; seed < 400; seed++) {
        struct random random;
        random_seed(&random, seed);
        struct fs_memory *memory = fs_memory_create();
        struct fs *fs = fs_memory_fs(memory);
        struct fs_faulty faulty;
        fs_faulty_init(&faulty, fs);
        struct data_dir dir = {
            .fs = &faulty.fs, .path = "d", .store_path = "d/store", .incoming_path = "d/incoming"};
        assert_int_equal(fs->ops->make_dir(fs, "d/store"), 0);
        assert_int_equal(fs->ops->make_dir(fs, "d/incoming"), 0);
        write_file(fs, "d/store/data.mdb", "old", 3);
        write_file(fs, "d/incoming/data.mdb", "new", 3);
        struct fs_file *file;
        const char *names[] = {"d/store/data.mdb", "d/incoming/data.mdb"};
        for (size_t i = 0; i < 2; i++) {
            assert_int_equal(fs->ops->open(fs, names[i], FS_OPEN_READ_WRITE, &file), 0);
            assert_int_equal(fs->ops->sync(fs, file), 0);
            fs->ops->close(fs, file);
        }
        assert_int_equal(fs->ops->sync_dir(fs, "d/store"), 0);
        assert_int_equal(fs->ops->sync_dir(fs, "d/incoming"), 0);
        assert_int_equal(fs->ops->sync_dir(fs, "d"), 0);

        fs_faulty_arm(&faulty, 1 + random_below(&random, 10), ERR_IO,
                      (enum fs_faulty_effect)random_below(&random, 3), true);
        bool is_marked = data_dir_begin_install(&dir) == 0;
        bool is_swapped = is_marked && data_dir_swap_store(&dir) == 0;
        bool is_over = is_swapped && data_dir_end_install(&dir) == 0;
        if (random_below(&random, 2) == 0) {
            fs_memory_kill(memory);
        } else {
            fs_memory_power_cut(memory, &random);
        }
        fs_faulty_arm(&faulty, 0, ERR_IO, FS_FAULTY_NOTHING, false);

        bool has_mark = data_dir_is_installing(&dir);
        const uint8_t *data;
        uint64_t size;
        assert_int_equal(fs_memory_peek(memory, "d/store/data.mdb", &data, &size), 0);
        assert_int_equal(size, 3);
        bool is_new = memcmp(data, "new", 3) == 0;
        assert_true(is_new || memcmp(data, "old", 3) == 0);
        if (is_new) {
            assert_true(has_mark || is_swapped); /* never new without a word to the log */
        }
        if (is_marked && !is_new) {
            assert_true(has_mark);
        }
        if (is_over) {
            assert_true(is_new);
            assert_false(has_mark);
        }
        if (has_mark) {
            int rc = data_dir_swap_store(&dir);
            assert_true(rc == 0 || rc == ERR_NOT_FOUND);
            assert_int_equal(data_dir_end_install(&dir), 0);
            assert_int_equal(fs_memory_peek(memory, "d/store/data.mdb", &data, &size), 0);
            assert_memory_equal(data, "new", 3);
        }
        fs_memory_destroy(memory);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_a_manifest_comes_back_as_it_went, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_any_damaged_byte_of_a_manifest_is_found, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(
            test_a_damaged_byte_of_the_file_is_found_when_its_chunk_is_read, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_a_transfer_goes_on_where_it_ended, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_a_power_cut_in_a_transfer_leaves_a_good_beginning,
                                        set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_another_snapshot_begins_anew, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_chunks_that_are_not_due_or_not_sound_are_refused,
                                        set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_what_the_disk_garbled_is_found_at_the_end, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(test_every_failing_call_of_a_transfer_is_reported, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(test_a_crash_in_the_switch_leaves_the_old_or_the_new_store,
                                        set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
