/* Makes text safe for a terminal, and measures its width. */
#include "text.h"

#include "base/check.h"
#include "base/text.h"

#include <stdbool.h>
#include <stdint.h>
#include <string.h>
#include <wchar.h>

static void append_escaped(struct buf *out, uint8_t byte)
{
    switch (byte) {
    case '\n':
        buf_append_text(out, "\\n");
        break;
    case '\t':
        buf_append_text(out, "\\t");
        break;
    case '\r':
        buf_append_text(out, "\\r");
        break;
    default:
        buf_printf(out, "\\x%02x", byte);
    }
}

static void append_character(struct buf *out, const uint8_t *data, size_t size)
{
    uint32_t point = text_code_point((struct bytes){data, size});
    if (!text_is_control(point)) {
        buf_append(out, data, size);
    } else if (size == 1) {
        append_escaped(out, data[0]);
    } else {
        buf_printf(out, "\\u%04x", point);
    }
}

void text_append_printable(struct buf *out, struct bytes text)
{
    bool is_text = bytes_is_utf8(text);
    const uint8_t *data = text.data;
    for (size_t i = 0; i < text.size;) {
        size_t size = 1;
        if (is_text) {
            size = bytes_utf8_character((struct bytes){data + i, text.size - i});
            append_character(out, data + i, size);
        } else if (data[i] >= 0x20 && data[i] < 0x7f) {
            buf_append_byte(out, data[i]);
        } else {
            append_escaped(out, data[i]);
        }
        i += size;
    }
}

size_t text_width(const char *text)
{
    const uint8_t *data = (const uint8_t *)text;
    size_t left = strlen(text);
    size_t width = 0;
    while (left > 0) {
        size_t size = bytes_utf8_character((struct bytes){data, left});
        CHECK(size > 0);
        int columns = wcwidth((wchar_t)text_code_point((struct bytes){data, size}));
        width += columns >= 0 ? (size_t)columns : 1;
        data += size;
        left -= size;
    }
    return width;
}
