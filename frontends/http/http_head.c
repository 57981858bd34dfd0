/* Parses and checks the head of a request. */
#include "http_head.h"

#include <ctype.h>
#include <string.h>
#include <strings.h>

#define LENGTH_DIGITS_MAX 18
#define SUBPROTOCOL "raftogram.v1.json"

void http_head_refuse(struct http_head *out, int status, const char *message)
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
        http_head_refuse(out, 414, "the request's first line is too long");
    } else {
        http_head_refuse(out, 431, "the request's headers are too large: 8 KiB is the limit");
    }
}

static bool is_token_byte(unsigned char byte)
{
    return isalnum(byte) || (byte != '\0' && strchr("!#$%&'*+-.^_`|~", byte) != NULL);
}

static bool is_token(struct bytes name)
{
    const unsigned char *data = name.data;
    for (size_t i = 0; i < name.size; i++) {
        if (!is_token_byte(data[i])) {
            return false;
        }
    }
    return name.size > 0;
}

/* ---- where it ends ---- */

/* Lines end with CR LF only (RFC 9112, 2.2 lets a server refuse a bare LF). If two readers could
 * disagree about lines, a request could be hidden in another one. */
static const char *byte_fault(const uint8_t *data, size_t at, size_t size)
{
    if (data[at] == '\0') {
        return "the request has a NUL";
    }
    if (data[at] == '\n' && (at == 0 || data[at - 1] != '\r')) {
        return "a line ends with LF alone; it is to be CR LF";
    }
    if (data[at] == '\r' && at + 1 < size && data[at + 1] != '\n') {
        return "a CR stands alone";
    }
    return NULL;
}

void http_head_find_end(struct bytes text, struct http_head_end *end)
{
    const uint8_t *data = text.data;
    bool is_method = memchr(data, ' ', end->looked) == NULL;
    for (; end->looked < text.size; end->looked++) {
        size_t at = end->looked;
        bool is_faulty = is_method && data[at] != ' ' && !is_token_byte(data[at]);
        end->fault = is_faulty ? "this is no HTTP/1.1" : byte_fault(data, at, text.size);
        if (end->fault != NULL) {
            return;
        }
        is_method = is_method && data[at] != ' ';
        if (data[at] == '\n' && at >= 3 && data[at - 2] == '\n') {
            end->size = at + 1;
            return;
        }
        if (data[at] == '\r' && at + 1 == text.size) {
            return; /* the next byte decides */
        }
    }
}

/* ---- the first line ---- */

/* Takes the next line, without its CR LF. */
static struct bytes take_line(struct bytes *rest)
{
    const char *data = rest->data;
    const char *newline = memchr(data, '\n', rest->size);
    size_t size = newline != NULL ? (size_t)(newline - data) : rest->size;
    size_t taken = newline != NULL ? size + 1 : size;
    struct bytes line = {data, size > 0 && data[size - 1] == '\r' ? size - 1 : size};
    *rest = (struct bytes){data + taken, rest->size - taken};
    return line;
}

static bool has_text(struct bytes bytes, const char *text)
{
    return bytes.size == strlen(text) && memcmp(bytes.data, text, bytes.size) == 0;
}

static bool has_name(struct bytes bytes, const char *name)
{
    return bytes.size == strlen(name) && strncasecmp(bytes.data, name, bytes.size) == 0;
}

/* Methods are case-sensitive: RFC 9110, 9.1. */
static enum http_method method_of(struct bytes name)
{
    if (has_text(name, "GET")) {
        return HTTP_METHOD_GET;
    }
    return has_text(name, "HEAD") ? HTTP_METHOD_HEAD : HTTP_METHOD_OTHER;
}

/* An absolute target replaces the Host field: RFC 9112, 3.2.2. */
static struct bytes take_authority(struct bytes target, struct http_head *out)
{
    static const char scheme[] = "http://";
    const char *data = target.data;
    if (target.size < strlen(scheme) || strncasecmp(data, scheme, strlen(scheme)) != 0) {
        return target;
    }
    const char *host = data + strlen(scheme);
    size_t left = target.size - strlen(scheme);
    size_t size = 0;
    while (size < left && host[size] != '/' && host[size] != '?') {
        size++;
    }
    out->host = (struct bytes){host, size};
    if (size == 0) {
        http_head_refuse(out, 400, "the request's target has no host");
    }
    return size == left ? bytes_of_text("/") : (struct bytes){host + size, left - size};
}

static void read_target(struct bytes target, struct http_head *out)
{
    const char *data = target.data;
    for (size_t i = 0; i < target.size; i++) {
        if ((unsigned char)data[i] <= ' ' || data[i] == 0x7f) {
            http_head_refuse(out, 400, "the request's first line has a control character");
            return;
        }
    }
    struct bytes rest = take_authority(target, out);
    data = rest.data;
    const char *mark = memchr(data, '?', rest.size);
    size_t size = mark != NULL ? (size_t)(mark - data) : rest.size;
    out->path = (struct bytes){data, size};
    if (mark != NULL) {
        out->query = (struct bytes){mark + 1, rest.size - size - 1};
    }
    if (out->path.size == 0) {
        out->path = bytes_of_text("/"); /* http://host?query */
    }
    /* "*" and host:port are the targets of methods that are refused later, as methods. */
    if (*(const char *)out->path.data != '/' && out->method != HTTP_METHOD_OTHER) {
        http_head_refuse(out, 400, "the request's target is to be a path");
    }
}

static void read_first_line(struct bytes line, struct http_head *out)
{
    static const char version[] = "HTTP/1.";
    const char *data = line.data;
    const char *space = memchr(data, ' ', line.size);
    const char *last = memrchr(data, ' ', line.size);
    if (space == NULL || last <= space + 1 ||
        memchr(space + 1, ' ', (size_t)(last - space - 1)) != NULL ||
        !is_token((struct bytes){data, (size_t)(space - data)})) {
        http_head_refuse(out, 400, "the request's first line is to be: method, path, HTTP/1.1");
        return;
    }
    struct bytes method = {data, (size_t)(space - data)};
    if (has_text(method, "PRI")) {
        http_head_refuse(out, 400, "HTTP/2 is not spoken here");
        return;
    }
    size_t size = line.size - (size_t)(last + 1 - data);
    if (size < strlen("HTTP/") || memcmp(last + 1, "HTTP/", strlen("HTTP/")) != 0) {
        http_head_refuse(out, 400, "the request's first line is to be: method, path, HTTP/1.1");
        return;
    }
    if (size != strlen(version) + 1 || memcmp(last + 1, version, strlen(version)) != 0 ||
        (last[size] != '0' && last[size] != '1')) {
        http_head_refuse(out, 505, "HTTP/1.1 is spoken here");
        return;
    }
    out->minor = (unsigned)(last[size] - '0');
    out->method = method_of(method);
    read_target((struct bytes){space + 1, (size_t)(last - space - 1)}, out);
}

/* ---- fields ---- */

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

/* True if the comma-separated list has the token. */
static bool list_has(struct bytes list, const char *token, bool is_case_sensitive)
{
    while (list.size > 0) {
        const char *comma = memchr(list.data, ',', list.size);
        size_t size = comma != NULL ? (size_t)(comma - (const char *)list.data) : list.size;
        struct bytes item = trim((struct bytes){list.data, size});
        if (is_case_sensitive ? has_text(item, token) : has_name(item, token)) {
            return true;
        }
        size_t taken = comma != NULL ? size + 1 : size;
        list = (struct bytes){(const char *)list.data + taken, list.size - taken};
    }
    return false;
}

struct seen {
    bool host;
    bool encoding;
};

static void read_length(struct bytes value, struct http_head *out)
{
    const char *data = value.data;
    uint64_t size = 0;
    bool is_number = value.size > 0 && value.size <= LENGTH_DIGITS_MAX;
    for (size_t i = 0; i < value.size && is_number; i++) {
        is_number = isdigit((unsigned char)data[i]) != 0;
        size = size * 10 + (uint64_t)(data[i] - '0');
    }
    if (!is_number) {
        http_head_refuse(out, 400, "content-length is to be one number");
    } else if (out->has_length) {
        http_head_refuse(out, 400, "more than one content-length");
    }
    out->has_length = true;
    out->body_size = size;
}

static void read_encoding(struct bytes value, struct seen *seen, struct http_head *out)
{
    if (seen->encoding || !has_name(value, "chunked")) {
        http_head_refuse(out, 400, "transfer-encoding is to be chunked, once");
    }
    seen->encoding = true;
    out->is_chunked = true;
}

/* Reads a field that may occur once. */
static void take_one(struct bytes value, struct bytes *field, struct http_head *out,
                     const char *fault)
{
    if (field->data != NULL) {
        http_head_refuse(out, 400, fault);
    }
    *field = value;
}

static void read_host(struct bytes value, struct seen *seen, struct http_head *out)
{
    if (seen->host) {
        http_head_refuse(out, 400, "more than one Host");
    }
    seen->host = true;
    if (out->host.data == NULL) {
        out->host = value;
    }
}

static void read_field(struct bytes name, struct bytes value, struct seen *seen,
                       struct http_head *out)
{
    if (has_name(name, "host")) {
        read_host(value, seen, out);
    } else if (has_name(name, "content-length")) {
        read_length(value, out);
    } else if (has_name(name, "transfer-encoding")) {
        read_encoding(value, seen, out);
    } else if (has_name(name, "connection")) {
        out->wants_close = out->wants_close || list_has(value, "close", false);
        out->wants_keep_alive = out->wants_keep_alive || list_has(value, "keep-alive", false);
        out->has_connection_upgrade =
            out->has_connection_upgrade || list_has(value, "upgrade", false);
    } else if (has_name(name, "expect")) {
        out->expects_continue = true;
        if (!has_name(value, "100-continue")) {
            http_head_refuse(out, 417, "of Expect only 100-continue is known here");
        }
    } else if (has_name(name, "upgrade")) {
        out->wants_websocket = out->wants_websocket || list_has(value, "websocket", false);
    } else if (has_name(name, "sec-websocket-protocol")) {
        out->offers_subprotocol = out->offers_subprotocol || list_has(value, SUBPROTOCOL, true);
    } else if (has_name(name, "sec-websocket-key")) {
        take_one(value, &out->websocket_key, out, "more than one Sec-WebSocket-Key");
    } else if (has_name(name, "sec-websocket-version")) {
        take_one(value, &out->websocket_version, out, "more than one Sec-WebSocket-Version");
    } else if (has_name(name, "origin")) {
        take_one(value, &out->origin, out, "more than one Origin");
    } else if (has_name(name, "if-none-match")) {
        out->if_none_match = value; /* a second field replaces the first */
    }
}

static void read_line(struct bytes line, struct seen *seen, struct http_head *out)
{
    const char *colon = memchr(line.data, ':', line.size);
    size_t size = colon != NULL ? (size_t)(colon - (const char *)line.data) : 0;
    struct bytes name = {line.data, size};
    if (!is_token(name)) { /* the continuation of a line, too: RFC 9112, 5.2 */
        http_head_refuse(out, 400, "a header is to be: name, colon, value");
        return;
    }
    struct bytes value = trim((struct bytes){colon + 1, line.size - size - 1});
    if (!is_value(value)) {
        http_head_refuse(out, 400, "a header has a control character");
        return;
    }
    read_field(name, value, seen, out);
}

static size_t count_lines(struct bytes text)
{
    const char *data = text.data;
    size_t count = 0;
    for (size_t i = 0; i < text.size; i++) {
        count += data[i] == '\n';
    }
    return count;
}

/* RFC 9112, 6.1, 6.3 and 3.2: the begin of the next request and the host of this one must be
 * unambiguous. */
static void check_whole(const struct seen *seen, struct http_head *out)
{
    if (out->is_chunked && out->has_length) {
        http_head_refuse(out, 400, "either content-length or transfer-encoding");
    }
    if (out->is_chunked && out->minor == 0) {
        http_head_refuse(out, 400, "HTTP/1.0 has no transfer-encoding");
    }
    if (!seen->host && out->minor > 0) {
        http_head_refuse(out, 400, "HTTP/1.1 needs a Host");
    }
    if (seen->host && out->host.size == 0) {
        http_head_refuse(out, 400, "the Host is empty");
    }
}

void http_head_read(struct bytes text, struct http_head *out)
{
    struct bytes rest = text;
    struct seen seen = {0};
    *out = (struct http_head){0};
    if (count_lines(text) > HTTP_FIELDS_MAX + 2) {
        http_head_refuse(out, 431, "the request has too many headers: 64 is the limit");
    } else {
        read_first_line(take_line(&rest), out);
    }
    while (out->status == 0 && rest.size > 0) {
        struct bytes line = take_line(&rest);
        if (line.size > 0) {
            read_line(line, &seen, out);
        }
    }
    if (out->status == 0) {
        check_whole(&seen, out);
    }
}

/* ---- targets ---- */

static int hex_value(unsigned char byte)
{
    if (isdigit(byte)) {
        return byte - '0';
    }
    return isxdigit(byte) ? tolower(byte) - 'a' + 10 : -1;
}

bool http_decode(struct bytes text, struct buf *out)
{
    const unsigned char *data = text.data;
    for (size_t i = 0; i < text.size; i++) {
        int byte = data[i];
        if (byte == '%') {
            int high = i + 2 < text.size ? hex_value(data[i + 1]) : -1;
            int low = i + 2 < text.size ? hex_value(data[i + 2]) : -1;
            byte = high >= 0 && low >= 0 ? high << 4 | low : 0;
            i += 2;
        }
        if (byte == 0) {
            return false;
        }
        buf_append_byte(out, (uint8_t)byte);
    }
    return true;
}

bool http_find_argument(struct bytes query, const char *name, struct bytes *out)
{
    while (query.size > 0) {
        const char *data = query.data;
        const char *end = memchr(data, '&', query.size);
        size_t size = end != NULL ? (size_t)(end - data) : query.size;
        const char *equals = memchr(data, '=', size);
        size_t name_size = equals != NULL ? (size_t)(equals - data) : size;
        if (has_text((struct bytes){data, name_size}, name)) {
            size_t skipped = equals != NULL ? name_size + 1 : name_size;
            *out = (struct bytes){data + skipped, size - skipped};
            return true;
        }
        size_t taken = end != NULL ? size + 1 : size;
        query = (struct bytes){data + taken, query.size - taken};
    }
    return false;
}
