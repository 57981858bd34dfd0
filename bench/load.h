/* The load engine: keeps a number of operations in flight (closed loop), or starts them by a fixed
 * schedule regardless of the answers (open loop), and measures.
 *
 * In the open loop latency counts from the scheduled start: an operation that waits because a
 * server stalls is measured as waiting (no coordinated omission). In the closed loop, latency is
 * that of a call, as seen by a client with that many callers. */
#ifndef RAFTOGRAM_BENCH_LOAD_H
#define RAFTOGRAM_BENCH_LOAD_H

#include "base/clock.h"
#include "bench/histogram.h"
#include "bench/operation.h"
#include "bench/options.h"

#define LOAD_TEXT_BYTES 200
#define LOAD_GAPS_MAX 4096 /* later ones are not recorded */
#define LOAD_GAP_MIN_NS (3 * NS_PER_MS)

/* A time without any OK, between two of them or until the end. */
struct load_gap {
    uint64_t begin_ns; /* monotonic */
    uint64_t ns;
};

struct load_result {
    struct histogram latency; /* of operations acknowledged within the measured time */
    uint64_t measured_ns;
    uint64_t measured_ok;                /* acknowledged within the measured time */
    uint64_t outcomes[OUTCOME_COUNT];    /* over the whole run */
    uint64_t unfinished;                 /* never answered or never started, long after the end */
    char first_error[LOAD_TEXT_BYTES];   /* of OUTCOME_ERROR; empty if none */
    struct load_gap gaps[LOAD_GAPS_MAX]; /* those of LOAD_GAP_MIN_NS and more, in order */
    size_t gap_count;
    uint64_t cpu_ns; /* of this whole process while measuring */
};

struct load;

/* Creates a load. `target` is used until load_destroy(). Errors: ERR_NOMEM. */
int load_create(const struct options *options, struct target *target, struct load **out);
/* Runs to the end, drain included. `result` may be read afterwards until load_destroy(). */
const struct load_result *load_run(struct load *load);
/* Returns the operation with this index; NULL if there is none. It need not be running. */
struct operation *load_operation(struct load *load, uint64_t index);
/* Return the begin and the end of the measured time; 0 and UINT64_MAX before load_run(). */
void load_window(const struct load *load, uint64_t *begin_ns, uint64_t *end_ns);
/* The target must have been destroyed. Accepts NULL. */
void load_destroy(struct load *load);

#endif
