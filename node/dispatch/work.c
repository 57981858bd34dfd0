/* Functions that handlers share: refusals, the end of a call, and the queues of the readers. */
#include "base/check.h"
#include "base/errors.h"
#include "dispatch/dispatch_internal.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void dispatch_count_call(struct dispatch *dispatch, enum dispatch_method_id id, int code)
{
    CHECK(code >= 0);
    CHECK(code < DISPATCH_CODES);
    atomic_fetch_add_explicit(&dispatch->calls[id][code], 1, memory_order_relaxed);
}

void dispatch_finish_work(struct work *work, const ProtobufCMessage *response)
{
    struct dispatch_call *call = work->call;
    call->status.has_item = work->has_item && call->status.code != DISPATCH_OK;
    call->status.item = work->item;
    dispatch_count_call(work->dispatch, call->method->id, call->status.code);
    ProtobufCMessage *request = call->request;
    CHECK((response == NULL) == (call->status.code != DISPATCH_OK));
    call->request = NULL;
    call->response = response;
    call->done(call);
    protobuf_c_message_free_unpacked(request, NULL);
    buf_finish(&work->command);
    free(work);
}

struct reader *reader_pick(struct dispatch *dispatch)
{
    return &dispatch->readers[atomic_fetch_add(&dispatch->next_reader, 1) % dispatch->reader_count];
}

struct reader *reader_pick_idle(struct dispatch *dispatch)
{
    for (size_t i = 0; i < dispatch->reader_count; i++) {
        if (atomic_load(&dispatch->readers[i].jobs) < READER_QUEUE_MAX) {
            return &dispatch->readers[i];
        }
    }
    return reader_pick(dispatch);
}

void reader_post(struct reader *reader, struct reader_job *job)
{
    atomic_fetch_add(&reader->jobs, 1);
    mailbox_post(&reader->mailbox, &job->link);
}

bool work_refuse_field(struct work *work, const char *reason, const char *text)
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

/* Ends the call with the rule that the text breaks: required, size, or encoding. */
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
    return work_refuse_field(work, "INVALID_FIELD", reason);
}

bool work_refuse_command(struct work *work, const struct command *command)
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
        return work_refuse_field(work, "PAYLOAD_TOO_LARGE", text);
    }
    case COMMAND_FAULT_KEY:
        return work_refuse_field(work, "INVALID_FIELD", "key must be UTF-8 of 1 to 256 bytes");
    case COMMAND_FAULT_VALUE_TOO_LARGE:
        return work_refuse_field(work, "PAYLOAD_TOO_LARGE", "the value is too large");
    }
    return true;
}

bool work_prepare_command(struct work *work, const struct command *command)
{
    command_encode(command, &work->command);
    return work_prepare_encoded(work);
}

bool work_prepare_encoded(struct work *work)
{
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

void work_finish_with_outcome(struct work *work)
{
    dispatch_status_of_outcome(work->dispatch, &work->request, &work->call->status);
    dispatch_finish_work(work, NULL);
}

void work_finish_with_error(struct work *work, int error)
{
    dispatch_status_of_error(error, &work->call->status);
    dispatch_finish_work(work, NULL);
}

bool work_refuse_result(struct work *work)
{
    if (work->request.outcome != NODE_OK) {
        work_finish_with_outcome(work);
        return true;
    }
    switch (work->request.result.outcome) {
    case COMMAND_OK:
        return false;
    case COMMAND_CHANNEL_NOT_FOUND:
        work_finish_with_error(work, ERR_NOT_FOUND);
        return true;
    case COMMAND_REFUSED:
        dispatch_status_set(&work->call->status, DISPATCH_INVALID_ARGUMENT, "INVALID_FIELD",
                            "the command breaks a limit");
        dispatch_finish_work(work, NULL);
        return true;
    }
    return true;
}

size_t work_clamp_limit(uint32_t limit)
{
    if (limit == 0) {
        return PAGE_LIMIT_DEFAULT;
    }
    return limit > PAGE_LIMIT_MAX ? PAGE_LIMIT_MAX : limit;
}
