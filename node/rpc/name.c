/* Host names looked up on threads of their own; see name.h. */
#include "rpc/name.h"

#include "base/address.h"
#include "base/check.h"
#include "base/clock.h"
#include "base/errors.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#define ADDRESSES_MAX 8
#define LOOK_UP_INTERVAL_NS NS_PER_S
/* gRPC accepts lists of one address family. In a mixed list, IPv4 addresses are written as IPv6. */
#define ADDRESS_TEXT_BYTES_MAX (INET6_ADDRSTRLEN + 8)

struct found {
    struct in6_addr list[ADDRESSES_MAX]; /* IPv4 addresses are mapped to IPv6 */
    size_t count;
};

struct rpc_name {
    struct address address;
    pthread_mutex_t lock; /* guards all below */
    pthread_cond_t changed;
    unsigned references; /* of the owner and of the look-up's thread */
    void (*on_found)(void *context);
    void *context;
    bool is_numeric;
    bool is_looking;
    uint64_t looked_ns; /* when the last look-up ended; 0: never */
    struct found found;
    size_t first; /* index that the next target begins with */
    char reason[RPC_NAME_REASON_BYTES_MAX];
};

/* ---- looking up ---- */

static void add_found(struct found *found, const struct addrinfo *info)
{
    struct in6_addr address;
    if (info->ai_family == AF_INET6) {
        address = ((const struct sockaddr_in6 *)(const void *)info->ai_addr)->sin6_addr;
    } else if (info->ai_family == AF_INET) {
        memset(&address, 0, sizeof(address));
        address.s6_addr[10] = 0xff;
        address.s6_addr[11] = 0xff;
        memcpy(&address.s6_addr[12],
               &((const struct sockaddr_in *)(const void *)info->ai_addr)->sin_addr, 4);
    } else {
        return;
    }
    for (size_t i = 0; i < found->count; i++) {
        if (memcmp(&found->list[i], &address, sizeof(address)) == 0) {
            return;
        }
    }
    if (found->count < ADDRESSES_MAX) {
        found->list[found->count++] = address;
    }
}

/* Returns 0 or an error of getaddrinfo(3). */
static int look_up(const char *host, int flags, struct found *out)
{
    const struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = flags};
    struct addrinfo *list;
    *out = (struct found){.count = 0};
    int rc = getaddrinfo(host, NULL, &hints, &list);
    if (rc != 0) {
        return rc;
    }
    for (const struct addrinfo *info = list; info != NULL; info = info->ai_next) {
        add_found(out, info);
    }
    freeaddrinfo(list);
    return out->count > 0 ? 0 : EAI_NONAME;
}

/* Requires the lock and releases it. */
static void drop_reference(struct rpc_name *name)
{
    CHECK(name->references > 0);
    bool is_last = --name->references == 0;
    pthread_mutex_unlock(&name->lock);
    if (is_last) {
        pthread_cond_destroy(&name->changed);
        pthread_mutex_destroy(&name->lock);
        free(name);
    }
}

static bool is_same(const struct found *a, const struct found *b)
{
    return a->count == b->count && memcmp(a->list, b->list, a->count * sizeof(a->list[0])) == 0;
}

static void *run_look_up(void *argument)
{
    struct rpc_name *name = argument;
    struct found found;
    int rc = look_up(name->address.host, 0, &found);
    int number = errno;
    pthread_mutex_lock(&name->lock);
    name->is_looking = false;
    name->looked_ns = clock_monotonic_ns(clock_system());
    bool is_news = name->found.count == 0;
    if (rc != 0) {
        snprintf(name->reason, sizeof(name->reason), "%.100s cannot be looked up: %s",
                 name->address.host, rc == EAI_SYSTEM ? strerror(number) : gai_strerror(rc));
    } else if (!is_same(&name->found, &found)) {
        name->found = found;
        name->first = 0;
        is_news = true;
    }
    pthread_cond_broadcast(&name->changed);
    if (is_news && name->on_found != NULL) {
        name->on_found(name->context);
    }
    drop_reference(name);
    return NULL;
}

void rpc_name_look_up(struct rpc_name *name)
{
    pthread_mutex_lock(&name->lock);
    uint64_t now_ns = clock_monotonic_ns(clock_system());
    bool is_due = !name->is_numeric && !name->is_looking &&
                  (name->looked_ns == 0 || now_ns - name->looked_ns >= LOOK_UP_INTERVAL_NS);
    if (is_due) {
        pthread_t thread;
        pthread_attr_t attributes;
        pthread_attr_init(&attributes);
        pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
        name->references++;
        name->is_looking = true;
        if (pthread_create(&thread, &attributes, run_look_up, name) == 0) {
            (void)pthread_setname_np(thread, "resolver");
        } else {
            name->references--;
            name->is_looking = false;
            name->looked_ns = now_ns;
            snprintf(name->reason, sizeof(name->reason), "no thread to look %.100s up",
                     name->address.host);
        }
        pthread_attr_destroy(&attributes);
    }
    pthread_mutex_unlock(&name->lock);
}

void rpc_name_wait(struct rpc_name *name, uint64_t until_ns)
{
    const struct timespec until = {(time_t)(until_ns / NS_PER_S), (long)(until_ns % NS_PER_S)};
    pthread_mutex_lock(&name->lock);
    while (name->found.count == 0 && name->is_looking &&
           clock_monotonic_ns(clock_system()) < until_ns) {
        pthread_cond_timedwait(&name->changed, &name->lock, &until);
    }
    pthread_mutex_unlock(&name->lock);
}

/* ---- targets ---- */

static void write_address(const struct rpc_name *name, const struct in6_addr *address, bool is_ipv4,
                          char out[ADDRESS_TEXT_BYTES_MAX])
{
    char text[INET6_ADDRSTRLEN];
    if (is_ipv4) {
        inet_ntop(AF_INET, &address->s6_addr[12], text, sizeof(text));
    } else {
        inet_ntop(AF_INET6, address, text, sizeof(text));
    }
    snprintf(out, ADDRESS_TEXT_BYTES_MAX, is_ipv4 ? "%s:%u" : "[%s]:%u", text, name->address.port);
}

/* Requires the lock. */
static void write_target(const struct rpc_name *name, char target[RPC_TARGET_BYTES_MAX])
{
    const struct found *found = &name->found;
    bool is_ipv4 = true;
    for (size_t i = 0; i < found->count; i++) {
        is_ipv4 = is_ipv4 && IN6_IS_ADDR_V4MAPPED(&found->list[i]);
    }
    size_t size = (size_t)snprintf(target, RPC_TARGET_BYTES_MAX, is_ipv4 ? "ipv4:" : "ipv6:");
    for (size_t i = 0; i < found->count; i++) {
        char text[ADDRESS_TEXT_BYTES_MAX];
        write_address(name, &found->list[(name->first + i) % found->count], is_ipv4, text);
        size += (size_t)snprintf(target + size, RPC_TARGET_BYTES_MAX - size, "%s%s",
                                 i == 0 ? "" : ",", text);
        CHECK(size < RPC_TARGET_BYTES_MAX);
    }
}

bool rpc_name_target(struct rpc_name *name, char target[RPC_TARGET_BYTES_MAX], char *reason)
{
    pthread_mutex_lock(&name->lock);
    bool is_known = name->found.count > 0;
    if (is_known) {
        write_target(name, target);
    } else if (name->reason[0] != '\0') {
        snprintf(reason, RPC_NAME_REASON_BYTES_MAX, "%s", name->reason);
    } else {
        snprintf(reason, RPC_NAME_REASON_BYTES_MAX,
                 "%.100s is being looked up: the name service has not answered yet",
                 name->address.host);
    }
    pthread_mutex_unlock(&name->lock);
    return is_known;
}

void rpc_name_rotate(struct rpc_name *name)
{
    pthread_mutex_lock(&name->lock);
    name->first = name->found.count > 0 ? (name->first + 1) % name->found.count : 0;
    pthread_mutex_unlock(&name->lock);
}

/* ---- lifetime ---- */

int rpc_name_create(const char *address, void (*on_found)(void *context), void *context,
                    struct rpc_name **out)
{
    struct address parsed;
    if (address_split(address, &parsed, NULL) != 0) {
        return ERR_INVALID;
    }
    struct rpc_name *name = calloc(1, sizeof(*name));
    if (name == NULL) {
        return ERR_NOMEM;
    }
    name->address = parsed;
    name->references = 1;
    name->on_found = on_found;
    name->context = context;
    name->is_numeric = look_up(parsed.host, AI_NUMERICHOST, &name->found) == 0;
    pthread_mutex_init(&name->lock, NULL);
    pthread_condattr_t attributes;
    pthread_condattr_init(&attributes);
    pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    pthread_cond_init(&name->changed, &attributes);
    pthread_condattr_destroy(&attributes);
    *out = name;
    return 0;
}

void rpc_name_destroy(struct rpc_name *name)
{
    if (name == NULL) {
        return;
    }
    pthread_mutex_lock(&name->lock);
    name->on_found = NULL;
    drop_reference(name);
}
