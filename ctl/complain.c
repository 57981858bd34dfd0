/* Prints the line of a failure. */
#include "complain.h"

#include "text.h"

#include <stdarg.h>
#include <stdio.h>

void complain(const char *format, ...)
{
    struct buf text = {0};
    struct buf line = {0};
    char raw[2048];
    va_list list;
    va_start(list, format);
    vsnprintf(raw, sizeof(raw), format, list);
    va_end(list);
    /* Parts of the text may come from a node or from the command line. */
    text_append_printable(&text, bytes_of_text(raw));
    buf_printf(&line, "raftogramctl: %s\n", buf_text(&text));
    fputs(buf_text(&line), stderr);
    buf_finish(&text);
    buf_finish(&line);
}
