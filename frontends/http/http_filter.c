/* Passes bytes of HTTP/1.1 to libwebsockets only as complete, checked requests. */
#include "http_filter.h"

#include "base/check.h"

#include <stdio.h>
#include <string.h>

void http_filter_init(struct http_filter *filter)
{
    *filter = (struct http_filter){0};
    buf_init(&filter->text, HTTP_HEAD_BYTES_MAX);
}

void http_filter_finish(struct http_filter *filter)
{
    buf_finish(&filter->text);
}

bool http_filter_has_begun(const struct http_filter *filter)
{
    return filter->state == HTTP_FILTER_HEAD && filter->text.size > 0;
}

void http_filter_refuse(struct http_filter *filter, int status, const char *message)
{
    filter->head = (struct http_head){0};
    http_head_refuse(&filter->head, status, message);
    filter->state = HTTP_FILTER_REQUEST;
}

/* Empty lines before a request are ignored: RFC 9112, 2.2. */
static void drop_empty_lines(struct buf *text)
{
    size_t size = 0;
    while (size + 1 < text->size && text->data[size] == '\r' && text->data[size + 1] == '\n') {
        size += 2;
    }
    if (size > 0) {
        memmove(text->data, text->data + size, text->size - size);
        buf_cut(text, text->size - size);
    }
}

/* Takes the bytes that fit into the head, and looks for its end. */
static size_t take_head(struct http_filter *filter, struct bytes in)
{
    struct buf *text = &filter->text;
    size_t room = HTTP_HEAD_BYTES_MAX - text->size;
    size_t taken = in.size < room ? in.size : room;
    buf_append(text, in.data, taken);
    if (buf_failed(text)) {
        http_filter_refuse(filter, 503, "out of memory: try again later");
        return taken;
    }
    if (filter->end.looked == 0) {
        drop_empty_lines(text);
        if (text->size == 0 || (text->size == 1 && text->data[0] == '\r')) {
            return taken;
        }
    }
    http_head_find_end(buf_bytes(text), &filter->end);
    if (filter->end.fault != NULL) {
        http_filter_refuse(filter, 400, filter->end.fault);
    } else if (filter->end.size > 0) {
        /* What follows it stays in the socket. */
        size_t behind = text->size - filter->end.size;
        buf_cut(text, filter->end.size);
        taken -= behind;
        http_head_read(buf_bytes(text), &filter->head);
        filter->state = HTTP_FILTER_REQUEST;
    } else if (text->size == HTTP_HEAD_BYTES_MAX) {
        http_head_refuse_large(buf_bytes(text), &filter->head);
        filter->state = HTTP_FILTER_REQUEST;
    }
    return taken;
}

static void await_head(struct http_filter *filter)
{
    buf_finish(&filter->text);
    filter->end = (struct http_head_end){0};
    filter->state = HTTP_FILTER_HEAD;
}

static size_t skip(struct http_filter *filter, struct bytes in)
{
    struct bytes data;
    size_t taken = http_body_follow(&filter->body, in, &data);
    if (filter->body.state == HTTP_BODY_DONE) {
        await_head(filter);
    } else if (filter->body.state == HTTP_BODY_FAULTY) {
        http_filter_refuse(filter, 400, "a chunk of the body is faulty");
    } else if (filter->body.total > HTTP_SKIPPED_BYTES_MAX) {
        http_filter_refuse(filter, 413, "the body is too large");
    }
    return taken;
}

size_t http_filter_take(struct http_filter *filter, struct bytes in)
{
    size_t taken = 0;
    while (taken < in.size) {
        struct bytes rest = {(const char *)in.data + taken, in.size - taken};
        switch (filter->state) {
        case HTTP_FILTER_HEAD:
            taken += take_head(filter, rest);
            break;
        case HTTP_FILTER_SKIP:
            taken += skip(filter, rest);
            break;
        case HTTP_FILTER_DRAIN:
            return in.size;
        case HTTP_FILTER_REQUEST:
            return taken;
        }
    }
    return taken;
}

size_t http_filter_give(const struct http_filter *filter, bool is_upgrade,
                        char out[HTTP_GIVEN_BYTES_MAX])
{
    CHECK(filter->state == HTTP_FILTER_REQUEST);
    const struct http_head *head = &filter->head;
    int size;
    if (!is_upgrade) {
        size = snprintf(out, HTTP_GIVEN_BYTES_MAX, "GET / HTTP/1.1\r\n\r\n");
    } else {
        CHECK(head->status == 0);
        size = snprintf(out, HTTP_GIVEN_BYTES_MAX,
                        "GET /ws HTTP/1.1\r\n"
                        "host: raftogram\r\n"
                        "connection: upgrade\r\n"
                        "upgrade: websocket\r\n"
                        "sec-websocket-version: 13\r\n"
                        "sec-websocket-key: %.*s\r\n"
                        "%s\r\n",
                        (int)head->websocket_key.size, (const char *)head->websocket_key.data,
                        head->offers_subprotocol ? "sec-websocket-protocol: raftogram.v1.json\r\n"
                                                 : "");
    }
    CHECK(size > 0);
    CHECK(size < HTTP_GIVEN_BYTES_MAX);
    return (size_t)size;
}

bool http_filter_is_last(const struct http_filter *filter)
{
    const struct http_head *head = &filter->head;
    if (head->status != 0 || head->wants_close || (head->minor == 0 && !head->wants_keep_alive)) {
        return true;
    }
    /* Only the client knows whether it sends the body that waited for 100. */
    return head->expects_continue || head->body_size > HTTP_SKIPPED_BYTES_MAX;
}

void http_filter_next(struct http_filter *filter, bool is_last)
{
    CHECK(filter->state == HTTP_FILTER_REQUEST);
    struct http_body body;
    http_body_begin(&body, &filter->head);
    await_head(filter);
    if (is_last) {
        filter->state = HTTP_FILTER_DRAIN;
    } else if (body.state != HTTP_BODY_DONE) {
        filter->body = body;
        filter->state = HTTP_FILTER_SKIP;
    }
}
