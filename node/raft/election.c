/* Elections (Raft 5.2, 5.4.1) with pre-vote (thesis 9.6), check-quorum, leader stickiness
 * (thesis 4.2.3), and the fast failover on a lost connection. */
#include "raft_internal.h"

#define MS UINT64_C(1000000)

/* A refused dial means that the leader's process is gone; a lost stream may be the network. */
static const uint64_t refused_max_ns = 20 * MS;
static const uint64_t lost_min_ns = 50 * MS;
static const uint64_t lost_max_ns = 150 * MS;
static const uint64_t retry_min_ns = 20 * MS;
static const uint64_t retry_max_ns = 100 * MS;
static const uint64_t hold_back_ns = 50 * MS;
static const int fast_campaigns_max = 5;
static const uint64_t resort_timeouts = 3;

/* ---- contact ---- */

static uint64_t quorum_contact(const struct raft *raft)
{
    uint64_t contacts[CLUSTER_MEMBERS_MAX];
    for (raft_member i = 0; i < raft->member_count; i++) {
        uint64_t contact = i == raft->self ? RAFT_NEVER : raft->members[i].contact_ns;
        contacts[i] = raft_member_counts(raft, i) ? contact : 0;
    }
    return raft_majority_value(raft, contacts);
}

uint64_t raft_election_quorum_deadline(const struct raft *raft)
{
    uint64_t contact = quorum_contact(raft);
    return contact == RAFT_NEVER ? RAFT_NEVER : contact + raft->election_timeout_ns;
}

bool raft_election_has_quorum_contact(const struct raft *raft, uint64_t now_ns)
{
    return !raft->is_quorum_stale && now_ns < raft_election_quorum_deadline(raft);
}

/* Whether this node leads with a quorum, or hears somebody who leads. */
static bool has_contact(const struct raft *raft, uint64_t now_ns)
{
    if (is_leader(raft)) {
        return raft_election_has_quorum_contact(raft, now_ns);
    }
    return raft->leader != RAFT_NO_MEMBER && !raft->is_contact_lost &&
           now_ns < raft->contact_ns + raft->election_timeout_ns;
}

/* ---- changes of role ---- */

static bool is_fast(const struct raft *raft)
{
    return raft->is_contact_lost && raft->fast_campaigns < fast_campaigns_max;
}

static void arm_timeout(struct raft *raft)
{
    raft->campaign_ns =
        raft_random_time(raft, raft->election_timeout_ns, 2 * raft->election_timeout_ns);
}

static void arm_retry(struct raft *raft)
{
    if (is_fast(raft)) {
        raft->campaign_ns = raft_random_time(raft, retry_min_ns, retry_max_ns);
    } else {
        arm_timeout(raft);
    }
}

static void hasten(struct raft *raft, uint64_t low_ns, uint64_t high_ns)
{
    uint64_t sooner = raft_random_time(raft, low_ns, high_ns);
    if (sooner < raft->campaign_ns) {
        raft->campaign_ns = sooner;
    }
}

void raft_election_postpone_resort(struct raft *raft)
{
    raft->resort_ns = raft->now_ns + resort_timeouts * raft->election_timeout_ns;
}

void raft_election_become_follower(struct raft *raft, raft_term term, raft_member leader)
{
    CHECK(term >= raft->term);
    if (is_leader(raft)) {
        raft_election_postpone_resort(raft);
    }
    bool was_active = raft->role != RAFT_FOLLOWER;
    /* First, while their answers still bear the term that they were asked in. */
    if (is_leader(raft) || term != raft->term || leader != raft->leader) {
        raft_reads_fail_all(raft);
    }
    if (term > raft->term) {
        raft_spend_term_credit(raft, term - raft->term);
        raft->term = term;
        raft->voted_for = RAFT_NO_MEMBER;
        raft_save_hard_state(raft);
    }
    raft->role = RAFT_FOLLOWER;
    raft->leader = leader;
    raft->granted = 0;
    raft->refused = 0;
    raft->term_start = RAFT_NEVER;
    raft->is_quorum_stale = false;
    raft->is_transfer_campaign = false;
    if (was_active) {
        arm_retry(raft);
    }
    raft_transfer_on_role_change(raft);
}

void raft_election_on_leader_contact(struct raft *raft, raft_member leader)
{
    if (raft->role != RAFT_FOLLOWER || raft->leader != leader) {
        raft_election_become_follower(raft, raft->term, leader);
    }
    raft->contact_ns = raft->now_ns;
    raft_election_postpone_resort(raft);
    raft->is_contact_lost = false;
    raft->has_overslept = false;
    raft->fast_campaigns = 0;
    arm_timeout(raft);
}

static void become_leader(struct raft *raft)
{
    raft->role = RAFT_LEADER;
    raft->leader = raft->self;
    raft->is_contact_lost = false;
    raft->fast_campaigns = 0;
    raft->is_quorum_stale = false;
    raft->is_transfer_campaign = false;
    raft_replication_start(raft);
}

/* ---- campaigns ---- */

static bool may_campaign(const struct raft *raft)
{
    bool is_due = raft->is_last_resort && raft->now_ns >= raft->resort_ns;
    if ((!raft->is_eligible && !is_due) || raft->is_installing || raft->term >= RAFT_TERM_MAX) {
        return false;
    }
    return raft->last_index == 0 ? raft_membership_can_found(raft)
                                 : raft_member_counts(raft, raft->self);
}

static bool has_won(const struct raft *raft)
{
    uint32_t everyone = (1u << raft->member_count) - 1;
    if (raft->last_index == 0) {
        return raft->granted == everyone && raft_membership_can_found(raft);
    }
    int votes = 0;
    for (raft_member i = 0; i < raft->member_count; i++) {
        votes += (raft->granted >> i & 1u) != 0 && raft_member_counts(raft, i);
    }
    return votes > raft->member_count / 2;
}

/* Votes compare logs as they are durable: the request is held until all that is staged is. */
static void request_votes(struct raft *raft, bool is_pre_vote)
{
    for (raft_member i = 0; i < raft->member_count; i++) {
        if (i == raft->self) {
            continue;
        }
        struct raft_message *message = raft_emit(raft, RAFT_VOTE_REQUEST, i, true);
        message->vote_request.last_index = raft->last_index;
        message->vote_request.last_term = raft->last_term;
        message->vote_request.for_term = raft->term + (is_pre_vote ? 1 : 0);
        message->vote_request.is_pre_vote = is_pre_vote;
        message->vote_request.is_transfer = raft->is_transfer_campaign;
    }
}

static void start_election(struct raft *raft)
{
    raft->term++;
    raft->voted_for = raft->self;
    raft_save_hard_state(raft);
    raft->role = RAFT_CANDIDATE;
    raft->leader = RAFT_NO_MEMBER;
    raft->granted = 1u << raft->self;
    raft->refused = 0;
    arm_timeout(raft);
    if (has_won(raft)) {
        become_leader(raft);
    } else {
        request_votes(raft, false);
    }
}

static void start_pre_vote(struct raft *raft)
{
    raft_reads_fail_all(raft);
    raft->elections++;
    raft->role = RAFT_PRE_CANDIDATE;
    raft->leader = RAFT_NO_MEMBER;
    raft->is_transfer_campaign = false;
    raft->granted = 1u << raft->self;
    raft->refused = 0;
    if (is_fast(raft)) {
        raft->fast_campaigns++;
    }
    arm_retry(raft);
    if (has_won(raft)) {
        start_election(raft);
    } else {
        request_votes(raft, true);
    }
}

void raft_election_tick(struct raft *raft)
{
    if (raft->now_ns < raft->campaign_ns) {
        return;
    }
    /* A late timer means that this process was stopped, or starved: what the leader sent in the
     * meantime may just not have been handed over yet. Once in a row. */
    bool is_late = raft->now_ns - raft->campaign_ns > raft->heartbeat_interval_ns;
    if (is_late && !raft->has_overslept && raft->role == RAFT_FOLLOWER &&
        raft->leader != RAFT_NO_MEMBER && !raft->is_contact_lost) {
        raft->has_overslept = true;
        raft->campaign_ns = raft_random_time(raft, lost_min_ns, lost_max_ns);
        return;
    }
    if (may_campaign(raft)) {
        start_pre_vote(raft);
        return;
    }
    if (raft->role != RAFT_FOLLOWER || raft->leader != RAFT_NO_MEMBER) {
        raft_election_become_follower(raft, raft->term, RAFT_NO_MEMBER);
    }
    arm_timeout(raft);
}

void raft_election_hasten_founding(struct raft *raft)
{
    hasten(raft, 0, raft->election_timeout_ns);
}

void raft_election_on_stream_lost(struct raft *raft, raft_member peer)
{
    if (raft->role != RAFT_FOLLOWER || raft->leader != peer) {
        return;
    }
    raft->is_contact_lost = true;
    raft->fast_campaigns = 0;
    raft_reads_fail_all(raft);
    if (raft->members[peer].is_dial_refused) {
        hasten(raft, 0, refused_max_ns);
    } else {
        hasten(raft, lost_min_ns, lost_max_ns);
    }
}

void raft_election_on_dial_refused(struct raft *raft, raft_member peer)
{
    if (raft->role == RAFT_FOLLOWER && raft->leader == peer && raft->is_contact_lost &&
        raft->fast_campaigns == 0) {
        hasten(raft, 0, refused_max_ns);
    }
}

void raft_election_on_timeout_now(struct raft *raft, const struct raft_message *message)
{
    /* Thesis 3.10: the leader saw that our log is complete; no pre-vote, no waiting. */
    if (message->term != raft->term || raft->role != RAFT_FOLLOWER ||
        message->peer != raft->leader || !may_campaign(raft)) {
        return;
    }
    raft_reads_fail_all(raft);
    raft->elections++;
    raft->is_transfer_campaign = true;
    start_election(raft);
}

/* ---- votes ---- */

enum verdict {
    VERDICT_GRANT,
    VERDICT_REFUSE,
    VERDICT_STICKY, /* refused because there is a leader: the term is not taken over either */
};

static bool is_log_up_to_date(const struct raft *raft, const struct raft_message *request)
{
    raft_term last_term = request->vote_request.last_term;
    return last_term > raft->last_term ||
           (last_term == raft->last_term && request->vote_request.last_index >= raft->last_index);
}

/* Whether this node's vote may help this candidate (membership.c says why). */
static bool may_vote(const struct raft *raft, raft_index candidates_last_index)
{
    switch (candidates_last_index) {
    case 0:
        return raft_membership_can_found(raft);
    case 1:
        return raft_membership_is_whole(raft) || (raft->is_fresh && raft->last_index == 0);
    default:
        return raft_membership_is_whole(raft);
    }
}

static enum verdict judge(const struct raft *raft, const struct raft_message *request,
                          uint64_t now_ns)
{
    raft_term for_term = request->vote_request.for_term;
    bool is_pre_vote = request->vote_request.is_pre_vote;
    if (is_pre_vote ? for_term <= raft->term : for_term < raft->term) {
        return VERDICT_REFUSE;
    }
    if (!request->vote_request.is_transfer && has_contact(raft, now_ns)) {
        return VERDICT_STICKY;
    }
    if (for_term == raft->term && raft->voted_for != RAFT_NO_MEMBER &&
        raft->voted_for != request->peer) {
        return VERDICT_REFUSE;
    }
    if (!is_log_up_to_date(raft, request) || !may_vote(raft, request->vote_request.last_index)) {
        return VERDICT_REFUSE;
    }
    return VERDICT_GRANT;
}

static bool is_vote_request_valid(const struct raft_message *m)
{
    raft_term asked_term = m->term + (m->vote_request.is_pre_vote ? 1 : 0);
    return m->vote_request.for_term == asked_term && asked_term > 0 &&
           m->vote_request.last_index <= RAFT_INDEX_MAX && m->vote_request.last_term <= m->term &&
           (m->vote_request.last_index == 0) == (m->vote_request.last_term == 0) &&
           !(m->vote_request.is_pre_vote && m->vote_request.is_transfer);
}

int raft_election_on_vote_request(struct raft *raft, const struct raft_message *message)
{
    if (!is_vote_request_valid(message)) {
        return ERR_INVALID;
    }
    bool is_pre_vote = message->vote_request.is_pre_vote;
    enum verdict verdict = judge(raft, message, raft->now_ns);
    if (is_pre_vote) {
        /* Changes nothing, but let the other have his try first. */
        if (verdict == VERDICT_GRANT && raft->campaign_ns < raft->now_ns + hold_back_ns) {
            raft->campaign_ns = raft->now_ns + hold_back_ns;
        }
    } else {
        if (verdict != VERDICT_STICKY && message->term > raft->term) {
            raft_election_become_follower(raft, message->term, RAFT_NO_MEMBER);
        }
        if (verdict == VERDICT_GRANT) {
            if (raft->voted_for == RAFT_NO_MEMBER) {
                raft->voted_for = message->peer;
                raft_save_hard_state(raft);
            }
            arm_timeout(raft);
        }
    }
    struct raft_message *answer = raft_emit(raft, RAFT_VOTE_RESPONSE, message->peer, true);
    answer->vote_response.for_term = message->vote_request.for_term;
    answer->vote_response.is_pre_vote = is_pre_vote;
    answer->vote_response.granted = verdict == VERDICT_GRANT;
    return 0;
}

bool raft_would_grant(const struct raft *raft, const struct raft_message *request, uint64_t now_ns)
{
    return is_vote_request_valid(request) && judge(raft, request, now_ns) == VERDICT_GRANT;
}

/* Everybody who can be reached has answered, without a majority. */
static bool is_campaign_lost(const struct raft *raft)
{
    int refusals = 0;
    bool is_settled = true;
    for (raft_member i = 0; i < raft->member_count; i++) {
        bool has_refused = (raft->refused >> i & 1u) != 0;
        bool has_granted = (raft->granted >> i & 1u) != 0;
        refusals += has_refused;
        if (!has_refused && !has_granted && !raft->members[i].is_dial_down) {
            is_settled = false;
        }
    }
    return is_settled || refusals > raft->member_count / 2;
}

static void on_refusal(struct raft *raft)
{
    if (!is_campaign_lost(raft)) {
        return;
    }
    if (raft->role == RAFT_PRE_CANDIDATE) {
        raft->role = RAFT_FOLLOWER;
        arm_retry(raft);
    } else if (is_fast(raft)) {
        hasten(raft, retry_min_ns, retry_max_ns);
    }
}

int raft_election_on_vote_response(struct raft *raft, const struct raft_message *message)
{
    bool is_pre_vote = message->vote_response.is_pre_vote;
    raft_term for_term = message->vote_response.for_term;
    if (message->term > raft->term) {
        raft_election_become_follower(raft, message->term, RAFT_NO_MEMBER);
        return 0;
    }
    bool is_awaited = is_pre_vote ? raft->role == RAFT_PRE_CANDIDATE && for_term == raft->term + 1
                                  : raft->role == RAFT_CANDIDATE && for_term == raft->term;
    if (!is_awaited) {
        return 0;
    }
    if (!message->vote_response.granted) {
        raft->refused |= 1u << message->peer;
        on_refusal(raft);
        return 0;
    }
    raft->granted |= 1u << message->peer;
    if (!has_won(raft)) {
        return 0;
    }
    if (is_pre_vote) {
        start_election(raft);
    } else {
        become_leader(raft);
    }
    return 0;
}
