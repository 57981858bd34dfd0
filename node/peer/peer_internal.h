/* What the files of this module share: peer.c (the whole), link.c (the stream to each other node),
 * stream.c (their streams to us), query.c (the unary calls), sending.c and receiving.c (snapshots).
 * Below them: identity.c, incoming.c, report.c, wire.c.
 *
 * Locks: a link's or an incoming call's own lock may be held when peer->lock is taken, never the
 * other way round. Events are posted without any of them, from the loop's thread only. */
#ifndef RAFTOGRAM_PEER_INTERNAL_H
#define RAFTOGRAM_PEER_INTERNAL_H

#include "base/log_limit.h"
#include "base/random.h"
#include "peer/peer.h"
#include "peer/wire.h"
#include "rpc/name.h"

#include <pthread.h>
#include <stdatomic.h>

#define STREAM_PATH "/phalanx.Consensus/Stream"
#define APPEND_ENTRIES_PATH "/phalanx.Consensus/AppendEntries"
#define SNAPSHOT_PATH "/phalanx.Consensus/Snapshot"
#define REQUEST_VOTE_PATH "/phalanx.Consensus/RequestVote"

#define REASON_BYTES_MAX 512
/* A sender that has nothing to send sends a batch without messages after STREAM_SIGN_NS. A receiver
 * ends a stream on which no batch came for STREAM_SILENCE_NS. The largest batch passes a slow link
 * within that time. */
#define STREAM_SIGN_NS NS_PER_S
#define STREAM_SILENCE_NS (10 * NS_PER_S)

struct peer_link;
struct peer_stream;

struct peer_counters {
    atomic_uint_fast64_t messages_sent;
    atomic_uint_fast64_t messages_dropped;
    atomic_uint_fast64_t connects;
};

struct peer_sending;
struct peer_receiving;

/* Why a stream is refused. Code 0: it is accepted. */
struct peer_refusal {
    int code;
    bool wants_cluster_id; /* nothing else is wrong */
    char text[REASON_BYTES_MAX];
};

/* The streams of one peer to this node. Used on the loop's thread, except for what peer->lock
 * guards. */
struct peer_incoming_side {
    struct peer *peer;
    struct peer_stream *stream; /* NULL: none */
    /* The stream of another process with the same node id. It waits: the next batch on `stream`
     * refuses it. NULL: none. */
    struct peer_stream *challenger;
    uint64_t epoch;
    struct log_limit refusals;
    struct log_limit news;
    /* Guarded by peer->lock. */
    uint8_t said_cluster_id[CLUSTER_ID_BYTES]; /* named on its newest stream */
    struct peer_receiving *receiving;          /* the newest one */
    uint64_t snapshot_epoch;
};

struct peer {
    struct transport transport;
    struct rpc_loop *loop;
    struct rpc_server *server;
    struct peer_receiver receiver;
    const struct cluster_member *members;
    int member_count;
    raft_member self;
    uint64_t incarnation;
    uint64_t process; /* random, identifies this process */
    char *listen_addr;
    uint64_t membership_hash;
    uint32_t command_format;
    uint32_t election_timeout_ms;
    struct peer_link *links[CLUSTER_MEMBERS_MAX]; /* NULL for this node */
    struct peer_sending *sendings[CLUSTER_MEMBERS_MAX];
    struct peer_incoming_side incoming_sides[CLUSTER_MEMBERS_MAX];
    struct log_limit stranger_refusals;
    struct log_limit rivals;
    uint64_t swept_ns; /* when streams were last checked; loop's thread */
    struct peer_counters counters;
    atomic_bool is_stopping;
    bool is_stopped;
    pthread_mutex_t lock; /* guards all below */
    uint8_t cluster_id[CLUSTER_ID_BYTES];
    bool is_fresh;
    struct list incoming; /* of struct peer_incoming: calls that are not closed */
};

/* ---- identity.c ---- */

/* Returns the current header of batches to `to`. Its cluster id is this node's, or, before this
 * node has one, the id that `to` named. */
struct peer_header peer_header_to(struct peer *peer, raft_member to, uint64_t stream_id);
/* Copies the cluster id; all zero before there is one. */
void peer_get_cluster_id(struct peer *peer, uint8_t *out);
struct bytes peer_node_id(const struct peer *peer, raft_member member);
/* Returns RAFT_NO_MEMBER for an unknown node id. */
raft_member peer_find_member(const struct peer *peer, struct bytes node_id);

/* Checks whether a header from another node is acceptable. `from` is the sender, or
 * RAFT_NO_MEMBER. */
void peer_check_header(struct peer *peer, const struct peer_header *header, raft_member from,
                       struct peer_refusal *refusal);
void peer_refuse(struct peer_refusal *refusal, int code, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* Text from the wire, cut to size and made printable. */
struct peer_shown {
    char text[PEER_LISTEN_ADDR_BYTES_MAX + 1];
};

struct peer_shown peer_show(struct bytes bytes);

/* ---- report.c ---- */

/* Posts an event without messages. On the loop's thread. */
void peer_post_plain(struct peer *peer, const struct peer_event *event);
/* Logs a warning about another node, within `limit`. */
void peer_warn(struct log_limit *limit, const char *what, const char *node_id, const char *address,
               const char *reason);

/* ---- incoming calls: incoming.c ---- */

/* What streams, snapshots and queries have in common. It is their first member. The last reference
 * frees it. */
struct peer_incoming {
    struct list link; /* in peer->incoming; guarded by peer->lock */
    struct peer *peer;
    uint64_t begun_ns;
    uint64_t greeting_ns_max; /* time until its first message is due */
    atomic_bool has_greeted;
    atomic_uint references;
    pthread_mutex_t lock;
    struct rpc_call *call; /* NULL after the call closed */
    void (*destroy)(struct peer_incoming *incoming);
};

/* Begins the call with one reference, which peer_incoming_end() drops. */
void peer_incoming_begin(struct peer_incoming *incoming, struct peer *peer, struct rpc_call *call,
                         const struct rpc_call_events *events);
/* Called by on_closed. The call is not used afterwards. */
void peer_incoming_end(struct peer_incoming *incoming);
void peer_incoming_ref(struct peer_incoming *incoming);
void peer_incoming_unref(struct peer_incoming *incoming);

void peer_call_refuse(struct rpc_call *call, int code, const char *reason);

/* ---- links: link.c ---- */

/* Errors: ERR_NOMEM. */
int peer_link_create(struct peer *peer, raft_member member, struct peer_link **out);
void peer_link_start(struct peer_link *link);
/* Dials at once instead of at the next try, since the peer was heard. Loop's thread. */
void peer_link_hurry(struct peer_link *link);
/* Tells the peer the cluster id: by a batch without messages if the stream is up, else by dialling.
 * Loop's thread. */
void peer_link_tell_cluster_id(struct peer_link *link);
/* rpc_name_target() of the peer. Loop's thread. */
bool peer_link_target(struct peer_link *link, char target[RPC_TARGET_BYTES_MAX], char *reason);
/* Sends a batch, also without messages, if none was sent for STREAM_SIGN_NS, so that the peer sees
 * that the stream works. Loop's thread. */
void peer_link_give_sign(struct peer_link *link, uint64_t now_ns);
/* Ends the stream. The next one begins with the header as it is then. */
void peer_link_redial(struct peer_link *link);
/* As transport_ops says. */
int peer_link_send(struct peer_link *link, const struct peer_message *message);
void peer_link_flush(struct peer_link *link);
/* Ends the stream and waits for its end. No event is posted afterwards. Requires
 * peer->is_stopping. */
void peer_link_stop(struct peer_link *link);
/* Called after the loop's end. Accepts NULL. */
void peer_link_destroy(struct peer_link *link);

/* ---- servers: stream.c, query.c ---- */

/* Returns whether a snapshot comes from the same process as the stream of `from`; true without a
 * stream. */
bool peer_stream_is_of_sender(struct peer *peer, raft_member from,
                              const struct peer_header *header);
void peer_stream_accept(struct peer *peer, struct rpc_call *call);
/* Ends a stream on which no whole batch came for STREAM_SILENCE_NS. If a length is corrupted in
 * transit, gRPC takes all later bytes for a part of that message and still answers pings.
 * `is_late`: this node did not run for a while. */
void peer_stream_check(struct peer_stream *stream, uint64_t now_ns, bool is_late);
void peer_query_accept(struct peer *peer, struct rpc_call *call, enum raft_message_kind kind);

/* ---- snapshots: sending.c, receiving.c ---- */

/* Errors: ERR_NOMEM. */
int peer_sending_create(struct peer *peer, raft_member member, struct peer_sending **out);
/* As transport_ops says. */
int peer_sending_open(struct peer_sending *sending, uint64_t epoch, raft_term term,
                      struct bytes manifest);
void peer_sending_chunk(struct peer_sending *sending, uint64_t epoch, uint32_t chunk,
                        struct bytes data);
void peer_sending_close(struct peer_sending *sending, uint64_t epoch);
/* As the functions of links. */
void peer_sending_stop(struct peer_sending *sending);
void peer_sending_destroy(struct peer_sending *sending);

void peer_receiving_accept(struct peer *peer, struct rpc_call *call);
void peer_receiving_answer(struct peer *peer, raft_member from, uint64_t epoch,
                           const struct peer_snapshot_answer *answer);

#endif
