/* Elections, and the failover scenarios: who may disturb whom, and how fast. */
#include "raft_testing.h"

/* ---- contact ---- */

static void test_flapping_link_to_one_follower_changes_no_term(void **state)
{
    (void)state;
    struct cluster *cluster = make_cluster(3, 1);
    raft_member leader = cluster_leader(cluster);
    raft_member follower = other_than(leader, leader);
    raft_term term = term_of(cluster, leader);
    for (int i = 0; i < 30; i++) {
        cluster_break(cluster, leader, follower);
        cluster_run(cluster, 10 * MS);
        cut_both_ways(cluster, leader, follower);
        cluster_break(cluster, leader, follower);
        cluster_run(cluster, (uint64_t)i * 20 * MS);
        cluster_heal_all(cluster);
        cluster_run(cluster, 120 * MS);
        assert_int_equal(cluster_leader(cluster), leader);
    }
    for (raft_member i = 0; i < 3; i++) {
        assert_int_equal(term_of(cluster, i), term);
    }
    assert_int_equal(role_of(cluster, follower), RAFT_FOLLOWER);
    cluster_destroy(cluster);
}

static void test_both_links_flap_at_once_at_most_one_election(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= 40; seed++) {
        struct cluster *cluster = make_cluster(3, seed);
        raft_member leader = cluster_leader(cluster);
        raft_term term = term_of(cluster, leader);
        for (raft_member i = 0; i < 3; i++) {
            if (i != leader) {
                cut_both_ways(cluster, leader, i);
                cluster_break(cluster, leader, i);
            }
        }
        cluster_run(cluster, seed * 10 * MS);
        cluster_heal_all(cluster);
        cluster_run(cluster, 2000 * MS);
        assert_true(cluster_is_converged(cluster));
        assert_in_range(term_of(cluster, leader), term, term + 1);
        cluster_destroy(cluster);
    }
}

static void test_in_a_chain_the_far_end_stays_a_follower(void **state)
{
    (void)state;
    struct cluster *cluster = make_cluster(3, 2);
    raft_member leader = cluster_leader(cluster);
    raft_member far = other_than(leader, leader);
    raft_term term = term_of(cluster, leader);
    cut_both_ways(cluster, leader, far);
    for (int i = 0; i < 100; i++) {
        cluster_run(cluster, 100 * MS);
        assert_int_equal(cluster_leader(cluster), leader);
        assert_int_not_equal(role_of(cluster, far), RAFT_CANDIDATE);
    }
    assert_int_equal(term_of(cluster, leader), term);
    assert_int_equal(term_of(cluster, far), term);
    cluster_destroy(cluster);
}

static void test_leader_that_is_not_heard_steps_down(void **state)
{
    (void)state;
    struct cluster *cluster = make_cluster(3, 3);
    raft_member leader = cluster_leader(cluster);
    for (raft_member i = 0; i < 3; i++) {
        cluster_cut(cluster, leader, i); /* one way: it still hears the others */
    }
    cluster_run(cluster, ELECTION_NS + 100 * MS);
    assert_int_not_equal(role_of(cluster, leader), RAFT_LEADER);
    cluster_run(cluster, 1000 * MS);
    assert_int_not_equal(cluster_leader(cluster), leader);
    assert_int_not_equal(cluster_leader(cluster), RAFT_NO_MEMBER);
    cluster_destroy(cluster);
}

static void test_late_close_of_an_old_connection_does_nothing(void **state)
{
    (void)state;
    struct cluster *cluster = make_cluster(3, 4);
    raft_member leader = cluster_leader(cluster);
    raft_member follower = other_than(leader, leader);
    cluster_break(cluster, leader, follower);
    cluster_run(cluster, 100 * MS);
    struct raft_event late = {.kind = RAFT_EVENT_STREAM_LOST};
    late.stream.peer = leader;
    late.stream.epoch = cluster->links[leader][follower].epoch - 1;
    cluster_inject(cluster, follower, &late, NULL, 0);
    cluster_turn(cluster, follower);
    assert_true(cluster_status(cluster, follower).has_quorum);
    late.stream.epoch++;
    cluster_inject(cluster, follower, &late, NULL, 0);
    cluster_turn(cluster, follower);
    assert_false(cluster_status(cluster, follower).has_quorum);
    cluster_destroy(cluster);
}

static void test_stopped_leader_steps_down_before_anything_else(void **state)
{
    (void)state;
    struct cluster *cluster = make_cluster(3, 5);
    raft_member leader = cluster_leader(cluster);
    assert_true(cluster_propose(cluster, leader, 7));
    cluster_run(cluster, MS / 2);
    cluster_pause(cluster, leader); /* its followers' answers wait in its queue */
    cluster_run(cluster, ELECTION_NS + 10 * MS);
    cluster_resume(cluster, leader);
    cluster_run(cluster, MS / 2);
    assert_int_not_equal(role_of(cluster, leader), RAFT_LEADER);
    cluster_run(cluster, 2000 * MS);
    assert_true(cluster_is_converged(cluster));
    cluster_destroy(cluster);
}

static void test_stopped_follower_does_not_campaign_when_it_goes_on(void **state)
{
    (void)state;
    struct cluster *cluster = make_cluster(3, 6);
    raft_member leader = cluster_leader(cluster);
    raft_member follower = other_than(leader, leader);
    uint64_t elections = cluster_status(cluster, follower).elections;
    raft_term term = term_of(cluster, leader);
    cluster_pause(cluster, follower);
    cluster_run(cluster, 5 * ELECTION_NS);
    cluster_resume(cluster, follower);
    cluster_run(cluster, 200 * MS);
    assert_int_equal(cluster_status(cluster, follower).elections, elections);
    assert_int_equal(term_of(cluster, leader), term);
    assert_int_equal(cluster_leader(cluster), leader);
    cluster_destroy(cluster);
}

static void test_late_timer_is_forgiven_once(void **state)
{
    (void)state;
    struct solo *solo = make_solo(3, (raft_term[]){1, 1, 0}, 1);
    solo_hellos(solo);
    solo_message(solo, append_of(1, 1, 2, 1, 0));
    solo->now_ns += 10 * ELECTION_NS; /* stopped: what the leader sent may be in the queue */
    solo_kind(solo, RAFT_EVENT_TICK);
    assert_int_equal(solo_status(solo).role, RAFT_FOLLOWER);
    assert_in_range(solo->effects->next_deadline_ns, solo->now_ns, solo->now_ns + 150 * MS);
    solo->now_ns += 10 * ELECTION_NS;
    solo_kind(solo, RAFT_EVENT_TICK);
    assert_int_equal(solo_status(solo).role, RAFT_PRE_CANDIDATE);
    free_solo(solo);
}

/* ---- speed ---- */

/* How long after the leader's end the first node campaigns. */
static uint64_t time_to_campaign(uint64_t seed, bool is_refused)
{
    struct cluster *cluster = make_cluster(3, seed);
    raft_member leader = cluster_leader(cluster);
    uint64_t start_ns = cluster->now_ns;
    if (is_refused) {
        cluster_crash(cluster, leader, true, false);
    } else {
        isolate(cluster, leader);
        for (raft_member i = 0; i < 3; i++) {
            cluster_break(cluster, leader, i);
        }
    }
    raft_member a = other_than(leader, leader);
    raft_member b = other_than(leader, a);
    while (role_of(cluster, a) == RAFT_FOLLOWER && role_of(cluster, b) == RAFT_FOLLOWER) {
        cluster_run(cluster, MS / 4);
        assert_true(cluster->now_ns < start_ns + 1000 * MS);
    }
    uint64_t campaign_ns = cluster->now_ns - start_ns;
    cluster_run(cluster, 250 * MS);
    assert_int_not_equal(cluster_leader(cluster), RAFT_NO_MEMBER);
    cluster_destroy(cluster);
    return campaign_ns;
}

static void test_refused_dial_starts_the_election_within_20_ms(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= 30; seed++) {
        assert_in_range(time_to_campaign(seed, true), 0, 24 * MS);
    }
}

static void test_lost_stream_alone_waits_50_to_150_ms(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= 30; seed++) {
        assert_in_range(time_to_campaign(seed, false), 49 * MS, 152 * MS);
    }
}

static void test_five_fast_campaigns_then_election_timeouts(void **state)
{
    (void)state;
    struct cluster *cluster = make_cluster(3, 7);
    raft_member leader = cluster_leader(cluster);
    raft_member survivor = other_than(leader, leader);
    uint64_t before = cluster_status(cluster, survivor).elections;
    cluster_crash(cluster, other_than(leader, survivor), true, false);
    cluster_crash(cluster, leader, true, false);
    cluster_run(cluster, 500 * MS);
    assert_int_equal(cluster_status(cluster, survivor).elections - before, 5);
    cluster_run(cluster, 10 * ELECTION_NS);
    assert_in_range(cluster_status(cluster, survivor).elections - before, 9, 16);
    assert_int_equal(term_of(cluster, survivor), 1); /* pre-votes only */
    cluster_destroy(cluster);
}

static void test_pre_vote_grant_holds_back_the_own_campaign(void **state)
{
    (void)state;
    struct solo *solo = make_solo(3, (raft_term[]){1, 1, 0}, 1);
    solo_hellos(solo);
    solo_message(solo, append_of(1, 1, 2, 1, 0));
    struct raft_event lost = {.kind = RAFT_EVENT_STREAM_LOST};
    lost.stream.peer = 1;
    lost.stream.epoch = 1;
    solo_step(solo, lost);
    struct raft_event refused = {.kind = RAFT_EVENT_DIAL_REFUSED};
    refused.stream.peer = 1;
    solo_step(solo, refused);
    assert_in_range(solo->effects->next_deadline_ns, solo->now_ns, solo->now_ns + 20 * MS);
    struct raft_message request = {.kind = RAFT_VOTE_REQUEST, .peer = 2, .term = 1};
    request.vote_request.last_index = 2;
    request.vote_request.last_term = 1;
    request.vote_request.for_term = 2;
    request.vote_request.is_pre_vote = true;
    solo_message(solo, request);
    assert_true(solo_sent(solo, RAFT_VOTE_RESPONSE, 0)->message.vote_response.granted);
    assert_int_equal(solo->effects->next_deadline_ns, solo->now_ns + 50 * MS);
    assert_false(solo->effects->has_hard_state);
    assert_int_equal(solo_status(solo).term, 1);
    free_solo(solo);
}

/* ---- votes ---- */

static struct raft_message vote_request(raft_member peer, raft_term term, raft_index last_index,
                                        raft_term last_term)
{
    struct raft_message request = {.kind = RAFT_VOTE_REQUEST, .peer = peer, .term = term};
    request.vote_request.for_term = term;
    request.vote_request.last_index = last_index;
    request.vote_request.last_term = last_term;
    return request;
}

static void test_vote_request_refused_for_contact_does_not_raise_the_term(void **state)
{
    (void)state;
    struct solo *solo = make_solo(3, (raft_term[]){1, 1, 0}, 1);
    solo_hellos(solo);
    solo_message(solo, append_of(1, 1, 2, 1, 0));
    struct raft_message request = vote_request(2, 9, 2, 1);
    assert_false(raft_would_grant(solo->raft, &request, solo->now_ns));
    solo_message(solo, request);
    assert_false(solo_sent(solo, RAFT_VOTE_RESPONSE, 0)->message.vote_response.granted);
    assert_int_equal(solo_status(solo).term, 1);
    assert_int_equal(solo_status(solo).leader, 1);
    /* An election timeout later nothing protects the leader any more. */
    solo->now_ns += ELECTION_NS;
    assert_true(raft_would_grant(solo->raft, &request, solo->now_ns));
    solo_message(solo, request);
    assert_true(solo_sent(solo, RAFT_VOTE_RESPONSE, 0)->message.vote_response.granted);
    assert_int_equal(solo_status(solo).term, 9);
    free_solo(solo);
}

static void test_leader_with_quorum_contact_refuses_votes(void **state)
{
    (void)state;
    struct solo *solo = make_solo(3, (raft_term[]){1, 1, 0}, 1);
    solo_lead(solo);
    solo_message(solo, vote_request(2, 9, 99, 8));
    assert_false(solo_sent(solo, RAFT_VOTE_RESPONSE, 0)->message.vote_response.granted);
    assert_int_equal(solo_status(solo).role, RAFT_LEADER);
    assert_int_equal(solo_status(solo).term, 2);
    free_solo(solo);
}

static void test_one_vote_in_a_term_and_it_is_held_until_durable(void **state)
{
    (void)state;
    struct solo *solo = make_solo(3, (raft_term[]){1, 1, 0}, 1);
    solo_hellos(solo);
    solo_message(solo, vote_request(1, 5, 2, 1));
    assert_true(solo->effects->has_hard_state);
    assert_int_equal(solo->effects->voted_for, 1);
    const struct raft_outgoing *answer = solo_sent(solo, RAFT_VOTE_RESPONSE, 0);
    assert_true(answer->message.vote_response.granted);
    assert_int_equal(answer->save_seq, solo->effects->save_seq);
    assert_true(answer->save_seq > 0);
    solo_message(solo, vote_request(2, 5, 2, 1));
    assert_false(solo_sent(solo, RAFT_VOTE_RESPONSE, 0)->message.vote_response.granted);
    /* Asked again by the same: the answer depends on the save that is still under way. */
    solo_message(solo, vote_request(1, 5, 2, 1));
    answer = solo_sent(solo, RAFT_VOTE_RESPONSE, 0);
    assert_true(answer->message.vote_response.granted);
    assert_int_equal(answer->save_seq, solo->effects->save_seq);
    solo_persisted(solo);
    solo_message(solo, vote_request(1, 5, 2, 1));
    assert_int_equal(solo_sent(solo, RAFT_VOTE_RESPONSE, 0)->save_seq, 0);
    free_solo(solo);
}

static void test_votes_compare_what_is_persisted(void **state)
{
    (void)state;
    struct solo *solo = make_solo(3, (raft_term[]){1, 1, 0}, 1);
    solo_hellos(solo);
    struct raft_message append = append_of(1, 1, 2, 1, 0);
    struct raft_entry entry = {.term = 1};
    append.append_request.count = 1;
    append.append_request.entries = &entry;
    solo_message(solo, append);
    uint64_t staged_seq = solo->effects->save_seq;
    /* The entry is staged only. A campaign that names it is held until it is durable. */
    solo->now_ns += 2 * ELECTION_NS;
    solo_kind(solo, RAFT_EVENT_TICK);
    solo->now_ns += 2 * ELECTION_NS;
    solo_kind(solo, RAFT_EVENT_TICK);
    const struct raft_outgoing *request = solo_sent(solo, RAFT_VOTE_REQUEST, 0);
    assert_int_equal(request->message.vote_request.last_index, 3);
    assert_int_equal(request->save_seq, staged_seq);
    free_solo(solo);
}

static void test_candidate_with_an_older_log_is_refused(void **state)
{
    (void)state;
    struct solo *solo = make_solo(3, (raft_term[]){1, 1, 2, 0}, 2);
    solo_hellos(solo);
    const struct raft_message refused[] = {vote_request(1, 3, 2, 2), vote_request(1, 4, 9, 1),
                                           vote_request(1, 5, 2, 1)};
    for (size_t i = 0; i < sizeof(refused) / sizeof(refused[0]); i++) {
        solo_message(solo, refused[i]);
        assert_false(solo_sent(solo, RAFT_VOTE_RESPONSE, 0)->message.vote_response.granted);
        assert_int_equal(solo_status(solo).term, refused[i].term); /* but the term counts */
    }
    solo_message(solo, vote_request(1, 6, 3, 2));
    assert_true(solo_sent(solo, RAFT_VOTE_RESPONSE, 0)->message.vote_response.granted);
    free_solo(solo);
}

static void test_node_cut_off_rejoins_without_an_election(void **state)
{
    (void)state;
    struct cluster *cluster = make_cluster(3, 8);
    raft_member leader = cluster_leader(cluster);
    raft_term term = term_of(cluster, leader);
    isolate(cluster, other_than(leader, leader));
    cluster_run(cluster, 10000 * MS);
    cluster_heal_all(cluster);
    cluster_run(cluster, 2000 * MS);
    assert_true(cluster_is_converged(cluster));
    assert_int_equal(cluster_leader(cluster), leader);
    assert_int_equal(term_of(cluster, leader), term);
    cluster_destroy(cluster);
}

static void test_node_that_may_not_campaign_never_does(void **state)
{
    (void)state;
    struct cluster *cluster = make_cluster(3, 9);
    raft_member leader = cluster_leader(cluster);
    raft_member other = other_than(leader, leader);
    struct raft_event event = {.kind = RAFT_EVENT_ELIGIBLE};
    cluster_inject(cluster, other, &event, NULL, 0);
    struct raft_event installing = {.kind = RAFT_EVENT_SNAPSHOT_INSTALLING};
    installing.snapshot.is_active = true;
    cluster_inject(cluster, other_than(leader, other), &installing, NULL, 0);
    cluster_run(cluster, 10 * MS);
    cluster_crash(cluster, leader, true, false);
    cluster_run(cluster, 5000 * MS);
    assert_int_equal(cluster_leader(cluster), RAFT_NO_MEMBER);
    installing.snapshot.is_active = false; /* given up: now it may */
    cluster_inject(cluster, other_than(leader, other), &installing, NULL, 0);
    cluster_run(cluster, 2000 * MS);
    assert_int_equal(cluster_leader(cluster), other_than(leader, other));
    cluster_destroy(cluster);
}

/* ---- transfer ---- */

static void test_leadership_goes_to_the_target_at_once(void **state)
{
    (void)state;
    struct cluster *cluster = make_cluster(3, 10);
    raft_member leader = cluster_leader(cluster);
    raft_member target = other_than(leader, leader);
    assert_true(cluster_propose(cluster, leader, 5));
    cluster_transfer(cluster, leader, target);
    cluster_run(cluster, 30 * MS);
    assert_int_equal(cluster_leader(cluster), target);
    assert_int_equal(cluster->nodes[leader].transfers_over, 1);
    cluster_run(cluster, 100 * MS);
    assert_true(cluster_is_converged(cluster));
    cluster_destroy(cluster);
}

static void test_transfer_without_a_target_takes_the_most_complete_follower(void **state)
{
    (void)state;
    struct cluster *cluster = make_cluster(3, 11);
    raft_member leader = cluster_leader(cluster);
    raft_member behind = other_than(leader, leader);
    cluster_cut(cluster, leader, behind);
    commit_some(cluster, 0);
    assert_true(cluster_propose(cluster, leader, 5));
    cluster_run(cluster, 20 * MS);
    cluster_transfer(cluster, leader, RAFT_NO_MEMBER);
    cluster_run(cluster, 30 * MS);
    assert_int_equal(cluster_leader(cluster), other_than(leader, behind));
    cluster_destroy(cluster);
}

static void test_transfer_that_cannot_be_ends_at_once(void **state)
{
    (void)state;
    struct cluster *cluster = make_cluster(3, 12);
    raft_member leader = cluster_leader(cluster);
    raft_member follower = other_than(leader, leader);
    cluster_transfer(cluster, follower, leader); /* not the leader's business */
    cluster_transfer(cluster, leader, leader);
    cluster_transfer(cluster, leader, 7);
    cluster_run(cluster, MS);
    assert_int_equal(cluster->nodes[follower].transfers_over, 1);
    assert_int_equal(cluster->nodes[leader].transfers_over, 2);
    assert_int_equal(cluster_leader(cluster), leader);
    cluster_destroy(cluster);
}

static void test_transfer_is_given_up_after_an_election_timeout(void **state)
{
    (void)state;
    struct cluster *cluster = make_cluster(3, 13);
    raft_member leader = cluster_leader(cluster);
    raft_member target = other_than(leader, leader);
    cluster_cut(cluster, leader, target);
    assert_true(cluster_propose(cluster, leader, 5));
    cluster_run(cluster, MS);
    cluster_transfer(cluster, leader, target);
    cluster_run(cluster, ELECTION_NS - 10 * MS);
    assert_int_equal(raft_can_propose(cluster->nodes[leader].raft), RAFT_PROPOSE_WAIT);
    assert_int_equal(cluster->nodes[leader].transfers_over, 0);
    cluster_run(cluster, 20 * MS);
    assert_int_equal(cluster->nodes[leader].transfers_over, 1);
    assert_int_equal(raft_can_propose(cluster->nodes[leader].raft), RAFT_PROPOSE_NOW);
    assert_int_equal(cluster_leader(cluster), leader);
    cluster_destroy(cluster);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_flapping_link_to_one_follower_changes_no_term),
        cmocka_unit_test(test_both_links_flap_at_once_at_most_one_election),
        cmocka_unit_test(test_in_a_chain_the_far_end_stays_a_follower),
        cmocka_unit_test(test_leader_that_is_not_heard_steps_down),
        cmocka_unit_test(test_late_close_of_an_old_connection_does_nothing),
        cmocka_unit_test(test_stopped_leader_steps_down_before_anything_else),
        cmocka_unit_test(test_stopped_follower_does_not_campaign_when_it_goes_on),
        cmocka_unit_test(test_late_timer_is_forgiven_once),
        cmocka_unit_test(test_refused_dial_starts_the_election_within_20_ms),
        cmocka_unit_test(test_lost_stream_alone_waits_50_to_150_ms),
        cmocka_unit_test(test_five_fast_campaigns_then_election_timeouts),
        cmocka_unit_test(test_pre_vote_grant_holds_back_the_own_campaign),
        cmocka_unit_test(test_vote_request_refused_for_contact_does_not_raise_the_term),
        cmocka_unit_test(test_leader_with_quorum_contact_refuses_votes),
        cmocka_unit_test(test_one_vote_in_a_term_and_it_is_held_until_durable),
        cmocka_unit_test(test_votes_compare_what_is_persisted),
        cmocka_unit_test(test_candidate_with_an_older_log_is_refused),
        cmocka_unit_test(test_node_cut_off_rejoins_without_an_election),
        cmocka_unit_test(test_node_that_may_not_campaign_never_does),
        cmocka_unit_test(test_leadership_goes_to_the_target_at_once),
        cmocka_unit_test(test_transfer_without_a_target_takes_the_most_complete_follower),
        cmocka_unit_test(test_transfer_that_cannot_be_ends_at_once),
        cmocka_unit_test(test_transfer_is_given_up_after_an_election_timeout),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
