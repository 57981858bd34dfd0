/* What a peer may say of terms and indexes: nothing that it says may end the node for good. */
#include "raft_testing.h"

static const raft_term terms[] = {1, 1, 2, 0};

/* One message of each kind, as if the sender were in that term. */
static struct raft_message said(enum raft_message_kind kind, raft_term term)
{
    struct raft_message message = {.kind = kind, .peer = 1, .term = term};
    switch (kind) {
    case RAFT_APPEND_REQUEST:
        return append_of(1, term, 3, 2, 0);
    case RAFT_APPEND_RESPONSE:
        return acked(1, term, 3, 0);
    case RAFT_VOTE_REQUEST:
        message.vote_request.for_term = term;
        message.vote_request.last_index = 3;
        message.vote_request.last_term = 2;
        return message;
    case RAFT_VOTE_RESPONSE:
        return vote_response(1, term, false);
    default:
        return message;
    }
}

static int try_said(struct solo *solo, enum raft_message_kind kind, raft_term term)
{
    return solo_try(solo,
                    (struct raft_event){.kind = RAFT_EVENT_MESSAGE, .message = said(kind, term)});
}

static const enum raft_message_kind kinds[] = {
    RAFT_APPEND_REQUEST, RAFT_APPEND_RESPONSE, RAFT_VOTE_REQUEST,  RAFT_VOTE_RESPONSE,
    RAFT_TIMEOUT_NOW,    RAFT_READ_REQUEST,    RAFT_READ_RESPONSE,
};

static void test_an_implausible_term_is_refused_in_every_kind_of_message(void **state)
{
    static const raft_term implausible[] = {
        2 + RAFT_TERM_CREDIT + 1, RAFT_TERM_MAX,      RAFT_TERM_MAX + 1,
        (raft_term)1 << 53,       (raft_term)1 << 62, ((raft_term)1 << 62) + 1,
        UINT64_MAX - 1,           UINT64_MAX,
    };
    struct solo *solo = make_solo(3, terms, 2);
    solo_hellos(solo);
    for (size_t i = 0; i < sizeof(implausible) / sizeof(implausible[0]); i++) {
        for (size_t k = 0; k < sizeof(kinds) / sizeof(kinds[0]); k++) {
            assert_int_equal(try_said(solo, kinds[k], implausible[i]), ERR_INVALID);
            assert_false(solo->effects->has_hard_state);
            assert_int_equal(solo->effects->message_count, 0);
            assert_int_equal(solo_status(solo).term, 2);
        }
    }
    free_solo(solo);
}

static void test_a_jump_of_thousands_of_elections_is_followed(void **state)
{
    struct solo *solo = make_solo(3, terms, 2);
    solo_hellos(solo);
    solo_message(solo, said(RAFT_APPEND_REQUEST, 1000000));
    assert_int_equal(solo_status(solo).term, 1000000);
    solo_message(solo, said(RAFT_APPEND_REQUEST, 1000000 + RAFT_TERM_CREDIT / 2));
    assert_int_equal(solo_status(solo).term, 1000000 + RAFT_TERM_CREDIT / 2);
    free_solo(solo);
}

static void test_many_jumps_are_bounded_as_one_is(void **state)
{
    struct solo *solo = make_solo(3, terms, 2);
    solo_hellos(solo);
    raft_term term = 2;
    int taken = 0;
    for (int i = 0; i < 1000; i++) {
        raft_term next = term + RAFT_TERM_CREDIT / 4;
        if (try_said(solo, RAFT_APPEND_REQUEST, next) == 0) {
            term = next;
            taken++;
        }
        solo->now_ns += MS;
    }
    /* In that second it has earned a million more: not another one of them. */
    assert_int_equal(taken, 4);
    assert_int_equal(solo_status(solo).term, term);
    /* What elections can bring is taken all the while. */
    solo_message(solo, said(RAFT_APPEND_REQUEST, term + 1000));
    free_solo(solo);
}

static void test_with_a_leader_the_credit_does_not_grow_beyond_its_beginning(void **state)
{
    struct solo *solo = make_solo(3, terms, 2);
    solo_hellos(solo);
    for (int i = 0; i < 10000; i++) {
        solo_message(solo, said(RAFT_APPEND_REQUEST, 2));
        solo->now_ns += 1000 * 1000 * MS; /* more than enough for another credit each time */
    }
    assert_int_equal(try_said(solo, RAFT_APPEND_REQUEST, 2 + RAFT_TERM_CREDIT + 1), ERR_INVALID);
    solo_message(solo, said(RAFT_APPEND_REQUEST, 2 + RAFT_TERM_CREDIT));
    free_solo(solo);
}

static void test_a_node_without_a_leader_for_long_may_catch_up_with_any_term(void **state)
{
    struct solo *solo = make_solo(3, terms, 2);
    solo_hellos(solo);
    raft_term term = 2 + 3 * RAFT_TERM_CREDIT;
    assert_int_equal(try_said(solo, RAFT_APPEND_REQUEST, term), ERR_INVALID);
    assert_false(raft_is_term_plausible(solo->raft, term, solo->now_ns));
    solo->now_ns += 2 * RAFT_TERM_CREDIT * RAFT_TERM_CREDIT_NS;
    assert_true(raft_is_term_plausible(solo->raft, term, solo->now_ns));
    solo_message(solo, said(RAFT_APPEND_REQUEST, term));
    assert_int_equal(solo_status(solo).term, term);
    free_solo(solo);
}

static void test_at_the_last_term_nobody_campaigns_and_the_node_can_still_be_started(void **state)
{
    struct solo *solo = make_solo(3, terms, RAFT_TERM_MAX);
    solo_hellos(solo);
    for (int i = 0; i < 100; i++) {
        solo->now_ns += ELECTION_NS;
        solo_kind(solo, RAFT_EVENT_TICK);
        assert_int_equal(solo_status(solo).role, RAFT_FOLLOWER);
    }
    assert_int_equal(solo_status(solo).term, RAFT_TERM_MAX);
    struct raft *again;
    solo->options.now_ns = solo->now_ns;
    assert_int_equal(raft_create(&solo->options, &again), 0);
    raft_destroy(again);
    solo->options.term = RAFT_TERM_MAX + 1;
    assert_int_equal(raft_create(&solo->options, &again), ERR_INVALID);
    free_solo(solo);
}

static void test_indexes_beyond_the_bound_are_refused(void **state)
{
    struct solo *solo = make_solo(3, terms, 2);
    solo_hellos(solo);
    struct raft_event event = {.kind = RAFT_EVENT_MESSAGE};
    event.message = append_of(1, 2, RAFT_INDEX_MAX + 1, 2, 0);
    assert_int_equal(solo_try(solo, event), ERR_INVALID);
    event.message = append_of(1, 2, 3, 2, RAFT_INDEX_MAX + 1);
    assert_int_equal(solo_try(solo, event), ERR_INVALID);
    event.message = append_of(1, 2, RAFT_INDEX_MAX, 2, RAFT_INDEX_MAX);
    solo_step(solo, event);
    assert_int_equal(solo_status(solo).last_index, 3);
    free_solo(solo);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_an_implausible_term_is_refused_in_every_kind_of_message),
        cmocka_unit_test(test_a_jump_of_thousands_of_elections_is_followed),
        cmocka_unit_test(test_many_jumps_are_bounded_as_one_is),
        cmocka_unit_test(test_with_a_leader_the_credit_does_not_grow_beyond_its_beginning),
        cmocka_unit_test(test_a_node_without_a_leader_for_long_may_catch_up_with_any_term),
        cmocka_unit_test(test_at_the_last_term_nobody_campaigns_and_the_node_can_still_be_started),
        cmocka_unit_test(test_indexes_beyond_the_bound_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
