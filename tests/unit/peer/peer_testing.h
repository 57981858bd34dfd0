/* Nodes in one process with queues for receivers, and a bare gRPC client to say wrong things. */
#ifndef RAFTOGRAM_TESTS_PEER_TESTING_H
#define RAFTOGRAM_TESTS_PEER_TESTING_H

#include "base/check.h"
#include "base/clock.h"
#include "base/errors.h"
#include "peer/peer.h"
#include "peer/wire.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#define NODES_MAX 3
#define AWAIT_NS (20 * NS_PER_S)
#define ELECTION_TIMEOUT_MS 500
#define STREAM_PATH "/phalanx.Consensus/Stream"

/* One lock and condition for all that the loops' threads and the test share. */
static pthread_mutex_t watch_lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t watch_changed = PTHREAD_COND_INITIALIZER;

static inline uint64_t now_ns(void)
{
    return clock_monotonic_ns(clock_system());
}

/* With the lock held. */
static inline void watch_wait(void)
{
    struct timespec until;
    clock_gettime(CLOCK_REALTIME, &until);
    until.tv_sec += 1;
    pthread_cond_timedwait(&watch_changed, &watch_lock, &until);
}

#define AWAIT(condition)                                    \
    do {                                                    \
        uint64_t await_until_ns_ = now_ns() + AWAIT_NS;     \
        pthread_mutex_lock(&watch_lock);                    \
        bool await_met_ = (condition);                      \
        while (!await_met_ && now_ns() < await_until_ns_) { \
            watch_wait();                                   \
            await_met_ = (condition);                       \
        }                                                   \
        pthread_mutex_unlock(&watch_lock);                  \
        if (!await_met_) {                                  \
            fail_msg("not in time: %s", #condition);        \
        }                                                   \
    } while (0)

/* ---- nodes ---- */

struct test_node {
    struct peer *peer;
    struct peer_options options;
    struct list events; /* under the watch */
    size_t batches;     /* MESSAGES events that ever came */
};

struct test_cluster {
    int count;
    char addresses[NODES_MAX][32];
    struct cluster_member members[NODES_MAX];
    struct test_node nodes[NODES_MAX];
};

static inline void queue_event(void *context, struct peer_event *event)
{
    struct test_node *node = context;
    pthread_mutex_lock(&watch_lock);
    list_push_back(&node->events, &event->link);
    node->batches += event->kind == PEER_EVENT_MESSAGES;
    pthread_cond_broadcast(&watch_changed);
    pthread_mutex_unlock(&watch_lock);
}

/* A port that was free a moment ago. */
static inline int free_port(void)
{
    struct sockaddr_in address = {.sin_family = AF_INET};
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    socklen_t size = sizeof(address);
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_true(fd >= 0);
    assert_int_equal(bind(fd, (struct sockaddr *)&address, size), 0);
    assert_int_equal(getsockname(fd, (struct sockaddr *)&address, &size), 0);
    close(fd);
    return ntohs(address.sin_port);
}

static inline void cluster_init(struct test_cluster *cluster, int count)
{
    static const char *const names[NODES_MAX] = {"node1", "node2", "node3"};
    memset(cluster, 0, sizeof(*cluster));
    cluster->count = count;
    for (int i = 0; i < count; i++) {
        snprintf(cluster->addresses[i], sizeof(cluster->addresses[i]), "127.0.0.1:%d", free_port());
        cluster->members[i] =
            (struct cluster_member){.node_id = names[i], .raft_addr = cluster->addresses[i]};
    }
    for (int i = 0; i < count; i++) {
        list_init(&cluster->nodes[i].events);
        cluster->nodes[i].options = (struct peer_options){
            .bind_addr = cluster->addresses[i],
            .members = cluster->members,
            .member_count = count,
            .self = i,
            .incarnation = 100 + (uint64_t)i,
            .is_fresh = true,
            .election_timeout_ms = ELECTION_TIMEOUT_MS,
            .receiver = {queue_event, &cluster->nodes[i]},
        };
    }
}

static inline void node_start(struct test_node *node)
{
    assert_int_equal(peer_create(&node->options, &node->peer), 0);
    peer_start(node->peer);
}

static inline void drop_events(struct test_node *node)
{
    struct list taken;
    list_init(&taken);
    pthread_mutex_lock(&watch_lock);
    list_splice_back(&taken, &node->events);
    pthread_mutex_unlock(&watch_lock);
    struct list *link;
    while ((link = list_pop_front(&taken)) != NULL) {
        struct peer_event *event = LIST_ENTRY(link, struct peer_event, link);
        event->release(event);
    }
}

static inline void node_stop(struct test_node *node)
{
    peer_destroy(node->peer);
    node->peer = NULL;
    drop_events(node);
}

static inline void cluster_finish(struct test_cluster *cluster)
{
    for (int i = 0; i < cluster->count; i++) {
        node_stop(&cluster->nodes[i]);
    }
}

/* With the lock held. NULL when there is none; `from` may be RAFT_NO_MEMBER for anybody. */
static inline struct peer_event *find_event(struct test_node *node, enum peer_event_kind kind,
                                            raft_member from)
{
    LIST_FOR_EACH (link, &node->events) {
        struct peer_event *event = LIST_ENTRY(link, struct peer_event, link);
        if (event->kind == kind && (event->peer == from || from == RAFT_NO_MEMBER)) {
            return event;
        }
    }
    return NULL;
}

/* Waits for the first such event and takes it; others stay. */
static inline struct peer_event *take_event(struct test_node *node, enum peer_event_kind kind,
                                            raft_member from)
{
    struct peer_event *event;
    AWAIT((event = find_event(node, kind, from)) != NULL);
    pthread_mutex_lock(&watch_lock);
    list_remove(&event->link);
    pthread_mutex_unlock(&watch_lock);
    return event;
}

static inline bool has_event(struct test_node *node, enum peer_event_kind kind, raft_member from)
{
    pthread_mutex_lock(&watch_lock);
    bool is_there = find_event(node, kind, from) != NULL;
    pthread_mutex_unlock(&watch_lock);
    return is_there;
}

/* Takes and releases; returns the epoch. */
static inline uint64_t expect_event(struct test_node *node, enum peer_event_kind kind,
                                    raft_member from)
{
    struct peer_event *event = take_event(node, kind, from);
    uint64_t epoch = event->epoch;
    event->release(event);
    return epoch;
}

static inline size_t batches_of(struct test_node *node)
{
    pthread_mutex_lock(&watch_lock);
    size_t batches = node->batches;
    pthread_mutex_unlock(&watch_lock);
    return batches;
}

/* Starts all, and takes what they say while they find each other. */
static inline void cluster_start(struct test_cluster *cluster)
{
    for (int i = 0; i < cluster->count; i++) {
        node_start(&cluster->nodes[i]);
    }
    for (int i = 0; i < cluster->count; i++) {
        for (int j = 0; j < cluster->count; j++) {
            if (i != j) {
                expect_event(&cluster->nodes[i], PEER_EVENT_DIAL_UP, j);
                expect_event(&cluster->nodes[i], PEER_EVENT_HELLO, j);
            }
        }
    }
}

static inline int send_to(struct test_node *node, raft_member to,
                          const struct peer_message *message)
{
    struct transport *transport = peer_transport(node->peer);
    return transport->ops->send(transport, to, message);
}

static inline void flush(struct test_node *node)
{
    struct transport *transport = peer_transport(node->peer);
    transport->ops->flush(transport);
}

/* ---- a bare client ---- */

struct bare_call {
    struct rpc_loop *loop;
    struct rpc_channel *channel;
    struct rpc_client_call *call;
    /* Under the watch. */
    bool is_sent;
    bool has_headers;
    bool is_closed;
    int code;
    char text[512];
    char response[512];
    size_t response_size;
};

static inline void bare_on_headers(void *context)
{
    struct bare_call *bare = context;
    pthread_mutex_lock(&watch_lock);
    bare->has_headers = true;
    pthread_cond_broadcast(&watch_changed);
    pthread_mutex_unlock(&watch_lock);
}

static inline void bare_on_message(void *context, struct bytes message)
{
}

static inline void bare_on_sent(void *context)
{
    struct bare_call *bare = context;
    pthread_mutex_lock(&watch_lock);
    bare->is_sent = true;
    pthread_cond_broadcast(&watch_changed);
    pthread_mutex_unlock(&watch_lock);
}

static inline void bare_on_closed(void *context, const struct rpc_result *result)
{
    struct bare_call *bare = context;
    pthread_mutex_lock(&watch_lock);
    bare->is_closed = true;
    bare->code = result->code;
    snprintf(bare->text, sizeof(bare->text), "%s", result->message);
    CHECK(result->response.size < sizeof(bare->response));
    if (result->response.size > 0) {
        memcpy(bare->response, result->response.data, result->response.size);
    }
    bare->response_size = result->response.size;
    pthread_cond_broadcast(&watch_changed);
    pthread_mutex_unlock(&watch_lock);
}

static inline struct rpc_client_events bare_begin(struct bare_call *bare, const char *address)
{
    memset(bare, 0, sizeof(*bare));
    const struct rpc_channel_options options = {.address = address, .receive_bytes_max = 1u << 20};
    assert_int_equal(rpc_loop_create("bare", &bare->loop), 0);
    assert_int_equal(rpc_channel_create(bare->loop, &options, &bare->channel), 0);
    return (struct rpc_client_events){
        .on_headers = bare_on_headers,
        .on_message = bare_on_message,
        .on_sent = bare_on_sent,
        .on_closed = bare_on_closed,
        .context = bare,
    };
}

static inline void bare_open(struct bare_call *bare, const char *address, const char *path)
{
    const struct rpc_client_events events = bare_begin(bare, address);
    const struct rpc_client_options options = {.path = path, .deadline_ns = UINT64_MAX};
    assert_int_equal(rpc_stream_open(bare->channel, &options, &events, &bare->call), 0);
}

static inline void bare_send(struct bare_call *bare, struct bytes message)
{
    bare->is_sent = false;
    if (rpc_stream_send(bare->call, message, false) == 0) {
        AWAIT(bare->is_sent || bare->is_closed);
    }
}

static inline void bare_unary(struct bare_call *bare, const char *address, const char *path,
                              struct bytes request)
{
    const struct rpc_client_events events = bare_begin(bare, address);
    const struct rpc_client_options options = {.path = path, .deadline_ns = UINT64_MAX};
    assert_int_equal(rpc_unary(bare->channel, &options, request, &events, &bare->call), 0);
}

static inline void bare_finish(struct bare_call *bare)
{
    rpc_client_cancel(bare->call);
    AWAIT(bare->is_closed);
    rpc_client_release(bare->call);
    rpc_channel_destroy(bare->channel);
    rpc_loop_destroy(bare->loop);
}

/* What member `from` of the cluster says at the beginning of a stream to `to`. */
static inline struct peer_header hello_of(const struct test_cluster *cluster, raft_member from,
                                          raft_member to)
{
    return (struct peer_header){
        .format_version = PEER_FORMAT_VERSION,
        .from_node_id = bytes_of_text(cluster->members[from].node_id),
        .to_node_id = bytes_of_text(cluster->members[to].node_id),
        .incarnation = cluster->nodes[from].options.incarnation,
        .membership_hash = peer_membership_hash(cluster->members, cluster->count),
        .stream_id = 1,
        .process = 1000 + (uint64_t)from,
    };
}

static inline void bare_send_batch(struct bare_call *bare, const struct peer_header *header,
                                   const struct peer_message *message)
{
    struct buf wire;
    buf_init(&wire, 0);
    uint8_t *room = buf_extend(&wire, peer_header_size(header));
    assert_non_null(room);
    peer_header_write(header, room);
    if (message != NULL) {
        assert_int_equal(peer_message_append(message, header->from_node_id, &wire), 0);
    }
    bare_send(bare, buf_bytes(&wire));
    buf_finish(&wire);
}

#endif
