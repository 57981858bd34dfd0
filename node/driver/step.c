/* Effects of raft_step(): staging in the log, messages to peers, ready reads. */
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

void node_core_init(struct node *node, bool is_fresh)
{
    node->core.commit_index = node->applied_index;
    node->core.deadline_ns = node->now_ns;
    node->core.was_not_fresh = !is_fresh;
}

void node_core_finish(struct node *node)
{
    buf_finish(&node->core.payload_scratch);
    free(node->core.held);
}

/* ---- staging ---- */

void node_set_not_fresh(struct node *node)
{
    if (!node->core.was_not_fresh) {
        node->core.was_not_fresh = true;
        node->transport->ops->set_not_fresh(node->transport);
    }
}

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
    if (effects->append_count > 0) {
        node_set_not_fresh(node);
    }
}

/* ---- messages ---- */

/* Reads the entries of an outgoing append from the log. Returns false if they are gone or
 * unreadable. */
static bool load_entries(struct node *node, struct raft_message *message)
{
    uint32_t count = message->append_request.count;
    CHECK(count <= RAFT_APPEND_ENTRIES_MAX);
    buf_reset(&node->core.payload_scratch);
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
        buf_append(&node->core.payload_scratch, entry.data.data, entry.data.size);
        node->entry_scratch[i] = (struct raft_entry){
            .term = entry.term,
            .type = (enum raft_entry_type)entry.type,
            .size = (uint32_t)entry.data.size,
        };
    }
    if (buf_failed(&node->core.payload_scratch)) {
        return false;
    }
    size_t offset = 0;
    for (uint32_t i = 0; i < count; i++) {
        /* A no-op has no payload, and a batch of them no buffer. */
        const uint8_t *payload = node->core.payload_scratch.data;
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
    /* A message that cannot be sent is lost, as on the wire. The core repeats what matters. */
    (void)node->transport->ops->send(node->transport, message->peer, &out);
}

static void hold_message(struct node *node, const struct raft_outgoing *outgoing)
{
    if (node->core.held_count == node->core.held_capacity) {
        size_t capacity = node->core.held_capacity == 0 ? 64 : 2 * node->core.held_capacity;
        struct raft_outgoing *held = realloc(node->core.held, capacity * sizeof(*held));
        if (held == NULL) {
            return; /* lost, as on the wire */
        }
        node->core.held = held;
        node->core.held_capacity = capacity;
    }
    node->core.held[node->core.held_count++] = *outgoing;
}

static void route_messages(struct node *node, const struct raft_effects *effects)
{
    for (size_t i = 0; i < effects->message_count; i++) {
        const struct raft_outgoing *outgoing = &effects->messages[i];
        if (outgoing->save_seq <= node->core.durable_seq) {
            send_message(node, &outgoing->message);
        } else {
            CHECK(outgoing->message.kind != RAFT_APPEND_REQUEST);
            hold_message(node, outgoing);
        }
    }
}

/* ---- one step ---- */

/* Keeps the ready reads for node_take_ready_reads(): effects are valid only until the next step. */
static void keep_ready_reads(struct node *node, const struct raft_effects *effects)
{
    for (size_t i = 0; i < effects->read_count; i++) {
        CHECK(node->core.ready_read_count < NODE_READY_READS_MAX);
        node->core.ready_reads[node->core.ready_read_count++] = effects->reads[i];
        if (!effects->reads[i].confirmed) {
            node->core.read_retry_ns = node->now_ns + NODE_RETRY_NS;
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
    node->core.staged_seq = effects->save_seq;
    if (effects->has_hard_state) {
        stage_hard_state(node, effects);
    }
    if (effects->append_count > 0) {
        stage_entries(node, effects);
    }
    route_messages(node, effects);
    CHECK(effects->commit_index >= node->core.commit_index);
    node->core.commit_index = effects->commit_index;
    keep_ready_reads(node, effects);
    if (effects->is_role_changed) {
        node->is_changed = true;
        node_leader_changed(node);
    }
    if (effects->is_transfer_over) {
        node->core.is_transfer_over = true;
    }
    node->core.has_forgotten |= effects->has_forgotten;
    for (raft_member member = 0; member < node->options.member_count; member++) {
        if ((effects->forgetful >> member & 1u) != 0) {
            log_error("node",
                      "a member lacks entries that it had acknowledged: it does not count until it "
                      "has them again",
                      LOG_STR("member", node->node_ids[member]));
        }
    }
    node->core.snapshot_wanted = effects->snapshot_wanted;
    node->core.deadline_ns = effects->next_deadline_ns;
    return 0;
}

static void send_held(struct node *node)
{
    size_t count = node->core.held_count;
    node->core.held_count = 0;
    for (size_t i = 0; i < count; i++) {
        CHECK(node->core.held[i].save_seq <= node->core.durable_seq);
        send_message(node, &node->core.held[i].message);
    }
}

void node_maintain_log(struct node *node)
{
    if (node->now_ns < node->core.maintain_ns) {
        return;
    }
    if (wal_maintain(node->wal) != 0) {
        /* An attempt briefly uses all room on the disk, so it is not made in every turn. */
        node->core.maintain_ns = node->now_ns + NODE_MAINTAIN_RETRY_NS;
    }
}

void node_maintain_log_now(struct node *node)
{
    node->core.maintain_ns = 0;
    node_maintain_log(node);
}

void node_mark_log(struct node *node)
{
    if (node->fatal[0] != '\0' || node->now_ns < node->core.mark_ns) {
        return;
    }
    int rc = wal_mark(node->wal);
    if (rc != 0) {
        node_set_fatal(node, "the log's end cannot be marked: %s", error_text(rc));
    }
}

/* Raft section 5: a message that depends on a save is sent after the save is durable. Other
 * messages are sent first, so that the followers' disks work in parallel with this one. */
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
        node->core.mark_ns = end_ns + NODE_MARK_NS + NODE_MARK_SYNCS * (end_ns - begin_ns);
        if (rc != 0) {
            node_set_fatal(node, "the log cannot be written: %s", error_text(rc));
        } else {
            struct wal_stats stats;
            wal_get_stats(node->wal, &stats);
            latency_record(&node->counters.log_sync_latency, stats.last_commit_ns);
        }
    }
    if (node->fatal[0] != '\0') {
        return;
    }
    if (node->core.durable_seq == node->core.staged_seq) {
        return;
    }
    node->core.durable_seq = node->core.staged_seq;
    raft_index last = wal_durable_index(node->wal);
    struct raft_event event = {
        .kind = RAFT_EVENT_PERSISTED,
        .persisted = {.save_seq = node->core.durable_seq,
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
    node->core.order_until_ns = node->now_ns + NODE_ORDER_WAIT_NS;
    node->core.forward_retry_ns = 0;
    node->core.read_retry_ns = 0;
}

void node_delay_forwards(struct node *node)
{
    node->core.forward_retry_ns = node->now_ns + NODE_RETRY_NS;
}

void node_forward_at_once(struct node *node)
{
    node->core.forward_retry_ns = 0;
}

void node_delay_reads(struct node *node)
{
    node->core.read_retry_ns = node->now_ns + NODE_RETRY_NS;
}

void node_clear_ready_reads(struct node *node)
{
    node->core.ready_read_count = 0;
}

void node_clear_transfer_over(struct node *node)
{
    node->core.is_transfer_over = false;
}

/* Continues under a new incarnation. The files of this node are intact but outdated. It neither
 * votes nor counts until the leader has sent what is missing and has admitted it. */
void node_forget_incarnation(struct node *node)
{
    node->core.has_forgotten = false;
    struct wal_hard_state state = *wal_hard_state(node->wal);
    uint64_t before = state.incarnation;
    while (state.incarnation == before || state.incarnation == 0) {
        state.incarnation = random_next(&node->random);
    }
    state.is_recovering = true;
    log_error("node",
              "this node lacks entries that it had acknowledged (an old copy of its data_dir, or a "
              "disk that lost writes): recovering from the other nodes",
              LOG_STR("leader", node->leadership.leader == RAFT_NO_MEMBER
                                    ? NULL
                                    : node->node_ids[node->leadership.leader]),
              LOG_U64("last_index", wal_last_index(node->wal)));
    int rc = wal_stage_hard_state(node->wal, &state);
    if (rc != 0) {
        node_set_fatal(node, "cannot stage the hard state: %s", error_text(rc));
        return;
    }
    struct raft_event event = {.kind = RAFT_EVENT_REBORN,
                               .reborn = {.incarnation = state.incarnation}};
    (void)node_step(node, &event);
    node_save(node); /* before any message mentions it */
    if (node->fatal[0] == '\0') {
        node->transport->ops->set_incarnation(node->transport, state.incarnation);
    }
    node->is_changed = true;
}
