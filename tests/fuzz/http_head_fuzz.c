/* The head of a request from any bytes, as they come from a socket: where it ends does not depend
 * on the pieces, and what libwebsockets gets to see is a head that reads as the same again. */
#include "../../frontends/http/http_head.c"
#include "../../frontends/http/origin.c"

#include "base/check.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* As wire.c asks for it: what was looked through once is not looked at again. */
static size_t end_in_pieces(struct bytes text, size_t piece)
{
    size_t held = 0;
    while (held < text.size) {
        size_t size = held + piece < text.size ? held + piece : text.size;
        size_t end = http_head_end((struct bytes){text.data, size}, held > 3 ? held - 3 : 0);
        if (end > 0) {
            return end;
        }
        held = size;
    }
    return 0;
}

static size_t lines_of(struct bytes text)
{
    const char *data = text.data;
    size_t count = 0;
    for (size_t i = 0; i < text.size; i++) {
        count += data[i] == '\n';
    }
    return count;
}

static void check_status(const struct http_head *head)
{
    CHECK(head->status == 0 || (head->status >= 400 && head->status < 600));
    CHECK((head->status == 0) == (head->message == NULL));
}

static void check_passed(const struct http_head *head, struct bytes passed)
{
    CHECK(http_head_end(passed, 0) == passed.size);
    CHECK(http_head_may_begin(passed));
    struct http_head again;
    struct buf out = {0};
    http_head_read(passed, &again, &out);
    CHECK(again.status == 0);
    CHECK(again.is_chunked == head->is_chunked || passed.size < HTTP_HEAD_BYTES_MAX);
    CHECK(again.body_size == head->body_size);
    CHECK(bytes_equal(buf_bytes(&out), passed));
    const uint8_t *data = passed.data;
    for (size_t i = 0; i < passed.size; i++) {
        CHECK(data[i] >= ' ' || data[i] == '\r' || data[i] == '\n' || data[i] == '\t');
    }
    buf_finish(&out);
}

static void check_origins(struct bytes text)
{
    char *copy = strndup(text.data, text.size);
    CHECK(copy != NULL);
    char *second = strchr(copy, '\n');
    if (second != NULL) {
        *second++ = '\0';
        (void)origin_is_at(copy, second);
        (void)origin_equal(copy, second);
    }
    free(copy);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < 2) {
        return 0;
    }
    struct bytes text = {data + 1, size - 1};
    check_origins(text);
    struct http_head head;
    http_head_refuse_large(text, &head);
    CHECK(head.status != 0);
    size_t end = http_head_end(text, 0);
    CHECK(end_in_pieces(text, data[0] % 64 + 1) == end);
    if (!http_head_may_begin(text) || end == 0 || end > HTTP_HEAD_BYTES_MAX) {
        return 0;
    }
    text.size = end;
    struct buf passed = {0};
    http_head_read(text, &head, &passed);
    CHECK(!buf_failed(&passed));
    check_status(&head);
    CHECK(passed.size <= text.size + lines_of(text));
    if (head.status == 0) {
        check_passed(&head, buf_bytes(&passed));
    }
    buf_finish(&passed);
    return 0;
}
