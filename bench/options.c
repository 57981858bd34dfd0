/* Reads the command line of raftogram-bench. */
#include "bench/options.h"

#include "base/clock.h"
#include "base/errors.h"
#include "bench/operation.h"

#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define DEADLINE_MS_MAX 60000
#define SECONDS_MAX 3600
#define RATE_MAX 10e6

const char usage_text[] =
    "usage: raftogram-bench WORK -to HOST:PORT[,HOST:PORT...] [FLAG VALUE]...\n"
    "\n"
    "Puts one kind of load on one cluster and prints one JSON object. Several addresses are used\n"
    "in turn. bench/run starts clusters and calls this.\n"
    "\n"
    "  send           SendMessage over gRPC (the leader's gRPC address)\n"
    "  send-batch     SendMessages over gRPC: -messages-per-call of them, to one channel\n"
    "  publish        frames over Publish, one stream a connection; each waits for its\n"
    "                 acknowledgement (the leader's gRPC address)\n"
    "  history        ReadHistory of one message over gRPC\n"
    "  kv-read        phalanx.KV Read over gRPC (the leader's gRPC address)\n"
    "  ws-send        SendMessage over WebSocket (HTTP addresses)\n"
    "  ws-fanout      subscribers over WebSocket (HTTP addresses); needs -publish, gRPC\n"
    "  first-write    repeats CreateChannel over gRPC until it succeeds\n"
    "  etcd-put       etcd's KV/Put            etcd-range      etcd's linearizable KV/Range\n"
    "  etcd-first-write\n"
    "  nats-publish   JetStream, R3, waits for the ack; plain NATS addresses\n"
    "  nats-fanout    subscribers over NATS's WebSocket; needs -publish, plain NATS\n"
    "  nats-first-write\n"
    "\n"
    "  -in-flight N     closed loop: so many at a time (1); open loop: at most (16384)\n"
    "  -frames-in-flight N  the same, by publish's name for it\n"
    "  -messages-per-frame M, -messages-per-call M   of publish and send-batch (1)\n"
    "  -rate R          open loop: so many starts a second, whatever the answers do\n"
    "  -seconds S       measured time (3)        -warmup S        before it, not measured (0.5)\n"
    "  -count N         end after so many        -deadline-ms N   of each operation (5000)\n"
    "  -connections N   to each address (gRPC and NATS: 1 for each 64 in flight; publish: 1;\n"
    "                   WebSocket: 1 for each in flight, 64 at most)\n"
    "  -channel ID      channel, stream or key (bench)\n"
    "  -size N          payload bytes (100)      -no-ids          no client message ids\n"
    "  -forward         ask followers to forward -subscribers N   (200)\n"
    "  -publish ADDRESS where fan-out's messages go in\n"
    "  -since NS        first-write: the monotonic clock when the cluster was started\n";

enum flag {
    FLAG_WORK = 1, /* returned by getopt for words that are not flags */
    FLAG_TO = 256,
    FLAG_IN_FLIGHT,
    FLAG_MESSAGES,
    FLAG_RATE,
    FLAG_SECONDS,
    FLAG_WARMUP,
    FLAG_COUNT,
    FLAG_DEADLINE,
    FLAG_CONNECTIONS,
    FLAG_CHANNEL,
    FLAG_SIZE,
    FLAG_NO_IDS,
    FLAG_FORWARD,
    FLAG_SUBSCRIBERS,
    FLAG_PUBLISH,
    FLAG_SINCE,
    FLAG_HELP,
};

static const struct option flags[] = {
    {"to", required_argument, NULL, FLAG_TO},
    {"in-flight", required_argument, NULL, FLAG_IN_FLIGHT},
    {"frames-in-flight", required_argument, NULL, FLAG_IN_FLIGHT},
    {"messages-per-frame", required_argument, NULL, FLAG_MESSAGES},
    {"messages-per-call", required_argument, NULL, FLAG_MESSAGES},
    {"rate", required_argument, NULL, FLAG_RATE},
    {"seconds", required_argument, NULL, FLAG_SECONDS},
    {"warmup", required_argument, NULL, FLAG_WARMUP},
    {"count", required_argument, NULL, FLAG_COUNT},
    {"deadline-ms", required_argument, NULL, FLAG_DEADLINE},
    {"connections", required_argument, NULL, FLAG_CONNECTIONS},
    {"channel", required_argument, NULL, FLAG_CHANNEL},
    {"size", required_argument, NULL, FLAG_SIZE},
    {"no-ids", no_argument, NULL, FLAG_NO_IDS},
    {"forward", no_argument, NULL, FLAG_FORWARD},
    {"subscribers", required_argument, NULL, FLAG_SUBSCRIBERS},
    {"publish", required_argument, NULL, FLAG_PUBLISH},
    {"since", required_argument, NULL, FLAG_SINCE},
    {"help", no_argument, NULL, FLAG_HELP},
    {"h", no_argument, NULL, FLAG_HELP},
    {NULL, 0, NULL, 0},
};

static int read_number(const char *text, double min, double max, double *out)
{
    char *end;
    double value = strtod(text, &end);
    if (end == text || *end != '\0' || !(value >= min && value <= max)) {
        fprintf(stderr, "raftogram-bench: %s is not a number from %g to %g\n", text, min, max);
        return ERR_INVALID;
    }
    *out = value;
    return 0;
}

static int read_whole(const char *text, uint32_t min, uint32_t max, uint32_t *out)
{
    double value;
    int rc = read_number(text, min, max, &value);
    if (rc == 0) {
        *out = (uint32_t)value;
    }
    return rc;
}

/* Splits `text`, a string in argv, at its commas. */
static int read_addresses(char *text, struct options *out)
{
    char *rest = text;
    for (char *address = strsep(&rest, ","); address != NULL; address = strsep(&rest, ",")) {
        if (out->address_count == ADDRESSES_MAX || strchr(address, ':') == NULL) {
            fprintf(stderr, "raftogram-bench: -to wants HOST:PORT, at most %d of them\n",
                    ADDRESSES_MAX);
            return ERR_INVALID;
        }
        out->addresses[out->address_count++] = address;
    }
    return 0;
}

static int read_flag(int flag, char *value, struct options *out)
{
    switch (flag) {
    case FLAG_WORK:
        out->work = value;
        return 0;
    case FLAG_TO:
        return read_addresses(value, out);
    case FLAG_IN_FLIGHT:
        return read_whole(value, 1, IN_FLIGHT_MAX, &out->in_flight);
    case FLAG_MESSAGES:
        return read_whole(value, 1, MESSAGES_PER_OPERATION_MAX, &out->messages_per_operation);
    case FLAG_RATE:
        return read_number(value, 0.1, RATE_MAX, &out->rate);
    case FLAG_SECONDS:
        return read_number(value, 0.01, SECONDS_MAX, &out->seconds);
    case FLAG_WARMUP:
        return read_number(value, 0, SECONDS_MAX, &out->warmup_seconds);
    case FLAG_COUNT:
        return read_whole(value, 1, UINT32_MAX, &out->count_max);
    case FLAG_DEADLINE:
        return read_whole(value, 1, DEADLINE_MS_MAX, &out->deadline_ms);
    case FLAG_CONNECTIONS:
        return read_whole(value, 1, CONNECTIONS_MAX, &out->connections);
    case FLAG_CHANNEL:
        out->channel = value;
        return strlen(value) < CHANNEL_BYTES_MAX ? 0 : ERR_INVALID;
    case FLAG_SIZE:
        return read_whole(value, MARKER_BYTES, PAYLOAD_BYTES_MAX, &out->payload_bytes);
    case FLAG_NO_IDS:
        out->is_without_ids = true;
        return 0;
    case FLAG_FORWARD:
        out->is_forwarding_set = true;
        return 0;
    case FLAG_SUBSCRIBERS:
        return read_whole(value, 1, SUBSCRIBERS_MAX, &out->subscribers);
    case FLAG_PUBLISH:
        out->publish_address = value;
        return 0;
    case FLAG_SINCE:
        out->since_ns = strtoull(value, NULL, 10);
        return 0;
    case FLAG_HELP:
        fputs(usage_text, stdout);
        exit(0);
    default:
        return ERR_INVALID;
    }
}

int options_parse(int argc, char **argv, struct options *out)
{
    struct options options = {
        .channel = "bench",
        .subscribers = 200,
        .payload_bytes = 100,
        .messages_per_operation = 1,
        .seconds = 3,
        .warmup_seconds = 0.5,
        .deadline_ms = 5000,
    };
    int flag;
    /* "-": operands are returned in their position, as values of FLAG_WORK. */
    while ((flag = getopt_long_only(argc, argv, "-", flags, NULL)) != -1) {
        if (read_flag(flag, optarg, &options) != 0) {
            return ERR_INVALID;
        }
    }
    if (options.work == NULL || options.address_count == 0) {
        fputs(usage_text, stderr);
        return ERR_INVALID;
    }
    if (options.in_flight == 0) {
        options.in_flight = options.rate > 0 ? 16384 : 1;
    }
    if (options.since_ns == 0) {
        options.since_ns = clock_monotonic_ns(clock_system());
    }
    *out = options;
    return 0;
}
