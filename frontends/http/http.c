/* The HTTP frontend: its start, its service thread and its end. */
#include "base/check.h"
#include "base/errors.h"
#include "base/log.h"
#include "http_internal.h"
#include "ws/ws.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

/* Size of the 101 answer, which libwebsockets writes. */
static int add_date(struct lws_process_html_args *args)
{
    struct buf date = {0};
    append_date(&date);
    if (!buf_failed(&date) && date.size <= (size_t)args->max_len) {
        args->p = mempcpy(args->p, date.data, date.size);
    }
    buf_finish(&date);
    return 0;
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
        frontend_run_tasks(lws_context_user(lws_get_context(wsi)));
        return 0;
    case LWS_CALLBACK_HTTP:
        return session != NULL ? requests_serve(session) : -1;
    case LWS_CALLBACK_HTTP_WRITEABLE:
        return session != NULL ? session_continue(session) : -1;
    case LWS_CALLBACK_ESTABLISHED:
        return session != NULL && ws_open(session) == 0 ? 0 : -1;
    case LWS_CALLBACK_HTTP_CONFIRM_UPGRADE:
        /* It did not pass through wire.c. */
        return session != NULL && session->wire.is_upgrade ? 0 : -1;
    case LWS_CALLBACK_ADD_HEADERS:
        return add_date(in);
    case LWS_CALLBACK_TIMER:
        if (session == NULL) {
            return -1;
        }
        return session->ws != NULL ? on_ws(session, reason, in, size) : requests_end_late(session);
    case LWS_CALLBACK_WSI_DESTROY:
        if (session != NULL) {
            if (session->ws != NULL) {
                ws_gone(session->ws);
            }
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
    wire_enter();
    ws_watch_memory(frontend);
    while (!atomic_load(&frontend->is_over)) {
        if (lws_service(frontend->context, 0) < 0) {
            break;
        }
    }
    return NULL;
}

static void run_close(struct task *task)
{
    struct http_frontend *frontend = CONTAINER_OF(task, struct http_frontend, close_task);
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
    ws_announce(CONTAINER_OF(task, struct http_frontend, watch_task));
}

/* The node's thread. */
static void on_change(struct dispatch_watcher *watcher)
{
    struct http_frontend *frontend = CONTAINER_OF(watcher, struct http_frontend, watcher);
    frontend_post_task(frontend, &frontend->watch_task);
}

static void run_stop(struct task *task)
{
    struct http_frontend *frontend = CONTAINER_OF(task, struct http_frontend, stop_task);
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
    struct http_frontend *frontend = CONTAINER_OF(task, struct http_frontend, over_task);
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
    static struct lws_protocols protocols[3];
    protocols[0] = (struct lws_protocols){.name = WS_SUBPROTOCOL,
                                          .callback = on_http,
                                          .rx_buffer_size = WS_RECEIVE_BYTES,
                                          .tx_packet_size = HTTP_CHUNK_BYTES};
    protocols[1] = listener_protocol;
    /* ws.c pings instead, because it knows which connections are not being read. */
    static const lws_retry_bo_t no_pings = {.secs_since_valid_ping = 0};
    lws_set_log_level(LLL_ERR | LLL_WARN, emit_log);
    struct lws_context_creation_info info = {
        .port = CONTEXT_PORT_NO_LISTEN,
        .protocols = protocols,
        .options = LWS_SERVER_OPTION_EXPLICIT_VHOSTS,
        .gid = (gid_t)-1,
        .uid = (uid_t)-1,
        .user = frontend,
        .vhost_name = "raftogram",
        .server_string = "raftogram",
        .max_http_header_data2 = HTTP_HEADERS_BYTES_MAX,
        .pt_serv_buf_size = WS_RECEIVE_BYTES + LWS_PRE,
        /* Longer than the deadlines of session.c. */
        .keepalive_timeout = 2 * HTTP_IDLE_S,
        .timeout_secs_ah_idle = 2 * HTTP_IDLE_S,
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
    list_init(&frontend->idle);
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
        lws_sul_cancel(&frontend->memory_timer);
        lws_context_destroy(frontend->context);
    }
    buf_finish(&frontend->scratch);
    pthread_cond_destroy(&frontend->changed);
    pthread_mutex_destroy(&frontend->lock);
    free(frontend);
}

static int start_thread(struct http_frontend *frontend)
{
    /* Signals are left to the thread that waits for them. */
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
    struct listen_fault fault;
    struct listen_sockets sockets;
    int rc = listen_sockets_open(options->http_bind_addr, LISTEN_BACKLOG, &sockets, &fault);
    if (rc != 0) {
        listen_explain(&fault, options->http_bind_addr, "HTTP", "cluster.health_bind_addr", error,
                       error_size);
        return rc;
    }
    struct http_frontend *frontend = calloc(1, sizeof(*frontend));
    if (frontend == NULL) {
        listen_sockets_close(&sockets);
        rc = ERR_NOMEM;
        goto fail;
    }
    init_frontend(frontend, options);
    rc = create_context(frontend);
    if (rc != 0) {
        listen_sockets_close(&sockets);
        goto free_frontend;
    }
    rc = listener_start(frontend, &sockets);
    if (rc == 0) {
        rc = start_thread(frontend);
    }
    if (rc != 0) {
        goto free_frontend;
    }
    dispatch_watch(frontend->dispatch, &frontend->watcher);
    http_metrics_init(frontend);
    dispatch_add_metrics(frontend->dispatch, &frontend->metrics);
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

/* Waits until all connections and the work of dispatch for them have ended; indefinitely with
 * UINT32_MAX. */
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
    dispatch_remove_metrics(frontend->dispatch, &frontend->metrics);
    atomic_store(&frontend->is_over, true);
    lws_cancel_service(frontend->context);
    pthread_join(frontend->thread, NULL);
    free_frontend(frontend);
}

const struct frontend frontend_http = {
    .start = start,
    .close = close_frontend,
    .stop = stop,
};
