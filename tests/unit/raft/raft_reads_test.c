/* Linearizable reads: when a round may answer, and when it must not. */
#include "raft_testing.h"

static void solo_read(struct solo *solo, uint64_t id)
{
    struct raft_event event = {.kind = RAFT_EVENT_READ};
    event.read.id = id;
    solo_step(solo, event);
}

/* Leads in term 2; entry 3 opened it and is committed unless `is_open` is false. */
static struct solo *make_leader(bool is_open)
{
    struct solo *solo = make_solo(3, (raft_term[]){1, 1, 0}, 1);
    solo_lead(solo);
    solo_kind(solo, RAFT_EVENT_REPLICATE);
    if (is_open) {
        solo_message(solo, acked(1, 2, 3, 0));
        assert_true(solo_status(solo).is_ready);
        solo_kind(solo, RAFT_EVENT_REPLICATE);
    }
    return solo;
}

static uint64_t newest_round(const struct solo *solo)
{
    const struct raft_outgoing *sent = solo_sent(solo, RAFT_APPEND_REQUEST, 0);
    return sent == NULL ? 0 : sent->message.append_request.read_round;
}

static void test_read_waits_for_an_entry_of_the_own_term(void **state)
{
    (void)state;
    struct solo *solo = make_leader(false);
    solo_read(solo, 1);
    solo_kind(solo, RAFT_EVENT_REPLICATE);
    assert_int_equal(newest_round(solo), 0);
    solo_message(solo, acked(1, 2, 2, 0)); /* a majority, but of what an older leader wrote */
    solo_kind(solo, RAFT_EVENT_REPLICATE);
    assert_int_equal(solo->effects->read_count, 0);
    solo_message(solo, acked(1, 2, 3, 0));
    solo_kind(solo, RAFT_EVENT_REPLICATE);
    uint64_t round = newest_round(solo);
    assert_true(round > 0);
    solo_message(solo, acked(2, 2, 2, round));
    assert_int_equal(solo->effects->read_count, 1);
    assert_true(solo->effects->reads[0].confirmed);
    assert_int_equal(solo->effects->reads[0].index, 3);
    free_solo(solo);
}

static void test_one_round_serves_all_reads_that_wait(void **state)
{
    (void)state;
    struct solo *solo = make_leader(true);
    for (uint64_t id = 1; id <= 50; id++) {
        solo_read(solo, id);
    }
    solo_kind(solo, RAFT_EVENT_REPLICATE);
    assert_int_equal(solo->effects->message_count, 2); /* one AppendEntries for each peer */
    solo_message(solo, acked(1, 2, 3, newest_round(solo)));
    assert_int_equal(solo->effects->read_count, 50);
    free_solo(solo);
}

static void test_read_does_not_join_a_round_that_is_on_its_way(void **state)
{
    (void)state;
    struct solo *solo = make_leader(true);
    solo_read(solo, 1);
    solo_kind(solo, RAFT_EVENT_REPLICATE);
    uint64_t first = newest_round(solo);
    solo_read(solo, 2);
    solo_kind(solo, RAFT_EVENT_REPLICATE);
    uint64_t second = newest_round(solo);
    assert_true(second > first);
    solo_message(solo, acked(1, 2, 3, first));
    assert_int_equal(solo->effects->read_count, 1);
    assert_int_equal(solo->effects->reads[0].id, 1);
    solo_message(solo, acked(2, 2, 3, second)); /* an answer to the newer confirms it */
    assert_int_equal(solo->effects->read_count, 1);
    assert_int_equal(solo->effects->reads[0].id, 2);
    free_solo(solo);
}

static void test_answers_of_an_older_term_confirm_nothing(void **state)
{
    (void)state;
    struct solo *solo = make_leader(true);
    solo_read(solo, 1);
    solo_kind(solo, RAFT_EVENT_REPLICATE);
    solo_message(solo, acked(1, 1, 3, newest_round(solo)));
    assert_int_equal(solo->effects->read_count, 0);
    free_solo(solo);
}

static void test_rounds_are_never_reused_in_a_later_term(void **state)
{
    (void)state;
    struct solo *solo = make_leader(true);
    solo_read(solo, 1);
    solo_kind(solo, RAFT_EVENT_REPLICATE);
    uint64_t first = newest_round(solo);
    solo_message(solo, append_of(2, 3, 3, 2, 3)); /* deposed: the read fails */
    assert_int_equal(solo->effects->read_count, 1);
    assert_false(solo->effects->reads[0].confirmed);
    solo_lead(solo);
    solo_kind(solo, RAFT_EVENT_REPLICATE);
    solo_message(solo, acked(1, 4, 4, 0));
    solo_read(solo, 2);
    solo_kind(solo, RAFT_EVENT_REPLICATE);
    assert_true(newest_round(solo) > first);
    free_solo(solo);
}

static void test_nothing_is_answered_during_a_transfer(void **state)
{
    (void)state;
    struct solo *solo = make_leader(true);
    solo_read(solo, 1);
    solo_kind(solo, RAFT_EVENT_REPLICATE);
    uint64_t round = newest_round(solo);
    struct raft_event transfer = {.kind = RAFT_EVENT_TRANSFER};
    transfer.transfer.target = 2;
    solo_step(solo, transfer);
    solo_message(solo, acked(1, 2, 3, round));
    assert_int_equal(solo->effects->read_count, 0);
    solo_read(solo, 2);
    solo_kind(solo, RAFT_EVENT_REPLICATE);
    assert_int_equal(solo->effects->read_count, 0);
    /* Given up after an election timeout; by then the others have answered often. */
    for (int i = 0; i < 12; i++) {
        solo->now_ns += 50 * MS;
        solo_message(solo, acked(1, 2, 3, round));
        solo_kind(solo, RAFT_EVENT_TICK);
        solo_kind(solo, RAFT_EVENT_REPLICATE);
    }
    solo_message(solo, acked(1, 2, 3, newest_round(solo)));
    assert_true(solo->effects->read_count > 0);
    assert_true(solo->effects->reads[0].confirmed);
    free_solo(solo);
}

static void test_follower_asks_the_leader(void **state)
{
    (void)state;
    struct cluster *cluster = make_cluster(3, 1);
    raft_member leader = cluster_leader(cluster);
    commit_some(cluster, 5);
    size_t read = cluster_read(cluster, other_than(leader, leader));
    cluster_run(cluster, 5 * MS);
    assert_int_equal(cluster->reads[read].state, CLUSTER_READ_CONFIRMED);
    assert_true(cluster->reads[read].index >= 6);
    cluster_destroy(cluster);
}

static void test_forwarded_read_is_given_up_after_an_election_timeout(void **state)
{
    (void)state;
    struct solo *solo = make_solo(3, (raft_term[]){1, 1, 0}, 1);
    solo_hellos(solo);
    solo_message(solo, append_of(1, 1, 2, 1, 0));
    solo_read(solo, 1);
    assert_int_equal(solo_sent(solo, RAFT_READ_REQUEST, 0)->message.peer, 1);
    solo->now_ns += ELECTION_NS - 1;
    solo_message(solo, append_of(1, 1, 2, 1, 0));
    solo_kind(solo, RAFT_EVENT_TICK);
    assert_int_equal(solo->effects->read_count, 0);
    assert_int_equal(solo->effects->next_deadline_ns, solo->now_ns + 1);
    solo->now_ns += 1;
    solo_kind(solo, RAFT_EVENT_TICK);
    assert_int_equal(solo->effects->read_count, 1);
    assert_false(solo->effects->reads[0].confirmed);
    /* The answer that comes after all is dropped. */
    struct raft_message late = {.kind = RAFT_READ_RESPONSE, .peer = 1, .term = 1};
    late.read_response.id = 1;
    late.read_response.confirmed = true;
    solo_message(solo, late);
    assert_int_equal(solo->effects->read_count, 0);
    free_solo(solo);
}

static void test_forwarded_read_fails_when_the_leader_is_lost(void **state)
{
    (void)state;
    const enum raft_event_kind kinds[] = {RAFT_EVENT_STREAM_LOST, RAFT_EVENT_DIAL_LOST};
    for (size_t i = 0; i < 2; i++) {
        struct solo *solo = make_solo(3, (raft_term[]){1, 1, 0}, 1);
        solo_hellos(solo);
        solo_message(solo, append_of(1, 1, 2, 1, 0));
        solo_read(solo, 1);
        struct raft_event lost = {.kind = kinds[i]};
        lost.stream.peer = 1;
        lost.stream.epoch = 1;
        solo_step(solo, lost);
        assert_int_equal(solo->effects->read_count, 1);
        assert_false(solo->effects->reads[0].confirmed);
        solo_read(solo, 2); /* and there is nobody to ask */
        assert_int_equal(solo->effects->read_count, 1);
        assert_false(solo->effects->reads[0].confirmed);
        free_solo(solo);
    }
}

static void test_answer_of_another_term_is_dropped(void **state)
{
    (void)state;
    struct solo *solo = make_solo(3, (raft_term[]){1, 1, 0}, 2);
    solo_hellos(solo);
    solo_message(solo, append_of(1, 2, 2, 1, 0));
    solo_read(solo, 1);
    struct raft_message answer = {.kind = RAFT_READ_RESPONSE, .peer = 1, .term = 1};
    answer.read_response.id = 1;
    answer.read_response.confirmed = true;
    solo_message(solo, answer);
    assert_int_equal(solo->effects->read_count, 0);
    answer.term = 2;
    answer.peer = 2; /* not who leads */
    solo_message(solo, answer);
    assert_int_equal(solo->effects->read_count, 0);
    answer.peer = 1;
    solo_message(solo, answer);
    assert_int_equal(solo->effects->read_count, 1);
    free_solo(solo);
}

/* It numbers its reads from 1 again. We may see it first by its hello or by our own connection. */
static void test_restarted_peer_does_not_get_the_answer_to_its_older_self(void **state)
{
    (void)state;
    for (int by_hello = 0; by_hello < 2; by_hello++) {
        struct solo *solo = make_leader(true);
        struct raft_message ask = {.kind = RAFT_READ_REQUEST, .peer = 2, .term = 2};
        ask.read_request.id = 1;
        solo_message(solo, ask);
        solo_kind(solo, RAFT_EVENT_REPLICATE);
        uint64_t round = newest_round(solo);
        if (by_hello) {
            solo_hello(solo, 2, 2, 103);
        } else {
            struct raft_event lost = {.kind = RAFT_EVENT_DIAL_LOST};
            lost.stream.peer = 2;
            solo_step(solo, lost);
        }
        solo_message(solo, acked(1, 2, 3, round));
        assert_null(solo_sent(solo, RAFT_READ_RESPONSE, 0));
        free_solo(solo);
    }
}

static void test_read_asked_of_who_does_not_lead_is_refused(void **state)
{
    (void)state;
    struct solo *solo = make_solo(3, (raft_term[]){1, 1, 0}, 1);
    solo_hellos(solo);
    struct raft_message ask = {.kind = RAFT_READ_REQUEST, .peer = 2, .term = 1};
    ask.read_request.id = 9;
    solo_message(solo, ask);
    const struct raft_message *answer = &solo_sent(solo, RAFT_READ_RESPONSE, 0)->message;
    assert_int_equal(answer->read_response.id, 9);
    assert_false(answer->read_response.confirmed);
    free_solo(solo);
}

static void test_reads_are_bounded(void **state)
{
    (void)state;
    struct solo *solo = make_leader(true);
    for (uint64_t id = 1; id <= RAFT_READS_MAX; id++) {
        solo_read(solo, id);
    }
    struct raft_event event = {.kind = RAFT_EVENT_READ};
    event.read.id = RAFT_READS_MAX + 1;
    assert_int_equal(solo_try(solo, event), ERR_FULL);
    struct raft_message ask = {.kind = RAFT_READ_REQUEST, .peer = 2, .term = 2};
    solo_message(solo, ask);
    assert_false(solo_sent(solo, RAFT_READ_RESPONSE, 0)->message.read_response.confirmed);
    solo_kind(solo, RAFT_EVENT_REPLICATE);
    solo_message(solo, acked(1, 2, 3, newest_round(solo)));
    assert_int_equal(solo->effects->read_count, RAFT_READS_MAX);
    free_solo(solo);
}

static void test_open_rounds_are_bounded(void **state)
{
    (void)state;
    struct solo *solo = make_leader(true);
    uint64_t newest = 0;
    for (uint64_t id = 1; id <= RAFT_ROUNDS_MAX + 10; id++) {
        solo_read(solo, id);
        solo_kind(solo, RAFT_EVENT_REPLICATE);
        newest = newest_round(solo) > newest ? newest_round(solo) : newest;
    }
    assert_int_equal(newest, RAFT_ROUNDS_MAX);
    solo_message(solo, acked(1, 2, 3, newest));
    assert_int_equal(solo->effects->read_count, RAFT_ROUNDS_MAX);
    solo_kind(solo, RAFT_EVENT_REPLICATE); /* the ten that waited share one */
    solo_message(solo, acked(1, 2, 3, newest_round(solo)));
    assert_int_equal(solo->effects->read_count, 10);
    free_solo(solo);
}

static void test_one_node_alone_answers_at_once(void **state)
{
    (void)state;
    struct cluster *cluster = make_cluster(1, 1);
    size_t read = cluster_read(cluster, 0);
    cluster_turn(cluster, 0);
    assert_int_equal(cluster->reads[read].state, CLUSTER_READ_CONFIRMED);
    cluster_destroy(cluster);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_read_waits_for_an_entry_of_the_own_term),
        cmocka_unit_test(test_one_round_serves_all_reads_that_wait),
        cmocka_unit_test(test_read_does_not_join_a_round_that_is_on_its_way),
        cmocka_unit_test(test_answers_of_an_older_term_confirm_nothing),
        cmocka_unit_test(test_rounds_are_never_reused_in_a_later_term),
        cmocka_unit_test(test_nothing_is_answered_during_a_transfer),
        cmocka_unit_test(test_follower_asks_the_leader),
        cmocka_unit_test(test_forwarded_read_is_given_up_after_an_election_timeout),
        cmocka_unit_test(test_forwarded_read_fails_when_the_leader_is_lost),
        cmocka_unit_test(test_answer_of_another_term_is_dropped),
        cmocka_unit_test(test_restarted_peer_does_not_get_the_answer_to_its_older_self),
        cmocka_unit_test(test_read_asked_of_who_does_not_lead_is_refused),
        cmocka_unit_test(test_reads_are_bounded),
        cmocka_unit_test(test_open_rounds_are_bounded),
        cmocka_unit_test(test_one_node_alone_answers_at_once),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
