/* The HTTP frontend: its start, its service thread and its end. */
#include "base/check.h"
#include "base/errors.h"
#include "base/log.h"
#include "http_internal.h"
#include "origin.h"
#include "ws.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
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

struct session *frontend_session(struct http_frontend *frontend, int fd)
{
    struct session *session;
    HASH_FIND(by_fd, frontend->sessions_by_fd, &fd, sizeof(fd), session);
    return session;
}

/* ---- deadlines ---- */

void session_set_deadline(struct session *session, unsigned seconds)
{
    lws_set_timer_usecs(session->wsi, (lws_usec_t)seconds * LWS_US_PER_SEC);
}

void session_hears(struct session *session)
{
    if (session->ws != NULL) {
        ws_hears(session->ws);
        return;
    }
    crowd_note_idle(session);
    if (http_filter_has_begun(&session->wire.filter) && !session->is_head_timed) {
        session->is_head_timed = true;
        session_set_deadline(session, session->crowd.is_reserved ? HTTP_RESERVED_S : HTTP_HEAD_S);
    }
}

static int on_deadline(struct session *session)
{
    struct http_filter *filter = &session->wire.filter;
    if (!http_filter_has_begun(filter)) {
        return -1;
    }
    struct answer answer = {0};
    http_filter_refuse(filter, 408, "the request's head did not come in time");
    answer_error(&answer, filter->head.status, filter->head.message);
    return session_answer(session, &answer);
}

/* ---- requests ---- */

/* The members' addresses are dispatch's own texts. */
static void get_rules(struct http_frontend *frontend, const char *peers[CLUSTER_MEMBERS_MAX],
                      struct origin_rules *out)
{
    struct dispatch_node_status node;
    dispatch_get_node_status(frontend->dispatch, &node);
    for (size_t i = 0; i < node.member_count; i++) {
        peers[i] = node.members[i].http_addr;
    }
    *out = (struct origin_rules){
        .hosts = frontend->options.allowed_hosts,
        .host_count = frontend->options.allowed_host_count,
        .origins = frontend->options.allowed_origins,
        .origin_count = frontend->options.allowed_origin_count,
        .peers = peers,
        .peer_count = node.member_count,
    };
}

bool frontend_allows_origin(struct http_frontend *frontend, const struct http_head *head)
{
    const char *peers[CLUSTER_MEMBERS_MAX];
    struct origin_rules rules;
    get_rules(frontend, peers, &rules);
    return origin_is_allowed(&rules, head->origin, head->host);
}

/* HTTP/1.0 may come without a Host: browsers, which rebinding needs, always send one. */
static bool is_host_fine(struct http_frontend *frontend, const struct http_head *head,
                         struct answer *answer)
{
    struct authority host;
    if (head->host.data == NULL) {
        return true;
    }
    if (!authority_read(head->host, &host)) {
        answer_error(answer, 400, "the Host is to be a name or an address, with a port or without");
        answer->is_last = true;
        return false;
    }
    if (authority_is_ip(&host)) {
        return true;
    }
    const char *peers[CLUSTER_MEMBERS_MAX];
    struct origin_rules rules;
    get_rules(frontend, peers, &rules);
    if (!origin_host_is_allowed(&rules, head->host)) {
        answer_error(answer, 421, "this host is not served here: list it in http.allowed_hosts");
        answer->is_last = true;
        return false;
    }
    return true;
}

static void refuse_method(struct answer *answer)
{
    answer_error(answer, 405, "only GET and HEAD are served here");
    answer->allow = "GET, HEAD";
}

static void serve_request(struct session *session, const struct request *request,
                          struct answer *answer)
{
    struct http_frontend *frontend = session->frontend;
    const struct http_head *head = request->head;
    const struct route *route = route_find(request->path);
    if (ws_is_handshake(head)) {
        if (ws_may_upgrade(frontend, request, answer)) {
            /* Only a change since it was read: the node may serve no more. */
            answer_error(answer, 503, "this node is shutting down: use another");
        }
        return;
    }
    if (request->is_over && (route == NULL || !route->is_probe)) {
        answer_error(answer, 503, "too many connections: try again later");
    } else if (head->method == HTTP_METHOD_OTHER) {
        refuse_method(answer);
    } else if (route != NULL) {
        route->serve(frontend, request, answer);
    } else {
        serve_page(frontend, request, answer);
    }
}

/* The path for people: decoded. False: `answer` says why not. */
static bool decode_path(const struct http_head *head, struct buf *path, struct answer *answer)
{
    bool is_decoded = http_decode(head->path, path);
    if (!is_decoded) {
        answer_error(answer, 400, "the path has a faulty percent sign");
        answer->is_last = true;
    } else if (buf_failed(path)) {
        answer_error(answer, 503, "out of memory: try again later");
    }
    return is_decoded && !buf_failed(path);
}

static int on_request(struct session *session)
{
    struct answer answer = {.status = 200};
    struct buf path = {0};
    const struct http_head *head = &session->wire.filter.head;
    session->frontend->requests_total++;
    if (session->wire.filter.state != HTTP_FILTER_REQUEST || session->is_busy) {
        return -1; /* not from us: wire.h */
    }
    if (head->status != 0) {
        answer_error(&answer, head->status, head->message);
    } else if (*(const char *)head->path.data != '/') {
        refuse_method(&answer); /* CONNECT host:port, OPTIONS * */
        answer.is_last = true;
    } else if (is_host_fine(session->frontend, head, &answer) &&
               decode_path(head, &path, &answer)) {
        const struct request request = {
            .path = buf_text(&path), .head = head, .is_over = crowd_is_over(session)};
        serve_request(session, &request, &answer);
        answer.is_last = answer.is_last || request.is_over;
    }
    buf_finish(&path);
    return session_answer(session, &answer);
}

bool session_may_upgrade(struct session *session)
{
    const struct http_head *head = &session->wire.filter.head;
    struct answer answer = {0};
    struct buf path = {0};
    bool may = false;
    if (ws_is_handshake(head) && is_host_fine(session->frontend, head, &answer) &&
        decode_path(head, &path, &answer)) {
        const struct request request = {
            .path = buf_text(&path), .head = head, .is_over = crowd_is_over(session)};
        may = ws_may_upgrade(session->frontend, &request, &answer);
    }
    buf_finish(&path);
    answer_finish(&answer);
    return may;
}

/* Of the 101, which libwebsockets writes. */
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
    session_drop_answer(session);
    list_remove(&session->link);
    if (session->by_fd.tbl != NULL) {
        HASH_DELETE(by_fd, frontend->sessions_by_fd, session);
    }
    crowd_leave(session);
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
        return session != NULL ? on_request(session) : -1;
    case LWS_CALLBACK_HTTP_WRITEABLE:
        return session != NULL ? session_continue(session) : -1;
    case LWS_CALLBACK_ESTABLISHED:
        return session != NULL && ws_open(session) == 0 ? 0 : -1;
    case LWS_CALLBACK_HTTP_CONFIRM_UPGRADE:
        return session != NULL && session->wire.is_upgrade ? 0 : -1; /* not from us: wire.h */
    case LWS_CALLBACK_ADD_HEADERS:
        return add_date(in);
    case LWS_CALLBACK_TIMER:
        if (session == NULL) {
            return -1;
        }
        return session->ws != NULL ? on_ws(session, reason, in, size) : on_deadline(session);
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
    memory_start(frontend);
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
    static struct lws_protocols protocols[3];
    protocols[0] = (struct lws_protocols){.name = WS_SUBPROTOCOL,
                                          .callback = on_http,
                                          .rx_buffer_size = WS_RECEIVE_BYTES,
                                          .tx_packet_size = HTTP_CHUNK_BYTES};
    protocols[1] = listener_protocol;
    /* Our own pings know of connections that we have stopped reading ourselves. */
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
        /* Longer than our own deadlines. */
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
    dispatch_remove_metrics(frontend->dispatch, &frontend->metrics);
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
