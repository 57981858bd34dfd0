/* Structured logs on stderr: JSON, one object a line, or for people (`-dev`). Any thread.
 *
 *   log_info("node", "became leader", LOG_U64("term", term), LOG_STR("leader", id));
 *
 * A line is written by one write(2). `module` is a module's name. Field names are snake_case.
 * The JSON keys are time (RFC 3339, UTC, milliseconds), level, module, msg, then the common
 * field, then the fields. Logging allocates nothing and keeps errno. An over-long string is cut
 * and ends with an ellipsis. Fields that exceed the longest line (16 KiB) are replaced by
 * "truncated":true.
 *
 * After log_start() only the log's thread waits for the reader of stderr. Lines are queued (128
 * KiB); those that do not fit are dropped and counted. When lines can be written again, a line
 * in place of the dropped ones reports how many they were. Without the thread, callers write the
 * lines themselves, and the next line that can be written reports how many could not:
 * "lost_lines":N. */
#ifndef RAFTOGRAM_BASE_LOG_H
#define RAFTOGRAM_BASE_LOG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum log_level { LOG_LEVEL_DEBUG, LOG_LEVEL_INFO, LOG_LEVEL_WARN, LOG_LEVEL_ERROR };

enum log_field_kind { LOG_FIELD_STR, LOG_FIELD_U64, LOG_FIELD_I64 };

struct log_field {
    const char *name;
    enum log_field_kind kind;
    union {
        const char *str; /* NULL is written as null; need not be UTF-8 (bad bytes are replaced) */
        uint64_t u64;
        int64_t i64;
    } value;
};

#define LOG_STR(n, v) ((struct log_field){.name = (n), .kind = LOG_FIELD_STR, .value.str = (v)})
#define LOG_U64(n, v) ((struct log_field){.name = (n), .kind = LOG_FIELD_U64, .value.u64 = (v)})
#define LOG_I64(n, v) ((struct log_field){.name = (n), .kind = LOG_FIELD_I64, .value.i64 = (v)})

/* Before any thread starts. The default is JSON at LOG_LEVEL_INFO, to file descriptor 2. */
void log_init(bool is_dev, enum log_level level);
/* Tests: where lines go. */
void log_set_fd(int fd);
/* Before any thread starts: a field that every later line bears (the node id); both strings must
 * outlive all logging. NULL takes it away. */
void log_set_common(const char *name, const char *value);

/* Starts the thread that writes the lines. Errors: ERR_NOMEM (the callers go on writing). */
int log_start(void);
/* Waits until all lines are written, at most `timeout_ms`: before the process ends. False: some
 * are not written. It reads only counters, so it may be called with any lock held. */
bool log_flush(uint32_t timeout_ms);
/* After log_flush(): ends the thread. False: it still waits for the reader. */
bool log_stop(uint32_t timeout_ms);
/* Lines dropped since the start. Any thread. */
uint64_t log_dropped_total(void);

#define LOG_LAST_WORDS_MS 500 /* how long the end of the process waits for the reader of stderr */

/* Holds lines below LOG_LEVEL_WARN while a program starts (64 KiB of them, the rest is lost), so
 * that a failed start prints one plain line only. log_release() writes the held lines, or drops
 * them. */
void log_hold(void);
void log_release(bool is_dropped);

void log_write(enum log_level level, const char *module, const char *message,
               const struct log_field *fields, size_t count);

/* Writes a line of plain text, also while lines are held: for the reason of a failed start. */
void log_plain(const char *text);
/* Writes to stderr directly, ahead of queued lines, and waits at most 100 ms: for a process that
 * crashes. At most PIPE_BUF bytes. Async-signal-safe. */
void log_last_words(const char *text, size_t size);

/* The leading dummy keeps the array non-empty when no fields are given. */
#define LOG_AT(level, module, message, ...)                          \
    do {                                                             \
        const struct log_field log_fields_[] = {{0}, __VA_ARGS__};   \
        log_write((level), (module), (message), log_fields_ + 1,     \
                  sizeof(log_fields_) / sizeof(log_fields_[0]) - 1); \
    } while (0)

#define log_debug(module, ...) LOG_CALL(LOG_LEVEL_DEBUG, module, __VA_ARGS__, )
#define log_info(module, ...) LOG_CALL(LOG_LEVEL_INFO, module, __VA_ARGS__, )
#define log_warn(module, ...) LOG_CALL(LOG_LEVEL_WARN, module, __VA_ARGS__, )
#define log_error(module, ...) LOG_CALL(LOG_LEVEL_ERROR, module, __VA_ARGS__, )
/* `message` is split off here, so that a line without fields is still one call. */
#define LOG_CALL(level, module, message, ...) LOG_AT(level, module, message, __VA_ARGS__)

#endif
