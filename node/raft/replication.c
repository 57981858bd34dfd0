/* Log replication (Raft 5.3) and commitment (Raft 5.4.2). */
#include "raft_internal.h"

/* How long news of a commit waits for entries to travel with: one message instead of two while
 * proposals follow one another. It does not wait when they come with longer pauses. */
static const uint64_t commit_notice_ns = 150000;
static const uint64_t proposal_pause_ns = 2000000;

/* ---- the leader's view of its followers ---- */

void raft_replication_reset(struct raft *raft, raft_member peer)
{
    struct member *member = &raft->members[peer];
    member->inflight_first = 0;
    member->inflight_count = 0;
    member->inflight_bytes = 0;
    member->is_probe_sent = false;
    member->must_send = true;
    if (member->progress == PROGRESS_REPLICATE) {
        member->next_index = member->match_index + 1;
    }
    member->progress = PROGRESS_PROBE;
}

void raft_replication_forget(struct raft *raft, raft_member peer)
{
    struct member *member = &raft->members[peer];
    member->match_index = 0;
    member->next_index = raft->last_index + 1;
    member->acked_round = 0;
    member->contact_ns = 0;
    member->sent_commit = 0;
    member->is_full = false;
    member->progress = PROGRESS_PROBE;
    raft_replication_reset(raft, peer);
}

static bool has_everyone_genesis(const struct raft *raft)
{
    for (raft_member i = 0; i < raft->member_count; i++) {
        if ((i == raft->self ? raft->persisted_index : raft->members[i].match_index) < 1) {
            return false;
        }
    }
    return true;
}

void raft_replication_open_term(struct raft *raft)
{
    if (raft->term_start != RAFT_NEVER) {
        return;
    }
    if (raft->last_index == 0) {
        raft->term_start = 1;
        raft_membership_found(raft);
        return;
    }
    /* Nothing may follow GENESIS before it is everywhere (membership.c). */
    if (raft->last_index == 1 && raft->commit_index == 0 && !has_everyone_genesis(raft)) {
        return;
    }
    raft->term_start = raft->last_index + 1;
    raft_stage_own(raft, NULL);
}

void raft_replication_start(struct raft *raft)
{
    raft->heartbeat_ns = raft->now_ns + raft->heartbeat_interval_ns;
    raft->round_confirmed = raft->round_newest;
    raft->term_start = RAFT_NEVER;
    raft->notice_ns = RAFT_NEVER;
    for (raft_member i = 0; i < raft->member_count; i++) {
        raft_replication_forget(raft, i);
        raft->members[i].contact_ns = raft->now_ns; /* grace: an election timeout to answer */
    }
    raft_replication_open_term(raft);
}

void raft_replication_tick(struct raft *raft)
{
    if (raft->now_ns < raft->heartbeat_ns) {
        return;
    }
    raft->heartbeat_ns = raft->now_ns + raft->heartbeat_interval_ns;
    for (raft_member i = 0; i < raft->member_count; i++) {
        raft->members[i].must_send = true;
        if (raft->members[i].is_full) {
            raft->members[i].is_probe_sent = false; /* it may have room by now */
        }
    }
}

void raft_replication_note_proposal(struct raft *raft)
{
    raft->proposal_gap_ns = raft->now_ns - raft->proposed_ns;
    raft->proposed_ns = raft->now_ns;
}

/* ---- sending ---- */

static struct raft_message *emit_append(struct raft *raft, raft_member peer, raft_index prev_index,
                                        uint32_t count)
{
    /* Not held: the leader's own disk and the followers' work at the same time (thesis 10.2.1). */
    struct raft_message *message = raft_emit(raft, RAFT_APPEND_REQUEST, peer, false);
    message->append_request.prev_index = prev_index;
    message->append_request.prev_term = raft_term_at(raft, prev_index);
    message->append_request.commit = raft->commit_index;
    message->append_request.read_round = raft->round_newest;
    message->append_request.count = count;
    struct member *member = &raft->members[peer];
    message->append_request.forgotten = member->has_forgotten ? member->incarnation : 0;
    member->must_send = false;
    member->sent_commit = raft->commit_index;
    return message;
}

static uint32_t entries_that_fit(const struct raft *raft, raft_index first, bool is_full,
                                 uint64_t *bytes)
{
    raft_index last_max = raft->last_index;
    *bytes = 0;
    if (first > last_max) {
        return 0;
    }
    if (is_full) {
        last_max = first; /* it would leave out the rest */
    }
    if (last_max - first >= RAFT_APPEND_ENTRIES_MAX) {
        last_max = first + RAFT_APPEND_ENTRIES_MAX - 1;
    }
    raft_index last =
        raft->log.fit(raft->log.context, first, last_max, RAFT_APPEND_BYTES_MAX, bytes);
    CHECK(last >= first);
    CHECK(last <= last_max);
    return (uint32_t)(last - first + 1);
}

static void send_entries(struct raft *raft, raft_member peer)
{
    struct member *member = &raft->members[peer];
    uint64_t bytes;
    uint32_t count = entries_that_fit(raft, member->next_index, member->is_full, &bytes);
    emit_append(raft, peer, member->next_index - 1, count);
    if (member->progress == PROGRESS_PROBE) {
        member->is_probe_sent = true;
        return;
    }
    uint32_t slot = (member->inflight_first + member->inflight_count) % RAFT_INFLIGHT_MAX;
    member->next_index += count;
    member->inflight[slot] = (struct inflight){.last = member->next_index - 1, .bytes = bytes};
    member->inflight_count++;
    member->inflight_bytes += bytes;
}

static bool can_pipeline(const struct raft *raft, const struct member *member)
{
    return member->progress == PROGRESS_REPLICATE && member->next_index <= raft->last_index &&
           member->inflight_count < RAFT_INFLIGHT_MAX &&
           member->inflight_bytes < RAFT_INFLIGHT_BYTES_MAX && !member->is_full;
}

/* A full one needs no probe when there is nothing to send: its answers to heartbeats say enough. */
static bool wants_probe(const struct raft *raft, const struct member *member)
{
    return member->progress == PROGRESS_PROBE && !member->is_probe_sent &&
           !(member->is_full && member->next_index > raft->last_index);
}

static bool wants_message(const struct raft *raft, const struct member *member)
{
    bool wants_commit = member->progress == PROGRESS_REPLICATE &&
                        member->sent_commit < raft->commit_index && raft->now_ns >= raft->notice_ns;
    return member->must_send || wants_commit || wants_probe(raft, member) ||
           can_pipeline(raft, member);
}

static void send_to(struct raft *raft, raft_member peer)
{
    struct member *member = &raft->members[peer];
    if (!wants_message(raft, member)) {
        return;
    }
    if (member->next_index < raft->log.first(raft->log.context)) {
        member->progress = PROGRESS_SNAPSHOT;
    }
    if (member->progress == PROGRESS_SNAPSHOT) {
        /* "Before the log" matches always: contact and read rounds go on. */
        emit_append(raft, peer, 0, 0);
    } else if (wants_probe(raft, member) || can_pipeline(raft, member)) {
        send_entries(raft, peer);
    } else {
        bool is_notice = !member->must_send;
        emit_append(raft, peer, member->next_index - 1, 0)->append_request.no_answer = is_notice;
    }
}

void raft_replication_send(struct raft *raft)
{
    for (raft_member i = 0; i < raft->member_count; i++) {
        if (i != raft->self) {
            send_to(raft, i);
        }
    }
    if (raft->now_ns >= raft->notice_ns) {
        raft->notice_ns = RAFT_NEVER;
    }
}

bool raft_replication_has_work(const struct raft *raft)
{
    for (raft_member i = 0; i < raft->member_count; i++) {
        if (i != raft->self && wants_message(raft, &raft->members[i])) {
            return true;
        }
    }
    return false;
}

/* ---- receiving, as a follower ---- */

static bool are_entries_valid(const struct raft *raft, const struct raft_message *message)
{
    raft_term term = message->append_request.prev_term;
    raft_index index = message->append_request.prev_index;
    for (uint32_t i = 0; i < message->append_request.count; i++) {
        const struct raft_entry *entry = &message->append_request.entries[i];
        index++;
        if (entry->term == 0 || entry->term < term || entry->term > message->term) {
            return false;
        }
        term = entry->term;
        switch (entry->type) {
        case RAFT_ENTRY_COMMAND:
            if (entry->change != NULL || index == 1) {
                return false;
            }
            break;
        case RAFT_ENTRY_CONFIG_CHANGE:
            if (entry->change == NULL ||
                !raft_membership_is_change_valid(raft, entry->change, index)) {
                return false;
            }
            break;
        default:
            return false;
        }
    }
    return true;
}

static bool is_request_valid(const struct raft *raft, const struct raft_message *message)
{
    raft_index prev_index = message->append_request.prev_index;
    raft_term prev_term = message->append_request.prev_term;
    uint32_t count = message->append_request.count;
    return message->term > 0 && prev_index <= RAFT_INDEX_MAX &&
           (prev_index == 0) == (prev_term == 0) && prev_term <= message->term &&
           message->append_request.commit <= RAFT_INDEX_MAX && count <= RAFT_APPEND_ENTRIES_MAX &&
           (count == 0 || message->append_request.entries != NULL) &&
           are_entries_valid(raft, message);
}

/* What is committed here is what every later leader has (Raft 5.4, leader completeness). */
static bool contradicts_committed(const struct raft *raft, const struct raft_message *message)
{
    raft_index index = message->append_request.prev_index;
    raft_term term = message->append_request.prev_term;
    for (uint32_t i = 0; index <= raft->commit_index; i++, index++) {
        raft_term own_term = raft_term_at(raft, index); /* 0: compacted away, or index 0 */
        if (own_term != 0 && own_term != term) {
            return true;
        }
        if (i == message->append_request.count) {
            break;
        }
        term = message->append_request.entries[i].term;
    }
    return false;
}

static bool is_matching(const struct raft *raft, raft_index index, raft_term term)
{
    return index <= raft->commit_index ||
           (index <= raft->last_index && raft_term_at(raft, index) == term);
}

/* Stores what is new of the message's entries. Returns the last index that agrees with them. */
static raft_index store_entries(struct raft *raft, const struct raft_message *message)
{
    const struct raft_entry *entries = message->append_request.entries;
    uint32_t count = message->append_request.count;
    raft_index prev_index = message->append_request.prev_index;
    uint32_t known = 0;
    while (known < count && is_matching(raft, prev_index + 1 + known, entries[known].term)) {
        known++;
    }
    if (known == count) {
        return prev_index + count;
    }
    raft_index first = prev_index + 1 + known;
    size_t changes = 0;
    while (changes < raft->change_count && raft->changes[changes].index < first) {
        changes++;
    }
    /* The list of pending changes is bounded: take what fits before it overflows; the rest comes
     * again once they are committed. */
    uint32_t end = known;
    for (; end < count; end++) {
        if (entries[end].type == RAFT_ENTRY_CONFIG_CHANGE && ++changes > RAFT_CONFIGS_MAX) {
            break;
        }
    }
    if (end > known) {
        raft_stage_entries(raft, first, entries + known, end - known, 0);
    }
    return prev_index + end;
}

/* Where the leader should try next: the last entry of ours whose term is not beyond `prev_term`
 * (Raft 5.3's fast backtracking). What is committed agrees in any case. */
static raft_index conflict_hint(const struct raft *raft, raft_index prev_index, raft_term prev_term)
{
    raft_index hint = prev_index < raft->last_index ? prev_index : raft->last_index;
    while (hint > raft->commit_index && raft_term_at(raft, hint) > prev_term) {
        hint--;
    }
    return hint;
}

static void take_commit(struct raft *raft, raft_index leader_commit, raft_index matched)
{
    raft_index commit = leader_commit < matched ? leader_commit : matched;
    if (commit > raft->commit_index) {
        raft->commit_index = commit;
        raft_membership_commit(raft);
    }
}

int raft_replication_on_append_request(struct raft *raft, const struct raft_message *message)
{
    if (!is_request_valid(raft, message)) {
        return ERR_INVALID;
    }
    raft_index prev_index = message->append_request.prev_index;
    raft_term prev_term = message->append_request.prev_term;
    if (message->term < raft->term) {
        /* Refused for its term, not for its log: rejected_index 0. The sender may lead our term by
         * the time it arrives. */
        raft_emit(raft, RAFT_APPEND_RESPONSE, message->peer, true);
        return 0;
    }
    bool is_second_leader = message->term == raft->term && raft->leader != RAFT_NO_MEMBER &&
                            raft->leader != message->peer;
    if (is_second_leader || contradicts_committed(raft, message)) {
        return ERR_INVALID;
    }
    if (message->term > raft->term) {
        raft_election_become_follower(raft, message->term, message->peer);
    }
    raft_election_on_leader_contact(raft, message->peer);
    if (message->append_request.forgotten == raft->incarnation) {
        raft->effects.has_forgotten = true;
    }

    bool matches = is_matching(raft, prev_index, prev_term);
    if (matches && message->append_request.no_answer) {
        take_commit(raft, message->append_request.commit, prev_index);
        return 0;
    }
    struct raft_message *answer = raft_emit(raft, RAFT_APPEND_RESPONSE, message->peer, true);
    answer->append_response.read_round = message->append_request.read_round;
    answer->append_response.cannot_lead = !raft->is_eligible || raft->is_installing;
    answer->append_response.is_full = raft->is_full;
    if (!matches) {
        raft_index hint = conflict_hint(raft, prev_index, prev_term);
        answer->append_response.rejected_index = prev_index;
        answer->append_response.last_index = hint;
        answer->append_response.hint_term = raft_term_at(raft, hint);
        return 0;
    }
    raft_index matched = store_entries(raft, message);
    answer->append_response.success = true;
    answer->append_response.last_index = matched;
    take_commit(raft, message->append_request.commit, matched);
    return 0;
}

/* ---- receiving, as the leader ---- */

void raft_replication_commit(struct raft *raft)
{
    if (!is_leader(raft)) {
        return;
    }
    for (;;) {
        raft_index reached[CLUSTER_MEMBERS_MAX];
        for (raft_member i = 0; i < raft->member_count; i++) {
            /* The leader too counts only with what is durable. */
            raft_index match =
                i == raft->self ? raft->persisted_index : raft->members[i].match_index;
            reached[i] = raft_member_counts(raft, i) ? match : 0;
        }
        raft_index commit = raft_majority_value(raft, reached);
        /* Raft 5.4.2: only entries of our own term are committed by counting replicas. */
        if (commit <= raft->commit_index || raft_term_at(raft, commit) != raft->term) {
            return;
        }
        if (commit == 1 && !has_everyone_genesis(raft)) {
            return;
        }
        raft->commit_index = commit;
        if (raft->notice_ns == RAFT_NEVER) {
            bool is_sparse =
                raft->proposal_gap_ns > proposal_pause_ns && commit == raft->last_index;
            raft->notice_ns = raft->now_ns + (is_sparse ? 0 : commit_notice_ns);
        }
        raft_membership_commit(raft); /* a member that is admitted now may count for more */
    }
}

/* It refuses what it has acknowledged as durable. That may be an answer of earlier on, which came
 * late: only a message of a read round that was opened since proves that the entries are gone. Then
 * neither its votes nor what it acknowledges may count: it would vote away, or let be overwritten,
 * what its earlier word has committed. */
static void suspect(struct raft *raft, raft_member peer, const struct raft_message *message)
{
    struct member *member = &raft->members[peer];
    if (member->has_forgotten) {
        return;
    }
    if (message->append_response.read_round > member->match_round) {
        member->has_forgotten = true;
        raft->effects.forgetful |= 1u << peer;
        raft_replication_forget(raft, peer);
        member->contact_ns = raft->now_ns;
        return;
    }
    if (raft->round_newest == member->match_round) {
        raft->round_newest++;
    }
    member->is_probe_sent = false;
    member->must_send = true;
}

static void on_success(struct raft *raft, struct member *member, raft_index last_index)
{
    bool is_advanced = last_index > member->match_index;
    if (is_advanced) {
        member->match_index = last_index;
        member->match_round = raft->round_newest;
    }
    if (member->next_index <= member->match_index) {
        member->next_index = member->match_index + 1;
    }
    while (member->inflight_count > 0 &&
           member->inflight[member->inflight_first].last <= last_index) {
        member->inflight_bytes -= member->inflight[member->inflight_first].bytes;
        member->inflight_first = (member->inflight_first + 1) % RAFT_INFLIGHT_MAX;
        member->inflight_count--;
    }
    switch (member->progress) {
    case PROGRESS_PROBE:
        if (last_index + 1 >= member->next_index) {
            member->progress = member->is_full ? PROGRESS_PROBE : PROGRESS_REPLICATE;
            member->next_index = member->match_index + 1;
            /* A full one that took nothing is asked again at the next heartbeat. */
            member->is_probe_sent = member->is_probe_sent && member->is_full && !is_advanced;
        }
        break;
    case PROGRESS_SNAPSHOT:
        if (member->match_index + 1 >= raft->log.first(raft->log.context)) {
            member->progress = PROGRESS_PROBE;
            member->next_index = member->match_index + 1;
            member->is_probe_sent = false;
        }
        break;
    case PROGRESS_REPLICATE:
        break;
    }
}

static void on_rejection(struct raft *raft, raft_member peer, const struct raft_message *message)
{
    struct member *member = &raft->members[peer];
    raft_index rejected = message->append_response.rejected_index;
    if (rejected != 0 && rejected <= member->match_index && member->progress != PROGRESS_SNAPSHOT) {
        suspect(raft, peer, message);
        return;
    }
    bool is_stale = rejected <= member->match_index || member->progress == PROGRESS_SNAPSHOT ||
                    (member->progress == PROGRESS_PROBE && rejected != member->next_index - 1);
    if (is_stale) {
        return;
    }
    raft_index hint = message->append_response.last_index;
    if (hint >= rejected) {
        hint = rejected - 1;
    }
    while (hint > member->match_index &&
           raft_term_at(raft, hint) > message->append_response.hint_term) {
        hint--;
    }
    raft_replication_reset(raft, peer);
    member->next_index = (hint > member->match_index ? hint : member->match_index) + 1;
}

/* A member that is full takes only the beginning of what is on its way, or nothing. */
static void note_room(struct raft *raft, raft_member peer, bool is_full)
{
    struct member *member = &raft->members[peer];
    if (is_full && !member->is_full) {
        raft_replication_reset(raft, peer);
    }
    member->is_full = is_full;
}

bool raft_is_majority_full(const struct raft *raft)
{
    if (!is_leader(raft)) {
        return false;
    }
    int full = 0;
    int with_room = 0;
    for (raft_member i = 0; i < raft->member_count; i++) {
        const struct member *member = &raft->members[i];
        bool is_heard =
            member->is_connected && raft->now_ns - member->contact_ns < raft->election_timeout_ns;
        if (!raft_member_counts(raft, i)) {
            continue;
        }
        if (i == raft->self) {
            with_room++;
        } else if (is_heard) {
            full += member->is_full;
            with_room += !member->is_full;
        }
    }
    return full > 0 && with_room <= raft->member_count / 2;
}

int raft_replication_on_append_response(struct raft *raft, const struct raft_message *message)
{
    if (message->term > raft->term) {
        raft_election_become_follower(raft, message->term, RAFT_NO_MEMBER);
        return 0;
    }
    if (message->term < raft->term || !is_leader(raft)) {
        return 0;
    }
    bool success = message->append_response.success;
    if (message->append_response.read_round > raft->round_newest ||
        (success && message->append_response.last_index > raft->last_index)) {
        return ERR_INVALID;
    }
    struct member *member = &raft->members[message->peer];
    member->contact_ns = raft->now_ns;
    member->cannot_lead = message->append_response.cannot_lead;
    note_room(raft, message->peer, message->append_response.is_full);
    if (message->append_response.read_round > member->acked_round) {
        member->acked_round = message->append_response.read_round;
    }
    if (success) {
        on_success(raft, member, message->append_response.last_index);
        raft_replication_commit(raft);
        raft_replication_open_term(raft);
        raft_transfer_on_answer(raft, message->peer);
        raft_membership_admit(raft);
    } else {
        on_rejection(raft, message->peer, message);
    }
    raft_reads_confirm(raft);
    return 0;
}
