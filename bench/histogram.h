/* A histogram of latencies in fixed memory: log-linear, so that each value is known to better than
 * 1 %. (The idea is that of HdrHistogram, which Debian does not package.)
 *
 * Values are nanoseconds, or any other non-negative unit. Values over HISTOGRAM_VALUE_MAX count as
 * that. The smallest, the largest and the sum are exact. */
#ifndef RAFTOGRAM_BENCH_HISTOGRAM_H
#define RAFTOGRAM_BENCH_HISTOGRAM_H

#include <stdint.h>

/* Each doubling is divided into this many buckets of equal width. */
#define HISTOGRAM_BUCKETS_PER_DOUBLING_BITS 7
#define HISTOGRAM_BUCKETS_PER_DOUBLING (1u << HISTOGRAM_BUCKETS_PER_DOUBLING_BITS)
#define HISTOGRAM_VALUE_BITS 41 /* 2^41 ns is over half an hour */
#define HISTOGRAM_VALUE_MAX ((UINT64_C(1) << HISTOGRAM_VALUE_BITS) - 1)
#define HISTOGRAM_BUCKETS                                               \
    ((HISTOGRAM_VALUE_BITS - HISTOGRAM_BUCKETS_PER_DOUBLING_BITS + 1) * \
     HISTOGRAM_BUCKETS_PER_DOUBLING)

struct histogram {
    uint64_t count;
    uint64_t sum;
    uint64_t min; /* 0 while empty */
    uint64_t max;
    uint64_t buckets[HISTOGRAM_BUCKETS];
};

void histogram_init(struct histogram *histogram);
void histogram_add(struct histogram *histogram, uint64_t value);
/* Returns the value that the part `quantile` (0 to 1) of all values does not exceed; never outside
 * [min, max]; 0 while empty. */
uint64_t histogram_quantile(const struct histogram *histogram, double quantile);
double histogram_mean(const struct histogram *histogram);

#endif
