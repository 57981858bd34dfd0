/* Clients, and the two checks of what they are told.
 *
 * Linearizability: the order of the log is the witness. Each answer names, or allows, places in it:
 * a write the entry in which it took effect, a read any state that shows what it has read. The
 * smallest allowed place is taken that is not before the place of any operation that had ended when
 * this one began; if there is none, no order exists. (The smallest is the best choice: it
 * constrains the later ones least. So this is exact, and needs no search.)
 *
 * Exactly once: a command without client_message_id is in the log once at most, and not at all when
 * its client was told so; one with it may be repeated, and is one message. */
#include "base/check.h"
#include "base/errors.h"
#include "node_sim.h"

#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define TRIES_MAX 3 /* of what may not be repeated, after it was certainly not done */
#define PAGE_LIMIT 50
#define BATCH_MAX 5
#define BATCH_PAYLOAD_BYTES_MAX 500 /* of one message */
#define CHANNEL_MISSING UINT_MAX

enum operation_kind {
    OP_CREATE,
    OP_SEND,
    OP_SEND_ONCE, /* with a client_message_id: repeated until it is answered */
    OP_BATCH,
    OP_BATCH_ONCE, /* with client_message_ids */
    OP_SET,
    OP_DELETE,
    OP_GET,
    OP_READ,
    OP_KINDS,
};

/* One message of a batch. */
struct batch_item {
    sim_operation operation;
    unsigned channel; /* CHANNEL_MISSING: one that does not exist */
    bool is_repeated; /* the same as the batch's first message */
};

struct client {
    struct sim *sim;
    int id;
    bool is_busy;
    enum operation_kind kind;
    sim_operation operation;
    unsigned channel;
    unsigned key;
    uint64_t after; /* READ */
    struct batch_item items[BATCH_MAX];
    size_t item_count;
    raft_index floor;
    unsigned tries;
    struct attempt *attempt; /* the one that counts */
};

/* One request at one node. */
struct attempt {
    struct node_request request; /* first */
    struct list link;
    struct client *client;
    struct sim_node *node;
    uint64_t life;
    struct buf command;
    bool is_lost; /* the node died first */
    char name[64];
    uint8_t items[BATCH_MAX * COMMAND_ITEM_BYTES];
    bool was_read; /* all below: what a read found */
    sim_operation value;
    bool is_found;
    struct message_page *page;
};

struct subscriber {
    struct hub_subscription hub; /* first */
    struct node_request request;
    struct list link; /* in its node's, while open */
    struct sim *sim;
    struct sim_node *node;
    uint64_t life;
    unsigned channel;
    uint64_t after;
    bool is_open;
    bool is_asking;
    int id;
};

struct sim_clients {
    struct client clients[8];
    struct subscriber subscribers[4];
    struct list attempts;
    sim_operation last_operation;
    unsigned operations;
    unsigned acknowledged;
    bool is_winding_up;
    raft_index floor; /* the highest place of an operation that has ended */
    uint8_t *refused; /* by operation: its client was told that it was not done */
    size_t refused_capacity;
    uint8_t *once; /* by operation: it has no client_message_id */
};

static void schedule_next(struct client *client, uint64_t delay_ns);
static void schedule_open(struct subscriber *subscriber, uint64_t delay_ns);

static const char *const kind_names[] = {"create", "send",   "send-once", "batch", "batch-once",
                                         "set",    "delete", "get",       "read"};

/* ---- operations ---- */

static sim_operation new_operation(struct sim_clients *clients, enum operation_kind kind)
{
    sim_operation operation = ++clients->last_operation;
    if (operation >= clients->refused_capacity) {
        size_t capacity = 2 * (size_t)operation + 64;
        clients->refused = realloc(clients->refused, capacity);
        clients->once = realloc(clients->once, capacity);
        CHECK(clients->refused != NULL);
        CHECK(clients->once != NULL);
        memset(clients->refused + clients->refused_capacity, 0,
               capacity - clients->refused_capacity);
        memset(clients->once + clients->refused_capacity, 0, capacity - clients->refused_capacity);
        clients->refused_capacity = capacity;
    }
    clients->once[operation] = kind != OP_SEND_ONCE && kind != OP_BATCH_ONCE;
    return operation;
}

static bool is_batch(const struct client *client)
{
    return client->kind == OP_BATCH || client->kind == OP_BATCH_ONCE;
}

/* Makes new operations: one, or one for each message of a batch. */
static void begin_operation(struct client *client)
{
    struct sim *sim = client->sim;
    struct sim_clients *clients = sim->clients;
    client->operation = new_operation(clients, client->kind);
    if (!is_batch(client)) {
        return;
    }
    client->item_count = 1 + sim_below(sim, BATCH_MAX);
    for (size_t i = 0; i < client->item_count; i++) {
        bool is_repeated = client->kind == OP_BATCH_ONCE && i > 0 && sim_one_in(sim, 5);
        client->items[i] = (struct batch_item){
            .operation =
                i == 0 || is_repeated ? client->operation : new_operation(clients, client->kind),
            .channel = (unsigned)sim_below(sim, sim->levels.channel_count),
            .is_repeated = is_repeated,
        };
        if (is_repeated) {
            client->items[i].channel = client->items[0].channel;
        } else if (i > 0 && sim_one_in(sim, 12)) {
            client->items[i].channel = CHANNEL_MISSING;
        }
    }
}

static void encode_batch(const struct client *client, struct buf *out)
{
    struct command_batch batch;
    char channels[BATCH_MAX][16];
    command_batch_begin(&batch, out);
    for (size_t i = 0; i < client->item_count; i++) {
        const struct batch_item *item = &client->items[i];
        char client_id[32] = "";
        uint8_t payload[8 + BATCH_PAYLOAD_BYTES_MAX] = {0};
        if (item->channel == CHANNEL_MISSING) {
            snprintf(channels[i], sizeof(channels[i]), "missing");
        } else {
            snprintf(channels[i], sizeof(channels[i]), "c%u", item->channel);
        }
        if (client->kind == OP_BATCH_ONCE) {
            snprintf(client_id, sizeof(client_id), "m%llu", (unsigned long long)item->operation);
        }
        store_u64(payload, item->operation);
        uint64_t size = sim_below(client->sim, client->sim->levels.payload_bytes_max);
        const struct command message = {
            .kind = COMMAND_SEND_MESSAGE,
            .channel_id = bytes_of_text(channels[i]),
            .author_id = bytes_of_text("a"),
            .client_message_id = bytes_of_text(client_id),
            .payload = {payload, 8 + size % BATCH_PAYLOAD_BYTES_MAX},
        };
        command_batch_add(&batch, &message);
    }
    CHECK(!buf_failed(out));
}

static void encode(const struct client *client, struct buf *out)
{
    struct sim *sim = client->sim;
    if (is_batch(client)) {
        encode_batch(client, out);
        return;
    }
    char channel[16];
    char key[16];
    char text[32];
    char client_id[32];
    uint8_t payload[4096] = {0};
    snprintf(channel, sizeof(channel), "c%u", client->channel);
    snprintf(key, sizeof(key), "k%u", client->key);
    snprintf(client_id, sizeof(client_id), "m%llu", (unsigned long long)client->operation);
    struct command command = {
        .channel_id = bytes_of_text(channel),
        .author_id = bytes_of_text("a"),
        .key = bytes_of_text(key),
    };
    store_u64(payload, client->operation);
    command.payload = (struct bytes){payload, 8 + sim_below(sim, sim->levels.payload_bytes_max)};
    switch (client->kind) {
    case OP_CREATE:
        command.kind = COMMAND_CREATE_CHANNEL;
        snprintf(text, sizeof(text), "op%llu", (unsigned long long)client->operation);
        command.name = bytes_of_text(text);
        break;
    case OP_SEND:
    case OP_SEND_ONCE:
        command.kind = COMMAND_SEND_MESSAGE;
        command.client_message_id = bytes_of_text(client->kind == OP_SEND ? "" : client_id);
        break;
    case OP_SET:
        command.kind = COMMAND_KV_SET;
        snprintf(text, sizeof(text), "%llu", (unsigned long long)client->operation);
        command.value = bytes_of_text(text);
        break;
    default:
        command.kind = COMMAND_KV_DELETE;
        break;
    }
    command_encode(&command, out);
    CHECK(!buf_failed(out));
}

/* ---- places in the log ---- */

static void end_operation(struct client *client)
{
    client->is_busy = false;
    client->attempt = NULL;
    schedule_next(client, sim_between(client->sim, 0, 2 * client->sim->levels.think_ns));
}

/* The operation has ended, and its place is known. */
static void settle(struct client *client, raft_index place)
{
    struct sim *sim = client->sim;
    struct sim_clients *clients = sim->clients;
    sim_trace(sim, "client %d %s op %llu done at %llu", client->id, kind_names[client->kind],
              (unsigned long long)client->operation, (unsigned long long)place);
    if (place < client->floor || place == 0) {
        sim_violation(sim,
                      "linearizability: %s op %llu on %s shows %llu, but what ended before it "
                      "began stands at %llu",
                      kind_names[client->kind], (unsigned long long)client->operation,
                      client->attempt->node->name, (unsigned long long)place,
                      (unsigned long long)client->floor);
    }
    clients->floor = place > clients->floor ? place : clients->floor;
    clients->acknowledged++;
    sim_note(sim, place);
    end_operation(client);
}

/* Whether the message's channel was there before the batch was sent. */
static bool had_channel(const struct client *client, const struct batch_item *item)
{
    raft_index created = item->channel == CHANNEL_MISSING
                             ? 0
                             : sim_check_channel_created(client->sim, item->channel);
    return created != 0 && created <= client->floor;
}

static void check_refused_batch(struct client *client, const struct command_result *result)
{
    struct sim *sim = client->sim;
    if (result->item >= client->item_count || had_channel(client, &client->items[result->item])) {
        sim_violation(sim, "batch of op %llu was told that message %u has no channel",
                      (unsigned long long)client->operation, result->item);
    }
    for (size_t i = 0; i < client->item_count; i++) {
        raft_index index;
        uint64_t sequence;
        if (sim_check_find(sim, client->items[i].operation, &index, &sequence)) {
            sim_violation(sim, "batch of op %llu was refused, and op %llu is stored",
                          (unsigned long long)client->operation,
                          (unsigned long long)client->items[i].operation);
        }
    }
    end_operation(client);
}

static void check_batch(struct client *client, const struct command_result *result)
{
    struct sim *sim = client->sim;
    raft_index place = 0;
    if (result->outcome == COMMAND_CHANNEL_NOT_FOUND) {
        check_refused_batch(client, result);
        return;
    }
    if (result->outcome != COMMAND_OK || command_result_item_count(result) != client->item_count) {
        sim_violation(sim, "batch of op %llu has another result",
                      (unsigned long long)client->operation);
    }
    for (size_t i = 0; i < client->item_count; i++) {
        const struct batch_item *item = &client->items[i];
        struct command_item told = command_result_item(result, i);
        raft_index index = 0;
        uint64_t sequence = 0;
        bool is_found = sim_check_find(sim, item->operation, &index, &sequence);
        place = i == 0 ? index : place;
        if (!is_found || index != place) {
            sim_violation(sim, "batch of op %llu is stored at %llu, op %llu of it at %llu",
                          (unsigned long long)client->operation, (unsigned long long)place,
                          (unsigned long long)item->operation, (unsigned long long)index);
        }
        bool is_flag_wrong = told.deduplicated ? client->kind == OP_BATCH : item->is_repeated;
        if (told.sequence != sequence || is_flag_wrong) {
            sim_violation(sim, "op %llu of a batch was told that it is message %llu%s, it is %llu",
                          (unsigned long long)item->operation, (unsigned long long)told.sequence,
                          told.deduplicated ? " and deduplicated" : "",
                          (unsigned long long)sequence);
        }
    }
    settle(client, place);
}

static void check_write(struct client *client, const struct command_result *result)
{
    struct sim *sim = client->sim;
    raft_index index = 0;
    uint64_t sequence = 0;
    unsigned long long operation = client->operation;
    if (client->kind == OP_DELETE) {
        settle(client, sim_check_delete_index(sim, client->key, client->floor));
        return;
    }
    bool is_found = sim_check_find(sim, client->operation, &index, &sequence);
    if (result->outcome == COMMAND_CHANNEL_NOT_FOUND) {
        raft_index created = sim_check_channel_created(sim, client->channel);
        if (is_found || (created != 0 && created <= client->floor)) {
            sim_violation(sim, "op %llu was told that there is no channel", operation);
        }
        end_operation(client);
        return;
    }
    if (result->outcome != COMMAND_OK || !is_found) {
        sim_violation(sim, "op %llu was acknowledged and is not in the log", operation);
    }
    if ((client->kind == OP_SEND || client->kind == OP_SEND_ONCE) && result->sequence != sequence) {
        sim_violation(sim, "op %llu was told that it is message %llu, it is %llu", operation,
                      (unsigned long long)result->sequence, (unsigned long long)sequence);
    }
    if (client->kind == OP_SEND && result->deduplicated) {
        sim_violation(sim, "op %llu has no client_message_id and was deduplicated", operation);
    }
    if (client->kind == OP_CREATE) {
        char name[32];
        sim_operation creator = sim_check_channel_creator(sim, client->channel);
        snprintf(name, sizeof(name), "op%llu", (unsigned long long)creator);
        if (result->created != (creator == client->operation) ||
            !bytes_equal(result->name, bytes_of_text(name))) {
            sim_violation(sim, "op %llu was told of another channel", operation);
        }
    }
    settle(client, index);
}

/* ---- reads ---- */

static void read_value(struct attempt *attempt, struct chat *chat)
{
    char key[16];
    struct buf value = {0};
    snprintf(key, sizeof(key), "k%u", attempt->client->key);
    int rc = chat_get_value(chat, bytes_of_text(key), &value);
    CHECK(rc == 0 || rc == ERR_NOT_FOUND);
    attempt->value = rc == 0 ? strtoull(buf_text(&value), NULL, 10) : 0;
    buf_finish(&value);
}

static void read_history(struct attempt *attempt, struct chat *chat)
{
    char id[16];
    struct channel_info info;
    snprintf(id, sizeof(id), "c%u", attempt->client->channel);
    int rc = chat_find_channel(chat, bytes_of_text(id), &info);
    CHECK(rc == 0 || rc == ERR_NOT_FOUND);
    attempt->is_found = rc == 0;
    if (attempt->is_found) {
        rc = chat_read_page(chat, info.number, attempt->client->after, PAGE_LIMIT, &attempt->page);
        CHECK(rc == 0);
    }
}

/* As dispatch's reader does once the barrier is reached: at once, or a little later. */
static void read_now(struct attempt *attempt)
{
    struct chat *chat = attempt->node->boot.chat;
    attempt->was_read = true;
    if (attempt->client->kind == OP_GET) {
        read_value(attempt, chat);
    } else {
        read_history(attempt, chat);
    }
}

static void check_value(struct client *client, const struct attempt *attempt)
{
    raft_index from = client->floor == 0 ? 1 : client->floor;
    settle(client, sim_check_value_index(client->sim, client->key, attempt->value, from));
}

static void check_message(struct sim *sim, unsigned channel, uint64_t sequence,
                          const struct message *message, const char *who)
{
    sim_operation operation = load_u64(message_payload(message).data);
    if (message->sequence != sequence || sim_check_message(sim, channel, sequence) != operation) {
        sim_violation(sim, "%s of c%u: message %llu is op %llu where message %llu, op %llu is due",
                      who, channel, (unsigned long long)message->sequence,
                      (unsigned long long)operation, (unsigned long long)sequence,
                      (unsigned long long)sim_check_message(sim, channel, sequence));
    }
}

/* A page shows the states from its last message on, and before the next one. */
static void check_page(struct client *client, const struct message_page *page)
{
    struct sim *sim = client->sim;
    raft_index place = sim_check_channel_created(sim, client->channel);
    uint64_t last = client->after;
    for (size_t i = 0; i < page->count; i++) {
        check_message(sim, client->channel, ++last, page->messages[i], "history");
    }
    if (page->count > 0) {
        place = sim_check_message_index(sim, client->channel, last);
    }
    raft_index next = sim_check_message_index(sim, client->channel, last + 1);
    if (page->has_more) {
        place = next;
        next = 0;
    }
    place = place > client->floor ? place : client->floor;
    if (next != 0 && place >= next) {
        sim_violation(sim, "linearizability: history of c%u on %s ends at %llu, but %llu is older",
                      client->channel, client->attempt->node->name, (unsigned long long)last,
                      (unsigned long long)next);
    }
    settle(client, place == 0 ? 1 : place);
}

static void check_history(struct client *client, const struct attempt *attempt)
{
    struct sim *sim = client->sim;
    raft_index created = sim_check_channel_created(sim, client->channel);
    if (attempt->is_found) {
        check_page(client, attempt->page);
        return;
    }
    if (created != 0 && created <= client->floor) {
        sim_violation(sim, "linearizability: c%u is not found, but was created", client->channel);
    }
    settle(client, client->floor == 0 ? 1 : client->floor);
}

/* ---- attempts ---- */

static void begin_attempt(struct client *client);

struct attempt_event {
    struct sim_event event;
    struct attempt *attempt;
};

static void free_attempt(struct attempt *attempt)
{
    list_remove(&attempt->link);
    buf_finish(&attempt->command);
    page_unref(attempt->page);
    free(attempt);
}

struct retry {
    struct sim_event event;
    struct client *client;
};

static void run_retry(struct sim *sim, struct sim_event *event)
{
    (void)sim;
    begin_attempt(((struct retry *)(void *)event)->client);
}

static void retry(struct client *client)
{
    uint64_t delay_ns = sim_between(client->sim, 1 * MS, 100 * MS);
    struct retry *next = sim_after(client->sim, delay_ns, NULL, sizeof(*next), run_retry);
    next->client = client;
}

static bool is_certainly_not_done(enum node_outcome outcome)
{
    return outcome == NODE_NOT_LEADER || outcome == NODE_NO_QUORUM || outcome == NODE_OVERLOADED ||
           outcome == NODE_DISK_FULL || outcome == NODE_DRAINING || outcome == NODE_FORMAT_TOO_NEW;
}

static void fail(struct client *client, const struct attempt *attempt)
{
    struct sim_clients *clients = client->sim->clients;
    bool is_command = client->kind <= OP_DELETE;
    bool is_refused = !attempt->is_lost && is_certainly_not_done(attempt->request.outcome);
    if (client->kind == OP_SEND_ONCE || client->kind == OP_BATCH_ONCE ||
        (!is_command && client->tries < TRIES_MAX)) {
        retry(client);
        return;
    }
    if (is_command && is_refused) {
        clients->refused[client->operation] = 1;
        for (size_t i = 0; is_batch(client) && i < client->item_count; i++) {
            clients->refused[client->items[i].operation] = 1;
        }
        if (++client->tries < TRIES_MAX && client->kind != OP_DELETE) {
            begin_operation(client);
            retry(client);
            return;
        }
    }
    end_operation(client);
}

/* What the client hears, at the time that it hears it. */
static void run_answer(struct sim *sim, struct sim_event *event)
{
    struct attempt *attempt = ((struct attempt_event *)(void *)event)->attempt;
    struct client *client = attempt->client;
    bool is_alive = attempt->node->is_up && attempt->node->life == attempt->life;
    sim_trace(sim, "client %d %s op %llu on %s: outcome %d%s", client->id, kind_names[client->kind],
              (unsigned long long)client->operation, attempt->node->name,
              (int)attempt->request.outcome, attempt->is_lost ? ", lost" : "");
    bool is_read = client->kind == OP_GET || client->kind == OP_READ;
    bool is_done = !attempt->is_lost && attempt->request.outcome == NODE_OK;
    if (is_done && is_read && !attempt->was_read && is_alive) {
        read_now(attempt);
    }
    if (!is_done || (is_read && !attempt->was_read)) {
        fail(client, attempt);
    } else if (client->kind == OP_GET) {
        check_value(client, attempt);
    } else if (client->kind == OP_READ) {
        check_history(client, attempt);
    } else if (is_batch(client)) {
        check_batch(client, &attempt->request.result);
    } else {
        check_write(client, &attempt->request.result);
    }
    free_attempt(attempt);
}

static void attempt_done(struct node_request *request)
{
    struct attempt *attempt = (struct attempt *)(void *)request;
    struct sim_node *node = attempt->node;
    struct sim *sim = node->sim;
    attempt->is_lost = !node->is_up || node->is_dying;
    size_t size = request->result.name.size;
    if (request->outcome == NODE_OK && size > 0 && size <= sizeof(attempt->name)) {
        memcpy(attempt->name, request->result.name.data, size);
        request->result.name.data = attempt->name;
    }
    size = request->result.items.size;
    if (request->outcome == NODE_OK && size > 0 && size <= sizeof(attempt->items)) {
        memcpy(attempt->items, request->result.items.data, size);
        request->result.items.data = attempt->items;
    }
    bool is_read = request->kind == NODE_REQUEST_READ;
    if (is_read && request->outcome == NODE_OK && !attempt->is_lost && sim_one_in(sim, 2)) {
        read_now(attempt);
    }
    uint64_t delay_ns = node->spent_ns + sim_between(sim, 1 * US, 1 * MS);
    struct attempt_event *event = sim_after(sim, delay_ns, NULL, sizeof(*event), run_answer);
    event->attempt = attempt;
}

static void begin_attempt(struct client *client)
{
    struct sim *sim = client->sim;
    struct sim_node *node = sim_any_node(sim);
    if (!node->is_up) {
        retry(client);
        return;
    }
    struct attempt *attempt = calloc(1, sizeof(*attempt));
    CHECK(attempt != NULL);
    list_push_back(&sim->clients->attempts, &attempt->link);
    attempt->client = client;
    attempt->node = node;
    attempt->life = node->life;
    client->attempt = attempt;
    client->tries++;
    struct node_request *request = &attempt->request;
    request->done = attempt_done;
    request->deadline_ns = sim_one_in(sim, 3)
                               ? sim_node_local_ns(node) + sim_between(sim, 20 * MS, 2000 * MS)
                               : UINT64_MAX;
    if (client->kind <= OP_DELETE) {
        encode(client, &attempt->command);
        request->kind = NODE_REQUEST_COMMAND;
        request->may_forward = !sim_one_in(sim, 3);
        request->may_repeat = client->kind == OP_SEND_ONCE || client->kind == OP_BATCH_ONCE;
        request->command = attempt->command.data;
        request->command_size = (uint32_t)attempt->command.size;
    } else {
        request->kind = NODE_REQUEST_READ;
        request->is_leader_only = sim_one_in(sim, 4);
    }
    sim_trace(sim, "client %d %s op %llu to %s", client->id, kind_names[client->kind],
              (unsigned long long)client->operation, node->name);
    if (node_submit(node->node, request) != 0) {
        request->outcome = NODE_OVERLOADED;
        attempt_done(request);
        return;
    }
    sim_node_wake(node);
}

/* ---- clients ---- */

static enum operation_kind choose_kind(struct sim *sim)
{
    static const unsigned weights[OP_KINDS] = {1, 5, 5, 0, 0, 2, 1, 2, 3};
    unsigned dice = (unsigned)sim_below(sim, 19);
    int kind = 0;
    while (dice >= weights[kind]) {
        dice -= weights[kind++];
    }
    bool is_send = kind == OP_SEND || kind == OP_SEND_ONCE;
    if (is_send && sim->levels.has_batches && sim_one_in(sim, 2)) {
        kind += OP_BATCH - OP_SEND;
    }
    return (enum operation_kind)kind;
}

static void run_next(struct sim *sim, struct sim_event *event)
{
    struct client *client = ((struct retry *)(void *)event)->client;
    struct sim_clients *clients = sim->clients;
    if (clients->is_winding_up || clients->operations >= sim->levels.operations_max) {
        return;
    }
    clients->operations++;
    client->is_busy = true;
    client->kind =
        clients->operations <= 2 * sim->levels.channel_count ? OP_CREATE : choose_kind(sim);
    begin_operation(client);
    client->channel = (unsigned)sim_below(sim, sim->levels.channel_count);
    client->key = (unsigned)sim_below(sim, sim->levels.key_count);
    uint64_t end = sim_check_channel_end(sim, client->channel);
    client->after = sim_one_in(sim, 3) ? sim_below(sim, end + 2) : end > 5 ? end - 5 : 0;
    client->floor = clients->floor;
    client->tries = 0;
    begin_attempt(client);
}

static void schedule_next(struct client *client, uint64_t delay_ns)
{
    struct retry *next = sim_after(client->sim, delay_ns, NULL, sizeof(*next), run_next);
    next->client = client;
}

/* ---- subscribers ---- */

static void leave_node(struct subscriber *subscriber)
{
    if (subscriber->is_open) {
        hub_remove(&subscriber->hub);
        list_remove(&subscriber->link);
        subscriber->is_open = false;
    }
}

/* At its new node, whose state is now at least what was committed when it asked. */
static void open_here(struct subscriber *subscriber)
{
    struct sim *sim = subscriber->sim;
    struct sim_node *node = subscriber->node;
    char id[16];
    struct channel_info info;
    snprintf(id, sizeof(id), "c%u", subscriber->channel);
    int rc = chat_find_channel(node->boot.chat, bytes_of_text(id), &info);
    if (rc == ERR_NOT_FOUND && subscriber->after == 0) {
        schedule_open(subscriber, sim_between(sim, 5 * MS, 50 * MS));
        return;
    }
    if (rc != 0 || subscriber->after > info.last_sequence) {
        sim_violation(sim, "subscriber %d is ahead of %s, which was current", subscriber->id,
                      node->name);
    }
    rc = hub_add(&node->listener, &subscriber->hub, info.number, subscriber->after);
    CHECK(rc == 0);
    subscriber->is_open = true;
    list_push_back(&node->subscribers, &subscriber->link);
    hub_make_ready(&subscriber->hub);
}

struct open_event {
    struct sim_event event;
    struct subscriber *subscriber;
};

static void run_opened(struct sim *sim, struct sim_event *event)
{
    struct subscriber *subscriber = ((struct open_event *)(void *)event)->subscriber;
    struct sim_node *node = subscriber->node;
    subscriber->is_asking = false;
    bool is_here = node->is_up && node->life == subscriber->life;
    if (is_here && subscriber->request.outcome == NODE_OK) {
        open_here(subscriber);
    } else {
        schedule_open(subscriber, sim_between(sim, 5 * MS, 100 * MS));
    }
}

static void barrier_done(struct node_request *request)
{
    struct subscriber *subscriber = LIST_ENTRY(request, struct subscriber, request);
    struct sim *sim = subscriber->sim;
    uint64_t delay_ns = subscriber->node->spent_ns + sim_between(sim, 1 * US, 1 * MS);
    struct open_event *event = sim_after(sim, delay_ns, NULL, sizeof(*event), run_opened);
    event->subscriber = subscriber;
}

static void run_open(struct sim *sim, struct sim_event *event)
{
    struct subscriber *subscriber = ((struct open_event *)(void *)event)->subscriber;
    if (subscriber->is_open || subscriber->is_asking) {
        return;
    }
    subscriber->node = sim_any_node(sim);
    if (!subscriber->node->is_up) {
        schedule_open(subscriber, sim_between(sim, 5 * MS, 100 * MS));
        return;
    }
    subscriber->life = subscriber->node->life;
    subscriber->request = (struct node_request){
        .kind = NODE_REQUEST_READ, .deadline_ns = UINT64_MAX, .done = barrier_done};
    subscriber->is_asking = true;
    if (node_submit(subscriber->node->node, &subscriber->request) != 0) {
        subscriber->request.outcome = NODE_OVERLOADED;
        barrier_done(&subscriber->request);
        return;
    }
    sim_node_wake(subscriber->node);
}

static void schedule_open(struct subscriber *subscriber, uint64_t delay_ns)
{
    struct open_event *event = sim_after(subscriber->sim, delay_ns, NULL, sizeof(*event), run_open);
    event->subscriber = subscriber;
}

/* As subscription_serve() does in dispatch. */
static void serve(struct subscriber *subscriber)
{
    struct sim *sim = subscriber->sim;
    struct message_page *page = NULL;
    int rc = chat_read_page(subscriber->node->boot.chat, subscriber->hub.channel_number,
                            subscriber->hub.after_sequence, PAGE_LIMIT, &page);
    CHECK(rc == 0);
    for (size_t i = 0; i < page->count; i++) {
        check_message(sim, subscriber->channel, ++subscriber->after, page->messages[i],
                      "subscription");
    }
    bool is_behind = page->has_more;
    if (page->count > 0) {
        subscriber->hub.after_sequence = page->last_sequence;
    }
    page_unref(page);
    if (is_behind) {
        hub_make_ready(&subscriber->hub);
    } else {
        hub_wait(&subscriber->hub);
    }
    if (!sim->is_healing && sim_one_in(sim, 40)) {
        leave_node(subscriber);
        schedule_open(subscriber, sim_between(sim, 0, 50 * MS));
    }
}

void sim_clients_serve(struct sim_node *node)
{
    struct list ready;
    list_init(&ready);
    (void)hub_take_ready(&node->listener, &ready, 1 + sim_below(node->sim, 4));
    struct list *link;
    while ((link = list_pop_front(&ready)) != NULL) {
        struct hub_subscription *hub = LIST_ENTRY(link, struct hub_subscription, ready_link);
        serve(LIST_ENTRY(hub, struct subscriber, hub));
    }
}

void sim_clients_node_down(struct sim_node *node)
{
    while (!list_is_empty(&node->subscribers)) {
        struct subscriber *subscriber = LIST_ENTRY(node->subscribers.next, struct subscriber, link);
        leave_node(subscriber);
        schedule_open(subscriber, sim_between(node->sim, 1 * MS, 100 * MS));
    }
}

/* ---- the whole ---- */

void sim_clients_create(struct sim *sim)
{
    struct sim_clients *clients = calloc(1, sizeof(*clients));
    CHECK(clients != NULL);
    sim->clients = clients;
    list_init(&clients->attempts);
    for (unsigned i = 0; i < sim->levels.client_count; i++) {
        clients->clients[i].sim = sim;
        clients->clients[i].id = (int)i;
    }
    for (unsigned i = 0; i < sim->levels.subscriber_count; i++) {
        struct subscriber *subscriber = &clients->subscribers[i];
        subscriber->sim = sim;
        subscriber->id = (int)i;
        subscriber->channel = (unsigned)sim_below(sim, sim->levels.channel_count);
        list_init(&subscriber->link);
    }
}

void sim_clients_start(struct sim *sim)
{
    for (unsigned i = 0; i < sim->levels.client_count; i++) {
        schedule_next(&sim->clients->clients[i], sim_below(sim, 100 * MS));
    }
    for (unsigned i = 0; i < sim->levels.subscriber_count; i++) {
        schedule_open(&sim->clients->subscribers[i], sim_below(sim, 500 * MS));
    }
}

void sim_clients_wind_up(struct sim *sim)
{
    sim->clients->is_winding_up = true;
}

const char *sim_clients_open(struct sim *sim)
{
    static char text[96];
    struct sim_clients *clients = sim->clients;
    for (unsigned i = 0; i < sim->levels.client_count; i++) {
        if (clients->clients[i].is_busy) {
            snprintf(text, sizeof(text), "client %u waits for its %s op %llu", i,
                     kind_names[clients->clients[i].kind],
                     (unsigned long long)clients->clients[i].operation);
            return text;
        }
    }
    for (unsigned i = 0; i < sim->levels.subscriber_count; i++) {
        const struct subscriber *subscriber = &clients->subscribers[i];
        uint64_t end = sim_check_channel_end(sim, subscriber->channel);
        if (subscriber->after != end) {
            snprintf(text, sizeof(text), "subscriber %u stands at %llu of %llu", i,
                     (unsigned long long)subscriber->after, (unsigned long long)end);
            return text;
        }
    }
    return NULL;
}

unsigned sim_clients_operations(const struct sim *sim)
{
    return sim->clients->acknowledged;
}

void sim_clients_check_end(struct sim *sim)
{
    const struct sim_clients *clients = sim->clients;
    for (sim_operation i = 1; i <= clients->last_operation; i++) {
        unsigned count = sim_check_count(sim, i);
        if (clients->refused[i] && count > 0) {
            sim_violation(sim, "op %llu was refused and is in the log", (unsigned long long)i);
        }
        if (clients->once[i] && count > 1) {
            sim_violation(sim, "exactly once: op %llu is in the log %u times",
                          (unsigned long long)i, count);
        }
    }
}

void sim_clients_destroy(struct sim *sim)
{
    struct sim_clients *clients = sim->clients;
    while (!list_is_empty(&clients->attempts)) {
        free_attempt(LIST_ENTRY(clients->attempts.next, struct attempt, link));
    }
    free(clients->refused);
    free(clients->once);
    free(clients);
}
