/* Creating the core, stepping it, and collecting the effects of a step. */
#include "raft_internal.h"

#include <stdlib.h>
#include <string.h>

/* ---- life ---- */

static bool are_options_valid(const struct raft_options *o)
{
    if (o->member_count < 1 || o->member_count > CLUSTER_MEMBERS_MAX || o->member_count % 2 == 0 ||
        o->self < 0 || o->self >= o->member_count) {
        return false;
    }
    if (o->election_timeout_ns == 0 || o->heartbeat_interval_ns == 0 ||
        o->heartbeat_interval_ns >= o->election_timeout_ns || o->incarnation == 0) {
        return false;
    }
    if (o->log.first == NULL || o->log.term == NULL || o->log.fit == NULL) {
        return false;
    }
    if (o->voted_for != RAFT_NO_MEMBER && (o->voted_for < 0 || o->voted_for >= o->member_count)) {
        return false;
    }
    if (o->term > RAFT_TERM_MAX || o->last_index >= UINT64_MAX / 2 ||
        o->applied_index > o->last_index || o->change_count > RAFT_CONFIGS_MAX) {
        return false;
    }
    raft_index previous = o->applied_index;
    for (size_t i = 0; i < o->change_count; i++) {
        if (o->change_indexes[i] <= previous || o->change_indexes[i] > o->last_index) {
            return false;
        }
        previous = o->change_indexes[i];
    }
    return true;
}

static void init_durable(struct raft *raft, const struct raft_options *o)
{
    raft->term = o->term;
    raft->voted_for = o->voted_for;
    raft->last_index = o->last_index;
    raft->last_term = o->last_index == 0 ? 0 : o->log.term(o->log.context, o->last_index);
    if (raft->last_term > raft->term) {
        /* A snapshot was installed, and then came a crash. It has not voted in that term. */
        raft->term = raft->last_term;
        raft->voted_for = RAFT_NO_MEMBER;
    }
    raft->term_credit = RAFT_TERM_CREDIT;
    raft->credited_ns = o->now_ns;
    raft->commit_index = o->applied_index;
    raft->persisted_index = o->last_index;
    raft->config = o->config;
    raft->is_fresh = o->is_fresh && o->last_index == 0;
    for (size_t i = 0; i < o->change_count; i++) {
        raft_membership_append(raft, o->change_indexes[i], &o->changes[i]);
    }
}

int raft_create(const struct raft_options *options, struct raft **out)
{
    if (!are_options_valid(options)) {
        return ERR_INVALID;
    }
    struct raft *raft = calloc(1, sizeof(*raft));
    if (raft == NULL) {
        return ERR_NOMEM;
    }
    raft->self = options->self;
    raft->member_count = options->member_count;
    raft->election_timeout_ns = options->election_timeout_ns;
    raft->heartbeat_interval_ns = options->heartbeat_interval_ns;
    raft->log = options->log;
    raft->incarnation = options->incarnation;
    memcpy(raft->new_cluster_id, options->new_cluster_id, sizeof(raft->new_cluster_id));
    random_seed(&raft->random, options->seed);
    raft->now_ns = options->now_ns;
    raft->role = RAFT_FOLLOWER;
    raft->leader = RAFT_NO_MEMBER;
    raft->transfer_target = RAFT_NO_MEMBER;
    raft->is_eligible = options->is_eligible;
    raft_election_postpone_resort(raft);
    raft->term_start = RAFT_NEVER;
    init_durable(raft, options);
    for (raft_member i = 0; i < CLUSTER_MEMBERS_MAX; i++) {
        raft->members[i].next_index = 1;
    }
    /* One node alone has nobody to wait for. */
    raft->campaign_ns = raft->member_count == 1 ? raft->now_ns
                                                : raft_random_time(raft, raft->election_timeout_ns,
                                                                   2 * raft->election_timeout_ns);
    *out = raft;
    return 0;
}

void raft_destroy(struct raft *raft)
{
    free(raft);
}

/* ---- helpers of every file ---- */

/* Until the end of the step stands for "everything that is staged by then". */
#define SAVE_SEQ_HOLD UINT64_MAX

struct raft_message *raft_emit(struct raft *raft, enum raft_message_kind kind, raft_member peer,
                               bool hold)
{
    CHECK(raft->effects.message_count < RAFT_MESSAGES_MAX);
    CHECK(peer >= 0);
    CHECK(peer < raft->member_count);
    CHECK(peer != raft->self);
    struct raft_outgoing *outgoing = &raft->messages[raft->effects.message_count++];
    memset(outgoing, 0, sizeof(*outgoing));
    outgoing->message.kind = kind;
    outgoing->message.peer = peer;
    outgoing->message.term = raft->term;
    outgoing->save_seq = hold ? SAVE_SEQ_HOLD : 0;
    return &outgoing->message;
}

void raft_emit_read(struct raft *raft, uint64_t id, bool confirmed, raft_index index)
{
    CHECK(raft->effects.read_count < RAFT_READS_MAX + 1);
    raft->ready[raft->effects.read_count++] =
        (struct raft_ready_read){.id = id, .confirmed = confirmed, .index = index};
}

static void save(struct raft *raft)
{
    if (!raft->has_saved) {
        raft->has_saved = true;
        raft->save_seq++;
    }
}

void raft_save_hard_state(struct raft *raft)
{
    raft->effects.has_hard_state = true;
    save(raft);
}

void raft_stage_entries(struct raft *raft, raft_index first, const struct raft_entry *entries,
                        uint32_t count, raft_term term)
{
    CHECK(raft->effects.append_count == 0);
    CHECK(count > 0);
    CHECK(first > raft->commit_index);
    CHECK(first <= raft->last_index + 1);
    raft->effects.append_first = first;
    raft->effects.append = entries;
    raft->effects.append_count = count;
    raft->effects.append_term = term;
    raft_membership_truncate(raft, first);
    if (raft->persisted_index >= first) {
        raft->persisted_index = first - 1;
    }
    for (uint32_t i = 0; i < count; i++) {
        if (entries[i].type == RAFT_ENTRY_CONFIG_CHANGE) {
            raft_membership_append(raft, first + i, entries[i].change);
        }
    }
    raft->last_index = first + count - 1;
    raft->last_term = term != 0 ? term : entries[count - 1].term;
    raft->is_fresh = false;
    save(raft);
}

void raft_stage_own(struct raft *raft, const struct raft_change *change)
{
    raft->own_entry = (struct raft_entry){.term = raft->term, .type = RAFT_ENTRY_COMMAND};
    if (change != NULL) {
        raft->own_change = *change;
        raft->own_entry.type = RAFT_ENTRY_CONFIG_CHANGE;
        raft->own_entry.change = &raft->own_change;
    }
    raft_stage_entries(raft, raft->last_index + 1, &raft->own_entry, 1, raft->term);
}

raft_term raft_term_at(const struct raft *raft, raft_index index)
{
    const struct raft_effects *effects = &raft->effects;
    if (index == 0 || index > raft->last_index) {
        return 0;
    }
    if (index == raft->last_index) {
        return raft->last_term;
    }
    if (effects->append_count > 0 && index >= effects->append_first) {
        return effects->append_term != 0 ? effects->append_term
                                         : effects->append[index - effects->append_first].term;
    }
    return raft->log.term(raft->log.context, index);
}

uint64_t raft_random_time(struct raft *raft, uint64_t low_ns, uint64_t high_ns)
{
    return raft->now_ns + low_ns + random_below(&raft->random, high_ns - low_ns);
}

uint64_t raft_majority_value(const struct raft *raft, uint64_t *values)
{
    for (int i = 1; i < raft->member_count; i++) {
        uint64_t value = values[i];
        int hole = i;
        for (; hole > 0 && values[hole - 1] < value; hole--) {
            values[hole] = values[hole - 1];
        }
        values[hole] = value;
    }
    return values[raft->member_count / 2];
}

/* ---- the credit of terms ---- */

static uint64_t term_credit(const struct raft *raft, uint64_t now_ns)
{
    uint64_t credit = raft->term_credit + (now_ns - raft->credited_ns) / RAFT_TERM_CREDIT_NS;
    return raft->leader != RAFT_NO_MEMBER && credit > RAFT_TERM_CREDIT ? RAFT_TERM_CREDIT : credit;
}

static void settle_term_credit(struct raft *raft, uint64_t now_ns)
{
    raft->term_credit = term_credit(raft, now_ns);
    raft->credited_ns = now_ns - (now_ns - raft->credited_ns) % RAFT_TERM_CREDIT_NS;
}

bool raft_is_term_plausible(const struct raft *raft, raft_term term, uint64_t now_ns)
{
    return term <= raft->term ||
           (term <= RAFT_TERM_MAX && term - raft->term <= term_credit(raft, now_ns));
}

void raft_spend_term_credit(struct raft *raft, uint64_t raise)
{
    settle_term_credit(raft, raft->now_ns);
    raft->term_credit -= raise < raft->term_credit ? raise : raft->term_credit;
}

/* ---- a step ---- */

static void begin_effects(struct raft *raft)
{
    memset(&raft->effects, 0, sizeof(raft->effects));
    raft->has_saved = false;
    raft->role_before = raft->role;
    raft->term_before = raft->term;
    raft->leader_before = raft->leader;
    raft->was_contact_lost = raft->is_contact_lost;
}

static uint64_t earliest(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

static uint64_t next_deadline(const struct raft *raft)
{
    uint64_t deadline = raft_reads_deadline(raft);
    if (raft->is_transfer_open) {
        deadline = earliest(deadline, raft->transfer_deadline_ns);
    }
    if (!is_leader(raft)) {
        return earliest(deadline, raft->campaign_ns);
    }
    if (raft_replication_has_work(raft)) {
        return raft->now_ns;
    }
    if (raft->member_count == 1) {
        return deadline;
    }
    deadline = earliest(deadline, earliest(raft->heartbeat_ns, raft->notice_ns));
    return earliest(deadline,
                    raft->is_quorum_stale ? raft->now_ns : raft_election_quorum_deadline(raft));
}

static void finish_effects(struct raft *raft)
{
    struct raft_effects *effects = &raft->effects;
    effects->save_seq = raft->save_seq;
    effects->term = raft->term;
    effects->voted_for = raft->voted_for;
    effects->commit_index = raft->commit_index;
    effects->messages = raft->messages;
    effects->reads = raft->ready;
    uint64_t hold_seq = raft->save_seq > raft->persisted_seq ? raft->save_seq : 0;
    for (size_t i = 0; i < effects->message_count; i++) {
        if (raft->messages[i].save_seq == SAVE_SEQ_HOLD) {
            raft->messages[i].save_seq = hold_seq;
        }
    }
    if (is_leader(raft)) {
        for (raft_member i = 0; i < raft->member_count; i++) {
            if (i != raft->self && raft->members[i].progress == PROGRESS_SNAPSHOT) {
                effects->snapshot_wanted |= 1u << i;
            }
        }
    }
    /* Contact changes has_quorum of a follower's status, so it is published too. */
    effects->is_role_changed = raft->role != raft->role_before || raft->term != raft->term_before ||
                               raft->leader != raft->leader_before ||
                               raft->is_contact_lost != raft->was_contact_lost;
    effects->next_deadline_ns = next_deadline(raft);
}

static bool is_peer(const struct raft *raft, raft_member peer)
{
    return peer >= 0 && peer < raft->member_count && peer != raft->self;
}

static int on_message(struct raft *raft, const struct raft_message *message)
{
    if (!is_peer(raft, message->peer) ||
        !raft_is_term_plausible(raft, message->term, raft->now_ns)) {
        return ERR_INVALID;
    }
    int rc = 0;
    switch (message->kind) {
    case RAFT_APPEND_REQUEST:
        rc = raft_replication_on_append_request(raft, message);
        break;
    case RAFT_APPEND_RESPONSE:
        rc = raft_replication_on_append_response(raft, message);
        break;
    case RAFT_VOTE_REQUEST:
        rc = raft_election_on_vote_request(raft, message);
        break;
    case RAFT_VOTE_RESPONSE:
        rc = raft_election_on_vote_response(raft, message);
        break;
    case RAFT_TIMEOUT_NOW:
        raft_election_on_timeout_now(raft, message);
        break;
    case RAFT_READ_REQUEST:
        raft_reads_on_request(raft, message);
        break;
    case RAFT_READ_RESPONSE:
        raft_reads_on_response(raft, message);
        break;
    default:
        rc = ERR_INVALID;
        break;
    }
    if (rc == 0) {
        raft->members[message->peer].heard_ns = raft->now_ns;
    }
    return rc;
}

static void on_propose(struct raft *raft, const struct raft_entry *entries, uint32_t count)
{
    CHECK(raft_can_propose(raft) == RAFT_PROPOSE_NOW);
    CHECK(count <= RAFT_APPEND_ENTRIES_MAX);
    for (uint32_t i = 0; i < count; i++) {
        CHECK(entries[i].type == RAFT_ENTRY_COMMAND);
    }
    if (count > 0) {
        raft_stage_entries(raft, raft->last_index + 1, entries, count, raft->term);
        raft_replication_note_proposal(raft);
    }
}

static void on_persisted(struct raft *raft, uint64_t save_seq, raft_index last_index,
                         raft_term last_term)
{
    CHECK(save_seq <= raft->save_seq);
    CHECK(save_seq >= raft->persisted_seq);
    raft->persisted_seq = save_seq;
    /* Only if that entry is still in the log: what was staged since may have replaced it. */
    if (last_index <= raft->last_index && last_index > raft->persisted_index &&
        raft_term_at(raft, last_index) == last_term) {
        raft->persisted_index = last_index;
    }
    raft_replication_commit(raft);
}

static void on_tick(struct raft *raft)
{
    if (is_leader(raft)) {
        if (raft->is_quorum_stale) {
            raft_election_become_follower(raft, raft->term, RAFT_NO_MEMBER);
        } else {
            raft_replication_tick(raft);
        }
    } else {
        raft_election_tick(raft);
    }
    raft_transfer_tick(raft);
    raft_reads_expire(raft);
}

static void on_stream_event(struct raft *raft, const struct raft_event *event)
{
    raft_member peer = event->stream.peer;
    CHECK(is_peer(raft, peer));
    struct member *member = &raft->members[peer];
    switch (event->kind) {
    case RAFT_EVENT_PEER_HELLO:
        CHECK(event->stream.incarnation != 0);
        raft_membership_on_hello(raft, peer, event->stream.epoch, event->stream.incarnation,
                                 event->stream.is_fresh);
        break;
    case RAFT_EVENT_STREAM_LOST:
        /* The late end of an older stream says nothing of the newest. */
        if (event->stream.epoch == member->epoch && member->is_connected) {
            member->is_connected = false;
            raft_election_on_stream_lost(raft, peer);
        }
        break;
    case RAFT_EVENT_DIAL_REFUSED:
        member->is_dial_down = true;
        member->is_dial_refused = true;
        raft_election_on_dial_refused(raft, peer);
        break;
    case RAFT_EVENT_DIAL_LOST:
        member->is_dial_down = true;
        if (raft->leader == peer) {
            raft_reads_fail_all(raft);
        }
        /* Answers went on that stream. On the next one there may be another process, which gives
         * its reads the same ids. */
        raft_reads_forget_peer(raft, peer);
        raft_replication_reset(raft, peer);
        break;
    case RAFT_EVENT_DIAL_UP:
        member->is_dial_down = false;
        member->is_dial_refused = false;
        raft_replication_reset(raft, peer);
        break;
    default:
        CHECK(!"an event of a stream");
    }
}

static int step_event(struct raft *raft, const struct raft_event *event)
{
    switch (event->kind) {
    case RAFT_EVENT_TICK:
        on_tick(raft);
        return 0;
    case RAFT_EVENT_MESSAGE:
        return on_message(raft, &event->message);
    case RAFT_EVENT_PROPOSE:
        on_propose(raft, event->propose.entries, event->propose.count);
        return 0;
    case RAFT_EVENT_READ:
        return raft_reads_on_read(raft, event->read.id);
    case RAFT_EVENT_REPLICATE:
        if (is_leader(raft)) {
            raft_reads_open_round(raft);
            raft_replication_send(raft);
        }
        return 0;
    case RAFT_EVENT_PERSISTED:
        on_persisted(raft, event->persisted.save_seq, event->persisted.last_index,
                     event->persisted.last_term);
        return 0;
    case RAFT_EVENT_PEER_HELLO:
    case RAFT_EVENT_STREAM_LOST:
    case RAFT_EVENT_DIAL_REFUSED:
    case RAFT_EVENT_DIAL_LOST:
    case RAFT_EVENT_DIAL_UP:
        on_stream_event(raft, event);
        return 0;
    case RAFT_EVENT_TRANSFER:
        raft_transfer_start(raft, event->transfer.target);
        return 0;
    case RAFT_EVENT_ELIGIBLE:
        raft->is_eligible = event->eligible.is_eligible;
        raft->is_last_resort = event->eligible.is_last_resort;
        raft->is_full = event->eligible.is_full;
        return 0;
    case RAFT_EVENT_REBORN:
        raft_membership_reborn(raft, event->reborn.incarnation);
        return 0;
    case RAFT_EVENT_SNAPSHOT_SENT:
        CHECK(is_peer(raft, event->snapshot.peer));
        raft_snapshot_on_sent(raft, event->snapshot.peer, event->snapshot.success);
        return 0;
    case RAFT_EVENT_SNAPSHOT_INSTALLING:
        raft_snapshot_on_installing(raft, event->snapshot.is_active);
        return 0;
    case RAFT_EVENT_SNAPSHOT_INSTALLED:
        return raft_snapshot_on_installed(raft, event->snapshot.index, event->snapshot.term,
                                          &event->snapshot.config);
    }
    CHECK(!"a known kind of event");
    return ERR_INVALID;
}

int raft_step(struct raft *raft, const struct raft_event *event,
              const struct raft_effects **effects)
{
    CHECK(event->now_ns >= raft->now_ns);
    begin_effects(raft);
    /* A process that was stopped finds old answers in its queues. They must not renew a contact
     * that has run out before they are handled; the next TICK steps down. */
    if (is_leader(raft) && !raft_election_has_quorum_contact(raft, event->now_ns)) {
        raft->is_quorum_stale = true;
    }
    raft->now_ns = event->now_ns;
    if (raft->leader != RAFT_NO_MEMBER) {
        settle_term_credit(raft, raft->now_ns);
    }
    int rc = step_event(raft, event);
    finish_effects(raft);
    *effects = &raft->effects;
    return rc;
}

/* ---- what others may ask ---- */

enum raft_propose_answer raft_can_propose(const struct raft *raft)
{
    if (!is_leader(raft)) {
        return RAFT_PROPOSE_NOT_LEADER;
    }
    /* Until GENESIS is everywhere the cluster is not founded (membership.c). */
    bool is_founding = raft->last_index == 1 && raft->commit_index == 0;
    return is_founding || raft->is_transferring ? RAFT_PROPOSE_WAIT : RAFT_PROPOSE_NOW;
}

static void get_member_status(const struct raft *raft, raft_member i,
                              struct raft_member_status *out)
{
    const struct member *member = &raft->members[i];
    out->is_whole = raft_member_counts(raft, i);
    out->cannot_lead = is_leader(raft) && member->cannot_lead;
    if (i == raft->self) {
        out->is_connected = true;
        out->is_fresh = raft->is_fresh;
        out->last_contact_ns = raft->now_ns;
        out->match_index = is_leader(raft) ? raft->persisted_index : 0;
        out->next_index = is_leader(raft) ? raft->last_index + 1 : 0;
        return;
    }
    out->is_connected = member->is_connected;
    out->is_fresh = member->is_fresh;
    out->last_contact_ns = member->heard_ns;
    if (is_leader(raft)) {
        out->match_index = member->match_index;
        out->next_index = member->next_index;
        out->needs_snapshot = member->progress == PROGRESS_SNAPSHOT;
    }
}

void raft_get_status(const struct raft *raft, uint64_t now_ns, struct raft_status *out)
{
    memset(out, 0, sizeof(*out));
    out->role = raft->role;
    out->term = raft->term;
    out->leader = raft->leader;
    out->voted_for = raft->voted_for;
    out->commit_index = raft->commit_index;
    out->last_index = raft->last_index;
    if (is_leader(raft)) {
        out->has_quorum = raft_election_has_quorum_contact(raft, now_ns);
        out->is_ready = raft->commit_index >= raft->term_start;
    } else {
        out->has_quorum = raft->leader != RAFT_NO_MEMBER && !raft->is_contact_lost &&
                          now_ns < raft->contact_ns + raft->election_timeout_ns;
    }
    out->is_whole = raft_member_counts(raft, raft->self);
    out->is_fresh = raft->is_fresh;
    out->elections = raft->elections;
    out->config = raft->config;
    for (raft_member i = 0; i < raft->member_count; i++) {
        get_member_status(raft, i, &out->members[i]);
    }
}
