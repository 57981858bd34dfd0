/* Finds characters that must not reach a terminal or a log unescaped. */
#ifndef RAFTOGRAM_BASE_TEXT_H
#define RAFTOGRAM_BASE_TEXT_H

#include "base/buf.h"

#include <stdbool.h>
#include <stdint.h>

/* The code point of a well-formed UTF-8 character: as many bytes as bytes_utf8_character() says. */
uint32_t text_code_point(struct bytes character);
/* True for C0, DEL and C1 control characters, and for characters that can disguise a line: line
 * and paragraph separators, and marks that change the direction of the text after them. */
bool text_is_control(uint32_t point);

#endif
