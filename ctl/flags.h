/* The table of flags: what the command line takes, help explains and the shells complete. */
#ifndef RAFTOGRAM_CTL_FLAGS_H
#define RAFTOGRAM_CTL_FLAGS_H

#include <stddef.h>

/* The flags that not every verb takes, as bits of a set. */
enum {
    OPTION_AUTHOR = 1 << 0,
    OPTION_ID = 1 << 1,
    OPTION_NAME = 1 << 2,
    OPTION_AFTER = 1 << 3,
    OPTION_LIMIT = 1 << 4,
    OPTION_ALL = 1 << 5,
    OPTION_LIVE = 1 << 6,
    OPTION_PREFIX = 1 << 7,
    OPTION_LAST = 1 << 8,
    OPTION_WATCH = 1 << 9,
    OPTION_LINES = 1 << 10,
    OPTION_KEY = 1 << 11,
    OPTION_ROLES = 1 << 12,
    OPTION_AUD = 1 << 13,
    OPTION_ISS = 1 << 14,
    OPTION_KID = 1 << 15,
    OPTION_TTL = 1 << 16,
};

/* Indexes of the table. */
enum flag_id {
    FLAG_ADDR,
    FLAG_OUTPUT,
    FLAG_TIMEOUT,
    FLAG_HELP,
    FLAG_VERSION,
    FLAG_AUTHOR,
    FLAG_ID,
    FLAG_NAME,
    FLAG_AFTER,
    FLAG_LIMIT,
    FLAG_ALL,
    FLAG_LIVE,
    FLAG_PREFIX,
    FLAG_LAST,
    FLAG_WATCH,
    FLAG_LINES,
    FLAG_KEY,
    FLAG_ROLES,
    FLAG_AUD,
    FLAG_ISS,
    FLAG_KID,
    FLAG_TTL,
    FLAGS_COUNT,
};

struct flag {
    const char *name;    /* without dashes */
    const char *alias;   /* a second name; may be NULL */
    const char *value;   /* placeholder or choices ("table|json"); NULL: the flag has no value */
    const char *summary; /* one line */
    const char *note;    /* a second line of help; may be NULL */
    unsigned option;     /* OPTION_*; 0: every verb takes it */
};

extern const struct flag flags[FLAGS_COUNT];

/* Returns the flag of the lowest OPTION_* in a set that is not empty. */
const struct flag *flag_of_options(unsigned options);

#endif
