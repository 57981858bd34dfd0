/* The frontend on a port of its own over the fake dispatch, and a client whose calls can be waited
 * for. */
#ifndef RAFTOGRAM_TESTS_GRPC_TESTING_H
#define RAFTOGRAM_TESTS_GRPC_TESTING_H

#include "unit/frontend_grpc/fake_dispatch.h"

#include "dispatch/frontend.h"
#include "grpc/grpc_internal.h"
#include "rpc/rpc.h"

#define ANSWERS_MAX 16
#define ANSWER_BYTES_MAX 512

struct fixture {
    struct grpc_frontend *frontend;
    struct rpc_loop *loop;
    struct rpc_channel *channel;
};

static const struct frontend_options default_options = {
    .grpc_bind_addr = "127.0.0.1:0",
    .has_reflection = true,
    .max_calls = 100,
    .max_connections = 100,
    .max_payload_bytes = 64 << 10,
};

static inline void fixture_init_with(struct fixture *fixture,
                                     const struct frontend_options *options)
{
    char error[256];
    char address[32];
    void *instance;
    fake_reset();
    assert_int_equal(frontend_grpc.start(options, &instance, error, sizeof(error)), 0);
    fixture->frontend = instance;
    snprintf(address, sizeof(address), "127.0.0.1:%d", h2_server_port(fixture->frontend->server));
    assert_int_equal(rpc_loop_create("test-client", &fixture->loop), 0);
    const struct rpc_channel_options channel = {.address = address, .receive_bytes_max = 1 << 24};
    assert_int_equal(rpc_channel_create(fixture->loop, &channel, &fixture->channel), 0);
}

static inline void fixture_init(struct fixture *fixture)
{
    fixture_init_with(fixture, &default_options);
}

static inline void fixture_finish(struct fixture *fixture)
{
    rpc_channel_destroy(fixture->channel);
    if (fixture->frontend != NULL) {
        frontend_grpc.stop(fixture->frontend, 0);
    }
    rpc_loop_destroy(fixture->loop);
    assert_null(fake.watcher);
    fake_reset();
}

/* ---- the client's calls ---- */

/* A message that came, or its beginning. */
struct answer {
    uint8_t data[ANSWER_BYTES_MAX];
    size_t size;
};

/* Under the watch. */
struct run {
    struct rpc_client_call *call;
    int headers;
    struct answer answers[ANSWERS_MAX]; /* of a stream, or the one of a unary call */
    int answer_count;
    int sent;
    bool is_stalled; /* the client reads no further */
    bool is_closed;
    int code;
    char text[256];
    char details[64];
};

static inline void run_headers(void *context)
{
    struct run *run = context;
    CHANGE(run->headers++);
}

static inline void keep_answer(struct run *run, struct bytes message)
{
    CHECK(run->answer_count < ANSWERS_MAX);
    struct answer *answer = &run->answers[run->answer_count++];
    answer->size = message.size;
    size_t kept = message.size < ANSWER_BYTES_MAX - 1 ? message.size : ANSWER_BYTES_MAX - 1;
    if (kept > 0) {
        memcpy(answer->data, message.data, kept);
    }
    answer->data[kept] = '\0';
}

static inline void run_message(void *context, struct bytes message)
{
    struct run *run = context;
    CHANGE(keep_answer(run, message));
    AWAIT(!run->is_stalled);
}

static inline void run_sent(void *context)
{
    struct run *run = context;
    CHANGE(run->sent++);
}

static inline void run_closed(void *context, const struct rpc_result *result)
{
    struct run *run = context;
    pthread_mutex_lock(&watch_lock);
    run->code = result->code;
    snprintf(run->text, sizeof(run->text), "%s", result->message);
    snprintf(run->details, sizeof(run->details), "%.*s", (int)result->details.size,
             (const char *)result->details.data);
    if (result->response.data != NULL) {
        keep_answer(run, result->response);
    }
    run->is_closed = true;
    pthread_cond_broadcast(&watch_changed);
    pthread_mutex_unlock(&watch_lock);
}

static inline struct rpc_client_events run_events(struct run *run)
{
    return (struct rpc_client_events){.on_headers = run_headers,
                                      .on_message = run_message,
                                      .on_sent = run_sent,
                                      .on_closed = run_closed,
                                      .context = run};
}

static inline void run_start(struct run *run, struct fixture *fixture, const char *path,
                             struct bytes request)
{
    memset(run, 0, sizeof(*run));
    const struct rpc_client_options options = {.path = path, .deadline_ns = UINT64_MAX};
    const struct rpc_client_events events = run_events(run);
    assert_int_equal(rpc_unary(fixture->channel, &options, request, &events, &run->call), 0);
}

static inline void run_open(struct run *run, struct fixture *fixture, const char *path)
{
    memset(run, 0, sizeof(*run));
    const struct rpc_client_options options = {.path = path, .deadline_ns = UINT64_MAX};
    const struct rpc_client_events events = run_events(run);
    assert_int_equal(rpc_stream_open(fixture->channel, &options, &events, &run->call), 0);
}

static inline void run_ask(struct run *run, struct bytes request)
{
    int sent = run->sent;
    assert_int_equal(rpc_stream_send(run->call, request, false), 0);
    AWAIT(run->sent > sent || run->is_closed);
}

/* Opens a stream and asks once. */
static inline void run_stream(struct run *run, struct fixture *fixture, const char *path,
                              const char *request)
{
    run_open(run, fixture, path);
    run_ask(run, bytes_of_text(request));
}

static inline void run_wait(struct run *run)
{
    AWAIT(run->is_closed);
    rpc_client_release(run->call);
}

static inline void run_cancel(struct run *run)
{
    rpc_client_cancel(run->call);
    run_wait(run);
}

/* One unary call from start to end. */
static inline void run_unary(struct run *run, struct fixture *fixture, const char *path,
                             struct bytes request)
{
    run_start(run, fixture, path, request);
    run_wait(run);
}

static inline const char *run_answer(const struct run *run, int index)
{
    assert_true(index < run->answer_count);
    return (const char *)run->answers[index].data;
}

#endif
