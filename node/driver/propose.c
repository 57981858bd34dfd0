/* Requests: admission, proposing, transfers, deadlines, ends. Each request is in exactly one list
 * of struct node until node_finish_request() moves it to `finished`. */
#include "base/check.h"
#include "driver/node_internal.h"

/* ---- ends ---- */

void node_finish_request(struct node *node, struct node_request *request, enum node_outcome outcome)
{
    /* That nothing was proposed is true of the last try only. */
    bool is_unknown = request->is_unsure && outcome != NODE_OK && outcome != NODE_DEADLINE;
    request->outcome = is_unknown ? NODE_COMMIT_UNKNOWN : outcome;
    request->leader = node->leader;
    node_unwatch_forward(node, request);
    if (request->kind == NODE_REQUEST_COMMAND) {
        node->proposals_pending--;
        node->proposals_failed += outcome != NODE_OK;
    }
    node->reads_total += request->kind == NODE_REQUEST_READ && outcome == NODE_OK;
    list_remove(&request->link);
    list_push_back(&node->finished, &request->link);
}

static void complete(struct node *node, struct node_request *request, uint64_t now_ns)
{
    if (request->kind == NODE_REQUEST_COMMAND && request->outcome == NODE_OK) {
        /* A turn may be given a time that is ahead of the clock. */
        bool is_behind = now_ns > request->submitted_ns;
        latency_record(&node->proposal_latency, is_behind ? now_ns - request->submitted_ns : 0);
    }
    /* done() may free the request, so its buffer is taken out first. */
    struct buf text = request->result_text;
    request->result_text = (struct buf){0};
    node_give_room(node, request->command_size);
    request->done(request);
    buf_finish(&text);
}

static void complete_all(struct node *node)
{
    uint64_t now_ns = clock_monotonic_ns(node->options.clock);
    struct list *link;
    while ((link = list_pop_front(&node->finished)) != NULL) {
        complete(node, LIST_ENTRY(link, struct node_request, link), now_ns);
    }
}

void node_complete(struct node *node)
{
    const uint64_t budget_ns = node->options.heartbeat_interval_ns / 4;
    uint64_t now_ns = list_is_empty(&node->finished) ? 0 : clock_monotonic_ns(node->options.clock);
    while (!list_is_empty(&node->finished) && node->completions < NODE_COMPLETE_TURN_MAX &&
           node->completing_ns <= budget_ns) {
        complete(node, LIST_ENTRY(list_pop_front(&node->finished), struct node_request, link),
                 now_ns);
        if (++node->completions % NODE_COMPLETE_CHECK == 0) {
            uint64_t end_ns = clock_monotonic_ns(node->options.clock);
            node->completing_ns += end_ns - now_ns;
            now_ns = end_ns;
        }
    }
}

void node_finish_requests(struct node *node, struct list *requests, enum node_outcome outcome)
{
    while (!list_is_empty(requests)) {
        node_finish_request(node, LIST_ENTRY(requests->next, struct node_request, link), outcome);
    }
}

/* ---- admission ---- */

static bool is_leader(const struct node *node)
{
    return raft_can_propose(node->raft) != RAFT_PROPOSE_NOT_LEADER;
}

void node_note_expiry(struct node *node, uint64_t expires_ns)
{
    if (expires_ns < node->expire_at_ns) {
        node->expire_at_ns = expires_ns;
    }
}

/* A little before the caller's deadline, so that it hears why. */
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
    struct list *position = node->waiting.prev;
    const struct list *first = node->waiting.next;
    if (first != &node->waiting &&
        LIST_ENTRY(first, struct node_request, link)->order > request->order) {
        position = &node->waiting; /* many may come back at once: they do so from the last on */
    }
    while (position != &node->waiting &&
           LIST_ENTRY(position, struct node_request, link)->order > request->order) {
        position = position->prev;
    }
    list_insert_after(&request->link, position);
}

static bool is_name_due(const struct node *node)
{
    return node->leader == RAFT_NO_MEMBER && node->now_ns < node->name_until_ns;
}

static void admit_command(struct node *node, struct node_request *request)
{
    if (!is_leader(node) && !request->may_forward && !is_name_due(node)) {
        /* A node that drains still names the leader that took over. */
        node_finish_request(node, request, NODE_NOT_LEADER);
        return;
    }
    if (node->is_drain_hopeless) {
        node_finish_request(node, request, NODE_DRAINING);
        return;
    }
    node_wait_for_leader(node, request);
}

static void admit_read(struct node *node, struct node_request *request)
{
    request->was_leader = is_leader(node);
    if (request->is_leader_only && !is_leader(node)) {
        node_finish_request(node, request, NODE_NOT_LEADER);
        return;
    }
    if (node->is_drain_hopeless && !is_leader(node)) {
        node_finish_request(node, request, NODE_DRAINING);
        return;
    }
    request->expires_ns =
        wait_until(node, request, NODE_READ_WAIT_TIMEOUTS * node->options.election_timeout_ns);
    node_note_expiry(node, request->expires_ns);
    list_push_back(&node->reads_new, &request->link);
}

static void start_transfer(struct node *node, raft_member target)
{
    node->is_transfer_over = false;
    node->transfer_target = target;
    struct raft_event event = {.kind = RAFT_EVENT_TRANSFER, .transfer = {.target = target}};
    (void)node_step(node, &event);
}

static void admit_transfer(struct node *node, struct node_request *request)
{
    raft_member target = request->transfer_target;
    if (!is_leader(node)) {
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
    bool is_first = list_is_empty(&node->transfers);
    list_push_back(&node->transfers, &request->link);
    if (is_first) {
        start_transfer(node, target);
    }
}

void node_admit(struct node *node, struct node_request *request)
{
    request->order = node->next_order++;
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
        request->may_forward = request->may_forward && !atomic_load(&node->is_forwarding_over);
        request->is_watched = false;
        request->is_stored = false;
        request->came_wall_ms = clock_wall_ms(node->options.clock);
        node->proposals_total++;
        node->proposals_pending++;
        admit_command(node, request);
        break;
    case NODE_REQUEST_READ:
        admit_read(node, request);
        break;
    case NODE_REQUEST_TRANSFER:
        admit_transfer(node, request);
        break;
    }
}

/* ---- proposing ---- */

static uint64_t cost_of(const struct node_request *request)
{
    return request->command_size + NODE_PENDING_ENTRY_BYTES;
}

/* Of what this node has proposed in its term and has not applied, whether anybody waits for it
 * still or not. */
static uint64_t outstanding_cost(const struct node *node)
{
    bool is_over = node->proposed_term != wal_hard_state(node->wal)->term ||
                   node->applied_index >= node->proposed_index;
    return is_over ? 0 : node->proposed_cost - node->applied_cost;
}

/* So that it finds room on the disks of those that have just called themselves full, and in the
 * overlay. A larger command goes alone. */
static bool may_be_outstanding(const struct node *node, uint64_t cost)
{
    uint64_t outstanding = outstanding_cost(node);
    return outstanding == 0 || outstanding + cost <= NODE_PENDING_BYTES_MAX;
}

/* By index; indexes may come again in a later term while older ones still wait for their fate. */
static void add_pending(struct node *node, struct node_request *request)
{
    struct list *position = node->pending.prev;
    while (position != &node->pending &&
           LIST_ENTRY(position, struct node_request, link)->index > request->index) {
        position = position->prev;
    }
    list_insert_after(&request->link, position);
}

/* Takes from `waiting` what fits in one batch, in order. */
static uint32_t fill_batch(struct node *node, struct list *batch)
{
    uint32_t count = 0;
    uint64_t bytes = 0;
    uint64_t cost = outstanding_cost(node);
    int64_t wall_ms = clock_wall_ms(node->options.clock);
    while (!list_is_empty(&node->waiting) && count < RAFT_APPEND_ENTRIES_MAX) {
        struct node_request *request = LIST_ENTRY(node->waiting.next, struct node_request, link);
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
    int rc = node_step(node, &event);
    CHECK(rc == 0);
    raft_term term = wal_term(node->wal, first);
    if (outstanding_cost(node) == 0) {
        node->applied_cost = node->proposed_cost;
    }
    node->proposed_term = term;
    struct list *link;
    while ((link = list_pop_front(&batch)) != NULL) {
        struct node_request *request = LIST_ENTRY(link, struct node_request, link);
        request->index = first++;
        request->term = term;
        node->proposed_index = request->index;
        node->proposed_cost += cost_of(request);
        request->proposed_cost = node->proposed_cost;
        request->expires_ns = request->deadline_ns;
        node_note_expiry(node, request->expires_ns);
        add_pending(node, request);
    }
}

static void propose(struct node *node)
{
    if (chat_is_full(node->chat)) {
        node_finish_requests(node, &node->waiting,
                             atomic_load(&node->is_store_full) ? NODE_DISK_FULL : NODE_OVERLOADED);
        return;
    }
    const struct node_request *first = LIST_ENTRY(node->waiting.next, struct node_request, link);
    if (!node_has_room_for_batch(node, first->command_size) || !node_has_majority_room(node)) {
        node_finish_requests(node, &node->waiting, NODE_DISK_FULL);
        return;
    }
    bool may_propose = raft_can_propose(node->raft) == RAFT_PROPOSE_NOW; /* room may change it */
    if (may_propose && may_be_outstanding(node, cost_of(first))) {
        propose_batch(node);
    }
}

/* Terms never decrease along a log: an entry of an earlier term at or behind a committed one of
 * `term` was overwritten, or will be. It was certainly not applied. */
static void readmit_overwritten(struct node *node, raft_term term)
{
    struct list *link = node->pending.prev;
    while (link != &node->pending) {
        struct node_request *request = LIST_ENTRY(link, struct node_request, link);
        link = link->prev;
        if (request->term < term) {
            list_remove(&request->link);
            admit_command(node, request);
        }
    }
}

void node_entry_applied(struct node *node, raft_index index, raft_term term,
                        const struct command_result *result)
{
    if (!list_is_empty(&node->pending) &&
        LIST_ENTRY(node->pending.prev, struct node_request, link)->term < term) {
        readmit_overwritten(node, term);
    }
    while (!list_is_empty(&node->pending)) {
        struct node_request *request = LIST_ENTRY(node->pending.next, struct node_request, link);
        if (request->index > index) {
            return;
        }
        if (request->term != term) {
            /* Another entry has its place, of an even earlier term: it was certainly not applied.
             */
            list_remove(&request->link);
            admit_command(node, request);
            continue;
        }
        if (request->proposed_cost > node->applied_cost) {
            node->applied_cost = request->proposed_cost;
        }
        request->result = *result;
        if (result->channel_id.size + result->name.size > 0) {
            /* The views do not outlive the next apply. */
            buf_append(&request->result_text, result->channel_id.data, result->channel_id.size);
            buf_append(&request->result_text, result->name.data, result->name.size);
            const uint8_t *text = request->result_text.data;
            request->result.channel_id.data = text;
            request->result.name.data = text == NULL ? NULL : text + result->channel_id.size;
        }
        node_finish_request(node, request,
                            buf_failed(&request->result_text) ? NODE_COMMIT_UNKNOWN : NODE_OK);
    }
}

void node_drop_pending(struct node *node, raft_index index, raft_term term)
{
    while (!list_is_empty(&node->pending)) {
        struct node_request *request = LIST_ENTRY(node->pending.next, struct node_request, link);
        if (request->index > index) {
            break;
        }
        node_finish_request(node, request, NODE_COMMIT_UNKNOWN);
    }
    readmit_overwritten(node, term);
}

/* ---- every turn ---- */

/* Earlier commands may have to go again: they were proposed here in an earlier term, or forwarded
 * to an earlier leader, and their fate is not known yet. The first entry of this term that is
 * applied tells the one, the earlier leader or the loss of its stream the other. */
static uint64_t held_until_ns(const struct node *node)
{
    if (!list_is_empty(&node->pending)) {
        const struct node_request *first =
            LIST_ENTRY(node->pending.next, struct node_request, link);
        if (first->term < wal_hard_state(node->wal)->term) {
            return UINT64_MAX;
        }
    }
    if (!list_is_empty(&node->forwarded)) {
        const struct node_request *first =
            LIST_ENTRY(node->forwarded.next, struct node_request, link);
        if (first->forward_peer != node->leader) {
            return node->order_until_ns;
        }
    }
    return 0;
}

uint64_t node_push_ns(const struct node *node)
{
    if (list_is_empty(&node->waiting)) {
        return UINT64_MAX;
    }
    uint64_t held_ns = held_until_ns(node);
    if (raft_can_propose(node->raft) == RAFT_PROPOSE_NOW) {
        const struct node_request *first =
            LIST_ENTRY(node->waiting.next, struct node_request, link);
        return may_be_outstanding(node, cost_of(first)) ? held_ns : UINT64_MAX;
    }
    if (is_name_due(node)) {
        return node->name_until_ns;
    }
    if (node->leader == RAFT_NO_MEMBER || node->leader == node->self ||
        !node->streams[node->leader].is_up) {
        return UINT64_MAX; /* nobody to forward to, or one that could not answer */
    }
    return held_ns > node->forward_retry_ns ? held_ns : node->forward_retry_ns;
}

static void refuse_waiting(struct node *node)
{
    struct list *link = node->waiting.next;
    while (link != &node->waiting) {
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
    } else if (answer == RAFT_PROPOSE_NOT_LEADER && !is_name_due(node)) {
        refuse_waiting(node);
    }
}

void node_push_requests(struct node *node)
{
    if (!list_is_empty(&node->waiting)) {
        push_commands(node);
    }
    if (!list_is_empty(&node->reads_new) && node->leader != RAFT_NO_MEMBER &&
        node->now_ns >= node->read_retry_ns) {
        node_ask_read_index(node);
    }
}

void node_leader_changed(struct node *node)
{
    node->order_until_ns = node->now_ns + NODE_ORDER_WAIT_NS;
    node->forward_retry_ns = 0;
    node->read_retry_ns = 0;
}

static void finish_transfers(struct node *node, raft_member target, enum node_outcome outcome)
{
    struct list *link = node->transfers.next;
    while (link != &node->transfers) {
        struct node_request *request = LIST_ENTRY(link, struct node_request, link);
        link = link->next;
        if (request->transfer_target == target) {
            node_finish_request(node, request, outcome);
        }
    }
}

/* They are tried one after the other. */
void node_settle_transfers(struct node *node)
{
    if (list_is_empty(&node->transfers)) {
        return;
    }
    bool leads = is_leader(node);
    if (!leads && node->leader != RAFT_NO_MEMBER) {
        finish_transfers(node, node->leader, NODE_OK);
        finish_transfers(node, RAFT_NO_MEMBER, NODE_OK);
        node_finish_requests(node, &node->transfers, NODE_NOT_LEADER); /* others were asked for */
    } else if (leads && node->is_transfer_over) {
        finish_transfers(node, node->transfer_target, NODE_BAD_TARGET);
        if (!list_is_empty(&node->transfers)) {
            start_transfer(
                node, LIST_ENTRY(node->transfers.next, struct node_request, link)->transfer_target);
        }
    }
}

/* ---- deadlines ---- */

static void expire_list(struct node *node, struct list *requests, enum node_outcome outcome)
{
    struct list *link = requests->next;
    while (link != requests) {
        struct node_request *request = LIST_ENTRY(link, struct node_request, link);
        link = link->next;
        if (request->expires_ns > node->now_ns) {
            node_note_expiry(node, request->expires_ns);
            continue;
        }
        enum node_outcome end = outcome;
        if (outcome == NODE_COMMIT_UNKNOWN && request->has_caller_deadline && is_leader(node)) {
            end = NODE_DEADLINE;
        }
        node_finish_request(node, request, end);
    }
}

void node_expire(struct node *node)
{
    if (node->now_ns < node->expire_at_ns) {
        return;
    }
    node->expire_at_ns = UINT64_MAX;
    enum node_outcome waiting = is_leader(node) ? NODE_DEADLINE : NODE_NO_QUORUM;
    expire_list(node, &node->waiting, waiting);
    expire_list(node, &node->pending, NODE_COMMIT_UNKNOWN);
    expire_list(node, &node->forwarded, NODE_COMMIT_UNKNOWN);
    expire_list(node, &node->answered, NODE_OK);
    expire_list(node, &node->reads_new, NODE_NO_QUORUM);
    expire_list(node, &node->transfers, NODE_DEADLINE);
    LIST_FOR_EACH (link, &node->reads_asked) {
        expire_list(node, &LIST_ENTRY(link, struct read_group, link)->requests, NODE_NO_QUORUM);
    }
    LIST_FOR_EACH (link, &node->reads_indexed) {
        expire_list(node, &LIST_ENTRY(link, struct read_group, link)->requests, NODE_DEADLINE);
    }
}

static void close_inbox(struct node *node)
{
    struct list last;
    list_init(&last);
    pthread_mutex_lock(&node->inbox_lock);
    node->is_closed = true;
    list_splice_back(&last, &node->inbox_requests);
    pthread_mutex_unlock(&node->inbox_lock);
    struct list *link;
    while ((link = list_pop_front(&last)) != NULL) {
        node_admit(node, LIST_ENTRY(link, struct node_request, link));
    }
}

void node_fail_all(struct node *node)
{
    close_inbox(node);
    node_finish_requests(node, &node->waiting, NODE_DRAINING);
    node_finish_requests(node, &node->pending, NODE_COMMIT_UNKNOWN);
    node_finish_requests(node, &node->forwarded, NODE_COMMIT_UNKNOWN);
    node_finish_requests(node, &node->answered, NODE_OK);
    node_finish_requests(node, &node->reads_new, NODE_DRAINING);
    node_finish_requests(node, &node->transfers, NODE_COMMIT_UNKNOWN);
    struct list *lists[] = {&node->reads_asked, &node->reads_indexed};
    for (size_t i = 0; i < sizeof(lists) / sizeof(lists[0]); i++) {
        LIST_FOR_EACH (link, lists[i]) {
            node_finish_requests(node, &LIST_ENTRY(link, struct read_group, link)->requests,
                                 NODE_DRAINING);
        }
    }
    complete_all(node);
}
