/* The server's thread: waits for its listeners, connections and posts, and ends calls and
 * connections that exceed time limits. */
#include "h2/h2_internal.h"

#include "base/check.h"
#include "base/clock.h"
#include "base/errors.h"
#include "base/log.h"

#include <errno.h>
#include <malloc.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#define EVENTS_MAX 64
/* Most open calls at which another thread may do the server's work while its thread sleeps. */
#define LONELY_CALLS_MAX 4
/* A flush closes streams, which marks their connections again. */
#define LONELY_FLUSHES_MAX 3
#define TICK_NS NS_PER_S
#define TRIM_BYTES_MIN (8u << 20)
/* How long a client may continue sending after its answer. */
#define LINGER_NS (3 * NS_PER_S)
/* Least time between checks of deadlines. */
#define TIMED_STEP_NS (20 * NS_PER_MS)
/* Time that connections without calls have to close before they are cut. */
#define GOODBYE_NS (100 * NS_PER_MS)

/* ---- posts ---- */

/* Runs the posts that are queued at its start. What they post runs next time. */
static void run_posts(struct h2_server *server)
{
    struct list posts;
    list_init(&posts);
    list_splice_back(&posts, &server->posts);
    struct list *link;
    while ((link = list_pop_front(&posts)) != NULL) {
        struct h2_post *post = LIST_ENTRY(link, struct h2_post, link);
        post->run(post);
    }
}

static void flush_all(struct h2_server *server)
{
    struct list dirty;
    list_init(&dirty);
    list_splice_back(&dirty, &server->dirty);
    struct list *link;
    while ((link = list_pop_front(&dirty)) != NULL) {
        h2_connection_flush(LIST_ENTRY(link, struct h2_connection, dirty_link));
    }
}

void h2_server_run(struct h2_server *server, struct h2_post *post)
{
    if (h2_server_is_current(server) || atomic_load(&server->call_count) > LONELY_CALLS_MAX ||
        pthread_mutex_trylock(&server->lock) != 0) {
        h2_server_post(server, post);
        return;
    }
    const struct h2_server *before = h2_server_enter(server);
    server->now_ns = h2_now_ns();
    post->run(post);
    run_posts(server);
    for (int i = 0; i < LONELY_FLUSHES_MAX && !list_is_empty(&server->dirty); i++) {
        flush_all(server);
    }
    bool has_more = !list_is_empty(&server->posts) || !list_is_empty(&server->dirty) ||
                    !list_is_empty(&server->doomed);
    (void)h2_server_enter(before);
    pthread_mutex_unlock(&server->lock);
    if (has_more) {
        mailbox_wake(&server->mailbox);
    }
}

/* ---- time ---- */

static void end_waiting(struct h2_server *server, uint64_t now_ns)
{
    uint64_t wait_ns = server->options.message_wait_ms * NS_PER_MS;
    while (!list_is_empty(&server->waiting)) {
        struct h2_call *call = LIST_ENTRY(server->waiting.next, struct h2_call, waiting_link);
        if (now_ns < call->begin_ns + wait_ns) {
            return;
        }
        h2_call_end(call, H2_DEADLINE_EXCEEDED, "the request's message did not come in time");
        h2_call_stop_waiting(call);
    }
}

static void end_lingering(struct h2_server *server, uint64_t now_ns)
{
    uint64_t linger_ns = atomic_load(&server->is_closing) ? 0 : LINGER_NS;
    while (!list_is_empty(&server->lingering)) {
        struct h2_call *call = LIST_ENTRY(server->lingering.next, struct h2_call, linger_link);
        if (now_ns < call->linger_ns + linger_ns) {
            return;
        }
        h2_call_reset(call);
    }
}

static void end_timed(struct h2_server *server, uint64_t now_ns)
{
    if (now_ns < server->timed_ns) {
        return;
    }
    server->timed_ns = UINT64_MAX;
    struct list *link = server->timed.next;
    while (link != &server->timed) {
        struct h2_call *call = LIST_ENTRY(link, struct h2_call, timed_link);
        link = link->next;
        if (call->deadline_ns <= now_ns) {
            list_remove(&call->timed_link);
            h2_call_end(call, H2_DEADLINE_EXCEEDED, "the call's deadline has passed");
        } else if (call->deadline_ns < server->timed_ns) {
            server->timed_ns = call->deadline_ns;
        }
    }
    if (server->timed_ns < now_ns + TIMED_STEP_NS) {
        server->timed_ns = now_ns + TIMED_STEP_NS;
    }
}

/* Returns memory to the system: after a flood, malloc keeps much free memory between used
 * blocks. */
static void give_memory_back(struct h2_server *server)
{
    uint64_t used = server->options.memory != NULL ? budget_used(server->options.memory) : 0;
    if (server->peak_bytes >= TRIM_BYTES_MIN && used < server->peak_bytes / 4) {
        (void)malloc_trim(0);
        server->peak_bytes = used;
    }
}

static void note_peak(struct h2_server *server)
{
    uint64_t used = server->options.memory != NULL ? budget_used(server->options.memory) : 0;
    if (used > server->peak_bytes) {
        server->peak_bytes = used;
    }
}

static void tick(struct h2_server *server, uint64_t now_ns)
{
    note_peak(server);
    if (now_ns < server->tick_ns) {
        return;
    }
    server->tick_ns = now_ns + TICK_NS;
    give_memory_back(server);
    LIST_FOR_EACH (link, &server->connections) {
        h2_connection_tick(LIST_ENTRY(link, struct h2_connection, link), now_ns);
    }
}

static uint64_t earlier(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

static uint64_t next_ns(const struct h2_server *server)
{
    uint64_t until_ns = earlier(server->tick_ns, server->timed_ns);
    if (!list_is_empty(&server->waiting)) {
        const struct h2_call *call =
            LIST_ENTRY(server->waiting.next, const struct h2_call, waiting_link);
        until_ns = earlier(until_ns, call->begin_ns + server->options.message_wait_ms * NS_PER_MS);
    }
    if (atomic_load(&server->is_closing)) {
        until_ns = earlier(until_ns, atomic_load(&server->stop_ns));
        if (server->goodbye_ns != 0) {
            until_ns = earlier(until_ns, server->goodbye_ns);
        }
    }
    bool is_idle = list_is_empty(&server->posts) && list_is_empty(&server->dirty);
    return is_idle ? until_ns : 0;
}

/* ---- stopping ---- */

static void send_goaway(struct h2_server *server)
{
    if (server->is_goaway_sent) {
        return;
    }
    server->is_goaway_sent = true;
    listen_sockets_close(&server->listeners);
    LIST_FOR_EACH (link, &server->connections) {
        h2_connection_goaway(LIST_ENTRY(link, struct h2_connection, link));
    }
}

static void doom_all(struct h2_server *server)
{
    LIST_FOR_EACH (link, &server->connections) {
        h2_connection_doom(LIST_ENTRY(link, struct h2_connection, link));
    }
}

static void advance_stop(struct h2_server *server, uint64_t now_ns)
{
    if (!atomic_load(&server->is_closing)) {
        return;
    }
    send_goaway(server);
    uint64_t stop_ns = atomic_load(&server->stop_ns);
    if (stop_ns == UINT64_MAX) {
        return;
    }
    if (atomic_load(&server->call_count) == 0 && server->goodbye_ns == 0) {
        server->goodbye_ns = earlier(stop_ns, now_ns + GOODBYE_NS);
    }
    if (now_ns >= stop_ns || (server->goodbye_ns != 0 && now_ns >= server->goodbye_ns)) {
        doom_all(server);
    }
}

static void destroy_doomed(struct h2_server *server)
{
    struct list *link;
    while ((link = list_pop_front(&server->doomed)) != NULL) {
        h2_connection_destroy(LIST_ENTRY(link, struct h2_connection, dirty_link));
    }
}

static void signal_stopped(struct h2_server *server)
{
    if (atomic_load(&server->stop_ns) == UINT64_MAX || !server->is_goaway_sent ||
        !list_is_empty(&server->connections)) {
        return;
    }
    pthread_mutex_lock(&server->stop_lock);
    server->is_stopped = true;
    pthread_cond_broadcast(&server->stopped);
    pthread_mutex_unlock(&server->stop_lock);
}

static void hang_up(struct h2_server *server)
{
    LIST_FOR_EACH (link, &server->connections) {
        (void)shutdown(LIST_ENTRY(link, struct h2_connection, link)->fd, SHUT_WR);
    }
}

/* ---- the thread ---- */

static void wait_for_events(struct h2_server *server)
{
    struct epoll_event events[EVENTS_MAX];
    uint64_t now_ns = h2_now_ns();
    uint64_t until_ns = next_ns(server);
    int timeout_ms = 0;
    if (until_ns > now_ns) {
        /* Rounded up, so that it does not wake too early. At most TICK_NS. */
        timeout_ms = (int)((until_ns - now_ns + NS_PER_MS - 1) / NS_PER_MS);
    }
    pthread_mutex_unlock(&server->lock);
    int count = epoll_wait(server->epoll_fd, events, EVENTS_MAX, timeout_ms);
    pthread_mutex_lock(&server->lock);
    CHECK(count >= 0 || errno == EINTR);
    server->now_ns = h2_now_ns();
    for (int i = 0; i < count; i++) {
        void *source = events[i].data.ptr;
        if (source == &server->mailbox) {
            (void)mailbox_drain(&server->mailbox, &server->posts);
        } else if (source == server) {
            h2_accept(server);
        } else {
            h2_connection_ready(source, events[i].events);
        }
    }
}

static void *run(void *context)
{
    struct h2_server *server = context;
    (void)h2_server_enter(server);
    pthread_mutex_lock(&server->lock);
    while (!atomic_load(&server->is_ending)) {
        wait_for_events(server);
        if (atomic_load(&server->is_hanging_up)) {
            hang_up(server);
        }
        end_waiting(server, server->now_ns);
        end_lingering(server, server->now_ns);
        end_timed(server, server->now_ns);
        tick(server, server->now_ns);
        advance_stop(server, server->now_ns);
        run_posts(server);
        run_posts(server); /* what the first posts finished */
        flush_all(server);
        destroy_doomed(server);
        signal_stopped(server);
    }
    pthread_mutex_unlock(&server->lock);
    return NULL;
}

/* ---- life ---- */

static int watch(struct h2_server *server, int fd, void *source)
{
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = source};
    return epoll_ctl(server->epoll_fd, EPOLL_CTL_ADD, fd, &event) == 0 ? 0 : ERR_IO;
}

static void init_lists(struct h2_server *server)
{
    list_init(&server->posts);
    list_init(&server->connections);
    list_init(&server->idle);
    list_init(&server->dirty);
    list_init(&server->doomed);
    list_init(&server->waiting);
    list_init(&server->timed);
    list_init(&server->lingering);
    server->timed_ns = UINT64_MAX;
    atomic_init(&server->stop_ns, UINT64_MAX);
    pthread_mutex_init(&server->lock, NULL);
    pthread_mutex_init(&server->stop_lock, NULL);
    pthread_cond_init(&server->stopped, NULL);
}

static void free_server(struct h2_server *server)
{
    listen_sockets_close(&server->listeners);
    if (server->epoll_fd >= 0) {
        close(server->epoll_fd);
    }
    pthread_cond_destroy(&server->stopped);
    pthread_mutex_destroy(&server->stop_lock);
    pthread_mutex_destroy(&server->lock);
    free(server->scratch);
    free(server);
}

static int watch_listeners(struct h2_server *server)
{
    int rc = 0;
    for (size_t i = 0; i < server->listeners.count && rc == 0; i++) {
        rc = watch(server, server->listeners.list[i], server);
    }
    return rc;
}

int h2_server_create(const struct h2_server_options *options,
                     const struct h2_server_handler *handler, struct listen_fault *fault,
                     struct h2_server **out)
{
    struct h2_server *server = calloc(1, sizeof(*server));
    *fault = (struct listen_fault){.number = 0};
    if (server == NULL) {
        return ERR_NOMEM;
    }
    server->options = *options;
    server->handler = *handler;
    init_lists(server);
    server->now_ns = h2_now_ns();
    server->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    server->scratch = malloc(OUT_BYTES + OUT_FRAME_BYTES);
    int rc = server->epoll_fd < 0 ? ERR_IO : 0;
    rc = server->scratch == NULL ? ERR_NOMEM : rc;
    if (rc == 0) {
        rc = h2_listen(server, fault);
    }
    if (rc != 0) {
        goto free_server;
    }
    rc = mailbox_init(&server->mailbox);
    if (rc != 0) {
        goto free_server;
    }
    if (watch_listeners(server) != 0 ||
        watch(server, mailbox_fd(&server->mailbox), &server->mailbox) != 0) {
        rc = ERR_IO;
        goto finish_mailbox;
    }
    /* Set before the first call, since the handler may use it. */
    *out = server;
    if (pthread_create(&server->thread, NULL, run, server) != 0) {
        rc = ERR_NOMEM;
        goto finish_mailbox;
    }
    (void)pthread_setname_np(server->thread, "grpc");
    return 0;
finish_mailbox:
    mailbox_finish(&server->mailbox);
free_server:
    free_server(server);
    return rc;
}

int h2_server_port(const struct h2_server *server)
{
    return server->port;
}

void h2_server_close(struct h2_server *server)
{
    if (!atomic_exchange(&server->is_closing, true)) {
        mailbox_wake(&server->mailbox);
    }
}

void h2_server_hang_up(struct h2_server *server)
{
    atomic_store(&server->is_hanging_up, true);
    mailbox_wake(&server->mailbox);
}

void h2_server_stop(struct h2_server *server, uint32_t grace_ms)
{
    CHECK(!h2_server_is_current(server));
    atomic_store(&server->stop_ns, h2_now_ns() + grace_ms * NS_PER_MS);
    atomic_store(&server->is_closing, true);
    mailbox_wake(&server->mailbox);
    pthread_mutex_lock(&server->stop_lock);
    while (!server->is_stopped) {
        pthread_cond_wait(&server->stopped, &server->stop_lock);
    }
    pthread_mutex_unlock(&server->stop_lock);
}

void h2_server_destroy(struct h2_server *server)
{
    if (server == NULL) {
        return;
    }
    atomic_store(&server->is_ending, true);
    mailbox_wake(&server->mailbox);
    pthread_join(server->thread, NULL);
    CHECK(server->is_stopped);
    struct list rest;
    list_init(&rest);
    (void)mailbox_drain(&server->mailbox, &rest);
    list_splice_back(&server->posts, &rest);
    run_posts(server);
    CHECK(list_is_empty(&server->posts));
    mailbox_finish(&server->mailbox);
    free_server(server);
}

void h2_server_get_stats(struct h2_server *server, struct h2_server_stats *out)
{
    out->connections = atomic_load(&server->connection_count);
    out->calls = atomic_load(&server->call_count);
}
