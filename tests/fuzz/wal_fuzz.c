/* The log over any bytes, in two ways that the first byte chooses between.
 *
 * Raw: the rest is cut into segments. So that mutations get behind the checksums, these can be made
 * right again beforehand. Whatever wal_open() takes it for, it takes it for that again: damage is
 * left as it lies, and what is not damaged can be written to.
 *
 * Mutated: the rest is what happens to the segments of a log with a life behind it. It keeps all
 * that was acknowledged, or says what may be lost, and everything else is as it was. */
#include "base/check.h"
#include "base/checksum.h"
#include "base/errors.h"
#include "fuzz/input.h"
#include "storage/wal_internal.h"
#include "unit/storage/wal_model.h"

#include <fcntl.h>
#include <unistd.h>

#define DIR "data/log"
#define SEGMENTS_MAX 64
#define ENTRIES_LOOKED_AT_MAX 4096u
#define MUTATIONS_MAX 16
#define BASES 4

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { MODE_MUTATED = 1, SEAL_HEADERS = 2, SEAL_BODIES = 4, HAS_BEGUN = 8, IS_DUMPED = 16 };

/* ---- what is seen of a log ---- */

struct seen {
    struct wal_report report;
    struct wal_hard_state hard_state;
    uint64_t first;
    uint64_t last;
    uint64_t base_term;
    uint64_t entries; /* checksum over them */
};

static uint64_t look_at_entry(struct wal *wal, uint64_t index, uint64_t sum)
{
    struct wal_entry entry = {0};
    int rc = wal_read(wal, index, &entry);
    CHECK(rc == 0 || rc == ERR_CORRUPT);
    if (rc == 0) {
        CHECK(entry.index == index);
        CHECK(entry.term == wal_term(wal, index));
        sum = checksum64_seed(sum, entry.data.data, entry.data.size);
    }
    uint64_t fields[] = {(uint64_t)-rc, entry.term, entry.type};
    return checksum64_seed(sum, fields, sizeof(fields));
}

static void look(struct wal *wal, const struct wal_report *report, struct seen *out)
{
    memset(out, 0, sizeof(*out));
    out->report = *report;
    out->hard_state = *wal_hard_state(wal);
    out->first = wal_first_index(wal);
    out->last = wal_last_index(wal);
    out->base_term = wal_term(wal, out->first - 1);
    CHECK(out->last + 1 >= out->first);
    for (uint64_t i = out->first; i <= out->last && i - out->first < ENTRIES_LOOKED_AT_MAX; i++) {
        out->entries = look_at_entry(wal, i, out->entries);
    }
}

/* False for what a newer version has written. */
static bool open_and_look(const struct wal_options *options, struct wal **out, struct seen *seen)
{
    struct wal_report report;
    int rc = wal_open(options, out, &report);
    CHECK(rc == 0 || rc == ERR_VERSION);
    if (rc == 0) {
        look(*out, &report, seen);
    }
    return rc == 0;
}

static void check_is_same(const struct seen *before, const struct seen *after)
{
    CHECK(before->first == after->first);
    CHECK(before->last == after->last);
    CHECK(before->base_term == after->base_term);
    CHECK(before->entries == after->entries);
    CHECK(memcmp(&before->hard_state, &after->hard_state, sizeof(before->hard_state)) == 0);
}

static void reopen(const struct wal_options *options, struct wal **wal, struct seen *seen)
{
    wal_close(*wal);
    CHECK(open_and_look(options, wal, seen));
}

/* ---- what holds for any log that opens ---- */

static void check_damaged(const struct wal_options *options, struct wal **wal,
                          const struct seen *before)
{
    struct seen after;
    reopen(options, wal, &after);
    check_is_same(before, &after);
    CHECK(memcmp(&before->report, &after.report, sizeof(after.report)) == 0);
    uint64_t applied =
        before->report.damage_last == UINT64_MAX ? before->last : before->report.damage_last;
    int rc = wal_drop_damaged_prefix(*wal, applied, 7);
    CHECK(rc == 0 || rc == ERR_INVALID);
    if (rc == 0) {
        reopen(options, wal, &after);
        CHECK(after.report.condition == WAL_CLEAN);
        CHECK(after.first == applied + 1);
        CHECK(after.last == (before->last > applied ? before->last : applied));
    }
}

static void check_sound(const struct wal_options *options, struct wal **wal,
                        const struct seen *before)
{
    struct seen after;
    reopen(options, wal, &after);
    check_is_same(before, &after);
    CHECK(after.report.condition == (before->report.condition == WAL_NEW ? WAL_NEW : WAL_CLEAN));
    if ((*wal)->chain.next_sequence >= WAL_NUMBER_MAX || before->last >= WAL_NUMBER_MAX) {
        return;
    }
    struct wal_entry entry = {
        .index = before->last + 1, .term = 9, .type = 1, .data = {"entry", 5}};
    CHECK(wal_stage_entry(*wal, &entry) == 0);
    CHECK(wal_commit(*wal) == 0);
    reopen(options, wal, &after);
    CHECK(after.report.condition == WAL_CLEAN);
    CHECK(after.first == before->first);
    CHECK(after.last == entry.index);
    CHECK(wal_read(*wal, entry.index, &entry) == 0);
    CHECK(entry.term == 9);
    CHECK(bytes_equal(entry.data, bytes_of_text("entry")));
}

static void dump(struct fs *fs)
{
    int fd = open("/dev/null", O_WRONLY | O_CLOEXEC);
    int rc = wal_dump(fs, DIR, NULL, fd);
    CHECK(rc == 0 || rc == ERR_VERSION);
    close(fd);
}

/* ---- raw ---- */

static void seal_body(uint8_t *frame, size_t size)
{
    size_t body_bytes = load_u32(frame + 4);
    if (body_bytes > size || wal_frame_bytes(body_bytes) > size) {
        return;
    }
    uint8_t *body = malloc(body_bytes + 1);
    CHECK(body != NULL);
    wal_frame_gather(frame, 0, body_bytes, body);
    uint32_t offset = 0;
    struct wal_record record;
    while (wal_record_next((struct bytes){body, body_bytes}, &offset, &record) == 1) {
        if (record.kind == RECORD_ENTRY && record.entry.data.size == 0) {
            uint8_t *head = body + record.offset;
            store_u64(head + RECORD_HEAD_BYTES + 16,
                      checksum64_seed(checksum64(head, RECORD_HEAD_BYTES + 16), NULL, 0));
        }
    }
    store_u64(frame + 16, checksum64(body, body_bytes));
    free(body);
}

/* Where a header begins, by its mark, its checksums are made right. */
static void seal(uint8_t *data, size_t size, uint64_t sequence, unsigned flags)
{
    if (flags & SEAL_HEADERS) {
        struct segment_header header = {
            .version = WAL_FORMAT_VERSION, .sequence = sequence, .size = size};
        wal_segment_header_encode(&header, data);
    }
    for (size_t at = SECTOR_BYTES; at < size; at += SECTOR_BYTES) {
        uint8_t *frame = data + at;
        if (frame[0] != 0x46) {
            continue;
        }
        if (flags & SEAL_BODIES) {
            seal_body(frame, size - at);
        }
        if (flags & SEAL_HEADERS) {
            store_u64(frame + FRAME_HEADER_BYTES - 8, checksum64(frame, FRAME_HEADER_BYTES - 8));
        }
    }
}

static void put_file(struct fs *fs, const char *path, const void *data, size_t size)
{
    struct fs_file *file;
    (void)fs->ops->remove(fs, path);
    CHECK(fs->ops->open(fs, path, FS_OPEN_CREATE, &file) == 0);
    CHECK(fs->ops->write_at(fs, file, 0, data, size) == 0);
    CHECK(fs->ops->sync(fs, file) == 0);
    fs->ops->close(fs, file);
}

/* Zeros to the next sector, as a segment has them. */
static void put_segment(struct fs *fs, struct bytes contents, uint64_t sequence, unsigned flags)
{
    bool is_sealed = (flags & SEAL_HEADERS) != 0;
    size_t size = (contents.size + SECTOR_BYTES - 1) / SECTOR_BYTES * SECTOR_BYTES;
    size = is_sealed && size < WAL_SEGMENT_BYTES_MIN ? WAL_SEGMENT_BYTES_MIN : size;
    uint8_t *data = calloc(1, size + 1);
    CHECK(data != NULL);
    if (contents.size > 0) {
        memcpy(data, contents.data, contents.size);
    }
    if (size >= SECTOR_BYTES) {
        seal(data, size, sequence, flags);
    }
    char path[64];
    snprintf(path, sizeof(path), DIR "/log-%016" PRIx64, sequence);
    put_file(fs, path, data, is_sealed ? size : contents.size);
    free(data);
}

static void fuzz_raw(struct input *input, unsigned flags)
{
    struct fs_memory *memory = fs_memory_create();
    struct fs *fs = fs_memory_fs(memory);
    CHECK(fs->ops->make_dir(fs, DIR) == 0);
    size_t count = take_u8(input) % 4;
    for (size_t i = 0; i <= count; i++) {
        uint64_t sequence = take_u8(input);
        size_t size = i == count ? input->left : take_u16(input);
        put_segment(fs, take_bytes(input, size), sequence, flags);
    }
    if (flags & HAS_BEGUN) {
        put_file(fs, DIR "/begun", "", 0);
    }
    if (flags & IS_DUMPED) {
        dump(fs);
    }
    struct wal_options options = {.fs = fs, .dir = DIR, .segment_bytes = 8192, .cache_bytes = 1024};
    struct wal *wal = NULL;
    struct seen seen;
    if (open_and_look(&options, &wal, &seen)) {
        if (seen.report.condition == WAL_DAMAGED) {
            check_damaged(&options, &wal, &seen);
        } else {
            check_sound(&options, &wal, &seen);
        }
    }
    wal_close(wal);
    fs_memory_destroy(memory);
}

/* ---- mutated ---- */

struct base {
    struct bench *bench;
    char paths[SEGMENTS_MAX][64];
    size_t count;
};

static int add_path(void *context, const char *name)
{
    struct base *base = context;
    if (strncmp(name, "log-", 4) == 0) {
        CHECK(base->count < SEGMENTS_MAX);
        snprintf(base->paths[base->count++], sizeof(base->paths[0]), DIR "/%s", name);
    }
    return 0;
}

static int compare_paths(const void *a, const void *b)
{
    return strcmp(a, b);
}

/* Several segments, replaced suffixes, votes; every second one was compacted. */
static void base_make(struct base *base, uint64_t seed)
{
    struct bench *bench = bench_create(seed, 4096);
    CHECK(bench_open(bench) == 0);
    for (unsigned i = 0; i < 40; i++) {
        if (i % 9 == 0) {
            CHECK(bench_stage_hard_state(bench) == 0);
        }
        for (uint64_t k = below(bench, 3); k > 0; k--) {
            CHECK(bench_stage_entry(bench, i % 8 == 5) == 0);
        }
        CHECK(bench_commit(bench) == 0);
        if (seed % 2 == 0 && i == 20) {
            CHECK(bench_compact(bench, model_last(&bench->acked)) == 0);
        }
    }
    wal_close(bench->wal);
    bench->wal = NULL;
    base->bench = bench;
    struct fs *fs = fs_memory_fs(bench->memory);
    CHECK(fs->ops->list_dir(fs, DIR, add_path, base) == 0);
    qsort(base->paths, base->count, sizeof(base->paths[0]), compare_paths);
}

struct victim {
    const struct base *base;
    struct fs_memory *memory;
    struct fs *fs;
    bool has_blank;     /* a written sector looks unwritten */
    bool is_blank_last; /* in the last segment: nothing can tell */
    bool has_missing;
};

static uint64_t size_of(struct victim *victim, const char *path, const uint8_t **data)
{
    uint64_t size;
    return fs_memory_peek(victim->memory, path, data, &size) == 0 ? size : 0;
}

static void put_sector(struct victim *victim, size_t segment, uint64_t at, const uint8_t *sector)
{
    const char *path = victim->base->paths[segment];
    const uint8_t *old;
    if (size_of(victim, path, &old) < at + SECTOR_BYTES) {
        return;
    }
    if (wal_sector_is_zero(sector) && !wal_sector_is_zero(old + at)) {
        victim->has_blank = true;
        victim->is_blank_last |= segment + 1 == victim->base->count;
    }
    struct fs_file *file;
    CHECK(victim->fs->ops->open(victim->fs, path, FS_OPEN_READ_WRITE, &file) == 0);
    CHECK(victim->fs->ops->write_at(victim->fs, file, at, sector, SECTOR_BYTES) == 0);
    CHECK(victim->fs->ops->sync(victim->fs, file) == 0);
    victim->fs->ops->close(victim->fs, file);
}

static void mutate(struct victim *victim, struct input *input)
{
    unsigned kind = take_u8(input);
    size_t segment = take_u8(input) % victim->base->count;
    const char *path = victim->base->paths[segment];
    uint64_t at = (uint64_t)(take_u8(input) % 16) * SECTOR_BYTES;
    const uint8_t *data;
    uint8_t sector[SECTOR_BYTES] = {0};
    if (size_of(victim, path, &data) < at + SECTOR_BYTES) {
        return;
    }
    switch (kind % 8) {
    case 0: /* what was written is lost */
        put_sector(victim, segment, at, sector);
        return;
    case 1: /* or went elsewhere */
        memcpy(sector, data + at, sizeof(sector));
        segment = take_u8(input) % victim->base->count;
        at = (uint64_t)(take_u8(input) % 16) * SECTOR_BYTES;
        put_sector(victim, segment, at, sector);
        return;
    case 2:
        CHECK(fs_memory_truncate(victim->memory, path, at + take_u16(input) % SECTOR_BYTES) == 0);
        victim->has_missing = true;
        return;
    case 3:
        CHECK(fs_memory_delete(victim->memory, path) == 0);
        victim->has_missing = true;
        return;
    default:
        memcpy(sector, data + at, sizeof(sector));
        for (unsigned i = 0; i <= kind / 64; i++) {
            unsigned offset = take_u16(input) % SECTOR_BYTES;
            sector[offset] ^= take_u8(input);
        }
        put_sector(victim, segment, at, sector);
    }
}

/* What a damaged log says of itself is true: all outside the range that it names is as it was. */
static void check_truth(struct wal *wal, const struct wal_report *report, struct model *model)
{
    uint64_t first = wal_first_index(wal);
    CHECK(!report->has_hard_state || model_hard_state_is(wal, model));
    CHECK(report->damage_last == UINT64_MAX || wal_last_index(wal) == model_last(model));
    CHECK(first <= model->compacted + 1 || first <= model->base + 1 ||
          (report->damage_first <= first && report->damage_last >= first - 1));
    for (uint64_t i = first; i <= wal_last_index(wal); i++) {
        bool is_named = i >= report->damage_first && i <= report->damage_last;
        CHECK(is_named || model_entry_is(wal, model, i));
    }
}

static void check_victim(struct victim *victim)
{
    struct model *model = &victim->base->bench->acked;
    struct wal_options options = victim->base->bench->options;
    options.fs = victim->fs;
    struct wal *wal = NULL;
    struct seen seen;
    CHECK(open_and_look(&options, &wal, &seen));
    /* A segment that went, and the LINK that named it: it might never have been. */
    bool is_excused = victim->is_blank_last || (victim->has_blank && victim->has_missing);
    if (seen.report.condition == WAL_DAMAGED) {
        if (!is_excused) {
            check_truth(wal, &seen.report, model);
        }
        check_damaged(&options, &wal, &seen);
    } else {
        CHECK(is_excused || model_difference(wal, model) == NULL);
        check_sound(&options, &wal, &seen);
    }
    wal_close(wal);
}

static void fuzz_mutated(struct input *input, unsigned flags)
{
    static struct base bases[BASES];
    size_t which = take_u8(input) % BASES;
    if (bases[which].bench == NULL) {
        base_make(&bases[which], which + 1);
    }
    struct victim victim = {.base = &bases[which]};
    victim.memory = fs_memory_clone(bases[which].bench->memory);
    victim.fs = fs_memory_fs(victim.memory);
    for (int i = 0; i < MUTATIONS_MAX && input->left > 0; i++) {
        mutate(&victim, input);
    }
    if (flags & IS_DUMPED) {
        dump(victim.fs);
    }
    check_victim(&victim);
    fs_memory_destroy(victim.memory);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct input input = {data, size};
    unsigned flags = take_u8(&input);
    if (flags & MODE_MUTATED) {
        fuzz_mutated(&input, flags);
    } else {
        fuzz_raw(&input, flags);
    }
    return 0;
}
