/* The HTTP frontend: its start, its service thread and its end. */
#include "base/check.h"
#include "base/errors.h"
#include "base/log.h"
#include "http_internal.h"
#include "ws.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <time.h>
#include <unistd.h>

/* ---- tasks ---- */

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

static void run_tasks(struct http_frontend *frontend)
{
    struct list tasks; /* what comes from now on waits for the next turn */
    list_init(&tasks);
    pthread_mutex_lock(&frontend->lock);
    list_splice_back(&tasks, &frontend->inbox);
    pthread_mutex_unlock(&frontend->lock);
    struct list *link;
    while ((link = list_pop_front(&tasks)) != NULL) {
        struct task *task = LIST_ENTRY(link, struct task, link);
        /* From here on it may be posted again: it is off the list, and sees what was done before.
         */
        atomic_store(&task->is_posted, false);
        task->run(task);
    }
}

struct wire *frontend_wire(struct http_frontend *frontend, int fd)
{
    struct session *session;
    HASH_FIND(by_fd, frontend->sessions_by_fd, &fd, sizeof(fd), session);
    return session != NULL ? &session->wire : NULL;
}

/* ---- requests ---- */

static const char allowed_methods[] = "GET, HEAD";

static void route_request(struct session *session, const char *path, struct answer *out)
{
    struct answer answer = {.status = 200};
    struct request request = {
        .path = path,
        .wsi = session->wsi,
        .is_head = lws_hdr_total_length(session->wsi, WSI_TOKEN_HEAD_URI) > 0,
    };
    bool is_get = lws_hdr_total_length(session->wsi, WSI_TOKEN_GET_URI) > 0;
    const struct route *route = route_find(path);
    session->frontend->requests_total++;
    if (session->wire.head.status != 0) {
        answer_error(&answer, session->wire.head.status, session->wire.head.message);
        answer.allow = session->wire.head.status == 405 ? allowed_methods : NULL;
        answer.is_last = true;
    } else if (!is_get && !request.is_head) {
        answer_error(&answer, 405, "only GET and HEAD are served here");
        answer.allow = allowed_methods;
    } else if (route != NULL) {
        route->serve(session->frontend, &request, &answer);
    } else {
        serve_page(session->frontend, &request, &answer);
    }
    *out = answer;
}

static int on_request(struct session *session, const char *path)
{
    struct answer answer;
    route_request(session, path, &answer);
    return session_answer(session, &answer);
}

/* A request with an Upgrade header. Returns 0 to go on with the handshake, 1 when it is answered,
 * -1 to hang up. */
static int on_upgrade(struct session *session, const char *protocol)
{
    struct answer answer = {.status = 200};
    char path[HTTP_PATH_BYTES_MAX];
    if (lws_hdr_copy(session->wsi, path, sizeof(path), WSI_TOKEN_GET_URI) < 0) {
        path[0] = '\0';
    }
    if (strcasecmp(protocol, "websocket") != 0) {
        route_request(session, path, &answer); /* a server may ignore the offer: RFC 9110, 7.8 */
    } else if (ws_may_upgrade(session->frontend, session->wsi, path, &answer)) {
        return 0;
    }
    answer.is_whole = true;
    return session_answer(session, &answer) != 0 ? -1 : 1;
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

void session_destroy(struct session *session)
{
    struct http_frontend *frontend = session->frontend;
    if (session->ws != NULL) {
        ws_gone(session->ws);
    }
    answer_finish(&session->answer);
    list_remove(&session->link);
    if (session->by_fd.tbl != NULL) {
        HASH_DELETE(by_fd, frontend->sessions_by_fd, session);
    }
    wire_finish(&session->wire);
    frontend->session_count--;
    free(session);
    frontend_check_empty(frontend);
}

static int on_ws(struct session *session, enum lws_callback_reasons reason, void *in, size_t size)
{
    struct ws *ws = session->ws;
    switch (reason) {
    case LWS_CALLBACK_RECEIVE:
        ws_receive(ws, (struct bytes){in, size});
        return 0;
    case LWS_CALLBACK_SERVER_WRITEABLE:
        return ws_on_writable(ws);
    case LWS_CALLBACK_RECEIVE_PONG:
        ws_on_pong(ws, (struct bytes){in, size});
        return 0;
    case LWS_CALLBACK_TIMER:
        ws_on_timer(ws);
        return 0;
    case LWS_CALLBACK_WS_PEER_INITIATED_CLOSE:
        ws_on_close_frame(ws, (struct bytes){in, size});
        return 0;
    case LWS_CALLBACK_CLOSED:
        session->ws = NULL;
        ws_gone(ws);
        return 0;
    default:
        return 0;
    }
}

static int on_http(struct lws *wsi, enum lws_callback_reasons reason, void *user, void *in,
                   size_t size)
{
    struct session *session = lws_get_opaque_user_data(wsi);
    switch (reason) {
    case LWS_CALLBACK_EVENT_WAIT_CANCELLED:
        run_tasks(lws_context_user(lws_get_context(wsi)));
        return 0;
    case LWS_CALLBACK_HTTP:
        return session != NULL ? on_request(session, in) : -1;
    case LWS_CALLBACK_HTTP_WRITEABLE:
        return session != NULL ? session_continue(session) : -1;
    case LWS_CALLBACK_ESTABLISHED:
        return session != NULL && ws_open(session) == 0 ? 0 : -1;
    case LWS_CALLBACK_HTTP_CONFIRM_UPGRADE:
        return session != NULL ? on_upgrade(session, in) : -1;
    case LWS_CALLBACK_WSI_DESTROY:
        if (session != NULL) {
            session_destroy(session);
        }
        return 0;
    default:
        return session != NULL && session->ws != NULL ? on_ws(session, reason, in, size) : 0;
    }
}

/* ---- the service thread ---- */

static void *run_service(void *context)
{
    struct http_frontend *frontend = context;
    wire_enter(frontend);
    while (!atomic_load(&frontend->is_over)) {
        if (lws_service(frontend->context, 0) < 0) {
            break;
        }
    }
    return NULL;
}

static void run_close(struct task *task)
{
    struct http_frontend *frontend = LIST_ENTRY(task, struct http_frontend, close_task);
    if (frontend->phase == HTTP_SERVING) {
        frontend->phase = HTTP_CLOSING;
        listener_stop(frontend);
        LIST_FOR_EACH (link, &frontend->sockets) {
            ws_close(LIST_ENTRY(link, struct ws, link), WS_CLOSE_GOING_AWAY, "shutting down",
                     false);
        }
        frontend_check_empty(frontend);
    }
}

static void run_watch(struct task *task)
{
    ws_announce(LIST_ENTRY(task, struct http_frontend, watch_task));
}

/* The node's thread. */
static void on_change(struct dispatch_watcher *watcher)
{
    struct http_frontend *frontend = LIST_ENTRY(watcher, struct http_frontend, watcher);
    frontend_post_task(frontend, &frontend->watch_task);
}

static void run_stop(struct task *task)
{
    struct http_frontend *frontend = LIST_ENTRY(task, struct http_frontend, stop_task);
    frontend->phase = HTTP_STOPPING;
    LIST_FOR_EACH (link, &frontend->sessions) {
        struct session *session = LIST_ENTRY(link, struct session, link);
        if (!session->is_busy && session->ws == NULL) {
            lws_set_timeout(session->wsi, PENDING_TIMEOUT_USER_OK, LWS_TO_KILL_ASYNC);
        }
    }
}

static void run_over(struct task *task)
{
    struct http_frontend *frontend = LIST_ENTRY(task, struct http_frontend, over_task);
    LIST_FOR_EACH (link, &frontend->sessions) {
        struct session *session = LIST_ENTRY(link, struct session, link);
        lws_set_timeout(session->wsi, PENDING_TIMEOUT_USER_OK, LWS_TO_KILL_ASYNC);
    }
}

/* ---- start and stop ---- */

static void emit_log(int level, const char *line)
{
    char text[256];
    lws_strncpy(text, line, sizeof(text));
    size_t size = strlen(text);
    if (size > 0 && text[size - 1] == '\n') {
        text[size - 1] = '\0';
    }
    log_warn("http", "libwebsockets", LOG_STR("line", text));
}

static int create_context(struct http_frontend *frontend)
{
    static struct lws_protocols protocols[4];
    protocols[0] = (struct lws_protocols){
        .name = WS_SUBPROTOCOL, .callback = on_http, .rx_buffer_size = WS_RECEIVE_BYTES};
    protocols[1] = listener_protocol;
    protocols[2] = refusal_protocol;
    /* Our own pings know of connections that we have stopped reading ourselves. */
    static const lws_retry_bo_t no_pings = {.secs_since_valid_ping = 0};
    lws_set_log_level(LLL_ERR | LLL_WARN, emit_log);
    struct lws_context_creation_info info = {
        .port = CONTEXT_PORT_NO_LISTEN,
        .protocols = protocols,
        .options = LWS_SERVER_OPTION_EXPLICIT_VHOSTS |
                   LWS_SERVER_OPTION_FALLBACK_TO_APPLY_LISTEN_ACCEPT_CONFIG,
        .listen_accept_role = "raw-skt",
        .listen_accept_protocol = refusal_protocol.name,
        .gid = (gid_t)-1,
        .uid = (uid_t)-1,
        .user = frontend,
        .vhost_name = "raftogram",
        .server_string = "raftogram",
        .max_http_header_data2 = HTTP_HEADERS_BYTES_MAX,
        .pt_serv_buf_size = WS_RECEIVE_BYTES + LWS_PRE,
        .keepalive_timeout = HTTP_KEEPALIVE_S,
        .retry_and_idle_policy = &no_pings,
    };
    frontend->context = lws_create_context(&info);
    if (frontend->context == NULL) {
        return ERR_NOMEM;
    }
    info.port = CONTEXT_PORT_NO_LISTEN_SERVER;
    frontend->vhost = lws_create_vhost(frontend->context, &info);
    return frontend->vhost != NULL ? 0 : ERR_NOMEM;
}

static void init_frontend(struct http_frontend *frontend, const struct frontend_options *options)
{
    frontend->options = *options;
    frontend->dispatch = options->dispatch;
    frontend->close_task.run = run_close;
    frontend->stop_task.run = run_stop;
    frontend->over_task.run = run_over;
    frontend->watch_task.run = run_watch;
    frontend->watcher.changed = on_change;
    list_init(&frontend->sessions);
    list_init(&frontend->sockets);
    list_init(&frontend->inbox);
    pthread_mutex_init(&frontend->lock, NULL);
    pthread_condattr_t attributes;
    pthread_condattr_init(&attributes);
    pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    pthread_cond_init(&frontend->changed, &attributes);
    pthread_condattr_destroy(&attributes);
}

static void free_frontend(struct http_frontend *frontend)
{
    if (frontend->context != NULL) {
        lws_context_destroy(frontend->context);
    }
    buf_finish(&frontend->scratch);
    pthread_cond_destroy(&frontend->changed);
    pthread_mutex_destroy(&frontend->lock);
    free(frontend);
}

static int start_thread(struct http_frontend *frontend)
{
    /* Signals are for the thread that waits for them. */
    sigset_t all;
    sigset_t before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    int rc = pthread_create(&frontend->thread, NULL, run_service, frontend);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (rc != 0) {
        return ERR_NOMEM;
    }
    (void)pthread_setname_np(frontend->thread, "http");
    return 0;
}

static int start(const struct frontend_options *options, void **out, char *error, size_t error_size)
{
    const char *reason = NULL;
    int fd;
    int rc = listener_open(options->http_bind_addr, &fd, &reason);
    if (rc != 0) {
        snprintf(error, error_size,
                 "%s: cannot listen for HTTP: %s; change cluster.health_bind_addr%s",
                 options->http_bind_addr, reason,
                 rc == ERR_BUSY ? " or stop the process that has the address" : "");
        return rc;
    }
    struct http_frontend *frontend = calloc(1, sizeof(*frontend));
    if (frontend == NULL) {
        close(fd);
        rc = ERR_NOMEM;
        goto fail;
    }
    init_frontend(frontend, options);
    rc = create_context(frontend);
    if (rc != 0) {
        close(fd);
        goto free_frontend;
    }
    rc = listener_start(frontend, fd);
    if (rc == 0) {
        rc = start_thread(frontend);
    }
    if (rc != 0) {
        goto free_frontend;
    }
    dispatch_watch(frontend->dispatch, &frontend->watcher);
    log_info("http", "listening", LOG_STR("address", options->http_bind_addr));
    *out = frontend;
    return 0;
free_frontend:
    free_frontend(frontend);
fail:
    snprintf(error, error_size, "%s: cannot serve HTTP: %s; free some memory and try again",
             options->http_bind_addr, error_text(rc));
    return rc;
}

static void close_frontend(void *instance)
{
    struct http_frontend *frontend = instance;
    frontend_post_task(frontend, &frontend->close_task);
}

/* Waits until all connections are gone, and what dispatch did for them; for ever with UINT32_MAX.
 */
static void await_empty(struct http_frontend *frontend, uint32_t grace_ms)
{
    struct timespec until;
    clock_gettime(CLOCK_MONOTONIC, &until);
    until.tv_sec += grace_ms / 1000;
    until.tv_nsec += (long)(grace_ms % 1000) * 1000000;
    if (until.tv_nsec >= 1000000000) {
        until.tv_nsec -= 1000000000;
        until.tv_sec++;
    }
    pthread_mutex_lock(&frontend->lock);
    int rc = 0;
    while (rc == 0 && !frontend->is_empty) {
        rc = grace_ms == UINT32_MAX
                 ? pthread_cond_wait(&frontend->changed, &frontend->lock)
                 : pthread_cond_timedwait(&frontend->changed, &frontend->lock, &until);
    }
    pthread_mutex_unlock(&frontend->lock);
}

static void stop(void *instance, uint32_t grace_ms)
{
    struct http_frontend *frontend = instance;
    close_frontend(frontend);
    frontend_post_task(frontend, &frontend->stop_task);
    await_empty(frontend, grace_ms);
    frontend_post_task(frontend, &frontend->over_task);
    await_empty(frontend, UINT32_MAX);
    dispatch_unwatch(frontend->dispatch, &frontend->watcher);
    atomic_store(&frontend->is_over, true);
    lws_cancel_service(frontend->context);
    pthread_join(frontend->thread, NULL);
    free_frontend(frontend);
}

const struct frontend frontend_http = {
    .name = "http",
    .start = start,
    .close = close_frontend,
    .stop = stop,
};
