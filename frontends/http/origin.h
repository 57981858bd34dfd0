/* Checks who may send a request, by its names: Host is the name under which the client found this
 * node, Origin the web page that sent the request. Pure.
 *
 * Browsers let any page connect to any address, and DNS lets any name resolve to any address
 * (rebinding). So an unknown Host is refused whatever its address, and so is a WebSocket of an
 * unknown page. */
#ifndef RAFTOGRAM_HTTP_ORIGIN_H
#define RAFTOGRAM_HTTP_ORIGIN_H

#include "base/buf.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* host[:port]; the view is into the text. */
struct authority {
    struct bytes host; /* with the brackets of an IPv6 address; without a final dot */
    uint16_t port;     /* 0: none was written */
};

/* Parses host[:port]. Returns false if the text is anything else. */
bool authority_read(struct bytes text, struct authority *out);
bool authority_is_ip(const struct authority *authority);
/* localhost, 127.0.0.0/8 or [::1]. */
bool authority_is_loopback(const struct authority *authority);
bool authority_has_host(const struct authority *authority, struct bytes host);

/* The names that are allowed. The texts must outlive the struct. */
struct origin_rules {
    const char *const *hosts; /* http.allowed_hosts */
    size_t host_count;
    const char *const *origins; /* websocket.allowed_origins */
    size_t origin_count;
    const char *const *peers; /* each http_addr, "" for none */
    size_t peer_count;
};

/* True for an IP address, localhost, a listed host, and the host of an http_addr of a peer. */
bool origin_host_is_allowed(const struct origin_rules *rules, struct bytes host);
/* True if a page of `origin` may open a WebSocket at the (allowed) `host`. Allowed are pages of
 * this address, of the other nodes, and listed ones. A page outlives the node that served it, so
 * these are allowed too: pages under another allowed name of a node, or under a name of this
 * machine with the port of a peer on this machine. */
bool origin_is_allowed(const struct origin_rules *rules, struct bytes origin, struct bytes host);

#endif
