/* Replaces bind(2) for gRPC. If it is given 0.0.0.0, gRPC (1.51) listens on IPv6 too, and it does
 * not report why listening failed. As with accept4(2) (accept.c), the linker finds this bind(2)
 * before the C library's. On the thread that runs rpc_bind(), it refuses the other kind of wildcard
 * and remembers the error. Other callers get the plain call. */
#include "rpc/rpc_internal.h"

#include <errno.h>
#include <grpc/grpc_security.h>
#include <netdb.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

struct binding {
    const struct listen_address *wanted;
    int number; /* errno of the first failure */
};

static __thread struct binding *current;

static bool is_ipv4_wildcard(const struct sockaddr *address)
{
    if (address->sa_family == AF_INET) {
        return ((const struct sockaddr_in *)(const void *)address)->sin_addr.s_addr == INADDR_ANY;
    }
    static const uint8_t mapped[16] = {[10] = 0xff, [11] = 0xff};
    return address->sa_family == AF_INET6 &&
           memcmp(&((const struct sockaddr_in6 *)(const void *)address)->sin6_addr, mapped,
                  sizeof(mapped)) == 0;
}

static bool is_ipv6_wildcard(const struct sockaddr *address)
{
    return address->sa_family == AF_INET6 &&
           IN6_IS_ADDR_UNSPECIFIED(
               &((const struct sockaddr_in6 *)(const void *)address)->sin6_addr);
}

static bool is_other_wildcard(const struct listen_address *wanted, const struct sockaddr *address)
{
    const struct sockaddr *asked = (const struct sockaddr *)&wanted->address;
    return (is_ipv4_wildcard(asked) && is_ipv6_wildcard(address)) ||
           (is_ipv6_wildcard(asked) && is_ipv4_wildcard(address));
}

int bind(int fd, __CONST_SOCKADDR_ARG address, socklen_t size)
{
    if (current != NULL && is_other_wildcard(current->wanted, address.__sockaddr__)) {
        errno = EAFNOSUPPORT;
        return -1;
    }
    int rc = (int)syscall(SYS_bind, fd, address.__sockaddr__, size);
    if (rc != 0 && current != NULL && current->number == 0) {
        current->number = errno;
    }
    return rc;
}

static int bind_one(grpc_server *server, grpc_server_credentials *credentials,
                    const struct listen_address *address, int *port)
{
    char host[NI_MAXHOST];
    char service[NI_MAXSERV];
    if (getnameinfo((const struct sockaddr *)&address->address, address->size, host, sizeof(host),
                    service, sizeof(service), NI_NUMERICHOST | NI_NUMERICSERV) != 0) {
        return EAFNOSUPPORT;
    }
    char text[NI_MAXHOST + NI_MAXSERV + 4];
    bool is_ipv6 = address->address.ss_family == AF_INET6;
    snprintf(text, sizeof(text), is_ipv6 ? "[%s]:%s" : "%s:%s", host, service);
    struct binding binding = {.wanted = address};
    current = &binding;
    *port = grpc_server_add_http2_port(server, text, credentials);
    current = NULL;
    if (*port != 0) {
        return 0;
    }
    /* gRPC created no socket, or failed after bind(), in listen(). */
    return binding.number != 0 ? binding.number : is_ipv6 ? EAFNOSUPPORT : EADDRINUSE;
}

int rpc_bind(grpc_server *server, const char *text, int *port, struct listen_fault *fault)
{
    struct listen_addresses addresses;
    int rc = listen_resolve(text, &addresses, fault);
    if (rc != 0) {
        return rc;
    }
    grpc_server_credentials *credentials = grpc_insecure_server_credentials_create();
    *port = 0;
    int skipped = 0;
    for (size_t i = 0; i < addresses.count; i++) {
        int bound;
        int number = bind_one(server, credentials, &addresses.list[i], &bound);
        if (number == 0) {
            *port = *port == 0 ? bound : *port;
        } else if (listen_may_skip(&addresses, number)) {
            skipped = number;
        } else {
            fault->number = number;
            break;
        }
    }
    grpc_server_credentials_release(credentials);
    if (fault->number == 0 && *port == 0) {
        fault->number = skipped;
    }
    return fault->number == 0 ? 0 : listen_error(fault);
}
