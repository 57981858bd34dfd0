/* Splits addresses into host and port, and says what is wrong with them. */
#include "base/address.h"

#include "base/errors.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <string.h>

enum { PORT_DIGITS_MAX = 5 };

static const char no_port[] = "has no port; write host:port, such as 127.0.0.1:7000 or [::1]:7000";

static bool is_digit(char c)
{
    return c >= '0' && c <= '9';
}

/* Returns NULL, or what is wrong. */
static const char *read_port(const char *text, uint16_t *port)
{
    static const char bad_port[] = "has a bad port; it must be a number from 1 to 65535";
    size_t digits = strlen(text);
    if (digits == 0) {
        return no_port;
    }
    if (digits > PORT_DIGITS_MAX || text[0] == '0') {
        return bad_port;
    }
    uint32_t value = 0;
    for (; *text != '\0'; text++) {
        if (!is_digit(*text)) {
            return bad_port;
        }
        value = value * 10 + (uint32_t)(*text - '0');
    }
    if (value > UINT16_MAX) {
        return bad_port;
    }
    *port = (uint16_t)value;
    return NULL;
}

static const char *read_ipv6(struct address *address)
{
    struct in6_addr ip;
    if (inet_pton(AF_INET6, address->host, &ip) != 1) {
        return "has no IPv6 address between its brackets; write it as in [::1]:7000";
    }
    inet_ntop(AF_INET6, &ip, address->host, sizeof(address->host));
    return NULL;
}

/* A name or an IPv4 address; made lower case. */
static const char *read_host(struct address *address)
{
    bool is_numeric = true;
    for (char *c = address->host; *c != '\0'; c++) {
        if (*c >= 'A' && *c <= 'Z') {
            *c = (char)(*c - 'A' + 'a');
        }
        bool is_number_part = is_digit(*c) || *c == '.';
        if (!is_number_part && !(*c >= 'a' && *c <= 'z') && *c != '-' && *c != '_') {
            return "has a host name with an unexpected character; write host:port and nothing else";
        }
        is_numeric = is_numeric && is_number_part;
    }
    struct in_addr ip;
    if (is_numeric && inet_pton(AF_INET, address->host, &ip) != 1) {
        return "has a bad IPv4 address; it must have four numbers from 0 to 255";
    }
    return NULL;
}

static const char *split(const char *text, struct address *out)
{
    const char *host = text;
    const char *colon;
    size_t host_size;
    if (*text == '[') {
        const char *bracket = strchr(text, ']');
        if (bracket == NULL) {
            return "has no closing bracket; write it as in [::1]:7000";
        }
        host = text + 1;
        host_size = (size_t)(bracket - host);
        colon = bracket + 1;
        out->is_ipv6 = true;
    } else {
        colon = strrchr(text, ':');
        if (colon == NULL) {
            return no_port;
        }
        host_size = (size_t)(colon - host);
        if (memchr(host, ':', host_size) != NULL) {
            return "looks like IPv6, which needs brackets: [::1]:7000";
        }
    }
    if (*colon != ':') {
        return no_port;
    }
    if (host_size == 0) {
        return "has no host; write host:port (0.0.0.0:port to bind every interface)";
    }
    if (host_size > ADDRESS_HOST_BYTES_MAX) {
        return "has a host name that is too long; at most 253 bytes";
    }
    memcpy(out->host, host, host_size);
    out->host[host_size] = '\0';
    const char *problem = out->is_ipv6 ? read_ipv6(out) : read_host(out);
    return problem != NULL ? problem : read_port(colon + 1, &out->port);
}

int address_split(const char *text, struct address *out, const char **reason)
{
    struct address address = {0};
    const char *problem = split(text, &address);
    if (problem != NULL) {
        if (reason != NULL) {
            *reason = problem;
        }
        return ERR_INVALID;
    }
    *out = address;
    return 0;
}

bool address_equal(const struct address *a, const struct address *b)
{
    return a->port == b->port && a->is_ipv6 == b->is_ipv6 && strcmp(a->host, b->host) == 0;
}

bool address_is_any(const struct address *address)
{
    return strcmp(address->host, address->is_ipv6 ? "::" : "0.0.0.0") == 0;
}
