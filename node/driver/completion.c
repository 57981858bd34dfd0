/* Completes requests: outcomes, and calls of done(). */
#include "base/check.h"
#include "driver/node_internal.h"

void node_requests_init(struct node *node)
{
    struct node_requests *requests = &node->requests;
    struct list *lists[] = {&requests->waiting,  &requests->pending,   &requests->forwarded,
                            &requests->answered, &requests->transfers, &requests->finished};
    for (size_t i = 0; i < sizeof(lists) / sizeof(lists[0]); i++) {
        list_init(lists[i]);
    }
    requests->expire_at_ns = UINT64_MAX;
}

void node_requests_finish(struct node *node)
{
    CHECK(list_is_empty(&node->requests.pending));
    CHECK(list_is_empty(&node->requests.waiting));
}

void node_begin_completions(struct node *node)
{
    node->requests.completions = 0;
    node->requests.completing_ns = 0;
}

void node_finish_request(struct node *node, struct node_request *request, enum node_outcome outcome)
{
    /* An outcome that says "nothing was proposed" is true only for the last attempt. */
    bool is_unknown = request->is_unsure && outcome != NODE_OK && outcome != NODE_DEADLINE;
    request->outcome = is_unknown ? NODE_COMMIT_UNKNOWN : outcome;
    request->leader = node->leadership.leader;
    if (request->chain != NULL &&
        (request->outcome != NODE_OK || request->result.outcome != COMMAND_OK)) {
        request->chain->is_broken = true;
    }
    node_unwatch_forward(node, request);
    if (request->kind == NODE_REQUEST_COMMAND) {
        node->counters.proposals_pending--;
        node->counters.proposals_failed += outcome != NODE_OK;
    }
    node->counters.reads_total += request->kind == NODE_REQUEST_READ && outcome == NODE_OK;
    list_remove(&request->link);
    list_push_back(&node->requests.finished, &request->link);
}

static void complete(struct node *node, struct node_request *request, uint64_t now_ns)
{
    if (request->kind == NODE_REQUEST_COMMAND && request->outcome == NODE_OK) {
        /* now_ns of a turn may be ahead of the clock. */
        bool is_behind = now_ns > request->submitted_ns;
        latency_record(&node->counters.proposal_latency,
                       is_behind ? now_ns - request->submitted_ns : 0);
    }
    /* done() may free the request, so its buffer is taken out first. */
    struct buf text = request->result_text;
    struct buf stored = request->stored_result;
    request->result_text = (struct buf){0};
    request->stored_result = (struct buf){0};
    node_give_room(node, request->command_size);
    request->done(request);
    buf_finish(&text);
    buf_finish(&stored);
}

void node_complete_all(struct node *node)
{
    uint64_t now_ns = clock_monotonic_ns(node->options.clock);
    struct list *link;
    while ((link = list_pop_front(&node->requests.finished)) != NULL) {
        complete(node, LIST_ENTRY(link, struct node_request, link), now_ns);
    }
}

void node_complete(struct node *node)
{
    const uint64_t budget_ns = node->options.heartbeat_interval_ns / 4;
    uint64_t now_ns =
        list_is_empty(&node->requests.finished) ? 0 : clock_monotonic_ns(node->options.clock);
    while (!list_is_empty(&node->requests.finished) &&
           node->requests.completions < NODE_COMPLETE_TURN_MAX &&
           node->requests.completing_ns <= budget_ns) {
        complete(node,
                 LIST_ENTRY(list_pop_front(&node->requests.finished), struct node_request, link),
                 now_ns);
        if (++node->requests.completions % NODE_COMPLETE_CHECK == 0) {
            uint64_t end_ns = clock_monotonic_ns(node->options.clock);
            node->requests.completing_ns += end_ns - now_ns;
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

void node_note_expiry(struct node *node, uint64_t expires_ns)
{
    if (expires_ns < node->requests.expire_at_ns) {
        node->requests.expire_at_ns = expires_ns;
    }
}

void node_reset_expiry(struct node *node)
{
    node->requests.expire_at_ns = UINT64_MAX;
}

uint64_t node_take_order(struct node *node)
{
    return node->requests.next_order++;
}
