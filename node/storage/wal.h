/* The Raft log on disk: entries and hard state, physically append-only, in pre-zeroed segments of a
 * fixed size. One wal_commit() writes one batch frame with one write and one fdatasync.
 *
 * Segments are files `log-<first frame sequence, 16 hex digits>` in `dir`. A segment is a sequence
 * of 512-byte sectors. Every sector of a written frame begins with a non-zero mark; every unwritten
 * sector is all zeros. So start-up can distinguish a frame that a power cut tore (some sector was
 * never written) from one that was damaged later (all sectors written, wrong checksum). A mark at
 * the head of the segment, written and synced with each frame, names the frame before it. So
 * start-up can distinguish an end that was lost later (zeros again) from one that was never
 * written. See wal_open().
 *
 * Threads: one owner (the node's thread). */
#ifndef RAFTOGRAM_STORAGE_WAL_H
#define RAFTOGRAM_STORAGE_WAL_H

#include "base/buf.h"
#include "base/cluster.h"
#include "storage/fs.h"

#include <stdbool.h>
#include <stdint.h>

#define WAL_ENTRY_BYTES_MAX (4u << 20) /* payload of one entry */
/* Bytes of an entry on disk besides its payload. */
#define WAL_ENTRY_OVERHEAD_BYTES 32

/* What a node must never forget besides its entries (Raft figure 2: currentTerm, votedFor), and the
 * identity of its data_dir. Written as a whole with each change, and at the head of each segment.
 */
struct wal_hard_state {
    uint64_t term;
    char voted_for[CLUSTER_NODE_ID_BYTES_MAX + 1]; /* node id; "" for none */
    uint64_t incarnation; /* random, not 0, once per life of the data_dir */
    /* Its data was damaged; it is not whole until it is admitted. */
    bool is_recovering;
    uint8_t cluster_id[CLUSTER_ID_BYTES]; /* all zero until the cluster is founded */
};

struct wal_entry {
    uint64_t index;
    uint64_t term;
    uint8_t type;      /* enum raft_entry_type; opaque here */
    struct bytes data; /* each function says who owns the memory */
};

struct wal_options {
    struct fs *fs;          /* must outlive the wal */
    const char *dir;        /* used by the log only; created if absent; copied */
    uint32_t segment_bytes; /* 0: 4 MiB; larger for a frame that would not fit */
    uint32_t cache_bytes;   /* 0: 8 MiB; payloads of the newest entries kept in memory */
};

/* What wal_open() found. */
enum wal_condition {
    WAL_NEW,     /* nothing was ever committed here */
    WAL_CLEAN,   /* everything is valid */
    WAL_TORN,    /* an unfinished last frame was cut off; none of it was acknowledged */
    WAL_DAMAGED, /* all other cases; the wal is open for reading what is left */
};

struct wal_report {
    enum wal_condition condition;
    bool has_hard_state;   /* DAMAGED: the newest hard state is certainly known */
    uint64_t damage_first; /* DAMAGED: lowest and highest index that may be lost; if last is */
    uint64_t damage_last;  /* UINT64_MAX, all from first on may be; both 0: nothing is lost */
    char description[512]; /* for a log line: file, offset, fault; "" if there is none */
    char mended[64];       /* files that were missing or incomplete without loss: "begun, spare" */
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

/* Views of the log. The hard state includes what is staged, and is valid until the next stage call.
 */
const struct wal_hard_state *wal_hard_state(const struct wal *wal);
/* Returns the first readable index; last + 1 if the log is empty. Starts at 1. */
uint64_t wal_first_index(const struct wal *wal);
/* Returns the last index, staged entries included; first - 1 if the log is empty. */
uint64_t wal_last_index(const struct wal *wal);
/* Returns the last index that wal_commit() has made durable. */
uint64_t wal_durable_index(const struct wal *wal);
/* Returns the term at `index`, also for first - 1 (the base); 0 if out of range. */
uint64_t wal_term(const struct wal *wal, uint64_t index);
/* Returns the largest last such that [first, last] has at most `bytes_max` of payload and last <=
 * `last_max`; at least `first`. `bytes` gets the size of that payload. */
uint64_t wal_fit(const struct wal *wal, uint64_t first, uint64_t last_max, uint64_t bytes_max,
                 uint64_t *bytes);
uint64_t wal_bytes(const struct wal *wal); /* on disk */

/* Staging collects what the next wal_commit() writes. An entry must be at last + 1, or at an
 * existing index: then it replaces that entry and all later ones. The data is copied.
 * Errors: ERR_NOMEM, ERR_INVALID (too long, a gap). */
int wal_stage_entry(struct wal *wal, const struct wal_entry *entry);
int wal_stage_hard_state(struct wal *wal, const struct wal_hard_state *state);
bool wal_has_staged(const struct wal *wal);
uint64_t wal_staged_bytes(const struct wal *wal);

/* Writes and syncs everything that is staged; with nothing staged it succeeds. After any error
 * the process must end (the caller logs and exits): the state of the disk is unknown. Errors:
 * ERR_IO, ERR_NO_SPACE (cannot happen while wal_has_room()), ERR_NOMEM. */
int wal_commit(struct wal *wal);

/* True if the last commit is marked. The next commit or wal_mark() marks it. Until then, the loss
 * of its frame alone would look like an unfinished write. */
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

/* Reads the entry at `index`, also a staged one. Its checksum is verified if it comes from the
 * disk. `out->data` is valid until the next call of any function of this wal. In a damaged log,
 * entries known to be lost are ERR_CORRUPT (and wal_term() is 0), although first and last index
 * span them. Errors: ERR_NOT_FOUND, ERR_CORRUPT, ERR_IO, ERR_NOMEM. */
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

/* Prints the log in `dir` in readable form, one line for each frame and entry, damage included. The
 * last line is the verdict of wal_open(). Changes nothing. `describe` (may be NULL) turns an entry
 * into text. Errors: ERR_NOT_FOUND (no such directory), ERR_IO, ERR_VERSION, ERR_NOMEM. */
typedef void (*wal_describe_fn)(const struct wal_entry *entry, struct buf *out);
int wal_dump(struct fs *fs, const char *dir, wal_describe_fn describe, int fd);

#endif
