/* Follows leadership: who leads, whether this node may, and transfers. */
#include "base/log.h"
#include "driver/node_internal.h"

bool node_follow_leader(struct node *node)
{
    struct raft_status status;
    raft_get_status(node->raft, node->now_ns, &status);
    if (status.leader == node->leadership.leader && status.term == node->leadership.term) {
        return false;
    }
    raft_member before = node->leadership.leader;
    node->leadership.leader = status.leader;
    node->leadership.term = status.term;
    node->is_changed = true;
    node_leader_changed(node);
    if (status.leader == RAFT_NO_MEMBER) {
        if (before == node->self) {
            node->leadership.name_until_ns = node->now_ns + NODE_NAME_WAIT_NS;
        }
        if (before != RAFT_NO_MEMBER) {
            node->leadership.leaderless_since_ns = node->now_ns;
            log_info("node", "no leader", LOG_U64("term", status.term));
        }
        return true;
    }
    node->leadership.leaderless_since_ns = 0;
    if (before != status.leader) {
        node->counters.leader_changes++;
        log_info("node", status.leader == node->self ? "this node leads" : "new leader",
                 LOG_STR("leader", node->node_ids[status.leader]), LOG_U64("term", status.term));
    }
    return true;
}

void node_leadership_init(struct node *node)
{
    node->leadership.leader = RAFT_NO_MEMBER;
    node->leadership.leaderless_since_ns = node->now_ns;
    node->leadership.is_eligible = true;
}

void node_update_eligible(struct node *node)
{
    bool is_sound = !node->checkpoints.is_diverged && !node->drain.is_active &&
                    !node->leadership.is_store_damaged;
    bool is_eligible = is_sound && !node->log_room.is_full && !node->leadership.is_stalled;
    /* The campaign and the first entry of a new leader are written into the slack. */
    bool is_last_resort =
        is_sound && !is_eligible && wal_has_room(node->wal, NODE_LOG_SLACK_BYTES / 2);
    if (is_eligible == node->leadership.is_eligible &&
        is_last_resort == node->leadership.is_last_resort &&
        node->log_room.is_full == node->leadership.was_log_full) {
        return;
    }
    node->leadership.is_eligible = is_eligible;
    node->leadership.is_last_resort = is_last_resort;
    node->leadership.was_log_full = node->log_room.is_full;
    struct raft_event event = {
        .kind = RAFT_EVENT_ELIGIBLE,
        .eligible = {.is_eligible = is_eligible,
                     .is_last_resort = is_last_resort,
                     .is_full = node->log_room.is_full},
    };
    (void)node_step(node, &event);
}

void node_set_damaged(struct node *node)
{
    node->leadership.is_store_damaged = true;
    node->is_changed = true;
    node_update_eligible(node);
}

static bool is_fit_to_lead(const struct raft_member_status *member)
{
    return member->is_connected && member->is_whole && !member->cannot_lead;
}

bool node_has_successor(const struct node *node)
{
    struct raft_status status;
    raft_get_status(node->raft, node->now_ns, &status);
    for (raft_member member = 0; member < node->options.member_count; member++) {
        if (member != node->self && is_fit_to_lead(&status.members[member])) {
            return true;
        }
    }
    return false;
}

void node_give_leadership_away(struct node *node)
{
    struct raft_event event = {.kind = RAFT_EVENT_TRANSFER, .transfer = {.target = RAFT_NO_MEMBER}};
    (void)node_step(node, &event);
}

/* True if the state machine has applied nothing for lack of room: the store is full, or its disk
 * hangs. */
void node_look_for_stall(struct node *node)
{
    if (!chat_is_full(node->chat)) {
        node->leadership.full_since_ns = 0;
    } else if (node->leadership.full_since_ns == 0) {
        node->leadership.full_since_ns = node->now_ns;
    }
    bool is_stalled = node->leadership.full_since_ns != 0 &&
                      (atomic_load(&node->inbox.is_store_full) ||
                       node->now_ns >= node->leadership.full_since_ns + NODE_STALL_NS);
    if (is_stalled != node->leadership.is_stalled) {
        node->leadership.is_stalled = is_stalled;
        if (is_stalled) {
            log_warn("node", "the store is full or its disk is stalled: handing leadership over");
        } else {
            log_info("node", "the store has room again");
        }
        node_update_eligible(node);
    }
}

/* Returns a member that could take over at once: a transfer blocks reads and writes while it lasts.
 */
static bool has_ready_successor(const struct node *node)
{
    struct raft_status status;
    raft_get_status(node->raft, node->now_ns, &status);
    for (raft_member member = 0; member < node->options.member_count; member++) {
        const struct raft_member_status *other = &status.members[member];
        if (member != node->self && is_fit_to_lead(other) && !other->needs_snapshot &&
            other->match_index + RAFT_APPEND_ENTRIES_MAX >= status.last_index) {
            return true;
        }
    }
    return false;
}

/* A leader that cannot accept writes, or whose state is in doubt, leads only while no other node
 * can. It also writes the next term to its log, because its vote is needed for the election. */
void node_leave_if_unfit(struct node *node)
{
    if (node->leadership.is_eligible || node->drain.is_active ||
        node->now_ns < node->leadership.leave_retry_ns ||
        raft_can_propose(node->raft) != RAFT_PROPOSE_NOW || !has_ready_successor(node) ||
        !wal_has_room(node->wal, NODE_HARD_STATE_BYTES + wal_staged_bytes(node->wal))) {
        return;
    }
    uint64_t pause_ns = 4 * node->options.election_timeout_ns; /* an attempt may take one of them */
    node->leadership.leave_retry_ns =
        node->now_ns + (pause_ns > NODE_LEAVE_RETRY_NS ? pause_ns : NODE_LEAVE_RETRY_NS);
    node_give_leadership_away(node);
}

void node_start_transfer(struct node *node, raft_member target)
{
    node_clear_transfer_over(node);
    node->leadership.transfer_target = target;
    struct raft_event event = {.kind = RAFT_EVENT_TRANSFER, .transfer = {.target = target}};
    (void)node_step(node, &event);
}

static void finish_transfers(struct node *node, raft_member target, enum node_outcome outcome)
{
    struct list *link = node->requests.transfers.next;
    while (link != &node->requests.transfers) {
        struct node_request *request = LIST_ENTRY(link, struct node_request, link);
        link = link->next;
        if (request->transfer_target == target) {
            node_finish_request(node, request, outcome);
        }
    }
}

/* Only one transfer runs at a time. */
void node_settle_transfers(struct node *node)
{
    if (list_is_empty(&node->requests.transfers)) {
        return;
    }
    bool leads = node_leads(node);
    if (!leads && node->leadership.leader != RAFT_NO_MEMBER) {
        finish_transfers(node, node->leadership.leader, NODE_OK);
        finish_transfers(node, RAFT_NO_MEMBER, NODE_OK);
        node_finish_requests(node, &node->requests.transfers,
                             NODE_NOT_LEADER); /* other targets were asked for */
    } else if (leads && node->core.is_transfer_over) {
        finish_transfers(node, node->leadership.transfer_target, NODE_BAD_TARGET);
        if (!list_is_empty(&node->requests.transfers)) {
            node_start_transfer(node,
                                LIST_ENTRY(node->requests.transfers.next, struct node_request, link)
                                    ->transfer_target);
        }
    }
}
