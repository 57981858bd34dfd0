/* The files of the log: names, order, the spare, appending, rolling over, removing. */
#include "storage/wal_internal.h"

#include "base/check.h"
#include "base/errors.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define NAME_PREFIX "log-"
#define NAME_DIGITS 16
#define ZERO_CHUNK_BYTES (64u * 1024)

void wal_chain_follow(struct wal_chain *chain, const struct frame_header *header)
{
    if (header->flags & FRAME_IS_START) {
        chain->low_since = header->sequence;
        chain->replaced_low = UINT64_MAX;
    } else {
        chain->low_since = header->low_since;
        chain->replaced_low = header->replaced_low;
    }
    if (header->entry_first != 0 && header->entry_first <= header->previous_last &&
        header->entry_first < chain->replaced_low) {
        chain->replaced_low = header->entry_first;
    }
    chain->hard_state_sequence =
        header->flags & FRAME_HAS_HARD_STATE ? header->sequence : header->hard_state_sequence;
    chain->next_sequence = header->sequence + 1;
}

/* ---- names ---- */

int wal_segment_parse_name(const char *name, uint64_t *sequence)
{
    size_t prefix = strlen(NAME_PREFIX);
    if (strncmp(name, NAME_PREFIX, prefix) != 0 || strlen(name) != prefix + NAME_DIGITS ||
        strspn(name + prefix, "0123456789abcdef") != NAME_DIGITS) {
        return -1;
    }
    *sequence = strtoull(name + prefix, NULL, 16);
    return *sequence == 0 || *sequence > WAL_NUMBER_MAX ? -1 : 0;
}

int wal_path(const struct wal *wal, const char *name, char *out)
{
    int size = snprintf(out, WAL_PATH_BYTES_MAX, "%s/%s", wal->dir, name);
    return size < 0 || (unsigned)size >= WAL_PATH_BYTES_MAX ? ERR_INVALID : 0;
}

int wal_segment_path(const struct wal *wal, uint64_t sequence, char *out)
{
    char name[32];
    snprintf(name, sizeof(name), NAME_PREFIX "%016" PRIx64, sequence);
    return wal_path(wal, name, out);
}

struct listing {
    uint64_t *sequences;
    size_t count;
    size_t capacity;
};

static int list_name(void *context, const char *name)
{
    struct listing *listing = context;
    uint64_t sequence;
    if (wal_segment_parse_name(name, &sequence) != 0) {
        return 0;
    }
    if (listing->count == WAL_SEGMENTS_MAX) {
        return ERR_FULL;
    }
    if (listing->count == listing->capacity) {
        size_t capacity = listing->capacity == 0 ? 64 : listing->capacity * 2;
        uint64_t *sequences = realloc(listing->sequences, capacity * sizeof(*sequences));
        if (sequences == NULL) {
            return ERR_NOMEM;
        }
        listing->sequences = sequences;
        listing->capacity = capacity;
    }
    listing->sequences[listing->count++] = sequence;
    return 0;
}

static int compare_sequences(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a;
    uint64_t y = *(const uint64_t *)b;
    return (x > y) - (x < y);
}

int wal_segment_list(const struct wal *wal, uint64_t **sequences, size_t *count)
{
    struct listing listing = {0};
    int rc = wal->fs->ops->list_dir(wal->fs, wal->dir, list_name, &listing);
    if (rc != 0) {
        free(listing.sequences);
        return rc;
    }
    if (listing.count > 0) {
        qsort(listing.sequences, listing.count, sizeof(*listing.sequences), compare_sequences);
    }
    *sequences = listing.sequences;
    *count = listing.count;
    return 0;
}

int wal_segment_add(struct wal *wal, const struct wal_segment *segment)
{
    size_t count = wal->segment_count;
    if (count == WAL_SEGMENTS_MAX) {
        return ERR_FULL;
    }
    struct wal_segment *segments = realloc(wal->segments, (count + 1) * sizeof(*segments));
    if (segments == NULL) {
        return ERR_NOMEM;
    }
    segments[count] = *segment;
    wal->segments = segments;
    wal->segment_count = count + 1;
    return 0;
}

/* ---- the spare ---- */

static int write_zeros(struct wal *wal, struct fs_file *file, uint64_t size)
{
    static const uint8_t zeros[ZERO_CHUNK_BYTES];
    for (uint64_t at = 0; at < size; at += ZERO_CHUNK_BYTES) {
        uint64_t part = size - at < ZERO_CHUNK_BYTES ? size - at : ZERO_CHUNK_BYTES;
        int rc = wal->fs->ops->write_at(wal->fs, file, at, zeros, part);
        if (rc != 0) {
            return rc;
        }
    }
    return 0;
}

/* Creates a file `name` of `size` written zeros and syncs it, so that a later write changes no
 * metadata. */
static int make_zero_file(struct wal *wal, const char *name, uint64_t size)
{
    const struct fs_ops *ops = wal->fs->ops;
    char path[WAL_PATH_BYTES_MAX];
    int rc = wal_path(wal, name, path);
    if (rc != 0) {
        return rc;
    }
    rc = ops->remove(wal->fs, path);
    if (rc != 0 && rc != ERR_NOT_FOUND) {
        return rc;
    }
    struct fs_file *file;
    rc = ops->open(wal->fs, path, FS_OPEN_CREATE, &file);
    if (rc != 0) {
        return rc;
    }
    rc = write_zeros(wal, file, size);
    if (rc == 0) {
        rc = ops->sync(wal->fs, file);
    }
    ops->close(wal->fs, file);
    if (rc != 0) {
        /* Frees the space. What cannot be removed now is removed at the next attempt. */
        (void)ops->remove(wal->fs, path);
    }
    return rc;
}

int wal_spare_make(struct wal *wal)
{
    int rc = make_zero_file(wal, "spare", wal->segment_bytes);
    if (rc == 0) {
        wal->spare_bytes = wal->segment_bytes;
    }
    return rc;
}

static int is_zero_file(struct wal *wal, struct fs_file *file, uint64_t size, bool *is_zero)
{
    uint8_t *chunk = malloc(ZERO_CHUNK_BYTES);
    if (chunk == NULL) {
        return ERR_NOMEM;
    }
    int rc = 0;
    *is_zero = true;
    for (uint64_t at = 0; at < size && rc == 0 && *is_zero; at += ZERO_CHUNK_BYTES) {
        uint64_t part = size - at < ZERO_CHUNK_BYTES ? size - at : ZERO_CHUNK_BYTES;
        rc = wal->fs->ops->read_at(wal->fs, file, at, chunk, part);
        for (uint64_t i = 0; i < part && rc == 0 && *is_zero; i += SECTOR_BYTES) {
            *is_zero = wal_sector_is_zero(chunk + i);
        }
    }
    free(chunk);
    return rc;
}

int wal_spare_adopt(struct wal *wal)
{
    const struct fs_ops *ops = wal->fs->ops;
    char path[WAL_PATH_BYTES_MAX];
    int rc = wal_path(wal, "spare", path);
    if (rc != 0) {
        return rc;
    }
    struct fs_file *file;
    rc = ops->open(wal->fs, path, FS_OPEN_READ_WRITE, &file);
    if (rc == ERR_NOT_FOUND) {
        if (wal->segment_count > 0) {
            wal_note_mended(wal, "spare");
        }
        return 0;
    }
    if (rc != 0) {
        return rc;
    }
    uint64_t size = 0;
    bool is_whole = false;
    rc = ops->size(wal->fs, file, &size);
    if (rc == 0 && size == wal->segment_bytes) {
        rc = is_zero_file(wal, file, size, &is_whole);
    }
    if (rc == 0 && is_whole) {
        /* The zeros may exist only in the page cache. */
        rc = ops->sync(wal->fs, file);
    }
    ops->close(wal->fs, file);
    if (rc != 0) {
        return rc;
    }
    if (is_whole) {
        wal->spare_bytes = size;
        return 0;
    }
    wal_note_mended(wal, "spare");
    return ops->remove(wal->fs, path);
}

void wal_note_mended(struct wal *wal, const char *name)
{
    char *mended = wal->report.mended;
    size_t size = strlen(mended);
    snprintf(mended + size, sizeof(wal->report.mended) - size, "%s%s", size > 0 ? ", " : "", name);
}

int wal_begun_make(struct wal *wal)
{
    const struct fs_ops *ops = wal->fs->ops;
    char path[WAL_PATH_BYTES_MAX];
    int rc = wal_path(wal, "begun", path);
    if (rc != 0) {
        return rc;
    }
    struct fs_file *file;
    rc = ops->open(wal->fs, path, FS_OPEN_CREATE, &file);
    if (rc != 0 && rc != ERR_EXISTS) {
        return rc;
    }
    if (rc == 0) {
        ops->close(wal->fs, file);
    }
    rc = ops->sync_dir(wal->fs, wal->dir);
    if (rc == 0) {
        wal->has_begun = true;
    }
    return rc;
}

/* ---- files ---- */

void wal_segment_close_files(struct wal *wal)
{
    if (wal->current_file != NULL) {
        wal->fs->ops->close(wal->fs, wal->current_file);
        wal->current_file = NULL;
    }
    if (wal->reader_file != NULL) {
        wal->fs->ops->close(wal->fs, wal->reader_file);
        wal->reader_file = NULL;
    }
}

int wal_segment_reader(struct wal *wal, uint64_t sequence, struct fs_file **out)
{
    const struct fs_ops *ops = wal->fs->ops;
    if (wal->current_file != NULL && wal->segments[wal->segment_count - 1].sequence == sequence) {
        *out = wal->current_file;
        return 0;
    }
    if (wal->reader_file == NULL || wal->reader_sequence != sequence) {
        char path[WAL_PATH_BYTES_MAX];
        struct fs_file *file;
        int rc = wal_segment_path(wal, sequence, path);
        if (rc == 0) {
            rc = ops->open(wal->fs, path, FS_OPEN_READ, &file);
        }
        if (rc != 0) {
            return rc;
        }
        if (wal->reader_file != NULL) {
            ops->close(wal->fs, wal->reader_file);
        }
        wal->reader_file = file;
        wal->reader_sequence = sequence;
    }
    *out = wal->reader_file;
    return 0;
}

int wal_segment_remove_below(struct wal *wal, uint64_t sequence)
{
    const struct fs_ops *ops = wal->fs->ops;
    size_t gone = 0;
    while (gone < wal->segment_count && wal->segments[gone].sequence < sequence) {
        gone++;
    }
    if (gone > 0) {
        memmove(wal->segments, wal->segments + gone,
                (wal->segment_count - gone) * sizeof(*wal->segments));
        wal->segment_count -= gone;
    }
    if (wal->reader_file != NULL && wal->reader_sequence < sequence) {
        ops->close(wal->fs, wal->reader_file);
        wal->reader_file = NULL;
    }

    /* Uses the directory instead of `segments`, so that files of an interrupted removal are removed
     * too. */
    uint64_t *sequences = NULL;
    size_t count = 0;
    int rc = wal_segment_list(wal, &sequences, &count);
    size_t removed = 0;
    for (; rc == 0 && removed < count && sequences[removed] < sequence; removed++) {
        char path[WAL_PATH_BYTES_MAX];
        rc = wal_segment_path(wal, sequences[removed], path);
        if (rc == 0) {
            rc = ops->remove(wal->fs, path);
        }
    }
    free(sequences);
    if (rc == 0 && removed > 0) {
        rc = ops->sync_dir(wal->fs, wal->dir);
    }
    return rc;
}

/* ---- writing ---- */

static int write_frame(struct wal *wal, struct fs_file *file, uint64_t offset)
{
    if (buf_failed(&wal->frame)) {
        return ERR_NOMEM;
    }
    wal->stats.bytes_written += wal->frame.size;
    return wal->fs->ops->write_at(wal->fs, file, offset, wal->frame.data, wal->frame.size);
}

static int write_and_sync(struct wal *wal, struct fs_file *file, uint64_t offset)
{
    int rc = write_frame(wal, file, offset);
    return rc == 0 ? wal->fs->ops->sync(wal->fs, file) : rc;
}

/* Writes the mark that names `sequence`, which is already durable. Does not sync. */
static int write_mark(struct wal *wal, uint64_t sequence)
{
    const struct wal_segment *current = &wal->segments[wal->segment_count - 1];
    if (!current->has_marks || wal->marked >= sequence) {
        return 0;
    }
    uint8_t sector[SECTOR_BYTES];
    struct wal_mark mark = {current->sequence, sequence};
    wal_mark_encode(&mark, sector);
    wal->stats.bytes_written += SECTOR_BYTES;
    int rc = wal->fs->ops->write_at(wal->fs, wal->current_file, wal_mark_offset(sequence), sector,
                                    sizeof(sector));
    if (rc == 0) {
        wal->marked = sequence;
    }
    return rc;
}

int wal_segment_mark(struct wal *wal)
{
    int rc = write_mark(wal, wal->chain.next_sequence - 1);
    return rc == 0 ? wal->fs->ops->sync(wal->fs, wal->current_file) : rc;
}

int wal_segment_link(struct wal *wal, struct wal_segment *segment, struct fs_file *file,
                     uint64_t successor)
{
    struct frame_header header = {.kind = FRAME_LINK, .sequence = successor};
    CHECK(segment->end + SECTOR_BYTES <= segment->size);
    buf_reset(&wal->frame);
    wal_frame_encode(&header, (struct bytes){NULL, 0}, &wal->frame);
    int rc = write_and_sync(wal, file, segment->end);
    if (rc == 0) {
        segment->end += SECTOR_BYTES;
        segment->is_linked = true;
    }
    return rc;
}

static struct frame_header next_header(const struct wal *wal, const struct wal_batch *batch)
{
    return (struct frame_header){
        .kind = FRAME_BATCH,
        .flags = batch->has_hard_state ? FRAME_HAS_HARD_STATE : 0,
        .sequence = wal->chain.next_sequence,
        .entry_first = batch->entry_first,
        .entry_last = batch->entry_first != 0 ? batch->entry_last : wal->committed_last,
        .previous_last = wal->committed_last,
        .replaced_low = wal->chain.replaced_low,
        .low_since = wal->chain.low_since,
        .hard_state_sequence = wal->chain.hard_state_sequence,
    };
}

static uint64_t body_bytes_max(const struct wal_batch *batch)
{
    return RECORD_FLOOR_BYTES + RECORD_HARD_STATE_BYTES_MAX + batch->entries.size;
}

/* Builds the body in wal->body. Returns the offset of the entries in it. */
static uint32_t build_body(struct wal *wal, const struct wal_batch *batch)
{
    buf_reset(&wal->body);
    if (batch->has_floor) {
        wal_record_append_floor(&wal->body, &wal->floor);
    }
    if (batch->has_hard_state) {
        wal_record_append_hard_state(&wal->body, &wal->hard_state);
    }
    uint32_t entries_offset = (uint32_t)wal->body.size;
    if (batch->entries.size > 0) {
        buf_append(&wal->body, batch->entries.data, batch->entries.size);
    }
    return entries_offset;
}

bool wal_segment_fits(const struct wal *wal, const struct wal_batch *batch)
{
    if (wal->segment_count == 0) {
        return false;
    }
    const struct wal_segment *current = &wal->segments[wal->segment_count - 1];
    bool is_floor_alone = batch->has_floor && !batch->has_hard_state && batch->entries.size == 0;
    uint64_t needed = LINK_RESERVE_BYTES;
    needed += is_floor_alone ? wal_frame_bytes(RECORD_FLOOR_BYTES)
                             : wal_frame_bytes(body_bytes_max(batch)) + FLOOR_RESERVE_BYTES;
    return current->end + needed <= current->size;
}

int wal_segment_append(struct wal *wal, const struct wal_batch *batch, struct wal_place *place)
{
    if (!wal_segment_fits(wal, batch)) {
        return wal_segment_roll(wal, batch, false, place);
    }
    struct wal_segment *current = &wal->segments[wal->segment_count - 1];
    uint32_t entries_offset = build_body(wal, batch);
    if (buf_failed(&wal->body)) {
        return ERR_NOMEM;
    }
    struct frame_header header = next_header(wal, batch);
    buf_reset(&wal->frame);
    wal_frame_encode(&header, buf_bytes(&wal->body), &wal->frame);
    int rc = write_frame(wal, wal->current_file, current->end);
    if (rc == 0) {
        rc = write_mark(wal, header.sequence - 1);
    }
    if (rc == 0) {
        rc = wal->fs->ops->sync(wal->fs, wal->current_file);
    }
    if (rc != 0) {
        return rc;
    }
    *place = (struct wal_place){
        .segment = current->sequence,
        .sector = (uint32_t)(current->end / SECTOR_BYTES),
        .entries_offset = entries_offset,
    };
    current->end += wal->frame.size;
    wal_chain_follow(&wal->chain, &header);
    return 0;
}

/* Takes the spare if it is large enough, else creates a file. */
static int take_file(struct wal *wal, uint64_t needed, uint64_t *size, char *path)
{
    if (wal->spare_bytes == 0 && needed <= wal->segment_bytes) {
        int rc = wal_spare_make(wal);
        if (rc != 0) {
            return rc;
        }
    }
    const char *name = "spare";
    if (needed <= wal->spare_bytes) {
        *size = wal->spare_bytes;
        wal->spare_bytes = 0;
    } else {
        name = "spare-large";
        *size = needed;
        int rc = make_zero_file(wal, name, needed);
        if (rc != 0) {
            return rc;
        }
    }
    return wal_path(wal, name, path);
}

/* The START frame is durable before the file gets its final name, so it can be marked at once. */
static void append_segment_head(struct wal *wal, const struct segment_header *segment)
{
    uint8_t *head = buf_extend(&wal->frame, wal_frames_offset(true));
    if (head == NULL) {
        return;
    }
    wal_segment_header_encode(segment, head);
    for (uint64_t sequence = segment->sequence - 1; sequence <= segment->sequence; sequence++) {
        struct wal_mark mark = {segment->sequence, sequence};
        wal_mark_encode(&mark, head + wal_mark_offset(sequence));
    }
}

/* Writes header, marks and START frame into the file at `path`, then gives it its name. */
static int found_segment(struct wal *wal, struct frame_header *header, uint64_t size,
                         const char *path, struct fs_file **out)
{
    const struct fs_ops *ops = wal->fs->ops;
    char target[WAL_PATH_BYTES_MAX];
    int rc = wal_segment_path(wal, header->sequence, target);
    if (rc != 0) {
        return rc;
    }
    buf_reset(&wal->frame);
    struct segment_header segment = {WAL_FORMAT_VERSION, header->sequence, size};
    append_segment_head(wal, &segment);
    wal_frame_encode(header, buf_bytes(&wal->body), &wal->frame);

    struct fs_file *file;
    rc = ops->open(wal->fs, path, FS_OPEN_READ_WRITE, &file);
    if (rc != 0) {
        return rc;
    }
    rc = write_and_sync(wal, file, 0);
    if (rc == 0) {
        rc = ops->rename(wal->fs, path, target);
    }
    if (rc == 0) {
        rc = ops->sync_dir(wal->fs, wal->dir);
    }
    if (rc != 0) {
        ops->close(wal->fs, file);
        return rc;
    }
    *out = file;
    return 0;
}

/* Makes the new segment the current one, and links the previous one to it. */
static int enter_segment(struct wal *wal, const struct wal_segment *segment, struct fs_file *file,
                         bool is_linking)
{
    int rc = wal_segment_add(wal, segment);
    if (rc == 0 && is_linking && wal->current_file != NULL) {
        struct wal_segment *old = &wal->segments[wal->segment_count - 2];
        rc = wal_segment_link(wal, old, wal->current_file, segment->sequence);
    }
    if (wal->current_file != NULL) {
        wal->fs->ops->close(wal->fs, wal->current_file);
    }
    wal->current_file = file;
    wal->marked = segment->sequence;
    if (rc == 0 && !wal->has_begun) {
        rc = wal_begun_make(wal);
    }
    return rc;
}

int wal_segment_roll(struct wal *wal, const struct wal_batch *batch, bool is_afresh,
                     struct wal_place *place)
{
    struct wal_batch start = *batch;
    start.has_floor = true;
    start.has_hard_state = true;

    if (is_afresh || wal->segment_count == 0) {
        wal->floor.segment = wal->chain.next_sequence;
    }
    uint64_t needed = wal_frames_offset(true) + wal_frame_bytes(body_bytes_max(&start)) +
                      FLOOR_RESERVE_BYTES + LINK_RESERVE_BYTES;
    if (needed > WAL_SEGMENT_BYTES_MAX) {
        return ERR_NOMEM;
    }
    char path[WAL_PATH_BYTES_MAX];
    uint64_t size;
    int rc = take_file(wal, needed, &size, path);
    if (rc != 0) {
        return rc;
    }
    uint32_t entries_offset = build_body(wal, &start);
    if (buf_failed(&wal->body)) {
        return ERR_NOMEM;
    }
    struct frame_header header = next_header(wal, &start);
    header.flags |= FRAME_IS_START;
    struct fs_file *file;
    rc = found_segment(wal, &header, size, path, &file);
    if (rc != 0) {
        return rc;
    }
    struct wal_segment segment = {
        .sequence = header.sequence,
        .size = size,
        .end = wal->frame.size,
        .has_marks = true,
    };
    *place = (struct wal_place){
        .segment = segment.sequence,
        .sector = (uint32_t)(wal_frames_offset(true) / SECTOR_BYTES),
        .entries_offset = entries_offset,
    };
    wal_chain_follow(&wal->chain, &header);
    return enter_segment(wal, &segment, file, !is_afresh);
}
