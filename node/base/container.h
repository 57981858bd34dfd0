/* From a member of a structure to the structure. */
#ifndef RAFTOGRAM_BASE_CONTAINER_H
#define RAFTOGRAM_BASE_CONTAINER_H

#include <stddef.h>

/* Returns the structure of type `type` whose `member` is at `pointer`. */
#define CONTAINER_OF(pointer, type, member) \
    ((type *)(void *)((char *)(pointer)-offsetof(type, member)))

#endif
