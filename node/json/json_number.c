/* Numbers. A double cannot hold every 64-bit integer. So integers are read from their text, in any
 * form (1e3, 10.0, "7"), and are either exact or refused. */
#include "json/json_internal.h"

#include "base/check.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* A larger exponent moves the point out of any text that fits into a buffer. */
#define EXPONENT_MAX INT64_C(1000000000000)

#define DIGITS_OF_U64 20

struct number {
    bool is_negative;
    const char *whole; /* digits before the point */
    size_t whole_size;
    const char *fraction; /* digits after the point */
    size_t fraction_size;
    int64_t exponent;
};

static bool is_digit(char c)
{
    return c >= '0' && c <= '9';
}

static size_t digit_span(const char *text, size_t size)
{
    size_t span = 0;
    while (span < size && is_digit(text[span])) {
        span++;
    }
    return span;
}

size_t json_number_span(const char *text, size_t size)
{
    size_t span = 0;
    while (span < size && (is_digit(text[span]) || text[span] == '-' || text[span] == '+' ||
                           text[span] == '.' || text[span] == 'e' || text[span] == 'E')) {
        span++;
    }
    return span;
}

/* Reads what follows "e" or "E". */
static bool split_exponent(const char *text, size_t size, int64_t *exponent)
{
    bool is_negative = size > 0 && text[0] == '-';
    size_t sign = size > 0 && (text[0] == '-' || text[0] == '+') ? 1 : 0;
    size_t span = digit_span(text + sign, size - sign);
    if (span == 0 || sign + span != size) {
        return false;
    }
    int64_t value = 0;
    for (size_t i = sign; i < size && value < EXPONENT_MAX; i++) {
        value = value * 10 + (text[i] - '0');
    }
    *exponent = is_negative ? -value : value;
    return true;
}

/* Splits a number by RFC 8259, section 6. Returns false if it is none. */
static bool split(struct bytes text, struct number *number)
{
    const char *at = text.data;
    size_t left = text.size;
    *number = (struct number){0};
    if (left > 0 && *at == '-') {
        number->is_negative = true;
        at++;
        left--;
    }
    number->whole = at;
    number->whole_size = digit_span(at, left);
    bool has_leading_zero = number->whole_size > 1 && at[0] == '0';
    if (number->whole_size == 0 || has_leading_zero) {
        return false;
    }
    at += number->whole_size;
    left -= number->whole_size;
    if (left > 0 && *at == '.') {
        number->fraction = at + 1;
        number->fraction_size = digit_span(at + 1, left - 1);
        if (number->fraction_size == 0) {
            return false;
        }
        at += 1 + number->fraction_size;
        left -= 1 + number->fraction_size;
    }
    if (left > 0 && (*at == 'e' || *at == 'E')) {
        return split_exponent(at + 1, left - 1, &number->exponent);
    }
    return left == 0;
}

bool json_is_number_text(struct bytes text)
{
    struct number number;
    return split(text, &number);
}

/* Returns the digit at `index` of whole and fraction together. */
static unsigned digit_at(const struct number *number, size_t index)
{
    char c = index < number->whole_size ? number->whole[index]
                                        : number->fraction[index - number->whole_size];
    return (unsigned)(c - '0');
}

bool json_number_integer(struct bytes text, bool *is_negative, uint64_t *magnitude)
{
    struct number number;
    if (!split(text, &number)) {
        return false;
    }
    size_t first = 0;
    size_t end = number.whole_size + number.fraction_size;
    while (first < end && digit_at(&number, first) == 0) {
        first++;
    }
    /* The value is the digits [first, end) times ten to the power of `zeros`. */
    int64_t zeros = number.exponent - (int64_t)number.fraction_size;
    while (end > first && digit_at(&number, end - 1) == 0) {
        end--;
        zeros++;
    }
    uint64_t value = 0;
    if (first < end) {
        if (zeros < 0 || zeros > DIGITS_OF_U64 || end - first > DIGITS_OF_U64) {
            return false;
        }
        size_t digits = end - first + (size_t)zeros;
        for (size_t i = 0; i < digits; i++) {
            unsigned digit = first + i < end ? digit_at(&number, first + i) : 0;
            if (__builtin_mul_overflow(value, UINT64_C(10), &value) ||
                __builtin_add_overflow(value, digit, &value)) {
                return false;
            }
        }
    }
    *is_negative = number.is_negative;
    *magnitude = value;
    return true;
}

struct bytes json_written_number(const json_t *value)
{
    CHECK(json_is_written_number(value));
    return (struct bytes){json_string_value(value) + 1, json_string_length(value) - 1};
}

bool json_is_written_number(const json_t *value)
{
    if (!json_is_string(value)) {
        return false;
    }
    const char *text = json_string_value(value);
    size_t size = json_string_length(value);
    return size > 1 && text[0] == 0 && json_is_number_text((struct bytes){text + 1, size - 1});
}

void json_append_u64(struct buf *out, uint64_t value)
{
    char text[DIGITS_OF_U64];
    size_t at = sizeof(text);
    do {
        text[--at] = (char)('0' + value % 10);
        value /= 10;
    } while (value > 0);
    buf_append(out, text + at, sizeof(text) - at);
}

void json_append_i64(struct buf *out, int64_t value)
{
    if (value < 0) {
        buf_append_byte(out, '-');
        json_append_u64(out, 0 - (uint64_t)value);
    } else {
        json_append_u64(out, (uint64_t)value);
    }
}

/* Writes NaN and infinities. Returns false for other values. */
static bool append_special(struct buf *out, double value)
{
    if (isnan(value)) {
        buf_append_text(out, "\"NaN\"");
    } else if (isinf(value)) {
        buf_append_text(out, value > 0 ? "\"Infinity\"" : "\"-Infinity\"");
    } else {
        return false;
    }
    return true;
}

/* No program here calls setlocale(), so the decimal separator is a point. */
void json_append_double(struct buf *out, double value)
{
    if (append_special(out, value)) {
        return;
    }
    char text[32];
    for (int precision = 15; precision <= 17; precision++) {
        snprintf(text, sizeof(text), "%.*g", precision, value);
        if (strtod(text, NULL) == value) {
            break;
        }
    }
    buf_append_text(out, text);
}

void json_append_float(struct buf *out, float value)
{
    if (append_special(out, (double)value)) {
        return;
    }
    char text[32];
    for (int precision = 6; precision <= 9; precision++) {
        snprintf(text, sizeof(text), "%.*g", precision, (double)value);
        if (strtof(text, NULL) == value) {
            break;
        }
    }
    buf_append_text(out, text);
}
