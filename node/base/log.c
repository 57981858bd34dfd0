/* Formats log lines: JSON, or text for people. */
#include "base/log.h"

#include "base/buf.h"
#include "base/clock.h"
#include "base/log_writer.h"
#include "base/text.h"

#include <errno.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum {
    LOG_VALUE_MAX = 4096, /* bytes of one escaped string */
    LOG_TAIL_SIZE = 64,   /* kept free for what every line ends with */
    LOG_HELD_MAX = 65536, /* bytes that wait for log_release() */
};

/* A line is made on the stack: logging never allocates, so it never fails for lack of memory. */
struct line {
    char text[LOG_LINE_MAX];
    size_t size;
    bool is_full;
};

static struct {
    bool is_dev;
    enum log_level level;
    const char *common_name;
    const char *common_value;
    atomic_uint_fast64_t lost; /* lines that could not be written since the last one that could */
} logger = {.level = LOG_LEVEL_INFO};

static struct {
    atomic_bool is_holding; /* changed under the lock */
    pthread_mutex_t lock;
    char text[LOG_HELD_MAX];
    size_t size;
} held = {.lock = PTHREAD_MUTEX_INITIALIZER};

void log_init(bool is_dev, enum log_level level)
{
    logger.is_dev = is_dev;
    logger.level = level;
}

void log_set_fd(int fd)
{
    log_writer_set_fd(fd);
}

void log_set_common(const char *name, const char *value)
{
    logger.common_name = name;
    logger.common_value = value;
}

static void put(struct line *line, const char *text, size_t size)
{
    if (line->is_full || size > sizeof(line->text) - LOG_TAIL_SIZE - line->size) {
        line->is_full = true;
        return;
    }
    memcpy(line->text + line->size, text, size);
    line->size += size;
}

static void put_text(struct line *line, const char *text)
{
    put(line, text, strlen(text));
}

/* Writes `out` as the escaped form of the character at the beginning of `in`; returns how many
 * bytes of `in` it stands for. A byte that is not UTF-8 becomes U+FFFD. */
static size_t escape_character(struct bytes in, char out[static 8])
{
    static const char replacement[] = "\xef\xbf\xbd";
    uint8_t first = *(const uint8_t *)in.data;
    size_t length = bytes_utf8_character(in);
    if (length == 0) {
        strcpy(out, replacement);
        return 1;
    }
    if (first == '"' || first == '\\') {
        snprintf(out, 8, "\\%c", first);
    } else if (first == '\n') {
        strcpy(out, "\\n");
    } else if (first == '\t') {
        strcpy(out, "\\t");
    } else if (text_is_control(text_code_point((struct bytes){in.data, length}))) {
        unsigned point = text_code_point((struct bytes){in.data, length});
        snprintf(out, 8, "\\u%04x", point & 0xffff);
    } else {
        memcpy(out, in.data, length);
        out[length] = '\0';
    }
    return length;
}

/* A string's contents, escaped as in JSON; an over-long one is cut and ends with an ellipsis. */
static void put_escaped(struct line *line, const char *text)
{
    size_t left = strnlen(text, LOG_VALUE_MAX + 4);
    size_t written = 0;
    while (left > 0) {
        char escaped[8];
        size_t used = escape_character((struct bytes){.data = text, .size = left}, escaped);
        written += strlen(escaped);
        if (written > LOG_VALUE_MAX) {
            put_text(line, "\xe2\x80\xa6");
            return;
        }
        put_text(line, escaped);
        text += used;
        left -= used;
    }
}

static void put_quoted(struct line *line, const char *text)
{
    put_text(line, "\"");
    put_escaped(line, text);
    put_text(line, "\"");
}

/* True if people can tell where the value ends without quotes. */
static bool is_plain_word(const char *text)
{
    if (*text == '\0') {
        return false;
    }
    for (; *text != '\0'; text++) {
        if ((unsigned char)*text <= ' ' || strchr("\"\\=\x7f", *text) != NULL) {
            return false;
        }
    }
    return true;
}

static void put_string(struct line *line, const char *text)
{
    if (text == NULL) {
        put_text(line, "null");
    } else if (logger.is_dev && is_plain_word(text)) {
        put_escaped(line, text);
    } else {
        put_quoted(line, text);
    }
}

static void put_value(struct line *line, const struct log_field *field)
{
    char number[24];
    switch (field->kind) {
    case LOG_FIELD_STR:
        put_string(line, field->value.str);
        break;
    case LOG_FIELD_U64:
        snprintf(number, sizeof(number), "%" PRIu64, field->value.u64);
        put_text(line, number);
        break;
    case LOG_FIELD_I64:
        snprintf(number, sizeof(number), "%" PRId64, field->value.i64);
        put_text(line, number);
        break;
    }
}

/* Whole or not at all, so that a line that grows too long stays a JSON object. */
static void put_field(struct line *line, const struct log_field *field)
{
    size_t size_before = line->size;
    if (logger.is_dev) {
        put_text(line, " ");
        put_escaped(line, field->name);
        put_text(line, "=");
    } else {
        put_text(line, ",");
        put_quoted(line, field->name);
        put_text(line, ":");
    }
    put_value(line, field);
    if (line->is_full) {
        line->size = size_before;
    }
}

static const char *level_text(enum log_level level)
{
    switch (level) {
    case LOG_LEVEL_DEBUG:
        return "debug";
    case LOG_LEVEL_INFO:
        return "info";
    case LOG_LEVEL_WARN:
        return "warn";
    case LOG_LEVEL_ERROR:
        break;
    }
    return "error";
}

static void put_head_json(struct line *line, int64_t wall_ms, enum log_level level,
                          const char *module, const char *message)
{
    time_t seconds = (time_t)(wall_ms / 1000);
    struct tm utc;
    char date[40] = "1970-01-01T00:00:00";
    if (gmtime_r(&seconds, &utc) != NULL) {
        strftime(date, sizeof(date), "%Y-%m-%dT%H:%M:%S", &utc);
    }
    char head[96];
    snprintf(head, sizeof(head), "{\"time\":\"%s.%03dZ\",\"level\":\"%s\",\"module\":", date,
             (int)(wall_ms % 1000), level_text(level));
    put_text(line, head);
    put_quoted(line, module);
    put_text(line, ",\"msg\":");
    put_quoted(line, message);
}

static void put_head_dev(struct line *line, int64_t wall_ms, enum log_level level,
                         const char *module, const char *message)
{
    time_t seconds = (time_t)(wall_ms / 1000);
    struct tm local;
    char date[16] = "00:00:00";
    if (localtime_r(&seconds, &local) != NULL) {
        strftime(date, sizeof(date), "%H:%M:%S", &local);
    }
    char head[48];
    snprintf(head, sizeof(head), "%s.%03d %-5s ", date, (int)(wall_ms % 1000), level_text(level));
    put_text(line, head);
    put_escaped(line, module);
    put_text(line, ": ");
    put_escaped(line, message);
}

/* Appends to the LOG_TAIL_SIZE bytes that put() keeps free. */
static void finish_line(struct line *line)
{
    const char *tail = "}\n";
    if (logger.is_dev) {
        tail = line->is_full ? " truncated=true\n" : "\n";
    } else if (line->is_full) {
        tail = ",\"truncated\":true}\n";
    }
    memcpy(line->text + line->size, tail, strlen(tail));
    line->size += strlen(tail);
}

static void count_lost(uint64_t lines)
{
    atomic_fetch_add(&logger.lost, lines);
}

/* False if the line is to be written now. `lost`: how many other lines it reports. */
static bool hold_line(enum log_level level, const struct line *line, uint64_t lost)
{
    if (level >= LOG_LEVEL_WARN || !atomic_load(&held.is_holding)) {
        return false;
    }
    pthread_mutex_lock(&held.lock);
    bool is_holding = atomic_load(&held.is_holding);
    if (is_holding && line->size > sizeof(held.text) - held.size) {
        count_lost(lost + 1);
    } else if (is_holding) {
        memcpy(held.text + held.size, line->text, line->size);
        held.size += line->size;
    }
    pthread_mutex_unlock(&held.lock);
    return is_holding;
}

void log_hold(void)
{
    pthread_mutex_lock(&held.lock);
    atomic_store(&held.is_holding, true);
    pthread_mutex_unlock(&held.lock);
}

void log_release(bool is_dropped)
{
    pthread_mutex_lock(&held.lock);
    if (!is_dropped && held.size > 0 && !log_writer_put(held.text, held.size)) {
        count_lost(1);
    }
    held.size = 0;
    atomic_store(&held.is_holding, false);
    pthread_mutex_unlock(&held.lock);
}

static void begin_line(struct line *line, enum log_level level, const char *module,
                       const char *message)
{
    line->size = 0;
    line->is_full = false;
    int64_t wall_ms = clock_wall_ms(clock_system());
    if (logger.is_dev) {
        put_head_dev(line, wall_ms, level, module, message);
    } else {
        put_head_json(line, wall_ms, level, module, message);
    }
    if (logger.common_name != NULL) {
        put_field(line, &LOG_STR(logger.common_name, logger.common_value));
    }
}

static size_t make_notice(uint64_t lines, char text[static LOG_LINE_MAX])
{
    struct line line;
    char message[96];
    snprintf(message, sizeof(message),
             "%" PRIu64 " log lines were dropped: nobody read them in time", lines);
    begin_line(&line, LOG_LEVEL_WARN, "log", message);
    put_field(&line, &LOG_U64("lost_lines", lines));
    finish_line(&line);
    memcpy(text, line.text, line.size);
    return line.size;
}

int log_start(void)
{
    return log_writer_start(make_notice);
}

void log_write(enum log_level level, const char *module, const char *message,
               const struct log_field *fields, size_t count)
{
    if (level < logger.level) {
        return;
    }
    int saved_errno = errno;
    struct line line;
    begin_line(&line, level, module, message);
    for (size_t i = 0; i < count; i++) {
        put_field(&line, &fields[i]);
    }
    uint64_t lost = atomic_exchange(&logger.lost, 0);
    if (lost > 0) {
        put_field(&line, &LOG_U64("lost_lines", lost));
    }
    finish_line(&line);
    if (!hold_line(level, &line, lost) && !log_writer_put(line.text, line.size)) {
        count_lost(lost + 1);
    }
    errno = saved_errno;
}

void log_plain(const char *text)
{
    int saved_errno = errno;
    char line[LOG_LINE_MAX];
    int size = snprintf(line, sizeof(line) - 1, "%s", text);
    size = size < (int)sizeof(line) - 1 ? size : (int)sizeof(line) - 2;
    line[size] = '\n';
    (void)log_writer_put(line, (size_t)size + 1);
    errno = saved_errno;
}
