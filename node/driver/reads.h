/* Read barriers: requests that wait for a read index, and then for apply to reach it. */
#ifndef RAFTOGRAM_DRIVER_READS_H
#define RAFTOGRAM_DRIVER_READS_H

#include "driver/node.h"

/* Requests whose read index was asked for together. */
struct read_group {
    struct list link;
    struct list requests;
    uint64_t id;
    raft_index index;
};

struct node_reads {
    struct list waiting; /* to be asked for */
    struct list asked;   /* read_group: in the core */
    struct list indexed; /* read_group: index known, waiting for apply */
    uint64_t next_id;
};

void node_reads_init(struct node *node);
void node_reads_finish(struct node *node);
/* Puts an admitted request among those for which an index is to be asked. */
void node_wait_for_read_index(struct node *node, struct node_request *request);

/* Asks for one read index for all of `waiting`. */
void node_ask_read_index(struct node *node);
/* Takes the ready reads that node_step() has kept: their requests wait for apply, or to be asked
 * for again. */
void node_take_ready_reads(struct node *node);
/* Moves reads whose index is applied to `finished`, or all when nothing is applied any more. */
void node_release_reads(struct node *node);

#endif
