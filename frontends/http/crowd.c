/* Closes idle connections when there are too many, and limits the others. */
#include "crowd.h"

#include "base/accept.h"
#include "http_internal.h"

#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>

#define LOOKED_AT_MAX                                                          \
    64 /* idle sessions, the longest idle ones, of which one is asked to leave \
        */

struct crowd_address {
    UT_hash_handle by_bytes;
    struct in6_addr bytes; /* IPv4 as ::ffff:a.b.c.d */
    size_t session_count;
};

static struct in6_addr address_of(const struct sockaddr_storage *from)
{
    struct in6_addr address = {0};
    if (from->ss_family == AF_INET6) {
        address = ((const struct sockaddr_in6 *)(const void *)from)->sin6_addr;
    } else if (from->ss_family == AF_INET) {
        address.s6_addr[10] = 0xff;
        address.s6_addr[11] = 0xff;
        memcpy(address.s6_addr + 12, &((const struct sockaddr_in *)(const void *)from)->sin_addr,
               4);
    }
    return address;
}

/* Returns NULL if there is no memory. */
static struct crowd_address *get_address(struct http_frontend *frontend,
                                         const struct sockaddr_storage *from)
{
    struct in6_addr bytes = address_of(from);
    struct crowd_address *address;
    HASH_FIND(by_bytes, frontend->addresses, &bytes, sizeof(bytes), address);
    if (address != NULL) {
        return address;
    }
    address = calloc(1, sizeof(*address));
    if (address == NULL) {
        return NULL;
    }
    address->bytes = bytes;
    HASH_ADD(by_bytes, frontend->addresses, bytes, sizeof(bytes), address);
    if (address->by_bytes.tbl == NULL) {
        free(address);
        return NULL;
    }
    return address;
}

static size_t count_staying(const struct http_frontend *frontend)
{
    return frontend->session_count - frontend->leaving_count;
}

static size_t neighbours_of(const struct session *session)
{
    return session->crowd.address != NULL ? session->crowd.address->session_count : 0;
}

/* Sets the timeout again, because libwebsockets has set another one meanwhile. */
static void hang_up(struct session *session)
{
    lws_set_timeout(session->wsi, PENDING_TIMEOUT_USER_OK, LWS_TO_KILL_ASYNC);
}

/* Closes an idle session. Returns false if there is none. */
static bool ask_one_to_leave(struct http_frontend *frontend)
{
    struct session *chosen = NULL;
    int looked_at = 0;
    LIST_FOR_EACH (link, &frontend->idle) {
        struct session *session = LIST_ENTRY(link, struct session, crowd.idle_link);
        if (chosen == NULL || neighbours_of(session) > neighbours_of(chosen)) {
            chosen = session;
        }
        if (++looked_at == LOOKED_AT_MAX) {
            break;
        }
    }
    if (chosen == NULL) {
        return false;
    }
    chosen->crowd.is_leaving = true;
    frontend->leaving_count++;
    list_remove(&chosen->crowd.idle_link);
    hang_up(chosen);
    return true;
}

static bool is_full(const struct http_frontend *frontend)
{
    return count_staying(frontend) >= frontend->options.max_connections;
}

bool crowd_make_room(struct http_frontend *frontend, int fd)
{
    /* While a session has one of the kept descriptors, each new one must free a place: the
     * descriptor that was freed last may have a lower number. */
    bool is_short = frontend->short_count > 0 || accept_is_short(fd, ACCEPT_KEPT_BY_CLIENTS);
    if (!is_full(frontend) && !is_short) {
        return true;
    }
    bool has_room = ask_one_to_leave(frontend);
    return has_room ||
           count_staying(frontend) < (size_t)frontend->options.max_connections + CROWD_RESERVE;
}

void crowd_enter(struct session *session, const struct sockaddr_storage *from)
{
    struct http_frontend *frontend = session->frontend;
    struct crowd_member *member = &session->crowd;
    list_init(&member->idle_link);
    member->is_short = accept_is_short(session->wire.fd, ACCEPT_KEPT_BY_CLIENTS);
    member->is_reserved = is_full(frontend) || member->is_short;
    frontend->short_count += member->is_short;
    member->address = get_address(frontend, from);
    if (member->address != NULL) {
        member->address->session_count++;
    }
}

void crowd_leave(struct session *session)
{
    struct crowd_member *member = &session->crowd;
    if (member->idle_link.next != NULL) {
        list_remove(&member->idle_link);
    }
    session->frontend->leaving_count -= member->is_leaving;
    session->frontend->short_count -= member->is_short;
    if (member->address != NULL && --member->address->session_count == 0) {
        HASH_DELETE(by_bytes, session->frontend->addresses, member->address);
        free(member->address);
    }
    member->address = NULL;
}

void crowd_note_idle(struct session *session)
{
    list_remove(&session->crowd.idle_link);
    if (session->crowd.is_leaving) {
        hang_up(session);
    } else {
        list_push_back(&session->frontend->idle, &session->crowd.idle_link);
    }
}

void crowd_note_busy(struct session *session)
{
    list_remove(&session->crowd.idle_link);
}

bool crowd_is_over(const struct session *session)
{
    const struct http_frontend *frontend = session->frontend;
    return session->crowd.is_reserved &&
           (count_staying(frontend) > frontend->options.max_connections ||
            accept_is_short(session->wire.fd, ACCEPT_KEPT_BY_CLIENTS));
}
