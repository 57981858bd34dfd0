/* Tests of the configuration: good files, and the error of each bad one. */
#include "config_testing.h"

#include "base/clock.h"
#include "base/errors.h"
#include "lib/scratch.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static void test_cluster_alone_is_enough_and_the_rest_has_defaults(void **state)
{
    struct config *config = expect_good(CLUSTER);
    assert_string_equal(config->cluster.node_id, "node2");
    assert_string_equal(config->cluster.raft_bind_addr, "127.0.0.1:7001");
    assert_string_equal(config->cluster.grpc_bind_addr, "127.0.0.1:9001");
    assert_string_equal(config->cluster.health_bind_addr, "127.0.0.1:8081");
    assert_string_equal(config->cluster.data_dir, "./data/node2");
    assert_int_equal(config->cluster.peer_count, 3);
    assert_int_equal(config->cluster.self, 1);
    assert_string_equal(config->cluster.peers[0].node_id, "node1");
    assert_string_equal(config->cluster.peers[0].http_addr, "h1:3");
    assert_string_equal(config->cluster.peers[1].grpc_addr, "h2:2");
    assert_string_equal(config->cluster.peers[1].http_addr, "");
    assert_string_equal(config->cluster.peers[2].raft_addr, "h3:1");
    assert_true(config->raft.election_timeout_ns == 500 * NS_PER_MS);
    assert_true(config->raft.heartbeat_interval_ns == 50 * NS_PER_MS);
    assert_true(config->raft.snapshot_interval_ns == 120 * NS_PER_S);
    assert_int_equal(config->raft.snapshot_threshold, 8192);
    assert_int_equal(config->raft.trailing_logs, 10240);
    assert_int_equal(config->limits.max_payload_bytes, 65536);
    assert_int_equal(config->limits.max_frame_bytes, 1048576);
    assert_int_equal(config->limits.max_in_flight, 16384);
    assert_int_equal(config->limits.memory_bytes, 512 << 20);
    assert_true(config->grpc_reflection);
    assert_string_equal(config->http_web_root, "");
    assert_int_equal(config->websocket.allowed_origin_count, 0);
    config_destroy(config);
}

static void test_every_key_is_read(void **state)
{
    struct config *config =
        expect_good(CLUSTER "raft:\n"
                            "  election_timeout: 2s\n"
                            "  heartbeat_interval: 150ms\n"
                            "  snapshot_interval: 5m\n"
                            "  snapshot_threshold: 100\n"
                            "  trailing_logs: 0\n"
                            "limits:\n"
                            "  max_payload_bytes: 128KiB\n"
                            "  max_frame_bytes: 2MiB\n"
                            "  max_in_flight: 10\n"
                            "  max_calls: 11\n"
                            "  max_connections: 12\n"
                            "  max_subscriptions_per_connection: 13\n"
                            "  store_size: 1GiB\n"
                            "  memory: 96MiB\n"
                            "grpc: {reflection: false}\n"
                            "http: {web_root: /}\n"
                            "websocket:\n"
                            "  allowed_origins: [\"https://a.example\", 'http://b.example:81']\n");
    assert_true(config->raft.election_timeout_ns == 2 * NS_PER_S);
    assert_true(config->raft.heartbeat_interval_ns == 150 * NS_PER_MS);
    assert_true(config->raft.snapshot_interval_ns == 300 * NS_PER_S);
    assert_int_equal(config->raft.snapshot_threshold, 100);
    assert_int_equal(config->raft.trailing_logs, 0);
    assert_int_equal(config->limits.max_payload_bytes, 128 << 10);
    assert_int_equal(config->limits.max_frame_bytes, 2 << 20);
    assert_int_equal(config->limits.max_in_flight, 10);
    assert_int_equal(config->limits.max_calls, 11);
    assert_int_equal(config->limits.max_connections, 12);
    assert_int_equal(config->limits.max_subscriptions_per_connection, 13);
    assert_int_equal(config->limits.store_size_bytes, 1 << 30);
    assert_int_equal(config->limits.memory_bytes, 96 << 20);
    assert_false(config->grpc_reflection);
    assert_string_equal(config->http_web_root, "/");
    assert_int_equal(config->websocket.allowed_origin_count, 2);
    assert_string_equal(config->websocket.allowed_origins[0], "https://a.example");
    assert_string_equal(config->websocket.allowed_origins[1], "http://b.example:81");
    config_destroy(config);
}

static void test_template_is_valid_and_shows_the_defaults(void **state)
{
    struct config *shown = NULL;
    if (config_load(TESTS_DIR "/../conf/config.yaml.dist", &shown, error, sizeof(error)) != 0) {
        fail_msg("%s", error);
    }
    struct config *defaults = expect_good(CLUSTER);
    assert_memory_equal(&shown->raft, &defaults->raft, sizeof(shown->raft));
    assert_memory_equal(&shown->limits, &defaults->limits, sizeof(shown->limits));
    assert_int_equal(shown->grpc_reflection, defaults->grpc_reflection);
    assert_string_equal(shown->http_web_root, defaults->http_web_root);
    assert_int_equal(shown->websocket.allowed_origin_count, 0);
    assert_string_equal(shown->http_probe_bind_addr, "");
    assert_string_equal(shown->http_token_url, "");
    assert_memory_equal(&shown->tls, &defaults->tls, sizeof(shown->tls));
    assert_memory_equal(&shown->peer_tls, &defaults->peer_tls, sizeof(shown->peer_tls));
    assert_memory_equal(&shown->auth, &defaults->auth, sizeof(shown->auth));
    assert_string_equal(shown->audit_file, "");
    assert_int_equal(shown->cluster.peer_count, 3);
    config_destroy(defaults);
    config_destroy(shown);
}

static void test_local_nodes_agree_on_their_peers(void **state)
{
    struct config *configs[3];
    for (size_t i = 0; i < 3; i++) {
        char path[256];
        snprintf(path, sizeof(path), "%s/../conf/local/node%zu.yaml", TESTS_DIR, i + 1);
        if (config_load(path, &configs[i], error, sizeof(error)) != 0) {
            fail_msg("%s", error);
        }
        const struct config_cluster *cluster = &configs[i]->cluster;
        assert_int_equal(cluster->self, i);
        assert_string_equal(cluster->raft_bind_addr, cluster->peers[i].raft_addr);
        assert_string_equal(cluster->grpc_bind_addr, cluster->peers[i].grpc_addr);
        assert_string_equal(cluster->health_bind_addr, cluster->peers[i].http_addr);
        assert_memory_equal(cluster->peers, configs[0]->cluster.peers, sizeof(cluster->peers));
    }
    for (size_t i = 0; i < 3; i++) {
        config_destroy(configs[i]);
    }
}

static void test_members_are_sorted_by_node_id(void **state)
{
    struct config *config = expect_good("cluster:\n"
                                        "  node_id: b\n"
                                        "  raft_bind_addr: h:1\n"
                                        "  grpc_bind_addr: h:2\n"
                                        "  health_bind_addr: h:3\n"
                                        "  data_dir: d\n"
                                        "  peers:\n"
                                        "    - {node_id: c, raft_addr: c:1, grpc_addr: c:2}\n"
                                        "    - {node_id: b, raft_addr: b:1, grpc_addr: b:2}\n"
                                        "    - {node_id: B, raft_addr: f:1, grpc_addr: d:2, "
                                        "http_addr: e:3}\n"
                                        "");
    const struct config_cluster *cluster = &config->cluster;
    assert_string_equal(cluster->members[0].node_id, "B");
    assert_string_equal(cluster->members[0].http_addr, "e:3");
    assert_string_equal(cluster->members[1].raft_addr, "b:1");
    assert_string_equal(cluster->members[1].http_addr, "");
    assert_string_equal(cluster->members[2].grpc_addr, "c:2");
    assert_int_equal(cluster->self, 1);
    assert_string_equal(cluster->peers[0].node_id, "c");
    config_destroy(config);
}

static void test_one_peer_is_a_valid_cluster(void **state)
{
    struct config *config =
        expect_good("cluster:\n"
                    "  node_id: a\n"
                    "  raft_bind_addr: \"[::1]:7001\"\n"
                    "  grpc_bind_addr: localhost:9001\n"
                    "  health_bind_addr: 0.0.0.0:8081\n"
                    "  data_dir: /var/lib/x\n"
                    "  peers: [{node_id: a, raft_addr: h:1, grpc_addr: h:2}]\n");
    assert_int_equal(config->cluster.peer_count, 1);
    assert_int_equal(config->cluster.self, 0);
    config_destroy(config);
}

static void test_empty_optional_sections_mean_their_defaults(void **state)
{
    struct config *config =
        expect_good(CLUSTER "raft:\nlimits: {}\nwebsocket: {allowed_origins: }\n");
    assert_true(config->raft.election_timeout_ns == 500 * NS_PER_MS);
    config_destroy(config);
}

static void test_aliases_stand_for_what_they_name(void **state)
{
    struct config *config =
        expect_good(CLUSTER "raft: {snapshot_threshold: &many 5000, trailing_logs: *many}\n");
    assert_int_equal(config->raft.trailing_logs, 5000);
    config_destroy(config);
}

static void test_unknown_keys_are_refused(void **state)
{
    expect_error(CLUSTER "rafts: {}\n",
                 "c.yaml:11: rafts: unknown key; the keys here are cluster, raft, limits, grpc, "
                 "http, websocket, tls, peer_tls, auth, audit");
    expect_error(CLUSTER "raft:\n  election_timeot: 1s\n",
                 "c.yaml:12: raft.election_timeot: unknown key; the keys here are "
                 "election_timeout, heartbeat_interval, snapshot_interval, snapshot_threshold, "
                 "trailing_logs");
    expect_error(cluster_with("http_addr", "web_addr"),
                 "c.yaml:8: cluster.peers[0].web_addr: unknown key; the keys here are node_id, "
                 "raft_addr, grpc_addr, http_addr, tls_name");
    expect_error(CLUSTER "grpc: &g {}\nhttp: {<<: *g}\n", "c.yaml:12: http.<<: unknown key; ...");
    expect_error(CLUSTER "\"a\\nb\": 1\n", "c.yaml:11: a?b: unknown key; ...");
    expect_error(CLUSTER "\"\": 1\n", "c.yaml:11: '': unknown key; ...");
    expect_error(CLUSTER "\"raft\\0\": {}\n", "c.yaml:11: raft: unknown key; ...");
    expect_error(CLUSTER "? [a]\n: b\n",
                 "c.yaml:11: file: has a list for a key; a key must be a word");
}

static void test_duplicate_keys_are_refused(void **state)
{
    expect_error(CLUSTER "grpc: {}\ngrpc: {}\n",
                 "c.yaml:12: grpc: duplicate key; it is already on line 11");
    expect_error(cluster_with("  data_dir:", "  node_id: x\n  data_dir:"),
                 "c.yaml:6: cluster.node_id: duplicate key; it is already on line 2");
}

static void test_missing_keys_are_named_with_the_line_of_their_section(void **state)
{
    expect_error("# nothing\n", "c.yaml:1: cluster: is missing, the file is empty; "
                                "conf/config.yaml.dist shows it");
    expect_error("", "c.yaml:1: cluster: is missing, the file is empty; ...");
    struct config *none = NULL;
    struct bytes nothing = {NULL, 0};
    assert_int_equal(config_parse("c.yaml", nothing, &none, error, sizeof(error)), ERR_INVALID);
    expect_error("\nraft: {}\n", "c.yaml:2: cluster: is missing; conf/config.yaml.dist shows it");
    expect_error("\ncluster:\n", "c.yaml:2: cluster.node_id: is missing; ...");
    static const char *const keys[] = {"node_id", "raft_bind_addr", "grpc_bind_addr",
                                       "health_bind_addr", "data_dir"};
    for (size_t i = 0; i < sizeof(keys) / sizeof(keys[0]); i++) {
        char from[64];
        char expected[128];
        snprintf(from, sizeof(from), "  %s:", keys[i]);
        snprintf(expected, sizeof(expected), "c.yaml:1: cluster.%s: is missing; ...", keys[i]);
        expect_error(cluster_with(from, "  #"), expected);
    }
    expect_error("cluster: {node_id: a, raft_bind_addr: h:1, grpc_bind_addr: h:2,\n"
                 "  health_bind_addr: h:3, data_dir: d}\n",
                 "c.yaml:1: cluster.peers: is missing; ...");
    expect_error(cluster_with("node_id: node1, ", ""),
                 "c.yaml:8: cluster.peers[0].node_id: is missing; ...");
    expect_error(cluster_with("raft_addr: h2:1, ", ""),
                 "c.yaml:9: cluster.peers[1].raft_addr: is missing; ...");
    expect_error(cluster_with(", grpc_addr: h3:2", ""),
                 "c.yaml:10: cluster.peers[2].grpc_addr: is missing; ...");
}

static void test_wrong_types_are_refused(void **state)
{
    expect_error("just text\n",
                 "c.yaml:1: file: is a string; it must be a mapping of keys to values");
    expect_error("- a\n", "c.yaml:1: file: is a list; ...");
    expect_error("cluster: 5\n",
                 "c.yaml:1: cluster: is a number; it must be a mapping of keys to values");
    expect_error(CLUSTER "raft: [1]\n", "c.yaml:11: raft: is a list; ...");
    expect_error(cluster_with("node_id: node2\n", "node_id: [node2]\n"),
                 "c.yaml:2: cluster.node_id: is a list; it must be a string");
    expect_error(cluster_with("node_id: node2\n", "node_id: 2\n"),
                 "c.yaml:2: cluster.node_id: is a number, not a string; put it in quotes: \"2\"");
    expect_error(cluster_with("node_id: node2\n", "node_id: true\n"),
                 "c.yaml:2: cluster.node_id: is true or false, not a string; ...");
    expect_error(cluster_with("./data/node2", "{a: b}"),
                 "c.yaml:6: cluster.data_dir: is a mapping; it must be a string");
    expect_error(cluster_with("127.0.0.1:7001", "[h]"),
                 "c.yaml:3: cluster.raft_bind_addr: is a list; it must be an address: host:port");
    expect_error(cluster_with("{node_id: node1, raft_addr: h1:1, grpc_addr: h1:2, http_addr: h1:3}",
                              "node1"),
                 "c.yaml:8: cluster.peers[0]: is a string; it must be a mapping of keys to values");
    expect_error(CLUSTER "websocket: {allowed_origins: https://a.example}\n",
                 "c.yaml:11: websocket.allowed_origins: is a string; it must be a list");
    expect_error(CLUSTER "websocket:\n  allowed_origins:\n    - https://a.example\n    - 5\n",
                 "c.yaml:14: websocket.allowed_origins[1]: is a number, not a string; ...");
    expect_error(CLUSTER "raft: {election_timeout: {}}\n",
                 "c.yaml:11: raft.election_timeout: is a mapping; it must be a duration with its "
                 "unit: 150ms, 2s, 5m");
    expect_error(CLUSTER "grpc:\n  reflection: yes\n",
                 "c.yaml:12: grpc.reflection: \"yes\" must be true or false, without quotes");
    expect_error(CLUSTER "grpc: {reflection: \"true\"}\n", "c.yaml:11: grpc.reflection: ...");
    expect_error(CLUSTER "raft: {snapshot_threshold: \"5\"}\n",
                 "c.yaml:11: raft.snapshot_threshold: \"5\" must be a whole number without quotes, "
                 "such as 8192");
    expect_error(CLUSTER "raft: {trailing_logs: 1.5}\n", "c.yaml:11: raft.trailing_logs: ...");
    expect_error(CLUSTER "raft: {trailing_logs: many}\n", "c.yaml:11: raft.trailing_logs: ...");
    expect_error(CLUSTER "raft: {trailing_logs: !!int 5}\n",
                 "c.yaml:11: raft.trailing_logs: has the tag tag:yaml.org,2002:int; remove it");
}

static void test_values_need_their_units(void **state)
{
    expect_error(CLUSTER "raft:\n  election_timeout: 500\n",
                 "c.yaml:12: raft.election_timeout: \"500\" must be a duration with its unit: "
                 "150ms, 2s, 5m");
    expect_error(CLUSTER "raft: {election_timeout: }\n", "c.yaml:11: raft.election_timeout: ...");
    expect_error(CLUSTER "limits: {max_payload_bytes: 64KB}\n",
                 "c.yaml:11: limits.max_payload_bytes: \"64KB\" must be a size: bytes, or 64KiB, "
                 "1MiB, 1GiB");
    struct config *config = expect_good(CLUSTER "limits: {max_payload_bytes: 1000}\n");
    assert_int_equal(config->limits.max_payload_bytes, 1000);
    config_destroy(config);
}

static void test_values_have_ranges(void **state)
{
    expect_error(CLUSTER "raft: {election_timeout: 1ms}\n",
                 "c.yaml:11: raft.election_timeout: 1ms is out of range; it must be 10ms to 1m");
    expect_error(CLUSTER "raft: {heartbeat_interval: 0ms}\n",
                 "c.yaml:11: raft.heartbeat_interval: 0ms is out of range; it must be 1ms to 1m");
    expect_error(CLUSTER "raft: {snapshot_threshold: 0}\n",
                 "c.yaml:11: raft.snapshot_threshold: 0 is out of range; it must be 1 to "
                 "1000000000");
    expect_error(CLUSTER "limits: {max_payload_bytes: 4MiB}\n",
                 "c.yaml:11: limits.max_payload_bytes: 4MiB is out of range; it must be 1 to 3MiB");
    expect_error(CLUSTER "limits: {max_payload_bytes: 3145729}\n",
                 "c.yaml:11: limits.max_payload_bytes: 3145729 is out of range; ...");
    expect_error(CLUSTER "limits: {max_in_flight: 0}\n", "c.yaml:11: limits.max_in_flight: ...");
    expect_error(CLUSTER "limits: {memory: 63MiB}\n", "c.yaml:11: limits.memory: ...");
    expect_error(CLUSTER "limits: {store_size: 1KiB}\n", "c.yaml:11: limits.store_size: ...");
    expect_error(CLUSTER "limits: {store_size: 257GiB}\n",
                 "c.yaml:11: limits.store_size: 257GiB is out of range; it must be 1MiB to 256GiB");
}

static void test_heartbeats_are_shorter_than_elections(void **state)
{
    expect_error(CLUSTER "raft:\n  election_timeout: 1s\n  heartbeat_interval: 1s\n",
                 "c.yaml:13: raft.heartbeat_interval: 1s must be shorter than "
                 "raft.election_timeout (1s); a tenth of it is a good choice");
    expect_error(CLUSTER "raft:\n  heartbeat_interval: 2s\n  election_timeout: 1s\n",
                 "c.yaml:12: raft.heartbeat_interval: ...");
    expect_error(CLUSTER "raft: {heartbeat_interval: 500ms}\n",
                 "c.yaml:11: raft.heartbeat_interval: 500ms must be shorter than "
                 "raft.election_timeout (500ms); ...");
    expect_error(CLUSTER "raft: {election_timeout: 50ms}\n",
                 "c.yaml:11: raft.election_timeout: 50ms must be longer than "
                 "raft.heartbeat_interval (50ms by default); raise it, or set that to a tenth of "
                 "it");
}

static void test_frame_holds_an_escaped_payload(void **state)
{
    expect_error(CLUSTER "limits:\n  max_frame_bytes: 409599\n",
                 "c.yaml:12: limits.max_frame_bytes: 409599 is too small for max_payload_bytes "
                 "(65536); it must be at least 6 times that and 16KiB: 409600, or leave it out");
    struct config *config = expect_good(CLUSTER "limits: {max_frame_bytes: 409600}\n");
    assert_int_equal(config->limits.max_frame_bytes, 409600);
    config_destroy(config);
    config = expect_good(CLUSTER "limits: {max_payload_bytes: 3MiB}\n");
    assert_int_equal(config->limits.max_frame_bytes, (18 << 20) + (16 << 10));
    config_destroy(config);
    expect_error(CLUSTER "limits: {max_payload_bytes: 1MiB, max_frame_bytes: 1MiB}\n",
                 "c.yaml:11: limits.max_frame_bytes: 1048576 is too small ...");
}

static void test_bad_addresses_are_refused(void **state)
{
    expect_error(cluster_with("127.0.0.1:9001", "127.0.0.1"),
                 "c.yaml:4: cluster.grpc_bind_addr: \"127.0.0.1\" has no port; write host:port, "
                 "such as 127.0.0.1:7000 or [::1]:7000");
    expect_error(cluster_with("h3:2", "h3"),
                 "c.yaml:10: cluster.peers[2].grpc_addr: \"h3\" has no port; ...");
    expect_error(cluster_with("h1:3", "h1:99999"),
                 "c.yaml:8: cluster.peers[0].http_addr: \"h1:99999\" has a bad port; it must be a "
                 "number from 1 to 65535");
    expect_error(cluster_with("127.0.0.1:8081", "8081"),
                 "c.yaml:5: cluster.health_bind_addr: \"8081\" has no port; ...");
    expect_error(cluster_with("127.0.0.1:8081", ""),
                 "c.yaml:5: cluster.health_bind_addr: is empty; it must be an address: host:port");
    expect_error(cluster_with("h2:1", "0.0.0.0:1"),
                 "c.yaml:9: cluster.peers[1].raft_addr: 0.0.0.0:1 cannot be dialled; give the "
                 "address at which others reach this peer");
}

static void test_duplicate_node_ids_are_refused(void **state)
{
    expect_error(cluster_with("node_id: node3", "node_id: node1"),
                 "c.yaml:10: cluster.peers[2].node_id: duplicate node id \"node1\", already on "
                 "line 8; every peer needs its own");
}

static void test_duplicate_addresses_are_refused(void **state)
{
    expect_error(cluster_with("h3:1", "h1:1"),
                 "c.yaml:10: cluster.peers[2].raft_addr: duplicate address h1:1, already "
                 "cluster.peers[0].raft_addr on line 8; every listener needs its own");
    expect_error(cluster_with("grpc_addr: h2:2", "grpc_addr: h2:1"),
                 "c.yaml:9: cluster.peers[1].grpc_addr: duplicate address h2:1, already "
                 "cluster.peers[1].raft_addr on line 9; ...");
    expect_error(cluster_with("h3:3", "H1:3"),
                 "c.yaml:10: cluster.peers[2].http_addr: duplicate address H1:3, ...");
    expect_error(cluster_with("127.0.0.1:9001", "127.0.0.1:7001"),
                 "c.yaml:4: cluster.grpc_bind_addr: duplicate address 127.0.0.1:7001, already "
                 "cluster.raft_bind_addr on line 3; every listener needs its own");
    expect_error(cluster_with("127.0.0.1:8081", "0.0.0.0:7001"),
                 "c.yaml:5: cluster.health_bind_addr: duplicate address 0.0.0.0:7001, already ...");
}

static void test_even_number_of_peers_is_refused(void **state)
{
    expect_error(cluster_with("    - {node_id: node3, raft_addr: h3:1, grpc_addr: h3:2, "
                              "http_addr: h3:3}\n",
                              ""),
                 "c.yaml:7: cluster.peers: has an even number of peers (2); it must be odd, as one "
                 "more adds no tolerance: 1, 3, 5, 7 or 9");
    expect_error("cluster: {node_id: a, raft_bind_addr: h:1, grpc_bind_addr: h:2,\n"
                 "  health_bind_addr: h:3, data_dir: d, peers: []}\n",
                 "c.yaml:2: cluster.peers: is empty; list every node, this one included");
}

static void test_more_than_nine_peers_are_refused(void **state)
{
    char text[TEXT_SIZE] = "cluster:\n  node_id: n0\n  raft_bind_addr: h:1\n"
                           "  grpc_bind_addr: h:2\n  health_bind_addr: h:3\n"
                           "  data_dir: d\n  peers:\n";
    for (int i = 0; i < CLUSTER_MEMBERS_MAX; i++) {
        size_t used = strlen(text);
        snprintf(text + used, sizeof(text) - used,
                 "    - {node_id: n%d, raft_addr: r%d:1, grpc_addr: g%d:1, http_addr: h%d:1}\n", i,
                 i, i, i);
    }
    struct config *config = expect_good(text);
    assert_int_equal(config->cluster.peer_count, CLUSTER_MEMBERS_MAX);
    config_destroy(config);
    strcat(text, "    - {}\n    - {}\n");
    expect_error(text, "c.yaml:7: cluster.peers: has 11 items; at most 9 are allowed");
}

static void test_node_id_must_be_among_the_peers(void **state)
{
    expect_error(cluster_with("node_id: node2\n", "node_id: node9\n"),
                 "c.yaml:2: cluster.node_id: \"node9\" is not among cluster.peers; use the node_id "
                 "of one of them");
}

static void test_ids_are_bounded_and_printable(void **state)
{
    char id[CLUSTER_NODE_ID_BYTES_MAX + 2];
    memset(id, 'x', sizeof(id) - 1);
    id[sizeof(id) - 1] = '\0';
    expect_error(cluster_with("{node_id: node1", replace("{node_id: X", "X", id)),
                 "c.yaml:8: cluster.peers[0].node_id: is 257 bytes long; at most 256 are allowed");
    id[CLUSTER_NODE_ID_BYTES_MAX] = '\0';
    config_destroy(expect_good(cluster_with("{node_id: node1", replace("{node_id: X", "X", id))));
    expect_error(cluster_with("node_id: node2\n", "node_id: \"\"\n"),
                 "c.yaml:2: cluster.node_id: is empty; give it a value");
    expect_error(cluster_with("node_id: node2\n", "node_id:\n"),
                 "c.yaml:2: cluster.node_id: is empty; give it a value");
    expect_error(cluster_with("node_id: node2\n", "node_id: \"a\\0b\"\n"),
                 "c.yaml:2: cluster.node_id: contains a NUL character; remove it");
    expect_error(cluster_with("node_id: node2\n", "node_id: \"a\\nb\"\n"),
                 "c.yaml:2: cluster.node_id: contains a control character; remove it");
    config_destroy(expect_good(replace(cluster_with("node_id: node2\n", "node_id: gr\xc3\xbcn\n"),
                                       "{node_id: node2", "{node_id: gr\xc3\xbcn")));
}

static void test_origins_have_scheme_and_host_only(void **state)
{
    static const char *const bad[] = {"a.example", "https://a.example/", "https://a.example/x",
                                      "*",         "https://*.example",  "://a",
                                      "https://",  "https://u@a"};
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        char text[TEXT_SIZE];
        snprintf(text, sizeof(text), "%swebsocket: {allowed_origins: [\"%s\"]}\n", CLUSTER, bad[i]);
        expect_error(text, "c.yaml:11: websocket.allowed_origins[0]: ...");
    }
    config_destroy(expect_good(CLUSTER "websocket: {allowed_origins: [\"null\", "
                                       "\"http://localhost:3000\", \"https://[::1]:1\"]}\n"));
}

static void test_hosts_are_names_alone(void **state)
{
    struct config *config =
        expect_good(CLUSTER "http: {allowed_hosts: [chat.example, Node-1.internal, my_host]}\n");
    assert_int_equal(config->http_allowed_host_count, 3);
    assert_string_equal(config->http_allowed_hosts[1], "Node-1.internal");
    config_destroy(config);
    static const char *const bad[] = {"http://chat.example", "chat.example:80", "chat.example/",
                                      "*.example", "a b"};
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        char text[2048];
        snprintf(text, sizeof(text), "%shttp: {allowed_hosts: [\"%s\"]}\n", CLUSTER, bad[i]);
        expect_error(text, "c.yaml:11: http.allowed_hosts[0]: ...");
    }
}

static void test_web_root_must_be_a_folder(void **state)
{
    expect_error(CLUSTER "http: {web_root: /no/such/folder}\n",
                 "c.yaml:11: http.web_root: \"/no/such/folder\" is not a folder that can be read; "
                 "correct it, or write \"\" for the embedded page");
    expect_error(CLUSTER "http:\n  web_root: /dev/null\n", "c.yaml:12: http.web_root: ...");
}

static void test_bad_yaml_is_told_with_its_line(void **state)
{
    expect_error("cluster:\n  node_id: [a\n", "c.yaml:3: not valid YAML: ...");
    expect_error("cluster:\n\tnode_id: a\n", "c.yaml:2: not valid YAML: ...");
    expect_error("cluster: *nothing\n", "c.yaml:1: not valid YAML: found undefined alias...");
    expect_error("cluster:\n  node_id: \"\xff\"\n", "c.yaml:2: not valid YAML: ...");
    expect_error_in_bytes((struct bytes){.data = "a: \0b", .size = 5},
                          "c.yaml:1: not valid YAML: ...");
}

static void test_second_document_is_refused(void **state)
{
    expect_error(CLUSTER "---\nraft: {}\n",
                 "c.yaml:11: ---: a second YAML document; keep one only");
    config_destroy(expect_good("---\n" CLUSTER "...\n"));
}

static void test_recursive_alias_ends(void **state)
{
    expect_error("cluster: &c\n  peers: [*c]\n",
                 "c.yaml:2: cluster.peers[0].peers: unknown key; ...");
}

static void test_missing_file_is_told_with_its_remedy(void **state)
{
    struct config *config = NULL;
    assert_int_equal(config_load("/no/such/file.yaml", &config, error, sizeof(error)),
                     ERR_NOT_FOUND);
    assert_string_equal(error, "/no/such/file.yaml: cannot be read: No such file or directory; "
                               "name it with -config FILE or RAFTOGRAM_CONFIG, "
                               "conf/config.yaml.dist is the template");
    assert_int_equal(config_load("/tmp", &config, error, sizeof(error)), ERR_IO);
    assert_string_equal(error, "/tmp: cannot be read: Is a directory");
    assert_null(config);
}

static void test_file_that_may_not_be_read_is_told(void **state)
{
    enum { NOBODY = 65534 };
    char path[64];
    int fd = scratch_make_file(path, sizeof(path), "raftogram-config");
    assert_int_equal(fchmod(fd, 0), 0);
    close(fd);
    /* Root may read everything: become somebody else for the call. */
    uid_t user = geteuid();
    if (user == 0) {
        assert_int_equal(seteuid(NOBODY), 0);
    }
    struct config *config = NULL;
    int rc = config_load(path, &config, error, sizeof(error));
    if (user == 0) {
        assert_int_equal(seteuid(user), 0);
    }
    unlink(path);
    assert_int_equal(rc, ERR_ACCESS);
    assert_non_null(strstr(error, "cannot be read: Permission denied; make it readable"));
}

static void test_huge_file_is_refused(void **state)
{
    struct config *config = NULL;
    assert_int_equal(config_load("/dev/zero", &config, error, sizeof(error)), ERR_IO);
    assert_string_equal(error, "/dev/zero: cannot be read: File too large");
}

static void test_short_error_buffer_is_never_overrun(void **state)
{
    struct config *config = NULL;
    for (size_t size = 0; size < 40; size++) {
        char small[41];
        memset(small, '#', sizeof(small));
        assert_int_equal(
            config_parse("c.yaml", bytes_of_text("cluster: 5\n"), &config, small, size),
            ERR_INVALID);
        assert_int_equal(small[size], '#');
        if (size > 0) {
            assert_true(memchr(small, '\0', size) != NULL);
        }
    }
}

static void test_destroy_accepts_null(void **state)
{
    config_destroy(NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_cluster_alone_is_enough_and_the_rest_has_defaults),
        cmocka_unit_test(test_every_key_is_read),
        cmocka_unit_test(test_template_is_valid_and_shows_the_defaults),
        cmocka_unit_test(test_local_nodes_agree_on_their_peers),
        cmocka_unit_test(test_members_are_sorted_by_node_id),
        cmocka_unit_test(test_one_peer_is_a_valid_cluster),
        cmocka_unit_test(test_empty_optional_sections_mean_their_defaults),
        cmocka_unit_test(test_aliases_stand_for_what_they_name),
        cmocka_unit_test(test_unknown_keys_are_refused),
        cmocka_unit_test(test_duplicate_keys_are_refused),
        cmocka_unit_test(test_missing_keys_are_named_with_the_line_of_their_section),
        cmocka_unit_test(test_wrong_types_are_refused),
        cmocka_unit_test(test_values_need_their_units),
        cmocka_unit_test(test_values_have_ranges),
        cmocka_unit_test(test_heartbeats_are_shorter_than_elections),
        cmocka_unit_test(test_frame_holds_an_escaped_payload),
        cmocka_unit_test(test_bad_addresses_are_refused),
        cmocka_unit_test(test_duplicate_node_ids_are_refused),
        cmocka_unit_test(test_duplicate_addresses_are_refused),
        cmocka_unit_test(test_even_number_of_peers_is_refused),
        cmocka_unit_test(test_more_than_nine_peers_are_refused),
        cmocka_unit_test(test_node_id_must_be_among_the_peers),
        cmocka_unit_test(test_ids_are_bounded_and_printable),
        cmocka_unit_test(test_origins_have_scheme_and_host_only),
        cmocka_unit_test(test_hosts_are_names_alone),
        cmocka_unit_test(test_web_root_must_be_a_folder),
        cmocka_unit_test(test_bad_yaml_is_told_with_its_line),
        cmocka_unit_test(test_second_document_is_refused),
        cmocka_unit_test(test_recursive_alias_ends),
        cmocka_unit_test(test_missing_file_is_told_with_its_remedy),
        cmocka_unit_test(test_file_that_may_not_be_read_is_told),
        cmocka_unit_test(test_huge_file_is_refused),
        cmocka_unit_test(test_short_error_buffer_is_never_overrun),
        cmocka_unit_test(test_destroy_accepts_null),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
