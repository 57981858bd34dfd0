/* The functions of dispatch that only the daemon uses: creation, attachment and end. Frontends use
 * dispatch.h. */
#ifndef RAFTOGRAM_DISPATCH_SERVICE_H
#define RAFTOGRAM_DISPATCH_SERVICE_H

#include "dispatch/dispatch.h"

struct node;
struct chat;
struct store;

/* Counters of the peer module since the start. */
struct dispatch_peer_counts {
    uint64_t messages_sent;
    uint64_t messages_dropped;
    uint64_t connects;
};

struct dispatch_options {
    struct chat *chat;
    const struct cluster_member *members; /* must outlive dispatch */
    size_t member_count;
    size_t self; /* index of this node in `members` */
    uint32_t max_payload_bytes;
    uint32_t reader_count;
    uint64_t election_timeout_ns;
    /* Sources of figures, called on any thread with `context`. */
    void (*get_peer_counts)(void *context, struct dispatch_peer_counts *out);
    void (*get_turn_delays)(void *context, struct latency_counts *out);
    uint64_t (*store_bytes)(void *context);
    void *context;
};

/* Creates dispatch and starts its reader threads. `options` is copied.
 * Errors: ERR_NOMEM, ERR_IO. */
int dispatch_create(const struct dispatch_options *options, struct dispatch **out);
/* Sets the node. Must be called before the first submit. */
void dispatch_attach(struct dispatch *dispatch, struct node *node);
/* Calls the watchers. For node_options.on_change, with dispatch as context. */
void dispatch_on_change(void *dispatch);
/* Calls the watchers when the status becomes too old and when it is recent again. Must be called
 * several times per election timeout, by a thread that waits for no disk. */
void dispatch_look_at_age(struct dispatch *dispatch);
/* Ends all subscriptions and publishes with UNAVAILABLE, DRAINING. */
void dispatch_end_streams(struct dispatch *dispatch);
/* Stops the readers and frees dispatch. All subscriptions, publishes and unary calls must have
 * ended. Accepts NULL. */
void dispatch_destroy(struct dispatch *dispatch);

#endif
