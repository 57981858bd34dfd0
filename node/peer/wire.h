/* The wire format of the peers: PeerBatch of proto/phalanx/consensus.proto, written and read in
 * place.
 *
 * Written by hand, because every replicated entry passes here: protobuf-c makes an allocation per
 * entry and per payload. Here a batch is one allocation, and payloads are views into it. The tests
 * compare both with the generated code. */
#ifndef RAFTOGRAM_PEER_WIRE_H
#define RAFTOGRAM_PEER_WIRE_H

#include "base/buf.h"
#include "base/cluster.h"
#include "peer/transport.h"

#include <stdbool.h>
#include <stdint.h>

#define PEER_FORMAT_VERSION 1
#define PEER_LISTEN_ADDR_BYTES_MAX 272

/* The sender's part of every batch. When read, its bytes are views into the batch. */
struct peer_header {
    uint32_t format_version;
    struct bytes from_node_id;
    struct bytes to_node_id;
    uint8_t cluster_id[CLUSTER_ID_BYTES]; /* all zero: no cluster yet */
    uint64_t incarnation;
    uint64_t membership_hash;
    uint64_t stream_id;
    uint64_t process;         /* 0: an older version */
    struct bytes listen_addr; /* at most PEER_LISTEN_ADDR_BYTES_MAX */
    bool is_fresh;
    uint32_t command_format; /* newest one that the sender understands; older versions: 1 */
};

/* Returns the header's size, which depends only on the lengths of node ids and address. */
size_t peer_header_size(const struct peer_header *header);
/* Writes peer_header_size() bytes. A batch is a header, followed by any number of messages. */
void peer_header_write(const struct peer_header *header, uint8_t *out);

/* Appends the message as one element of the batch. `self_id` is the sender's node id.
 * Errors: ERR_FULL (over the buffer's max_bytes, or out of memory; the buffer is unchanged). */
int peer_message_append(const struct peer_message *message, struct bytes self_id, struct buf *out);

/* Fills in the checksum of the whole batch, `size` bytes, of which the first peer_header_size() are
 * the header. TCP's checksum misses some corrupted packets, and a proxy that corrupts bytes
 * computes it again. Without this checksum a corrupted vote or entry would be accepted. */
void peer_batch_seal(uint8_t *wire, size_t size, size_t header_size);

/* The contents of a batch, without the fields of its messages. */
struct peer_batch {
    struct peer_header header;
    uint64_t checksum; /* 0: none (an older version, or not sealed) */
    size_t checksum_offset;
    size_t message_count;
    size_t entry_count; /* over all append requests */
};

/* Errors: ERR_INVALID (malformed), ERR_FULL (over PEER_BATCH_MESSAGES_MAX, PEER_BATCH_ENTRIES_MAX
 * or RAFT_APPEND_ENTRIES_MAX). */
int peer_batch_scan(struct bytes wire, struct peer_batch *out);
/* Returns whether the batch is as it was sealed; true without a checksum. */
bool peer_batch_is_sound(struct bytes wire, const struct peer_batch *batch);

/* The sender of a batch. Messages that name another node are malformed. */
struct peer_sender {
    raft_member member;
    struct bytes node_id;
};

/* Reads the messages into arrays of the sizes that peer_batch_scan() counted. Payloads are views
 * into `wire`. On error, `why` says what was wrong.
 * Errors: ERR_INVALID. */
int peer_batch_read(struct bytes wire, const struct peer_sender *sender,
                    struct peer_message *messages, struct raft_entry *entries, const char **why);

/* Counts the entries of a unary request in protobuf. Errors: as peer_batch_scan(). */
int peer_append_request_scan(struct bytes wire, size_t *entry_count);
/* Accepts any sender and any entry indexes. `node_id` is the sender that the request names.
 * Errors: ERR_INVALID. */
int peer_append_request_read(struct bytes wire, struct raft_message *out,
                             struct raft_entry *entries, struct bytes *node_id, const char **why);
int peer_vote_request_read(struct bytes wire, struct raft_message *out, struct bytes *node_id,
                           const char **why);

#endif
