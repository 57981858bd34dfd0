/* The log on the real file system: what a node does in ordinary life. */
#include "storage/wal.h"

#include "base/errors.h"
#include "lib/scratch.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

struct place {
    char dir[64];
    struct wal_options options;
    struct wal *wal;
    struct wal_report report;
};

static int setup(void **state)
{
    struct place *place = calloc(1, sizeof(*place));
    scratch_make_dir(place->dir, sizeof(place->dir), "raftogram-wal");
    place->options = (struct wal_options){
        .fs = fs_posix(),
        .dir = place->dir,
        .segment_bytes = 64 * 1024,
        .cache_bytes = 4096,
    };
    *state = place;
    return wal_open(&place->options, &place->wal, &place->report);
}

static int teardown(void **state)
{
    struct place *place = *state;
    wal_close(place->wal);
    char command[128];
    snprintf(command, sizeof(command), "rm -rf '%s'", place->dir);
    int rc = system(command);
    free(place);
    return rc;
}

static void reopen(struct place *place, enum wal_condition condition)
{
    wal_close(place->wal);
    place->wal = NULL;
    assert_int_equal(wal_open(&place->options, &place->wal, &place->report), 0);
    if (place->report.condition != condition) {
        print_error("%s\n", place->report.description);
    }
    assert_int_equal(place->report.condition, condition);
}

/* The payload says which entry it is. */
static void fill(char *data, size_t size, uint64_t index, uint64_t term)
{
    for (size_t i = 0; i < size; i++) {
        data[i] = (char)(index * 31 + term * 7 + i);
    }
}

static void stage(struct place *place, uint64_t index, uint64_t term, size_t size)
{
    char *data = malloc(size + 1);
    fill(data, size, index, term);
    struct wal_entry entry = {
        .index = index, .term = term, .type = (uint8_t)(index % 5), .data = {data, size}};
    assert_int_equal(wal_stage_entry(place->wal, &entry), 0);
    free(data);
}

static void expect(struct place *place, uint64_t index, uint64_t term, size_t size)
{
    char *data = malloc(size + 1);
    fill(data, size, index, term);
    struct wal_entry entry;
    assert_int_equal(wal_read(place->wal, index, &entry), 0);
    assert_int_equal(entry.index, index);
    assert_int_equal(entry.term, term);
    assert_int_equal(wal_term(place->wal, index), term);
    assert_int_equal(entry.type, index % 5);
    assert_int_equal(entry.data.size, size);
    assert_memory_equal(entry.data.data, data, size);
    free(data);
}

static struct wal_hard_state sample_state(uint64_t term)
{
    struct wal_hard_state state = {.term = term, .incarnation = 77, .is_recovering = true};
    strcpy(state.voted_for, "node-b");
    memset(state.cluster_id, 0x5a, sizeof(state.cluster_id));
    return state;
}

static void test_an_empty_directory_is_new_until_something_is_committed(void **state)
{
    struct place *place = *state;
    assert_int_equal(place->report.condition, WAL_NEW);
    assert_int_equal(wal_first_index(place->wal), 1);
    assert_int_equal(wal_last_index(place->wal), 0);
    assert_int_equal(wal_commit(place->wal), 0);
    reopen(place, WAL_NEW);
    assert_true(wal_has_room(place->wal, 1000));
}

static void test_committed_entries_are_there_after_reopening(void **state)
{
    struct place *place = *state;
    for (uint64_t i = 1; i <= 300; i++) {
        stage(place, i, 1 + i / 100, i * 7 % 2000);
        expect(place, i, 1 + i / 100, i * 7 % 2000);
        if (i % 3 == 0) {
            assert_int_equal(wal_commit(place->wal), 0);
            assert_int_equal(wal_durable_index(place->wal), i);
        }
    }
    for (int round = 0; round < 2; round++) {
        assert_int_equal(wal_last_index(place->wal), 300);
        for (uint64_t i = 300; i >= 1; i--) {
            expect(place, i, 1 + i / 100, i * 7 % 2000);
        }
        reopen(place, WAL_CLEAN);
        assert_int_equal(wal_durable_index(place->wal), 300);
    }
}

static void test_staged_entries_are_gone_after_reopening(void **state)
{
    struct place *place = *state;
    stage(place, 1, 1, 10);
    assert_int_equal(wal_commit(place->wal), 0);
    stage(place, 2, 1, 10);
    assert_true(wal_has_staged(place->wal));
    assert_int_equal(wal_last_index(place->wal), 2);
    assert_int_equal(wal_durable_index(place->wal), 1);
    reopen(place, WAL_CLEAN);
    assert_int_equal(wal_last_index(place->wal), 1);
}

static void test_an_existing_index_replaces_the_suffix(void **state)
{
    struct place *place = *state;
    for (uint64_t i = 1; i <= 10; i++) {
        stage(place, i, 1, 100);
    }
    assert_int_equal(wal_commit(place->wal), 0);
    stage(place, 6, 2, 50);
    assert_int_equal(wal_last_index(place->wal), 6);
    assert_int_equal(wal_durable_index(place->wal), 5);
    assert_int_equal(wal_term(place->wal, 7), 0);
    stage(place, 7, 2, 60);
    stage(place, 6, 3, 70);
    assert_int_equal(wal_commit(place->wal), 0);
    assert_int_equal(wal_durable_index(place->wal), 6);
    for (int round = 0; round < 2; round++) {
        expect(place, 5, 1, 100);
        expect(place, 6, 3, 70);
        struct wal_entry entry;
        assert_int_equal(wal_read(place->wal, 7, &entry), ERR_NOT_FOUND);
        reopen(place, WAL_CLEAN);
    }
}

static void test_gaps_and_oversize_are_refused(void **state)
{
    struct place *place = *state;
    struct wal_entry entry = {.index = 2, .term = 1};
    assert_int_equal(wal_stage_entry(place->wal, &entry), ERR_INVALID);
    entry.index = 0;
    assert_int_equal(wal_stage_entry(place->wal, &entry), ERR_INVALID);
    char *data = calloc(1, WAL_ENTRY_BYTES_MAX + 1);
    entry.index = 1;
    entry.data = (struct bytes){data, WAL_ENTRY_BYTES_MAX + 1};
    assert_int_equal(wal_stage_entry(place->wal, &entry), ERR_INVALID);
    assert_false(wal_has_staged(place->wal));
    free(data);
}

static void test_the_largest_entries_get_segments_of_their_own(void **state)
{
    struct place *place = *state;
    for (uint64_t i = 1; i <= 3; i++) {
        stage(place, i, 1, WAL_ENTRY_BYTES_MAX);
        stage(place, i + 1, 1, 10);
        assert_int_equal(wal_commit(place->wal), 0);
    }
    for (int round = 0; round < 2; round++) {
        for (uint64_t i = 1; i <= 3; i++) {
            expect(place, i, 1, WAL_ENTRY_BYTES_MAX);
        }
        expect(place, 4, 1, 10);
        reopen(place, WAL_CLEAN);
    }
}

static void test_hard_state_outlives_the_segment_it_was_written_in(void **state)
{
    struct place *place = *state;
    struct wal_hard_state wanted = sample_state(9);
    assert_int_equal(wal_stage_hard_state(place->wal, &wanted), 0);
    assert_int_equal(wal_commit(place->wal), 0);
    for (uint64_t i = 1; i <= 200; i++) {
        stage(place, i, 9, 1000);
        assert_int_equal(wal_commit(place->wal), 0);
    }
    uint64_t before = wal_bytes(place->wal);
    assert_int_equal(wal_compact(place->wal, 190), 0);
    assert_true(wal_bytes(place->wal) < before);
    uint64_t first = wal_first_index(place->wal);
    assert_true(first > 100);
    assert_true(first <= 191);
    assert_int_equal(wal_term(place->wal, first - 1), 9);
    for (int round = 0; round < 2; round++) {
        reopen(place, WAL_CLEAN);
        assert_true(place->report.has_hard_state);
        assert_int_equal(wal_first_index(place->wal), first);
        assert_int_equal(wal_term(place->wal, first - 1), 9);
        assert_memory_equal(wal_hard_state(place->wal), &wanted, sizeof(wanted));
        expect(place, first, 9, 1000);
        expect(place, 200, 9, 1000);
    }
}

static void test_a_name_without_end_is_refused(void **state)
{
    struct place *place = *state;
    struct wal_hard_state bad;
    memset(&bad, 'x', sizeof(bad));
    assert_int_equal(wal_stage_hard_state(place->wal, &bad), ERR_INVALID);
    struct wal_hard_state longest = {.term = 1};
    memset(longest.voted_for, 'x', CLUSTER_NODE_ID_BYTES_MAX);
    assert_int_equal(wal_stage_hard_state(place->wal, &longest), 0);
    assert_int_equal(wal_commit(place->wal), 0);
    reopen(place, WAL_CLEAN);
    assert_memory_equal(wal_hard_state(place->wal), &longest, sizeof(longest));
}

static void test_compaction_keeps_what_a_replaced_suffix_left(void **state)
{
    struct place *place = *state;
    for (uint64_t i = 1; i <= 100; i++) {
        stage(place, i, 1, 1000);
        assert_int_equal(wal_commit(place->wal), 0);
    }
    for (uint64_t i = 40; i <= 90; i++) {
        stage(place, i, 2, 1000);
        assert_int_equal(wal_commit(place->wal), 0);
    }
    for (uint64_t index = 10; index <= 90; index += 10) {
        assert_int_equal(wal_compact(place->wal, index), 0);
        uint64_t first = wal_first_index(place->wal);
        assert_true(first <= index + 1);
        reopen(place, WAL_CLEAN);
        assert_int_equal(wal_first_index(place->wal), first);
        assert_int_equal(wal_last_index(place->wal), 90);
        for (uint64_t i = first; i <= 90; i++) {
            expect(place, i, i < 40 ? 1 : 2, 1000);
        }
    }
}

static void test_reset_begins_after_the_snapshot(void **state)
{
    struct place *place = *state;
    struct wal_hard_state wanted = sample_state(3);
    assert_int_equal(wal_stage_hard_state(place->wal, &wanted), 0);
    for (uint64_t i = 1; i <= 100; i++) {
        stage(place, i, 3, 1000);
        assert_int_equal(wal_commit(place->wal), 0);
    }
    stage(place, 101, 3, 10);
    assert_int_equal(wal_reset(place->wal, 5000, 4), 0);
    assert_false(wal_has_staged(place->wal));
    for (int round = 0; round < 2; round++) {
        assert_int_equal(wal_first_index(place->wal), 5001);
        assert_int_equal(wal_last_index(place->wal), 5000);
        assert_int_equal(wal_durable_index(place->wal), 5000);
        assert_int_equal(wal_term(place->wal, 5000), 4);
        assert_memory_equal(wal_hard_state(place->wal), &wanted, sizeof(wanted));
        reopen(place, WAL_CLEAN);
    }
    stage(place, 5001, 4, 10);
    assert_int_equal(wal_commit(place->wal), 0);
    /* Backwards too: a snapshot may be older than a log that is wrong. */
    assert_int_equal(wal_reset(place->wal, 20, 4), 0);
    stage(place, 21, 5, 10);
    assert_int_equal(wal_commit(place->wal), 0);
    reopen(place, WAL_CLEAN);
    assert_int_equal(wal_first_index(place->wal), 21);
    expect(place, 21, 5, 10);
}

static void test_fit_stops_at_the_byte_limit(void **state)
{
    struct place *place = *state;
    for (uint64_t i = 1; i <= 10; i++) {
        stage(place, i, 1, 100);
    }
    uint64_t bytes = 0;
    assert_int_equal(wal_fit(place->wal, 3, 10, 350, &bytes), 5);
    assert_int_equal(bytes, 300);
    assert_int_equal(wal_fit(place->wal, 3, 4, 350, &bytes), 4);
    assert_int_equal(wal_fit(place->wal, 3, 10, 0, &bytes), 3);
    assert_int_equal(bytes, 100);
    assert_int_equal(wal_fit(place->wal, 3, 99, 99999, &bytes), 10);
}

static void test_room_is_what_a_commit_finds_without_new_files(void **state)
{
    struct place *place = *state;
    assert_true(wal_has_room(place->wal, 60 * 1024));
    assert_false(wal_has_room(place->wal, 64 * 1024));
    stage(place, 1, 1, 60 * 1024);
    assert_int_equal(wal_commit(place->wal), 0);
    assert_false(wal_has_room(place->wal, 10 * 1024));
    assert_int_equal(wal_maintain(place->wal), 0);
    assert_true(wal_has_room(place->wal, 60 * 1024));
    reopen(place, WAL_CLEAN);
    assert_true(wal_has_room(place->wal, 60 * 1024));
}

static void describe(const struct wal_entry *entry, struct buf *out)
{
    buf_printf(out, "<%zu>", entry->data.size);
}

static void test_dump_has_a_line_for_each_frame_and_entry(void **state)
{
    struct place *place = *state;
    struct wal_hard_state wanted = sample_state(3);
    assert_int_equal(wal_stage_hard_state(place->wal, &wanted), 0);
    for (uint64_t i = 1; i <= 70; i++) {
        stage(place, i, 3, 1000);
        assert_int_equal(wal_commit(place->wal), 0);
    }
    assert_int_equal(wal_mark(place->wal), 0);
    char path[96];
    snprintf(path, sizeof(path), "%s/dump", place->dir);
    int fd = open(path, O_RDWR | O_CREAT, 0600);
    assert_int_equal(wal_dump(place->options.fs, place->dir, describe, fd), 0);
    char *text = calloc(1, 65536);
    assert_true(pread(fd, text, 65535, 0) > 0);
    close(fd);
    assert_non_null(strstr(text, "entry 70 term 3 type 0, 1000 bytes: <1000>\n"));
    assert_non_null(strstr(text, "voted for \"node-b\""));
    assert_non_null(strstr(text, "link to log-"));
    assert_non_null(strstr(text, " mark: frame 70 is durable\n"));
    assert_non_null(strstr(text, "\nclean: entries 1..70\n"));

    char segment[96];
    snprintf(segment, sizeof(segment), "%s/log-0000000000000001", place->dir);
    int damaged = open(segment, O_RDWR);
    assert_int_equal(pwrite(damaged, "x", 1, 5224), 1);
    close(damaged);
    fd = open(path, O_RDWR | O_TRUNC);
    assert_int_equal(wal_dump(place->options.fs, place->dir, NULL, fd), 0);
    memset(text, 0, 65536);
    assert_true(pread(fd, text, 65535, 0) > 0);
    close(fd);
    assert_non_null(strstr(text, ", DAMAGED, entries "));
    assert_non_null(strstr(text, " may be lost (log-0000000000000001 at byte "));
    free(text);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_an_empty_directory_is_new_until_something_is_committed),
        TEST(test_committed_entries_are_there_after_reopening),
        TEST(test_staged_entries_are_gone_after_reopening),
        TEST(test_an_existing_index_replaces_the_suffix),
        TEST(test_gaps_and_oversize_are_refused),
        TEST(test_the_largest_entries_get_segments_of_their_own),
        TEST(test_hard_state_outlives_the_segment_it_was_written_in),
        TEST(test_a_name_without_end_is_refused),
        TEST(test_compaction_keeps_what_a_replaced_suffix_left),
        TEST(test_reset_begins_after_the_snapshot),
        TEST(test_fit_stops_at_the_byte_limit),
        TEST(test_room_is_what_a_commit_finds_without_new_files),
        TEST(test_dump_has_a_line_for_each_frame_and_entry),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
