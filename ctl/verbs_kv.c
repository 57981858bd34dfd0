/* get, put, del. phalanx.KV tells its errors inside answers that gRPC calls OK. */
#include "output.h"
#include "phalanx/kv.pb-c.h"
#include "verbs.h"
#include "json/json.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define SERVICE "/phalanx.KV/"

/* The words of the reference document. */
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

/* A value is printed as it is, so that files come out unharmed; but not to a terminal. */
static void print_value(const char *value)
{
    if (!isatty(STDOUT_FILENO)) {
        puts(value);
        return;
    }
    struct buf text = {0};
    output_printable(&text, bytes_of_text(value));
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
    .help = "Linearizable: what was put before is seen. A missing key is exit code 1.\n"
            "\n"
            "Examples:\n"
            "  raftogramctl get config.ttl\n"
            "  raftogramctl get config.ttl -o json\n",
    .operands_min = 1,
    .operands_max = 1,
    .run = run_get,
};

static int propose(struct cluster *cluster, const struct arguments *arguments, struct bytes data)
{
    Phalanx__ProposeRequest request = PHALANX__PROPOSE_REQUEST__INIT;
    Phalanx__ProposeResponse *response;
    request.data = (ProtobufCBinaryData){data.size, (uint8_t *)(uintptr_t)data.data};
    const struct cluster_call call = {
        /* A second one could undo what another client wrote between them. */
        .kind = CALL_ONCE,        .path = SERVICE "Propose",
        .request = &request.base, .response = &phalanx__propose_response__descriptor,
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

/* `value` NULL: a DELETE. */
static int run_command(struct cluster *cluster, const struct arguments *arguments, const char *op,
                       const char *value)
{
    struct bytes key = bytes_of_text(arguments->operands[0]);
    if (!bytes_is_utf8(key) || (value != NULL && !bytes_is_utf8(bytes_of_text(value)))) {
        complain("keys and values are UTF-8 text");
        return EXIT_USAGE;
    }
    struct buf data = {0};
    buf_printf(&data, "{\"op\":\"%s\",\"key\":", op);
    json_append_string(&data, key);
    if (value != NULL) {
        buf_append_text(&data, ",\"value\":");
        json_append_string(&data, bytes_of_text(value));
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
    return run_command(cluster, arguments, "SET", arguments->operands[1]);
}

const struct verb verb_put = {
    .name = "put",
    .synopsis = "KEY VALUE",
    .summary = "Sets the value of a key",
    .help = "Prints OK once it is on disk on a majority. When the answer gets lost it is not sent\n"
            "again: the outcome is unknown then (exit code 3), and get tells.\n"
            "\n"
            "Examples:\n"
            "  raftogramctl put config.ttl 3600\n"
            "  raftogramctl put offset -- -5\n",
    .operands_min = 2,
    .operands_max = 2,
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
    .help = "Deleting a key that is not there is no error.\n"
            "\n"
            "Examples:\n"
            "  raftogramctl del config.ttl\n",
    .operands_min = 1,
    .operands_max = 1,
    .run = run_del,
};
