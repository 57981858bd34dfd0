/* Replaces accept4(2) for gRPC. gRPC (1.51) closes a listener for good, without a report, at the
 * first error of accept4(2), such as a moment without a free descriptor. It offers no way to change
 * that, but the linker finds a function of that name in the program before the C library's. This
 * one refuses such a connection instead, and reserves descriptors for the node's files and for
 * other nodes. A caller that does not ask for the address is not gRPC and gets the plain call. */
#include "base/accept.h"
#include "rpc/rpc_internal.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdatomic.h>
#include <sys/syscall.h>
#include <unistd.h>

/* By local port, since nothing else of gRPC's own sockets is known. */
static atomic_bool is_of_peers[UINT16_MAX + 1];

void rpc_accept_note(int port, bool is_for_peers)
{
    atomic_store(&is_of_peers[(uint16_t)port], is_for_peers);
}

static unsigned kept_by(int listener)
{
    struct sockaddr_storage address = {0};
    socklen_t size = sizeof(address);
    uint16_t port = 0;
    if (getsockname(listener, (struct sockaddr *)&address, &size) != 0) {
        return ACCEPT_KEPT_BY_CLIENTS;
    }
    if (address.ss_family == AF_INET) {
        port = ntohs(((const struct sockaddr_in *)&address)->sin_port);
    } else if (address.ss_family == AF_INET6) {
        port = ntohs(((const struct sockaddr_in6 *)&address)->sin6_port);
    }
    return atomic_load(&is_of_peers[port]) ? ACCEPT_KEPT_BY_PEERS : ACCEPT_KEPT_BY_CLIENTS;
}

int accept4(int listener, __SOCKADDR_ARG address, socklen_t *restrict size, int flags)
{
    if (address.__sockaddr__ == NULL) {
        return (int)syscall(SYS_accept4, listener, NULL, NULL, flags);
    }
    return accept_keeping(listener, address.__sockaddr__, size, flags, kept_by(listener));
}
