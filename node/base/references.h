/* Reference counts of objects that threads share. */
#ifndef RAFTOGRAM_BASE_REFERENCES_H
#define RAFTOGRAM_BASE_REFERENCES_H

#include "base/check.h"

#include <stdatomic.h>
#include <stdbool.h>

/* Drops one reference. True for the caller that dropped the last one and must free the object: all
 * that other threads did with it has happened by then. */
static inline bool references_drop(atomic_uint *references)
{
    unsigned before = atomic_fetch_sub_explicit(references, 1, memory_order_acq_rel);
    CHECK(before != 0);
    return before == 1;
}

#endif
