/* Declarations that the files of the log share. No other file includes this. In reading order:
 *
 *   wal_frame.c    bytes: sectors, frame headers, records
 *   wal_index.c    memory: where each entry is, and the newest payloads
 *   wal_segment.c  files: names, spare, roll, link, removal
 *   wal_recover.c  start-up: replay, torn or damaged
 *   wal.c          the public functions
 *   wal_dump.c     the log in readable form
 *
 * The format, version 2. All integers are little-endian.
 *
 * Segment: sector 0 is the segment header, sectors 1 and 2 are marks; frames follow, each beginning
 * at a sector; then zeros. Version 1 has no marks: its frames begin at sector 1. It is read, and
 * start-up continues in a new segment.
 * Frame: its first sector has the frame header, then the body begins. Each further sector is a mark
 * byte, derived from the frame's sequence and never zero, and 511 bytes of body. Zeros pad the
 * last. Body: records (wal_record_next()).
 *
 * A segment's first frame is a START: it has the floor and the whole hard state, and whatever the
 * commit that needed the new segment has staged. A full segment ends with a LINK, one sector that
 * names its successor.
 *
 * Steps that create a segment, so that a crash at any point leaves a clean log:
 *   1. `spare` is written full of zeros and synced. An incomplete spare is removed.
 *   2. header and START frame are written into it and synced, still under that name. So a
 *      file named log-… always has a whole first frame; without it, it is damaged, never torn.
 *   3. it is renamed to log-<sequence>; the directory is synced.
 *   4. the LINK is written into the old segment and synced. From now on a missing successor shows.
 *      A crash before this leaves a log without LINK, and wal_open() adds it.
 *   5. only now is the commit acknowledged.
 *
 * Zeros at the end of the log look as if nothing had been written there. So a mark, far from it,
 * names a frame that is durable: with each frame, under the same sync, goes the mark of the frame
 * before it, which a finished sync has covered; the last one is marked by wal_mark() soon after.
 * When the power fails, mark and frame may be there or not in any combination: what a mark says is
 * true in each. The mark of frame n is in sector 1 + n % 2, so that the one before it stays whole
 * while it is written. Fewer frames than a mark names are damage, and never "torn".
 *
 * Likewise for the other end: a FLOOR record, durable before any segment is removed, says which
 * segment is the first; so a missing first segment is detected too. The file `begun` says that a
 * segment has existed. */
#ifndef RAFTOGRAM_STORAGE_WAL_INTERNAL_H
#define RAFTOGRAM_STORAGE_WAL_INTERNAL_H

#include "storage/wal.h"

#define SECTOR_BYTES 512u
#define WAL_FORMAT_VERSION 2u
#define WAL_VERSION_WITHOUT_MARKS 1u
#define MARK_SECTORS 2u
#define FRAME_HEADER_BYTES 80u
#define BODY_BYTES_IN_FIRST_SECTOR (SECTOR_BYTES - FRAME_HEADER_BYTES)
#define BODY_BYTES_PER_SECTOR (SECTOR_BYTES - 1)
#define WAL_BODY_BYTES_MAX (512u << 20)
#define WAL_SEGMENT_BYTES_MAX (1u << 30)
#define WAL_SEGMENT_BYTES_MIN (8 * SECTOR_BYTES)
/* Room kept at the end of a segment; see wal_segment_fits(). */
#define FLOOR_RESERVE_BYTES SECTOR_BYTES
#define LINK_RESERVE_BYTES SECTOR_BYTES
#define WAL_SEGMENTS_MAX 65536u
#define WAL_PATH_BYTES_MAX 4096u
/* Indexes and sequences on disk are below this, so that adding to them cannot overflow. */
#define WAL_NUMBER_MAX (UINT64_C(1) << 62)

/* ---- wal_frame.c ---- */

enum frame_kind { FRAME_BATCH = 1, FRAME_LINK = 2 };
enum frame_flags { FRAME_HAS_HARD_STATE = 1, FRAME_IS_START = 2 };

/* Describes the frames before it, so that after their loss it is known what they held. */
struct frame_header {
    uint8_t kind;
    uint16_t flags;
    uint32_t body_bytes;
    uint64_t sequence; /* of a LINK: the successor's first sequence */
    uint64_t body_checksum;
    uint64_t entry_first;         /* the suffix that this frame replaces or appends; 0: none */
    uint64_t entry_last;          /* the log's last index after this frame */
    uint64_t previous_last;       /* the log's last index before it */
    uint64_t replaced_low;        /* the lowest index replaced by frames in [low_since, this) */
    uint64_t low_since;           /*   UINT64_MAX: none was */
    uint64_t hard_state_sequence; /* of the newest frame before this that has a hard state */
};

enum frame_verdict {
    FRAME_OK,
    FRAME_STAINED,   /* body whole, but marks or padding are wrong */
    FRAME_UNWRITTEN, /* body not whole, and some sector is all zeros */
    FRAME_BAD,       /* body not whole, all sectors written */
};

struct segment_header {
    uint32_t version;
    uint64_t sequence;
    uint64_t size;
};

/* A frame of this segment, or the one before its first, that is durable. */
struct wal_mark {
    uint64_t segment; /* its first sequence */
    uint64_t sequence;
};

/* The beginning of the log. */
struct wal_floor {
    uint64_t segment; /* first sequence of the first valid segment */
    uint64_t index;   /* the base: the index before the first entry, and its term */
    uint64_t term;
};

enum wal_record_kind { RECORD_ENTRY = 1, RECORD_HARD_STATE = 2, RECORD_FLOOR = 3 };

#define RECORD_HEAD_BYTES 8u
#define RECORD_ENTRY_HEAD_BYTES (RECORD_HEAD_BYTES + 24u)
#define RECORD_FLOOR_BYTES (RECORD_HEAD_BYTES + 24u)
#define RECORD_HARD_STATE_BYTES_MAX \
    (RECORD_HEAD_BYTES + 17u + CLUSTER_ID_BYTES + CLUSTER_NODE_ID_BYTES_MAX)

struct wal_record {
    enum wal_record_kind kind;
    uint32_t offset; /* in the body */
    struct wal_entry entry;
    struct wal_hard_state hard_state;
    struct wal_floor floor;
};

bool wal_sector_is_zero(const uint8_t *sector);
uint64_t wal_frame_bytes(uint64_t body_bytes);
/* Appends the sectors of the frame and fills in the header's body_bytes and body_checksum. Check
 * buf_failed(). */
void wal_frame_encode(struct frame_header *header, struct bytes body, struct buf *out);
/* True if `sector` is a valid first sector of a frame. */
bool wal_frame_header_decode(const uint8_t *sector, struct frame_header *out);
/* Decodes a frame of wal_frame_bytes() bytes. `body` gets header->body_bytes bytes. */
enum frame_verdict wal_frame_body_decode(const struct frame_header *header, const uint8_t *frame,
                                         uint8_t *body);
/* Computes the bytes [from, from + size) of the file that hold bytes [offset, offset + length) of
 * the body. */
void wal_frame_span(uint64_t offset, uint64_t length, uint64_t *from, uint64_t *size);
/* Copies bytes [offset, offset + length) of the body out of that span. */
void wal_frame_gather(const uint8_t *span, uint64_t offset, uint64_t length, uint8_t *out);

void wal_segment_header_encode(const struct segment_header *header, uint8_t *sector);
bool wal_segment_header_decode(const uint8_t *sector, struct segment_header *out);

void wal_mark_encode(const struct wal_mark *mark, uint8_t *sector);
bool wal_mark_decode(const uint8_t *sector, struct wal_mark *out);
uint64_t wal_mark_offset(uint64_t sequence);
/* Returns the offset of the first frame of a segment. */
uint64_t wal_frames_offset(bool has_marks);

void wal_record_append_entry(struct buf *out, const struct wal_entry *entry);
void wal_record_append_hard_state(struct buf *out, const struct wal_hard_state *state);
void wal_record_append_floor(struct buf *out, const struct wal_floor *floor);
/* Reads the record at *offset and advances *offset. Returns 1: one record; 0: the end; ERR_CORRUPT.
 * The record has views into `body`. The checksum of an entry is checked by
 * wal_record_entry_is_sound() only. */
int wal_record_next(struct bytes body, uint32_t *offset, struct wal_record *out);
bool wal_record_entry_is_sound(const uint8_t *record, const struct wal_entry *entry);

/* ---- wal_index.c ---- */

enum wal_slot_state { SLOT_DURABLE, SLOT_STAGED, SLOT_LOST };

struct wal_slot {
    uint64_t term;
    uint64_t segment; /* its first sequence */
    uint8_t *cached;  /* the payload, or NULL */
    uint32_t sector;  /* where the frame begins in the file */
    uint32_t offset;  /* of the record in the body; while staged: in `staged` */
    uint32_t length;  /* of the payload */
    uint8_t type;
    uint8_t state;
};

struct wal_index {
    struct wal_slot *slots; /* slots[head + i] is entry base + 1 + i */
    size_t head;
    size_t count;
    size_t capacity;
    uint64_t base;
    uint64_t base_term;
    uint64_t cached_first; /* entries from here on have their payload in memory */
    uint64_t cached_bytes;
};

uint64_t wal_index_last(const struct wal_index *index);
/* Returns NULL if the index is out of range. */
struct wal_slot *wal_index_at(const struct wal_index *index, uint64_t entry_index);
/* Makes room for one slot, so that wal_index_push() cannot fail. */
int wal_index_reserve(struct wal_index *index);
/* Takes ownership of slot->cached. */
void wal_index_push(struct wal_index *index, const struct wal_slot *slot);
void wal_index_truncate(struct wal_index *index, uint64_t last);
/* Removes the entries up to `base`, all of them if base is beyond the last. */
void wal_index_trim(struct wal_index *index, uint64_t base, uint64_t base_term);
/* Frees the oldest durable payloads until `bytes_max` suffices. */
void wal_index_evict(struct wal_index *index, uint64_t bytes_max);
void wal_index_finish(struct wal_index *index);

/* ---- wal_segment.c ---- */

struct wal_segment {
    uint64_t sequence;
    uint64_t size;
    uint64_t end; /* where the next frame goes */
    bool is_linked;
    bool has_marks;
};

/* What the header of the next frame says about the frames before it. */
struct wal_chain {
    uint64_t next_sequence;
    uint64_t replaced_low;
    uint64_t low_since;
    uint64_t hard_state_sequence;
};

struct wal {
    struct fs *fs;
    char *dir;
    uint32_t segment_bytes;
    uint32_t cache_bytes;

    struct wal_segment *segments; /* oldest first; the last is being written */
    size_t segment_count;
    struct fs_file *current_file; /* NULL until there is a segment, and when damaged */
    struct fs_file *reader_file;  /* the segment last read from, or NULL */
    uint64_t reader_sequence;
    uint64_t spare_bytes; /* 0: no spare */
    bool has_begun;       /* the file `begun` is there */

    struct wal_floor floor;
    struct wal_chain chain;
    struct wal_index index;
    uint64_t marked;         /* the newest frame that the last segment's marks name */
    uint64_t committed_last; /* the last index on disk; staged entries may have replaced it */
    uint64_t durable_last;

    struct wal_hard_state hard_state;
    bool is_hard_state_staged;
    struct buf staged; /* entry records */
    uint64_t staged_first;

    struct buf body;
    struct buf frame;
    struct buf read;

    bool is_damaged;
    bool has_failed;
    struct wal_report report;
    struct wal_stats stats;
};

/* The contents of a frame that will be written. */
struct wal_batch {
    bool has_floor;
    bool has_hard_state;
    struct bytes entries; /* records */
    uint64_t entry_first; /* 0: none */
    uint64_t entry_last;
};

/* The place of a written frame. */
struct wal_place {
    uint64_t segment;
    uint32_t sector;
    uint32_t entries_offset; /* where batch.entries begin in its body */
};

/* Updates the chain after `header` was written or replayed. */
void wal_chain_follow(struct wal_chain *chain, const struct frame_header *header);
/* -1 if `name` is not that of a segment. */
int wal_segment_parse_name(const char *name, uint64_t *sequence);
/* ERR_INVALID when it does not fit. */
int wal_segment_path(const struct wal *wal, uint64_t sequence, char *out);
int wal_path(const struct wal *wal, const char *name, char *out);
int wal_segment_list(const struct wal *wal, uint64_t **sequences, size_t *count);
int wal_segment_add(struct wal *wal, const struct wal_segment *segment);
/* Removes the files of all segments below `sequence`; syncs the directory. */
int wal_segment_remove_below(struct wal *wal, uint64_t sequence);
/* Writes the LINK of `segment` to `successor` and syncs. */
int wal_segment_link(struct wal *wal, struct wal_segment *segment, struct fs_file *file,
                     uint64_t successor);
/* True if the batch fits into the current segment, behind which two sectors are kept: one for a
 * FLOOR, so that a full disk can still be compacted; one for the LINK. A batch of a floor alone may
 * use the first of them. */
bool wal_segment_fits(const struct wal *wal, const struct wal_batch *batch);
/* Writes and syncs the mark of the last frame. */
int wal_segment_mark(struct wal *wal);
/* Writes and syncs the batch, into the current segment or into a new one. */
int wal_segment_append(struct wal *wal, const struct wal_batch *batch, struct wal_place *place);
/* Writes and syncs the batch into a new segment that begins with wal->floor. With `is_afresh`, the
 * floor's segment is set here: the older segments no longer count, and the caller removes them. */
int wal_segment_roll(struct wal *wal, const struct wal_batch *batch, bool is_afresh,
                     struct wal_place *place);
/* Returns the file to read segment `sequence` from. */
int wal_segment_reader(struct wal *wal, uint64_t sequence, struct fs_file **out);
void wal_segment_close_files(struct wal *wal);

int wal_spare_make(struct wal *wal);
/* Checks whether a spare of an earlier run is complete, and removes it if not. */
int wal_spare_adopt(struct wal *wal);
/* Notes in the report that a file was missing or incomplete and is created again. */
void wal_note_mended(struct wal *wal, const char *name);
int wal_begun_make(struct wal *wal);

/* ---- wal_recover.c ---- */

/* Reads the directory into `wal`, which is zeroed but for its options; writes nothing. */
struct wal_torn {
    bool is_torn;
    uint64_t from; /* in the last segment: begin of the unfinished bytes to zero */
    uint64_t to;
    uint64_t last_frame; /* offset of the last whole frame in the last segment */
};
int wal_recover_scan(struct wal *wal, struct wal_report *report, struct wal_torn *torn);
/* Completes what a crash has interrupted and makes all that was found durable. Not when damaged. */
int wal_recover_finish(struct wal *wal, const struct wal_torn *torn);

#endif
