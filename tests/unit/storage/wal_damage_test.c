/* Damage on the disk: it is noticed, named as tightly as is certain, and never cut off. */
#include "base/checksum.h"
#include "unit/storage/wal_model.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <fcntl.h>
#include <unistd.h>

#define DIR "data/log"
#define SEGMENTS_MAX 64
#define FRAMES_OFFSET                                                          \
    (3 * 512) /* where a segment's first frame is: behind header and two marks \
               */

struct disk {
    struct fs_memory *memory;
    struct wal_options options;
    char paths[SEGMENTS_MAX][64];
    size_t count;
    struct wal *wal;
    struct wal_report report;
};

static int add_path(void *context, const char *name)
{
    struct disk *disk = context;
    if (strncmp(name, "log-", 4) == 0) {
        CHECK(disk->count < SEGMENTS_MAX);
        snprintf(disk->paths[disk->count++], sizeof(disk->paths[0]), DIR "/%s", name);
    }
    return 0;
}

static int compare_paths(const void *a, const void *b)
{
    return strcmp(a, b);
}

/* A copy of the bench's disk, to damage. */
static struct disk *disk_create(struct bench *bench)
{
    struct disk *disk = calloc(1, sizeof(*disk));
    CHECK(disk != NULL);
    disk->memory = fs_memory_clone(bench->memory);
    disk->options = bench->options;
    disk->options.fs = fs_memory_fs(disk->memory);
    struct fs *fs = disk->options.fs;
    assert_int_equal(fs->ops->list_dir(fs, DIR, add_path, disk), 0);
    qsort(disk->paths, disk->count, sizeof(disk->paths[0]), compare_paths);
    return disk;
}

static void disk_destroy(struct disk *disk)
{
    wal_close(disk->wal);
    fs_memory_destroy(disk->memory);
    free(disk);
}

static uint64_t file_size(struct disk *disk, size_t i)
{
    const uint8_t *data;
    uint64_t size;
    assert_int_equal(fs_memory_peek(disk->memory, disk->paths[i], &data, &size), 0);
    return size;
}

static bool sector_is_written(struct disk *disk, size_t i, uint64_t offset)
{
    const uint8_t *data;
    uint64_t size;
    assert_int_equal(fs_memory_peek(disk->memory, disk->paths[i], &data, &size), 0);
    return data[offset] != 0;
}

static void disk_open(struct disk *disk)
{
    wal_close(disk->wal);
    disk->wal = NULL;
    assert_int_equal(wal_open(&disk->options, &disk->wal, &disk->report), 0);
}

/* A log with a life behind it: several segments, replaced suffixes, votes; perhaps compacted. */
static struct bench *sample(uint64_t seed, bool is_compacted)
{
    struct bench *bench = bench_create(seed, 8192);
    assert_int_equal(bench_open(bench), 0);
    for (unsigned i = 0; i < 90; i++) {
        if (i % 9 == 0) {
            assert_int_equal(bench_stage_hard_state(bench), 0);
        }
        for (uint64_t k = below(bench, 3); k > 0; k--) {
            assert_int_equal(bench_stage_entry(bench, i % 8 == 5), 0);
        }
        assert_int_equal(bench_commit(bench), 0);
        if (is_compacted && i == 60) {
            assert_int_equal(bench_compact(bench, model_last(&bench->acked)), 0);
        }
    }
    return bench;
}

/* What a damaged log says of itself is true: all outside the named range is as it was. */
static const char *lie_of(struct disk *disk, struct model *model)
{
    const struct wal_report *report = &disk->report;
    uint64_t first = wal_first_index(disk->wal);
    if (report->has_hard_state && !model_hard_state_is(disk->wal, model)) {
        return "an old hard state";
    }
    if (report->damage_last != UINT64_MAX && wal_last_index(disk->wal) != model_last(model)) {
        return "a wrong last index";
    }
    if (first > model->compacted + 1 && first > model->base + 1) {
        return "a wrong first index";
    }
    for (uint64_t i = first; i <= wal_last_index(disk->wal); i++) {
        struct wal_entry entry;
        bool is_in_range = i >= report->damage_first && i <= report->damage_last;
        int rc = wal_read(disk->wal, i, &entry);
        if (rc != 0 && rc != ERR_CORRUPT) {
            return "a read error";
        }
        if (rc == 0 && !is_in_range && !model_entry_is(disk->wal, model, i)) {
            return "a wrong entry outside the range";
        }
        if (rc != 0 && !is_in_range) {
            return "a lost entry outside the range";
        }
    }
    return NULL;
}

static void check(struct disk *disk, struct model *model, bool must_be_damaged, const char *what,
                  uint64_t where)
{
    const char *lie = NULL;
    if (disk->report.condition == WAL_DAMAGED) {
        lie = lie_of(disk, model);
    } else if (must_be_damaged) {
        lie = "no damage";
    } else {
        lie = model_difference(disk->wal, model);
    }
    if (lie != NULL) {
        print_error("%s at %" PRIu64 ": it shows %s; condition %d, %" PRIu64 "..%" PRIu64
                    ", hard state %d: %s\n",
                    what, where, lie, disk->report.condition, disk->report.damage_first,
                    disk->report.damage_last, disk->report.has_hard_state,
                    disk->report.description);
        fail();
    }
}

/* Where the damage is behind what the store has, the log can be made whole again. */
static void check_drop(struct disk *disk, struct model *model)
{
    const struct wal_report report = disk->report;
    uint64_t applied = model_last(model);
    if (report.condition != WAL_DAMAGED || applied == model->base) {
        return;
    }
    uint64_t first = wal_first_index(disk->wal);
    if (report.damage_last < applied) {
        /* Any index from damage_last on will do. */
        uint64_t low = report.damage_last < first ? first : report.damage_last;
        applied = low + (applied - low) / 2;
    }
    uint64_t term = model_at(model, applied)->term;
    int rc = wal_drop_damaged_prefix(disk->wal, applied, term);
    if (!report.has_hard_state || report.damage_last > applied) {
        assert_int_equal(rc, ERR_INVALID);
        return;
    }
    assert_int_equal(rc, 0);
    for (int round = 0; round < 2; round++) {
        assert_int_equal(wal_first_index(disk->wal), applied + 1);
        assert_int_equal(wal_last_index(disk->wal), model_last(model));
        assert_int_equal(wal_term(disk->wal, applied), term);
        assert_true(model_hard_state_is(disk->wal, model));
        for (uint64_t i = applied + 1; i <= model_last(model); i++) {
            assert_true(model_entry_is(disk->wal, model, i));
        }
        disk_open(disk);
        assert_int_equal(disk->report.condition, WAL_CLEAN);
    }
}

static void test_a_flipped_bit_in_any_written_sector_is_damage(void **state)
{
    for (uint64_t seed = 1; seed <= 4; seed++) {
        struct bench *bench = sample(seed, seed % 2 == 0);
        struct random random;
        random_seed(&random, seed);
        struct disk *probe = disk_create(bench);
        for (size_t i = 0; i < probe->count; i++) {
            for (uint64_t at = 0; at < file_size(probe, i); at += 512) {
                struct disk *disk = disk_create(bench);
                bool is_written = sector_is_written(probe, i, at);
                uint64_t byte = at + random_below(&random, 3) * random_below(&random, 256);
                assert_int_equal(fs_memory_flip_bit(disk->memory, disk->paths[i], byte,
                                                    (unsigned)random_below(&random, 8)),
                                 0);
                struct fs_memory *before = fs_memory_clone(disk->memory);
                disk_open(disk);
                check(disk, &bench->acked, is_written, disk->paths[i], byte);
                if (disk->report.condition == WAL_DAMAGED) {
                    /* Opening has not touched it. */
                    const uint8_t *x;
                    const uint8_t *y;
                    uint64_t size;
                    fs_memory_peek(before, disk->paths[i], &x, &size);
                    fs_memory_peek(disk->memory, disk->paths[i], &y, &size);
                    assert_memory_equal(x, y, size);
                }
                check_drop(disk, &bench->acked);
                fs_memory_destroy(before);
                disk_destroy(disk);
            }
        }
        disk_destroy(probe);
        bench_destroy(bench);
    }
}

static const uint8_t zeros[512];

static void put_sector(struct disk *disk, size_t i, uint64_t offset, const uint8_t *sector)
{
    struct fs *fs = disk->options.fs;
    struct fs_file *file;
    assert_int_equal(fs->ops->open(fs, disk->paths[i], FS_OPEN_READ_WRITE, &file), 0);
    assert_int_equal(fs->ops->write_at(fs, file, offset, sector, 512), 0);
    assert_int_equal(fs->ops->sync(fs, file), 0);
    fs->ops->close(fs, file);
}

/* Only the very last frame may have been under way; a hole in any other was once written. */
static void test_a_hole_before_the_last_frame_is_damage(void **state)
{
    for (uint64_t seed = 1; seed <= 4; seed++) {
        struct bench *bench = sample(seed, seed % 2 == 0);
        struct disk *probe = disk_create(bench);
        assert_int_equal(bench_stage_entry(bench, false), 0);
        assert_int_equal(bench_commit(bench), 0);
        for (size_t i = 0; i < probe->count; i++) {
            for (uint64_t at = 0; at < file_size(probe, i); at += 512) {
                if (!sector_is_written(probe, i, at)) {
                    continue;
                }
                struct disk *disk = disk_create(bench);
                put_sector(disk, i, at, zeros);
                disk_open(disk);
                /* The LINK of a segment whose successor is there is simply written again. */
                bool is_link = i + 1 < probe->count && (at + 512 == file_size(probe, i) ||
                                                        !sector_is_written(probe, i, at + 512));
                check(disk, &bench->acked, !is_link, disk->paths[i], at);
                check_drop(disk, &bench->acked);
                disk_destroy(disk);
            }
        }
        disk_destroy(probe);
        bench_destroy(bench);
    }
}

/* It was synced before the segment had its name. */
static void test_a_hole_in_a_segments_first_frame_is_damage(void **state)
{
    struct bench *bench = bench_create(1, 8192);
    assert_int_equal(bench_open(bench), 0);
    for (uint64_t i = 1; i <= 30; i++) {
        struct model_entry entry = {.term = 1, .seed = i, .size = 900};
        assert_int_equal(model_stage(bench->wal, i, &entry), 0);
        model_put(&bench->attempted, i, &entry);
        assert_int_equal(bench_commit(bench), 0);
        struct disk *probe = disk_create(bench);
        size_t last = probe->count - 1;
        bool is_first_frame = !sector_is_written(probe, last, FRAMES_OFFSET + 4 * 512);
        disk_destroy(probe);
        for (uint64_t at = 0; at < FRAMES_OFFSET + 3 * 512 && is_first_frame; at += 512) {
            struct disk *disk = disk_create(bench);
            put_sector(disk, last, at, zeros);
            disk_open(disk);
            check(disk, &bench->acked, true, "sector", at);
            disk_destroy(disk);
        }
    }
    bench_destroy(bench);
}

/* The offset behind the last sector that is written. */
static uint64_t written_end(struct disk *disk, size_t i)
{
    uint64_t end = file_size(disk, i);
    while (end > 0 && !sector_is_written(disk, i, end - 512)) {
        end -= 512;
    }
    return end;
}

static void zero_from(struct disk *disk, size_t i, uint64_t from, uint64_t to)
{
    for (uint64_t at = from; at < to; at += 512) {
        put_sector(disk, i, at, zeros);
    }
}

static bool is_frame_header(struct disk *disk, size_t i, uint64_t at)
{
    const uint8_t *data;
    uint64_t size;
    assert_int_equal(fs_memory_peek(disk->memory, disk->paths[i], &data, &size), 0);
    return data[at] == 0x46;
}

/* Zeros where the log ended look as if nothing had been written there. */
static void test_a_lost_end_is_damage_and_not_an_unfinished_write(void **state)
{
    unsigned lost = 0;
    for (uint64_t seed = 1; seed <= 8; seed++) {
        struct bench *bench = sample(seed, seed % 2 == 0);
        bool is_marked = seed % 4 >= 2;
        if (is_marked) {
            assert_int_equal(wal_mark(bench->wal), 0);
            assert_true(wal_is_marked(bench->wal));
        }
        struct disk *probe = disk_create(bench);
        size_t last = probe->count - 1;
        uint64_t end = written_end(probe, last);
        uint64_t last_frame = end - 512;
        while (!is_frame_header(probe, last, last_frame)) {
            last_frame -= 512;
        }
        for (uint64_t at = FRAMES_OFFSET + 512; at < end; at += 512) {
            struct disk *disk = disk_create(bench);
            zero_from(disk, last, at, end);
            disk_open(disk);
            /* The last frame alone is protected once it is marked. */
            bool must_be_damaged = is_marked || at < last_frame;
            lost += must_be_damaged;
            if (must_be_damaged) {
                check(disk, &bench->acked, true, "end lost from", at);
                assert_false(disk->report.has_hard_state);
                assert_true(disk->report.damage_last == UINT64_MAX);
            } else {
                assert_int_not_equal(disk->report.condition, WAL_DAMAGED);
            }
            disk_destroy(disk);
        }
        disk_destroy(probe);
        bench_destroy(bench);
    }
    assert_true(lost > 20);
}

/* Both marks at once, and a mark of long ago: nothing is lost, and a later loss would show again.
 */
static void test_lost_marks_cost_nothing(void **state)
{
    for (unsigned kind = 0; kind < 4; kind++) {
        struct bench *bench = bench_create(3, 64 * 1024);
        assert_int_equal(bench_open(bench), 0);
        assert_int_equal(bench_stage_hard_state(bench), 0);
        uint8_t old[2][512];
        for (unsigned i = 0; i < 20; i++) {
            assert_int_equal(bench_stage_entry(bench, false), 0);
            assert_int_equal(bench_commit(bench), 0);
            const uint8_t *data;
            uint64_t size;
            fs_memory_peek(bench->memory, DIR "/log-0000000000000001", &data, &size);
            if (i == 10) {
                memcpy(old, data + 512, sizeof(old));
            }
        }
        struct disk *disk = disk_create(bench);
        for (unsigned slot = 0; slot < 2; slot++) {
            if (kind == 3) {
                put_sector(disk, 0, 512 + slot * 512, old[slot]);
            } else if (kind == 2 || kind == slot) {
                put_sector(disk, 0, 512 + slot * 512, zeros);
            }
        }
        disk_open(disk);
        check(disk, &bench->acked, true, "mark", kind);
        assert_int_equal(disk->report.damage_last, 0);
        assert_true(disk->report.has_hard_state);
        check_drop(disk, &bench->acked);
        disk_destroy(disk);
        bench_destroy(bench);
    }
}

/* As the first version wrote it: without marks. */
static void make_older(struct disk *disk, size_t i)
{
    const uint8_t *data;
    uint64_t size;
    assert_int_equal(fs_memory_peek(disk->memory, disk->paths[i], &data, &size), 0);
    uint8_t *copy = calloc(1, size);
    memcpy(copy, data, 512);
    store_u32(copy + 8, 1);
    store_u64(copy + 504, checksum64(copy, 504));
    memcpy(copy + 512, data + FRAMES_OFFSET, size - FRAMES_OFFSET);
    for (uint64_t at = 0; at < size; at += 512) {
        put_sector(disk, i, at, copy + at);
    }
    free(copy);
}

static void test_a_log_of_the_older_format_is_taken_over(void **state)
{
    for (uint64_t seed = 1; seed <= 4; seed++) {
        struct bench *bench = sample(seed, seed % 2 == 0);
        struct disk *disk = disk_create(bench);
        for (size_t i = 0; i < disk->count; i++) {
            make_older(disk, i);
        }
        disk_open(disk);
        assert_int_equal(disk->report.condition, WAL_CLEAN);
        assert_null(model_difference(disk->wal, &bench->acked));
        /* What comes now is marked. */
        struct model_entry entry = {.term = UINT64_C(1) << 40, .seed = 3, .size = 700};
        for (unsigned k = 0; k < 2; k++) {
            uint64_t index = wal_last_index(disk->wal) + 1;
            assert_int_equal(model_stage(disk->wal, index, &entry), 0);
            model_put(&bench->acked, index, &entry);
            assert_int_equal(wal_commit(disk->wal), 0);
        }
        disk_open(disk);
        assert_int_equal(disk->report.condition, WAL_CLEAN);
        assert_null(model_difference(disk->wal, &bench->acked));
        disk->count = 0;
        struct fs *fs = disk->options.fs;
        assert_int_equal(fs->ops->list_dir(fs, DIR, add_path, disk), 0);
        qsort(disk->paths, disk->count, sizeof(disk->paths[0]), compare_paths);
        size_t last = disk->count - 1;
        zero_from(disk, last, written_end(disk, last) - 4 * 512, written_end(disk, last));
        disk_open(disk);
        assert_int_equal(disk->report.condition, WAL_DAMAGED);
        disk_destroy(disk);
        bench_destroy(bench);
    }
}

static void test_every_bit_of_the_last_frame_is_guarded(void **state)
{
    struct bench *bench = bench_create(1, 8192);
    assert_int_equal(bench_open(bench), 0);
    assert_int_equal(bench_stage_hard_state(bench), 0);
    assert_int_equal(bench_commit(bench), 0);
    struct model_entry entry = {.term = 1, .seed = 4, .size = 900}; /* zeros */
    assert_int_equal(model_stage(bench->wal, 1, &entry), 0);
    model_put(&bench->attempted, 1, &entry);
    assert_int_equal(bench_commit(bench), 0);
    const uint64_t begin = FRAMES_OFFSET + 512;
    for (uint64_t byte = begin; byte < begin + 3 * 512; byte++) {
        for (unsigned bit = 0; bit < 8; bit++) {
            struct disk *disk = disk_create(bench);
            assert_int_equal(fs_memory_flip_bit(disk->memory, disk->paths[0], byte, bit), 0);
            disk_open(disk);
            check(disk, &bench->acked, true, "bit of byte", byte);
            disk_destroy(disk);
        }
    }
    bench_destroy(bench);
}

static void test_a_missing_segment_is_damage(void **state)
{
    int compacted = 0;
    for (uint64_t seed = 1; seed <= 8; seed++) {
        struct bench *bench = sample(seed, seed % 2 == 0);
        struct disk *probe = disk_create(bench);
        size_t count = probe->count;
        compacted += wal_first_index(bench->wal) > 1;
        disk_destroy(probe);
        for (size_t i = 0; i < count; i++) {
            for (size_t k = i; k < count; k++) {
                struct disk *disk = disk_create(bench);
                assert_int_equal(fs_memory_delete(disk->memory, disk->paths[i]), 0);
                if (k != i) {
                    assert_int_equal(fs_memory_delete(disk->memory, disk->paths[k]), 0);
                }
                disk_open(disk);
                check(disk, &bench->acked, true, "missing", i * 100 + k);
                bool is_last_missing = k == count - 1;
                assert_int_equal(disk->report.has_hard_state, !is_last_missing);
                assert_int_equal(disk->report.damage_last == UINT64_MAX, is_last_missing);
                check_drop(disk, &bench->acked);
                disk_destroy(disk);
            }
        }
        bench_destroy(bench);
    }
    assert_true(compacted > 0);
}

static void test_the_loss_of_every_segment_is_damage_and_not_a_new_log(void **state)
{
    struct bench *bench = sample(1, false);
    struct disk *disk = disk_create(bench);
    for (size_t i = 0; i < disk->count; i++) {
        assert_int_equal(fs_memory_delete(disk->memory, disk->paths[i]), 0);
    }
    disk_open(disk);
    assert_int_equal(disk->report.condition, WAL_DAMAGED);
    assert_int_equal(disk->report.damage_first, 1);
    assert_true(disk->report.damage_last == UINT64_MAX);
    assert_false(disk->report.has_hard_state);
    disk_destroy(disk);
    bench_destroy(bench);
}

static void test_a_truncated_segment_is_damage(void **state)
{
    for (uint64_t seed = 1; seed <= 4; seed++) {
        struct bench *bench = sample(seed, seed % 2 == 0);
        struct disk *probe = disk_create(bench);
        for (size_t i = 0; i < probe->count; i++) {
            for (uint64_t size = 0; size < file_size(probe, i); size += 256) {
                struct disk *disk = disk_create(bench);
                assert_int_equal(fs_memory_truncate(disk->memory, disk->paths[i], size), 0);
                disk_open(disk);
                check(disk, &bench->acked, true, disk->paths[i], size);
                if (i + 1 == probe->count) {
                    assert_false(disk->report.has_hard_state);
                }
                check_drop(disk, &bench->acked);
                disk_destroy(disk);
            }
        }
        disk_destroy(probe);
        bench_destroy(bench);
    }
}

/* The header says how long the file should be: without it, the end must speak for itself. */
static void test_a_truncated_segment_with_a_damaged_header_has_lost_its_tail(void **state)
{
    (void)state;
    struct bench *bench = sample(8, false);
    struct disk *whole = disk_create(bench);
    size_t last = whole->count - 1;
    for (uint64_t at = 512; at < file_size(whole, last); at += 512) {
        struct disk *disk = disk_create(bench);
        assert_int_equal(fs_memory_truncate(disk->memory, disk->paths[last], at), 0);
        assert_int_equal(fs_memory_flip_bit(disk->memory, disk->paths[last], 4, 0), 0);
        disk_open(disk);
        check(disk, &bench->acked, true, "cut and stained at", at);
        disk_destroy(disk);
    }
    disk_destroy(whole);
    bench_destroy(bench);
}

static void test_the_damage_of_one_middle_frame_names_its_entries_only(void **state)
{
    struct bench *bench = bench_create(3, 64 * 1024);
    assert_int_equal(bench_open(bench), 0);
    assert_int_equal(bench_stage_hard_state(bench), 0);
    assert_int_equal(bench_commit(bench), 0);
    for (uint64_t i = 1; i <= 30; i++) {
        struct model_entry entry = {.term = 1, .seed = i, .size = 300};
        assert_int_equal(model_stage(bench->wal, i, &entry), 0);
        model_put(&bench->attempted, i, &entry);
        if (i % 3 == 0) {
            assert_int_equal(bench_commit(bench), 0);
        }
    }
    /* Frames of three entries have three sectors: the first begins behind the START. Entries 4 to
     * 6:
     */
    const uint64_t begin = FRAMES_OFFSET + 4 * 512;
    const uint64_t bytes[] = {begin + 3, begin + 200, begin + 512, begin + 2 * 512 + 9};
    for (size_t i = 0; i < sizeof(bytes) / sizeof(bytes[0]); i++) {
        struct disk *disk = disk_create(bench);
        assert_int_equal(fs_memory_flip_bit(disk->memory, disk->paths[0], bytes[i], 2), 0);
        disk_open(disk);
        check(disk, &bench->acked, true, "byte", bytes[i]);
        bool is_mark = bytes[i] == begin + 512;
        assert_int_equal(disk->report.damage_first, is_mark ? 0 : 4);
        assert_int_equal(disk->report.damage_last, is_mark ? 0 : 6);
        assert_true(disk->report.has_hard_state);
        check_drop(disk, &bench->acked);
        disk_destroy(disk);
    }
    bench_destroy(bench);
}

static void test_a_lost_vote_is_said_to_be_lost(void **state)
{
    struct bench *bench = bench_create(3, 64 * 1024);
    assert_int_equal(bench_open(bench), 0);
    for (unsigned i = 0; i < 5; i++) {
        assert_int_equal(bench_stage_entry(bench, false), 0);
        if (i == 2 || i == 3) {
            assert_int_equal(bench_stage_hard_state(bench), 0);
        }
        assert_int_equal(bench_commit(bench), 0);
    }
    /* Only a lost frame behind which no hard state follows makes it uncertain. */
    struct disk *probe = disk_create(bench);
    int uncertain = 0;
    for (uint64_t at = 512; sector_is_written(probe, 0, at); at += 512) {
        struct disk *disk = disk_create(bench);
        assert_int_equal(fs_memory_flip_bit(disk->memory, disk->paths[0], at + 90, 0), 0);
        disk_open(disk);
        check(disk, &bench->acked, true, "sector", at);
        uncertain += !disk->report.has_hard_state;
        disk_destroy(disk);
    }
    assert_in_range(uncertain, 1, 7);
    disk_destroy(probe);
    bench_destroy(bench);
}

static void test_any_mixture_of_damage_is_reported_truly(void **state)
{
    struct random random;
    random_seed(&random, 7);
    for (uint64_t seed = 1; seed <= 8; seed++) {
        struct bench *bench = sample(seed, seed % 2 == 0);
        for (unsigned round = 0; round < 150; round++) {
            struct disk *disk = disk_create(bench);
            for (uint64_t k = 2 + random_below(&random, 3); k > 0; k--) {
                size_t i = (size_t)random_below(&random, disk->count);
                const char *path = disk->paths[i];
                uint64_t dice = random_below(&random, 10);
                if (dice == 0) {
                    (void)fs_memory_delete(disk->memory, path);
                } else if (dice == 1) {
                    (void)fs_memory_truncate(disk->memory, path, random_below(&random, 16) * 512);
                } else {
                    (void)fs_memory_flip_bit(disk->memory, path, random_below(&random, 8192),
                                             (unsigned)random_below(&random, 8));
                }
            }
            disk_open(disk);
            check(disk, &bench->acked, false, "round", round);
            check_drop(disk, &bench->acked);
            disk_destroy(disk);
        }
        bench_destroy(bench);
    }
}

static void describe(const struct wal_entry *entry, struct buf *out)
{
    buf_printf(out, "%zu bytes", entry->data.size);
}

/* Headers with a right checksum and a wrong meaning: whatever they say, nothing breaks. */
static void test_forged_frames_break_nothing(void **state)
{
    struct random random;
    random_seed(&random, 11);
    struct bench *bench = sample(2, true);
    int sink = open("/dev/null", O_WRONLY);
    for (unsigned round = 0; round < 2000; round++) {
        struct disk *disk = disk_create(bench);
        size_t i = (size_t)random_below(&random, disk->count);
        uint64_t at = 512 * (1 + random_below(&random, 15));
        const uint8_t *data;
        uint64_t size;
        fs_memory_peek(disk->memory, disk->paths[i], &data, &size);
        uint8_t sector[512];
        memcpy(sector, data + at, sizeof(sector));
        uint64_t value = random_next(&random) >> random_below(&random, 64);
        if (random_below(&random, 4) == 0) {
            store_u32(sector + 4, (uint32_t)value);
        } else if (random_below(&random, 2) == 0) {
            store_u64(sector + 8 * (1 + random_below(&random, 8)), value);
        } else {
            /* Somewhere in the records of a frame of one sector. */
            sector[80 + random_below(&random, 100)] = (uint8_t)value;
            store_u64(sector + 16, checksum64(sector + 80, load_u32(sector + 4) % 433));
        }
        store_u64(sector + 72, checksum64(sector, 72));
        put_sector(disk, i, at, sector);
        int rc = wal_open(&disk->options, &disk->wal, &disk->report);
        assert_int_equal(rc, 0);
        for (uint64_t k = wal_first_index(disk->wal); k <= wal_last_index(disk->wal); k++) {
            struct wal_entry entry;
            (void)wal_read(disk->wal, k, &entry);
        }
        assert_int_equal(wal_dump(disk->options.fs, DIR, describe, sink), 0);
        disk_destroy(disk);
    }
    close(sink);
    bench_destroy(bench);
}

static void test_damage_found_by_a_later_read_is_an_error(void **state)
{
    struct bench *bench = bench_create(1, 64 * 1024);
    bench->options.cache_bytes = 1;
    assert_int_equal(bench_open(bench), 0);
    struct model_entry entry = {.term = 1, .seed = 1, .size = 900};
    assert_int_equal(model_stage(bench->wal, 1, &entry), 0);
    assert_int_equal(wal_commit(bench->wal), 0);
    struct wal_entry out;
    assert_int_equal(wal_read(bench->wal, 1, &out), 0);
    const uint64_t byte = FRAMES_OFFSET + 2 * 512 - 9;
    assert_int_equal(fs_memory_flip_bit(bench->memory, DIR "/log-0000000000000001", byte, 1), 0);
    assert_int_equal(wal_read(bench->wal, 1, &out), ERR_CORRUPT);
    bench_destroy(bench);
}

static void test_a_newer_format_is_refused_and_not_called_damage(void **state)
{
    struct bench *bench = sample(1, false);
    struct disk *disk = disk_create(bench);
    struct fs *fs = disk->options.fs;
    const char *path = disk->paths[disk->count - 1];
    struct fs_file *file;
    uint8_t sector[512];
    assert_int_equal(fs->ops->open(fs, path, FS_OPEN_READ_WRITE, &file), 0);
    assert_int_equal(fs->ops->read_at(fs, file, 0, sector, 512), 0);
    store_u32(sector + 8, 3);
    store_u64(sector + 504, checksum64(sector, 504));
    assert_int_equal(fs->ops->write_at(fs, file, 0, sector, 512), 0);
    fs->ops->close(fs, file);
    assert_int_equal(wal_open(&disk->options, &disk->wal, &disk->report), ERR_VERSION);
    disk_destroy(disk);
    bench_destroy(bench);
}

static void test_a_crash_while_dropping_a_prefix_changes_nothing_or_all(void **state)
{
    struct bench *bench = bench_create(3, 8192);
    assert_int_equal(bench_open(bench), 0);
    assert_int_equal(bench_stage_hard_state(bench), 0);
    for (unsigned i = 0; i < 60; i++) {
        assert_int_equal(bench_stage_entry(bench, false), 0);
        assert_int_equal(bench_commit(bench), 0);
    }
    uint64_t applied = model_last(&bench->acked) - 10;
    uint64_t term = model_at(&bench->acked, applied)->term;
    bench->acked.compacted = applied;
    bool is_done = false;
    for (uint64_t n = 1; !is_done; n++) {
        struct disk *disk = disk_create(bench);
        assert_int_equal(fs_memory_flip_bit(disk->memory, disk->paths[0], 1300, 1), 0);
        struct fs_faulty faulty;
        fs_faulty_init(&faulty, fs_memory_fs(disk->memory));
        disk->options.fs = &faulty.fs;
        disk_open(disk);
        assert_int_equal(disk->report.condition, WAL_DAMAGED);
        fs_faulty_arm(&faulty, n, ERR_IO, (enum fs_faulty_effect)(n % 3), true);
        int rc = wal_drop_damaged_prefix(disk->wal, applied, term);
        is_done = !faulty.has_failed;
        assert_int_equal(rc == 0, is_done);
        fs_faulty_arm(&faulty, 0, ERR_IO, FS_FAULTY_NOTHING, false);
        wal_close(disk->wal);
        disk->wal = NULL;
        fs_memory_power_cut(disk->memory, &bench->random);
        disk_open(disk);
        check(disk, &bench->acked, false, "fault", n);
        if (disk->report.condition == WAL_DAMAGED) {
            assert_int_equal(wal_drop_damaged_prefix(disk->wal, applied, term), 0);
        }
        assert_int_equal(wal_first_index(disk->wal), applied + 1);
        for (uint64_t i = applied + 1; i <= model_last(&bench->acked); i++) {
            assert_true(model_entry_is(disk->wal, &bench->acked, i));
        }
        disk_destroy(disk);
    }
    bench_destroy(bench);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_flipped_bit_in_any_written_sector_is_damage),
        cmocka_unit_test(test_a_hole_before_the_last_frame_is_damage),
        cmocka_unit_test(test_a_hole_in_a_segments_first_frame_is_damage),
        cmocka_unit_test(test_a_lost_end_is_damage_and_not_an_unfinished_write),
        cmocka_unit_test(test_lost_marks_cost_nothing),
        cmocka_unit_test(test_a_log_of_the_older_format_is_taken_over),
        cmocka_unit_test(test_every_bit_of_the_last_frame_is_guarded),
        cmocka_unit_test(test_a_missing_segment_is_damage),
        cmocka_unit_test(test_the_loss_of_every_segment_is_damage_and_not_a_new_log),
        cmocka_unit_test(test_a_truncated_segment_is_damage),
        cmocka_unit_test(test_a_truncated_segment_with_a_damaged_header_has_lost_its_tail),
        cmocka_unit_test(test_the_damage_of_one_middle_frame_names_its_entries_only),
        cmocka_unit_test(test_a_lost_vote_is_said_to_be_lost),
        cmocka_unit_test(test_any_mixture_of_damage_is_reported_truly),
        cmocka_unit_test(test_forged_frames_break_nothing),
        cmocka_unit_test(test_damage_found_by_a_later_read_is_an_error),
        cmocka_unit_test(test_a_newer_format_is_refused_and_not_called_damage),
        cmocka_unit_test(test_a_crash_while_dropping_a_prefix_changes_nothing_or_all),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
