/* The configuration from any bytes: it is whole, or there is one line that a person can act on. The
 * same text is also tried as an address and as each kind of value. */
#include "base/address.h"
#include "base/check.h"
#include "base/errors.h"
#include "config/config.h"
#include "config/value.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>

#define FILE_NAME "fuzz.yaml"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* FILE:LINE: KEY: reason */
static void check_error(const char *error)
{
    CHECK(strncmp(error, FILE_NAME ":", strlen(FILE_NAME) + 1) == 0);
    const char *at = error + strlen(FILE_NAME) + 1;
    CHECK(*at >= '1' && *at <= '9');
    while (isdigit((unsigned char)*at)) {
        at++;
    }
    CHECK(strncmp(at, ": ", 2) == 0);
    const char *key = at + 2;
    const char *reason = strstr(key, ": ");
    CHECK(reason != NULL);
    CHECK(reason > key);
    CHECK(reason[2] != '\0');
    CHECK(bytes_is_utf8(bytes_of_text(error)));
    for (at = error; *at != '\0'; at++) {
        CHECK((unsigned char)*at >= ' ');
        CHECK(*at != 0x7f);
    }
}

static void check_patterns(const struct auth_pattern *patterns, size_t count, uint32_t rights)
{
    CHECK(count <= AUTH_PATTERNS_MAX);
    for (size_t i = 0; i < count; i++) {
        const char *star = strchr(patterns[i].text, '*');
        CHECK(patterns[i].text[0] != '\0');
        CHECK(star == NULL || star[1] == '\0');
        CHECK((patterns[i].rights & ~rights) == 0);
    }
}

static void check_auth(const struct auth_settings *auth)
{
    CHECK(auth->mode <= AUTH_MODE_REQUIRED);
    CHECK(auth->role_count <= AUTH_ROLES_MAX);
    CHECK(auth->certificate_count <= AUTH_CERTIFICATES_MAX);
    for (size_t i = 0; i < auth->role_count; i++) {
        const struct auth_role *role = &auth->roles[i];
        CHECK(role->name[0] != '\0');
        check_patterns(role->channels, role->channel_count, AUTH_CHANNEL_RIGHTS);
        check_patterns(role->kv, role->kv_count, AUTH_KV_RIGHTS);
        CHECK((role->cluster & ~AUTH_CLUSTER_RIGHTS) == 0);
    }
    for (size_t i = 0; i < auth->certificate_count; i++) {
        CHECK(auth->certificates[i].role_count <= AUTH_CERTIFICATE_ROLES_MAX);
    }
}

static void check_config(const struct config *config)
{
    check_auth(&config->auth);
    const struct config_cluster *cluster = &config->cluster;
    CHECK(cluster->peer_count % 2 == 1);
    CHECK(cluster->peer_count <= CLUSTER_MEMBERS_MAX);
    CHECK(cluster->self < cluster->peer_count);
    CHECK(strcmp(cluster->members[cluster->self].node_id, cluster->node_id) == 0);
    CHECK(cluster->data_dir[0] != '\0');
    struct address address;
    CHECK(address_split(cluster->raft_bind_addr, &address, NULL) == 0);
    CHECK(address_split(cluster->grpc_bind_addr, &address, NULL) == 0);
    CHECK(address_split(cluster->health_bind_addr, &address, NULL) == 0);
    for (size_t i = 0; i < cluster->peer_count; i++) {
        CHECK(cluster->peers[i].node_id[0] != '\0');
        CHECK(address_split(cluster->peers[i].raft_addr, &address, NULL) == 0);
        CHECK(address_split(cluster->peers[i].grpc_addr, &address, NULL) == 0);
    }
    CHECK(config->raft.heartbeat_interval_ns < config->raft.election_timeout_ns);
    CHECK(config->raft.heartbeat_interval_ns > 0);
    CHECK(config->limits.max_payload_bytes <= 3u << 20);
    CHECK(config->limits.max_frame_bytes >= 6 * config->limits.max_payload_bytes + (16u << 10));
    CHECK(config->websocket.allowed_origin_count <= CONFIG_ORIGINS_MAX);
}

static void fuzz_values(const char *text)
{
    uint64_t value;
    char written[CONFIG_VALUE_TEXT_SIZE];
    (void)config_read_count(text, &value);
    (void)config_word_of(text);
    uint64_t again;
    if (config_read_duration(text, &value) == 0) {
        config_write_duration(value, written);
        CHECK(config_read_duration(written, &again) == 0);
        CHECK(again == value);
    }
    if (config_read_size(text, &value) == 0) {
        config_write_size(value, written);
        CHECK(config_read_size(written, &again) == 0);
        CHECK(again == value);
    }
    struct address address;
    const char *reason = NULL;
    if (address_split(text, &address, &reason) != 0) {
        CHECK(reason != NULL);
    } else {
        CHECK(address.port != 0);
        CHECK(address_equal(&address, &address));
        (void)address_is_any(&address);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char error[CONFIG_ERROR_BYTES_MAX] = "";
    char short_error[24] = "";
    struct config *config = NULL;
    struct bytes text = {data, size};
    int rc = config_parse(FILE_NAME, text, &config, error, sizeof(error));
    CHECK(rc == 0 || rc == ERR_INVALID);
    if (rc != 0) {
        CHECK(config == NULL);
        check_error(error);
        CHECK(config_parse(FILE_NAME, text, &config, short_error, sizeof(short_error)) == rc);
        CHECK(strncmp(error, short_error, strlen(short_error)) == 0);
    } else {
        CHECK(error[0] == '\0');
        check_config(config);
        config_destroy(config);
    }
    char *copy = strndup((const char *)data, size);
    CHECK(copy != NULL);
    fuzz_values(copy);
    free(copy);
    return 0;
}
