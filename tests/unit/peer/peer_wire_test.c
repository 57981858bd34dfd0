/* The wire format, held against the code that protobuf-c generates from the .proto file. */
#include "base/check.h"
#include "base/errors.h"
#include "base/random.h"
#include "peer/wire.h"
#include "peer_messages.h"
#include "phalanx/consensus.pb-c.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static const struct peer_header sample_header = {
    .format_version = PEER_FORMAT_VERSION,
    .command_format = 7,
    .from_node_id = {"node1", 5},
    .to_node_id = {"node-two", 8},
    .cluster_id = {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16},
    .incarnation = UINT64_C(0x1122334455667788),
    .membership_hash = UINT64_C(0x99aabbccddeeff00),
    .stream_id = 42,
    .is_fresh = true,
};

static const struct peer_sender sample_sender = {2, {"node1", 5}};

static void write_header(const struct peer_header *header, struct buf *out)
{
    uint8_t *room = buf_extend(out, peer_header_size(header));
    assert_non_null(room);
    peer_header_write(header, room);
}

static void write_batch(const struct peer_message *messages, size_t count, struct buf *out)
{
    buf_init(out, 0);
    write_header(&sample_header, out);
    for (size_t i = 0; i < count; i++) {
        assert_int_equal(peer_message_append(&messages[i], sample_header.from_node_id, out), 0);
    }
}

/* A batch read into arrays of its own size, so that the sanitizer sees every step beside them. */
struct read_batch {
    struct peer_batch batch;
    struct peer_message *messages;
    struct raft_entry *entries;
    const char *why;
};

static int read_all(struct bytes wire, struct read_batch *out)
{
    memset(out, 0, sizeof(*out));
    int rc = peer_batch_scan(wire, &out->batch);
    if (rc != 0) {
        return rc;
    }
    out->messages = malloc(out->batch.message_count * sizeof(*out->messages) + 1);
    out->entries = malloc(out->batch.entry_count * sizeof(*out->entries) + 1);
    return peer_batch_read(wire, &sample_sender, out->messages, out->entries, &out->why);
}

static void finish(struct read_batch *batch)
{
    free(batch->messages);
    free(batch->entries);
}

static void assert_same_header(const struct peer_header *a, const struct peer_header *b)
{
    assert_int_equal(a->format_version, b->format_version);
    assert_int_equal(a->command_format, b->command_format);
    assert_true(bytes_equal(a->from_node_id, b->from_node_id));
    assert_true(bytes_equal(a->to_node_id, b->to_node_id));
    assert_memory_equal(a->cluster_id, b->cluster_id, sizeof(a->cluster_id));
    assert_true(a->incarnation == b->incarnation);
    assert_true(a->membership_hash == b->membership_hash);
    assert_true(a->stream_id == b->stream_id);
    assert_int_equal(a->is_fresh, b->is_fresh);
}

static void test_every_kind_survives_the_wire(void **state)
{
    struct peer_message samples[SAMPLES_MAX];
    size_t count = make_samples(samples);
    struct buf wire;
    write_batch(samples, count, &wire);
    struct read_batch got;
    assert_int_equal(read_all(buf_bytes(&wire), &got), 0);
    assert_same_header(&got.batch.header, &sample_header);
    assert_int_equal(got.batch.message_count, count);
    assert_int_equal(got.batch.entry_count, 3);
    for (size_t i = 0; i < count; i++) {
        assert_true(is_same_message(&got.messages[i], &samples[i]));
        if (got.messages[i].kind == PEER_MESSAGE_RAFT) {
            assert_int_equal(got.messages[i].raft.peer, sample_sender.member);
        }
    }
    finish(&got);
    buf_finish(&wire);
}

static void assert_generated_append(const Phalanx__AppendEntriesRequest *request)
{
    assert_int_equal(request->term, 7);
    assert_string_equal(request->leader_id, "node1");
    assert_int_equal(request->prev_log_index, 1000);
    assert_int_equal(request->prev_log_term, 3);
    assert_int_equal(request->leader_commit, 999);
    assert_int_equal(request->read_round, 17);
    assert_int_equal(request->n_entries, 3);
    assert_int_equal(request->entries[2]->index, 1003);
    assert_int_equal(request->entries[2]->term, 4);
    assert_int_equal(request->entries[2]->entry_type, PHALANX__ENTRY_TYPE__CONFIG_CHANGE);
    assert_int_equal(request->entries[0]->data.len, 5);
    assert_memory_equal(request->entries[0]->data.data, "first", 5);
}

/* A field that is numbered wrongly on both of our sides would pass every other test. */
static void test_generated_code_reads_what_we_write(void **state)
{
    struct peer_message samples[SAMPLES_MAX];
    size_t count = make_samples(samples);
    struct buf wire;
    write_batch(samples, count, &wire);
    Phalanx__PeerBatch *batch = phalanx__peer_batch__unpack(NULL, wire.size, wire.data);
    assert_non_null(batch);
    assert_int_equal(batch->format_version, PEER_FORMAT_VERSION);
    assert_int_equal(batch->command_format, 7);
    assert_string_equal(batch->from_node_id, "node1");
    assert_string_equal(batch->to_node_id, "node-two");
    assert_int_equal(batch->cluster_id.len, CLUSTER_ID_BYTES);
    assert_true(batch->incarnation == sample_header.incarnation);
    assert_true(batch->membership_hash == sample_header.membership_hash);
    assert_int_equal(batch->stream_id, 42);
    assert_true(batch->is_fresh);
    assert_int_equal(batch->n_messages, count);
    assert_generated_append(batch->messages[0]->append_request);
    assert_true(batch->messages[2]->append_response->success);
    assert_int_equal(batch->messages[2]->append_response->read_round, 18);
    assert_int_equal(batch->messages[3]->append_response->hint_term, 6);
    assert_int_equal(batch->messages[3]->append_response->rejected_index, 7);
    assert_int_equal(batch->messages[3]->append_response->last_log_index, 5);
    assert_int_equal(batch->messages[4]->vote_request->term, 10);
    assert_true(batch->messages[4]->vote_request->is_pre_vote);
    assert_string_equal(batch->messages[4]->vote_request->candidate_id, "node1");
    assert_int_equal(batch->messages[5]->vote_request->last_log_index, 10);
    assert_int_equal(batch->messages[5]->vote_request->last_log_term, 8);
    assert_true(batch->messages[5]->vote_request->is_transfer);
    assert_true(batch->messages[6]->vote_response->vote_granted);
    assert_true(batch->messages[6]->vote_response->is_pre_vote);
    assert_int_equal(batch->messages[6]->vote_response->request_term, 10);
    assert_int_equal(batch->messages[7]->timeout_now->term, 11);
    assert_int_equal(batch->messages[8]->read_index_request->term, 12);
    assert_int_equal(batch->messages[9]->read_index_response->index, 13);
    assert_true(batch->messages[9]->read_index_response->confirmed);
    assert_int_equal(batch->messages[10]->forward_request->timeout_ms, 5000);
    assert_int_equal(batch->messages[11]->forward_response->code, -3);
    assert_int_equal(batch->messages[12]->forward_response->result.len, 6);
    assert_int_equal(batch->messages[13]->apply_hash->index, 20);
    assert_true(batch->messages[13]->apply_hash->hash == UINT64_C(0xfedcba9876543210));
    phalanx__peer_batch__free_unpacked(batch, NULL);
    buf_finish(&wire);
}

static void test_we_read_what_generated_code_writes(void **state)
{
    struct peer_message samples[SAMPLES_MAX];
    size_t count = make_samples(samples);
    struct buf wire;
    write_batch(samples, count, &wire);
    Phalanx__PeerBatch *batch = phalanx__peer_batch__unpack(NULL, wire.size, wire.data);
    assert_non_null(batch);
    size_t size = phalanx__peer_batch__get_packed_size(batch);
    uint8_t *packed = malloc(size);
    phalanx__peer_batch__pack(batch, packed);
    struct read_batch got;
    assert_int_equal(read_all((struct bytes){packed, size}, &got), 0);
    assert_same_header(&got.batch.header, &sample_header);
    assert_int_equal(got.batch.message_count, count);
    for (size_t i = 0; i < count; i++) {
        assert_true(is_same_message(&got.messages[i], &samples[i]));
    }
    finish(&got);
    free(packed);
    phalanx__peer_batch__free_unpacked(batch, NULL);
    buf_finish(&wire);
}

static void test_fields_of_the_future_are_ignored(void **state)
{
    struct peer_message sample = {.raft = {.kind = RAFT_TIMEOUT_NOW, .term = 5}};
    struct buf wire;
    write_batch(&sample, 1, &wire);
    /* Numbers 100: a varint, 8 bytes, a string, 4 bytes. */
    buf_append(&wire, "\xa0\x06\x01", 3);
    buf_append(&wire, "\xa1\x06\1\2\3\4\5\6\7\10", 10);
    buf_append(&wire, "\xa2\x06\x02hi", 5);
    buf_append(&wire, "\xa5\x06\1\2\3\4", 6);
    struct read_batch got;
    assert_int_equal(read_all(buf_bytes(&wire), &got), 0);
    assert_int_equal(got.batch.message_count, 1);
    assert_true(is_same_message(&got.messages[0], &sample));
    finish(&got);
    buf_finish(&wire);
}

static void test_a_batch_that_is_cut_is_never_read_beyond(void **state)
{
    struct peer_message samples[SAMPLES_MAX];
    size_t count = make_samples(samples);
    struct buf wire;
    write_batch(samples, count, &wire);
    for (size_t size = 0; size < wire.size; size++) {
        uint8_t *cut = malloc(size + 1); /* +1: malloc(0) */
        memcpy(cut + 1, wire.data, size);
        struct read_batch got;
        int rc = read_all((struct bytes){cut + 1, size}, &got);
        assert_true(rc == 0 || rc == ERR_INVALID);
        assert_true(got.batch.message_count < count);
        finish(&got);
        free(cut);
    }
    buf_finish(&wire);
}

/* Found by the fuzzer: a kind that is a number, whose bytes were never set. */
static void test_a_kind_that_is_no_message_is_refused(void **state)
{
    static const struct bytes wires[] = {
        {"\x4a\x02\x10\x07", 4},                       /* varint */
        {"\x4a\x09\x11\1\2\3\4\5\6\7\10", 11},         /* fixed64 */
        {"\x4a\x0b\xf9\xf6\x41\1\2\3\4\5\6\7\10", 13}, /* fixed64, an unknown number */
    };
    for (size_t i = 0; i < sizeof(wires) / sizeof(wires[0]); i++) {
        struct read_batch got;
        assert_int_equal(read_all(wires[i], &got), ERR_INVALID);
        finish(&got);
    }
}

static void test_random_damage_is_never_read_beyond(void **state)
{
    struct peer_message samples[SAMPLES_MAX];
    size_t count = make_samples(samples);
    struct buf wire;
    write_batch(samples, count, &wire);
    struct random random;
    random_seed(&random, 1);
    uint8_t *damaged = malloc(wire.size);
    for (int round = 0; round < 20000; round++) {
        memcpy(damaged, wire.data, wire.size);
        for (uint64_t i = 0; i <= random_below(&random, 4); i++) {
            damaged[random_below(&random, wire.size)] = (uint8_t)random_next(&random);
        }
        struct read_batch got;
        int rc = read_all((struct bytes){damaged, wire.size}, &got);
        assert_true(rc == 0 || rc == ERR_INVALID);
        finish(&got);
    }
    free(damaged);
    buf_finish(&wire);
}

static struct peer_message append_of(const struct raft_entry *entries, uint32_t count)
{
    return (struct peer_message){.raft = {.kind = RAFT_APPEND_REQUEST,
                                          .term = 1,
                                          .append_request = {.count = count, .entries = entries}}};
}

static void test_limits_are_checked_before_anything_is_read(void **state)
{
    struct raft_entry *entries = calloc(RAFT_APPEND_ENTRIES_MAX, sizeof(*entries));
    for (uint32_t i = 0; i < RAFT_APPEND_ENTRIES_MAX; i++) {
        entries[i] = (struct raft_entry){.term = 1, .data = "x", .size = 1};
    }
    struct peer_message message = append_of(entries, RAFT_APPEND_ENTRIES_MAX);
    struct buf wire;
    write_batch(&message, 1, &wire);
    struct read_batch got;
    assert_int_equal(read_all(buf_bytes(&wire), &got), 0);
    assert_int_equal(got.batch.entry_count, RAFT_APPEND_ENTRIES_MAX);
    finish(&got);
    buf_finish(&wire);

    /* One append request with one entry too many. */
    Phalanx__LogEntry one = PHALANX__LOG_ENTRY__INIT;
    Phalanx__LogEntry **list = malloc((RAFT_APPEND_ENTRIES_MAX + 1) * sizeof(Phalanx__LogEntry *));
    for (uint32_t i = 0; i <= RAFT_APPEND_ENTRIES_MAX; i++) {
        list[i] = &one;
    }
    Phalanx__AppendEntriesRequest request = PHALANX__APPEND_ENTRIES_REQUEST__INIT;
    request.entries = list;
    request.n_entries = RAFT_APPEND_ENTRIES_MAX + 1;
    size_t size = phalanx__append_entries_request__get_packed_size(&request);
    uint8_t *packed = malloc(size);
    phalanx__append_entries_request__pack(&request, packed);
    size_t count;
    assert_int_equal(peer_append_request_scan((struct bytes){packed, size}, &count), ERR_FULL);
    free(packed);
    free(list);

    struct peer_message small = {.raft = {.kind = RAFT_TIMEOUT_NOW, .term = 1}};
    write_batch(&small, 1, &wire);
    for (int i = 1; i <= PEER_BATCH_MESSAGES_MAX; i++) {
        assert_int_equal(peer_message_append(&small, sample_header.from_node_id, &wire), 0);
    }
    assert_int_equal(read_all(buf_bytes(&wire), &got), ERR_FULL);
    buf_finish(&wire);

    buf_init(&wire, 0);
    write_header(&sample_header, &wire);
    for (uint32_t i = 0; i <= PEER_BATCH_ENTRIES_MAX / RAFT_APPEND_ENTRIES_MAX; i++) {
        assert_int_equal(peer_message_append(&message, sample_header.from_node_id, &wire), 0);
    }
    assert_int_equal(read_all(buf_bytes(&wire), &got), ERR_FULL);
    buf_finish(&wire);
    free(entries);
}

static void test_a_full_buffer_stays_as_it_was(void **state)
{
    struct peer_message message = {.raft = {.kind = RAFT_TIMEOUT_NOW, .term = 1}};
    struct buf wire;
    buf_init(&wire, 10);
    assert_int_equal(peer_message_append(&message, sample_header.from_node_id, &wire), 0);
    size_t size = wire.size;
    assert_int_equal(peer_message_append(&message, sample_header.from_node_id, &wire), ERR_FULL);
    assert_int_equal(wire.size, size);
    assert_false(buf_failed(&wire));
    buf_finish(&wire);
}

static void assert_refused(const Phalanx__PeerMessage *message)
{
    Phalanx__PeerBatch batch = PHALANX__PEER_BATCH__INIT;
    Phalanx__PeerMessage *messages[1];
    memcpy(messages, &message, sizeof(message));
    batch.messages = messages;
    batch.n_messages = 1;
    size_t size = phalanx__peer_batch__get_packed_size(&batch);
    uint8_t *packed = malloc(size);
    phalanx__peer_batch__pack(&batch, packed);
    struct read_batch got;
    assert_int_equal(read_all((struct bytes){packed, size}, &got), ERR_INVALID);
    assert_true(got.why == NULL || got.why[0] != '\0');
    finish(&got);
    free(packed);
}

static char name_self[] = "node1";
static char name_other[] = "node3";

static void test_requests_that_no_node_of_ours_sends_are_refused(void **state)
{
    Phalanx__LogEntry entry = PHALANX__LOG_ENTRY__INIT;
    Phalanx__LogEntry *entries[2] = {&entry, &entry};
    Phalanx__AppendEntriesRequest append = PHALANX__APPEND_ENTRIES_REQUEST__INIT;
    append.leader_id = name_self;
    append.entries = entries;
    append.n_entries = 1;
    append.prev_log_index = 5;
    Phalanx__PeerMessage message = PHALANX__PEER_MESSAGE__INIT;
    assert_refused(&message); /* no kind */
    message.kind_case = PHALANX__PEER_MESSAGE__KIND_APPEND_REQUEST;
    message.append_request = &append;
    entry.index = 7; /* a gap */
    assert_refused(&message);
    entry.index = 6;
    append.n_entries = 2; /* the same index twice */
    assert_refused(&message);
    append.n_entries = 1;
    entry.entry_type = 2;
    assert_refused(&message);
    entry.entry_type = 0;
    append.leader_id = name_other;
    assert_refused(&message);
    append.leader_id = name_self;
    append.n_entries = 0;
    append.prev_log_index = UINT64_MAX;
    assert_refused(&message);

    Phalanx__RequestVoteRequest vote = PHALANX__REQUEST_VOTE_REQUEST__INIT;
    vote.candidate_id = name_self;
    vote.is_pre_vote = true;
    message.kind_case = PHALANX__PEER_MESSAGE__KIND_VOTE_REQUEST;
    message.vote_request = &vote;
    assert_refused(&message); /* term 0 */
    vote.term = 1;
    vote.candidate_id = name_other;
    assert_refused(&message);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_kind_survives_the_wire),
        cmocka_unit_test(test_generated_code_reads_what_we_write),
        cmocka_unit_test(test_we_read_what_generated_code_writes),
        cmocka_unit_test(test_fields_of_the_future_are_ignored),
        cmocka_unit_test(test_a_batch_that_is_cut_is_never_read_beyond),
        cmocka_unit_test(test_a_kind_that_is_no_message_is_refused),
        cmocka_unit_test(test_random_damage_is_never_read_beyond),
        cmocka_unit_test(test_limits_are_checked_before_anything_is_read),
        cmocka_unit_test(test_a_full_buffer_stays_as_it_was),
        cmocka_unit_test(test_requests_that_no_node_of_ours_sends_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
