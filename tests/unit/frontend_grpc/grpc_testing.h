/* The frontend on a port of its own over the fake dispatch, and a client of it. */
#ifndef RAFTOGRAM_TESTS_GRPC_TESTING_H
#define RAFTOGRAM_TESTS_GRPC_TESTING_H

#include "unit/frontend_grpc/fake_dispatch.h"

#include "dispatch/frontend.h"
#include "grpc/grpc_internal.h"
#include "lib/rpc_run.h"
#include "rpc/rpc.h"

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

/* Opens a stream and asks once. */
static inline void run_stream(struct run *run, struct fixture *fixture, const char *path,
                              const char *request)
{
    run_start_stream(run, fixture->channel, path);
    run_send(run, bytes_of_text(request));
}

static inline const char *run_answer(const struct run *run, int index)
{
    assert_true(index < run->answer_count);
    return (const char *)run->answers[index].data;
}

#endif
