/* When a verb that goes on by itself has to end: at Ctrl-C or SIGTERM, or when nobody reads what it
 * prints any more. One in a process; the main thread waits here, any thread may wake it. */
#ifndef RAFTOGRAM_CTL_STOP_H
#define RAFTOGRAM_CTL_STOP_H

#include <stdbool.h>
#include <stdint.h>

/* From here on signals are noted instead of ending the process. Returns 0 or an exit code, after a
 * line on stderr. */
int stop_catch(void);
bool stop_is_wanted(void);
/* Returns when somebody wakes it, a signal comes, the reader of our output goes, or the time is up
 * (-1: never). */
void stop_wait(int timeout_ms);
void stop_wake(void);

#endif
