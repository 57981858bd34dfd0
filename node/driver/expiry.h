/* Ends requests at their deadlines. */
#ifndef RAFTOGRAM_DRIVER_EXPIRY_H
#define RAFTOGRAM_DRIVER_EXPIRY_H

#include "driver/node.h"

/* Ends the requests whose deadline has passed. Called every turn. */
void node_expire(struct node *node);

#endif
