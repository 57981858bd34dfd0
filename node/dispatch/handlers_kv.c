/* phalanx.KV: Propose and Read. */
#include "base/errors.h"
#include "base/unconst.h"
#include "dispatch/dispatch_internal.h"
#include "phalanx/kv.pb-c.h"
#include "json/json.h"

#include <string.h>
#include <strings.h>

#define LOST_QUORUM_MESSAGE "leader lost quorum — cannot serve linearizable read"

static const char *leader_addr(struct work *work)
{
    raft_member leader = work->request.leader;
    return leader == RAFT_NO_MEMBER ? "" : work->dispatch->options.members[leader].grpc_addr;
}

static void finish_propose(struct work *work, const char *error, const char *leader)
{
    Phalanx__ProposeResponse response = PHALANX__PROPOSE_RESPONSE__INIT;
    response.success = error == NULL;
    response.error = unconst(error == NULL ? "" : error);
    response.leader_addr = unconst(leader);
    dispatch_finish_work(work, &response.base);
}

/* Finds the member by name, ignoring case as encoding/json of Go does. Of several members the last
 * one counts. */
static const json_t *find_member(const json_t *object, const char *name)
{
    const json_t *found = NULL;
    /* The iterator of jansson takes a mutable pointer but changes nothing. */
    json_t *map = unconst(object);
    for (void *at = json_object_iter(map); at != NULL; at = json_object_iter_next(map, at)) {
        if (strcasecmp(json_object_iter_key(at), name) == 0) {
            found = json_object_iter_value(at);
        }
    }
    return found;
}

/* Reads a string member of the command. Returns false and sets `error` if it is not a string. */
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
        /* A C string in the answer to a read would end at the NUL. */
        *error = "bad command: op, key and value must not contain NUL";
        return false;
    }
    return true;
}

/* Parses the JSON command. Returns NULL, or one line that says what is wrong. */
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
        finish_propose(work, error, "");
        return false;
    }
    bool is_prepared = work_prepare_command(work, &command);
    json_decref(json);
    return is_prepared;
}

static void propose_applied(struct work *work)
{
    switch (work->request.outcome) {
    case NODE_OK:
        finish_propose(work, work->request.result.outcome == COMMAND_OK ? NULL : "bad command", "");
        return;
    case NODE_NOT_LEADER:
        finish_propose(work, "not leader", leader_addr(work));
        return;
    case NODE_COMMIT_UNKNOWN:
        finish_propose(work, "outcome unknown: leadership was lost after the proposal",
                       leader_addr(work));
        return;
    default:
        work_finish_with_outcome(work);
        return;
    }
}

static void finish_read(struct work *work, const char *error, const char *leader)
{
    Phalanx__ReadResponse response = PHALANX__READ_RESPONSE__INIT;
    response.error = unconst(error);
    response.leader_addr = unconst(leader);
    dispatch_finish_work(work, &response.base);
}

static bool read_prepare(struct work *work)
{
    const Phalanx__ReadRequest *request = (const void *)work->call->request;
    size_t size = strlen(request->key);
    if (size == 0 || size > COMMAND_ID_BYTES_MAX) {
        finish_read(work, "key must be UTF-8 of 1 to 256 bytes", "");
        return false;
    }
    work->request.kind = NODE_REQUEST_READ;
    /* Without may_forward a follower redirects, as the reference document defines. With it, the
     * follower asks the leader for a read index and answers itself. */
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
            finish_read(work, LOST_QUORUM_MESSAGE, "");
            return;
        }
        work_finish_with_outcome(work);
        return;
    default:
        work_finish_with_outcome(work);
        return;
    }
}

static void read_read(struct work *work)
{
    const Phalanx__ReadRequest *request = (const void *)work->call->request;
    Phalanx__ReadResponse response = PHALANX__READ_RESPONSE__INIT;
    int rc = chat_get_value(work->dispatch->chat, bytes_of_text(request->key), &work->command);
    if (rc != 0 && rc != ERR_NOT_FOUND) {
        work_finish_with_error(work, rc);
        return;
    }
    response.found = rc == 0;
    response.value = unconst(buf_text(&work->command));
    dispatch_finish_work(work, &response.base);
}

const struct method_handler dispatch_handle_propose = {propose_prepare, propose_applied, NULL};
const struct method_handler dispatch_handle_read = {read_prepare, read_refused, read_read};
