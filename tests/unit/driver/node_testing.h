/* Several drivers in one process under virtual time: the driver and all below it as they are, with
 * logs in memory, stores in memory, and streams between them that a test can hold, cut and mend. */
#ifndef RAFTOGRAM_TESTS_NODE_TESTING_H
#define RAFTOGRAM_TESTS_NODE_TESTING_H

#include "base/errors.h"
#include "base/log.h"
#include "chat/command.h"
#include "driver/node.h"
#include "driver/node_internal.h"
#include "lib/fs_memory.h"
#include "lib/store_memory.h"
#include "peer/wire.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum { NET_MEMBERS = 3, NET_CALLS_MAX = 1024 };
#define NET_SEGMENT_BYTES (4u << 20)

static const char *const net_names[NET_MEMBERS] = {"node1", "node2", "node3"};

struct net;

/* The stream that one node has dialled to another. */
struct net_link {
    bool is_up;
    bool is_held;  /* what is sent waits in `events` */
    bool is_stuck; /* what is sent does not even leave */
    struct peer_unsent unsent;
    uint64_t epoch;
    struct buf batch;
    struct list events;
};

struct net_node {
    struct transport transport;
    struct net *net;
    int self;
    struct fs_memory *memory;
    struct wal *wal;
    struct store *store;
    struct chat *chat;
    struct node *node;
    bool is_fresh;
    unsigned command_format;
    struct net_link links[NET_MEMBERS];
    uint64_t forwards_max; /* more forward requests than so many are not taken; 0: all are */
    uint64_t forwards_taken;
};

struct net {
    struct clock clock;
    uint64_t now_ns;
    struct net_node nodes[NET_MEMBERS];
    int odd_one;             /* whose hashes differ from all others'; -1: nobody's */
    bool is_odd_in_contents; /* not in its results */
    int older_one;           /* which does not know the contents; -1: none */
};

struct net_event {
    struct peer_event event;
    struct buf wire;
    struct raft_entry *entries;
};

/* ---- clock ---- */

static uint64_t net_monotonic_ns(const struct clock *clock)
{
    return ((const struct net *)(const void *)clock)->now_ns;
}

static int64_t net_wall_ms(const struct clock *clock)
{
    return (int64_t)(net_monotonic_ns(clock) / NS_PER_MS);
}

/* ---- streams ---- */

static void net_release(struct peer_event *event)
{
    struct net_event *held = (struct net_event *)(void *)event;
    buf_finish(&held->wire);
    free(held->entries);
    if (event->kind == PEER_EVENT_MESSAGES) {
        free(event->messages.items);
    }
    free(held);
}

static struct net_event *net_make_event(enum peer_event_kind kind, int from, uint64_t epoch)
{
    struct net_event *made = calloc(1, sizeof(*made));
    assert_non_null(made);
    made->event =
        (struct peer_event){.kind = kind, .peer = from, .epoch = epoch, .release = net_release};
    list_init(&made->event.link);
    return made;
}

static struct net_node *net_of(struct transport *transport)
{
    return (struct net_node *)(void *)transport;
}

static struct peer_header net_header(const struct net_node *from, int to)
{
    return (struct peer_header){
        .format_version = PEER_FORMAT_VERSION,
        .from_node_id = bytes_of_text(net_names[from->self]),
        .to_node_id = bytes_of_text(net_names[to]),
    };
}

static int net_send(struct transport *transport, raft_member to, const struct peer_message *message)
{
    struct net_node *from = net_of(transport);
    struct net_link *link = &from->links[to];
    if (!link->is_up) {
        return ERR_CLOSED;
    }
    if (message->kind == PEER_MESSAGE_FORWARD_REQUEST) {
        if (from->forwards_max != 0 && from->forwards_taken == from->forwards_max) {
            return ERR_CLOSED;
        }
        from->forwards_taken++;
        if (link->unsent.count++ == 0) {
            link->unsent.first = message->forward_request.id;
        }
    }
    struct peer_message odd = *message;
    if (message->kind == PEER_MESSAGE_APPLY_HASH &&
        (from->self == from->net->odd_one || to == from->net->odd_one)) {
        if (from->net->is_odd_in_contents) {
            odd.apply_hash.contents ^= 1;
        } else {
            odd.apply_hash.hash ^= 1;
        }
    }
    if (message->kind == PEER_MESSAGE_APPLY_HASH) {
        assert_true(message->apply_hash.contents != 0);
        if (from->self == from->net->older_one || to == from->net->older_one) {
            odd.apply_hash.contents = 0;
        }
    }
    if (link->batch.size == 0) {
        struct peer_header header = net_header(from, to);
        peer_header_write(&header, buf_extend(&link->batch, peer_header_size(&header)));
    }
    return peer_message_append(&odd, bytes_of_text(net_names[from->self]), &link->batch);
}

static void net_deliver(struct net *net, struct net_node *from, int to)
{
    struct net_link *link = &from->links[to];
    struct list *waiting;
    while (link->is_up && !link->is_held && (waiting = list_pop_front(&link->events)) != NULL) {
        node_post_event(net->nodes[to].node, LIST_ENTRY(waiting, struct peer_event, link));
    }
}

static void net_flush_to(struct net_node *from, int to)
{
    struct net_link *link = &from->links[to];
    if (link->batch.size == 0 || link->is_stuck) {
        return;
    }
    link->unsent = (struct peer_unsent){0};
    struct net_event *made = net_make_event(PEER_EVENT_MESSAGES, from->self, link->epoch);
    made->wire = link->batch;
    link->batch = (struct buf){0};
    struct peer_batch batch;
    assert_int_equal(peer_batch_scan(buf_bytes(&made->wire), &batch), 0);
    made->event.messages.count = batch.message_count;
    made->event.messages.items =
        calloc(batch.message_count + 1, sizeof(*made->event.messages.items));
    made->entries = calloc(batch.entry_count + 1, sizeof(*made->entries));
    struct peer_sender sender = {from->self, bytes_of_text(net_names[from->self])};
    const char *why = NULL;
    assert_int_equal(peer_batch_read(buf_bytes(&made->wire), &sender, made->event.messages.items,
                                     made->entries, &why),
                     0);
    list_push_back(&link->events, &made->event.link);
    net_deliver(from->net, from, to);
}

static void net_flush(struct transport *transport)
{
    for (int to = 0; to < NET_MEMBERS; to++) {
        net_flush_to(net_of(transport), to);
    }
}

static void net_set_cluster_id(struct transport *transport, const uint8_t *cluster_id)
{
}

static void net_set_not_fresh(struct transport *transport)
{
    net_of(transport)->is_fresh = false;
}

static void net_set_incarnation(struct transport *transport, uint64_t incarnation);

static int net_snapshot_open(struct transport *transport, raft_member to, uint64_t epoch,
                             raft_term term, struct bytes manifest)
{
    return ERR_CLOSED;
}

static void net_snapshot_chunk(struct transport *transport, raft_member to, uint64_t epoch,
                               uint32_t chunk, struct bytes data)
{
}

static void net_snapshot_close(struct transport *transport, raft_member to, uint64_t epoch)
{
}

static void net_snapshot_answer(struct transport *transport, raft_member from, uint64_t epoch,
                                const struct peer_snapshot_answer *answer)
{
}

static const struct transport_ops net_ops = {
    .send = net_send,
    .flush = net_flush,
    .set_cluster_id = net_set_cluster_id,
    .set_not_fresh = net_set_not_fresh,
    .set_incarnation = net_set_incarnation,
    .snapshot_open = net_snapshot_open,
    .snapshot_chunk = net_snapshot_chunk,
    .snapshot_close = net_snapshot_close,
    .snapshot_answer = net_snapshot_answer,
};

/* The stream `from` -> `to` stands, and both ends know. */
static inline void net_connect(struct net *net, int from, int to)
{
    struct net_link *link = &net->nodes[from].links[to];
    if (link->is_up || from == to) {
        return;
    }
    link->is_up = true;
    link->epoch++;
    struct net_event *hello = net_make_event(PEER_EVENT_HELLO, from, link->epoch);
    hello->event.hello.incarnation = wal_hard_state(net->nodes[from].wal)->incarnation;
    hello->event.hello.is_fresh = net->nodes[from].is_fresh;
    hello->event.hello.command_format = net->nodes[from].command_format;
    node_post_event(net->nodes[to].node, &hello->event);
    node_post_event(net->nodes[from].node,
                    &net_make_event(PEER_EVENT_DIAL_UP, to, link->epoch)->event);
}

/* What is on the stream is lost. */
static inline void net_cut(struct net *net, int from, int to)
{
    struct net_link *link = &net->nodes[from].links[to];
    if (!link->is_up) {
        return;
    }
    link->is_up = false;
    link->is_held = false;
    link->is_stuck = false;
    buf_finish(&link->batch);
    link->batch = (struct buf){0};
    struct list *waiting;
    while ((waiting = list_pop_front(&link->events)) != NULL) {
        net_release(LIST_ENTRY(waiting, struct peer_event, link));
    }
    node_post_event(net->nodes[to].node,
                    &net_make_event(PEER_EVENT_STREAM_LOST, from, link->epoch)->event);
    struct net_event *lost = net_make_event(PEER_EVENT_DIAL_LOST, to, link->epoch);
    lost->event.dial_lost.unsent = link->unsent;
    link->unsent = (struct peer_unsent){0};
    node_post_event(net->nodes[from].node, &lost->event);
}

static void net_set_incarnation(struct transport *transport, uint64_t incarnation)
{
    struct net_node *node = net_of(transport);
    assert_int_equal(wal_hard_state(node->wal)->incarnation, incarnation);
    for (int to = 0; to < NET_MEMBERS; to++) {
        if (node->links[to].is_up) {
            net_cut(node->net, node->self, to);
            net_connect(node->net, node->self, to);
        }
    }
}

/* A newer stream takes the place of the one that stands; what is on that is lost. The end of the
 * older one is the test's to post. */
static inline void net_replace(struct net *net, int from, int to)
{
    struct net_link *link = &net->nodes[from].links[to];
    struct list *waiting;
    while ((waiting = list_pop_front(&link->events)) != NULL) {
        net_release(LIST_ENTRY(waiting, struct peer_event, link));
    }
    link->is_up = false;
    link->is_held = false;
    node_post_event(net->nodes[from].node,
                    &net_make_event(PEER_EVENT_DIAL_LOST, to, link->epoch)->event);
    net_connect(net, from, to);
}

static inline void net_hold(struct net *net, int from, int to, bool is_held)
{
    net->nodes[from].links[to].is_held = is_held;
    net_deliver(net, &net->nodes[from], to);
}

static inline void net_isolate(struct net *net, int member)
{
    for (int other = 0; other < NET_MEMBERS; other++) {
        net_cut(net, member, other);
        net_cut(net, other, member);
    }
}

static inline void net_rejoin(struct net *net, int member)
{
    for (int other = 0; other < NET_MEMBERS; other++) {
        net_connect(net, member, other);
        net_connect(net, other, member);
    }
}

/* ---- nodes ---- */

/* With what is in its memory; the state machine begins anew. */
static void net_start_node(struct net *net, int self)
{
    struct net_node *node = &net->nodes[self];
    struct wal_options options = {.fs = fs_memory_fs(node->memory), .dir = "/log"};
    struct wal_report report;
    assert_int_equal(wal_open(&options, &node->wal, &report), 0);
    if (report.condition == WAL_NEW) {
        const struct wal_hard_state state = {.incarnation = 1000u + (unsigned)self};
        assert_int_equal(wal_stage_hard_state(node->wal, &state), 0);
        assert_int_equal(wal_commit(node->wal), 0);
    }
    assert_int_equal(store_memory_create(&node->store), 0);
    assert_int_equal(chat_create(node->store, &node->chat), 0);
    struct cluster_member members[NET_MEMBERS];
    for (int i = 0; i < NET_MEMBERS; i++) {
        members[i].node_id = net_names[i];
    }
    struct node_options node_options = {
        .members = members,
        .member_count = NET_MEMBERS,
        .self = self,
        .election_timeout_ns = 500 * NS_PER_MS,
        .heartbeat_interval_ns = 50 * NS_PER_MS,
        .requests_max = NET_CALLS_MAX,
        .seed = 7u + (unsigned)self,
        .clock = &net->clock,
        .wal = node->wal,
        .chat = node->chat,
        .new_cluster_id = {1},
    };
    char error[256];
    assert_int_equal(node_create(&node_options, &node->node, error, sizeof(error)), 0);
    node_attach(node->node, &node->transport);
}

static void net_open_node(struct net *net, int self)
{
    struct net_node *node = &net->nodes[self];
    node->transport.ops = &net_ops;
    node->net = net;
    node->self = self;
    node->is_fresh = true;
    node->command_format = COMMAND_FORMAT_VERSION;
    node->memory = fs_memory_create();
    for (int i = 0; i < NET_MEMBERS; i++) {
        list_init(&node->links[i].events);
    }
    net_start_node(net, self);
}

static void net_stop_node(struct net *net, int self)
{
    struct net_node *node = &net->nodes[self];
    net_isolate(net, self);
    node_fail_all(node->node);
    node_destroy(node->node);
    chat_destroy(node->chat);
    node->store->ops->close(node->store);
    wal_close(node->wal);
}

static struct net *net_create(void)
{
    struct net *net = calloc(1, sizeof(*net));
    assert_non_null(net);
    net->clock = (struct clock){net_monotonic_ns, net_wall_ms};
    net->now_ns = NS_PER_S;
    net->odd_one = -1;
    net->older_one = -1;
    for (int i = 0; i < NET_MEMBERS; i++) {
        net_open_node(net, i);
    }
    for (int i = 0; i < NET_MEMBERS; i++) {
        net_rejoin(net, i);
    }
    return net;
}

static void net_destroy(struct net *net)
{
    for (int i = 0; i < NET_MEMBERS; i++) {
        net_isolate(net, i);
    }
    for (int i = 0; i < NET_MEMBERS; i++) {
        struct net_node *node = &net->nodes[i];
        net_stop_node(net, i);
        fs_memory_destroy(node->memory);
        for (int to = 0; to < NET_MEMBERS; to++) {
            buf_finish(&node->links[to].batch);
        }
    }
    free(net);
}

/* ---- time ---- */

static inline void net_turn(struct net *net, int member)
{
    (void)node_turn(net->nodes[member].node, net->now_ns);
    const char *fatal = node_fatal(net->nodes[member].node);
    if (fatal != NULL) {
        fail_msg("%s ends: %s", net_names[member], fatal);
    }
}

static inline void net_run(struct net *net, uint64_t duration_ns)
{
    for (uint64_t end_ns = net->now_ns + duration_ns; net->now_ns < end_ns;
         net->now_ns += NS_PER_MS) {
        for (int i = 0; i < NET_MEMBERS; i++) {
            net_turn(net, i);
        }
    }
}

static inline struct node_status net_status(const struct net *net, int member)
{
    struct node_status status;
    node_get_status(net->nodes[member].node, &status);
    return status;
}

/* Until one leads and has committed something of its own. */
static inline int net_await_leader(struct net *net)
{
    for (int i = 0; i < 10000; i++) {
        for (int member = 0; member < NET_MEMBERS; member++) {
            struct node_status status = net_status(net, member);
            if (status.raft.role == RAFT_LEADER && status.raft.is_ready && status.is_ready) {
                return member;
            }
        }
        net_run(net, NS_PER_MS);
    }
    fail_msg("no leader");
    return -1;
}

/* ---- calls ---- */

struct net_call {
    struct node_request request;
    struct buf command;
    bool is_done;
    unsigned order; /* in which it was done, from 1 */
};

static unsigned net_done_count;
static uint64_t *net_done_clock; /* NULL, or what each answer takes its time from: */
static uint64_t net_done_ns;

static void net_done(struct node_request *request)
{
    struct net_call *call = (struct net_call *)(void *)request;
    call->is_done = true;
    call->order = ++net_done_count;
    if (net_done_clock != NULL) {
        *net_done_clock += net_done_ns;
    }
}

static inline void net_call_command(struct net *net, int member, struct net_call *call,
                                    const struct command *command)
{
    *call = (struct net_call){0};
    command_encode(command, &call->command);
    call->request = (struct node_request){
        .kind = NODE_REQUEST_COMMAND,
        .deadline_ns = UINT64_MAX,
        .may_forward = true,
        .command = call->command.data,
        .command_size = (uint32_t)call->command.size,
        .done = net_done,
    };
    assert_int_equal(node_submit(net->nodes[member].node, &call->request), 0);
}

static inline void net_call_bytes(struct net *net, int member, struct net_call *call,
                                  struct bytes value)
{
    struct command command = {.kind = COMMAND_KV_SET, .key = bytes_of_text("key"), .value = value};
    net_call_command(net, member, call, &command);
}

/* Sends the message of that client message id to the channel "c". */
static inline void net_send_message(struct net *net, int member, struct net_call *call,
                                    const char *client_message_id)
{
    struct command command = {.kind = COMMAND_SEND_MESSAGE,
                              .channel_id = bytes_of_text("c"),
                              .client_message_id = bytes_of_text(client_message_id),
                              .payload = bytes_of_text("hello")};
    net_call_command(net, member, call, &command);
    call->request.may_repeat = true;
}

/* Sends a batch of `count` messages to the channel "c"; their client ids are the text and a number.
 */
static inline void net_send_batch(struct net *net, int member, struct net_call *call,
                                  const char *client_message_id, int count)
{
    char ids[8][32];
    struct buf encoded = {0};
    struct command_batch batch;
    command_batch_begin(&batch, &encoded);
    for (int i = 0; i < count; i++) {
        snprintf(ids[i], sizeof(ids[i]), "%s-%d", client_message_id, i);
        const struct command message = {.kind = COMMAND_SEND_MESSAGE,
                                        .channel_id = bytes_of_text("c"),
                                        .client_message_id = bytes_of_text(ids[i]),
                                        .payload = bytes_of_text("hello")};
        command_batch_add(&batch, &message);
    }
    struct command command;
    assert_int_equal(command_decode(buf_bytes(&encoded), &command), 0);
    net_call_command(net, member, call, &command);
    call->request.may_repeat = true;
    buf_finish(&encoded);
}

/* A command without effect but its place in the log: sets a key to a text. */
static inline void net_call(struct net *net, int member, struct net_call *call, const char *value)
{
    net_call_bytes(net, member, call, bytes_of_text(value));
}

static inline void net_finish_call(struct net_call *call)
{
    assert_true(call->is_done);
    buf_finish(&call->command);
}

/* Asks `from` to hand over; `transfer` is done when that has ended. */
static inline void net_create_channel(struct net *net, int member)
{
    struct net_call call;
    struct command command = {.kind = COMMAND_CREATE_CHANNEL, .channel_id = bytes_of_text("c")};
    net_call_command(net, member, &call, &command);
    net_run(net, 50 * NS_PER_MS);
    assert_true(call.is_done);
    assert_int_equal(call.request.outcome, NODE_OK);
    net_finish_call(&call);
}

static inline void net_ask_to_hand_over(struct net *net, int from, int to,
                                        struct net_call *transfer)
{
    *transfer = (struct net_call){0};
    transfer->request = (struct node_request){.kind = NODE_REQUEST_TRANSFER,
                                              .deadline_ns = UINT64_MAX,
                                              .transfer_target = to,
                                              .done = net_done};
    assert_int_equal(node_submit(net->nodes[from].node, &transfer->request), 0);
}

/* Hands over; how that ended is the outcome. */
static inline enum node_outcome net_hand_over(struct net *net, int from, int to)
{
    struct net_call transfer;
    net_ask_to_hand_over(net, from, to, &transfer);
    for (int i = 0; i < 20000 && !transfer.is_done; i++) {
        net_run(net, NS_PER_MS);
    }
    assert_true(transfer.is_done);
    return transfer.request.outcome;
}

/* The values of all commands in the log of the member, in order, separated by blanks. */
static inline void net_log_text(struct net *net, int member, char *out, size_t size)
{
    struct wal *wal = net->nodes[member].wal;
    size_t used = 0;
    out[0] = '\0';
    for (uint64_t index = wal_first_index(wal); index <= wal_last_index(wal); index++) {
        struct wal_entry entry;
        struct command command;
        assert_int_equal(wal_read(wal, index, &entry), 0);
        if (entry.type == RAFT_ENTRY_COMMAND && entry.data.size > 0 &&
            command_decode(entry.data, &command) == 0) {
            used += (size_t)snprintf(out + used, size - used, "%s%.*s", used == 0 ? "" : " ",
                                     (int)command.value.size, (const char *)command.value.data);
        }
    }
}

#endif
