/* Proposes commands, and keeps the requests that wait for their entries. */
#include "base/check.h"
#include "driver/node_internal.h"

/* ---- proposing ---- */

static uint64_t cost_of(const struct node_request *request)
{
    return request->command_size + NODE_PENDING_ENTRY_BYTES;
}

/* Returns the cost of what this node has proposed in its term and not applied, whether a request
 * still waits for it or not. */
static uint64_t outstanding_cost(const struct node *node)
{
    bool is_over = node->proposals.term != wal_hard_state(node->wal)->term ||
                   node->applied_index >= node->proposals.index;
    return is_over ? 0 : node->proposals.cost - node->proposals.applied_cost;
}

/* Limits the cost in flight, so that it fits on disks that have just become full and in the
 * overlay. A larger command goes alone. */
static bool may_be_outstanding(const struct node *node, uint64_t cost)
{
    uint64_t outstanding = outstanding_cost(node);
    return outstanding == 0 || outstanding + cost <= NODE_PENDING_BYTES_MAX;
}

/* Inserts by index. Indexes may repeat in a later term while the outcome of older entries is
 * unknown. */
static void add_pending(struct node *node, struct node_request *request)
{
    struct list *position = node->requests.pending.prev;
    while (position != &node->requests.pending &&
           LIST_ENTRY(position, struct node_request, link)->index > request->index) {
        position = position->prev;
    }
    list_insert_after(&request->link, position);
}

/* Takes as many commands from `waiting` as fit in one batch, in order. */
static uint32_t fill_batch(struct node *node, struct list *batch)
{
    uint32_t count = 0;
    uint64_t bytes = 0;
    uint64_t cost = outstanding_cost(node);
    int64_t wall_ms = clock_wall_ms(node->options.clock);
    while (!list_is_empty(&node->requests.waiting) && count < RAFT_APPEND_ENTRIES_MAX) {
        struct node_request *request =
            LIST_ENTRY(node->requests.waiting.next, struct node_request, link);
        if (node_is_chain_broken(request)) {
            node_finish_request(node, request, NODE_NOT_LEADER);
            continue;
        }
        bytes += request->command_size;
        cost += cost_of(request);
        if (count > 0 && (bytes > NODE_PROPOSE_BYTES_MAX || cost > NODE_PENDING_BYTES_MAX)) {
            break;
        }
        int rc = command_stamp(request->command, request->command_size, wall_ms);
        CHECK(rc == 0);
        node->entry_scratch[count++] = (struct raft_entry){
            .type = RAFT_ENTRY_COMMAND,
            .data = request->command,
            .size = request->command_size,
        };
        list_remove(&request->link);
        list_push_back(batch, &request->link);
    }
    return count;
}

static void propose_batch(struct node *node)
{
    struct list batch;
    list_init(&batch);
    raft_index first = wal_last_index(node->wal) + 1;
    struct raft_event event = {.kind = RAFT_EVENT_PROPOSE};
    event.propose.entries = node->entry_scratch;
    event.propose.count = fill_batch(node, &batch);
    if (event.propose.count == 0) {
        return; /* all that waited was in broken chains */
    }
    int rc = node_step(node, &event);
    CHECK(rc == 0);
    raft_term term = wal_term(node->wal, first);
    if (outstanding_cost(node) == 0) {
        node->proposals.applied_cost = node->proposals.cost;
    }
    node->proposals.term = term;
    struct list *link;
    while ((link = list_pop_front(&batch)) != NULL) {
        struct node_request *request = LIST_ENTRY(link, struct node_request, link);
        request->index = first++;
        request->term = term;
        node->proposals.index = request->index;
        node->proposals.cost += cost_of(request);
        request->proposed_cost = node->proposals.cost;
        request->expires_ns = request->deadline_ns;
        node_note_expiry(node, request->expires_ns);
        add_pending(node, request);
    }
}

static void propose(struct node *node)
{
    node_refuse_too_new(node);
    if (list_is_empty(&node->requests.waiting)) {
        return;
    }
    if (chat_is_full(node->chat)) {
        node_finish_requests(node, &node->requests.waiting,
                             atomic_load(&node->inbox.is_store_full) ? NODE_DISK_FULL
                                                                     : NODE_OVERLOADED);
        return;
    }
    const struct node_request *first =
        LIST_ENTRY(node->requests.waiting.next, struct node_request, link);
    if (!node_has_room_for_batch(node, first->command_size) || !node_has_majority_room(node)) {
        node_finish_requests(node, &node->requests.waiting, NODE_DISK_FULL);
        return;
    }
    /* The check of the room may change it. */
    bool may_propose = raft_can_propose(node->raft) == RAFT_PROPOSE_NOW;
    if (may_propose && may_be_outstanding(node, cost_of(first))) {
        propose_batch(node);
    }
}

/* Terms never decrease along a log: an entry of an earlier term at or behind a committed one of
 * `term` was overwritten, or will be. It was certainly not applied. */
static void readmit_overwritten(struct node *node, raft_term term)
{
    struct list *link = node->requests.pending.prev;
    while (link != &node->requests.pending) {
        struct node_request *request = LIST_ENTRY(link, struct node_request, link);
        link = link->prev;
        if (request->term < term) {
            list_remove(&request->link);
            node_admit_command(node, request);
        }
    }
}

/* Copies the result: its views do not outlive the next apply. Fails as request->result_text does.
 */
static void keep_result(struct node_request *request, const struct command_result *result)
{
    request->result = *result;
    struct bytes *views[] = {&request->result.channel_id, &request->result.name,
                             &request->result.items};
    struct buf *text = &request->result_text;
    buf_reset(text);
    for (size_t i = 0; i < sizeof(views) / sizeof(views[0]); i++) {
        buf_append(text, views[i]->data, views[i]->size);
    }
    size_t at = 0;
    for (size_t i = 0; i < sizeof(views) / sizeof(views[0]); i++) {
        views[i]->data = text->data == NULL ? NULL : text->data + at;
        at += views[i]->size;
    }
}

void node_entry_applied(struct node *node, raft_index index, raft_term term,
                        const struct command_result *result)
{
    if (!list_is_empty(&node->requests.pending) &&
        LIST_ENTRY(node->requests.pending.prev, struct node_request, link)->term < term) {
        readmit_overwritten(node, term);
    }
    while (!list_is_empty(&node->requests.pending)) {
        struct node_request *request =
            LIST_ENTRY(node->requests.pending.next, struct node_request, link);
        if (request->index > index) {
            return;
        }
        if (request->term != term) {
            /* An entry of an even earlier term has its place: the command was certainly not
             * applied. */
            list_remove(&request->link);
            node_admit_command(node, request);
            continue;
        }
        if (request->proposed_cost > node->proposals.applied_cost) {
            node->proposals.applied_cost = request->proposed_cost;
        }
        keep_result(request, result);
        node_finish_request(node, request,
                            buf_failed(&request->result_text) ? NODE_COMMIT_UNKNOWN : NODE_OK);
    }
}

void node_drop_pending(struct node *node, raft_index index, raft_term term)
{
    while (!list_is_empty(&node->requests.pending)) {
        struct node_request *request =
            LIST_ENTRY(node->requests.pending.next, struct node_request, link);
        if (request->index > index) {
            break;
        }
        node_finish_request(node, request, NODE_COMMIT_UNKNOWN);
    }
    readmit_overwritten(node, term);
}

/* ---- every turn ---- */

/* Earlier commands may have to be sent again while their fate is not known. The fate of an earlier
 * proposal is known once an entry of the current term is applied. The fate of a forwarded command
 * is known when the earlier leader answers or its stream is lost. */
static uint64_t held_until_ns(const struct node *node)
{
    if (!list_is_empty(&node->requests.pending)) {
        const struct node_request *first =
            LIST_ENTRY(node->requests.pending.next, struct node_request, link);
        if (first->term < wal_hard_state(node->wal)->term) {
            return UINT64_MAX;
        }
    }
    if (!list_is_empty(&node->requests.forwarded)) {
        const struct node_request *first =
            LIST_ENTRY(node->requests.forwarded.next, struct node_request, link);
        if (first->forward_peer != node->leadership.leader) {
            return node->core.order_until_ns;
        }
    }
    return 0;
}

uint64_t node_push_ns(const struct node *node)
{
    if (list_is_empty(&node->requests.waiting)) {
        return UINT64_MAX;
    }
    uint64_t held_ns = held_until_ns(node);
    if (raft_can_propose(node->raft) == RAFT_PROPOSE_NOW) {
        const struct node_request *first =
            LIST_ENTRY(node->requests.waiting.next, struct node_request, link);
        return may_be_outstanding(node, cost_of(first)) ? held_ns : UINT64_MAX;
    }
    if (node_is_name_due(node)) {
        return node->leadership.name_until_ns;
    }
    if (node->leadership.leader == RAFT_NO_MEMBER || node->leadership.leader == node->self ||
        !node->forwarding.streams[node->leadership.leader].is_up) {
        return UINT64_MAX; /* no leader to forward to, or one that could not answer */
    }
    return held_ns > node->core.forward_retry_ns ? held_ns : node->core.forward_retry_ns;
}

static void refuse_waiting(struct node *node)
{
    struct list *link = node->requests.waiting.next;
    while (link != &node->requests.waiting) {
        struct node_request *request = LIST_ENTRY(link, struct node_request, link);
        link = link->next;
        if (!request->may_forward) {
            node_finish_request(node, request, NODE_NOT_LEADER);
        }
    }
}

static void push_commands(struct node *node)
{
    enum raft_propose_answer answer = raft_can_propose(node->raft);
    if (answer == RAFT_PROPOSE_NOW) {
        if (node->now_ns >= held_until_ns(node)) {
            propose(node);
        }
        return;
    }
    bool is_due = node->now_ns >= node_push_ns(node);
    if (answer == RAFT_PROPOSE_NOT_LEADER && is_due) {
        node_forward_waiting(node);
    } else if (answer == RAFT_PROPOSE_NOT_LEADER && !node_is_name_due(node)) {
        refuse_waiting(node);
    }
}

void node_push_requests(struct node *node)
{
    node_take_ready_reads(node);
    if (!list_is_empty(&node->requests.waiting)) {
        push_commands(node);
    }
    if (!list_is_empty(&node->reads.waiting) && node->leadership.leader != RAFT_NO_MEMBER &&
        node->now_ns >= node->core.read_retry_ns) {
        node_ask_read_index(node);
    }
}
