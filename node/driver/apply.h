/* Applies committed entries to the state machine. */
#ifndef RAFTOGRAM_DRIVER_APPLY_H
#define RAFTOGRAM_DRIVER_APPLY_H

#include "driver/node.h"

#define NODE_APPLY_BATCH_MAX 1024u /* entries between chat_apply_begin() and _end() */
#define NODE_APPLY_TURN_MAX 8192u  /* entries applied in one turn */
/* Entries, or messages of batches, after which the time is looked at: a turn must not take too
 * long. */
#define NODE_APPLY_CHECK 64u

/* Applies committed entries, as many as this turn may. */
void node_apply(struct node *node);
/* Adopts the state of an installed snapshot in place of the applied state. */
void node_note_state_replaced(struct node *node, raft_index index,
                              const struct raft_config *config);

#endif
