#include "http_head.h"

#include <ctype.h>
#include <string.h>
#include <strings.h>

#define BODY_DIGITS_MAX 18

static const char *const methods[] = {"GET ",   "HEAD ",   "POST ",    "PUT ",
                                      "PATCH ", "DELETE ", "OPTIONS ", "CONNECT "};

/* What this frontend asks for, and what libwebsockets needs to. */
static const char *const passed_names[] = {
    "connection",
    "content-length",
    "host",
    "if-none-match",
    "origin",
    "sec-websocket-extensions",
    "sec-websocket-key",
    "sec-websocket-protocol",
    "sec-websocket-version",
    "transfer-encoding",
    "upgrade",
};

bool http_head_may_begin(struct bytes text)
{
    for (size_t i = 0; i < sizeof(methods) / sizeof(methods[0]); i++) {
        size_t size = strlen(methods[i]);
        if (memcmp(text.data, methods[i], text.size < size ? text.size : size) == 0) {
            return true;
        }
    }
    return false;
}

size_t http_head_end(struct bytes text, size_t from)
{
    const char *data = text.data;
    for (size_t at = from; at < text.size; at++) {
        const char *newline = memchr(data + at, '\n', text.size - at);
        if (newline == NULL) {
            return 0;
        }
        at = (size_t)(newline - data);
        size_t next = at + 1;
        if (next < text.size && data[next] == '\r') {
            next++;
        }
        if (next < text.size && data[next] == '\n') {
            return next + 1;
        }
    }
    return 0;
}

static void refuse(struct http_head *out, int status, const char *message)
{
    if (out->status == 0) {
        out->status = status;
        out->message = message;
    }
}

void http_head_refuse_large(struct bytes text, struct http_head *out)
{
    *out = (struct http_head){0};
    if (memchr(text.data, '\n', text.size) == NULL) {
        refuse(out, 414, "the request's first line is too long");
    } else {
        refuse(out, 431, "the request's headers are too large: 8 KiB is the limit");
    }
}

/* Takes the next line, without its end; false after the last. */
static bool take_line(struct bytes *rest, struct bytes *line)
{
    if (rest->size == 0) {
        return false;
    }
    const char *data = rest->data;
    const char *newline = memchr(data, '\n', rest->size);
    size_t size = newline != NULL ? (size_t)(newline - data) : rest->size;
    size_t taken = newline != NULL ? size + 1 : size;
    *line = (struct bytes){data, size > 0 && data[size - 1] == '\r' ? size - 1 : size};
    *rest = (struct bytes){data + taken, rest->size - taken};
    return true;
}

/* An absolute target is served as if it had come without its scheme and host: RFC 9112, 3.2.2. */
static struct bytes path_of(struct bytes target)
{
    static const char scheme[] = "http://";
    const char *data = target.data;
    if (target.size < strlen(scheme) || strncasecmp(data, scheme, strlen(scheme)) != 0) {
        return target;
    }
    const char *path = memchr(data + strlen(scheme), '/', target.size - strlen(scheme));
    if (path == NULL) {
        return bytes_of_text("/");
    }
    return (struct bytes){path, target.size - (size_t)(path - data)};
}

static size_t count_arguments(struct bytes path)
{
    const char *data = path.data;
    size_t count = 0;
    for (size_t i = 0; i < path.size; i++) {
        count += data[i] == '&' || data[i] == '?';
    }
    return count;
}

static void read_first_line(struct bytes line, struct http_head *out, struct buf *passed)
{
    static const char version[] = "HTTP/1.";
    const char *data = line.data;
    const char *space = memchr(data, ' ', line.size);
    const char *last = memrchr(data, ' ', line.size);
    for (size_t i = 0; i < line.size; i++) {
        if ((unsigned char)data[i] < ' ' || data[i] == 0x7f) {
            refuse(out, 400, "the request's first line has a control character");
        }
    }
    if (space == last || memchr(space + 1, ' ', (size_t)(last - space - 1)) != NULL ||
        last == space + 1) {
        refuse(out, 400, "the request's first line is to be: method, path, HTTP/1.1");
        return;
    }
    size_t size = line.size - (size_t)(last + 1 - data);
    if (size != strlen(version) + 1 || memcmp(last + 1, version, strlen(version)) != 0 ||
        !isdigit((unsigned char)last[size])) {
        refuse(out, 505, "HTTP/1.1 is spoken here");
        return;
    }
    struct bytes path = path_of((struct bytes){space + 1, (size_t)(last - space - 1)});
    if (*(const char *)path.data != '/') {
        refuse(out, 405, "only GET and HEAD of a path are served here");
    }
    if (count_arguments(path) > HTTP_ARGUMENTS_MAX) {
        refuse(out, 414, "the request's query has too many arguments");
    }
    buf_append(passed, data, (size_t)(space + 1 - data));
    buf_append(passed, path.data, path.size);
    buf_append(passed, last, size + 1);
    buf_append_text(passed, "\r\n");
}

static bool is_token(struct bytes name)
{
    const unsigned char *data = name.data;
    for (size_t i = 0; i < name.size; i++) {
        if (!isalnum(data[i]) && (data[i] == '\0' || strchr("!#$%&'*+-.^_`|~", data[i]) == NULL)) {
            return false;
        }
    }
    return name.size > 0;
}

static bool has_name(struct bytes name, const char *text)
{
    return name.size == strlen(text) && strncasecmp(name.data, text, name.size) == 0;
}

static struct bytes trim(struct bytes value)
{
    const char *data = value.data;
    size_t size = value.size;
    while (size > 0 && (data[size - 1] == ' ' || data[size - 1] == '\t')) {
        size--;
    }
    while (size > 0 && (*data == ' ' || *data == '\t')) {
        data++;
        size--;
    }
    return (struct bytes){data, size};
}

static bool is_value(struct bytes value)
{
    const unsigned char *data = value.data;
    for (size_t i = 0; i < value.size; i++) {
        if ((data[i] < ' ' && data[i] != '\t') || data[i] == 0x7f) {
            return false;
        }
    }
    return true;
}

struct seen {
    bool host;
    bool length;
    size_t passed;
};

/* Two lengths, or a length beside chunks: where the next request begins would be anybody's guess.
 */
static void read_length(struct bytes value, struct seen *seen, struct http_head *out)
{
    const char *data = value.data;
    uint64_t size = 0;
    bool is_number = value.size > 0 && value.size <= BODY_DIGITS_MAX;
    for (size_t i = 0; i < value.size && is_number; i++) {
        is_number = isdigit((unsigned char)data[i]) != 0;
        size = size * 10 + (uint64_t)(data[i] - '0');
    }
    if (!is_number || (seen->length && size != out->body_size)) {
        refuse(out, 400, "content-length is to be one number");
        return;
    }
    seen->length = true;
    out->body_size = size;
}

static void read_header(struct bytes line, struct seen *seen, struct http_head *out,
                        struct buf *passed)
{
    const char *colon = memchr(line.data, ':', line.size);
    size_t name_size = colon != NULL ? (size_t)(colon - (const char *)line.data) : 0;
    struct bytes name = {line.data, name_size};
    if (!is_token(name)) {
        refuse(out, 400, "a header is to be: name, colon, value");
        return;
    }
    struct bytes value = trim((struct bytes){colon + 1, line.size - name_size - 1});
    if (!is_value(value)) {
        refuse(out, 400, "a header has a control character");
        return;
    }
    if (has_name(name, "host")) {
        if (seen->host) {
            refuse(out, 400, "more than one Host");
        }
        seen->host = true;
    } else if (has_name(name, "content-length")) {
        read_length(value, seen, out);
    } else if (has_name(name, "transfer-encoding")) {
        out->is_chunked = true;
    }
    for (size_t i = 0; i < sizeof(passed_names) / sizeof(passed_names[0]); i++) {
        if (has_name(name, passed_names[i]) && value.size > 0) {
            if (++seen->passed > HTTP_PASSED_HEADERS_MAX) {
                refuse(out, 431, "the request repeats too many headers");
            }
            buf_append(passed, name.data, name.size);
            buf_append_byte(passed, ':');
            buf_append(passed, value.data, value.size);
            buf_append_text(passed, "\r\n");
        }
    }
}

void http_head_read(struct bytes text, struct http_head *out, struct buf *passed)
{
    struct bytes rest = text;
    struct bytes line;
    struct seen seen = {0};
    *out = (struct http_head){0};
    if (take_line(&rest, &line)) {
        read_first_line(line, out, passed);
    }
    while (out->status == 0 && take_line(&rest, &line) && line.size > 0) {
        read_header(line, &seen, out, passed);
    }
    if (out->is_chunked && seen.length) {
        refuse(out, 400, "either content-length or transfer-encoding");
    }
    buf_append_text(passed, "\r\n");
}
