/* Takes away `const` where a foreign type lacks it: fields of protobuf-c's messages, and arguments
 * that a library only reads. What is pointed to must not be changed through the result. */
#ifndef RAFTOGRAM_BASE_UNCONST_H
#define RAFTOGRAM_BASE_UNCONST_H

#include <stdint.h>

static inline void *unconst(const void *pointer)
{
    return (void *)(uintptr_t)pointer;
}

#endif
