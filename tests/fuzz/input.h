/* Takes a fuzzer's bytes apart: what there is none left of is 0. */
#ifndef RAFTOGRAM_TESTS_FUZZ_INPUT_H
#define RAFTOGRAM_TESTS_FUZZ_INPUT_H

#include "base/buf.h"

#include <string.h>

struct input {
    const uint8_t *next;
    size_t left;
};

static inline uint8_t take_u8(struct input *input)
{
    if (input->left == 0) {
        return 0;
    }
    input->left--;
    return *input->next++;
}

static inline uint16_t take_u16(struct input *input)
{
    uint16_t low = take_u8(input);
    return (uint16_t)(low | take_u8(input) << 8);
}

/* At most `size` bytes. */
static inline struct bytes take_bytes(struct input *input, size_t size)
{
    size = size < input->left ? size : input->left;
    struct bytes bytes = {input->next, size};
    input->next += size;
    input->left -= size;
    return bytes;
}

#endif
