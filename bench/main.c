/* raftogram-bench: one kind of load on one cluster, one JSON object as the result. */
#include "base/clock.h"
#include "base/errors.h"
#include "bench/load.h"
#include "bench/options.h"
#include "bench/report.h"
#include "bench/targets.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

#define PREPARE_NS (20 * NS_PER_S)
#define FANOUT_IN_FLIGHT_DEFAULT 512

enum kind {
    KIND_GRPC,
    KIND_PUBLISH,
    KIND_NATS,
    KIND_WEBSOCKET,
    KIND_FANOUT,
    KIND_NATS_FANOUT,
};

struct work {
    const char *name;
    enum kind kind;
    int detail; /* enum grpc_work or enum nats_work */
    bool is_first_write;
};

static const struct work works[] = {
    {"send", KIND_GRPC, GRPC_SEND, false},
    {"send-batch", KIND_GRPC, GRPC_SEND_BATCH, false},
    {"publish", KIND_PUBLISH, 0, false},
    {"history", KIND_GRPC, GRPC_HISTORY, false},
    {"kv-read", KIND_GRPC, GRPC_KV_READ, false},
    {"first-write", KIND_GRPC, GRPC_SEND, true},
    {"etcd-put", KIND_GRPC, GRPC_ETCD_PUT, false},
    {"etcd-range", KIND_GRPC, GRPC_ETCD_RANGE, false},
    {"etcd-first-write", KIND_GRPC, GRPC_ETCD_PUT, true},
    {"nats-publish", KIND_NATS, NATS_JETSTREAM, false},
    {"nats-first-write", KIND_NATS, NATS_JETSTREAM, true},
    {"ws-send", KIND_WEBSOCKET, 0, false},
    {"ws-fanout", KIND_FANOUT, GRPC_SEND, false},
    {"nats-fanout", KIND_NATS_FANOUT, NATS_CORE, false},
};

static const struct work *find_work(const char *name)
{
    for (size_t i = 0; i < sizeof(works) / sizeof(works[0]); i++) {
        if (strcmp(works[i].name, name) == 0) {
            return &works[i];
        }
    }
    return NULL;
}

/* Thousands of subscribers need as many descriptors. */
static void raise_descriptor_limit(void)
{
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit) == 0) {
        limit.rlim_cur = limit.rlim_max;
        setrlimit(RLIMIT_NOFILE, &limit);
    }
}

static int create_fanout(const struct work *work, const struct options *options,
                         struct options *publish_options, struct fanout **fanout)
{
    *publish_options = *options;
    publish_options->addresses[0] = options->publish_address;
    publish_options->address_count = 1;
    publish_options->connections = 1;
    bool is_nats = work->kind == KIND_NATS_FANOUT;
    struct target *publisher;
    int rc = is_nats ? nats_target_create(publish_options, NATS_CORE, &publisher)
                     : grpc_target_create(publish_options, GRPC_SEND, &publisher);
    return rc != 0 ? rc : fanout_create(options, is_nats, publisher, fanout);
}

static int create_target(const struct work *work, const struct options *options,
                         struct options *publish_options, struct fanout **fanout,
                         struct target **target)
{
    switch (work->kind) {
    case KIND_GRPC:
        return grpc_target_create(options, (enum grpc_work)work->detail, target);
    case KIND_PUBLISH:
        return publish_target_create(options, target);
    case KIND_NATS:
        return nats_target_create(options, (enum nats_work)work->detail, target);
    case KIND_WEBSOCKET:
        return websocket_target_create(options, target);
    case KIND_FANOUT:
    case KIND_NATS_FANOUT: {
        int rc = create_fanout(work, options, publish_options, fanout);
        if (rc == 0) {
            *target = fanout_target(*fanout);
        }
        return rc;
    }
    }
    return ERR_INVALID;
}

static int run_load(const struct options *options, struct target *target, struct fanout *fanout)
{
    struct load *load;
    int rc = load_create(options, target, &load);
    if (rc != 0) {
        target->destroy(target);
        return rc;
    }
    if (fanout != NULL) {
        fanout_watch(fanout, load);
    }
    const struct load_result *result = load_run(load);
    target->destroy(target);
    report_print(options, result, fanout == NULL ? NULL : fanout_result(fanout));
    load_destroy(load);
    return 0;
}

static int run(const struct work *work, const struct options *options)
{
    struct options publish_options;
    struct fanout *fanout = NULL;
    struct target *target;
    int rc = create_target(work, options, &publish_options, &fanout, &target);
    if (rc != 0) {
        return rc;
    }
    rc = target->prepare(target, clock_monotonic_ns(clock_system()) + PREPARE_NS);
    if (rc != 0) {
        target->destroy(target);
    } else if (work->is_first_write) {
        report_print_first(options, clock_monotonic_ns(clock_system()));
        target->destroy(target);
    } else {
        rc = run_load(options, target, fanout);
    }
    fanout_destroy(fanout);
    return rc;
}

int main(int argc, char **argv)
{
    struct options options;
    if (options_parse(argc, argv, &options) != 0) {
        return 2;
    }
    const struct work *work = find_work(options.work);
    if (work == NULL) {
        fprintf(stderr, "raftogram-bench: no work is called '%s'; see -help\n", options.work);
        return 2;
    }
    bool is_batch =
        work->kind == KIND_PUBLISH || (work->kind == KIND_GRPC && work->detail == GRPC_SEND_BATCH);
    if (options.messages_per_operation > 1 && !is_batch) {
        fprintf(stderr, "raftogram-bench: %s has one message an operation\n", work->name);
        return 2;
    }
    bool is_fanout = work->kind == KIND_FANOUT || work->kind == KIND_NATS_FANOUT;
    if (is_fanout && options.publish_address == NULL) {
        fprintf(stderr, "raftogram-bench: %s needs -publish HOST:PORT\n", work->name);
        return 2;
    }
    if (is_fanout && options.in_flight == 1) {
        options.in_flight = FANOUT_IN_FLIGHT_DEFAULT;
    }
    raise_descriptor_limit();
    int rc = run(work, &options);
    if (rc != 0) {
        fprintf(stderr, "raftogram-bench: %s: %s\n", work->name, error_text(rc));
        return 1;
    }
    return 0;
}
