/* Proposes commands, and keeps the requests that wait for their entries. */
#ifndef RAFTOGRAM_DRIVER_PROPOSE_H
#define RAFTOGRAM_DRIVER_PROPOSE_H

#include "driver/node.h"

/* Bytes proposed in one turn, unless its first command alone is larger. They must fit in one frame
 * of the log. The simulator builds with smaller limits, here and in raft.h and snapshot.h. */
#ifndef NODE_PROPOSE_BYTES_MAX
#define NODE_PROPOSE_BYTES_MAX (1u << 20)
#endif
/* Bytes proposed by one leader and not applied yet; further commands wait. So entries in flight
 * still find room when the disks of a majority become full. */
#ifndef NODE_PENDING_BYTES_MAX
#define NODE_PENDING_BYTES_MAX (2u << 20)
#endif
/* Cost of an entry besides its command: it may need a frame of its own. */
#define NODE_PENDING_ENTRY_BYTES 1024u

struct node_proposals {
    raft_term term;        /* term of the last proposal */
    raft_index index;      /* index of the last proposal */
    uint64_t cost;         /* cost proposed since the term began, in bytes */
    uint64_t applied_cost; /* cost of those that were applied, in bytes */
};

/* Proposes or forwards waiting commands, and asks for read indexes. */
void node_push_requests(struct node *node);
/* Returns the earliest time at which waiting commands can go: 0 is now, UINT64_MAX if it depends on
 * more than time. */
uint64_t node_push_ns(const struct node *node);
/* Completes the request of the entry at `index` with `term`, which was applied with this result. */
void node_entry_applied(struct node *node, raft_index index, raft_term term,
                        const struct command_result *result);
/* Ends pending requests after a snapshot has replaced the entries up to `index`: their outcome is
 * unknown. Entries after `index` are gone. */
void node_drop_pending(struct node *node, raft_index index, raft_term term);

#endif
