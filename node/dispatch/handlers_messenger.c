/* One handler a method: fields are checked before anything else, then leadership, then the channel.
 */
#include "base/check.h"
#include "base/errors.h"
#include "dispatch/dispatch_internal.h"
#include "phalanx/kv.pb-c.h"
#include "json/json.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#define LOST_QUORUM_MESSAGE "leader lost quorum — cannot serve linearizable read"

/* ---- shared ---- */

static bool refuse_field(struct work *work, const char *reason, const char *text)
{
    dispatch_status_set(&work->call->status, DISPATCH_INVALID_ARGUMENT, reason, "%s", text);
    dispatch_finish_work(work, NULL);
    return false;
}

const char *dispatch_channel_id_fault(const char *id)
{
    if (id[0] == '\0') {
        return "channel_id is required";
    }
    return strlen(id) > COMMAND_ID_BYTES_MAX
               ? "channel_id is too long: at most 256 bytes are allowed"
               : NULL;
}

/* Says which of the three rules the text breaks. */
static bool refuse_text(struct work *work, const char *name, struct bytes text, unsigned size_max)
{
    char reason[96];
    if (text.size == 0) {
        snprintf(reason, sizeof(reason), "%s is required", name);
    } else if (text.size > size_max) {
        snprintf(reason, sizeof(reason), "%s is too long: %zu bytes, at most %u are allowed", name,
                 text.size, size_max);
    } else {
        snprintf(reason, sizeof(reason), "%s must be UTF-8 without NUL", name);
    }
    return refuse_field(work, "INVALID_FIELD", reason);
}

/* Sets the status and ends the call when the command may not be proposed. */
static bool refuse_command(struct work *work, const struct command *command)
{
    switch (command_check(command, work->dispatch->options.max_payload_bytes)) {
    case COMMAND_FINE:
        break;
    case COMMAND_FAULT_CHANNEL_ID:
        return refuse_text(work, "channel_id", command->channel_id, COMMAND_ID_BYTES_MAX);
    case COMMAND_FAULT_NAME:
        return refuse_text(work, "name", command->name, COMMAND_NAME_BYTES_MAX);
    case COMMAND_FAULT_AUTHOR_ID:
        return refuse_text(work, "author_id", command->author_id, COMMAND_ID_BYTES_MAX);
    case COMMAND_FAULT_CLIENT_MESSAGE_ID:
        return refuse_text(work, "client_message_id", command->client_message_id,
                           COMMAND_ID_BYTES_MAX);
    case COMMAND_FAULT_PAYLOAD_TOO_LARGE: {
        char text[96];
        snprintf(text, sizeof(text),
                 "the payload is larger than %u bytes (limits.max_payload_bytes)",
                 work->dispatch->options.max_payload_bytes);
        return refuse_field(work, "PAYLOAD_TOO_LARGE", text);
    }
    case COMMAND_FAULT_KEY:
        return refuse_field(work, "INVALID_FIELD", "key must be UTF-8 of 1 to 256 bytes");
    case COMMAND_FAULT_VALUE_TOO_LARGE:
        return refuse_field(work, "PAYLOAD_TOO_LARGE", "the value is too large");
    }
    return true;
}

/* Encodes the command into the work and makes it the request. */
static bool prepare_command(struct work *work, const struct command *command)
{
    command_encode(command, &work->command);
    if (buf_failed(&work->command)) {
        dispatch_status_of_error(ERR_NOMEM, &work->call->status);
        dispatch_finish_work(work, NULL);
        return false;
    }
    work->request.kind = NODE_REQUEST_COMMAND;
    work->request.command = work->command.data;
    work->request.command_size = (uint32_t)work->command.size;
    return true;
}

static void finish_with_outcome(struct work *work)
{
    dispatch_status_of_outcome(work->dispatch, &work->request, &work->call->status);
    dispatch_finish_work(work, NULL);
}

static void finish_with_error(struct work *work, int error)
{
    dispatch_status_of_error(error, &work->call->status);
    dispatch_finish_work(work, NULL);
}

/* The command was applied, but it did nothing. */
static bool refuse_result(struct work *work)
{
    if (work->request.outcome != NODE_OK) {
        finish_with_outcome(work);
        return true;
    }
    switch (work->request.result.outcome) {
    case COMMAND_OK:
        return false;
    case COMMAND_CHANNEL_NOT_FOUND:
        finish_with_error(work, ERR_NOT_FOUND);
        return true;
    case COMMAND_REFUSED:
        dispatch_status_set(&work->call->status, DISPATCH_INVALID_ARGUMENT, "INVALID_FIELD",
                            "the command breaks a limit");
        dispatch_finish_work(work, NULL);
        return true;
    }
    return true;
}

/* ---- CreateChannel ---- */

static bool create_channel_prepare(struct work *work)
{
    const Raftogram__V1__CreateChannelRequest *request = (const void *)work->call->request;
    struct command command = {
        .kind = COMMAND_CREATE_CHANNEL,
        .channel_id = bytes_of_text(request->channel_id),
        .name = bytes_of_text(request->name),
    };
    return refuse_command(work, &command) && prepare_command(work, &command);
}

static void copy_text(char *out, size_t out_size, struct bytes text)
{
    CHECK(text.size < out_size);
    if (text.size > 0) {
        memcpy(out, text.data, text.size);
    }
    out[text.size] = '\0';
}

static void create_channel_applied(struct work *work)
{
    if (refuse_result(work)) {
        return;
    }
    char id[COMMAND_ID_BYTES_MAX + 1];
    char name[COMMAND_NAME_BYTES_MAX + 1];
    copy_text(id, sizeof(id), work->request.result.channel_id);
    copy_text(name, sizeof(name), work->request.result.name);
    Raftogram__V1__CreateChannelResponse response = RAFTOGRAM__V1__CREATE_CHANNEL_RESPONSE__INIT;
    response.channel_id = id;
    response.name = name;
    response.created = work->request.result.created;
    dispatch_finish_work(work, &response.base);
}

/* ---- SendMessage ---- */

static bool send_message_prepare(struct work *work)
{
    const Raftogram__V1__SendMessageRequest *request = (const void *)work->call->request;
    struct command command = {
        .kind = COMMAND_SEND_MESSAGE,
        .channel_id = bytes_of_text(request->channel_id),
        .author_id = bytes_of_text(request->author_id),
        .client_message_id = bytes_of_text(request->client_message_id),
        .payload = {request->payload.data, request->payload.len},
    };
    work->request.may_repeat = request->client_message_id[0] != '\0';
    return refuse_command(work, &command) && prepare_command(work, &command);
}

static void send_message_applied(struct work *work)
{
    if (refuse_result(work)) {
        return;
    }
    Raftogram__V1__SendMessageResponse response = RAFTOGRAM__V1__SEND_MESSAGE_RESPONSE__INIT;
    response.sequence = work->request.result.sequence;
    response.deduplicated = work->request.result.deduplicated;
    dispatch_finish_work(work, &response.base);
}

/* ---- reads ---- */

static size_t clamp_limit(uint32_t limit)
{
    if (limit == 0) {
        return PAGE_LIMIT_DEFAULT;
    }
    return limit > PAGE_LIMIT_MAX ? PAGE_LIMIT_MAX : limit;
}

static bool read_history_prepare(struct work *work)
{
    const Raftogram__V1__ReadHistoryRequest *request = (const void *)work->call->request;
    const char *fault = dispatch_channel_id_fault(request->channel_id);
    if (fault != NULL) {
        return refuse_field(work, "INVALID_FIELD", fault);
    }
    work->request.kind = NODE_REQUEST_READ;
    return true;
}

static void read_history_read(struct work *work)
{
    const Raftogram__V1__ReadHistoryRequest *request = (const void *)work->call->request;
    struct channel_info channel;
    struct message_page *page = NULL;
    int rc = chat_find_channel(work->dispatch->chat, bytes_of_text(request->channel_id), &channel);
    if (rc == 0) {
        rc = chat_read_page(work->dispatch->chat, channel.number, request->after_sequence,
                            clamp_limit(request->limit), &page);
    }
    if (rc != 0) {
        finish_with_error(work, rc);
        return;
    }
    struct stored_messages *messages = stored_messages_create(page);
    if (messages == NULL) {
        page_unref(page);
        finish_with_error(work, ERR_NOMEM);
        return;
    }
    Raftogram__V1__ReadHistoryResponse response = RAFTOGRAM__V1__READ_HISTORY_RESPONSE__INIT;
    response.n_messages = messages->count;
    response.messages = messages->list;
    response.has_more = page->has_more;
    dispatch_finish_work(work, &response.base);
    stored_messages_destroy(messages);
    page_unref(page);
}

static bool list_channels_prepare(struct work *work)
{
    const Raftogram__V1__ListChannelsRequest *request = (const void *)work->call->request;
    if (strlen(request->after_channel_id) > COMMAND_ID_BYTES_MAX ||
        strlen(request->prefix) > COMMAND_ID_BYTES_MAX) {
        return refuse_field(work, "INVALID_FIELD",
                            "after_channel_id and prefix are at most 256 bytes");
    }
    work->request.kind = NODE_REQUEST_READ;
    return true;
}

#define CHANNEL_ROW_BYTES 40 /* of a Channel, besides its texts */

struct channel_rows {
    struct channel_info infos[PAGE_LIMIT_MAX];
    Raftogram__V1__Channel rows[PAGE_LIMIT_MAX];
    Raftogram__V1__Channel *list[PAGE_LIMIT_MAX];
};

static void list_channels_read(struct work *work)
{
    const Raftogram__V1__ListChannelsRequest *request = (const void *)work->call->request;
    struct channel_rows *rows = malloc(sizeof(*rows));
    if (rows == NULL) {
        finish_with_error(work, ERR_NOMEM);
        return;
    }
    size_t count = 0;
    size_t bytes = 0;
    bool has_more = false;
    int rc = chat_list_channels(work->dispatch->chat, bytes_of_text(request->after_channel_id),
                                bytes_of_text(request->prefix), clamp_limit(request->limit),
                                rows->infos, &count, &has_more);
    if (rc != 0) {
        free(rows);
        finish_with_error(work, rc);
        return;
    }
    for (size_t i = 0; i < count; i++) {
        struct channel_info *info = &rows->infos[i];
        bytes += strlen(info->id) + strlen(info->name) + CHANNEL_ROW_BYTES;
        if (i > 0 && bytes > PAGE_BYTES_MAX) {
            count = i;
            has_more = true;
            break;
        }
        raftogram__v1__channel__init(&rows->rows[i]);
        rows->rows[i].channel_id = info->id;
        rows->rows[i].name = info->name;
        rows->rows[i].last_sequence = info->last_sequence;
        rows->rows[i].first_sequence = info->first_sequence;
        rows->list[i] = &rows->rows[i];
    }
    Raftogram__V1__ListChannelsResponse response = RAFTOGRAM__V1__LIST_CHANNELS_RESPONSE__INIT;
    response.n_channels = count;
    response.channels = rows->list;
    response.has_more = has_more;
    dispatch_finish_work(work, &response.base);
    free(rows);
}

/* ---- phalanx.KV ---- */

static char *leader_addr(struct work *work)
{
    raft_member leader = work->request.leader;
    const char *addr =
        leader == RAFT_NO_MEMBER ? "" : work->dispatch->options.members[leader].grpc_addr;
    return (char *)(uintptr_t)addr;
}

static void finish_propose(struct work *work, const char *error, char *leader)
{
    Phalanx__ProposeResponse response = PHALANX__PROPOSE_RESPONSE__INIT;
    response.success = error == NULL;
    response.error = (char *)(uintptr_t)(error == NULL ? "" : error);
    response.leader_addr = leader;
    dispatch_finish_work(work, &response.base);
}

/* The member of that name in any case, as Go's encoding/json has it; of several the last. */
static const json_t *find_member(const json_t *object, const char *name)
{
    const json_t *found = NULL;
    /* jansson's iterator wants a pointer to mutable, and changes nothing. */
    json_t *map = (json_t *)(uintptr_t)object;
    for (void *at = json_object_iter(map); at != NULL; at = json_object_iter_next(map, at)) {
        if (strcasecmp(json_object_iter_key(at), name) == 0) {
            found = json_object_iter_value(at);
        }
    }
    return found;
}

/* A string member of the command; false with `error` set when it is no string. */
static bool get_text(const json_t *object, const char *name, struct bytes *out, const char **error)
{
    const json_t *value = find_member(object, name);
    if (value == NULL || json_is_null(value)) {
        return true;
    }
    if (!json_is_string(value) || json_is_written_number(value)) {
        *error = strcmp(name, "op") == 0    ? "bad command: op must be a string"
                 : strcmp(name, "key") == 0 ? "bad command: key must be a string"
                                            : "bad command: value must be a string";
        return false;
    }
    *out = (struct bytes){json_string_value(value), json_string_length(value)};
    if (out->size > 0 && memchr(out->data, 0, out->size) != NULL) {
        /* The answer to a read could not hold it: it would be cut there. */
        *error = "bad command: op, key and value must not contain NUL";
        return false;
    }
    return true;
}

/* NULL, or what is wrong with the JSON command. */
static const char *parse_kv_command(const json_t *json, struct command *command)
{
    const char *error = NULL;
    struct bytes op = {0};
    if (!json_is_object(json)) {
        return "bad command: data must be a JSON object with op and key";
    }
    if (!get_text(json, "op", &op, &error) || !get_text(json, "key", &command->key, &error) ||
        !get_text(json, "value", &command->value, &error)) {
        return error;
    }
    if (bytes_equal(op, bytes_of_text("SET"))) {
        command->kind = COMMAND_KV_SET;
    } else if (bytes_equal(op, bytes_of_text("DELETE"))) {
        command->kind = COMMAND_KV_DELETE;
        command->value = (struct bytes){0};
    } else {
        return "bad command: op must be SET or DELETE";
    }
    return NULL;
}

static const char *kv_fault_text(enum command_fault fault)
{
    switch (fault) {
    case COMMAND_FINE:
        return NULL;
    case COMMAND_FAULT_VALUE_TOO_LARGE:
        return "bad command: the value is larger than limits.max_payload_bytes";
    default:
        return "bad command: key must be UTF-8 of 1 to 256 bytes";
    }
}

static bool propose_prepare(struct work *work)
{
    const Phalanx__ProposeRequest *request = (const void *)work->call->request;
    struct command command = {0};
    json_t *json = NULL;
    (void)json_parse((struct bytes){request->data.data, request->data.len}, &json, NULL);
    const char *error = parse_kv_command(json, &command);
    if (error == NULL) {
        error = kv_fault_text(command_check(&command, work->dispatch->options.max_payload_bytes));
    }
    if (error != NULL) {
        json_decref(json);
        finish_propose(work, error, (char *)(uintptr_t) "");
        return false;
    }
    bool is_prepared = prepare_command(work, &command);
    json_decref(json);
    return is_prepared;
}

static void propose_applied(struct work *work)
{
    switch (work->request.outcome) {
    case NODE_OK:
        finish_propose(work, work->request.result.outcome == COMMAND_OK ? NULL : "bad command",
                       (char *)(uintptr_t) "");
        return;
    case NODE_NOT_LEADER:
        finish_propose(work, "not leader", leader_addr(work));
        return;
    case NODE_COMMIT_UNKNOWN:
        finish_propose(work, "outcome unknown: leadership was lost after the proposal",
                       leader_addr(work));
        return;
    default:
        finish_with_outcome(work);
        return;
    }
}

static void finish_read(struct work *work, const char *error, char *leader)
{
    Phalanx__ReadResponse response = PHALANX__READ_RESPONSE__INIT;
    response.error = (char *)(uintptr_t)error;
    response.leader_addr = leader;
    dispatch_finish_work(work, &response.base);
}

static bool read_prepare(struct work *work)
{
    const Phalanx__ReadRequest *request = (const void *)work->call->request;
    size_t size = strlen(request->key);
    if (size == 0 || size > COMMAND_ID_BYTES_MAX) {
        finish_read(work, "key must be UTF-8 of 1 to 256 bytes", (char *)(uintptr_t) "");
        return false;
    }
    work->request.kind = NODE_REQUEST_READ;
    /* Over gRPC a follower redirects, as the reference document says; asked to forward, it answers
     * by itself after asking the leader for a read index. */
    work->request.is_leader_only = !work->call->may_forward;
    return true;
}

static void read_refused(struct work *work)
{
    switch (work->request.outcome) {
    case NODE_NOT_LEADER:
        finish_read(work, "not leader", leader_addr(work));
        return;
    case NODE_NO_QUORUM:
        if (work->request.is_leader_only || work->request.was_leader) {
            finish_read(work, LOST_QUORUM_MESSAGE, (char *)(uintptr_t) "");
            return;
        }
        finish_with_outcome(work);
        return;
    default:
        finish_with_outcome(work);
        return;
    }
}

static void read_read(struct work *work)
{
    const Phalanx__ReadRequest *request = (const void *)work->call->request;
    Phalanx__ReadResponse response = PHALANX__READ_RESPONSE__INIT;
    int rc = chat_get_value(work->dispatch->chat, bytes_of_text(request->key), &work->command);
    if (rc != 0 && rc != ERR_NOT_FOUND) {
        finish_with_error(work, rc);
        return;
    }
    response.found = rc == 0;
    response.value = (char *)(uintptr_t)buf_text(&work->command);
    dispatch_finish_work(work, &response.base);
}

/* ---- Cluster ---- */

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
        rows[i].node_id = (char *)(uintptr_t)member->node_id;
        rows[i].raft_addr = (char *)(uintptr_t)member->raft_addr;
        rows[i].grpc_addr = (char *)(uintptr_t)member->grpc_addr;
        rows[i].http_addr = (char *)(uintptr_t)member->http_addr;
        rows[i].state = (char *)(uintptr_t)member_state(&node, member);
        rows[i].match_index = node.is_leader ? member->match_index : 0;
        rows[i].last_contact_ms = node.is_leader ? member->last_contact_ms : 0;
        list[i] = &rows[i];
    }
    response.node_id = (char *)(uintptr_t)node.node_id;
    response.role = (char *)(uintptr_t)node.role;
    response.leader_id = (char *)(uintptr_t)node.leader_id;
    response.term = node.term;
    response.commit_index = node.commit_index;
    response.applied_index = node.applied_index;
    response.first_index = node.first_index;
    response.last_index = node.last_index;
    response.snapshot_index = node.snapshot_index;
    response.cluster_id = node.cluster_id;
    response.version = (char *)(uintptr_t)RAFTOGRAM_VERSION;
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
    return refuse_field(work, "INVALID_FIELD", "target_node_id is not a member of the cluster");
}

static void transfer_applied(struct work *work)
{
    if (work->request.outcome != NODE_OK) {
        finish_with_outcome(work);
        return;
    }
    struct dispatch_node_status node;
    dispatch_get_node_status(work->dispatch, &node);
    raft_member leader = work->request.leader;
    Raftogram__V1__TransferLeadershipResponse response =
        RAFTOGRAM__V1__TRANSFER_LEADERSHIP_RESPONSE__INIT;
    response.leader_id = (char *)(uintptr_t)(leader == RAFT_NO_MEMBER
                                                 ? ""
                                                 : work->dispatch->options.members[leader].node_id);
    response.term = node.term;
    dispatch_finish_work(work, &response.base);
}

static bool list_keys_prepare(struct work *work)
{
    const Raftogram__V1__ListKeysRequest *request = (const void *)work->call->request;
    if (strlen(request->after_key) > COMMAND_ID_BYTES_MAX ||
        strlen(request->prefix) > COMMAND_ID_BYTES_MAX) {
        return refuse_field(work, "INVALID_FIELD", "after_key and prefix are at most 256 bytes");
    }
    work->request.kind = NODE_REQUEST_READ;
    return true;
}

/* The keys of one answer, each ended by NUL. */
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
    size_t limit = clamp_limit(request->limit);
    struct key_page page = {.text = &work->command};
    char *keys[PAGE_LIMIT_MAX + 1];
    int rc = chat_walk_values(work->dispatch->chat, bytes_of_text(request->after_key),
                              bytes_of_text(request->prefix), limit + 1, add_key, &page);
    if (rc != 0) {
        finish_with_error(work, rc);
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

/* Streams do not come here: dispatch_subscribe() serves them. */
static bool subscribe_prepare(struct work *work)
{
    dispatch_status_set(&work->call->status, DISPATCH_UNIMPLEMENTED, NULL, "Subscribe is a stream");
    dispatch_finish_work(work, NULL);
    return false;
}

const struct method_handler dispatch_method_handlers[DISPATCH_METHOD_COUNT] = {
    [DISPATCH_CREATE_CHANNEL] = {create_channel_prepare, create_channel_applied, NULL},
    [DISPATCH_SEND_MESSAGE] = {send_message_prepare, send_message_applied, NULL},
    [DISPATCH_READ_HISTORY] = {read_history_prepare, finish_with_outcome, read_history_read},
    [DISPATCH_LIST_CHANNELS] = {list_channels_prepare, finish_with_outcome, list_channels_read},
    [DISPATCH_SUBSCRIBE] = {subscribe_prepare, finish_with_outcome, NULL},
    [DISPATCH_PROPOSE] = {propose_prepare, propose_applied, NULL},
    [DISPATCH_READ] = {read_prepare, read_refused, read_read},
    [DISPATCH_STATUS] = {status_prepare, finish_with_outcome, NULL},
    [DISPATCH_TRANSFER_LEADERSHIP] = {transfer_prepare, transfer_applied, NULL},
    [DISPATCH_LIST_KEYS] = {list_keys_prepare, finish_with_outcome, list_keys_read},
};
