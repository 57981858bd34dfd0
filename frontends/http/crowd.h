/* Who makes room when there are too many clients. Idle HTTP connections do, the longest idle of the
 * address that has the most of them first; WebSockets and answers under way stay. When nobody can
 * make room a few more connections are taken all the same, for a moment each, and only the paths
 * that people and machines watch a node by are served on them. */
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

/* The clients of one address. */
struct crowd_address;

/* What the crowd knows of a session. */
struct crowd_member {
    struct list idle_link;         /* while it may be asked to leave */
    struct crowd_address *address; /* NULL: there was no memory for it */
    bool is_leaving;
    bool is_short;    /* its descriptor is one of those that clients are to leave alone */
    bool is_reserved; /* beyond the limit: it is served probes alone, and once */
};

/* Prepares for one more connection, which has the descriptor `fd`. False: it cannot be taken. */
bool crowd_make_room(struct http_frontend *frontend, int fd);
void crowd_enter(struct session *session, const struct sockaddr_storage *from);
/* It is gone. Accepts a session that did not enter. */
void crowd_leave(struct session *session);
/* Something came from it, or was answered: it is the last to be asked now. */
void crowd_note_idle(struct session *session);
/* It is at work, or a WebSocket: it is not asked. */
void crowd_note_busy(struct session *session);
/* True while the session is one too many. */
bool crowd_is_over(const struct session *session);

#endif
