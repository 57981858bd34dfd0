/* Opens the data_dir of a node, and repairs or sets aside what is damaged, before the node runs. */
#ifndef RAFTOGRAM_BOOT_H
#define RAFTOGRAM_BOOT_H

#include "base/clock.h"
#include "chat/chat.h"
#include "storage/data_dir.h"
#include "storage/wal.h"
#include "store/store.h"

#include <stdbool.h>
#include <stdint.h>

struct boot_options {
    const char *data_dir;
    const char *node_id;
    bool is_alone;                 /* a cluster of one: no other node has a copy */
    struct store_kind *store_kind; /* must outlive the boot */
    /* Set by the simulator. If zeroed: the real file system, clock and randomness. */
    struct fs *fs;
    const struct clock *clock;
    uint32_t log_segment_bytes;
    uint64_t (*new_incarnation)(void *context); /* never 0 */
    void *context;
};

/* The open parts of the data_dir. The caller owns them until boot_close(). */
struct boot {
    struct data_dir dir;
    struct wal *wal;
    struct store *store; /* as of the start; an installed snapshot gives the chat another one */
    struct chat *chat;
    uint64_t incarnation;
};

/* Opens the data_dir. On error `error` gets one line: path, reason, remedy. A failed open owes no
 * close.
 *
 * Damage is handled by where it is:
 * - In the log, at or below durable_applied: that part of the log is dropped.
 * - Elsewhere in the log: the log is set aside, and the node recovers under a new incarnation.
 * - In the store, with the whole log present: the store is set aside and the log is replayed.
 * - In the store, with part of the log gone, or if log and store do not fit together: both are set
 *   aside.
 * - In a cluster of one: the start is refused.
 *
 * An installation of a snapshot that a crash interrupted is completed.
 * Errors: those of data_dir_open(), wal_open() and store_kind.open(); ERR_CORRUPT in a cluster of
 * one. */
int boot_open(const struct boot_options *options, struct boot *boot, char *error,
              size_t error_size);
void boot_close(struct boot *boot);

#endif
