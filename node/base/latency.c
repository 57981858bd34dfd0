/* Histograms of durations with fixed buckets. */
#include "base/latency.h"

const uint64_t latency_bounds_ns[LATENCY_BOUNDS] = {
    10000,     25000,      50000,      100000,     250000,      500000,    1000000,
    2500000,   5000000,    10000000,   25000000,   50000000,    100000000, 250000000,
    500000000, 1000000000, 2500000000, 5000000000, 10000000000,
};

/* A load and a store in place of an atomic addition: there is one writer, and this is on the path
 * of every write. */
static void add(atomic_uint_fast64_t *number, uint64_t value)
{
    uint64_t old = atomic_load_explicit(number, memory_order_relaxed);
    atomic_store_explicit(number, old + value, memory_order_relaxed);
}

void latency_record(struct latency *latency, uint64_t duration_ns)
{
    size_t bucket = 0;
    while (bucket < LATENCY_BOUNDS && duration_ns > latency_bounds_ns[bucket]) {
        bucket++;
    }
    add(&latency->buckets[bucket], 1);
    add(&latency->sum_ns, duration_ns);
}

void latency_read(const struct latency *latency, struct latency_counts *out)
{
    *out = (struct latency_counts){0};
    for (size_t i = 0; i <= LATENCY_BOUNDS; i++) {
        out->buckets[i] = atomic_load_explicit(&latency->buckets[i], memory_order_relaxed);
        out->count += out->buckets[i];
    }
    out->sum_ns = atomic_load_explicit(&latency->sum_ns, memory_order_relaxed);
}
