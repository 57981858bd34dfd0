/* Snapshots from other nodes. Each part becomes an event, one at a time. The driver's answers are
 * sent back. */
#include "base/check.h"
#include "base/clock.h"
#include "base/errors.h"
#include "base/log.h"
#include "peer/peer_internal.h"
#include "phalanx/consensus.pb-c.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define OFFER_NS_MAX (10 * NS_PER_S)

struct peer_receiving {
    struct peer_incoming incoming; /* first member */
    raft_member from;              /* RAFT_NO_MEMBER before the offer */
    uint64_t epoch;
    bool is_over; /* refused or replaced; loop's thread */
};

/* An event and the part that its data is a view into. */
struct part_event {
    struct peer_event event;
    struct peer_receiving *receiving;
    Phalanx__SnapshotPart *part;
};

/* ---- events ---- */

static void release_part(struct peer_event *event)
{
    struct part_event *part_event = CONTAINER_OF(event, struct part_event, event);
    struct peer_receiving *receiving = part_event->receiving;
    if (event->kind == PEER_EVENT_SNAPSHOT_CHUNK) {
        pthread_mutex_lock(&receiving->incoming.lock);
        if (receiving->incoming.call != NULL) {
            rpc_call_receive(receiving->incoming.call);
        }
        pthread_mutex_unlock(&receiving->incoming.lock);
    }
    peer_incoming_unref(&receiving->incoming);
    phalanx__snapshot_part__free_unpacked(part_event->part, NULL);
    free(part_event);
}

/* Takes ownership of the part, also on error. */
static int post_part(struct peer_receiving *receiving, Phalanx__SnapshotPart *part)
{
    struct part_event *created = calloc(1, sizeof(*created));
    if (created == NULL) {
        phalanx__snapshot_part__free_unpacked(part, NULL);
        return ERR_NOMEM;
    }
    bool is_offer = part->kind_case == PHALANX__SNAPSHOT_PART__KIND_OFFER;
    created->event = (struct peer_event){
        .kind = is_offer ? PEER_EVENT_SNAPSHOT_OFFER : PEER_EVENT_SNAPSHOT_CHUNK,
        .peer = receiving->from,
        .epoch = receiving->epoch,
        .release = release_part,
    };
    if (is_offer) {
        const ProtobufCBinaryData *manifest = &part->offer->manifest;
        created->event.snapshot_offer.term = part->offer->term;
        created->event.snapshot_offer.manifest = (struct bytes){manifest->data, manifest->len};
    } else {
        const ProtobufCBinaryData *data = &part->chunk->data;
        created->event.snapshot_chunk.chunk = part->chunk->number;
        created->event.snapshot_chunk.data = (struct bytes){data->data, data->len};
    }
    list_init(&created->event.link);
    created->receiving = receiving;
    created->part = part;
    peer_incoming_ref(&receiving->incoming);
    receiving->incoming.peer->receiver.post(receiving->incoming.peer->receiver.context,
                                            &created->event);
    return 0;
}

/* ---- parts ---- */

static void check_offer(struct peer *peer, const Phalanx__SnapshotOffer *offer, raft_member *from,
                        struct peer_refusal *refusal)
{
    struct peer_header header = {
        .format_version = offer->format_version,
        .from_node_id = bytes_of_text(offer->from_node_id),
        .to_node_id = bytes_of_text(offer->to_node_id),
        .incarnation = offer->incarnation,
        .membership_hash = offer->membership_hash,
        .process = offer->process,
    };
    if (offer->cluster_id.len == sizeof(header.cluster_id)) {
        memcpy(header.cluster_id, offer->cluster_id.data, sizeof(header.cluster_id));
    }
    *from = peer_find_member(peer, header.from_node_id);
    peer_check_header(peer, &header, *from, refusal);
    if (refusal->code == 0 && !peer_stream_is_of_sender(peer, *from, &header)) {
        refusal->code = GRPC_STATUS_UNAVAILABLE; /* its stream may follow */
        snprintf(refusal->text, sizeof(refusal->text),
                 "the snapshot does not come from the process that %s has a stream from",
                 peer->members[peer->self].node_id);
    }
}

/* Makes this the peer's current snapshot stream, in place of an older one. */
static void take_place(struct peer_receiving *receiving, raft_member from)
{
    struct peer *peer = receiving->incoming.peer;
    struct peer_incoming_side *side = &peer->incoming_sides[from];
    receiving->from = from;
    pthread_mutex_lock(&peer->lock);
    struct peer_receiving *older = side->receiving;
    side->receiving = receiving;
    receiving->epoch = ++side->snapshot_epoch;
    pthread_mutex_unlock(&peer->lock);
    if (older != NULL) {
        older->is_over = true;
        peer_call_refuse(older->incoming.call, GRPC_STATUS_ABORTED, "replaced by a newer stream");
    }
    atomic_store(&receiving->incoming.has_greeted, true);
}

static void take_offer(struct peer_receiving *receiving, Phalanx__SnapshotPart *part)
{
    struct peer *peer = receiving->incoming.peer;
    struct peer_refusal refusal = {.code = 0};
    raft_member from = RAFT_NO_MEMBER;
    check_offer(peer, part->offer, &from, &refusal);
    if (refusal.code != 0) {
        phalanx__snapshot_part__free_unpacked(part, NULL);
        receiving->is_over = true;
        char address[128];
        snprintf(address, sizeof(address), "%s", rpc_call_peer(receiving->incoming.call));
        bool is_stranger = from == RAFT_NO_MEMBER;
        peer_warn(is_stranger ? &peer->stranger_refusals : &peer->incoming_sides[from].refusals,
                  "refused a snapshot", is_stranger ? NULL : peer->members[from].node_id, address,
                  refusal.text);
        peer_call_refuse(receiving->incoming.call, refusal.code, refusal.text);
        return;
    }
    take_place(receiving, from);
    if (post_part(receiving, part) != 0) {
        peer_call_refuse(receiving->incoming.call, GRPC_STATUS_RESOURCE_EXHAUSTED, "out of memory");
    }
}

static void on_message(struct rpc_call *call, struct bytes message, void *context)
{
    struct peer_receiving *receiving = context;
    if (receiving->is_over) {
        return;
    }
    Phalanx__SnapshotPart *part = phalanx__snapshot_part__unpack(NULL, message.size, message.data);
    bool wants_offer = receiving->from == RAFT_NO_MEMBER;
    Phalanx__SnapshotPart__KindCase wanted =
        wants_offer ? PHALANX__SNAPSHOT_PART__KIND_OFFER : PHALANX__SNAPSHOT_PART__KIND_CHUNK;
    if (part == NULL || part->kind_case != wanted) {
        if (part != NULL) {
            phalanx__snapshot_part__free_unpacked(part, NULL);
        }
        receiving->is_over = true;
        peer_call_refuse(call, GRPC_STATUS_INVALID_ARGUMENT,
                         "unexpected part: expected an offer first, then chunks");
    } else if (wants_offer) {
        take_offer(receiving, part);
    } else if (post_part(receiving, part) != 0) {
        receiving->is_over = true;
        peer_call_refuse(call, GRPC_STATUS_RESOURCE_EXHAUSTED, "out of memory");
    }
}

static void on_half_close(struct rpc_call *call, void *context)
{
    peer_call_refuse(call, GRPC_STATUS_CANCELLED, "the sender abandoned the snapshot");
}

static void on_sent(struct rpc_call *call, void *context)
{
    /* Nothing waits: a stream has one answer. */
}

static void on_closed(struct rpc_call *call, bool is_cancelled, void *context)
{
    struct peer_receiving *receiving = context;
    struct peer *peer = receiving->incoming.peer;
    receiving->is_over = true;
    if (receiving->from != RAFT_NO_MEMBER) {
        struct peer_incoming_side *side = &peer->incoming_sides[receiving->from];
        pthread_mutex_lock(&peer->lock);
        if (side->receiving == receiving) {
            side->receiving = NULL;
        }
        pthread_mutex_unlock(&peer->lock);
        const struct peer_event event = {
            .kind = PEER_EVENT_SNAPSHOT_LOST, .peer = receiving->from, .epoch = receiving->epoch};
        peer_post_plain(peer, &event);
    }
    peer_incoming_end(&receiving->incoming);
}

static void destroy(struct peer_incoming *incoming)
{
    free(CONTAINER_OF(incoming, struct peer_receiving, incoming));
}

void peer_receiving_accept(struct peer *peer, struct rpc_call *call)
{
    struct peer_receiving *receiving = calloc(1, sizeof(*receiving));
    if (receiving == NULL) {
        peer_call_refuse(call, GRPC_STATUS_RESOURCE_EXHAUSTED, "out of memory for a snapshot");
        return;
    }
    receiving->from = RAFT_NO_MEMBER;
    receiving->incoming.greeting_ns_max = OFFER_NS_MAX;
    receiving->incoming.destroy = destroy;
    const struct rpc_call_events events = {
        .on_message = on_message,
        .on_half_close = on_half_close,
        .on_sent = on_sent,
        .on_closed = on_closed,
        .context = receiving,
    };
    peer_incoming_begin(&receiving->incoming, peer, call, &events);
}

/* ---- the driver's answer ---- */

static void finish(struct rpc_call *call, const struct peer_snapshot_answer *answer)
{
    int code = GRPC_STATUS_UNAVAILABLE;
    if (answer->end == PEER_SNAPSHOT_DONE) {
        code = GRPC_STATUS_OK;
    } else if (answer->end == PEER_SNAPSHOT_REFUSED) {
        code = GRPC_STATUS_FAILED_PRECONDITION;
    }
    peer_call_refuse(call, code, answer->reason);
}

static void go_on(struct rpc_call *call, uint32_t next_chunk)
{
    Phalanx__SnapshotAnswer answer = PHALANX__SNAPSHOT_ANSWER__INIT;
    answer.next_chunk = next_chunk;
    uint8_t packed[16];
    CHECK(phalanx__snapshot_answer__get_packed_size(&answer) <= sizeof(packed));
    struct bytes message = {packed, phalanx__snapshot_answer__pack(&answer, packed)};
    if (rpc_call_send(call, message) == 0) {
        rpc_call_receive(call);
    }
}

void peer_receiving_answer(struct peer *peer, raft_member from, uint64_t epoch,
                           const struct peer_snapshot_answer *answer)
{
    pthread_mutex_lock(&peer->lock);
    struct peer_receiving *receiving = peer->incoming_sides[from].receiving;
    bool is_current = receiving != NULL && receiving->epoch == epoch;
    if (is_current) {
        peer_incoming_ref(&receiving->incoming);
    }
    pthread_mutex_unlock(&peer->lock);
    if (!is_current) {
        return;
    }
    pthread_mutex_lock(&receiving->incoming.lock);
    if (receiving->incoming.call != NULL && answer->is_over) {
        finish(receiving->incoming.call, answer);
    } else if (receiving->incoming.call != NULL) {
        go_on(receiving->incoming.call, answer->next_chunk);
    }
    pthread_mutex_unlock(&receiving->incoming.lock);
    peer_incoming_unref(&receiving->incoming);
}
