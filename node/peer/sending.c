/* A snapshot for another node. It has its own channel and stream, so that Raft messages never wait
 * behind chunks. */
#include "base/check.h"
#include "base/clock.h"
#include "base/errors.h"
#include "base/unconst.h"
#include "peer/peer_internal.h"
#include "phalanx/consensus.pb-c.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define KEEPALIVE_MS_MIN 1000
#define RECEIVE_BYTES_MAX (64u << 10)

struct peer_sending {
    struct peer *peer;
    raft_member member;
    struct rpc_channel *channel; /* loop's thread only */

    pthread_mutex_t lock; /* guards all below */
    pthread_cond_t ended;
    bool is_active;    /* from peer_sending_open() to SNAPSHOT_ENDED */
    bool is_cancelled; /* before the call was opened */
    bool has_answer;
    bool is_sending;
    uint64_t epoch;
    uint32_t next_chunk;
    struct buf out; /* the part to send next */
    struct rpc_client_call *call;
};

/* ---- parts ---- */

/* Requires the lock. Errors: ERR_NOMEM. */
static int pack_part(struct peer_sending *sending, const Phalanx__SnapshotPart *part)
{
    buf_reset(&sending->out);
    uint8_t *room = buf_extend(&sending->out, phalanx__snapshot_part__get_packed_size(part));
    if (room == NULL) {
        return ERR_NOMEM;
    }
    phalanx__snapshot_part__pack(part, room);
    return 0;
}

static ProtobufCBinaryData view(struct bytes bytes)
{
    return (ProtobufCBinaryData){.len = bytes.size, .data = unconst(bytes.data)};
}

static int pack_offer(struct peer_sending *sending, raft_term term, struct bytes manifest)
{
    struct peer *peer = sending->peer;
    const struct peer_header header = peer_header_to(peer, sending->member, 0);
    Phalanx__SnapshotOffer offer = PHALANX__SNAPSHOT_OFFER__INIT;
    Phalanx__SnapshotPart part = PHALANX__SNAPSHOT_PART__INIT;
    offer.format_version = header.format_version;
    offer.from_node_id = unconst(peer->members[peer->self].node_id);
    offer.to_node_id = unconst(peer->members[sending->member].node_id);
    offer.cluster_id = view((struct bytes){header.cluster_id, sizeof(header.cluster_id)});
    offer.incarnation = header.incarnation;
    offer.membership_hash = header.membership_hash;
    offer.process = header.process;
    offer.term = term;
    offer.manifest = view(manifest);
    part.kind_case = PHALANX__SNAPSHOT_PART__KIND_OFFER;
    part.offer = &offer;
    return pack_part(sending, &part);
}

/* ---- the stream's events ---- */

static void post_ready(struct peer_sending *sending, uint64_t epoch, uint32_t chunk)
{
    const struct peer_event event = {.kind = PEER_EVENT_SNAPSHOT_READY,
                                     .peer = sending->member,
                                     .epoch = epoch,
                                     .snapshot_ready = {chunk}};
    peer_post_plain(sending->peer, &event);
}

static void on_message(void *context, struct bytes message)
{
    struct peer_sending *sending = context;
    Phalanx__SnapshotAnswer *answer =
        phalanx__snapshot_answer__unpack(NULL, message.size, message.data);
    pthread_mutex_lock(&sending->lock);
    bool is_first = answer != NULL && !sending->has_answer;
    uint64_t epoch = sending->epoch;
    /* If the answer arrives before on_sent() for the offer, on_sent() posts the event. */
    bool is_ready = is_first && !sending->is_sending;
    if (is_first) {
        sending->has_answer = true;
        sending->next_chunk = answer->next_chunk;
    }
    pthread_mutex_unlock(&sending->lock);
    if (is_ready) {
        post_ready(sending, epoch, answer->next_chunk);
    }
    if (answer != NULL) {
        phalanx__snapshot_answer__free_unpacked(answer, NULL);
    }
}

static void on_sent(void *context)
{
    struct peer_sending *sending = context;
    pthread_mutex_lock(&sending->lock);
    sending->is_sending = false;
    bool is_chunk = sending->has_answer;
    uint64_t epoch = sending->epoch;
    uint32_t next = sending->next_chunk;
    pthread_mutex_unlock(&sending->lock);
    if (is_chunk) {
        post_ready(sending, epoch, next);
    }
}

static void end(struct peer_sending *sending, enum peer_snapshot_end end, const char *reason)
{
    struct peer_event event = {.kind = PEER_EVENT_SNAPSHOT_ENDED,
                               .peer = sending->member,
                               .epoch = sending->epoch,
                               .snapshot_ended = {.end = end}};
    snprintf(event.snapshot_ended.reason, sizeof(event.snapshot_ended.reason), "%s", reason);
    pthread_mutex_lock(&sending->lock);
    buf_finish(&sending->out);
    if (sending->call != NULL) {
        rpc_client_release(sending->call);
        sending->call = NULL;
    }
    /* Before the event, whose receiver may open the next one. */
    sending->is_active = false;
    pthread_cond_broadcast(&sending->ended);
    bool is_stopping = atomic_load(&sending->peer->is_stopping);
    pthread_mutex_unlock(&sending->lock);
    if (!is_stopping) {
        peer_post_plain(sending->peer, &event);
    }
}

static void on_closed(void *context, const struct rpc_result *result)
{
    enum peer_snapshot_end how = PEER_SNAPSHOT_BROKEN;
    if (result->code == GRPC_STATUS_OK) {
        how = PEER_SNAPSHOT_DONE;
    } else if (result->code == GRPC_STATUS_FAILED_PRECONDITION) {
        how = PEER_SNAPSHOT_REFUSED;
    }
    end(context, how, result->message);
}

/* ---- opening, on the loop's thread ---- */

static int open_stream(struct peer_sending *sending)
{
    const struct rpc_client_options options = {.path = SNAPSHOT_PATH, .deadline_ns = UINT64_MAX};
    const struct rpc_client_events events = {
        .on_message = on_message,
        .on_sent = on_sent,
        .on_closed = on_closed,
        .context = sending,
    };
    int rc = rpc_stream_open(sending->channel, &options, &events, &sending->call);
    if (rc == 0) {
        sending->is_sending = true;
        /* If the stream has already ended, on_closed() reports it. */
        (void)rpc_stream_send(sending->call, buf_bytes(&sending->out), false);
    }
    return rc;
}

static void open_on_loop(void *context)
{
    struct peer_sending *sending = context;
    struct peer *peer = sending->peer;
    char target[RPC_TARGET_BYTES_MAX];
    char reason[RPC_NAME_REASON_BYTES_MAX];
    const struct rpc_channel_options options = {
        .address = peer->members[sending->member].raft_addr,
        .target = target,
        .keepalive_ms = peer->election_timeout_ms > KEEPALIVE_MS_MIN ? peer->election_timeout_ms
                                                                     : KEEPALIVE_MS_MIN,
        .receive_bytes_max = RECEIVE_BYTES_MAX,
    };
    rpc_channel_destroy(sending->channel);
    sending->channel = NULL;
    if (!peer_link_target(peer->links[sending->member], target, reason)) {
        end(sending, PEER_SNAPSHOT_BROKEN, reason);
        return;
    }
    int rc = rpc_channel_create(peer->loop, &options, &sending->channel);
    pthread_mutex_lock(&sending->lock);
    bool is_off = sending->is_cancelled || atomic_load(&peer->is_stopping);
    if (rc == 0) {
        rc = is_off ? ERR_CLOSED : open_stream(sending);
    }
    pthread_mutex_unlock(&sending->lock);
    if (rc != 0) {
        end(sending, PEER_SNAPSHOT_BROKEN, error_text(rc));
    }
}

int peer_sending_open(struct peer_sending *sending, uint64_t epoch, raft_term term,
                      struct bytes manifest)
{
    pthread_mutex_lock(&sending->lock);
    int rc = sending->is_active ? ERR_BUSY : pack_offer(sending, term, manifest);
    if (rc == 0 && atomic_load(&sending->peer->is_stopping)) {
        rc = ERR_CLOSED;
    }
    if (rc == 0) {
        rc = rpc_loop_post(sending->peer->loop, 0, open_on_loop, sending);
    }
    if (rc == 0) {
        sending->is_active = true;
        sending->is_cancelled = false;
        sending->has_answer = false;
        sending->is_sending = false;
        sending->epoch = epoch;
    }
    pthread_mutex_unlock(&sending->lock);
    return rc;
}

void peer_sending_chunk(struct peer_sending *sending, uint64_t epoch, uint32_t chunk,
                        struct bytes data)
{
    Phalanx__SnapshotChunk body = PHALANX__SNAPSHOT_CHUNK__INIT;
    Phalanx__SnapshotPart part = PHALANX__SNAPSHOT_PART__INIT;
    body.number = chunk;
    body.data = view(data);
    part.kind_case = PHALANX__SNAPSHOT_PART__KIND_CHUNK;
    part.chunk = &body;
    pthread_mutex_lock(&sending->lock);
    bool is_current = sending->is_active && sending->call != NULL && sending->epoch == epoch;
    if (is_current && !sending->is_sending) {
        sending->next_chunk = chunk + 1;
        if (pack_part(sending, &part) != 0) {
            rpc_client_cancel(sending->call);
        } else {
            sending->is_sending =
                rpc_stream_send(sending->call, buf_bytes(&sending->out), false) == 0;
        }
    }
    pthread_mutex_unlock(&sending->lock);
}

static void cancel(struct peer_sending *sending)
{
    sending->is_cancelled = true;
    if (sending->call != NULL) {
        rpc_client_cancel(sending->call);
    }
}

void peer_sending_close(struct peer_sending *sending, uint64_t epoch)
{
    pthread_mutex_lock(&sending->lock);
    if (sending->is_active && sending->epoch == epoch) {
        cancel(sending);
    }
    pthread_mutex_unlock(&sending->lock);
}

/* ---- lifetime ---- */

int peer_sending_create(struct peer *peer, raft_member member, struct peer_sending **out)
{
    struct peer_sending *sending = calloc(1, sizeof(*sending));
    if (sending == NULL) {
        return ERR_NOMEM;
    }
    sending->peer = peer;
    sending->member = member;
    pthread_mutex_init(&sending->lock, NULL);
    pthread_cond_init(&sending->ended, NULL);
    *out = sending;
    return 0;
}

static void close_channel(void *context)
{
    struct peer_sending *sending = context;
    rpc_channel_destroy(sending->channel);
    sending->channel = NULL;
}

void peer_sending_stop(struct peer_sending *sending)
{
    CHECK(atomic_load(&sending->peer->is_stopping));
    pthread_mutex_lock(&sending->lock);
    cancel(sending);
    while (sending->is_active) {
        pthread_cond_wait(&sending->ended, &sending->lock);
    }
    pthread_mutex_unlock(&sending->lock);
    int rc = rpc_loop_post(sending->peer->loop, 0, close_channel, sending);
    CHECK(rc == 0);
}

void peer_sending_destroy(struct peer_sending *sending)
{
    if (sending == NULL) {
        return;
    }
    CHECK(sending->channel == NULL);
    buf_finish(&sending->out);
    pthread_cond_destroy(&sending->ended);
    pthread_mutex_destroy(&sending->lock);
    free(sending);
}
