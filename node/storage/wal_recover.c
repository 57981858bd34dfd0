/* Start-up: reads the segments, rebuilds the index, and distinguishes torn from damaged.
 *
 * A missing sector in the last frame means torn, and any fault in an earlier frame means damage,
 * because only one frame is written at a time. The next frame, the LINK and the next segment are
 * written after the sync of the frame before. So a frame that is followed by anything was durable
 * once. */
#include "storage/wal_internal.h"

#include "base/check.h"
#include "base/errors.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* If more consecutive entries are lost, they get no slots, and the log begins after them. */
#define LOST_MAX (1u << 20)
#define WRITE_AGAIN_BYTES (64u << 10)

struct recovery {
    struct wal *wal;
    struct wal_report *report;
    struct wal_torn *torn;
    uint64_t *sequences;
    size_t count;
    uint8_t *data; /* the whole segment that is being read */
    uint64_t size; /* rounded down to sectors */
    uint64_t file_size;
    struct buf body;
    bool is_damaged;
    bool is_tail_unknown; /* frames may be missing at the end */
    bool has_hard_state;
    bool has_frame;      /* one was replayed */
    uint64_t lost_first; /* first index lost if there are too many for slots; 0: none */
    uint64_t lost_last;
};

/* One segment's replay. */
struct replay {
    uint64_t sequence; /* by its name */
    bool is_last;
    bool has_marks;
    uint64_t marked; /* newest frame that was durable; 0: no mark names one */
    uint64_t offset;
    uint64_t last_frame; /* offset of the last whole frame */
    bool is_linked;
    uint64_t successor;
    size_t frames;
};

static void note_damage(struct recovery *recovery, uint64_t segment, uint64_t offset,
                        const char *what)
{
    recovery->is_damaged = true;
    if (recovery->report->description[0] == '\0') {
        snprintf(recovery->report->description, sizeof(recovery->report->description),
                 "log-%016" PRIx64 " at byte %" PRIu64 ": %s", segment, offset, what);
    }
}

/* ---- loading ---- */

static int load_segment(struct recovery *recovery, uint64_t sequence)
{
    struct wal *wal = recovery->wal;
    const struct fs_ops *ops = wal->fs->ops;
    free(recovery->data);
    recovery->data = NULL;
    recovery->size = 0;
    char path[WAL_PATH_BYTES_MAX];
    int rc = wal_segment_path(wal, sequence, path);
    struct fs_file *file;
    if (rc == 0) {
        rc = ops->open(wal->fs, path, FS_OPEN_READ, &file);
    }
    if (rc != 0) {
        return rc;
    }
    rc = ops->size(wal->fs, file, &recovery->file_size);
    if (rc == 0) {
        uint64_t size = recovery->file_size;
        size = size < WAL_SEGMENT_BYTES_MAX ? size : WAL_SEGMENT_BYTES_MAX;
        recovery->size = size - size % SECTOR_BYTES;
        recovery->data = malloc(recovery->size + 1);
        rc = recovery->data == NULL ? ERR_NOMEM : 0;
    }
    if (rc == 0) {
        rc = ops->read_at(wal->fs, file, 0, recovery->data, recovery->size);
    }
    ops->close(wal->fs, file);
    return rc;
}

/* Returns the first sector at or after `offset` that is not all zeros; the size if there is none.
 */
static uint64_t find_written(const struct recovery *recovery, uint64_t offset)
{
    while (offset < recovery->size && wal_sector_is_zero(recovery->data + offset)) {
        offset += SECTOR_BYTES;
    }
    return offset;
}

static uint64_t find_written_end(const struct recovery *recovery, uint64_t offset)
{
    uint64_t end = recovery->size;
    while (end > offset && wal_sector_is_zero(recovery->data + end - SECTOR_BYTES)) {
        end -= SECTOR_BYTES;
    }
    return end;
}

/* Returns the first valid frame header at or after `offset` that may follow what was replayed; else
 * the size. */
static uint64_t find_header(const struct recovery *recovery, uint64_t offset)
{
    struct frame_header header;
    for (; offset < recovery->size; offset += SECTOR_BYTES) {
        if (wal_frame_header_decode(recovery->data + offset, &header) &&
            header.sequence >= recovery->wal->chain.next_sequence) {
            break;
        }
    }
    return offset;
}

/* True if a frame with this header may hold the records of recovery->body. */
static bool body_is_sound(const struct recovery *recovery, const struct frame_header *header)
{
    struct bytes body = buf_bytes(&recovery->body);
    struct wal_record record;
    uint32_t offset = 0;
    uint64_t last = header->previous_last;
    uint64_t first = UINT64_MAX;
    bool has_hard_state = false;
    int rc;
    while ((rc = wal_record_next(body, &offset, &record)) == 1) {
        has_hard_state |= record.kind == RECORD_HARD_STATE;
        if (record.kind == RECORD_ENTRY) {
            if (record.entry.index > last + 1) {
                return false;
            }
            last = record.entry.index;
            first = last < first ? last : first;
        }
    }
    return rc == 0 && last == header->entry_last &&
           header->entry_first == (first == UINT64_MAX ? 0 : first) &&
           has_hard_state == ((header->flags & FRAME_HAS_HARD_STATE) != 0);
}

/* Decodes the body of the frame at `offset` into recovery->body. */
static int decode_frame(struct recovery *recovery, uint64_t offset,
                        const struct frame_header *header, enum frame_verdict *out)
{
    buf_reset(&recovery->body);
    if (wal_frame_bytes(header->body_bytes) > recovery->size - offset) {
        *out = FRAME_BAD;
        return 0;
    }
    uint8_t *body = buf_extend(&recovery->body, header->body_bytes + 1);
    if (body == NULL) {
        return ERR_NOMEM;
    }
    recovery->body.size = header->body_bytes;
    *out = wal_frame_body_decode(header, recovery->data + offset, body);
    if (*out <= FRAME_STAINED && !body_is_sound(recovery, header)) {
        *out = FRAME_BAD;
    }
    return 0;
}

/* ---- the floor ---- */

static int read_version(const struct recovery *recovery)
{
    struct segment_header header;
    if (recovery->size >= SECTOR_BYTES && wal_segment_header_decode(recovery->data, &header) &&
        header.version > WAL_FORMAT_VERSION) {
        return ERR_VERSION;
    }
    return 0;
}

/* Adopts the floors in the valid frames of the loaded segment. */
static int scan_floors(struct recovery *recovery, uint64_t sequence, bool *has_floor)
{
    struct wal_floor *floor = &recovery->wal->floor;
    uint64_t offset = SECTOR_BYTES;
    while (offset < recovery->size) {
        struct frame_header header;
        enum frame_verdict verdict = FRAME_BAD;
        if (wal_frame_header_decode(recovery->data + offset, &header)) {
            int rc = decode_frame(recovery, offset, &header, &verdict);
            if (rc != 0) {
                return rc;
            }
        }
        if (verdict > FRAME_STAINED) {
            offset += SECTOR_BYTES;
            continue;
        }
        offset += wal_frame_bytes(header.body_bytes);
        struct wal_record record;
        uint32_t at = 0;
        while (wal_record_next(buf_bytes(&recovery->body), &at, &record) == 1) {
            /* A floor never names a segment newer than its own; that would drop the whole log. */
            if (record.kind == RECORD_FLOOR && record.floor.segment <= sequence) {
                *floor = record.floor;
                *has_floor = true;
            }
        }
    }
    return 0;
}

/* The newest floor on disk decides which segments count. Older segments are left from an
 * interrupted removal. */
static int find_floor(struct recovery *recovery)
{
    bool has_floor = false;
    for (size_t i = recovery->count; i > 0 && !has_floor; i--) {
        int rc = load_segment(recovery, recovery->sequences[i - 1]);
        if (rc == 0) {
            rc = read_version(recovery);
        }
        if (rc == 0) {
            rc = scan_floors(recovery, recovery->sequences[i - 1], &has_floor);
        }
        if (rc != 0) {
            return rc;
        }
    }
    if (!has_floor) {
        recovery->wal->floor = (struct wal_floor){.segment = recovery->sequences[0]};
        note_damage(recovery, recovery->sequences[0], 0, "no segment has a whole first frame");
        recovery->is_tail_unknown = true;
    }
    return 0;
}

/* ---- replay ---- */

static int push_slot(struct wal *wal, const struct wal_slot *slot)
{
    int rc = wal_index_reserve(&wal->index);
    if (rc == 0) {
        wal_index_push(&wal->index, slot);
    }
    return rc;
}

/* Records that the log ends at `last`, and that its entries from `first` on are lost. */
static int lose(struct recovery *recovery, uint64_t first, uint64_t last)
{
    struct wal *wal = recovery->wal;
    struct wal_index *index = &wal->index;
    first = first <= index->base ? index->base + 1 : first;
    first = first > wal_index_last(index) ? wal_index_last(index) + 1 : first;
    wal_index_truncate(index, first - 1);
    if (last < first) {
        wal_index_truncate(index, last);
        return 0;
    }
    if (last - first >= LOST_MAX) {
        recovery->lost_first = recovery->lost_first == 0 ? index->base + 1 : recovery->lost_first;
        recovery->lost_last = last;
        wal_index_trim(index, last, 0);
        return 0;
    }
    struct wal_slot slot = {.state = SLOT_LOST};
    for (uint64_t i = first; i <= last; i++) {
        int rc = push_slot(wal, &slot);
        if (rc != 0) {
            return rc;
        }
    }
    return 0;
}

/* Records that the frames from the expected one up to `header` are missing. */
static int cross_gap(struct recovery *recovery, const struct frame_header *header)
{
    const struct wal_index *index = &recovery->wal->index;
    uint64_t expected = recovery->wal->chain.next_sequence;
    /* Entries that were read may have been replaced in the gap. */
    uint64_t low = wal_index_last(index) + 1;
    if (header->low_since > expected) {
        low = index->base + 1;
    } else if (header->replaced_low < low) {
        low = header->replaced_low;
    }
    if (header->hard_state_sequence >= expected) {
        recovery->has_hard_state = false;
    }
    return lose(recovery, low, header->previous_last);
}

static int replay_entry(struct wal *wal, const struct wal_record *record,
                        const struct wal_slot *place)
{
    const struct wal_entry *entry = &record->entry;
    if (entry->index <= wal->index.base) {
        /* The entry is below the floor, and its segment will be removed. */
        wal_index_truncate(&wal->index, wal->index.base);
        return 0;
    }
    wal_index_truncate(&wal->index, entry->index - 1);
    CHECK(wal_index_last(&wal->index) + 1 == entry->index);
    struct wal_slot slot = *place;
    slot.offset = record->offset;
    slot.term = entry->term;
    slot.type = entry->type;
    slot.length = (uint32_t)entry->data.size;
    return push_slot(wal, &slot);
}

/* Applies the frame whose body is in recovery->body. */
static int replay_frame(struct recovery *recovery, struct replay *replay,
                        const struct frame_header *header)
{
    struct wal *wal = recovery->wal;
    int rc = 0;
    if (header->sequence > wal->chain.next_sequence) {
        note_damage(recovery, replay->sequence, replay->offset, "frames before this are missing");
        rc = cross_gap(recovery, header);
    } else if (!recovery->has_frame) {
        /* Entries of removed segments, up to previous_last, that are replaced further on. */
        rc = lose(recovery, wal->index.base + 1, header->previous_last);
    } else if (header->previous_last != wal_index_last(&wal->index)) {
        note_damage(recovery, replay->sequence, replay->offset,
                    "the frame does not follow the last");
        uint64_t last = wal_index_last(&wal->index);
        last = last < header->previous_last ? last : header->previous_last;
        rc = lose(recovery, last + 1, header->previous_last);
    }
    struct wal_slot place = {
        .segment = replay->sequence,
        .sector = (uint32_t)(replay->offset / SECTOR_BYTES),
        .state = SLOT_DURABLE,
    };
    struct wal_record record;
    uint32_t offset = 0;
    while (rc == 0 && wal_record_next(buf_bytes(&recovery->body), &offset, &record) == 1) {
        if (record.kind == RECORD_ENTRY) {
            rc = replay_entry(wal, &record, &place);
        } else if (record.kind == RECORD_HARD_STATE) {
            wal->hard_state = record.hard_state;
            recovery->has_hard_state = true;
        }
    }
    recovery->has_frame = true;
    wal_chain_follow(&wal->chain, header);
    return rc;
}

/* Records the loss of a frame whose header is whole and whose body is not. */
static int lose_frame(struct recovery *recovery, struct replay *replay,
                      const struct frame_header *header)
{
    int rc = 0;
    if (header->sequence > recovery->wal->chain.next_sequence || !recovery->has_frame) {
        rc = cross_gap(recovery, header);
    }
    if (rc == 0 && header->entry_first != 0) {
        rc = lose(recovery, header->entry_first, header->entry_last);
    }
    if (header->flags & FRAME_HAS_HARD_STATE) {
        recovery->has_hard_state = false;
    }
    recovery->has_frame = true;
    wal_chain_follow(&recovery->wal->chain, header);
    return rc;
}

static void cut(struct recovery *recovery, const struct replay *replay)
{
    recovery->torn->is_torn = true;
    recovery->torn->from = replay->offset;
    recovery->torn->to = find_written_end(recovery, replay->offset);
}

/* Replays the frame that begins here. Advances, or sets *is_end. */
static int replay_at_header(struct recovery *recovery, struct replay *replay,
                            const struct frame_header *header, bool *is_end)
{
    const uint8_t *sector = recovery->data + replay->offset;
    if (header->kind == FRAME_LINK) {
        replay->is_linked = true;
        replay->successor = header->sequence;
        replay->offset += SECTOR_BYTES;
        if (wal_frame_body_decode(header, sector, NULL) != FRAME_OK ||
            find_written(recovery, replay->offset) < recovery->size) {
            note_damage(recovery, replay->sequence, replay->offset, "data after the end");
        }
        *is_end = true;
        return 0;
    }
    enum frame_verdict verdict;
    int rc = decode_frame(recovery, replay->offset, header, &verdict);
    if (rc != 0) {
        return rc;
    }
    uint64_t end = replay->offset + wal_frame_bytes(header->body_bytes);
    if (verdict <= FRAME_STAINED) {
        if (verdict == FRAME_STAINED) {
            note_damage(recovery, replay->sequence, replay->offset,
                        "a frame is whole, but the bytes around its body are not");
        }
        rc = replay_frame(recovery, replay, header);
        replay->last_frame = replay->offset;
        replay->offset = end;
        replay->frames++;
        return rc;
    }
    if (verdict == FRAME_UNWRITTEN && replay->is_last && replay->frames > 0 &&
        find_written(recovery, end) >= recovery->size) {
        *is_end = true;
        if (header->sequence > replay->marked) {
            cut(recovery, replay);
        } /* else check_marks() reports what is missing */
        return 0;
    }
    note_damage(recovery, replay->sequence, replay->offset,
                "a frame fails its checksum, and it was once whole");
    rc = lose_frame(recovery, replay, header);
    replay->offset = end;
    replay->frames++;
    return rc;
}

/* Handles a place without a valid frame header although something is written here or further on. */
static void replay_at_bad_sector(struct recovery *recovery, struct replay *replay, bool *is_end)
{
    uint64_t next = find_header(recovery, replay->offset + SECTOR_BYTES);
    if (next < recovery->size) {
        note_damage(recovery, replay->sequence, replay->offset, "a frame header is damaged");
        replay->offset = next;
        return;
    }
    *is_end = true;
    if (replay->is_last && replay->frames > 0 &&
        wal_sector_is_zero(recovery->data + replay->offset)) {
        if (recovery->wal->chain.next_sequence > replay->marked) {
            cut(recovery, replay);
        }
        return;
    }
    note_damage(recovery, replay->sequence, replay->offset, "a frame header is damaged");
    recovery->is_tail_unknown |= replay->is_last;
}

/* Reads the marks. A damaged mark loses nothing: the other mark or the frames have the same
 * information. */
static void read_marks(struct recovery *recovery, struct replay *replay)
{
    for (uint64_t slot = 0; slot < MARK_SECTORS; slot++) {
        uint64_t offset = wal_mark_offset(slot);
        struct wal_mark mark;
        if (offset + SECTOR_BYTES > recovery->size ||
            !wal_mark_decode(recovery->data + offset, &mark) || mark.segment != replay->sequence ||
            mark.sequence + 1 < mark.segment || wal_mark_offset(mark.sequence) != offset) {
            note_damage(recovery, replay->sequence, offset, "the mark of the log's end is damaged");
        } else if (mark.sequence > replay->marked) {
            replay->marked = mark.sequence;
        }
    }
}

/* If the header of a segment cannot be read, valid marks show that its format has marks. */
static bool has_mark(const struct recovery *recovery)
{
    struct wal_mark mark;
    bool has_any = false;
    for (uint64_t slot = 0; slot < MARK_SECTORS; slot++) {
        uint64_t offset = wal_mark_offset(slot);
        has_any |= offset + SECTOR_BYTES <= recovery->size &&
                   wal_mark_decode(recovery->data + offset, &mark);
    }
    return has_any;
}

/* Compares the marks with the frames, after the replay. */
static void check_marks(struct recovery *recovery, const struct replay *replay)
{
    uint64_t last = recovery->wal->chain.next_sequence - 1;
    if (!replay->has_marks) {
        return;
    }
    if (last < replay->marked) {
        char what[128];
        snprintf(what, sizeof(what),
                 "the end is lost: frame %" PRIu64 " was durable, the last one here is %" PRIu64,
                 replay->marked, last);
        note_damage(recovery, replay->sequence, replay->offset, what);
        recovery->is_tail_unknown |= replay->is_last;
    } else if (replay->marked + 2 < last) {
        /* The frame before the last one was synced together with the mark of its predecessor. */
        note_damage(recovery, replay->sequence, SECTOR_BYTES, "the marks of the log's end are old");
    }
}

static void check_segment_header(struct recovery *recovery, struct replay *replay)
{
    struct segment_header header;
    bool is_valid =
        recovery->size >= SECTOR_BYTES && wal_segment_header_decode(recovery->data, &header);
    replay->has_marks = is_valid ? header.version > WAL_VERSION_WITHOUT_MARKS : has_mark(recovery);
    replay->offset = wal_frames_offset(replay->has_marks);
    if (!is_valid) {
        note_damage(recovery, replay->sequence, 0, "the segment header is damaged");
    } else if (header.sequence != replay->sequence) {
        note_damage(recovery, replay->sequence, 0, "the file is another segment, renamed");
    } else if (header.size != recovery->file_size) {
        note_damage(recovery, replay->sequence, recovery->file_size,
                    "the file does not have the size that its header says");
        recovery->is_tail_unknown |= replay->is_last && recovery->file_size < header.size;
    }
}

static int replay_frames(struct recovery *recovery, struct replay *replay)
{
    bool is_end = false;
    int rc = 0;
    while (rc == 0 && !is_end && replay->offset < recovery->size) {
        struct frame_header header;
        if (wal_frame_header_decode(recovery->data + replay->offset, &header) &&
            header.sequence >= recovery->wal->chain.next_sequence) {
            rc = replay_at_header(recovery, replay, &header, &is_end);
        } else if (find_written(recovery, replay->offset) >= recovery->size) {
            is_end = true;
        } else {
            replay_at_bad_sector(recovery, replay, &is_end);
        }
    }
    return rc;
}

static int replay_segment(struct recovery *recovery, size_t i)
{
    struct wal *wal = recovery->wal;
    struct replay replay = {
        .sequence = recovery->sequences[i],
        .is_last = i + 1 == recovery->count,
    };
    int rc = load_segment(recovery, replay.sequence);
    if (rc == 0) {
        rc = read_version(recovery);
    }
    if (rc != 0) {
        return rc;
    }
    check_segment_header(recovery, &replay);
    if (replay.has_marks) {
        read_marks(recovery, &replay);
    }
    rc = replay_frames(recovery, &replay);
    if (rc != 0) {
        return rc;
    }
    check_marks(recovery, &replay);
    if (replay.frames == 0) {
        note_damage(recovery, replay.sequence, wal_frames_offset(replay.has_marks),
                    "the segment has no first frame");
        recovery->is_tail_unknown |= replay.is_last;
    }
    if (replay.is_last && replay.is_linked) {
        note_damage(recovery, replay.sequence, replay.offset, "the successor segment is missing");
        recovery->is_tail_unknown = true;
        if (wal->chain.next_sequence <= replay.successor) {
            wal->chain.next_sequence = replay.successor + 1;
        }
    }
    if (replay.is_last && !replay.is_linked && replay.offset >= recovery->size) {
        /* Every last frame is followed by room for a LINK, so this was not the last one. The size
         * in the header would show it too, but the header may be damaged. */
        note_damage(recovery, replay.sequence, replay.offset, "the file ends with a frame");
        recovery->is_tail_unknown = true;
    }
    struct wal_segment segment = {
        .sequence = replay.sequence,
        .size = recovery->size,
        .end = replay.offset,
        .is_linked = replay.is_linked,
        .has_marks = replay.has_marks,
    };
    wal->marked = replay.marked;
    recovery->torn->last_frame = replay.last_frame;
    return wal_segment_add(wal, &segment);
}

/* ---- the verdict ---- */

static void report_lost(struct recovery *recovery)
{
    struct wal_index *index = &recovery->wal->index;
    struct wal_report *report = recovery->report;
    uint64_t first = recovery->lost_first;
    uint64_t last = recovery->lost_last;
    for (uint64_t i = index->base + 1; i <= wal_index_last(index); i++) {
        if (wal_index_at(index, i)->state == SLOT_LOST) {
            first = first == 0 ? i : first;
            last = i;
        }
    }
    if (first != 0) {
        note_damage(recovery, recovery->wal->floor.segment, 0, "entries are missing");
    }
    if (recovery->is_tail_unknown) {
        /* An unknown frame may have replaced any suffix. */
        first = index->base + 1 < first || first == 0 ? index->base + 1 : first;
        last = UINT64_MAX;
        recovery->has_hard_state = false;
    }
    if (recovery->is_damaged) {
        report->condition = WAL_DAMAGED;
        report->damage_first = first;
        report->damage_last = last;
        recovery->torn->is_torn = false;
    } else if (recovery->torn->is_torn) {
        report->condition = WAL_TORN;
        snprintf(report->description, sizeof(report->description),
                 "log-%016" PRIx64 " at byte %" PRIu64 ": an unfinished frame was cut off",
                 recovery->sequences[recovery->count - 1], recovery->torn->from);
    } else {
        report->condition = WAL_CLEAN;
    }
    report->has_hard_state = recovery->has_hard_state;
}

static int scan_segments(struct recovery *recovery)
{
    struct wal *wal = recovery->wal;
    int rc = find_floor(recovery);
    if (rc != 0) {
        return rc;
    }
    wal_index_trim(&wal->index, wal->floor.index, wal->floor.term);
    wal->chain = (struct wal_chain){
        .next_sequence = wal->floor.segment,
        .replaced_low = UINT64_MAX,
        .low_since = wal->floor.segment,
    };
    for (size_t i = 0; i < recovery->count && rc == 0; i++) {
        if (recovery->sequences[i] >= wal->floor.segment) {
            rc = replay_segment(recovery, i);
        }
    }
    if (rc != 0) {
        return rc;
    }
    uint64_t newest = recovery->sequences[recovery->count - 1];
    if (wal->chain.next_sequence <= newest) {
        wal->chain.next_sequence = newest + 1;
    }
    report_lost(recovery);
    wal->committed_last = wal_index_last(&wal->index);
    wal->durable_last = wal->committed_last;
    return 0;
}

static int has_file(struct wal *wal, const char *name, bool *out)
{
    char path[WAL_PATH_BYTES_MAX];
    struct fs_file *file;
    int rc = wal_path(wal, name, path);
    if (rc == 0) {
        rc = wal->fs->ops->open(wal->fs, path, FS_OPEN_READ, &file);
    }
    *out = rc == 0;
    if (rc == 0) {
        wal->fs->ops->close(wal->fs, file);
    }
    return rc == ERR_NOT_FOUND ? 0 : rc;
}

int wal_recover_scan(struct wal *wal, struct wal_report *report, struct wal_torn *torn)
{
    struct recovery recovery = {.wal = wal, .report = report, .torn = torn};
    buf_init(&recovery.body, WAL_BODY_BYTES_MAX + 1);
    memset(report, 0, sizeof(*report));
    memset(torn, 0, sizeof(*torn));

    int rc = has_file(wal, "begun", &wal->has_begun);
    if (rc == 0) {
        rc = wal_segment_list(wal, &recovery.sequences, &recovery.count);
    }
    if (rc != 0) {
        return rc;
    }
    if (recovery.count > 0) {
        rc = scan_segments(&recovery);
    } else if (wal->has_begun) {
        *report = (struct wal_report){
            .condition = WAL_DAMAGED,
            .damage_first = 1,
            .damage_last = UINT64_MAX,
        };
        snprintf(report->description, sizeof(report->description),
                 "%.400s: there was a log, but every segment is gone", wal->dir);
    }
    free(recovery.sequences);
    free(recovery.data);
    buf_finish(&recovery.body);
    return rc;
}

/* ---- completing what a crash interrupted ---- */

static int open_segment(struct wal *wal, const struct wal_segment *segment, struct fs_file **out)
{
    char path[WAL_PATH_BYTES_MAX];
    int rc = wal_segment_path(wal, segment->sequence, path);
    if (rc != 0) {
        return rc;
    }
    return wal->fs->ops->open(wal->fs, path, FS_OPEN_READ_WRITE, out);
}

/* Writes back what was read. After a failed fsync the page cache holds bytes that the disk does not
 * have, as clean pages, which no later fsync writes (see "Can Applications Recover from fsync
 * Failures?", USENIX ATC 2020). Written again, they are durable after the next fsync. */
static int write_again(struct wal *wal, struct fs_file *file, uint64_t from, uint64_t to)
{
    const struct fs_ops *ops = wal->fs->ops;
    int rc = 0;
    while (rc == 0 && from < to) {
        uint64_t size = to - from < WRITE_AGAIN_BYTES ? to - from : WRITE_AGAIN_BYTES;
        buf_reset(&wal->read);
        uint8_t *data = buf_extend(&wal->read, size);
        if (data == NULL) {
            return ERR_NOMEM;
        }
        rc = ops->read_at(wal->fs, file, from, data, size);
        if (rc == 0) {
            rc = ops->write_at(wal->fs, file, from, data, size);
        }
        from += size;
    }
    return rc;
}

static int zero_torn(struct wal *wal, const struct wal_torn *torn)
{
    static const uint8_t zeros[64 * 1024];
    const struct fs_ops *ops = wal->fs->ops;
    for (uint64_t at = torn->from; at < torn->to; at += sizeof(zeros)) {
        uint64_t left = torn->to - at;
        int rc = ops->write_at(wal->fs, wal->current_file, at, zeros,
                               left < sizeof(zeros) ? left : sizeof(zeros));
        if (rc != 0) {
            return rc;
        }
    }
    return 0;
}

/* Adds the LINK that is missing after a crash between the creation of a segment and the LINK of its
 * predecessor. */
static int complete_links(struct wal *wal)
{
    const struct fs_ops *ops = wal->fs->ops;
    for (size_t i = 0; i + 1 < wal->segment_count; i++) {
        struct wal_segment *segment = &wal->segments[i];
        bool is_second_newest = i + 2 == wal->segment_count;
        if (segment->is_linked && !is_second_newest) {
            continue;
        }
        struct fs_file *file;
        int rc = open_segment(wal, segment, &file);
        if (rc != 0) {
            return rc;
        }
        if (!segment->is_linked) {
            rc = wal_segment_link(wal, segment, file, wal->segments[i + 1].sequence);
        } else {
            /* The LINK may exist only in the page cache. */
            rc = write_again(wal, file, segment->end - SECTOR_BYTES, segment->end);
            rc = rc == 0 ? ops->sync(wal->fs, file) : rc;
        }
        ops->close(wal->fs, file);
        if (rc != 0) {
            return rc;
        }
    }
    return 0;
}

static int remove_large_spare(struct wal *wal)
{
    char path[WAL_PATH_BYTES_MAX];
    int rc = wal_path(wal, "spare-large", path);
    if (rc == 0) {
        rc = wal->fs->ops->remove(wal->fs, path);
    }
    return rc == ERR_NOT_FOUND ? 0 : rc;
}

int wal_recover_finish(struct wal *wal, const struct wal_torn *torn)
{
    int rc = 0;
    if (wal->segment_count > 0) {
        rc = open_segment(wal, &wal->segments[wal->segment_count - 1], &wal->current_file);
        if (rc == 0 && torn->is_torn) {
            rc = zero_torn(wal, torn);
        }
        if (rc == 0 && wal->segments[wal->segment_count - 1].has_marks) {
            rc = write_again(wal, wal->current_file, SECTOR_BYTES, wal_frames_offset(true));
        }
        /* A process that was killed, or that ended after a failed sync, may leave frames in the
         * page cache that are not on disk. They count from now on, so they are made durable first.
         * That is at most the last frame, and the zeros after it. */
        if (rc == 0) {
            rc = write_again(wal, wal->current_file, torn->last_frame,
                             wal->segments[wal->segment_count - 1].size);
        }
        if (rc == 0) {
            rc = wal->fs->ops->sync(wal->fs, wal->current_file);
        }
        if (rc == 0) {
            rc = wal->fs->ops->sync_dir(wal->fs, wal->dir);
        }
        if (rc == 0) {
            rc = complete_links(wal);
        }
        if (rc == 0) {
            rc = wal_segment_remove_below(wal, wal->floor.segment);
        }
        if (rc == 0 && !wal->has_begun) {
            wal_note_mended(wal, "begun");
            rc = wal_begun_make(wal);
        }
    }
    if (rc == 0) {
        rc = remove_large_spare(wal);
    }
    if (rc == 0) {
        rc = wal_spare_adopt(wal);
    }
    return rc;
}
