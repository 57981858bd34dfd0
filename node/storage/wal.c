/* The public functions of the log: staging, commit, reading, compaction, reset. */
#include "storage/wal_internal.h"

#include "base/check.h"
#include "base/clock.h"
#include "base/errors.h"

#include <stdlib.h>
#include <string.h>

#define SEGMENT_BYTES_DEFAULT (4u << 20)
#define CACHE_BYTES_DEFAULT (8u << 20)
/* Capacity above which working buffers are freed after a large frame. */
#define BUFFER_BYTES_KEPT (8u << 20)

/* ---- open and close ---- */

static struct wal *wal_create(const struct wal_options *options)
{
    struct wal *wal = calloc(1, sizeof(*wal));
    if (wal == NULL) {
        return NULL;
    }
    wal->dir = strdup(options->dir);
    if (wal->dir == NULL) {
        free(wal);
        return NULL;
    }
    uint32_t size = options->segment_bytes == 0 ? SEGMENT_BYTES_DEFAULT : options->segment_bytes;
    size = size < WAL_SEGMENT_BYTES_MIN ? WAL_SEGMENT_BYTES_MIN : size;
    size = size > WAL_SEGMENT_BYTES_MAX ? WAL_SEGMENT_BYTES_MAX : size;
    wal->fs = options->fs;
    wal->segment_bytes = size - size % SECTOR_BYTES;
    wal->cache_bytes = options->cache_bytes == 0 ? CACHE_BYTES_DEFAULT : options->cache_bytes;
    wal->chain = (struct wal_chain){
        .next_sequence = 1,
        .replaced_low = UINT64_MAX,
        .low_since = 1,
    };
    wal->index.cached_first = 1;
    buf_init(&wal->staged, WAL_BODY_BYTES_MAX);
    buf_init(&wal->body, WAL_BODY_BYTES_MAX);
    buf_init(&wal->frame, WAL_SEGMENT_BYTES_MAX);
    buf_init(&wal->read, 3 * WAL_ENTRY_BYTES_MAX);
    return wal;
}

void wal_close(struct wal *wal)
{
    if (wal == NULL) {
        return;
    }
    wal_segment_close_files(wal);
    wal_index_finish(&wal->index);
    free(wal->segments);
    buf_finish(&wal->staged);
    buf_finish(&wal->body);
    buf_finish(&wal->frame);
    buf_finish(&wal->read);
    free(wal->dir);
    free(wal);
}

/* Starts a new segment if there is room, because a segment of format version 1 has no marks. */
static int leave_old_format(struct wal *wal)
{
    if (wal->segment_count == 0 || wal->segments[wal->segment_count - 1].has_marks ||
        wal->spare_bytes == 0) {
        return 0;
    }
    struct wal_batch nothing = {0};
    struct wal_place place;
    int rc = wal_segment_roll(wal, &nothing, false, &place);
    if (rc == 0) {
        rc = wal_maintain(wal);
        rc = rc == ERR_NO_SPACE ? 0 : rc;
    }
    return rc;
}

int wal_open(const struct wal_options *options, struct wal **out, struct wal_report *report)
{
    memset(report, 0, sizeof(*report)); /* also on error, since the caller may show it */
    struct wal *wal = wal_create(options);
    if (wal == NULL) {
        return ERR_NOMEM;
    }
    struct wal_torn torn;
    int rc = wal->fs->ops->make_dir(wal->fs, wal->dir);
    if (rc == 0) {
        rc = wal_recover_scan(wal, &wal->report, &torn);
    }
    if (rc == 0 && wal->report.condition == WAL_DAMAGED) {
        wal->is_damaged = true;
    } else if (rc == 0) {
        rc = wal_recover_finish(wal, &torn);
        if (rc == 0) {
            rc = wal_maintain(wal);
            /* A full disk does not prevent the start; wal_has_room() reports it. */
            rc = rc == ERR_NO_SPACE ? 0 : rc;
        }
        if (rc == 0) {
            rc = leave_old_format(wal);
        }
    }
    *report = wal->report;
    if (rc != 0) {
        wal_close(wal);
        return rc;
    }
    *out = wal;
    return 0;
}

/* ---- views ---- */

const struct wal_hard_state *wal_hard_state(const struct wal *wal)
{
    return &wal->hard_state;
}

uint64_t wal_first_index(const struct wal *wal)
{
    return wal->index.base + 1;
}

uint64_t wal_last_index(const struct wal *wal)
{
    return wal_index_last(&wal->index);
}

uint64_t wal_durable_index(const struct wal *wal)
{
    return wal->durable_last;
}

uint64_t wal_term(const struct wal *wal, uint64_t index)
{
    if (index == wal->index.base) {
        return wal->index.base_term;
    }
    const struct wal_slot *slot = wal_index_at(&wal->index, index);
    return slot == NULL ? 0 : slot->term;
}

uint64_t wal_fit(const struct wal *wal, uint64_t first, uint64_t last_max, uint64_t bytes_max,
                 uint64_t *bytes)
{
    uint64_t last = first;
    const struct wal_slot *slot = wal_index_at(&wal->index, first);
    *bytes = slot == NULL ? 0 : slot->length;
    while (last < last_max) {
        slot = wal_index_at(&wal->index, last + 1);
        if (slot == NULL || *bytes + slot->length > bytes_max) {
            break;
        }
        *bytes += slot->length;
        last++;
    }
    return last;
}

uint64_t wal_bytes(const struct wal *wal)
{
    uint64_t bytes = wal->spare_bytes;
    for (size_t i = 0; i < wal->segment_count; i++) {
        bytes += wal->segments[i].size;
    }
    return bytes;
}

void wal_get_stats(const struct wal *wal, struct wal_stats *out)
{
    *out = wal->stats;
}

/* ---- staging ---- */

/* Copies the payload. The copy of an empty one is not NULL. */
static uint8_t *copy_payload(struct bytes data)
{
    uint8_t *copy = malloc(data.size + 1);
    if (copy != NULL && data.size > 0) {
        memcpy(copy, data.data, data.size);
    }
    return copy;
}

int wal_stage_entry(struct wal *wal, const struct wal_entry *entry)
{
    if (entry->data.size > WAL_ENTRY_BYTES_MAX || entry->index < wal_first_index(wal) ||
        entry->index > wal_last_index(wal) + 1) {
        return ERR_INVALID;
    }
    int rc = wal_index_reserve(&wal->index);
    if (rc != 0) {
        return rc;
    }
    uint8_t *copy = copy_payload(entry->data);
    if (copy == NULL) {
        return ERR_NOMEM;
    }
    struct wal_entry copied = *entry;
    copied.data.data = copy;
    uint32_t offset = (uint32_t)wal->staged.size;
    wal_record_append_entry(&wal->staged, &copied);
    if (buf_failed(&wal->staged)) {
        wal->staged.failed = false;
        free(copy);
        return ERR_NOMEM;
    }
    wal_index_truncate(&wal->index, entry->index - 1);
    struct wal_slot slot = {
        .term = entry->term,
        .cached = copy,
        .offset = offset,
        .length = (uint32_t)entry->data.size,
        .type = entry->type,
        .state = SLOT_STAGED,
    };
    wal_index_push(&wal->index, &slot);
    if (wal->staged_first == 0 || entry->index < wal->staged_first) {
        wal->staged_first = entry->index;
    }
    if (wal->durable_last >= entry->index) {
        wal->durable_last = entry->index - 1;
    }
    return 0;
}

int wal_stage_hard_state(struct wal *wal, const struct wal_hard_state *state)
{
    if (memchr(state->voted_for, '\0', sizeof(state->voted_for)) == NULL) {
        return ERR_INVALID;
    }
    wal->hard_state = *state;
    wal->is_hard_state_staged = true;
    return 0;
}

bool wal_has_staged(const struct wal *wal)
{
    return wal->is_hard_state_staged || wal->staged.size > 0;
}

uint64_t wal_staged_bytes(const struct wal *wal)
{
    return wal->staged.size + (wal->is_hard_state_staged ? RECORD_HARD_STATE_BYTES_MAX : 0);
}

/* ---- commit ---- */

static void give_back(struct buf *buf)
{
    if (buf->capacity > BUFFER_BYTES_KEPT) {
        size_t max_bytes = buf->max_bytes;
        buf_finish(buf);
        buf_init(buf, max_bytes);
    }
}

/* Updates index and chain: what was staged is now on disk at `place`. */
static void settle(struct wal *wal, const struct wal_place *place)
{
    if (wal->staged_first != 0) {
        for (uint64_t i = wal->staged_first; i <= wal_last_index(wal); i++) {
            struct wal_slot *slot = wal_index_at(&wal->index, i);
            slot->segment = place->segment;
            slot->sector = place->sector;
            slot->offset += place->entries_offset;
            slot->state = SLOT_DURABLE;
        }
    }
    wal->staged_first = 0;
    wal->is_hard_state_staged = false;
    wal->committed_last = wal_last_index(wal);
    wal->durable_last = wal->committed_last;
    buf_reset(&wal->staged);
    give_back(&wal->staged);
    give_back(&wal->body);
    give_back(&wal->frame);
    wal_index_evict(&wal->index, wal->cache_bytes);
}

static struct wal_batch staged_batch(const struct wal *wal)
{
    return (struct wal_batch){
        .has_hard_state = wal->is_hard_state_staged,
        .entries = buf_bytes(&wal->staged),
        .entry_first = wal->staged_first,
        .entry_last = wal_last_index(wal),
    };
}

int wal_commit(struct wal *wal)
{
    CHECK(!wal->is_damaged);
    CHECK(!wal->has_failed);
    if (!wal_has_staged(wal)) {
        return 0;
    }
    uint64_t begin = clock_monotonic_ns(clock_system());
    struct wal_batch batch = staged_batch(wal);
    struct wal_place place;
    int rc = wal_segment_append(wal, &batch, &place);
    if (rc != 0) {
        wal->has_failed = true;
        return rc;
    }
    settle(wal, &place);
    wal->stats.commits++;
    wal->stats.last_commit_ns = clock_monotonic_ns(clock_system()) - begin;
    return 0;
}

bool wal_is_marked(const struct wal *wal)
{
    return wal->is_damaged || wal->has_failed || wal->segment_count == 0 ||
           !wal->segments[wal->segment_count - 1].has_marks ||
           wal->marked + 1 >= wal->chain.next_sequence;
}

int wal_mark(struct wal *wal)
{
    if (wal_is_marked(wal)) {
        return 0;
    }
    int rc = wal_segment_mark(wal);
    wal->has_failed = rc != 0;
    return rc;
}

bool wal_has_room(const struct wal *wal, uint64_t bytes)
{
    uint64_t body = bytes + RECORD_FLOOR_BYTES + RECORD_HARD_STATE_BYTES_MAX;
    uint64_t needed = wal_frame_bytes(body) + FLOOR_RESERVE_BYTES + LINK_RESERVE_BYTES;
    if (wal->segment_count > 0) {
        const struct wal_segment *current = &wal->segments[wal->segment_count - 1];
        if (current->end + needed <= current->size) {
            return true;
        }
    }
    return wal_frames_offset(true) + needed <= wal->spare_bytes;
}

int wal_maintain(struct wal *wal)
{
    if (wal->is_damaged || wal->spare_bytes != 0) {
        return 0;
    }
    return wal_spare_make(wal);
}

/* ---- reading ---- */

static int read_from_disk(struct wal *wal, uint64_t index, const struct wal_slot *slot,
                          struct wal_entry *out)
{
    struct fs_file *file;
    int rc = wal_segment_reader(wal, slot->segment, &file);
    if (rc != 0) {
        return rc == ERR_NOT_FOUND ? ERR_CORRUPT : rc;
    }
    uint64_t length = RECORD_ENTRY_HEAD_BYTES + slot->length;
    uint64_t from;
    uint64_t size;
    wal_frame_span(slot->offset, length, &from, &size);

    buf_reset(&wal->read);
    give_back(&wal->read);
    uint8_t *record = buf_extend(&wal->read, length + size);
    if (record == NULL) {
        return ERR_NOMEM;
    }
    uint8_t *span = record + length;
    rc = wal->fs->ops->read_at(wal->fs, file, (uint64_t)slot->sector * SECTOR_BYTES + from, span,
                               size);
    if (rc != 0) {
        return rc;
    }
    wal_frame_gather(span, slot->offset, length, record);

    struct wal_record decoded;
    uint32_t offset = 0;
    int count = wal_record_next((struct bytes){record, length}, &offset, &decoded);
    if (count != 1 || decoded.kind != RECORD_ENTRY ||
        !wal_record_entry_is_sound(record, &decoded.entry) || decoded.entry.index != index ||
        decoded.entry.term != slot->term || decoded.entry.type != slot->type ||
        decoded.entry.data.size != slot->length) {
        return ERR_CORRUPT;
    }
    *out = decoded.entry;
    return 0;
}

int wal_read(struct wal *wal, uint64_t index, struct wal_entry *out)
{
    const struct wal_slot *slot = wal_index_at(&wal->index, index);
    if (slot == NULL) {
        return ERR_NOT_FOUND;
    }
    if (slot->state == SLOT_LOST) {
        return ERR_CORRUPT;
    }
    if (slot->cached == NULL) {
        return read_from_disk(wal, index, slot, out);
    }
    *out = (struct wal_entry){
        .index = index,
        .term = slot->term,
        .type = slot->type,
        .data = {slot->cached, slot->length},
    };
    return 0;
}

/* ---- the beginning ---- */

/* Returns the highest index in a segment below `sequence`; the base if there is none. */
static uint64_t last_index_below(const struct wal *wal, uint64_t sequence)
{
    uint64_t low = 0; /* entries known to be below: the first `low` ones */
    uint64_t high = wal->index.count;
    /* Segments only grow along the log, since a suffix is replaced by newer entries. */
    while (low < high) {
        uint64_t middle = low + (high - low) / 2;
        if (wal_index_at(&wal->index, wal->index.base + 1 + middle)->segment < sequence) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return wal->index.base + low;
}

/* Part of it is done, so the error must not mean "nothing has changed". */
static int fail(struct wal *wal, int rc)
{
    wal->has_failed = true;
    return rc == ERR_NO_SPACE || rc == ERR_NOMEM ? ERR_IO : rc;
}

/* What is left now is removed by the next removal or start. */
static int remove_old(struct wal *wal)
{
    int rc = wal_segment_remove_below(wal, wal->floor.segment);
    return rc == 0 || rc == ERR_NO_SPACE || rc == ERR_NOMEM ? 0 : fail(wal, rc);
}

/* Starts a new segment if the current one holds entries that are no longer needed, so that a later
 * compaction can remove it. */
static int begin_segment(struct wal *wal)
{
    struct wal_batch nothing = {0};
    struct wal_place place;
    int rc = wal_maintain(wal);
    if (rc == ERR_NO_SPACE) {
        return 0; /* the current segment is kept */
    }
    if (rc == 0) {
        rc = wal_segment_roll(wal, &nothing, false, &place);
        rc = rc == 0 ? 0 : fail(wal, rc);
    }
    return rc;
}

int wal_compact(struct wal *wal, uint64_t index)
{
    CHECK(!wal->is_damaged);
    CHECK(!wal->has_failed);
    /* Staged entries may hide older ones that a crash would bring back. A new segment would also
     * have a hard state that is not committed. */
    if (wal_has_staged(wal) || wal->segment_count == 0) {
        return 0;
    }
    size_t keep = 0;
    uint64_t base = wal->index.base;
    while (keep + 1 < wal->segment_count) {
        uint64_t last = last_index_below(wal, wal->segments[keep + 1].sequence);
        if (last > index) {
            break;
        }
        base = last;
        keep++;
    }
    int rc = 0;
    if (keep + 1 == wal->segment_count && base < index) {
        rc = begin_segment(wal);
    }
    if (rc != 0 || keep == 0) {
        return rc;
    }
    struct wal_batch batch = {.has_floor = true};
    rc = wal_segment_fits(wal, &batch) ? 0 : wal_maintain(wal);
    if (rc != 0) {
        return rc;
    }
    wal->floor = (struct wal_floor){
        .segment = wal->segments[keep].sequence,
        .index = base,
        .term = wal_term(wal, base),
    };
    struct wal_place place;
    rc = wal_segment_append(wal, &batch, &place);
    if (rc != 0) {
        return fail(wal, rc);
    }
    wal_index_trim(&wal->index, base, wal->floor.term);
    return remove_old(wal);
}

/* Starts a segment that begins after (index, term) and holds what is staged. Removes the older
 * segments. */
static int begin_afresh(struct wal *wal, uint64_t index, uint64_t term)
{
    wal->floor.index = index;
    wal->floor.term = term;
    wal->committed_last = index;
    struct wal_batch batch = staged_batch(wal);
    struct wal_place place;
    int rc = wal_segment_roll(wal, &batch, true, &place);
    if (rc != 0) {
        return fail(wal, rc);
    }
    settle(wal, &place);
    return remove_old(wal);
}

int wal_reset(struct wal *wal, uint64_t index, uint64_t term)
{
    CHECK(!wal->is_damaged);
    CHECK(!wal->has_failed);
    int rc = wal_maintain(wal);
    if (rc != 0) {
        return rc;
    }
    buf_reset(&wal->staged);
    wal->staged_first = 0;
    wal_index_truncate(&wal->index, wal->index.base);
    wal_index_trim(&wal->index, index, term);
    return begin_afresh(wal, index, term);
}

/* True if every entry above `index` can be read. Later read errors are new damage. */
static bool is_readable_above(struct wal *wal, uint64_t index)
{
    for (uint64_t i = index + 1; i <= wal_last_index(wal); i++) {
        struct wal_entry entry;
        if (wal_read(wal, i, &entry) != 0) {
            return false;
        }
    }
    return true;
}

/* Copies the entries above the base into `staged`, as if they had just been staged. */
static int stage_all(struct wal *wal)
{
    for (uint64_t i = wal_first_index(wal); i <= wal_last_index(wal); i++) {
        struct wal_entry entry;
        int rc = wal_read(wal, i, &entry);
        if (rc != 0) {
            return rc;
        }
        uint32_t offset = (uint32_t)wal->staged.size;
        wal_record_append_entry(&wal->staged, &entry);
        if (buf_failed(&wal->staged)) {
            return ERR_NOMEM;
        }
        wal_index_at(&wal->index, i)->offset = offset;
    }
    wal->staged_first = wal->index.count > 0 ? wal_first_index(wal) : 0;
    return 0;
}

int wal_drop_damaged_prefix(struct wal *wal, uint64_t durable_applied, uint64_t base_term)
{
    CHECK(wal->is_damaged);
    CHECK(!wal->has_failed);
    const struct wal_report *report = &wal->report;
    uint64_t term = wal_term(wal, durable_applied);
    if (!report->has_hard_state || report->damage_last > durable_applied ||
        durable_applied < wal->index.base || (term != 0 && term != base_term) ||
        !is_readable_above(wal, durable_applied)) {
        return ERR_INVALID;
    }
    int rc = wal_spare_adopt(wal);
    if (rc == 0) {
        wal_index_trim(&wal->index, durable_applied, base_term);
        rc = stage_all(wal);
    }
    if (rc == 0) {
        rc = begin_afresh(wal, durable_applied, base_term);
    }
    if (rc != 0) {
        wal->has_failed = true;
        return rc;
    }
    wal->is_damaged = false;
    return 0;
}
