/* A cluster as every module knows it: its id, its members, and their limits. */
#ifndef RAFTOGRAM_BASE_CLUSTER_H
#define RAFTOGRAM_BASE_CLUSTER_H

#include <stdbool.h>
#include <stdint.h>
#include <string.h>

/* Random, chosen when the cluster is founded. All zero: not founded. */
#define CLUSTER_ID_BYTES 16
#define CLUSTER_ID_HEX_BYTES (2 * CLUSTER_ID_BYTES)
#define CLUSTER_NODE_ID_BYTES_MAX 256
#define CLUSTER_MEMBERS_MAX 9

/* One node as the configuration names it. Arrays of members are sorted bytewise by node id, so that
 * a member has the same index on every node (raft_member). */
struct cluster_member {
    const char *node_id;
    const char *raft_addr;
    const char *grpc_addr;
    const char *http_addr; /* "" if not configured */
};

static inline bool cluster_id_is_set(const uint8_t *cluster_id)
{
    static const uint8_t none[CLUSTER_ID_BYTES];
    return memcmp(cluster_id, none, sizeof(none)) != 0;
}

/* Writes the id in hexadecimal digits, with a NUL. */
void cluster_id_to_hex(const uint8_t cluster_id[CLUSTER_ID_BYTES],
                       char out[CLUSTER_ID_HEX_BYTES + 1]);

#endif
