/* Addresses to listen on, bound exactly as written: 0.0.0.0 is every IPv4 address of this
 * machine and no IPv6 address, [::] is every address of both kinds, any other address is only
 * itself. A name means all its addresses. Explains why an address cannot be bound, and what to
 * do. */
#ifndef RAFTOGRAM_BASE_LISTEN_H
#define RAFTOGRAM_BASE_LISTEN_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/socket.h>

#define LISTEN_ADDRESSES_MAX 8
#define LISTEN_BACKLOG 1024
#define LISTEN_REASON_BYTES_MAX 160

struct listen_address {
    struct sockaddr_storage address;
    socklen_t size;
};

struct listen_addresses {
    struct listen_address list[LISTEN_ADDRESSES_MAX];
    size_t count;
};

/* Why nothing listens: errno of bind(2), or 0 with a reason of its own. */
struct listen_fault {
    int number;
    char reason[LISTEN_REASON_BYTES_MAX];
};

/* `text` is host:port, 1.2.3.4:port or [v6]:port; port 0 lets the kernel choose. May wait for the
 * name service. Errors: ERR_INVALID (with `fault`). */
int listen_resolve(const char *text, struct listen_addresses *out, struct listen_fault *fault);

/* The sockets that listen on one configured address. Zeroed: none. */
struct listen_sockets {
    int list[LISTEN_ADDRESSES_MAX];
    size_t count;
};

/* Opens sockets on all addresses that `text` means. Errors: ERR_BUSY, ERR_ACCESS, ERR_INVALID
 * (each with `fault`). A failed open owes no close. */
int listen_sockets_open(const char *text, int backlog, struct listen_sockets *out,
                        struct listen_fault *fault);
void listen_sockets_close(struct listen_sockets *sockets);

/* A socket that listens, not blocking. Returns 0 or an errno. */
int listen_open(const struct listen_address *address, int backlog, int *fd);

/* True if a name's address may be skipped: this machine lacks its kind, and others are left. */
bool listen_may_skip(const struct listen_addresses *addresses, int number);

/* ERR_BUSY, ERR_ACCESS or ERR_INVALID. */
int listen_error(const struct listen_fault *fault);
/* "ADDRESS: cannot listen for WHAT: REASON; REMEDY". `key` is where the address is configured. */
void listen_explain(const struct listen_fault *fault, const char *address, const char *what,
                    const char *key, char *out, size_t size);

#endif
