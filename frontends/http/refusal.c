/* Connections whose first line libwebsockets cannot read: a method that it does not know, or no
 * HTTP at all. It hands them over as raw sockets, and they hear why they are not served. */
#include "http_internal.h"

#include <ctype.h>
#include <string.h>

#define METHOD_BYTES_MAX 32

static const char unknown_method[] = "HTTP/1.1 405 Method Not Allowed\r\n"
                                     "content-type: application/json\r\n"
                                     "content-length: 46\r\n"
                                     "allow: GET, HEAD\r\n"
                                     "connection: close\r\n"
                                     "\r\n"
                                     "{\"error\":\"only GET and HEAD are served here\"}\n";
static const char no_http[] = "HTTP/1.1 400 Bad Request\r\n"
                              "content-type: application/json\r\n"
                              "content-length: 31\r\n"
                              "connection: close\r\n"
                              "\r\n"
                              "{\"error\":\"this is no HTTP/1.1\"}";

/* True for "METHOD /", as a request of HTTP begins. */
static bool has_method(const char *text, size_t size)
{
    size_t at = 0;
    while (at < size && at < METHOD_BYTES_MAX && isupper((unsigned char)text[at])) {
        at++;
    }
    return at > 0 && at + 1 < size && text[at] == ' ' && (text[at + 1] == '/');
}

static int on_refused(struct lws *wsi, enum lws_callback_reasons reason, void *user, void *in,
                      size_t size)
{
    if (reason != LWS_CALLBACK_RAW_RX) {
        return 0;
    }
    const char *text = has_method(in, size) ? unknown_method : no_http;
    char block[LWS_PRE + sizeof(unknown_method) + sizeof(no_http)];
    size_t length = strlen(text);
    memcpy(block + LWS_PRE, text, length);
    (void)lws_write(wsi, (unsigned char *)block + LWS_PRE, length, LWS_WRITE_RAW);
    return -1;
}

const struct lws_protocols refusal_protocol = {.name = "refusal", .callback = on_refused};
