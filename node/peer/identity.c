/* Who a node is: members and their ids, the header of batches, and whether a header from another
 * node is accepted. */
#include "base/check.h"
#include "base/checksum.h"
#include "peer/peer_internal.h"

#include <assert.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct bytes peer_node_id(const struct peer *peer, raft_member member)
{
    return bytes_of_text(peer->members[member].node_id);
}

raft_member peer_find_member(const struct peer *peer, struct bytes node_id)
{
    for (raft_member i = 0; i < peer->member_count; i++) {
        if (bytes_equal(peer_node_id(peer, i), node_id)) {
            return i;
        }
    }
    return RAFT_NO_MEMBER;
}

static int compare_texts(const void *a, const void *b)
{
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

uint64_t peer_membership_hash(const struct cluster_member *members, int member_count)
{
    const char *ids[CLUSTER_MEMBERS_MAX];
    CHECK(member_count <= CLUSTER_MEMBERS_MAX);
    for (int i = 0; i < member_count; i++) {
        ids[i] = members[i].node_id;
    }
    qsort(ids, (size_t)member_count, sizeof(ids[0]), compare_texts);
    uint64_t hash = 0;
    for (int i = 0; i < member_count; i++) {
        /* Includes the NUL, so that "ab", "c" differs from "a", "bc". */
        hash = checksum64_seed(hash, ids[i], strlen(ids[i]) + 1);
    }
    return hash;
}

struct peer_header peer_header_to(struct peer *peer, raft_member to, uint64_t stream_id)
{
    struct peer_header header = {
        .format_version = PEER_FORMAT_VERSION,
        .from_node_id = peer_node_id(peer, peer->self),
        .to_node_id = peer_node_id(peer, to),
        .membership_hash = peer->membership_hash,
        .stream_id = stream_id,
        .process = peer->process,
        .listen_addr = bytes_of_text(peer->listen_addr),
        .command_format = peer->command_format,
    };
    pthread_mutex_lock(&peer->lock);
    const uint8_t *cluster_id = cluster_id_is_set(peer->cluster_id)
                                    ? peer->cluster_id
                                    : peer->incoming_sides[to].said_cluster_id;
    memcpy(header.cluster_id, cluster_id, sizeof(header.cluster_id));
    header.is_fresh = peer->is_fresh;
    header.incarnation = peer->incarnation;
    pthread_mutex_unlock(&peer->lock);
    return header;
}

void peer_get_cluster_id(struct peer *peer, uint8_t *out)
{
    pthread_mutex_lock(&peer->lock);
    memcpy(out, peer->cluster_id, sizeof(peer->cluster_id));
    pthread_mutex_unlock(&peer->lock);
}

void peer_refuse(struct peer_refusal *refusal, int code, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    refusal->code = code;
    vsnprintf(refusal->text, sizeof(refusal->text), format, arguments);
    va_end(arguments);
}

struct peer_shown peer_show(struct bytes bytes)
{
    struct peer_shown shown;
    const unsigned char *data = bytes.data;
    size_t size = bytes.size < sizeof(shown.text) - 1 ? bytes.size : sizeof(shown.text) - 1;
    for (size_t i = 0; i < size; i++) {
        shown.text[i] = data[i] >= 0x20 && data[i] < 0x7f ? (char)data[i] : '?';
    }
    shown.text[size] = '\0';
    return shown;
}

static struct peer_shown show_cluster(const uint8_t *cluster_id)
{
    struct peer_shown shown;
    static_assert(sizeof(shown.text) > CLUSTER_ID_HEX_BYTES, "an id is shown whole");
    cluster_id_to_hex(cluster_id, shown.text);
    return shown;
}

static void check_cluster(struct peer *peer, const struct peer_header *header, raft_member from,
                          struct peer_refusal *refusal)
{
    uint8_t ours[CLUSTER_ID_BYTES];
    peer_get_cluster_id(peer, ours);
    if (!cluster_id_is_set(ours) || memcmp(ours, header->cluster_id, sizeof(ours)) == 0) {
        return;
    }
    if (!cluster_id_is_set(header->cluster_id)) {
        refusal->wants_cluster_id = true;
        peer_refuse(refusal, GRPC_STATUS_FAILED_PRECONDITION,
                    "%s does not name the cluster of %s: a new node receives the id at its "
                    "raft_addr, %s, and then dials again",
                    peer_show(header->from_node_id).text, peer->members[peer->self].node_id,
                    peer->members[from].raft_addr);
    } else {
        peer_refuse(refusal, GRPC_STATUS_FAILED_PRECONDITION,
                    "%s belongs to cluster %s, %s to cluster %s: one of their data_dirs is from "
                    "another cluster",
                    peer_show(header->from_node_id).text, show_cluster(header->cluster_id).text,
                    peer->members[peer->self].node_id, show_cluster(ours).text);
    }
}

void peer_check_header(struct peer *peer, const struct peer_header *header, raft_member from,
                       struct peer_refusal *refusal)
{
    const char *self = peer->members[peer->self].node_id;
    struct peer_shown claimed = peer_show(header->from_node_id);
    const int code = GRPC_STATUS_FAILED_PRECONDITION;
    if (header->format_version != PEER_FORMAT_VERSION) {
        peer_refuse(refusal, code, "%s speaks version %" PRIu32 " of the peer stream, %s speaks %d",
                    claimed.text, header->format_version, self, PEER_FORMAT_VERSION);
    } else if (!bytes_equal(header->to_node_id, peer_node_id(peer, peer->self))) {
        peer_refuse(refusal, code,
                    "%s looks for %s here, but this is %s: check raft_addr of the peers",
                    claimed.text, peer_show(header->to_node_id).text, self);
    } else if (from == peer->self) {
        peer_refuse(refusal, code, "another node says that it is %s, too: check node_id", self);
    } else if (from == RAFT_NO_MEMBER) {
        peer_refuse(refusal, code, "%s is not among the peers that %s is configured with",
                    claimed.text, self);
    } else if (header->incarnation == 0) {
        peer_refuse(refusal, code, "%s does not say which data_dir it has", claimed.text);
    } else if (header->membership_hash != peer->membership_hash) {
        peer_refuse(refusal, code,
                    "%s and %s are configured with different peers (hash %016" PRIx64
                    " and %016" PRIx64 "): the node ids must be the same on every node",
                    claimed.text, self, header->membership_hash, peer->membership_hash);
    } else {
        check_cluster(peer, header, from, refusal);
    }
}
