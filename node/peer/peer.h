/* The transport over gRPC: phalanx.Consensus on raft_bind_addr, and a stream of our own to each
 * peer.
 *
 * A stream of another cluster, membership, format or node id is refused with a log line on both
 * sides that says how it differs; so is one that names no cluster, once this node's is known: a new
 * node hears the id at its raft_addr. A second stream from the same process replaces the first; one
 * from another process with the same node id is refused while the first gives signs of life.
 * Reconnects by itself: at once after a loss or when the peer dials us, else after 50 ms to 1 s
 * with jitter; a peer that is down costs the others nothing.
 *
 * The unary AppendEntries and RequestVote of the reference document are answered by QUERY events,
 * in protobuf and JSON (snake_case), and change nothing. */
#ifndef RAFTOGRAM_PEER_PEER_H
#define RAFTOGRAM_PEER_PEER_H

#include "peer/transport.h"
#include "rpc/rpc.h"

struct peer_address {
    const char *node_id;
    const char *raft_addr;
};

struct peer_options {
    const char *bind_addr;
    const struct peer_address
        *members; /* sorted by node id bytewise: index = raft_member; copied */
    int member_count;
    raft_member self;
    uint64_t incarnation;
    bool is_fresh;
    uint8_t cluster_id[RAFT_CLUSTER_ID_BYTES]; /* all zero: not founded */
    uint32_t election_timeout_ms;              /* keepalive and connect timeouts derive from it */
    struct rpc_loop *loop; /* shared, must outlive the peer; NULL: one of its own */
    struct peer_receiver receiver;
    struct listen_fault *fault; /* NULL, or gets the reason why it cannot listen */
};

struct peer;

/* Listens; nothing is dialled before peer_start().
 * Errors: ERR_BUSY, ERR_ACCESS, ERR_INVALID (bind_addr cannot be bound, with `fault`), ERR_NOMEM.
 */
int peer_create(const struct peer_options *options, struct peer **out);
void peer_start(struct peer *peer);
struct transport *peer_transport(struct peer *peer);
/* The port that is listened on (bind port 0). */
int peer_port(const struct peer *peer);
/* Ends all streams; waits until no event will be posted any more. Events that are not released yet
 * may be released (and queries answered, in vain) at any time later, also after peer_destroy(). */
void peer_stop(struct peer *peer);
void peer_destroy(struct peer *peer); /* accepts NULL */

/* Hash of the sorted node ids: nodes of another membership refuse each other. */
uint64_t peer_membership_hash(const struct peer_address *members, int member_count);

/* Since the start, over all peers. */
struct peer_stats {
    uint64_t messages_sent;    /* Raft's */
    uint64_t messages_dropped; /* of any kind: the peer does not take them fast enough */
    uint64_t connects;         /* streams of ours that came to stand */
};
/* Any thread. */
void peer_get_stats(const struct peer *peer, struct peer_stats *out);

#endif
