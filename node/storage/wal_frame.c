/* The bytes of the log: segment headers, frames as sectors, records in bodies. No files. */
#include "storage/wal_internal.h"

#include "base/check.h"
#include "base/checksum.h"
#include "base/errors.h"

#include <assert.h>
#include <string.h>

/* A frame's first byte. Other sectors of a frame begin with the two high bits set, so that no
 * payload can ever look like a frame header. */
#define HEADER_MARK 0x46u
#define HEADER_CHECKSUM_OFFSET 72u

static_assert(HEADER_CHECKSUM_OFFSET + 8 == FRAME_HEADER_BYTES, "the checksum ends the header");

static const uint8_t segment_magic[8] = {'R', 'G', 'W', 'A', 'L', '\r', '\n', 0x1a};
#define SEGMENT_CHECKSUM_OFFSET (SECTOR_BYTES - 8)
static const uint8_t mark_magic[8] = {'R', 'G', 'M', 'A', 'R', 'K', '\r', '\n'};
#define MARK_CHECKSUM_OFFSET (SECTOR_BYTES - 8)

bool wal_sector_is_zero(const uint8_t *sector)
{
    static const uint8_t zeros[SECTOR_BYTES];
    return memcmp(sector, zeros, SECTOR_BYTES) == 0;
}

/* At least two bits are set. Otherwise a flipped bit could make a sector of a payload of zeros look
 * unwritten. */
static uint8_t mark_of(uint64_t sequence)
{
    return (uint8_t)(0xc0u | (sequence & 0x3fu));
}

uint64_t wal_frame_bytes(uint64_t body_bytes)
{
    uint64_t sectors = 1;
    if (body_bytes > BODY_BYTES_IN_FIRST_SECTOR) {
        uint64_t rest = body_bytes - BODY_BYTES_IN_FIRST_SECTOR;
        sectors += (rest + BODY_BYTES_PER_SECTOR - 1) / BODY_BYTES_PER_SECTOR;
    }
    return sectors * SECTOR_BYTES;
}

static void header_encode(const struct frame_header *header, uint8_t *sector)
{
    sector[0] = HEADER_MARK;
    sector[1] = header->kind;
    store_u16(sector + 2, header->flags);
    store_u32(sector + 4, header->body_bytes);
    store_u64(sector + 8, header->sequence);
    store_u64(sector + 16, header->body_checksum);
    store_u64(sector + 24, header->entry_first);
    store_u64(sector + 32, header->entry_last);
    store_u64(sector + 40, header->previous_last);
    store_u64(sector + 48, header->replaced_low);
    store_u64(sector + 56, header->low_since);
    store_u64(sector + 64, header->hard_state_sequence);
    store_u64(sector + HEADER_CHECKSUM_OFFSET, checksum64(sector, HEADER_CHECKSUM_OFFSET));
}

void wal_frame_encode(struct frame_header *header, struct bytes body, struct buf *out)
{
    CHECK(body.size <= WAL_BODY_BYTES_MAX);
    header->body_bytes = (uint32_t)body.size;
    header->body_checksum = checksum64(body.data, body.size);

    uint8_t *sector = buf_extend(out, wal_frame_bytes(body.size));
    if (sector == NULL) {
        return;
    }
    const uint8_t *from = body.data;
    size_t left = body.size;
    size_t head = FRAME_HEADER_BYTES;
    header_encode(header, sector);
    for (;;) {
        size_t room = SECTOR_BYTES - head;
        size_t part = left < room ? left : room;
        if (part > 0) {
            memcpy(sector + head, from, part);
            from += part;
            left -= part;
        }
        if (left == 0) {
            memset(sector + head + part, 0, room - part);
            return;
        }
        sector += SECTOR_BYTES;
        sector[0] = mark_of(header->sequence);
        head = 1;
    }
}

bool wal_frame_header_decode(const uint8_t *sector, struct frame_header *out)
{
    if (sector[0] != HEADER_MARK ||
        load_u64(sector + HEADER_CHECKSUM_OFFSET) != checksum64(sector, HEADER_CHECKSUM_OFFSET)) {
        return false;
    }
    struct frame_header header = {
        .kind = sector[1],
        .flags = load_u16(sector + 2),
        .body_bytes = load_u32(sector + 4),
        .sequence = load_u64(sector + 8),
        .body_checksum = load_u64(sector + 16),
        .entry_first = load_u64(sector + 24),
        .entry_last = load_u64(sector + 32),
        .previous_last = load_u64(sector + 40),
        .replaced_low = load_u64(sector + 48),
        .low_since = load_u64(sector + 56),
        .hard_state_sequence = load_u64(sector + 64),
    };
    if ((header.kind != FRAME_BATCH && header.kind != FRAME_LINK) ||
        (header.kind == FRAME_LINK && header.body_bytes != 0) ||
        header.body_bytes > WAL_BODY_BYTES_MAX || header.sequence == 0 ||
        header.sequence > WAL_NUMBER_MAX || header.entry_last > WAL_NUMBER_MAX ||
        header.previous_last > WAL_NUMBER_MAX) {
        return false;
    }
    *out = header;
    return true;
}

static bool is_all_zero(const uint8_t *data, size_t size)
{
    for (size_t i = 0; i < size; i++) {
        if (data[i] != 0) {
            return false;
        }
    }
    return true;
}

enum frame_verdict wal_frame_body_decode(const struct frame_header *header, const uint8_t *frame,
                                         uint8_t *body)
{
    bool has_unwritten = false;
    bool is_stained = false;
    size_t left = header->body_bytes;
    uint8_t *to = body;
    uint64_t size = wal_frame_bytes(header->body_bytes);

    for (uint64_t at = 0; at < size; at += SECTOR_BYTES) {
        const uint8_t *sector = frame + at;
        size_t head = at == 0 ? FRAME_HEADER_BYTES : 1;
        size_t room = SECTOR_BYTES - head;
        size_t part = left < room ? left : room;
        if (at != 0 && sector[0] != mark_of(header->sequence)) {
            is_stained = true;
            has_unwritten |= wal_sector_is_zero(sector);
        }
        if (part > 0) {
            memcpy(to, sector + head, part);
            to += part;
            left -= part;
        }
        is_stained |= !is_all_zero(sector + head + part, room - part);
    }
    if (checksum64(body, header->body_bytes) != header->body_checksum) {
        return has_unwritten ? FRAME_UNWRITTEN : FRAME_BAD;
    }
    /* A sector whose mark and body are all zero, in a body that is whole without it: a payload of
     * zeros was torn. It must not count as written. */
    if (has_unwritten) {
        return FRAME_UNWRITTEN;
    }
    return is_stained ? FRAME_STAINED : FRAME_OK;
}

void wal_frame_span(uint64_t offset, uint64_t length, uint64_t *from, uint64_t *size)
{
    uint64_t end = wal_frame_bytes(offset + length);
    /* Returns the sector that holds byte `offset` of the body. */
    *from = wal_frame_bytes(offset + 1) - SECTOR_BYTES;
    *size = end - *from;
}

void wal_frame_gather(const uint8_t *span, uint64_t offset, uint64_t length, uint8_t *out)
{
    size_t at;
    if (offset < BODY_BYTES_IN_FIRST_SECTOR) {
        at = FRAME_HEADER_BYTES + offset;
    } else {
        at = 1 + (offset - BODY_BYTES_IN_FIRST_SECTOR) % BODY_BYTES_PER_SECTOR;
    }
    while (length > 0) {
        size_t room = SECTOR_BYTES - at;
        size_t part = length < room ? length : room;
        memcpy(out, span + at, part);
        out += part;
        length -= part;
        span += SECTOR_BYTES;
        at = 1;
    }
}

void wal_segment_header_encode(const struct segment_header *header, uint8_t *sector)
{
    memset(sector, 0, SECTOR_BYTES);
    memcpy(sector, segment_magic, sizeof(segment_magic));
    store_u32(sector + 8, header->version);
    store_u64(sector + 16, header->sequence);
    store_u64(sector + 24, header->size);
    store_u64(sector + SEGMENT_CHECKSUM_OFFSET, checksum64(sector, SEGMENT_CHECKSUM_OFFSET));
}

bool wal_segment_header_decode(const uint8_t *sector, struct segment_header *out)
{
    /* Magic, version and checksum have the same place in every version. */
    if (memcmp(sector, segment_magic, sizeof(segment_magic)) != 0 ||
        load_u64(sector + SEGMENT_CHECKSUM_OFFSET) != checksum64(sector, SEGMENT_CHECKSUM_OFFSET)) {
        return false;
    }
    *out = (struct segment_header){
        .version = load_u32(sector + 8),
        .sequence = load_u64(sector + 16),
        .size = load_u64(sector + 24),
    };
    return true;
}

void wal_mark_encode(const struct wal_mark *mark, uint8_t *sector)
{
    memset(sector, 0, SECTOR_BYTES);
    memcpy(sector, mark_magic, sizeof(mark_magic));
    store_u64(sector + 8, mark->segment);
    store_u64(sector + 16, mark->sequence);
    store_u64(sector + MARK_CHECKSUM_OFFSET, checksum64(sector, MARK_CHECKSUM_OFFSET));
}

bool wal_mark_decode(const uint8_t *sector, struct wal_mark *out)
{
    if (memcmp(sector, mark_magic, sizeof(mark_magic)) != 0 ||
        load_u64(sector + MARK_CHECKSUM_OFFSET) != checksum64(sector, MARK_CHECKSUM_OFFSET)) {
        return false;
    }
    *out = (struct wal_mark){load_u64(sector + 8), load_u64(sector + 16)};
    return out->sequence <= WAL_NUMBER_MAX;
}

uint64_t wal_mark_offset(uint64_t sequence)
{
    return (1 + sequence % MARK_SECTORS) * SECTOR_BYTES;
}

uint64_t wal_frames_offset(bool has_marks)
{
    return has_marks ? (1 + MARK_SECTORS) * SECTOR_BYTES : SECTOR_BYTES;
}

/* Every record: u8 kind, u8 entry type, u16 zero, u32 number of the bytes that follow these eight.
 */
static uint8_t *record_begin(struct buf *out, enum wal_record_kind kind, uint8_t type,
                             uint32_t length)
{
    uint8_t *record = buf_extend(out, RECORD_HEAD_BYTES + length);
    if (record == NULL) {
        return NULL;
    }
    record[0] = (uint8_t)kind;
    record[1] = type;
    store_u16(record + 2, 0);
    store_u32(record + 4, length);
    return record + RECORD_HEAD_BYTES;
}

static uint64_t entry_checksum(const uint8_t *record, const void *data, size_t size)
{
    uint64_t head = checksum64(record, RECORD_HEAD_BYTES + 16);
    return checksum64_seed(head, data, size);
}

void wal_record_append_entry(struct buf *out, const struct wal_entry *entry)
{
    CHECK(entry->data.size <= WAL_ENTRY_BYTES_MAX);
    uint32_t length = (uint32_t)entry->data.size;
    uint8_t *fields = record_begin(out, RECORD_ENTRY, entry->type, 24 + length);
    if (fields == NULL) {
        return;
    }
    store_u64(fields, entry->index);
    store_u64(fields + 8, entry->term);
    if (length > 0) {
        memcpy(fields + 24, entry->data.data, length);
    }
    store_u64(fields + 16, entry_checksum(fields - RECORD_HEAD_BYTES, fields + 24, length));
}

void wal_record_append_hard_state(struct buf *out, const struct wal_hard_state *state)
{
    size_t name = strlen(state->voted_for);
    CHECK(name <= CLUSTER_NODE_ID_BYTES_MAX);
    uint32_t length = (uint32_t)(17 + CLUSTER_ID_BYTES + name);
    uint8_t *fields = record_begin(out, RECORD_HARD_STATE, 0, length);
    if (fields == NULL) {
        return;
    }
    store_u64(fields, state->term);
    store_u64(fields + 8, state->incarnation);
    fields[16] = state->is_recovering ? 1 : 0;
    memcpy(fields + 17, state->cluster_id, CLUSTER_ID_BYTES);
    memcpy(fields + 17 + CLUSTER_ID_BYTES, state->voted_for, name);
}

void wal_record_append_floor(struct buf *out, const struct wal_floor *floor)
{
    uint8_t *fields = record_begin(out, RECORD_FLOOR, 0, 24);
    if (fields == NULL) {
        return;
    }
    store_u64(fields, floor->segment);
    store_u64(fields + 8, floor->index);
    store_u64(fields + 16, floor->term);
}

static int decode_hard_state(const uint8_t *fields, uint32_t length, struct wal_hard_state *out)
{
    if (length < 17 + CLUSTER_ID_BYTES ||
        length > 17 + CLUSTER_ID_BYTES + CLUSTER_NODE_ID_BYTES_MAX) {
        return ERR_CORRUPT;
    }
    memset(out, 0, sizeof(*out));
    out->term = load_u64(fields);
    out->incarnation = load_u64(fields + 8);
    out->is_recovering = fields[16] != 0;
    memcpy(out->cluster_id, fields + 17, CLUSTER_ID_BYTES);
    memcpy(out->voted_for, fields + 17 + CLUSTER_ID_BYTES, length - 17 - CLUSTER_ID_BYTES);
    return 1;
}

static int decode_entry(const uint8_t *record, uint32_t length, struct wal_entry *out)
{
    if (length < 24 || length - 24 > WAL_ENTRY_BYTES_MAX) {
        return ERR_CORRUPT;
    }
    const uint8_t *fields = record + RECORD_HEAD_BYTES;
    out->type = record[1];
    out->index = load_u64(fields);
    out->term = load_u64(fields + 8);
    out->data = (struct bytes){fields + 24, length - 24};
    return out->index == 0 || out->index > WAL_NUMBER_MAX ? ERR_CORRUPT : 1;
}

int wal_record_next(struct bytes body, uint32_t *offset, struct wal_record *out)
{
    size_t left = body.size - *offset;
    if (left == 0) {
        return 0;
    }
    if (left < RECORD_HEAD_BYTES) {
        return ERR_CORRUPT;
    }
    const uint8_t *record = (const uint8_t *)body.data + *offset;
    const uint8_t *fields = record + RECORD_HEAD_BYTES;
    uint32_t length = load_u32(record + 4);
    if (length > left - RECORD_HEAD_BYTES) {
        return ERR_CORRUPT;
    }
    out->kind = record[0];
    out->offset = *offset;
    *offset += RECORD_HEAD_BYTES + length;
    switch (out->kind) {
    case RECORD_ENTRY:
        return decode_entry(record, length, &out->entry);
    case RECORD_HARD_STATE:
        return decode_hard_state(fields, length, &out->hard_state);
    case RECORD_FLOOR:
        if (length != 24) {
            return ERR_CORRUPT;
        }
        out->floor =
            (struct wal_floor){load_u64(fields), load_u64(fields + 8), load_u64(fields + 16)};
        return out->floor.index > WAL_NUMBER_MAX ? ERR_CORRUPT : 1;
    }
    return ERR_CORRUPT;
}

bool wal_record_entry_is_sound(const uint8_t *record, const struct wal_entry *entry)
{
    return load_u64(record + RECORD_HEAD_BYTES + 16) ==
           entry_checksum(record, entry->data.data, entry->data.size);
}
