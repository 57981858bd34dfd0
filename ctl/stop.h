/* Ends a verb that would run indefinitely: at Ctrl-C, at SIGTERM, or when the reader of stdout is
 * gone. The state is global. The main thread waits here, and any thread may wake it. */
#ifndef RAFTOGRAM_CTL_STOP_H
#define RAFTOGRAM_CTL_STOP_H

#include <stdbool.h>
#include <stdint.h>

/* Installs handlers, so that signals are recorded instead of ending the process. Returns 0 or an
 * exit code, after a line on stderr. */
int stop_catch(void);
bool stop_is_wanted(void);
/* Waits for stop_wake(), a signal, the loss of stdout's reader, or the timeout (-1: none). */
void stop_wait(int timeout_ms);
void stop_wake(void);

#endif
