/* Drains the node. Leadership is handed over, and accepted requests complete. If no node can lead,
 * that is detected soon, so that shutdown does not wait for it. */
#include "base/log.h"
#include "driver/node_internal.h"

#define HOPE_TIMEOUTS 3 /* how long a draining node waits for a quorum, in election timeouts */

void node_drain(struct node *node)
{
    atomic_store(&node->drain.is_wanted, true);
    node_wake(node);
}

void node_end_forwarding(struct node *node)
{
    atomic_store(&node->drain.is_forwarding_over, true);
}

bool node_is_drained(const struct node *node)
{
    return atomic_load(&node->drain.is_over);
}

bool node_is_hopeless(const struct node *node)
{
    return atomic_load(&node->drain.is_said_hopeless);
}

static void begin(struct node *node)
{
    node->drain.is_active = true;
    node->is_changed = true;
    node->drain.quorum_seen_ns = node->now_ns;
    log_info("node", "draining");
    node_update_eligible(node);
}

/* Starts a transfer of leadership. Starts another one if it was aborted while a node could lead. */
static void hand_over(struct node *node)
{
    node->drain.is_hopeless = !node_has_successor(node);
    if (!node->drain.is_hopeless) {
        node_give_leadership_away(node);
    }
    node->drain.retry_ns = node->now_ns + NODE_RETRY_NS;
}

/* True if most nodes are gone, or drain too and elect no leader. */
static bool has_lost_quorum(struct node *node)
{
    struct raft_status status;
    raft_get_status(node->raft, node->now_ns, &status);
    if (status.has_quorum) {
        node->drain.quorum_seen_ns = node->now_ns;
    }
    return node->now_ns >=
           node->drain.quorum_seen_ns + HOPE_TIMEOUTS * node->options.election_timeout_ns;
}

void node_leader_leaves(struct node *node)
{
    node->drain.is_leader_leaving = true;
    node->drain.is_hopeless = true;
}

/* Ends what waits, because no node can take it: it was not proposed. Without a quorum, the outcome
 * of pending requests cannot become known either. */
static void give_up(struct node *node, bool is_quorum_lost)
{
    node_finish_requests(node, &node->requests.waiting, NODE_DRAINING);
    node_finish_requests(node, &node->reads.waiting, NODE_DRAINING);
    if (is_quorum_lost) {
        node_finish_requests(node, &node->requests.pending, NODE_COMMIT_UNKNOWN);
        node_finish_requests(node, &node->requests.forwarded, NODE_COMMIT_UNKNOWN);
        node_finish_requests(node, &node->requests.answered, NODE_OK);
    }
}

void node_drain_turn(struct node *node)
{
    if (!atomic_load(&node->drain.is_wanted)) {
        return;
    }
    if (!node->drain.is_active) {
        begin(node);
    }
    enum raft_propose_answer answer = raft_can_propose(node->raft);
    if (answer == RAFT_PROPOSE_NOW && node->now_ns >= node->drain.retry_ns) {
        hand_over(node);
    }
    bool leads = raft_can_propose(node->raft) != RAFT_PROPOSE_NOT_LEADER;
    bool is_quorum_lost = has_lost_quorum(node);
    if (!leads && node->leadership.leader != RAFT_NO_MEMBER && !node->drain.is_leader_leaving) {
        node->drain.is_hopeless = false; /* another node leads */
    }
    node->drain.is_hopeless = node->drain.is_hopeless || (!leads && is_quorum_lost);
    if (node->drain.is_hopeless && !leads) {
        give_up(node, is_quorum_lost);
    }
    bool is_handed_over = !leads || node->drain.is_hopeless;
    bool is_idle =
        list_is_empty(&node->requests.pending) && list_is_empty(&node->requests.waiting) &&
        list_is_empty(&node->requests.forwarded) && list_is_empty(&node->requests.answered);
    atomic_store(&node->drain.is_said_hopeless, node->drain.is_hopeless);
    atomic_store(&node->drain.is_over, is_handed_over && is_idle);
}

void node_forget_leaving_leader(struct node *node)
{
    node->drain.is_leader_leaving = false;
}
