#include "base/check.h"

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

noreturn void check_failed(const char *condition, const char *file, int line)
{
    /* No log_write(): the log itself may be what is broken. */
    dprintf(STDERR_FILENO,
            "raftogram: check failed: %s (%s:%d). This is a bug; please report it.\n", condition,
            file, line);
    abort();
}
