/* Which characters a terminal or a log must not be given as they are. */
#ifndef RAFTOGRAM_BASE_TEXT_H
#define RAFTOGRAM_BASE_TEXT_H

#include "base/buf.h"

#include <stdbool.h>
#include <stdint.h>

/* The code point of a well-formed UTF-8 character: as many bytes as bytes_utf8_character() says. */
uint32_t text_code_point(struct bytes character);
/* True for C0, DEL and C1 control characters, and for what makes one line look like another one:
 * line and paragraph separators, and marks that turn the direction of the text behind them. */
bool text_is_control(uint32_t point);

#endif
