/* Makes room when there are too many connections. An idle HTTP connection is closed: the longest
 * idle one of the address that has the most of them. WebSockets and connections with an answer in
 * progress stay. If none can be closed, a few more connections are accepted, for a moment each.
 * They are served only the paths that monitor a node. */
#ifndef RAFTOGRAM_HTTP_CROWD_H
#define RAFTOGRAM_HTTP_CROWD_H

#include "base/list.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Connections beyond limits.max_connections. */
#define CROWD_RESERVE 64

struct http_frontend;
struct session;
struct sockaddr_storage;

/* The connections of one address. */
struct crowd_address;

/* The part of a session that crowd.c uses. */
struct crowd_member {
    struct list idle_link;         /* while the session may be closed */
    struct crowd_address *address; /* NULL: no memory */
    bool is_leaving;
    bool is_short;    /* its descriptor is one of those that are kept for other uses */
    bool is_reserved; /* beyond the limit: it is served one probe */
};

/* Prepares for one more connection with the descriptor `fd`. Returns false if it cannot be
 * accepted. */
bool crowd_make_room(struct http_frontend *frontend, int fd);
void crowd_enter(struct session *session, const struct sockaddr_storage *from);
/* Removes a session. Accepts a session that did not enter. */
void crowd_leave(struct session *session);
/* Marks the session as just used: it is closed last. */
void crowd_note_idle(struct session *session);
/* Marks the session as busy or a WebSocket: it is not closed. */
void crowd_note_busy(struct session *session);
/* True while the session is beyond the limit. */
bool crowd_is_over(const struct session *session);

#endif
