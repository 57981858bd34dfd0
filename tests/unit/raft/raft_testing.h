/* Helpers of the Raft tests: a cluster that stands, and `struct solo`, one core whose peers are the
 * test itself. */
#ifndef RAFTOGRAM_TESTS_UNIT_RAFT_TESTING_H
#define RAFTOGRAM_TESTS_UNIT_RAFT_TESTING_H

/* cmocka.h wants these before it. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/errors.h"
#include "lib/raft_cluster.h"

#include <stdlib.h>
#include <string.h>

#define MS CLUSTER_MS
#define ELECTION_NS (500 * MS)

/* ---- a cluster ---- */

static inline struct cluster *make_cluster(int count, uint64_t seed)
{
    struct cluster *cluster =
        cluster_create(&(struct cluster_options){.count = count, .seed = seed});
    assert_true(cluster_run_until(cluster, cluster_is_converged, 5000 * MS));
    cluster_run(cluster, 100 * MS);
    return cluster;
}

static inline raft_member other_than(raft_member a, raft_member b)
{
    raft_member other = 0;
    while (other == a || other == b) {
        other++;
    }
    return other;
}

static inline void cut_both_ways(struct cluster *cluster, raft_member a, raft_member b)
{
    cluster_cut(cluster, a, b);
    cluster_cut(cluster, b, a);
}

static inline void isolate(struct cluster *cluster, raft_member node)
{
    for (raft_member i = 0; i < cluster->options.count; i++) {
        if (i != node) {
            cut_both_ways(cluster, i, node);
        }
    }
}

static inline raft_term term_of(const struct cluster *cluster, raft_member node)
{
    return cluster_status(cluster, node).term;
}

static inline enum raft_role role_of(const struct cluster *cluster, raft_member node)
{
    return cluster_status(cluster, node).role;
}

/* Proposes on the leader and awaits that all nodes have it. */
static inline void commit_some(struct cluster *cluster, int count)
{
    for (int i = 0; i < count; i++) {
        assert_true(cluster_propose(cluster, cluster_leader(cluster), 1000 + (uint64_t)i));
    }
    cluster_run(cluster, MS);
    assert_true(cluster_run_until(cluster, cluster_is_converged, 2000 * MS));
}

/* ---- one core ---- */

#define SOLO_LOG_MAX 20000

struct solo {
    struct raft *raft;
    struct raft_options options;
    uint64_t now_ns;
    raft_index base;
    raft_index last;
    raft_term terms[SOLO_LOG_MAX];
    uint64_t entry_bytes;
    const struct raft_effects *effects; /* of the last step */
};

static inline raft_index solo_first(void *context)
{
    return ((struct solo *)context)->base + 1;
}

static inline raft_term solo_term(void *context, raft_index index)
{
    const struct solo *solo = context;
    return index >= solo->base && index <= solo->last ? solo->terms[index] : 0;
}

static inline raft_index solo_fit(void *context, raft_index first, raft_index last_max,
                                  uint64_t bytes_max, uint64_t *bytes)
{
    const struct solo *solo = context;
    uint64_t fits = solo->entry_bytes == 0 ? UINT64_MAX : bytes_max / solo->entry_bytes;
    uint64_t count = last_max - first + 1;
    count = count > fits ? fits : count;
    *bytes = count * solo->entry_bytes;
    return first + count - 1;
}

static const struct raft_change solo_genesis = {.kind = RAFT_CHANGE_GENESIS,
                                                .member = RAFT_NO_MEMBER,
                                                .incarnations = {101, 102, 103, 104, 105}};
static const raft_index solo_genesis_index = 1;

/* Member 0 of `count`; members are founded with the incarnations 101, 102, …, and have said hello.
 * The log holds entries of the given terms from 1 on; the first is GENESIS. 0 ends the list. */
static inline struct solo *make_solo(int count, const raft_term *terms, raft_term term)
{
    struct solo *solo = calloc(1, sizeof(*solo));
    assert_non_null(solo);
    solo->now_ns = 1000 * MS;
    while (terms[solo->last] != 0) {
        solo->terms[solo->last + 1] = terms[solo->last];
        solo->last++;
    }
    solo->options = (struct raft_options){
        .self = 0,
        .member_count = count,
        .election_timeout_ns = ELECTION_NS,
        .heartbeat_interval_ns = 50 * MS,
        .seed = 1,
        .log = {.context = solo, .first = solo_first, .term = solo_term, .fit = solo_fit},
        .term = term,
        .voted_for = RAFT_NO_MEMBER,
        .last_index = solo->last,
        .changes = &solo_genesis,
        .change_indexes = &solo_genesis_index,
        .change_count = solo->last > 0,
        .incarnation = 101,
        .is_eligible = true,
        .now_ns = solo->now_ns,
    };
    assert_int_equal(raft_create(&solo->options, &solo->raft), 0);
    return solo;
}

static inline void free_solo(struct solo *solo)
{
    raft_destroy(solo->raft);
    free(solo);
}

static inline int solo_try(struct solo *solo, struct raft_event event)
{
    event.now_ns = solo->now_ns;
    int rc = raft_step(solo->raft, &event, &solo->effects);
    const struct raft_effects *effects = solo->effects;
    for (uint32_t i = 0; i < effects->append_count; i++) {
        solo->last = effects->append_first + i;
        assert_true(solo->last < SOLO_LOG_MAX);
        solo->terms[solo->last] =
            effects->append_term != 0 ? effects->append_term : effects->append[i].term;
    }
    return rc;
}

static inline void solo_step(struct solo *solo, struct raft_event event)
{
    assert_int_equal(solo_try(solo, event), 0);
}

static inline void solo_kind(struct solo *solo, enum raft_event_kind kind)
{
    solo_step(solo, (struct raft_event){.kind = kind});
}

static inline void solo_message(struct solo *solo, struct raft_message message)
{
    solo_step(solo, (struct raft_event){.kind = RAFT_EVENT_MESSAGE, .message = message});
}

static inline void solo_persisted(struct solo *solo)
{
    struct raft_event event = {.kind = RAFT_EVENT_PERSISTED};
    event.persisted.save_seq = solo->effects->save_seq;
    event.persisted.last_index = solo->last;
    event.persisted.last_term = solo->terms[solo->last];
    solo_step(solo, event);
}

static inline void solo_hello(struct solo *solo, raft_member peer, uint64_t epoch,
                              uint64_t incarnation)
{
    struct raft_event event = {.kind = RAFT_EVENT_PEER_HELLO};
    event.stream.peer = peer;
    event.stream.epoch = epoch;
    event.stream.incarnation = incarnation;
    solo_step(solo, event);
}

static inline void solo_hellos(struct solo *solo)
{
    for (raft_member i = 1; i < solo->options.member_count; i++) {
        solo_hello(solo, i, 1, 101 + (uint64_t)i);
    }
}

static inline struct raft_status solo_status(const struct solo *solo)
{
    struct raft_status status;
    raft_get_status(solo->raft, solo->now_ns, &status);
    return status;
}

/* The n-th message of that kind in the last effects; NULL if there are not so many. */
static inline const struct raft_outgoing *solo_sent(const struct solo *solo,
                                                    enum raft_message_kind kind, int n)
{
    for (size_t i = 0; i < solo->effects->message_count; i++) {
        if (solo->effects->messages[i].message.kind == kind && n-- == 0) {
            return &solo->effects->messages[i];
        }
    }
    return NULL;
}

static inline struct raft_message vote_response(raft_member peer, raft_term term, bool is_pre_vote)
{
    struct raft_message message = {.kind = RAFT_VOTE_RESPONSE, .peer = peer};
    message.term = is_pre_vote ? term - 1 : term;
    message.vote_response.for_term = term;
    message.vote_response.is_pre_vote = is_pre_vote;
    message.vote_response.granted = true;
    return message;
}

static inline struct raft_message acked(raft_member peer, raft_term term, raft_index last,
                                        uint64_t round)
{
    struct raft_message message = {.kind = RAFT_APPEND_RESPONSE, .peer = peer, .term = term};
    message.append_response.success = true;
    message.append_response.last_index = last;
    message.append_response.read_round = round;
    return message;
}

static inline struct raft_message append_of(raft_member peer, raft_term term, raft_index prev_index,
                                            raft_term prev_term, raft_index commit)
{
    struct raft_message message = {.kind = RAFT_APPEND_REQUEST, .peer = peer, .term = term};
    message.append_request.prev_index = prev_index;
    message.append_request.prev_term = prev_term;
    message.append_request.commit = commit;
    return message;
}

static inline void solo_propose(struct solo *solo, uint32_t count)
{
    static struct raft_entry entries[RAFT_APPEND_ENTRIES_MAX];
    struct raft_event event = {.kind = RAFT_EVENT_PROPOSE};
    event.propose.entries = entries;
    event.propose.count = count;
    solo_step(solo, event);
}

/* Elected by all the others; its term's first entry is in the log, durable. */
static inline void solo_lead(struct solo *solo)
{
    solo_hellos(solo);
    while (solo_status(solo).role == RAFT_FOLLOWER) {
        solo->now_ns += 10 * MS;
        solo_kind(solo, RAFT_EVENT_TICK);
    }
    raft_term term = solo_status(solo).term + 1;
    for (raft_member i = 1; i < solo->options.member_count; i++) {
        solo_message(solo, vote_response(i, term, true));
    }
    solo_persisted(solo);
    for (raft_member i = 1; i < solo->options.member_count; i++) {
        solo_message(solo, vote_response(i, term, false));
    }
    assert_int_equal(solo_status(solo).role, RAFT_LEADER);
    solo_persisted(solo);
}

#endif
