/* A limit on the memory that all clients together occupy: half-received requests, decoded
 * bodies, pages and answers that wait for a slow connection. A caller takes bytes before it
 * keeps them, and gives them back when it frees them.
 *
 * The figures are the callers' counts, not malloc's: allocators add a few per cent. Any thread
 * may call; no call locks or blocks. A budget must outlive its callers. */
#ifndef RAFTOGRAM_BASE_BUDGET_H
#define RAFTOGRAM_BASE_BUDGET_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

struct budget {
    uint64_t limit_bytes;
    atomic_uint_fast64_t used_bytes;
    atomic_uint_fast64_t refused_total; /* calls of budget_take() that were refused */
};

/* There is nothing to finish. */
void budget_init(struct budget *budget, uint64_t limit_bytes);
/* Takes `bytes` if they fit below the limit. False: they do not, and nothing is taken. */
bool budget_take(struct budget *budget, uint64_t bytes);
/* Takes `bytes` even beyond the limit: for memory that is in use already and cannot be refused,
 * such as an answer in flight. Until the excess is given back, budget_take() refuses. */
void budget_take_over(struct budget *budget, uint64_t bytes);
/* Gives back what was taken, in any portions. More than was taken is a bug (CHECKed). */
void budget_give(struct budget *budget, uint64_t bytes);
uint64_t budget_used(const struct budget *budget);

#endif
