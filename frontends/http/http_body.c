/* Reads the body of a request, of known length or chunked, to find its end. */
#include "http_body.h"

#include <ctype.h>
#include <string.h>

#define SIZE_DIGITS_MAX 15

void http_body_begin(struct http_body *body, const struct http_head *head)
{
    *body = (struct http_body){.is_chunked = head->is_chunked, .left = head->body_size};
    if (head->is_chunked) {
        body->state = HTTP_BODY_SIZE;
    } else {
        body->state = body->left > 0 ? HTTP_BODY_DATA : HTTP_BODY_DONE;
    }
}

static void begin_line(struct http_body *body, enum http_body_state state)
{
    body->state = state;
    body->line_bytes = 0;
    body->digits = 0;
    body->is_extension = false;
    body->has_return = false;
}

static void end_line(struct http_body *body)
{
    if (body->state == HTTP_BODY_SIZE && body->digits == 0) {
        body->state = HTTP_BODY_FAULTY;
    } else if (body->state == HTTP_BODY_SIZE && body->left > 0) {
        body->state = HTTP_BODY_DATA;
    } else if (body->state == HTTP_BODY_SIZE) {
        begin_line(body, HTTP_BODY_TRAILER);
    } else if (body->state == HTTP_BODY_DATA_END) {
        begin_line(body, HTTP_BODY_SIZE);
        body->left = 0;
    } else if (body->line_bytes == 0) {
        body->state = HTTP_BODY_DONE;
    } else {
        begin_line(body, HTTP_BODY_TRAILER);
    }
}

/* RFC 9112, 7.1: hexadecimal digits, then perhaps white space and an extension. */
static bool take_size_byte(struct http_body *body, uint8_t byte)
{
    if (!body->is_extension && isxdigit(byte)) {
        body->left =
            body->left << 4 | (uint64_t)(isdigit(byte) ? byte - '0' : tolower(byte) - 'a' + 10);
        return ++body->digits <= SIZE_DIGITS_MAX;
    }
    bool is_first = !body->is_extension;
    body->is_extension = true;
    if (body->digits == 0 || (is_first && byte != ';' && byte != ' ' && byte != '\t')) {
        return false;
    }
    return byte == '\t' || (byte >= ' ' && byte != 0x7f);
}

static bool take_line_byte(struct http_body *body, uint8_t byte)
{
    if (body->has_return) {
        if (byte == '\n') {
            end_line(body);
        }
        return byte == '\n';
    }
    if (byte == '\r') {
        body->has_return = true;
        return true;
    }
    body->line_bytes++;
    body->trailer_bytes += body->state == HTTP_BODY_TRAILER;
    if (body->line_bytes > HTTP_CHUNK_LINE_BYTES_MAX ||
        body->trailer_bytes > HTTP_TRAILER_BYTES_MAX) {
        return false;
    }
    if (body->state == HTTP_BODY_SIZE) {
        return take_size_byte(body, byte);
    }
    return body->state == HTTP_BODY_TRAILER && (byte == '\t' || (byte >= ' ' && byte != 0x7f));
}

static struct bytes take_data(struct http_body *body, struct bytes in)
{
    struct bytes data = {in.data, body->left < in.size ? (size_t)body->left : in.size};
    body->left -= data.size;
    body->total += data.size;
    if (body->left == 0 && body->is_chunked) {
        begin_line(body, HTTP_BODY_DATA_END);
    } else if (body->left == 0) {
        body->state = HTTP_BODY_DONE;
    }
    return data;
}

size_t http_body_follow(struct http_body *body, struct bytes in, struct bytes *data)
{
    const uint8_t *bytes = in.data;
    size_t at = 0;
    *data = (struct bytes){bytes, 0};
    while (at < in.size && body->state != HTTP_BODY_DONE && body->state != HTTP_BODY_FAULTY) {
        if (body->state == HTTP_BODY_DATA) {
            *data = take_data(body, (struct bytes){bytes + at, in.size - at});
            return at + data->size;
        }
        if (!take_line_byte(body, bytes[at])) {
            body->state = HTTP_BODY_FAULTY;
            return at;
        }
        at++;
    }
    return at;
}
