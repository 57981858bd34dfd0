/* Accepts connections while keeping descriptors for uses that must not fail: the node's own
 * files, and the other nodes. Any thread. */
#ifndef RAFTOGRAM_BASE_ACCEPT_H
#define RAFTOGRAM_BASE_ACCEPT_H

#include <stdbool.h>
#include <sys/socket.h>

/* Descriptors that a listener leaves alone, of 256 or more. */
#define ACCEPT_KEPT_BY_PEERS 32u
#define ACCEPT_KEPT_BY_PROBES 40u /* of HTTP, which serves health checks */
#define ACCEPT_KEPT_BY_CLIENTS 64u

/* As accept4(2), but closes a connection that would use a kept descriptor. Returns EINTR for
 * that, as for other errors of one connection only. EAGAIN: no connection waits, or none can be
 * accepted now. Other errors are the listener's own. */
int accept_keeping(int listener, struct sockaddr *address, socklen_t *size, int flags,
                   unsigned kept);
/* True for a descriptor that such a listener would have left alone. */
bool accept_is_short(int fd, unsigned kept);

#endif
