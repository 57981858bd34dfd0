/* Messenger.Publish as work: an operation is a frame, which is done when a response acknowledges
 * it. Each connection carries one stream, and the frames are spread over the streams in turn. A
 * stream that ended is opened again for the next frame.
 *
 * Frames are only queued when they are started. They are sent by flush(), or after the response
 * that made room for them, so that what becomes due together leaves together. */
#include "base/check.h"
#include "base/container.h"
#include "base/errors.h"
#include "bench/grpc_client.h"
#include "bench/requests.h"
#include "bench/targets.h"

#include <pthread.h>
#include <raftogram/v1/messaging.pb-c.h>
#include <stdlib.h>

#define PUBLISH_PATH "/raftogram.v1.Messenger/Publish"

struct publish_target;

struct publish_stream {
    struct publish_target *target;
    struct rpc_channel *channel;
    /* The target's lock. */
    struct rpc_client_call *call; /* NULL: not open */
    bool is_sending;
    uint64_t sent_frame;   /* number of the last frame that was sent; 0: none */
    uint64_t acked_frame;  /* number of the last frame that was acknowledged */
    struct list queued;    /* operations to send, by operation->link */
    struct list in_flight; /* operations that were sent, in order */
};

struct publish_target {
    struct target base;
    const struct options *options;
    struct request_ids ids;
    struct grpc_client *client;
    struct publish_stream *streams;
    size_t stream_count;
    pthread_mutex_t lock; /* guards all below */
    pthread_cond_t ended;
    size_t open_count; /* streams whose on_closed was not called */
    bool is_ending;    /* on_done() is called no more */
    struct buf frame;  /* the frame to send next */
};

static struct publish_target *target_of(struct target *base)
{
    return CONTAINER_OF(base, struct publish_target, base);
}

/* ---- sending; all of it requires the lock ---- */

static void publish_flush(struct target *base);
static void on_message(void *context, struct bytes message);
static void on_sent(void *context);
static void on_closed(void *context, const struct rpc_result *result);

static void open_stream(struct publish_stream *stream)
{
    struct publish_target *target = stream->target;
    static const struct rpc_metadata forward = {"raftogram-forward", {"1", 1}};
    const struct rpc_client_options options = {
        .path = PUBLISH_PATH,
        .deadline_ns = UINT64_MAX,
        .metadata = &forward,
        .metadata_count = target->options->is_forwarding_set ? 1 : 0,
    };
    const struct rpc_client_events events = {
        .on_message = on_message, .on_sent = on_sent, .on_closed = on_closed, .context = stream};
    stream->is_sending = false;
    stream->sent_frame = 0;
    stream->acked_frame = 0;
    int rc = rpc_stream_open(stream->channel, &options, &events, &stream->call);
    CHECK(rc == 0);
    target->open_count++;
}

/* Sends the next frame, if there is one and the stream has room for it. */
static void send_next(struct publish_stream *stream)
{
    struct publish_target *target = stream->target;
    if (stream->is_sending || target->is_ending || list_is_empty(&stream->queued)) {
        return;
    }
    if (stream->call == NULL) {
        open_stream(stream);
    }
    struct list *link = list_pop_front(&stream->queued);
    list_push_back(&stream->in_flight, link);
    stream->sent_frame++;
    buf_reset(&target->frame);
    request_frame(target->options, &target->ids, LIST_ENTRY(link, struct operation, link),
                  stream->sent_frame, &target->frame);
    bool is_more_coming = !list_is_empty(&stream->queued);
    /* ERR_CLOSED: on_closed follows, and reports this operation with the others. */
    stream->is_sending =
        rpc_stream_send(stream->call, buf_bytes(&target->frame), is_more_coming) == 0;
}

/* ---- the stream's events: the loop's thread ---- */

static void on_sent(void *context)
{
    struct publish_stream *stream = context;
    pthread_mutex_lock(&stream->target->lock);
    stream->is_sending = false;
    send_next(stream);
    pthread_mutex_unlock(&stream->target->lock);
}

/* Reports the operations of `list`, without the lock. */
static void report(struct publish_target *target, struct list *list, enum outcome outcome,
                   const char *text)
{
    pthread_mutex_lock(&target->lock);
    bool is_ending = target->is_ending;
    pthread_mutex_unlock(&target->lock);
    struct list *link;
    while ((link = list_pop_front(list)) != NULL) {
        struct operation *operation = LIST_ENTRY(link, struct operation, link);
        if (!is_ending) {
            operation->on_done(operation, outcome, text);
        }
    }
}

/* Moves the operations up to `acked_frame` to `out`. False: no such frame was sent, or the number
 * of results is wrong. */
static bool take_acked(struct publish_stream *stream, uint64_t acked_frame, size_t result_count,
                       struct list *out)
{
    uint64_t frames = acked_frame - stream->acked_frame;
    if (acked_frame <= stream->acked_frame || acked_frame > stream->sent_frame ||
        result_count != frames * stream->target->options->messages_per_operation) {
        return false;
    }
    stream->acked_frame = acked_frame;
    for (; frames > 0; frames--) {
        list_push_back(out, list_pop_front(&stream->in_flight));
    }
    return true;
}

static void on_message(void *context, struct bytes message)
{
    struct publish_stream *stream = context;
    struct publish_target *target = stream->target;
    Raftogram__V1__PublishResponse *response =
        raftogram__v1__publish_response__unpack(NULL, message.size, message.data);
    struct list acked;
    list_init(&acked);
    pthread_mutex_lock(&target->lock);
    bool is_valid =
        response != NULL && take_acked(stream, response->acked_frame, response->n_results, &acked);
    if (!is_valid) {
        rpc_client_cancel(stream->call); /* on_closed reports what is in flight */
    }
    pthread_mutex_unlock(&target->lock);
    if (response != NULL) {
        raftogram__v1__publish_response__free_unpacked(response, NULL);
    }
    report(target, &acked, OUTCOME_OK, NULL);
    publish_flush(&target->base);
}

static void on_closed(void *context, const struct rpc_result *result)
{
    struct publish_stream *stream = context;
    struct publish_target *target = stream->target;
    struct list lost;
    list_init(&lost);
    pthread_mutex_lock(&target->lock);
    struct rpc_client_call *call = stream->call;
    stream->call = NULL;
    stream->is_sending = false;
    list_splice_back(&lost, &stream->in_flight);
    list_splice_back(&lost, &stream->queued);
    pthread_mutex_unlock(&target->lock);
    rpc_client_release(call);
    enum outcome outcome = grpc_client_outcome(result);
    char text[LOAD_TEXT_BYTES];
    grpc_client_explain(result->code, result->message, text);
    /* A stream that we did not close must not end with OK while frames are in flight. */
    report(target, &lost, outcome == OUTCOME_OK ? OUTCOME_ERROR : outcome, text);
    pthread_mutex_lock(&target->lock);
    target->open_count--;
    pthread_cond_signal(&target->ended);
    pthread_mutex_unlock(&target->lock);
}

/* ---- the target ---- */

static int publish_prepare(struct target *base, uint64_t deadline_ns)
{
    struct publish_target *target = target_of(base);
    return grpc_client_create_channel(target->client, target->options->channel, deadline_ns);
}

static void publish_start(struct target *base, struct operation *operation)
{
    struct publish_target *target = target_of(base);
    pthread_mutex_lock(&target->lock);
    struct publish_stream *stream = &target->streams[operation->number % target->stream_count];
    list_push_back(&stream->queued, &operation->link);
    pthread_mutex_unlock(&target->lock);
}

static void publish_flush(struct target *base)
{
    struct publish_target *target = target_of(base);
    pthread_mutex_lock(&target->lock);
    for (size_t i = 0; i < target->stream_count; i++) {
        send_next(&target->streams[i]);
    }
    pthread_mutex_unlock(&target->lock);
}

static void publish_destroy(struct target *base)
{
    struct publish_target *target = target_of(base);
    pthread_mutex_lock(&target->lock);
    target->is_ending = true;
    for (size_t i = 0; i < target->stream_count; i++) {
        if (target->streams[i].call != NULL) {
            rpc_client_cancel(target->streams[i].call);
        }
    }
    while (target->open_count > 0) {
        pthread_cond_wait(&target->ended, &target->lock);
    }
    pthread_mutex_unlock(&target->lock);
    grpc_client_close(target->client);
    pthread_cond_destroy(&target->ended);
    pthread_mutex_destroy(&target->lock);
    buf_finish(&target->frame);
    free(target->streams);
    free(target);
}

static int create_streams(struct publish_target *target)
{
    target->stream_count = grpc_client_channel_count(target->client);
    target->streams = calloc(target->stream_count, sizeof(*target->streams));
    if (target->streams == NULL) {
        return ERR_NOMEM;
    }
    for (size_t i = 0; i < target->stream_count; i++) {
        struct publish_stream *stream = &target->streams[i];
        stream->target = target;
        stream->channel = grpc_client_channel(target->client, i);
        list_init(&stream->queued);
        list_init(&stream->in_flight);
    }
    return 0;
}

int publish_target_create(const struct options *options, struct target **out)
{
    struct publish_target *target = calloc(1, sizeof(*target));
    if (target == NULL) {
        return ERR_NOMEM;
    }
    target->base = (struct target){publish_prepare, publish_start, publish_flush, publish_destroy};
    target->options = options;
    target->ids = request_ids_of_run();
    uint32_t connections = options->connections == 0 ? 1 : options->connections;
    int rc = grpc_client_open(options, connections, &target->client);
    if (rc != 0) {
        goto free_target;
    }
    rc = create_streams(target);
    if (rc != 0) {
        goto close_client;
    }
    pthread_mutex_init(&target->lock, NULL);
    pthread_cond_init(&target->ended, NULL);
    *out = &target->base;
    return 0;
close_client:
    grpc_client_close(target->client);
free_target:
    free(target);
    return rc;
}
