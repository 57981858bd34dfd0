/* What the files of this room share: peer.c (the whole), peer_dial.c (links: our streams to
 * others), peer_server.c (streams: theirs to us), peer_query.c (the unary calls).
 *
 * Locks: a link's or an incoming call's own lock may be held when peer->lock is taken, never the
 * other way round. Events are posted without any of them, from the loop's thread only. */
#ifndef RAFTOGRAM_PEER_INTERNAL_H
#define RAFTOGRAM_PEER_INTERNAL_H

#include "base/random.h"
#include "peer/peer.h"
#include "peer/peer_wire.h"

#include <pthread.h>
#include <stdatomic.h>

#define STREAM_PATH "/phalanx.Consensus/Stream"
#define APPEND_ENTRIES_PATH "/phalanx.Consensus/AppendEntries"
#define SNAPSHOT_PATH "/phalanx.Consensus/Snapshot"
#define REQUEST_VOTE_PATH "/phalanx.Consensus/RequestVote"

#define REASON_BYTES_MAX 512

struct peer_link;
struct peer_stream;

/* Keeps a repeated reason out of the log: it is written when it changes, else once a minute. */
struct log_limit {
    char text[REASON_BYTES_MAX];
    uint64_t logged_ns;
};

bool log_limit_passes(struct log_limit *limit, const char *text);
void log_limit_reset(struct log_limit *limit);

struct peer_counters {
    atomic_uint_fast64_t messages_sent;
    atomic_uint_fast64_t messages_dropped;
    atomic_uint_fast64_t connects;
};

struct member {
    char *node_id;
    char *raft_addr;
};

struct peer_sending;
struct peer_receiving;

/* Why a stream is refused; code 0: it is not. */
struct refusal {
    int code;
    char text[REASON_BYTES_MAX];
};

/* Of one peer's streams to us; on the loop's thread, but for `receiving`. */
struct incoming_side {
    struct peer_stream *stream; /* the newest, NULL when there is none */
    uint64_t epoch;
    struct log_limit refusals;
    struct peer_receiving *receiving; /* the newest; with peer->lock */
    uint64_t snapshot_epoch;
};

struct peer {
    struct transport transport;
    struct rpc_loop *loop;
    struct rpc_server *server;
    struct peer_receiver receiver;
    struct member members[RAFT_MEMBERS_MAX];
    int member_count;
    raft_member self;
    uint64_t incarnation;
    uint64_t membership_hash;
    uint32_t election_timeout_ms;
    struct peer_link *links[RAFT_MEMBERS_MAX]; /* NULL for ourselves */
    struct peer_sending *sendings[RAFT_MEMBERS_MAX];
    struct incoming_side incoming_sides[RAFT_MEMBERS_MAX];
    struct log_limit stranger_refusals;
    struct peer_counters counters;
    atomic_bool is_stopping;
    bool is_stopped;
    pthread_mutex_t lock; /* all below */
    uint8_t cluster_id[RAFT_CLUSTER_ID_BYTES];
    bool is_fresh;
    struct list incoming; /* struct incoming: calls that are not closed */
};

/* The header of our batches to `to`, as of now. */
struct peer_header peer_header_to(struct peer *peer, raft_member to, uint64_t stream_id);
void peer_get_cluster_id(struct peer *peer, uint8_t *out);
struct bytes peer_node_id(const struct peer *peer, raft_member member);
/* RAFT_NO_MEMBER when there is none. */
raft_member peer_find_member(const struct peer *peer, struct bytes node_id);

/* Posts an event without messages. On the loop's thread. */
void peer_post_plain(struct peer *peer, const struct peer_event *event);

/* ---- incoming calls ---- */

/* What streams and queries have in common. Embedded first; freed by the last reference. */
struct incoming {
    struct list link; /* in peer->incoming, with peer->lock */
    struct peer *peer;
    uint64_t begun_ns;
    uint64_t greeting_ns_max; /* how long it may take to say what it wants */
    atomic_bool has_greeted;
    atomic_uint references;
    pthread_mutex_t lock;
    struct rpc_call *call; /* NULL once closed */
    void (*destroy)(struct incoming *incoming);
};

/* With one reference, which incoming_end() drops. */
void incoming_begin(struct incoming *incoming, struct peer *peer, struct rpc_call *call,
                    const struct rpc_call_events *events);
/* From on_closed: nobody uses the call after it. */
void incoming_end(struct incoming *incoming);
void incoming_ref(struct incoming *incoming);
void incoming_unref(struct incoming *incoming);

void call_refuse(struct rpc_call *call, int code, const char *reason);

/* ---- links: peer_dial.c ---- */

/* Errors: ERR_NOMEM. */
int link_create(struct peer *peer, raft_member member, struct peer_link **out);
void link_start(struct peer_link *link);
/* The peer has been heard: dials at once instead of waiting for the next try. On the loop's thread.
 */
void link_hurry(struct peer_link *link);
/* As transport_ops says. */
int link_send(struct peer_link *link, const struct peer_message *message);
void link_flush(struct peer_link *link);
/* Ends the stream and waits for it; no event is posted afterwards. After peer->is_stopping. */
void link_stop(struct peer_link *link);
/* When the loop is gone. Accepts NULL. */
void link_destroy(struct peer_link *link);

/* ---- servers: peer_server.c, peer_query.c ---- */

/* `from` is the sender as far as it is known. */
void peer_check_header(struct peer *peer, const struct peer_header *header, raft_member from,
                       struct refusal *refusal);
void stream_accept(struct peer *peer, struct rpc_call *call);
void query_accept(struct peer *peer, struct rpc_call *call, enum raft_message_kind kind);

/* ---- snapshots: peer_snapshot_send.c, peer_snapshot_receive.c ---- */

/* Errors: ERR_NOMEM. */
int sending_create(struct peer *peer, raft_member member, struct peer_sending **out);
/* As transport_ops says. */
int sending_open(struct peer_sending *sending, uint64_t epoch, raft_term term,
                 struct bytes manifest);
void sending_chunk(struct peer_sending *sending, uint64_t epoch, uint32_t chunk, struct bytes data);
void sending_close(struct peer_sending *sending, uint64_t epoch);
/* As the functions of links. */
void sending_stop(struct peer_sending *sending);
void sending_destroy(struct peer_sending *sending);

void receiving_accept(struct peer *peer, struct rpc_call *call);
void receiving_answer(struct peer *peer, raft_member from, uint64_t epoch,
                      const struct peer_snapshot_answer *answer);

#endif
