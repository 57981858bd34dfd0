/* Bounds what others can make this process log: each place that a stranger can reach has a limit.
 *
 * A line is written when its text differs from the one before, else once a minute; and never more
 * than LOG_LIMIT_LINES_MAX in LOG_LIMIT_WINDOW_NS, whatever their texts. Digits do not tell two
 * texts apart: a port or a count changes with every try. Not for several threads at once. */
#ifndef RAFTOGRAM_BASE_LOG_LIMIT_H
#define RAFTOGRAM_BASE_LOG_LIMIT_H

#include <stdbool.h>
#include <stdint.h>

#define LOG_LIMIT_TEXT_BYTES 256 /* texts are compared up to here */
#define LOG_LIMIT_LINES_MAX 10
#define LOG_LIMIT_WINDOW_NS UINT64_C(60000000000)

/* Zeroed is initialised. */
struct log_limit {
    char text[LOG_LIMIT_TEXT_BYTES];
    bool has_text;
    uint64_t text_ns; /* when it was written last */
    uint64_t window_ns;
    uint32_t window_lines;
    uint64_t suppressed;
};

/* Whether a line about `text` is to be written now; `now_ns` is monotonic. If so, `*suppressed` is
 * the number of lines left out since the last one that was written. */
bool log_limit_passes(struct log_limit *limit, uint64_t now_ns, const char *text,
                      uint64_t *suppressed);
/* What the text was about is over: the same text is news when it comes again. The bound on the
 * number of lines stays. */
void log_limit_reset(struct log_limit *limit);

#endif
