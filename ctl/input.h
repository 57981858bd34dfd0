/* Reads a message or a value from stdin. */
#ifndef RAFTOGRAM_CTL_INPUT_H
#define RAFTOGRAM_CTL_INPUT_H

#include "base/buf.h"

#define INPUT_BYTES_MAX (3 << 20) /* the upper limit of limits.max_payload_bytes */

/* Reads all of stdin. `what` names it in the error text. Finish `out` in every case.
 * Returns 0, or an exit code after a line on stderr. */
int input_read(struct buf *out, const char *what);

#endif
