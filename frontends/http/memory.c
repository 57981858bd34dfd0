/* Accounts the memory of the frontend's clients against limits.memory. */
#include "memory.h"

#include "base/budget.h"
#include "http_internal.h"

bool memory_take(struct http_frontend *frontend, size_t bytes)
{
    return frontend->options.memory == NULL || budget_take(frontend->options.memory, bytes);
}

void memory_take_over(struct http_frontend *frontend, size_t bytes)
{
    if (frontend->options.memory != NULL) {
        budget_take_over(frontend->options.memory, bytes);
    }
}

void memory_give(struct http_frontend *frontend, size_t bytes)
{
    if (frontend->options.memory == NULL) {
        return;
    }
    uint64_t used = budget_used(frontend->options.memory);
    uint64_t peak = atomic_load(&frontend->memory_peak);
    while (used > peak && !atomic_compare_exchange_weak(&frontend->memory_peak, &peak, used)) {
    }
    budget_give(frontend->options.memory, bytes);
}

size_t memory_part(const struct http_frontend *frontend, size_t part, size_t bytes)
{
    const struct budget *budget = frontend->options.memory;
    return budget != NULL && bytes > budget->limit_bytes / part
               ? (size_t)(budget->limit_bytes / part)
               : bytes;
}

void memory_note_want(struct http_frontend *frontend)
{
    atomic_store(&frontend->is_memory_wanted, true);
}
