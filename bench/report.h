/* The result of a run as one JSON object on stdout. */
#ifndef RAFTOGRAM_BENCH_REPORT_H
#define RAFTOGRAM_BENCH_REPORT_H

#include "bench/load.h"
#include "bench/targets.h"

/* `fanout` is NULL for other work. */
void report_print(const struct options *options, const struct load_result *result,
                  const struct fanout_result *fanout);
/* Of the works that end with the first success. */
void report_print_first(const struct options *options, uint64_t done_ns);

#endif
