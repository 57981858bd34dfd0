/* Error codes that our functions return: 0 for success, else one of these negative numbers.
 * Only the edges (main, frontends, raftogramctl) turn them into text. */
#ifndef RAFTOGRAM_BASE_ERRORS_H
#define RAFTOGRAM_BASE_ERRORS_H

enum error_code {
    ERR_NOMEM = -1,      /* an allocation failed */
    ERR_IO = -2,         /* the operating system reported an I/O error */
    ERR_CORRUPT = -3,    /* stored or received bytes fail their checksum or make no sense */
    ERR_INVALID = -4,    /* the caller's argument is not acceptable */
    ERR_NOT_FOUND = -5,  /* no such thing */
    ERR_EXISTS = -6,     /* it is there already */
    ERR_FULL = -7,       /* a bounded queue, table or length is at its limit */
    ERR_NO_SPACE = -8,   /* the disk or the store's map is full */
    ERR_LOCKED = -9,     /* another process holds it */
    ERR_VERSION = -10,   /* a format newer than this program knows */
    ERR_CLOSED = -11,    /* it is shutting down */
    ERR_TIMEOUT = -12,   /* a deadline passed */
    ERR_BUSY = -13,      /* in use (an address, say) */
    ERR_ACCESS = -14,    /* permission denied */
    ERR_FOREIGN = -15,   /* belongs to another node or cluster */
    ERR_READ_ONLY = -16, /* the file system is mounted read-only */
    ERR_FILES = -17,     /* too many open files, of the process or of the system */
};

/* A short lower-case phrase; a static string, never NULL. */
const char *error_text(int code);

#endif
