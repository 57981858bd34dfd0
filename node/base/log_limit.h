/* Bounds how much other parties can make this process log. Each place that a stranger can reach
 * has a limit.
 *
 * A line is written if its text differs from the previous one, and otherwise once a minute. In
 * LOG_LIMIT_WINDOW_NS at most LOG_LIMIT_LINES_MAX lines are written, whatever their texts. Texts
 * that differ only in digits are the same: a port or a count changes with every attempt. Not
 * thread-safe. */
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

/* Returns true if a line about `text` should be written now; `now_ns` is monotonic.
 * `*suppressed` then is the number of lines omitted since the last written one. */
bool log_limit_passes(struct log_limit *limit, uint64_t now_ns, const char *text,
                      uint64_t *suppressed);
/* Forgets the text, so that it is written at once when it occurs again. The bound on the number
 * of lines remains. */
void log_limit_reset(struct log_limit *limit);

#endif
