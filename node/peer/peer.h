/* The transport over gRPC: serves phalanx.Consensus on raft_bind_addr and opens one stream to each
 * peer.
 *
 * A stream of another cluster, membership, format or node id is refused. Both sides log how it
 * differs. Once this node knows its cluster, a stream that names none is refused too: a new node
 * receives the id at its raft_addr. A second stream from the same process replaces the first. One
 * from another process with the same node id is refused while the first is alive. A lost stream is
 * dialled again at once, and also when the peer dials this node; later tries follow after 50 ms to
 * 1 s with jitter. A peer that is down does not affect the others.
 *
 * The unary AppendEntries and RequestVote of the reference document become QUERY events. They are
 * answered in protobuf or JSON (snake_case) and change no state. */
#ifndef RAFTOGRAM_PEER_PEER_H
#define RAFTOGRAM_PEER_PEER_H

#include "base/cluster.h"
#include "peer/transport.h"
#include "rpc/rpc.h"

struct peer_options {
    const char *bind_addr;
    const struct cluster_member *members; /* must outlive the peer */
    int member_count;
    raft_member self;
    uint64_t incarnation;
    bool is_fresh;
    uint8_t cluster_id[CLUSTER_ID_BYTES]; /* all zero: not founded */
    uint32_t command_format;              /* newest format of commands that this node understands */
    uint32_t election_timeout_ms;         /* keepalive and dial timeouts derive from it */
    struct rpc_loop *loop;                /* shared, must outlive the peer; NULL: creates its own */
    struct peer_receiver receiver;
    struct listen_fault *fault; /* NULL, or receives why listening failed */
};

struct peer;

/* Listens. Dials no peer before peer_start().
 * Errors: ERR_BUSY, ERR_ACCESS, ERR_INVALID (bind_addr cannot be bound; see `fault`), ERR_NOMEM. */
int peer_create(const struct peer_options *options, struct peer **out);
void peer_start(struct peer *peer);
struct transport *peer_transport(struct peer *peer);
/* Returns the port that it listens on. */
int peer_port(const struct peer *peer);
/* Ends all streams and waits until no more event is posted. Events may be released, and queries
 * answered without effect, at any later time, also after peer_destroy(). */
void peer_stop(struct peer *peer);
void peer_destroy(struct peer *peer); /* accepts NULL */

/* Returns a hash of the sorted node ids. Nodes of different memberships refuse each other. */
uint64_t peer_membership_hash(const struct cluster_member *members, int member_count);

/* Counters since the start, over all peers. */
struct peer_stats {
    uint64_t messages_sent;    /* Raft messages */
    uint64_t messages_dropped; /* messages of any kind, dropped because the peer's queue was full */
    uint64_t connects;         /* streams to peers that were established */
};
/* Any thread. */
void peer_get_stats(const struct peer *peer, struct peer_stats *out);

#endif
