/* Taking connections from a listener so that descriptors are left for what must not fail for want
 * of one: the node's own files, and the other nodes. Any thread. */
#ifndef RAFTOGRAM_BASE_ACCEPT_H
#define RAFTOGRAM_BASE_ACCEPT_H

#include <stdbool.h>
#include <sys/socket.h>

/* Descriptors that a listener leaves alone, of 256 or more. */
#define ACCEPT_KEPT_BY_PEERS 32u
#define ACCEPT_KEPT_BY_PROBES 40u /* of HTTP, which tells how the node is */
#define ACCEPT_KEPT_BY_CLIENTS 64u

/* As accept4(2), but one who would take what is to be kept is turned away: that is EINTR, as is
 * whatever else is wrong with one connection only. EAGAIN: nobody waits, or nobody can be taken
 * now. Other errors are the listener's own. */
int accept_keeping(int listener, struct sockaddr *address, socklen_t *size, int flags,
                   unsigned kept);
/* True for a descriptor that such a listener would have left alone. */
bool accept_is_short(int fd, unsigned kept);

#endif
