/* raftogram.v1.Cluster: Status, TransferLeadership and ListKeys. */
#include "base/errors.h"
#include "base/unconst.h"
#include "dispatch/dispatch_internal.h"

#include <string.h>

static const char *member_state(const struct dispatch_node_status *node,
                                const struct dispatch_member *member)
{
    if (member->is_self) {
        return node->role;
    }
    if (!member->is_connected) {
        return "unreachable";
    }
    if (!member->is_whole) {
        return "recovering";
    }
    return member->is_leader ? "leader" : "follower";
}

static bool status_prepare(struct work *work)
{
    struct dispatch_node_status node;
    dispatch_get_node_status(work->dispatch, &node);
    Raftogram__V1__StatusResponse response = RAFTOGRAM__V1__STATUS_RESPONSE__INIT;
    Raftogram__V1__Member rows[CLUSTER_MEMBERS_MAX];
    Raftogram__V1__Member *list[CLUSTER_MEMBERS_MAX];
    for (size_t i = 0; i < node.member_count; i++) {
        const struct dispatch_member *member = &node.members[i];
        raftogram__v1__member__init(&rows[i]);
        rows[i].node_id = unconst(member->node_id);
        rows[i].raft_addr = unconst(member->raft_addr);
        rows[i].grpc_addr = unconst(member->grpc_addr);
        rows[i].http_addr = unconst(member->http_addr);
        rows[i].state = unconst(member_state(&node, member));
        rows[i].match_index = node.is_leader ? member->match_index : 0;
        rows[i].last_contact_ms = node.is_leader ? member->last_contact_ms : 0;
        list[i] = &rows[i];
    }
    response.node_id = unconst(node.node_id);
    response.role = unconst(node.role);
    response.leader_id = unconst(node.leader_id);
    response.term = node.term;
    response.commit_index = node.commit_index;
    response.applied_index = node.applied_index;
    response.first_index = node.first_index;
    response.last_index = node.last_index;
    response.snapshot_index = node.snapshot_index;
    response.cluster_id = node.cluster_id;
    response.version = unconst(RAFTOGRAM_VERSION);
    response.uptime_seconds = node.uptime_seconds;
    response.has_quorum = node.has_quorum;
    response.n_members = node.member_count;
    response.members = list;
    dispatch_finish_work(work, &response.base);
    return false;
}

static bool transfer_prepare(struct work *work)
{
    const Raftogram__V1__TransferLeadershipRequest *request = (const void *)work->call->request;
    const struct dispatch_options *options = &work->dispatch->options;
    work->request.kind = NODE_REQUEST_TRANSFER;
    work->request.transfer_target = RAFT_NO_MEMBER;
    if (request->target_node_id[0] == '\0') {
        return true;
    }
    for (size_t i = 0; i < options->member_count; i++) {
        if (strcmp(options->members[i].node_id, request->target_node_id) == 0) {
            work->request.transfer_target = (raft_member)i;
            return true;
        }
    }
    return work_refuse_field(work, "INVALID_FIELD",
                             "target_node_id is not a member of the cluster");
}

static void transfer_applied(struct work *work)
{
    if (work->request.outcome != NODE_OK) {
        work_finish_with_outcome(work);
        return;
    }
    struct dispatch_node_status node;
    dispatch_get_node_status(work->dispatch, &node);
    raft_member leader = work->request.leader;
    Raftogram__V1__TransferLeadershipResponse response =
        RAFTOGRAM__V1__TRANSFER_LEADERSHIP_RESPONSE__INIT;
    response.leader_id =
        unconst(leader == RAFT_NO_MEMBER ? "" : work->dispatch->options.members[leader].node_id);
    response.term = node.term;
    dispatch_finish_work(work, &response.base);
}

static bool list_keys_prepare(struct work *work)
{
    const Raftogram__V1__ListKeysRequest *request = (const void *)work->call->request;
    if (strlen(request->after_key) > COMMAND_ID_BYTES_MAX ||
        strlen(request->prefix) > COMMAND_ID_BYTES_MAX) {
        return work_refuse_field(work, "INVALID_FIELD",
                                 "after_key and prefix are at most 256 bytes");
    }
    work->request.kind = NODE_REQUEST_READ;
    return true;
}

/* The keys of one answer, each terminated by NUL. */
struct key_page {
    struct buf *text;
    size_t count;
};

static int add_key(void *context, struct bytes key, struct bytes value)
{
    struct key_page *page = context;
    (void)value;
    buf_append(page->text, key.data, key.size);
    buf_append_byte(page->text, 0);
    page->count++;
    return buf_failed(page->text) ? ERR_NOMEM : 0;
}

static void list_keys_read(struct work *work)
{
    const Raftogram__V1__ListKeysRequest *request = (const void *)work->call->request;
    size_t limit = work_clamp_limit(request->limit);
    struct key_page page = {.text = &work->command};
    char *keys[PAGE_LIMIT_MAX + 1];
    int rc = chat_walk_values(work->dispatch->chat, bytes_of_text(request->after_key),
                              bytes_of_text(request->prefix), limit + 1, add_key, &page);
    if (rc != 0) {
        work_finish_with_error(work, rc);
        return;
    }
    char *at = (char *)work->command.data;
    for (size_t i = 0; i < page.count; i++) {
        keys[i] = at;
        at += strlen(at) + 1;
    }
    Raftogram__V1__ListKeysResponse response = RAFTOGRAM__V1__LIST_KEYS_RESPONSE__INIT;
    response.n_keys = page.count < limit ? page.count : limit;
    response.keys = keys;
    response.has_more = page.count > limit;
    dispatch_finish_work(work, &response.base);
}

const struct method_handler dispatch_handle_status = {status_prepare, work_finish_with_outcome,
                                                      NULL};
const struct method_handler dispatch_handle_transfer_leadership = {transfer_prepare,
                                                                   transfer_applied, NULL};
const struct method_handler dispatch_handle_list_keys = {list_keys_prepare,
                                                         work_finish_with_outcome, list_keys_read};
