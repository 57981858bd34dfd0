/* Calls to a cluster: addresses, the search for the leader, repetition of calls. */
#include "cluster.h"

#include "base/check.h"
#include "base/clock.h"
#include "base/errors.h"
#include "complain.h"
#include "google/rpc/error_details.pb-c.h"
#include "google/rpc/status.pb-c.h"
#include "raftogram/v1/messaging.pb-c.h"

#include <errno.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define STATUS_PATH "/raftogram.v1.Cluster/Status"
#define BACKOFF_MS_MIN 50
#define BACKOFF_MS_MAX 400
/* NotLeader answers in a row that are followed at once. Later ones wait as any other retry does. */
#define REDIRECTS_AT_ONCE_MAX 3
/* One attempt of a call that may be repeated gets a part of the whole time, so that a node that
 * hangs does not take all of it. */
#define ATTEMPT_PART 3
#define ATTEMPT_MS_MIN 1000
#define DISCOVER_MS_MAX 1000
#define DIAGNOSE_MS_MAX 500
/* Limits the look-up of names within the time in which all nodes are asked: most of it if there is
 * no other node to ask, half of it if there is one, and this long if one answer may be enough. */
#define LOOK_UP_MS_MAX 200
#define TAIL_LOOK_UP_MS_MAX 3000
#define RECONNECT_BACKOFF_MS 200
#define KEEPALIVE_MS 6000 /* the nodes permit one ping each 5 s */

struct endpoint {
    char *address;
    struct rpc_name *name;       /* what `address` stands for: looked up from the beginning */
    struct rpc_channel *channel; /* NULL until first used */
};

struct cluster {
    struct rpc_loop *loop;
    uint64_t timeout_ms;
    struct endpoint endpoints[CLUSTER_ADDRESSES_MAX];
    size_t endpoint_count;
    size_t current;
};

static uint64_t now_ns(void)
{
    return clock_monotonic_ns(clock_system());
}

/* ---- addresses ---- */

/* The index of `address`, which is added when new; -1 when there is no room. */
static int add_endpoint(struct cluster *cluster, const char *address)
{
    for (size_t i = 0; i < cluster->endpoint_count; i++) {
        if (strcmp(cluster->endpoints[i].address, address) == 0) {
            return (int)i;
        }
    }
    /* It may come from the wire. */
    struct address parsed;
    if (cluster->endpoint_count == CLUSTER_ADDRESSES_MAX ||
        address_split(address, &parsed, NULL) != 0) {
        return -1;
    }
    char *copy = strdup(address);
    if (copy == NULL) {
        return -1;
    }
    struct rpc_name *name;
    if (rpc_name_create(address, NULL, NULL, &name) != 0) {
        free(copy);
        return -1;
    }
    rpc_name_look_up(name);
    cluster->endpoints[cluster->endpoint_count] = (struct endpoint){.address = copy, .name = name};
    return (int)cluster->endpoint_count++;
}

int cluster_create(char *const *addresses, size_t count, uint64_t timeout_ms, struct cluster **out)
{
    struct cluster *cluster = calloc(1, sizeof(*cluster));
    if (cluster == NULL) {
        return ERR_NOMEM;
    }
    cluster->timeout_ms = timeout_ms;
    /* What gRPC itself has to say is in the answers. */
    setenv("GRPC_VERBOSITY", "NONE", 0);
    int rc = rpc_loop_create("ctl", &cluster->loop);
    if (rc != 0) {
        free(cluster);
        return rc;
    }
    for (size_t i = 0; i < count; i++) {
        if (add_endpoint(cluster, addresses[i]) < 0) {
            cluster_destroy(cluster);
            return ERR_NOMEM;
        }
    }
    CHECK(cluster->endpoint_count > 0);
    *out = cluster;
    return 0;
}

void cluster_destroy(struct cluster *cluster)
{
    if (cluster == NULL) {
        return;
    }
    for (size_t i = 0; i < cluster->endpoint_count; i++) {
        rpc_channel_destroy(cluster->endpoints[i].channel);
        rpc_name_destroy(cluster->endpoints[i].name);
        free(cluster->endpoints[i].address);
    }
    rpc_loop_destroy(cluster->loop);
    free(cluster);
}

size_t cluster_address_count(const struct cluster *cluster)
{
    return cluster->endpoint_count;
}

const char *cluster_address(const struct cluster *cluster, size_t index)
{
    CHECK(index < cluster->endpoint_count);
    return cluster->endpoints[index].address;
}

size_t cluster_current(const struct cluster *cluster)
{
    return cluster->current;
}

static bool is_known(const struct endpoint *endpoint)
{
    char target[RPC_TARGET_BYTES_MAX];
    char reason[RPC_NAME_REASON_BYTES_MAX];
    return endpoint->channel != NULL || rpc_name_target(endpoint->name, target, reason);
}

/* Waits for the look-up of a name until `until_ns`. NULL: `fault` says why. */
static struct rpc_channel *open_channel(struct cluster *cluster, size_t index, uint64_t until_ns,
                                        struct answer *fault)
{
    CHECK(index < cluster->endpoint_count);
    struct endpoint *endpoint = &cluster->endpoints[index];
    if (endpoint->channel != NULL) {
        rpc_channel_reset_backoff(endpoint->channel);
        return endpoint->channel;
    }
    char target[RPC_TARGET_BYTES_MAX];
    char reason[RPC_NAME_REASON_BYTES_MAX];
    rpc_name_look_up(endpoint->name);
    rpc_name_wait(endpoint->name, until_ns);
    if (!rpc_name_target(endpoint->name, target, reason)) {
        *fault = (struct answer){.code = GRPC_STATUS_UNAVAILABLE, .is_unconnected = true};
        snprintf(fault->message, sizeof(fault->message), "cannot connect: %s", reason);
        return NULL;
    }
    const struct rpc_channel_options options = {
        .address = endpoint->address,
        .target = target,
        .backoff_max_ms = RECONNECT_BACKOFF_MS,
        .keepalive_ms = KEEPALIVE_MS,
        .receive_bytes_max = CLUSTER_ANSWER_BYTES_MAX,
    };
    int rc = rpc_channel_create(cluster->loop, &options, &endpoint->channel);
    if (rc != 0) {
        *fault = (struct answer){.code = GRPC_STATUS_RESOURCE_EXHAUSTED};
        snprintf(fault->message, sizeof(fault->message), "cannot call: %s", error_text(rc));
        return NULL;
    }
    return endpoint->channel;
}

struct rpc_channel *cluster_channel(struct cluster *cluster, size_t index, struct answer *fault)
{
    return open_channel(cluster, index, now_ns() + TAIL_LOOK_UP_MS_MAX * NS_PER_MS, fault);
}

/* ---- one call to one node, waited for ---- */

/* Shared by the loop's thread and the caller. */
struct crowd {
    pthread_mutex_t lock;
    pthread_cond_t changed;
    size_t over; /* calls that have ended */
};

struct exchange {
    struct crowd *crowd;
    struct rpc_client_call *call;
    const ProtobufCMessageDescriptor *descriptor;
    struct answer answer;
    ProtobufCMessage *response; /* NULL unless the answer is OK */
    bool is_over; /* under the crowd's lock; once set, the caller owns all other fields */
};

static void end_exchange(struct exchange *exchange)
{
    struct crowd *crowd = exchange->crowd;
    pthread_mutex_lock(&crowd->lock);
    exchange->is_over = true;
    crowd->over++;
    pthread_cond_signal(&crowd->changed);
    pthread_mutex_unlock(&crowd->lock);
}

/* Marks an answer that cannot be from a gRPC port of a node: every such port serves Status. A Raft
 * port also speaks gRPC, but only to other nodes. */
static void note_wrong_port(struct answer *answer)
{
    if (answer->code == GRPC_STATUS_UNIMPLEMENTED) {
        answer->is_wrong_port = true;
        snprintf(answer->message, sizeof(answer->message), "%s",
                 "is the Raft port of a node (raft_bind_addr: node to node), or no raftogram; give "
                 "the gRPC port (grpc_bind_addr), such as 127.0.0.1:9000");
    }
}

static void on_closed(void *context, const struct rpc_result *result)
{
    struct exchange *exchange = context;
    answer_of_result(result, &exchange->answer);
    if (result->code == GRPC_STATUS_OK) {
        exchange->response = protobuf_c_message_unpack(
            exchange->descriptor, NULL, result->response.size, result->response.data);
        if (exchange->response == NULL) {
            exchange->answer.code = GRPC_STATUS_INTERNAL;
            snprintf(exchange->answer.message, sizeof(exchange->answer.message),
                     "the answer is no %s", exchange->descriptor->name);
        }
    }
    end_exchange(exchange);
}

static void fail_exchange(struct exchange *exchange, int error)
{
    exchange->answer.code = GRPC_STATUS_RESOURCE_EXHAUSTED;
    snprintf(exchange->answer.message, sizeof(exchange->answer.message), "cannot call: %s",
             error_text(error));
    end_exchange(exchange);
}

/* Starts a call. `exchange` is zeroed, except for its answer if there is no channel. If the call
 * cannot start, its answer says so. */
static void exchange_start(struct exchange *exchange, struct crowd *crowd,
                           struct rpc_channel *channel, const char *path, struct bytes request,
                           const ProtobufCMessageDescriptor *descriptor, uint64_t deadline_ns)
{
    exchange->crowd = crowd;
    exchange->descriptor = descriptor;
    const struct rpc_client_options options = {.path = path, .deadline_ns = deadline_ns};
    const struct rpc_client_events events = {.on_closed = on_closed, .context = exchange};
    if (channel == NULL) {
        end_exchange(exchange); /* its answer says why */
        return;
    }
    int rc = rpc_unary(channel, &options, request, &events, &exchange->call);
    if (rc != 0) {
        fail_exchange(exchange, rc);
    }
}

static void crowd_init(struct crowd *crowd)
{
    pthread_mutex_init(&crowd->lock, NULL);
    pthread_cond_init(&crowd->changed, NULL);
    crowd->over = 0;
}

/* Waits until `count` calls have ended, and returns how many have. Every call has a deadline, so
 * the wait is bounded. */
static size_t crowd_wait(struct crowd *crowd, size_t count)
{
    pthread_mutex_lock(&crowd->lock);
    while (crowd->over < count) {
        pthread_cond_wait(&crowd->changed, &crowd->lock);
    }
    size_t over = crowd->over;
    pthread_mutex_unlock(&crowd->lock);
    return over;
}

/* Requires that all calls have ended. */
static void crowd_finish(struct crowd *crowd)
{
    pthread_cond_destroy(&crowd->changed);
    pthread_mutex_destroy(&crowd->lock);
}

/* Returns NULL unless the call has ended with OK. */
static const ProtobufCMessage *exchange_response(struct exchange *exchange)
{
    pthread_mutex_lock(&exchange->crowd->lock);
    const ProtobufCMessage *response = exchange->is_over ? exchange->response : NULL;
    pthread_mutex_unlock(&exchange->crowd->lock);
    return response;
}

static void exchange_release(struct exchange *exchange)
{
    if (exchange->call != NULL) {
        rpc_client_release(exchange->call);
    }
}

/* ---- answers ---- */

const char *answer_code_name(int code)
{
    static const char *const names[] = {
        "OK",
        "CANCELLED",
        "UNKNOWN",
        "INVALID_ARGUMENT",
        "DEADLINE_EXCEEDED",
        "NOT_FOUND",
        "ALREADY_EXISTS",
        "PERMISSION_DENIED",
        "RESOURCE_EXHAUSTED",
        "FAILED_PRECONDITION",
        "ABORTED",
        "OUT_OF_RANGE",
        "UNIMPLEMENTED",
        "INTERNAL",
        "UNAVAILABLE",
        "DATA_LOSS",
        "UNAUTHENTICATED",
    };
    size_t count = sizeof(names) / sizeof(names[0]);
    return code >= 0 && (size_t)code < count ? names[code] : "UNKNOWN";
}

static void copy_text(char *out, size_t size, const char *text)
{
    snprintf(out, size, "%s", text);
}

static bool is_any_of(const Google__Protobuf__Any *any, const char *type)
{
    const char *slash = strrchr(any->type_url, '/');
    return slash != NULL && strcmp(slash + 1, type) == 0;
}

static void read_detail(const Google__Protobuf__Any *any, struct answer *out)
{
    if (is_any_of(any, "raftogram.v1.NotLeader")) {
        Raftogram__V1__NotLeader *detail =
            raftogram__v1__not_leader__unpack(NULL, any->value.len, any->value.data);
        if (detail != NULL) {
            out->is_not_leader = true;
            copy_text(out->leader, sizeof(out->leader), detail->leader_grpc_target);
            raftogram__v1__not_leader__free_unpacked(detail, NULL);
        }
    } else if (is_any_of(any, "google.rpc.ErrorInfo")) {
        Google__Rpc__ErrorInfo *detail =
            google__rpc__error_info__unpack(NULL, any->value.len, any->value.data);
        if (detail != NULL) {
            copy_text(out->reason, sizeof(out->reason), detail->reason);
            for (size_t i = 0; i < detail->n_metadata; i++) {
                if (strcmp(detail->metadata[i]->key, "item") == 0) {
                    out->has_item = true;
                    out->item = (uint32_t)strtoul(detail->metadata[i]->value, NULL, 10);
                }
            }
            google__rpc__error_info__free_unpacked(detail, NULL);
        }
    }
}

/* Part of gRPC's message (1.51) when the port speaks HTTP/1.1. */
#define HTTP_TEXT "http1.x server"

/* Recognises gRPC's messages for a call that had no connection. */
static bool is_dial_text(const char *text)
{
    static const char *const beginnings[] = {"failed to connect", "DNS resolution failed"};
    for (size_t i = 0; i < sizeof(beginnings) / sizeof(beginnings[0]); i++) {
        if (strncmp(text, beginnings[i], strlen(beginnings[i])) == 0) {
            return true;
        }
    }
    return false;
}

/* Shortens gRPC's message of a failed dial to the cause at its end. */
static void copy_message(const char *text, struct answer *out)
{
    if (out->code == GRPC_STATUS_UNAVAILABLE && strstr(text, HTTP_TEXT) != NULL) {
        out->is_wrong_port = true;
        copy_text(out->message, sizeof(out->message),
                  "is an HTTP port (health_bind_addr: the page, health, metrics); give the gRPC "
                  "port (grpc_bind_addr), such as 127.0.0.1:9000");
    } else if (out->code == GRPC_STATUS_UNAVAILABLE && is_dial_text(text)) {
        const char *cause = strrchr(text, ':');
        out->is_unconnected = true;
        snprintf(out->message, sizeof(out->message), "cannot connect%s",
                 cause == NULL ? "" : cause);
    } else {
        copy_text(out->message, sizeof(out->message), text);
    }
}

void answer_of_result(const struct rpc_result *result, struct answer *out)
{
    *out = (struct answer){.code = result->code};
    copy_message(result->message == NULL ? "" : result->message, out);
    if (result->details.size == 0) {
        return;
    }
    Google__Rpc__Status *status =
        google__rpc__status__unpack(NULL, result->details.size, result->details.data);
    if (status == NULL) {
        return;
    }
    for (size_t i = 0; i < status->n_details; i++) {
        read_detail(status->details[i], out);
    }
    google__rpc__status__free_unpacked(status, NULL);
}

enum answer_class answer_classify(const struct answer *answer)
{
    if (answer->is_wrong_port) {
        return ANSWER_RETRY;
    }
    switch (answer->code) {
    case GRPC_STATUS_UNAVAILABLE:
        /* A node's UNAVAILABLE has a reason and means that nothing was proposed. gRPC's own has
         * none, and may mean that the connection broke during the call. */
        return answer->reason[0] != '\0' || answer->is_unconnected ? ANSWER_RETRY : ANSWER_UNKNOWN;
    case GRPC_STATUS_FAILED_PRECONDITION:
        return answer->is_not_leader ? ANSWER_REDIRECT : ANSWER_REFUSED;
    case GRPC_STATUS_RESOURCE_EXHAUSTED:
        return strcmp(answer->reason, "OVERLOADED") == 0 ? ANSWER_RETRY : ANSWER_REFUSED;
    case GRPC_STATUS_ABORTED:
    case GRPC_STATUS_CANCELLED:
    case GRPC_STATUS_DEADLINE_EXCEEDED:
    case GRPC_STATUS_UNKNOWN:
    case GRPC_STATUS_INTERNAL:
    /* One node is damaged: another may serve a read. */
    case GRPC_STATUS_DATA_LOSS:
        return ANSWER_UNKNOWN;
    default:
        return ANSWER_REFUSED;
    }
}

/* ---- all nodes ---- */

void cluster_learn_members(struct cluster *cluster, const Raftogram__V1__StatusResponse *status)
{
    for (size_t i = 0; i < status->n_members; i++) {
        (void)add_endpoint(cluster, status->members[i]->grpc_addr);
    }
}

static void start_status(struct cluster *cluster, size_t index, struct crowd *crowd,
                         struct exchange *exchange, uint64_t deadline_ns, uint64_t named_ns)
{
    *exchange = (struct exchange){0};
    struct rpc_channel *channel = open_channel(cluster, index, named_ns, &exchange->answer);
    exchange_start(exchange, crowd, channel, STATUS_PATH, (struct bytes){"", 0},
                   &raftogram__v1__status_response__descriptor, deadline_ns);
}

/* Starts those from `first` on: at once where the address is known, then the others. */
static void start_all(struct cluster *cluster, size_t first, bool is_one_enough,
                      struct crowd *crowd, struct exchange *exchanges, uint64_t deadline_ns)
{
    bool is_started[CLUSTER_ADDRESSES_MAX] = {false};
    size_t count = cluster->endpoint_count;
    bool has_started = first > 0;
    for (size_t i = first; i < count; i++) {
        is_started[i] = is_known(&cluster->endpoints[i]);
        if (is_started[i]) {
            start_status(cluster, i, crowd, &exchanges[i], deadline_ns, 0);
            has_started = true;
        }
    }
    uint64_t now = now_ns();
    uint64_t left_ns = deadline_ns > now ? deadline_ns - now : 0;
    uint64_t wait_ns = has_started ? left_ns / 2 : left_ns - left_ns / 8;
    if (is_one_enough && has_started && wait_ns > LOOK_UP_MS_MAX * NS_PER_MS) {
        wait_ns = LOOK_UP_MS_MAX * NS_PER_MS;
    }
    for (size_t i = first; i < count; i++) {
        if (!is_started[i]) {
            start_status(cluster, i, crowd, &exchanges[i], deadline_ns, now + wait_ns);
        }
    }
}

static bool is_leader(const Raftogram__V1__StatusResponse *status)
{
    return status != NULL && status->has_quorum && strcmp(status->role, "leader") == 0;
}

/* Learns the members from the answers so far. Returns whether the leader is among them. */
static bool learn_so_far(struct cluster *cluster, struct exchange *exchanges, size_t count)
{
    bool has_leader = false;
    for (size_t i = 0; i < count; i++) {
        const Raftogram__V1__StatusResponse *status =
            (const Raftogram__V1__StatusResponse *)exchange_response(&exchanges[i]);
        if (status != NULL) {
            cluster_learn_members(cluster, status);
        }
        has_leader = has_leader || is_leader(status);
    }
    return has_leader;
}

/* Asks all nodes. With `is_leader_enough`, the leader's answer ends the wait for the others. */
static size_t ask_all(struct cluster *cluster, uint64_t timeout_ms, bool is_leader_enough,
                      struct node_answer *out)
{
    uint64_t deadline_ns = now_ns() + timeout_ms * NS_PER_MS;
    struct exchange exchanges[CLUSTER_ADDRESSES_MAX];
    struct crowd crowd;
    crowd_init(&crowd);
    size_t count = 0;
    size_t over = 0;
    /* The members are asked as soon as one answer names them: an address that keeps silent may take
     * all the time, and would leave them none. */
    while (count < cluster->endpoint_count || over < count) {
        start_all(cluster, count, is_leader_enough, &crowd, exchanges, deadline_ns);
        count = cluster->endpoint_count;
        over = crowd_wait(&crowd, over + 1);
        if (learn_so_far(cluster, exchanges, count) && is_leader_enough) {
            break;
        }
    }
    for (size_t i = 0; i < count; i++) {
        if (exchanges[i].call != NULL) {
            rpc_client_cancel(exchanges[i].call);
        }
    }
    crowd_wait(&crowd, count);
    crowd_finish(&crowd);
    for (size_t i = 0; i < count; i++) {
        note_wrong_port(&exchanges[i].answer);
        out[i] = (struct node_answer){
            .address = cluster->endpoints[i].address,
            .answer = exchanges[i].answer,
            .status = (Raftogram__V1__StatusResponse *)exchanges[i].response,
        };
        exchange_release(&exchanges[i]);
    }
    return count;
}

size_t cluster_ask_all(struct cluster *cluster, uint64_t timeout_ms, struct node_answer *out)
{
    return ask_all(cluster, timeout_ms, false, out);
}

void cluster_free_answers(struct node_answer *answers, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        if (answers[i].status != NULL) {
            raftogram__v1__status_response__free_unpacked(answers[i].status, NULL);
        }
    }
}

const struct node_answer *cluster_find_leader(const struct node_answer *answers, size_t count)
{
    const struct node_answer *leader = NULL;
    for (size_t i = 0; i < count; i++) {
        const Raftogram__V1__StatusResponse *status = answers[i].status;
        if (is_leader(status) && (leader == NULL || status->term > leader->status->term)) {
            leader = &answers[i];
        }
    }
    return leader;
}

/* Returns the first node from `first` on that answers, else one that is not a wrong port. */
static size_t choose(const struct node_answer *answers, size_t count, size_t first)
{
    size_t chosen = first % count;
    for (size_t i = 0; i < count; i++) {
        size_t index = (first + i) % count;
        if (answers[index].status != NULL) {
            return index;
        }
        if (answers[chosen].answer.is_wrong_port) {
            chosen = index;
        }
    }
    return chosen;
}

/* Chooses the node to ask: the leader, else a node that answers, from `first` on, else `first`.
 * Returns its answer. That is not OK when no node answers. It is a wrong port's when there are only
 * wrong ports. */
static struct answer discover(struct cluster *cluster, size_t first, uint64_t deadline_ns)
{
    uint64_t now = now_ns();
    uint64_t left_ms = deadline_ns > now ? (deadline_ns - now) / NS_PER_MS : 0;
    /* A silent address must leave time for the call itself. */
    uint64_t part_ms = left_ms / ATTEMPT_PART;
    struct node_answer answers[CLUSTER_ADDRESSES_MAX];
    size_t count =
        ask_all(cluster, part_ms < DISCOVER_MS_MAX ? part_ms : DISCOVER_MS_MAX, true, answers);
    const struct node_answer *leader = cluster_find_leader(answers, count);
    size_t chosen = leader != NULL ? (size_t)(leader - answers) : choose(answers, count, first);
    cluster->current = chosen;
    struct answer answer = answers[chosen].answer;
    cluster_free_answers(answers, count);
    return answer;
}

/* ---- calls ---- */

struct attempts {
    uint64_t deadline_ns;
    uint64_t backoff_ms;
    unsigned redirects; /* in a row */
    bool is_unknown;    /* an attempt may have been done */
    bool is_checked;    /* the node that is asked has answered Status */
};

/* Sleeps, longer each time. Returns false when the time is up. */
static bool back_off(struct attempts *attempts)
{
    uint64_t now = now_ns();
    uint64_t wait_ns = attempts->backoff_ms * NS_PER_MS;
    if (now + wait_ns >= attempts->deadline_ns) {
        return false;
    }
    struct timespec left = {(time_t)(wait_ns / NS_PER_S), (long)(wait_ns % NS_PER_S)};
    while (nanosleep(&left, &left) != 0 && errno == EINTR) {
    }
    attempts->backoff_ms =
        attempts->backoff_ms * 2 < BACKOFF_MS_MAX ? attempts->backoff_ms * 2 : BACKOFF_MS_MAX;
    return true;
}

static uint64_t attempt_deadline_ns(const struct cluster *cluster, const struct cluster_call *call,
                                    const struct attempts *attempts)
{
    if (call->kind == CALL_ONCE) {
        return attempts->deadline_ns;
    }
    uint64_t part_ms = cluster->timeout_ms / ATTEMPT_PART;
    uint64_t part_ns = (part_ms > ATTEMPT_MS_MIN ? part_ms : ATTEMPT_MS_MIN) * NS_PER_MS;
    uint64_t deadline_ns = now_ns() + part_ns;
    return deadline_ns < attempts->deadline_ns ? deadline_ns : attempts->deadline_ns;
}

static ProtobufCMessage *attempt(struct cluster *cluster, const struct cluster_call *call,
                                 struct bytes request, uint64_t deadline_ns, struct answer *answer)
{
    struct crowd crowd;
    crowd_init(&crowd);
    struct exchange exchange = {0};
    struct rpc_channel *channel =
        open_channel(cluster, cluster->current, deadline_ns, &exchange.answer);
    exchange_start(&exchange, &crowd, channel, call->path, request, call->response, deadline_ns);
    crowd_wait(&crowd, 1);
    crowd_finish(&crowd);
    exchange_release(&exchange);
    ProtobufCMessage *response = exchange.response;
    if (response != NULL && call->judge != NULL) {
        call->judge(response, &exchange.answer);
        if (exchange.answer.code != GRPC_STATUS_OK) {
            protobuf_c_message_free_unpacked(response, NULL);
            response = NULL;
        }
    }
    *answer = exchange.answer;
    return response;
}

/* Finds out which nodes answer. Returns false, with the answer, when there are only wrong ports. */
static bool look_around(struct cluster *cluster, size_t first, struct attempts *attempts,
                        struct answer *answer)
{
    struct answer found = discover(cluster, first, attempts->deadline_ns);
    attempts->is_checked = found.code == GRPC_STATUS_OK;
    if (found.is_wrong_port) {
        *answer = found;
    }
    return !found.is_wrong_port;
}

/* Prepares the next attempt. Returns false when the time is up or no attempt can help. */
static bool follow(struct cluster *cluster, struct answer *answer, struct attempts *attempts)
{
    int leader = answer->is_not_leader && answer->leader[0] != '\0'
                     ? add_endpoint(cluster, answer->leader)
                     : -1;
    if (leader >= 0 && attempts->redirects < REDIRECTS_AT_ONCE_MAX) {
        attempts->redirects++;
        attempts->is_checked = false;
        cluster->current = (size_t)leader;
        return now_ns() < attempts->deadline_ns;
    }
    attempts->redirects = 0;
    return back_off(attempts) && look_around(cluster, cluster->current + 1, attempts, answer);
}

/* Finds a node that answers. Returns false, with the last answer, when there is none in time. */
static bool find_node(struct cluster *cluster, struct attempts *attempts, struct answer *answer)
{
    do {
        *answer = discover(cluster, cluster->current, attempts->deadline_ns);
        if (answer->code == GRPC_STATUS_OK) {
            attempts->is_checked = true;
            return true;
        }
    } while (!answer->is_wrong_port && back_off(attempts));
    return false;
}

void cluster_describe(const char *what, const char *name, char out[CLUSTER_SUBJECT_BYTES_MAX])
{
    out[0] = '\0';
    if (what != NULL) {
        snprintf(out, CLUSTER_SUBJECT_BYTES_MAX, "%s \"%.256s\": ", what, name);
    }
}

bool cluster_lacks_quorum(struct cluster *cluster)
{
    struct node_answer answers[CLUSTER_ADDRESSES_MAX];
    size_t count = ask_all(cluster, DIAGNOSE_MS_MAX, true, answers);
    bool is_leader_there = cluster_find_leader(answers, count) != NULL;
    bool is_any_there = false;
    for (size_t i = 0; i < count; i++) {
        is_any_there = is_any_there || answers[i].status != NULL;
    }
    cluster_free_answers(answers, count);
    return is_any_there && !is_leader_there;
}

static bool says_no_quorum(const struct answer *answer)
{
    return strcmp(answer->reason, "NO_QUORUM") == 0 ||
           (answer->is_not_leader && answer->leader[0] == '\0');
}

#define LINE_BYTES_MAX 32 /* "line N: " */

/* Reports why the call ended without a response, and returns the exit code. */
static int give_up(struct cluster *cluster, const struct cluster_call *call,
                   const struct answer *answer, bool is_refused, bool is_unknown)
{
    const char *address = cluster->endpoints[cluster->current].address;
    const char *reason =
        answer->reason[0] != '\0' ? answer->reason : answer_code_name(answer->code);
    char subject[CLUSTER_SUBJECT_BYTES_MAX];
    cluster_describe(call->what, call->name, subject);
    if (answer->is_wrong_port) {
        complain("%s %s", address, answer->message);
        return EXIT_USAGE;
    }
    if (is_refused) {
        char line[LINE_BYTES_MAX] = "";
        bool is_single = call->first_line == call->last_line;
        if (call->first_line != 0 && (answer->has_item || is_single)) {
            snprintf(line, sizeof(line), "line %" PRIu64 ": ", call->first_line + answer->item);
        }
        complain("%s%s%s (%s)", line, subject, answer->message, reason);
        return EXIT_REFUSED;
    }
    bool lacks_quorum =
        says_no_quorum(answer) || (!answer->is_unconnected && cluster_lacks_quorum(cluster));
    complain("%s%s%sthe cluster is unavailable; %s: %s (%s)", subject,
             is_unknown ? "outcome unknown, it may have been done; " : "",
             lacks_quorum ? NO_QUORUM_TEXT : "", address, answer->message, reason);
    return EXIT_UNAVAILABLE;
}

/* Returns whether every other attempt would get the same answer. */
static bool is_refusal(const struct answer *answer, const struct attempts *attempts)
{
    /* The method is unknown there. Unless the port has answered Status, it may be a wrong one. */
    if (answer->code == GRPC_STATUS_UNIMPLEMENTED) {
        return attempts->is_checked;
    }
    return answer_classify(answer) == ANSWER_REFUSED;
}

static int call_until_done(struct cluster *cluster, const struct cluster_call *call,
                           struct bytes request, ProtobufCMessage **out)
{
    struct attempts attempts = {
        .deadline_ns = now_ns() + cluster->timeout_ms * NS_PER_MS,
        .backoff_ms = BACKOFF_MS_MIN,
    };
    struct answer answer;
    /* A call that is sent only once goes to a node that has just answered. With any other node it
     * would be unknown whether the call arrived, and a silent one could use up the time. */
    if (call->kind == CALL_ONCE && !find_node(cluster, &attempts, &answer)) {
        return give_up(cluster, call, &answer, false, false);
    }
    for (;;) {
        uint64_t deadline_ns = attempt_deadline_ns(cluster, call, &attempts);
        *out = attempt(cluster, call, request, deadline_ns, &answer);
        if (*out != NULL) {
            return 0;
        }
        bool is_unknown = answer_classify(&answer) == ANSWER_UNKNOWN;
        if (is_unknown && call->kind != CALL_READ) {
            attempts.is_unknown = true;
        }
        bool is_refused = is_refusal(&answer, &attempts);
        bool is_final = is_refused || (is_unknown && call->kind == CALL_ONCE);
        size_t asked = cluster->current;
        if (is_final || !follow(cluster, &answer, &attempts)) {
            cluster->current = answer.is_wrong_port ? cluster->current : asked;
            return give_up(cluster, call, &answer, is_refused, attempts.is_unknown);
        }
    }
}

int cluster_call(struct cluster *cluster, const struct cluster_call *call, ProtobufCMessage **out)
{
    struct buf request = {0};
    size_t size = protobuf_c_message_get_packed_size(call->request);
    uint8_t *data = size > 0 ? buf_extend(&request, size) : NULL;
    if (buf_failed(&request)) {
        complain("out of memory for the request");
        return EXIT_REFUSED;
    }
    if (data != NULL) {
        protobuf_c_message_pack(call->request, data);
    }
    ProtobufCMessage *response = NULL;
    int code = call_until_done(cluster, call, buf_bytes(&request), &response);
    if (code == 0) {
        *out = response;
    }
    buf_finish(&request);
    return code;
}
