/* The side of dispatch that only the daemon uses: its creation, its parts and its end. Frontends
 * use dispatch.h. */
#ifndef RAFTOGRAM_DISPATCH_SERVICE_H
#define RAFTOGRAM_DISPATCH_SERVICE_H

#include "dispatch/dispatch.h"

struct node;
struct chat;
struct store;
struct dispatch_peer_counts {
    uint64_t messages_sent;
    uint64_t messages_dropped;
    uint64_t connects;
};
struct dispatch_options {
    struct chat *chat;
    const struct cluster_member *members; /* must outlive dispatch */
    size_t member_count;
    size_t self;
    uint32_t max_payload_bytes;
    uint32_t reader_count;
    uint64_t election_timeout_ns;
    void (*get_peer_counts)(void *context, struct dispatch_peer_counts *out);
    void (*get_turn_delays)(void *context, struct latency_counts *out);
    uint64_t (*store_bytes)(void *context);
    void *context;
};
/* Starts the reader threads. Errors: ERR_NOMEM, ERR_IO. */
int dispatch_create(const struct dispatch_options *options, struct dispatch **out);
/* Before the first submit: the node that it works with. */
void dispatch_attach(struct dispatch *dispatch, struct node *node);
/* For node_options.on_change; context is the dispatch. */
void dispatch_on_change(void *dispatch);
/* A few times in an election timeout, by a thread that waits for no disk: tells the watchers when
 * the status has become too old, and when it is recent again. */
void dispatch_look_at_age(struct dispatch *dispatch);
/* Ends all subscriptions and publishes with UNAVAILABLE, DRAINING. */
void dispatch_end_streams(struct dispatch *dispatch);
/* Subscriptions and unary calls must be over. Stops the readers. Accepts NULL. */
void dispatch_destroy(struct dispatch *dispatch);

#endif
