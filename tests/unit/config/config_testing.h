/* What the tests of config share: a right file, and what to expect of others. */
#ifndef RAFTOGRAM_TESTS_CONFIG_TESTING_H
#define RAFTOGRAM_TESTS_CONFIG_TESTING_H

#include "config/config.h"

#include "base/errors.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Ten lines; what a test appends begins on line 11. */
#define CLUSTER                                                                   \
    "cluster:\n"                                                                  \
    "  node_id: node2\n"                                                          \
    "  raft_bind_addr: 127.0.0.1:7001\n"                                          \
    "  grpc_bind_addr: 127.0.0.1:9001\n"                                          \
    "  health_bind_addr: 127.0.0.1:8081\n"                                        \
    "  data_dir: ./data/node2\n"                                                  \
    "  peers:\n"                                                                  \
    "    - {node_id: node1, raft_addr: h1:1, grpc_addr: h1:2, http_addr: h1:3}\n" \
    "    - {node_id: node2, raft_addr: h2:1, grpc_addr: h2:2}\n"                  \
    "    - {node_id: node3, raft_addr: h3:1, grpc_addr: h3:2, http_addr: h3:3}\n"

#define TEXT_SIZE 8192

static char error[CONFIG_ERROR_BYTES_MAX];

/* The text with its first `from` replaced by `to`. */
static inline const char *replace(const char *text, const char *from, const char *to)
{
    static char out[TEXT_SIZE];
    char made[TEXT_SIZE]; /* the arguments may lie in `out` */
    const char *found = strstr(text, from);
    assert_non_null(found);
    int size = snprintf(made, sizeof(made), "%.*s%s%s", (int)(found - text), text, to,
                        found + strlen(from));
    assert_in_range(size, 0, sizeof(made) - 1);
    return strcpy(out, made);
}

static inline const char *cluster_with(const char *from, const char *to)
{
    return replace(CLUSTER, from, to);
}

/* The caller's, for config_destroy(). */
static inline struct config *expect_good(const char *text)
{
    struct config *config = NULL;
    error[0] = '\0';
    if (config_parse("c.yaml", bytes_of_text(text), &config, error, sizeof(error)) != 0) {
        fail_msg("%s", error);
    }
    assert_non_null(config);
    return config;
}

static inline void expect_error_in_bytes(struct bytes text, const char *expected)
{
    struct config *config = NULL;
    error[0] = '\0';
    assert_int_equal(config_parse("c.yaml", text, &config, error, sizeof(error)), ERR_INVALID);
    assert_null(config);
    /* An expectation that ends with "..." is the beginning of the error. */
    size_t size = strlen(expected);
    if (size > 3 && strcmp(expected + size - 3, "...") == 0) {
        if (strncmp(error, expected, size - 3) != 0) {
            assert_string_equal(error, expected);
        }
    } else {
        assert_string_equal(error, expected);
    }
}

static inline void expect_error(const char *text, const char *expected)
{
    expect_error_in_bytes(bytes_of_text(text), expected);
}

#endif
