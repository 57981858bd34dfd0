/* A connection: a socket, its nghttp2 session, and the bytes to write. Any error dooms it. Doomed
 * connections are destroyed at the end of the thread's round. */
#include "h2/h2_internal.h"

#include "base/check.h"
#include "base/clock.h"
#include "base/errors.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#define READ_BYTES_MAX 65536 /* at a time, so that no connection delays the others */
#define STREAM_WINDOW_BYTES (256 << 10)
#define CONNECTION_WINDOW_BYTES (1 << 20)
/* Time limit for a connection's first frame, for its answer to a ping, and for progress of its
 * writes. */
#define PATIENCE_NS (20 * NS_PER_S)
/* Limits of the resets of calls by a client: at once and per second. */
#define RESETS_BURST 10000
#define RESETS_RATE 1000
#define PING_ACKS_MAX 1000

/* ---- session ---- */

static int on_any_frame(nghttp2_session *session, const nghttp2_frame_hd *head, void *context)
{
    struct h2_connection *connection = context;
    connection->is_greeted = true;
    return 0;
}

/* Answers reset the count of early pings: clients ping to measure bandwidth. */
static int on_frame_sent(nghttp2_session *session, const nghttp2_frame *frame, void *context)
{
    struct h2_connection *connection = context;
    if (frame->hd.type != NGHTTP2_HEADERS && frame->hd.type != NGHTTP2_DATA) {
        return 0;
    }
    connection->ping_strikes = 0;
    connection->ping_ns = 0;
    struct h2_call *call = nghttp2_session_get_stream_user_data(session, frame->hd.stream_id);
    if ((frame->hd.flags & NGHTTP2_FLAG_END_STREAM) != 0 && call != NULL && !call->is_half_closed) {
        h2_call_linger(call);
    }
    return 0;
}

static nghttp2_session_callbacks *callbacks;
static nghttp2_option *session_options;
static pthread_once_t once = PTHREAD_ONCE_INIT;

static void prepare(void)
{
    CHECK(nghttp2_session_callbacks_new(&callbacks) == 0);
    nghttp2_session_callbacks_set_on_begin_frame_callback(callbacks, on_any_frame);
    nghttp2_session_callbacks_set_on_frame_send_callback(callbacks, on_frame_sent);
    h2_set_request_callbacks(callbacks);
    CHECK(nghttp2_option_new(&session_options) == 0);
    nghttp2_option_set_no_auto_window_update(session_options, 1);
    nghttp2_option_set_no_closed_streams(session_options, 1);
    nghttp2_option_set_max_outbound_ack(session_options, PING_ACKS_MAX);
    nghttp2_option_set_stream_reset_rate_limit(session_options, RESETS_BURST, RESETS_RATE);
}

static int open_session(struct h2_connection *connection)
{
    const struct h2_server_options *options = &connection->server->options;
    const nghttp2_settings_entry settings[] = {
        {NGHTTP2_SETTINGS_MAX_CONCURRENT_STREAMS, options->streams_max},
        {NGHTTP2_SETTINGS_INITIAL_WINDOW_SIZE, STREAM_WINDOW_BYTES},
        {NGHTTP2_SETTINGS_MAX_HEADER_LIST_SIZE, options->metadata_bytes_max},
    };
    pthread_once(&once, prepare);
    if (nghttp2_session_server_new2(&connection->session, callbacks, connection, session_options) !=
        0) {
        return ERR_NOMEM;
    }
    if (nghttp2_submit_settings(connection->session, NGHTTP2_FLAG_NONE, settings,
                                sizeof(settings) / sizeof(settings[0])) != 0 ||
        nghttp2_session_set_local_window_size(connection->session, NGHTTP2_FLAG_NONE, 0,
                                              CONNECTION_WINDOW_BYTES) != 0) {
        nghttp2_session_del(connection->session);
        return ERR_NOMEM;
    }
    return 0;
}

/* ---- life ---- */

int h2_connection_create(struct h2_server *server, int fd)
{
    struct h2_connection *connection = calloc(1, sizeof(*connection));
    if (connection == NULL) {
        close(fd);
        return ERR_NOMEM;
    }
    connection->server = server;
    connection->fd = fd;
    int rc = open_session(connection);
    if (rc != 0) {
        goto free_connection;
    }
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = connection};
    if (epoll_ctl(server->epoll_fd, EPOLL_CTL_ADD, fd, &event) != 0) {
        rc = ERR_IO;
        goto delete_session;
    }
    list_init(&connection->calls);
    list_init(&connection->turns);
    list_init(&connection->sent);
    list_init(&connection->dirty_link);
    list_push_back(&server->connections, &connection->link);
    list_push_back(&server->idle, &connection->idle_link);
    atomic_fetch_add(&server->connection_count, 1);
    connection->born_ns = connection->heard_ns = connection->progress_ns = h2_now_ns();
    /* The settings are sent after the client's first bytes. */
    return 0;
delete_session:
    nghttp2_session_del(connection->session);
free_connection:
    close(fd);
    free(connection);
    return rc;
}

static void drop_out(struct h2_connection *connection)
{
    if (connection->server->options.memory != NULL) {
        budget_give(connection->server->options.memory, connection->out_end);
    }
    free(connection->out);
    connection->out = NULL;
    connection->out_begin = 0;
    connection->out_end = 0;
}

void h2_connection_destroy(struct h2_connection *connection)
{
    struct h2_server *server = connection->server;
    struct list *link;
    while ((link = list_pop_front(&connection->calls)) != NULL) {
        h2_call_close(LIST_ENTRY(link, struct h2_call, link));
    }
    CHECK(connection->held_bytes == 0);
    nghttp2_session_del(connection->session);
    close(connection->fd);
    list_remove(&connection->link);
    list_remove(&connection->idle_link);
    list_remove(&connection->dirty_link);
    drop_out(connection);
    free(connection);
    atomic_fetch_sub(&server->connection_count, 1);
}

void h2_connection_doom(struct h2_connection *connection)
{
    if (connection->is_doomed) {
        return;
    }
    connection->is_doomed = true;
    list_remove(&connection->dirty_link);
    list_remove(&connection->idle_link); /* it is being closed already */
    list_push_back(&connection->server->doomed, &connection->dirty_link);
}

void h2_connection_tick(struct h2_connection *connection, uint64_t now_ns)
{
    const struct h2_server_options *options = &connection->server->options;
    bool is_silent = !connection->is_greeted && now_ns > connection->born_ns + PATIENCE_NS;
    bool is_dead = connection->pinged_ns != 0 && now_ns > connection->pinged_ns + PATIENCE_NS;
    bool is_stuck = connection->out != NULL && now_ns > connection->progress_ns + PATIENCE_NS;
    if (is_silent || is_dead || is_stuck) {
        h2_connection_doom(connection);
        return;
    }
    uint64_t keepalive_ns = options->keepalive_ms * NS_PER_MS;
    if (keepalive_ns > 0 && connection->pinged_ns == 0 && connection->is_greeted &&
        now_ns > connection->heard_ns + keepalive_ns) {
        connection->pinged_ns = now_ns;
        (void)nghttp2_submit_ping(connection->session, NGHTTP2_FLAG_NONE, NULL);
        h2_connection_mark(connection);
    }
}

/* ---- reading ---- */

static void read_some(struct h2_connection *connection)
{
    uint8_t bytes[READ_BYTES_MAX];
    ssize_t size = recv(connection->fd, bytes, sizeof(bytes), 0);
    if (size < 0 && (errno == EAGAIN || errno == EINTR)) {
        return;
    }
    if (size <= 0) {
        h2_connection_doom(connection);
        return;
    }
    connection->heard_ns = connection->server->now_ns;
    connection->pinged_ns = 0; /* any bytes show that it is alive */
    /* On an error, nghttp2 has queued a GOAWAY with the reason. */
    if (nghttp2_session_mem_recv(connection->session, bytes, (size_t)size) < 0) {
        h2_connection_flush(connection);
        h2_connection_doom(connection);
        return;
    }
    h2_connection_mark(connection);
}

void h2_connection_ready(struct h2_connection *connection, uint32_t events)
{
    if (connection->is_doomed) {
        return;
    }
    if ((events & (EPOLLERR | EPOLLHUP)) != 0) {
        h2_connection_doom(connection);
        return;
    }
    if ((events & EPOLLOUT) != 0) {
        h2_connection_mark(connection);
    }
    if ((events & EPOLLIN) != 0) {
        read_some(connection);
    }
}

/* ---- writing ---- */

/* Copies the frames that are ready and fit. Returns their bytes; -1: the session failed. */
static ssize_t fill_scratch(struct h2_connection *connection)
{
    size_t filled = 0;
    while (filled < OUT_BYTES) {
        const uint8_t *data;
        ssize_t size = nghttp2_session_mem_send(connection->session, &data);
        if (size < 0 || (size_t)size > OUT_BYTES + OUT_FRAME_BYTES - filled) {
            return -1;
        }
        if (size == 0) {
            break;
        }
        memcpy(connection->server->scratch + filled, data, (size_t)size);
        filled += (size_t)size;
    }
    return (ssize_t)filled;
}

/* Returns how many bytes the socket accepted; -1: it failed. */
static ssize_t send_some(struct h2_connection *connection, const uint8_t *data, size_t size)
{
    size_t taken = 0;
    while (taken < size) {
        ssize_t count = send(connection->fd, data + taken, size - taken, MSG_NOSIGNAL);
        if (count < 0 && errno == EINTR) {
            continue;
        }
        if (count < 0) {
            return errno == EAGAIN ? (ssize_t)taken : -1;
        }
        taken += (size_t)count;
        connection->progress_ns = connection->server->now_ns;
    }
    return (ssize_t)taken;
}

/* Sends the bytes of the last attempt. Returns false if some are left or the connection failed. */
static bool send_rest(struct h2_connection *connection)
{
    ssize_t taken = send_some(connection, connection->out + connection->out_begin,
                              connection->out_end - connection->out_begin);
    if (taken < 0) {
        h2_connection_doom(connection);
        return false;
    }
    connection->out_begin += (size_t)taken;
    if (connection->out_begin < connection->out_end) {
        return false;
    }
    drop_out(connection);
    return true;
}

static bool keep_rest(struct h2_connection *connection, const uint8_t *data, size_t size)
{
    connection->out = malloc(size);
    if (connection->out == NULL) {
        return false;
    }
    memcpy(connection->out, data, size);
    connection->out_begin = 0;
    connection->out_end = size;
    /* These bytes are frames already and must be kept. */
    if (connection->server->options.memory != NULL) {
        budget_take_over(connection->server->options.memory, size);
    }
    connection->progress_ns = connection->server->now_ns; /* the time limit begins now */
    return true;
}

/* Returns false if the socket accepts no more or the connection failed. */
static bool write_frames(struct h2_connection *connection)
{
    for (;;) {
        ssize_t size = fill_scratch(connection);
        if (size == 0) {
            return true;
        }
        const uint8_t *data = connection->server->scratch;
        ssize_t taken = size < 0 ? -1 : send_some(connection, data, (size_t)size);
        if (taken < 0) {
            h2_connection_doom(connection);
            return false;
        }
        if (taken < size) {
            if (!keep_rest(connection, data + taken, (size_t)(size - taken))) {
                h2_connection_doom(connection);
            }
            return false;
        }
    }
}

static void poll_out(struct h2_connection *connection, bool is_wanted)
{
    if (connection->is_polling_out == is_wanted) {
        return;
    }
    struct epoll_event event = {.events = EPOLLIN | (is_wanted ? EPOLLOUT : 0),
                                .data.ptr = connection};
    connection->is_polling_out = is_wanted;
    CHECK(epoll_ctl(connection->server->epoll_fd, EPOLL_CTL_MOD, connection->fd, &event) == 0);
}

static void give_turns(struct h2_connection *connection)
{
    while (!connection->is_doomed && connection->out == NULL &&
           connection->turns_taken < H2_TURNS_MAX && connection->unsent_bytes < UNSENT_BYTES_MAX &&
           !list_is_empty(&connection->turns)) {
        struct list *link = list_pop_front(&connection->turns);
        struct h2_call *call = LIST_ENTRY(link, struct h2_call, turn_link);
        call->has_turn = true;
        connection->turns_taken++;
        call->events.on_turn(call, call->events.context);
    }
}

/* Called when the kernel has all bytes: calls may send more. */
static void tell_clear(struct h2_connection *connection)
{
    struct list sent;
    list_init(&sent);
    list_splice_back(&sent, &connection->sent);
    struct list *link;
    while ((link = list_pop_front(&sent)) != NULL) {
        struct h2_call *call = LIST_ENTRY(link, struct h2_call, sent_link);
        if (call->is_accepted && call->events.on_sent != NULL) {
            call->events.on_sent(call, call->events.context);
        }
    }
    give_turns(connection);
}

void h2_connection_flush(struct h2_connection *connection)
{
    if (connection->is_doomed || atomic_load(&connection->server->is_hanging_up)) {
        return;
    }
    if ((connection->out != NULL && !send_rest(connection)) || !write_frames(connection)) {
        if (!connection->is_doomed) {
            poll_out(connection, true);
        }
        return;
    }
    poll_out(connection, false);
    bool is_over = nghttp2_session_want_read(connection->session) == 0 &&
                   nghttp2_session_want_write(connection->session) == 0;
    if (is_over || connection->is_leaving) {
        h2_connection_doom(connection);
        return;
    }
    tell_clear(connection);
}
