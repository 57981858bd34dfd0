/* One unit of work (a send, a read, a delivery to all subscribers) and its outcome. The load engine
 * owns operations; a target carries them out. */
#ifndef RAFTOGRAM_BENCH_OPERATION_H
#define RAFTOGRAM_BENCH_OPERATION_H

#include "base/list.h"

#include <stddef.h>
#include <stdint.h>

enum outcome {
    OUTCOME_OK,
    OUTCOME_NOT_LEADER, /* refused with the address of the leader; certainly not done */
    OUTCOME_REFUSED,    /* no listener at the address; the call never reached a server */
    OUTCOME_ERROR,      /* all else */
    OUTCOME_COUNT
};

struct operation {
    uint32_t index;  /* its index in the table of the load, by which answers name it */
    uint64_t number; /* from 0, in the order of starting */
    /* When it was due by the schedule. Latency counts from here instead of from the time of
     * sending, so that a stall is charged to every operation that it delayed. */
    uint64_t intended_ns;
    /* Called exactly once, on any thread, possibly within target->start(). Afterwards the operation
     * may be started again at once. `text` (may be NULL) explains an outcome that is not OK. */
    void (*on_done)(struct operation *operation, enum outcome outcome, const char *text);
    void *owner;      /* context of the owner, who set on_done */
    void *call;       /* context of the target */
    struct list link; /* link for the owner */
};

/* Something that can be put under load. */
struct target {
    /* Creates what the work needs (a channel, a stream, a key) and retries until it exists and one
     * write has been acknowledged. Errors: ERR_TIMEOUT. */
    int (*prepare)(struct target *target, uint64_t deadline_ns);
    /* Starts an operation. Any thread, also within on_done(). */
    void (*start)(struct target *target, struct operation *operation);
    /* Sends what starts have only queued. Called after starts outside of on_done(). May be NULL. */
    void (*flush)(struct target *target);
    /* Ends the target. on_done() of operations still running is not called after this returns. */
    void (*destroy)(struct target *target);
};

/* A payload that holds the due time and the index of its operation, so that a receiver can measure:
 * MARKER, 20 digits of nanoseconds, 8 digits of index, then padding. It is plain ASCII that JSON
 * does not escape. */
#define MARKER "@@"
#define MARKER_TIME_DIGITS 20
#define MARKER_INDEX_DIGITS 8
#define MARKER_BYTES (sizeof(MARKER) - 1 + MARKER_TIME_DIGITS + MARKER_INDEX_DIGITS)

/* `size` must be at least MARKER_BYTES. */
void payload_fill(char *out, size_t size, const struct operation *operation);
/* Parses `digits` ASCII digits. */
uint64_t payload_number(const char *text, size_t digits);

#endif
