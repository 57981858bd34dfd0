/* Detects a node that lags behind and applies nothing. */
#include "base/log.h"
#include "driver/node_internal.h"

void node_progress_init(struct node *node)
{
    node->progress.heard_leader = RAFT_NO_MEMBER;
}

void node_note_heard(struct node *node, raft_member from, const struct raft_message *message)
{
    if (message->term >= node->progress.heard_term) {
        node->progress.heard_leader = from;
        node->progress.heard_term = message->term;
        node->progress.heard_commit = message->append_request.commit;
        node->progress.heard_ns = node->now_ns;
    }
}

/* Returns the reason, as far as this node knows it. */
raft_index node_known_commit(const struct node *node)
{
    bool is_more = node->leadership.leader != node->self &&
                   node->progress.heard_commit > node->core.commit_index;
    return is_more ? node->progress.heard_commit : node->core.commit_index;
}

static const char *why_still(const struct node *node)
{
    if (node->log_room.is_full) {
        return "its disk has no room for the log";
    }
    if (chat_is_overfull(node->chat)) {
        return atomic_load(&node->inbox.is_store_full) ? "the store is full"
                                                       : "the store does not accept writes";
    }
    return node->snapshots.receiving.is_active ? "a snapshot is being received"
                                               : "the missing entries do not arrive";
}

/* Marks a node that lags without progress as standing still: it is not ready, and its clients
 * should use another node. */
void node_look_for_progress(struct node *node)
{
    bool is_level = node->applied_index >= node_known_commit(node);
    if (is_level || node->progress.still_since_ns == 0 ||
        node->applied_index != node->progress.still_index) {
        node->progress.still_index = node->applied_index;
        node->progress.still_since_ns = is_level ? 0 : node->now_ns;
    }
    uint64_t limit_ns = NODE_STILL_TIMEOUTS * node->options.election_timeout_ns;
    bool is_still = !is_level && node->now_ns >= node->progress.still_since_ns + limit_ns;
    if (is_still == node->progress.is_still) {
        return;
    }
    node->progress.is_still = is_still;
    node->is_changed = true;
    if (is_still) {
        log_warn("node", "this node applies nothing while the other nodes do",
                 LOG_STR("reason", why_still(node)), LOG_U64("applied_index", node->applied_index),
                 LOG_U64("commit_index", node_known_commit(node)));
    } else {
        log_info("node", "this node applies entries again",
                 LOG_U64("applied_index", node->applied_index));
    }
}
