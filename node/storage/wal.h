/* The Raft log on disk: entries and hard state, physically append-only, in pre-zeroed segments of a
 * fixed size. One wal_commit() is one batch frame: one write and one fdatasync.
 *
 * Segments are files `log-<first frame sequence, 16 hex digits>` in `dir`. A segment is a row of
 * 512-byte sectors. Every sector of a written frame begins with a non-zero mark, every unwritten
 * one is all zeros; so at start-up a frame that the power cut tore (some sector never written) can
 * be told from one that was damaged afterwards (all written, wrong checksum). And a mark at the
 * segment's head, written and synced with each frame, names the frame before it, so that an end
 * that was lost later (zeros again) can be told from one that was never written. See wal_open().
 *
 * Threads: one owner (the node thread). */
#ifndef RAFTOGRAM_STORAGE_WAL_H
#define RAFTOGRAM_STORAGE_WAL_H

#include "base/buf.h"
#include "base/cluster.h"
#include "storage/fs.h"

#include <stdbool.h>
#include <stdint.h>

#define WAL_ENTRY_BYTES_MAX (4u << 20) /* payload of one entry */
/* What an entry takes on disk besides its payload. */
#define WAL_ENTRY_OVERHEAD_BYTES 32

/* All that a node must never forget besides its entries (Raft figure 2: currentTerm, votedFor), and
 * the identity of its data_dir. Written whole with each change, and at the head of each segment. */
struct wal_hard_state {
    uint64_t term;
    char voted_for[CLUSTER_NODE_ID_BYTES_MAX + 1]; /* node id; "" for none */
    uint64_t incarnation;                 /* random, not 0, once per life of the data_dir */
    bool is_recovering;                   /* its data was damaged: not fresh, not whole */
    uint8_t cluster_id[CLUSTER_ID_BYTES]; /* all zero until the cluster is founded */
};

struct wal_entry {
    uint64_t index;
    uint64_t term;
    uint8_t type;      /* enum raft_entry_type; opaque here */
    struct bytes data; /* where it lives is said by each function */
};

struct wal_options {
    struct fs *fs;          /* must outlive the wal */
    const char *dir;        /* the log's alone; made when absent; copied */
    uint32_t segment_bytes; /* 0: 4 MiB; grows for a frame that would not fit */
    uint32_t cache_bytes;   /* 0: 8 MiB; payloads of the newest entries kept in memory */
};

/* What wal_open() found. */
enum wal_condition {
    WAL_NEW,     /* nothing was ever committed here */
    WAL_CLEAN,   /* all valid */
    WAL_TORN,    /* an unfinished last frame was cut off: nothing of it was ever acknowledged */
    WAL_DAMAGED, /* anything else; the wal is open read-only with what could be read */
};

struct wal_report {
    enum wal_condition condition;
    bool has_hard_state;   /* DAMAGED: the newest hard state is known for certain */
    uint64_t damage_first; /* DAMAGED: lowest and highest index that may be lost; last is */
    uint64_t damage_last;  /*   UINT64_MAX: all from first on may be; both 0: nothing is lost */
    char description[512]; /* for the log: which file, where, what; "" when there is nothing */
    char mended[64]; /* files that were missing or not whole and cost nothing: "begun, spare" */
};

struct wal;

/* Opens or creates the log. A bad last frame is torn, and cut off, only if no valid frame
 * follows it, some sector of it still has its never-written state, and no mark says that it was
 * once durable. Everything else is damage: fully written with a wrong checksum, fewer frames
 * than are marked, a short segment, a missing successor, a missing file. A log of an older
 * format is converted. A damaged log is opened for reading only (wal_commit() CHECKs); the
 * caller may call wal_drop_damaged_prefix() or start with an empty log. `report` is also filled
 * in on error. Errors: those of fs, ERR_VERSION (a newer format). */
int wal_open(const struct wal_options *options, struct wal **out, struct wal_report *report);
void wal_close(struct wal *wal);

/* For damage at or below `durable_applied`, which the store has: makes the log begin at
 * durable_applied + 1 (base term `base_term`) and writable again. Later entries are copied into
 * a new segment and the old ones removed, atomically in a crash. Damage that lost nothing (a
 * wrong header, for example) is accepted wherever the log ends. Errors: ERR_INVALID if the
 * damage reaches further or the hard state is not known for certain: nothing has changed;
 * ERR_IO, ERR_NO_SPACE, ERR_NOMEM: as wal_commit(). */
int wal_drop_damaged_prefix(struct wal *wal, uint64_t durable_applied, uint64_t base_term);

/* Views. The hard state includes what is staged; valid until the next stage call. */
const struct wal_hard_state *wal_hard_state(const struct wal *wal);
/* The first index that can be read; last + 1 when the log is empty. Starts at 1. */
uint64_t wal_first_index(const struct wal *wal);
/* The last index, staged entries included; first - 1 when empty. */
uint64_t wal_last_index(const struct wal *wal);
/* The last index that wal_commit() has made durable. */
uint64_t wal_durable_index(const struct wal *wal);
/* The term at `index`, for first - 1 (the base) too; 0 when out of range. */
uint64_t wal_term(const struct wal *wal, uint64_t index);
/* The largest last such that [first, last] has at most `bytes_max` of payload and ends at
 * `last_max` at most; at least `first`. `bytes` gets that payload. */
uint64_t wal_fit(const struct wal *wal, uint64_t first, uint64_t last_max, uint64_t bytes_max,
                 uint64_t *bytes);
uint64_t wal_bytes(const struct wal *wal); /* on disk */

/* Staging collects what the next wal_commit() writes. An entry must be at last + 1, or at an index
 * that exists: then it replaces that and everything behind. Data is copied.
 * Errors: ERR_NOMEM, ERR_INVALID (too long, a gap). */
int wal_stage_entry(struct wal *wal, const struct wal_entry *entry);
int wal_stage_hard_state(struct wal *wal, const struct wal_hard_state *state);
bool wal_has_staged(const struct wal *wal);
uint64_t wal_staged_bytes(const struct wal *wal);

/* Writes and syncs everything that is staged; with nothing staged it succeeds. After any error
 * the process must end (the caller logs and exits): the state of the disk is unknown. Errors:
 * ERR_IO, ERR_NO_SPACE (cannot happen while wal_has_room()), ERR_NOMEM. */
int wal_commit(struct wal *wal);

/* True if the last commit is marked. The next commit marks it, or wal_mark(). Until then the
 * loss of its frame alone would look like an unfinished write. */
bool wal_is_marked(const struct wal *wal);
/* Marks the last commit: one write and one sync. Call it when idle, and before closing. Errors:
 * as wal_commit(). */
int wal_mark(struct wal *wal);

/* True if the next frame of up to `bytes`, counted as wal_staged_bytes() does (payload and
 * WAL_ENTRY_OVERHEAD_BYTES for each entry), fits into the pre-zeroed space that is there already
 * (the current segment or the spare). The spare is made in wal_open() and wal_maintain(). */
bool wal_has_room(const struct wal *wal, uint64_t bytes);
/* Creates the spare segment if it is missing, outside a commit: call it when idle or after
 * replies were sent. Errors: ERR_NO_SPACE (try again later), ERR_IO. */
int wal_maintain(struct wal *wal);

/* The entry at `index`, staged ones included; its checksum is verified when it comes from the disk.
 * `out->data` is valid until the next call of any function of this wal. In a damaged log the
 * entries known to be lost are ERR_CORRUPT (and wal_term() is 0), though first and last index span
 * them. Errors: ERR_NOT_FOUND, ERR_CORRUPT, ERR_IO, ERR_NOMEM. */
int wal_read(struct wal *wal, uint64_t index, struct wal_entry *out);

/* Removes whole segments whose entries all lie at or below `index`; other entries at or below it
 * stay. If `index` is in the current segment, a new segment is started, so that a later call can
 * remove it. Does nothing while entries are staged. Works at least once on a full disk. Errors:
 * ERR_NO_SPACE (nothing has changed; try again later); others as wal_commit(). */
int wal_compact(struct wal *wal, uint64_t index);
/* Removes all entries, staged ones too, and begins at index + 1 after (index, term): a snapshot
 * was installed. Durable on return. The hard state is kept, and a staged one is durable too.
 * Errors: ERR_NO_SPACE (nothing has changed); others as wal_commit(). */
int wal_reset(struct wal *wal, uint64_t index, uint64_t term);

/* Counts since open. */
struct wal_stats {
    uint64_t commits;
    uint64_t
        last_commit_ns; /* the last wal_commit(), nearly all of it fdatasync; for the histogram */
    uint64_t bytes_written;
};
void wal_get_stats(const struct wal *wal, struct wal_stats *out);

/* Prints the log in `dir` for a person, one line a frame and an entry, damage included; the last
 * line is what wal_open() would say of it. Changes nothing. `describe` (may be NULL) turns an entry
 * into text. Errors: ERR_NOT_FOUND (no such directory), ERR_IO, ERR_VERSION, ERR_NOMEM. */
typedef void (*wal_describe_fn)(const struct wal_entry *entry, struct buf *out);
int wal_dump(struct fs *fs, const char *dir, wal_describe_fn describe, int fd);

#endif
