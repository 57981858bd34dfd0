/* How the program reports a failure: the line on stderr and the exit code. */
#ifndef RAFTOGRAM_CTL_COMPLAIN_H
#define RAFTOGRAM_CTL_COMPLAIN_H

enum {
    EXIT_DONE = 0,
    EXIT_REFUSED = 1, /* failed or not found */
    EXIT_USAGE = 2,
    EXIT_UNAVAILABLE = 3, /* the cluster gave no answer, or has no quorum */
};

/* Prints one line to stderr: "raftogramctl: …". Control characters in it are escaped. */
void complain(const char *format, ...) __attribute__((format(printf, 1, 2)));

#endif
