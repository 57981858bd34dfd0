/* This file reads frames itself. The client of libwebsockets handles each byte separately, which
 * costs more than the measured servers, and would dominate the result. */
#include "bench/websocket.h"

#include "base/address.h"
#include "base/check.h"
#include "base/errors.h"
#include "base/list.h"

#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#define RECEIVE_BYTES (256u << 10)
#define EVENTS_AT_ONCE 64
#define HEAD_BYTES_MAX 4096
#define HANDSHAKE_SECONDS 5
#define OUT_BYTES_MAX (64u << 20)
#define FRAME_HEADER_MAX 10
#define CONTROL_BYTES_MAX 125
#define MASK_BYTES 4

/* Key and answer of the example in RFC 6455, 1.3. They need not be secret here. */
#define HANDSHAKE_KEY "dGhlIHNhbXBsZSBub25jZQ=="
#define HANDSHAKE_ACCEPT "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="

enum opcode { OPCODE_TEXT = 1, OPCODE_BINARY = 2, OPCODE_CLOSE = 8, OPCODE_PING = 9, OPCODE_PONG };

struct socket {
    struct socket_pool *pool;
    int fd; /* -1: not connected */
    bool is_over;
    bool wants_write; /* as registered with epoll */

    /* The frame that is being received. */
    uint8_t header[FRAME_HEADER_MAX];
    size_t header_bytes;
    uint64_t payload_left;
    uint8_t control[CONTROL_BYTES_MAX];
    size_t control_bytes;

    struct buf out; /* frames to send; under the pool's lock */
    size_t out_sent;
    struct list dirty_link; /* in pool->dirty while `out` is news to the thread */
};

struct socket_pool {
    struct socket_pool_options options;
    struct socket_events events;
    int epoll_fd;
    int wake_fd;
    pthread_t thread;
    atomic_bool is_ending;
    pthread_mutex_t lock; /* of dirty and all `out` */
    struct list dirty;
    struct socket *sockets;
    uint8_t *received; /* RECEIVE_BYTES */
};

static void close_socket(struct socket *socket)
{
    if (socket->is_over) {
        return;
    }
    struct socket_pool *pool = socket->pool;
    pthread_mutex_lock(&pool->lock);
    socket->is_over = true;
    if (socket->fd >= 0) {
        close(socket->fd);
        socket->fd = -1;
    }
    buf_finish(&socket->out);
    pthread_mutex_unlock(&pool->lock);
    if (!pool->is_ending) {
        pool->events.on_closed(pool->events.context, socket);
    }
}

/* ---- sending ---- */

static void append_frame(struct buf *out, enum opcode opcode, struct bytes payload)
{
    static const uint8_t mask[MASK_BYTES] = {0x5a, 0x3c, 0x96, 0x0f};
    buf_append_byte(out, (uint8_t)(0x80 | opcode));
    if (payload.size < 126) {
        buf_append_byte(out, (uint8_t)(0x80 | payload.size));
    } else {
        bool is_short = payload.size <= UINT16_MAX;
        buf_append_byte(out, is_short ? 0x80 | 126 : 0x80 | 127);
        for (int shift = is_short ? 8 : 56; shift >= 0; shift -= 8) {
            buf_append_byte(out, (uint8_t)((uint64_t)payload.size >> shift));
        }
    }
    buf_append(out, mask, sizeof(mask));
    uint8_t *to = buf_extend(out, payload.size);
    for (size_t i = 0; to != NULL && i < payload.size; i++) {
        to[i] = ((const uint8_t *)payload.data)[i] ^ mask[i % MASK_BYTES];
    }
    CHECK(!buf_failed(out));
}

/* Under the lock. */
static void watch(struct socket *socket, bool wants_write)
{
    if (socket->wants_write == wants_write) {
        return;
    }
    socket->wants_write = wants_write;
    struct epoll_event event = {.events = wants_write ? EPOLLIN | EPOLLOUT : EPOLLIN,
                                .data.ptr = socket};
    (void)epoll_ctl(socket->pool->epoll_fd, EPOLL_CTL_MOD, socket->fd, &event);
}

/* Under the lock. False: the connection is broken. */
static bool write_out(struct socket *socket)
{
    while (socket->out_sent < socket->out.size) {
        ssize_t sent = send(socket->fd, socket->out.data + socket->out_sent,
                            socket->out.size - socket->out_sent, MSG_NOSIGNAL);
        if (sent < 0 && errno == EAGAIN) {
            watch(socket, true);
            return true;
        }
        if (sent < 0 && errno != EINTR) {
            return false;
        }
        socket->out_sent += sent > 0 ? (size_t)sent : 0;
    }
    buf_reset(&socket->out);
    socket->out_sent = 0;
    watch(socket, false);
    return true;
}

static void flush(struct socket *socket)
{
    pthread_mutex_lock(&socket->pool->lock);
    bool is_sound = socket->fd < 0 || write_out(socket);
    pthread_mutex_unlock(&socket->pool->lock);
    if (!is_sound) {
        close_socket(socket);
    }
}

static void flush_dirty(struct socket_pool *pool)
{
    for (;;) {
        pthread_mutex_lock(&pool->lock);
        struct list *link = list_pop_front(&pool->dirty);
        pthread_mutex_unlock(&pool->lock);
        if (link == NULL) {
            return;
        }
        flush(LIST_ENTRY(link, struct socket, dirty_link));
    }
}

static void queue(struct socket *socket, enum opcode opcode, struct bytes payload)
{
    struct socket_pool *pool = socket->pool;
    pthread_mutex_lock(&pool->lock);
    bool is_wake_needed =
        list_is_empty(&pool->dirty) && !pthread_equal(pthread_self(), pool->thread);
    if (!socket->is_over) {
        CHECK(socket->out.size + payload.size < OUT_BYTES_MAX);
        append_frame(&socket->out, opcode, payload);
        if (list_is_empty(&socket->dirty_link)) {
            list_push_back(&pool->dirty, &socket->dirty_link);
        }
    }
    pthread_mutex_unlock(&pool->lock);
    if (is_wake_needed) {
        (void)eventfd_write(pool->wake_fd, 1);
    }
}

/* ---- receiving ---- */

/* Returns the length of the header, as far as it is known. */
static size_t header_size(const struct socket *socket)
{
    if (socket->header_bytes < 2) {
        return 2;
    }
    uint8_t size = socket->header[1] & 0x7f;
    return size == 127 ? 10 : size == 126 ? 4 : 2;
}

static uint64_t payload_size(const struct socket *socket)
{
    uint64_t size = socket->header[1] & 0x7f;
    if (size < 126) {
        return size;
    }
    size_t end = size == 127 ? 10 : 4;
    size = 0;
    for (size_t i = 2; i < end; i++) {
        size = size << 8 | socket->header[i];
    }
    return size;
}

/* True if the header is complete. */
static bool take_header(struct socket *socket, const uint8_t **at, const uint8_t *end)
{
    while (socket->header_bytes < header_size(socket) && *at < end) {
        socket->header[socket->header_bytes++] = *(*at)++;
    }
    if (socket->header_bytes < header_size(socket)) {
        return false;
    }
    socket->payload_left = payload_size(socket);
    socket->control_bytes = 0;
    return true;
}

/* Handles a piece of a control frame. Returns false if the connection must end. */
static bool take_control(struct socket *socket, struct bytes piece, enum opcode opcode)
{
    if (socket->control_bytes + piece.size > sizeof(socket->control)) {
        return false;
    }
    memcpy(socket->control + socket->control_bytes, piece.data, piece.size);
    socket->control_bytes += piece.size;
    if (socket->payload_left > 0) {
        return true;
    }
    if (opcode == OPCODE_PING) {
        queue(socket, OPCODE_PONG, (struct bytes){socket->control, socket->control_bytes});
    }
    return opcode != OPCODE_CLOSE;
}

static bool take_payload(struct socket *socket, const uint8_t **at, const uint8_t *end)
{
    size_t left = (size_t)(end - *at);
    size_t size = socket->payload_left < left ? (size_t)socket->payload_left : left;
    struct bytes piece = {*at, size};
    *at += size;
    socket->payload_left -= size;
    enum opcode opcode = socket->header[0] & 0x0f;
    bool is_final = (socket->header[0] & 0x80) != 0;
    if (socket->payload_left == 0) {
        socket->header_bytes = 0;
    }
    if (opcode >= OPCODE_CLOSE) {
        return take_control(socket, piece, opcode);
    }
    struct socket_pool *pool = socket->pool;
    pool->events.on_data(pool->events.context, socket, piece,
                         is_final && socket->payload_left == 0);
    return true;
}

static bool is_in_payload(const struct socket *socket)
{
    return socket->header_bytes > 0 && socket->header_bytes == header_size(socket);
}

static void receive(struct socket *socket)
{
    ssize_t size = recv(socket->fd, socket->pool->received, RECEIVE_BYTES, 0);
    if (size < 0 && (errno == EAGAIN || errno == EINTR)) {
        return;
    }
    const uint8_t *at = socket->pool->received;
    const uint8_t *end = at + (size > 0 ? size : 0);
    bool is_sound = size > 0;
    while (is_sound && (is_in_payload(socket) || take_header(socket, &at, end))) {
        is_sound = take_payload(socket, &at, end);
        if (socket->payload_left > 0) {
            break;
        }
    }
    if (!is_sound) {
        close_socket(socket);
    }
}

/* ---- connecting ---- */

static int connect_to(const char *text)
{
    struct address address;
    struct addrinfo *found = NULL;
    if (address_split(text, &address, NULL) != 0) {
        return -1;
    }
    char port[sizeof("65535")];
    snprintf(port, sizeof(port), "%u", (unsigned)address.port);
    const struct addrinfo hints = {.ai_socktype = SOCK_STREAM};
    if (getaddrinfo(address.host, port, &hints, &found) != 0) {
        return -1;
    }
    int fd = socket(found->ai_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
    const struct timeval patience = {.tv_sec = HANDSHAKE_SECONDS};
    const int on = 1;
    if (fd >= 0) {
        (void)setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience));
        (void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
    }
    if (fd >= 0 && connect(fd, found->ai_addr, found->ai_addrlen) != 0) {
        close(fd);
        fd = -1;
    }
    freeaddrinfo(found);
    return fd;
}

/* Reads byte by byte up to the end of the head of the answer, because frames follow it. */
static bool read_accept(int fd)
{
    char head[HEAD_BYTES_MAX + 1];
    size_t size = 0;
    while (size < HEAD_BYTES_MAX && recv(fd, head + size, 1, 0) == 1) {
        head[++size] = '\0';
        if (size >= 4 && memcmp(head + size - 4, "\r\n\r\n", 4) == 0) {
            return strncmp(head, "HTTP/1.1 101 ", 13) == 0 &&
                   strstr(head, HANDSHAKE_ACCEPT) != NULL;
        }
    }
    return false;
}

static bool shake_hands(struct socket *socket, const char *host)
{
    const struct socket_pool_options *options = &socket->pool->options;
    struct buf request = {0};
    buf_printf(&request,
               "GET %s HTTP/1.1\r\nHost: %s\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
               "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: " HANDSHAKE_KEY "\r\n",
               options->path, host);
    if (options->subprotocol != NULL) {
        buf_printf(&request, "Sec-WebSocket-Protocol: %s\r\n", options->subprotocol);
    }
    buf_append_text(&request, "\r\n");
    bool is_sent = !buf_failed(&request) && send(socket->fd, request.data, request.size,
                                                 MSG_NOSIGNAL) == (ssize_t)request.size;
    buf_finish(&request);
    return is_sent && read_accept(socket->fd);
}

static bool open_socket(struct socket *socket, const char *text)
{
    socket->fd = connect_to(text);
    if (socket->fd < 0 || !shake_hands(socket, text)) {
        return false;
    }
    int flags = fcntl(socket->fd, F_GETFL);
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = socket};
    return fcntl(socket->fd, F_SETFL, flags | O_NONBLOCK) == 0 &&
           epoll_ctl(socket->pool->epoll_fd, EPOLL_CTL_ADD, socket->fd, &event) == 0;
}

static void dial_all(struct socket_pool *pool)
{
    for (size_t i = 0; i < pool->options.socket_count && !pool->is_ending; i++) {
        struct socket *socket = &pool->sockets[i];
        if (open_socket(socket, pool->options.addresses[i % pool->options.address_count])) {
            pool->events.on_open(pool->events.context, socket);
            flush_dirty(pool);
        } else {
            close_socket(socket);
        }
    }
}

/* ---- the thread ---- */

static void handle(struct socket_pool *pool, const struct epoll_event *event)
{
    struct socket *socket = event->data.ptr;
    if (socket == NULL) {
        eventfd_t count;
        (void)eventfd_read(pool->wake_fd, &count);
        return;
    }
    if ((event->events & EPOLLOUT) != 0) {
        flush(socket);
    }
    if (socket->fd >= 0 && (event->events & ~(uint32_t)EPOLLOUT) != 0) {
        receive(socket);
    }
}

static void *run(void *context)
{
    struct socket_pool *pool = context;
    dial_all(pool);
    while (!pool->is_ending) {
        struct epoll_event events[EVENTS_AT_ONCE];
        flush_dirty(pool);
        int count = epoll_wait(pool->epoll_fd, events, EVENTS_AT_ONCE, -1);
        for (int i = 0; i < count; i++) {
            handle(pool, &events[i]);
        }
    }
    return NULL;
}

static void free_pool(struct socket_pool *pool)
{
    for (size_t i = 0; pool->sockets != NULL && i < pool->options.socket_count; i++) {
        if (pool->sockets[i].fd >= 0) {
            close(pool->sockets[i].fd);
        }
        buf_finish(&pool->sockets[i].out);
    }
    if (pool->epoll_fd >= 0) {
        close(pool->epoll_fd);
    }
    if (pool->wake_fd >= 0) {
        close(pool->wake_fd);
    }
    pthread_mutex_destroy(&pool->lock);
    free(pool->received);
    free(pool->sockets);
    free(pool);
}

static int start(struct socket_pool *pool)
{
    if (pool->sockets == NULL || pool->received == NULL) {
        return ERR_NOMEM;
    }
    for (size_t i = 0; i < pool->options.socket_count; i++) {
        pool->sockets[i].pool = pool;
        pool->sockets[i].fd = -1;
        list_init(&pool->sockets[i].dirty_link);
    }
    struct epoll_event event = {.events = EPOLLIN};
    if (pool->epoll_fd < 0 || pool->wake_fd < 0 ||
        epoll_ctl(pool->epoll_fd, EPOLL_CTL_ADD, pool->wake_fd, &event) != 0) {
        return ERR_IO;
    }
    return pthread_create(&pool->thread, NULL, run, pool) == 0 ? 0 : ERR_IO;
}

int socket_pool_create(const struct socket_pool_options *options,
                       const struct socket_events *events, struct socket_pool **out)
{
    struct socket_pool *pool = calloc(1, sizeof(*pool));
    if (pool == NULL) {
        return ERR_NOMEM;
    }
    pool->options = *options;
    pool->events = *events;
    pthread_mutex_init(&pool->lock, NULL);
    list_init(&pool->dirty);
    pool->sockets = calloc(options->socket_count, sizeof(*pool->sockets));
    pool->received = malloc(RECEIVE_BYTES);
    pool->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    pool->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    int rc = start(pool);
    if (rc != 0) {
        free_pool(pool);
        return rc;
    }
    *out = pool;
    return 0;
}

void socket_pool_destroy(struct socket_pool *pool)
{
    if (pool == NULL) {
        return;
    }
    pool->is_ending = true;
    (void)eventfd_write(pool->wake_fd, 1);
    pthread_join(pool->thread, NULL);
    free_pool(pool);
}

size_t socket_index(const struct socket *socket)
{
    return (size_t)(socket - socket->pool->sockets);
}

struct socket *socket_pool_at(struct socket_pool *pool, size_t index)
{
    CHECK(index < pool->options.socket_count);
    return &pool->sockets[index];
}

void socket_send(struct socket *socket, struct bytes message)
{
    queue(socket, socket->pool->options.is_binary ? OPCODE_BINARY : OPCODE_TEXT, message);
}
