/* Opens what a node has on disk, and decides what to do about damage before anything runs. */
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
    bool is_alone;                 /* a cluster of one: there is nobody to recover from */
    struct store_kind *store_kind; /* must outlive the boot */
    /* The simulator's; zeroed: the real file system, clock and randomness. */
    struct fs *fs;
    const struct clock *clock;
    uint32_t log_segment_bytes;
    uint64_t (*new_incarnation)(void *context); /* never 0 */
    void *context;
};

/* Everything that is open. */
struct boot {
    struct data_dir dir;
    struct wal *wal;
    struct store *store; /* at start; the chat may have got another since */
    struct chat *chat;
    uint64_t incarnation;
};

/* On error `error` gets one line: path, reason, remedy. A failed open owes no close.
 *
 * Damage: in the log at or below what the store has durably: that prefix is dropped. Else in the
 * log: it is set aside, and the node comes back with a new incarnation as a recovering one. In the
 * store with the whole log at hand: the store is set aside and the log replayed; without: both are
 * set aside, and so they are when they do not fit together. Alone: refused. An installation of a
 * snapshot that a crash has interrupted is finished.
 * Errors: those of data_dir_open(), wal_open(), store_kind.open(); ERR_CORRUPT when alone. */
int boot_open(const struct boot_options *options, struct boot *boot, char *error,
              size_t error_size);
void boot_close(struct boot *boot);

#endif
