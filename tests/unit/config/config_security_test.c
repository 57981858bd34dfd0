/* The sections tls, peer_tls, auth and audit, and what belongs to them elsewhere. */
#include "config_testing.h"

#include "base/clock.h"

#define AUTH                                                                                 \
    "auth:\n"                                                                                \
    "  mode: required\n"                                                                     \
    "  jwt: {keys_dir: /k, issuer: \"https://id\", audience: chat,\n"                        \
    "        clock_skew: 10s, max_lifetime: 1h}\n"                                           \
    "  users_file: /u\n"                                                                     \
    "  certificate_roles: {bot.example: [service, member], x: []}\n"                         \
    "  roles:\n"                                                                             \
    "    member: {channels: {\"team-*\": [read, send], general: [read]}}\n"                  \
    "    service: {channels: {\"*\": [create, send_as, moderate, manage]}, kv: {\"app/*\": " \
    "[read, write]}}\n"                                                                      \
    "    admin: {cluster: [status, operate, backup]}\n"                                      \
    "    nobody:\n"                                                                          \
    "tls: {cert_file: /c, key_file: /p, client_ca_file: /ca}\n"

static void test_every_key_of_section_17_is_read(void **state)
{
    struct config *config =
        expect_good(CLUSTER AUTH "peer_tls: {mode: permissive, cert_file: /pc, key_file: "
                                 "/pk, ca_file: /pca}\n"
                                 "audit: {file: /a}\n"
                                 "http: {probe_bind_addr: \"127.0.0.1:8090\", token_url: "
                                 "\"https://id.example/token\"}\n"
                                 "limits: {per_client: {connections: 1, calls: 2, "
                                 "subscriptions: 3, requests_per_second: 4, burst: 5}}\n");
    const struct auth_settings *auth = &config->auth;
    assert_int_equal(auth->mode, AUTH_MODE_REQUIRED);
    assert_string_equal(auth->jwt.keys_dir, "/k");
    assert_string_equal(auth->jwt.issuer, "https://id");
    assert_string_equal(auth->jwt.audience, "chat");
    assert_true(auth->jwt.clock_skew_ns == 10 * NS_PER_S);
    assert_true(auth->jwt.max_lifetime_ns == 3600 * NS_PER_S);
    assert_string_equal(auth->users_file, "/u");
    assert_int_equal(auth->certificate_count, 2);
    assert_string_equal(auth->certificates[0].name, "bot.example");
    assert_int_equal(auth->certificates[0].role_count, 2);
    assert_string_equal(auth->certificates[0].roles[1], "member");
    assert_int_equal(auth->certificates[1].role_count, 0);
    assert_int_equal(auth->role_count, 4);
    assert_string_equal(auth->roles[0].name, "member");
    assert_int_equal(auth->roles[0].channel_count, 2);
    assert_string_equal(auth->roles[0].channels[0].text, "team-*");
    assert_int_equal(auth->roles[0].channels[0].rights, AUTH_READ | AUTH_SEND);
    assert_string_equal(auth->roles[0].channels[1].text, "general");
    assert_int_equal(auth->roles[0].channels[1].rights, AUTH_READ);
    assert_int_equal(auth->roles[1].channels[0].rights,
                     AUTH_CREATE | AUTH_SEND_AS | AUTH_MODERATE | AUTH_MANAGE);
    assert_string_equal(auth->roles[1].kv[0].text, "app/*");
    assert_int_equal(auth->roles[1].kv[0].rights, AUTH_KV_READ | AUTH_KV_WRITE);
    assert_int_equal(auth->roles[2].cluster, AUTH_STATUS | AUTH_OPERATE | AUTH_BACKUP);
    assert_string_equal(auth->roles[3].name, "nobody");
    assert_string_equal(config->tls.cert_file, "/c");
    assert_string_equal(config->tls.key_file, "/p");
    assert_string_equal(config->tls.client_ca_file, "/ca");
    assert_int_equal(config->peer_tls.mode, CONFIG_PEER_TLS_PERMISSIVE);
    assert_string_equal(config->peer_tls.ca_file, "/pca");
    assert_string_equal(config->audit_file, "/a");
    assert_string_equal(config->http_probe_bind_addr, "127.0.0.1:8090");
    assert_string_equal(config->http_token_url, "https://id.example/token");
    assert_int_equal(config->limits.per_client.connections, 1);
    assert_int_equal(config->limits.per_client.calls, 2);
    assert_int_equal(config->limits.per_client.subscriptions, 3);
    assert_int_equal(config->limits.per_client.requests_per_second, 4);
    assert_int_equal(config->limits.per_client.burst, 5);
    config_destroy(config);
}

static void test_without_them_everything_is_off(void **state)
{
    struct config *config = expect_good(CLUSTER);
    assert_int_equal(config->auth.mode, AUTH_MODE_OFF);
    assert_string_equal(config->auth.jwt.audience, "raftogram");
    assert_true(config->auth.jwt.clock_skew_ns == 30 * NS_PER_S);
    assert_true(config->auth.jwt.max_lifetime_ns == 24 * 3600 * NS_PER_S);
    assert_int_equal(config->auth.role_count, 0);
    assert_int_equal(config->peer_tls.mode, CONFIG_PEER_TLS_OFF);
    assert_string_equal(config->tls.cert_file, "");
    assert_int_equal(config->limits.per_client.connections, 64);
    assert_int_equal(config->limits.per_client.calls, 256);
    assert_int_equal(config->limits.per_client.subscriptions, 1000);
    assert_int_equal(config->limits.per_client.requests_per_second, 0);
    assert_null(config_find_unsupported(config));
    config_destroy(config);
}

static void test_what_is_not_implemented_is_never_ignored(void **state)
{
    const struct {
        const char *text;
        const char *expected;
    } sections[] = {
        {AUTH, "auth.mode: "},
        {"tls: {cert_file: /c, key_file: /k}\n", "tls.cert_file: "},
        {"peer_tls: {mode: required, cert_file: /c, key_file: /k, ca_file: /a}\n",
         "peer_tls.mode: "},
        {"peer_tls: {mode: permissive, cert_file: /c, key_file: /k, ca_file: /a}\n",
         "peer_tls.mode: "},
        {"audit: {file: /a}\n", "audit.file: "},
        {"http: {probe_bind_addr: \"127.0.0.1:8090\"}\n", "http.probe_bind_addr: "},
        {"http: {token_url: /token}\n", "http.token_url: "},
        {"limits: {per_client: {calls: 5}}\n", "limits.per_client: "},
    };
    for (size_t i = 0; i < sizeof(sections) / sizeof(sections[0]); i++) {
        char text[TEXT_SIZE];
        snprintf(text, sizeof(text), "%s%s", CLUSTER, sections[i].text);
        struct config *config = expect_good(text);
        const char *found = config_find_unsupported(config);
        assert_non_null(found);
        assert_int_equal(strncmp(found, sections[i].expected, strlen(sections[i].expected)), 0);
        config_destroy(config);
    }
}

static void test_words_are_those_of_the_key(void **state)
{
    expect_error(CLUSTER "auth: {mode: on}\n",
                 "c.yaml:11: auth.mode: \"on\" must be one of off, required");
    expect_error(CLUSTER "auth: {mode: true}\n",
                 "c.yaml:11: auth.mode: \"true\" must be one of off, required");
    expect_error(CLUSTER "auth: {mode: [off]}\n",
                 "c.yaml:11: auth.mode: is a list; it must be off, required");
    expect_error(CLUSTER "peer_tls:\n  mode: maybe\n",
                 "c.yaml:12: peer_tls.mode: \"maybe\" must be one of off, permissive, required");
    expect_error(CLUSTER "auth:\n  roles:\n    m:\n      channels:\n        a: [read, fly]\n",
                 "c.yaml:15: auth.roles.m.channels.a: \"fly\" must be one of read, send, create, "
                 "send_as, moderate, manage");
    expect_error(CLUSTER "auth:\n  roles:\n    m: {kv: {a: [send]}}\n",
                 "c.yaml:13: auth.roles.m.kv.a: \"send\" must be one of read, write");
    expect_error(
        CLUSTER "auth:\n  roles:\n    m: {cluster: [read]}\n",
        "c.yaml:13: auth.roles.m.cluster: \"read\" must be one of status, operate, backup");
    expect_error(CLUSTER "auth:\n  roles:\n    m: {kv: {a: read}}\n",
                 "c.yaml:13: auth.roles.m.kv.a: is a string; it must be a list");
    expect_error(CLUSTER "auth:\n  roles: [m]\n",
                 "c.yaml:12: auth.roles: is a list; it must be a mapping of keys to values");
    expect_error(CLUSTER "auth:\n  roles:\n    m: {channel: {}}\n",
                 "c.yaml:13: auth.roles.m.channel: unknown key; the keys here are channels, kv, "
                 "cluster");
}

static void test_names_of_roles_and_patterns_are_bounded_and_different(void **state)
{
    char text[TEXT_SIZE];
    char name[66];
    memset(name, 'r', 65);
    name[65] = '\0';
    snprintf(text, sizeof(text), "%sauth:\n  roles:\n    %s: {}\n", CLUSTER, name);
    expect_error(text, "c.yaml:13: auth.roles.rrrr...");
    expect_error(CLUSTER "auth:\n  roles:\n    m: {}\n    n: {}\n    m: {}\n",
                 "c.yaml:15: auth.roles.m: duplicate key; it is already on line 13");
    expect_error(CLUSTER "auth:\n  roles:\n    m: {kv: {a: [], a: []}}\n",
                 "c.yaml:13: auth.roles.m.kv.a: duplicate key; it is already on line 13");
    expect_error(CLUSTER "auth:\n  roles:\n    \"\": {}\n",
                 "c.yaml:13: auth.roles.'': has a name that is empty...");
    expect_error(CLUSTER "auth:\n  roles:\n    \"a\\nb\": {}\n",
                 "c.yaml:13: auth.roles.a?b: the name contains a control character; remove it");
    int size = snprintf(text, sizeof(text), "%sauth:\n  roles:\n", CLUSTER);
    for (int i = 0; i <= AUTH_ROLES_MAX; i++) {
        size += snprintf(text + size, sizeof(text) - (size_t)size, "    r%d: {}\n", i);
    }
    expect_error(text, "c.yaml:12: auth.roles: has 65 items; at most 64 are allowed");
}

static void test_a_star_is_at_the_end_of_a_pattern(void **state)
{
    expect_error(CLUSTER "auth:\n  roles:\n    m:\n      channels:\n        \"a*b\": [read]\n",
                 "c.yaml:15: auth.roles.m.channels: the pattern \"a*b\" has a * that is not at its "
                 "end; write a whole name, or its beginning and *");
    expect_error(CLUSTER "auth:\n  roles:\n    m: {kv: {\"**\": [read]}}\n",
                 "c.yaml:13: auth.roles.m.kv: the pattern \"**\"...");
}

static void test_somebody_can_log_in(void **state)
{
    expect_error(CLUSTER "auth: {mode: required}\n",
                 "c.yaml:11: auth.mode: required, but nobody could log in; give "
                 "auth.jwt.keys_dir, auth.users_file or auth.certificate_roles");
    config_destroy(expect_good(CLUSTER "auth: {mode: required, users_file: /u}\n"));
    config_destroy(expect_good(CLUSTER "auth: {mode: required, jwt: {keys_dir: /k}}\n"));
}

static void test_certificates_have_roles_and_a_ca(void **state)
{
    expect_error(CLUSTER "auth:\n  certificate_roles:\n    bot: [member]\n",
                 "c.yaml:13: auth.certificate_roles: \"member\" is not a role of auth.roles");
    expect_error(
        CLUSTER "auth:\n  certificate_roles: {bot: [m]}\n  roles: {m: {}}\n",
        "c.yaml:12: tls.client_ca_file: is missing; auth.certificate_roles needs the CA of "
        "clients' certificates");
}

static void test_certificates_come_with_their_keys(void **state)
{
    expect_error(CLUSTER "tls:\n  cert_file: /c\n",
                 "c.yaml:12: tls.key_file: is missing; give the private key of tls.cert_file");
    expect_error(CLUSTER "tls:\n  key_file: /c\n", "c.yaml:12: tls.cert_file: is missing; ...");
    expect_error(CLUSTER "tls:\n  client_ca_file: /c\n",
                 "c.yaml:12: tls.cert_file: is missing; tls.client_ca_file needs it and "
                 "tls.key_file");
    expect_error(CLUSTER "tls:\n  cert_file: /c\n  key_file: \"\"\n",
                 "c.yaml:13: tls.key_file: is missing; ...");
    expect_error(CLUSTER "peer_tls:\n  mode: required\n  cert_file: /c\n  key_file: /k\n",
                 "c.yaml:12: peer_tls.ca_file: is missing; peer_tls.mode needs cert_file, key_file "
                 "and ca_file");
    config_destroy(expect_good(CLUSTER "peer_tls: {mode: off, cert_file: /c}\n"));
}

static void test_each_node_has_a_tls_name_of_its_own(void **state)
{
    struct config *config = expect_good(cluster_with("grpc_addr: h2:2", "grpc_addr: h2:2, "
                                                                        "tls_name: n2.example"));
    assert_string_equal(config->cluster.peers[0].tls_name, "node1");
    assert_string_equal(config->cluster.peers[1].tls_name, "n2.example");
    config_destroy(config);
    expect_error(cluster_with("grpc_addr: h2:2", "grpc_addr: h2:2, tls_name: NODE1"),
                 "c.yaml:9: cluster.peers[1].tls_name: \"NODE1\" is also the name of node1; every "
                 "node needs its own");
    expect_error(
        cluster_with("grpc_addr: h2:2", "grpc_addr: h2:2, tls_name: \"https://n2\""),
        "c.yaml:9: cluster.peers[1].tls_name: \"https://n2\" is not a host name; write the "
        "DNS name of this node's certificate");
}

static void test_the_probes_address_is_a_listener_of_its_own(void **state)
{
    config_destroy(expect_good(CLUSTER "http: {probe_bind_addr: \"\"}\n"));
    expect_error(CLUSTER "http: {probe_bind_addr: \"127.0.0.1:9001\"}\n",
                 "c.yaml:11: http.probe_bind_addr: duplicate address 127.0.0.1:9001, already "
                 "cluster.grpc_bind_addr on line 4; every listener needs its own");
    expect_error(CLUSTER "http: {probe_bind_addr: here}\n",
                 "c.yaml:11: http.probe_bind_addr: \"here\" ...");
    expect_error(CLUSTER "http: {probe_bind_addr: }\n",
                 "c.yaml:11: http.probe_bind_addr: is empty; ...");
}

static void test_the_token_url_is_safe_in_a_policy(void **state)
{
    const char *const good[] = {"https://id.example/token?for=chat", "http://localhost:3000/t",
                                "/token"};
    const char *const bad[] = {"id.example/token", "ftp://x/y",   "https://",         "//x/y",
                               "javascript:x",     "/a b",        "/a; script-src x", "https://a,b",
                               "/'self'",          "https://u@h/"};
    for (size_t i = 0; i < 3; i++) {
        char text[TEXT_SIZE];
        snprintf(text, sizeof(text), "%shttp: {token_url: \"%s\"}\n", CLUSTER, good[i]);
        config_destroy(expect_good(text));
    }
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        char text[TEXT_SIZE];
        snprintf(text, sizeof(text), "%shttp: {token_url: \"%s\"}\n", CLUSTER, bad[i]);
        expect_error(text, "c.yaml:11: http.token_url: ...");
    }
}

static void test_a_file_with_everything_in_it_is_read(void **state)
{
    static char text[1 << 16];
    int size = snprintf(text, sizeof(text), "%swebsocket:\n  allowed_origins:\n", CLUSTER);
    for (int i = 0; i < CONFIG_ORIGINS_MAX; i++) {
        size += snprintf(text + size, sizeof(text) - (size_t)size, "    - http://h%d\n", i);
    }
    size += snprintf(text + size, sizeof(text) - (size_t)size, "http:\n  allowed_hosts:\n");
    for (int i = 0; i < CONFIG_HOSTS_MAX; i++) {
        size += snprintf(text + size, sizeof(text) - (size_t)size, "    - h%d\n", i);
    }
    size += snprintf(text + size, sizeof(text) - (size_t)size, "auth:\n  roles:\n");
    for (int i = 0; i < AUTH_ROLES_MAX; i++) {
        size +=
            snprintf(text + size, sizeof(text) - (size_t)size, "    r%d:\n      channels:\n", i);
        for (int j = 0; j < 40; j++) {
            size += snprintf(text + size, sizeof(text) - (size_t)size, "        c%d: []\n", j);
        }
    }
    assert_in_range(size, 1, sizeof(text) - 1);
    struct config *config = expect_good(text);
    assert_int_equal(config->auth.role_count, AUTH_ROLES_MAX);
    assert_int_equal(config->auth.roles[63].channel_count, 40);
    config_destroy(config);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_key_of_section_17_is_read),
        cmocka_unit_test(test_without_them_everything_is_off),
        cmocka_unit_test(test_what_is_not_implemented_is_never_ignored),
        cmocka_unit_test(test_words_are_those_of_the_key),
        cmocka_unit_test(test_names_of_roles_and_patterns_are_bounded_and_different),
        cmocka_unit_test(test_a_star_is_at_the_end_of_a_pattern),
        cmocka_unit_test(test_somebody_can_log_in),
        cmocka_unit_test(test_certificates_have_roles_and_a_ca),
        cmocka_unit_test(test_certificates_come_with_their_keys),
        cmocka_unit_test(test_each_node_has_a_tls_name_of_its_own),
        cmocka_unit_test(test_the_probes_address_is_a_listener_of_its_own),
        cmocka_unit_test(test_the_token_url_is_safe_in_a_policy),
        cmocka_unit_test(test_a_file_with_everything_in_it_is_read),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
