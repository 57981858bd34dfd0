/* Read barriers: requests wait for a read index, and then until it is applied. */
#include "base/check.h"
#include "driver/node_internal.h"

#include <stdlib.h>

void node_reads_init(struct node *node)
{
    list_init(&node->reads.waiting);
    list_init(&node->reads.asked);
    list_init(&node->reads.indexed);
    /* The seed makes ids differ between processes, as in node_forwarding_init(). The core requires
     * increasing ids. */
    node->reads.next_id = node->options.seed >> 1;
}

static void free_groups(struct list *groups)
{
    struct list *link;
    while ((link = list_pop_front(groups)) != NULL) {
        struct read_group *group = LIST_ENTRY(link, struct read_group, link);
        CHECK(list_is_empty(&group->requests));
        free(group);
    }
}

void node_reads_finish(struct node *node)
{
    free_groups(&node->reads.asked);
    free_groups(&node->reads.indexed);
}

void node_wait_for_read_index(struct node *node, struct node_request *request)
{
    list_push_back(&node->reads.waiting, &request->link);
}

void node_ask_read_index(struct node *node)
{
    struct read_group *group = calloc(1, sizeof(*group));
    if (group == NULL) {
        node_finish_requests(node, &node->reads.waiting, NODE_OVERLOADED);
        return;
    }
    list_init(&group->requests);
    list_splice_back(&group->requests, &node->reads.waiting);
    group->id = ++node->reads.next_id;
    list_push_back(&node->reads.asked, &group->link);
    struct raft_event event = {.kind = RAFT_EVENT_READ, .read = {.id = group->id}};
    if (node_step(node, &event) != 0) {
        /* The core has too many reads; the next turn tries again. */
        list_splice_back(&node->reads.waiting, &group->requests);
        list_remove(&group->link);
        free(group);
        node_delay_reads(node);
    }
}

static void read_refused(struct node *node, struct read_group *group)
{
    struct list *link = group->requests.next;
    while (link != &group->requests) {
        struct node_request *request = LIST_ENTRY(link, struct node_request, link);
        link = link->next;
        if (request->is_leader_only) {
            node_finish_request(node, request, NODE_NO_QUORUM);
        }
    }
    list_splice_back(&node->reads.waiting, &group->requests);
}

static void take_ready_read(struct node *node, const struct raft_ready_read *ready)
{
    struct read_group *group = NULL;
    LIST_FOR_EACH (link, &node->reads.asked) {
        struct read_group *candidate = LIST_ENTRY(link, struct read_group, link);
        if (candidate->id == ready->id) {
            group = candidate;
            break;
        }
    }
    CHECK(group != NULL);
    list_remove(&group->link);
    if (!ready->confirmed) {
        read_refused(node, group);
        free(group);
        return;
    }
    group->index = ready->index;
    LIST_FOR_EACH (link, &group->requests) {
        struct node_request *request = LIST_ENTRY(link, struct node_request, link);
        request->expires_ns = request->deadline_ns;
        node_note_expiry(node, request->expires_ns);
    }
    list_push_back(&node->reads.indexed, &group->link);
}

void node_take_ready_reads(struct node *node)
{
    for (size_t i = 0; i < node->core.ready_read_count; i++) {
        take_ready_read(node, &node->core.ready_reads[i]);
    }
    node_clear_ready_reads(node);
}

void node_release_reads(struct node *node)
{
    node_take_ready_reads(node);
    struct list *link = node->reads.indexed.next;
    while (link != &node->reads.indexed) {
        struct read_group *group = LIST_ENTRY(link, struct read_group, link);
        link = link->next;
        if (group->index <= node->applied_index) {
            node_finish_requests(node, &group->requests, NODE_OK);
        } else if (node->progress.is_still) {
            node_finish_requests(node, &group->requests, NODE_STANDS_STILL);
        }
        if (list_is_empty(&group->requests)) {
            list_remove(&group->link);
            free(group);
        }
    }
}
