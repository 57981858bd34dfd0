/* The wire format of the peers: PeerBatch of proto/phalanx/consensus.proto, written and read in
 * place.
 *
 * By hand and not by protobuf-c, because this is the path of every replicated entry: protobuf-c
 * takes an allocation per entry and per payload, here a batch is one allocation and payloads are
 * views into it. The tests hold both against the generated code. */
#ifndef RAFTOGRAM_PEER_WIRE_H
#define RAFTOGRAM_PEER_WIRE_H

#include "base/buf.h"
#include "peer/transport.h"

#include <stdbool.h>
#include <stdint.h>

#define PEER_FORMAT_VERSION 1
#define PEER_NODE_ID_BYTES_MAX 256
#define PEER_LISTEN_ADDR_BYTES_MAX 272

/* What every batch says about its sender. Views into the batch when read. */
struct peer_header {
    uint32_t format_version;
    struct bytes from_node_id;
    struct bytes to_node_id;
    uint8_t cluster_id[RAFT_CLUSTER_ID_BYTES]; /* all zero: not founded */
    uint64_t incarnation;
    uint64_t membership_hash;
    uint64_t stream_id;
    uint64_t process;         /* 0: of an older version */
    struct bytes listen_addr; /* at most PEER_LISTEN_ADDR_BYTES_MAX */
    bool is_fresh;
};

/* How many bytes the header takes: depends on the lengths of node ids and address only. */
size_t peer_header_size(const struct peer_header *header);
/* Writes peer_header_size() bytes. A batch is a header and any number of messages behind it. */
void peer_header_write(const struct peer_header *header, uint8_t *out);

/* Appends the message as one element of the batch. `self_id` is the sender's node id.
 * Errors: ERR_FULL (over the buffer's max_bytes, or no memory; the buffer is as it was). */
int peer_message_append(const struct peer_message *message, struct bytes self_id, struct buf *out);

/* Fills in the checksum of the whole batch, `size` bytes, of which the first peer_header_size() are
 * the header. TCP's own sum lets one changed packet in many through, and what lies between two
 * nodes may change bytes and make the sum right again: a vote or an entry that was changed on the
 * way would be taken for true. */
void peer_batch_seal(uint8_t *wire, size_t size, size_t header_size);

/* What is in a batch, without a look into its messages' fields. */
struct peer_batch {
    struct peer_header header;
    uint64_t checksum; /* 0: none; an older version, or not sealed */
    size_t checksum_offset;
    size_t message_count;
    size_t entry_count; /* over all append requests */
};

/* Errors: ERR_INVALID (malformed), ERR_FULL (over PEER_BATCH_MESSAGES_MAX, PEER_BATCH_ENTRIES_MAX
 * or RAFT_APPEND_ENTRIES_MAX). */
int peer_batch_scan(struct bytes wire, struct peer_batch *out);
/* What was scanned is what was sealed. */
bool peer_batch_is_sound(struct bytes wire, const struct peer_batch *batch);

/* Who sent it: messages that name another are malformed. */
struct peer_sender {
    raft_member member;
    struct bytes node_id;
};

/* Reads the messages into arrays that have the room that peer_batch_scan() found. Payloads are
 * views into `wire`. `why` tells what was wrong, on error.
 * Errors: ERR_INVALID. */
int peer_batch_read(struct bytes wire, const struct peer_sender *sender,
                    struct peer_message *messages, struct raft_entry *entries, const char **why);

/* The unary requests, in protobuf: entries of `wire` that it has. Errors: as peer_batch_scan(). */
int peer_append_request_scan(struct bytes wire, size_t *entry_count);
/* Takes anybody as the sender and entries under any index: `node_id` is what the request says.
 * Errors: ERR_INVALID. */
int peer_append_request_read(struct bytes wire, struct raft_message *out,
                             struct raft_entry *entries, struct bytes *node_id, const char **why);
int peer_vote_request_read(struct bytes wire, struct raft_message *out, struct bytes *node_id,
                           const char **why);

#endif
