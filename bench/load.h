/* The load engine: keeps a number of operations in flight (closed loop) or starts them by a fixed
 * schedule whatever the answers do (open loop), and measures.
 *
 * In the open loop latency counts from the scheduled start: what waits because a server stalls is
 * measured as waiting (no coordinated omission). The closed loop has no schedule; its latency
 * is that of a call, as a client with so many callers sees it. */
#ifndef RAFTOGRAM_BENCH_LOAD_H
#define RAFTOGRAM_BENCH_LOAD_H

#include "base/clock.h"
#include "bench/histogram.h"
#include "bench/operation.h"
#include "bench/options.h"

#define LOAD_TEXT_BYTES 200
#define LOAD_GAPS_MAX 4096 /* later ones are not told */
#define LOAD_GAP_MIN_NS (3 * NS_PER_MS)

/* A time without any OK, between two of them or until the end. */
struct load_gap {
    uint64_t begin_ns; /* monotonic */
    uint64_t ns;
};

struct load_result {
    struct histogram latency; /* of what was OK within the measured time */
    uint64_t measured_ns;
    uint64_t measured_ok;              /* acknowledged within the measured time */
    uint64_t outcomes[OUTCOME_COUNT];  /* over all the time */
    uint64_t unfinished;               /* no answer at all, or never started, long after the end */
    char first_error[LOAD_TEXT_BYTES]; /* of OUTCOME_ERROR; empty if none */
    struct load_gap gaps[LOAD_GAPS_MAX]; /* those of LOAD_GAP_MIN_NS and more, in order */
    size_t gap_count;
    uint64_t cpu_ns; /* of this whole process while measuring */
};

struct load;

/* `target` is used until load_destroy(). Errors: ERR_NOMEM. */
int load_create(const struct options *options, struct target *target, struct load **out);
/* Runs to the end, drain included. `result` may be read afterwards until load_destroy(). */
const struct load_result *load_run(struct load *load);
/* The operation with this index; NULL if there is none. It need not be running. */
struct operation *load_operation(struct load *load, uint64_t index);
/* When measuring began and ends; 0 and UINT64_MAX before load_run(). */
void load_window(const struct load *load, uint64_t *begin_ns, uint64_t *end_ns);
/* The target must have been destroyed. Accepts NULL. */
void load_destroy(struct load *load);

#endif
