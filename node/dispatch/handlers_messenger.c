/* raftogram.v1.Messenger. Fields are checked first, then leadership, then the channel. */
#include "base/check.h"
#include "base/errors.h"
#include "dispatch/dispatch_internal.h"

#include <stdlib.h>
#include <string.h>

/* ---- CreateChannel ---- */

static bool create_channel_prepare(struct work *work)
{
    const Raftogram__V1__CreateChannelRequest *request = (const void *)work->call->request;
    struct command command = {
        .kind = COMMAND_CREATE_CHANNEL,
        .channel_id = bytes_of_text(request->channel_id),
        .name = bytes_of_text(request->name),
    };
    return work_refuse_command(work, &command) && work_prepare_command(work, &command);
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
    if (work_refuse_result(work)) {
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

static struct command command_of_message(const Raftogram__V1__SendMessageRequest *request)
{
    return (struct command){
        .kind = COMMAND_SEND_MESSAGE,
        .channel_id = bytes_of_text(request->channel_id),
        .author_id = bytes_of_text(request->author_id),
        .client_message_id = bytes_of_text(request->client_message_id),
        .payload = {request->payload.data, request->payload.len},
    };
}

static bool send_message_prepare(struct work *work)
{
    const Raftogram__V1__SendMessageRequest *request = (const void *)work->call->request;
    const struct command command = command_of_message(request);
    work->request.may_repeat = request->client_message_id[0] != '\0';
    return work_refuse_command(work, &command) && work_prepare_command(work, &command);
}

static void send_message_applied(struct work *work)
{
    if (work_refuse_result(work)) {
        return;
    }
    Raftogram__V1__SendMessageResponse response = RAFTOGRAM__V1__SEND_MESSAGE_RESPONSE__INIT;
    response.sequence = work->request.result.sequence;
    response.deduplicated = work->request.result.deduplicated;
    dispatch_finish_work(work, &response.base);
}

/* ---- SendMessages ---- */

static bool refuse_batch_size(struct work *work, size_t count, size_t bytes)
{
    if (count == 0) {
        return !work_refuse_field(work, "INVALID_FIELD", "messages is empty");
    }
    if (count <= COMMAND_MESSAGES_MAX && bytes <= DISPATCH_BATCH_BYTES_MAX) {
        return false;
    }
    dispatch_status_set(&work->call->status, DISPATCH_INVALID_ARGUMENT, DISPATCH_BATCH_TOO_LARGE,
                        "the batch has %zu messages and %zu bytes; at most %d messages and %u "
                        "bytes are allowed",
                        count, bytes, COMMAND_MESSAGES_MAX, DISPATCH_BATCH_BYTES_MAX);
    dispatch_finish_work(work, NULL);
    return true;
}

static bool send_messages_prepare(struct work *work)
{
    const Raftogram__V1__SendMessagesRequest *request = (const void *)work->call->request;
    size_t bytes = raftogram__v1__send_messages_request__get_packed_size(request);
    if (refuse_batch_size(work, request->n_messages, bytes)) {
        return false;
    }
    struct command_batch batch;
    command_batch_begin(&batch, &work->command);
    work->request.may_repeat = true;
    work->has_item = true;
    for (size_t i = 0; i < request->n_messages; i++) {
        const struct command message = command_of_message(request->messages[i]);
        work->item = (uint32_t)i;
        if (!work_refuse_command(work, &message)) {
            return false;
        }
        command_batch_add(&batch, &message);
        work->request.may_repeat &= message.client_message_id.size > 0;
    }
    work->has_item = false;
    return work_prepare_encoded(work);
}

/* An answer to so many messages, in one allocation. */
struct sent_messages {
    Raftogram__V1__SendMessageResponse *list[COMMAND_MESSAGES_MAX];
    Raftogram__V1__SendMessageResponse rows[COMMAND_MESSAGES_MAX];
};

static void answer_messages(struct work *work, struct sent_messages *sent)
{
    const struct command_result *result = &work->request.result;
    Raftogram__V1__SendMessagesResponse response = RAFTOGRAM__V1__SEND_MESSAGES_RESPONSE__INIT;
    response.n_results = command_result_item_count(result);
    response.results = sent->list;
    for (size_t i = 0; i < response.n_results; i++) {
        struct command_item item = command_result_item(result, i);
        raftogram__v1__send_message_response__init(&sent->rows[i]);
        sent->rows[i].sequence = item.sequence;
        sent->rows[i].deduplicated = item.deduplicated;
        sent->list[i] = &sent->rows[i];
    }
    dispatch_finish_work(work, &response.base);
}

static void send_messages_applied(struct work *work)
{
    const Raftogram__V1__SendMessagesRequest *request = (const void *)work->call->request;
    const struct command_result *result = &work->request.result;
    work->has_item =
        work->request.outcome == NODE_OK && result->outcome == COMMAND_CHANNEL_NOT_FOUND;
    work->item = result->item;
    if (work_refuse_result(work)) {
        return;
    }
    if (command_result_item_count(result) != request->n_messages) {
        dispatch_status_set(&work->call->status, DISPATCH_INTERNAL, NULL,
                            "the leader answered for another number of messages");
        dispatch_finish_work(work, NULL);
        return;
    }
    struct sent_messages *sent = malloc(sizeof(*sent));
    if (sent == NULL) {
        /* The messages are stored. */
        work->request.outcome = NODE_COMMIT_UNKNOWN;
        work_finish_with_outcome(work);
        return;
    }
    answer_messages(work, sent);
    free(sent);
}

/* ---- reads ---- */

static bool read_history_prepare(struct work *work)
{
    const Raftogram__V1__ReadHistoryRequest *request = (const void *)work->call->request;
    const char *fault = dispatch_channel_id_fault(request->channel_id);
    if (fault != NULL) {
        return work_refuse_field(work, "INVALID_FIELD", fault);
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
                            work_clamp_limit(request->limit), &page);
    }
    if (rc != 0) {
        work_finish_with_error(work, rc);
        return;
    }
    struct stored_messages *messages = stored_messages_create(page);
    if (messages == NULL) {
        page_unref(page);
        work_finish_with_error(work, ERR_NOMEM);
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
        return work_refuse_field(work, "INVALID_FIELD",
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
        work_finish_with_error(work, ERR_NOMEM);
        return;
    }
    size_t count = 0;
    size_t bytes = 0;
    bool has_more = false;
    int rc = chat_list_channels(work->dispatch->chat, bytes_of_text(request->after_channel_id),
                                bytes_of_text(request->prefix), work_clamp_limit(request->limit),
                                rows->infos, &count, &has_more);
    if (rc != 0) {
        free(rows);
        work_finish_with_error(work, rc);
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

/* Refuses Subscribe as a unary call: streams go through dispatch_subscribe(). */
static bool subscribe_prepare(struct work *work)
{
    dispatch_status_set(&work->call->status, DISPATCH_UNIMPLEMENTED, NULL, "Subscribe is a stream");
    dispatch_finish_work(work, NULL);
    return false;
}

const struct method_handler dispatch_handle_create_channel = {create_channel_prepare,
                                                              create_channel_applied, NULL};
const struct method_handler dispatch_handle_send_message = {send_message_prepare,
                                                            send_message_applied, NULL};
const struct method_handler dispatch_handle_send_messages = {send_messages_prepare,
                                                             send_messages_applied, NULL};
/* One frame; publish.c submits it. */
const struct method_handler dispatch_handle_publish = {send_messages_prepare, send_messages_applied,
                                                       NULL};
const struct method_handler dispatch_handle_read_history = {
    read_history_prepare, work_finish_with_outcome, read_history_read};
const struct method_handler dispatch_handle_list_channels = {
    list_channels_prepare, work_finish_with_outcome, list_channels_read};
const struct method_handler dispatch_handle_subscribe = {subscribe_prepare,
                                                         work_finish_with_outcome, NULL};
