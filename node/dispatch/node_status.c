/* The state of this node as it is reported to clients, and its watchers. */
#include "base/log.h"
#include "dispatch/dispatch_internal.h"

#include <stdio.h>
#include <string.h>

/* ---- the node ---- */

static void set_role(const struct node_status *node, struct dispatch_node_status *out)
{
    switch (node->raft.role) {
    case RAFT_LEADER:
        out->role = "leader";
        out->state = "LEADER";
        out->is_leader = true;
        break;
    case RAFT_CANDIDATE:
    case RAFT_PRE_CANDIDATE:
        out->role = "candidate";
        out->state = "CANDIDATE";
        break;
    case RAFT_FOLLOWER:
        out->role = "follower";
        out->state = "FOLLOWER";
        break;
    }
}

static void set_members(const struct dispatch *dispatch, const struct node_status *node,
                        struct dispatch_node_status *out)
{
    out->member_count = dispatch->options.member_count;
    for (size_t i = 0; i < out->member_count; i++) {
        const struct cluster_member *address = &dispatch->options.members[i];
        const struct raft_member_status *member = &node->raft.members[i];
        bool is_self = i == dispatch->options.self;
        uint64_t silence_ns =
            node->taken_ns > member->last_contact_ns ? node->taken_ns - member->last_contact_ns : 0;
        out->members[i] = (struct dispatch_member){
            .node_id = address->node_id,
            .raft_addr = address->raft_addr,
            .grpc_addr = address->grpc_addr,
            .http_addr = address->http_addr,
            .is_self = is_self,
            .is_leader = node->raft.leader == (raft_member)i,
            .is_connected = is_self || member->is_connected,
            .is_whole = is_self ? node->raft.is_whole : member->is_whole,
            .match_index = is_self ? node->raft.last_index : member->match_index,
            .last_contact_ms = is_self                        ? 0
                               : member->last_contact_ns == 0 ? UINT64_MAX
                                                              : silence_ns / NS_PER_MS,
        };
    }
}

static void set_cluster_id(const uint8_t *cluster_id, char *out)
{
    if (cluster_id_is_set(cluster_id)) {
        cluster_id_to_hex(cluster_id, out);
    } else {
        out[0] = '\0';
    }
}

void dispatch_get_cluster_id(const struct dispatch *dispatch, char out[CLUSTER_ID_HEX_BYTES + 1])
{
    struct node_status node;
    node_get_status(dispatch->node, &node);
    set_cluster_id(node.cluster_id, out);
}

/* ---- age ---- */

/* True after 2.5 election timeouts without a turn. The documented limit is 3; the rest is time for
 * watchers to see the change. A leader without a turn for so long has lost its followers. */
static bool is_stale(const struct dispatch *dispatch, const struct node_status *node,
                     uint64_t now_ns)
{
    return now_ns > node->taken_ns + dispatch->options.election_timeout_ns * 5 / 2;
}

static void disclaim(struct dispatch_node_status *out)
{
    out->is_stale = true;
    out->role = "follower";
    out->state = "FOLLOWER";
    out->is_leader = false;
    out->has_leader = false;
    out->leader_id = "";
    out->leader_raft_addr = "";
    out->leader_grpc_addr = "";
    out->has_quorum = false;
    out->is_ready = false;
    out->is_caught_up = false;
    for (size_t i = 0; i < out->member_count; i++) {
        out->members[i].is_leader = false;
    }
}

void dispatch_look_at_age(struct dispatch *dispatch)
{
    struct node_status node;
    node_get_status(dispatch->node, &node);
    bool is_old = is_stale(dispatch, &node, clock_monotonic_ns(clock_system()));
    if (is_old != dispatch->was_stale) {
        dispatch->was_stale = is_old;
        if (is_old) {
            log_warn("dispatch",
                     "the node's thread hangs, in a write to the disk or for want of a processor: "
                     "until it is back this node is not ready and claims no role");
        } else {
            log_info("dispatch", "the node's thread is back");
        }
        dispatch_on_change(dispatch);
    }
}

uint64_t dispatch_leaderless_since(const struct dispatch *dispatch, const struct node_status *node,
                                   uint64_t now_ns)
{
    bool is_hidden = node->leaderless_since_ns == 0 && is_stale(dispatch, node, now_ns);
    return is_hidden ? node->taken_ns : node->leaderless_since_ns;
}

void dispatch_get_node_status(struct dispatch *dispatch, struct dispatch_node_status *out)
{
    struct node_status node;
    node_get_status(dispatch->node, &node);
    uint64_t now_ns = clock_monotonic_ns(clock_system());
    const struct cluster_member *members = dispatch->options.members;
    bool has_leader = node.raft.leader != RAFT_NO_MEMBER;
    const struct cluster_member *leader = has_leader ? &members[node.raft.leader] : NULL;
    *out = (struct dispatch_node_status){
        .node_id = members[dispatch->options.self].node_id,
        .has_leader = has_leader,
        .leader_id = has_leader ? leader->node_id : "",
        .leader_raft_addr = has_leader ? leader->raft_addr : "",
        .leader_grpc_addr = has_leader ? leader->grpc_addr : "",
        .has_quorum = node.raft.has_quorum,
        .is_ready = node.is_ready,
        .is_caught_up = node.is_caught_up,
        .is_recovering = node.raft.config.is_founded && !node.raft.is_whole,
        .is_diverged = node.is_diverged,
        .is_damaged = node.is_store_damaged,
        .is_standing_still = node.is_standing_still,
        .is_log_without_room = node.is_log_full,
        .is_store_without_room = node.is_store_full,
        .known_commit = node.known_commit,
        .is_draining = node.is_draining,
        .term = node.raft.term,
        .commit_index = node.raft.commit_index,
        .applied_index = node.applied_index,
        .first_index = node.first_index,
        .last_index = node.raft.last_index,
        .snapshot_index = node.snapshot_index,
        .uptime_seconds = (now_ns - dispatch->started_ns) / NS_PER_S,
        .turn_age_ms = now_ns > node.taken_ns ? (now_ns - node.taken_ns) / NS_PER_MS : 0,
    };
    set_role(&node, out);
    set_members(dispatch, &node, out);
    set_cluster_id(node.cluster_id, out->cluster_id);
    if (is_stale(dispatch, &node, now_ns)) {
        disclaim(out);
    }
}

/* ---- watchers ---- */

void dispatch_watch(struct dispatch *dispatch, struct dispatch_watcher *watcher)
{
    pthread_mutex_lock(&dispatch->watch_lock);
    list_push_back(&dispatch->watchers, &watcher->link);
    pthread_mutex_unlock(&dispatch->watch_lock);
}

void dispatch_unwatch(struct dispatch *dispatch, struct dispatch_watcher *watcher)
{
    pthread_mutex_lock(&dispatch->watch_lock);
    list_remove(&watcher->link);
    pthread_mutex_unlock(&dispatch->watch_lock);
}

void dispatch_on_change(void *context)
{
    struct dispatch *dispatch = context;
    pthread_mutex_lock(&dispatch->watch_lock);
    LIST_FOR_EACH (link, &dispatch->watchers) {
        struct dispatch_watcher *watcher = LIST_ENTRY(link, struct dispatch_watcher, link);
        watcher->changed(watcher);
    }
    pthread_mutex_unlock(&dispatch->watch_lock);
}

int dispatch_walk_values(struct dispatch *dispatch, size_t limit,
                         int (*each)(void *context, struct bytes key, struct bytes value),
                         void *context)
{
    const struct bytes all = {0};
    return chat_walk_values(dispatch->chat, all, all, limit, each, context);
}
