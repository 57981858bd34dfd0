/* What a raft_step() asks for: staging in the log, messages to peers, ready reads. */
#include "base/check.h"
#include "base/errors.h"
#include "base/log.h"
#include "driver/node_internal.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void node_set_fatal(struct node *node, const char *format, ...)
{
    if (node->fatal[0] != '\0') {
        return;
    }
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(node->fatal, sizeof(node->fatal), format, arguments);
    va_end(arguments);
}

/* ---- staging ---- */

static void stage_hard_state(struct node *node, const struct raft_effects *effects)
{
    struct wal_hard_state state = *wal_hard_state(node->wal);
    state.term = effects->term;
    const char *vote =
        effects->voted_for == RAFT_NO_MEMBER ? "" : node->node_ids[effects->voted_for];
    snprintf(state.voted_for, sizeof(state.voted_for), "%s", vote);
    int rc = wal_stage_hard_state(node->wal, &state);
    if (rc != 0) {
        node_set_fatal(node, "cannot stage the hard state: %s", error_text(rc));
    }
}

static void stage_entries(struct node *node, const struct raft_effects *effects)
{
    for (uint32_t i = 0; i < effects->append_count; i++) {
        const struct raft_entry *from = &effects->append[i];
        struct wal_entry entry = {
            .index = effects->append_first + i,
            .term = effects->append_term != 0 ? effects->append_term : from->term,
            .type = (uint8_t)from->type,
            .data = {from->data, from->size},
        };
        if (from->change != NULL && from->data == NULL) {
            buf_reset(&node->encode_scratch);
            node_change_encode(node, from->change, &node->encode_scratch);
            entry.data = buf_bytes(&node->encode_scratch);
        }
        int rc = wal_stage_entry(node->wal, &entry);
        if (rc != 0) {
            node_set_fatal(node, "cannot stage log entry %llu: %s", (unsigned long long)entry.index,
                           error_text(rc));
            return;
        }
    }
    if (effects->append_count > 0 && !node->was_not_fresh) {
        node->was_not_fresh = true;
        node->transport->ops->set_not_fresh(node->transport);
    }
}

/* ---- messages ---- */

/* Fills in the entries of an outgoing append from the log. False: they are gone or unreadable. */
static bool load_entries(struct node *node, struct raft_message *message)
{
    uint32_t count = message->append_request.count;
    CHECK(count <= RAFT_APPEND_ENTRIES_MAX);
    buf_reset(&node->payload_scratch);
    for (uint32_t i = 0; i < count; i++) {
        struct wal_entry entry;
        int rc = wal_read(node->wal, message->append_request.prev_index + 1 + i, &entry);
        if (rc == ERR_CORRUPT || rc == ERR_IO) {
            node_set_fatal(node, "log entry %llu cannot be read: %s",
                           (unsigned long long)message->append_request.prev_index + 1 + i,
                           error_text(rc));
        }
        if (rc != 0) {
            return false;
        }
        buf_append(&node->payload_scratch, entry.data.data, entry.data.size);
        node->entry_scratch[i] = (struct raft_entry){
            .term = entry.term,
            .type = (enum raft_entry_type)entry.type,
            .size = (uint32_t)entry.data.size,
        };
    }
    if (buf_failed(&node->payload_scratch)) {
        return false;
    }
    size_t offset = 0;
    for (uint32_t i = 0; i < count; i++) {
        /* A no-op has no payload, and a batch of them no buffer. */
        const uint8_t *payload = node->payload_scratch.data;
        node->entry_scratch[i].data = payload == NULL ? NULL : payload + offset;
        offset += node->entry_scratch[i].size;
    }
    message->append_request.entries = node->entry_scratch;
    return true;
}

static void send_message(struct node *node, const struct raft_message *message)
{
    struct peer_message out = {.kind = PEER_MESSAGE_RAFT, .raft = *message};
    if (message->kind == RAFT_APPEND_REQUEST && message->append_request.count > 0 &&
        !load_entries(node, &out.raft)) {
        return;
    }
    /* A message that cannot go is lost like one on the wire: the core repeats what matters. */
    (void)node->transport->ops->send(node->transport, message->peer, &out);
}

static void hold_message(struct node *node, const struct raft_outgoing *outgoing)
{
    if (node->held_count == node->held_capacity) {
        size_t capacity = node->held_capacity == 0 ? 64 : 2 * node->held_capacity;
        struct raft_outgoing *held = realloc(node->held, capacity * sizeof(*held));
        if (held == NULL) {
            return; /* lost, as on the wire */
        }
        node->held = held;
        node->held_capacity = capacity;
    }
    node->held[node->held_count++] = *outgoing;
}

static void route_messages(struct node *node, const struct raft_effects *effects)
{
    for (size_t i = 0; i < effects->message_count; i++) {
        const struct raft_outgoing *outgoing = &effects->messages[i];
        if (outgoing->save_seq <= node->durable_seq) {
            send_message(node, &outgoing->message);
        } else {
            CHECK(outgoing->message.kind != RAFT_APPEND_REQUEST);
            hold_message(node, outgoing);
        }
    }
}

/* ---- one step ---- */

/* Appends to what node_take_ready_reads() takes: effects are valid until the next step only. */
static void keep_ready_reads(struct node *node, const struct raft_effects *effects)
{
    for (size_t i = 0; i < effects->read_count; i++) {
        CHECK(node->ready_read_count < NODE_READY_READS_MAX);
        node->ready_reads[node->ready_read_count++] = effects->reads[i];
        if (!effects->reads[i].confirmed) {
            node->read_retry_ns = node->now_ns + NODE_RETRY_NS;
        }
    }
}

int node_step(struct node *node, struct raft_event *event)
{
    event->now_ns = node->now_ns;
    const struct raft_effects *effects = NULL;
    int rc = raft_step(node->raft, event, &effects);
    if (rc != 0) {
        return rc;
    }
    node->staged_seq = effects->save_seq;
    if (effects->has_hard_state) {
        stage_hard_state(node, effects);
    }
    if (effects->append_count > 0) {
        stage_entries(node, effects);
    }
    route_messages(node, effects);
    CHECK(effects->commit_index >= node->commit_index);
    node->commit_index = effects->commit_index;
    keep_ready_reads(node, effects);
    if (effects->is_role_changed) {
        node->is_changed = true;
        node_leader_changed(node);
    }
    if (effects->is_transfer_over) {
        node->is_transfer_over = true;
    }
    node->has_forgotten |= effects->has_forgotten;
    for (raft_member member = 0; member < node->options.member_count; member++) {
        if ((effects->forgetful >> member & 1u) != 0) {
            log_error("node",
                      "a member lacks entries that it had acknowledged: it does not count until it "
                      "has them again",
                      LOG_STR("member", node->node_ids[member]));
        }
    }
    node->snapshot_wanted = effects->snapshot_wanted;
    node->raft_deadline_ns = effects->next_deadline_ns;
    return 0;
}

static void send_held(struct node *node)
{
    size_t count = node->held_count;
    node->held_count = 0;
    for (size_t i = 0; i < count; i++) {
        CHECK(node->held[i].save_seq <= node->durable_seq);
        send_message(node, &node->held[i].message);
    }
}

void node_maintain_log(struct node *node)
{
    if (node->now_ns < node->maintain_ns) {
        return;
    }
    if (wal_maintain(node->wal) != 0) {
        /* Each try fills what room there is for a moment: not in every turn. */
        node->maintain_ns = node->now_ns + NODE_MAINTAIN_RETRY_NS;
    }
}

void node_mark_log(struct node *node)
{
    if (node->fatal[0] != '\0' || node->now_ns < node->mark_ns) {
        return;
    }
    int rc = wal_mark(node->wal);
    if (rc != 0) {
        node_set_fatal(node, "the log's end cannot be marked: %s", error_text(rc));
    }
}

/* Raft section 5: nothing that depends on a save leaves before the save is durable. What does not
 * depend on it leaves first, so that the followers' disks work beside ours. */
void node_save(struct node *node)
{
    if (node->fatal[0] != '\0') {
        return;
    }
    node->transport->ops->flush(node->transport);
    if (wal_has_staged(node->wal)) {
        uint64_t begin_ns = clock_monotonic_ns(node->options.clock);
        int rc = wal_commit(node->wal);
        uint64_t end_ns = clock_monotonic_ns(node->options.clock);
        node->mark_ns = end_ns + NODE_MARK_NS + NODE_MARK_SYNCS * (end_ns - begin_ns);
        if (rc != 0) {
            node_set_fatal(node, "the log cannot be written: %s", error_text(rc));
        } else {
            struct wal_stats stats;
            wal_get_stats(node->wal, &stats);
            latency_record(&node->log_sync_latency, stats.last_commit_ns);
        }
    }
    if (node->fatal[0] != '\0') {
        return;
    }
    if (node->durable_seq == node->staged_seq) {
        return;
    }
    node->durable_seq = node->staged_seq;
    raft_index last = wal_durable_index(node->wal);
    struct raft_event event = {
        .kind = RAFT_EVENT_PERSISTED,
        .persisted = {.save_seq = node->durable_seq,
                      .last_index = last,
                      .last_term = wal_term(node->wal, last)},
    };
    (void)node_step(node, &event);
    send_held(node);
    node->transport->ops->flush(node->transport);
}

void node_founded(struct node *node)
{
    struct wal_hard_state state = *wal_hard_state(node->wal);
    if (memcmp(state.cluster_id, node->config.cluster_id, sizeof(state.cluster_id)) != 0) {
        memcpy(state.cluster_id, node->config.cluster_id, sizeof(state.cluster_id));
        int rc = wal_stage_hard_state(node->wal, &state);
        if (rc != 0) {
            node_set_fatal(node, "cannot stage the cluster id: %s", error_text(rc));
        }
    }
    node->transport->ops->set_cluster_id(node->transport, node->config.cluster_id);
    node->is_changed = true;
}

void node_leader_changed(struct node *node)
{
    node->order_until_ns = node->now_ns + NODE_ORDER_WAIT_NS;
    node->forward_retry_ns = 0;
    node->read_retry_ns = 0;
}
