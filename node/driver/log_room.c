/* Reserves room on the disk for the log, ahead of need: a write that finds no room would end the
 * process.
 *
 * A node is full while there is no room for the largest batch and for what a leader may have in
 * flight. A full node refuses commands and does not lead. Its answers report this to the leader,
 * which refuses commands while a majority is full. Entries in flight at that time usually still
 * find room. A message that the node has no room to record is dropped. */
#include "base/log.h"
#include "driver/node_internal.h"

static bool cut_and_look(struct node *node, uint64_t bytes, bool keeps_trailing)
{
    node_cut_for_room(node, keeps_trailing);
    node_maintain_log_now(node);
    return wal_has_room(node->wal, bytes);
}

static bool has_room(struct node *node, uint64_t bytes)
{
    if (!wal_has_room(node->wal, bytes)) {
        node_maintain_log(node);
    }
    if (!wal_has_room(node->wal, bytes) && !wal_has_staged(node->wal) &&
        node->now_ns >= node->log_room.cut_retry_ns) {
        /* The log itself may be what fills the disk. */
        bool has_helped = cut_and_look(node, bytes, true) || cut_and_look(node, bytes, false);
        node->log_room.cut_retry_ns = has_helped ? 0 : node->now_ns + NODE_MAINTAIN_RETRY_NS;
    }
    return node->fatal[0] == '\0' && wal_has_room(node->wal, bytes);
}

static void set_full(struct node *node, bool is_full)
{
    if (is_full == node->log_room.is_full) {
        return;
    }
    node->log_room.is_full = is_full;
    node->is_changed = true;
    if (is_full) {
        log_error("node", "no room for the log on the disk: refusing writes");
    } else {
        log_info("node", "the disk has room for the log again");
    }
    node_update_eligible(node);
}

static uint64_t batch_bytes(uint64_t command_bytes)
{
    uint64_t payload = NODE_PENDING_BYTES_MAX + NODE_PROPOSE_BYTES_MAX;
    payload = command_bytes > payload ? command_bytes : payload;
    return payload + RAFT_APPEND_ENTRIES_MAX * WAL_ENTRY_OVERHEAD_BYTES + NODE_LOG_SLACK_BYTES +
           NODE_HARD_STATE_BYTES;
}

bool node_has_room_for_batch(struct node *node, uint64_t command_bytes)
{
    uint64_t bytes = batch_bytes(command_bytes);
    bytes = bytes > node->log_room.wanted ? bytes : node->log_room.wanted;
    bool is_full = !has_room(node, bytes);
    node->log_room.wanted = is_full ? bytes : 0;
    set_full(node, is_full);
    return !is_full;
}

void node_look_for_room(struct node *node)
{
    if (node->log_room.is_full || !wal_has_room(node->wal, batch_bytes(0))) {
        (void)node_has_room_for_batch(node, 0);
        node_update_eligible(node); /* because the slack shrinks */
    }
}

bool node_has_majority_room(struct node *node)
{
    bool is_full = raft_is_majority_full(node->raft);
    if (is_full != node->log_room.is_majority_full) {
        node->log_room.is_majority_full = is_full;
        const char *text = is_full ? "no room on the disks of too many members: refusing writes"
                                   : "the disks of a majority have room again";
        uint64_t suppressed;
        log_limit_reset(&node->log_room.news);
        if (log_limit_passes(&node->log_room.news, node->now_ns, text, &suppressed)) {
            LOG_AT(is_full ? LOG_LEVEL_ERROR : LOG_LEVEL_INFO, "node", text,
                   LOG_U64("suppressed", suppressed));
        }
    }
    return !is_full;
}

/* Returns the bytes of the entries that this node does not have yet. The first entry of a new
 * leader may use the slack: without it no node knows what is committed, and no read can be served.
 */
static uint64_t bytes_for_entries(const struct node *node, const struct raft_message *message)
{
    uint64_t count = 0;
    uint64_t payload = 0;
    raft_index index = message->append_request.prev_index;
    for (uint32_t i = 0; i < message->append_request.count; i++) {
        const struct raft_entry *entry = &message->append_request.entries[i];
        index++;
        if (wal_term(node->wal, index) != entry->term) {
            count++;
            payload += entry->size;
        }
    }
    if (count == 0) {
        return 0;
    }
    uint64_t bytes = payload + count * WAL_ENTRY_OVERHEAD_BYTES + NODE_HARD_STATE_BYTES;
    return payload == 0 ? bytes : bytes + NODE_LOG_SLACK_BYTES;
}

static bool has_room_for_entries(struct node *node, const struct raft_message *message)
{
    uint64_t bytes = bytes_for_entries(node, message);
    if (bytes == 0 || wal_has_room(node->wal, bytes + wal_staged_bytes(node->wal))) {
        return true;
    }
    node_save(node);
    if (node->fatal[0] != '\0') {
        return false;
    }
    bool is_full = !has_room(node, bytes);
    if (is_full) {
        node->log_room.wanted = bytes > node->log_room.wanted ? bytes : node->log_room.wanted;
        set_full(node, true);
    }
    return !is_full;
}

/* Raft figure 2: term and vote are on disk before a reply depends on them. The slack is reserved
 * for them. When elections have used it up, the node ignores new terms until there is room. */
static bool has_room_for_term(struct node *node, const struct raft_message *message)
{
    bool is_vote = message->kind == RAFT_VOTE_REQUEST && !message->vote_request.is_pre_vote;
    if (!is_vote && message->term <= wal_hard_state(node->wal)->term) {
        return true;
    }
    bool is_full = !has_room(node, NODE_HARD_STATE_BYTES + wal_staged_bytes(node->wal));
    if (is_full) {
        set_full(node, true);
    }
    return !is_full;
}

bool node_has_room_for_message(struct node *node, struct raft_message *message)
{
    if (!has_room_for_term(node, message)) {
        return false;
    }
    bool has_entries = message->kind == RAFT_APPEND_REQUEST && message->append_request.count > 0;
    if (has_entries && !has_room_for_entries(node, message)) {
        /* The leader sends them again later; what is not stored is not acknowledged. */
        message->append_request.count = 0;
    }
    return true;
}

void node_look_for_first_room(struct node *node)
{
    /* A cluster of one would campaign in its first turn without room to record that. The log is not
     * compacted here, because only a turn can handle a failure of that. */
    node->log_room.cut_retry_ns = UINT64_MAX;
    node_look_for_room(node);
    node->log_room.cut_retry_ns = 0;
}

void node_forget_full_majority(struct node *node)
{
    node->log_room.is_majority_full = false;
}
