/* The unary AppendEntries and RequestVote of the reference document. Each becomes a QUERY event for
 * the driver. The driver's answer ends the call, in the request's encoding. */
#include "base/errors.h"
#include "peer/peer_internal.h"
#include "phalanx/consensus.pb-c.h"
#include "json/json.h"

#include <stdlib.h>
#include <string.h>

#define QUERY_NS_MAX (10 * NS_PER_S)

struct query {
    struct peer_incoming incoming; /* first member */
    enum raft_message_kind kind;
    bool is_json;
};

struct query_event {
    struct peer_event event;
    struct peer_message message;
    struct query *query;
};

/* ---- the answer ---- */

static void pack(const ProtobufCMessage *message, bool is_json, struct buf *out)
{
    if (is_json) {
        json_encode(message, JSON_NAMES_GO, out);
        return;
    }
    uint8_t *room = buf_extend(out, protobuf_c_message_get_packed_size(message));
    if (room != NULL) {
        protobuf_c_message_pack(message, room);
    }
}

static void encode_answer(const struct query *query, const struct peer_answer *answer,
                          const struct raft_message *request, struct buf *out)
{
    if (query->kind == RAFT_APPEND_REQUEST) {
        Phalanx__AppendEntriesResponse response = PHALANX__APPEND_ENTRIES_RESPONSE__INIT;
        response.term = answer->term;
        response.success = answer->granted_or_success;
        response.last_log_index = answer->last_log_index;
        pack(&response.base, query->is_json, out);
    } else {
        Phalanx__RequestVoteResponse response = PHALANX__REQUEST_VOTE_RESPONSE__INIT;
        response.term = answer->term;
        response.vote_granted = answer->granted_or_success;
        response.is_pre_vote = request->vote_request.is_pre_vote;
        response.request_term = request->vote_request.for_term;
        pack(&response.base, query->is_json, out);
    }
}

/* Any thread, also after the end of the call and of the peer. */
static void answer_query(struct peer_event *event, const struct peer_answer *answer)
{
    struct query_event *query_event = CONTAINER_OF(event, struct query_event, event);
    struct query *query = query_event->query;
    struct buf body;
    buf_init(&body, 0);
    encode_answer(query, answer, &query_event->message.raft, &body);
    pthread_mutex_lock(&query->incoming.lock);
    if (query->incoming.call != NULL && buf_failed(&body)) {
        peer_call_refuse(query->incoming.call, GRPC_STATUS_RESOURCE_EXHAUSTED, "out of memory");
    } else if (query->incoming.call != NULL) {
        const struct bytes message = buf_bytes(&body);
        const struct rpc_status status = {.code = GRPC_STATUS_OK};
        rpc_call_finish(query->incoming.call, &message, &status);
    }
    pthread_mutex_unlock(&query->incoming.lock);
    buf_finish(&body);
}

static void release_query(struct peer_event *event)
{
    struct query_event *query_event = CONTAINER_OF(event, struct query_event, event);
    peer_incoming_unref(&query_event->query->incoming);
    free(query_event);
}

/* ---- the request ---- */

static const ProtobufCMessageDescriptor *request_descriptor(const struct query *query)
{
    return query->kind == RAFT_APPEND_REQUEST ? &phalanx__append_entries_request__descriptor
                                              : &phalanx__request_vote_request__descriptor;
}

/* Converts JSON to protobuf, so that requests are read in one way. */
static int pack_json(const struct query *query, struct bytes text, struct buf *out,
                     struct json_error *error)
{
    ProtobufCMessage *message;
    int rc = json_decode_any_case(request_descriptor(query), text, &message, error);
    if (rc != 0) {
        return rc;
    }
    pack(message, false, out);
    protobuf_c_message_free_unpacked(message, NULL);
    return buf_failed(out) ? ERR_NOMEM : 0;
}

static struct query_event *create_event(struct query *query, struct bytes wire, size_t entry_count,
                                        struct raft_entry **entries, struct bytes *copy)
{
    struct query_event *created =
        calloc(1, sizeof(*created) + entry_count * sizeof(struct raft_entry) + wire.size);
    if (created == NULL) {
        return NULL;
    }
    *entries = (struct raft_entry *)(void *)(created + 1);
    uint8_t *bytes = (uint8_t *)(*entries + entry_count);
    if (wire.size > 0) {
        memcpy(bytes, wire.data, wire.size);
    }
    *copy = (struct bytes){bytes, wire.size};
    created->message.kind = PEER_MESSAGE_RAFT;
    created->event = (struct peer_event){
        .kind = PEER_EVENT_QUERY,
        .release = release_query,
        .query = {.request = &created->message, .answer = answer_query},
    };
    list_init(&created->event.link);
    created->query = query;
    return created;
}

/* Errors: ERR_INVALID with `why`, ERR_NOMEM. */
static int post_query(struct query *query, struct bytes wire, const char **why)
{
    struct peer *peer = query->incoming.peer;
    bool is_append = query->kind == RAFT_APPEND_REQUEST;
    size_t entry_count = 0;
    if (is_append && peer_append_request_scan(wire, &entry_count) != 0) {
        *why = "not an AppendEntriesRequest, or too many entries";
        return ERR_INVALID;
    }
    struct raft_entry *entries;
    struct bytes copy;
    struct query_event *created = create_event(query, wire, entry_count, &entries, &copy);
    if (created == NULL) {
        return ERR_NOMEM;
    }
    struct raft_message *message = &created->message.raft;
    struct bytes node_id;
    int rc = is_append ? peer_append_request_read(copy, message, entries, &node_id, why)
                       : peer_vote_request_read(copy, message, &node_id, why);
    if (rc != 0) {
        free(created);
        return rc;
    }
    message->peer = peer_find_member(peer, node_id);
    created->event.peer = message->peer;
    peer_incoming_ref(&query->incoming);
    peer->receiver.post(peer->receiver.context, &created->event);
    return 0;
}

static void on_message(struct rpc_call *call, struct bytes message, void *context)
{
    struct query *query = context;
    struct buf packed;
    struct json_error error;
    buf_init(&packed, 0);
    const char *why = "";
    query->is_json = json_is_body(request_descriptor(query), message);
    int rc = 0;
    if (query->is_json) {
        rc = pack_json(query, message, &packed, &error);
        why = error.text;
        message = buf_bytes(&packed);
    }
    if (rc == 0) {
        rc = post_query(query, message, &why);
    }
    if (rc == ERR_INVALID) {
        peer_call_refuse(call, GRPC_STATUS_INVALID_ARGUMENT, why);
    } else if (rc != 0) {
        peer_call_refuse(call, GRPC_STATUS_RESOURCE_EXHAUSTED, "out of memory");
    }
    buf_finish(&packed);
}

static void on_half_close(struct rpc_call *call, void *context)
{
    peer_call_refuse(call, GRPC_STATUS_INVALID_ARGUMENT, "no request message");
}

static void on_closed(struct rpc_call *call, bool is_cancelled, void *context)
{
    struct query *query = context;
    peer_incoming_end(&query->incoming);
}

static void destroy(struct peer_incoming *incoming)
{
    free(CONTAINER_OF(incoming, struct query, incoming));
}

void peer_query_accept(struct peer *peer, struct rpc_call *call, enum raft_message_kind kind)
{
    struct query *query = calloc(1, sizeof(*query));
    if (query == NULL) {
        peer_call_refuse(call, GRPC_STATUS_RESOURCE_EXHAUSTED, "out of memory");
        return;
    }
    query->kind = kind;
    query->incoming.greeting_ns_max = QUERY_NS_MAX;
    query->incoming.destroy = destroy;
    const struct rpc_call_events events = {
        .on_message = on_message,
        .on_half_close = on_half_close,
        .on_closed = on_closed,
        .context = query,
    };
    peer_incoming_begin(&query->incoming, peer, call, &events);
}
