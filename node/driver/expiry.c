/* Deadlines of requests, and the end of all of them. */
#include "driver/node_internal.h"

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
        if (outcome == NODE_COMMIT_UNKNOWN && request->has_caller_deadline && node_leads(node)) {
            end = NODE_DEADLINE;
        }
        node_finish_request(node, request, end);
    }
}

void node_expire(struct node *node)
{
    if (node->now_ns < node->requests.expire_at_ns) {
        return;
    }
    node_reset_expiry(node);
    enum node_outcome waiting = node_leads(node) ? NODE_DEADLINE : NODE_NO_QUORUM;
    expire_list(node, &node->requests.waiting, waiting);
    expire_list(node, &node->requests.pending, NODE_COMMIT_UNKNOWN);
    expire_list(node, &node->requests.forwarded, NODE_COMMIT_UNKNOWN);
    expire_list(node, &node->requests.answered, NODE_OK);
    expire_list(node, &node->reads.waiting, NODE_NO_QUORUM);
    expire_list(node, &node->requests.transfers, NODE_DEADLINE);
    LIST_FOR_EACH (link, &node->reads.asked) {
        expire_list(node, &LIST_ENTRY(link, struct read_group, link)->requests, NODE_NO_QUORUM);
    }
    LIST_FOR_EACH (link, &node->reads.indexed) {
        expire_list(node, &LIST_ENTRY(link, struct read_group, link)->requests, NODE_DEADLINE);
    }
}

static void close_inbox(struct node *node)
{
    struct list last;
    list_init(&last);
    node_inbox_close(node, &last);
    struct list *link;
    while ((link = list_pop_front(&last)) != NULL) {
        node_admit(node, LIST_ENTRY(link, struct node_request, link));
    }
}

void node_fail_all(struct node *node)
{
    close_inbox(node);
    node_take_ready_reads(node);
    node_finish_requests(node, &node->requests.waiting, NODE_DRAINING);
    node_finish_requests(node, &node->requests.pending, NODE_COMMIT_UNKNOWN);
    node_finish_requests(node, &node->requests.forwarded, NODE_COMMIT_UNKNOWN);
    node_finish_requests(node, &node->requests.answered, NODE_OK);
    node_finish_requests(node, &node->reads.waiting, NODE_DRAINING);
    node_finish_requests(node, &node->requests.transfers, NODE_COMMIT_UNKNOWN);
    struct list *lists[] = {&node->reads.asked, &node->reads.indexed};
    for (size_t i = 0; i < sizeof(lists) / sizeof(lists[0]); i++) {
        LIST_FOR_EACH (link, lists[i]) {
            node_finish_requests(node, &LIST_ENTRY(link, struct read_group, link)->requests,
                                 NODE_DRAINING);
        }
    }
    node_complete_all(node);
}
