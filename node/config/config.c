/* The configuration: its keys, their defaults, and the checks between them. */
#include "config/config.h"

#include "base/check.h"
#include "base/clock.h"
#include "base/errors.h"
#include "config/reader.h"
#include "config/tables.h"
#include "config/value.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* A JSON string needs up to six bytes for one byte of the payload ("\u0000"); the rest of a message
 * needs room too. */
#define FRAME_BYTES_FOR(payload) (6 * (payload) + 16 * KIB)

static const struct config_key peer_keys[] = {
    TEXT(struct config_peer, node_id, CONFIG_STRING, true),
    TEXT(struct config_peer, raft_addr, CONFIG_ADDRESS, true),
    TEXT(struct config_peer, grpc_addr, CONFIG_ADDRESS, true),
    TEXT(struct config_peer, http_addr, CONFIG_ADDRESS, false),
    TEXT(struct config_peer, tls_name, CONFIG_STRING, false),
};
static const struct config_section peer_section = SECTION_OF(peer_keys);

static const struct config_key cluster_keys[] = {
    TEXT(struct config_cluster, node_id, CONFIG_STRING, true),
    TEXT(struct config_cluster, raft_bind_addr, CONFIG_ADDRESS, true),
    TEXT(struct config_cluster, grpc_bind_addr, CONFIG_ADDRESS, true),
    TEXT(struct config_cluster, health_bind_addr, CONFIG_ADDRESS, true),
    TEXT(struct config_cluster, data_dir, CONFIG_STRING, true),
    {
        .name = "peers",
        .kind = CONFIG_LIST,
        .is_required = true,
        .offset = offsetof(struct config_cluster, peers),
        .section = &peer_section,
        .item_size = sizeof(struct config_peer),
        .count_offset = offsetof(struct config_cluster, peer_count),
        .count_max = CLUSTER_MEMBERS_MAX,
    },
};
static const struct config_section cluster_section = SECTION_OF(cluster_keys);

static const struct config_key raft_keys[] = {
    NUMBER("election_timeout", struct config_raft, election_timeout_ns, CONFIG_DURATION,
           10 * NS_PER_MS, 60 * NS_PER_S),
    NUMBER("heartbeat_interval", struct config_raft, heartbeat_interval_ns, CONFIG_DURATION,
           NS_PER_MS, 60 * NS_PER_S),
    NUMBER("snapshot_interval", struct config_raft, snapshot_interval_ns, CONFIG_DURATION,
           10 * NS_PER_MS, 24 * 3600 * NS_PER_S),
    NUMBER("snapshot_threshold", struct config_raft, snapshot_threshold, CONFIG_COUNT, 1,
           1000000000),
    NUMBER("trailing_logs", struct config_raft, trailing_logs, CONFIG_COUNT, 0, 1000000000),
};
static const struct config_section raft_section = SECTION_OF(raft_keys);

#define PER_CLIENT(field, least) \
    NUMBER(#field, struct config_per_client, field, CONFIG_COUNT, least, 1000000)
static const struct config_key per_client_keys[] = {
    PER_CLIENT(connections, 1),         PER_CLIENT(calls, 1), PER_CLIENT(subscriptions, 1),
    PER_CLIENT(requests_per_second, 0), PER_CLIENT(burst, 0),
};
static const struct config_section per_client_section = SECTION_OF(per_client_keys);

#define SECTION_AT(key, place, keys_section, required)                                       \
    {                                                                                        \
        .name = (key), .kind = CONFIG_SECTION, .is_required = (required), .offset = (place), \
        .section = &(keys_section)                                                           \
    }
static const struct config_key limits_keys[] = {
    NUMBER("max_payload_bytes", struct config_limits, max_payload_bytes, CONFIG_SIZE, 1, 3 * MIB),
    NUMBER("max_frame_bytes", struct config_limits, max_frame_bytes, CONFIG_SIZE, 16 * KIB,
           64 * MIB),
    NUMBER("max_in_flight", struct config_limits, max_in_flight, CONFIG_COUNT, 1, 1000000),
    NUMBER("max_calls", struct config_limits, max_calls, CONFIG_COUNT, 1, 1000000),
    NUMBER("max_connections", struct config_limits, max_connections, CONFIG_COUNT, 1, 1000000),
    NUMBER("max_subscriptions_per_connection", struct config_limits,
           max_subscriptions_per_connection, CONFIG_COUNT, 1, 100000),
    NUMBER("store_size", struct config_limits, store_size_bytes, CONFIG_SIZE, MIB, 256 * GIB),
    NUMBER("memory", struct config_limits, memory_bytes, CONFIG_SIZE, 64 * MIB, 1024 * GIB),
    SECTION_AT("per_client", offsetof(struct config_limits, per_client), per_client_section, false),
};
static const struct config_section limits_section = SECTION_OF(limits_keys);

static const struct config_key grpc_keys[] = {
    {.name = "reflection", .kind = CONFIG_BOOL, .offset = offsetof(struct config, grpc_reflection)},
};
static const struct config_section grpc_section = SECTION_OF(grpc_keys);

static const struct config_key host_item = {
    .kind = CONFIG_STRING,
    .text_size = CONFIG_HOST_BYTES_MAX + 1,
    .min = 1,
};
static const struct config_key http_keys[] = {
    {
        .name = "web_root",
        .kind = CONFIG_STRING,
        .offset = offsetof(struct config, http_web_root),
        .text_size = SIZE_OF(struct config, http_web_root),
    },
    {
        .name = "allowed_hosts",
        .kind = CONFIG_LIST,
        .offset = offsetof(struct config, http_allowed_hosts),
        .item = &host_item,
        .item_size = CONFIG_HOST_BYTES_MAX + 1,
        .count_offset = offsetof(struct config, http_allowed_host_count),
        .count_max = CONFIG_HOSTS_MAX,
    },
    {
        .name = "probe_bind_addr",
        .kind = CONFIG_ADDRESS,
        .offset = offsetof(struct config, http_probe_bind_addr),
        .text_size = SIZE_OF(struct config, http_probe_bind_addr),
    },
    {
        .name = "token_url",
        .kind = CONFIG_STRING,
        .offset = offsetof(struct config, http_token_url),
        .text_size = SIZE_OF(struct config, http_token_url),
    },
};
static const struct config_section http_section = SECTION_OF(http_keys);

static const struct config_key origin_item = {
    .kind = CONFIG_STRING,
    .text_size = CONFIG_ORIGIN_BYTES_MAX + 1,
    .min = 1,
};
static const struct config_key websocket_keys[] = {
    {
        .name = "allowed_origins",
        .kind = CONFIG_LIST,
        .offset = offsetof(struct config_websocket, allowed_origins),
        .item = &origin_item,
        .item_size = CONFIG_ORIGIN_BYTES_MAX + 1,
        .count_offset = offsetof(struct config_websocket, allowed_origin_count),
        .count_max = CONFIG_ORIGINS_MAX,
    },
};
static const struct config_section websocket_section = SECTION_OF(websocket_keys);

static const struct config_key root_keys[] = {
    SECTION_AT("cluster", offsetof(struct config, cluster), cluster_section, true),
    SECTION_AT("raft", offsetof(struct config, raft), raft_section, false),
    SECTION_AT("limits", offsetof(struct config, limits), limits_section, false),
    SECTION_AT("grpc", 0, grpc_section, false),
    SECTION_AT("http", 0, http_section, false),
    SECTION_AT("websocket", offsetof(struct config, websocket), websocket_section, false),
    SECTION_AT("tls", offsetof(struct config, tls), config_tls_section, false),
    SECTION_AT("peer_tls", offsetof(struct config, peer_tls), config_peer_tls_section, false),
    SECTION_AT("auth", offsetof(struct config, auth), config_auth_section, false),
    SECTION_AT("audit", 0, config_audit_section, false),
};
static const struct config_section root_section = SECTION_OF(root_keys);

/* Defaults: conf/config.yaml.dist names each of them. */
static void set_defaults(struct config *config)
{
    config->raft = (struct config_raft){
        .election_timeout_ns = 500 * NS_PER_MS,
        .heartbeat_interval_ns = 50 * NS_PER_MS,
        .snapshot_interval_ns = 120 * NS_PER_S,
        .snapshot_threshold = 8192,
        .trailing_logs = 10240,
    };
    config->limits = (struct config_limits){
        .max_payload_bytes = 64 * KIB,
        .max_frame_bytes = 1 * MIB,
        .max_in_flight = 16384,
        .max_calls = 8192,
        .max_connections = 4096,
        .max_subscriptions_per_connection = 1000,
        .store_size_bytes = 256 * GIB,
        .memory_bytes = 512 * MIB,
        .per_client = {.connections = 64, .calls = 256, .subscriptions = 1000},
    };
    config_set_security_defaults(config);
    config->grpc_reflection = true;
}

static int check_peer_ids(struct config_reader *reader, const struct config_cluster *cluster)
{
    for (size_t i = 0; i < cluster->peer_count; i++) {
        for (size_t j = 0; j < i; j++) {
            const char *id = cluster->peers[i].node_id;
            if (strcmp(id, cluster->peers[j].node_id) != 0) {
                continue;
            }
            char key[64];
            snprintf(key, sizeof(key), "cluster.peers[%zu].node_id", i);
            return config_reader_fail(
                reader, config_reader_line(reader, id), key,
                "duplicate node id \"%s\", already on line %d; every peer needs its own", id,
                config_reader_line(reader, cluster->peers[j].node_id));
        }
    }
    return 0;
}

static struct address address_of(const char *text)
{
    struct address address;
    CHECK(address_split(text, &address, NULL) == 0);
    return address;
}

struct named_address {
    char key[64];
    const char *text;
};

static int fail_duplicate_address(struct config_reader *reader, const struct named_address *second,
                                  const struct named_address *first)
{
    return config_reader_fail(
        reader, config_reader_line(reader, second->text), second->key,
        "duplicate address %s, already %s on line %d; every listener needs its own", second->text,
        first->key, config_reader_line(reader, first->text));
}

static int check_peer_addresses(struct config_reader *reader, const struct config_cluster *cluster)
{
    struct named_address all[3 * CLUSTER_MEMBERS_MAX];
    size_t count = 0;
    for (size_t i = 0; i < cluster->peer_count; i++) {
        const struct config_peer *peer = &cluster->peers[i];
        const char *const names[] = {"raft_addr", "grpc_addr", "http_addr"};
        const char *const texts[] = {peer->raft_addr, peer->grpc_addr, peer->http_addr};
        for (size_t j = 0; j < ARRAY_SIZE(texts); j++) {
            if (*texts[j] == '\0') {
                continue;
            }
            struct named_address *added = &all[count++];
            snprintf(added->key, sizeof(added->key), "cluster.peers[%zu].%s", i, names[j]);
            added->text = texts[j];
        }
    }
    for (size_t i = 0; i < count; i++) {
        struct address address = address_of(all[i].text);
        if (address_is_any(&address)) {
            return config_reader_fail(reader, config_reader_line(reader, all[i].text), all[i].key,
                                      "%s cannot be dialled; give the address at which others "
                                      "reach this peer",
                                      all[i].text);
        }
        for (size_t j = 0; j < i; j++) {
            struct address other = address_of(all[j].text);
            if (address_equal(&address, &other)) {
                return fail_duplicate_address(reader, &all[i], &all[j]);
            }
        }
    }
    return 0;
}

/* True if both addresses cannot be bound: 0.0.0.0 uses the port on every interface. */
static bool addresses_collide(const struct address *a, const struct address *b)
{
    return address_equal(a, b) || (a->port == b->port && (address_is_any(a) || address_is_any(b)));
}

static int check_bind_addresses(struct config_reader *reader, const struct config *config)
{
    const struct config_cluster *cluster = &config->cluster;
    const struct named_address all[] = {
        {"cluster.raft_bind_addr", cluster->raft_bind_addr},
        {"cluster.grpc_bind_addr", cluster->grpc_bind_addr},
        {"cluster.health_bind_addr", cluster->health_bind_addr},
        {"http.probe_bind_addr", config->http_probe_bind_addr},
    };
    size_t count = ARRAY_SIZE(all) - (config->http_probe_bind_addr[0] == '\0');
    for (size_t i = 0; i < count; i++) {
        for (size_t j = 0; j < i; j++) {
            struct address a = address_of(all[i].text);
            struct address b = address_of(all[j].text);
            if (!addresses_collide(&a, &b)) {
                continue;
            }
            /* The error names the later line, regardless of the order of the keys. */
            bool is_in_order =
                config_reader_line(reader, all[i].text) >= config_reader_line(reader, all[j].text);
            return fail_duplicate_address(reader, is_in_order ? &all[i] : &all[j],
                                          is_in_order ? &all[j] : &all[i]);
        }
    }
    return 0;
}

static int compare_members(const void *a, const void *b)
{
    const struct cluster_member *left = a;
    const struct cluster_member *right = b;
    return strcmp(left->node_id, right->node_id);
}

/* Sorts the members by node id, bytewise, regardless of their order in the file. */
static void sort_members(struct config_cluster *cluster)
{
    for (size_t i = 0; i < cluster->peer_count; i++) {
        const struct config_peer *peer = &cluster->peers[i];
        cluster->members[i] = (struct cluster_member){.node_id = peer->node_id,
                                                      .raft_addr = peer->raft_addr,
                                                      .grpc_addr = peer->grpc_addr,
                                                      .http_addr = peer->http_addr};
    }
    qsort(cluster->members, cluster->peer_count, sizeof(cluster->members[0]), compare_members);
}

static int check_peers(struct config_reader *reader, struct config_cluster *cluster)
{
    int line = config_reader_line(reader, &cluster->peer_count);
    if (cluster->peer_count == 0) {
        return config_reader_fail(reader, line, "cluster.peers",
                                  "is empty; list every node, this one included");
    }
    int rc = check_peer_ids(reader, cluster);
    if (rc != 0) {
        return rc;
    }
    rc = check_peer_addresses(reader, cluster);
    if (rc != 0) {
        return rc;
    }
    if (cluster->peer_count % 2 == 0) {
        return config_reader_fail(reader, line, "cluster.peers",
                                  "has an even number of peers (%zu); it must be odd, as one more "
                                  "adds no tolerance: 1, 3, 5, 7 or 9",
                                  cluster->peer_count);
    }
    sort_members(cluster);
    for (size_t i = 0; i < cluster->peer_count; i++) {
        if (strcmp(cluster->members[i].node_id, cluster->node_id) == 0) {
            cluster->self = i;
            return 0;
        }
    }
    return config_reader_fail(
        reader, config_reader_line(reader, cluster->node_id), "cluster.node_id",
        "\"%s\" is not among cluster.peers; use the node_id of one of them", cluster->node_id);
}

static int check_timing(struct config_reader *reader, const struct config_raft *raft)
{
    if (raft->heartbeat_interval_ns < raft->election_timeout_ns) {
        return 0;
    }
    char heartbeat[CONFIG_VALUE_TEXT_SIZE];
    char election[CONFIG_VALUE_TEXT_SIZE];
    config_write_duration(raft->heartbeat_interval_ns, heartbeat);
    config_write_duration(raft->election_timeout_ns, election);
    int line = config_reader_line(reader, &raft->heartbeat_interval_ns);
    if (line != 0) {
        return config_reader_fail(reader, line, "raft.heartbeat_interval",
                                  "%s must be shorter than raft.election_timeout (%s); a tenth of "
                                  "it is a good choice",
                                  heartbeat, election);
    }
    return config_reader_fail(reader, config_reader_line(reader, &raft->election_timeout_ns),
                              "raft.election_timeout",
                              "%s must be longer than raft.heartbeat_interval (%s by default); "
                              "raise it, or set that to a tenth of it",
                              election, heartbeat);
}

static int check_frame(struct config_reader *reader, struct config_limits *limits)
{
    uint64_t least = FRAME_BYTES_FOR(limits->max_payload_bytes);
    if (limits->max_frame_bytes >= least) {
        return 0;
    }
    int line = config_reader_line(reader, &limits->max_frame_bytes);
    if (line == 0) {
        limits->max_frame_bytes = least;
        return 0;
    }
    return config_reader_fail(reader, line, "limits.max_frame_bytes",
                              "%" PRIu64 " is too small for max_payload_bytes (%" PRIu64
                              "); it must be at least 6 times that and 16KiB: %" PRIu64
                              ", or leave it out",
                              limits->max_frame_bytes, limits->max_payload_bytes, least);
}

static int check_web_root(struct config_reader *reader, const struct config *config)
{
    const char *path = config->http_web_root;
    struct stat status;
    if (*path == '\0' || (stat(path, &status) == 0 && S_ISDIR(status.st_mode))) {
        return 0;
    }
    return config_reader_fail(reader, config_reader_line(reader, path), "http.web_root",
                              "\"%s\" is not a folder that can be read; correct it, or write \"\" "
                              "for the embedded page",
                              path);
}

/* Checks an origin as browsers send it: scheme://host[:port], or null for pages without an origin.
 */
static bool is_origin(const char *text)
{
    if (strcmp(text, "null") == 0) {
        return true;
    }
    const char *separator = strstr(text, "://");
    if (separator == NULL || separator == text) {
        return false;
    }
    const char *host = separator + 3;
    return *host != '\0' && *host != ':' && strpbrk(host, "/?#@* \\") == NULL;
}

static int check_origins(struct config_reader *reader, const struct config_websocket *websocket)
{
    for (size_t i = 0; i < websocket->allowed_origin_count; i++) {
        const char *origin = websocket->allowed_origins[i];
        if (is_origin(origin)) {
            continue;
        }
        char key[64];
        snprintf(key, sizeof(key), "websocket.allowed_origins[%zu]", i);
        return config_reader_fail(reader, config_reader_line(reader, origin), key,
                                  "\"%s\" is not an origin; write scheme, host and port only, such "
                                  "as https://chat.example.com or http://localhost:3000",
                                  origin);
    }
    return 0;
}

static int check_hosts(struct config_reader *reader, const struct config *config)
{
    for (size_t i = 0; i < config->http_allowed_host_count; i++) {
        const char *host = config->http_allowed_hosts[i];
        if (config_is_host_name(host)) {
            continue;
        }
        char key[64];
        snprintf(key, sizeof(key), "http.allowed_hosts[%zu]", i);
        return config_reader_fail(reader, config_reader_line(reader, host), key,
                                  "\"%s\" is not a host name; write the name alone, without scheme "
                                  "or port, such as chat.example.com",
                                  host);
    }
    return 0;
}

static int check_config(struct config_reader *reader, struct config *config)
{
    int rc = check_bind_addresses(reader, config);
    if (rc == 0) {
        rc = check_peers(reader, &config->cluster);
    }
    if (rc == 0) {
        rc = check_timing(reader, &config->raft);
    }
    if (rc == 0) {
        rc = check_frame(reader, &config->limits);
    }
    if (rc == 0) {
        rc = check_web_root(reader, config);
    }
    if (rc == 0) {
        rc = check_hosts(reader, config);
    }
    if (rc == 0) {
        rc = check_origins(reader, &config->websocket);
    }
    if (rc == 0) {
        rc = config_check_security(reader, config);
    }
    return rc;
}

static size_t lines_before(struct bytes text, size_t offset)
{
    const char *data = text.data;
    size_t lines = 0;
    for (size_t i = 0; i < offset && i < text.size; i++) {
        lines += data[i] == '\n';
    }
    return lines;
}

static int fail_yaml(struct config_reader *reader, const yaml_parser_t *parser, struct bytes text)
{
    if (parser->error == YAML_MEMORY_ERROR) {
        snprintf(reader->error, reader->error_size, "%s: out of memory", reader->file);
        return ERR_NOMEM;
    }
    /* A byte that is invalid in the encoding is found before the parser runs, and has only an
     * offset. */
    size_t line = parser->problem_mark.line;
    if (parser->error == YAML_READER_ERROR) {
        line = lines_before(text, parser->problem_offset);
    }
    const char *problem = parser->problem != NULL ? parser->problem : "cannot be read";
    const char *context = parser->context != NULL ? parser->context : "";
    return config_reader_fail(reader, (int)line + 1, "not valid YAML", "%s%s%s", problem,
                              *context != '\0' ? ", " : "", context);
}

/* Refuses a second document: it would be unclear which one applies. */
static int check_is_last_document(struct config_reader *reader, yaml_parser_t *parser,
                                  struct bytes text)
{
    yaml_document_t document;
    if (yaml_parser_load(parser, &document) == 0) {
        return fail_yaml(reader, parser, text);
    }
    int rc = 0;
    if (yaml_document_get_root_node(&document) != NULL) {
        rc = config_reader_fail(reader, (int)document.start_mark.line + 1, "---",
                                "a second YAML document; keep one only");
    }
    yaml_document_delete(&document);
    return rc;
}

static int parse_with(yaml_parser_t *parser, struct config_reader *reader, struct bytes text,
                      struct config *config)
{
    yaml_document_t document;
    if (yaml_parser_load(parser, &document) == 0) {
        return fail_yaml(reader, parser, text);
    }
    reader->document = &document;
    int rc = 0;
    if (yaml_document_get_root_node(&document) != NULL) {
        rc = check_is_last_document(reader, parser, text);
    }
    if (rc == 0) {
        rc = config_reader_read(reader, &root_section, config);
    }
    if (rc == 0) {
        rc = check_config(reader, config);
    }
    yaml_document_delete(&document);
    return rc;
}

int config_parse(const char *name, struct bytes text, struct config **out, char *error,
                 size_t error_size)
{
    struct config *config = calloc(1, sizeof(*config));
    yaml_parser_t parser;
    if (config == NULL || yaml_parser_initialize(&parser) == 0) {
        snprintf(error, error_size, "%s: out of memory", name);
        free(config);
        return ERR_NOMEM;
    }
    set_defaults(config);
    /* libyaml asserts that the text is not NULL, even if it is empty. */
    yaml_parser_set_input_string(&parser, text.size > 0 ? text.data : (const uint8_t *)"",
                                 text.size);
    struct config_reader reader = {.file = name, .error = error, .error_size = error_size};
    int rc = parse_with(&parser, &reader, text, config);
    yaml_parser_delete(&parser);
    config_reader_finish(&reader);
    if (rc != 0) {
        config_destroy(config);
        return rc;
    }
    *out = config;
    return 0;
}

static int fail_file(const char *path, int error_number, char *error, size_t error_size)
{
    const char *remedy = "";
    int rc = ERR_IO;
    if (error_number == ENOENT) {
        remedy = "; name it with -config FILE or RAFTOGRAM_CONFIG, conf/config.yaml.dist is the "
                 "template";
        rc = ERR_NOT_FOUND;
    } else if (error_number == EACCES) {
        remedy = "; make it readable for this user";
        rc = ERR_ACCESS;
    }
    snprintf(error, error_size, "%s: cannot be read: %s%s", path, strerror(error_number), remedy);
    return rc;
}

/* Reads the file into `text`, up to a limit. Returns 0 or errno. */
static int read_file(int fd, struct buf *text)
{
    enum { CHUNK_BYTES = 16384 };
    uint8_t chunk[CHUNK_BYTES];
    for (;;) {
        ssize_t got = read(fd, chunk, sizeof(chunk));
        if (got < 0 && errno == EINTR) {
            continue;
        }
        if (got < 0) {
            return errno;
        }
        if (got == 0) {
            return 0;
        }
        buf_append(text, chunk, (size_t)got);
        if (buf_failed(text)) {
            return EFBIG;
        }
    }
}

int config_load(const char *path, struct config **out, char *error, size_t error_size)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) {
        return fail_file(path, errno, error, error_size);
    }
    struct buf text;
    buf_init(&text, CONFIG_FILE_BYTES_MAX);
    int error_number = read_file(fd, &text);
    close(fd);
    int rc;
    if (error_number != 0) {
        rc = fail_file(path, error_number, error, error_size);
    } else {
        rc = config_parse(path, buf_bytes(&text), out, error, error_size);
    }
    buf_finish(&text);
    return rc;
}

void config_destroy(struct config *config)
{
    free(config);
}
