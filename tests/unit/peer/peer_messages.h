/* Messages to test with: one of every kind, and comparison by value. */
#ifndef RAFTOGRAM_TESTS_PEER_MESSAGES_H
#define RAFTOGRAM_TESTS_PEER_MESSAGES_H

#include "peer/transport.h"

#include <string.h>

#define SAMPLES_MAX 16

static const struct raft_entry sample_entries[] = {
    {.term = 3, .type = RAFT_ENTRY_COMMAND, .data = "first", .size = 5},
    {.term = 4, .type = RAFT_ENTRY_COMMAND, .data = NULL, .size = 0},
    {.term = 4, .type = RAFT_ENTRY_CONFIG_CHANGE, .data = "\0\1\2\377", .size = 4},
};

/* One of every kind, with all fields set to something that tells them apart. Returns how many. */
static inline size_t make_samples(struct peer_message *out)
{
    static const uint64_t high = UINT64_C(0xfedcba9876543210);
    const struct peer_message samples[] = {
        {.raft = {.kind = RAFT_APPEND_REQUEST,
                  .term = 7,
                  .append_request = {.prev_index = 1000,
                                     .prev_term = 3,
                                     .commit = 999,
                                     .read_round = 17,
                                     .count = 3,
                                     .entries = sample_entries}}},
        {.raft = {.kind = RAFT_APPEND_REQUEST, .term = 1}},
        {.raft = {.kind = RAFT_APPEND_RESPONSE,
                  .term = 8,
                  .append_response = {.success = true, .last_index = high, .read_round = 18}}},
        {.raft = {.kind = RAFT_APPEND_RESPONSE,
                  .term = 8,
                  .append_response = {.last_index = 5,
                                      .hint_term = 6,
                                      .rejected_index = 7,
                                      .cannot_lead = true,
                                      .is_full = true}}},
        {.raft = {.kind = RAFT_VOTE_REQUEST,
                  .term = 9,
                  .vote_request =
                      {.last_index = 10, .last_term = 8, .for_term = 10, .is_pre_vote = true}}},
        {.raft = {.kind = RAFT_VOTE_REQUEST,
                  .term = 9,
                  .vote_request =
                      {.last_index = 10, .last_term = 8, .for_term = 9, .is_transfer = true}}},
        {.raft = {.kind = RAFT_VOTE_RESPONSE,
                  .term = 9,
                  .vote_response = {.for_term = 10, .is_pre_vote = true, .granted = true}}},
        {.raft = {.kind = RAFT_TIMEOUT_NOW, .term = 11}},
        {.raft = {.kind = RAFT_READ_REQUEST, .term = 12, .read_request = {.id = high}}},
        {.raft = {.kind = RAFT_READ_RESPONSE,
                  .term = 12,
                  .read_response = {.id = high, .index = 13, .confirmed = true}}},
        {.kind = PEER_MESSAGE_FORWARD_REQUEST,
         .forward_request = {.id = 14, .command = {"command", 7}, .timeout_ms = 5000}},
        {.kind = PEER_MESSAGE_FORWARD_RESPONSE,
         .forward_response = {.id = 14, .code = -3, .result = {"", 0}}},
        {.kind = PEER_MESSAGE_FORWARD_RESPONSE,
         .forward_response = {.id = 15, .code = 2, .result = {"result", 6}, .index = 1u << 20}},
        {.kind = PEER_MESSAGE_APPLY_HASH, .apply_hash = {.index = 20, .hash = high, .contents = 3}},
    };
    memcpy(out, samples, sizeof(samples));
    return sizeof(samples) / sizeof(samples[0]);
}

static inline bool is_same_entry(const struct raft_entry *a, const struct raft_entry *b)
{
    return a->term == b->term && a->type == b->type && a->size == b->size &&
           (a->size == 0 || memcmp(a->data, b->data, a->size) == 0);
}

static inline bool is_same_append(const struct raft_message *a, const struct raft_message *b)
{
    for (uint32_t i = 0; i < a->append_request.count && i < b->append_request.count; i++) {
        if (!is_same_entry(&a->append_request.entries[i], &b->append_request.entries[i])) {
            return false;
        }
    }
    return a->append_request.count == b->append_request.count &&
           a->append_request.prev_index == b->append_request.prev_index &&
           a->append_request.prev_term == b->append_request.prev_term &&
           a->append_request.commit == b->append_request.commit &&
           a->append_request.read_round == b->append_request.read_round &&
           a->append_request.no_answer == b->append_request.no_answer &&
           a->append_request.forgotten == b->append_request.forgotten;
}

static inline bool is_same_raft(const struct raft_message *a, const struct raft_message *b)
{
    if (a->kind != b->kind || a->term != b->term) {
        return false;
    }
    switch (a->kind) {
    case RAFT_APPEND_REQUEST:
        return is_same_append(a, b);
    case RAFT_APPEND_RESPONSE:
        return a->append_response.success == b->append_response.success &&
               a->append_response.last_index == b->append_response.last_index &&
               a->append_response.hint_term == b->append_response.hint_term &&
               a->append_response.rejected_index == b->append_response.rejected_index &&
               a->append_response.read_round == b->append_response.read_round &&
               a->append_response.cannot_lead == b->append_response.cannot_lead &&
               a->append_response.is_full == b->append_response.is_full;
    case RAFT_VOTE_REQUEST:
        return a->vote_request.last_index == b->vote_request.last_index &&
               a->vote_request.last_term == b->vote_request.last_term &&
               a->vote_request.for_term == b->vote_request.for_term &&
               a->vote_request.is_pre_vote == b->vote_request.is_pre_vote &&
               a->vote_request.is_transfer == b->vote_request.is_transfer;
    case RAFT_VOTE_RESPONSE:
        return a->vote_response.for_term == b->vote_response.for_term &&
               a->vote_response.is_pre_vote == b->vote_response.is_pre_vote &&
               a->vote_response.granted == b->vote_response.granted;
    case RAFT_TIMEOUT_NOW:
        return true;
    case RAFT_READ_REQUEST:
        return a->read_request.id == b->read_request.id;
    case RAFT_READ_RESPONSE:
        return a->read_response.id == b->read_response.id &&
               a->read_response.index == b->read_response.index &&
               a->read_response.confirmed == b->read_response.confirmed;
    }
    return false;
}

static inline bool is_same_message(const struct peer_message *a, const struct peer_message *b)
{
    if (a->kind != b->kind) {
        return false;
    }
    switch (a->kind) {
    case PEER_MESSAGE_RAFT:
        return is_same_raft(&a->raft, &b->raft);
    case PEER_MESSAGE_FORWARD_REQUEST:
        return a->forward_request.id == b->forward_request.id &&
               a->forward_request.timeout_ms == b->forward_request.timeout_ms &&
               bytes_equal(a->forward_request.command, b->forward_request.command);
    case PEER_MESSAGE_FORWARD_RESPONSE:
        return a->forward_response.id == b->forward_response.id &&
               a->forward_response.code == b->forward_response.code &&
               a->forward_response.index == b->forward_response.index &&
               bytes_equal(a->forward_response.result, b->forward_response.result);
    case PEER_MESSAGE_APPLY_HASH:
        return a->apply_hash.index == b->apply_hash.index &&
               a->apply_hash.hash == b->apply_hash.hash &&
               a->apply_hash.contents == b->apply_hash.contents;
    }
    return false;
}

#endif
