/* tail: a subscription that continues at another node when its node is lost. The loop's thread
 * prints the messages, so that a slow reader of stdout slows the stream and nothing is queued. The
 * main thread waits for the end of the stream, a signal, or the loss of stdout's reader. */
#include "base/clock.h"
#include "complain.h"
#include "output.h"
#include "raftogram/v1/messaging.pb-c.h"
#include "stop.h"
#include "verbs.h"

#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define SUBSCRIBE_PATH "/raftogram.v1.Messenger/Subscribe"
#define STATUS_PATH "/raftogram.v1.Cluster/Status"
#define ESTABLISH_MS_MAX 2000 /* a node that takes longer is skipped */
#define CANCEL_MS_MAX 500
#define BACKOFF_MS_MIN 20
#define BACKOFF_MS_MAX 500

struct tail {
    struct cluster *cluster;
    const struct arguments *arguments;
    char cluster_id[CLUSTER_ID_BYTES_MAX + 1]; /* the cluster that `cursor` belongs to */
    size_t index;                              /* of the address in use */
    bool has_stood;                            /* a stream was established before */
    struct rpc_client_call *call;
    atomic_bool is_established;
    atomic_bool is_closed;
    /* Used by the loop's thread while the stream is open, else by the main thread. */
    uint64_t cursor; /* the last sequence that was printed */
    struct message_output output;
    struct answer end;
};

/* ---- waiting ---- */

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
            (is_stop_heeded && stop_is_wanted())) {
            return atomic_load(flag);
        }
        stop_wait((int)((deadline_ns - now) / NS_PER_MS) + 1);
    }
}

/* ---- the stream, on the loop's thread ---- */

static void on_headers(void *context)
{
    struct tail *tail = context;
    atomic_store(&tail->is_established, true);
    stop_wake();
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
        stop_wake();
    }
}

static void on_closed(void *context, const struct rpc_result *result)
{
    struct tail *tail = context;
    answer_of_result(result, &tail->end);
    atomic_store(&tail->is_closed, true);
    stop_wake();
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
    struct rpc_channel *channel = cluster_channel(tail->cluster, tail->index, &tail->end);
    const struct rpc_client_options options = {.path = SUBSCRIBE_PATH, .deadline_ns = UINT64_MAX};
    const struct rpc_client_events events = {on_headers, on_message, NULL, on_closed, tail};
    bool is_open = false;
    if (data != NULL && channel != NULL) {
        raftogram__v1__subscribe_request__pack(&request, data);
        is_open = rpc_stream_open(channel, &options, &events, &tail->call) == 0;
    }
    if (is_open) {
        /* It fails when the stream has ended already. on_closed() reports that. */
        (void)rpc_stream_send(tail->call, buf_bytes(&packed), false);
        rpc_stream_close_send(tail->call);
    }
    buf_finish(&packed);
    return is_open;
}

/* ---- the main thread ---- */

/* Cancels the stream and waits for its end. If the loop's thread is blocked in a write to stdout,
 * the process exits at once: everything printed before has been written. */
static void close_stream(struct tail *tail)
{
    rpc_client_cancel(tail->call);
    if (!await(&tail->is_closed, NULL, CANCEL_MS_MAX, false)) {
        _exit(EXIT_DONE);
    }
}

/* Follows one node until its stream ends or a stop. Returns whether a stream was established. */
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
    while (atomic_load(&tail->is_established) && !atomic_load(&tail->is_closed) &&
           !stop_is_wanted()) {
        stop_wait(-1);
    }
    if (!atomic_load(&tail->is_closed)) {
        close_stream(tail);
        snprintf(tail->end.message, sizeof(tail->end.message), "no answer");
    }
    rpc_client_release(tail->call);
    tail->call = NULL;
    return atomic_load(&tail->is_established);
}

/* Returns whether the cluster refused: another node would do the same. */
static bool is_final(const struct answer *end)
{
    return end->code != GRPC_STATUS_OK && end->code != GRPC_STATUS_RESOURCE_EXHAUSTED &&
           answer_classify(end) == ANSWER_REFUSED;
}

static int follow_cluster(struct tail *tail)
{
    const struct arguments *arguments = tail->arguments;
    char subject[CLUSTER_SUBJECT_BYTES_MAX];
    cluster_describe("channel", arguments->operands[0], subject);
    uint64_t timeout_ns = arguments->timeout_ms * NS_PER_MS;
    uint64_t give_up_ns = now_ns() + timeout_ns;
    uint64_t backoff_ms = BACKOFF_MS_MIN;
    while (!stop_is_wanted()) {
        uint64_t now = now_ns();
        uint64_t left_ms = give_up_ns > now ? (give_up_ns - now) / NS_PER_MS : 0;
        bool stood = follow_node(tail, left_ms < ESTABLISH_MS_MAX ? left_ms : ESTABLISH_MS_MAX);
        const char *address = cluster_address(tail->cluster, tail->index);
        if (stop_is_wanted()) {
            break;
        }
        if (is_final(&tail->end)) {
            complain("%s%s (%s)", subject, tail->end.message, tail->end.reason);
            return EXIT_REFUSED;
        }
        if (stood) {
            complain("lost %s after %llu: %s", address, (unsigned long long)tail->cursor,
                     tail->end.message);
            backoff_ms = BACKOFF_MS_MIN;
            /* Without -timeout, tail waits indefinitely for the cluster to return. */
            give_up_ns = arguments->has_timeout ? now_ns() + timeout_ns : UINT64_MAX;
        }
        if (now_ns() >= give_up_ns) {
            complain("%s%sthe cluster is unavailable; %s: %s", subject,
                     cluster_lacks_quorum(tail->cluster) ? NO_QUORUM_TEXT : "", address,
                     tail->end.message);
            return EXIT_UNAVAILABLE;
        }
        atomic_bool never = false;
        await(&never, NULL, backoff_ms, true);
        backoff_ms = backoff_ms * 2 < BACKOFF_MS_MAX ? backoff_ms * 2 : BACKOFF_MS_MAX;
        tail->index = (tail->index + 1) % cluster_address_count(tail->cluster);
    }
    return EXIT_DONE;
}

/* ---- the beginning ---- */

/* Learns the members, for the case that this node is lost, and the cluster's id. */
static int learn_cluster(struct tail *tail)
{
    Raftogram__V1__StatusRequest request = RAFTOGRAM__V1__STATUS_REQUEST__INIT;
    Raftogram__V1__StatusResponse *status;
    const struct cluster_call call = {
        .kind = CALL_READ,
        .path = STATUS_PATH,
        .what = "channel",
        .name = tail->arguments->operands[0],
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

static int run_tail(struct cluster *cluster, const struct arguments *arguments)
{
    struct tail tail = {
        .cluster = cluster,
        .arguments = arguments,
        .cursor = arguments->after,
    };
    int code = learn_cluster(&tail);
    /* -live is a cursor, not the service's live_only. If the first node is lost before a message
     * arrives, the next one must begin at the same place. */
    if (code == 0 && arguments->is_live) {
        code = channel_find_end(cluster, arguments->operands[0], &tail.cursor);
    }
    if (code == 0) {
        code = stop_catch();
    }
    if (code != 0) {
        return code;
    }
    tail.index = cluster_current(cluster);
    message_output_init(&tail.output, arguments->is_json);
    code = follow_cluster(&tail);
    message_output_finish(&tail.output);
    return code;
}

const struct verb verb_tail = {
    .name = "tail",
    .synopsis = "CHANNEL [-after N|-live]",
    .summary = "Follows a channel",
    .help =
        "  -after N    only messages with a sequence over N (default 0: from the beginning)\n"
        "  -live       only new messages\n"
        "\n"
        "Prints each message once and in order. If its node is lost, tail continues at another\n"
        "one, without a gap or a duplicate. It ends with Ctrl-C (exit code 0). -timeout limits\n"
        "how long it tries to begin. If given, -timeout also limits how long it tries to\n"
        "continue after a loss (default: indefinitely).\n"
        "\n"
        "Examples:\n"
        "  raftogramctl tail general\n"
        "  raftogramctl tail general -live\n"
        "  raftogramctl tail general -after 42 -o json | jq -r '.payload|@base64d'\n",
    .operands_min = 1,
    .operands_max = 1,
    .options = OPTION_AFTER | OPTION_LIVE,
    .exclusive = {OPTION_AFTER | OPTION_LIVE},
    .is_of_channel = true,
    .first_operand = "channel",
    .run = run_tail,
};
