/* What CONFIG_CHANGE entries, snapshots and the store say of the membership, from any bytes: it is
 * refused, or it says the same when it is written again. The file is included, since the rest of
 * its module needs a network. */
#include "driver/membership_codec.c"

#include "base/check.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static char node_ids[][CLUSTER_NODE_ID_BYTES_MAX + 1] = {"node1", "node2", "node3"};
    static struct node node;
    node.options.member_count = 3;
    node.node_ids = node_ids;
    struct bytes in = {data, size};
    struct buf out = {0};
    struct raft_change change;
    int rc = node_change_decode(&node, in, &change);
    CHECK(rc == 0 || rc == ERR_CORRUPT || rc == ERR_VERSION || rc == ERR_FOREIGN);
    if (rc == 0) {
        struct raft_change again;
        node_change_encode(&node, &change, &out);
        CHECK(node_change_decode(&node, buf_bytes(&out), &again) == 0);
        CHECK(again.kind == change.kind);
        CHECK(again.member == change.member);
        CHECK(again.incarnation == change.incarnation);
    }
    struct raft_config config;
    rc = node_config_decode(&node, in, &config);
    CHECK(rc == 0 || rc == ERR_CORRUPT || rc == ERR_VERSION || rc == ERR_FOREIGN);
    if (rc == 0) {
        struct raft_config again;
        buf_reset(&out);
        node_config_encode(&node, &config, &out);
        CHECK(node_config_decode(&node, buf_bytes(&out), &again) == 0);
        CHECK(memcmp(&again, &config, sizeof(config)) == 0);
    }
    buf_finish(&out);
    return 0;
}
