/* Admission of requests. Each request is in exactly one list of struct node until
 * node_finish_request() moves it to `finished`. */
#include "driver/node_internal.h"

/* Returns a time shortly before the caller's deadline, so that the caller still receives the
 * reason. */
static uint64_t before_deadline(const struct node_request *request, uint64_t now_ns)
{
    if (request->deadline_ns <= now_ns) {
        return now_ns;
    }
    uint64_t left = request->deadline_ns - now_ns;
    uint64_t margin = left / 8 < 50 * NS_PER_MS ? left / 8 : 50 * NS_PER_MS;
    return request->deadline_ns - margin;
}

static uint64_t wait_until(const struct node *node, const struct node_request *request,
                           uint64_t wait_ns)
{
    uint64_t limit = request->submitted_ns + wait_ns;
    uint64_t deadline = before_deadline(request, node->now_ns);
    return limit < deadline ? limit : deadline;
}

void node_wait_for_leader(struct node *node, struct node_request *request)
{
    request->expires_ns = wait_until(node, request, NODE_LEADER_WAIT_NS);
    node_note_expiry(node, request->expires_ns);
    struct list *position = node->requests.waiting.prev;
    const struct list *first = node->requests.waiting.next;
    if (first != &node->requests.waiting &&
        LIST_ENTRY(first, struct node_request, link)->order > request->order) {
        position =
            &node->requests.waiting; /* many requests may come back at once, the last one first */
    }
    while (position != &node->requests.waiting &&
           LIST_ENTRY(position, struct node_request, link)->order > request->order) {
        position = position->prev;
    }
    list_insert_after(&request->link, position);
}

bool node_is_name_due(const struct node *node)
{
    return node->leadership.leader == RAFT_NO_MEMBER &&
           node->now_ns < node->leadership.name_until_ns;
}

void node_admit_command(struct node *node, struct node_request *request)
{
    if (node_is_chain_broken(request)) {
        node_finish_request(node, request, NODE_NOT_LEADER);
        return;
    }
    if (!node_leads(node) && !request->may_forward && !node_is_name_due(node)) {
        /* A draining node still names the leader that took over. */
        node_finish_request(node, request, NODE_NOT_LEADER);
        return;
    }
    if (node->drain.is_hopeless) {
        node_finish_request(node, request, NODE_DRAINING);
        return;
    }
    node_wait_for_leader(node, request);
}

static void admit_read(struct node *node, struct node_request *request)
{
    request->was_leader = node_leads(node);
    if (request->is_leader_only && !node_leads(node)) {
        node_finish_request(node, request, NODE_NOT_LEADER);
        return;
    }
    if (node->drain.is_hopeless && !node_leads(node)) {
        node_finish_request(node, request, NODE_DRAINING);
        return;
    }
    request->expires_ns =
        wait_until(node, request, NODE_READ_WAIT_TIMEOUTS * node->options.election_timeout_ns);
    node_note_expiry(node, request->expires_ns);
    node_wait_for_read_index(node, request);
}

static void admit_transfer(struct node *node, struct node_request *request)
{
    raft_member target = request->transfer_target;
    if (!node_leads(node)) {
        node_finish_request(node, request, NODE_NOT_LEADER);
        return;
    }
    if (target != RAFT_NO_MEMBER && (target < 0 || target >= node->options.member_count)) {
        node_finish_request(node, request, NODE_BAD_TARGET);
        return;
    }
    if (target == node->self) {
        node_finish_request(node, request, NODE_OK);
        return;
    }
    request->expires_ns = before_deadline(request, node->now_ns);
    node_note_expiry(node, request->expires_ns);
    bool is_first = list_is_empty(&node->requests.transfers);
    list_push_back(&node->requests.transfers, &request->link);
    if (is_first) {
        node_start_transfer(node, target);
    }
}

void node_admit(struct node *node, struct node_request *request)
{
    request->order = node_take_order(node);
    request->submitted_ns = node->now_ns;
    request->is_unsure = false;
    request->has_caller_deadline = request->deadline_ns != UINT64_MAX;
    if (request->deadline_ns > node->now_ns + NODE_REQUEST_MAX_NS) {
        request->deadline_ns = node->now_ns + NODE_REQUEST_MAX_NS;
        request->has_caller_deadline = false;
    }
    list_init(&request->link);
    switch (request->kind) {
    case NODE_REQUEST_COMMAND:
        request->may_forward =
            request->may_forward && !atomic_load(&node->drain.is_forwarding_over);
        request->is_watched = false;
        request->is_stored = false;
        request->came_wall_ms = clock_wall_ms(node->options.clock);
        node->counters.proposals_total++;
        node->counters.proposals_pending++;
        node_admit_command(node, request);
        break;
    case NODE_REQUEST_READ:
        admit_read(node, request);
        break;
    case NODE_REQUEST_TRANSFER:
        admit_transfer(node, request);
        break;
    }
}
