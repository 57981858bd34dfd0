/* Founding a cluster; wiped and damaged nodes; snapshots. */
#include "raft_testing.h"

static struct cluster *make_new(int count, uint64_t seed)
{
    return cluster_create(&(struct cluster_options){.count = count, .seed = seed});
}

static raft_index genesis_count(const struct cluster *cluster)
{
    raft_index count = 0;
    for (raft_member i = 0; i < cluster->options.count; i++) {
        count += log_last(&cluster->nodes[i].disk) > 0;
    }
    return count;
}

/* ---- founding ---- */

static void test_one_alone_founds_at_once(void **state)
{
    (void)state;
    struct cluster *cluster = make_new(1, 1);
    cluster_run(cluster, MS);
    assert_int_equal(cluster_leader(cluster), 0);
    assert_true(cluster_status(cluster, 0).config.is_founded);
    assert_true(cluster_propose(cluster, 0, 1));
    cluster_destroy(cluster);
}

static void test_two_of_three_never_found(void **state)
{
    (void)state;
    struct cluster *cluster = make_new(3, 1);
    cluster_crash(cluster, 2, true, false);
    cluster_run(cluster, 20000 * MS);
    assert_int_equal(cluster_leader(cluster), RAFT_NO_MEMBER);
    assert_int_equal(genesis_count(cluster), 0);
    cluster_restart(cluster, 2);
    assert_true(cluster_run_until(cluster, cluster_is_converged, 3000 * MS));
    cluster_destroy(cluster);
}

static void test_two_wiped_nodes_do_not_found_beside_the_third(void **state)
{
    (void)state;
    struct cluster *cluster = make_cluster(3, 2);
    commit_some(cluster, 3);
    for (raft_member i = 0; i < 2; i++) {
        cluster_crash(cluster, i, true, false);
        cluster_wipe(cluster, i, false);
    }
    cluster_crash(cluster, 2, true, false);
    cluster_restart(cluster, 0);
    cluster_restart(cluster, 1);
    cluster_run(cluster, 10000 * MS);
    assert_int_equal(cluster_leader(cluster), RAFT_NO_MEMBER);
    cluster_restart(cluster, 2); /* the data is there, the quorum is not: nothing is made up */
    cluster_run(cluster, 10000 * MS);
    assert_int_equal(cluster_leader(cluster), RAFT_NO_MEMBER);
    assert_int_equal(genesis_count(cluster), 1);
    cluster_destroy(cluster);
}

static void test_nothing_follows_genesis_until_everyone_has_it(void **state)
{
    (void)state;
    struct cluster *cluster = make_new(3, 3);
    while (cluster_leader(cluster) == RAFT_NO_MEMBER) {
        cluster_run(cluster, MS / 2);
    }
    raft_member leader = cluster_leader(cluster);
    raft_member slow = other_than(leader, leader);
    cut_both_ways(cluster, leader, slow);
    cluster_break(cluster, leader, slow);
    cluster_run(cluster, 5000 * MS);
    assert_int_equal(raft_can_propose(cluster->nodes[leader].raft), RAFT_PROPOSE_WAIT);
    assert_int_equal(cluster_status(cluster, leader).commit_index, 0);
    assert_int_equal(log_last(&cluster->nodes[leader].log), 1);
    assert_int_equal(genesis_count(cluster), 2);
    cluster_heal_all(cluster);
    cluster_run(cluster, 3000 * MS);
    assert_int_equal(raft_can_propose(cluster->nodes[cluster_leader(cluster)].raft),
                     RAFT_PROPOSE_NOW);
    cluster_destroy(cluster);
}

static void test_founder_that_crashes_before_it_tells_anyone_still_founds(void **state)
{
    (void)state;
    struct cluster *cluster = make_new(3, 4);
    while (cluster_leader(cluster) == RAFT_NO_MEMBER) {
        cluster_run(cluster, MS / 2);
    }
    raft_member founder = cluster_leader(cluster);
    for (raft_member i = 0; i < 3; i++) {
        cluster_break(cluster, founder, i);
    }
    cluster_crash(cluster, founder, true, false);
    assert_int_equal(genesis_count(cluster), 1);
    cluster_run(cluster, 3000 * MS);
    assert_int_equal(cluster_leader(cluster), RAFT_NO_MEMBER); /* the others wait for it */
    cluster_restart(cluster, founder);
    assert_true(cluster_run_until(cluster, cluster_is_converged, 5000 * MS));
    cluster_destroy(cluster);
}

static void test_restart_before_the_founding_changes_nothing(void **state)
{
    (void)state;
    struct cluster *cluster = make_new(3, 5);
    cluster_crash(cluster, 2, true, false);
    cluster_run(cluster, 3000 * MS);
    cluster_crash(cluster, 0, true, false);
    cluster_restart(cluster, 0);
    assert_true(cluster_status(cluster, 0).is_fresh);
    cluster_restart(cluster, 2);
    assert_true(cluster_run_until(cluster, cluster_is_converged, 3000 * MS));
    assert_false(cluster_status(cluster, 0).is_fresh);
    cluster_destroy(cluster);
}

static void test_node_that_is_not_fresh_takes_no_part_in_founding(void **state)
{
    (void)state;
    struct cluster *cluster = make_new(3, 6);
    cluster_crash(cluster, 1, false, false);
    cluster_wipe(cluster, 1, true); /* damaged: it may have held something */
    cluster_restart(cluster, 1);
    cluster_run(cluster, 10000 * MS);
    assert_int_equal(cluster_leader(cluster), RAFT_NO_MEMBER);
    cluster_destroy(cluster);
}

/* ---- wiped nodes ---- */

static void test_wiped_node_is_recovering_until_it_is_admitted(void **state)
{
    (void)state;
    for (int damaged = 0; damaged < 2; damaged++) {
        struct cluster *cluster = make_cluster(3, 7);
        commit_some(cluster, 10);
        raft_member leader = cluster_leader(cluster);
        raft_member wiped = other_than(leader, leader);
        cluster_crash(cluster, wiped, true, false);
        cluster_wipe(cluster, wiped, damaged);
        cluster_restart(cluster, wiped);
        assert_false(cluster_status(cluster, wiped).is_whole);
        assert_true(cluster_run_until(cluster, cluster_is_converged, 3000 * MS));
        cluster_run(cluster, 100 * MS);
        assert_true(cluster_status(cluster, wiped).is_whole);
        assert_true(cluster_status(cluster, leader).members[wiped].is_whole);
        cluster_destroy(cluster);
    }
}

static void test_acknowledgement_of_a_recovering_node_counts_for_nothing(void **state)
{
    (void)state;
    struct cluster *cluster = make_cluster(3, 8);
    commit_some(cluster, 5);
    raft_member leader = cluster_leader(cluster);
    raft_member wiped = other_than(leader, leader);
    raft_member down = other_than(leader, wiped);
    cluster_crash(cluster, down, true, false);
    cluster_crash(cluster, wiped, true, false);
    cluster_wipe(cluster, wiped, false);
    cluster_restart(cluster, wiped);
    raft_index commit = cluster_status(cluster, leader).commit_index;
    assert_true(cluster_propose(cluster, leader, 5));
    cluster_run(cluster, 200 * MS);
    assert_true(log_last(&cluster->nodes[wiped].log) > commit); /* it has it */
    assert_int_equal(cluster_status(cluster, leader).commit_index, commit);
    cluster_run(cluster, 10000 * MS); /* and it lets nobody lead */
    assert_int_equal(cluster_leader(cluster), RAFT_NO_MEMBER);
    cluster_restart(cluster, down);
    assert_true(cluster_run_until(cluster, cluster_is_converged, 5000 * MS));
    cluster_destroy(cluster);
}

static void test_wiped_node_does_not_vote_as_if_whole(void **state)
{
    (void)state;
    struct solo *solo = make_solo(3, (raft_term[]){0}, 0);
    solo_hellos(solo);
    struct raft_message request = {.kind = RAFT_VOTE_REQUEST, .peer = 1, .term = 5};
    request.vote_request.for_term = 5;
    request.vote_request.last_index = 20;
    request.vote_request.last_term = 4;
    assert_false(raft_would_grant(solo->raft, &request, solo->now_ns));
    solo_message(solo, request);
    assert_false(solo_sent(solo, RAFT_VOTE_RESPONSE, 0)->message.vote_response.granted);
    assert_int_equal(solo->effects->voted_for, RAFT_NO_MEMBER);
    free_solo(solo);
}

static void test_vote_of_another_incarnation_does_not_count(void **state)
{
    (void)state;
    struct solo *solo = make_solo(3, (raft_term[]){1, 1, 0}, 1);
    solo_hello(solo, 1, 1, 999); /* wiped */
    solo_hello(solo, 2, 1, 103);
    solo->now_ns += 2 * ELECTION_NS;
    solo_kind(solo, RAFT_EVENT_TICK);
    solo_message(solo, vote_response(1, 2, true));
    assert_int_equal(solo_status(solo).role, RAFT_PRE_CANDIDATE);
    solo_message(solo, vote_response(2, 2, true));
    assert_int_equal(solo_status(solo).role, RAFT_CANDIDATE);
    solo_persisted(solo);
    solo_message(solo, vote_response(2, 2, false));
    assert_int_equal(solo_status(solo).role, RAFT_LEADER);
    free_solo(solo);
}

static void test_vote_given_before_a_wipe_is_forgotten(void **state)
{
    (void)state;
    struct solo *solo = make_solo(5, (raft_term[]){1, 1, 0}, 1);
    solo_hellos(solo);
    solo->now_ns += 2 * ELECTION_NS;
    solo_kind(solo, RAFT_EVENT_TICK);
    solo_message(solo, vote_response(1, 2, true));
    solo_hello(solo, 1, 2, 999);
    solo_message(solo, vote_response(2, 2, true));
    assert_int_equal(solo_status(solo).role, RAFT_PRE_CANDIDATE);
    free_solo(solo);
}

/* Leads in term 2 with entry 3 committed by member 1; member 2 is of another incarnation and has
 * caught up, so its ADMIT is entry 4. */
static struct solo *make_admitting(void)
{
    struct solo *solo = make_solo(3, (raft_term[]){1, 1, 0}, 1);
    solo_lead(solo);
    solo_kind(solo, RAFT_EVENT_REPLICATE);
    solo_message(solo, acked(1, 2, 3, 0));
    solo_hello(solo, 2, 2, 999);
    solo_kind(solo, RAFT_EVENT_REPLICATE);
    assert_int_equal(solo->last, 3); /* not before it has everything */
    solo_message(solo, acked(2, 2, 3, 0));
    assert_int_equal(solo->effects->append_count, 1);
    const struct raft_entry *entry = &solo->effects->append[0];
    assert_int_equal(entry->type, RAFT_ENTRY_CONFIG_CHANGE);
    assert_int_equal(entry->change->kind, RAFT_CHANGE_ADMIT);
    assert_int_equal(entry->change->member, 2);
    assert_int_equal(entry->change->incarnation, 999);
    solo_persisted(solo);
    return solo;
}

static void test_admit_is_counted_without_the_node_itself(void **state)
{
    (void)state;
    struct solo *solo = make_admitting();
    solo_message(solo, acked(2, 2, 4, 0));
    assert_int_equal(solo->effects->commit_index, 3);
    assert_false(solo_status(solo).members[2].is_whole);
    solo_message(solo, acked(1, 2, 4, 0));
    assert_int_equal(solo->effects->commit_index, 4);
    assert_true(solo_status(solo).members[2].is_whole);
    free_solo(solo);
}

static void test_admitted_node_counts_at_once_for_what_it_has(void **state)
{
    (void)state;
    struct solo *solo = make_admitting();
    solo_propose(solo, 1);
    solo_persisted(solo);
    solo_message(solo, acked(2, 2, 5, 0));
    assert_int_equal(solo->effects->commit_index, 3);
    solo_message(solo, acked(1, 2, 4, 0)); /* commits ADMIT, and with it member 2 counts */
    assert_int_equal(solo->effects->commit_index, 5);
    free_solo(solo);
}

static void test_admit_that_may_not_be_committed_gives_no_vote(void **state)
{
    (void)state;
    const struct raft_change changes[] = {
        solo_genesis, {.kind = RAFT_CHANGE_ADMIT, .member = 2, .incarnation = 999}};
    const struct raft_change again[] = {changes[0], changes[1], changes[1]};
    const raft_index indexes[] = {1, 3, 4};
    for (size_t count = 2; count <= 3; count++) {
        struct solo *solo = make_solo(3, (raft_term[]){1, 1, 1, 1, 0}, 1);
        solo->options.changes = again;
        solo->options.change_indexes = indexes;
        solo->options.change_count = count;
        raft_destroy(solo->raft);
        assert_int_equal(raft_create(&solo->options, &solo->raft), 0);
        solo_hello(solo, 1, 1, 102);
        solo_hello(solo, 2, 1, 999);
        solo->now_ns += 2 * ELECTION_NS;
        solo_kind(solo, RAFT_EVENT_TICK);
        solo_message(solo, vote_response(2, 2, true));
        /* The second ADMIT was written by who knew that the first was committed. */
        assert_int_equal(solo_status(solo).role, count == 2 ? RAFT_PRE_CANDIDATE : RAFT_CANDIDATE);
        free_solo(solo);
    }
}

/* All lose power just after the wiped node was admitted; then the one that led is lost. */
static void test_admission_survives_a_power_cut_and_another_wipe(void **state)
{
    (void)state;
    struct cluster *cluster = make_cluster(3, 9);
    commit_some(cluster, 5);
    raft_member leader = cluster_leader(cluster);
    raft_member wiped = other_than(leader, leader);
    cluster_crash(cluster, wiped, true, false);
    cluster_wipe(cluster, wiped, false);
    cluster_restart(cluster, wiped);
    while (cluster_check_config(cluster).incarnations[wiped] != cluster->nodes[wiped].incarnation) {
        cluster_run(cluster, MS / 4);
    }
    for (raft_member i = 0; i < 3; i++) {
        cluster_crash(cluster, i, false, false);
    }
    cluster_wipe(cluster, leader, false);
    for (raft_member i = 0; i < 3; i++) {
        cluster_restart(cluster, i);
    }
    assert_true(cluster_run_until(cluster, cluster_is_converged, 5000 * MS));
    cluster_destroy(cluster);
}

static void test_follower_takes_no_more_changes_than_fit(void **state)
{
    (void)state;
    struct solo *solo = make_solo(3, (raft_term[]){1, 1, 0}, 1);
    solo_hellos(solo);
    struct raft_change admit = {.kind = RAFT_CHANGE_ADMIT, .member = 1, .incarnation = 9};
    struct raft_entry entries[RAFT_CONFIGS_MAX + 8];
    for (size_t i = 0; i < RAFT_CONFIGS_MAX + 8; i++) {
        entries[i] =
            (struct raft_entry){.term = 1, .type = RAFT_ENTRY_CONFIG_CHANGE, .change = &admit};
    }
    struct raft_message append = append_of(1, 1, 2, 1, 2 + RAFT_CONFIGS_MAX + 8);
    append.append_request.entries = entries;
    append.append_request.count = RAFT_CONFIGS_MAX + 8;
    append.append_request.commit = 0;
    solo_message(solo, append);
    /* GENESIS is pending too. */
    assert_int_equal(solo->effects->append_count, RAFT_CONFIGS_MAX - 1);
    const struct raft_message *answer = &solo_sent(solo, RAFT_APPEND_RESPONSE, 0)->message;
    assert_int_equal(answer->append_response.last_index, 2 + RAFT_CONFIGS_MAX - 1);
    append.append_request.commit = 3; /* which makes room for the rest */
    solo_message(solo, append);
    solo_message(solo, append);
    assert_int_equal(solo_status(solo).last_index, 2 + RAFT_CONFIGS_MAX + 1);
    free_solo(solo);
}

static void test_truncation_takes_back_an_admission(void **state)
{
    (void)state;
    struct solo *solo = make_solo(3, (raft_term[]){1, 1, 0}, 1);
    solo->options.incarnation = 999; /* wiped: GENESIS says 101 */
    raft_destroy(solo->raft);
    assert_int_equal(raft_create(&solo->options, &solo->raft), 0);
    solo_hellos(solo);
    struct raft_message request = {.kind = RAFT_VOTE_REQUEST, .peer = 1, .term = 9};
    request.vote_request.for_term = 9;
    request.vote_request.last_index = 20;
    request.vote_request.last_term = 8;
    uint64_t later_ns = solo->now_ns + 2 * ELECTION_NS;
    assert_false(raft_would_grant(solo->raft, &request, later_ns));
    struct raft_change admit = {.kind = RAFT_CHANGE_ADMIT, .member = 0, .incarnation = 999};
    struct raft_entry entry = {.term = 1, .type = RAFT_ENTRY_CONFIG_CHANGE, .change = &admit};
    struct raft_message append = append_of(1, 1, 2, 1, 0);
    append.append_request.entries = &entry;
    append.append_request.count = 1;
    solo_message(solo, append);
    assert_true(raft_would_grant(solo->raft, &request, later_ns));
    assert_false(solo_status(solo).is_whole); /* it may vote; it does not count yet */
    entry = (struct raft_entry){.term = 2};
    append.term = 2;
    append.peer = 2;
    solo_message(solo, append); /* another leader never had it */
    assert_false(raft_would_grant(solo->raft, &request, later_ns));
    free_solo(solo);
}

/* ---- snapshots ---- */

static void make_snapshot_due(struct cluster *cluster, raft_member behind)
{
    cluster_crash(cluster, behind, true, false);
    for (int i = 0; i < 20; i++) {
        assert_true(cluster_propose(cluster, cluster_leader(cluster), 50));
    }
    cluster_run(cluster, 100 * MS);
    for (raft_member i = 0; i < 3; i++) {
        cluster_flush(cluster, i);
        cluster_compact(cluster, i, 2);
    }
}

static void test_follower_behind_the_log_gets_a_snapshot(void **state)
{
    (void)state;
    struct cluster *cluster = make_cluster(3, 10);
    commit_some(cluster, 5);
    raft_member behind = other_than(cluster_leader(cluster), cluster_leader(cluster));
    make_snapshot_due(cluster, behind);
    cluster_restart(cluster, behind);
    assert_true(cluster_run_until(cluster, cluster_is_converged, 2000 * MS));
    assert_true(cluster->nodes[behind].log.base > 6);
    cluster_destroy(cluster);
}

static void test_wiped_node_is_brought_back_by_a_snapshot(void **state)
{
    (void)state;
    struct cluster *cluster = make_cluster(3, 11);
    commit_some(cluster, 5);
    raft_member behind = other_than(cluster_leader(cluster), cluster_leader(cluster));
    make_snapshot_due(cluster, behind);
    cluster_wipe(cluster, behind, false);
    cluster_restart(cluster, behind);
    assert_true(cluster_run_until(cluster, cluster_is_converged, 3000 * MS));
    cluster_destroy(cluster);
}

static void test_peer_that_waits_for_a_snapshot_still_hears_the_leader(void **state)
{
    (void)state;
    struct cluster *cluster = cluster_create(
        &(struct cluster_options){.count = 3, .seed = 12, .snapshot_ns = 20000 * MS});
    assert_true(cluster_run_until(cluster, cluster_is_converged, 5000 * MS));
    raft_member leader = cluster_leader(cluster);
    raft_member behind = other_than(leader, leader);
    make_snapshot_due(cluster, behind);
    cluster_restart(cluster, behind);
    cluster_run(cluster, 5000 * MS);
    assert_true(cluster_status(cluster, leader).members[behind].needs_snapshot);
    assert_int_equal(cluster_status(cluster, behind).leader, leader);
    assert_int_equal(cluster_status(cluster, behind).elections, 0);
    size_t read = cluster_read(cluster, leader);
    cluster_run(cluster, 5 * MS);
    assert_int_equal(cluster->reads[read].state, CLUSTER_READ_CONFIRMED);
    cluster_destroy(cluster);
}

static void install_on(struct solo *solo, raft_index index, raft_term term, bool keeps_log,
                       uint64_t incarnation_of_2)
{
    struct raft_event event = {.kind = RAFT_EVENT_SNAPSHOT_INSTALLED};
    event.snapshot.index = index;
    event.snapshot.term = term;
    raft_config_apply(&event.snapshot.config, &solo_genesis);
    event.snapshot.config.incarnations[2] = incarnation_of_2;
    solo->base = index;
    solo->terms[index] = term;
    if (!keeps_log) {
        solo->last = index;
    }
    solo_step(solo, event);
}

static void test_snapshots_config_is_not_undone_by_what_was_pending(void **state)
{
    (void)state;
    struct solo *solo = make_solo(3, (raft_term[]){1, 1, 0}, 1); /* GENESIS is pending */
    solo_hellos(solo);
    assert_int_equal(raft_can_install(solo->raft, 30, 1), RAFT_INSTALL_RESET_LOG);
    install_on(solo, 30, 1, false, 999);
    assert_int_equal(solo_status(solo).config.incarnations[2], 999);
    assert_int_equal(solo_status(solo).commit_index, 30);
    assert_int_equal(solo_status(solo).last_index, 30);
    free_solo(solo);
}

static void test_snapshot_of_a_later_term_raises_the_term(void **state)
{
    (void)state;
    struct solo *solo = make_solo(3, (raft_term[]){1, 1, 0}, 1);
    install_on(solo, 30, 6, false, 103);
    assert_int_equal(solo_status(solo).term, 6);
    assert_true(solo->effects->has_hard_state);
    free_solo(solo);
}

static void test_crash_after_a_snapshot_of_a_later_term(void **state)
{
    (void)state;
    struct solo *solo = make_solo(3, (raft_term[]){1, 1, 6, 0}, 2); /* the hard state was lost */
    assert_int_equal(solo_status(solo).term, 6);
    free_solo(solo);
}

static void test_snapshot_keeps_what_follows_it_in_the_log(void **state)
{
    (void)state;
    struct solo *solo = make_solo(3, (raft_term[]){1, 1, 1, 1, 2, 0}, 2);
    solo_hellos(solo);
    solo_message(solo, append_of(1, 2, 5, 2, 2));
    assert_int_equal(raft_can_install(solo->raft, 4, 1), RAFT_INSTALL_KEEP_LOG);
    assert_int_equal(raft_can_install(solo->raft, 4, 2), RAFT_INSTALL_RESET_LOG);
    install_on(solo, 4, 1, true, 103);
    assert_int_equal(solo_status(solo).last_index, 5); /* acknowledged, perhaps */
    assert_int_equal(solo_status(solo).commit_index, 4);
    assert_int_equal(raft_can_install(solo->raft, 3, 1), RAFT_INSTALL_REFUSE);
    free_solo(solo);
}

static void test_no_campaign_while_a_snapshot_is_being_installed(void **state)
{
    (void)state;
    struct solo *solo = make_solo(3, (raft_term[]){1, 1, 0}, 1);
    solo_hellos(solo);
    struct raft_event event = {.kind = RAFT_EVENT_SNAPSHOT_INSTALLING};
    event.snapshot.is_active = true;
    solo_step(solo, event);
    for (int i = 0; i < 20; i++) {
        solo->now_ns += ELECTION_NS;
        solo_kind(solo, RAFT_EVENT_TICK);
        assert_int_equal(solo->effects->message_count, 0);
        assert_true(solo->effects->next_deadline_ns > solo->now_ns);
    }
    install_on(solo, 30, 1, false, 103);
    for (int i = 0; i < 3; i++) {
        solo->now_ns += ELECTION_NS;
        solo_kind(solo, RAFT_EVENT_TICK);
    }
    assert_int_equal(solo_status(solo).role, RAFT_PRE_CANDIDATE);
    free_solo(solo);
}

static void test_failed_snapshot_is_wanted_again_at_the_next_heartbeat(void **state)
{
    (void)state;
    struct solo *solo = make_solo(3, (raft_term[]){1, 1, 1, 1, 0}, 1);
    solo_lead(solo);
    solo->base = 3; /* compacted */
    solo_kind(solo, RAFT_EVENT_REPLICATE);
    struct raft_message refusal = {.kind = RAFT_APPEND_RESPONSE, .peer = 1, .term = 2};
    refusal.append_response.rejected_index = 4;
    solo_message(solo, refusal);
    assert_int_equal(solo->effects->snapshot_wanted, 0);
    solo_kind(solo, RAFT_EVENT_REPLICATE);
    assert_int_equal(solo->effects->snapshot_wanted, 1u << 1);
    struct raft_event failed = {.kind = RAFT_EVENT_SNAPSHOT_SENT};
    failed.snapshot.peer = 1;
    solo_step(solo, failed);
    solo_kind(solo, RAFT_EVENT_REPLICATE);
    assert_int_equal(solo->effects->snapshot_wanted, 0);
    solo->now_ns += 50 * MS;
    solo_kind(solo, RAFT_EVENT_TICK);
    solo_kind(solo, RAFT_EVENT_REPLICATE);
    assert_int_equal(solo->effects->snapshot_wanted, 1u << 1);
    failed.snapshot.success = true;
    solo_step(solo, failed);
    assert_int_equal(solo->effects->snapshot_wanted, 0);
    free_solo(solo);
}

/* ---- forgetting ---- */

static struct raft_message refused(raft_member peer, raft_term term, raft_index rejected,
                                   raft_index last, uint64_t round)
{
    struct raft_message message = {.kind = RAFT_APPEND_RESPONSE, .peer = peer, .term = term};
    message.append_response.rejected_index = rejected;
    message.append_response.last_index = last;
    message.append_response.hint_term = 1;
    message.append_response.read_round = round;
    return message;
}

/* What the leader sends to the member now. */
static struct raft_message sent_to(struct solo *solo, raft_member peer)
{
    solo_kind(solo, RAFT_EVENT_REPLICATE);
    const struct raft_outgoing *out;
    for (int n = 0; (out = solo_sent(solo, RAFT_APPEND_REQUEST, n)) != NULL; n++) {
        if (out->message.peer == peer) {
            return out->message;
        }
    }
    fail_msg("nothing is sent to %d", peer);
    return (struct raft_message){0};
}

/* Leads in term 2 with four entries, of which member 1 has acknowledged all, and it comes back with
 * two of them. */
static struct solo *make_forgotten(void)
{
    struct solo *solo = make_solo(3, (raft_term[]){1, 1, 1, 0}, 1);
    solo_lead(solo);
    (void)sent_to(solo, 1);
    solo_message(solo, acked(1, 2, 4, 0));
    assert_int_equal(solo->effects->commit_index, 4);
    solo_hello(solo, 1, 2, 102);
    return solo;
}

static void test_a_member_that_forgot_what_it_acknowledged_does_not_count(void **state)
{
    (void)state;
    struct solo *solo = make_forgotten();
    struct raft_message probe = sent_to(solo, 1);
    assert_int_equal(probe.append_request.prev_index, 4);
    solo_message(solo, refused(1, 2, 4, 2, probe.append_request.read_round));
    assert_int_equal(solo->effects->forgetful, 0); /* that may be an old answer */
    probe = sent_to(solo, 1);
    assert_int_equal(probe.append_request.prev_index, 4);
    solo_message(solo, refused(1, 2, 4, 2, probe.append_request.read_round));
    assert_int_equal(solo->effects->forgetful, 1u << 1);
    assert_false(solo_status(solo).members[1].is_whole);
    assert_int_equal(sent_to(solo, 1).append_request.forgotten, 102);

    solo_propose(solo, 1);
    solo_persisted(solo);
    solo_message(solo, acked(1, 2, 5, probe.append_request.read_round));
    assert_int_equal(solo->effects->commit_index, 4);
    solo_message(solo, acked(2, 2, 5, 0));
    assert_int_equal(solo->effects->commit_index, 5);

    /* As another incarnation it is admitted when it has everything, twice, and counts again. */
    solo_hello(solo, 1, 3, 777);
    assert_int_equal(sent_to(solo, 1).append_request.forgotten, 0);
    for (int i = 0; i < 4; i++) {
        solo_kind(solo, RAFT_EVENT_REPLICATE);
        solo_message(solo, acked(1, 2, solo->last, 0));
        solo_persisted(solo);
        solo_message(solo, acked(2, 2, solo->last, 0));
    }
    assert_int_equal(solo_status(solo).config.incarnations[1], 777);
    assert_true(solo_status(solo).members[1].is_whole);
    free_solo(solo);
}

static void test_a_late_refusal_is_not_taken_for_forgetting(void **state)
{
    (void)state;
    struct solo *solo = make_forgotten();
    for (int i = 0; i < 10; i++) {
        solo_message(solo, refused(1, 2, 4, 2, 0));
        assert_int_equal(solo->effects->forgetful, 0);
    }
    struct raft_message probe = sent_to(solo, 1);
    solo_message(solo, acked(1, 2, 4, probe.append_request.read_round));
    solo_message(solo, refused(1, 2, 4, 2, 0));
    assert_int_equal(solo->effects->forgetful, 0);
    assert_true(solo_status(solo).members[1].is_whole);
    /* It has acknowledged more since: what was asked before proves nothing of that either. */
    solo_propose(solo, 1);
    solo_persisted(solo);
    uint64_t round = sent_to(solo, 1).append_request.read_round;
    solo_message(solo, acked(1, 2, 5, round));
    solo_message(solo, refused(1, 2, 5, 4, round));
    assert_int_equal(solo->effects->forgetful, 0);
    free_solo(solo);
}

static void test_who_is_told_that_it_forgot_neither_votes_nor_campaigns(void **state)
{
    (void)state;
    struct solo *solo = make_solo(3, (raft_term[]){1, 1, 0}, 2);
    solo_hellos(solo);
    struct raft_message append = append_of(1, 2, 4, 2, 4);
    append.append_request.forgotten = 999; /* an earlier incarnation of its */
    solo_message(solo, append);
    assert_false(solo->effects->has_forgotten);
    append.append_request.forgotten = 101;
    solo_message(solo, append);
    assert_true(solo->effects->has_forgotten);
    assert_false(solo_sent(solo, RAFT_APPEND_RESPONSE, 0)->message.append_response.success);
    solo_step(solo, (struct raft_event){.kind = RAFT_EVENT_REBORN, .reborn = {.incarnation = 777}});
    assert_false(solo_status(solo).is_whole);
    solo->now_ns += 10 * ELECTION_NS;
    solo_kind(solo, RAFT_EVENT_TICK);
    assert_int_equal(solo_status(solo).role, RAFT_FOLLOWER);
    struct raft_message ask = {.kind = RAFT_VOTE_REQUEST, .peer = 2, .term = 3};
    ask.vote_request.for_term = 3;
    ask.vote_request.last_index = 9;
    ask.vote_request.last_term = 2;
    solo_message(solo, ask);
    assert_false(solo_sent(solo, RAFT_VOTE_RESPONSE, 0)->message.vote_response.granted);
    free_solo(solo);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_one_alone_founds_at_once),
        cmocka_unit_test(test_two_of_three_never_found),
        cmocka_unit_test(test_two_wiped_nodes_do_not_found_beside_the_third),
        cmocka_unit_test(test_nothing_follows_genesis_until_everyone_has_it),
        cmocka_unit_test(test_founder_that_crashes_before_it_tells_anyone_still_founds),
        cmocka_unit_test(test_restart_before_the_founding_changes_nothing),
        cmocka_unit_test(test_node_that_is_not_fresh_takes_no_part_in_founding),
        cmocka_unit_test(test_wiped_node_is_recovering_until_it_is_admitted),
        cmocka_unit_test(test_acknowledgement_of_a_recovering_node_counts_for_nothing),
        cmocka_unit_test(test_wiped_node_does_not_vote_as_if_whole),
        cmocka_unit_test(test_vote_of_another_incarnation_does_not_count),
        cmocka_unit_test(test_vote_given_before_a_wipe_is_forgotten),
        cmocka_unit_test(test_admit_is_counted_without_the_node_itself),
        cmocka_unit_test(test_admitted_node_counts_at_once_for_what_it_has),
        cmocka_unit_test(test_admit_that_may_not_be_committed_gives_no_vote),
        cmocka_unit_test(test_admission_survives_a_power_cut_and_another_wipe),
        cmocka_unit_test(test_follower_takes_no_more_changes_than_fit),
        cmocka_unit_test(test_truncation_takes_back_an_admission),
        cmocka_unit_test(test_follower_behind_the_log_gets_a_snapshot),
        cmocka_unit_test(test_wiped_node_is_brought_back_by_a_snapshot),
        cmocka_unit_test(test_peer_that_waits_for_a_snapshot_still_hears_the_leader),
        cmocka_unit_test(test_snapshots_config_is_not_undone_by_what_was_pending),
        cmocka_unit_test(test_snapshot_of_a_later_term_raises_the_term),
        cmocka_unit_test(test_crash_after_a_snapshot_of_a_later_term),
        cmocka_unit_test(test_snapshot_keeps_what_follows_it_in_the_log),
        cmocka_unit_test(test_no_campaign_while_a_snapshot_is_being_installed),
        cmocka_unit_test(test_failed_snapshot_is_wanted_again_at_the_next_heartbeat),
        cmocka_unit_test(test_a_member_that_forgot_what_it_acknowledged_does_not_count),
        cmocka_unit_test(test_a_late_refusal_is_not_taken_for_forgetting),
        cmocka_unit_test(test_who_is_told_that_it_forgot_neither_votes_nor_campaigns),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
