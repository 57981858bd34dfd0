/* The transport over gRPC: the members, the server, and the life of the whole. */
#include "peer/peer.h"

#include "base/check.h"
#include "base/clock.h"
#include "base/errors.h"
#include "peer/peer_internal.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Streams of all peers, streams that replace them, and unary calls. */
#define CALLS_MAX 128
#define METADATA_BYTES_MAX (16u << 10)
#define KEEPALIVE_MS_MIN 1000
#define PING_INTERVAL_MS_MIN 300
#define SWEEP_INTERVAL_NS NS_PER_S
#define STOP_GRACE_MS 200

/* ---- the transport ---- */

static struct peer *peer_of(struct transport *transport)
{
    return CONTAINER_OF(transport, struct peer, transport);
}

static int transport_send(struct transport *transport, raft_member to,
                          const struct peer_message *message)
{
    struct peer *peer = peer_of(transport);
    CHECK(to >= 0);
    CHECK(to < peer->member_count);
    CHECK(to != peer->self);
    return peer_link_send(peer->links[to], message);
}

static void transport_flush(struct transport *transport)
{
    struct peer *peer = peer_of(transport);
    for (int i = 0; i < peer->member_count; i++) {
        if (peer->links[i] != NULL) {
            peer_link_flush(peer->links[i]);
        }
    }
}

static void transport_set_cluster_id(struct transport *transport, const uint8_t *cluster_id)
{
    struct peer *peer = peer_of(transport);
    pthread_mutex_lock(&peer->lock);
    memcpy(peer->cluster_id, cluster_id, sizeof(peer->cluster_id));
    pthread_mutex_unlock(&peer->lock);
}

static void transport_set_not_fresh(struct transport *transport)
{
    struct peer *peer = peer_of(transport);
    pthread_mutex_lock(&peer->lock);
    peer->is_fresh = false;
    pthread_mutex_unlock(&peer->lock);
}

/* Runs on the loop's thread, as all sending does: no batch is sent between the two steps. */
static void transport_set_incarnation(struct transport *transport, uint64_t incarnation)
{
    struct peer *peer = peer_of(transport);
    for (int i = 0; i < peer->member_count; i++) {
        if (peer->links[i] != NULL) {
            peer_link_redial(peer->links[i]);
        }
    }
    pthread_mutex_lock(&peer->lock);
    peer->incarnation = incarnation;
    pthread_mutex_unlock(&peer->lock);
}

static int transport_snapshot_open(struct transport *transport, raft_member to, uint64_t epoch,
                                   raft_term term, struct bytes manifest)
{
    return peer_sending_open(peer_of(transport)->sendings[to], epoch, term, manifest);
}

static void transport_snapshot_chunk(struct transport *transport, raft_member to, uint64_t epoch,
                                     uint32_t chunk, struct bytes data)
{
    peer_sending_chunk(peer_of(transport)->sendings[to], epoch, chunk, data);
}

static void transport_snapshot_close(struct transport *transport, raft_member to, uint64_t epoch)
{
    peer_sending_close(peer_of(transport)->sendings[to], epoch);
}

static void transport_snapshot_answer(struct transport *transport, raft_member from, uint64_t epoch,
                                      const struct peer_snapshot_answer *answer)
{
    peer_receiving_answer(peer_of(transport), from, epoch, answer);
}

static const struct transport_ops transport_ops = {
    .send = transport_send,
    .flush = transport_flush,
    .set_cluster_id = transport_set_cluster_id,
    .set_not_fresh = transport_set_not_fresh,
    .set_incarnation = transport_set_incarnation,
    .snapshot_open = transport_snapshot_open,
    .snapshot_chunk = transport_snapshot_chunk,
    .snapshot_close = transport_snapshot_close,
    .snapshot_answer = transport_snapshot_answer,
};

/* ---- incoming calls ---- */

static void on_call(void *context, struct rpc_call *call)
{
    struct peer *peer = context;
    const char *path = rpc_call_path(call);
    if (atomic_load(&peer->is_stopping)) {
        peer_call_refuse(call, GRPC_STATUS_UNAVAILABLE, "the node is stopping");
    } else if (strcmp(path, STREAM_PATH) == 0) {
        peer_stream_accept(peer, call);
    } else if (strcmp(path, SNAPSHOT_PATH) == 0) {
        peer_receiving_accept(peer, call);
    } else if (strcmp(path, APPEND_ENTRIES_PATH) == 0) {
        peer_query_accept(peer, call, RAFT_APPEND_REQUEST);
    } else if (strcmp(path, REQUEST_VOTE_PATH) == 0) {
        peer_query_accept(peer, call, RAFT_VOTE_REQUEST);
    } else {
        peer_call_refuse(call, GRPC_STATUS_UNIMPLEMENTED, "unknown method");
    }
}

static void check_streams(struct peer *peer, uint64_t now_ns)
{
    bool is_late = now_ns - peer->swept_ns > 2 * SWEEP_INTERVAL_NS;
    peer->swept_ns = now_ns;
    for (int i = 0; i < peer->member_count; i++) {
        if (peer->links[i] != NULL) {
            peer_link_give_sign(peer->links[i], now_ns);
        }
        if (peer->incoming_sides[i].stream != NULL) {
            peer_stream_check(peer->incoming_sides[i].stream, now_ns, is_late);
        }
    }
}

/* Ends calls whose first message is late, since each takes one of CALLS_MAX, and checks all
 * streams. */
static void sweep(void *context)
{
    struct peer *peer = context;
    if (atomic_load(&peer->is_stopping)) {
        return;
    }
    uint64_t now_ns = clock_monotonic_ns(clock_system());
    pthread_mutex_lock(&peer->lock);
    LIST_FOR_EACH (link, &peer->incoming) {
        struct peer_incoming *incoming = LIST_ENTRY(link, struct peer_incoming, link);
        if (!atomic_load(&incoming->has_greeted) &&
            now_ns - incoming->begun_ns > incoming->greeting_ns_max) {
            peer_call_refuse(incoming->call, GRPC_STATUS_DEADLINE_EXCEEDED,
                             "no message came in time");
        }
    }
    pthread_mutex_unlock(&peer->lock);
    check_streams(peer, now_ns);
    int rc = rpc_loop_post(peer->loop, now_ns + SWEEP_INTERVAL_NS, sweep, peer);
    CHECK(rc == 0 || rc == ERR_CLOSED);
}

static void end_incoming(struct peer *peer)
{
    pthread_mutex_lock(&peer->lock);
    LIST_FOR_EACH (link, &peer->incoming) {
        struct peer_incoming *incoming = LIST_ENTRY(link, struct peer_incoming, link);
        peer_call_refuse(incoming->call, GRPC_STATUS_UNAVAILABLE, "the node is stopping");
    }
    pthread_mutex_unlock(&peer->lock);
}

/* ---- lifetime ---- */

static void set_members(struct peer *peer, const struct peer_options *options)
{
    CHECK(options->member_count >= 1);
    CHECK(options->member_count <= CLUSTER_MEMBERS_MAX);
    CHECK(options->self >= 0);
    CHECK(options->self < options->member_count);
    peer->member_count = options->member_count;
    peer->self = options->self;
    for (int i = 0; i < options->member_count; i++) {
        const struct cluster_member *from = &options->members[i];
        CHECK(strlen(from->node_id) <= CLUSTER_NODE_ID_BYTES_MAX);
        CHECK(i == 0 || strcmp(options->members[i - 1].node_id, from->node_id) < 0);
        peer->incoming_sides[i].peer = peer;
    }
    peer->members = options->members;
    peer->membership_hash = peer_membership_hash(options->members, options->member_count);
}

static uint32_t keepalive_ms(const struct peer *peer)
{
    return peer->election_timeout_ms > KEEPALIVE_MS_MIN ? peer->election_timeout_ms
                                                        : KEEPALIVE_MS_MIN;
}

static int listen_on(struct peer *peer, const char *address, struct listen_fault *fault)
{
    const struct rpc_server_options options = {
        .address = address,
        .receive_bytes_max = PEER_BATCH_BYTES_MAX,
        .metadata_bytes_max = METADATA_BYTES_MAX,
        .calls_max = CALLS_MAX,
        .keepalive_ms = keepalive_ms(peer),
        .ping_interval_min_ms = PING_INTERVAL_MS_MIN,
        .fault = fault,
        .is_for_peers = true,
    };
    const struct rpc_server_handler handler = {.on_call = on_call, .context = peer};
    return rpc_server_create(peer->loop, &options, &handler, &peer->server);
}

static int create_links(struct peer *peer)
{
    for (int i = 0; i < peer->member_count; i++) {
        if (i == peer->self) {
            continue;
        }
        int rc = peer_link_create(peer, i, &peer->links[i]);
        if (rc == 0) {
            rc = peer_sending_create(peer, i, &peer->sendings[i]);
        }
        if (rc != 0) {
            return rc;
        }
    }
    return 0;
}

static void free_peer(struct peer *peer)
{
    for (int i = 0; i < peer->member_count; i++) {
        peer_link_destroy(peer->links[i]);
        peer_sending_destroy(peer->sendings[i]);
    }
    pthread_mutex_destroy(&peer->lock);
    free(peer->listen_addr);
    free(peer);
}

int peer_create(const struct peer_options *options, struct peer **out)
{
    struct peer *peer = calloc(1, sizeof(*peer));
    if (peer == NULL) {
        return ERR_NOMEM;
    }
    peer->transport.ops = &transport_ops;
    peer->receiver = options->receiver;
    peer->incarnation = options->incarnation;
    peer->is_fresh = options->is_fresh;
    peer->election_timeout_ms = options->election_timeout_ms;
    peer->command_format = options->command_format;
    memcpy(peer->cluster_id, options->cluster_id, sizeof(peer->cluster_id));
    atomic_init(&peer->is_stopping, false);
    pthread_mutex_init(&peer->lock, NULL);
    list_init(&peer->incoming);
    while (peer->process == 0) {
        random_bytes(&peer->process, sizeof(peer->process));
    }
    peer->listen_addr = strndup(options->bind_addr, PEER_LISTEN_ADDR_BYTES_MAX);
    set_members(peer, options);
    int rc = peer->listen_addr != NULL ? create_links(peer) : ERR_NOMEM;
    if (rc != 0) {
        goto free_peer;
    }
    rc = options->loop != NULL ? rpc_loop_share(options->loop, &peer->loop)
                               : rpc_loop_create("peer", &peer->loop);
    if (rc != 0) {
        goto free_peer;
    }
    rc = listen_on(peer, options->bind_addr, options->fault);
    if (rc != 0) {
        goto destroy_loop;
    }
    *out = peer;
    return 0;
destroy_loop:
    rpc_loop_destroy(peer->loop);
free_peer:
    free_peer(peer);
    return rc;
}

void peer_start(struct peer *peer)
{
    sweep(peer);
    for (int i = 0; i < peer->member_count; i++) {
        if (peer->links[i] != NULL) {
            peer_link_start(peer->links[i]);
        }
    }
}

struct transport *peer_transport(struct peer *peer)
{
    return &peer->transport;
}

int peer_port(const struct peer *peer)
{
    return rpc_server_port(peer->server);
}

void peer_stop(struct peer *peer)
{
    if (peer->is_stopped) {
        return;
    }
    peer->is_stopped = true;
    atomic_store(&peer->is_stopping, true);
    rpc_server_close(peer->server);
    for (int i = 0; i < peer->member_count; i++) {
        if (peer->links[i] != NULL) {
            peer_link_stop(peer->links[i]);
            peer_sending_stop(peer->sendings[i]);
        }
    }
    end_incoming(peer);
    rpc_server_stop(peer->server, STOP_GRACE_MS);
}

void peer_destroy(struct peer *peer)
{
    if (peer == NULL) {
        return;
    }
    peer_stop(peer);
    rpc_server_destroy(peer->server);
    rpc_loop_destroy(peer->loop);
    free_peer(peer);
}

void peer_get_stats(const struct peer *peer, struct peer_stats *out)
{
    const struct peer_counters *counters = &peer->counters;
    *out = (struct peer_stats){
        .messages_sent = atomic_load(&counters->messages_sent),
        .messages_dropped = atomic_load(&counters->messages_dropped),
        .connects = atomic_load(&counters->connects),
    };
}
