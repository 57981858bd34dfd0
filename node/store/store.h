/* The durable state behind the overlay, as a vtable: LMDB (lmdb.h) or memory
 * (tests/lib/store_memory.h). Rows that are stored for long carry checksums.
 *
 * Threads: commits come from one thread only (the store thread). A read transaction is used by
 * one thread at a time; many may be open. Views that a read returns are valid until the next
 * call on the same read transaction.
 *
 * Errors of reads: ERR_NOT_FOUND, ERR_CORRUPT (a wrong checksum, or a required row is missing),
 * ERR_NOMEM, ERR_IO. read_begin() also returns ERR_FULL if too many reads are open. */
#ifndef RAFTOGRAM_STORE_STORE_H
#define RAFTOGRAM_STORE_STORE_H

#include "base/buf.h"
#include "base/cluster.h"
#include "store/message.h"

#include <stdbool.h>
#include <stdint.h>

#define STORE_ID_BYTES_MAX 256             /* of a channel, an author, a message; of a key */
#define STORE_NAME_BYTES_MAX 1024          /* of a channel */
#define STORE_PAYLOAD_BYTES_MAX (3u << 20) /* of a message; of a key's value */
#define STORE_CONFIG_BYTES_MAX 2560
/* The state as of one log index. All zero in a new store. */
struct store_meta {
    uint64_t applied_index;
    uint64_t applied_term;
    uint64_t result_hash; /* rolling hash over all applied results: the same on every node */
    /* Rolling hash over everything that entries after content_from have written: the same on all
     * nodes that started at content_from. */
    uint64_t content_hash;
    uint64_t content_from;
    uint8_t cluster_id[CLUSTER_ID_BYTES];
    uint64_t channel_count;
    uint64_t message_count;
    uint64_t value_count;
    uint32_t config_size; /* membership as the driver encoded it: opaque here */
    uint8_t config[STORE_CONFIG_BYTES_MAX];
};

struct store_channel {
    uint64_t number; /* the log index that created it; orders messages in the store */
    struct bytes id;
    struct bytes name;
    uint64_t last_sequence; /* 0: empty */
    int64_t last_timestamp_ms;
};

struct store_message {
    uint64_t channel_number;
    struct message *message;
};

struct store_value {
    struct bytes key;
    struct bytes value;
    bool is_deleted;
};

/* One generation of changes. Arrays are sorted: channels by id, messages by (channel number,
 * sequence), values by key (bytewise). A message with a client id adds its dedupe row itself. */
struct store_batch {
    const struct store_channel *channels; /* new or changed, whole rows */
    size_t channel_count;
    const struct store_message *messages; /* new */
    size_t message_count;
    const struct store_value *values; /* new, changed or deleted */
    size_t value_count;
    const struct store_meta *meta; /* with the counts after the batch */
};

struct store_stats {
    uint64_t bytes_used;
    uint64_t bytes_max;
    uint64_t last_commit_ns;
    uint64_t commits;
};

struct store;
struct store_read;

struct store_ops {
    void (*close)(struct store *store);
    int (*read_begin)(struct store *store, struct store_read **out);
    void (*read_end)(struct store_read *read);
    int (*read_meta)(struct store_read *read, struct store_meta *out);
    int (*get_channel)(struct store_read *read, struct bytes id, struct store_channel *out);
    /* The first channel with an id >= `from`, or > `from` when is_exclusive. */
    int (*seek_channel)(struct store_read *read, struct bytes from, bool is_exclusive,
                        struct store_channel *out);
    /* The message with the sequence after `after_sequence` (sequences have no gaps); a new
     * reference. */
    int (*next_message)(struct store_read *read, uint64_t channel_number, uint64_t after_sequence,
                        struct message **out);
    /* The sequence of the channel's message with this client id. The id is compared with the
     * message itself, so that hash collisions are resolved. */
    int (*get_dedupe)(struct store_read *read, uint64_t channel_number, struct bytes client_id,
                      uint64_t *out_sequence);
    int (*get_value)(struct store_read *read, struct bytes key, struct bytes *out);
    int (*seek_value)(struct store_read *read, struct bytes from, bool is_exclusive,
                      struct bytes *out_key, struct bytes *out_value);
    /* All or nothing; durable on return. Errors: ERR_NO_SPACE (disk or map full) and ERR_NOMEM:
     * nothing changed, try again later. ERR_CORRUPT: nothing changed, and a retry fails too.
     * ERR_IO: the process must end. */
    int (*commit)(struct store *store, const struct store_batch *batch);
    void (*get_stats)(struct store *store, struct store_stats *out);
};

struct store {
    const struct store_ops *ops;
};

/* Where a store's file is, and what is known about it. */
struct store_place {
    const char *dir;   /* created if absent */
    const char *home;  /* where the file will be renamed to: marks are left there, and messages name
                          it; created if absent; NULL: `dir` */
    bool is_untrusted; /* a received file: all of it is checked before it is used */
};

/* A kind of store: LMDB (store_lmdb_kind_init()), or the simulator's. Chosen once, by the program.
 * Any thread, except where a function says otherwise. */
struct store_kind {
    /* Errors: ERR_VERSION, ERR_CORRUPT, ERR_IO, ERR_ACCESS, ERR_NO_SPACE, ERR_NOMEM. `error` gets
     * one line that names the file and the reason. */
    int (*open)(struct store_kind *kind, const struct store_place *place, struct store **out,
                char *error, size_t error_size);
    /* Makes a durable copy at `path` of the newest commit, or of a newer one. Commits go on
     * meanwhile. After an error there is no file.
     * Errors: ERR_NO_SPACE, ERR_IO, ERR_CLOSED (cancelled). */
    int (*copy)(struct store_kind *kind, struct store *store, const char *path);
    /* Soon ends the copy that is being made, and every later one: before the program ends. */
    void (*cancel_copies)(struct store_kind *kind);
    /* Verifies up to `rows_max` rows from where the last call stopped; `is_done`: a pass over all
     * rows is complete. One thread a store: the one that commits, or the only user.
     * Errors: ERR_CORRUPT, ERR_IO. */
    int (*scrub)(struct store *store, uint64_t rows_max, bool *is_done);
    /* Marks the store as possibly damaged: the next open checks all of it. */
    void (*mark_suspect)(struct store *store);
    /* Marks contents that differ from those of the other nodes: the next open is ERR_CORRUPT.
     * Errors: ERR_IO, ERR_NO_SPACE. */
    int (*mark_outvoted)(struct store *store);
};

#endif
