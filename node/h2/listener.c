/* Listening, and taking connections: exactly the address that was configured, and no more
 * connections than there may be. For one more, one that has no calls makes room, so that idle ones
 * cannot keep others out. */
#include "h2/h2_internal.h"

#include "base/accept.h"
#include "base/errors.h"

#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#define BACKLOG 1024
#define ACCEPTS_MAX 64 /* in one round of the thread */
#define HOST_BYTES_MAX 256
/* However few descriptors the process may have. */
#define CONNECTIONS_MIN 16u

static const char *explain_errno(int number)
{
    switch (number) {
    case EADDRINUSE:
        return "it is in use by another process";
    case EADDRNOTAVAIL:
        return "it is not an address of this machine";
    case EACCES:
        return "binding it is not permitted";
    default:
        return strerror(number);
    }
}

/* 0, or an errno. */
static int bind_one(const struct addrinfo *info, int *out)
{
    int fd = socket(info->ai_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0) {
        return errno;
    }
    /* Not SO_REUSEPORT, with which two processes would silently share the port. */
    const int on = 1;
    (void)setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
    if (bind(fd, info->ai_addr, info->ai_addrlen) != 0 || listen(fd, BACKLOG) != 0) {
        int number = errno;
        close(fd);
        return number;
    }
    *out = fd;
    return 0;
}

static bool split(const char *address, char *host, const char **port)
{
    const char *colon = strrchr(address, ':');
    if (colon == NULL || colon == address) {
        return false;
    }
    const char *begin = address;
    size_t size = (size_t)(colon - address);
    if (begin[0] == '[' && begin[size - 1] == ']') {
        begin++;
        size -= 2;
    }
    if (size == 0 || size >= HOST_BYTES_MAX) {
        return false;
    }
    memcpy(host, begin, size);
    host[size] = '\0';
    *port = colon + 1;
    return true;
}

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

int h2_listen(const char *address, int *fd_out, int *port_out, struct h2_error *error)
{
    char host[HOST_BYTES_MAX];
    const char *port;
    if (!split(address, host, &port)) {
        error->reason = "it is not HOST:PORT";
        return ERR_BUSY;
    }
    const struct addrinfo hints = {.ai_socktype = SOCK_STREAM,
                                   .ai_flags = AI_PASSIVE | AI_NUMERICSERV};
    struct addrinfo *found;
    int rc = getaddrinfo(host, port, &hints, &found);
    if (rc != 0) {
        error->reason = gai_strerror(rc);
        return ERR_BUSY;
    }
    int number = EADDRNOTAVAIL;
    for (const struct addrinfo *info = found; info != NULL && number != 0; info = info->ai_next) {
        number = bind_one(info, fd_out);
    }
    freeaddrinfo(found);
    if (number != 0) {
        error->reason = explain_errno(number);
        return ERR_BUSY;
    }
    *port_out = port_of(*fd_out);
    return 0;
}

/* Half of the descriptors that clients may have: the other half is HTTP's. */
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

/* False: all have calls. */
static bool make_room(struct h2_server *server)
{
    if (atomic_load(&server->connection_count) < connections_max(server)) {
        return true;
    }
    if (list_is_empty(&server->idle)) {
        return false;
    }
    struct h2_connection *longest = LIST_ENTRY(server->idle.next, struct h2_connection, idle_link);
    (void)nghttp2_session_terminate_session(longest->session, NGHTTP2_NO_ERROR);
    h2_connection_flush(longest);
    h2_connection_doom(longest);
    return true;
}

void h2_accept(struct h2_server *server)
{
    for (int i = 0; i < ACCEPTS_MAX && server->listener_fd >= 0; i++) {
        int fd = accept_keeping(server->listener_fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC,
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
