/* `raftogram -dump-log`: prints the log in readable form, damage included. Writes nothing to the
 * log. */
#include "storage/wal_internal.h"

#include "base/errors.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <unistd.h>

/* Longest line; the description of an entry may be longer and is cut. */
#define LINE_BYTES_MAX (1u << 20)

struct dump {
    struct wal wal; /* only fs and dir are set, for the paths */
    wal_describe_fn describe;
    int fd;
    struct buf line;
    struct buf body;
    uint8_t *data;
    uint64_t size;
};

/* Writes the line out and empties it. */
static int flush_line(struct dump *dump)
{
    buf_append_byte(&dump->line, '\n');
    size_t done = 0;
    while (done < dump->line.size) {
        ssize_t count = write(dump->fd, dump->line.data + done, dump->line.size - done);
        if (count < 0 && errno == EINTR) {
            continue;
        }
        if (count <= 0) {
            return ERR_IO;
        }
        done += (size_t)count;
    }
    buf_reset(&dump->line);
    return 0;
}

static void print_hex(struct buf *out, const uint8_t *data, size_t size)
{
    for (size_t i = 0; i < size; i++) {
        buf_printf(out, "%02x", data[i]);
    }
}

static void print_record(struct dump *dump, const struct wal_record *record)
{
    struct buf *line = &dump->line;
    const struct wal_hard_state *state = &record->hard_state;
    switch (record->kind) {
    case RECORD_ENTRY:
        buf_printf(line, "    entry %" PRIu64 " term %" PRIu64 " type %u, %zu bytes",
                   record->entry.index, record->entry.term, record->entry.type,
                   record->entry.data.size);
        if (!wal_record_entry_is_sound((const uint8_t *)dump->body.data + record->offset,
                                       &record->entry)) {
            buf_append_text(line, ", CHECKSUM WRONG");
        }
        if (dump->describe != NULL) {
            buf_append_text(line, ": ");
            dump->describe(&record->entry, line);
        }
        break;
    case RECORD_HARD_STATE:
        buf_printf(line,
                   "    hard state: term %" PRIu64 ", voted for \"%s\", incarnation %016" PRIx64
                   ", %s, cluster ",
                   state->term, state->voted_for, state->incarnation,
                   state->is_recovering ? "recovering" : "whole");
        print_hex(line, state->cluster_id, sizeof(state->cluster_id));
        break;
    case RECORD_FLOOR:
        buf_printf(
            line, "    the log begins after index %" PRIu64 " term %" PRIu64 ", in log-%016" PRIx64,
            record->floor.index, record->floor.term, record->floor.segment);
        break;
    }
}

static const char *verdict_text(enum frame_verdict verdict)
{
    switch (verdict) {
    case FRAME_OK:
        return "whole";
    case FRAME_STAINED:
        return "DAMAGED around a whole body";
    case FRAME_UNWRITTEN:
        return "UNFINISHED (some sectors were never written)";
    case FRAME_BAD:
        break;
    }
    return "DAMAGED";
}

/* Prints the frame at `offset`, and its records if it is whole. */
static int print_frame(struct dump *dump, uint64_t offset, const struct frame_header *header)
{
    if (header->kind == FRAME_LINK) {
        buf_printf(&dump->line, "  %8" PRIu64 " link to log-%016" PRIx64, offset, header->sequence);
        return flush_line(dump);
    }
    enum frame_verdict verdict = FRAME_BAD;
    buf_reset(&dump->body);
    if (wal_frame_bytes(header->body_bytes) <= dump->size - offset) {
        uint8_t *body = buf_extend(&dump->body, header->body_bytes + 1);
        if (body == NULL) {
            return ERR_NOMEM;
        }
        dump->body.size = header->body_bytes;
        verdict = wal_frame_body_decode(header, dump->data + offset, body);
    }
    buf_printf(&dump->line, "  %8" PRIu64 " frame %" PRIu64 "%s, %u bytes, %s", offset,
               header->sequence, header->flags & FRAME_IS_START ? " (start)" : "",
               header->body_bytes, verdict_text(verdict));
    if (header->entry_first != 0) {
        buf_printf(&dump->line, ", entries %" PRIu64 "..%" PRIu64, header->entry_first,
                   header->entry_last);
    }
    int rc = flush_line(dump);
    struct wal_record record;
    uint32_t at = 0;
    while (rc == 0 && verdict <= FRAME_STAINED &&
           wal_record_next(buf_bytes(&dump->body), &at, &record) == 1) {
        print_record(dump, &record);
        rc = flush_line(dump);
    }
    return rc;
}

/* Prints the sectors from `offset` on that hold no frame. Returns the offset where they end. */
static uint64_t print_no_frame(struct dump *dump, uint64_t offset)
{
    bool is_unwritten = wal_sector_is_zero(dump->data + offset);
    uint64_t end = offset;
    struct frame_header header;
    do {
        end += SECTOR_BYTES;
    } while (end < dump->size && wal_sector_is_zero(dump->data + end) == is_unwritten &&
             !wal_frame_header_decode(dump->data + end, &header));
    buf_printf(&dump->line, "  %8" PRIu64 " %" PRIu64 " bytes %s", offset, end - offset,
               is_unwritten ? "never written" : "that are NO VALID FRAME");
    return end;
}

static int print_marks(struct dump *dump)
{
    int rc = 0;
    for (uint64_t offset = SECTOR_BYTES; rc == 0 && offset < wal_frames_offset(true);
         offset += SECTOR_BYTES) {
        struct wal_mark mark;
        if (offset + SECTOR_BYTES <= dump->size && wal_mark_decode(dump->data + offset, &mark)) {
            buf_printf(&dump->line, "  %8" PRIu64 " mark: frame %" PRIu64 " is durable", offset,
                       mark.sequence);
        } else {
            buf_printf(&dump->line, "  %8" PRIu64 " mark DAMAGED", offset);
        }
        rc = flush_line(dump);
    }
    return rc;
}

static int print_frames(struct dump *dump, bool has_marks)
{
    uint64_t offset = wal_frames_offset(has_marks);
    int rc = has_marks ? print_marks(dump) : 0;
    while (rc == 0 && offset < dump->size) {
        struct frame_header header;
        if (wal_frame_header_decode(dump->data + offset, &header)) {
            rc = print_frame(dump, offset, &header);
            offset += wal_frame_bytes(header.body_bytes);
        } else {
            offset = print_no_frame(dump, offset);
            rc = flush_line(dump);
        }
    }
    return rc;
}

static int load(struct dump *dump, uint64_t sequence)
{
    struct fs *fs = dump->wal.fs;
    char path[WAL_PATH_BYTES_MAX];
    struct fs_file *file;
    int rc = wal_segment_path(&dump->wal, sequence, path);
    if (rc == 0) {
        rc = fs->ops->open(fs, path, FS_OPEN_READ, &file);
    }
    if (rc != 0) {
        return rc;
    }
    free(dump->data);
    dump->data = NULL;
    rc = fs->ops->size(fs, file, &dump->size);
    if (rc == 0) {
        dump->size = dump->size < WAL_SEGMENT_BYTES_MAX ? dump->size : WAL_SEGMENT_BYTES_MAX;
        dump->size -= dump->size % SECTOR_BYTES;
        dump->data = malloc(dump->size + 1);
        rc = dump->data == NULL ? ERR_NOMEM : 0;
    }
    if (rc == 0) {
        rc = fs->ops->read_at(fs, file, 0, dump->data, dump->size);
    }
    fs->ops->close(fs, file);
    return rc;
}

static int print_segment(struct dump *dump, uint64_t sequence)
{
    int rc = load(dump, sequence);
    if (rc != 0) {
        return rc;
    }
    struct segment_header header;
    bool has_marks = true;
    buf_printf(&dump->line, "log-%016" PRIx64 ": %" PRIu64 " bytes", sequence, dump->size);
    if (dump->size < SECTOR_BYTES || !wal_segment_header_decode(dump->data, &header)) {
        buf_append_text(&dump->line, ", HEADER DAMAGED");
    } else {
        has_marks = header.version > WAL_VERSION_WITHOUT_MARKS;
        buf_printf(&dump->line, ", format %u", header.version);
        if (header.sequence != sequence) {
            buf_printf(&dump->line, ", RENAMED from log-%016" PRIx64, header.sequence);
        }
        if (header.size != dump->size) {
            buf_printf(&dump->line, ", WRONG SIZE, was %" PRIu64, header.size);
        }
        if (header.version > WAL_FORMAT_VERSION) {
            rc = flush_line(dump);
            return rc != 0 ? rc : ERR_VERSION;
        }
    }
    rc = flush_line(dump);
    return rc != 0 ? rc : print_frames(dump, has_marks);
}

/* Prints the last line: the verdict of wal_open(). */
static int print_verdict(struct dump *dump)
{
    static const char *const names[] = {
        [WAL_NEW] = "new",
        [WAL_CLEAN] = "clean",
        [WAL_TORN] = "torn",
        [WAL_DAMAGED] = "damaged",
    };
    struct wal_report report;
    struct wal_torn torn;
    int rc = wal_recover_scan(&dump->wal, &report, &torn);
    if (rc != 0) {
        return rc;
    }
    buf_printf(&dump->line, "%s: entries %" PRIu64 "..%" PRIu64, names[report.condition],
               wal_first_index(&dump->wal), wal_last_index(&dump->wal));
    if (report.condition == WAL_DAMAGED && report.damage_last == UINT64_MAX) {
        buf_printf(&dump->line, ", %" PRIu64 " and all above may be lost", report.damage_first);
    } else if (report.condition == WAL_DAMAGED) {
        buf_printf(&dump->line, ", %" PRIu64 "..%" PRIu64 " may be lost", report.damage_first,
                   report.damage_last);
    }
    if (report.description[0] != '\0') {
        buf_printf(&dump->line, " (%s)", report.description);
    }
    return flush_line(dump);
}

int wal_dump(struct fs *fs, const char *dir, wal_describe_fn describe, int fd)
{
    struct dump dump = {.wal = {.fs = fs, .dir = (char *)dir}, .describe = describe, .fd = fd};
    buf_init(&dump.line, LINE_BYTES_MAX);
    buf_init(&dump.body, WAL_BODY_BYTES_MAX + 1);

    uint64_t *sequences = NULL;
    size_t count = 0;
    int rc = wal_segment_list(&dump.wal, &sequences, &count);
    for (size_t i = 0; i < count && rc == 0; i++) {
        rc = print_segment(&dump, sequences[i]);
    }
    if (rc == 0) {
        rc = print_verdict(&dump);
    }
    free(sequences);
    free(dump.data);
    free(dump.wal.segments);
    wal_index_finish(&dump.wal.index);
    buf_finish(&dump.line);
    buf_finish(&dump.body);
    return rc;
}
