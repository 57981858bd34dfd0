/* The configuration: a YAML file, fully checked, in one immutable structure.
 *
 * conf/config.yaml.dist explains every key; config.c has the defaults and ranges. */
#ifndef RAFTOGRAM_CONFIG_H
#define RAFTOGRAM_CONFIG_H

#include "auth/settings.h"
#include "base/address.h"
#include "base/buf.h"
#include "base/cluster.h"

#include <limits.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define CONFIG_ORIGINS_MAX 64
#define CONFIG_HOSTS_MAX 32
#define CONFIG_HOST_BYTES_MAX 253 /* RFC 1035 */
#define CONFIG_ORIGIN_BYTES_MAX 256
#define CONFIG_TOKEN_URL_BYTES_MAX 512
#define CONFIG_PATH_BYTES_MAX (PATH_MAX - 256) /* leaves space for the names of our files */
#define CONFIG_FILE_BYTES_MAX (1u << 20)
#define CONFIG_ERROR_BYTES_MAX (PATH_MAX + 1024) /* enough for every error text */

struct config_peer {
    char node_id[CLUSTER_NODE_ID_BYTES_MAX + 1];
    char raft_addr[ADDRESS_BYTES_MAX + 1];
    char grpc_addr[ADDRESS_BYTES_MAX + 1];
    char http_addr[ADDRESS_BYTES_MAX + 1];    /* "" when not given */
    char tls_name[CONFIG_HOST_BYTES_MAX + 1]; /* in its certificate; its node_id when not given */
};

struct config_cluster {
    char node_id[CLUSTER_NODE_ID_BYTES_MAX + 1];
    char raft_bind_addr[ADDRESS_BYTES_MAX + 1];
    char grpc_bind_addr[ADDRESS_BYTES_MAX + 1];
    char health_bind_addr[ADDRESS_BYTES_MAX + 1];
    char data_dir[CONFIG_PATH_BYTES_MAX + 1];
    struct config_peer peers[CLUSTER_MEMBERS_MAX];      /* in the file's order */
    size_t peer_count;                                  /* odd */
    struct cluster_member members[CLUSTER_MEMBERS_MAX]; /* the peers, sorted by node id */
    size_t self;                                        /* index of node_id in members */
};

struct config_raft {
    uint64_t election_timeout_ns;
    uint64_t heartbeat_interval_ns; /* shorter than election_timeout_ns */
    uint64_t snapshot_interval_ns;
    uint64_t snapshot_threshold; /* entries */
    uint64_t trailing_logs;      /* entries */
};

/* What one subject, or one address without a subject, may have. 0 for the last two: no limit. */
struct config_per_client {
    uint64_t connections;
    uint64_t calls;
    uint64_t subscriptions;
    uint64_t requests_per_second;
    uint64_t burst;
};

struct config_limits {
    uint64_t max_payload_bytes; /* at most 3 MiB */
    uint64_t max_frame_bytes;   /* at least 6 * max_payload_bytes + 16 KiB */
    uint64_t max_in_flight;
    uint64_t max_calls;
    uint64_t max_connections;
    uint64_t max_subscriptions_per_connection;
    uint64_t store_size_bytes;
    uint64_t memory_bytes; /* that clients can make the process hold */
    struct config_per_client per_client;
};

struct config_websocket {
    char allowed_origins[CONFIG_ORIGINS_MAX][CONFIG_ORIGIN_BYTES_MAX + 1];
    size_t allowed_origin_count;
};

/* "" is a file that is not given. */
struct config_tls {
    char cert_file[CONFIG_PATH_BYTES_MAX + 1]; /* "": plain */
    char key_file[CONFIG_PATH_BYTES_MAX + 1];
    char client_ca_file[CONFIG_PATH_BYTES_MAX + 1];
};

enum config_peer_tls_mode {
    CONFIG_PEER_TLS_OFF,
    CONFIG_PEER_TLS_PERMISSIVE, /* plain and TLS: for a rolling change */
    CONFIG_PEER_TLS_REQUIRED,
};

struct config_peer_tls {
    uint32_t mode; /* enum config_peer_tls_mode */
    char cert_file[CONFIG_PATH_BYTES_MAX + 1];
    char key_file[CONFIG_PATH_BYTES_MAX + 1];
    char ca_file[CONFIG_PATH_BYTES_MAX + 1];
};

struct config {
    struct config_cluster cluster;
    struct config_raft raft;
    struct config_limits limits;
    bool grpc_reflection;
    char http_web_root[CONFIG_PATH_BYTES_MAX + 1]; /* "" for the embedded page */
    char http_allowed_hosts[CONFIG_HOSTS_MAX][CONFIG_HOST_BYTES_MAX + 1];
    size_t http_allowed_host_count;
    char http_probe_bind_addr[ADDRESS_BYTES_MAX + 1];    /* "": probes use health_bind_addr */
    char http_token_url[CONFIG_TOKEN_URL_BYTES_MAX + 1]; /* "": the page asks for a token */
    struct config_websocket websocket;
    struct config_tls tls;
    struct config_peer_tls peer_tls;
    struct auth_settings auth;
    char audit_file[CONFIG_PATH_BYTES_MAX + 1]; /* "": none */
};

/* Reads and checks the file. The caller destroys `*out` with config_destroy(). On error `error`
 * gets one line without a newline: `FILE:LINE: KEY: reason`, or `FILE: reason` if the file
 * cannot be read. Errors: ERR_INVALID (the contents), ERR_NOT_FOUND, ERR_ACCESS, ERR_IO (the
 * file), ERR_NOMEM. */
int config_load(const char *path, struct config **out, char *error, size_t error_size);

/* Checks a text in memory; `name` replaces the file's name in errors. */
int config_parse(const char *name, struct bytes text, struct config **out, char *error,
                 size_t error_size);

/* Returns NULL, or one line that begins with a key which this version reads but does not implement
 * yet, and which must not be ignored in silence. */
const char *config_find_unsupported(const struct config *config);

/* Accepts NULL. */
void config_destroy(struct config *config);

#endif
