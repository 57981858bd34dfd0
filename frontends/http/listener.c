/* Listens with its own socket, which libwebsockets only polls. So it binds exactly the configured
 * address, a used address is an error, and the number of clients is bounded. */
#include "base/accept.h"
#include "base/check.h"
#include "base/errors.h"
#include "base/log.h"
#include "http_internal.h"

#include <errno.h>
#include <sys/socket.h>
#include <unistd.h>

#define ACCEPTS_MAX 64 /* connections accepted in one turn */

static void accept_clients(struct http_frontend *frontend, int listener_fd)
{
    for (int i = 0; i < ACCEPTS_MAX; i++) {
        struct sockaddr_storage from = {0};
        socklen_t from_size = sizeof(from);
        int fd = accept_keeping(listener_fd, (struct sockaddr *)&from, &from_size,
                                SOCK_NONBLOCK | SOCK_CLOEXEC, ACCEPT_KEPT_BY_PROBES);
        if (fd < 0 && errno == EINTR) {
            continue;
        }
        if (fd < 0) {
            return;
        }
        if (crowd_make_room(frontend, fd)) {
            session_create(frontend, fd, &from, &requests_wire_events);
        } else {
            close(fd);
        }
        if (accept_is_short(fd, ACCEPT_KEPT_BY_CLIENTS)) {
            return; /* the closed session must free its descriptor first */
        }
    }
}

static int on_listener(struct lws *wsi, enum lws_callback_reasons reason, void *user, void *in,
                       size_t size)
{
    if (reason == LWS_CALLBACK_RAW_RX_FILE) {
        struct http_frontend *frontend = lws_context_user(lws_get_context(wsi));
        if (frontend->phase == HTTP_SERVING) {
            accept_clients(frontend, lws_get_socket_fd(wsi));
        }
    }
    return 0;
}

const struct lws_protocols listener_protocol = {.name = "listener", .callback = on_listener};

int listener_start(struct http_frontend *frontend, const struct listen_sockets *sockets)
{
    for (size_t i = 0; i < sockets->count; i++) {
        const lws_sock_file_fd_type descriptor = {.filefd = sockets->list[i]};
        struct lws *listener = lws_adopt_descriptor_vhost(frontend->vhost, LWS_ADOPT_RAW_FILE_DESC,
                                                          descriptor, listener_protocol.name, NULL);
        if (listener == NULL) {
            for (; i < sockets->count; i++) {
                close(sockets->list[i]);
            }
            return ERR_NOMEM;
        }
        frontend->listeners[frontend->listener_count++] = listener;
    }
    return 0;
}

void listener_stop(struct http_frontend *frontend)
{
    for (size_t i = 0; i < frontend->listener_count; i++) {
        lws_set_timeout(frontend->listeners[i], PENDING_TIMEOUT_USER_OK, LWS_TO_KILL_ASYNC);
    }
    frontend->listener_count = 0;
}
