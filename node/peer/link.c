/* A link: the stream that this node dials to one other node, and what waits to be sent on it.
 *
 * Each dial creates a channel: a channel that failed before reports its old failures, but what
 * counts is whether the peer listens now. */
#include "base/check.h"
#include "base/clock.h"
#include "base/errors.h"
#include "base/log.h"
#include "peer/peer_internal.h"
#include "phalanx/consensus.pb-c.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define BACKOFF_MS_MIN 50
#define BACKOFF_MS_MAX 1000
#define KEEPALIVE_MS_MIN 1000
#define DIAL_MS_MIN 100
/* Look-up time after which a warning is logged, and the interval of the checks whether it has
 * ended. */
#define LOOK_UP_MS 1000
/* The peer's kernel refuses a connection at once. A failure that takes longer has another
 * reason. */
#define REFUSED_MS_MAX 1000
/* Least time between immediate redials of a lost stream. */
#define REDIAL_INTERVAL_MS_MIN 100
#define RECEIVE_BYTES_MAX (64u << 10)

struct peer_link {
    struct peer *peer;
    raft_member member;

    /* Used on the loop's thread only. */
    struct rpc_name *name; /* the peer's address */
    struct rpc_channel *channel;
    struct random random;
    uint32_t backoff_ms; /* 0: the next dial is immediate */
    uint64_t redial_ns;
    uint64_t give_up_ns;
    uint64_t dialled_ns;
    uint64_t nameless_ns; /* since when no address is known; 0: an address is known */
    uint64_t hurried_ns;  /* time of the last immediate redial; 0: never */
    struct log_limit failures;
    struct log_limit news;

    pthread_mutex_t lock; /* guards all below */
    pthread_cond_t closed;
    struct rpc_client_call *call; /* NULL between dials */
    uint64_t stream_id;
    uint64_t sent_ns; /* time of the last batch */
    bool is_up;
    bool is_sending;
    bool is_sign_due;   /* a batch is due, even without messages */
    struct buf pending; /* the next batch: space for its header, then messages */
    size_t header_size;
    size_t pending_messages;
    size_t pending_entries;
    struct peer_unsent pending_forwards;
};

static void dial(struct peer_link *link);

static const char *name_of(const struct peer_link *link)
{
    return link->peer->members[link->member].node_id;
}

static const char *address_of(const struct peer_link *link)
{
    return link->peer->members[link->member].raft_addr;
}

/* ---- sending ---- */

/* Requires the lock. */
static void reset_pending(struct peer_link *link)
{
    buf_reset(&link->pending);
    void *room = buf_extend(&link->pending, link->header_size);
    CHECK(room != NULL); /* peer_link_create() allocated it, and buf_reset() keeps it */
    link->pending_messages = 0;
    link->pending_entries = 0;
    link->pending_forwards = (struct peer_unsent){0};
}

/* Sends the pending messages, or none, as one batch. Requires the lock and no outstanding send. */
static void send_batch(struct peer_link *link)
{
    const struct peer_header header = peer_header_to(link->peer, link->member, link->stream_id);
    peer_header_write(&header, link->pending.data);
    peer_batch_seal(link->pending.data, link->pending.size, link->header_size);
    int rc = rpc_stream_send(link->call, buf_bytes(&link->pending), false);
    link->is_sending = rc == 0;
    link->sent_ns = clock_monotonic_ns(clock_system());
    if (rc != 0) {
        return; /* the call is over: on_closed() follows and reports what was not sent */
    }
    link->is_sign_due = false;
    reset_pending(link);
}

/* Requires the lock. */
static void send_pending(struct peer_link *link)
{
    if (link->is_up && !link->is_sending && (link->pending_messages > 0 || link->is_sign_due)) {
        send_batch(link);
    }
}

static void send_sign(struct peer_link *link)
{
    pthread_mutex_lock(&link->lock);
    link->is_sign_due = true;
    send_pending(link);
    pthread_mutex_unlock(&link->lock);
}

static void count(atomic_uint_fast64_t *counter)
{
    atomic_fetch_add_explicit(counter, 1, memory_order_relaxed);
}

static size_t entries_of(const struct peer_message *message)
{
    bool is_append =
        message->kind == PEER_MESSAGE_RAFT && message->raft.kind == RAFT_APPEND_REQUEST;
    return is_append ? message->raft.append_request.count : 0;
}

/* Requires the lock. */
static int add_pending(struct peer_link *link, const struct peer_message *message)
{
    size_t entries = entries_of(message);
    if (!link->is_up) {
        return ERR_CLOSED;
    }
    if (link->pending_messages == PEER_BATCH_MESSAGES_MAX ||
        link->pending_entries + entries > PEER_BATCH_ENTRIES_MAX) {
        return ERR_FULL;
    }
    struct bytes self_id = peer_node_id(link->peer, link->peer->self);
    int rc = peer_message_append(message, self_id, &link->pending);
    if (rc == 0) {
        link->pending_messages++;
        link->pending_entries += entries;
        if (message->kind == PEER_MESSAGE_FORWARD_REQUEST && link->pending_forwards.count++ == 0) {
            link->pending_forwards.first = message->forward_request.id;
        }
    }
    return rc;
}

int peer_link_send(struct peer_link *link, const struct peer_message *message)
{
    pthread_mutex_lock(&link->lock);
    int rc = add_pending(link, message);
    pthread_mutex_unlock(&link->lock);
    struct peer_counters *counters = &link->peer->counters;
    if (rc == ERR_FULL) {
        count(&counters->messages_dropped);
    } else if (rc == 0 && message->kind == PEER_MESSAGE_RAFT) {
        count(&counters->messages_sent);
    }
    return rc;
}

void peer_link_flush(struct peer_link *link)
{
    pthread_mutex_lock(&link->lock);
    send_pending(link);
    pthread_mutex_unlock(&link->lock);
}

/* ---- timers ---- */

static void on_timer(void *context)
{
    struct peer_link *link = context;
    if (atomic_load(&link->peer->is_stopping)) {
        return;
    }
    uint64_t now_ns = clock_monotonic_ns(clock_system());
    pthread_mutex_lock(&link->lock);
    bool is_idle = link->call == NULL;
    bool has_given_up = !is_idle && !link->is_up && now_ns >= link->give_up_ns;
    if (has_given_up) {
        rpc_client_cancel(link->call);
    }
    pthread_mutex_unlock(&link->lock);
    if (is_idle && now_ns >= link->redial_ns) {
        dial(link);
    }
}

/* A timer whose reason is gone does nothing. */
static void set_timer(struct peer_link *link, uint64_t deadline_ns)
{
    int rc = rpc_loop_post(link->peer->loop, deadline_ns, on_timer, link);
    CHECK(rc == 0 || rc == ERR_CLOSED);
}

static void schedule_redial(struct peer_link *link)
{
    uint64_t delay_ns = 0;
    if (link->backoff_ms > 0) {
        /* Jitter of a quarter, so that nodes that failed at the same time do not dial at the same
         * time. */
        uint64_t most_ns = link->backoff_ms * NS_PER_MS;
        delay_ns = most_ns - random_below(&link->random, most_ns / 4);
    }
    link->redial_ns = clock_monotonic_ns(clock_system()) + delay_ns;
    set_timer(link, link->redial_ns);
}

/* Plans the next dial after this one failed or its stream was lost. */
static void plan_backoff(struct peer_link *link, bool was_up)
{
    uint64_t now_ns = clock_monotonic_ns(clock_system());
    uint64_t interval_ns = REDIAL_INTERVAL_MS_MIN * NS_PER_MS;
    if (was_up && (link->hurried_ns == 0 || now_ns - link->hurried_ns >= interval_ns)) {
        link->hurried_ns = now_ns;
        link->backoff_ms = 0;
        return;
    }
    uint32_t next_ms = link->backoff_ms == 0 ? BACKOFF_MS_MIN : link->backoff_ms * 2;
    link->backoff_ms = next_ms < BACKOFF_MS_MAX ? next_ms : BACKOFF_MS_MAX;
}

/* ---- the stream's events ---- */

static void post(struct peer_link *link, enum peer_event_kind kind)
{
    const struct peer_event event = {.kind = kind, .peer = link->member};
    peer_post_plain(link->peer, &event);
}

static void on_headers(void *context)
{
    struct peer_link *link = context;
    pthread_mutex_lock(&link->lock);
    link->is_up = true;
    pthread_mutex_unlock(&link->lock);
    log_limit_reset(&link->failures);
    count(&link->peer->counters.connects);
    uint64_t suppressed;
    log_limit_reset(&link->news);
    if (log_limit_passes(&link->news, clock_monotonic_ns(clock_system()), "", &suppressed)) {
        log_info("peer", "stream to peer is established", LOG_STR("peer", name_of(link)),
                 LOG_STR("address", address_of(link)));
    }
    post(link, PEER_EVENT_DIAL_UP);
}

/* Answers a probe with a batch. The peer sends one when another process uses this node's id. */
static void on_message(void *context, struct bytes message)
{
    struct peer_link *link = context;
    struct peer *peer = link->peer;
    send_sign(link);
    Phalanx__StreamProbe *probe = phalanx__stream_probe__unpack(NULL, message.size, message.data);
    if (probe == NULL) {
        return;
    }
    char reason[REASON_BYTES_MAX];
    snprintf(reason, sizeof(reason),
             "another process says that it is %s: it comes from %.300s, this process listens on "
             "%s; stop one of them, or give it its own node_id and data_dir",
             peer->members[peer->self].node_id, probe->rival, peer->listen_addr);
    phalanx__stream_probe__free_unpacked(probe, NULL);
    peer_warn(&peer->rivals, "two processes have this node's id", name_of(link), address_of(link),
              reason);
}

static void on_sent(void *context)
{
    struct peer_link *link = context;
    pthread_mutex_lock(&link->lock);
    link->is_sending = false;
    send_pending(link);
    pthread_mutex_unlock(&link->lock);
}

/* gRPC reports every kind of failed dial as UNAVAILABLE. Only its text says that no process
 * listens: "failed to connect to all addresses; last error: UNKNOWN: ...: Connection refused"
 * (1.51). */
static bool is_refused_dial(const struct peer_link *link, const struct rpc_result *result)
{
    uint64_t elapsed_ns = clock_monotonic_ns(clock_system()) - link->dialled_ns;
    return result->code == GRPC_STATUS_UNAVAILABLE && elapsed_ns < REFUSED_MS_MAX * NS_PER_MS &&
           strcasestr(result->message, "connection refused") != NULL;
}

static void log_loss(struct peer_link *link, const struct rpc_result *result, bool was_up)
{
    if (atomic_load(&link->peer->is_stopping)) {
        return;
    }
    /* Unless the peer is stopping, only on_timer() cancels a dial. */
    bool is_given_up = !was_up && result->code == GRPC_STATUS_CANCELLED;
    const char *text = is_given_up ? "no answer in time" : result->message;
    bool is_refused_by_peer = result->code == GRPC_STATUS_FAILED_PRECONDITION;
    const char *what = was_up               ? "stream to peer was lost"
                       : is_refused_by_peer ? "peer refuses this node"
                                            : "cannot reach peer";
    peer_warn(&link->failures, what, name_of(link), address_of(link), text);
}

/* Looks the peer's address up again, since it may have changed. */
static void look_again(struct peer_link *link, bool was_up)
{
    if (atomic_load(&link->peer->is_stopping)) {
        return;
    }
    if (!was_up) {
        rpc_name_rotate(link->name);
    }
    rpc_name_look_up(link->name);
}

static void on_closed(void *context, const struct rpc_result *result)
{
    struct peer_link *link = context;
    pthread_mutex_lock(&link->lock);
    bool was_up = link->is_up;
    const struct peer_event lost = {
        .kind = PEER_EVENT_DIAL_LOST, .peer = link->member, .dial_lost = {link->pending_forwards}};
    link->is_up = false;
    link->is_sending = false;
    link->is_sign_due = false;
    reset_pending(link);
    pthread_mutex_unlock(&link->lock);
    log_loss(link, result, was_up);
    look_again(link, was_up);
    plan_backoff(link, was_up);
    if (was_up) {
        peer_post_plain(link->peer, &lost);
    } else if (is_refused_dial(link, result)) {
        post(link, PEER_EVENT_DIAL_REFUSED);
    }
    schedule_redial(link);
    /* Last: peer_link_stop() may wait for it. */
    pthread_mutex_lock(&link->lock);
    rpc_client_release(link->call);
    link->call = NULL;
    pthread_cond_broadcast(&link->closed);
    pthread_mutex_unlock(&link->lock);
}

/* ---- dialling ---- */

static uint64_t dial_timeout_ns(const struct peer_link *link)
{
    uint32_t election_ms = link->peer->election_timeout_ms;
    return (election_ms > DIAL_MS_MIN ? election_ms : DIAL_MS_MIN) * NS_PER_MS;
}

static int open_channel(struct peer_link *link, const char *target)
{
    uint32_t election_ms = link->peer->election_timeout_ms;
    const struct rpc_channel_options options = {
        .address = address_of(link),
        .target = target,
        .keepalive_ms = election_ms > KEEPALIVE_MS_MIN ? election_ms : KEEPALIVE_MS_MIN,
        .receive_bytes_max = RECEIVE_BYTES_MAX,
    };
    return rpc_channel_create(link->peer->loop, &options, &link->channel);
}

/* Opens the stream and sends the first batch. Requires the lock. */
static int open_stream(struct peer_link *link)
{
    const struct rpc_client_options options = {.path = STREAM_PATH, .deadline_ns = UINT64_MAX};
    const struct rpc_client_events events = {
        .on_headers = on_headers,
        .on_message = on_message,
        .on_sent = on_sent,
        .on_closed = on_closed,
        .context = link,
    };
    int rc = rpc_stream_open(link->channel, &options, &events, &link->call);
    if (rc != 0) {
        return rc;
    }
    link->stream_id = random_next(&link->random);
    reset_pending(link);
    send_batch(link);
    return 0;
}

/* Starts a look-up, after which on_name_found() dials. */
static void wait_for_name(struct peer_link *link, const char *reason)
{
    uint64_t now_ns = clock_monotonic_ns(clock_system());
    rpc_name_look_up(link->name);
    if (link->nameless_ns == 0) {
        link->nameless_ns = now_ns;
    } else if (now_ns - link->nameless_ns >= LOOK_UP_MS * NS_PER_MS) {
        peer_warn(&link->failures, "cannot reach peer", name_of(link), address_of(link), reason);
    }
    link->redial_ns = now_ns + LOOK_UP_MS * NS_PER_MS;
    set_timer(link, link->redial_ns);
}

static void dial(struct peer_link *link)
{
    char target[RPC_TARGET_BYTES_MAX];
    char reason[RPC_NAME_REASON_BYTES_MAX];
    rpc_channel_destroy(link->channel);
    link->channel = NULL;
    if (!rpc_name_target(link->name, target, reason)) {
        wait_for_name(link, reason);
        return;
    }
    link->nameless_ns = 0;
    link->dialled_ns = clock_monotonic_ns(clock_system());
    link->give_up_ns = link->dialled_ns + dial_timeout_ns(link);
    int rc = open_channel(link, target);
    if (rc == 0) {
        pthread_mutex_lock(&link->lock);
        /* Under the lock: peer_link_stop() either sees the call or keeps it from being opened. */
        bool is_stopping = atomic_load(&link->peer->is_stopping);
        rc = is_stopping ? 0 : open_stream(link);
        pthread_mutex_unlock(&link->lock);
    }
    if (rc == 0) {
        set_timer(link, link->give_up_ns);
    } else {
        plan_backoff(link, false);
        schedule_redial(link);
    }
}

bool peer_link_target(struct peer_link *link, char target[RPC_TARGET_BYTES_MAX], char *reason)
{
    if (link->name == NULL) {
        snprintf(reason, RPC_NAME_REASON_BYTES_MAX, "the node is stopping");
        return false;
    }
    return rpc_name_target(link->name, target, reason);
}

/* Loop's thread. */
static void on_name_found(void *context)
{
    struct peer_link *link = context;
    pthread_mutex_lock(&link->lock);
    bool is_idle = link->call == NULL;
    pthread_mutex_unlock(&link->lock);
    if (is_idle && !atomic_load(&link->peer->is_stopping)) {
        peer_link_hurry(link);
    }
}

/* The look-up's thread. The link exists until close_channel() has ended the look-ups. */
static void post_name_found(void *context)
{
    struct peer_link *link = context;
    int rc = rpc_loop_post(link->peer->loop, 0, on_name_found, link);
    CHECK(rc == 0 || rc == ERR_CLOSED);
}

/* ---- lifetime ---- */

int peer_link_create(struct peer *peer, raft_member member, struct peer_link **out)
{
    struct peer_link *link = calloc(1, sizeof(*link));
    if (link == NULL) {
        return ERR_NOMEM;
    }
    link->peer = peer;
    link->member = member;
    int rc = rpc_name_create(address_of(link), post_name_found, link, &link->name);
    if (rc != 0) {
        free(link);
        return rc;
    }
    uint64_t seed;
    random_bytes(&seed, sizeof(seed));
    random_seed(&link->random, seed);
    const struct peer_header header = peer_header_to(peer, member, 0);
    link->header_size = peer_header_size(&header);
    static_assert(PEER_QUEUE_BYTES_MAX + 4 * CLUSTER_NODE_ID_BYTES_MAX < PEER_BATCH_BYTES_MAX,
                  "a full queue and its header must be acceptable as one batch");
    buf_init(&link->pending, link->header_size + PEER_QUEUE_BYTES_MAX);
    if (buf_extend(&link->pending, link->header_size) == NULL) {
        rpc_name_destroy(link->name);
        free(link);
        return ERR_NOMEM;
    }
    pthread_mutex_init(&link->lock, NULL);
    pthread_cond_init(&link->closed, NULL);
    *out = link;
    return 0;
}

void peer_link_start(struct peer_link *link)
{
    set_timer(link, 0);
}

void peer_link_hurry(struct peer_link *link)
{
    link->backoff_ms = 0;
    link->redial_ns = clock_monotonic_ns(clock_system());
    set_timer(link, link->redial_ns);
}

void peer_link_tell_cluster_id(struct peer_link *link)
{
    pthread_mutex_lock(&link->lock);
    bool is_up = link->is_up;
    bool is_dialling = !is_up && link->call != NULL;
    pthread_mutex_unlock(&link->lock);
    if (is_up) {
        send_sign(link);
        return;
    }
    uint64_t now_ns = clock_monotonic_ns(clock_system());
    if (!is_dialling && now_ns - link->dialled_ns >= REDIAL_INTERVAL_MS_MIN * NS_PER_MS) {
        peer_link_hurry(link);
    }
}

void peer_link_give_sign(struct peer_link *link, uint64_t now_ns)
{
    pthread_mutex_lock(&link->lock);
    if (link->is_up && !link->is_sending && now_ns - link->sent_ns >= STREAM_SIGN_NS) {
        send_batch(link);
    }
    pthread_mutex_unlock(&link->lock);
}

void peer_link_redial(struct peer_link *link)
{
    pthread_mutex_lock(&link->lock);
    if (link->call != NULL) {
        rpc_client_cancel(link->call);
    }
    pthread_mutex_unlock(&link->lock);
}

static void close_channel(void *context)
{
    struct peer_link *link = context;
    rpc_channel_destroy(link->channel);
    link->channel = NULL;
    rpc_name_destroy(link->name);
    link->name = NULL;
}

void peer_link_stop(struct peer_link *link)
{
    CHECK(atomic_load(&link->peer->is_stopping));
    pthread_mutex_lock(&link->lock);
    if (link->call != NULL) {
        rpc_client_cancel(link->call);
    }
    while (link->call != NULL) {
        pthread_cond_wait(&link->closed, &link->lock);
    }
    pthread_mutex_unlock(&link->lock);
    /* The channel is used on the loop's thread, which runs this before it ends. */
    int rc = rpc_loop_post(link->peer->loop, 0, close_channel, link);
    CHECK(rc == 0);
}

void peer_link_destroy(struct peer_link *link)
{
    if (link == NULL) {
        return;
    }
    CHECK(link->channel == NULL);
    rpc_name_destroy(link->name);
    buf_finish(&link->pending);
    pthread_cond_destroy(&link->closed);
    pthread_mutex_destroy(&link->lock);
    free(link);
}
