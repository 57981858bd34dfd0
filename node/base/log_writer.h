/* Inside the log: where finished lines go. log.c makes them. */
#ifndef RAFTOGRAM_BASE_LOG_WRITER_H
#define RAFTOGRAM_BASE_LOG_WRITER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define LOG_LINE_MAX 16384 /* bytes, with the newline */

void log_writer_set_fd(int fd);
/* Whole lines. Without the thread of log_start() they are written here and now, and false means
 * that they were not. With it they are queued and true is returned; those that find no room are
 * dropped and counted. */
bool log_writer_put(const char *text, size_t size);
/* For the lines that were dropped: makes the one that says so, and returns its size. */
size_t log_format_dropped(uint64_t lines, char text[static LOG_LINE_MAX]);

#endif
