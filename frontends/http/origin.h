/* Which web pages may open a WebSocket: browsers let any page try, and name it in Origin. Pure. */
#ifndef RAFTOGRAM_HTTP_ORIGIN_H
#define RAFTOGRAM_HTTP_ORIGIN_H

#include <stdbool.h>
#include <stddef.h>

/* True if the origin's host and port are those of `authority` ("host:port", or "host" for the
 * default port of the origin's scheme), as a Host header or an address has them. */
bool origin_is_at(const char *origin, const char *authority);
/* True if the two origins are the same; a slash at the end of `listed` does not matter. */
bool origin_equal(const char *origin, const char *listed);

#endif
