/* Reports a failed CHECK() and aborts. */
#include "base/check.h"

#include "base/log.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define FLUSH_MS 100

noreturn void check_failed(const char *condition, const char *file, int line)
{
    /* No log_write(): the log itself may be what is broken. */
    char text[1024];
    snprintf(text, sizeof(text),
             "raftogram: check failed: %s (%s:%d). This is a bug; please report it.\n", condition,
             file, line);
    (void)log_flush(FLUSH_MS);
    log_last_words(text, strlen(text));
    abort();
}
