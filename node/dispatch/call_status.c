/* Statuses of calls: from outcomes and errors, and their encoding. */
#include "base/errors.h"
#include "base/unconst.h"
#include "dispatch/dispatch_internal.h"
#include "google/rpc/error_details.pb-c.h"
#include "google/rpc/status.pb-c.h"

#include <stdarg.h>
#include <stdio.h>

const char *dispatch_code_name(int code)
{
    switch (code) {
    case DISPATCH_OK:
        return "OK";
    case DISPATCH_INVALID_ARGUMENT:
        return "INVALID_ARGUMENT";
    case DISPATCH_DEADLINE_EXCEEDED:
        return "DEADLINE_EXCEEDED";
    case DISPATCH_NOT_FOUND:
        return "NOT_FOUND";
    case DISPATCH_RESOURCE_EXHAUSTED:
        return "RESOURCE_EXHAUSTED";
    case DISPATCH_FAILED_PRECONDITION:
        return "FAILED_PRECONDITION";
    case DISPATCH_ABORTED:
        return "ABORTED";
    case DISPATCH_OUT_OF_RANGE:
        return "OUT_OF_RANGE";
    case DISPATCH_UNIMPLEMENTED:
        return "UNIMPLEMENTED";
    case DISPATCH_INTERNAL:
        return "INTERNAL";
    case DISPATCH_UNAVAILABLE:
        return "UNAVAILABLE";
    case DISPATCH_DATA_LOSS:
        return "DATA_LOSS";
    default:
        return "UNKNOWN";
    }
}

void dispatch_status_set(struct dispatch_status *status, int code, const char *reason,
                         const char *format, ...)
{
    *status = (struct dispatch_status){.code = code, .reason = reason};
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(status->message, sizeof(status->message), format, arguments);
    va_end(arguments);
}

/* Packs `message` into an Any. The bytes go to `out`, which must stay valid until the Any is
 * packed. */
static void pack_any(const ProtobufCMessage *message, const char *type_url, struct buf *out,
                     Google__Protobuf__Any *any)
{
    google__protobuf__any__init(any);
    uint8_t *data = buf_extend(out, protobuf_c_message_get_packed_size(message));
    any->type_url = unconst(type_url);
    if (data != NULL) {
        any->value.data = data;
        any->value.len = protobuf_c_message_pack(message, data);
    }
}

void dispatch_status_encode(const struct dispatch_status *status, struct buf *out)
{
    if (status->reason == NULL) {
        return;
    }
    struct buf texts[2] = {{0}, {0}};
    Google__Protobuf__Any anys[2];
    Google__Protobuf__Any *details[2];
    size_t count = 0;
    if (status->is_not_leader) {
        Raftogram__V1__NotLeader not_leader = RAFTOGRAM__V1__NOT_LEADER__INIT;
        not_leader.leader_grpc_target = unconst(status->leader_grpc_target);
        not_leader.raft_leader_id = unconst(status->leader_id);
        pack_any(&not_leader.base, "type.googleapis.com/raftogram.v1.NotLeader", &texts[count],
                 &anys[count]);
        count++;
    }
    Google__Rpc__ErrorInfo info = GOOGLE__RPC__ERROR_INFO__INIT;
    info.reason = unconst(status->reason);
    info.domain = unconst(DISPATCH_ERROR_DOMAIN);
    char item[16];
    Google__Rpc__ErrorInfo__MetadataEntry entry = GOOGLE__RPC__ERROR_INFO__METADATA_ENTRY__INIT;
    Google__Rpc__ErrorInfo__MetadataEntry *entries[] = {&entry};
    snprintf(item, sizeof(item), "%u", (unsigned)status->item);
    entry.key = (char[]){"item"};
    entry.value = item;
    if (status->has_item) {
        info.n_metadata = 1;
        info.metadata = entries;
    }
    pack_any(&info.base, "type.googleapis.com/google.rpc.ErrorInfo", &texts[count], &anys[count]);
    count++;
    for (size_t i = 0; i < count; i++) {
        details[i] = &anys[i];
    }
    Google__Rpc__Status rpc = GOOGLE__RPC__STATUS__INIT;
    rpc.code = status->code;
    rpc.message = unconst(status->message);
    rpc.n_details = count;
    rpc.details = details;
    uint8_t *data = buf_extend(out, google__rpc__status__get_packed_size(&rpc));
    if (data != NULL) {
        google__rpc__status__pack(&rpc, data);
    }
    buf_finish(&texts[0]);
    buf_finish(&texts[1]);
}

void dispatch_status_of_outcome(struct dispatch *dispatch, const struct node_request *request,
                                struct dispatch_status *status)
{
    switch (request->outcome) {
    case NODE_OK:
        break;
    case NODE_NOT_LEADER: {
        dispatch_status_set(status, DISPATCH_FAILED_PRECONDITION, "NOT_LEADER", "%s",
                            NOT_LEADER_MESSAGE);
        bool is_known = request->leader != RAFT_NO_MEMBER;
        const struct cluster_member *leader =
            is_known ? &dispatch->options.members[request->leader] : NULL;
        status->is_not_leader = true;
        status->leader_grpc_target = is_known ? leader->grpc_addr : "";
        status->leader_id = is_known ? leader->node_id : "";
        break;
    }
    case NODE_NO_QUORUM:
        dispatch_status_set(status, DISPATCH_UNAVAILABLE, "NO_QUORUM",
                            "no leader is known that a quorum confirms: try again");
        break;
    case NODE_STANDS_STILL:
        dispatch_status_set(status, DISPATCH_UNAVAILABLE, "NO_QUORUM",
                            "this node does not get what is committed: use another");
        break;
    case NODE_COMMIT_UNKNOWN:
        dispatch_status_set(status, DISPATCH_ABORTED, "COMMIT_UNKNOWN",
                            "leadership was lost after the proposal: the outcome is unknown");
        break;
    case NODE_OVERLOADED:
        dispatch_status_set(status, DISPATCH_RESOURCE_EXHAUSTED, "OVERLOADED",
                            "too much is in flight: try again later");
        break;
    case NODE_DISK_FULL:
        dispatch_status_set(status, DISPATCH_RESOURCE_EXHAUSTED, "DISK_FULL",
                            "the disk of the leader, or of a majority, is full");
        break;
    case NODE_DEADLINE:
        dispatch_status_set(status, DISPATCH_DEADLINE_EXCEEDED, NULL, "the deadline passed");
        break;
    case NODE_DRAINING:
        dispatch_status_set(status, DISPATCH_UNAVAILABLE, "DRAINING",
                            "this node is shutting down: use another");
        break;
    case NODE_FORMAT_TOO_NEW:
        dispatch_status_set(status, DISPATCH_UNAVAILABLE, "MEMBER_TOO_OLD",
                            "%s is not known to run a version that has this method: nothing was "
                            "done, try again once all members run it",
                            request->lagging == RAFT_NO_MEMBER
                                ? "a member"
                                : dispatch->options.members[request->lagging].node_id);
        break;
    case NODE_BAD_TARGET:
        if (request->transfer_target == RAFT_NO_MEMBER) {
            dispatch_status_set(status, DISPATCH_UNAVAILABLE, "NO_QUORUM",
                                "no follower could take over within an election timeout");
        } else {
            dispatch_status_set(status, DISPATCH_FAILED_PRECONDITION, "TARGET_UNFIT",
                                "%s could not take over within an election timeout",
                                dispatch->options.members[request->transfer_target].node_id);
        }
        break;
    }
}

void dispatch_status_of_error(int error, struct dispatch_status *status)
{
    switch (error) {
    case ERR_NOT_FOUND:
        dispatch_status_set(status, DISPATCH_NOT_FOUND, "CHANNEL_NOT_FOUND", "no such channel");
        break;
    case ERR_CORRUPT:
        dispatch_status_set(status, DISPATCH_DATA_LOSS, "CORRUPT",
                            "stored data fails its checksum");
        break;
    case ERR_NOMEM:
    case ERR_FULL:
        dispatch_status_set(status, DISPATCH_RESOURCE_EXHAUSTED, "OVERLOADED", "out of memory");
        break;
    default:
        dispatch_status_set(status, DISPATCH_INTERNAL, NULL, "the store cannot be read: %s",
                            error_text(error));
        break;
    }
}
