/* Inside the log: writes finished lines. log.c makes them. */
#ifndef RAFTOGRAM_BASE_LOG_WRITER_H
#define RAFTOGRAM_BASE_LOG_WRITER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define LOG_LINE_MAX 16384 /* bytes, with the newline */

/* Makes the line that reports how many lines were dropped, and returns its size. */
typedef size_t log_writer_notice(uint64_t lines, char text[static LOG_LINE_MAX]);

void log_writer_set_fd(int fd);
/* log_start(). */
int log_writer_start(log_writer_notice *make_notice);
/* Takes whole lines. Without the thread of log_start() the caller writes them; false: they could
 * not be written. With the thread they are queued and the result is true; lines that do not fit
 * into the queue are dropped and counted. */
bool log_writer_put(const char *text, size_t size);

#endif
