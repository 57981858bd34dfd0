/* The command line of raftogram-bench. */
#ifndef RAFTOGRAM_BENCH_OPTIONS_H
#define RAFTOGRAM_BENCH_OPTIONS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define ADDRESSES_MAX 16
#define IN_FLIGHT_MAX 65536
#define CONNECTIONS_MAX 256
#define SUBSCRIBERS_MAX 10000
#define PAYLOAD_BYTES_MAX 65536
#define MESSAGES_PER_OPERATION_MAX 1000
#define CHANNEL_BYTES_MAX 64

struct options {
    const char *work; /* one of the names in usage_text */
    const char *addresses[ADDRESSES_MAX];
    size_t address_count;
    const char *publish_address; /* fan-out: address of the publisher */
    const char *channel;
    uint32_t in_flight;   /* closed loop: constant number; open loop: limit */
    uint32_t connections; /* to each address */
    uint32_t subscribers;
    uint32_t payload_bytes;
    uint32_t messages_per_operation; /* of publish and send-batch; 1 for others */
    double rate;                     /* a second; 0: closed loop */
    double seconds;
    double warmup_seconds;
    uint32_t deadline_ms;   /* of each operation */
    uint32_t count_max;     /* stop after this number of operations; 0: by time only */
    uint64_t since_ns;      /* first-write: monotonic; 0: now */
    bool is_forwarding_set; /* ask followers to forward */
    bool is_without_ids;    /* no client message ids */
};

extern const char usage_text[];

/* `out` points into argv. Errors: ERR_INVALID, explained on stderr. */
int options_parse(int argc, char **argv, struct options *out);

#endif
