/* Applies committed entries to the state machine. */
#include "base/errors.h"
#include "base/log.h"
#include "driver/node_internal.h"

static int apply_config(struct node *node, const struct wal_entry *entry)
{
    struct raft_change change;
    int rc = node_change_decode(node, entry->data, &change);
    if (rc != 0) {
        return rc;
    }
    raft_config_apply(&node->config, &change);
    buf_reset(&node->encode_scratch);
    node_config_encode(node, &node->config, &node->encode_scratch);
    rc = chat_apply_config(node->chat, entry->index, entry->term, buf_bytes(&node->encode_scratch),
                           node->config.cluster_id);
    if (rc != 0) {
        return rc;
    }
    if (change.kind == RAFT_CHANGE_GENESIS) {
        node_founded(node);
        log_info("node", "the cluster is founded");
    } else {
        log_info("node", "a member's new data_dir is admitted",
                 LOG_STR("member", node->node_ids[change.member]));
    }
    return 0;
}

/* Adds what the entry holds to `parts`: its messages, or 1. */
static int apply_entry(struct node *node, raft_index index, size_t *parts)
{
    struct wal_entry entry;
    int rc = wal_read(node->wal, index, &entry);
    if (rc != 0) {
        return rc;
    }
    raft_term term = entry.term;
    struct command_result result = {0};
    if (entry.type == RAFT_ENTRY_CONFIG_CHANGE) {
        rc = apply_config(node, &entry);
    } else {
        rc = chat_apply(node->chat, index, term, entry.data, &result);
        if (rc == 0) {
            node_note_format(node, entry.data);
            node_note_stored(node, entry.data, term, &result);
        }
    }
    if (rc != 0) {
        return rc;
    }
    size_t items = command_result_item_count(&result);
    *parts += items > 0 ? items : 1;
    node->applied_index = index;
    node_entry_applied(node, index, term, &result);
    return 0;
}

/* A batch ends at each checkpoint, so that the published hash is that of the checkpoint's index. */
static raft_index batch_end(const struct node *node)
{
    raft_index end = node->applied_index + NODE_APPLY_BATCH_MAX;
    raft_index checkpoint =
        (node->applied_index / NODE_CHECKPOINT_ENTRIES + 1) * NODE_CHECKPOINT_ENTRIES;
    if (end > checkpoint) {
        end = checkpoint;
    }
    return end < node->core.commit_index ? end : node->core.commit_index;
}

/* Applies one batch. The limit of the overlay is checked within the batch too, because the entries
 * of a backlog may be large. The deadline ends the batch early, because reading rows from the disk
 * must not delay heartbeats. */
static int apply_batch(struct node *node, raft_index end, uint64_t deadline_ns)
{
    int rc = 0;
    size_t parts = 0;
    while (rc == 0 && node->applied_index < end && !chat_is_overfull(node->chat)) {
        rc = apply_entry(node, node->applied_index + 1, &parts);
        if (parts < NODE_APPLY_CHECK) {
            continue;
        }
        parts = 0;
        if (clock_monotonic_ns(node->options.clock) > deadline_ns) {
            break;
        }
    }
    return rc;
}

void node_apply(struct node *node)
{
    const uint64_t budget_ns = node->options.heartbeat_interval_ns / 4;
    raft_index turn_end = node->applied_index + NODE_APPLY_TURN_MAX;
    bool is_behind = node->applied_index < node->core.commit_index;
    uint64_t turn_begin_ns = is_behind ? clock_monotonic_ns(node->options.clock) : 0;
    bool is_late = false;
    while (!is_late && node->applied_index < node->core.commit_index &&
           node->applied_index < turn_end && !chat_is_overfull(node->chat) &&
           node->fatal[0] == '\0') {
        raft_index end = batch_end(node);
        uint64_t begin_ns = clock_monotonic_ns(node->options.clock);
        chat_apply_begin(node->chat);
        int rc = apply_batch(node, end, turn_begin_ns + budget_ns);
        chat_apply_end(node->chat);
        uint64_t now_ns = clock_monotonic_ns(node->options.clock);
        latency_record(&node->counters.apply_latency, now_ns - begin_ns);
        is_late = now_ns > turn_begin_ns + budget_ns;
        if (rc != 0) {
            node_set_fatal(node, "entry %llu cannot be applied: %s",
                           (unsigned long long)node->applied_index + 1, error_text(rc));
        }
        if (node->applied_index % NODE_CHECKPOINT_ENTRIES == 0) {
            node_take_checkpoint(node);
        }
        /* Readers see the batch before any of its requests is acknowledged. */
        node_complete(node);
    }
    node_release_answers(node);
}

void node_note_state_replaced(struct node *node, raft_index index, const struct raft_config *config)
{
    node->applied_index = index;
    node->config = *config;
}
