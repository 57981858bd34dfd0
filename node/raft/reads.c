/* Linearizable reads by ReadIndex (thesis 6.4). A round is one exchange of AppendEntries with a
 * majority that proves, after it was opened, that no later leader had been elected when it was.
 * There are no lease reads: a clock never vouches for leadership. */
#include "raft_internal.h"

#include <string.h>

static void remove_read(struct raft *raft, size_t i)
{
    raft->read_count--;
    memmove(raft->reads + i, raft->reads + i + 1, (raft->read_count - i) * sizeof(raft->reads[0]));
}

static void answer(struct raft *raft, const struct read *read, bool confirmed, raft_index index)
{
    if (read->from == raft->self) {
        raft_emit_read(raft, read->id, confirmed, index);
        return;
    }
    struct raft_message *message = raft_emit(raft, RAFT_READ_RESPONSE, read->from, false);
    message->read_response.id = read->id;
    message->read_response.confirmed = confirmed;
    message->read_response.index = index;
}

static struct read *add_read(struct raft *raft, uint64_t id, raft_member from)
{
    if (raft->read_count == RAFT_READS_MAX) {
        return NULL;
    }
    struct read *read = &raft->reads[raft->read_count++];
    *read = (struct read){.id = id, .from = from, .deadline_ns = RAFT_NEVER};
    return read;
}

int raft_reads_on_read(struct raft *raft, uint64_t id)
{
    CHECK(id > raft->last_read_id); /* a reused id could take an older read's answer */
    if (is_leader(raft)) {
        if (add_read(raft, id, raft->self) == NULL) {
            return ERR_FULL;
        }
        raft->last_read_id = id;
        return 0;
    }
    if (raft->leader == RAFT_NO_MEMBER || raft->is_contact_lost ||
        raft->members[raft->leader].is_dial_down) {
        raft->last_read_id = id;
        raft_emit_read(raft, id, false, 0);
        return 0;
    }
    struct read *read = add_read(raft, id, raft->self);
    if (read == NULL) {
        return ERR_FULL;
    }
    raft->last_read_id = id;
    read->is_forwarded = true;
    read->deadline_ns = raft->now_ns + raft->election_timeout_ns;
    raft_emit(raft, RAFT_READ_REQUEST, raft->leader, false)->read_request.id = id;
    return 0;
}

void raft_reads_on_request(struct raft *raft, const struct raft_message *message)
{
    struct read asked = {.id = message->read_request.id, .from = message->peer};
    if (!is_leader(raft) || message->term != raft->term ||
        add_read(raft, asked.id, asked.from) == NULL) {
        answer(raft, &asked, false, 0);
    }
}

void raft_reads_on_response(struct raft *raft, const struct raft_message *message)
{
    if (message->term > raft->term) {
        raft_election_become_follower(raft, message->term, RAFT_NO_MEMBER);
        return;
    }
    if (message->term < raft->term || message->peer != raft->leader) {
        return;
    }
    for (size_t i = 0; i < raft->read_count; i++) {
        if (raft->reads[i].is_forwarded && raft->reads[i].id == message->read_response.id) {
            raft_emit_read(raft, raft->reads[i].id, message->read_response.confirmed,
                           message->read_response.index);
            remove_read(raft, i);
            return;
        }
    }
}

void raft_reads_open_round(struct raft *raft)
{
    /* A leader knows what is committed only once an entry of its own term is. And nothing is
     * answered while leadership is being handed over. */
    if (raft->commit_index < raft->term_start || raft->is_transferring ||
        raft->round_newest - raft->round_confirmed >= RAFT_ROUNDS_MAX) {
        return;
    }
    bool has_waiting = false;
    for (size_t i = 0; i < raft->read_count; i++) {
        struct read *read = &raft->reads[i];
        if (read->round == 0) {
            /* A new round: one whose messages are on their way proves nothing of now. */
            read->round = raft->round_newest + 1;
            read->index = raft->commit_index;
            has_waiting = true;
        }
    }
    if (!has_waiting) {
        return;
    }
    raft->round_newest++;
    for (raft_member i = 0; i < raft->member_count; i++) {
        raft->members[i].must_send = true;
    }
    raft_reads_confirm(raft); /* one member alone is its own majority */
}

void raft_reads_confirm(struct raft *raft)
{
    if (raft->is_transferring) {
        return;
    }
    uint64_t acked[CLUSTER_MEMBERS_MAX];
    for (raft_member i = 0; i < raft->member_count; i++) {
        uint64_t round = i == raft->self ? raft->round_newest : raft->members[i].acked_round;
        acked[i] = raft_member_counts(raft, i) ? round : 0;
    }
    uint64_t confirmed = raft_majority_value(raft, acked);
    if (confirmed <= raft->round_confirmed) {
        return;
    }
    raft->round_confirmed = confirmed;
    size_t kept = 0;
    for (size_t i = 0; i < raft->read_count; i++) {
        const struct read *read = &raft->reads[i];
        if (read->round != 0 && read->round <= confirmed) {
            answer(raft, read, true, read->index);
        } else {
            raft->reads[kept++] = *read;
        }
    }
    raft->read_count = kept;
}

void raft_reads_fail_all(struct raft *raft)
{
    for (size_t i = 0; i < raft->read_count; i++) {
        answer(raft, &raft->reads[i], false, 0);
    }
    raft->read_count = 0;
}

void raft_reads_expire(struct raft *raft)
{
    size_t kept = 0;
    for (size_t i = 0; i < raft->read_count; i++) {
        if (raft->reads[i].deadline_ns <= raft->now_ns) {
            answer(raft, &raft->reads[i], false, 0);
        } else {
            raft->reads[kept++] = raft->reads[i];
        }
    }
    raft->read_count = kept;
}

void raft_reads_forget_peer(struct raft *raft, raft_member peer)
{
    size_t kept = 0;
    for (size_t i = 0; i < raft->read_count; i++) {
        if (raft->reads[i].from != peer) {
            raft->reads[kept++] = raft->reads[i];
        }
    }
    raft->read_count = kept;
}

uint64_t raft_reads_deadline(const struct raft *raft)
{
    /* Deadlines ascend; a leader's reads have none. */
    return raft->read_count > 0 ? raft->reads[0].deadline_ns : RAFT_NEVER;
}
