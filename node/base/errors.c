/* The texts of the ERR_* codes. */
#include "base/errors.h"

const char *error_text(int code)
{
    switch (code) {
    case 0:
        return "success";
    case ERR_NOMEM:
        return "out of memory";
    case ERR_IO:
        return "input/output error";
    case ERR_CORRUPT:
        return "corrupt data";
    case ERR_INVALID:
        return "invalid argument";
    case ERR_NOT_FOUND:
        return "not found";
    case ERR_EXISTS:
        return "already exists";
    case ERR_FULL:
        return "at its limit";
    case ERR_NO_SPACE:
        return "no space left";
    case ERR_LOCKED:
        return "locked by another process";
    case ERR_VERSION:
        return "written by a newer version";
    case ERR_CLOSED:
        return "shutting down";
    case ERR_TIMEOUT:
        return "timed out";
    case ERR_BUSY:
        return "in use";
    case ERR_ACCESS:
        return "permission denied";
    case ERR_FOREIGN:
        return "belongs to another node or cluster";
    case ERR_READ_ONLY:
        return "read-only file system";
    case ERR_FILES:
        return "too many open files";
    default:
        return "unknown error";
    }
}
