/* The system's clocks. */
#include "base/clock.h"

#include <stdlib.h>
#include <time.h>

/* Without CHECK, whose failure flushes the log and so asks for the time. */
static struct timespec get_time(clockid_t id)
{
    struct timespec now;
    if (clock_gettime(id, &now) != 0) {
        abort();
    }
    return now;
}

static uint64_t system_monotonic_ns(const struct clock *clock)
{
    struct timespec now = get_time(CLOCK_MONOTONIC);
    return (uint64_t)now.tv_sec * NS_PER_S + (uint64_t)now.tv_nsec;
}

static int64_t system_wall_ms(const struct clock *clock)
{
    struct timespec now = get_time(CLOCK_REALTIME);
    return (int64_t)now.tv_sec * 1000 + now.tv_nsec / (int64_t)NS_PER_MS;
}

const struct clock *clock_system(void)
{
    static const struct clock system_clock = {
        .monotonic_ns = system_monotonic_ns,
        .wall_ms = system_wall_ms,
    };
    return &system_clock;
}
