/* Time as a vtable, so that tests and the simulator can move it. The monotonic clock drives every
 * timer; wall time is data only (message timestamps, log lines). */
#ifndef RAFTOGRAM_BASE_CLOCK_H
#define RAFTOGRAM_BASE_CLOCK_H

#include <stdint.h>

struct clock {
    uint64_t (*monotonic_ns)(const struct clock *clock);
    int64_t (*wall_ms)(const struct clock *clock); /* since 1970-01-01T00:00:00Z */
};

#define NS_PER_MS UINT64_C(1000000)
#define NS_PER_S UINT64_C(1000000000)

/* CLOCK_MONOTONIC and CLOCK_REALTIME. */
const struct clock *clock_system(void);

static inline uint64_t clock_monotonic_ns(const struct clock *clock)
{
    return clock->monotonic_ns(clock);
}

static inline int64_t clock_wall_ms(const struct clock *clock)
{
    return clock->wall_ms(clock);
}

#endif
