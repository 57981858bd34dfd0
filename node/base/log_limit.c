/* Limits repeated log lines. */
#include "base/log_limit.h"

#include <stdio.h>

static const char *skip_digits(const char *text)
{
    while (*text >= '0' && *text <= '9') {
        text++;
    }
    return text;
}

/* Compares the texts up to the limit, without their digits. */
static bool is_same(const char *kept, const char *text)
{
    const char *end = text + LOG_LIMIT_TEXT_BYTES - 1;
    for (;;) {
        kept = skip_digits(kept);
        text = skip_digits(text);
        if (*kept == '\0' || text >= end) {
            return *kept == '\0' && (*text == '\0' || text >= end);
        }
        if (*kept != *text) {
            return false;
        }
        kept++;
        text++;
    }
}

bool log_limit_passes(struct log_limit *limit, uint64_t now_ns, const char *text,
                      uint64_t *suppressed)
{
    if (limit->window_lines == 0 || now_ns - limit->window_ns >= LOG_LIMIT_WINDOW_NS) {
        limit->window_ns = now_ns;
        limit->window_lines = 0;
    }
    bool is_repeated = limit->has_text && now_ns - limit->text_ns < LOG_LIMIT_WINDOW_NS &&
                       is_same(limit->text, text);
    if (is_repeated || limit->window_lines == LOG_LIMIT_LINES_MAX) {
        limit->suppressed++;
        return false;
    }
    snprintf(limit->text, sizeof(limit->text), "%s", text);
    limit->has_text = true;
    limit->text_ns = now_ns;
    limit->window_lines++;
    *suppressed = limit->suppressed;
    limit->suppressed = 0;
    return true;
}

void log_limit_reset(struct log_limit *limit)
{
    limit->has_text = false;
}
