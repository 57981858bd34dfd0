/* Forwards commands to the leader: both the follower's and the leader's side. */
#include "base/errors.h"
#include "driver/node_internal.h"

#include <stdlib.h>
#include <string.h>

/* A forwarded command at the leader. */
struct forwarded {
    struct node_request request;
    struct node *node;
    raft_member from;
    uint64_t id;
    uint8_t command[];
};

void node_forwarding_init(struct node *node)
{
    /* A leader may still answer commands that an earlier process of this node forwarded. The seed
     * makes the ids of two processes differ. */
    node->forwarding.next_id = node->options.seed;
}

static bool forward(struct node *node, struct node_request *request)
{
    uint64_t left_ms =
        request->deadline_ns > node->now_ns ? (request->deadline_ns - node->now_ns) / NS_PER_MS : 0;
    struct peer_message message = {
        .kind = PEER_MESSAGE_FORWARD_REQUEST,
        .forward_request = {.id = node->forwarding.next_id,
                            .command = {request->command, request->command_size},
                            .timeout_ms = (uint32_t)left_ms},
    };
    int rc = node->transport->ops->send(node->transport, node->leadership.leader, &message);
    if (rc == ERR_FULL) {
        node_finish_request(node, request, NODE_OVERLOADED);
        return true;
    }
    if (rc != 0) {
        return false;
    }
    request->forward_id = node->forwarding.next_id++;
    request->forward_peer = node->leadership.leader;
    request->expires_ns = request->deadline_ns;
    node_note_expiry(node, request->expires_ns);
    node->counters.forwards_total++;
    node_watch_forward(node, request);
    list_remove(&request->link);
    list_push_back(&node->requests.forwarded, &request->link);
    return true;
}

void node_forward_waiting(struct node *node)
{
    while (!list_is_empty(&node->requests.waiting)) {
        struct node_request *request =
            LIST_ENTRY(node->requests.waiting.next, struct node_request, link);
        if (!request->may_forward) {
            node_finish_request(node, request, NODE_NOT_LEADER);
        } else if (!node_leader_understands(node, request)) {
            request->lagging = node->leadership.leader;
            node_finish_request(node, request, NODE_FORMAT_TOO_NEW);
        } else if (!forward(node, request)) {
            node_delay_forwards(node);
            return;
        }
    }
}

static void requeue(struct node *node, struct node_request *request)
{
    list_remove(&request->link);
    node_wait_for_leader(node, request);
}

void node_peer_lost(struct node *node, raft_member peer, const struct peer_unsent *unsent)
{
    struct list *link = node->requests.forwarded.prev;
    while (link != &node->requests.forwarded) {
        struct node_request *request = LIST_ENTRY(link, struct node_request, link);
        link = link->prev;
        if (request->forward_peer != peer) {
            continue;
        }
        if (unsent != NULL && request->forward_id - unsent->first < unsent->count) {
            requeue(node, request); /* it never left */
        } else if (request->is_stored) {
            node_finish_stored(node, request);
        } else if (request->may_repeat) {
            request->is_unsure = true;
            requeue(node, request);
        } else {
            node_finish_request(node, request, NODE_COMMIT_UNKNOWN);
        }
    }
}

/* Handles the end of the stream that may have carried answers to forwarded commands. The end of a
 * stream that was replaced comes late and is ignored. */
void node_note_stream(struct node *node, const struct peer_event *event, bool is_up)
{
    struct peer_stream_state *stream = &node->forwarding.streams[event->peer];
    if (is_up || event->epoch == stream->epoch) {
        node_peer_lost(node, event->peer, NULL);
        *stream = (struct peer_stream_state){.is_up = is_up, .epoch = event->epoch};
    }
}

static void forwarded_done(struct node_request *request)
{
    struct forwarded *forwarded = (struct forwarded *)(void *)request;
    struct node *node = forwarded->node;
    struct buf *out = &node->encode_scratch;
    buf_reset(out);
    if (request->outcome == NODE_OK) {
        command_result_encode(&request->result, out);
    }
    struct peer_message message = {
        .kind = PEER_MESSAGE_FORWARD_RESPONSE,
        .forward_response = {.id = forwarded->id,
                             .code =
                                 buf_failed(out) ? NODE_COMMIT_UNKNOWN : (int32_t)request->outcome,
                             .result = buf_bytes(out),
                             .index = request->index},
    };
    /* If it cannot be sent, the peer detects the lost stream. */
    (void)node->transport->ops->send(node->transport, forwarded->from, &message);
    free(forwarded);
}

void node_forward_request(struct node *node, raft_member from, const struct peer_message *message)
{
    struct bytes command = message->forward_request.command;
    struct command decoded;
    int32_t refusal = NODE_OVERLOADED;
    struct forwarded *forwarded = NULL;
    if (command_decode(command, &decoded) == 0 && node_take_room(node, (uint32_t)command.size)) {
        forwarded = calloc(1, sizeof(*forwarded) + command.size);
        if (forwarded == NULL) {
            node_give_room(node, (uint32_t)command.size);
        }
    }
    if (forwarded == NULL) {
        struct peer_message answer = {
            .kind = PEER_MESSAGE_FORWARD_RESPONSE,
            .forward_response = {.id = message->forward_request.id, .code = refusal},
        };
        (void)node->transport->ops->send(node->transport, from, &answer);
        return;
    }
    memcpy(forwarded->command, command.data, command.size);
    forwarded->node = node;
    forwarded->from = from;
    forwarded->id = message->forward_request.id;
    forwarded->request = (struct node_request){
        .kind = NODE_REQUEST_COMMAND,
        .deadline_ns = node->now_ns + message->forward_request.timeout_ms * NS_PER_MS,
        .command = forwarded->command,
        .command_size = (uint32_t)command.size,
        .done = forwarded_done,
    };
    node_admit(node, &forwarded->request);
}

static struct node_request *find_forwarded(struct node *node, uint64_t id)
{
    LIST_FOR_EACH (link, &node->requests.forwarded) {
        struct node_request *request = LIST_ENTRY(link, struct node_request, link);
        if (request->forward_id == id) {
            return request;
        }
    }
    return NULL;
}

void node_forward_response(struct node *node, const struct peer_message *message)
{
    struct node_request *request = find_forwarded(node, message->forward_response.id);
    if (request == NULL) {
        return; /* the request expired, or its stream was lost */
    }
    enum node_outcome outcome = (enum node_outcome)message->forward_response.code;
    switch (outcome) {
    case NODE_OK:
        buf_reset(&request->result_text);
        buf_append(&request->result_text, message->forward_response.result.data,
                   message->forward_response.result.size);
        if (buf_failed(&request->result_text) ||
            command_result_decode(buf_bytes(&request->result_text), &request->result) != 0) {
            outcome = NODE_COMMIT_UNKNOWN;
        }
        if (outcome != NODE_OK ||
            !node_keep_answer(node, request, message->forward_response.index)) {
            node_finish_request(node, request, outcome);
        }
        return;
    case NODE_DRAINING:
        if (node->drain.is_active) {
            node_leader_leaves(node);
            node_finish_request(node, request, NODE_DRAINING);
            return;
        }
        /* Fall through. */
    case NODE_NOT_LEADER:
    case NODE_NO_QUORUM:
        /* The command was certainly not proposed there; it waits for the next leader. */
        node_delay_forwards(node);
        requeue(node, request);
        return;
    case NODE_OVERLOADED:
    case NODE_DISK_FULL:
    case NODE_DEADLINE:
        node_finish_request(node, request, outcome);
        return;
    case NODE_FORMAT_TOO_NEW:
        request->lagging = RAFT_NO_MEMBER;
        node_finish_request(node, request, outcome);
        return;
    default:
        node_finish_request(node, request, NODE_COMMIT_UNKNOWN);
        return;
    }
}
