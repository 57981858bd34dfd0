/* A connection's begin and end, and the tasks that other threads post to the service thread. */
#include "http_internal.h"

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

void frontend_post_task(struct http_frontend *frontend, struct task *task)
{
    if (atomic_exchange(&task->is_posted, true)) {
        return;
    }
    pthread_mutex_lock(&frontend->lock);
    bool is_first = list_is_empty(&frontend->inbox);
    list_push_back(&frontend->inbox, &task->link);
    pthread_mutex_unlock(&frontend->lock);
    if (is_first) {
        lws_cancel_service(frontend->context);
    }
}

void frontend_run_tasks(struct http_frontend *frontend)
{
    struct list tasks; /* later tasks wait for the next turn */
    list_init(&tasks);
    pthread_mutex_lock(&frontend->lock);
    list_splice_back(&tasks, &frontend->inbox);
    pthread_mutex_unlock(&frontend->lock);
    struct list *link;
    while ((link = list_pop_front(&tasks)) != NULL) {
        struct task *task = LIST_ENTRY(link, struct task, link);
        /* From here on the task may be posted again: it is off the list, and sees earlier changes.
         */
        atomic_store(&task->is_posted, false);
        task->run(task);
    }
}

void frontend_check_empty(struct http_frontend *frontend)
{
    if (frontend->phase == HTTP_SERVING || frontend->session_count > 0 ||
        frontend->socket_count > 0) {
        return;
    }
    pthread_mutex_lock(&frontend->lock);
    frontend->is_empty = true;
    pthread_cond_broadcast(&frontend->changed);
    pthread_mutex_unlock(&frontend->lock);
}

void session_create(struct http_frontend *frontend, int fd, const struct sockaddr_storage *from,
                    const struct wire_events *events)
{
    const int on = 1;
    (void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
    struct session *session = calloc(1, sizeof(*session));
    if (session == NULL) {
        close(fd);
        return;
    }
    session->frontend = frontend;
    wire_init(&session->wire, fd, events);
    session->wsi = lws_adopt_socket_vhost(frontend->vhost, fd); /* closes it when it fails */
    if (session->wsi == NULL) {
        free(session);
        return;
    }
    lws_set_opaque_user_data(session->wsi, session);
    list_push_back(&frontend->sessions, &session->link);
    crowd_enter(session, from);
    frontend->session_count++;
    if (!wire_add(&session->wire)) {
        lws_set_timeout(session->wsi, PENDING_TIMEOUT_USER_OK, LWS_TO_KILL_ASYNC);
        return;
    }
    crowd_note_idle(session);
    session_set_deadline(session, session->crowd.is_reserved ? HTTP_RESERVED_S : HTTP_HEAD_S);
}

void session_destroy(struct session *session)
{
    struct http_frontend *frontend = session->frontend;
    session_drop_answer(session);
    list_remove(&session->link);
    crowd_leave(session);
    wire_finish(&session->wire);
    frontend->session_count--;
    free(session);
    frontend_check_empty(frontend);
}
