/* Handing leadership over (thesis 3.10): stop proposing, bring the target's log up to date, tell it
 * to campaign at once. Given up after an election timeout. */
#include "raft_internal.h"

static bool is_target_fit(const struct raft *raft, raft_member target)
{
    return target >= 0 && target < raft->member_count && target != raft->self &&
           raft->members[target].is_connected && !raft->members[target].cannot_lead &&
           raft_member_counts(raft, target);
}

static raft_member best_target(const struct raft *raft)
{
    raft_member best = RAFT_NO_MEMBER;
    for (raft_member i = 0; i < raft->member_count; i++) {
        if (is_target_fit(raft, i) &&
            (best == RAFT_NO_MEMBER ||
             raft->members[i].match_index > raft->members[best].match_index)) {
            best = i;
        }
    }
    return best;
}

static void finish(struct raft *raft)
{
    raft->is_transfer_open = false;
    raft->is_transferring = false;
    raft->effects.is_transfer_over = true;
}

void raft_transfer_start(struct raft *raft, raft_member target)
{
    if (target == RAFT_NO_MEMBER && is_leader(raft)) {
        target = best_target(raft);
    }
    if (!is_leader(raft) || !is_target_fit(raft, target)) {
        raft->effects.is_transfer_over = true;
        return;
    }
    if (raft->is_transferring && raft->transfer_target == target) {
        return;
    }
    raft->is_transferring = true;
    raft->is_transfer_open = true;
    raft->is_transfer_sent = false;
    raft->transfer_target = target;
    raft->transfer_deadline_ns = raft->now_ns + raft->election_timeout_ns;
    raft->members[target].must_send = true;
    raft_transfer_advance(raft);
}

void raft_transfer_advance(struct raft *raft)
{
    if (!raft->is_transferring || raft->is_transfer_sent ||
        raft->members[raft->transfer_target].match_index < raft->last_index) {
        return;
    }
    raft->is_transfer_sent = true;
    raft_emit(raft, RAFT_TIMEOUT_NOW, raft->transfer_target, false);
}

void raft_transfer_on_answer(struct raft *raft, raft_member peer)
{
    if (raft->is_transferring && raft->transfer_target == peer && raft->members[peer].cannot_lead) {
        finish(raft); /* it is leaving too: somebody else, or nobody */
        return;
    }
    raft_transfer_advance(raft);
}

void raft_transfer_tick(struct raft *raft)
{
    if (!raft->is_transfer_open) {
        return;
    }
    if (raft->now_ns >= raft->transfer_deadline_ns) {
        finish(raft);
        return;
    }
    /* With each heartbeat, in case that the first was lost. */
    if (raft->is_transferring && raft->members[raft->transfer_target].must_send) {
        raft->is_transfer_sent = false;
        raft_transfer_advance(raft);
    }
}

void raft_transfer_on_role_change(struct raft *raft)
{
    raft->is_transferring = false;
    if (raft->is_transfer_open && raft->leader != RAFT_NO_MEMBER) {
        finish(raft);
    }
}
