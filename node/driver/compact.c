/* Compacts the log: decides when and how far, and what is kept for followers. */
#include "base/check.h"
#include "base/errors.h"
#include "base/log.h"
#include "driver/node_internal.h"

static raft_index lower(raft_index a, raft_index b)
{
    return a < b ? a : b;
}

void node_compaction_init(struct node *node)
{
    node->compaction.last_index = wal_first_index(node->wal) - 1;
    node->compaction.at_ns = node->now_ns + node->options.snapshot_interval_ns;
    node->compaction.at_bytes = wal_bytes(node->wal) + NODE_COMPACT_BYTES;
}

void node_note_log_replaced(struct node *node, raft_index index)
{
    node->compaction.last_index = index;
}

void node_hold_log(struct node *node, raft_member member, raft_index index, bool is_transfer)
{
    node->compaction.holds[member] = (struct log_hold){
        .index = index,
        .until_ns = node->now_ns + node->options.snapshot_interval_ns + NODE_HOLD_NS,
        .is_transfer = is_transfer,
    };
}

/* Keeps the entries that followers with progress need next. Nothing is kept for a follower without
 * progress. After an interrupted transfer, the log after its snapshot is kept for a while, because
 * the transfer may be resumed. */
static void hold_for_followers(struct node *node)
{
    struct raft_status status;
    raft_get_status(node->raft, node->now_ns, &status);
    for (raft_member i = 0; i < node->options.member_count; i++) {
        const struct raft_member_status *member = &status.members[i];
        struct log_hold *hold = &node->compaction.holds[i];
        if (status.role != RAFT_LEADER || i == node->self ||
            (!member->is_connected && !hold->is_transfer)) {
            *hold = (struct log_hold){0};
        } else if (!member->needs_snapshot && member->match_index > hold->index) {
            node_hold_log(node, i, member->match_index, false);
        }
    }
}

/* Returns the last index that no follower needs. What is kept is bounded: a follower that needs
 * more gets a snapshot. */
static raft_index held_back(const struct node *node, raft_index target)
{
    if (wal_bytes(node->wal) > NODE_HOLD_BYTES_MAX) {
        return target;
    }
    for (raft_member i = 0; i < node->options.member_count; i++) {
        const struct log_hold *hold = &node->compaction.holds[i];
        if (hold->until_ns > node->now_ns) {
            target = lower(target, hold->index);
        }
    }
    return target;
}

static void compact(struct node *node, raft_index target)
{
    raft_index first = wal_first_index(node->wal);
    int rc = wal_compact(node->wal, target);
    if (rc == ERR_NO_SPACE || rc == ERR_NOMEM) {
        return;
    }
    if (rc != 0) {
        node_set_fatal(node, "the log cannot be compacted: %s", error_text(rc));
        return;
    }
    /* Entries may leave the log only after the store has them durably. */
    CHECK(wal_first_index(node->wal) <= chat_durable_applied(node->chat) + 1);
    if (wal_first_index(node->wal) != first) {
        log_info("node", "the log is compacted", LOG_U64("first_index", wal_first_index(node->wal)),
                 LOG_U64("last_index", wal_last_index(node->wal)));
    }
}

/* A new leader does not know yet which entries its followers need. */
static bool knows_followers(const struct node *node)
{
    struct raft_status status;
    raft_get_status(node->raft, node->now_ns, &status);
    for (raft_member i = 0; i < node->options.member_count; i++) {
        const struct raft_member_status *member = &status.members[i];
        if (status.role == RAFT_LEADER && i != node->self && member->is_connected &&
            member->match_index == 0) {
            return false;
        }
    }
    return true;
}

void node_cut_for_room(struct node *node, bool keeps_trailing)
{
    if (node->options.snapshot_interval_ns == 0 || wal_has_staged(node->wal) ||
        node->fatal[0] != '\0' || !knows_followers(node)) {
        return;
    }
    raft_index durable = chat_durable_applied(node->chat);
    if (durable < node->applied_index && node->options.flush_store != NULL) {
        /* So that the next check can compact. */
        node->options.flush_store(node->options.flush_store_context);
    }
    hold_for_followers(node);
    raft_index trailing = keeps_trailing ? node->options.trailing_logs : 0;
    raft_index target = node->applied_index > trailing ? node->applied_index - trailing : 0;
    target = held_back(node, lower(target, durable));
    if (target >= wal_first_index(node->wal)) {
        compact(node, target);
    }
}

void node_compact(struct node *node)
{
    if (node->options.snapshot_interval_ns == 0) {
        return;
    }
    if (node->now_ns >= node->compaction.at_ns ||
        wal_bytes(node->wal) >= node->compaction.at_bytes) {
        node->compaction.at_bytes = wal_bytes(node->wal) + NODE_COMPACT_BYTES;
        node->compaction.at_ns = node->now_ns + node->options.snapshot_interval_ns;
        hold_for_followers(node);
        node->compaction.is_flush_asked = false;
        node->compaction.is_due =
            node->applied_index >= node->compaction.last_index + node->options.snapshot_threshold;
    }
    if (!node->compaction.is_due || wal_has_staged(node->wal)) {
        return;
    }
    raft_index trailing = node->options.trailing_logs;
    raft_index target = node->applied_index > trailing ? node->applied_index - trailing : 0;
    raft_index durable = chat_durable_applied(node->chat);
    if (durable < target && node->options.flush_store != NULL && !node->compaction.is_flush_asked) {
        /* The next call comes when the store thread has finished, or at the next check. */
        node->compaction.is_flush_asked = true;
        node->options.flush_store(node->options.flush_store_context);
    }
    bool is_whole = durable >= target;
    target = held_back(node, lower(target, durable));
    if (target >= wal_first_index(node->wal)) {
        compact(node, target);
    }
    if (is_whole) {
        node->compaction.at_bytes = wal_bytes(node->wal) + NODE_COMPACT_BYTES;
        node->compaction.is_due = false;
        node->compaction.last_index = node->applied_index;
    }
}
