/* Deadlines of requests. */
#ifndef RAFTOGRAM_DRIVER_EXPIRY_H
#define RAFTOGRAM_DRIVER_EXPIRY_H

#include "driver/node.h"

/* Every turn: ends the requests whose time is over. */
void node_expire(struct node *node);

#endif
