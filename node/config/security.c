/* The sections tls, peer_tls, auth and audit: tables, defaults, and the rules between their keys.
 */
#include "base/clock.h"
#include "base/errors.h"
#include "config/config.h"
#include "config/reader.h"
#include "config/tables.h"
#include "config/value.h"

#include <stdio.h>
#include <string.h>
#include <strings.h>

#define FILE_AT(key, type, field)                                              \
    {                                                                          \
        .name = (key), .kind = CONFIG_STRING, .offset = offsetof(type, field), \
        .text_size = SIZE_OF(type, field)                                      \
    }

static const struct config_key tls_keys[] = {
    FILE_AT("cert_file", struct config_tls, cert_file),
    FILE_AT("key_file", struct config_tls, key_file),
    FILE_AT("client_ca_file", struct config_tls, client_ca_file),
};
const struct config_section config_tls_section = SECTION_OF(tls_keys);

static const struct config_word_value peer_tls_modes[] = {
    {"off", CONFIG_PEER_TLS_OFF},
    {"permissive", CONFIG_PEER_TLS_PERMISSIVE},
    {"required", CONFIG_PEER_TLS_REQUIRED},
};
static const struct config_key peer_tls_keys[] = {
    {
        .name = "mode",
        .kind = CONFIG_CHOICE,
        .offset = offsetof(struct config_peer_tls, mode),
        .words = peer_tls_modes,
        .word_count = ARRAY_SIZE(peer_tls_modes),
    },
    FILE_AT("cert_file", struct config_peer_tls, cert_file),
    FILE_AT("key_file", struct config_peer_tls, key_file),
    FILE_AT("ca_file", struct config_peer_tls, ca_file),
};
const struct config_section config_peer_tls_section = SECTION_OF(peer_tls_keys);

static const struct config_key jwt_keys[] = {
    FILE_AT("keys_dir", struct auth_jwt, keys_dir),
    FILE_AT("issuer", struct auth_jwt, issuer),
    FILE_AT("audience", struct auth_jwt, audience),
    NUMBER("clock_skew", struct auth_jwt, clock_skew_ns, CONFIG_DURATION, 0, 300 * NS_PER_S),
    NUMBER("max_lifetime", struct auth_jwt, max_lifetime_ns, CONFIG_DURATION, NS_PER_S,
           366 * 24 * 3600 * NS_PER_S),
};
static const struct config_section jwt_section = SECTION_OF(jwt_keys);

/* ---- roles ---- */

static const struct config_word_value channel_rights[] = {
    {"read", AUTH_READ},       {"send", AUTH_SEND},         {"create", AUTH_CREATE},
    {"send_as", AUTH_SEND_AS}, {"moderate", AUTH_MODERATE}, {"manage", AUTH_MANAGE},
};
static const struct config_word_value kv_rights[] = {
    {"read", AUTH_KV_READ},
    {"write", AUTH_KV_WRITE},
};
static const struct config_word_value cluster_rights[] = {
    {"status", AUTH_STATUS},
    {"operate", AUTH_OPERATE},
    {"backup", AUTH_BACKUP},
};

#define RIGHTS(list)                                                                          \
    {                                                                                         \
        .kind = CONFIG_SET, .offset = offsetof(struct auth_pattern, rights), .words = (list), \
        .word_count = ARRAY_SIZE(list)                                                        \
    }
static const struct config_key channel_pattern = RIGHTS(channel_rights);
static const struct config_key kv_pattern = RIGHTS(kv_rights);

#define PATTERNS(key, field, count, pattern)                                              \
    {                                                                                     \
        .name = (key), .kind = CONFIG_MAP, .offset = offsetof(struct auth_role, field),   \
        .text_size = SIZE_OF(struct auth_pattern, text), .item = &(pattern),              \
        .item_size = sizeof(struct auth_pattern),                                         \
        .count_offset = offsetof(struct auth_role, count), .count_max = AUTH_PATTERNS_MAX \
    }
static const struct config_key role_keys[] = {
    PATTERNS("channels", channels, channel_count, channel_pattern),
    PATTERNS("kv", kv, kv_count, kv_pattern),
    {
        .name = "cluster",
        .kind = CONFIG_SET,
        .offset = offsetof(struct auth_role, cluster),
        .words = cluster_rights,
        .word_count = ARRAY_SIZE(cluster_rights),
    },
};
static const struct config_section role_section = SECTION_OF(role_keys);
static const struct config_key role_item = {.kind = CONFIG_SECTION, .section = &role_section};

static const struct config_key role_name = {
    .kind = CONFIG_STRING,
    .text_size = AUTH_ROLE_BYTES_MAX + 1,
    .min = 1,
};
static const struct config_key certificate_item = {
    .kind = CONFIG_LIST,
    .offset = offsetof(struct auth_certificate, roles),
    .item = &role_name,
    .item_size = AUTH_ROLE_BYTES_MAX + 1,
    .count_offset = offsetof(struct auth_certificate, role_count),
    .count_max = AUTH_CERTIFICATE_ROLES_MAX,
};

static const struct config_word_value auth_modes[] = {
    {"off", AUTH_MODE_OFF},
    {"required", AUTH_MODE_REQUIRED},
};
static const struct config_key auth_keys[] = {
    {
        .name = "mode",
        .kind = CONFIG_CHOICE,
        .offset = offsetof(struct auth_settings, mode),
        .words = auth_modes,
        .word_count = ARRAY_SIZE(auth_modes),
    },
    {
        .name = "jwt",
        .kind = CONFIG_SECTION,
        .offset = offsetof(struct auth_settings, jwt),
        .section = &jwt_section,
    },
    FILE_AT("users_file", struct auth_settings, users_file),
    {
        .name = "certificate_roles",
        .kind = CONFIG_MAP,
        .offset = offsetof(struct auth_settings, certificates),
        .text_size = SIZE_OF(struct auth_certificate, name),
        .item = &certificate_item,
        .item_size = sizeof(struct auth_certificate),
        .count_offset = offsetof(struct auth_settings, certificate_count),
        .count_max = AUTH_CERTIFICATES_MAX,
    },
    {
        .name = "roles",
        .kind = CONFIG_MAP,
        .offset = offsetof(struct auth_settings, roles),
        .text_size = SIZE_OF(struct auth_role, name),
        .item = &role_item,
        .item_size = sizeof(struct auth_role),
        .count_offset = offsetof(struct auth_settings, role_count),
        .count_max = AUTH_ROLES_MAX,
    },
};
const struct config_section config_auth_section = SECTION_OF(auth_keys);

static const struct config_key audit_keys[] = {FILE_AT("file", struct config, audit_file)};
const struct config_section config_audit_section = SECTION_OF(audit_keys);

void config_set_security_defaults(struct config *config)
{
    struct auth_jwt *jwt = &config->auth.jwt;
    snprintf(jwt->audience, sizeof(jwt->audience), "raftogram");
    jwt->clock_skew_ns = 30 * NS_PER_S;
    jwt->max_lifetime_ns = 24 * 3600 * NS_PER_S;
}

/* ---- rules between keys ---- */

/* A file that is needed because `because` is set. */
static int check_needed(struct config_reader *reader, const char *value, const void *because,
                        const char *key, const char *reason)
{
    if (*value != '\0') {
        return 0;
    }
    int line = config_reader_line(reader, value);
    return config_reader_fail(reader, line != 0 ? line : config_reader_line(reader, because), key,
                              "is missing; %s", reason);
}

static int check_tls(struct config_reader *reader, const struct config_tls *tls)
{
    int rc = 0;
    if (tls->cert_file[0] != '\0') {
        rc = check_needed(reader, tls->key_file, tls->cert_file, "tls.key_file",
                          "give the private key of tls.cert_file");
    }
    if (rc == 0 && tls->key_file[0] != '\0') {
        rc = check_needed(reader, tls->cert_file, tls->key_file, "tls.cert_file",
                          "give the certificate of tls.key_file");
    }
    if (rc == 0 && tls->client_ca_file[0] != '\0') {
        rc = check_needed(reader, tls->cert_file, tls->client_ca_file, "tls.cert_file",
                          "tls.client_ca_file needs it and tls.key_file");
    }
    return rc;
}

static int check_peer_tls(struct config_reader *reader, const struct config_peer_tls *tls)
{
    static const char reason[] = "peer_tls.mode needs cert_file, key_file and ca_file";
    if (tls->mode == CONFIG_PEER_TLS_OFF) {
        return 0;
    }
    int rc = check_needed(reader, tls->cert_file, &tls->mode, "peer_tls.cert_file", reason);
    if (rc == 0) {
        rc = check_needed(reader, tls->key_file, &tls->mode, "peer_tls.key_file", reason);
    }
    if (rc == 0) {
        rc = check_needed(reader, tls->ca_file, &tls->mode, "peer_tls.ca_file", reason);
    }
    return rc;
}

static bool are_same_names(const char *a, const char *b)
{
    return strcasecmp(a, b) == 0;
}

/* Fills in the names that are not given. Two nodes with one name could stand in for each other. */
static int check_tls_names(struct config_reader *reader, struct config *config)
{
    struct config_cluster *cluster = &config->cluster;
    for (size_t i = 0; i < cluster->peer_count; i++) {
        struct config_peer *peer = &cluster->peers[i];
        char key[64];
        snprintf(key, sizeof(key), "cluster.peers[%zu].tls_name", i);
        bool is_given = peer->tls_name[0] != '\0';
        if (!is_given) {
            snprintf(peer->tls_name, sizeof(peer->tls_name), "%s", peer->node_id);
        }
        int line = config_reader_line(reader, is_given ? peer->tls_name : peer->node_id);
        if (!config_is_host_name(peer->tls_name) &&
            (is_given || config->peer_tls.mode != CONFIG_PEER_TLS_OFF)) {
            return config_reader_fail(
                reader, line, key,
                "\"%s\" is not a host name; write the DNS name of this node's "
                "certificate",
                peer->tls_name);
        }
        for (size_t j = 0; j < i; j++) {
            if (are_same_names(peer->tls_name, cluster->peers[j].tls_name) &&
                (is_given || config->peer_tls.mode != CONFIG_PEER_TLS_OFF)) {
                return config_reader_fail(reader, line, key,
                                          "\"%s\" is also the name of %s; every node needs its own",
                                          peer->tls_name, cluster->peers[j].node_id);
            }
        }
    }
    return 0;
}

static int check_patterns(struct config_reader *reader, const char *role, const char *what,
                          const struct auth_pattern *patterns, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        const char *star = strchr(patterns[i].text, '*');
        if (star == NULL || star[1] == '\0') {
            continue;
        }
        char key[AUTH_ROLE_BYTES_MAX + 32];
        snprintf(key, sizeof(key), "auth.roles.%s.%s", role, what);
        return config_reader_fail(
            reader, config_reader_line(reader, patterns[i].text), key,
            "the pattern \"%s\" has a * that is not at its end; write a whole "
            "name, or its beginning and *",
            patterns[i].text);
    }
    return 0;
}

static bool is_role(const struct auth_settings *auth, const char *name)
{
    for (size_t i = 0; i < auth->role_count; i++) {
        if (strcmp(auth->roles[i].name, name) == 0) {
            return true;
        }
    }
    return false;
}

static int check_certificates(struct config_reader *reader, const struct config *config)
{
    const struct auth_settings *auth = &config->auth;
    for (size_t i = 0; i < auth->certificate_count; i++) {
        for (size_t j = 0; j < auth->certificates[i].role_count; j++) {
            const char *role = auth->certificates[i].roles[j];
            if (!is_role(auth, role)) {
                return config_reader_fail(reader, config_reader_line(reader, role),
                                          "auth.certificate_roles",
                                          "\"%s\" is not a role of auth.roles", role);
            }
        }
    }
    if (auth->certificate_count > 0) {
        return check_needed(reader, config->tls.client_ca_file, &auth->certificate_count,
                            "tls.client_ca_file",
                            "auth.certificate_roles needs the CA of clients' certificates");
    }
    return 0;
}

static int check_auth(struct config_reader *reader, const struct config *config)
{
    const struct auth_settings *auth = &config->auth;
    for (size_t i = 0; i < auth->role_count; i++) {
        const struct auth_role *role = &auth->roles[i];
        int rc =
            check_patterns(reader, role->name, "channels", role->channels, role->channel_count);
        if (rc == 0) {
            rc = check_patterns(reader, role->name, "kv", role->kv, role->kv_count);
        }
        if (rc != 0) {
            return rc;
        }
    }
    int rc = check_certificates(reader, config);
    if (rc != 0) {
        return rc;
    }
    if (auth->mode == AUTH_MODE_REQUIRED && auth->jwt.keys_dir[0] == '\0' &&
        auth->users_file[0] == '\0' && auth->certificate_count == 0) {
        return config_reader_fail(reader, config_reader_line(reader, &auth->mode), "auth.mode",
                                  "required, but nobody could log in; give auth.jwt.keys_dir, "
                                  "auth.users_file or auth.certificate_roles");
    }
    return 0;
}

/* It becomes a part of the page's Content-Security-Policy. */
static int check_token_url(struct config_reader *reader, const struct config *config)
{
    const char *url = config->http_token_url;
    bool is_local = url[0] == '/' && url[1] != '/';
    bool has_host = strncmp(url, "https://", 8) == 0
                        ? url[8] != '\0'
                        : strncmp(url, "http://", 7) == 0 && url[7] != '\0';
    if (*url == '\0' || ((is_local || has_host) && strpbrk(url, " ;,\"'<>\\#@*") == NULL)) {
        return 0;
    }
    return config_reader_fail(
        reader, config_reader_line(reader, url), "http.token_url",
        "\"%s\" is not the address of a page; write https://host/path, or /path "
        "on this node's own host",
        url);
}

int config_check_security(struct config_reader *reader, struct config *config)
{
    int rc = check_tls(reader, &config->tls);
    if (rc == 0) {
        rc = check_peer_tls(reader, &config->peer_tls);
    }
    if (rc == 0) {
        rc = check_tls_names(reader, config);
    }
    if (rc == 0) {
        rc = check_auth(reader, config);
    }
    if (rc == 0) {
        rc = check_token_url(reader, config);
    }
    return rc;
}

/* ---- what is read but not implemented yet ---- */

const char *config_find_unsupported(const struct config *config)
{
    const struct config_per_client *limits = &config->limits.per_client;
    if (config->auth.mode != AUTH_MODE_OFF) {
        return "auth.mode: \"required\" is not implemented in this version; write off, and keep "
               "the "
               "node on a private network";
    }
    if (config->tls.cert_file[0] != '\0') {
        return "tls.cert_file: TLS is not implemented in this version; remove tls, and keep the "
               "node "
               "on a private network";
    }
    if (config->peer_tls.mode != CONFIG_PEER_TLS_OFF) {
        return "peer_tls.mode: TLS between nodes is not implemented in this version; write off, "
               "and "
               "keep the nodes on a private network";
    }
    if (config->audit_file[0] != '\0') {
        return "audit.file: is not implemented in this version; remove it";
    }
    if (config->http_probe_bind_addr[0] != '\0') {
        return "http.probe_bind_addr: is not implemented in this version; remove it";
    }
    if (config->http_token_url[0] != '\0') {
        return "http.token_url: is not implemented in this version; remove it";
    }
    if (limits->connections != 64 || limits->calls != 256 || limits->subscriptions != 1000 ||
        limits->requests_per_second != 0 || limits->burst != 0) {
        return "limits.per_client: is not implemented in this version; remove it";
    }
    return NULL;
}
