#include "bench/websocket.h"

#include "base/address.h"
#include "base/check.h"
#include "base/errors.h"
#include "base/list.h"

#include <libwebsockets.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

/* Hundreds of connections at once would overflow a listener's backlog. */
#define DIALS_AT_ONCE 16
#define RECEIVE_BYTES (256u << 10)
#define PROTOCOL_NAME "bench"

struct frame {
    struct list link;
    size_t size;
    unsigned char room[]; /* LWS_PRE bytes for libwebsockets, then the message */
};

struct socket {
    struct socket_pool *pool;
    struct lws *wsi; /* NULL: not connected */
    struct list frames;
    struct list dirty_link; /* in pool->dirty while it wants a writable callback */
    bool is_over;
};

struct socket_pool {
    struct socket_pool_options options;
    struct socket_events events;
    struct lws_context *context;
    pthread_t thread;
    atomic_bool is_ending;
    pthread_mutex_t lock; /* of dirty and all frames */
    struct list dirty;
    struct socket *sockets;
    size_t dialled;
};

static void dial_next(struct socket_pool *pool);

static void close_socket(struct socket *socket)
{
    if (socket == NULL || socket->is_over) {
        return;
    }
    struct socket_pool *pool = socket->pool;
    socket->is_over = true;
    socket->wsi = NULL;
    if (!pool->is_ending) {
        pool->events.on_closed(pool->events.context, socket);
        dial_next(pool);
    }
}

static struct frame *next_frame(struct socket *socket, bool *is_last)
{
    pthread_mutex_lock(&socket->pool->lock);
    struct list *link = list_pop_front(&socket->frames);
    *is_last = list_is_empty(&socket->frames);
    pthread_mutex_unlock(&socket->pool->lock);
    return link == NULL ? NULL : LIST_ENTRY(link, struct frame, link);
}

static int write_frames(struct socket *socket)
{
    bool is_last = false;
    while (!is_last) {
        struct frame *frame = next_frame(socket, &is_last);
        if (frame == NULL) {
            return 0;
        }
        int written =
            lws_write(socket->wsi, frame->room + LWS_PRE, frame->size,
                      socket->pool->options.is_binary ? LWS_WRITE_BINARY : LWS_WRITE_TEXT);
        free(frame);
        if (written < 0) {
            return -1;
        }
        if (!is_last && lws_send_pipe_choked(socket->wsi)) {
            lws_callback_on_writable(socket->wsi);
            return 0;
        }
    }
    return 0;
}

/* Other threads have queued frames. */
static void ask_for_dirty(struct socket_pool *pool)
{
    pthread_mutex_lock(&pool->lock);
    for (struct list *link = list_pop_front(&pool->dirty); link != NULL;
         link = list_pop_front(&pool->dirty)) {
        struct socket *socket = LIST_ENTRY(link, struct socket, dirty_link);
        if (socket->wsi != NULL) {
            lws_callback_on_writable(socket->wsi);
        }
    }
    pthread_mutex_unlock(&pool->lock);
}

static int on_event(struct lws *wsi, enum lws_callback_reasons reason, void *user, void *in,
                    size_t size)
{
    struct socket_pool *pool = lws_context_user(lws_get_context(wsi));
    struct socket *socket = lws_get_opaque_user_data(wsi);
    switch (reason) {
    case LWS_CALLBACK_EVENT_WAIT_CANCELLED:
        ask_for_dirty(pool);
        break;
    case LWS_CALLBACK_CLIENT_ESTABLISHED:
        socket->wsi = wsi;
        pool->events.on_open(pool->events.context, socket);
        lws_callback_on_writable(wsi);
        dial_next(pool);
        break;
    case LWS_CALLBACK_CLIENT_RECEIVE: {
        bool is_end = lws_is_final_fragment(wsi) && lws_remaining_packet_payload(wsi) == 0;
        pool->events.on_data(pool->events.context, socket, (struct bytes){in, size}, is_end);
        break;
    }
    case LWS_CALLBACK_CLIENT_WRITEABLE:
        return write_frames(socket);
    case LWS_CALLBACK_CLIENT_CONNECTION_ERROR:
    case LWS_CALLBACK_CLIENT_CLOSED:
        close_socket(socket);
        break;
    default:
        break;
    }
    return 0;
}

static const struct lws_protocols protocols[] = {
    {PROTOCOL_NAME, on_event, 0, RECEIVE_BYTES, 0, NULL, 0},
    {NULL, NULL, 0, 0, 0, NULL, 0},
};

static void dial_next(struct socket_pool *pool)
{
    if (pool->dialled == pool->options.socket_count) {
        return;
    }
    struct socket *socket = &pool->sockets[pool->dialled];
    const char *text = pool->options.addresses[pool->dialled % pool->options.address_count];
    pool->dialled++;
    struct address address;
    if (address_split(text, &address, NULL) != 0) {
        close_socket(socket);
        return;
    }
    struct lws_client_connect_info info = {
        .context = pool->context,
        .address = address.host,
        .port = address.port,
        .path = pool->options.path,
        .host = text,
        .protocol = pool->options.subprotocol,
        .local_protocol_name = PROTOCOL_NAME,
        .ietf_version_or_minus_one = -1,
        .opaque_user_data = socket,
    };
    if (lws_client_connect_via_info(&info) == NULL) {
        close_socket(socket);
    }
}

static void *run(void *context)
{
    struct socket_pool *pool = context;
    for (int i = 0; i < DIALS_AT_ONCE; i++) {
        dial_next(pool);
    }
    while (!pool->is_ending && lws_service(pool->context, 0) >= 0) {
    }
    return NULL;
}

static void free_pool(struct socket_pool *pool)
{
    for (size_t i = 0; i < pool->options.socket_count; i++) {
        for (struct list *link = list_pop_front(&pool->sockets[i].frames); link != NULL;
             link = list_pop_front(&pool->sockets[i].frames)) {
            free(LIST_ENTRY(link, struct frame, link));
        }
    }
    pthread_mutex_destroy(&pool->lock);
    free(pool->sockets);
    free(pool);
}

int socket_pool_create(const struct socket_pool_options *options,
                       const struct socket_events *events, struct socket_pool **out)
{
    struct socket_pool *pool = calloc(1, sizeof *pool);
    if (pool == NULL) {
        return ERR_NOMEM;
    }
    pool->sockets = calloc(options->socket_count, sizeof *pool->sockets);
    if (pool->sockets == NULL) {
        free(pool);
        return ERR_NOMEM;
    }
    pool->options = *options;
    pool->events = *events;
    pthread_mutex_init(&pool->lock, NULL);
    list_init(&pool->dirty);
    for (size_t i = 0; i < options->socket_count; i++) {
        pool->sockets[i].pool = pool;
        list_init(&pool->sockets[i].frames);
        list_init(&pool->sockets[i].dirty_link);
    }
    lws_set_log_level(LLL_ERR, NULL);
    struct lws_context_creation_info info = {
        .port = CONTEXT_PORT_NO_LISTEN,
        .protocols = protocols,
        .pt_serv_buf_size = RECEIVE_BYTES,
        .user = pool,
        .options = LWS_SERVER_OPTION_DISABLE_IPV6,
        .uid = (uid_t)-1,
        .gid = (gid_t)-1,
    };
    pool->context = lws_create_context(&info);
    if (pool->context == NULL) {
        free_pool(pool);
        return ERR_IO;
    }
    if (pthread_create(&pool->thread, NULL, run, pool) != 0) {
        lws_context_destroy(pool->context);
        free_pool(pool);
        return ERR_IO;
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
    lws_cancel_service(pool->context);
    pthread_join(pool->thread, NULL);
    lws_context_destroy(pool->context);
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
    struct socket_pool *pool = socket->pool;
    struct frame *frame = malloc(sizeof *frame + LWS_PRE + message.size);
    CHECK(frame != NULL);
    frame->size = message.size;
    memcpy(frame->room + LWS_PRE, message.data, message.size);
    bool is_own_thread = pthread_equal(pthread_self(), pool->thread);
    pthread_mutex_lock(&pool->lock);
    list_push_back(&socket->frames, &frame->link);
    bool is_wake_needed = !is_own_thread && list_is_empty(&pool->dirty);
    if (!is_own_thread && list_is_empty(&socket->dirty_link)) {
        list_push_back(&pool->dirty, &socket->dirty_link);
    }
    pthread_mutex_unlock(&pool->lock);
    if (is_own_thread && socket->wsi != NULL) {
        lws_callback_on_writable(socket->wsi);
    } else if (is_wake_needed) {
        lws_cancel_service(pool->context);
    }
}
