/* The templates of ctl/completion/, embedded by the build. */
#ifndef RAFTOGRAM_CTL_COMPLETION_SCRIPTS_H
#define RAFTOGRAM_CTL_COMPLETION_SCRIPTS_H

#include <stddef.h>

struct completion_script {
    const char *shell;
    const char *text; /* its lines "@VERBS@" and "@FLAGS@" stand for the rows of the tables */
};

/* Ended by a row of NULL. */
extern const struct completion_script completion_scripts[];

#endif
