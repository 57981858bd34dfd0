/* The line on stderr that says what went wrong. */
#ifndef RAFTOGRAM_CTL_COMPLAIN_H
#define RAFTOGRAM_CTL_COMPLAIN_H

/* One line on stderr: "raftogramctl: …". */
void complain(const char *format, ...) __attribute__((format(printf, 1, 2)));

#endif
