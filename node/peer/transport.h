/* How the driver exchanges messages with other nodes, as a vtable: gRPC (peer.h) or simulated.
 *
 * Each node dials every other node and sends on the stream that it dialled. Answers arrive on the
 * stream that the other node dialled. Messages of one stream keep their order. When a stream ends,
 * messages on it may be lost. Nothing is queued for a peer that is not connected. */
#ifndef RAFTOGRAM_PEER_TRANSPORT_H
#define RAFTOGRAM_PEER_TRANSPORT_H

#include "base/buf.h"
#include "base/list.h"
#include "raft/raft.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define PEER_BATCH_MESSAGES_MAX 8192
#define PEER_BATCH_BYTES_MAX (16u << 20)  /* accepted in one batch */
#define PEER_QUEUE_BYTES_MAX (8u << 20)   /* outgoing, per peer; messages beyond it are dropped */
#define PEER_BATCH_ENTRIES_MAX (1u << 18) /* log entries in all messages of one batch */
#define PEER_UNHANDLED_BATCHES_MAX 64     /* incoming, per stream; reading pauses beyond it */
#define PEER_UNHANDLED_BYTES_MAX (32u << 20) /* the same, by size */
#define PEER_COMMAND_BYTES_MAX (4u << 20)    /* a forwarded command or its result */

enum peer_message_kind {
    PEER_MESSAGE_RAFT,
    PEER_MESSAGE_FORWARD_REQUEST,
    PEER_MESSAGE_FORWARD_RESPONSE,
    PEER_MESSAGE_APPLY_HASH,
};

struct peer_message {
    enum peer_message_kind kind;
    union {
        /* Outgoing append requests have entries with data and term; `change` is not used. In
         * incoming ones `change` is NULL, and the driver decodes it from data. */
        struct raft_message raft;
        struct {
            uint64_t id;
            struct bytes command;
            uint32_t timeout_ms;
        } forward_request;
        struct {
            uint64_t id;
            int32_t code; /* enum node_outcome */
            struct bytes result;
            uint64_t index; /* index of its entry if code is 0; 0: unknown */
        } forward_response;
        struct {
            uint64_t index;
            uint64_t hash;     /* hash of all results up to the index */
            uint64_t contents; /* hash of what was written since the last message; 0: unknown */
        } apply_hash;
    };
};

enum peer_event_kind {
    PEER_EVENT_MESSAGES,    /* arrived on the stream `epoch` */
    PEER_EVENT_HELLO,       /* a stream from the peer began */
    PEER_EVENT_STREAM_LOST, /* it ended */
    PEER_EVENT_DIAL_UP,     /* the stream to the peer is up: its server answered */
    PEER_EVENT_DIAL_LOST, /* the stream to the peer was up and ended; `unsent` never left this node
                           */
    PEER_EVENT_DIAL_REFUSED, /* no process listens there */
    PEER_EVENT_QUERY, /* a unary call of the reference document: answer it and change no state */
    /* A snapshot from the peer, on its own stream. `epoch` numbers these streams. */
    PEER_EVENT_SNAPSHOT_OFFER, /* requires a snapshot_answer() */
    PEER_EVENT_SNAPSHOT_CHUNK, /* the next one follows when this event is released */
    PEER_EVENT_SNAPSHOT_LOST,  /* the stream ended, answered or not */
    /* A snapshot for the peer. `epoch` is that of snapshot_open(). */
    PEER_EVENT_SNAPSHOT_READY, /* send `chunk` by snapshot_chunk(), unless all chunks were sent */
    PEER_EVENT_SNAPSHOT_ENDED, /* `end` and `reason`; snapshot_open() is possible again */
};

/* The answer to a QUERY. */
struct peer_answer {
    raft_term term;
    bool granted_or_success;
    raft_index last_log_index;
};

enum peer_snapshot_end {
    PEER_SNAPSHOT_DONE,    /* installed or not needed */
    PEER_SNAPSHOT_REFUSED, /* refused by the receiver */
    PEER_SNAPSHOT_BROKEN,  /* the stream was lost; the receiver keeps what arrived */
};

#define PEER_REASON_BYTES_MAX 256

struct peer_snapshot_answer {
    bool is_over;
    uint32_t next_chunk;        /* if not over: the next chunk to send */
    enum peer_snapshot_end end; /* over */
    const char *reason;         /* over; may be NULL */
};

/* Forward requests with `count` consecutive ids from `first`. */
struct peer_unsent {
    uint64_t first;
    uint64_t count;
};

/* Owned by its holder, who calls release(). */
struct peer_event {
    struct list link;
    enum peer_event_kind kind;
    raft_member peer;
    uint64_t epoch; /* MESSAGES, HELLO, STREAM_LOST: increasing per peer; SNAPSHOT_*: see there */
    void (*release)(
        struct peer_event *event); /* frees it and lets the stream continue reading; any thread */
    union {
        struct {
            struct peer_message *items;
            size_t count;
        } messages;
        struct {
            uint64_t incarnation;
            bool is_fresh;
            uint32_t command_format; /* newest format of commands that the peer understands */
        } hello;
        struct {
            struct peer_unsent unsent;
        } dial_lost;
        struct {
            struct peer_message *request; /* an append or vote request */
            /* Exactly once, before release. */
            void (*answer)(struct peer_event *event, const struct peer_answer *answer);
        } query;
        struct {
            raft_term term;        /* the sender's term */
            struct bytes manifest; /* valid until the release */
        } snapshot_offer;
        struct {
            uint32_t chunk;
            struct bytes data; /* valid until the release */
        } snapshot_chunk;
        struct {
            uint32_t chunk;
        } snapshot_ready;
        struct {
            enum peer_snapshot_end end;
            char reason[PEER_REASON_BYTES_MAX];
        } snapshot_ended;
    };
};

struct transport;

struct transport_ops {
    /* Adds a message to the next batch for `to`. Copies everything. Node thread.
     * Errors: ERR_CLOSED (not connected), ERR_FULL (dropped). */
    int (*send)(struct transport *transport, raft_member to, const struct peer_message *message);
    /* Sends what was added since the last flush, one batch per peer. Node thread. */
    void (*flush)(struct transport *transport);
    /* Sets the cluster id (16 bytes) and marks the data_dir as no longer fresh. */
    void (*set_cluster_id)(struct transport *transport, const uint8_t *cluster_id);
    void (*set_not_fresh)(struct transport *transport);
    /* Sets the data_dir's incarnation. The streams that this node dialled end and are dialled
     * again. */
    void (*set_incarnation)(struct transport *transport, uint64_t incarnation);

    /* Snapshots have their own streams: one snapshot at a time to each peer, one chunk at a time.
     * These functions are called on the node's thread and never block. They copy their data. */

    /* Offers a snapshot. Its events have this `epoch`. SNAPSHOT_ENDED follows in any case.
     * Errors: ERR_BUSY (the previous snapshot has not ended), ERR_NOMEM, ERR_CLOSED. */
    int (*snapshot_open)(struct transport *transport, raft_member to, uint64_t epoch,
                         raft_term term, struct bytes manifest);
    /* Sends a chunk after SNAPSHOT_READY. Does nothing if the stream has ended. */
    void (*snapshot_chunk)(struct transport *transport, raft_member to, uint64_t epoch,
                           uint32_t chunk, struct bytes data);
    void (*snapshot_close)(struct transport *transport, raft_member to, uint64_t epoch);
    /* Answers SNAPSHOT_OFFER: once with the next chunk, and once with the end. */
    void (*snapshot_answer)(struct transport *transport, raft_member from, uint64_t epoch,
                            const struct peer_snapshot_answer *answer);
};

struct transport {
    const struct transport_ops *ops;
};

/* Receives events on any thread and takes ownership. Must not block. */
struct peer_receiver {
    void (*post)(void *context, struct peer_event *event);
    void *context;
};

#endif
