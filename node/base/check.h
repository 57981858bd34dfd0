/* CHECK: assertions for our own bugs, also in release builds. External faults (input, disk,
 * network) are errors, never checks. */
#ifndef RAFTOGRAM_BASE_CHECK_H
#define RAFTOGRAM_BASE_CHECK_H

#include <stdnoreturn.h>

/* Prints one line on stderr and aborts. */
noreturn void check_failed(const char *condition, const char *file, int line);

#define CHECK(condition)                                  \
    do {                                                  \
        if (!(condition)) {                               \
            check_failed(#condition, __FILE__, __LINE__); \
        }                                                 \
    } while (0)

#endif
