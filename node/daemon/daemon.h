/* The running process: opens the modules in order, runs their threads, stops them in reverse. */
#ifndef RAFTOGRAM_DAEMON_H
#define RAFTOGRAM_DAEMON_H

#include "config/config.h"

#include <stddef.h>

/* Runs until SIGTERM or SIGINT, or until it cannot go on. Returns 0 after a clean stop; else a
 * negative ERR_* and one line in `error`. The calling thread starts all and stops it, and waits for
 * signals between; the node's turns run on the RPC loop's thread (ARCHITECTURE.md, Threads). */
int daemon_run(const struct config *config, char *error, size_t error_size);

/* Before any thread starts: a signal that comes while the process starts waits for daemon_run(). */
void daemon_hold_signals(void);
/* For a process that will not run the daemon. */
void daemon_let_signals_go(void);

#endif
