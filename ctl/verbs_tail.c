/* tail: a subscription that outlives the node it is read from. The loop's thread prints what
 * arrives, so that a slow reader of our output slows the stream and nothing is kept here. The main
 * thread waits: for the end of the stream, a signal, or the end of who reads us. */
#include "base/clock.h"
#include "output.h"
#include "raftogram/v1/messaging.pb-c.h"
#include "verbs.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#define SUBSCRIBE_PATH "/raftogram.v1.Messenger/Subscribe"
#define LIST_CHANNELS_PATH "/raftogram.v1.Messenger/ListChannels"
#define STATUS_PATH "/raftogram.v1.Cluster/Status"
#define ESTABLISH_MS_MAX 2000 /* a node that takes longer is passed over */
#define CANCEL_MS_MAX 500
#define BACKOFF_MS_MIN 20
#define BACKOFF_MS_MAX 500

struct tail {
    struct cluster *cluster;
    const struct arguments *arguments;
    char cluster_id[CLUSTER_ID_BYTES_MAX + 1]; /* where the cursor belongs */
    size_t index;                              /* of the address in use */
    bool has_stood;                            /* a stream was in place before */
    struct rpc_client_call *call;
    atomic_bool is_established;
    atomic_bool is_closed;
    /* The loop's thread while the stream is open, else the main thread. */
    uint64_t cursor; /* the last sequence that was printed */
    struct message_output output;
    struct answer end;
};

/* ---- waking the main thread ---- */

static int wake_fd = -1;
static volatile sig_atomic_t is_interrupted;

static void wake(void)
{
    uint64_t one = 1;
    /* It can only be full, and then it wakes anyway. */
    ssize_t written = write(wake_fd, &one, sizeof(one));
    (void)written;
}

static void on_signal(int number)
{
    int saved = errno;
    is_interrupted = 1;
    wake();
    errno = saved;
}

static int catch_signals(void)
{
    wake_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    if (wake_fd < 0) {
        complain("cannot wait for events: %s", strerror(errno));
        return EXIT_REFUSED;
    }
    const struct sigaction action = {.sa_handler = on_signal, .sa_flags = SA_RESTART};
    sigaction(SIGINT, &action, NULL);
    sigaction(SIGTERM, &action, NULL);
    return 0;
}

static bool is_output_gone(void)
{
    struct pollfd fd = {.fd = STDOUT_FILENO};
    return ferror(stdout) != 0 || (poll(&fd, 1, 0) == 1 && fd.revents != 0);
}

static bool is_stopping(void)
{
    return is_interrupted != 0 || is_output_gone();
}

/* Until somebody wakes it, our output's reader goes, or the time is up (-1: never). */
static void wait_for_events(int timeout_ms)
{
    struct pollfd fds[] = {{.fd = wake_fd, .events = POLLIN}, {.fd = STDOUT_FILENO}};
    if (poll(fds, 2, timeout_ms) > 0 && (fds[0].revents & POLLIN) != 0) {
        uint64_t count;
        ssize_t got = read(wake_fd, &count, sizeof(count));
        (void)got;
    }
}

static uint64_t now_ns(void)
{
    return clock_monotonic_ns(clock_system());
}

/* Waits until `flag`, a stop, or `timeout_ms`. Returns the flag. */
static bool await(const atomic_bool *flag, const atomic_bool *other, uint64_t timeout_ms,
                  bool is_stop_heeded)
{
    uint64_t deadline_ns = now_ns() + timeout_ms * NS_PER_MS;
    for (;;) {
        uint64_t now = now_ns();
        if (atomic_load(flag) || (other != NULL && atomic_load(other)) || now >= deadline_ns ||
            (is_stop_heeded && is_stopping())) {
            return atomic_load(flag);
        }
        wait_for_events((int)((deadline_ns - now) / NS_PER_MS) + 1);
    }
}

/* ---- the stream, on the loop's thread ---- */

static void on_headers(void *context)
{
    struct tail *tail = context;
    atomic_store(&tail->is_established, true);
    wake();
}

static void on_message(void *context, struct bytes message)
{
    struct tail *tail = context;
    Raftogram__V1__SubscribeChunk *chunk =
        raftogram__v1__subscribe_chunk__unpack(NULL, message.size, message.data);
    if (chunk == NULL) {
        rpc_client_cancel(tail->call);
        return;
    }
    size_t first = 0;
    while (first < chunk->n_messages && chunk->messages[first]->sequence <= tail->cursor) {
        first++;
    }
    if (first < chunk->n_messages) {
        message_output_print(&tail->output, chunk->messages + first, chunk->n_messages - first);
        tail->cursor = chunk->messages[chunk->n_messages - 1]->sequence;
        fflush(stdout);
    }
    raftogram__v1__subscribe_chunk__free_unpacked(chunk, NULL);
    if (ferror(stdout) != 0) {
        wake();
    }
}

static void on_closed(void *context, const struct rpc_result *result)
{
    struct tail *tail = context;
    answer_of_result(result, &tail->end);
    atomic_store(&tail->is_closed, true);
    wake();
}

static bool open_stream(struct tail *tail)
{
    Raftogram__V1__SubscribeRequest request = RAFTOGRAM__V1__SUBSCRIBE_REQUEST__INIT;
    request.channel_id = tail->arguments->operands[0];
    request.after_sequence = tail->cursor;
    request.cluster_id = tail->cluster_id;
    struct buf packed = {0};
    uint8_t *data =
        buf_extend(&packed, raftogram__v1__subscribe_request__get_packed_size(&request));
    struct rpc_channel *channel = cluster_channel(tail->cluster, tail->index);
    const struct rpc_client_options options = {.path = SUBSCRIBE_PATH, .deadline_ns = UINT64_MAX};
    const struct rpc_client_events events = {on_headers, on_message, NULL, on_closed, tail};
    bool is_open = false;
    if (data != NULL && channel != NULL) {
        raftogram__v1__subscribe_request__pack(&request, data);
        is_open = rpc_stream_open(channel, &options, &events, &tail->call) == 0;
    }
    if (is_open) {
        /* It fails when the stream has ended already, which is told by on_closed. */
        (void)rpc_stream_send(tail->call, buf_bytes(&packed), false);
        rpc_stream_close_send(tail->call);
    }
    buf_finish(&packed);
    return is_open;
}

/* ---- the main thread ---- */

/* The loop's thread may stand in a write to who reads us. Then nobody else needs us either: what
 * has been printed is with them. */
static void close_stream(struct tail *tail)
{
    rpc_client_cancel(tail->call);
    if (!await(&tail->is_closed, NULL, CANCEL_MS_MAX, false)) {
        _exit(EXIT_DONE);
    }
}

/* Follows one node until its stream ends or we stop. Returns whether the stream stood. */
static bool follow_node(struct tail *tail, uint64_t establish_ms)
{
    const char *address = cluster_address(tail->cluster, tail->index);
    tail->end = (struct answer){.code = GRPC_STATUS_RESOURCE_EXHAUSTED, .message = "out of memory"};
    atomic_store(&tail->is_established, false);
    atomic_store(&tail->is_closed, false);
    if (!open_stream(tail)) {
        return false;
    }
    if (await(&tail->is_established, &tail->is_closed, establish_ms, true)) {
        if (tail->has_stood) {
            complain("goes on at %s", address);
        }
        tail->has_stood = true;
    }
    while (atomic_load(&tail->is_established) && !atomic_load(&tail->is_closed) && !is_stopping()) {
        wait_for_events(-1);
    }
    if (!atomic_load(&tail->is_closed)) {
        close_stream(tail);
        snprintf(tail->end.message, sizeof(tail->end.message), "no answer");
    }
    rpc_client_release(tail->call);
    tail->call = NULL;
    return atomic_load(&tail->is_established);
}

/* The cluster said no: another node would say the same. */
static bool is_final(const struct answer *end)
{
    return end->code != GRPC_STATUS_OK && end->code != GRPC_STATUS_RESOURCE_EXHAUSTED &&
           answer_classify(end) == ANSWER_REFUSED;
}

static int follow_cluster(struct tail *tail)
{
    const struct arguments *arguments = tail->arguments;
    uint64_t timeout_ns = arguments->timeout_ms * NS_PER_MS;
    uint64_t give_up_ns = now_ns() + timeout_ns;
    uint64_t backoff_ms = BACKOFF_MS_MIN;
    while (!is_stopping()) {
        uint64_t now = now_ns();
        uint64_t left_ms = give_up_ns > now ? (give_up_ns - now) / NS_PER_MS : 0;
        bool stood = follow_node(tail, left_ms < ESTABLISH_MS_MAX ? left_ms : ESTABLISH_MS_MAX);
        const char *address = cluster_address(tail->cluster, tail->index);
        if (is_stopping()) {
            break;
        }
        if (is_final(&tail->end)) {
            complain("%s (%s)", tail->end.message, tail->end.reason);
            return EXIT_REFUSED;
        }
        if (stood) {
            complain("lost %s after %llu: %s", address, (unsigned long long)tail->cursor,
                     tail->end.message);
            backoff_ms = BACKOFF_MS_MIN;
            /* Who has not asked for a limit wants it to go on once there is a cluster again. */
            give_up_ns = arguments->has_timeout ? now_ns() + timeout_ns : UINT64_MAX;
        }
        if (now_ns() >= give_up_ns) {
            complain("the cluster is unavailable; %s: %s", address, tail->end.message);
            return EXIT_UNAVAILABLE;
        }
        atomic_bool never = false;
        await(&never, NULL, backoff_ms, true);
        backoff_ms = backoff_ms * 2 < BACKOFF_MS_MAX ? backoff_ms * 2 : BACKOFF_MS_MAX;
        tail->index = (tail->index + 1) % cluster_address_count(tail->cluster);
    }
    return EXIT_DONE;
}

/* ---- where it begins ---- */

/* Learns the members, to go on elsewhere, and the cluster's identity. */
static int learn_cluster(struct tail *tail)
{
    Raftogram__V1__StatusRequest request = RAFTOGRAM__V1__STATUS_REQUEST__INIT;
    Raftogram__V1__StatusResponse *status;
    const struct cluster_call call = {
        .kind = CALL_READ,
        .path = STATUS_PATH,
        .request = &request.base,
        .response = &raftogram__v1__status_response__descriptor,
    };
    int code = cluster_call(tail->cluster, &call, (ProtobufCMessage **)&status);
    if (code != 0) {
        return code;
    }
    cluster_learn_members(tail->cluster, status);
    snprintf(tail->cluster_id, sizeof(tail->cluster_id), "%s", status->cluster_id);
    raftogram__v1__status_response__free_unpacked(status, NULL);
    return 0;
}

/* -live is a cursor too, and not the service's live_only: if the first node is lost before
 * anything was received, the next one must begin where that one did. */
static int find_end(struct tail *tail)
{
    Raftogram__V1__ListChannelsRequest request = RAFTOGRAM__V1__LIST_CHANNELS_REQUEST__INIT;
    Raftogram__V1__ListChannelsResponse *page;
    /* The id itself is the first of those that begin with it. */
    request.prefix = tail->arguments->operands[0];
    request.limit = 1;
    const struct cluster_call call = {
        .kind = CALL_READ,
        .path = LIST_CHANNELS_PATH,
        .request = &request.base,
        .response = &raftogram__v1__list_channels_response__descriptor,
    };
    int code = cluster_call(tail->cluster, &call, (ProtobufCMessage **)&page);
    if (code != 0) {
        return code;
    }
    if (page->n_channels == 0 || strcmp(page->channels[0]->channel_id, request.prefix) != 0) {
        complain("no such channel (CHANNEL_NOT_FOUND)");
        code = EXIT_REFUSED;
    } else {
        tail->cursor = page->channels[0]->last_sequence;
    }
    raftogram__v1__list_channels_response__free_unpacked(page, NULL);
    return code;
}

static int run_tail(struct cluster *cluster, const struct arguments *arguments)
{
    if (arguments->is_live && (arguments->options & OPTION_AFTER) != 0) {
        complain("-live and -after exclude each other; see raftogramctl tail -h");
        return EXIT_USAGE;
    }
    struct tail tail = {
        .cluster = cluster,
        .arguments = arguments,
        .cursor = arguments->after,
    };
    int code = learn_cluster(&tail);
    if (code == 0 && arguments->is_live) {
        code = find_end(&tail);
    }
    if (code == 0) {
        code = catch_signals();
    }
    if (code != 0) {
        return code;
    }
    tail.index = cluster_current(cluster);
    message_output_init(&tail.output, arguments->is_json);
    code = follow_cluster(&tail);
    message_output_finish(&tail.output);
    close(wake_fd);
    return code;
}

const struct verb verb_tail = {
    .name = "tail",
    .synopsis = "CHANNEL [-after N|-live]",
    .summary = "Follows a channel",
    .help = "  -after N    only messages with a sequence over N (default 0: from the beginning)\n"
            "  -live       only new messages\n"
            "\n"
            "Prints each message once and in order, and goes on at another node when its own is\n"
            "lost, without a gap or a duplicate. Ends with Ctrl-C (exit code 0). -timeout is how\n"
            "long it tries to begin; when given, also how long it tries to go on after a loss\n"
            "(default: for ever).\n"
            "\n"
            "Examples:\n"
            "  raftogramctl tail general\n"
            "  raftogramctl tail general -live\n"
            "  raftogramctl tail general -after 42 -o json | jq -r '.payload|@base64d'\n",
    .operands_min = 1,
    .operands_max = 1,
    .options = OPTION_AFTER | OPTION_LIVE,
    .run = run_tail,
};
