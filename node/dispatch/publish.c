/* Publish: frames of messages, many at a time. Each frame is a SendMessages; what is special is
 * their order. A frame is proposed only when all frames before it are certain to be proposed
 * before it, and none is proposed after one that failed:
 *
 * - Frames are submitted in order and linked by a node_chain, which refuses what comes after a
 *   failure on the node's thread.
 * - That a channel does not exist is known only when the frame is applied. A frame with a channel
 *   that no earlier frame of the stream was stored in is therefore alone on its way.
 * - A forwarded frame is alone on its way, because the leader knows nothing of the chain. */
#include "base/check.h"
#include "base/errors.h"
#include "dispatch/dispatch_internal.h"

#include <stdlib.h>
#include <string.h>

/* Without memory for it a channel stays unknown. */
#define HASH_NONFATAL_OOM 1
#include <uthash.h>

/* Channels of a stream that are remembered. Frames with others are alone on their way. */
#define KNOWN_CHANNELS_MAX 1024
/* Memory of a message besides its encoded bytes: unpacked, and its result. */
#define MESSAGE_OVERHEAD_BYTES 128
/* Results in one response, unless a single frame has more. */
#define RESPONSE_RESULTS_MAX 1000

struct known_channel {
    UT_hash_handle by_id;
    size_t size;
    char id[]; /* not terminated */
};

struct frame_result {
    uint64_t sequence;
    bool deduplicated;
};

enum frame_state {
    FRAME_WAITING,   /* not submitted */
    FRAME_SUBMITTED, /* its call is dispatch's */
    FRAME_STORED,
    FRAME_FAILED, /* call.status says why */
};

struct frame {
    struct dispatch_call call; /* first; call.request until it is submitted */
    struct dispatch_publish *publish;
    struct list link;         /* in publish->frames */
    struct list waiting_link; /* in publish->waiting */
    struct list ready_link;   /* in publish->ready */
    enum frame_state state;
    uint64_t number;
    size_t bytes;      /* counted in publish->unacked_bytes */
    size_t held_bytes; /* counted in publish->held_bytes */
    size_t message_count;
    struct frame_result *results; /* message_count, when stored */
};

/* One answer, kept until the next is taken. */
struct answer {
    Raftogram__V1__PublishResponse message;
    Raftogram__V1__SendMessageResponse *rows;
    Raftogram__V1__SendMessageResponse **list;
};

struct dispatch_publish {
    struct dispatch *dispatch;
    struct dispatch_publish_events events;
    bool may_forward;
    struct node_chain chain; /* the node's thread */

    pthread_mutex_t lock; /* the next three */
    unsigned references;  /* the owner, frames that are submitted, and callbacks that run */
    bool is_closed;
    struct list ready; /* frames whose fate is known, by ready_link */

    /* The owner's calls, one at a time. */
    struct list link;    /* in dispatch->publishes */
    struct list frames;  /* not acknowledged, in order, by link */
    struct list waiting; /* of them, those that are not submitted, by waiting_link */
    size_t frame_count;
    size_t unacked_bytes; /* encoded */
    size_t held_bytes;    /* memory */
    size_t submitted_count;
    bool is_alone;         /* what is submitted must stay alone */
    bool has_failed;       /* a frame has failed, or is refused: no later one is taken */
    bool is_broken;        /* a submitted frame has failed: no later one is submitted */
    uint64_t last_number;  /* of the last frame that was taken */
    uint64_t acked_number; /* of the last response that was taken */
    struct known_channel *known_channels; /* a hash table */
    struct answer answer;
};

/* ---- references ---- */

static void ref(struct dispatch_publish *publish)
{
    pthread_mutex_lock(&publish->lock);
    publish->references++;
    pthread_mutex_unlock(&publish->lock);
}

static void free_answer(struct answer *answer)
{
    free(answer->rows);
    free(answer->list);
    *answer = (struct answer){0};
}

static void free_frame(struct frame *frame)
{
    if (frame->call.request != NULL) {
        protobuf_c_message_free_unpacked(frame->call.request, NULL);
    }
    list_remove(&frame->link);
    list_remove(&frame->waiting_link);
    free(frame->results);
    free(frame);
}

static void forget_channels(struct dispatch_publish *publish)
{
    struct known_channel *channel;
    struct known_channel *next;
    HASH_ITER (by_id, publish->known_channels, channel, next) {
        HASH_DELETE(by_id, publish->known_channels, channel);
        free(channel);
    }
}

static void unref(struct dispatch_publish *publish)
{
    pthread_mutex_lock(&publish->lock);
    bool is_last = --publish->references == 0;
    pthread_mutex_unlock(&publish->lock);
    if (!is_last) {
        return;
    }
    while (!list_is_empty(&publish->frames)) {
        free_frame(LIST_ENTRY(publish->frames.next, struct frame, link));
    }
    forget_channels(publish);
    free_answer(&publish->answer);
    pthread_mutex_destroy(&publish->lock);
    void (*closed)(void *context) = publish->events.closed;
    void *context = publish->events.context;
    free(publish);
    closed(context);
}

/* ---- channels ---- */

static bool is_known(struct dispatch_publish *publish, const char *id)
{
    struct known_channel *channel;
    size_t size = strlen(id);
    HASH_FIND(by_id, publish->known_channels, id, size, channel);
    return channel != NULL;
}

static void learn(struct dispatch_publish *publish, const char *id)
{
    size_t size = strlen(id);
    if (is_known(publish, id) || HASH_CNT(by_id, publish->known_channels) >= KNOWN_CHANNELS_MAX) {
        return;
    }
    struct known_channel *channel = calloc(1, sizeof(*channel) + size);
    if (channel == NULL) {
        return;
    }
    channel->size = size;
    memcpy(channel->id, id, size);
    HASH_ADD_KEYPTR(by_id, publish->known_channels, channel->id, size, channel);
    if (channel->by_id.tbl == NULL) {
        free(channel);
    }
}

static const Raftogram__V1__SendMessagesRequest *batch_of_frame(const struct frame *frame)
{
    return (const Raftogram__V1__SendMessagesRequest *)(const void *)frame->call.request;
}

static bool has_unknown_channel(struct dispatch_publish *publish, const struct frame *frame)
{
    const Raftogram__V1__SendMessagesRequest *batch = batch_of_frame(frame);
    for (size_t i = 0; i < batch->n_messages; i++) {
        if (!is_known(publish, batch->messages[i]->channel_id)) {
            return true;
        }
    }
    return false;
}

/* Before the frame is submitted: if it fails, no other follows. */
static void learn_channels(struct dispatch_publish *publish, const struct frame *frame)
{
    const Raftogram__V1__SendMessagesRequest *batch = batch_of_frame(frame);
    for (size_t i = 0; i < batch->n_messages; i++) {
        learn(publish, batch->messages[i]->channel_id);
    }
}

/* ---- one frame's call ---- */

static void keep_results(struct frame *frame, const Raftogram__V1__SendMessagesResponse *response)
{
    frame->results = calloc(response->n_results, sizeof(*frame->results));
    if (frame->results == NULL) {
        /* The messages are stored, and their sequences are not reported. */
        frame->state = FRAME_FAILED;
        dispatch_status_set(&frame->call.status, DISPATCH_ABORTED, "COMMIT_UNKNOWN",
                            "out of memory: send what was not acknowledged again");
        return;
    }
    for (size_t i = 0; i < response->n_results; i++) {
        frame->results[i] = (struct frame_result){response->results[i]->sequence,
                                                  response->results[i]->deduplicated};
    }
    frame->message_count = response->n_results;
    frame->state = FRAME_STORED;
}

/* Inside dispatch_submit() or dispatch_complete(). After the owner has closed the publish, the
 * frame is only freed. */
static void frame_done(struct dispatch_call *call)
{
    struct frame *frame = CONTAINER_OF(call, struct frame, call);
    if (call->status.code == DISPATCH_OK) {
        keep_results(frame,
                     (const Raftogram__V1__SendMessagesResponse *)(const void *)call->response);
    } else {
        frame->state = FRAME_FAILED;
    }
}

/* The node's thread. */
static void frame_ready(struct dispatch_call *call)
{
    struct frame *frame = CONTAINER_OF(call, struct frame, call);
    struct dispatch_publish *publish = frame->publish;
    pthread_mutex_lock(&publish->lock);
    bool is_closed = publish->is_closed;
    if (!is_closed) {
        publish->references++;
        list_push_back(&publish->ready, &frame->ready_link);
    }
    pthread_mutex_unlock(&publish->lock);
    if (is_closed) {
        dispatch_complete(call);
    } else {
        publish->events.changed(publish->events.context);
    }
    unref(publish);
}

/* A submitted frame has come back to the owner. */
static void note_done(struct dispatch_publish *publish, const struct frame *frame)
{
    publish->submitted_count--;
    publish->is_broken = publish->is_broken || frame->state == FRAME_FAILED;
}

static void submit(struct dispatch_publish *publish, struct frame *frame, bool is_alone,
                   bool may_forward)
{
    frame->call.method = dispatch_method(DISPATCH_PUBLISH);
    frame->call.deadline_ns = UINT64_MAX;
    frame->call.may_forward = may_forward;
    frame->call.done = frame_done;
    frame->call.ready = frame_ready;
    frame->state = FRAME_SUBMITTED;
    publish->submitted_count++;
    publish->is_alone = is_alone;
    ref(publish);
    dispatch_submit_in_chain(publish->dispatch, &frame->call, &publish->chain);
    if (frame->state != FRAME_SUBMITTED) { /* refused at once, without ready() */
        note_done(publish, frame);
        unref(publish); /* never the last: the owner has one */
    }
}

/* ---- the owner ---- */

static bool leads(const struct dispatch *dispatch)
{
    struct node_status node;
    node_get_status(dispatch->node, &node);
    return node.raft.role == RAFT_LEADER;
}

/* Submits what may be on its way. */
static void push(struct dispatch_publish *publish)
{
    while (!list_is_empty(&publish->waiting) && !publish->is_broken) {
        struct frame *frame = LIST_ENTRY(publish->waiting.next, struct frame, waiting_link);
        bool is_forwarded = publish->may_forward && !leads(publish->dispatch);
        bool is_alone = is_forwarded || has_unknown_channel(publish, frame);
        if (publish->submitted_count > 0 && (is_alone || publish->is_alone)) {
            return;
        }
        list_remove(&frame->waiting_link);
        learn_channels(publish, frame);
        submit(publish, frame, is_alone, is_forwarded);
    }
}

/* Completes the frames whose fate is known. */
static void complete_ready(struct dispatch_publish *publish)
{
    struct list ready;
    list_init(&ready);
    pthread_mutex_lock(&publish->lock);
    list_splice_back(&ready, &publish->ready);
    pthread_mutex_unlock(&publish->lock);
    struct list *link;
    while ((link = list_pop_front(&ready)) != NULL) {
        struct frame *frame = LIST_ENTRY(link, struct frame, ready_link);
        dispatch_complete(&frame->call);
        note_done(publish, frame);
        unref(publish);
    }
}

/* Appends a frame. NULL: no memory, and the stream has failed for good. */
static struct frame *add_frame(struct dispatch_publish *publish)
{
    struct frame *frame = calloc(1, sizeof(*frame));
    if (frame == NULL) {
        return NULL;
    }
    frame->publish = publish;
    list_init(&frame->ready_link);
    list_init(&frame->waiting_link);
    list_push_back(&publish->frames, &frame->link);
    publish->frame_count++;
    return frame;
}

int dispatch_publish_fail(struct dispatch_publish *publish, const struct dispatch_status *status)
{
    if (publish->has_failed) {
        return 0;
    }
    struct frame *frame = add_frame(publish);
    if (frame == NULL) {
        return ERR_NOMEM;
    }
    publish->has_failed = true;
    frame->state = FRAME_FAILED;
    frame->call.status = *status;
    return 0;
}

/* Refuses at once on a follower, unless the client asked for forwarding. */
static void refuse_elsewhere(struct dispatch_publish *publish)
{
    struct node_status node;
    node_get_status(publish->dispatch->node, &node);
    if (publish->may_forward || node.raft.role == RAFT_LEADER ||
        node.raft.leader == RAFT_NO_MEMBER) {
        return;
    }
    const struct node_request refused = {.outcome = NODE_NOT_LEADER, .leader = node.raft.leader};
    struct dispatch_status status = {0};
    dispatch_status_of_outcome(publish->dispatch, &refused, &status);
    (void)dispatch_publish_fail(publish, &status); /* no memory: its first frame is refused */
}

int dispatch_publish_open(struct dispatch *dispatch, bool may_forward,
                          const struct dispatch_publish_events *events,
                          struct dispatch_publish **out)
{
    struct dispatch_publish *publish = calloc(1, sizeof(*publish));
    if (publish == NULL) {
        return ERR_NOMEM;
    }
    publish->dispatch = dispatch;
    publish->events = *events;
    publish->may_forward = may_forward;
    publish->references = 1;
    list_init(&publish->ready);
    list_init(&publish->frames);
    list_init(&publish->waiting);
    pthread_mutex_init(&publish->lock, NULL);
    pthread_mutex_lock(&dispatch->watch_lock);
    list_push_back(&dispatch->publishes, &publish->link);
    pthread_mutex_unlock(&dispatch->watch_lock);
    refuse_elsewhere(publish);
    *out = publish;
    return 0;
}

bool dispatch_publish_is_full(const struct dispatch_publish *publish)
{
    return publish->frame_count >= DISPATCH_PUBLISH_FRAMES_MAX ||
           publish->unacked_bytes >= DISPATCH_PUBLISH_BYTES_MAX;
}

size_t dispatch_publish_held_bytes(const struct dispatch_publish *publish)
{
    return publish->held_bytes;
}

bool dispatch_publish_is_idle(const struct dispatch_publish *publish)
{
    return list_is_empty(&publish->frames);
}

/* The messages of a frame as a SendMessagesRequest; takes the frame. NULL: no memory. */
static ProtobufCMessage *batch_of(Raftogram__V1__PublishRequest *frame)
{
    Raftogram__V1__SendMessagesRequest *batch = calloc(1, sizeof(*batch));
    if (batch != NULL) {
        raftogram__v1__send_messages_request__init(batch);
        batch->n_messages = frame->n_messages;
        batch->messages = frame->messages;
        frame->n_messages = 0;
        frame->messages = NULL;
    }
    raftogram__v1__publish_request__free_unpacked(frame, NULL);
    return batch != NULL ? &batch->base : NULL;
}

int dispatch_publish_frame(struct dispatch_publish *publish, ProtobufCMessage *request,
                           size_t bytes)
{
    Raftogram__V1__PublishRequest *message = (Raftogram__V1__PublishRequest *)(void *)request;
    uint64_t number = message->frame;
    if (publish->has_failed) {
        protobuf_c_message_free_unpacked(request, NULL);
        return 0;
    }
    if (number != publish->last_number + 1) {
        struct dispatch_status status;
        dispatch_status_set(&status, DISPATCH_INVALID_ARGUMENT, "FRAME_OUT_OF_ORDER",
                            "frame %llu came where frame %llu was expected",
                            (unsigned long long)number,
                            (unsigned long long)publish->last_number + 1);
        protobuf_c_message_free_unpacked(request, NULL);
        return dispatch_publish_fail(publish, &status);
    }
    size_t count = message->n_messages;
    if (count > COMMAND_MESSAGES_MAX) { /* not kept until it is its turn */
        struct dispatch_status status;
        dispatch_status_set(&status, DISPATCH_INVALID_ARGUMENT, DISPATCH_BATCH_TOO_LARGE,
                            "the frame has %zu messages; at most %d are allowed", count,
                            COMMAND_MESSAGES_MAX);
        protobuf_c_message_free_unpacked(request, NULL);
        return dispatch_publish_fail(publish, &status);
    }
    ProtobufCMessage *batch = batch_of(message);
    struct frame *frame = batch != NULL ? add_frame(publish) : NULL;
    if (frame == NULL) {
        if (batch != NULL) {
            protobuf_c_message_free_unpacked(batch, NULL);
        }
        return ERR_NOMEM;
    }
    frame->state = FRAME_WAITING;
    frame->call.request = batch;
    frame->number = publish->last_number = number;
    frame->bytes = bytes;
    frame->held_bytes = bytes + count * MESSAGE_OVERHEAD_BYTES;
    publish->unacked_bytes += bytes;
    publish->held_bytes += frame->held_bytes;
    list_push_back(&publish->waiting, &frame->waiting_link);
    push(publish);
    return 0;
}

/* ---- responses ---- */

static void drop_first(struct dispatch_publish *publish)
{
    struct frame *frame = LIST_ENTRY(publish->frames.next, struct frame, link);
    publish->frame_count--;
    publish->unacked_bytes -= frame->bytes;
    publish->held_bytes -= frame->held_bytes;
    free_frame(frame);
}

/* The frames at the front that are stored, as many as go into one response. */
static size_t count_stored(const struct dispatch_publish *publish, size_t *results)
{
    size_t frames = 0;
    *results = 0;
    LIST_FOR_EACH (link, &publish->frames) {
        const struct frame *frame = LIST_ENTRY(link, struct frame, link);
        if (frame->state != FRAME_STORED ||
            (frames > 0 && *results + frame->message_count > RESPONSE_RESULTS_MAX)) {
            break;
        }
        frames++;
        *results += frame->message_count;
    }
    return frames;
}

/* False: no memory; nothing was taken. */
static bool answer_stored(struct dispatch_publish *publish, size_t frames, size_t results)
{
    struct answer *answer = &publish->answer;
    free_answer(answer);
    answer->rows = calloc(results, sizeof(*answer->rows));
    answer->list = calloc(results, sizeof(struct Raftogram__V1__SendMessageResponse *));
    if (answer->rows == NULL || answer->list == NULL) {
        free_answer(answer);
        return false;
    }
    size_t at = 0;
    for (size_t i = 0; i < frames; i++) {
        const struct frame *frame = LIST_ENTRY(publish->frames.next, struct frame, link);
        for (size_t j = 0; j < frame->message_count; j++, at++) {
            raftogram__v1__send_message_response__init(&answer->rows[at]);
            answer->rows[at].sequence = frame->results[j].sequence;
            answer->rows[at].deduplicated = frame->results[j].deduplicated;
            answer->list[at] = &answer->rows[at];
        }
        publish->acked_number = frame->number;
        drop_first(publish);
    }
    raftogram__v1__publish_response__init(&answer->message);
    answer->message.acked_frame = publish->acked_number;
    answer->message.n_results = results;
    answer->message.results = answer->list;
    return true;
}

static void end_for_shutdown(struct dispatch_publish *publish)
{
    struct dispatch_status status;
    dispatch_status_set(&status, DISPATCH_UNAVAILABLE, "DRAINING",
                        "this node is shutting down: publish on another");
    (void)dispatch_publish_fail(publish, &status);
}

enum dispatch_publish_news dispatch_publish_take(struct dispatch_publish *publish,
                                                 const ProtobufCMessage **response,
                                                 struct dispatch_status *status)
{
    complete_ready(publish);
    push(publish);
    if (atomic_load(&publish->dispatch->is_ending) && publish->submitted_count == 0) {
        end_for_shutdown(publish);
    }
    size_t results;
    size_t frames = count_stored(publish, &results);
    if (frames > 0) {
        if (!answer_stored(publish, frames, results)) {
            dispatch_status_set(status, DISPATCH_RESOURCE_EXHAUSTED, "OVERLOADED", "out of memory");
            return DISPATCH_PUBLISH_ENDED;
        }
        *response = &publish->answer.message.base;
        return DISPATCH_PUBLISH_RESPONSE;
    }
    if (list_is_empty(&publish->frames)) {
        return DISPATCH_PUBLISH_NOTHING;
    }
    const struct frame *first = LIST_ENTRY(publish->frames.next, const struct frame, link);
    if (first->state != FRAME_FAILED) {
        return DISPATCH_PUBLISH_NOTHING;
    }
    publish->has_failed = true;
    *status = first->call.status;
    return DISPATCH_PUBLISH_ENDED;
}

void dispatch_publish_close(struct dispatch_publish *publish)
{
    pthread_mutex_lock(&publish->dispatch->watch_lock);
    list_remove(&publish->link);
    pthread_mutex_unlock(&publish->dispatch->watch_lock);
    pthread_mutex_lock(&publish->lock);
    publish->is_closed = true;
    pthread_mutex_unlock(&publish->lock);
    complete_ready(publish);
    unref(publish);
}

void dispatch_end_publishes(struct dispatch *dispatch)
{
    pthread_mutex_lock(&dispatch->watch_lock);
    LIST_FOR_EACH (link, &dispatch->publishes) {
        struct dispatch_publish *publish = LIST_ENTRY(link, struct dispatch_publish, link);
        publish->events.changed(publish->events.context);
    }
    pthread_mutex_unlock(&dispatch->watch_lock);
}
