/* Replication and commitment, and what no correct peer sends. */
#include "raft_testing.h"

/* ---- commitment ---- */

static void test_old_term_entry_is_not_committed_by_counting(void **state)
{
    (void)state;
    struct solo *solo = make_solo(3, (raft_term[]){1, 1, 2, 0}, 3);
    solo_lead(solo); /* term 4; entry 4 opens it */
    assert_int_equal(solo->last, 4);
    solo_message(solo, acked(1, 4, 3, 0)); /* a majority has entry 3 of term 2 */
    assert_int_equal(solo->effects->commit_index, 0);
    solo_message(solo, acked(1, 4, 4, 0)); /* and now an entry of the leader's own term */
    assert_int_equal(solo->effects->commit_index, 4);
    free_solo(solo);
}

static void test_leader_opens_its_term_with_a_no_op(void **state)
{
    (void)state;
    struct solo *solo = make_solo(3, (raft_term[]){1, 1, 0}, 1);
    solo_lead(solo);
    assert_int_equal(solo->last, 3);
    assert_int_equal(solo->terms[3], 2);
    assert_false(solo_status(solo).is_ready);
    solo_message(solo, acked(2, 2, 3, 0));
    assert_true(solo_status(solo).is_ready);
    free_solo(solo);
}

static void test_leader_counts_itself_only_up_to_its_persisted_index(void **state)
{
    (void)state;
    struct solo *solo = make_solo(3, (raft_term[]){1, 1, 0}, 1);
    solo_lead(solo);
    solo_message(solo, acked(1, 2, 3, 0));
    assert_int_equal(solo->effects->commit_index, 3);
    solo_propose(solo, 2);
    struct raft_effects proposed = *solo->effects;
    solo_message(solo, acked(1, 2, 5, 0)); /* the follower's disk was faster than ours */
    assert_int_equal(solo->effects->commit_index, 3);
    assert_int_equal(solo->effects->save_seq, proposed.save_seq);
    solo_persisted(solo);
    assert_int_equal(solo->effects->commit_index, 5);
    free_solo(solo);
}

static void test_two_followers_commit_without_the_leaders_disk(void **state)
{
    (void)state;
    struct solo *solo = make_solo(3, (raft_term[]){1, 1, 0}, 1);
    solo_lead(solo);
    solo_propose(solo, 1);
    solo_message(solo, acked(1, 2, 4, 0));
    solo_message(solo, acked(2, 2, 4, 0));
    assert_int_equal(solo->effects->commit_index, 4);
    free_solo(solo);
}

static void test_commit_is_told_without_waiting_for_a_heartbeat(void **state)
{
    (void)state;
    struct cluster *cluster = make_cluster(3, 1);
    raft_member leader = cluster_leader(cluster);
    assert_true(cluster_propose(cluster, leader, 5));
    cluster_run(cluster, 4 * MS); /* there, back, and there again: 1 ms each */
    raft_index last = log_last(&cluster->nodes[leader].log);
    for (raft_member i = 0; i < 3; i++) {
        assert_int_equal(cluster->nodes[i].machine.applied, last);
    }
    cluster_destroy(cluster);
}

/* How long after its commit a proposal is told of, when it comes so long after the one before. */
static uint64_t notice_delay_ns(struct solo *solo, uint64_t gap_ns)
{
    solo->now_ns += gap_ns;
    solo_propose(solo, 1);
    solo_kind(solo, RAFT_EVENT_REPLICATE);
    solo_persisted(solo);
    solo_message(solo, acked(1, 2, solo->last, 0));
    assert_int_equal(solo->effects->commit_index, solo->last);
    uint64_t begin_ns = solo->now_ns;
    for (; solo->now_ns < begin_ns + MS; solo->now_ns += 10000) {
        solo_kind(solo, RAFT_EVENT_TICK);
        solo_kind(solo, RAFT_EVENT_REPLICATE);
        const struct raft_outgoing *out = solo_sent(solo, RAFT_APPEND_REQUEST, 0);
        if (out != NULL && out->message.append_request.no_answer) {
            assert_int_equal(out->message.append_request.commit, solo->last);
            return solo->now_ns - begin_ns;
        }
    }
    fail_msg("nothing was told");
    return 0;
}

static void test_commit_waits_for_entries_only_while_they_follow_one_another(void **state)
{
    (void)state;
    struct solo *solo = make_solo(3, (raft_term[]){1, 1, 0}, 1);
    solo_lead(solo);
    solo_kind(solo, RAFT_EVENT_REPLICATE);
    solo_message(solo, acked(1, 2, 3, 0));
    (void)notice_delay_ns(solo, MS);
    assert_int_equal(notice_delay_ns(solo, 10 * MS), 0);
    uint64_t delay_ns = notice_delay_ns(solo, MS / 2);
    assert_true(delay_ns > 0);
    assert_true(delay_ns <= MS / 2);
    free_solo(solo);
}

/* ---- followers ---- */

static void test_acknowledgement_is_held_until_the_entries_are_durable(void **state)
{
    (void)state;
    struct solo *solo = make_solo(3, (raft_term[]){1, 1, 0}, 1);
    solo_hellos(solo);
    struct raft_entry entries[2] = {{.term = 1}, {.term = 1}};
    struct raft_message append = append_of(1, 1, 2, 1, 4);
    append.append_request.count = 2;
    append.append_request.entries = entries;
    solo_message(solo, append);
    const struct raft_outgoing *answer = solo_sent(solo, RAFT_APPEND_RESPONSE, 0);
    assert_true(answer->message.append_response.success);
    assert_int_equal(answer->message.append_response.last_index, 4);
    assert_int_equal(answer->save_seq, solo->effects->save_seq);
    assert_int_equal(solo->effects->append_first, 3);
    assert_int_equal(solo->effects->append_count, 2);
    uint64_t seq = solo->effects->save_seq;
    solo_message(solo, append); /* again: nothing to save, but it is not durable yet either */
    assert_int_equal(solo->effects->append_count, 0);
    assert_int_equal(solo_sent(solo, RAFT_APPEND_RESPONSE, 0)->save_seq, seq);
    solo_persisted(solo);
    solo_message(solo, append);
    assert_int_equal(solo_sent(solo, RAFT_APPEND_RESPONSE, 0)->save_seq, 0);
    free_solo(solo);
}

static void test_conflicting_suffix_is_replaced_and_nothing_more(void **state)
{
    (void)state;
    struct solo *solo = make_solo(3, (raft_term[]){1, 1, 2, 2, 2, 0}, 3);
    solo_hellos(solo);
    struct raft_entry entries[2] = {{.term = 2}, {.term = 3}};
    struct raft_message append = append_of(1, 3, 2, 1, 2);
    append.append_request.count = 2;
    append.append_request.entries = entries;
    solo_message(solo, append);
    assert_int_equal(solo->effects->append_first, 4);
    assert_int_equal(solo->effects->append_count, 1);
    assert_int_equal(solo->last, 4);
    assert_int_equal(solo_status(solo).last_index, 4);
    assert_int_equal(solo->effects->commit_index, 2);
    /* An older, shorter message changes nothing: it may have been overtaken. */
    solo_persisted(solo);
    append.append_request.count = 1;
    solo_message(solo, append);
    assert_int_equal(solo->effects->append_count, 0);
    assert_int_equal(solo_status(solo).last_index, 4);
    free_solo(solo);
}

static void test_commit_goes_no_further_than_what_agrees(void **state)
{
    (void)state;
    struct solo *solo = make_solo(3, (raft_term[]){1, 1, 1, 1, 0}, 2);
    solo_hellos(solo);
    solo_message(solo, append_of(1, 2, 2, 1, 4)); /* entries 3 and 4 may be others there */
    assert_int_equal(solo->effects->commit_index, 2);
    free_solo(solo);
}

static void test_gap_is_refused_with_a_hint(void **state)
{
    (void)state;
    struct solo *solo = make_solo(3, (raft_term[]){1, 2, 2, 2, 5, 5, 0}, 7);
    solo_hellos(solo);
    solo_message(solo, append_of(1, 7, 20, 7, 0));
    const struct raft_message *answer = &solo_sent(solo, RAFT_APPEND_RESPONSE, 0)->message;
    assert_false(answer->append_response.success);
    assert_int_equal(answer->append_response.rejected_index, 20);
    assert_int_equal(answer->append_response.last_index, 6);
    assert_int_equal(answer->append_response.hint_term, 5);
    solo_message(solo, append_of(1, 7, 6, 4, 0)); /* all of term 5 is skipped at once */
    answer = &solo_sent(solo, RAFT_APPEND_RESPONSE, 0)->message;
    assert_int_equal(answer->append_response.last_index, 4);
    assert_int_equal(answer->append_response.hint_term, 2);
    free_solo(solo);
}

static void test_long_conflict_is_found_in_few_messages(void **state)
{
    (void)state;
    static raft_term terms[1202];
    for (int i = 0; i < 1200; i++) {
        terms[i] = i < 10 ? 1 : 2; /* ours: term 2 from entry 11 on */
    }
    struct solo *solo = make_solo(3, terms, 4);
    solo_lead(solo);
    solo_kind(solo, RAFT_EVENT_REPLICATE);
    struct raft_message refusal = {.kind = RAFT_APPEND_RESPONSE, .peer = 1, .term = 5};
    refusal.append_response.rejected_index = 1200;
    refusal.append_response.last_index = 1100; /* the follower's: term 1 all the way */
    refusal.append_response.hint_term = 1;
    solo_message(solo, refusal);
    solo_kind(solo, RAFT_EVENT_REPLICATE);
    const struct raft_message *probe = &solo_sent(solo, RAFT_APPEND_REQUEST, 0)->message;
    assert_int_equal(probe->append_request.prev_index, 10);
    solo_message(solo, refusal); /* the same again is stale */
    assert_int_equal(solo_status(solo).members[1].next_index, 11);
    free_solo(solo);
}

static void test_refusal_for_the_term_is_not_taken_for_one_of_the_log(void **state)
{
    (void)state;
    struct solo *solo = make_solo(3, (raft_term[]){1, 1, 1, 0}, 1);
    solo_lead(solo);
    solo_kind(solo, RAFT_EVENT_REPLICATE);
    raft_index next = solo_status(solo).members[1].next_index;
    /* To an append of an older term of ours, sent before we came to lead this one. */
    struct raft_message refusal = {.kind = RAFT_APPEND_RESPONSE, .peer = 1, .term = 2};
    solo_message(solo, refusal);
    assert_int_equal(solo_status(solo).members[1].next_index, next);
    free_solo(solo);
}

/* ---- flow ---- */

static void test_at_most_64_messages_are_unanswered(void **state)
{
    (void)state;
    struct solo *solo = make_solo(3, (raft_term[]){1, 1, 0}, 1);
    solo_lead(solo);
    solo_kind(solo, RAFT_EVENT_REPLICATE);
    solo_message(solo, acked(1, 2, 3, 0));
    unsigned sent = 0;
    for (int i = 0; i < 100; i++) {
        solo_propose(solo, 1);
        solo_kind(solo, RAFT_EVENT_REPLICATE);
        for (int j = 0; solo_sent(solo, RAFT_APPEND_REQUEST, j) != NULL; j++) {
            const struct raft_message *message = &solo_sent(solo, RAFT_APPEND_REQUEST, j)->message;
            sent += message->peer == 1 && message->append_request.count > 0;
        }
    }
    assert_int_equal(sent, RAFT_INFLIGHT_MAX);
    solo_message(solo, acked(1, 2, 13, 0)); /* ten of them are answered */
    solo_kind(solo, RAFT_EVENT_REPLICATE);
    const struct raft_message *message = &solo_sent(solo, RAFT_APPEND_REQUEST, 0)->message;
    assert_int_equal(message->append_request.prev_index, 3 + RAFT_INFLIGHT_MAX);
    assert_int_equal(message->append_request.count, 36); /* the backlog in one */
    free_solo(solo);
}

static void test_large_backlog_goes_in_bounded_messages_without_waiting(void **state)
{
    (void)state;
    struct solo *solo = make_solo(3, (raft_term[]){1, 1, 0}, 1);
    solo_lead(solo);
    solo_kind(solo, RAFT_EVENT_REPLICATE);
    for (int i = 0; i < 3; i++) {
        solo_propose(solo, RAFT_APPEND_ENTRIES_MAX);
    }
    solo_message(solo, acked(1, 2, 3, 0));
    for (int i = 0; i < 3; i++) {
        assert_int_equal(solo->effects->next_deadline_ns, solo->now_ns); /* turn again at once */
        solo_kind(solo, RAFT_EVENT_REPLICATE);
        const struct raft_message *message = &solo_sent(solo, RAFT_APPEND_REQUEST, 0)->message;
        assert_int_equal(message->append_request.count, RAFT_APPEND_ENTRIES_MAX);
        assert_int_equal(message->append_request.prev_index, 3 + i * RAFT_APPEND_ENTRIES_MAX);
    }
    assert_true(solo->effects->next_deadline_ns > solo->now_ns);
    free_solo(solo);
}

static void test_unanswered_messages_are_bounded_in_bytes_too(void **state)
{
    (void)state;
    struct solo *solo = make_solo(3, (raft_term[]){1, 1, 0}, 1);
    solo_lead(solo);
    solo_kind(solo, RAFT_EVENT_REPLICATE);
    solo->entry_bytes = RAFT_APPEND_BYTES_MAX;
    solo_propose(solo, 20);
    solo_message(solo, acked(1, 2, 3, 0));
    for (int round = 0; round < 2; round++) {
        unsigned sent = 0;
        while (solo->effects->next_deadline_ns == solo->now_ns) {
            solo_kind(solo, RAFT_EVENT_REPLICATE);
            const struct raft_outgoing *out = solo_sent(solo, RAFT_APPEND_REQUEST, 0);
            sent += out != NULL && out->message.peer == 1 && out->message.append_request.count == 1;
        }
        assert_int_equal(sent, round == 0 ? RAFT_INFLIGHT_BYTES_MAX / RAFT_APPEND_BYTES_MAX : 3);
        solo_message(solo, acked(1, 2, 6, 0)); /* three of them are answered */
    }
    free_solo(solo);
}

static void test_lost_connection_goes_back_to_probing(void **state)
{
    (void)state;
    struct solo *solo = make_solo(3, (raft_term[]){1, 1, 0}, 1);
    solo_lead(solo);
    solo_kind(solo, RAFT_EVENT_REPLICATE);
    solo_message(solo, acked(1, 2, 3, 0));
    solo_propose(solo, 5);
    solo_kind(solo, RAFT_EVENT_REPLICATE);
    assert_int_equal(solo_status(solo).members[1].next_index, 9);
    struct raft_event lost = {.kind = RAFT_EVENT_DIAL_LOST};
    lost.stream.peer = 1;
    solo_step(solo, lost);
    assert_int_equal(solo_status(solo).members[1].next_index, 4);
    solo_kind(solo, RAFT_EVENT_REPLICATE);
    const struct raft_message *message = &solo_sent(solo, RAFT_APPEND_REQUEST, 0)->message;
    assert_int_equal(message->append_request.prev_index, 3);
    assert_int_equal(message->append_request.count, 5);
    free_solo(solo);
}

/* ---- full disks ---- */

static struct raft_message acked_full(raft_member peer, raft_term term, raft_index last)
{
    struct raft_message message = acked(peer, term, last, 0);
    message.append_response.is_full = true;
    return message;
}

/* How many entries the leader sends to the member next; -1: no message. */
static int entries_sent(struct solo *solo, raft_member to)
{
    solo_kind(solo, RAFT_EVENT_REPLICATE);
    for (int n = 0;; n++) {
        const struct raft_outgoing *sent = solo_sent(solo, RAFT_APPEND_REQUEST, n);
        if (sent == NULL) {
            return -1;
        }
        if (sent->message.peer == to) {
            return (int)sent->message.append_request.count;
        }
    }
}

static void pass_heartbeat(struct solo *solo)
{
    solo->now_ns += solo->options.heartbeat_interval_ns;
    solo_kind(solo, RAFT_EVENT_TICK);
}

static void test_full_member_is_sent_one_entry_a_heartbeat_until_it_has_room(void **state)
{
    (void)state;
    struct solo *solo = make_solo(3, (raft_term[]){1, 1, 0}, 1);
    solo_lead(solo);
    solo_message(solo, acked(1, 2, 3, 0));
    solo_message(solo, acked(2, 2, 3, 0));
    solo_propose(solo, 10);
    solo_persisted(solo);
    assert_int_equal(entries_sent(solo, 1), 10);
    solo_message(solo, acked_full(1, 2, 5)); /* it took two of them */
    assert_int_equal(entries_sent(solo, 1), 1);
    solo_message(solo, acked_full(1, 2, 6)); /* and one more: the next at once */
    assert_int_equal(entries_sent(solo, 1), 1);
    solo_message(solo, acked_full(1, 2, 6)); /* and none */
    assert_int_equal(entries_sent(solo, 1), -1);
    pass_heartbeat(solo);
    assert_int_equal(entries_sent(solo, 1), 1);
    solo_message(solo, acked(1, 2, 7, 0)); /* it has room again */
    assert_int_equal(entries_sent(solo, 1), 6);
    assert_int_equal(solo_status(solo).members[1].match_index, 7);
    free_solo(solo);
}

static void test_a_majority_is_full_when_the_others_are_too_few(void **state)
{
    (void)state;
    struct solo *solo = make_solo(5, (raft_term[]){1, 1, 0}, 1);
    assert_false(raft_is_majority_full(solo->raft));
    solo_lead(solo);
    solo_message(solo, acked_full(1, 2, 3));
    solo_message(solo, acked_full(2, 2, 3));
    assert_false(raft_is_majority_full(solo->raft));
    solo_message(solo, acked_full(4, 2, 2));
    assert_true(raft_is_majority_full(solo->raft));
    assert_int_equal(solo->effects->commit_index, 3); /* what they have counts */
    solo_message(solo, acked(2, 2, 3, 0));
    assert_false(raft_is_majority_full(solo->raft));
    free_solo(solo);
}

static void test_a_member_that_is_not_heard_has_no_room(void **state)
{
    (void)state;
    struct solo *solo = make_solo(3, (raft_term[]){1, 1, 0}, 1);
    solo_lead(solo);
    solo_message(solo, acked(2, 2, 3, 0));
    solo->now_ns += solo->options.election_timeout_ns * 3 / 4;
    solo_message(solo, acked_full(1, 2, 3));
    assert_false(raft_is_majority_full(solo->raft));
    solo->now_ns += solo->options.election_timeout_ns / 2;
    solo_kind(solo, RAFT_EVENT_TICK);
    assert_true(raft_is_majority_full(solo->raft));
    solo_message(solo, acked(2, 2, 3, 0));
    assert_false(raft_is_majority_full(solo->raft));
    free_solo(solo);
}

static void test_full_member_with_nothing_to_get_is_sent_the_next_entry_at_once(void **state)
{
    (void)state;
    struct solo *solo = make_solo(3, (raft_term[]){1, 1, 0}, 1);
    solo_lead(solo);
    solo_message(solo, acked_full(1, 2, 3));
    (void)entries_sent(solo, 1);
    solo_message(solo, acked_full(1, 2, 3));
    solo_propose(solo, 1);
    assert_int_equal(entries_sent(solo, 1), 1);
    free_solo(solo);
}

static void test_full_follower_says_so(void **state)
{
    (void)state;
    struct solo *solo = make_solo(3, (raft_term[]){1, 1, 0}, 1);
    solo_hellos(solo);
    struct raft_event event = {.kind = RAFT_EVENT_ELIGIBLE, .eligible = {.is_full = true}};
    solo_step(solo, event);
    solo_message(solo, append_of(1, 1, 2, 1, 2));
    assert_true(solo_sent(solo, RAFT_APPEND_RESPONSE, 0)->message.append_response.is_full);
    event.eligible.is_full = false;
    solo_step(solo, event);
    solo_message(solo, append_of(1, 1, 9, 1, 2));
    assert_false(solo_sent(solo, RAFT_APPEND_RESPONSE, 0)->message.append_response.is_full);
    free_solo(solo);
}

/* ---- nonsense ---- */

static void expect_invalid(struct solo *solo, const struct raft_message *message)
{
    struct raft_status before = solo_status(solo);
    assert_int_equal(
        solo_try(solo, (struct raft_event){.kind = RAFT_EVENT_MESSAGE, .message = *message}),
        ERR_INVALID);
    assert_int_equal(solo->effects->message_count, 0);
    assert_int_equal(solo->effects->append_count, 0);
    assert_false(solo->effects->has_hard_state);
    struct raft_status after = solo_status(solo);
    assert_memory_equal(&before, &after, sizeof(before));
}

static void expect_invalid_append(struct solo *solo, struct raft_message message,
                                  const struct raft_entry *entries, uint32_t count)
{
    message.append_request.entries = entries;
    message.append_request.count = count;
    expect_invalid(solo, &message);
}

static void test_append_that_no_correct_peer_sends_changes_nothing(void **state)
{
    (void)state;
    struct solo *solo = make_solo(3, (raft_term[]){1, 1, 2, 2, 0}, 3);
    solo_hellos(solo);
    solo_message(solo, append_of(1, 3, 4, 2, 3)); /* 3 is committed, 1 leads */
    struct raft_change admit = {.kind = RAFT_CHANGE_ADMIT, .member = 1, .incarnation = 9};
    struct raft_change bad_member = {.kind = RAFT_CHANGE_ADMIT, .member = 3, .incarnation = 9};
    struct raft_change no_incarnation = {.kind = RAFT_CHANGE_ADMIT, .member = 1};
    const struct raft_entry good = {.term = 3};
    const struct raft_entry falling[] = {{.term = 3}, {.term = 2}};
    const struct raft_entry too_new = {.term = 4};
    const struct raft_entry no_term = {.term = 0};
    const struct raft_entry strange = {.term = 3, .type = (enum raft_entry_type)7};
    const struct raft_entry change_missing = {.term = 3, .type = RAFT_ENTRY_CONFIG_CHANGE};
    const struct raft_entry command_with_change = {.term = 3, .change = &admit};
    const struct raft_entry late_genesis = {
        .term = 3, .type = RAFT_ENTRY_CONFIG_CHANGE, .change = &solo_genesis};
    const struct raft_entry far_member = {
        .term = 3, .type = RAFT_ENTRY_CONFIG_CHANGE, .change = &bad_member};
    const struct raft_entry nobody = {
        .term = 3, .type = RAFT_ENTRY_CONFIG_CHANGE, .change = &no_incarnation};
    struct raft_message at_end = append_of(1, 3, 4, 2, 3);

    expect_invalid_append(solo, at_end, &good, RAFT_APPEND_ENTRIES_MAX + 1);
    expect_invalid_append(solo, at_end, NULL, 1);
    expect_invalid_append(solo, at_end, falling, 2);
    expect_invalid_append(solo, at_end, &too_new, 1);
    expect_invalid_append(solo, at_end, &no_term, 1);
    expect_invalid_append(solo, at_end, &strange, 1);
    expect_invalid_append(solo, at_end, &change_missing, 1);
    expect_invalid_append(solo, at_end, &command_with_change, 1);
    expect_invalid_append(solo, at_end, &late_genesis, 1);
    expect_invalid_append(solo, at_end, &far_member, 1);
    expect_invalid_append(solo, at_end, &nobody, 1);
    expect_invalid_append(solo, append_of(1, 3, UINT64_MAX - 1, 2, 3), &good, 1);
    expect_invalid_append(solo, append_of(1, 3, 4, 2, UINT64_MAX), &good, 1);
    expect_invalid_append(solo, append_of(1, 3, 4, 0, 3), &good, 1);
    expect_invalid_append(solo, append_of(1, 3, 0, 2, 3), &good, 1);
    expect_invalid_append(solo, append_of(1, 3, 4, 4, 3), &too_new, 1);
    expect_invalid_append(solo, append_of(1, UINT64_MAX, 4, 2, 3), &good, 1);
    expect_invalid_append(solo, append_of(2, 3, 4, 2, 3), &good, 1); /* 1 leads this term */
    expect_invalid_append(solo, append_of(1, 3, 2, 2, 3), &good, 1); /* 2 is committed, of term 1 */
    expect_invalid_append(solo, append_of(1, 3, 2, 1, 3), &good, 1); /* 3 is committed, of term 2 */
    expect_invalid_append(solo, append_of(0, 3, 4, 2, 3), &good, 1); /* from ourselves */
    expect_invalid_append(solo, append_of(5, 3, 4, 2, 3), &good, 1); /* from nobody */
    expect_invalid_append(solo, append_of(-1, 3, 4, 2, 3), &good, 1);
    expect_invalid_append(solo, append_of(1, 3, 0, 0, 3), &good, 1); /* entry 1 is GENESIS */
    free_solo(solo);
}

static void test_other_messages_that_no_correct_peer_sends_change_nothing(void **state)
{
    (void)state;
    struct solo *solo = make_solo(3, (raft_term[]){1, 1, 0}, 1);
    solo_lead(solo);
    struct raft_message beyond = acked(1, 2, 99, 0);
    expect_invalid(solo, &beyond);
    struct raft_message round = acked(1, 2, 3, 99);
    expect_invalid(solo, &round);
    struct raft_message second_leader = append_of(1, 2, 3, 2, 0);
    expect_invalid(solo, &second_leader);
    struct raft_message vote = {.kind = RAFT_VOTE_REQUEST, .peer = 1, .term = 3};
    vote.vote_request.for_term = 7;
    expect_invalid(solo, &vote);
    vote.vote_request.for_term = 3;
    vote.vote_request.last_index = 5; /* of term 0 */
    expect_invalid(solo, &vote);
    vote.vote_request.last_term = 4; /* newer than its own term */
    expect_invalid(solo, &vote);
    struct raft_message unknown = {.kind = (enum raft_message_kind)77, .peer = 1, .term = 2};
    expect_invalid(solo, &unknown);
    free_solo(solo);
}

static void test_options_that_make_no_sense_are_refused(void **state)
{
    (void)state;
    struct solo *solo = make_solo(3, (raft_term[]){1, 1, 0}, 1);
    struct raft *raft = NULL;
    struct raft_options options = solo->options;
    options.member_count = 4;
    assert_int_equal(raft_create(&options, &raft), ERR_INVALID);
    options.member_count = 11;
    assert_int_equal(raft_create(&options, &raft), ERR_INVALID);
    options = solo->options;
    options.self = 3;
    assert_int_equal(raft_create(&options, &raft), ERR_INVALID);
    options = solo->options;
    options.incarnation = 0;
    assert_int_equal(raft_create(&options, &raft), ERR_INVALID);
    options = solo->options;
    options.applied_index = 3;
    assert_int_equal(raft_create(&options, &raft), ERR_INVALID);
    options = solo->options;
    options.heartbeat_interval_ns = options.election_timeout_ns;
    assert_int_equal(raft_create(&options, &raft), ERR_INVALID);
    options = solo->options;
    options.change_count = RAFT_CONFIGS_MAX + 1;
    assert_int_equal(raft_create(&options, &raft), ERR_INVALID);
    assert_null(raft);
    free_solo(solo);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_old_term_entry_is_not_committed_by_counting),
        cmocka_unit_test(test_leader_opens_its_term_with_a_no_op),
        cmocka_unit_test(test_leader_counts_itself_only_up_to_its_persisted_index),
        cmocka_unit_test(test_two_followers_commit_without_the_leaders_disk),
        cmocka_unit_test(test_commit_is_told_without_waiting_for_a_heartbeat),
        cmocka_unit_test(test_commit_waits_for_entries_only_while_they_follow_one_another),
        cmocka_unit_test(test_acknowledgement_is_held_until_the_entries_are_durable),
        cmocka_unit_test(test_conflicting_suffix_is_replaced_and_nothing_more),
        cmocka_unit_test(test_commit_goes_no_further_than_what_agrees),
        cmocka_unit_test(test_gap_is_refused_with_a_hint),
        cmocka_unit_test(test_long_conflict_is_found_in_few_messages),
        cmocka_unit_test(test_refusal_for_the_term_is_not_taken_for_one_of_the_log),
        cmocka_unit_test(test_at_most_64_messages_are_unanswered),
        cmocka_unit_test(test_large_backlog_goes_in_bounded_messages_without_waiting),
        cmocka_unit_test(test_unanswered_messages_are_bounded_in_bytes_too),
        cmocka_unit_test(test_lost_connection_goes_back_to_probing),
        cmocka_unit_test(test_full_member_is_sent_one_entry_a_heartbeat_until_it_has_room),
        cmocka_unit_test(test_a_majority_is_full_when_the_others_are_too_few),
        cmocka_unit_test(test_a_member_that_is_not_heard_has_no_room),
        cmocka_unit_test(test_full_member_with_nothing_to_get_is_sent_the_next_entry_at_once),
        cmocka_unit_test(test_full_follower_says_so),
        cmocka_unit_test(test_append_that_no_correct_peer_sends_changes_nothing),
        cmocka_unit_test(test_other_messages_that_no_correct_peer_sends_change_nothing),
        cmocka_unit_test(test_options_that_make_no_sense_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
