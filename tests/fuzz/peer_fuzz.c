/* The peers' wire format over any bytes: as a batch and as the unary requests.
 * Beyond not crashing: views stay inside the batch, and what reads is written to a batch that reads
 * the same. The file is included, since the rest of its module needs a network. */
#include "peer/wire.c"

#include "unit/peer/peer_messages.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct read_batch {
    struct peer_batch batch;
    struct peer_message *messages;
    struct raft_entry *entries;
};

/* Into arrays of just the size that was counted. */
static int read_batch(struct bytes wire, struct read_batch *out)
{
    memset(out, 0, sizeof(*out));
    int rc = peer_batch_scan(wire, &out->batch);
    if (rc != 0) {
        CHECK(rc == ERR_INVALID || rc == ERR_FULL);
        return rc;
    }
    out->messages = malloc(out->batch.message_count * sizeof(*out->messages) + 1);
    out->entries = malloc(out->batch.entry_count * sizeof(*out->entries) + 1);
    const struct peer_sender sender = {1, out->batch.header.from_node_id};
    const char *why = "";
    rc = peer_batch_read(wire, &sender, out->messages, out->entries, &why);
    CHECK(rc == 0 || (rc == ERR_INVALID && why[0] != '\0'));
    return rc;
}

static void finish_batch(struct read_batch *batch)
{
    free(batch->messages);
    free(batch->entries);
}

static void check_round_trip(const struct read_batch *first)
{
    struct buf wire;
    buf_init(&wire, 0);
    struct peer_header header = first->batch.header;
    header.format_version = PEER_FORMAT_VERSION;
    peer_header_write(&header, buf_extend(&wire, peer_header_size(&header)));
    for (size_t i = 0; i < first->batch.message_count; i++) {
        CHECK(peer_message_append(&first->messages[i], header.from_node_id, &wire) == 0);
    }
    struct read_batch second;
    CHECK(read_batch(buf_bytes(&wire), &second) == 0);
    CHECK(second.batch.message_count == first->batch.message_count);
    CHECK(second.batch.entry_count == first->batch.entry_count);
    CHECK(second.batch.header.incarnation == header.incarnation);
    for (size_t i = 0; i < first->batch.message_count; i++) {
        CHECK(is_same_message(&first->messages[i], &second.messages[i]));
    }
    finish_batch(&second);
    buf_finish(&wire);
}

static void read_unary(struct bytes wire)
{
    struct raft_message message;
    struct bytes node_id;
    const char *why;
    size_t count;
    if (peer_append_request_scan(wire, &count) == 0) {
        struct raft_entry *entries = malloc(count * sizeof(*entries) + 1);
        if (peer_append_request_read(wire, &message, entries, &node_id, &why) == 0) {
            CHECK(message.append_request.count == count);
        }
        free(entries);
    }
    (void)peer_vote_request_read(wire, &message, &node_id, &why);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct bytes wire = {data, size};
    struct read_batch batch;
    if (read_batch(wire, &batch) == 0) {
        check_round_trip(&batch);
    }
    finish_batch(&batch);
    read_unary(wire);
    return 0;
}
