/* A client's calls that a test can wait for: what came, and how each ended. */
#ifndef RAFTOGRAM_TESTS_RPC_RUN_H
#define RAFTOGRAM_TESTS_RPC_RUN_H

#include "base/check.h"
#include "lib/await.h"
#include "rpc/rpc.h"

#include <stdio.h>
#include <string.h>

#define RUN_ANSWERS_MAX 16
#define RUN_ANSWER_BYTES_MAX 512

/* The beginning of a message. */
struct run_answer {
    uint8_t data[RUN_ANSWER_BYTES_MAX]; /* with a NUL */
    size_t size;                        /* of the whole message */
};

/* One call. Under the watch, except `call`. */
struct run {
    struct rpc_client_call *call;
    int headers;
    int messages; /* of a stream */
    size_t message_bytes;
    struct run_answer answers[RUN_ANSWERS_MAX]; /* the first of a stream, or that of a unary call */
    int answer_count;
    int sent;
    int closed;
    bool is_held; /* on_message waits while it is set */
    int code;
    char text[256];
    char details[64];
    size_t details_size;
    bool has_response; /* of a unary call */
    size_t response_size;
};

static inline void run_headers(void *context)
{
    struct run *run = context;
    CHECK(run->closed == 0);
    CHANGE(run->headers++);
}

static inline void run_keep_answer(struct run *run, struct bytes message)
{
    if (run->answer_count == RUN_ANSWERS_MAX) {
        return;
    }
    struct run_answer *answer = &run->answers[run->answer_count++];
    answer->size = message.size;
    size_t kept = message.size < RUN_ANSWER_BYTES_MAX - 1 ? message.size : RUN_ANSWER_BYTES_MAX - 1;
    if (kept > 0) {
        memcpy(answer->data, message.data, kept);
    }
    answer->data[kept] = '\0';
}

static inline void run_message(void *context, struct bytes message)
{
    struct run *run = context;
    CHANGE(run->messages++; run->message_bytes += message.size; run_keep_answer(run, message));
    AWAIT(!run->is_held);
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
    size_t kept = result->details.size;
    kept = kept < sizeof(run->details) ? kept : sizeof(run->details) - 1;
    if (kept > 0) {
        memcpy(run->details, result->details.data, kept);
    }
    run->details_size = result->details.size;
    run->has_response = result->response.data != NULL;
    run->response_size = result->response.size;
    if (run->has_response) {
        run_keep_answer(run, result->response);
    }
    run->closed++;
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

static inline struct rpc_client_options plain_options(const char *path)
{
    return (struct rpc_client_options){.path = path, .deadline_ns = UINT64_MAX};
}

static inline void run_start_unary(struct run *run, struct rpc_channel *channel, const char *path,
                                   struct bytes request)
{
    memset(run, 0, sizeof(*run));
    const struct rpc_client_options options = plain_options(path);
    const struct rpc_client_events events = run_events(run);
    assert_int_equal(rpc_unary(channel, &options, request, &events, &run->call), 0);
}

static inline void run_start_stream(struct run *run, struct rpc_channel *channel, const char *path)
{
    memset(run, 0, sizeof(*run));
    const struct rpc_client_options options = plain_options(path);
    const struct rpc_client_events events = run_events(run);
    assert_int_equal(rpc_stream_open(channel, &options, &events, &run->call), 0);
}

/* Sends one message on a stream. */
static inline void run_send(struct run *run, struct bytes message)
{
    int sent = run->sent;
    assert_int_equal(rpc_stream_send(run->call, message, false), 0);
    AWAIT(run->sent > sent || run->closed > 0);
}

static inline void run_wait(struct run *run)
{
    AWAIT(run->closed > 0);
    rpc_client_release(run->call);
    assert_int_equal(run->closed, 1);
}

static inline void run_cancel(struct run *run)
{
    rpc_client_cancel(run->call);
    run_wait(run);
}

/* One unary call from start to end. */
static inline void run_unary(struct run *run, struct rpc_channel *channel, const char *path,
                             struct bytes request)
{
    run_start_unary(run, channel, path, request);
    run_wait(run);
}

#endif
