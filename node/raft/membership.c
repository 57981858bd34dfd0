/* Founding a cluster and admitting incarnations.
 *
 * Why at most one cluster is ever founded:
 *  - A founding election is unanimous, among members that have all said that they are fresh, each
 *    with an empty log. So when a second one is won, every holder of a first GENESIS has lost it
 *    by a wipe: whoever still holds it does not vote for a candidate whose log is empty.
 *  - Entry 2 exists only after every member held GENESIS. So a wiped node finds someone who is not
 *    fresh, and it never votes for a candidate whose log goes beyond GENESIS.
 *  - A fresh node votes for a candidate whose log is just GENESIS: otherwise a founder that crashes
 *    before its first message arrives would wait for ever for nodes that wait for it.
 *
 * Why votes and acknowledgements count by what is known to be committed, GENESIS excepted: ADMIT
 * replaces one incarnation by another, and a majority with the old one and a majority with the new
 * one may have only that member in common, which forgot what it promised. Once ADMIT is committed,
 * without that member, a majority of all holds it, so no candidate can win any more that counts
 * the old one. While it is pending the member counts for nothing. GENESIS has no config before it,
 * and nothing is committed that it could contradict, so it counts as soon as it is in the log.
 *
 * Why each ADMIT is appended twice: a restart forgets the commit index. Changes are made one at a
 * time, so whoever appended a change knew that those before it were committed: all changes in a log
 * but the last are. The second ADMIT is the durable proof that the first was committed; without it
 * a cluster that loses power, and then another node, could not tell that this one counts. */
#include "raft_internal.h"

#include <string.h>

void raft_config_apply(struct raft_config *config, const struct raft_change *change)
{
    switch (change->kind) {
    case RAFT_CHANGE_GENESIS:
        config->is_founded = true;
        memcpy(config->cluster_id, change->cluster_id, sizeof(config->cluster_id));
        memcpy(config->incarnations, change->incarnations, sizeof(config->incarnations));
        return;
    case RAFT_CHANGE_ADMIT:
        CHECK(change->member >= 0);
        CHECK(change->member < CLUSTER_MEMBERS_MAX);
        config->incarnations[change->member] = change->incarnation;
        return;
    }
    CHECK(!"a known kind of change");
}

/* The incarnation that counts; 0: none. */
static uint64_t admitted(const struct raft *raft, raft_member member)
{
    uint64_t incarnation = raft->config.incarnations[member];
    for (size_t i = 0; i < raft->change_count; i++) {
        const struct raft_change *change = &raft->changes[i].change;
        if (change->kind == RAFT_CHANGE_GENESIS) {
            incarnation = change->incarnations[member];
        } else if (change->member == member && i + 1 < raft->change_count) {
            incarnation = change->incarnation;
        }
    }
    return incarnation;
}

/* The incarnation that the newest change admits; equal to admitted() if it is about another. */
static uint64_t newest_admitted(const struct raft *raft, raft_member member)
{
    if (raft->change_count > 0) {
        const struct raft_change *change = &raft->changes[raft->change_count - 1].change;
        if (change->kind == RAFT_CHANGE_ADMIT && change->member == member) {
            return change->incarnation;
        }
    }
    return admitted(raft, member);
}

static uint64_t said_incarnation(const struct raft *raft, raft_member member)
{
    return member == raft->self ? raft->incarnation : raft->members[member].incarnation;
}

bool raft_member_counts(const struct raft *raft, raft_member member)
{
    uint64_t said = said_incarnation(raft, member);
    return said != 0 && said == admitted(raft, member) && said == newest_admitted(raft, member) &&
           !raft->members[member].has_forgotten;
}

/* A voter may trust an ADMIT that is not committed: its vote is counted by the candidate, which
 * may not. */
bool raft_membership_is_whole(const struct raft *raft)
{
    return newest_admitted(raft, raft->self) == raft->incarnation;
}

bool raft_membership_can_found(const struct raft *raft)
{
    if (!raft->is_fresh || raft->last_index != 0) {
        return false;
    }
    for (raft_member i = 0; i < raft->member_count; i++) {
        const struct member *member = &raft->members[i];
        if (i != raft->self && (member->incarnation == 0 || !member->is_fresh)) {
            return false;
        }
    }
    return true;
}

void raft_membership_on_hello(struct raft *raft, raft_member peer, uint64_t epoch,
                              uint64_t incarnation, bool is_fresh)
{
    struct member *member = &raft->members[peer];
    if (epoch <= member->epoch) {
        return; /* a stream that was replaced already */
    }
    bool is_other = member->incarnation != incarnation;
    member->epoch = epoch;
    member->incarnation = incarnation;
    member->is_fresh = is_fresh;
    member->is_connected = true;
    member->is_dial_refused = false;
    member->cannot_lead = false;
    member->is_full = false;
    raft_reads_forget_peer(raft, peer);
    if (is_other) {
        /* What the old incarnation answered says nothing of the new one. */
        raft->granted &= ~(1u << peer);
        raft->refused &= ~(1u << peer);
        member->has_forgotten = false;
        raft_replication_forget(raft, peer);
    }
    if (is_leader(raft)) {
        raft_replication_reset(raft, peer);
        return;
    }
    if (raft_membership_can_found(raft)) {
        raft_election_hasten_founding(raft);
    }
}

bool raft_membership_is_change_valid(const struct raft *raft, const struct raft_change *change,
                                     raft_index index)
{
    if (change->kind == RAFT_CHANGE_GENESIS) {
        for (raft_member i = 0; i < raft->member_count; i++) {
            if (change->incarnations[i] == 0) {
                return false;
            }
        }
        return index == 1;
    }
    return change->kind == RAFT_CHANGE_ADMIT && change->member >= 0 &&
           change->member < raft->member_count && change->incarnation != 0 && index > 1;
}

void raft_membership_append(struct raft *raft, raft_index index, const struct raft_change *change)
{
    CHECK(raft->change_count < RAFT_CONFIGS_MAX);
    struct pending_change *pending = &raft->changes[raft->change_count++];
    pending->index = index;
    pending->change = *change;
}

void raft_membership_truncate(struct raft *raft, raft_index first)
{
    while (raft->change_count > 0 && raft->changes[raft->change_count - 1].index >= first) {
        raft->change_count--;
    }
}

static void forget_first(struct raft *raft, size_t count)
{
    raft->change_count -= count;
    memmove(raft->changes, raft->changes + count, raft->change_count * sizeof(raft->changes[0]));
}

void raft_membership_install(struct raft *raft, raft_index index, const struct raft_config *config)
{
    size_t done = 0;
    while (done < raft->change_count && raft->changes[done].index <= index) {
        done++; /* contained in `config`, with what came between */
    }
    forget_first(raft, done);
    raft->config = *config;
}

void raft_membership_commit(struct raft *raft)
{
    size_t done = 0;
    while (done < raft->change_count && raft->changes[done].index <= raft->commit_index) {
        const struct raft_change *change = &raft->changes[done].change;
        if (change->kind == RAFT_CHANGE_ADMIT) {
            uint32_t bit = 1u << change->member;
            bool is_first = raft->config.incarnations[change->member] != change->incarnation;
            raft->unsealed = is_first ? raft->unsealed | bit : raft->unsealed & ~bit;
        }
        raft_config_apply(&raft->config, change);
        done++;
    }
    forget_first(raft, done);
}

void raft_membership_reborn(struct raft *raft, uint64_t incarnation)
{
    CHECK(incarnation != 0);
    CHECK(incarnation != raft->incarnation);
    raft->incarnation = incarnation;
    raft->is_fresh = false;
    if (raft->role != RAFT_FOLLOWER) {
        raft_election_become_follower(raft, raft->term, RAFT_NO_MEMBER);
    }
}

void raft_membership_found(struct raft *raft)
{
    CHECK(raft_membership_can_found(raft));
    struct raft_change genesis = {.kind = RAFT_CHANGE_GENESIS, .member = RAFT_NO_MEMBER};
    memcpy(genesis.cluster_id, raft->new_cluster_id, sizeof(genesis.cluster_id));
    for (raft_member i = 0; i < raft->member_count; i++) {
        genesis.incarnations[i] = said_incarnation(raft, i);
    }
    raft_stage_own(raft, &genesis);
}

void raft_membership_admit(struct raft *raft)
{
    /* One change at a time, and only in a term that is open: the rule for changing one member
     * (thesis 4.1, with the correction of 2015 on the raft-dev list). */
    if (!is_leader(raft) || raft->commit_index < raft->term_start || raft->change_count > 0 ||
        raft->is_transferring) {
        return;
    }
    for (raft_member i = 0; i < raft->member_count; i++) {
        const struct member *member = &raft->members[i];
        bool is_due =
            member->incarnation != raft->config.incarnations[i] || (raft->unsealed >> i & 1u) != 0;
        if (i == raft->self || !member->is_connected || member->incarnation == 0 || !is_due) {
            continue;
        }
        /* It holds, durably, all that may ever have counted on the old incarnation; the second
         * time also the first ADMIT, so that it knows that it may vote. */
        if (member->progress == PROGRESS_REPLICATE && member->match_index >= raft->commit_index) {
            struct raft_change admit = {
                .kind = RAFT_CHANGE_ADMIT, .member = i, .incarnation = member->incarnation};
            raft_stage_own(raft, &admit);
            return;
        }
    }
}
