/* Dispatch with a real state machine above it and a fake node below: a request waits in the node
 * until the test ends it, with the outcome that the test wants. The test's thread plays the node's.
 */
#ifndef RAFTOGRAM_TESTS_DISPATCH_TESTING_H
#define RAFTOGRAM_TESTS_DISPATCH_TESTING_H

#include "base/check.h"
#include "base/errors.h"
#include "dispatch/service.h"
#include "driver/node.h"
#include "google/rpc/error_details.pb-c.h"
#include "google/rpc/status.pb-c.h"
#include "lib/await.h"
#include "phalanx/kv.pb-c.h"
#include "raftogram/v1/cluster.pb-c.h"
#include "raftogram/v1/messaging.pb-c.h"
#include "unit/chat/chat_fixture.h"

#define MAX_PAYLOAD_BYTES 1000
#define ELECTION_TIMEOUT_NS (1000 * NS_PER_S) /* no status grows old by itself */

/* ---- the node below ---- */

struct node {
    struct list requests;      /* submitted and not ended, in order; under the watch */
    int submit_error;          /* what node_submit() answers; under the watch */
    struct node_status status; /* under node_status_lock */
};

static pthread_mutex_t node_status_lock = PTHREAD_MUTEX_INITIALIZER;

int node_submit(struct node *node, struct node_request *request)
{
    int rc;
    CHANGE(rc = node->submit_error; if (rc == 0) list_push_back(&node->requests, &request->link));
    return rc;
}

void node_get_status(const struct node *node, struct node_status *out)
{
    pthread_mutex_lock(&node_status_lock);
    *out = node->status;
    pthread_mutex_unlock(&node_status_lock);
}

static inline void set_leaderless_since(struct node *node, uint64_t since_ns)
{
    pthread_mutex_lock(&node_status_lock);
    node->status.leaderless_since_ns = since_ns;
    pthread_mutex_unlock(&node_status_lock);
}

void node_get_latencies(const struct node *node, struct node_latencies *out)
{
    *out = (struct node_latencies){.log_sync.count = 7};
}

/* ---- the fixture ---- */

struct testing {
    struct fixture chat;
    struct node node;
    struct dispatch *dispatch;
};

static struct cluster_member member_addresses[] = {
    {"node1", "h1:7000", "h1:9000", "h1:8080"},
    {"node2", "h2:7000", "h2:9000", ""},
    {"node3", "h3:7000", "h3:9000", "h3:8080"},
};

static inline void no_turn_delays(void *context, struct latency_counts *out)
{
    *out = (struct latency_counts){.count = 14};
}

static inline void no_peer_counts(void *context, struct dispatch_peer_counts *out)
{
    *out =
        (struct dispatch_peer_counts){.messages_sent = 11, .messages_dropped = 12, .connects = 13};
}

static inline uint64_t store_bytes(void *context)
{
    return 4096;
}

static inline void testing_open_with(struct testing *testing, uint64_t election_timeout_ns)
{
    *testing = (struct testing){0};
    fixture_open(&testing->chat);
    list_init(&testing->node.requests);
    testing->node.status.raft.leader = 0;
    testing->node.status.taken_ns = clock_monotonic_ns(clock_system());
    const struct dispatch_options options = {
        .chat = testing->chat.chat,
        .members = member_addresses,
        .member_count = 3,
        .self = 0,
        .max_payload_bytes = MAX_PAYLOAD_BYTES,
        .reader_count = 2,
        .election_timeout_ns = election_timeout_ns,
        .get_peer_counts = no_peer_counts,
        .get_turn_delays = no_turn_delays,
        .store_bytes = store_bytes,
    };
    assert_int_equal(dispatch_create(&options, &testing->dispatch), 0);
    dispatch_attach(testing->dispatch, &testing->node);
}

static inline void testing_open(struct testing *testing)
{
    testing_open_with(testing, ELECTION_TIMEOUT_NS);
}

static inline void testing_close(struct testing *testing)
{
    assert_true(list_is_empty(&testing->node.requests));
    dispatch_destroy(testing->dispatch);
    fixture_close(&testing->chat);
}

/* Waits for the oldest request that the node has; it is the node's no more. */
static inline struct node_request *take_request(struct testing *testing)
{
    AWAIT(!list_is_empty(&testing->node.requests));
    pthread_mutex_lock(&watch_lock);
    struct list *link = list_pop_front(&testing->node.requests);
    pthread_mutex_unlock(&watch_lock);
    return LIST_ENTRY(link, struct node_request, link);
}

static inline void end_request(struct node_request *request, enum node_outcome outcome)
{
    request->outcome = outcome;
    request->done(request);
}

/* Applies the command that the request carries, and ends it with the result. */
static inline void apply_request(struct testing *testing, struct node_request *request)
{
    assert_int_equal(request->kind, NODE_REQUEST_COMMAND);
    uint64_t index = next_index(&testing->chat);
    chat_apply_begin(testing->chat.chat);
    assert_int_equal(chat_apply(testing->chat.chat, index, 1,
                                (struct bytes){request->command, request->command_size},
                                &request->result),
                     0);
    chat_apply_end(testing->chat.chat);
    end_request(request, NODE_OK);
}

/* ---- unary calls ---- */

struct answered {
    struct dispatch_call call; /* first */
    int dones;                 /* under the watch */
    struct dispatch_status status;
    uint8_t *packed; /* the response, or NULL */
    size_t packed_size;
};

static inline void answered_done(struct dispatch_call *call)
{
    struct answered *answered = (struct answered *)(void *)call;
    if (call->response != NULL) {
        answered->packed_size = protobuf_c_message_get_packed_size(call->response);
        answered->packed = malloc(answered->packed_size + 1);
        CHECK(answered->packed != NULL);
        protobuf_c_message_pack(call->response, answered->packed);
    }
    answered->status = call->status;
    CHANGE(answered->dones++);
}

/* Submits a body as a frontend would; it must decode. */
static inline void submit_from(struct testing *testing, struct answered *answered,
                               enum dispatch_method_id id, const char *json, bool may_forward)
{
    struct dispatch_status status = {0};
    *answered = (struct answered){.call = {.method = dispatch_method(id),
                                           .deadline_ns = UINT64_MAX,
                                           .may_forward = may_forward,
                                           .done = answered_done}};
    assert_int_equal(dispatch_decode(answered->call.method, bytes_of_text(json),
                                     &answered->call.request, &status),
                     0);
    dispatch_submit(testing->dispatch, &answered->call);
}

static inline void submit(struct testing *testing, struct answered *answered,
                          enum dispatch_method_id id, const char *json)
{
    submit_from(testing, answered, id, json, false);
}

static inline void await_answer(struct answered *answered)
{
    AWAIT(answered->dones > 0);
    assert_int_equal(answered->dones, 1);
}

static inline void answered_finish(struct answered *answered)
{
    assert_int_equal(answered->dones, 1);
    free(answered->packed);
    answered->packed = NULL;
}

static inline void assert_status(const struct dispatch_status *status, int code, const char *reason)
{
    if (status->code != code || (reason == NULL) != (status->reason == NULL) ||
        (reason != NULL && strcmp(reason, status->reason) != 0)) {
        fail_msg("%d %s \"%s\", and not %d %s", status->code,
                 status->reason == NULL ? "-" : status->reason, status->message, code,
                 reason == NULL ? "-" : reason);
    }
}

/* Waits for the answer, which is a status; ends the call. */
static inline void assert_refused(struct answered *answered, int code, const char *reason)
{
    await_answer(answered);
    assert_status(&answered->status, code, reason);
    assert_null(answered->packed);
    answered_finish(answered);
}

/* Waits for the answer, which is a message of this type: for protobuf_c_message_free_unpacked(). */
static inline void *assert_ok(struct answered *answered)
{
    await_answer(answered);
    assert_status(&answered->status, DISPATCH_OK, NULL);
    assert_non_null(answered->packed);
    ProtobufCMessage *message = protobuf_c_message_unpack(answered->call.method->output, NULL,
                                                          answered->packed_size, answered->packed);
    assert_non_null(message);
    answered_finish(answered);
    return message;
}

static inline void free_message(void *message)
{
    protobuf_c_message_free_unpacked(message, NULL);
}

#endif
