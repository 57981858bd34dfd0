/* The node's turn: events, jobs and requests from the inbox, steps, log, apply, status. */
#include "base/check.h"
#include "base/errors.h"
#include "base/log.h"
#include "base/unconst.h"
#include "driver/node_internal.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void node_attach(struct node *node, struct transport *transport)
{
    node->transport = transport;
    if (node->core.was_not_fresh) {
        transport->ops->set_not_fresh(transport);
    }
    if (node->config.is_founded) {
        transport->ops->set_cluster_id(transport, node->config.cluster_id);
    }
    node_look_for_first_room(node);
}

/* Decodes the config changes of an append request. Its entries are the event's: a request with
 * changes gets a copy in entry_scratch, where `change` is filled in. */
static int decode_changes(struct node *node, struct raft_message *message)
{
    uint32_t count = message->append_request.count;
    const struct raft_entry *entries = message->append_request.entries;
    size_t changes = 0;
    for (uint32_t i = 0; i < count; i++) {
        changes += entries[i].type == RAFT_ENTRY_CONFIG_CHANGE ? 1 : 0;
    }
    if (changes == 0) {
        return 0;
    }
    if (count > RAFT_APPEND_ENTRIES_MAX) {
        return ERR_INVALID;
    }
    if (changes > node->turns.change_capacity) {
        free(node->turns.change_scratch);
        node->turns.change_scratch = calloc(changes, sizeof(*node->turns.change_scratch));
        node->turns.change_capacity = node->turns.change_scratch == NULL ? 0 : changes;
        if (node->turns.change_scratch == NULL) {
            return ERR_NOMEM;
        }
    }
    memcpy(node->entry_scratch, entries, count * sizeof(*entries));
    size_t next = 0;
    for (uint32_t i = 0; i < count; i++) {
        struct raft_entry *entry = &node->entry_scratch[i];
        if (entry->type != RAFT_ENTRY_CONFIG_CHANGE) {
            continue;
        }
        struct bytes data = {entry->data, entry->size};
        int rc = node_change_decode(node, data, &node->turns.change_scratch[next]);
        if (rc != 0) {
            return rc;
        }
        entry->change = &node->turns.change_scratch[next++];
    }
    message->append_request.entries = node->entry_scratch;
    return 0;
}

/* Refuses entries that this version cannot apply. Stored, they would end this node at each start.
 */
static int check_commands(const struct raft_message *message)
{
    for (uint32_t i = 0; i < message->append_request.count; i++) {
        const struct raft_entry *entry = &message->append_request.entries[i];
        struct bytes data = {entry->data, entry->size};
        if (entry->type == RAFT_ENTRY_COMMAND && command_is_of_newer_version(data)) {
            return ERR_VERSION;
        }
    }
    return 0;
}

static void warn_of_message(struct node *node, raft_member from, const struct raft_message *message,
                            int rc)
{
    char reason[LOG_LIMIT_TEXT_BYTES];
    raft_term term = wal_hard_state(node->wal)->term;
    if (!raft_is_term_plausible(node->raft, message->term, node->now_ns)) {
        snprintf(
            reason, sizeof(reason),
            "its term %llu is implausibly far beyond this node's, %llu: if the other nodes are "
            "right, move this node's data_dir away, and they fill an empty one",
            (unsigned long long)message->term, (unsigned long long)term);
    } else {
        snprintf(reason, sizeof(reason), "%s", error_text(rc));
    }
    uint64_t suppressed;
    if (log_limit_passes(&node->turns.message_faults[from], node->now_ns, reason, &suppressed)) {
        log_warn("node", "a peer sent a message that no correct node sends",
                 LOG_STR("peer", node->node_ids[from]), LOG_STR("reason", reason),
                 LOG_U64("kind", message->kind), LOG_U64("suppressed", suppressed));
    }
}

static void handle_raft_message(struct node *node, raft_member from, struct raft_message *message)
{
    int rc = 0;
    if (!node_has_room_for_message(node, message)) {
        return; /* ignored, as if lost on the wire */
    }
    struct raft_event event = {.kind = RAFT_EVENT_MESSAGE, .message = *message};
    event.message.peer = from;
    if (message->kind == RAFT_APPEND_REQUEST) {
        rc = check_commands(message);
        rc = rc == 0 ? decode_changes(node, &event.message) : rc;
    }
    if (rc == 0) {
        rc = node_step(node, &event);
    }
    if (rc != 0) {
        warn_of_message(node, from, message, rc);
        return;
    }
    if (message->kind == RAFT_APPEND_REQUEST) {
        node_note_heard(node, from, message);
    }
}

static void handle_messages(struct node *node, struct peer_event *event)
{
    for (size_t i = 0; i < event->messages.count && node->fatal[0] == '\0'; i++) {
        struct peer_message *message = &event->messages.items[i];
        switch (message->kind) {
        case PEER_MESSAGE_RAFT:
            handle_raft_message(node, event->peer, &message->raft);
            break;
        case PEER_MESSAGE_FORWARD_REQUEST:
            node_forward_request(node, event->peer, message);
            break;
        case PEER_MESSAGE_FORWARD_RESPONSE:
            node_forward_response(node, message);
            break;
        case PEER_MESSAGE_APPLY_HASH:
            node_compare_checkpoint(node, event->peer,
                                    &(struct checkpoint){message->apply_hash.index,
                                                         message->apply_hash.hash,
                                                         message->apply_hash.contents});
            break;
        }
    }
}

static void handle_stream(struct node *node, const struct peer_event *event,
                          enum raft_event_kind kind)
{
    struct raft_event step = {
        .kind = kind,
        .stream = {.peer = event->peer, .epoch = event->epoch},
    };
    if (event->kind == PEER_EVENT_HELLO) {
        step.stream.incarnation = event->hello.incarnation;
        step.stream.is_fresh = event->hello.is_fresh;
        node_note_member_format(node, event->peer, event->hello.command_format);
    }
    (void)node_step(node, &step);
}

/* Answers the unary calls of the reference document truthfully, without changing any state. */
static void answer_query(struct node *node, struct peer_event *event)
{
    struct raft_status status;
    raft_get_status(node->raft, node->now_ns, &status);
    struct peer_answer answer = {.term = status.term, .last_log_index = status.last_index};
    const struct raft_message *request = &event->query.request->raft;
    if (request->kind == RAFT_VOTE_REQUEST) {
        answer.granted_or_success = request->vote_request.is_pre_vote &&
                                    raft_would_grant(node->raft, request, node->now_ns);
    }
    event->query.answer(event, &answer);
}

static void handle_event(struct node *node, struct peer_event *event)
{
    switch (event->kind) {
    case PEER_EVENT_MESSAGES:
        handle_messages(node, event);
        break;
    case PEER_EVENT_HELLO:
        node_note_stream(node, event, true);
        handle_stream(node, event, RAFT_EVENT_PEER_HELLO);
        break;
    case PEER_EVENT_STREAM_LOST:
        node_note_stream(node, event, false);
        handle_stream(node, event, RAFT_EVENT_STREAM_LOST);
        break;
    case PEER_EVENT_DIAL_UP:
        handle_stream(node, event, RAFT_EVENT_DIAL_UP);
        node_forward_at_once(node);
        break;
    case PEER_EVENT_DIAL_LOST:
        node_peer_lost(node, event->peer, &event->dial_lost.unsent);
        handle_stream(node, event, RAFT_EVENT_DIAL_LOST);
        break;
    case PEER_EVENT_DIAL_REFUSED:
        handle_stream(node, event, RAFT_EVENT_DIAL_REFUSED);
        break;
    case PEER_EVENT_QUERY:
        answer_query(node, event);
        break;
    case PEER_EVENT_SNAPSHOT_OFFER:
    case PEER_EVENT_SNAPSHOT_CHUNK:
    case PEER_EVENT_SNAPSHOT_LOST:
    case PEER_EVENT_SNAPSHOT_READY:
    case PEER_EVENT_SNAPSHOT_ENDED:
        if (node_snapshot_event(node, event)) {
            return;
        }
        break;
    }
    event->release(event);
}

/* Founds the cluster once all members have been seen with empty directories. */
static void say_who_is_missing(struct node *node)
{
    if (node->config.is_founded || node->now_ns < node->turns.missing_log_ns) {
        return;
    }
    bool is_first = node->turns.missing_log_ns == 0;
    node->turns.missing_log_ns = node->now_ns + (is_first ? NS_PER_S : NODE_MISSING_NS);
    if (is_first) {
        return; /* the other nodes have not had time to connect yet */
    }
    struct raft_status status;
    raft_get_status(node->raft, node->now_ns, &status);
    struct buf missing = {0};
    struct buf begun = {0};
    for (raft_member member = 0; member < node->options.member_count; member++) {
        const struct raft_member_status *other = &status.members[member];
        if (member != node->self && !(other->is_connected && other->is_fresh)) {
            struct buf *names = other->is_connected ? &begun : &missing;
            buf_printf(names, "%s%s", names->size == 0 ? "" : ", ", node->node_ids[member]);
        }
    }
    if (begun.size > 0) {
        log_info("node",
                 "waiting for a leader among the nodes that have data, which needs most of them",
                 LOG_STR("have_data", buf_text(&begun)), LOG_STR("missing", buf_text(&missing)));
    } else if (missing.size > 0) {
        log_info("node", "waiting for all nodes to found or join the cluster",
                 LOG_STR("missing", buf_text(&missing)));
    }
    buf_finish(&missing);
    buf_finish(&begun);
}

static void follow_leader(struct node *node)
{
    if (node_follow_leader(node)) {
        node_forget_full_majority(node);
        node_forget_leaving_leader(node);
    }
}

static void take_inbox(struct node *node)
{
    struct list events;
    struct list jobs;
    struct list requests;
    list_init(&events);
    list_init(&jobs);
    list_init(&requests);
    node_inbox_take(node, &events, &jobs, &requests);
    struct list *link;
    while ((link = list_pop_front(&events)) != NULL) {
        handle_event(node, LIST_ENTRY(link, struct peer_event, link));
    }
    while ((link = list_pop_front(&jobs)) != NULL) {
        node_snapshot_job_done(node, LIST_ENTRY(link, struct node_job, link));
    }
    follow_leader(node);
    while ((link = list_pop_front(&requests)) != NULL) {
        node_admit(node, LIST_ENTRY(link, struct node_request, link));
    }
}

static uint64_t least(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

static uint64_t next_turn_ns(const struct node *node)
{
    uint64_t next = least(node->core.deadline_ns, node->requests.expire_at_ns);
    next = least(next, node_push_ns(node));
    if (!list_is_empty(&node->reads.waiting) && node->leadership.leader != RAFT_NO_MEMBER) {
        next = least(next, node->core.read_retry_ns);
    }
    bool has_more_to_apply =
        node->applied_index < node->core.commit_index && !chat_is_overfull(node->chat);
    if (has_more_to_apply || !list_is_empty(&node->requests.finished)) {
        return node->now_ns;
    }
    if (!node->config.is_founded) {
        next = least(next, node->turns.missing_log_ns);
    }
    if (node->options.snapshot_interval_ns != 0) {
        next = least(next, node->compaction.at_ns);
    }
    next = least(next, node->snapshots.turn_ns);
    if (node->progress.still_since_ns != 0 && !node->progress.is_still) {
        uint64_t limit_ns = NODE_STILL_TIMEOUTS * node->options.election_timeout_ns;
        next = least(next, node->progress.still_since_ns + limit_ns);
    }
    if (!wal_is_marked(node->wal)) {
        next = least(next, node->core.mark_ns);
    }
    if (node->drain.is_active) {
        next = least(next, node->now_ns + NODE_RETRY_NS);
    }
    return next;
}

uint64_t node_turn(struct node *node, uint64_t now_ns)
{
    CHECK(node->transport != NULL);
    CHECK(node->fatal[0] == '\0');
    node->now_ns = now_ns > node->now_ns ? now_ns : node->now_ns;
    node_begin_completions(node);
    take_inbox(node);
    if (node->fatal[0] != '\0') {
        return now_ns;
    }
    struct raft_event tick = {.kind = RAFT_EVENT_TICK};
    (void)node_step(node, &tick);
    follow_leader(node);
    say_who_is_missing(node);
    node_look_for_stall(node);
    node_leave_if_unfit(node);
    node_take_ready_reads(node);
    node_drain_turn(node);
    node_push_requests(node);
    struct raft_event replicate = {.kind = RAFT_EVENT_REPLICATE};
    (void)node_step(node, &replicate);
    node_snapshots_turn(node);
    node_save(node);
    if (node->core.has_forgotten && node->fatal[0] == '\0' &&
        wal_has_room(node->wal, NODE_HARD_STATE_BYTES)) {
        node_forget_incarnation(node);
    }
    if (node->fatal[0] != '\0') {
        return now_ns;
    }
    follow_leader(node);
    node_apply(node);
    node_look_for_progress(node);
    node_release_reads(node);
    node_publish_status(node); /* before done(), so that a caller who then asks sees it */
    node_settle_transfers(node);
    node_take_ready_reads(node);
    node_expire(node);
    node_complete(node);
    node_send_checkpoints(node);
    node->transport->ops->flush(node->transport);
    node_compact(node);
    node_maintain_log(node);
    node_look_for_room(node);
    node_publish_status(node);
    node_mark_log(node);
    node_take_ready_reads(node);
    return next_turn_ns(node);
}

void node_turns_finish(struct node *node)
{
    free(node->turns.change_scratch);
}
