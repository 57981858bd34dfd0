/* Checks Host and Origin of a request against the configuration. */
#include "origin.h"

#include <arpa/inet.h>
#include <ctype.h>
#include <string.h>
#include <strings.h>

#define HOST_BYTES_MAX 255
#define PORT_DIGITS_MAX 5
#define HTTP_PORT 80
#define HTTPS_PORT 443

/* ---- host:port ---- */

/* RFC 3986, 3.2.2, without parts that no host here needs. */
static bool is_host(struct bytes host)
{
    const unsigned char *data = host.data;
    for (size_t i = 0; i < host.size; i++) {
        if (!isalnum(data[i]) && (data[i] == '\0' || strchr("-._~[]:", data[i]) == NULL)) {
            return false;
        }
    }
    return host.size > 0 && host.size <= HOST_BYTES_MAX;
}

static bool read_port(struct bytes text, uint16_t *out)
{
    const char *data = text.data;
    unsigned long port = 0;
    if (text.size == 0 || text.size > PORT_DIGITS_MAX) {
        return text.size == 0; /* "host:" is allowed: RFC 3986, 3.2.3 */
    }
    for (size_t i = 0; i < text.size; i++) {
        if (!isdigit((unsigned char)data[i])) {
            return false;
        }
        port = port * 10 + (unsigned long)(data[i] - '0');
    }
    *out = (uint16_t)port;
    return port > 0 && port <= UINT16_MAX;
}

static bool is_bracketed(struct bytes host)
{
    return host.size > 0 && *(const char *)host.data == '[';
}

bool authority_read(struct bytes text, struct authority *out)
{
    const char *data = text.data;
    size_t host_size = text.size;
    if (is_bracketed(text)) {
        const char *end = memchr(data, ']', text.size);
        if (end == NULL) {
            return false;
        }
        host_size = (size_t)(end + 1 - data);
    } else {
        const char *colon = text.size > 0 ? memchr(data, ':', text.size) : NULL;
        host_size = colon != NULL ? (size_t)(colon - data) : text.size;
    }
    *out = (struct authority){.host = {data, host_size}};
    if (host_size < text.size &&
        (data[host_size] != ':' ||
         !read_port((struct bytes){data + host_size + 1, text.size - host_size - 1}, &out->port))) {
        return false;
    }
    if (!is_host(out->host) || (is_bracketed(out->host) && !authority_is_ip(out))) {
        return false;
    }
    if (host_size > 1 && data[host_size - 1] == '.') {
        out->host.size--;
    }
    return true;
}

/* Parses a host that is an address. Returns 4 or 16 bytes; 0 for a name. */
static size_t read_ip(struct bytes host, uint8_t out[16])
{
    char text[HOST_BYTES_MAX + 1];
    bool is_v6 = is_bracketed(host);
    size_t size = is_v6 ? host.size - 2 : host.size;
    if (host.size > HOST_BYTES_MAX || (is_v6 && host.size < 2)) {
        return 0;
    }
    memcpy(text, (const char *)host.data + is_v6, size);
    text[size] = '\0';
    if (is_v6) {
        return inet_pton(AF_INET6, text, out) == 1 ? 16 : 0;
    }
    return inet_pton(AF_INET, text, out) == 1 ? 4 : 0;
}

bool authority_is_ip(const struct authority *authority)
{
    uint8_t ip[16];
    return read_ip(authority->host, ip) > 0;
}

bool authority_has_host(const struct authority *authority, struct bytes host)
{
    return authority->host.size == host.size &&
           strncasecmp(authority->host.data, host.data, host.size) == 0;
}

static bool is_localhost(const struct authority *authority)
{
    return authority_has_host(authority, bytes_of_text("localhost"));
}

bool authority_is_loopback(const struct authority *authority)
{
    static const uint8_t loopback6[16] = {[15] = 1};
    uint8_t ip[16];
    size_t size = read_ip(authority->host, ip);
    if (size == 4) {
        return ip[0] == 127;
    }
    return size == 16 ? memcmp(ip, loopback6, sizeof(loopback6)) == 0 : is_localhost(authority);
}

/* ---- rules ---- */

static bool is_listed_host(const struct origin_rules *rules, const struct authority *authority)
{
    for (size_t i = 0; i < rules->host_count; i++) {
        struct authority listed;
        if (authority_read(bytes_of_text(rules->hosts[i]), &listed) &&
            authority_has_host(authority, listed.host)) {
            return true;
        }
    }
    return false;
}

bool origin_host_is_allowed(const struct origin_rules *rules, struct bytes host)
{
    struct authority authority;
    if (!authority_read(host, &authority)) {
        return false;
    }
    if (authority_is_ip(&authority) || is_localhost(&authority) ||
        is_listed_host(rules, &authority)) {
        return true;
    }
    for (size_t i = 0; i < rules->peer_count; i++) {
        struct authority peer;
        if (authority_read(bytes_of_text(rules->peers[i]), &peer) &&
            authority_has_host(&authority, peer.host)) {
            return true;
        }
    }
    return false;
}

struct origin {
    struct authority authority;
    bool is_tls;
    uint16_t port; /* the default of the scheme if absent */
};

/* Parses an origin. Returns false for "null", and for other schemes. Some programs that are not
 * browsers use ws: and wss:. */
static bool read_origin(struct bytes text, struct origin *out)
{
    static const struct {
        const char *scheme;
        bool is_tls;
    } schemes[] = {{"http://", false}, {"https://", true}, {"ws://", false}, {"wss://", true}};
    for (size_t i = 0; i < sizeof(schemes) / sizeof(schemes[0]); i++) {
        size_t size = strlen(schemes[i].scheme);
        if (text.size <= size || strncasecmp(text.data, schemes[i].scheme, size) != 0) {
            continue;
        }
        struct bytes rest = {(const char *)text.data + size, text.size - size};
        out->is_tls = schemes[i].is_tls;
        if (!authority_read(rest, &out->authority)) {
            return false;
        }
        uint16_t default_port = out->is_tls ? HTTPS_PORT : HTTP_PORT;
        out->port = out->authority.port != 0 ? out->authority.port : default_port;
        return true;
    }
    return false;
}

/* Compares an origin with a host. A page of https:// came through a proxy, since this is HTTP
 * without TLS. It matches only if both use the default port. */
static bool is_at(const struct origin *origin, const struct authority *place)
{
    uint16_t default_port = origin->is_tls ? HTTPS_PORT : HTTP_PORT;
    uint16_t port = place->port != 0 ? place->port : default_port;
    return origin->port == port && (!origin->is_tls || port == HTTPS_PORT) &&
           authority_has_host(&origin->authority, place->host);
}

/* True for a page that a peer served under another name than its http_addr. If the peers are on
 * other machines, the port of a page on this machine proves nothing: any program may use it. */
static bool is_peer_by_another_name(const struct origin_rules *rules, const struct origin *origin,
                                    const struct authority *peer)
{
    uint16_t port = peer->port != 0 ? peer->port : HTTP_PORT;
    if (origin->is_tls || origin->port != port) {
        return false;
    }
    return is_listed_host(rules, &origin->authority) ||
           (authority_is_loopback(&origin->authority) && authority_is_loopback(peer));
}

static bool is_of_a_peer(const struct origin_rules *rules, const struct origin *origin)
{
    for (size_t i = 0; i < rules->peer_count; i++) {
        struct authority peer;
        if (authority_read(bytes_of_text(rules->peers[i]), &peer) &&
            (is_at(origin, &peer) || is_peer_by_another_name(rules, origin, &peer))) {
            return true;
        }
    }
    return false;
}

static bool is_listed_origin(const struct origin_rules *rules, struct bytes origin)
{
    for (size_t i = 0; i < rules->origin_count; i++) {
        size_t size = strlen(rules->origins[i]);
        if (size > 0 && rules->origins[i][size - 1] == '/') {
            size--;
        }
        if (origin.size == size && strncasecmp(origin.data, rules->origins[i], size) == 0) {
            return true;
        }
    }
    return false;
}

bool origin_is_allowed(const struct origin_rules *rules, struct bytes origin, struct bytes host)
{
    struct origin from;
    struct authority place;
    if (is_listed_origin(rules, origin)) {
        return true;
    }
    if (!read_origin(origin, &from)) {
        return false;
    }
    /* A host that is not allowed is also not allowed as an origin. */
    return (authority_read(host, &place) && is_at(&from, &place) &&
            origin_host_is_allowed(rules, host)) ||
           is_of_a_peer(rules, &from);
}
