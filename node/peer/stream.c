/* Streams that other nodes dialled to this node. All runs on the loop's thread, except the release
 * of an event, which takes the stream's lock. */
#include "base/check.h"
#include "base/clock.h"
#include "base/errors.h"
#include "base/log.h"
#include "peer/peer_internal.h"
#include "phalanx/consensus.pb-c.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define HELLO_NS_MAX (5 * NS_PER_S)
#define ADDRESS_BYTES_MAX 128
/* A stream that does not answer a probe for this many election timeouts is replaced by that of
 * another process with the same node id. */
#define SILENT_TIMEOUTS 2

struct peer_stream {
    struct peer_incoming incoming; /* first member */
    char address[ADDRESS_BYTES_MAX];
    raft_member from; /* RAFT_NO_MEMBER before its hello is accepted */
    uint64_t epoch;
    uint64_t incarnation;
    uint64_t stream_id;
    uint64_t process;
    char listen_addr[PEER_LISTEN_ADDR_BYTES_MAX + 1]; /* printable */
    bool is_over;                                     /* refused or replaced */
    bool may_lack_id;   /* accepted before this node knew its cluster, and has not named one yet */
    bool is_probing;    /* a probe is being sent */
    uint64_t probed_ns; /* when the unanswered probe was sent; 0: none */
    struct buf challenge; /* its hello, while a stream of another process is in its place */
    bool is_sealed;       /* its batches have checksums; one without is refused */
    uint64_t heard_ns;    /* when the last whole batch came */

    /* Guarded by incoming.lock. */
    size_t unreleased;
    size_t unreleased_bytes;
    bool is_paused;
};

/* One allocation: the event, its messages, their entries, and the batch that they are views
 * into. */
struct batch_event {
    struct peer_event event;
    struct peer_stream *stream;
    size_t wire_bytes;
};

static struct peer_stream *stream_of(struct peer_incoming *incoming)
{
    return CONTAINER_OF(incoming, struct peer_stream, incoming);
}

/* ---- refusing ---- */

/* Notes the cluster id that the peer named: this node uses it until it has its own. */
static void note_cluster_id(struct peer_stream *stream, const struct peer_header *header)
{
    struct peer *peer = stream->incoming.peer;
    struct peer_incoming_side *side = &peer->incoming_sides[stream->from];
    pthread_mutex_lock(&peer->lock);
    memcpy(side->said_cluster_id, header->cluster_id, sizeof(side->said_cluster_id));
    bool is_known = cluster_id_is_set(peer->cluster_id);
    pthread_mutex_unlock(&peer->lock);
    stream->may_lack_id =
        stream->may_lack_id && !(is_known && cluster_id_is_set(header->cluster_id));
}

/* Checks a later batch of a stream: the sender must be the same, its cluster id may be new. */
static void check_same(struct peer_stream *stream, const struct peer_header *header,
                       struct peer_refusal *refusal)
{
    struct peer *peer = stream->incoming.peer;
    peer_check_header(peer, header, stream->from, refusal);
    if (refusal->code != 0 && refusal->wants_cluster_id && stream->may_lack_id) {
        *refusal = (struct peer_refusal){.code = 0};
    }
    if (refusal->code != 0) {
        return;
    }
    if (!bytes_equal(header->from_node_id, peer_node_id(peer, stream->from)) ||
        header->incarnation != stream->incarnation || header->stream_id != stream->stream_id) {
        peer_refuse(refusal, GRPC_STATUS_FAILED_PRECONDITION,
                    "the stream of %s carries a batch of another node, incarnation or stream",
                    peer->members[stream->from].node_id);
        return;
    }
    note_cluster_id(stream, header);
}

static void end_refused(struct peer_stream *stream, raft_member from,
                        const struct peer_refusal *refusal)
{
    struct peer *peer = stream->incoming.peer;
    stream->is_over = true;
    bool is_stranger = from == RAFT_NO_MEMBER;
    struct log_limit *limit =
        is_stranger ? &peer->stranger_refusals : &peer->incoming_sides[from].refusals;
    peer_warn(limit, "refused a stream", is_stranger ? NULL : peer->members[from].node_id,
              stream->address, refusal->text);
    peer_call_refuse(stream->incoming.call, refusal->code, refusal->text);
    if (refusal->wants_cluster_id && !is_stranger && from != peer->self) {
        peer_link_tell_cluster_id(peer->links[from]);
    }
}

/* ---- greeting ---- */

static void post_hello(struct peer_stream *stream, const struct peer_header *header)
{
    const struct peer_event event = {
        .kind = PEER_EVENT_HELLO,
        .peer = stream->from,
        .epoch = stream->epoch,
        .hello = {.incarnation = stream->incarnation,
                  .is_fresh = header->is_fresh,
                  .command_format = header->command_format},
    };
    peer_post_plain(stream->incoming.peer, &event);
}

static void post_lost(struct peer_stream *stream)
{
    const struct peer_event event = {
        .kind = PEER_EVENT_STREAM_LOST, .peer = stream->from, .epoch = stream->epoch};
    peer_post_plain(stream->incoming.peer, &event);
}

static void log_news(struct peer_stream *stream, const char *what)
{
    struct peer *peer = stream->incoming.peer;
    uint64_t suppressed;
    struct log_limit *limit = &peer->incoming_sides[stream->from].news;
    log_limit_reset(limit);
    if (log_limit_passes(limit, clock_monotonic_ns(clock_system()), what, &suppressed)) {
        log_info("peer", what, LOG_STR("peer", peer->members[stream->from].node_id),
                 LOG_STR("address", stream->address), LOG_U64("epoch", stream->epoch));
    }
}

static void end_replaced(struct peer_stream *stream)
{
    stream->is_over = true;
    peer_call_refuse(stream->incoming.call, GRPC_STATUS_ABORTED, "replaced by a newer stream");
}

static void greet(struct peer_stream *stream, raft_member from, const struct peer_header *header)
{
    struct peer *peer = stream->incoming.peer;
    struct peer_incoming_side *side = &peer->incoming_sides[from];
    if (side->stream != NULL) {
        end_replaced(side->stream);
    }
    side->stream = stream;
    stream->from = from;
    stream->epoch = ++side->epoch;
    uint8_t ours[CLUSTER_ID_BYTES];
    peer_get_cluster_id(peer, ours);
    stream->may_lack_id = !cluster_id_is_set(ours);
    note_cluster_id(stream, header);
    atomic_store(&stream->incoming.has_greeted, true);
    log_limit_reset(&side->refusals);
    log_news(stream, "stream from peer began");
    post_hello(stream, header);
    rpc_call_send_headers(stream->incoming.call);
    peer_link_hurry(peer->links[from]);
}

/* ---- batches ---- */

static bool is_full(const struct peer_stream *stream)
{
    return stream->unreleased >= PEER_UNHANDLED_BATCHES_MAX ||
           stream->unreleased_bytes >= PEER_UNHANDLED_BYTES_MAX;
}

/* Any thread, also after the end of the stream and of the peer. */
static void release_batch(struct peer_event *event)
{
    struct batch_event *batch = CONTAINER_OF(event, struct batch_event, event);
    struct peer_stream *stream = batch->stream;
    pthread_mutex_lock(&stream->incoming.lock);
    stream->unreleased--;
    stream->unreleased_bytes -= batch->wire_bytes;
    if (stream->is_paused && !is_full(stream)) {
        stream->is_paused = false;
        if (stream->incoming.call != NULL) {
            rpc_call_receive(stream->incoming.call);
        }
    }
    pthread_mutex_unlock(&stream->incoming.lock);
    peer_incoming_unref(&stream->incoming);
    free(batch);
}

static struct batch_event *create_batch_event(struct peer_stream *stream, struct bytes wire,
                                              const struct peer_batch *batch,
                                              struct raft_entry **entries, struct bytes *copy)
{
    size_t messages_bytes = batch->message_count * sizeof(struct peer_message);
    size_t entries_bytes = batch->entry_count * sizeof(struct raft_entry);
    struct batch_event *created =
        malloc(sizeof(*created) + messages_bytes + entries_bytes + wire.size);
    if (created == NULL) {
        return NULL;
    }
    struct peer_message *messages = (struct peer_message *)(void *)(created + 1);
    *entries = (struct raft_entry *)(void *)(messages + batch->message_count);
    uint8_t *bytes = (uint8_t *)(*entries + batch->entry_count);
    memcpy(bytes, wire.data, wire.size);
    *copy = (struct bytes){bytes, wire.size};
    created->event = (struct peer_event){
        .kind = PEER_EVENT_MESSAGES,
        .peer = stream->from,
        .epoch = stream->epoch,
        .release = release_batch,
        .messages = {messages, batch->message_count},
    };
    list_init(&created->event.link);
    created->stream = stream;
    created->wire_bytes = wire.size;
    return created;
}

static void post_messages(struct peer_stream *stream, struct bytes wire,
                          const struct peer_batch *batch, struct peer_refusal *refusal)
{
    struct peer *peer = stream->incoming.peer;
    struct raft_entry *entries;
    struct bytes copy;
    struct batch_event *created = create_batch_event(stream, wire, batch, &entries, &copy);
    if (created == NULL) {
        peer_refuse(refusal, GRPC_STATUS_RESOURCE_EXHAUSTED, "out of memory for a batch");
        return;
    }
    const struct peer_sender sender = {stream->from, peer_node_id(peer, stream->from)};
    const char *why;
    if (peer_batch_read(copy, &sender, created->event.messages.items, entries, &why) != 0) {
        peer_refuse(refusal, GRPC_STATUS_INVALID_ARGUMENT, "malformed batch: %s", why);
        free(created);
        return;
    }
    peer_incoming_ref(&stream->incoming);
    pthread_mutex_lock(&stream->incoming.lock);
    stream->unreleased++;
    stream->unreleased_bytes += wire.size;
    pthread_mutex_unlock(&stream->incoming.lock);
    peer->receiver.post(peer->receiver.context, &created->event);
}

void peer_stream_check(struct peer_stream *stream, uint64_t now_ns, bool is_late)
{
    pthread_mutex_lock(&stream->incoming.lock);
    bool is_paused = stream->is_paused;
    pthread_mutex_unlock(&stream->incoming.lock);
    if (is_late || is_paused) {
        stream->heard_ns = now_ns; /* what arrived meanwhile was not read yet */
    }
    if (stream->is_over || !stream->is_sealed || now_ns < stream->heard_ns + STREAM_SILENCE_NS) {
        return;
    }
    struct peer_refusal refusal = {.code = 0};
    peer_refuse(&refusal, GRPC_STATUS_UNAVAILABLE, "no whole batch has come for %d s",
                (int)(STREAM_SILENCE_NS / NS_PER_S));
    end_refused(stream, stream->from, &refusal);
}

static void receive_more(struct peer_stream *stream)
{
    pthread_mutex_lock(&stream->incoming.lock);
    stream->is_paused = is_full(stream);
    if (!stream->is_paused) {
        rpc_call_receive(stream->incoming.call);
    }
    pthread_mutex_unlock(&stream->incoming.lock);
}

/* ---- two processes of one node id ---- */

/* "ipv4:10.0.0.5:41234 (listens on 0.0.0.0:7000)" */
static void describe(const struct peer_stream *stream, char *out, size_t size)
{
    snprintf(out, size, "%s (listens on %s)", stream->address,
             stream->listen_addr[0] == '\0' ? "an address that it does not name"
                                            : stream->listen_addr);
}

#define DESCRIPTION_BYTES_MAX (ADDRESS_BYTES_MAX + PEER_LISTEN_ADDR_BYTES_MAX + 64)

static void probe(struct peer_stream *stream, const struct peer_stream *rival)
{
    if (stream->is_probing) {
        return;
    }
    char text[DESCRIPTION_BYTES_MAX];
    describe(rival, text, sizeof(text));
    Phalanx__StreamProbe probe = PHALANX__STREAM_PROBE__INIT;
    probe.rival = text;
    uint8_t packed[DESCRIPTION_BYTES_MAX + 16];
    CHECK(phalanx__stream_probe__get_packed_size(&probe) <= sizeof(packed));
    struct bytes message = {packed, phalanx__stream_probe__pack(&probe, packed)};
    stream->is_probing = rpc_call_send(stream->incoming.call, message) == 0;
}

static uint64_t silence_ns_max(const struct peer *peer)
{
    return SILENT_TIMEOUTS * peer->election_timeout_ms * NS_PER_MS;
}

/* Accepts the challenger in place of the earlier stream. */
static void accept_challenger(struct peer_incoming_side *side, raft_member from)
{
    struct peer_stream *challenger = side->challenger;
    side->challenger = NULL;
    struct peer_batch batch;
    struct bytes hello = buf_bytes(&challenger->challenge);
    struct peer_refusal refusal = {.code = 0};
    int rc = peer_batch_scan(hello, &batch);
    CHECK(rc == 0); /* it was scanned before */
    peer_check_header(side->peer, &batch.header, from, &refusal);
    if (refusal.code == 0) {
        greet(challenger, from, &batch.header);
    }
    if (refusal.code == 0 && batch.message_count > 0) {
        post_messages(challenger, hello, &batch, &refusal);
    }
    buf_finish(&challenger->challenge);
    if (refusal.code != 0) {
        end_refused(challenger, from, &refusal);
    } else {
        receive_more(challenger);
    }
}

static bool is_silent(const struct peer *peer, const struct peer_stream *stream)
{
    return stream->probed_ns != 0 &&
           clock_monotonic_ns(clock_system()) - stream->probed_ns >= silence_ns_max(peer);
}

static void on_silence(void *context)
{
    struct peer_incoming_side *side = context;
    struct peer *peer = side->peer;
    if (!atomic_load(&peer->is_stopping) && side->challenger != NULL && side->stream != NULL &&
        is_silent(peer, side->stream)) {
        accept_challenger(side, (raft_member)(side - peer->incoming_sides));
    }
}

/* Makes the newcomer wait and probes the stream of the other process. If that is alive, it stays.
 * Else the newcomer is the node after a restart, and the earlier connection is dead. */
static void challenge(struct peer_stream *newcomer, raft_member from, struct bytes hello,
                      struct peer_refusal *refusal)
{
    struct peer *peer = newcomer->incoming.peer;
    struct peer_incoming_side *side = &peer->incoming_sides[from];
    struct peer_stream *older = side->stream;
    buf_init(&newcomer->challenge, PEER_BATCH_BYTES_MAX);
    buf_append(&newcomer->challenge, hello.data, hello.size);
    if (buf_failed(&newcomer->challenge)) {
        peer_refuse(refusal, GRPC_STATUS_RESOURCE_EXHAUSTED, "out of memory for a batch");
        return;
    }
    if (side->challenger != NULL) {
        end_replaced(side->challenger);
    }
    side->challenger = newcomer;
    if (older->probed_ns == 0) {
        older->probed_ns = clock_monotonic_ns(clock_system());
    }
    probe(older, newcomer);
    int rc = rpc_loop_post(peer->loop, older->probed_ns + silence_ns_max(peer), on_silence, side);
    CHECK(rc == 0 || rc == ERR_CLOSED);
}

/* Refuses the challenger, since a batch came on `stream`: the challenger is another process. */
static void refuse_challenger(struct peer_stream *stream)
{
    struct peer *peer = stream->incoming.peer;
    struct peer_incoming_side *side = &peer->incoming_sides[stream->from];
    struct peer_stream *challenger = side->challenger;
    stream->probed_ns = 0;
    if (challenger == NULL) {
        return;
    }
    side->challenger = NULL;
    char ours[DESCRIPTION_BYTES_MAX];
    char theirs[DESCRIPTION_BYTES_MAX];
    describe(stream, ours, sizeof(ours));
    describe(challenger, theirs, sizeof(theirs));
    const char *node_id = peer->members[stream->from].node_id;
    struct peer_refusal refusal = {.code = 0};
    peer_refuse(&refusal, GRPC_STATUS_FAILED_PRECONDITION,
                "two processes have node_id %s: the first comes from %s, the second "
                "from %s; stop one of them, or give it its own node_id and data_dir",
                node_id, ours, theirs);
    end_refused(challenger, stream->from, &refusal);
}

static void take_hello(struct peer_stream *stream, struct bytes wire,
                       const struct peer_header *header, raft_member *from,
                       struct peer_refusal *refusal)
{
    struct peer *peer = stream->incoming.peer;
    *from = peer_find_member(peer, header->from_node_id);
    peer_check_header(peer, header, *from, refusal);
    if (refusal->code != 0 && !refusal->wants_cluster_id) {
        return;
    }
    stream->incarnation = header->incarnation;
    stream->stream_id = header->stream_id;
    stream->process = header->process;
    struct peer_shown listen_addr = peer_show(header->listen_addr);
    memcpy(stream->listen_addr, listen_addr.text, sizeof(stream->listen_addr));
    const struct peer_stream *older = peer->incoming_sides[*from].stream;
    bool is_same = older == NULL || (older->process != 0 && older->process == stream->process);
    if (!is_same && !is_silent(peer, older)) {
        /* The second process is reported, not the missing cluster id. */
        *refusal = (struct peer_refusal){.code = 0};
        challenge(stream, *from, wire, refusal);
    } else if (refusal->code == 0) {
        greet(stream, *from, header);
    }
}

bool peer_stream_is_of_sender(struct peer *peer, raft_member from, const struct peer_header *header)
{
    const struct peer_incoming_side *side = &peer->incoming_sides[from];
    const struct peer_stream *stream = side->stream;
    if (stream == NULL) {
        return true;
    }
    pthread_mutex_lock(&peer->lock);
    bool is_other_cluster =
        cluster_id_is_set(side->said_cluster_id) &&
        memcmp(side->said_cluster_id, header->cluster_id, sizeof(header->cluster_id)) != 0;
    pthread_mutex_unlock(&peer->lock);
    return !is_other_cluster && stream->incarnation == header->incarnation &&
           (stream->process == header->process || header->process == 0);
}

/* ---- the call's events ---- */

static void take_batch(struct peer_stream *stream, struct bytes wire, raft_member *from,
                       struct peer_refusal *refusal)
{
    struct peer_batch batch;
    int rc = peer_batch_scan(wire, &batch);
    if (rc != 0) {
        peer_refuse(refusal, GRPC_STATUS_INVALID_ARGUMENT, "malformed batch: %s",
                    rc == ERR_FULL ? "too many messages or entries" : "not a PeerBatch");
        return;
    }
    stream->heard_ns = clock_monotonic_ns(clock_system());
    if (!peer_batch_is_sound(wire, &batch) || (stream->is_sealed && batch.checksum == 0)) {
        peer_refuse(refusal, GRPC_STATUS_INVALID_ARGUMENT,
                    "malformed batch: its checksum is wrong, its bytes were changed in transit");
        return;
    }
    stream->is_sealed = batch.checksum != 0;
    if (stream->from == RAFT_NO_MEMBER) {
        take_hello(stream, wire, &batch.header, from, refusal);
    } else {
        check_same(stream, &batch.header, refusal);
        if (refusal->code == 0) {
            refuse_challenger(stream);
        }
    }
    if (refusal->code == 0 && stream->from != RAFT_NO_MEMBER && batch.message_count > 0) {
        post_messages(stream, wire, &batch, refusal);
    }
}

static void on_message(struct rpc_call *call, struct bytes message, void *context)
{
    struct peer_stream *stream = context;
    if (stream->is_over) {
        return;
    }
    struct peer_refusal refusal = {.code = 0};
    raft_member from = stream->from;
    take_batch(stream, message, &from, &refusal);
    if (refusal.code != 0) {
        end_refused(stream, from, &refusal);
    } else if (stream->from != RAFT_NO_MEMBER) {
        receive_more(stream);
    }
}

static void on_sent(struct rpc_call *call, void *context)
{
    struct peer_stream *stream = context;
    stream->is_probing = false;
}

static void on_half_close(struct rpc_call *call, void *context)
{
    peer_call_refuse(call, GRPC_STATUS_OK, NULL);
}

static void forget_challenger(struct peer *peer, const struct peer_stream *stream)
{
    for (int i = 0; i < peer->member_count; i++) {
        if (peer->incoming_sides[i].challenger == stream) {
            peer->incoming_sides[i].challenger = NULL;
        }
    }
}

static void on_closed(struct rpc_call *call, bool is_cancelled, void *context)
{
    struct peer_stream *stream = context;
    struct peer *peer = stream->incoming.peer;
    stream->is_over = true;
    forget_challenger(peer, stream);
    if (stream->from != RAFT_NO_MEMBER) {
        struct peer_incoming_side *side = &peer->incoming_sides[stream->from];
        bool is_free = side->stream == stream;
        if (is_free) {
            side->stream = NULL;
        }
        log_news(stream, "stream from peer ended");
        post_lost(stream);
        if (is_free && side->challenger != NULL && !atomic_load(&peer->is_stopping)) {
            accept_challenger(side, stream->from);
        }
    }
    peer_incoming_end(&stream->incoming);
}

static void destroy(struct peer_incoming *incoming)
{
    struct peer_stream *stream = stream_of(incoming);
    buf_finish(&stream->challenge);
    free(stream);
}

void peer_stream_accept(struct peer *peer, struct rpc_call *call)
{
    struct peer_stream *stream = calloc(1, sizeof(*stream));
    if (stream == NULL) {
        peer_call_refuse(call, GRPC_STATUS_RESOURCE_EXHAUSTED, "out of memory for a stream");
        return;
    }
    stream->from = RAFT_NO_MEMBER;
    snprintf(stream->address, sizeof(stream->address), "%s", rpc_call_peer(call));
    stream->incoming.greeting_ns_max = HELLO_NS_MAX;
    stream->incoming.destroy = destroy;
    const struct rpc_call_events events = {
        .on_message = on_message,
        .on_half_close = on_half_close,
        .on_sent = on_sent,
        .on_closed = on_closed,
        .context = stream,
    };
    peer_incoming_begin(&stream->incoming, peer, call, &events);
}
