/* Parses text to jansson values, with numbers kept as they were written.
 *
 * jansson refuses integers beyond int64 and rounds reals. So every number that it might change is
 * put into a string before: 1.5 becomes "\u00001.5". Such a string is never confused with a
 * client's text: a string field refuses NUL, and a numeric field reads it as the number. */
#include "json/json_internal.h"

#include "base/check.h"
#include "base/errors.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define PLAIN_DIGITS_MAX 18 /* any integer of this many digits fits int64 */

static_assert(JSON_VALUES_MAX > 0, "a text has at least one value");

/* If out of memory, jansson's parser reports a syntax error or silently drops the end of a string.
 * So its allocator notes failures here, and json_parse() then ignores the parser's result. */
static _Thread_local bool has_allocation_failed;

static void *noting_malloc(size_t size)
{
    void *memory = malloc(size);
    has_allocation_failed |= memory == NULL;
    return memory;
}

/* Runs before main(): jansson requires it to be set before any use and reads it without a lock. */
__attribute__((constructor)) static void set_allocator(void)
{
    json_set_alloc_funcs(noting_malloc, free);
}

void json_set_key(uint64_t key)
{
    /* With 0, jansson would choose a key. */
    json_object_seed((size_t)key | 1);
}

int json_refuse(struct json_error *error, const char *reason)
{
    if (error == NULL) {
        return ERR_INVALID;
    }
    size_t size = 0;
    for (; reason[size] != 0 && size < sizeof(error->text) - 1; size++) {
        bool is_printable = reason[size] >= 0x20 && reason[size] < 0x7F;
        error->text[size] = is_printable ? reason[size] : '?';
    }
    error->text[size] = 0;
    return ERR_INVALID;
}

/* Returns the offset after the string that begins at `at`; the size if it has no end. */
static size_t skip_string(const char *text, size_t size, size_t at)
{
    for (at++; at < size; at++) {
        if (text[at] == '"') {
            return at + 1;
        }
        if (text[at] == '\\') {
            at++;
        }
    }
    return size;
}

static bool is_plain_integer(const char *text, size_t size)
{
    size_t sign = text[0] == '-' ? 1 : 0;
    for (size_t i = sign; i < size; i++) {
        if (text[i] < '0' || text[i] > '9') {
            return false;
        }
    }
    return size - sign <= PLAIN_DIGITS_MAX;
}

/* Copies `text` with its numbers put into strings. `out` stays empty if there are none. Changes
 * only complete well-formed numbers. Invalid JSON stays invalid: a string is valid where a number
 * is not only as a key, and jansson refuses NUL in keys. */
static int protect_numbers(const char *text, size_t size, struct buf *out)
{
    size_t copied = 0;
    size_t values = 1;
    size_t at = 0;
    while (at < size) {
        char c = text[at];
        if (c == '"') {
            at = skip_string(text, size, at);
            continue;
        }
        if (c != '-' && (c < '0' || c > '9')) {
            values += c == ',' || c == '[' || c == '{';
            at++;
            continue;
        }
        size_t span = json_number_span(text + at, size - at);
        if (!is_plain_integer(text + at, span) &&
            json_is_number_text((struct bytes){text + at, span})) {
            buf_append(out, text + copied, at - copied);
            buf_append_text(out, "\"\\u0000");
            buf_append(out, text + at, span);
            buf_append_byte(out, '"');
            copied = at + span;
        }
        at += span;
    }
    if (copied > 0) {
        buf_append(out, text + copied, size - copied);
    }
    if (buf_failed(out)) {
        return ERR_NOMEM;
    }
    return values > JSON_VALUES_MAX ? ERR_FULL : 0;
}

/* Refuses with jansson's "reason near 'text'", but without the text, which may be rewritten. */
static int refuse_syntax(const json_error_t *cause, bool is_same_text, struct json_error *error)
{
    const char *near = strstr(cause->text, " near ");
    int size = near != NULL ? (int)(near - cause->text) : (int)strlen(cause->text);
    char reason[sizeof(cause->text) + 64];
    if (is_same_text && cause->position >= 0) {
        snprintf(reason, sizeof(reason), "not JSON: %.*s at byte %d", size, cause->text,
                 cause->position);
    } else {
        snprintf(reason, sizeof(reason), "not JSON: %.*s", size, cause->text);
    }
    return json_refuse(error, reason);
}

int json_parse(struct bytes text, json_t **out, struct json_error *error)
{
    /* jansson skips a NUL after a number. */
    if (text.size > 0 && memchr(text.data, 0, text.size) != NULL) {
        return json_refuse(error, "not JSON: NUL byte");
    }
    struct buf copy = {0};
    int rc = protect_numbers(text.data, text.size, &copy);
    if (rc == ERR_FULL) {
        char reason[64];
        snprintf(reason, sizeof(reason), "more than %d values", JSON_VALUES_MAX);
        rc = json_refuse(error, reason);
        goto finish_copy;
    }
    if (rc != 0) {
        goto finish_copy;
    }
    struct bytes source = copy.size > 0 ? buf_bytes(&copy) : text;
    json_error_t cause = {0};
    has_allocation_failed = false;
    json_t *value = json_loadb(source.size > 0 ? source.data : "", source.size,
                               JSON_DECODE_ANY | JSON_ALLOW_NUL, &cause);
    if (has_allocation_failed) {
        json_decref(value);
        rc = ERR_NOMEM;
        goto finish_copy;
    }
    if (value == NULL) {
        rc = refuse_syntax(&cause, copy.size == 0, error);
        goto finish_copy;
    }
    *out = value;
finish_copy:
    buf_finish(&copy);
    return rc;
}

void json_append_scalar(struct buf *out, const json_t *value)
{
    CHECK(!json_is_object(value));
    CHECK(!json_is_array(value));
    switch (json_typeof(value)) {
    case JSON_STRING:
        if (json_is_written_number(value)) {
            struct bytes number = json_written_number(value);
            buf_append(out, number.data, number.size);
        } else {
            json_append_string(out,
                               (struct bytes){json_string_value(value), json_string_length(value)});
        }
        return;
    case JSON_INTEGER:
        json_append_i64(out, json_integer_value(value));
        return;
    case JSON_REAL:
        json_append_double(out, json_real_value(value));
        return;
    case JSON_TRUE:
        buf_append_text(out, "true");
        return;
    case JSON_FALSE:
        buf_append_text(out, "false");
        return;
    case JSON_NULL:
        buf_append_text(out, "null");
        return;
    case JSON_OBJECT:
    case JSON_ARRAY:
        return;
    }
}
