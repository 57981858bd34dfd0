/* Listening sockets, and the reasons and remedies when one cannot be opened. */
#include "base/listen.h"

#include "base/errors.h"

#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define HOST_BYTES_MAX 256

/* ---- names and addresses ---- */

/* False: it has no port, or is too long. */
static bool split(const char *text, char host[HOST_BYTES_MAX], const char **port)
{
    const char *colon = strrchr(text, ':');
    if (colon == NULL || colon[1] == '\0') {
        return false;
    }
    size_t size = (size_t)(colon - text);
    if (size >= 2 && text[0] == '[' && text[size - 1] == ']') {
        text++;
        size -= 2;
    }
    if (size == 0 || size >= HOST_BYTES_MAX) {
        return false;
    }
    memcpy(host, text, size);
    host[size] = '\0';
    *port = colon + 1;
    return true;
}

static bool has_address(const struct listen_addresses *addresses, const struct addrinfo *info)
{
    for (size_t i = 0; i < addresses->count; i++) {
        const struct listen_address *known = &addresses->list[i];
        if (known->size == info->ai_addrlen &&
            memcmp(&known->address, info->ai_addr, info->ai_addrlen) == 0) {
            return true;
        }
    }
    return false;
}

int listen_resolve(const char *text, struct listen_addresses *out, struct listen_fault *fault)
{
    char host[HOST_BYTES_MAX];
    const char *port;
    *out = (struct listen_addresses){.count = 0};
    *fault = (struct listen_fault){.number = 0};
    if (!split(text, host, &port)) {
        snprintf(fault->reason, sizeof(fault->reason), "it is not host:port");
        return ERR_INVALID;
    }
    const struct addrinfo hints = {.ai_socktype = SOCK_STREAM,
                                   .ai_flags = AI_PASSIVE | AI_NUMERICSERV};
    struct addrinfo *found;
    int rc = getaddrinfo(host, port, &hints, &found);
    if (rc != 0) {
        snprintf(fault->reason, sizeof(fault->reason), "its name cannot be looked up: %s",
                 rc == EAI_SYSTEM ? strerror(errno) : gai_strerror(rc));
        return ERR_INVALID;
    }
    for (const struct addrinfo *info = found; info != NULL; info = info->ai_next) {
        if (out->count < LISTEN_ADDRESSES_MAX && info->ai_addrlen <= sizeof(out->list[0].address) &&
            !has_address(out, info)) {
            struct listen_address *address = &out->list[out->count++];
            memcpy(&address->address, info->ai_addr, info->ai_addrlen);
            address->size = info->ai_addrlen;
        }
    }
    freeaddrinfo(found);
    return 0;
}

/* ---- sockets ---- */

int listen_open(const struct listen_address *address, int backlog, int *out)
{
    int fd = socket(address->address.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0) {
        return errno;
    }
    /* Not SO_REUSEPORT, with which two processes would silently share the port. */
    const int on = 1;
    const int off = 0;
    (void)setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
    if (address->address.ss_family == AF_INET6) {
        /* [::] means every interface of both families, whatever the system's default is. */
        (void)setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &off, sizeof(off));
    }
    if (bind(fd, (const struct sockaddr *)&address->address, address->size) != 0 ||
        listen(fd, backlog) != 0) {
        int number = errno;
        close(fd);
        return number;
    }
    *out = fd;
    return 0;
}

bool listen_may_skip(const struct listen_addresses *addresses, int number)
{
    return addresses->count > 1 && (number == EADDRNOTAVAIL || number == EAFNOSUPPORT);
}

void listen_sockets_close(struct listen_sockets *sockets)
{
    for (size_t i = 0; i < sockets->count; i++) {
        close(sockets->list[i]);
    }
    sockets->count = 0;
}

int listen_sockets_open(const char *text, int backlog, struct listen_sockets *out,
                        struct listen_fault *fault)
{
    struct listen_addresses addresses;
    struct listen_sockets sockets = {.count = 0};
    int rc = listen_resolve(text, &addresses, fault);
    if (rc != 0) {
        return rc;
    }
    int skipped = 0;
    for (size_t i = 0; i < addresses.count && fault->number == 0; i++) {
        int number = listen_open(&addresses.list[i], backlog, &sockets.list[sockets.count]);
        if (number == 0) {
            sockets.count++;
        } else if (listen_may_skip(&addresses, number)) {
            skipped = number;
        } else {
            fault->number = number;
        }
    }
    if (sockets.count == 0 && fault->number == 0) {
        fault->number = skipped;
    }
    if (fault->number != 0) {
        listen_sockets_close(&sockets);
        return listen_error(fault);
    }
    *out = sockets;
    return 0;
}

/* ---- what is wrong ---- */

int listen_error(const struct listen_fault *fault)
{
    switch (fault->number) {
    case EADDRINUSE:
        return ERR_BUSY;
    case EACCES:
    case EPERM:
        return ERR_ACCESS;
    default:
        return ERR_INVALID;
    }
}

void listen_explain(const struct listen_fault *fault, const char *address, const char *what,
                    const char *key, char *out, size_t size)
{
    const char *reason = fault->reason;
    char remedy[256];
    snprintf(remedy, sizeof(remedy), "change %s", key);
    switch (fault->number) {
    case 0:
        snprintf(remedy, sizeof(remedy),
                 "write an IP address or a name that can be looked up as %s", key);
        break;
    case EADDRINUSE:
        reason = "the address is in use by another process";
        snprintf(remedy, sizeof(remedy), "stop that process, or change %s", key);
        break;
    case EADDRNOTAVAIL:
        reason = "the address is not one of this machine's";
        snprintf(remedy, sizeof(remedy),
                 "change %s to an address of this machine, or to 0.0.0.0 with that port for all",
                 key);
        break;
    case EACCES:
    case EPERM:
        reason = "permission denied: the port is for privileged users";
        snprintf(remedy, sizeof(remedy),
                 "change %s to a port from 1024 on, or grant CAP_NET_BIND_SERVICE", key);
        break;
    case EAFNOSUPPORT:
        reason = "this machine has no addresses of that kind";
        snprintf(remedy, sizeof(remedy), "change %s to an IPv4 address", key);
        break;
    default:
        reason = strerror(fault->number);
        break;
    }
    snprintf(out, size, "%s: cannot listen for %s: %s; %s", address, what, reason, remedy);
}
