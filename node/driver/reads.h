/* Read barriers: requests wait for a read index, and then until it is applied. */
#ifndef RAFTOGRAM_DRIVER_READS_H
#define RAFTOGRAM_DRIVER_READS_H

#include "driver/node.h"

/* Requests that share one read index. */
struct read_group {
    struct list link;
    struct list requests;
    uint64_t id;
    raft_index index;
};

struct node_reads {
    struct list waiting; /* no index was asked for yet */
    struct list asked;   /* read_group: in the core */
    struct list indexed; /* read_group: index known, waiting for apply */
    uint64_t next_id;
};

void node_reads_init(struct node *node);
void node_reads_finish(struct node *node);
/* Adds an admitted request to `waiting`. */
void node_wait_for_read_index(struct node *node, struct node_request *request);

/* Asks for one read index for all of `waiting`. */
void node_ask_read_index(struct node *node);
/* Takes the ready reads that node_step() has kept. Their requests then wait for apply, or for
 * another index. */
void node_take_ready_reads(struct node *node);
/* Moves reads whose index is applied to `finished`, or all if nothing will be applied any more. */
void node_release_reads(struct node *node);

#endif
