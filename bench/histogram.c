/* Buckets of the histogram, and quantiles. */
#include "bench/histogram.h"

#include "base/check.h"

#include <string.h>

/* Returns the bucket of a value. Small values have a bucket each. For larger ones, the leading bit
 * gives the doubling and the next bits the bucket in it. */
static unsigned bucket_of(uint64_t value)
{
    if (value < HISTOGRAM_BUCKETS_PER_DOUBLING) {
        return (unsigned)value;
    }
    unsigned leading_bit = 63u - (unsigned)__builtin_clzll(value);
    unsigned shift = leading_bit - HISTOGRAM_BUCKETS_PER_DOUBLING_BITS;
    unsigned in_doubling = (unsigned)(value >> shift) - HISTOGRAM_BUCKETS_PER_DOUBLING;
    return (shift + 1) * HISTOGRAM_BUCKETS_PER_DOUBLING + in_doubling;
}

/* Returns the largest value of the bucket. */
static uint64_t bucket_top(unsigned bucket)
{
    if (bucket < HISTOGRAM_BUCKETS_PER_DOUBLING) {
        return bucket;
    }
    unsigned shift = bucket / HISTOGRAM_BUCKETS_PER_DOUBLING - 1;
    uint64_t in_doubling = bucket % HISTOGRAM_BUCKETS_PER_DOUBLING + HISTOGRAM_BUCKETS_PER_DOUBLING;
    return ((in_doubling + 1) << shift) - 1;
}

void histogram_init(struct histogram *histogram)
{
    memset(histogram, 0, sizeof(*histogram));
}

void histogram_add(struct histogram *histogram, uint64_t value)
{
    if (value > HISTOGRAM_VALUE_MAX) {
        value = HISTOGRAM_VALUE_MAX;
    }
    unsigned bucket = bucket_of(value);
    CHECK(bucket < HISTOGRAM_BUCKETS);
    histogram->buckets[bucket]++;
    if (histogram->count == 0 || value < histogram->min) {
        histogram->min = value;
    }
    if (value > histogram->max) {
        histogram->max = value;
    }
    histogram->count++;
    histogram->sum += value;
}

uint64_t histogram_quantile(const struct histogram *histogram, double quantile)
{
    if (histogram->count == 0) {
        return 0;
    }
    /* The rank of the wanted value, from 1: rounded up, so that it is one that was added. */
    double exact_rank = quantile * (double)histogram->count;
    uint64_t rank = (uint64_t)exact_rank;
    if ((double)rank < exact_rank || rank == 0) {
        rank++;
    }
    uint64_t seen = 0;
    for (unsigned i = 0; i < HISTOGRAM_BUCKETS; i++) {
        seen += histogram->buckets[i];
        if (seen >= rank) {
            uint64_t top = bucket_top(i);
            if (top < histogram->min) {
                return histogram->min;
            }
            return top > histogram->max ? histogram->max : top;
        }
    }
    return histogram->max;
}

double histogram_mean(const struct histogram *histogram)
{
    return histogram->count == 0 ? 0 : (double)histogram->sum / (double)histogram->count;
}
