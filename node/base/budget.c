/* Bytes taken against one limit, by compare and swap. */
#include "base/budget.h"

#include "base/check.h"

void budget_init(struct budget *budget, uint64_t limit_bytes)
{
    budget->limit_bytes = limit_bytes;
    atomic_init(&budget->used_bytes, 0);
    atomic_init(&budget->refused_total, 0);
}

bool budget_take(struct budget *budget, uint64_t bytes)
{
    uint_fast64_t used = atomic_load_explicit(&budget->used_bytes, memory_order_relaxed);
    do {
        if (used > budget->limit_bytes || bytes > budget->limit_bytes - used) {
            atomic_fetch_add_explicit(&budget->refused_total, 1, memory_order_relaxed);
            return false;
        }
    } while (!atomic_compare_exchange_weak_explicit(&budget->used_bytes, &used, used + bytes,
                                                    memory_order_relaxed, memory_order_relaxed));
    return true;
}

void budget_take_over(struct budget *budget, uint64_t bytes)
{
    atomic_fetch_add_explicit(&budget->used_bytes, bytes, memory_order_relaxed);
}

void budget_give(struct budget *budget, uint64_t bytes)
{
    uint_fast64_t before =
        atomic_fetch_sub_explicit(&budget->used_bytes, bytes, memory_order_relaxed);
    CHECK(before >= bytes);
}

uint64_t budget_used(const struct budget *budget)
{
    return atomic_load_explicit(&budget->used_bytes, memory_order_relaxed);
}
