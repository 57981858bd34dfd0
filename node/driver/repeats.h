/* Recognises the first attempt of a forwarded command; see repeats.c. */
#ifndef RAFTOGRAM_DRIVER_REPEATS_H
#define RAFTOGRAM_DRIVER_REPEATS_H

#include "driver/node.h"

/* Notes that an entry with this command was applied with this result. */
void node_note_stored(struct node *node, struct bytes data, raft_term term,
                      const struct command_result *result);
/* Ends a request whose entry was applied here. */
void node_finish_stored(struct node *node, struct node_request *request);
/* True if the answer in request->result, for the entry at `index`, must wait until that entry is
 * applied here. */
bool node_keep_answer(struct node *node, struct node_request *request, raft_index index);
/* Ends requests that waited for applied entries. Called after apply. */
void node_release_answers(struct node *node);

#endif
