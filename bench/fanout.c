/* Fan-out as work: one message is published, and each subscriber receives it. Messages carry a
 * marker (operation.h). The marker is searched for in the received bytes, so one cheap reader
 * serves both JSON frames and the protocol of NATS. */
#include "base/check.h"
#include "base/clock.h"
#include "base/errors.h"
#include "bench/targets.h"
#include "bench/websocket.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define POLL_PAUSE_NS (2 * NS_PER_MS)
#define TAIL_BYTES_MAX (MARKER_BYTES - 1)

struct subscriber {
    bool is_ready;
    size_t tail_bytes;
    char tail[TAIL_BYTES_MAX]; /* the end of the last piece: a marker may be cut in two */
};

/* A message in progress, published for `original`. */
struct message {
    struct operation operation; /* the publisher's */
    struct operation *original;
    atomic_uint_least64_t intended_ns;
    atomic_int awaiting; /* missing deliveries and acknowledgement; 0: not in use */
};

struct fanout {
    struct target base;
    const struct options *options;
    bool is_nats;
    struct target *publisher;
    struct socket_pool *pool;
    const struct load *load;
    struct subscriber *subscribers;
    struct message *messages;
    pthread_mutex_t lock;
    uint32_t ready_count;
    struct fanout_result result; /* the pool's thread */
};

static uint64_t now_ns(void)
{
    return clock_monotonic_ns(clock_system());
}

/* ---- messages ---- */

/* Counts one delivery or the acknowledgement. */
static void count_down(struct message *message)
{
    if (atomic_fetch_sub(&message->awaiting, 1) == 1) {
        message->original->on_done(message->original, OUTCOME_OK, NULL);
    }
}

static void on_published(struct operation *operation, enum outcome outcome, const char *text)
{
    struct message *message = operation->owner;
    if (outcome == OUTCOME_OK) {
        count_down(message);
    } else if (atomic_exchange(&message->awaiting, 0) > 0) {
        message->original->on_done(message->original, outcome, text);
    }
}

static void fanout_start(struct target *base, struct operation *operation)
{
    struct fanout *fanout = (struct fanout *)(void *)base;
    struct message *message = &fanout->messages[operation->index];
    message->original = operation;
    message->operation.index = operation->index;
    message->operation.number = operation->number;
    message->operation.intended_ns = operation->intended_ns;
    message->operation.on_done = on_published;
    message->operation.owner = message;
    message->intended_ns = operation->intended_ns;
    message->awaiting = (int)fanout->options->subscribers + 1;
    fanout->publisher->start(fanout->publisher, &message->operation);
}

static void fanout_flush(struct target *base)
{
    struct fanout *fanout = (struct fanout *)(void *)base;
    if (fanout->publisher->flush != NULL) {
        fanout->publisher->flush(fanout->publisher);
    }
}

/* ---- deliveries ---- */

static void on_marker(struct fanout *fanout, const char *marker, uint64_t now)
{
    const char *digits = marker + sizeof(MARKER) - 1;
    uint64_t intended_ns = payload_number(digits, MARKER_TIME_DIGITS);
    uint64_t index = payload_number(digits + MARKER_TIME_DIGITS, MARKER_INDEX_DIGITS);
    if (index >= fanout->options->in_flight) {
        return;
    }
    struct message *message = &fanout->messages[index];
    if (message->intended_ns != intended_ns || message->awaiting <= 0) {
        fanout->result.surplus++;
        return;
    }
    uint64_t begin_ns = 0;
    uint64_t end_ns = UINT64_MAX;
    load_window(fanout->load, &begin_ns, &end_ns);
    uint64_t moment = fanout->options->rate > 0 ? intended_ns : now;
    if (moment >= begin_ns && moment < end_ns) {
        fanout->result.delivered++;
        histogram_add(&fanout->result.delivery, now - intended_ns);
    }
    count_down(message);
}

static void scan(struct fanout *fanout, const char *text, size_t size, size_t starts_max)
{
    uint64_t now = now_ns();
    const char *at = text;
    const char *end = text + size;
    for (;;) {
        at = memmem(at, (size_t)(end - at), MARKER, sizeof(MARKER) - 1);
        if (at == NULL || (size_t)(end - at) < MARKER_BYTES || (size_t)(at - text) >= starts_max) {
            return;
        }
        on_marker(fanout, at, now);
        at += MARKER_BYTES;
    }
}

/* Finds markers that began in an earlier piece, then those in this one, and keeps the end. */
static void scan_piece(struct fanout *fanout, struct subscriber *subscriber, struct bytes piece)
{
    char seam[2 * TAIL_BYTES_MAX];
    size_t from_piece = piece.size < TAIL_BYTES_MAX ? piece.size : TAIL_BYTES_MAX;
    memcpy(seam, subscriber->tail, subscriber->tail_bytes);
    memcpy(seam + subscriber->tail_bytes, piece.data, from_piece);
    size_t seam_bytes = subscriber->tail_bytes + from_piece;
    if (subscriber->tail_bytes > 0) {
        scan(fanout, seam, seam_bytes, subscriber->tail_bytes);
    }
    scan(fanout, piece.data, piece.size, piece.size);
    if (piece.size >= TAIL_BYTES_MAX) {
        memcpy(subscriber->tail, (const char *)piece.data + piece.size - TAIL_BYTES_MAX,
               TAIL_BYTES_MAX);
        subscriber->tail_bytes = TAIL_BYTES_MAX;
        return;
    }
    size_t kept = seam_bytes < TAIL_BYTES_MAX ? seam_bytes : TAIL_BYTES_MAX;
    memmove(subscriber->tail, seam + seam_bytes - kept, kept);
    subscriber->tail_bytes = kept;
}

static void await_ready(struct fanout *fanout, struct subscriber *subscriber, struct bytes piece)
{
    const char *sign = fanout->is_nats ? "PONG" : "\"lastSequence\"";
    if (memmem(piece.data, piece.size, sign, strlen(sign)) == NULL) {
        return;
    }
    subscriber->is_ready = true;
    pthread_mutex_lock(&fanout->lock);
    fanout->ready_count++;
    pthread_mutex_unlock(&fanout->lock);
}

static void on_open(void *context, struct socket *socket)
{
    struct fanout *fanout = context;
    struct buf text = {0};
    if (fanout->is_nats) {
        buf_printf(&text,
                   "CONNECT {\"verbose\":false,\"pedantic\":false,\"lang\":\"c\",\"version\":\"1\","
                   "\"protocol\":1}\r\nSUB %s.messages 1\r\nPING\r\n",
                   fanout->options->channel);
    } else {
        buf_printf(&text,
                   "{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"Subscribe\",\"params\":{"
                   "\"channelId\":\"%s\",\"liveOnly\":true,\"encoding\":\"text\"}}",
                   fanout->options->channel);
    }
    socket_send(socket, buf_bytes(&text));
    buf_finish(&text);
}

static void on_data(void *context, struct socket *socket, struct bytes piece, bool is_end)
{
    struct fanout *fanout = context;
    struct subscriber *subscriber = &fanout->subscribers[socket_index(socket)];
    if (!subscriber->is_ready) {
        await_ready(fanout, subscriber, piece);
        return;
    }
    if (fanout->is_nats && piece.size == 6 && memcmp(piece.data, "PING\r\n", 6) == 0) {
        socket_send(socket, bytes_of_text("PONG\r\n"));
        return;
    }
    scan_piece(fanout, subscriber, piece);
}

static void on_closed(void *context, struct socket *socket)
{
    struct fanout *fanout = context;
    pthread_mutex_lock(&fanout->lock);
    fanout->result.lost_connections++;
    pthread_mutex_unlock(&fanout->lock);
}

/* ---- life ---- */

static int connect_subscribers(struct fanout *fanout)
{
    struct socket_pool_options options = {
        .addresses = fanout->options->addresses,
        .address_count = fanout->options->address_count,
        .socket_count = fanout->options->subscribers,
        .path = fanout->is_nats ? "/" : "/ws",
        .subprotocol = fanout->is_nats ? NULL : "raftogram.v1.json",
        .is_binary = fanout->is_nats,
    };
    struct socket_events events = {on_open, on_data, on_closed, fanout};
    return socket_pool_create(&options, &events, &fanout->pool);
}

static int fanout_prepare(struct target *base, uint64_t deadline_ns)
{
    struct fanout *fanout = (struct fanout *)(void *)base;
    int rc = fanout->publisher->prepare(fanout->publisher, deadline_ns);
    if (rc == 0) {
        rc = connect_subscribers(fanout);
    }
    if (rc != 0) {
        return rc;
    }
    while (now_ns() < deadline_ns) {
        pthread_mutex_lock(&fanout->lock);
        bool is_ready = fanout->ready_count == fanout->options->subscribers;
        bool is_broken = fanout->result.lost_connections > 0;
        pthread_mutex_unlock(&fanout->lock);
        if (is_broken) {
            return ERR_IO;
        }
        if (is_ready) {
            return 0;
        }
        nanosleep(&(struct timespec){.tv_nsec = (long)POLL_PAUSE_NS}, NULL);
    }
    return ERR_TIMEOUT;
}

static void fanout_stop(struct target *base)
{
    struct fanout *fanout = (struct fanout *)(void *)base;
    if (fanout->publisher != NULL) {
        fanout->publisher->destroy(fanout->publisher);
        fanout->publisher = NULL;
    }
    socket_pool_destroy(fanout->pool);
    fanout->pool = NULL;
}

int fanout_create(const struct options *options, bool is_nats, struct target *publisher,
                  struct fanout **out)
{
    struct fanout *fanout = calloc(1, sizeof(*fanout));
    if (fanout == NULL) {
        publisher->destroy(publisher);
        return ERR_NOMEM;
    }
    fanout->base = (struct target){fanout_prepare, fanout_start, fanout_flush, fanout_stop};
    fanout->options = options;
    fanout->is_nats = is_nats;
    fanout->publisher = publisher;
    pthread_mutex_init(&fanout->lock, NULL);
    histogram_init(&fanout->result.delivery);
    fanout->subscribers = calloc(options->subscribers, sizeof(*fanout->subscribers));
    fanout->messages = calloc(options->in_flight, sizeof(*fanout->messages));
    if (fanout->subscribers == NULL || fanout->messages == NULL) {
        fanout_destroy(fanout);
        return ERR_NOMEM;
    }
    *out = fanout;
    return 0;
}

struct target *fanout_target(struct fanout *fanout)
{
    return &fanout->base;
}

void fanout_watch(struct fanout *fanout, const struct load *load)
{
    fanout->load = load;
}

const struct fanout_result *fanout_result(struct fanout *fanout)
{
    return &fanout->result;
}

void fanout_destroy(struct fanout *fanout)
{
    if (fanout == NULL) {
        return;
    }
    fanout_stop(&fanout->base);
    pthread_mutex_destroy(&fanout->lock);
    free(fanout->subscribers);
    free(fanout->messages);
    free(fanout);
}
