/* Parses scalars: numbers with units, durations, sizes. */
#include "config/value.h"

#include "base/clock.h"
#include "base/errors.h"

#include <ctype.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct unit {
    const char *name;
    uint64_t factor;
};

/* Sorted by size, largest first. */
static const struct unit duration_units[] = {
    {"h", 3600 * NS_PER_S},
    {"m", 60 * NS_PER_S},
    {"s", NS_PER_S},
    {"ms", NS_PER_MS},
};
static const struct unit size_units[] = {
    {"TiB", UINT64_C(1) << 40},
    {"GiB", UINT64_C(1) << 30},
    {"MiB", UINT64_C(1) << 20},
    {"KiB", UINT64_C(1) << 10},
    {"", 1},
};
#define UNIT_COUNT(units) (sizeof(units) / sizeof((units)[0]))

static bool is_digit(char c)
{
    return c >= '0' && c <= '9';
}

/* Reads the digits at the beginning. Returns the text after them; NULL if there are none, too many,
 * or a leading zero. */
static const char *read_digits(const char *text, uint64_t *out)
{
    if (!is_digit(text[0]) || (text[0] == '0' && is_digit(text[1]))) {
        return NULL;
    }
    uint64_t value = 0;
    for (; is_digit(*text); text++) {
        uint64_t digit = (uint64_t)(*text - '0');
        if (value > (UINT64_MAX - digit) / 10) {
            return NULL;
        }
        value = value * 10 + digit;
    }
    *out = value;
    return text;
}

static int read_with_unit(const char *text, const struct unit *units, size_t unit_count,
                          uint64_t *out)
{
    uint64_t value = 0;
    const char *rest = read_digits(text, &value);
    if (rest == NULL) {
        return ERR_INVALID;
    }
    for (size_t i = 0; i < unit_count; i++) {
        if (strcmp(rest, units[i].name) != 0) {
            continue;
        }
        if (value > UINT64_MAX / units[i].factor) {
            return ERR_INVALID;
        }
        *out = value * units[i].factor;
        return 0;
    }
    return ERR_INVALID;
}

static void write_with_unit(uint64_t value, const struct unit *units, size_t unit_count, char *out)
{
    size_t i = 0;
    while (i < unit_count - 1 && (value == 0 || value % units[i].factor != 0)) {
        i++;
    }
    snprintf(out, CONFIG_VALUE_TEXT_SIZE, "%" PRIu64 "%s", value / units[i].factor, units[i].name);
}

int config_read_count(const char *text, uint64_t *out)
{
    uint64_t value = 0;
    const char *rest = read_digits(text, &value);
    if (rest == NULL || *rest != '\0') {
        return ERR_INVALID;
    }
    *out = value;
    return 0;
}

int config_read_duration(const char *text, uint64_t *out_ns)
{
    return read_with_unit(text, duration_units, UNIT_COUNT(duration_units), out_ns);
}

int config_read_size(const char *text, uint64_t *out_bytes)
{
    return read_with_unit(text, size_units, UNIT_COUNT(size_units), out_bytes);
}

void config_write_duration(uint64_t value_ns, char *out)
{
    write_with_unit(value_ns, duration_units, UNIT_COUNT(duration_units), out);
}

void config_write_size(uint64_t value_bytes, char *out)
{
    write_with_unit(value_bytes, size_units, UNIT_COUNT(size_units), out);
}

static bool is_one_of(const char *text, const char *const *words, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        if (strcmp(text, words[i]) == 0) {
            return true;
        }
    }
    return false;
}

/* strtod() also accepts "inf" and "nan", which YAML writes with a dot, so the first character is
 * checked. */
static bool is_number(const char *text)
{
    const char *start = text + (*text == '-' || *text == '+');
    if (!is_digit(start[0]) && !(start[0] == '.' && is_digit(start[1]))) {
        return false;
    }
    char *end = NULL;
    strtod(text, &end);
    return *end == '\0';
}

enum config_word config_word_of(const char *text)
{
    static const char *const nulls[] = {"", "~", "null", "Null", "NULL"};
    static const char *const bools[] = {"true", "True", "TRUE", "false", "False", "FALSE"};
    if (is_one_of(text, nulls, sizeof(nulls) / sizeof(nulls[0]))) {
        return CONFIG_WORD_NULL;
    }
    if (is_one_of(text, bools, sizeof(bools) / sizeof(bools[0]))) {
        return CONFIG_WORD_BOOL;
    }
    return is_number(text) ? CONFIG_WORD_NUMBER : CONFIG_WORD_STRING;
}

bool config_is_host_name(const char *text)
{
    for (const char *at = text; *at != '\0'; at++) {
        if (!isalnum((unsigned char)*at) && strchr("-._", *at) == NULL) {
            return false;
        }
    }
    return true;
}
