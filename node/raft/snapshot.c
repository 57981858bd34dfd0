/* What the core must know of snapshots; their bytes travel outside (node/peer). */
#include "raft_internal.h"

void raft_snapshot_on_sent(struct raft *raft, raft_member peer, bool success)
{
    struct member *member = &raft->members[peer];
    if (!is_leader(raft) || member->progress != PROGRESS_SNAPSHOT) {
        return;
    }
    raft_replication_reset(raft, peer);
    if (success) {
        member->next_index = raft->last_index + 1; /* its refusal tells where it stands */
    } else {
        member->is_probe_sent = true; /* not before the next heartbeat */
        member->must_send = false;
    }
}

void raft_snapshot_on_installing(struct raft *raft, bool is_active)
{
    raft->is_installing = is_active;
    /* The state machine is being replaced: this node could not serve as leader. */
    if (is_active && (raft->role == RAFT_PRE_CANDIDATE || raft->role == RAFT_CANDIDATE)) {
        raft_election_become_follower(raft, raft->term, RAFT_NO_MEMBER);
    }
}

enum raft_install_answer raft_can_install(const struct raft *raft, raft_index index, raft_term term)
{
    raft_term own_term = raft_term_at(raft, index);
    if (own_term == term) {
        return RAFT_INSTALL_KEEP_LOG;
    }
    /* Behind the commit index nothing can disagree, so it is unknown: compacted away. */
    return index <= raft->commit_index ? RAFT_INSTALL_REFUSE : RAFT_INSTALL_RESET_LOG;
}

int raft_snapshot_on_installed(struct raft *raft, raft_index index, raft_term term,
                               const struct raft_config *config)
{
    CHECK(index > 0);
    CHECK(!is_leader(raft));
    raft->is_installing = false;
    raft->is_fresh = false;
    if (term > raft->term) {
        raft_election_become_follower(raft, term,
                                      RAFT_NO_MEMBER); /* no log is ahead of its node's term */
    }
    bool is_kept = index < raft->last_index && raft->log.term(raft->log.context, index) == term &&
                   raft->log.term(raft->log.context, raft->last_index) == raft->last_term;
    if (!is_kept) {
        /* Dropping committed entries, or such that the leader counts on, would lose them. */
        CHECK(index >= raft->commit_index);
        raft_membership_truncate(raft, index + 1);
        raft->last_index = index;
        raft->last_term = term;
        raft->persisted_index = index;
    } else if (raft->persisted_index < index) {
        raft->persisted_index = index;
    }
    if (index >= raft->commit_index) {
        raft->commit_index = index;
        raft_membership_install(raft, index, config);
    }
    return 0;
}
