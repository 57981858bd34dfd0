/* The scalars of the configuration: durations, sizes, counts; and what YAML takes a word for. */
#ifndef RAFTOGRAM_CONFIG_VALUE_H
#define RAFTOGRAM_CONFIG_VALUE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Digits only, without a leading zero (YAML 1.1 would read it as octal).
 * Errors: ERR_INVALID. */
int config_read_count(const char *text, uint64_t *out);
/* 150ms, 2s, 5m, 1h; a bare number is an error.
 * Errors: ERR_INVALID. */
int config_read_duration(const char *text, uint64_t *out_ns);
/* Bytes, or KiB, MiB, GiB, TiB.
 * Errors: ERR_INVALID. */
int config_read_size(const char *text, uint64_t *out_bytes);

enum { CONFIG_VALUE_TEXT_SIZE = 32 };
/* The other way, in the largest unit that divides the value; `out` has CONFIG_VALUE_TEXT_SIZE. */
void config_write_duration(uint64_t value_ns, char *out);
void config_write_size(uint64_t value_bytes, char *out);

/* Letters, digits, `-`, `.` and `_`. */
bool config_is_host_name(const char *text);

/* What a scalar without quotes is in YAML's core schema. */
enum config_word { CONFIG_WORD_STRING, CONFIG_WORD_NULL, CONFIG_WORD_BOOL, CONFIG_WORD_NUMBER };
enum config_word config_word_of(const char *text);

#endif
