/* Finds characters that must not reach a terminal or a log unescaped. */
#include "base/text.h"

#include "base/check.h"

uint32_t text_code_point(struct bytes character)
{
    static const uint8_t first_bits[] = {0, 0x7f, 0x1f, 0x0f, 0x07};
    const uint8_t *data = character.data;
    CHECK(character.size >= 1);
    CHECK(character.size <= 4);
    uint32_t point = data[0] & first_bits[character.size];
    for (size_t i = 1; i < character.size; i++) {
        point = point << 6 | (data[i] & 0x3f);
    }
    return point;
}

bool text_is_control(uint32_t point)
{
    bool is_c0_or_c1 = point < 0x20 || (point >= 0x7f && point < 0xa0);
    bool is_line_end = point == 0x2028 || point == 0x2029;
    /* Embeddings and overrides, and isolates. */
    bool is_direction =
        (point >= 0x202a && point <= 0x202e) || (point >= 0x2066 && point <= 0x2069);
    return is_c0_or_c1 || is_line_end || is_direction;
}
