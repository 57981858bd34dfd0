/* Listens on exactly the configured address and accepts connections up to a limit. At the limit, a
 * new connection replaces the one that is idle longest, so that idle connections cannot lock others
 * out. */
#include "h2/h2_internal.h"

#include "base/accept.h"
#include "base/errors.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#define ACCEPTS_MAX 64 /* in one round of the thread */
/* Least number of connections, however low the limit of descriptors is. */
#define CONNECTIONS_MIN 16u

static int port_of(int fd)
{
    struct sockaddr_storage local;
    socklen_t size = sizeof(local);
    if (getsockname(fd, (struct sockaddr *)&local, &size) != 0) {
        return 0;
    }
    return local.ss_family == AF_INET6
               ? ntohs(((const struct sockaddr_in6 *)(const void *)&local)->sin6_port)
               : ntohs(((const struct sockaddr_in *)(const void *)&local)->sin_port);
}

int h2_listen(struct h2_server *server, struct listen_fault *fault)
{
    int rc =
        listen_sockets_open(server->options.address, LISTEN_BACKLOG, &server->listeners, fault);
    if (rc == 0) {
        server->port = port_of(server->listeners.list[0]);
    }
    return rc;
}

/* Half of the descriptors for clients. The HTTP frontend has the other half. */
static uint64_t connections_max(const struct h2_server *server)
{
    struct rlimit limit;
    uint64_t most = server->options.connections_max;
    if (getrlimit(RLIMIT_NOFILE, &limit) != 0 || limit.rlim_cur == RLIM_INFINITY) {
        return most;
    }
    uint64_t kept = 2 * (uint64_t)ACCEPT_KEPT_BY_CLIENTS;
    uint64_t allowed = limit.rlim_cur > kept ? (limit.rlim_cur - kept) / 2 : 0;
    allowed = allowed < CONNECTIONS_MIN ? CONNECTIONS_MIN : allowed;
    return allowed < most ? allowed : most;
}

/* Returns false if all connections have calls. */
static bool make_room(struct h2_server *server)
{
    if (atomic_load(&server->connection_count) < connections_max(server)) {
        return true;
    }
    if (list_is_empty(&server->idle)) {
        return false;
    }
    struct h2_connection *longest = LIST_ENTRY(server->idle.next, struct h2_connection, idle_link);
    if (longest->is_greeted) {
        (void)nghttp2_session_terminate_session(longest->session, NGHTTP2_NO_ERROR);
        h2_connection_flush(longest);
    }
    h2_connection_doom(longest);
    return true;
}

static void accept_from(struct h2_server *server, int listener)
{
    for (int i = 0; i < ACCEPTS_MAX; i++) {
        int fd = accept_keeping(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC,
                                ACCEPT_KEPT_BY_CLIENTS);
        if (fd < 0) {
            if (errno == EINTR) {
                continue;
            }
            return;
        }
        if (!make_room(server)) {
            close(fd);
            continue;
        }
        const int on = 1;
        (void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
        (void)h2_connection_create(server, fd);
    }
}

void h2_accept(struct h2_server *server)
{
    for (size_t i = 0; i < server->listeners.count; i++) {
        accept_from(server, server->listeners.list[i]);
    }
}
