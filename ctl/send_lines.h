/* send -lines: stdin, one message a line, in batches. */
#ifndef RAFTOGRAM_CTL_SEND_LINES_H
#define RAFTOGRAM_CTL_SEND_LINES_H

#include "arguments.h"
#include "cluster.h"

/* Sends each line of stdin as a message to the channel of the first operand. Line N has the client
 * message id "ID-N"; with an empty `id`, lines have none. Returns an exit code. */
int send_lines(struct cluster *cluster, const struct arguments *arguments, const char *author,
               const char *id);

#endif
