#include "origin.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

struct place {
    const char *host; /* with the brackets of an IPv6 address */
    size_t host_size;
    uint16_t port; /* 0: the default */
};

/* False for what is no host[:port]. */
static bool split(const char *text, struct place *out)
{
    const char *end = text + strlen(text);
    const char *host_end = text[0] == '[' ? strchr(text, ']') : strchr(text, ':');
    if (text[0] == '[') {
        if (host_end == NULL) {
            return false;
        }
        host_end++;
    }
    if (host_end == NULL) {
        host_end = end;
    }
    *out = (struct place){.host = text, .host_size = (size_t)(host_end - text)};
    if (out->host_size == 0 || host_end == end) {
        return out->host_size > 0;
    }
    char *port_end;
    unsigned long port = strtoul(host_end + 1, &port_end, 10);
    if (*host_end != ':' || host_end[1] < '0' || host_end[1] > '9' || port_end != end ||
        port == 0 || port > UINT16_MAX) {
        return false;
    }
    out->port = (uint16_t)port;
    return true;
}

/* What follows scheme:// in an origin; NULL for one without a place ("null"). */
static const char *authority_of(const char *origin, uint16_t *default_port)
{
    const char *colon = strstr(origin, "://");
    if (colon == NULL) {
        return NULL;
    }
    bool is_tls = (size_t)(colon - origin) == strlen("https") &&
                  strncasecmp(origin, "https", strlen("https")) == 0;
    *default_port = is_tls ? 443 : 80;
    return colon + strlen("://");
}

bool origin_is_at(const char *origin, const char *authority)
{
    uint16_t default_port;
    struct place from;
    struct place to;
    const char *text = authority_of(origin, &default_port);
    if (text == NULL || !split(text, &from) || !split(authority, &to)) {
        return false;
    }
    uint16_t from_port = from.port != 0 ? from.port : default_port;
    uint16_t to_port = to.port != 0 ? to.port : default_port;
    return from_port == to_port && from.host_size == to.host_size &&
           strncasecmp(from.host, to.host, from.host_size) == 0;
}

bool origin_equal(const char *origin, const char *listed)
{
    size_t size = strlen(listed);
    if (size > 0 && listed[size - 1] == '/') {
        size--;
    }
    return strlen(origin) == size && strncasecmp(origin, listed, size) == 0;
}
