/* Membership on disk: config changes in the log, and the config that the store keeps. */
#include "base/bytes_reader.h"
#include "base/errors.h"
#include "driver/node_internal.h"

#include <assert.h>
#include <string.h>

#define CONFIG_FORMAT_VERSION 1

/* Both formats: u8 version, u8 kind, 16 bytes of cluster id, u8 count, then for each member a u16
 * length, its node id, and a u64 incarnation. An ADMIT has one member. */
#define KIND_GENESIS 1
#define KIND_ADMIT 2
#define KIND_CONFIG 3
#define MEMBER_BYTES_MAX (2 + CLUSTER_NODE_ID_BYTES_MAX + 8)
#define ENCODED_BYTES_MAX (2 + CLUSTER_ID_BYTES + 1 + CLUSTER_MEMBERS_MAX * MEMBER_BYTES_MAX)

static_assert(RAFT_ENTRY_BYTES_MAX == WAL_ENTRY_BYTES_MAX, "what peers may send, the log takes");
static_assert(ENCODED_BYTES_MAX <= STORE_CONFIG_BYTES_MAX, "the store keeps any membership");
static_assert(ENCODED_BYTES_MAX <= SNAPSHOT_CONFIG_BYTES_MAX, "a snapshot holds any membership");

static void append_member(const struct node *node, raft_member member, uint64_t incarnation,
                          struct buf *out)
{
    const char *id = node->node_ids[member];
    buf_append_u16(out, (uint16_t)strlen(id));
    buf_append_text(out, id);
    buf_append_u64(out, incarnation);
}

static void append_members(const struct node *node, uint8_t kind, const uint8_t *cluster_id,
                           const uint64_t *incarnations, struct buf *out)
{
    buf_append_byte(out, CONFIG_FORMAT_VERSION);
    buf_append_byte(out, kind);
    buf_append(out, cluster_id, CLUSTER_ID_BYTES);
    buf_append_byte(out, (uint8_t)node->options.member_count);
    for (raft_member member = 0; member < node->options.member_count; member++) {
        append_member(node, member, incarnations[member], out);
    }
}

void node_change_encode(const struct node *node, const struct raft_change *change, struct buf *out)
{
    if (change->kind == RAFT_CHANGE_GENESIS) {
        append_members(node, KIND_GENESIS, change->cluster_id, change->incarnations, out);
        return;
    }
    static const uint8_t no_cluster_id[CLUSTER_ID_BYTES];
    buf_append_byte(out, CONFIG_FORMAT_VERSION);
    buf_append_byte(out, KIND_ADMIT);
    buf_append(out, no_cluster_id, sizeof(no_cluster_id));
    buf_append_byte(out, 1);
    append_member(node, change->member, change->incarnation, out);
}

void node_config_encode(const struct node *node, const struct raft_config *config, struct buf *out)
{
    append_members(node, KIND_CONFIG, config->cluster_id, config->incarnations, out);
}

static raft_member find_member(const struct node *node, const uint8_t *id, size_t size)
{
    for (raft_member member = 0; member < node->options.member_count; member++) {
        if (strlen(node->node_ids[member]) == size &&
            memcmp(node->node_ids[member], id, size) == 0) {
            return member;
        }
    }
    return RAFT_NO_MEMBER;
}

/* Decodes into `incarnations`, by member. `*last` is the last member that was named. */
static int parse(const struct node *node, struct bytes data, uint8_t *kind, uint8_t *cluster_id,
                 uint64_t *incarnations, raft_member *last)
{
    struct bytes_reader reader = bytes_reader_of(data);
    const uint8_t *head = bytes_reader_take(&reader, 2);
    if (head == NULL) {
        return ERR_CORRUPT;
    }
    if (head[0] > CONFIG_FORMAT_VERSION) {
        return ERR_VERSION;
    }
    const uint8_t *id = bytes_reader_take(&reader, CLUSTER_ID_BYTES);
    const uint8_t *count = bytes_reader_take(&reader, 1);
    if (count == NULL) {
        return ERR_CORRUPT;
    }
    *kind = head[1];
    if (*kind != KIND_ADMIT && *count != node->options.member_count) {
        return ERR_FOREIGN;
    }
    memcpy(cluster_id, id, CLUSTER_ID_BYTES);
    for (int i = 0; i < *count; i++) {
        const uint8_t *size = bytes_reader_take(&reader, 2);
        const uint8_t *name = size == NULL ? NULL : bytes_reader_take(&reader, load_u16(size));
        const uint8_t *incarnation = bytes_reader_take(&reader, 8);
        if (incarnation == NULL) {
            return ERR_CORRUPT;
        }
        raft_member member = find_member(node, name, load_u16(size));
        if (member == RAFT_NO_MEMBER) {
            return ERR_FOREIGN;
        }
        incarnations[member] = load_u64(incarnation);
        *last = member;
    }
    return bytes_reader_left(&reader) == 0 ? 0 : ERR_CORRUPT;
}

int node_change_decode(const struct node *node, struct bytes data, struct raft_change *out)
{
    struct raft_change change = {.member = RAFT_NO_MEMBER};
    uint8_t kind = 0;
    raft_member last = RAFT_NO_MEMBER;
    int rc = parse(node, data, &kind, change.cluster_id, change.incarnations, &last);
    if (rc != 0) {
        return rc;
    }
    if (kind == KIND_GENESIS) {
        change.kind = RAFT_CHANGE_GENESIS;
    } else if (kind == KIND_ADMIT && last != RAFT_NO_MEMBER) {
        change.kind = RAFT_CHANGE_ADMIT;
        change.member = last;
        change.incarnation = change.incarnations[last];
    } else {
        return ERR_CORRUPT;
    }
    *out = change;
    return 0;
}

int node_config_decode(const struct node *node, struct bytes data, struct raft_config *out)
{
    struct raft_config config = {.is_founded = true};
    uint8_t kind = 0;
    raft_member last = RAFT_NO_MEMBER;
    int rc = parse(node, data, &kind, config.cluster_id, config.incarnations, &last);
    if (rc != 0) {
        return rc;
    }
    if (kind != KIND_CONFIG) {
        return ERR_CORRUPT;
    }
    *out = config;
    return 0;
}
