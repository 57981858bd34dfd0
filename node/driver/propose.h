/* Proposing commands, and the requests that wait for their entries. */
#ifndef RAFTOGRAM_DRIVER_PROPOSE_H
#define RAFTOGRAM_DRIVER_PROPOSE_H

#include "driver/node.h"

/* Of one turn, unless its first command alone is larger: it must fit in one frame of the log. The
 * simulator builds with smaller bounds, here and in raft.h and snapshot.h. */
#ifndef NODE_PROPOSE_BYTES_MAX
#define NODE_PROPOSE_BYTES_MAX (1u << 20)
#endif
/* Proposed and not applied yet, by one leader: more wait. So what is on its way when the disks of a
 * majority fill up still finds room there. */
#ifndef NODE_PENDING_BYTES_MAX
#define NODE_PENDING_BYTES_MAX (2u << 20)
#endif
#define NODE_PENDING_ENTRY_BYTES 1024u /* of an entry besides its command: the frame of its own */

struct node_proposals {
    raft_term term;        /* when this node proposed last, */
    raft_index index;      /* the last entry then, */
    uint64_t cost;         /* and the cost of all since it began; */
    uint64_t applied_cost; /* of those that were applied */
};

/* Proposes or forwards what waits, asks for read indexes. */
void node_push_requests(struct node *node);
/* When what waits may go at the earliest, as far as only time is missing: 0 is now, UINT64_MAX when
 * it is not a matter of time. */
uint64_t node_push_ns(const struct node *node);
/* The entry at `index` with `term` was applied with this result. */
void node_entry_applied(struct node *node, raft_index index, raft_term term,
                        const struct command_result *result);
/* A snapshot has taken the place of the entries up to `index`: nobody knows any more which. Those
 * behind it are gone. */
void node_drop_pending(struct node *node, raft_index index, raft_term term);

#endif
