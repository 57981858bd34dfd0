/* What the driver says to other nodes and hears from them, as a vtable: gRPC (peer.h) or simulated.
 *
 * Each node dials every other one and sends on the stream that it dialled; the answers come on the
 * stream that the other dialled. Messages of one stream keep their order; a stream that ends may
 * lose what was on it. Nothing is queued for a peer that is not connected. */
#ifndef RAFTOGRAM_PEER_TRANSPORT_H
#define RAFTOGRAM_PEER_TRANSPORT_H

#include "base/buf.h"
#include "base/list.h"
#include "raft/raft.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define PEER_BATCH_MESSAGES_MAX 8192
#define PEER_BATCH_BYTES_MAX (16u << 20)  /* what is accepted in one batch */
#define PEER_QUEUE_BYTES_MAX (8u << 20)   /* outgoing, per peer; beyond it messages are dropped */
#define PEER_BATCH_ENTRIES_MAX (1u << 18) /* log entries in one batch, over all its messages */
#define PEER_UNHANDLED_BATCHES_MAX 64     /* incoming, per stream; beyond it reading pauses */
#define PEER_UNHANDLED_BYTES_MAX (32u << 20) /* the same, by their size */
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
        /* Outgoing append requests have their entries filled in (data and term; `change` is not
         * looked at). Incoming ones have `change` NULL: the driver decodes it from data. */
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
            uint64_t index; /* of its entry when code is 0; 0: not told */
        } forward_response;
        struct {
            uint64_t index;
            uint64_t hash;     /* of all results up to the index */
            uint64_t contents; /* of what was written since the last one; 0: not known */
        } apply_hash;
    };
};

enum peer_event_kind {
    PEER_EVENT_MESSAGES,     /* arrived on the stream `epoch` */
    PEER_EVENT_HELLO,        /* a stream from the peer began */
    PEER_EVENT_STREAM_LOST,  /* it ended */
    PEER_EVENT_DIAL_UP,      /* our stream to the peer stands: its server answered */
    PEER_EVENT_DIAL_LOST,    /* our stream ended after it stood; `unsent` never left this node */
    PEER_EVENT_DIAL_REFUSED, /* nobody listens there */
    PEER_EVENT_QUERY,        /* a bare RPC of the reference document: answer and change nothing */
    /* A snapshot comes from the peer, on a stream of its own: `epoch` numbers these streams. */
    PEER_EVENT_SNAPSHOT_OFFER, /* wants a snapshot_answer() */
    PEER_EVENT_SNAPSHOT_CHUNK, /* the next one comes when this event is released */
    PEER_EVENT_SNAPSHOT_LOST,  /* the stream ended, answered or not */
    /* A snapshot goes to the peer; `epoch` is that of snapshot_open(). */
    PEER_EVENT_SNAPSHOT_READY, /* wants `chunk` by snapshot_chunk(), or all of them have gone */
    PEER_EVENT_SNAPSHOT_ENDED, /* `end` and `reason`; the peer may be opened to again */
};

/* The answer to a QUERY. */
struct peer_answer {
    raft_term term;
    bool granted_or_success;
    raft_index last_log_index;
};

enum peer_snapshot_end {
    PEER_SNAPSHOT_DONE,    /* installed, or not needed */
    PEER_SNAPSHOT_REFUSED, /* the receiver says why */
    PEER_SNAPSHOT_BROKEN,  /* the stream was lost: what has arrived is kept over there */
};

#define PEER_REASON_BYTES_MAX 256

struct peer_snapshot_answer {
    bool is_over;
    uint32_t next_chunk;        /* not over: where to go on */
    enum peer_snapshot_end end; /* over */
    const char *reason;         /* over; may be NULL */
};

/* Forward requests that follow one another: of `count` ids from `first` on. */
struct peer_unsent {
    uint64_t first;
    uint64_t count;
};

/* Owned by whoever holds it; ended by peer_event->release(). */
struct peer_event {
    struct list link;
    enum peer_event_kind kind;
    raft_member peer;
    uint64_t epoch; /* MESSAGES, HELLO, STREAM_LOST: increasing per peer; SNAPSHOT_*: see there */
    void (*release)(struct peer_event *event); /* frees; lets the stream read on. Any thread. */
    union {
        struct {
            struct peer_message *items;
            size_t count;
        } messages;
        struct {
            uint64_t incarnation;
            bool is_fresh;
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
            raft_term term;        /* of the sender */
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
    /* Adds to what goes to `to` at the next flush. Copies all. Node thread.
     * Errors: ERR_CLOSED (not connected), ERR_FULL (dropped). */
    int (*send)(struct transport *transport, raft_member to, const struct peer_message *message);
    /* Sends all that was added since, one batch a peer. Node thread. */
    void (*flush)(struct transport *transport);
    /* From now on this is our cluster (16 bytes), and the data_dir is not fresh any more. */
    void (*set_cluster_id)(struct transport *transport, const uint8_t *cluster_id);
    void (*set_not_fresh)(struct transport *transport);
    /* The data_dir has another incarnation: the streams that we dialled end, and begin anew. */
    void (*set_incarnation)(struct transport *transport, uint64_t incarnation);

    /* Snapshots go on streams of their own, one at a time to each peer, one chunk at a time. All of
     * these are called on the node's thread and never wait; what they copy they copy at once. */

    /* Offers one; `epoch` comes back in the events. SNAPSHOT_ENDED is owed from then on.
     * Errors: ERR_BUSY (the one before has not ended yet), ERR_NOMEM, ERR_CLOSED. */
    int (*snapshot_open)(struct transport *transport, raft_member to, uint64_t epoch,
                         raft_term term, struct bytes manifest);
    /* After SNAPSHOT_READY. A stream that is over drops it. */
    void (*snapshot_chunk)(struct transport *transport, raft_member to, uint64_t epoch,
                           uint32_t chunk, struct bytes data);
    void (*snapshot_close)(struct transport *transport, raft_member to, uint64_t epoch);
    /* To SNAPSHOT_OFFER: where to go on, once; and, once, how it ends. */
    void (*snapshot_answer)(struct transport *transport, raft_member from, uint64_t epoch,
                            const struct peer_snapshot_answer *answer);
};

struct transport {
    const struct transport_ops *ops;
};

/* Where events go: any thread; must take the event (ownership passes). Never blocks. */
struct peer_receiver {
    void (*post)(void *context, struct peer_event *event);
    void *context;
};

#endif
