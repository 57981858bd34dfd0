/* The text protocol of NATS over TCP: publishing to a JetStream stream with acknowledgement, and
 * plain publishing. One thread reads all connections. The thread that starts an operation writes.
 */
#include "base/address.h"
#include "base/buf.h"
#include "base/check.h"
#include "base/clock.h"
#include "base/errors.h"
#include "bench/targets.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define IN_FLIGHT_PER_CONNECTION 64u
#define NATS_CONNECTIONS_MAX (ADDRESSES_MAX * 16)
#define READ_BYTES 65536u
#define LINE_BYTES_MAX 65536u /* INFO may be long */
#define POLL_MS 20
#define REQUEST_NS NS_PER_S
#define REQUEST_PAUSE_NS (5 * NS_PER_MS)
/* Subjects of answers: those of operations end in the index of the operation, those of preparation
 * in this. */
#define PREPARE_TOKEN "prepare"

struct connection {
    int fd; /* -1: none; written under the lock */
    const char *address;
    pthread_mutex_t lock; /* of out and of writing */
    struct buf out;
    struct buf in; /* the reader's */
};

struct nats_target {
    struct target base;
    const struct options *options;
    enum nats_work work;
    struct connection connections[NATS_CONNECTIONS_MAX];
    size_t connection_count;
    pthread_t reader;
    atomic_bool is_ending;
    pthread_mutex_t lock;
    pthread_cond_t answered;
    bool has_answer; /* of preparation */
    bool is_answer_ok;
    struct operation **operations; /* by index; NULL: not running */
    size_t *connection_of;         /* by index */
};

static uint64_t now_ns(void)
{
    return clock_monotonic_ns(clock_system());
}

/* ---- connections ---- */

static int dial(const char *text)
{
    struct address address;
    if (address_split(text, &address, NULL) != 0) {
        return -1;
    }
    struct sockaddr_in where = {.sin_family = AF_INET, .sin_port = htons(address.port)};
    if (inet_pton(AF_INET, address.host, &where.sin_addr) != 1) {
        return -1;
    }
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0) {
        return -1;
    }
    if (connect(fd, (struct sockaddr *)&where, sizeof(where)) != 0) {
        close(fd);
        return -1;
    }
    int one = 1;
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
    return fd;
}

/* Under the connection's lock. */
static void write_out(struct connection *connection)
{
    size_t sent = 0;
    while (connection->fd >= 0 && sent < connection->out.size) {
        ssize_t count = send(connection->fd, connection->out.data + sent,
                             connection->out.size - sent, MSG_NOSIGNAL);
        if (count < 0 && errno != EINTR) {
            break; /* the reader notices the end of the connection */
        }
        sent += count > 0 ? (size_t)count : 0;
    }
    buf_reset(&connection->out);
}

static void flush_all(struct nats_target *target)
{
    for (size_t i = 0; i < target->connection_count; i++) {
        struct connection *connection = &target->connections[i];
        pthread_mutex_lock(&connection->lock);
        write_out(connection);
        pthread_mutex_unlock(&connection->lock);
    }
}

static void connect_missing(struct nats_target *target)
{
    for (size_t i = 0; i < target->connection_count; i++) {
        struct connection *connection = &target->connections[i];
        pthread_mutex_lock(&connection->lock);
        if (connection->fd < 0) {
            connection->fd = dial(connection->address);
            buf_printf(&connection->out,
                       "CONNECT {\"verbose\":false,\"pedantic\":false,\"lang\":\"c\","
                       "\"version\":\"1\",\"protocol\":1}\r\nSUB _INBOX.bench%d.%zu.* 1\r\n",
                       (int)getpid(), i);
            write_out(connection);
        }
        pthread_mutex_unlock(&connection->lock);
    }
}

/* ---- reading ---- */

static struct operation *take_operation(struct nats_target *target, uint64_t index)
{
    pthread_mutex_lock(&target->lock);
    struct operation *operation = NULL;
    if (index < target->options->in_flight) {
        operation = target->operations[index];
        target->operations[index] = NULL;
    }
    pthread_mutex_unlock(&target->lock);
    return operation;
}

static bool has_text(struct bytes bytes, const char *text)
{
    return memmem(bytes.data, bytes.size, text, strlen(text)) != NULL;
}

/* Handles an answer. `token` is the last part of its subject. */
static void on_answer(struct nats_target *target, const char *token, struct bytes payload)
{
    bool is_ok = !has_text(payload, "\"error\"");
    if (strncmp(token, PREPARE_TOKEN, strlen(PREPARE_TOKEN)) == 0) {
        pthread_mutex_lock(&target->lock);
        target->has_answer = true;
        target->is_answer_ok = is_ok;
        pthread_cond_signal(&target->answered);
        pthread_mutex_unlock(&target->lock);
        return;
    }
    struct operation *operation = take_operation(target, strtoull(token, NULL, 10));
    if (operation != NULL) {
        char text[LOAD_TEXT_BYTES];
        snprintf(text, sizeof(text), "%.*s", (int)(payload.size < 150 ? payload.size : 150),
                 (const char *)payload.data);
        operation->on_done(operation, is_ok ? OUTCOME_OK : OUTCOME_ERROR, text);
    }
}

static void answer_ping(struct connection *connection)
{
    pthread_mutex_lock(&connection->lock);
    buf_append_text(&connection->out, "PONG\r\n");
    write_out(connection);
    pthread_mutex_unlock(&connection->lock);
}

/* Handles one protocol line and its payload. Returns its size; 0 if it is incomplete. */
static size_t handle_one(struct nats_target *target, struct connection *connection,
                         struct bytes bytes)
{
    const char *text = bytes.data;
    const char *end = memmem(text, bytes.size, "\r\n", 2);
    if (end == NULL) {
        return 0;
    }
    size_t line_bytes = (size_t)(end - text) + 2;
    if (strncmp(text, "PING", 4) == 0) {
        answer_ping(connection);
    }
    if (strncmp(text, "MSG ", 4) != 0) {
        return line_bytes;
    }
    /* MSG <subject> <sid> [<reply>] <size> */
    const char *size_text = memrchr(text, ' ', line_bytes - 2);
    size_t payload_bytes = strtoul(size_text, NULL, 10);
    if (bytes.size < line_bytes + payload_bytes + 2) {
        return 0;
    }
    const char *subject_end = memchr(text + 4, ' ', line_bytes - 4);
    const char *dot = memrchr(text, '.', (size_t)(subject_end - text));
    if (dot != NULL) {
        on_answer(target, dot + 1, (struct bytes){text + line_bytes, payload_bytes});
    }
    return line_bytes + payload_bytes + 2;
}

static void lose_connection(struct nats_target *target, struct connection *connection)
{
    pthread_mutex_lock(&connection->lock);
    close(connection->fd);
    connection->fd = -1;
    buf_reset(&connection->out);
    pthread_mutex_unlock(&connection->lock);
    buf_reset(&connection->in);
    size_t place = (size_t)(connection - target->connections);
    for (uint32_t i = 0; i < target->options->in_flight; i++) {
        pthread_mutex_lock(&target->lock);
        bool is_of_it = target->operations[i] != NULL && target->connection_of[i] == place;
        pthread_mutex_unlock(&target->lock);
        struct operation *operation = is_of_it ? take_operation(target, i) : NULL;
        if (operation != NULL) {
            operation->on_done(operation, OUTCOME_ERROR, "connection lost before the ack");
        }
    }
}

static void read_connection(struct nats_target *target, struct connection *connection)
{
    void *room = buf_extend(&connection->in, READ_BYTES);
    CHECK(room != NULL);
    ssize_t count = recv(connection->fd, room, READ_BYTES, MSG_DONTWAIT);
    connection->in.size -= READ_BYTES - (count > 0 ? (size_t)count : 0);
    if (count == 0 || (count < 0 && errno != EAGAIN && errno != EINTR)) {
        lose_connection(target, connection);
        return;
    }
    size_t done = 0;
    for (;;) {
        struct bytes rest = {connection->in.data + done, connection->in.size - done};
        size_t used = handle_one(target, connection, rest);
        if (used == 0) {
            CHECK(rest.size < LINE_BYTES_MAX + PAYLOAD_BYTES_MAX);
            break;
        }
        done += used;
    }
    memmove(connection->in.data, connection->in.data + done, connection->in.size - done);
    connection->in.size -= done;
}

static void *run_reader(void *context)
{
    struct nats_target *target = context;
    struct pollfd fds[NATS_CONNECTIONS_MAX];
    while (!target->is_ending) {
        for (size_t i = 0; i < target->connection_count; i++) {
            pthread_mutex_lock(&target->connections[i].lock);
            fds[i] = (struct pollfd){.fd = target->connections[i].fd, .events = POLLIN};
            pthread_mutex_unlock(&target->connections[i].lock);
        }
        if (poll(fds, target->connection_count, POLL_MS) <= 0) {
            continue;
        }
        for (size_t i = 0; i < target->connection_count; i++) {
            if (fds[i].revents != 0) {
                read_connection(target, &target->connections[i]);
            }
        }
        /* Operations that the answers started are sent with one write for each connection. */
        flush_all(target);
    }
    return NULL;
}

/* ---- operations ---- */

static void nats_start(struct target *base, struct operation *operation)
{
    struct nats_target *target = (struct nats_target *)(void *)base;
    size_t place = operation->number % target->connection_count;
    struct connection *connection = &target->connections[place];
    char payload[PAYLOAD_BYTES_MAX];
    payload_fill(payload, target->options->payload_bytes, operation);
    bool is_acknowledged = target->work == NATS_JETSTREAM;
    if (is_acknowledged) {
        pthread_mutex_lock(&target->lock);
        target->operations[operation->index] = operation;
        target->connection_of[operation->index] = place;
        pthread_mutex_unlock(&target->lock);
    }
    pthread_mutex_lock(&connection->lock);
    bool is_connected = connection->fd >= 0;
    if (is_connected && is_acknowledged) {
        buf_printf(&connection->out, "PUB %s.messages _INBOX.bench%d.%zu.%u %u\r\n",
                   target->options->channel, (int)getpid(), place, operation->index,
                   target->options->payload_bytes);
    } else if (is_connected) {
        buf_printf(&connection->out, "PUB %s.messages %u\r\n", target->options->channel,
                   target->options->payload_bytes);
    }
    if (is_connected) {
        buf_append(&connection->out, payload, target->options->payload_bytes);
        buf_append_text(&connection->out, "\r\n");
        if (!is_acknowledged) {
            write_out(connection);
        }
    }
    pthread_mutex_unlock(&connection->lock);
    if (!is_acknowledged) {
        operation->on_done(operation, is_connected ? OUTCOME_OK : OUTCOME_REFUSED, NULL);
    } else if (!is_connected && take_operation(target, operation->index) != NULL) {
        operation->on_done(operation, OUTCOME_REFUSED, NULL);
    }
}

static void nats_flush(struct target *base)
{
    flush_all((struct nats_target *)(void *)base);
}

/* ---- preparation ---- */

/* Sends one request over any connection. Returns true if the answer is not an error. */
static bool request(struct nats_target *target, const char *subject, const char *body)
{
    connect_missing(target);
    pthread_mutex_lock(&target->lock);
    target->has_answer = false;
    pthread_mutex_unlock(&target->lock);
    for (size_t i = 0; i < target->connection_count; i++) {
        struct connection *connection = &target->connections[i];
        pthread_mutex_lock(&connection->lock);
        bool is_connected = connection->fd >= 0;
        if (is_connected) {
            buf_printf(&connection->out,
                       "PUB %s _INBOX.bench%d.%zu." PREPARE_TOKEN " %zu\r\n%s\r\n", subject,
                       (int)getpid(), i, strlen(body), body);
            write_out(connection);
        }
        pthread_mutex_unlock(&connection->lock);
        if (is_connected) {
            break;
        }
    }
    struct timespec until;
    clock_gettime(CLOCK_REALTIME, &until);
    until.tv_sec += (time_t)(REQUEST_NS / NS_PER_S);
    pthread_mutex_lock(&target->lock);
    int rc = 0;
    while (!target->has_answer && rc == 0) {
        rc = pthread_cond_timedwait(&target->answered, &target->lock, &until);
    }
    bool is_ok = target->has_answer && target->is_answer_ok;
    pthread_mutex_unlock(&target->lock);
    return is_ok;
}

static int nats_prepare(struct target *base, uint64_t deadline_ns)
{
    struct nats_target *target = (struct nats_target *)(void *)base;
    const char *channel = target->options->channel;
    char subject[CHANNEL_BYTES_MAX + 64];
    char body[2 * CHANNEL_BYTES_MAX + 128];
    if (target->work == NATS_CORE) {
        connect_missing(target);
        return target->connections[0].fd >= 0 ? 0 : ERR_TIMEOUT;
    }
    snprintf(subject, sizeof(subject), "$JS.API.STREAM.CREATE.%s", channel);
    snprintf(body, sizeof(body),
             "{\"name\":\"%s\",\"subjects\":[\"%s.messages\"],\"num_replicas\":3,"
             "\"storage\":\"file\"}",
             channel, channel);
    bool is_created = false;
    bool is_written = false;
    while (!is_written && now_ns() < deadline_ns) {
        is_created = is_created || request(target, subject, body);
        if (is_created) {
            snprintf(subject, sizeof(subject), "%s.messages", channel);
            is_written = request(target, subject, "first");
        }
        if (!is_written) {
            nanosleep(&(struct timespec){.tv_nsec = (long)REQUEST_PAUSE_NS}, NULL);
        }
    }
    return is_written ? 0 : ERR_TIMEOUT;
}

/* ---- life ---- */

static void nats_free(struct nats_target *target)
{
    for (size_t i = 0; i < target->connection_count; i++) {
        struct connection *connection = &target->connections[i];
        if (connection->fd >= 0) {
            close(connection->fd);
        }
        buf_finish(&connection->out);
        buf_finish(&connection->in);
        pthread_mutex_destroy(&connection->lock);
    }
    pthread_cond_destroy(&target->answered);
    pthread_mutex_destroy(&target->lock);
    free(target->operations);
    free(target->connection_of);
    free(target);
}

static void nats_destroy(struct target *base)
{
    struct nats_target *target = (struct nats_target *)(void *)base;
    target->is_ending = true;
    pthread_join(target->reader, NULL);
    nats_free(target);
}

int nats_target_create(const struct options *options, enum nats_work work, struct target **out)
{
    struct nats_target *target = calloc(1, sizeof(*target));
    if (target == NULL) {
        return ERR_NOMEM;
    }
    target->base = (struct target){nats_prepare, nats_start, nats_flush, nats_destroy};
    target->options = options;
    target->work = work;
    pthread_mutex_init(&target->lock, NULL);
    pthread_cond_init(&target->answered, NULL);
    size_t per_address = options->connections;
    if (per_address == 0) {
        bool is_single = options->rate > 0 || work == NATS_CORE;
        per_address = is_single ? 1 : 1 + (options->in_flight - 1) / IN_FLIGHT_PER_CONNECTION;
    }
    size_t wanted = per_address * options->address_count;
    for (size_t i = 0; i < wanted && i < NATS_CONNECTIONS_MAX; i++) {
        struct connection *connection = &target->connections[target->connection_count++];
        connection->fd = -1;
        connection->address = options->addresses[i % options->address_count];
        pthread_mutex_init(&connection->lock, NULL);
    }
    target->operations = calloc(options->in_flight, sizeof(*target->operations));
    target->connection_of = calloc(options->in_flight, sizeof(*target->connection_of));
    if (target->operations == NULL || target->connection_of == NULL) {
        nats_free(target);
        return ERR_NOMEM;
    }
    if (pthread_create(&target->reader, NULL, run_reader, target) != 0) {
        nats_free(target);
        return ERR_IO;
    }
    *out = &target->base;
    return 0;
}
