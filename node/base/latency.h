/* A histogram of durations with fixed buckets, for /metrics: one thread records, any thread
 * reads, without a lock. The bounds are 1, 2.5 and 5 in each decade from 10 us to 10 s: from a
 * read from memory to a failing disk.
 *
 * Zeroed memory is an empty histogram; there is nothing to finish. */
#ifndef RAFTOGRAM_BASE_LATENCY_H
#define RAFTOGRAM_BASE_LATENCY_H

#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>

#define LATENCY_BOUNDS 19

/* The largest duration that still belongs to each bucket; what is longer than all of them goes to
 * one more bucket. */
extern const uint64_t latency_bounds_ns[LATENCY_BOUNDS];

struct latency {
    atomic_uint_fast64_t buckets[LATENCY_BOUNDS + 1];
    atomic_uint_fast64_t sum_ns;
};

/* What has been recorded, each bucket by itself. The sum may be one duration apart from them. */
struct latency_counts {
    uint64_t buckets[LATENCY_BOUNDS + 1];
    uint64_t count; /* of all buckets together */
    uint64_t sum_ns;
};

/* From one thread only. */
void latency_record(struct latency *latency, uint64_t duration_ns);
/* Any thread. */
void latency_read(const struct latency *latency, struct latency_counts *out);

#endif
