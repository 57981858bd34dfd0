/* Recognises the first try of a forwarded command (repeats.c says how). */
#ifndef RAFTOGRAM_DRIVER_REPEATS_H
#define RAFTOGRAM_DRIVER_REPEATS_H

#include "driver/node.h"

/* An entry with this command was applied with this result. */
void node_note_stored(struct node *node, struct bytes data, raft_term term,
                      const struct command_result *result);
/* Ends a request whose entry was applied here. */
void node_finish_stored(struct node *node, struct node_request *request);
/* True: the answer in request->result, for the entry at `index`, waits until that is applied. */
bool node_keep_answer(struct node *node, struct node_request *request, raft_index index);
/* After entries were applied: ends what waited for them. */
void node_release_answers(struct node *node);

#endif
