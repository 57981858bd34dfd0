/* Why a node cannot be made from what its directory holds: the true reason. */
#include "node_testing.h"

/* Makes node 1 again, over its log with another hard state. */
static int start_with(const struct wal_hard_state *state, char *error, size_t error_size)
{
    struct net *net = net_create();
    struct net_node *first = &net->nodes[0];
    struct node_options options = first->node->options;
    struct cluster_member members[NET_MEMBERS];
    for (int i = 0; i < NET_MEMBERS; i++) {
        members[i].node_id = net_names[i];
    }
    options.members = members;
    assert_int_equal(wal_stage_hard_state(first->wal, state), 0);
    assert_int_equal(wal_commit(first->wal), 0);
    struct node *second = NULL;
    int rc = node_create(&options, &second, error, error_size);
    node_destroy(second);
    net_destroy(net);
    return rc;
}

static void test_a_term_that_cannot_be_is_told_as_such_and_not_as_a_lack_of_memory(void **state)
{
    char error[256] = "";
    struct wal_hard_state forged = {.term = (UINT64_C(1) << 62) + 1, .incarnation = 1000};
    assert_int_not_equal(start_with(&forged, error, sizeof(error)), 0);
    assert_non_null(strstr(error, "the log holds term 4611686018427387905"));
    assert_non_null(strstr(error, "move the data_dir away"));
    assert_null(strstr(error, "memory"));
}

static void test_the_last_term_that_can_be_is_no_fault(void **state)
{
    char error[256] = "";
    struct wal_hard_state last = {.term = RAFT_TERM_MAX, .incarnation = 1000};
    assert_int_equal(start_with(&last, error, sizeof(error)), 0);
    assert_string_equal(error, "");
}

static void test_a_vote_for_a_stranger_is_told_as_such(void **state)
{
    char error[256] = "";
    struct wal_hard_state foreign = {.term = 3, .voted_for = "node9", .incarnation = 1000};
    assert_int_not_equal(start_with(&foreign, error, sizeof(error)), 0);
    assert_non_null(strstr(error, "a vote for \"node9\", which is not among the peers"));
}

int main(void)
{
    log_init(true, LOG_LEVEL_ERROR);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_term_that_cannot_be_is_told_as_such_and_not_as_a_lack_of_memory),
        cmocka_unit_test(test_the_last_term_that_can_be_is_no_fault),
        cmocka_unit_test(test_a_vote_for_a_stranger_is_told_as_such),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
