/* A loopback server with a few methods, and calls that can be waited for. One watch (lock and
 * condition) guards everything that the loop's threads and the test share. */
#ifndef RAFTOGRAM_TESTS_RPC_TESTING_H
#define RAFTOGRAM_TESTS_RPC_TESTING_H

#include "base/check.h"
#include "base/errors.h"
#include "lib/await.h"
#include "lib/rpc_run.h"
#include "rpc/rpc.h"

#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define MESSAGE_MAX (1 << 20)

static inline uint64_t now_ns(void)
{
    return clock_monotonic_ns(clock_system());
}

/* ---- the server's methods ---- */

struct fixture {
    struct rpc_loop *server_loop;
    struct rpc_loop *client_loop;
    struct rpc_server *server;
    struct rpc_channel *channel;
    char address[64];
    struct rpc_call *held; /* /hold: a reference for the test */
    /* What the server saw, under the watch. */
    int accepted;
    int closed;
    int cancelled;
    int messages;
    int sent;
    uint64_t deadline_ns;
};

struct served {
    struct fixture *fixture;
    size_t received_bytes;
    size_t to_send;
    struct bytes chunk;
};

static inline void finish_with(struct rpc_call *call, int code, const char *text)
{
    const struct rpc_status status = {.code = code, .message = text};
    rpc_call_finish(call, NULL, &status);
}

static inline void served_closed(struct rpc_call *call, bool is_cancelled, void *context)
{
    struct served *served = context;
    struct fixture *fixture = served->fixture;
    free(served);
    CHANGE(fixture->closed++; fixture->cancelled += is_cancelled);
}

static inline void ignore_half_close(struct rpc_call *call, void *context)
{
}

static inline void echo_message(struct rpc_call *call, struct bytes message, void *context)
{
    const struct rpc_status ok = {.code = GRPC_STATUS_OK};
    rpc_call_finish(call, &message, &ok);
}

/* Keeps reading and never answers. */
static inline void hold_message(struct rpc_call *call, struct bytes message, void *context)
{
    struct served *served = context;
    CHANGE(served->fixture->messages++);
    rpc_call_receive(call);
}

/* The request says how many chunks of 64 KiB are wanted. */
static inline void download_sent(struct rpc_call *call, void *context)
{
    struct served *served = context;
    CHANGE(served->fixture->sent++);
    static const char chunk[65536];
    if (served->to_send == 0) {
        finish_with(call, GRPC_STATUS_OK, NULL);
        return;
    }
    served->to_send--;
    rpc_call_send(call, (struct bytes){chunk, sizeof(chunk)});
}

static inline void download_message(struct rpc_call *call, struct bytes message, void *context)
{
    struct served *served = context;
    char text[16] = "";
    memcpy(text, message.data, message.size < 15 ? message.size : 15);
    served->to_send = (size_t)atoi(text);
    rpc_call_send_headers(call);
    download_sent(call, context);
}

static inline void upload_message(struct rpc_call *call, struct bytes message, void *context)
{
    struct served *served = context;
    served->received_bytes += message.size;
    CHANGE(served->fixture->messages++);
    rpc_call_receive(call);
}

static inline void upload_half_close(struct rpc_call *call, void *context)
{
    struct served *served = context;
    char text[32];
    int length = snprintf(text, sizeof(text), "%zu", served->received_bytes);
    const struct bytes total = {text, (size_t)length};
    const struct rpc_status ok = {.code = GRPC_STATUS_OK};
    rpc_call_finish(call, &total, &ok);
}

static inline void chat_message(struct rpc_call *call, struct bytes message, void *context)
{
    rpc_call_send(call, message);
}

static inline void chat_sent(struct rpc_call *call, void *context)
{
    rpc_call_receive(call);
}

static inline void chat_half_close(struct rpc_call *call, void *context)
{
    finish_with(call, GRPC_STATUS_OK, NULL);
}

static inline void answer_details(struct rpc_call *call)
{
    static const char raw[] = {8, 9, 0, (char)0xff, 'x'};
    const struct rpc_status status = {
        .code = GRPC_STATUS_FAILED_PRECONDITION,
        .message = "not leader: retry",
        .trailers = {{"grpc-status-details-bin", {raw, sizeof(raw)}}, {"hint", {"abc", 3}}},
        .trailer_count = 2,
    };
    rpc_call_finish(call, NULL, &status);
}

static inline void answer_metadata(struct rpc_call *call)
{
    const struct rpc_status ok = {.code = GRPC_STATUS_OK};
    struct bytes value = rpc_call_metadata(call, "token");
    CHECK(rpc_call_metadata(call, "absent").data == NULL);
    CHECK(strncmp(rpc_call_peer(call), "ipv4:127.0.0.1:", 15) == 0);
    rpc_call_finish(call, &value, &ok);
}

static int elsewhere_started; /* both under the watch */
static int elsewhere_finished;

static inline void *finish_elsewhere(void *argument)
{
    struct rpc_call *call = argument;
    const struct bytes message = {"elsewhere", 9};
    const struct rpc_status ok = {.code = GRPC_STATUS_OK};
    CHECK(strcmp(rpc_call_path(call), "/elsewhere") == 0);
    rpc_call_finish(call, &message, &ok);
    rpc_call_unref(call);
    CHANGE(elsewhere_finished++);
    return NULL;
}

static inline void elsewhere_message(struct rpc_call *call, struct bytes message, void *context)
{
    pthread_t thread;
    rpc_call_ref(call);
    CHANGE(elsewhere_started++);
    int error = pthread_create(&thread, NULL, finish_elsewhere, call);
    CHECK(error == 0);
    pthread_detach(thread);
}

/* Keeps a reference in the fixture, for the test to use. */
static inline void hold_for_test(struct rpc_call *call, struct fixture *fixture)
{
    rpc_call_ref(call);
    CHANGE(fixture->held = call);
}

static inline void test_on_call(void *context, struct rpc_call *call)
{
    struct fixture *fixture = context;
    const char *path = rpc_call_path(call);
    CHANGE(fixture->deadline_ns = rpc_call_deadline_ns(call));
    if (strcmp(path, "/details") == 0) {
        answer_details(call);
        return;
    }
    if (strcmp(path, "/metadata") == 0) {
        answer_metadata(call);
        return;
    }
    struct rpc_call_events events = {.on_half_close = ignore_half_close,
                                     .on_closed = served_closed};
    if (strcmp(path, "/echo") == 0) {
        events.on_message = echo_message;
    } else if (strcmp(path, "/hold") == 0) {
        events.on_message = hold_message;
    } else if (strcmp(path, "/download") == 0) {
        events.on_message = download_message;
        events.on_sent = download_sent;
    } else if (strcmp(path, "/upload") == 0) {
        events.on_message = upload_message;
        events.on_half_close = upload_half_close;
    } else if (strcmp(path, "/chat") == 0) {
        events.on_message = chat_message;
        events.on_sent = chat_sent;
        events.on_half_close = chat_half_close;
    } else if (strcmp(path, "/elsewhere") == 0) {
        events.on_message = elsewhere_message;
    } else {
        finish_with(call, GRPC_STATUS_UNIMPLEMENTED, "no such method");
        return;
    }
    struct served *served = calloc(1, sizeof(*served));
    CHECK(served != NULL);
    served->fixture = fixture;
    events.context = served;
    rpc_call_accept(call, &events);
    if (strcmp(path, "/hold") == 0) {
        hold_for_test(call, fixture);
        rpc_call_send_headers(call);
    }
    rpc_call_receive(call);
    CHANGE(fixture->accepted++);
}

static const struct rpc_server_options default_server = {
    .address = "127.0.0.1:0",
    .receive_bytes_max = MESSAGE_MAX,
    .metadata_bytes_max = 16384,
    .calls_max = 2000,
    .ping_interval_min_ms = 1000,
};

static inline void fixture_listen(struct fixture *fixture, const struct rpc_server_options *options)
{
    const struct rpc_server_handler handler = {.on_call = test_on_call, .context = fixture};
    int rc = rpc_server_create(fixture->server_loop, options, &handler, &fixture->server);
    assert_int_equal(rc, 0);
    snprintf(fixture->address, sizeof(fixture->address), "127.0.0.1:%d",
             rpc_server_port(fixture->server));
}

static inline void fixture_init(struct fixture *fixture, const struct rpc_server_options *options)
{
    memset(fixture, 0, sizeof(*fixture));
    assert_int_equal(rpc_loop_create("test-server", &fixture->server_loop), 0);
    assert_int_equal(rpc_loop_create("test-client", &fixture->client_loop), 0);
    fixture_listen(fixture, options);
    const struct rpc_channel_options channel = {.address = fixture->address,
                                                .receive_bytes_max = MESSAGE_MAX};
    assert_int_equal(rpc_channel_create(fixture->client_loop, &channel, &fixture->channel), 0);
}

static inline void fixture_finish(struct fixture *fixture)
{
    rpc_channel_destroy(fixture->channel);
    if (fixture->server != NULL) {
        rpc_server_stop(fixture->server, 0);
        rpc_server_destroy(fixture->server);
    }
    if (fixture->held != NULL) {
        rpc_call_unref(fixture->held);
    }
    assert_int_equal(fixture->closed, fixture->accepted);
    rpc_loop_destroy(fixture->client_loop);
    rpc_loop_destroy(fixture->server_loop);
}

#endif
