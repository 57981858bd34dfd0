/* A client's stream from any bytes: which requests it holds, and where each one ends, does not
 * depend on the pieces that it comes in; and what libwebsockets gets in their place is one of the
 * two requests of our own, whatever the client wrote. */
#include "../../frontends/http/http_body.c"
#include "../../frontends/http/http_filter.c"
#include "../../frontends/http/http_head.c"
#include "../../frontends/http/origin.c"

#include "base/check.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const char plain[] = "GET / HTTP/1.1\r\n\r\n";

/* As ws_upgrade.c has it. */
static bool is_key(struct bytes key)
{
    const unsigned char *data = key.data;
    for (size_t i = 0; i < key.size; i++) {
        if (!isalnum(data[i]) && data[i] != '+' && data[i] != '/' && data[i] != '=') {
            return false;
        }
    }
    return key.size == 24;
}

/* It reads as one request again, with no body and nothing behind it. */
static void check_given(const struct http_filter *filter, bool is_upgrade)
{
    char given[HTTP_GIVEN_BYTES_MAX];
    size_t size = http_filter_give(filter, is_upgrade, given);
    struct http_filter again;
    http_filter_init(&again);
    CHECK(http_filter_take(&again, (struct bytes){given, size}) == size);
    CHECK(is_upgrade || bytes_equal((struct bytes){given, size}, bytes_of_text(plain)));
    if (is_upgrade) { /* the other one needs no Host: libwebsockets does not ask */
        const struct http_head *head = &again.head;
        CHECK(again.state == HTTP_FILTER_REQUEST);
        CHECK(head->status == 0);
        CHECK(head->method == HTTP_METHOD_GET);
        CHECK(bytes_equal(head->path, bytes_of_text("/ws")));
        CHECK(bytes_equal(head->websocket_key, filter->head.websocket_key));
        CHECK(head->body_size == 0 && !head->has_length && !head->is_chunked);
        CHECK(head->wants_websocket && head->has_connection_upgrade);
        CHECK(head->offers_subprotocol == filter->head.offers_subprotocol);
    }
    http_filter_finish(&again);
}

static void check_head(const struct http_head *head)
{
    CHECK((head->status == 0) == (head->message == NULL));
    CHECK(head->status == 0 || (head->status >= 400 && head->status < 600));
    if (head->status == 0) {
        CHECK(head->path.size > 0);
        CHECK(head->minor == 0 || head->host.size > 0);
        CHECK(!(head->is_chunked && head->has_length));
    }
}

static void note_bytes(struct buf *out, struct bytes bytes)
{
    buf_append_u64(out, bytes.size);
    buf_append(out, bytes.data, bytes.size);
}

/* What was found of one request. */
static void note(const struct http_filter *filter, size_t at, struct buf *out)
{
    const struct http_head *head = &filter->head;
    buf_append_u64(out, head->status == 0 ? at : 0);
    buf_append_u32(out, (uint32_t)head->status);
    buf_append_u32(out, (uint32_t)head->method);
    buf_append_u64(out, head->body_size);
    buf_append_byte(out, head->is_chunked);
    note_bytes(out, head->path);
    note_bytes(out, head->host);
}

static void follow(struct bytes in, size_t piece, struct buf *out)
{
    struct http_filter filter;
    size_t taken = 0;
    http_filter_init(&filter);
    while (taken < in.size && filter.state != HTTP_FILTER_DRAIN) {
        size_t left = in.size - taken;
        size_t count = http_filter_take(
            &filter, (struct bytes){(const char *)in.data + taken, piece < left ? piece : left});
        CHECK(count <= left);
        CHECK(count > 0 || filter.state == HTTP_FILTER_REQUEST);
        taken += count;
        if (filter.state == HTTP_FILTER_REQUEST) {
            check_head(&filter.head);
            note(&filter, taken, out);
            check_given(&filter, false);
            if (filter.head.status == 0 && is_key(filter.head.websocket_key)) {
                check_given(&filter, true);
            }
            http_filter_next(&filter, http_filter_is_last(&filter));
        }
    }
    http_filter_finish(&filter);
}

static void check_origins(struct bytes text)
{
    const char *data = text.data;
    const char *second = text.size > 0 ? memchr(data, '\n', text.size) : NULL;
    if (second == NULL) {
        return;
    }
    struct bytes origin = {data, (size_t)(second - data)};
    struct bytes host = {second + 1, text.size - origin.size - 1};
    static const char *const names[] = {"chat.example"};
    static const char *const peers[] = {"127.0.0.1:8080", "node2:8080", ""};
    const struct origin_rules rules = {names, 1, NULL, 0, peers, 3};
    struct authority authority;
    bool is_allowed = origin_host_is_allowed(&rules, host);
    CHECK(!is_allowed || authority_read(host, &authority));
    (void)origin_is_allowed(&rules, origin, host);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < 2) {
        return 0;
    }
    struct bytes in = {data + 1, size - 1};
    struct buf pieces = {0};
    struct buf whole = {0};
    struct buf decoded = {0};
    check_origins(in);
    (void)http_decode(in, &decoded);
    CHECK(decoded.size <= in.size);
    follow(in, data[0] % 64 + 1, &pieces);
    follow(in, in.size, &whole);
    CHECK(!buf_failed(&whole));
    CHECK(bytes_equal(buf_bytes(&pieces), buf_bytes(&whole)));
    buf_finish(&pieces);
    buf_finish(&whole);
    buf_finish(&decoded);
    return 0;
}
