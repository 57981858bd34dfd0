/* Strings, base64 and names: the text level of the JSON mapping. */
#include "json/json_internal.h"

#include "base/errors.h"

#include <string.h>

#define REPLACEMENT "\xEF\xBF\xBD" /* U+FFFD */

#define EVERY_BYTE(x) (UINT64_C(0x0101010101010101) * (x))

/* Returns whether none of eight bytes is a control character, a quote, a backslash or beyond ASCII.
 * In each term, a byte's top bit is set if that byte is below 0x20, 0x22 or 0x5c. A borrow comes
 * only from a byte that is a hit itself, so that "any" is exact. */
static bool is_plain_word(uint64_t word)
{
    uint64_t control = word - EVERY_BYTE(0x20);
    uint64_t quote = (word ^ EVERY_BYTE('"')) - EVERY_BYTE(1);
    uint64_t backslash = (word ^ EVERY_BYTE('\\')) - EVERY_BYTE(1);
    return ((control | quote | backslash | word) & EVERY_BYTE(0x80)) == 0;
}

static bool is_plain_byte(uint8_t byte)
{
    return byte >= 0x20 && byte < 0x80 && byte != '"' && byte != '\\';
}

static bool is_continuation(uint8_t byte)
{
    return (byte & 0xC0) == 0x80;
}

/* Returns the length of the well-formed sequence (RFC 3629) that begins at `text` with a byte
 * beyond ASCII; 0 if there is none. */
static size_t sequence_length(const uint8_t *text, size_t size)
{
    uint8_t first = text[0];
    if (first >= 0xC2 && first <= 0xDF) {
        return size >= 2 && is_continuation(text[1]) ? 2 : 0;
    }
    if (first >= 0xE0 && first <= 0xEF) {
        if (size < 3 || !is_continuation(text[1]) || !is_continuation(text[2])) {
            return 0;
        }
        bool is_overlong = first == 0xE0 && text[1] < 0xA0;
        bool is_surrogate = first == 0xED && text[1] > 0x9F;
        return is_overlong || is_surrogate ? 0 : 3;
    }
    if (first >= 0xF0 && first <= 0xF4) {
        if (size < 4 || !is_continuation(text[1]) || !is_continuation(text[2]) ||
            !is_continuation(text[3])) {
            return 0;
        }
        bool is_overlong = first == 0xF0 && text[1] < 0x90;
        bool is_beyond = first == 0xF4 && text[1] > 0x8F;
        return is_overlong || is_beyond ? 0 : 4;
    }
    return 0;
}

/* Returns the length of the run at `text` that a JSON string may contain unchanged. */
static size_t plain_length(const uint8_t *text, size_t size)
{
    size_t at = 0;
    while (at < size) {
        uint64_t word;
        while (size - at >= sizeof(word)) {
            memcpy(&word, text + at, sizeof(word));
            if (!is_plain_word(word)) {
                break;
            }
            at += sizeof(word);
        }
        while (at < size && is_plain_byte(text[at])) {
            at++;
        }
        if (at == size || text[at] < 0x80) {
            break;
        }
        size_t length = sequence_length(text + at, size - at);
        if (length == 0) {
            break;
        }
        at += length;
    }
    return at;
}

/* Writes a byte that needs a change: escaped if ASCII, replaced if it is not UTF-8. */
static void append_escaped(struct buf *out, uint8_t byte)
{
    static const char hex[] = "0123456789abcdef";
    static const char letters[0x20] = {
        ['\b'] = 'b', ['\f'] = 'f', ['\n'] = 'n', ['\r'] = 'r', ['\t'] = 't'};
    if (byte >= 0x80) {
        buf_append(out, REPLACEMENT, strlen(REPLACEMENT));
    } else if (byte >= 0x20) {
        char escape[2] = {'\\', (char)byte};
        buf_append(out, escape, sizeof(escape));
    } else if (letters[byte] != 0) {
        char escape[2] = {'\\', letters[byte]};
        buf_append(out, escape, sizeof(escape));
    } else {
        char escape[6] = {'\\', 'u', '0', '0', hex[byte >> 4], hex[byte & 15]};
        buf_append(out, escape, sizeof(escape));
    }
}

void json_append_string(struct buf *out, struct bytes text)
{
    const uint8_t *data = text.data;
    size_t at = 0;
    buf_append_byte(out, '"');
    while (at < text.size && !buf_failed(out)) {
        size_t length = plain_length(data + at, text.size - at);
        if (length > 0) {
            buf_append(out, data + at, length);
            at += length;
        }
        if (at < text.size) {
            append_escaped(out, data[at]);
            at++;
        }
    }
    buf_append_byte(out, '"');
}

void json_append_base64(struct buf *out, struct bytes data)
{
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    if (data.size == 0) {
        return;
    }
    /* The buffer refuses more than this; below it the size cannot overflow. */
    size_t size = data.size > BUF_MAX_BYTES ? SIZE_MAX : (data.size + 2) / 3 * 4;
    char *to = buf_extend(out, size);
    if (to == NULL) {
        return;
    }
    const uint8_t *from = data.data;
    size_t left = data.size;
    for (; left >= 3; left -= 3, from += 3, to += 4) {
        uint32_t group = (uint32_t)from[0] << 16 | (uint32_t)from[1] << 8 | from[2];
        to[0] = digits[group >> 18];
        to[1] = digits[group >> 12 & 63];
        to[2] = digits[group >> 6 & 63];
        to[3] = digits[group & 63];
    }
    if (left > 0) {
        uint32_t group = (uint32_t)from[0] << 16 | (left == 2 ? (uint32_t)from[1] << 8 : 0);
        to[0] = digits[group >> 18];
        to[1] = digits[group >> 12 & 63];
        to[2] = '=';
        if (left == 2) {
            to[2] = digits[group >> 6 & 63];
        }
        to[3] = '=';
    }
}

/* Values of both alphabets plus one; 0: no digit. */
static const uint8_t base64_values[256] = {
    ['A'] = 1,  ['B'] = 2,  ['C'] = 3,  ['D'] = 4,  ['E'] = 5,  ['F'] = 6,  ['G'] = 7,  ['H'] = 8,
    ['I'] = 9,  ['J'] = 10, ['K'] = 11, ['L'] = 12, ['M'] = 13, ['N'] = 14, ['O'] = 15, ['P'] = 16,
    ['Q'] = 17, ['R'] = 18, ['S'] = 19, ['T'] = 20, ['U'] = 21, ['V'] = 22, ['W'] = 23, ['X'] = 24,
    ['Y'] = 25, ['Z'] = 26, ['a'] = 27, ['b'] = 28, ['c'] = 29, ['d'] = 30, ['e'] = 31, ['f'] = 32,
    ['g'] = 33, ['h'] = 34, ['i'] = 35, ['j'] = 36, ['k'] = 37, ['l'] = 38, ['m'] = 39, ['n'] = 40,
    ['o'] = 41, ['p'] = 42, ['q'] = 43, ['r'] = 44, ['s'] = 45, ['t'] = 46, ['u'] = 47, ['v'] = 48,
    ['w'] = 49, ['x'] = 50, ['y'] = 51, ['z'] = 52, ['0'] = 53, ['1'] = 54, ['2'] = 55, ['3'] = 56,
    ['4'] = 57, ['5'] = 58, ['6'] = 59, ['7'] = 60, ['8'] = 61, ['9'] = 62, ['+'] = 63, ['-'] = 63,
    ['/'] = 64, ['_'] = 64};

/* Decodes the last two or three digits to one or two bytes. Ignores bits beyond those bytes, as Go,
 * Python and browsers do. */
static bool decode_tail(const uint8_t *from, size_t digits, uint8_t *to)
{
    uint32_t group = 0;
    for (size_t i = 0; i < digits; i++) {
        if (base64_values[from[i]] == 0) {
            return false;
        }
        group |= (uint32_t)(base64_values[from[i]] - 1) << (18 - 6 * i);
    }
    to[0] = (uint8_t)(group >> 16);
    if (digits == 3) {
        to[1] = (uint8_t)(group >> 8);
    }
    return true;
}

/* Returns the length without one or two "=" at the end. */
static size_t unpadded_size(struct bytes text)
{
    const uint8_t *from = text.data;
    size_t size = text.size;
    while (size > 0 && text.size - size < 2 && from[size - 1] == '=') {
        size--;
    }
    return size;
}

size_t json_base64_decoded_size(struct bytes text)
{
    size_t size = unpadded_size(text);
    return size / 4 * 3 + size % 4 * 3 / 4;
}

bool json_base64_decode(struct bytes text, uint8_t *out)
{
    const uint8_t *from = text.data;
    size_t size = unpadded_size(text);
    bool is_padded = size < text.size;
    if (size % 4 == 1 || (is_padded && text.size % 4 != 0)) {
        return false;
    }
    uint8_t *to = out;
    for (size_t groups = size / 4; groups > 0; groups--, from += 4, to += 3) {
        uint8_t a = base64_values[from[0]];
        uint8_t b = base64_values[from[1]];
        uint8_t c = base64_values[from[2]];
        uint8_t d = base64_values[from[3]];
        if (a == 0 || b == 0 || c == 0 || d == 0) {
            return false;
        }
        uint32_t group = (uint32_t)(a - 1) << 18 | (uint32_t)(b - 1) << 12 |
                         (uint32_t)(c - 1) << 6 | (uint32_t)(d - 1);
        to[0] = (uint8_t)(group >> 16);
        to[1] = (uint8_t)(group >> 8);
        to[2] = (uint8_t)group;
    }
    return size % 4 == 0 || decode_tail(from, size % 4, to);
}

int json_parse_base64(struct bytes text, struct buf *out)
{
    size_t before = out->size;
    uint8_t *to = buf_extend(out, json_base64_decoded_size(text));
    if (to == NULL) {
        return ERR_NOMEM;
    }
    if (!json_base64_decode(text, to)) {
        out->size = before;
        return ERR_INVALID;
    }
    return 0;
}

void json_camel_name(const char *name, char *out)
{
    bool is_upper = false;
    for (; *name != 0; name++) {
        if (*name == '_') {
            is_upper = true;
            continue;
        }
        bool is_letter = *name >= 'a' && *name <= 'z';
        *out++ = is_upper && is_letter ? (char)(*name - 'a' + 'A') : *name;
        is_upper = false;
    }
    *out = 0;
}
