/* Who may ask, by the names that a request gives: Host says under which name it found this node,
 * Origin from which web page it comes. Pure.
 *
 * Browsers let any page talk to any address, and DNS lets any name mean any address (rebinding): a
 * foreign name is refused, whatever stands behind it, and so is a foreign page's WebSocket. */
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

/* False for what is no host[:port]. */
bool authority_read(struct bytes text, struct authority *out);
bool authority_is_ip(const struct authority *authority);
/* localhost, 127.0.0.0/8 or [::1]. */
bool authority_is_loopback(const struct authority *authority);
bool authority_has_host(const struct authority *authority, struct bytes host);

/* The names of this node and of what may talk to it. Texts outlive the struct. */
struct origin_rules {
    const char *const *hosts; /* http.allowed_hosts */
    size_t host_count;
    const char *const *origins; /* websocket.allowed_origins */
    size_t origin_count;
    const char *const *peers; /* each http_addr, "" for none */
    size_t peer_count;
};

/* An IP address, localhost, a listed host, or that of a peer's http_addr. */
bool origin_host_is_allowed(const struct origin_rules *rules, struct bytes host);
/* May a page of `origin` open a WebSocket that it asks for under the (allowed) `host`? Pages of
 * this very address may, those of the other nodes, and those that are listed; and since a page
 * outlives the node it came from, also one that came under another name of a node: an allowed name,
 * or this machine's own with the port of a peer on this machine. */
bool origin_is_allowed(const struct origin_rules *rules, struct bytes origin, struct bytes host);

#endif
