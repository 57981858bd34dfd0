/* What the files of this module share: peer.c (the whole), link.c (our stream to each other node),
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
/* A sender gives a sign after so long; a receiver of none takes the stream for lost. The largest
 * batch passes a slow link within that time. */
#define STREAM_SIGN_NS NS_PER_S
#define STREAM_SILENCE_NS (10 * NS_PER_S)

struct peer_link;
struct peer_stream;

struct peer_counters {
    atomic_uint_fast64_t messages_sent;
    atomic_uint_fast64_t messages_dropped;
    atomic_uint_fast64_t connects;
};

struct peer_member {
    char *node_id;
    char *raft_addr;
};

struct peer_sending;
struct peer_receiving;

/* Why a stream is refused; code 0: it is not. */
struct peer_refusal {
    int code;
    bool wants_cluster_id; /* that is all that it lacks */
    char text[REASON_BYTES_MAX];
};

/* Of one peer's streams to us; on the loop's thread, but for what peer->lock guards. */
struct peer_incoming_side {
    struct peer *peer;
    struct peer_stream *stream; /* NULL when there is none */
    /* Of another process with the same node id: waits for a sign of life on `stream`, by which it
     * is refused. NULL when there is none. */
    struct peer_stream *challenger;
    uint64_t epoch;
    struct log_limit refusals;
    struct log_limit news;
    /* With peer->lock. */
    uint8_t said_cluster_id[RAFT_CLUSTER_ID_BYTES]; /* on its newest stream */
    struct peer_receiving *receiving;               /* the newest */
    uint64_t snapshot_epoch;
};

struct peer {
    struct transport transport;
    struct rpc_loop *loop;
    struct rpc_server *server;
    struct peer_receiver receiver;
    struct peer_member members[RAFT_MEMBERS_MAX];
    int member_count;
    raft_member self;
    uint64_t incarnation;
    uint64_t process; /* random, of this process */
    char *listen_addr;
    uint64_t membership_hash;
    uint32_t election_timeout_ms;
    struct peer_link *links[RAFT_MEMBERS_MAX]; /* NULL for ourselves */
    struct peer_sending *sendings[RAFT_MEMBERS_MAX];
    struct peer_incoming_side incoming_sides[RAFT_MEMBERS_MAX];
    struct log_limit stranger_refusals;
    struct log_limit rivals;
    uint64_t swept_ns; /* when streams were looked after; the loop's thread */
    struct peer_counters counters;
    atomic_bool is_stopping;
    bool is_stopped;
    pthread_mutex_t lock; /* all below */
    uint8_t cluster_id[RAFT_CLUSTER_ID_BYTES];
    bool is_fresh;
    struct list incoming; /* struct peer_incoming: calls that are not closed */
};

/* ---- identity.c ---- */

/* The header of our batches to `to`, as of now. The cluster id is ours, or else the one that `to`
 * has told us. */
struct peer_header peer_header_to(struct peer *peer, raft_member to, uint64_t stream_id);
/* All zero when there is none. */
void peer_get_cluster_id(struct peer *peer, uint8_t *out);
struct bytes peer_node_id(const struct peer *peer, raft_member member);
/* RAFT_NO_MEMBER when there is none. */
raft_member peer_find_member(const struct peer *peer, struct bytes node_id);

/* `from` is the sender as far as it is known. */
void peer_check_header(struct peer *peer, const struct peer_header *header, raft_member from,
                       struct peer_refusal *refusal);
void peer_refuse(struct peer_refusal *refusal, int code, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* What came over the wire, cut and made printable. */
struct peer_shown {
    char text[PEER_LISTEN_ADDR_BYTES_MAX + 1];
};

struct peer_shown peer_show(struct bytes bytes);

/* ---- report.c ---- */

/* Posts an event without messages. On the loop's thread. */
void peer_post_plain(struct peer *peer, const struct peer_event *event);
/* A line about others' doings, unless there were too many. */
void peer_warn(struct log_limit *limit, const char *what, const char *node_id, const char *address,
               const char *reason);

/* ---- incoming calls: incoming.c ---- */

/* What streams and queries have in common. Embedded first; freed by the last reference. */
struct peer_incoming {
    struct list link; /* in peer->incoming, with peer->lock */
    struct peer *peer;
    uint64_t begun_ns;
    uint64_t greeting_ns_max; /* how long it may take to say what it wants */
    atomic_bool has_greeted;
    atomic_uint references;
    pthread_mutex_t lock;
    struct rpc_call *call; /* NULL once closed */
    void (*destroy)(struct peer_incoming *incoming);
};

/* With one reference, which peer_incoming_end() drops. */
void peer_incoming_begin(struct peer_incoming *incoming, struct peer *peer, struct rpc_call *call,
                         const struct rpc_call_events *events);
/* From on_closed: nobody uses the call after it. */
void peer_incoming_end(struct peer_incoming *incoming);
void peer_incoming_ref(struct peer_incoming *incoming);
void peer_incoming_unref(struct peer_incoming *incoming);

void peer_call_refuse(struct rpc_call *call, int code, const char *reason);

/* ---- links: link.c ---- */

/* Errors: ERR_NOMEM. */
int peer_link_create(struct peer *peer, raft_member member, struct peer_link **out);
void peer_link_start(struct peer_link *link);
/* The peer has been heard: dials at once instead of waiting for the next try. On the loop's thread.
 */
void peer_link_hurry(struct peer_link *link);
/* The peer does not know our cluster's id: tells it, by a batch without messages if the stream
 * stands, else by dialling. On the loop's thread. */
void peer_link_tell_cluster_id(struct peer_link *link);
/* rpc_name_target() of the peer. On the loop's thread. */
bool peer_link_target(struct peer_link *link, char target[RPC_TARGET_BYTES_MAX], char *reason);
/* Sends a batch if none has gone for STREAM_SIGN_NS: the peer hears that the stream passes them. On
 * the loop's thread. */
void peer_link_give_sign(struct peer_link *link, uint64_t now_ns);
/* Ends the stream, so that another one begins with what the header says then. */
void peer_link_redial(struct peer_link *link);
/* As transport_ops says. */
int peer_link_send(struct peer_link *link, const struct peer_message *message);
void peer_link_flush(struct peer_link *link);
/* Ends the stream and waits for it; no event is posted afterwards. After peer->is_stopping. */
void peer_link_stop(struct peer_link *link);
/* When the loop is gone. Accepts NULL. */
void peer_link_destroy(struct peer_link *link);

/* ---- servers: stream.c, query.c ---- */

/* Whether a snapshot's sender is the process that the stream of `from` is of, if there is one. */
bool peer_stream_is_of_sender(struct peer *peer, raft_member from,
                              const struct peer_header *header);
void peer_stream_accept(struct peer *peer, struct rpc_call *call);
/* Ends a stream on which no whole batch has come for STREAM_SILENCE_NS although its sender gives
 * signs. A length that was changed on the way makes gRPC wait for bytes of a message that never
 * was: it takes all that follows for a part of it, and answers pings. `is_late`: this node was
 * stopped. */
void peer_stream_look_after(struct peer_stream *stream, uint64_t now_ns, bool is_late);
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
