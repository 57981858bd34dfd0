/* A limit on the memory that all clients together make this process hold: half-received requests,
 * decoded bodies, pages and answers that wait for a slow connection. Whoever is about to keep such
 * bytes takes them first, and gives them back when they are freed.
 *
 * The figures are what the takers say, not what malloc uses: allocators add a few per cent.
 * Any thread may call; nothing locks or blocks. A budget lives as long as its takers. */
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
/* Takes `bytes` even past the limit: for what is in memory already and cannot be refused any more,
 * such as one answer on its way. Later calls of budget_take() are refused until it is given back.
 */
void budget_take_over(struct budget *budget, uint64_t bytes);
/* Gives back what was taken, in any portions. More than was taken is a bug (CHECKed). */
void budget_give(struct budget *budget, uint64_t bytes);
uint64_t budget_used(const struct budget *budget);

#endif
