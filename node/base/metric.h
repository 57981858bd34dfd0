/* Descriptions of figures that a node reports. The module that counts a figure describes it in one
 * row of a table; /metrics and /status walk the tables, so that a new figure is one row. */
#ifndef RAFTOGRAM_BASE_METRIC_H
#define RAFTOGRAM_BASE_METRIC_H

#include "base/list.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum metric_type {
    METRIC_COUNTER,   /* uint64_t; only grows */
    METRIC_GAUGE,     /* uint64_t */
    METRIC_FLAG,      /* bool; a gauge of 0 or 1 */
    METRIC_HISTOGRAM, /* struct latency_counts, in seconds; not in /status */
};

struct metric {
    enum metric_type type;
    size_t offset;           /* of the figure in the structure that the table is about */
    const char *name;        /* of Prometheus, with its prefix; counters end in _total */
    const char *help;        /* one line */
    const char *status_name; /* in /status; NULL: it is not shown there, or elsewhere in it */
};

/* Rows of a table about `structure`. In /status a figure has the name of its member. */
#define METRIC_ROW(type_, structure, field, name_, help_)                                         \
    {                                                                                             \
        .type = (type_), .offset = offsetof(struct structure, field), .name = "raftogram_" name_, \
        .help = (help_), .status_name = #field                                                    \
    }
/* The same for a figure that /status shows under `status_name_`, or that is NULL. */
#define METRIC_ROW_AS(type_, structure, field, name_, status_name_, help_)                        \
    {                                                                                             \
        .type = (type_), .offset = offsetof(struct structure, field), .name = "raftogram_" name_, \
        .help = (help_), .status_name = (status_name_)                                            \
    }

/* One module's figures. The owner keeps it, and its context, until it has been removed. */
struct metric_source {
    struct list link; /* of the registry's */
    const struct metric *rows;
    size_t row_count;
    size_t size; /* of the structure that read() fills; at most METRIC_FIGURES_BYTES_MAX */
    /* Fills the structure. Runs on the thread that shows the figures, the service thread of the
     * HTTP frontend; must not block for long. */
    void (*read)(void *context, void *figures);
    void *context;
};

#define METRIC_FIGURES_BYTES_MAX 512

/* The value of a figure that is no histogram. */
static inline uint64_t metric_value(const struct metric *metric, const void *figures)
{
    const void *at = (const char *)figures + metric->offset;
    return metric->type == METRIC_FLAG ? *(const bool *)at : *(const uint64_t *)at;
}

#endif
