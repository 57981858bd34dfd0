/* One piece of work (a send, a read, a delivery to everybody) and how it ended. The load engine
 * owns operations; a target carries them out. */
#ifndef RAFTOGRAM_BENCH_OPERATION_H
#define RAFTOGRAM_BENCH_OPERATION_H

#include "base/list.h"

#include <stddef.h>
#include <stdint.h>

enum outcome {
    OUTCOME_OK,
    OUTCOME_NOT_LEADER, /* refused with a hint where to go; certainly not done */
    OUTCOME_REFUSED,    /* nobody listens there: the call never reached a server */
    OUTCOME_ERROR,      /* all else */
    OUTCOME_COUNT
};

struct operation {
    uint32_t index;  /* its place in the load's table, for answers to name it by */
    uint64_t number; /* from 0, in the order of starting */
    /* When it was due by the schedule. Latency counts from here and not from when there was
     * time to send it, so that a stall is charged to every operation that it delayed. */
    uint64_t intended_ns;
    /* Called once, from any thread, perhaps within target->start(). Afterwards the operation may
     * begin anew at once. `text` (may be NULL) explains an outcome that is not OK. */
    void (*on_done)(struct operation *operation, enum outcome outcome, const char *text);
    void *owner;      /* of the one who set on_done */
    void *call;       /* the target's */
    struct list link; /* the owner's; the target's from start() to on_done() */
};

/* Something that can be put under load. */
struct target {
    /* Makes what the work needs (a channel, a stream, a key) and retries until it is there and one
     * write has been acknowledged. Errors: ERR_TIMEOUT. */
    int (*prepare)(struct target *target, uint64_t deadline_ns);
    /* Any thread; also within on_done(). */
    void (*start)(struct target *target, struct operation *operation);
    /* After some starts outside of on_done(): sends what was only queued. May be NULL. */
    void (*flush)(struct target *target);
    /* Operations still running are forgotten: no on_done() after it returned. */
    void (*destroy)(struct target *target);
};

/* A payload that says when its operation was due and which it is, so that whoever receives it can
 * measure: MARKER, 20 digits of nanoseconds, 8 digits of index, then padding. Plain ASCII that JSON
 * leaves as it is. */
#define MARKER "@@"
#define MARKER_TIME_DIGITS 20
#define MARKER_INDEX_DIGITS 8
#define MARKER_BYTES (sizeof(MARKER) - 1 + MARKER_TIME_DIGITS + MARKER_INDEX_DIGITS)

/* `size` must be at least MARKER_BYTES. */
void payload_fill(char *out, size_t size, const struct operation *operation);
/* The number that `digits` ASCII digits make. */
uint64_t payload_number(const char *text, size_t digits);

#endif
