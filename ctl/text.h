/* Text from elsewhere, made fit for a terminal. */
#ifndef RAFTOGRAM_CTL_TEXT_H
#define RAFTOGRAM_CTL_TEXT_H

#include "base/buf.h"

#include <stddef.h>

/* Appends what a terminal shows safely on one line: UTF-8 text with its control characters escaped
 * (\n, \x1b), anything else with every byte that is not printable ASCII as \xNN. */
void text_append_printable(struct buf *out, struct bytes text);
/* Returns the terminal columns of what text_append_printable() wrote. */
size_t text_width(const char *text);

#endif
