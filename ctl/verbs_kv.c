/* get, put, del, keys. phalanx.KV reports its errors inside answers whose gRPC status is OK. */
#include "complain.h"
#include "field.h"
#include "input.h"
#include "output.h"
#include "phalanx/kv.pb-c.h"
#include "raftogram/v1/cluster.pb-c.h"
#include "text.h"
#include "verbs.h"
#include "json/json.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define SERVICE "/phalanx.KV/"
#define PAGE_KEYS_MAX 1000 /* what one ListKeys answers at most */

/* Turns an error text of phalanx.KV into a status. The texts are those of its document. */
static void judge_error(const char *error, const char *leader, struct answer *answer)
{
    static const char unknown[] = "outcome unknown";
    static const char lost_quorum[] = "leader lost quorum";
    if (error[0] == '\0') {
        return;
    }
    snprintf(answer->message, sizeof(answer->message), "%s", error);
    if (strcmp(error, "not leader") == 0) {
        answer->code = GRPC_STATUS_FAILED_PRECONDITION;
        answer->is_not_leader = true;
        snprintf(answer->leader, sizeof(answer->leader), "%s", leader);
        snprintf(answer->reason, sizeof(answer->reason), "NOT_LEADER");
    } else if (strncmp(error, unknown, sizeof(unknown) - 1) == 0) {
        answer->code = GRPC_STATUS_ABORTED;
        snprintf(answer->reason, sizeof(answer->reason), "COMMIT_UNKNOWN");
    } else if (strncmp(error, lost_quorum, sizeof(lost_quorum) - 1) == 0) {
        answer->code = GRPC_STATUS_UNAVAILABLE;
        snprintf(answer->reason, sizeof(answer->reason), "NO_QUORUM");
    } else {
        answer->code = GRPC_STATUS_INVALID_ARGUMENT;
    }
}

static void judge_read(const ProtobufCMessage *response, struct answer *answer)
{
    const Phalanx__ReadResponse *read = (const Phalanx__ReadResponse *)response;
    judge_error(read->error, read->leader_addr, answer);
}

static void judge_propose(const ProtobufCMessage *response, struct answer *answer)
{
    const Phalanx__ProposeResponse *propose = (const Phalanx__ProposeResponse *)response;
    if (!propose->success) {
        judge_error(propose->error[0] == '\0' ? "refused" : propose->error, propose->leader_addr,
                    answer);
    }
}

/* Prints a value: escaped on a terminal, byte by byte elsewhere. */
static void print_value(const char *value)
{
    if (!isatty(STDOUT_FILENO)) {
        puts(value);
        return;
    }
    struct buf text = {0};
    text_append_printable(&text, bytes_of_text(value));
    puts(buf_text(&text));
    buf_finish(&text);
}

static int run_get(struct cluster *cluster, const struct arguments *arguments)
{
    Phalanx__ReadRequest request = PHALANX__READ_REQUEST__INIT;
    Phalanx__ReadResponse *response;
    request.key = arguments->operands[0];
    const struct cluster_call call = {
        .kind = CALL_READ,
        .path = SERVICE "Read",
        .what = "key",
        .name = request.key,
        .request = &request.base,
        .response = &phalanx__read_response__descriptor,
        .judge = judge_read,
    };
    int code = cluster_call(cluster, &call, (ProtobufCMessage **)&response);
    if (code != 0) {
        return code;
    }
    if (arguments->is_json) {
        output_json(&response->base, NULL);
    } else if (response->found) {
        print_value(response->value);
    }
    if (!response->found) {
        complain("no such key: %s", request.key);
        code = EXIT_REFUSED;
    }
    phalanx__read_response__free_unpacked(response, NULL);
    return code;
}

const struct verb verb_get = {
    .name = "get",
    .synopsis = "KEY",
    .summary = "Prints the value of a key",
    .help =
        "The read is linearizable: it sees every earlier put. The exit code is 1 when there is no\n"
        "such key.\n"
        "\n"
        "Examples:\n"
        "  raftogramctl get config.ttl\n"
        "  raftogramctl get config.ttl -o json\n",
    .operands_min = 1,
    .operands_max = 1,
    .first_operand = "key",
    .run = run_get,
};

static int propose(struct cluster *cluster, const struct arguments *arguments, struct bytes data)
{
    Phalanx__ProposeRequest request = PHALANX__PROPOSE_REQUEST__INIT;
    Phalanx__ProposeResponse *response;
    request.data = field_of_bytes(data);
    const struct cluster_call call = {
        /* A repeated write could undo what another client wrote in between. */
        .kind = CALL_ONCE,
        .path = SERVICE "Propose",
        .what = "key",
        .name = arguments->operands[0],
        .request = &request.base,
        .response = &phalanx__propose_response__descriptor,
        .judge = judge_propose,
    };
    int code = cluster_call(cluster, &call, (ProtobufCMessage **)&response);
    if (code != 0) {
        return code;
    }
    if (arguments->is_json) {
        output_json(&response->base, NULL);
    } else {
        puts("OK");
    }
    phalanx__propose_response__free_unpacked(response, NULL);
    return EXIT_DONE;
}

static bool is_text(struct bytes text)
{
    return text.size == 0 || (bytes_is_utf8(text) && memchr(text.data, 0, text.size) == NULL);
}

/* Proposes a SET, or a DELETE when `value` is NULL. */
static int run_command(struct cluster *cluster, const struct arguments *arguments, const char *op,
                       const struct bytes *value)
{
    struct bytes key = bytes_of_text(arguments->operands[0]);
    if (!is_text(key) || (value != NULL && !is_text(*value))) {
        complain("keys and values are UTF-8 text without NUL");
        return EXIT_USAGE;
    }
    struct buf data = {0};
    buf_printf(&data, "{\"op\":\"%s\",\"key\":", op);
    json_append_string(&data, key);
    if (value != NULL) {
        buf_append_text(&data, ",\"value\":");
        json_append_string(&data, *value);
    }
    buf_append_byte(&data, '}');
    int code = EXIT_REFUSED;
    if (buf_failed(&data)) {
        complain("out of memory for the command");
    } else {
        code = propose(cluster, arguments, buf_bytes(&data));
    }
    buf_finish(&data);
    return code;
}

static int run_put(struct cluster *cluster, const struct arguments *arguments)
{
    struct bytes value = bytes_of_text(arguments->operands[1]);
    if (!bytes_equal(value, bytes_of_text("-"))) {
        return run_command(cluster, arguments, "SET", &value);
    }
    struct buf input;
    int code = input_read(&input, "a value");
    if (code == 0) {
        value = buf_bytes(&input);
        code = run_command(cluster, arguments, "SET", &value);
    }
    buf_finish(&input);
    return code;
}

const struct verb verb_put = {
    .name = "put",
    .synopsis = "KEY VALUE|-",
    .summary = "Sets the value of a key",
    .help =
        "  VALUE       UTF-8 text; - reads it from stdin\n"
        "\n"
        "Prints OK once the value is on disk on a majority. If the answer is lost, the write is\n"
        "not repeated: the outcome is unknown (exit code 3), and get shows it.\n"
        "\n"
        "Examples:\n"
        "  raftogramctl put config.ttl 3600\n"
        "  raftogramctl put motd - < motd.txt\n"
        "  raftogramctl put offset -- -5\n",
    .operands_min = 2,
    .operands_max = 2,
    .first_operand = "key",
    .run = run_put,
};

static int run_del(struct cluster *cluster, const struct arguments *arguments)
{
    return run_command(cluster, arguments, "DELETE", NULL);
}

const struct verb verb_del = {
    .name = "del",
    .synopsis = "KEY",
    .summary = "Deletes a key",
    .help = "Deleting a key that does not exist is no error.\n"
            "\n"
            "Examples:\n"
            "  raftogramctl del config.ttl\n",
    .operands_min = 1,
    .operands_max = 1,
    .first_operand = "key",
    .run = run_del,
};

/* ---- keys ---- */

static void print_keys(struct table *table, const Raftogram__V1__ListKeysResponse *page)
{
    for (size_t i = 0; i < page->n_keys; i++) {
        table_add_text(table, page->keys[i]);
    }
    table_print(table);
}

/* Prints the elements of one page. All pages together are one JSON object. */
static void print_keys_json(const Raftogram__V1__ListKeysResponse *page, bool is_first)
{
    struct buf text = {0};
    for (size_t i = 0; i < page->n_keys; i++) {
        if (!is_first || i > 0) {
            buf_append_byte(&text, ',');
        }
        json_append_string(&text, bytes_of_text(page->keys[i]));
    }
    output_json_text(buf_text(&text));
    buf_finish(&text);
}

static int run_keys(struct cluster *cluster, const struct arguments *arguments)
{
    static const char *const headers[] = {"KEY"};
    struct table table = {.headers = headers, .columns = 1};
    Raftogram__V1__ListKeysRequest request = RAFTOGRAM__V1__LIST_KEYS_REQUEST__INIT;
    const struct cluster_call call = {
        .kind = CALL_READ,
        .path = "/raftogram.v1.Cluster/ListKeys",
        .request = &request.base,
        .response = &raftogram__v1__list_keys_response__descriptor,
    };
    char after[CLUSTER_ID_BYTES_MAX + 1] = "";
    uint32_t left = arguments->limit == 0 ? UINT32_MAX : arguments->limit;
    bool has_more = true;
    bool is_first = true;
    int code = 0;
    request.after_key = after;
    request.prefix = field_of_text(arguments->prefix);
    while (has_more && left > 0) {
        Raftogram__V1__ListKeysResponse *page;
        request.limit = left < PAGE_KEYS_MAX ? left : PAGE_KEYS_MAX;
        code = cluster_call(cluster, &call, (ProtobufCMessage **)&page);
        if (code != 0) {
            break;
        }
        if (arguments->is_json) {
            fputs(is_first ? "{\"keys\":[" : "", stdout);
            print_keys_json(page, is_first);
        } else {
            print_keys(&table, page);
        }
        is_first = false;
        left -= page->n_keys < left ? (uint32_t)page->n_keys : left;
        has_more = page->has_more && page->n_keys > 0;
        if (has_more) {
            snprintf(after, sizeof(after), "%s", page->keys[page->n_keys - 1]);
        }
        raftogram__v1__list_keys_response__free_unpacked(page, NULL);
    }
    if (arguments->is_json && code == 0) {
        printf("],\"hasMore\":%s}\n", has_more ? "true" : "false");
    }
    table_finish(&table);
    return code;
}

const struct verb verb_keys = {
    .name = "keys",
    .synopsis = "[-prefix P] [-limit N]",
    .summary = "Lists the keys",
    .help = "  -prefix P   only those that begin with P\n"
            "  -limit N    at most N (default: all)\n"
            "\n"
            "The read is linearizable: it sees every earlier put, whichever node is asked.\n"
            "\n"
            "Examples:\n"
            "  raftogramctl keys\n"
            "  raftogramctl keys -prefix config. -o json | jq -r '.keys[]'\n",
    .options = OPTION_PREFIX | OPTION_LIMIT,
    .run = run_keys,
};
