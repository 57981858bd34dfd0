/* Crashes at every point: what was acknowledged is there, and no crash looks like damage. */
#include "unit/storage/wal_model.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

static const char *const condition_names[] = {"new", "clean", "torn", "damaged"};

static void fail_with(struct bench *bench, uint64_t seed, const char *what)
{
    print_error("seed %" PRIu64 ": %s; %s: %s\n", seed, what,
                condition_names[bench->report.condition], bench->report.description);
    fail();
}

/* Ends the process or cuts the power, then opens the log, perhaps dying again on the way. */
static void crash_and_reopen(struct bench *bench, uint64_t seed)
{
    int rc;
    bool is_dying = below(bench, 3) == 0;
    do {
        wal_close(bench->wal);
        bench->wal = NULL;
        if (below(bench, 2) == 0) {
            fs_memory_kill(bench->memory);
        } else {
            fs_memory_power_cut(bench->memory, &bench->random);
        }
        fs_faulty_arm(&bench->faulty, is_dying ? 1 + below(bench, 40) : 0, ERR_IO,
                      (enum fs_faulty_effect)below(bench, 3), true);
        is_dying = false;
        rc = bench_open(bench);
    } while (rc != 0 && bench->faulty.has_failed);
    fs_faulty_arm(&bench->faulty, 0, ERR_IO, FS_FAULTY_NOTHING, false);
    if (rc != 0) {
        print_error("seed %" PRIu64 ": open: %d\n", seed, rc);
        fail();
    }
    if (bench->report.condition == WAL_DAMAGED) {
        fail_with(bench, seed, "a crash looks like damage");
    }
    if (bench->report.condition == WAL_NEW && !bench->acked.is_new) {
        fail_with(bench, seed, "the log is gone");
    }
    const char *difference = bench_settle(bench);
    if (difference != NULL) {
        fail_with(bench, seed, difference);
    }
}

struct newest {
    char path[64];
    uint64_t bytes;
    struct fs_memory *memory;
};

static int see_file(void *context, const char *name)
{
    struct newest *newest = context;
    char path[64];
    const uint8_t *data;
    uint64_t size;
    snprintf(path, sizeof(path), "data/log/%s", name);
    assert_int_equal(fs_memory_peek(newest->memory, path, &data, &size), 0);
    newest->bytes += size;
    if (strncmp(name, "log-", 4) == 0 && strcmp(path, newest->path) > 0) {
        strcpy(newest->path, path);
    }
    return 0;
}

/* An open log leaves no rubbish behind, and from now on the loss of its last segment shows. */
static void check_tidiness(struct bench *bench, uint64_t seed)
{
    struct newest newest = {.memory = bench->memory};
    struct fs *fs = fs_memory_fs(bench->memory);
    assert_int_equal(fs->ops->list_dir(fs, "data/log", see_file, &newest), 0);
    if (newest.bytes != wal_bytes(bench->wal)) {
        fail_with(bench, seed, "a file was left behind");
    }
    if (newest.path[0] == '\0') {
        return;
    }
    struct fs_memory *disk = fs_memory_clone(bench->memory);
    fs_memory_power_cut(disk, &bench->random);
    assert_int_equal(fs_memory_delete(disk, newest.path), 0);
    struct wal_options options = bench->options;
    options.fs = fs_memory_fs(disk);
    struct wal *wal;
    struct wal_report report;
    assert_int_equal(wal_open(&options, &wal, &report), 0);
    if (report.condition != WAL_DAMAGED || report.has_hard_state) {
        fail_with(bench, seed, "the loss of the last segment goes unnoticed");
    }
    wal_close(wal);
    fs_memory_destroy(disk);
}

static int random_reset(struct bench *bench)
{
    uint64_t index = below(bench, 3) == 0 ? below(bench, model_last(&bench->attempted) + 1)
                                          : model_last(&bench->attempted) + below(bench, 100);
    return bench_reset(bench, index, bench->attempted.hard_state.term);
}

static int random_operation(struct bench *bench)
{
    uint64_t dice = below(bench, 100);
    int rc = 0;
    if (bench->attempted.count > MODEL_ENTRIES_MAX - 20) {
        return random_reset(bench);
    }
    if (dice < 50) {
        for (uint64_t i = 0; i <= dice % 10 && rc == 0; i++) {
            rc = bench_stage_entry(bench, dice % 5 == 0 && i == 0);
        }
        return rc == 0 && dice % 2 == 0 ? bench_commit(bench) : rc;
    }
    if (dice < 60) {
        return bench_stage_hard_state(bench);
    }
    if (dice < 75) {
        return bench_commit(bench);
    }
    if (dice < 85) {
        return bench_compact(bench, below(bench, model_last(&bench->acked) + 1));
    }
    if (dice < 92) {
        return wal_maintain(bench->wal);
    }
    if (dice < 97) {
        return wal_mark(bench->wal);
    }
    return random_reset(bench);
}

static void live(uint64_t seed, unsigned operations)
{
    struct bench *bench = bench_create(seed, 4096 + 4096 * (uint32_t)(seed % 4));
    crash_and_reopen(bench, seed);
    for (unsigned i = 0; i < operations; i++) {
        if (below(bench, 8) == 0) {
            fs_faulty_arm(&bench->faulty, 1 + below(bench, 12), ERR_IO,
                          (enum fs_faulty_effect)below(bench, 3), true);
        }
        int rc = random_operation(bench);
        if (rc != 0 && !bench->faulty.has_failed) {
            print_error("seed %" PRIu64 ": operation %u: %d\n", seed, i, rc);
            fail();
        }
        if (rc == 0 && bench->faulty.has_failed) {
            fail_with(bench, seed, "an error went unnoticed");
        }
        if (rc != 0 || below(bench, 40) == 0) {
            crash_and_reopen(bench, seed);
            check_tidiness(bench, seed);
            continue;
        }
        fs_faulty_arm(&bench->faulty, 0, ERR_IO, FS_FAULTY_NOTHING, false);
        if (i % 16 == 0) {
            const char *difference = model_difference(bench->wal, &bench->attempted);
            if (difference != NULL) {
                fail_with(bench, seed, difference);
            }
        }
    }
    bench_destroy(bench);
}

static void test_any_life_with_crashes_keeps_what_was_acknowledged(void **state)
{
    /* More of them, by hand: WAL_SEEDS=20000. */
    uint64_t seeds = getenv("WAL_SEEDS") != NULL ? strtoull(getenv("WAL_SEEDS"), NULL, 10) : 300;
    /* A compaction that rolled made a hard state durable that was only staged. */
    live(8460, 300);
    for (uint64_t seed = 1; seed <= seeds; seed++) {
        live(seed, 300);
    }
}

/* Appends, replaces, rolls, compacts, resets; ends at the first error. */
static int scripted_life(struct bench *bench)
{
    int rc = bench_open(bench);
    for (unsigned i = 0; i < 40 && rc == 0; i++) {
        rc = bench_stage_entry(bench, i % 7 == 6);
        if (rc == 0 && i % 5 == 0) {
            rc = bench_stage_hard_state(bench);
        }
        if (rc == 0) {
            rc = bench_commit(bench);
        }
        if (rc == 0 && i % 3 == 0) {
            rc = wal_maintain(bench->wal);
        }
        if (rc == 0 && i == 25) {
            rc = bench_compact(bench, 15);
        }
        if (rc == 0 && i == 30) {
            rc = bench_reset(bench, 100, 3);
        }
        if (rc == 0 && i == 33) {
            rc = bench_open(bench);
        }
    }
    return rc;
}

static void test_a_fault_at_any_call_is_an_error_and_loses_nothing(void **state)
{
    for (unsigned variant = 0; variant < 12; variant++) {
        bool is_done = false;
        for (uint64_t n = 1; !is_done; n++) {
            struct bench *bench = bench_create(variant, 4096);
            fs_faulty_arm(&bench->faulty, n, variant % 4 == 3 ? ERR_NO_SPACE : ERR_IO,
                          (enum fs_faulty_effect)(variant % 3), variant % 2 == 0);
            int rc = scripted_life(bench);
            is_done = !bench->faulty.has_failed;
            if (is_done) {
                assert_int_equal(rc, 0);
            } else if (rc == 0) {
                /* No space for the spare at start-up is the only one that a log lives with. */
                assert_int_equal(bench->faulty.error, ERR_NO_SPACE);
            }
            crash_and_reopen(bench, n * 100 + variant);
            bench_destroy(bench);
        }
    }
}

/* ---- every subset of the last frame ---- */

static const char last_path[] = "data/log/log-0000000000000001";

static void copy_sector(struct fs_memory *from, struct fs_memory *to, uint64_t offset)
{
    const uint8_t *data;
    uint64_t size;
    assert_int_equal(fs_memory_peek(from, last_path, &data, &size), 0);
    struct fs *fs = fs_memory_fs(to);
    struct fs_file *file;
    assert_int_equal(fs->ops->open(fs, last_path, FS_OPEN_READ_WRITE, &file), 0);
    assert_int_equal(fs->ops->write_at(fs, file, offset, data + offset, 512), 0);
    fs->ops->close(fs, file);
}

static uint64_t written_end(struct fs_memory *memory)
{
    const uint8_t *data;
    uint64_t size;
    assert_int_equal(fs_memory_peek(memory, last_path, &data, &size), 0);
    while (size > 0 && data[size - 1] == 0) {
        size--;
    }
    return (size + 511) / 512 * 512;
}

static void check_subset(struct bench *bench, const struct fs_memory *before, uint64_t from,
                         unsigned sectors, unsigned subset)
{
    struct fs_memory *disk = fs_memory_clone(before);
    for (unsigned i = 0; i < sectors; i++) {
        if (subset & (1u << i)) {
            copy_sector(bench->memory, disk, from + i * 512);
        }
    }
    struct wal_options options = bench->options;
    options.fs = fs_memory_fs(disk);
    struct wal *wal;
    struct wal_report report;
    assert_int_equal(wal_open(&options, &wal, &report), 0);
    bool is_whole = subset == (1u << sectors) - 1;
    enum wal_condition wanted = is_whole || subset == 0 ? WAL_CLEAN : WAL_TORN;
    assert_int_equal(report.condition, wanted);
    assert_true(report.has_hard_state);
    struct model *model = is_whole ? &bench->attempted : &bench->acked;
    assert_null(model_difference(wal, model));
    if (!is_whole) {
        assert_true(written_end(disk) <= from);
    }
    /* Life goes on at the same place. */
    struct model_entry entry = {.term = 9, .seed = 5, .size = 700};
    assert_int_equal(model_stage(wal, model_last(model) + 1, &entry), 0);
    assert_int_equal(wal_commit(wal), 0);
    wal_close(wal);
    assert_int_equal(wal_open(&options, &wal, &report), 0);
    assert_int_equal(report.condition, WAL_CLEAN);
    assert_int_equal(wal_last_index(wal), model_last(model) + 1);
    wal_close(wal);
    fs_memory_destroy(disk);
}

static void test_every_subset_of_the_last_frame_is_cut_off_unless_whole(void **state)
{
    for (uint64_t seed = 1; seed <= 4; seed++) {
        struct bench *bench = bench_create(seed, 64 * 1024);
        assert_int_equal(bench_open(bench), 0);
        for (unsigned i = 0; i < 3; i++) {
            assert_int_equal(bench_stage_hard_state(bench), 0);
            assert_int_equal(bench_stage_entry(bench, false), 0);
            assert_int_equal(bench_commit(bench), 0);
        }
        struct fs_memory *before = fs_memory_clone(bench->memory);
        /* Seeds 0 and 4: zeros, random bytes. */
        struct model_entry entry = {.term = 9, .seed = seed * 2, .size = 600 * (uint32_t)seed};
        uint64_t index = model_last(&bench->attempted) + 1;
        assert_int_equal(model_stage(bench->wal, index, &entry), 0);
        model_put(&bench->attempted, index, &entry);
        assert_int_equal(wal_commit(bench->wal), 0);

        uint64_t from = written_end(before);
        unsigned sectors = (unsigned)((written_end(bench->memory) - from) / 512);
        assert_in_range(sectors, 2, 8);
        for (unsigned subset = 0; subset < 1u << sectors; subset++) {
            check_subset(bench, before, from, sectors, subset);
        }
        fs_memory_destroy(before);
        bench_destroy(bench);
    }
}

static void test_a_full_disk_is_told_by_room_and_not_by_a_failed_commit(void **state)
{
    struct bench *bench = bench_create(1, 16 * 1024);
    fs_memory_set_capacity(bench->memory, 100 * 1024);
    assert_int_equal(bench_open(bench), 0);
    int rc = 0;
    uint64_t commits = 0;
    while (wal_has_room(bench->wal, 1000 + WAL_ENTRY_OVERHEAD_BYTES)) {
        struct model_entry entry = {.term = 1, .seed = commits, .size = 1000};
        uint64_t index = model_last(&bench->attempted) + 1;
        assert_int_equal(model_stage(bench->wal, index, &entry), 0);
        model_put(&bench->attempted, index, &entry);
        assert_int_equal(bench_commit(bench), 0);
        rc = wal_maintain(bench->wal);
        assert_true(rc == 0 || rc == ERR_NO_SPACE);
        commits++;
    }
    assert_int_equal(rc, ERR_NO_SPACE);
    assert_in_range(commits, 50, 100);
    assert_int_equal(bench_compact(bench, model_last(&bench->acked)), 0);
    assert_int_equal(wal_maintain(bench->wal), 0);
    assert_true(wal_has_room(bench->wal, 1000));
    crash_and_reopen(bench, 1);
    bench_destroy(bench);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_subset_of_the_last_frame_is_cut_off_unless_whole),
        cmocka_unit_test(test_a_full_disk_is_told_by_room_and_not_by_a_failed_commit),
        cmocka_unit_test(test_a_fault_at_any_call_is_an_error_and_loses_nothing),
        cmocka_unit_test(test_any_life_with_crashes_keeps_what_was_acknowledged),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
