/* The transport's contract (peer/transport.h) over simulated streams: each dialled by its sender,
 * messages in order, a stream that ends loses what was on it. A cut link holds packets as TCP does,
 * until it is healed or the keepalive ends the stream. With drop, duplicate and reorder the network
 * is worse than any TCP: batches of Raft's own messages only, since the core takes that too. */
#include "base/check.h"
#include "base/errors.h"
#include "node_sim.h"
#include "peer/wire.h"

#include <stdlib.h>
#include <string.h>

#define BACKOFF_NS_MIN (50 * MS)
#define BACKOFF_NS_MAX (1000 * MS)

enum packet_kind {
    PACKET_HELLO,
    PACKET_ACCEPTED, /* the answer to the hello */
    PACKET_BATCH,
    PACKET_END, /* the other end has closed */
    PACKET_OFFER,
    PACKET_CHUNK,
    PACKET_ANSWER, /* to an offer: where to go on */
    PACKET_OVER,   /* to an offer: how it ends */
};

struct packet {
    struct sim_event event;
    struct list link;
    struct sim_pipe *pipe;
    int to; /* which end */
    enum packet_kind kind;
    uint64_t incarnation;
    bool is_fresh;
    raft_term term;
    uint32_t chunk;
    enum peer_snapshot_end end;
    size_t size;
    uint8_t data[];
};

static void dial(struct sim_node *node, int to);
static void schedule_redial(struct sim_node *node, int to, uint64_t delay_ns);

/* ---- events for the driver ---- */

struct posted {
    struct peer_event event;
    struct sim_pipe *pipe; /* of a chunk */
    struct packet *packet; /* whose data it shows */
};

static void deliver_chunk(struct sim_pipe *pipe);

static void release_posted(struct peer_event *event)
{
    struct posted *posted = LIST_ENTRY(event, struct posted, event);
    struct sim_pipe *pipe = posted->pipe;
    free(posted->packet);
    free(posted);
    if (pipe != NULL) {
        pipe->is_unreleased = false;
        deliver_chunk(pipe);
    }
}

static struct posted *post(struct sim_node *node, const struct peer_event *event)
{
    struct posted *posted = calloc(1, sizeof(*posted));
    CHECK(posted != NULL);
    posted->event = *event;
    posted->event.release = release_posted;
    list_init(&posted->event.link);
    node_post_event(node->node, &posted->event);
    sim_node_wake(node);
    return posted;
}

/* Returns with the packet owned by the event. */
static void post_with(struct sim_node *node, const struct peer_event *event, struct packet *packet,
                      struct sim_pipe *pipe)
{
    struct posted *posted = post(node, event);
    posted->packet = packet;
    posted->pipe = pipe;
    packet->event.is_kept = true;
}

/* ---- pipes and packets ---- */

static bool is_alive(const struct sim_pipe *pipe, int end)
{
    const struct sim_node *node = pipe->ends[end];
    return !pipe->is_closed[end] && node->is_up && node->life == pipe->lives[end];
}

static struct sim_link *link_at(const struct sim_pipe *pipe, int end)
{
    return &pipe->ends[end]->links[pipe->ends[1 - end]->id];
}

static struct sim_pipe *create_pipe(struct sim_node *from, struct sim_node *to, bool is_snapshot)
{
    struct sim_pipe *pipe = calloc(1, sizeof(*pipe));
    CHECK(pipe != NULL);
    pipe->ends[0] = from;
    pipe->ends[1] = to;
    pipe->lives[0] = from->life;
    pipe->lives[1] = to->life;
    pipe->is_snapshot = is_snapshot;
    list_init(&pipe->arrived);
    for (int i = 0; i < 2; i++) {
        list_init(&pipe->stalled[i]);
        pipe->stalled_since_ns[i] = SIM_NEVER;
    }
    list_push_back(&from->sim->pipes, &pipe->link);
    return pipe;
}

static uint64_t latency(struct sim *sim)
{
    return sim_between(sim, sim->levels.latency_min_ns, sim->levels.latency_max_ns);
}

static void run_packet(struct sim *sim, struct sim_event *event);

static struct packet *create_packet(struct sim_pipe *pipe, int to, enum packet_kind kind,
                                    struct bytes data, bool is_in_order)
{
    struct sim_node *from = pipe->ends[1 - to];
    struct sim *sim = from->sim;
    uint64_t delay_ns = from->spent_ns + latency(sim);
    if (is_in_order) {
        uint64_t arrival_ns = sim->now_ns + delay_ns;
        if (arrival_ns <= pipe->newest_ns[to]) {
            arrival_ns = pipe->newest_ns[to] + 1;
        }
        pipe->newest_ns[to] = arrival_ns;
        delay_ns = arrival_ns - sim->now_ns;
    }
    struct packet *packet = sim_after(sim, delay_ns, NULL, sizeof(*packet) + data.size, run_packet);
    packet->pipe = pipe;
    packet->to = to;
    packet->kind = kind;
    packet->size = data.size;
    list_init(&packet->link);
    if (data.size > 0) {
        memcpy(packet->data, data.data, data.size);
    }
    return packet;
}

static struct packet *send_packet(struct sim_pipe *pipe, int to, enum packet_kind kind,
                                  struct bytes data)
{
    return create_packet(pipe, to, kind, data, true);
}

/* ---- the end of a stream ---- */

static void reset_pending(struct sim_link *link)
{
    buf_reset(&link->pending);
    link->pending_count = 0;
    link->has_forwards = false;
    link->forwards = (struct peer_unsent){0};
}

static void end_stream_here(struct sim_pipe *pipe, int end)
{
    struct sim_node *node = pipe->ends[end];
    struct sim_link *link = link_at(pipe, end);
    int peer = pipe->ends[1 - end]->id;
    if (end == 0) {
        bool was_up = link->is_up;
        const struct peer_event lost = {
            .kind = PEER_EVENT_DIAL_LOST, .peer = peer, .dial_lost = {link->forwards}};
        link->dialled = NULL;
        link->is_up = false;
        link->is_sending = false;
        reset_pending(link);
        if (was_up) {
            post(node, &lost);
        }
        bool is_early = node->sim->now_ns < link->hurried_ns + 100 * MS;
        if (was_up && !is_early) {
            link->hurried_ns = node->sim->now_ns;
            link->backoff_ns = 0;
        } else {
            uint64_t next_ns = link->backoff_ns == 0 ? BACKOFF_NS_MIN : 2 * link->backoff_ns;
            link->backoff_ns = next_ns < BACKOFF_NS_MAX ? next_ns : BACKOFF_NS_MAX;
        }
        schedule_redial(node, peer, link->backoff_ns);
    } else if (pipe->is_greeted) {
        if (link->accepted == pipe) {
            link->accepted = NULL;
        }
        post(node, &(struct peer_event){
                       .kind = PEER_EVENT_STREAM_LOST, .peer = peer, .epoch = pipe->epochs[1]});
    }
}

static void end_snapshot_here(struct sim_pipe *pipe, int end, enum peer_snapshot_end how)
{
    struct sim_node *node = pipe->ends[end];
    struct sim_link *link = link_at(pipe, end);
    int peer = pipe->ends[1 - end]->id;
    if (end == 0) {
        link->sending = NULL;
        post(node, &(struct peer_event){.kind = PEER_EVENT_SNAPSHOT_ENDED,
                                        .peer = peer,
                                        .epoch = pipe->epochs[0],
                                        .snapshot_ended = {how, "simulated"}});
    } else if (pipe->is_greeted) {
        if (link->receiving == pipe) {
            link->receiving = NULL;
        }
        post(node, &(struct peer_event){
                       .kind = PEER_EVENT_SNAPSHOT_LOST, .peer = peer, .epoch = pipe->epochs[1]});
    }
}

/* One end learns that it is over. */
static void close_end(struct sim_pipe *pipe, int end, enum peer_snapshot_end how)
{
    bool was_alive = is_alive(pipe, end);
    pipe->is_closed[end] = true;
    struct list *link;
    while (end == 1 && (link = list_pop_front(&pipe->arrived)) != NULL) {
        free(LIST_ENTRY(link, struct packet, link));
    }
    if (!was_alive) {
        return;
    }
    if (pipe->is_snapshot) {
        end_snapshot_here(pipe, end, how);
    } else {
        end_stream_here(pipe, end);
    }
}

struct breaking {
    struct sim_event event;
    struct sim_pipe *pipe;
    int end;
    bool is_if_stalled;
};

static bool is_cut(const struct sim_pipe *pipe)
{
    const struct sim *sim = pipe->ends[0]->sim;
    int a = pipe->ends[0]->id;
    int b = pipe->ends[1]->id;
    return sim->is_cut[a][b] || sim->is_cut[b][a];
}

static void break_end(struct sim_pipe *pipe, int end, uint64_t delay_ns, bool is_if_stalled);

static void run_breaking(struct sim *sim, struct sim_event *event)
{
    struct breaking *breaking = (struct breaking *)(void *)event;
    struct sim_pipe *pipe = breaking->pipe;
    sim->breaks_due--;
    if (breaking->is_if_stalled && !is_cut(pipe)) {
        pipe->is_breaking = false;
        return;
    }
    close_end(pipe, breaking->end, PEER_SNAPSHOT_BROKEN);
    if (breaking->is_if_stalled && !pipe->is_closed[1 - breaking->end]) {
        /* Also when the link was healed a moment after this end had given up. */
        break_end(pipe, 1 - breaking->end, sim_below(sim, sim->levels.keepalive_ns), false);
    }
}

static void break_end(struct sim_pipe *pipe, int end, uint64_t delay_ns, bool is_if_stalled)
{
    struct breaking *breaking =
        sim_after(pipe->ends[0]->sim, delay_ns, NULL, sizeof(*breaking), run_breaking);
    pipe->ends[0]->sim->breaks_due++;
    breaking->pipe = pipe;
    breaking->end = end;
    breaking->is_if_stalled = is_if_stalled;
}

/* Keepalives go both ways: each end finds out by itself that nothing comes back. */
static void break_if_silent(struct sim_pipe *pipe)
{
    struct sim *sim = pipe->ends[0]->sim;
    if (pipe->is_breaking || (pipe->is_closed[0] && pipe->is_closed[1])) {
        return;
    }
    pipe->is_breaking = true;
    for (int end = 0; end < 2; end++) {
        uint64_t keepalive_ns = sim->levels.keepalive_ns;
        break_end(pipe, end, keepalive_ns + sim_below(sim, keepalive_ns), true);
    }
}

/* ---- arrivals ---- */

static void greet(struct sim_pipe *pipe, const struct packet *packet)
{
    struct sim_node *node = pipe->ends[1];
    struct sim_link *link = link_at(pipe, 1);
    int peer = pipe->ends[0]->id;
    struct sim_pipe *older = link->accepted;
    link->accepted = pipe;
    pipe->is_greeted = true;
    pipe->epochs[1] = ++link->epoch;
    post(node, &(struct peer_event){
                   .kind = PEER_EVENT_HELLO,
                   .peer = peer,
                   .epoch = pipe->epochs[1],
                   .hello = {packet->incarnation, packet->is_fresh, COMMAND_FORMAT_VERSION}});
    if (older != NULL) {
        close_end(older, 1, PEER_SNAPSHOT_BROKEN);
        send_packet(older, 0, PACKET_END, (struct bytes){0});
    }
    send_packet(pipe, 0, PACKET_ACCEPTED, (struct bytes){0});
    if (link->dialled == NULL) {
        link->backoff_ns = 0;
        schedule_redial(node, peer, 0);
    }
}

static bool is_foreign(const struct packet *packet)
{
    const uint8_t *ours = packet->pipe->ends[1]->cluster_id;
    return cluster_id_is_set(packet->data) && cluster_id_is_set(ours) &&
           memcmp(packet->data, ours, CLUSTER_ID_BYTES) != 0;
}

static void take_hello(struct packet *packet)
{
    struct sim_pipe *pipe = packet->pipe;
    if (is_foreign(packet)) {
        pipe->is_closed[1] = true;
        send_packet(pipe, 0, PACKET_END, (struct bytes){0});
        return;
    }
    greet(pipe, packet);
}

static void take_accepted(struct sim_pipe *pipe)
{
    struct sim_link *link = link_at(pipe, 0);
    if (link->dialled == pipe) {
        link->is_up = true;
        post(pipe->ends[0],
             &(struct peer_event){.kind = PEER_EVENT_DIAL_UP, .peer = pipe->ends[1]->id});
    }
}

static void free_batch(struct peer_event *event)
{
    free(event->messages.items);
    release_posted(event);
}

static void take_batch(struct packet *packet)
{
    struct sim_pipe *pipe = packet->pipe;
    struct sim_node *node = pipe->ends[1];
    struct bytes wire = {packet->data, packet->size};
    struct peer_batch batch;
    CHECK(peer_batch_scan(wire, &batch) == 0);
    struct peer_message *messages = calloc(1, batch.message_count * sizeof(*messages) +
                                                  batch.entry_count * sizeof(struct raft_entry));
    CHECK(messages != NULL);
    struct raft_entry *entries = (struct raft_entry *)(void *)(messages + batch.message_count);
    const struct peer_sender sender = {pipe->ends[0]->id, bytes_of_text(pipe->ends[0]->name)};
    const char *why;
    if (peer_batch_read(wire, &sender, messages, entries, &why) != 0) {
        sim_violation(node->sim, "%s sends a malformed batch: %s", pipe->ends[0]->name, why);
    }
    const struct peer_event event = {.kind = PEER_EVENT_MESSAGES,
                                     .peer = pipe->ends[0]->id,
                                     .epoch = pipe->epochs[1],
                                     .messages = {messages, batch.message_count}};
    struct posted *posted = post(node, &event);
    posted->event.release = free_batch;
    posted->packet = packet;
    packet->event.is_kept = true;
}

static void take_offer(struct packet *packet)
{
    struct sim_pipe *pipe = packet->pipe;
    struct sim_link *link = link_at(pipe, 1);
    struct sim_pipe *older = link->receiving;
    link->receiving = pipe;
    pipe->is_greeted = true;
    pipe->epochs[1] = ++link->snapshot_epoch;
    if (older != NULL) {
        close_end(older, 1, PEER_SNAPSHOT_BROKEN);
        break_end(older, 0, latency(pipe->ends[0]->sim), false);
    }
    const struct peer_event event = {
        .kind = PEER_EVENT_SNAPSHOT_OFFER,
        .peer = pipe->ends[0]->id,
        .epoch = pipe->epochs[1],
        .snapshot_offer = {.term = packet->term, .manifest = {packet->data, packet->size}}};
    post_with(pipe->ends[1], &event, packet, NULL);
}

/* The next one, once the driver has done with the one before. */
static void deliver_chunk(struct sim_pipe *pipe)
{
    if (pipe->is_unreleased || !is_alive(pipe, 1)) {
        return;
    }
    struct list *link = list_pop_front(&pipe->arrived);
    if (link == NULL) {
        return;
    }
    struct packet *packet = LIST_ENTRY(link, struct packet, link);
    pipe->is_unreleased = true;
    const struct peer_event event = {
        .kind = PEER_EVENT_SNAPSHOT_CHUNK,
        .peer = pipe->ends[0]->id,
        .epoch = pipe->epochs[1],
        .snapshot_chunk = {.chunk = packet->chunk, .data = {packet->data, packet->size}}};
    post_with(pipe->ends[1], &event, packet, pipe);
}

static void post_ready(struct sim_pipe *pipe, uint32_t chunk)
{
    if (is_alive(pipe, 0)) {
        post(pipe->ends[0], &(struct peer_event){.kind = PEER_EVENT_SNAPSHOT_READY,
                                                 .peer = pipe->ends[1]->id,
                                                 .epoch = pipe->epochs[0],
                                                 .snapshot_ready = {chunk}});
    }
}

static void arrive(struct packet *packet)
{
    struct sim_pipe *pipe = packet->pipe;
    if (!is_alive(pipe, packet->to)) {
        int sender = 1 - packet->to;
        if (pipe->ends[packet->to]->is_up && !pipe->is_closed[sender] && !pipe->is_reset) {
            /* The kernel there knows no such stream. */
            pipe->is_reset = true;
            break_end(pipe, sender, latency(pipe->ends[0]->sim), false);
        }
        return;
    }
    switch (packet->kind) {
    case PACKET_HELLO:
        take_hello(packet);
        break;
    case PACKET_ACCEPTED:
        take_accepted(pipe);
        break;
    case PACKET_BATCH:
        take_batch(packet);
        break;
    case PACKET_END:
        close_end(pipe, packet->to, PEER_SNAPSHOT_BROKEN);
        break;
    case PACKET_OFFER:
        take_offer(packet);
        break;
    case PACKET_CHUNK:
        packet->event.is_kept = true;
        list_push_back(&pipe->arrived, &packet->link);
        post_ready(pipe, packet->chunk + 1);
        deliver_chunk(pipe);
        break;
    case PACKET_ANSWER:
        post_ready(pipe, packet->chunk);
        break;
    case PACKET_OVER:
        close_end(pipe, 0, packet->end);
        break;
    }
}

static void run_packet(struct sim *sim, struct sim_event *event)
{
    struct packet *packet = (struct packet *)(void *)event;
    struct sim_pipe *pipe = packet->pipe;
    int from = pipe->ends[1 - packet->to]->id;
    int to = pipe->ends[packet->to]->id;
    if (sim->is_cut[from][to] || !list_is_empty(&pipe->stalled[packet->to])) {
        event->is_kept = true;
        list_push_back(&pipe->stalled[packet->to], &packet->link);
        break_if_silent(pipe);
        return;
    }
    arrive(packet);
}

/* ---- cuts ---- */

void sim_network_cut(struct sim *sim, int from, int to)
{
    if (from == to || sim->is_cut[from][to]) {
        return;
    }
    sim_trace(sim, "cut n%d -> n%d", from, to);
    sim->is_cut[from][to] = true;
    LIST_FOR_EACH (link, &sim->pipes) {
        struct sim_pipe *pipe = LIST_ENTRY(link, struct sim_pipe, link);
        if (is_cut(pipe)) {
            break_if_silent(pipe);
        }
    }
}

static void flush_stalled(struct sim_pipe *pipe, int to)
{
    struct list waiting;
    list_init(&waiting);
    list_splice_back(&waiting, &pipe->stalled[to]);
    struct list *link;
    while ((link = list_pop_front(&waiting)) != NULL) {
        struct packet *packet = LIST_ENTRY(link, struct packet, link);
        packet->event.is_kept = false;
        arrive(packet);
        if (!packet->event.is_kept) {
            free(packet);
        }
    }
}

void sim_network_heal(struct sim *sim, int from, int to)
{
    if (!sim->is_cut[from][to]) {
        return;
    }
    sim_trace(sim, "heal n%d -> n%d", from, to);
    sim->is_cut[from][to] = false;
    LIST_FOR_EACH (link, &sim->pipes) {
        struct sim_pipe *pipe = LIST_ENTRY(link, struct sim_pipe, link);
        for (int end = 0; end < 2; end++) {
            if (pipe->ends[1 - end]->id == from && pipe->ends[end]->id == to) {
                flush_stalled(pipe, end);
            }
        }
    }
}

void sim_network_break(struct sim *sim, int from, int to)
{
    struct sim_link *link = &sim->nodes[from].links[to];
    struct sim_pipe *pipes[] = {link->dialled, link->sending};
    for (int i = 0; i < 2; i++) {
        if (sim->nodes[from].is_up && pipes[i] != NULL && sim_one_in(sim, 2)) {
            sim_trace(sim, "break %s n%d -> n%d", i == 0 ? "stream" : "snapshot", from, to);
            break_end(pipes[i], 0, latency(sim), false);
            break_end(pipes[i], 1, latency(sim), false);
        }
    }
}

void sim_network_abandon(struct sim_node *node)
{
    struct sim *sim = node->sim;
    LIST_FOR_EACH (link, &sim->pipes) {
        struct sim_pipe *pipe = LIST_ENTRY(link, struct sim_pipe, link);
        for (int end = 0; end < 2; end++) {
            if (pipe->ends[1 - end] == node && is_alive(pipe, end)) {
                uint64_t keepalive_ns = sim->levels.keepalive_ns;
                break_end(pipe, end, latency(sim), false);
                break_end(pipe, 1 - end, keepalive_ns + sim_below(sim, keepalive_ns), false);
            }
        }
    }
}

void sim_network_paused(struct sim_node *node, uint64_t duration_ns)
{
    struct sim *sim = node->sim;
    LIST_FOR_EACH (link, &sim->pipes) {
        struct sim_pipe *pipe = LIST_ENTRY(link, struct sim_pipe, link);
        for (int end = 0; end < 2; end++) {
            uint64_t silent_ns = sim->levels.keepalive_ns + latency(sim);
            if (pipe->ends[end] == node && is_alive(pipe, end) && duration_ns > silent_ns) {
                break_end(pipe, 1 - end, silent_ns, false);
                break_end(pipe, end, duration_ns + 1 * MS, false);
            }
        }
    }
}

/* ---- dialling ---- */

struct redial {
    struct sim_event event;
    int to;
};

static void run_redial(struct sim *sim, struct sim_event *event)
{
    struct redial *redial = (struct redial *)(void *)event;
    struct sim_link *link = &event->node->links[redial->to];
    if (link->redial_token == event->order && link->dialled == NULL) {
        if (event->node->paused_ns > sim->now_ns) {
            schedule_redial(event->node, redial->to, event->node->paused_ns - sim->now_ns);
        } else {
            dial(event->node, redial->to);
        }
    }
}

static void schedule_redial(struct sim_node *node, int to, uint64_t delay_ns)
{
    uint64_t jitter_ns = delay_ns == 0 ? 0 : sim_below(node->sim, delay_ns / 4 + 1);
    struct redial *redial =
        sim_after(node->sim, delay_ns - jitter_ns, node, sizeof(*redial), run_redial);
    redial->to = to;
    node->links[to].redial_token = redial->event.order;
}

struct dial_end {
    struct sim_event event;
    struct sim_pipe *pipe;
    bool is_refused;
};

static void run_dial_end(struct sim *sim, struct sim_event *event)
{
    (void)sim;
    struct dial_end *end = (struct dial_end *)(void *)event;
    struct sim_pipe *pipe = end->pipe;
    if (!is_alive(pipe, 0) || link_at(pipe, 0)->is_up) {
        return;
    }
    if (end->is_refused) {
        post(event->node,
             &(struct peer_event){.kind = PEER_EVENT_DIAL_REFUSED, .peer = pipe->ends[1]->id});
    }
    close_end(pipe, 0, PEER_SNAPSHOT_BROKEN);
    break_end(pipe, 1, 0, false);
}

static void dial(struct sim_node *node, int to)
{
    struct sim *sim = node->sim;
    struct sim_node *peer = &sim->nodes[to];
    struct sim_link *link = &node->links[to];
    struct sim_pipe *pipe = create_pipe(node, peer, false);
    link->dialled = pipe;
    bool is_refused = !peer->is_up && !sim->is_cut[node->id][to] && !sim->is_cut[to][node->id];
    uint64_t wait_ns = is_refused ? 2 * latency(sim) : sim->levels.election_timeout_ns;
    struct dial_end *end = sim_after(sim, wait_ns, node, sizeof(*end), run_dial_end);
    end->pipe = pipe;
    end->is_refused = is_refused;
    if (!peer->is_up) {
        return;
    }
    struct bytes cluster_id = {node->cluster_id, sizeof(node->cluster_id)};
    struct packet *hello = send_packet(pipe, 1, PACKET_HELLO, cluster_id);
    hello->incarnation = node->incarnation;
    hello->is_fresh = node->is_fresh;
}

/* ---- the transport ---- */

static struct sim_node *of(struct transport *transport)
{
    return LIST_ENTRY(transport, struct sim_node, transport);
}

static struct peer_header header_to(const struct sim_node *node, int to)
{
    struct peer_header header = {
        .format_version = PEER_FORMAT_VERSION,
        .from_node_id = bytes_of_text(node->name),
        .to_node_id = bytes_of_text(node->sim->nodes[to].name),
        .incarnation = node->incarnation,
        .is_fresh = node->is_fresh,
        .command_format = COMMAND_FORMAT_VERSION,
    };
    memcpy(header.cluster_id, node->cluster_id, sizeof(header.cluster_id));
    return header;
}

static int transport_send(struct transport *transport, raft_member to,
                          const struct peer_message *message)
{
    struct sim_node *node = of(transport);
    struct sim_link *link = &node->links[to];
    CHECK(to != node->id);
    if (!link->is_up || !node->is_up || node->is_dying) {
        return ERR_CLOSED;
    }
    if (link->pending_count == 0) {
        const struct peer_header header = header_to(node, to);
        buf_reset(&link->pending);
        uint8_t *room = buf_extend(&link->pending, peer_header_size(&header));
        CHECK(room != NULL);
        peer_header_write(&header, room);
    }
    int rc = peer_message_append(message, bytes_of_text(node->name), &link->pending);
    if (rc == 0) {
        link->pending_count++;
        link->has_forwards = link->has_forwards || message->kind != PEER_MESSAGE_RAFT;
        if (message->kind == PEER_MESSAGE_FORWARD_REQUEST && link->forwards.count++ == 0) {
            link->forwards.first = message->forward_request.id;
        }
    }
    return rc;
}

static void send_batch(struct sim *sim, struct sim_link *link)
{
    const struct sim_levels *levels = &sim->levels;
    struct bytes wire = buf_bytes(&link->pending);
    bool is_wild = !link->has_forwards && !sim->is_healing;
    if (is_wild && sim_permille(sim, levels->drop_permille)) {
        return;
    }
    if (is_wild && sim_permille(sim, levels->duplicate_permille)) {
        create_packet(link->dialled, 1, PACKET_BATCH, wire, false);
    }
    bool is_reordered = is_wild && sim_permille(sim, levels->reorder_permille);
    create_packet(link->dialled, 1, PACKET_BATCH, wire, !is_reordered);
}

struct sent {
    struct sim_event event;
    struct sim_pipe *pipe;
};

static void send_pending(struct sim *sim, struct sim_pipe *pipe);

/* The kernel has taken the batch: the next one may go. A cut link's buffers are full some time. */
static void run_sent(struct sim *sim, struct sim_event *event)
{
    struct sim_pipe *pipe = ((struct sent *)(void *)event)->pipe;
    struct sim_link *link = link_at(pipe, 0);
    if (link->dialled != pipe) {
        return;
    }
    if (sim->is_cut[pipe->ends[0]->id][pipe->ends[1]->id] && !sim_one_in(sim, 3)) {
        sim_requeue(sim, event, 20 * MS);
        event->is_kept = true;
        return;
    }
    link->is_sending = false;
    send_pending(sim, pipe);
}

static void send_pending(struct sim *sim, struct sim_pipe *pipe)
{
    struct sim_node *node = pipe->ends[0];
    struct sim_link *link = link_at(pipe, 0);
    if (link->pending_count == 0 || link->is_sending || !link->is_up) {
        return;
    }
    send_batch(sim, link);
    reset_pending(link);
    if (sim_one_in(sim, 2)) {
        link->is_sending = true;
        uint64_t delay_ns = node->spent_ns + sim_between(sim, 1 * US, 300 * US);
        struct sent *sent = sim_after(sim, delay_ns, node, sizeof(*sent), run_sent);
        sent->pipe = pipe;
    }
}

static void transport_flush(struct transport *transport)
{
    struct sim_node *node = of(transport);
    for (int to = 0; to < node->sim->levels.node_count; to++) {
        struct sim_pipe *pipe = node->links[to].dialled;
        if (pipe != NULL && !node->is_dying) {
            send_pending(node->sim, pipe);
        }
    }
}

static void transport_set_cluster_id(struct transport *transport, const uint8_t *cluster_id)
{
    memcpy(of(transport)->cluster_id, cluster_id, CLUSTER_ID_BYTES);
}

static void transport_set_not_fresh(struct transport *transport)
{
    of(transport)->is_fresh = false;
}

static void transport_set_incarnation(struct transport *transport, uint64_t incarnation)
{
    struct sim_node *node = of(transport);
    if (!node->is_damaged) {
        sim_violation(node->sim, "%s is told that it forgot what it still has", node->name);
    }
    node->incarnation = incarnation;
    for (int to = 0; to < node->sim->levels.node_count; to++) {
        struct sim_pipe *pipe = node->links[to].dialled;
        if (pipe != NULL) {
            break_end(pipe, 0, latency(node->sim), false);
            break_end(pipe, 1, latency(node->sim), false);
        }
    }
}

static int snapshot_open(struct transport *transport, raft_member to, uint64_t epoch,
                         raft_term term, struct bytes manifest)
{
    struct sim_node *node = of(transport);
    struct sim_link *link = &node->links[to];
    if (link->sending != NULL) {
        return ERR_BUSY;
    }
    sim_trace(node->sim, "%s offers n%d a snapshot", node->name, to);
    struct sim_pipe *pipe = create_pipe(node, &node->sim->nodes[to], true);
    link->sending = pipe;
    pipe->epochs[0] = epoch;
    if (!pipe->ends[1]->is_up) {
        break_end(pipe, 0, latency(node->sim), false);
        return 0;
    }
    send_packet(pipe, 1, PACKET_OFFER, manifest)->term = term;
    return 0;
}

static void snapshot_chunk(struct transport *transport, raft_member to, uint64_t epoch,
                           uint32_t chunk, struct bytes data)
{
    struct sim_pipe *pipe = of(transport)->links[to].sending;
    if (pipe != NULL && pipe->epochs[0] == epoch) {
        send_packet(pipe, 1, PACKET_CHUNK, data)->chunk = chunk;
    }
}

static void snapshot_close(struct transport *transport, raft_member to, uint64_t epoch)
{
    struct sim_pipe *pipe = of(transport)->links[to].sending;
    if (pipe != NULL && pipe->epochs[0] == epoch && !pipe->is_breaking) {
        pipe->is_breaking = true;
        break_end(pipe, 0, 10 * US, false);
        break_end(pipe, 1, latency(of(transport)->sim), false);
    }
}

static void snapshot_answer(struct transport *transport, raft_member from, uint64_t epoch,
                            const struct peer_snapshot_answer *answer)
{
    struct sim_pipe *pipe = of(transport)->links[from].receiving;
    if (pipe == NULL || pipe->epochs[1] != epoch || !is_alive(pipe, 1)) {
        return;
    }
    if (answer->is_over) {
        send_packet(pipe, 0, PACKET_OVER, (struct bytes){0})->end = answer->end;
        break_end(pipe, 1, 10 * US, false);
    } else {
        send_packet(pipe, 0, PACKET_ANSWER, (struct bytes){0})->chunk = answer->next_chunk;
    }
}

static const struct transport_ops transport_ops = {
    .send = transport_send,
    .flush = transport_flush,
    .set_cluster_id = transport_set_cluster_id,
    .set_not_fresh = transport_set_not_fresh,
    .set_incarnation = transport_set_incarnation,
    .snapshot_open = snapshot_open,
    .snapshot_chunk = snapshot_chunk,
    .snapshot_close = snapshot_close,
    .snapshot_answer = snapshot_answer,
};

/* ---- life ---- */

void sim_network_start(struct sim_node *node)
{
    node->transport.ops = &transport_ops;
    for (int to = 0; to < node->sim->levels.node_count; to++) {
        struct sim_link *link = &node->links[to];
        struct buf pending = link->pending;
        *link = (struct sim_link){.pending = pending};
        if (to != node->id) {
            schedule_redial(node, to, sim_below(node->sim, 5 * MS));
        }
    }
}

void sim_network_stop(struct sim_node *node, bool is_silent)
{
    struct sim *sim = node->sim;
    LIST_FOR_EACH (link, &sim->pipes) {
        struct sim_pipe *pipe = LIST_ENTRY(link, struct sim_pipe, link);
        for (int end = 0; end < 2; end++) {
            if (pipe->ends[end] != node || pipe->is_closed[end]) {
                continue;
            }
            pipe->is_closed[end] = true;
            uint64_t silence_ns = is_silent ? sim->levels.keepalive_ns : 0;
            break_end(pipe, 1 - end, silence_ns + latency(sim), false);
        }
    }
}

void sim_network_finish(struct sim *sim)
{
    struct list *link;
    while ((link = list_pop_front(&sim->pipes)) != NULL) {
        struct sim_pipe *pipe = LIST_ENTRY(link, struct sim_pipe, link);
        struct list *lists[] = {&pipe->stalled[0], &pipe->stalled[1], &pipe->arrived};
        for (size_t i = 0; i < 3; i++) {
            struct list *waiting;
            while ((waiting = list_pop_front(lists[i])) != NULL) {
                free(LIST_ENTRY(waiting, struct packet, link));
            }
        }
        free(pipe);
    }
    for (int i = 0; i < sim->levels.node_count; i++) {
        for (int to = 0; to < sim->levels.node_count; to++) {
            buf_finish(&sim->nodes[i].links[to].pending);
        }
    }
}
