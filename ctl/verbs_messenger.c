/* channels, create, send, history. */
#include "base/random.h"
#include "complain.h"
#include "field.h"
#include "input.h"
#include "output.h"
#include "raftogram/v1/messaging.pb-c.h"
#include "send_lines.h"
#include "verbs.h"
#include "json/json.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define SERVICE "/raftogram.v1.Messenger/"
#define PAGE_MESSAGES_MAX 1000    /* of one ReadHistory or ListChannels */
#define HISTORY_LIMIT_DEFAULT 100 /* the same as the service's */
#define MESSAGE_ID_RANDOM_BYTES 16
#define AUTHOR_VARIABLE "USER"

/* ---- channels ---- */

static const char *const channel_headers[] = {"CHANNEL", "NAME", "MESSAGES", "FIRST", "LAST"};

static void print_channels(struct table *table, Raftogram__V1__ListChannelsResponse *page)
{
    for (size_t i = 0; i < page->n_channels; i++) {
        const Raftogram__V1__Channel *channel = page->channels[i];
        uint64_t count =
            channel->last_sequence == 0 ? 0 : channel->last_sequence - channel->first_sequence + 1;
        table_add_text(table, channel->channel_id);
        table_add_text(table, channel->name);
        table_add_number(table, count);
        table_add_number(table, channel->first_sequence);
        table_add_number(table, channel->last_sequence);
    }
    table_print(table);
}

/* Prints the elements of one page. All pages together are one JSON object. */
static void print_channels_json(const Raftogram__V1__ListChannelsResponse *page, bool is_first)
{
    struct buf text = {0};
    for (size_t i = 0; i < page->n_channels; i++) {
        if (!is_first || i > 0) {
            buf_append_byte(&text, ',');
        }
        json_encode(&page->channels[i]->base, JSON_NAMES_CAMEL, &text);
    }
    output_json_text(buf_text(&text));
    buf_finish(&text);
}

static int list_page(struct cluster *cluster, const Raftogram__V1__ListChannelsRequest *request,
                     Raftogram__V1__ListChannelsResponse **out)
{
    const struct cluster_call call = {
        .kind = CALL_READ,
        .path = SERVICE "ListChannels",
        .request = &request->base,
        .response = &raftogram__v1__list_channels_response__descriptor,
    };
    return cluster_call(cluster, &call, (ProtobufCMessage **)out);
}

static int run_channels(struct cluster *cluster, const struct arguments *arguments)
{
    struct table table = {.headers = channel_headers, .columns = 5};
    char after[CLUSTER_ID_BYTES_MAX + 1] = "";
    uint32_t left = arguments->limit == 0 ? UINT32_MAX : arguments->limit;
    bool has_more = true;
    bool is_first = true;
    int code = 0;
    while (code == 0 && has_more && left > 0) {
        Raftogram__V1__ListChannelsRequest request = RAFTOGRAM__V1__LIST_CHANNELS_REQUEST__INIT;
        Raftogram__V1__ListChannelsResponse *page;
        request.prefix = field_of_text(arguments->prefix);
        request.after_channel_id = after;
        request.limit = left < PAGE_MESSAGES_MAX ? left : PAGE_MESSAGES_MAX;
        code = list_page(cluster, &request, &page);
        if (code != 0) {
            break;
        }
        if (arguments->is_json) {
            fputs(is_first ? "{\"channels\":[" : "", stdout);
            print_channels_json(page, is_first);
        } else {
            print_channels(&table, page);
        }
        is_first = false;
        left -= page->n_channels < left ? (uint32_t)page->n_channels : left;
        has_more = page->has_more && page->n_channels > 0;
        if (has_more) {
            snprintf(after, sizeof(after), "%s", page->channels[page->n_channels - 1]->channel_id);
        }
        raftogram__v1__list_channels_response__free_unpacked(page, NULL);
    }
    if (arguments->is_json && code == 0) {
        printf("],\"hasMore\":%s}\n", has_more ? "true" : "false");
    }
    table_finish(&table);
    return code;
}

const struct verb verb_channels = {
    .name = "channels",
    .synopsis = "[-prefix P] [-limit N]",
    .summary = "Lists the channels",
    .help = "  -prefix P   only ids that begin with P\n"
            "  -limit N    at most N (default: all)\n"
            "\n"
            "Examples:\n"
            "  raftogramctl channels\n"
            "  raftogramctl channels -prefix team- -o json | jq -r '.channels[].channelId'\n",
    .options = OPTION_PREFIX | OPTION_LIMIT,
    .run = run_channels,
};

int channel_find_end(struct cluster *cluster, const char *channel_id, uint64_t *out)
{
    Raftogram__V1__ListChannelsRequest request = RAFTOGRAM__V1__LIST_CHANNELS_REQUEST__INIT;
    Raftogram__V1__ListChannelsResponse *page;
    /* The id sorts before all longer ids that begin with it. */
    request.prefix = field_of_text(channel_id);
    request.limit = 1;
    const struct cluster_call call = {
        .kind = CALL_READ,
        .path = SERVICE "ListChannels",
        .what = "channel",
        .name = channel_id,
        .request = &request.base,
        .response = &raftogram__v1__list_channels_response__descriptor,
    };
    int code = cluster_call(cluster, &call, (ProtobufCMessage **)&page);
    if (code != 0) {
        return code;
    }
    if (page->n_channels == 0 || strcmp(page->channels[0]->channel_id, channel_id) != 0) {
        char subject[CLUSTER_SUBJECT_BYTES_MAX];
        cluster_describe("channel", channel_id, subject);
        complain("%sno such channel (CHANNEL_NOT_FOUND)", subject);
        code = EXIT_REFUSED;
    } else {
        *out = page->channels[0]->last_sequence;
    }
    raftogram__v1__list_channels_response__free_unpacked(page, NULL);
    return code;
}

/* ---- create ---- */

static void print_created(const Raftogram__V1__CreateChannelResponse *response)
{
    static const char *const headers[] = {"CHANNEL", "NAME", "CREATED"};
    struct table table = {.headers = headers, .columns = 3};
    table_add_text(&table, response->channel_id);
    table_add_text(&table, response->name);
    table_add_text(&table, response->created ? "yes" : "no, it was there");
    table_print(&table);
    table_finish(&table);
}

static int run_create(struct cluster *cluster, const struct arguments *arguments)
{
    Raftogram__V1__CreateChannelRequest request = RAFTOGRAM__V1__CREATE_CHANNEL_REQUEST__INIT;
    Raftogram__V1__CreateChannelResponse *response;
    request.channel_id = field_of_text(arguments->operands[0]);
    request.name = field_of_text(arguments->name);
    const struct cluster_call call = {
        /* Without an id, every call creates another channel. */
        .kind = request.channel_id[0] == '\0' ? CALL_ONCE : CALL_REPEATABLE,
        .path = SERVICE "CreateChannel",
        .what = request.channel_id[0] == '\0' ? NULL : "channel",
        .name = request.channel_id,
        .request = &request.base,
        .response = &raftogram__v1__create_channel_response__descriptor,
    };
    int code = cluster_call(cluster, &call, (ProtobufCMessage **)&response);
    if (code != 0) {
        return code;
    }
    if (arguments->is_json) {
        output_json(&response->base, NULL);
    } else {
        print_created(response);
    }
    raftogram__v1__create_channel_response__free_unpacked(response, NULL);
    return EXIT_DONE;
}

const struct verb verb_create = {
    .name = "create",
    .synopsis = "[CHANNEL] [-name NAME]",
    .summary = "Creates a channel",
    .help = "  CHANNEL     the id; without one the cluster chooses channel-<number>\n"
            "  -name NAME  the display name\n"
            "\n"
            "If the channel exists, it does not change, and its stored name is shown.\n"
            "\n"
            "Examples:\n"
            "  raftogramctl create general -name \"General\"\n"
            "  id=$(raftogramctl create -o json | jq -r .channelId)\n",
    .operands_max = 1,
    .options = OPTION_NAME,
    .is_of_channel = true,
    .run = run_create,
};

/* ---- send ---- */

static void make_message_id(char out[2 * MESSAGE_ID_RANDOM_BYTES + 1])
{
    uint8_t random[MESSAGE_ID_RANDOM_BYTES];
    random_bytes(random, sizeof(random));
    for (size_t i = 0; i < sizeof(random); i++) {
        snprintf(out + 2 * i, 3, "%02x", random[i]);
    }
}

static void print_sent(const Raftogram__V1__SendMessageRequest *request,
                       const Raftogram__V1__SendMessageResponse *response)
{
    static const char *const headers[] = {"CHANNEL", "SEQUENCE", "DEDUPLICATED", "ID"};
    struct table table = {.headers = headers, .columns = 4};
    table_add_text(&table, request->channel_id);
    table_add_number(&table, response->sequence);
    table_add_text(&table, response->deduplicated ? "yes" : "no");
    table_add_text(&table, request->client_message_id);
    table_print(&table);
    table_finish(&table);
}

static void print_sent_json(const Raftogram__V1__SendMessageRequest *request,
                            const Raftogram__V1__SendMessageResponse *response)
{
    struct buf before = {0};
    buf_append_text(&before, "\"channelId\":");
    json_append_string(&before, bytes_of_text(request->channel_id));
    buf_append_text(&before, ",\"clientMessageId\":");
    json_append_string(&before, bytes_of_text(request->client_message_id));
    buf_append_byte(&before, ',');
    output_json(&response->base, buf_text(&before));
    buf_finish(&before);
}

static const char *author_of(const struct arguments *arguments)
{
    return arguments->author == NULL ? getenv(AUTHOR_VARIABLE) : arguments->author;
}

static int send_message(struct cluster *cluster, const struct arguments *arguments,
                        struct bytes payload)
{
    Raftogram__V1__SendMessageRequest request = RAFTOGRAM__V1__SEND_MESSAGE_REQUEST__INIT;
    Raftogram__V1__SendMessageResponse *response;
    char id[2 * MESSAGE_ID_RANDOM_BYTES + 1];
    make_message_id(id);
    request.channel_id = arguments->operands[0];
    request.author_id = field_of_text(author_of(arguments));
    request.client_message_id = arguments->id == NULL ? id : field_of_text(arguments->id);
    request.payload = field_of_bytes(payload);
    const struct cluster_call call = {
        /* The message id makes it idempotent. An empty id turns deduplication off. */
        .kind = request.client_message_id[0] == '\0' ? CALL_ONCE : CALL_REPEATABLE,
        .path = SERVICE "SendMessage",
        .what = "channel",
        .name = request.channel_id,
        .request = &request.base,
        .response = &raftogram__v1__send_message_response__descriptor,
    };
    int code = cluster_call(cluster, &call, (ProtobufCMessage **)&response);
    if (code == EXIT_UNAVAILABLE && request.client_message_id[0] != '\0') {
        complain("to try again without doubling it: -id %s", request.client_message_id);
    }
    if (code != 0) {
        return code;
    }
    if (arguments->is_json) {
        print_sent_json(&request, response);
    } else {
        print_sent(&request, response);
    }
    raftogram__v1__send_message_response__free_unpacked(response, NULL);
    return EXIT_DONE;
}

static int run_send_lines(struct cluster *cluster, const struct arguments *arguments)
{
    if (arguments->operand_count > 1) {
        complain("-lines takes the messages from stdin: unexpected argument %s; see raftogramctl "
                 "send -h",
                 arguments->operands[1]);
        return EXIT_USAGE;
    }
    char id[2 * MESSAGE_ID_RANDOM_BYTES + 1];
    make_message_id(id);
    return send_lines(cluster, arguments, author_of(arguments),
                      arguments->id == NULL ? id : arguments->id);
}

static int run_send(struct cluster *cluster, const struct arguments *arguments)
{
    if ((arguments->options & OPTION_LINES) != 0) {
        return run_send_lines(cluster, arguments);
    }
    if (arguments->operand_count < 2) {
        complain("send wants %s; see raftogramctl send -h", verb_send.synopsis);
        return EXIT_USAGE;
    }
    const char *text = arguments->operands[1];
    if (text[0] == '\0') {
        complain("the text is empty; see raftogramctl send -h");
        return EXIT_USAGE;
    }
    if (strcmp(text, "-") != 0) {
        return send_message(cluster, arguments, bytes_of_text(text));
    }
    struct buf payload;
    int code = input_read(&payload, "a message");
    if (code == 0) {
        code = send_message(cluster, arguments, buf_bytes(&payload));
    }
    buf_finish(&payload);
    return code;
}

const struct verb verb_send = {
    .name = "send",
    .synopsis = "CHANNEL TEXT|-|-lines [-author A] [-id ID]",
    .summary = "Sends a message, or many",
    .help =
        "  TEXT        the message; - reads it from stdin, text or not\n"
        "  -lines      each line of stdin is a message. They are stored in order, in batches of "
        "up\n"
        "              to 1000. Line N has the client message id ID-N: if it stops on the way, "
        "send\n"
        "              the same input with the same -id again, and no line is stored twice.\n"
        "              -timeout is the limit for each batch.\n"
        "  -author A   the author (default: $USER)\n"
        "  -id ID      the client message id (default: random). A channel stores each id once, so\n"
        "              that a repeated send with the same id is not a second message.\n"
        "\n"
        "Retries until -timeout, always with the same id. A text that begins with a dash comes\n"
        "after --.\n"
        "\n"
        "Examples:\n"
        "  raftogramctl send general \"Hello\" -author alice\n"
        "  raftogramctl send alerts - < report.bin\n"
        "  raftogramctl send general -- \"-5 degrees\"\n"
        "  tail -f app.log | raftogramctl send logs -lines\n",
    .operands_min = 1,
    .operands_max = 2,
    .options = OPTION_AUTHOR | OPTION_ID | OPTION_LINES,
    .is_of_channel = true,
    .first_operand = "channel",
    .run = run_send,
};

/* ---- history ---- */

static int history_page(struct cluster *cluster, const Raftogram__V1__ReadHistoryRequest *request,
                        Raftogram__V1__ReadHistoryResponse **out)
{
    const struct cluster_call call = {
        .kind = CALL_READ,
        .path = SERVICE "ReadHistory",
        .what = "channel",
        .name = request->channel_id,
        .request = &request->base,
        .response = &raftogram__v1__read_history_response__descriptor,
    };
    return cluster_call(cluster, &call, (ProtobufCMessage **)out);
}

/* Finds the sequence before the newest `last` messages. The channel may grow meanwhile. */
static int find_start(struct cluster *cluster, const struct arguments *arguments, uint64_t *out)
{
    uint64_t end = 0;
    int code = channel_find_end(cluster, arguments->operands[0], &end);
    *out = end > arguments->last ? end - arguments->last : 0;
    return code;
}

static uint64_t history_limit(const struct arguments *arguments)
{
    if (arguments->is_all) {
        return UINT64_MAX;
    }
    uint32_t given = arguments->last != 0 ? arguments->last : arguments->limit;
    return given != 0 ? given : HISTORY_LIMIT_DEFAULT;
}

static int run_history(struct cluster *cluster, const struct arguments *arguments)
{
    Raftogram__V1__ReadHistoryRequest request = RAFTOGRAM__V1__READ_HISTORY_REQUEST__INIT;
    struct message_output output;
    message_output_init(&output, arguments->is_json);
    request.channel_id = arguments->operands[0];
    request.after_sequence = arguments->after;
    uint64_t left = history_limit(arguments);
    bool has_more = true;
    int code = arguments->last == 0 ? 0 : find_start(cluster, arguments, &request.after_sequence);
    while (code == 0 && has_more && left > 0) {
        Raftogram__V1__ReadHistoryResponse *page;
        request.limit = left < PAGE_MESSAGES_MAX ? (uint32_t)left : PAGE_MESSAGES_MAX;
        code = history_page(cluster, &request, &page);
        if (code != 0) {
            break;
        }
        message_output_print(&output, page->messages, page->n_messages);
        left -= page->n_messages < left ? page->n_messages : left;
        has_more = page->has_more && page->n_messages > 0;
        if (page->n_messages > 0) {
            request.after_sequence = page->messages[page->n_messages - 1]->sequence;
        }
        raftogram__v1__read_history_response__free_unpacked(page, NULL);
    }
    if (code == 0 && has_more && !arguments->is_json && arguments->last == 0) {
        fflush(stdout);
        complain("there are more: -after %llu, or -all",
                 (unsigned long long)request.after_sequence);
    }
    message_output_finish(&output);
    return code;
}

const struct verb verb_history = {
    .name = "history",
    .synopsis = "CHANNEL [-after N] [-limit N|-all|-last N]",
    .summary = "Shows stored messages, oldest first",
    .help =
        "  -after N    only those with a sequence over N\n"
        "  -limit N    at most N (default 100)\n"
        "  -all        all of them\n"
        "  -last N     the newest N\n"
        "\n"
        "The read is linearizable: it sees every acknowledged message, whichever node is asked.\n"
        "Times are UTC. With -o json each message is one line, with its payload in base64.\n"
        "\n"
        "Examples:\n"
        "  raftogramctl history general -last 20\n"
        "  raftogramctl history general -after 100 -limit 20\n"
        "  raftogramctl history general -all -o json | jq -r '.payload|@base64d'\n",
    .operands_min = 1,
    .operands_max = 1,
    .options = OPTION_AFTER | OPTION_LIMIT | OPTION_ALL | OPTION_LAST,
    .exclusive = {OPTION_LIMIT | OPTION_ALL, OPTION_LAST | OPTION_AFTER, OPTION_LAST | OPTION_LIMIT,
                  OPTION_LAST | OPTION_ALL},
    .is_of_channel = true,
    .first_operand = "channel",
    .run = run_history,
};
