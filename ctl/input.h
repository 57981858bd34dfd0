/* What comes by stdin. */
#ifndef RAFTOGRAM_CTL_INPUT_H
#define RAFTOGRAM_CTL_INPUT_H

#include "base/buf.h"

#define INPUT_BYTES_MAX (3 << 20) /* limits.max_payload_bytes can be no larger */

/* Reads all of stdin; `what` it is to become is for the error text. Finish `out` in every case.
 * Returns 0, or an exit code after a line on stderr. */
int input_read(struct buf *out, const char *what);

#endif
