/* status and transfer-leader. */
#include "base/clock.h"
#include "complain.h"
#include "output.h"
#include "raftogram/v1/cluster.pb-c.h"
#include "stop.h"
#include "text.h"
#include "verbs.h"
#include "json/json.h"

#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define STATUS_MS_MAX 2000 /* a node that does not answer in this time is unreachable */
#define WATCH_MS 1000
#define WATCH_PICTURE_BYTES 65536
#define TERMINAL_CLEAR "\x1b[H\x1b[J" /* moves the cursor to the top left, erases the rest */
#define NODES_MAX CLUSTER_ADDRESSES_MAX
#define CONTACT_NEVER UINT64_MAX /* Member.last_contact_ms without any contact */

/* One row: a node by its id. */
struct node {
    const char *id;
    const char *address;
    const struct node_answer *answer;       /* its own; NULL: not asked, its address is invalid */
    const Raftogram__V1__Member *by_leader; /* the leader's view of it; NULL without a leader */
};

/* ---- nodes ---- */

static const struct node_answer *answer_of(const struct node_answer *answers, size_t count,
                                           const Raftogram__V1__Member *member)
{
    const struct node_answer *refusal = NULL;
    for (size_t i = 0; i < count; i++) {
        const Raftogram__V1__StatusResponse *status = answers[i].status;
        if (status != NULL && strcmp(status->node_id, member->node_id) == 0) {
            return &answers[i];
        }
        if (strcmp(answers[i].address, member->grpc_addr) == 0) {
            refusal = &answers[i];
        }
    }
    return refusal;
}

/* Chooses the status that lists the members: the leader's, else the one of the highest term. */
static const Raftogram__V1__StatusResponse *
best_status(const struct node_answer *answers, size_t count, const struct node_answer *leader)
{
    if (leader != NULL) {
        return leader->status;
    }
    const Raftogram__V1__StatusResponse *best = NULL;
    for (size_t i = 0; i < count; i++) {
        const Raftogram__V1__StatusResponse *status = answers[i].status;
        if (status != NULL && (best == NULL || status->term > best->term)) {
            best = status;
        }
    }
    return best;
}

static size_t list_nodes(const struct node_answer *answers, size_t count,
                         const Raftogram__V1__StatusResponse *best, bool has_leader,
                         struct node *out)
{
    size_t nodes = 0;
    for (size_t i = 0; i < best->n_members && nodes < NODES_MAX; i++) {
        const Raftogram__V1__Member *member = best->members[i];
        out[nodes++] = (struct node){
            .id = member->node_id,
            .address = member->grpc_addr,
            .answer = answer_of(answers, count, member),
            .by_leader = has_leader ? member : NULL,
        };
    }
    return nodes;
}

/* ---- the table ---- */

static void format_uptime(uint64_t seconds, char *out, size_t size)
{
    unsigned long long s = seconds;
    if (s < 60) {
        snprintf(out, size, "%llus", s);
    } else if (s < 60 * 60) {
        snprintf(out, size, "%llum%llus", s / 60, s % 60);
    } else if (s < 24 * 60 * 60) {
        snprintf(out, size, "%lluh%llum", s / 3600, s / 60 % 60);
    } else {
        snprintf(out, size, "%llud%lluh", s / 86400, s / 3600 % 24);
    }
}

static const char *const node_headers[] = {"NODE",    "ROLE",   "TERM",     "COMMIT",
                                           "APPLIED", "LAST",   "SNAPSHOT", "LAG",
                                           "CONTACT", "UPTIME", "VERSION",  "ADDRESS"};
#define NODE_COLUMNS (sizeof(node_headers) / sizeof(node_headers[0]))

/* Adds the node's lag behind the leader and the time since the leader's last contact. */
static void add_leader_view(struct table *table, const struct node *node,
                            const Raftogram__V1__StatusResponse *best)
{
    const Raftogram__V1__Member *member = node->by_leader;
    if (member == NULL || strcmp(member->node_id, best->node_id) == 0) {
        table_add_text(table, "-");
        table_add_text(table, "-");
        return;
    }
    char contact[32] = "never";
    if (member->last_contact_ms != CONTACT_NEVER) {
        snprintf(contact, sizeof(contact), "%llu ms", (unsigned long long)member->last_contact_ms);
    }
    table_add_number(
        table, best->last_index > member->match_index ? best->last_index - member->match_index : 0);
    table_add_text(table, contact);
}

static void add_node(struct table *table, const struct node *node,
                     const Raftogram__V1__StatusResponse *best)
{
    const Raftogram__V1__StatusResponse *status =
        node->answer == NULL ? NULL : node->answer->status;
    table_add_text(table, node->id);
    if (status == NULL) {
        table_add_text(table, "unreachable");
        for (size_t i = 0; i < 5; i++) {
            table_add_text(table, "-");
        }
        add_leader_view(table, node, best);
        table_add_text(table, "-");
        table_add_text(table, "-");
    } else {
        char uptime[32];
        format_uptime(status->uptime_seconds, uptime, sizeof(uptime));
        table_add_text(table, status->role);
        table_add_number(table, status->term);
        table_add_number(table, status->commit_index);
        table_add_number(table, status->applied_index);
        table_add_number(table, status->last_index);
        table_add_number(table, status->snapshot_index);
        add_leader_view(table, node, best);
        table_add_text(table, uptime);
        table_add_text(table, status->version);
    }
    table_add_text(table, node->address);
}

static void print_status(const struct node *nodes, size_t count,
                         const Raftogram__V1__StatusResponse *best, bool has_leader)
{
    struct table table = {.headers = node_headers, .columns = NODE_COLUMNS};
    for (size_t i = 0; i < count; i++) {
        add_node(&table, &nodes[i], best);
    }
    table_print(&table);
    table_finish(&table);
    struct buf line = {0};
    text_append_printable(&line, bytes_of_text(best->cluster_id));
    printf("\ncluster %s, ", line.size == 0 ? "not formed yet" : buf_text(&line));
    buf_reset(&line);
    text_append_printable(&line, bytes_of_text(best->node_id));
    printf("%s%s\n", has_leader ? "has a quorum, led by " : "has NO QUORUM: there is NO LEADER",
           has_leader ? buf_text(&line) : "");
    buf_finish(&line);
}

/* ---- JSON ---- */

static void append_member(struct buf *out, const char *name, const char *text)
{
    buf_printf(out, "\"%s\":", name);
    json_append_string(out, bytes_of_text(text));
}

/* Appends one node. If it answers, the object has all members of its StatusResponse. */
static void append_node(struct buf *out, const struct node *node)
{
    const Raftogram__V1__StatusResponse *status =
        node->answer == NULL ? NULL : node->answer->status;
    struct buf own = {0};
    buf_append_byte(out, '{');
    append_member(out, "grpcAddr", node->address);
    buf_printf(out, ",\"isReachable\":%s,", status != NULL ? "true" : "false");
    if (status != NULL) {
        json_encode(&status->base, JSON_NAMES_CAMEL, &own);
        buf_append_text(out, buf_text(&own) + 1);
    } else {
        append_member(out, "nodeId", node->id);
        buf_append_text(out, ",\"role\":\"unreachable\",");
        append_member(out, "error", node->answer == NULL ? "" : node->answer->answer.message);
        buf_append_byte(out, '}');
    }
    buf_finish(&own);
}

static void print_status_json(const struct node *nodes, size_t count,
                              const Raftogram__V1__StatusResponse *best, bool has_leader)
{
    struct buf text = {0};
    buf_append_byte(&text, '{');
    append_member(&text, "clusterId", best->cluster_id);
    buf_append_byte(&text, ',');
    append_member(&text, "leaderId", has_leader ? best->node_id : "");
    buf_printf(&text, ",\"term\":\"%llu\",\"hasQuorum\":%s,\"nodes\":[",
               (unsigned long long)best->term, has_leader ? "true" : "false");
    for (size_t i = 0; i < count; i++) {
        if (i > 0) {
            buf_append_byte(&text, ',');
        }
        append_node(&text, &nodes[i]);
    }
    buf_append_text(&text, "]}\n");
    output_json_text(buf_text(&text));
    buf_finish(&text);
}

/* ---- status ---- */

/* Reports for each address why it does not answer. */
static int complain_of_silence(const struct node_answer *answers, size_t count)
{
    size_t wrong_ports = 0;
    fflush(stdout);
    for (size_t i = 0; i < count; i++) {
        bool is_wrong_port = answers[i].answer.is_wrong_port;
        wrong_ports += is_wrong_port;
        complain("%s%s %s", answers[i].address, is_wrong_port ? "" : ":",
                 answers[i].answer.message);
    }
    if (wrong_ports == count) {
        return EXIT_USAGE;
    }
    complain("the cluster is unavailable: no node answers");
    return EXIT_UNAVAILABLE;
}

static int show_status(struct cluster *cluster, bool is_json, uint64_t timeout_ms)
{
    struct node_answer answers[CLUSTER_ADDRESSES_MAX];
    size_t count = cluster_ask_all(cluster, timeout_ms, answers);
    const struct node_answer *leader = cluster_find_leader(answers, count);
    const Raftogram__V1__StatusResponse *best = best_status(answers, count, leader);
    if (best == NULL) {
        return complain_of_silence(answers, count);
    }
    struct node nodes[NODES_MAX];
    size_t node_count = list_nodes(answers, count, best, leader != NULL, nodes);
    if (is_json) {
        print_status_json(nodes, node_count, best, leader != NULL);
    } else {
        print_status(nodes, node_count, best, leader != NULL);
    }
    cluster_free_answers(answers, count);
    return leader != NULL ? EXIT_DONE : EXIT_UNAVAILABLE;
}

/* Shows the status each second. On a terminal each picture is one write and replaces the last one.
 */
static int watch_status(struct cluster *cluster, bool is_json, uint64_t timeout_ms)
{
    static char picture[WATCH_PICTURE_BYTES];
    bool is_redrawn = !is_json && isatty(STDOUT_FILENO);
    if (is_redrawn) {
        setvbuf(stdout, picture, _IOFBF, sizeof(picture));
    }
    int code = stop_catch();
    bool is_first = true;
    while (code == 0 && !stop_is_wanted()) {
        uint64_t next_ns = clock_monotonic_ns(clock_system()) + WATCH_MS * NS_PER_MS;
        if (is_redrawn) {
            fputs(TERMINAL_CLEAR, stdout);
        } else if (!is_json && !is_first) {
            putchar('\n');
        }
        is_first = false;
        int shown = show_status(cluster, is_json, timeout_ms);
        fflush(stdout);
        if (shown == EXIT_USAGE) {
            return shown;
        }
        uint64_t now = 0;
        while (!stop_is_wanted() && (now = clock_monotonic_ns(clock_system())) < next_ns) {
            stop_wait((int)((next_ns - now) / NS_PER_MS) + 1);
        }
    }
    return code;
}

static int run_status(struct cluster *cluster, const struct arguments *arguments)
{
    bool is_watch = (arguments->options & OPTION_WATCH) != 0;
    uint64_t max_ms = is_watch ? WATCH_MS : STATUS_MS_MAX;
    uint64_t timeout_ms = arguments->timeout_ms < max_ms ? arguments->timeout_ms : max_ms;
    return is_watch ? watch_status(cluster, arguments->is_json, timeout_ms)
                    : show_status(cluster, arguments->is_json, timeout_ms);
}

const struct verb verb_status = {
    .name = "status",
    .synopsis = "[-watch]",
    .summary = "Shows all nodes of the cluster",
    .help = "  -watch      once a second, until Ctrl-C\n"
            "\n"
            "Asks each member itself. A node that does not answer within 2 s (with -watch 1 s)\n"
            "is shown as unreachable.\n"
            "\n"
            "  ROLE      leader, follower or candidate, as the node reports\n"
            "  COMMIT    the highest log index that the node knows to be on a majority\n"
            "  APPLIED   the highest log index that the node has applied\n"
            "  LAST      the last index of the node's log\n"
            "  SNAPSHOT  entries of the log up to this index may be deleted\n"
            "  LAG       entries that the node is behind, as the leader knows\n"
            "  CONTACT   time since the leader heard of the node; never: not since the start\n"
            "\n"
            "The exit code is 3 without a quorum; the nodes that answer are shown. -watch ends\n"
            "with 0.\n"
            "\n"
            "Examples:\n"
            "  raftogramctl status\n"
            "  raftogramctl status -o json | jq -r .leaderId\n"
            "  raftogramctl status -watch -addr 10.0.0.1:9000,10.0.0.2:9000\n",
    .options = OPTION_WATCH,
    .run = run_status,
};

/* ---- transfer-leader ---- */

static int run_transfer_leader(struct cluster *cluster, const struct arguments *arguments)
{
    Raftogram__V1__TransferLeadershipRequest request =
        RAFTOGRAM__V1__TRANSFER_LEADERSHIP_REQUEST__INIT;
    Raftogram__V1__TransferLeadershipResponse *response;
    if (arguments->operand_count > 0) {
        request.target_node_id = arguments->operands[0];
    }
    const struct cluster_call call = {
        /* Without a target, each call moves leadership again. */
        .kind = arguments->operand_count > 0 ? CALL_REPEATABLE : CALL_ONCE,
        .path = "/raftogram.v1.Cluster/TransferLeadership",
        .what = arguments->operand_count > 0 ? "node" : NULL,
        .name = request.target_node_id,
        .request = &request.base,
        .response = &raftogram__v1__transfer_leadership_response__descriptor,
    };
    int code = cluster_call(cluster, &call, (ProtobufCMessage **)&response);
    if (code != 0) {
        return code;
    }
    if (arguments->is_json) {
        output_json(&response->base, NULL);
    } else {
        static const char *const headers[] = {"LEADER", "TERM"};
        struct table table = {.headers = headers, .columns = 2};
        table_add_text(&table, response->leader_id);
        table_add_number(&table, response->term);
        table_print(&table);
        table_finish(&table);
    }
    raftogram__v1__transfer_leadership_response__free_unpacked(response, NULL);
    return EXIT_DONE;
}

const struct verb verb_transfer_leader = {
    .name = "transfer-leader",
    .synopsis = "[NODE]",
    .summary = "Hands leadership to NODE, or to the best follower",
    .help =
        "Writes wait meanwhile. Use it before maintenance of the leader. A leader that stops by\n"
        "SIGTERM hands over by itself.\n"
        "\n"
        "Examples:\n"
        "  raftogramctl transfer-leader\n"
        "  raftogramctl transfer-leader node2\n",
    .operands_max = 1,
    .first_operand = "node",
    .run = run_transfer_leader,
};
