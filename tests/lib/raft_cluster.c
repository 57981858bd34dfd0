/* A simulated cluster of Raft cores: network, disks and clocks by seed. */
#include "lib/raft_cluster.h"

#include "base/check.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void *allocate(size_t size)
{
    void *memory = calloc(1, size);
    CHECK(memory != NULL);
    return memory;
}

static uint64_t between(struct cluster *cluster, uint64_t low, uint64_t high)
{
    return high > low ? low + random_below(&cluster->random, high - low + 1) : low;
}

static bool happens(struct cluster *cluster, unsigned permille)
{
    return permille > 0 && random_below(&cluster->random, 1000) < permille;
}

__attribute__((format(printf, 2, 3))) static void trace(struct cluster *cluster, const char *format,
                                                        ...)
{
    if (cluster->on_trace == NULL) {
        return;
    }
    char line[512];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(line, sizeof(line), format, arguments);
    va_end(arguments);
    cluster->on_trace(cluster->context, line);
}

/* ---- the log ---- */

raft_index log_last(const struct cluster_log *log)
{
    return log->base + log->count;
}

raft_term log_term(const struct cluster_log *log, raft_index index)
{
    if (index == log->base) {
        return log->base_term;
    }
    return index > log->base && index <= log_last(log) ? log->entries[index - log->base - 1].term
                                                       : 0;
}

static struct cluster_entry *log_entry(const struct cluster_log *log, raft_index index)
{
    CHECK(index > log->base);
    CHECK(index <= log_last(log));
    return &log->entries[index - log->base - 1];
}

static void log_replace(struct cluster_log *log, raft_index first,
                        const struct cluster_entry *entries, size_t count)
{
    CHECK(first > log->base);
    CHECK(first <= log_last(log) + 1);
    log->count = first - log->base - 1;
    if (log->count + count > log->capacity) {
        log->capacity = 2 * (log->count + count);
        log->entries = realloc(log->entries, log->capacity * sizeof(*log->entries));
        CHECK(log->entries != NULL);
    }
    if (count > 0) {
        memcpy(log->entries + log->count, entries, count * sizeof(*entries));
    }
    log->count += count;
}

static void log_reset(struct cluster_log *log, raft_index base, raft_term base_term)
{
    log->count = 0;
    log->base = base;
    log->base_term = base_term;
}

/* Drops everything up to `base`. */
static void log_drop_prefix(struct cluster_log *log, raft_index base)
{
    raft_term base_term = log_term(log, base);
    size_t dropped = base - log->base;
    log->count -= dropped;
    memmove(log->entries, log->entries + dropped, log->count * sizeof(*log->entries));
    log->base = base;
    log->base_term = base_term;
}

static void log_copy(struct cluster_log *to, const struct cluster_log *from)
{
    log_reset(to, from->base, from->base_term);
    log_replace(to, from->base + 1, from->entries, from->count);
}

static raft_index view_first(void *context)
{
    return ((struct cluster_node *)context)->log.base + 1;
}

static raft_term view_term(void *context, raft_index index)
{
    return log_term(&((struct cluster_node *)context)->log, index);
}

/* As if entries were large, so that a backlog is cut into several messages. */
static raft_index view_fit(void *context, raft_index first, raft_index last_max, uint64_t bytes_max,
                           uint64_t *bytes)
{
    uint64_t count = ((struct cluster_node *)context)->fit_entries;
    *bytes = last_max - first + 1 > count ? bytes_max : 0;
    return last_max - first + 1 > count ? first + count - 1 : last_max;
}

/* ---- packets ---- */

static struct cluster_packet *new_packet(const struct raft_event *event,
                                         const struct cluster_entry *entries, size_t count)
{
    struct cluster_packet *packet =
        allocate(sizeof(*packet) + count * sizeof(struct cluster_entry));
    packet->event = *event;
    packet->count = count;
    if (count > 0) {
        memcpy(packet->entries, entries, count * sizeof(*entries));
    }
    return packet;
}

static void push(struct cluster_queue *queue, struct cluster_packet *packet)
{
    packet->next = NULL;
    if (queue->first == NULL) {
        queue->first = packet;
    } else {
        queue->last->next = packet;
    }
    queue->last = packet;
}

/* By delivery time; behind those of the same time. */
static void push_sorted(struct cluster_queue *queue, struct cluster_packet *packet)
{
    if (queue->first == NULL || queue->last->deliver_ns <= packet->deliver_ns) {
        push(queue, packet);
        return;
    }
    struct cluster_packet **position = &queue->first;
    while ((*position)->deliver_ns <= packet->deliver_ns) {
        position = &(*position)->next;
    }
    packet->next = *position;
    *position = packet;
}

static struct cluster_packet *pop(struct cluster_queue *queue)
{
    struct cluster_packet *packet = queue->first;
    if (packet != NULL) {
        queue->first = packet->next;
    }
    return packet;
}

static void clear(struct cluster_queue *queue)
{
    struct cluster_packet *packet;
    while ((packet = pop(queue)) != NULL) {
        free(packet);
    }
}

static void clear_saves(struct cluster_node *node)
{
    while (node->saves != NULL) {
        struct cluster_save *save = node->saves;
        node->saves = save->next;
        free(save);
    }
    node->last_save = NULL;
}

static void queue_event(struct cluster *cluster, raft_member n, const struct raft_event *event)
{
    if (cluster->nodes[n].raft != NULL) {
        push(&cluster->nodes[n].inputs, new_packet(event, NULL, 0));
    }
}

static void queue_stream_event(struct cluster *cluster, raft_member n, enum raft_event_kind kind,
                               raft_member peer, uint64_t epoch)
{
    struct raft_event event = {.kind = kind};
    event.stream.peer = peer;
    event.stream.epoch = epoch;
    queue_event(cluster, n, &event);
}

/* ---- streams ---- */

static void send_packet(struct cluster *cluster, raft_member from, struct cluster_packet *packet)
{
    raft_member to = packet->event.message.peer;
    struct cluster_link *link = &cluster->links[from][to];
    const struct cluster_options *options = &cluster->options;
    if (cluster->on_trace != NULL) {
        char text[256];
        cluster_format_message(&packet->event.message, text, sizeof(text));
        trace(cluster, "%d -> %d %s%s", from + 1, to + 1, text, link->is_up ? "" : " (lost)");
    }
    if (!link->is_up ||
        (options->is_lossy && (link->is_cut || happens(cluster, options->drop_permille)))) {
        free(packet);
        return;
    }
    packet->event.message.peer = from;
    packet->deliver_ns =
        cluster->now_ns + between(cluster, options->latency_min_ns, options->latency_max_ns);
    if (options->is_lossy && happens(cluster, options->duplicate_permille)) {
        struct cluster_packet *copy = new_packet(&packet->event, packet->entries, packet->count);
        copy->deliver_ns = packet->deliver_ns + between(cluster, 0, 5 * options->latency_max_ns);
        push_sorted(&link->packets, copy);
    }
    if (options->is_lossy && happens(cluster, options->reorder_permille)) {
        packet->deliver_ns += between(cluster, 0, 20 * options->latency_max_ns);
    } else {
        if (packet->deliver_ns < link->newest_ns) {
            packet->deliver_ns = link->newest_ns;
        }
        link->newest_ns = packet->deliver_ns;
    }
    push_sorted(&link->packets, packet);
}

static void connect_stream(struct cluster *cluster, raft_member from, raft_member to)
{
    struct cluster_link *link = &cluster->links[from][to];
    struct cluster_node *dialler = &cluster->nodes[from];
    link->is_up = true;
    link->epoch++;
    link->break_ns = CLUSTER_NEVER;
    link->redial_ns = CLUSTER_NEVER;
    link->newest_ns = 0;
    clear(&link->packets);
    struct raft_event hello = {.kind = RAFT_EVENT_PEER_HELLO};
    hello.stream.peer = from;
    hello.stream.epoch = link->epoch;
    hello.stream.incarnation = dialler->incarnation;
    hello.stream.is_fresh = cluster_status(cluster, from).is_fresh;
    queue_event(cluster, to, &hello);
    queue_stream_event(cluster, from, RAFT_EVENT_DIAL_UP, to, 0);
}

static void lose_stream(struct cluster *cluster, raft_member from, raft_member to)
{
    struct cluster_link *link = &cluster->links[from][to];
    if (!link->is_up) {
        return;
    }
    link->is_up = false;
    link->break_ns = CLUSTER_NEVER;
    link->redial_ns = cluster->now_ns + cluster->options.latency_min_ns;
    clear(&link->packets);
    queue_stream_event(cluster, to, RAFT_EVENT_STREAM_LOST, from, link->epoch);
    queue_stream_event(cluster, from, RAFT_EVENT_DIAL_LOST, to, 0);
}

static void redial(struct cluster *cluster, raft_member from, raft_member to)
{
    struct cluster_link *link = &cluster->links[from][to];
    link->redial_ns = cluster->now_ns + 50 * CLUSTER_MS;
    if (link->is_cut) {
        return;
    }
    if (cluster->nodes[to].raft == NULL) {
        queue_stream_event(cluster, from, RAFT_EVENT_DIAL_REFUSED, to, 0);
        return;
    }
    connect_stream(cluster, from, to);
}

/* ---- effects ---- */

static void stage(struct cluster *cluster, raft_member n, const struct raft_effects *effects)
{
    struct cluster_node *node = &cluster->nodes[n];
    if (!effects->has_hard_state && effects->append_count == 0) {
        return;
    }
    struct cluster_save *save =
        allocate(sizeof(*save) + effects->append_count * sizeof(struct cluster_entry));
    save->seq = effects->save_seq;
    save->has_hard_state = effects->has_hard_state;
    save->term = effects->term;
    save->voted_for = effects->voted_for;
    save->append_first = effects->append_first;
    save->count = effects->append_count;
    for (size_t i = 0; i < save->count; i++) {
        const struct raft_entry *entry = &effects->append[i];
        struct cluster_entry *copy = &save->entries[i];
        copy->term = effects->append_term != 0 ? effects->append_term : entry->term;
        copy->type = entry->type;
        copy->payload =
            entry->data != NULL ? ((const struct cluster_entry *)entry->data)->payload : 0;
        if (entry->change != NULL) {
            copy->change = *entry->change;
        }
    }
    if (node->last_save == NULL) {
        node->saves = save;
    } else {
        node->last_save->next = save;
    }
    node->last_save = save;
    if (save->has_hard_state) {
        trace(cluster, "%d: save term %" PRIu64 " vote %d", n + 1, save->term, save->voted_for + 1);
    }
    if (save->count > 0) {
        trace(cluster, "%d: append %" PRIu64 "-%" PRIu64 " term %" PRIu64 "%s", n + 1,
              save->append_first, save->append_first + save->count - 1,
              save->entries[save->count - 1].term,
              save->append_first <= log_last(&node->log) ? " (replaces)" : "");
        log_replace(&node->log, save->append_first, save->entries, save->count);
        for (size_t i = 0; i < save->count; i++) {
            cluster_check_append(cluster, n, save->append_first + i);
        }
    }
}

static void take_messages(struct cluster *cluster, raft_member n,
                          const struct raft_effects *effects)
{
    struct cluster_node *node = &cluster->nodes[n];
    for (size_t i = 0; i < effects->message_count; i++) {
        const struct raft_outgoing *outgoing = &effects->messages[i];
        struct raft_event event = {.kind = RAFT_EVENT_MESSAGE, .message = outgoing->message};
        const struct cluster_entry *entries = NULL;
        size_t count = 0;
        if (outgoing->message.kind == RAFT_APPEND_REQUEST) {
            count = outgoing->message.append_request.count;
            if (count > 0) {
                raft_index first = outgoing->message.append_request.prev_index + 1;
                entries = log_entry(&node->log, first);
                log_entry(&node->log, first + count - 1);
            }
        }
        struct cluster_packet *packet = new_packet(&event, entries, count);
        packet->save_seq = outgoing->save_seq;
        if (packet->save_seq <= node->persisted_seq) {
            send_packet(cluster, n, packet);
        } else {
            push(&node->held, packet);
        }
    }
}

static void take_reads(struct cluster *cluster, raft_member n, const struct raft_effects *effects)
{
    for (size_t i = 0; i < effects->read_count; i++) {
        const struct raft_ready_read *ready = &effects->reads[i];
        if (ready->confirmed) {
            trace(cluster, "%d: read %" PRIu64 " at index %" PRIu64, n + 1, ready->id,
                  ready->index);
        } else {
            trace(cluster, "%d: read %" PRIu64 " refused", n + 1, ready->id);
        }
        cluster_check_read(cluster, n, ready);
    }
}

static void start_transfer(struct cluster *cluster, raft_member from, raft_member to)
{
    struct cluster_transfer *transfer = &cluster->transfers[from][to];
    if (transfer->is_running) {
        return;
    }
    transfer->is_running = true;
    transfer->done_ns = cluster->now_ns + cluster->options.snapshot_ns;
    transfer->from_boot = cluster->nodes[from].boot;
    transfer->to_boot = cluster->nodes[to].boot;
    transfer->machine = cluster->nodes[from].machine;
    trace(cluster, "%d: snapshot to %d at %" PRIu64, from + 1, to + 1, transfer->machine.applied);
    struct raft_event event = {.kind = RAFT_EVENT_SNAPSHOT_INSTALLING};
    event.snapshot.is_active = true;
    queue_event(cluster, to, &event);
}

static void take_effects(struct cluster *cluster, raft_member n, const struct raft_effects *effects)
{
    static const char *const role_names[] = {"follower", "pre-candidate", "candidate", "leader"};
    struct cluster_node *node = &cluster->nodes[n];
    stage(cluster, n, effects);
    take_messages(cluster, n, effects);
    if (effects->is_role_changed) {
        struct raft_status status = cluster_status(cluster, n);
        char leader[16] = "none";
        if (status.leader != RAFT_NO_MEMBER) {
            snprintf(leader, sizeof(leader), "%d", status.leader + 1);
        }
        trace(cluster, "%d: %s term %" PRIu64 " leader %s%s", n + 1, role_names[status.role],
              status.term, leader,
              status.role == RAFT_FOLLOWER && status.leader != RAFT_NO_MEMBER && !status.has_quorum
                  ? " (contact lost)"
                  : "");
        cluster_check_role(cluster, n);
    }
    if (effects->commit_index != node->commit_index) {
        raft_index from = node->commit_index;
        node->commit_index = effects->commit_index;
        trace(cluster, "%d: commit %" PRIu64, n + 1, effects->commit_index);
        cluster_check_commit(cluster, n, from + 1, effects->commit_index);
    }
    take_reads(cluster, n, effects);
    if (effects->forgetful != 0 || effects->has_forgotten) {
        cluster_violation(cluster, "node %d: a member is said to have forgotten what it has",
                          n + 1);
    }
    if (effects->is_transfer_over) {
        trace(cluster, "%d: transfer over", n + 1);
        node->transfers_over++;
    }
    for (raft_member i = 0; i < cluster->options.count; i++) {
        if ((effects->snapshot_wanted >> i & 1u) != 0 && cluster->nodes[i].raft != NULL &&
            cluster->links[n][i].is_up && !cluster->links[n][i].is_cut) {
            start_transfer(cluster, n, i);
        }
    }
    node->deadline_ns = effects->next_deadline_ns;
}

/* ---- turns ---- */

static int step(struct cluster *cluster, raft_member n, struct raft_event *event,
                const struct raft_effects **effects)
{
    event->now_ns = cluster->now_ns;
    cluster->events++;
    int rc = raft_step(cluster->nodes[n].raft, event, effects);
    take_effects(cluster, n, *effects);
    return rc;
}

static void fill_entries(struct raft_entry *out, const struct cluster_entry *entries, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        out[i] = (struct raft_entry){.term = entries[i].term, .type = entries[i].type};
        if (entries[i].type == RAFT_ENTRY_CONFIG_CHANGE) {
            out[i].change = &entries[i].change;
        } else {
            out[i].data = &entries[i];
            out[i].size = sizeof(entries[i].payload);
        }
    }
}

static void handle_input(struct cluster *cluster, raft_member n, struct cluster_packet *packet)
{
    static struct raft_entry entries[RAFT_APPEND_ENTRIES_MAX];
    struct raft_event *event = &packet->event;
    const struct raft_effects *effects;
    fill_entries(entries, packet->entries, packet->count);
    if (event->kind == RAFT_EVENT_PROPOSE) {
        if (raft_can_propose(cluster->nodes[n].raft) != RAFT_PROPOSE_NOW) {
            return;
        }
        event->propose.entries = entries;
        event->propose.count = (uint32_t)packet->count;
    } else if (event->kind == RAFT_EVENT_MESSAGE && event->message.kind == RAFT_APPEND_REQUEST) {
        event->message.append_request.entries = entries;
    }
    int rc = step(cluster, n, event, &effects);
    if (rc != 0 && event->kind == RAFT_EVENT_MESSAGE) {
        char text[256];
        cluster_format_message(&event->message, text, sizeof(text));
        cluster_violation(cluster, "node %d: a message of node %d was invalid: %s", n + 1,
                          event->message.peer + 1, text);
    }
}

static void apply(struct cluster *cluster, raft_member n)
{
    struct cluster_node *node = &cluster->nodes[n];
    struct cluster_machine *machine = &node->machine;
    while (machine->applied < node->commit_index) {
        raft_index index = machine->applied + 1;
        /* As the store must never be ahead of the durable log, apply waits for it too. */
        if (log_term(&node->disk, index) != log_term(&node->log, index)) {
            return;
        }
        const struct cluster_entry *entry = log_entry(&node->log, index);
        machine->applied = index;
        machine->applied_term = entry->term;
        machine->hash = (machine->hash ^ (entry->payload + 1)) * UINT64_C(0x100000001b3);
        if (entry->type == RAFT_ENTRY_CONFIG_CHANGE) {
            raft_config_apply(&machine->config, &entry->change);
        }
        cluster_check_apply(cluster, n);
    }
}

static void write_save(struct cluster_node *node, const struct cluster_save *save)
{
    if (save->has_hard_state) {
        node->disk_term = save->term;
        node->disk_voted_for = save->voted_for;
    }
    if (save->count > 0) {
        log_replace(&node->disk, save->append_first, save->entries, save->count);
        node->is_fresh = false;
    }
}

/* Makes everything up to `seq` durable. */
static void sync_disk(struct cluster_node *node, uint64_t seq)
{
    while (node->saves != NULL && node->saves->seq <= seq) {
        struct cluster_save *save = node->saves;
        write_save(node, save);
        node->saves = save->next;
        if (node->saves == NULL) {
            node->last_save = NULL;
        }
        free(save);
    }
}

static void start_sync(struct cluster *cluster, raft_member n);

static void finish_sync(struct cluster *cluster, raft_member n)
{
    struct cluster_node *node = &cluster->nodes[n];
    const struct raft_effects *effects;
    struct raft_event event = {.kind = RAFT_EVENT_PERSISTED};
    node->disk_ns = CLUSTER_NEVER;
    sync_disk(node, node->disk_seq);
    event.persisted.save_seq = node->disk_seq;
    event.persisted.last_index = log_last(&node->disk);
    event.persisted.last_term = log_term(&node->disk, log_last(&node->disk));
    node->persisted_seq = node->disk_seq;
    step(cluster, n, &event, &effects);
    struct cluster_queue held = node->held;
    node->held = (struct cluster_queue){0};
    struct cluster_packet *packet;
    while ((packet = pop(&held)) != NULL) {
        if (packet->save_seq <= node->persisted_seq) {
            send_packet(cluster, n, packet);
        } else {
            push(&node->held, packet);
        }
    }
    apply(cluster, n);
    start_sync(cluster, n);
}

static void start_sync(struct cluster *cluster, raft_member n)
{
    struct cluster_node *node = &cluster->nodes[n];
    if (node->saves == NULL || node->disk_ns != CLUSTER_NEVER) {
        return;
    }
    node->disk_seq = node->last_save->seq;
    node->disk_ns = cluster->now_ns +
                    between(cluster, cluster->options.disk_min_ns, cluster->options.disk_max_ns);
    if (node->disk_ns == cluster->now_ns) {
        finish_sync(cluster, n);
    }
}

static bool is_running(const struct cluster *cluster, const struct cluster_node *node)
{
    /* With the fsync inline nothing else happens while it runs. */
    return node->raft != NULL && !node->is_paused &&
           (cluster->options.is_disk_async || node->disk_ns == CLUSTER_NEVER);
}

void cluster_turn(struct cluster *cluster, raft_member n)
{
    struct cluster_node *node = &cluster->nodes[n];
    if (!is_running(cluster, node)) {
        return;
    }
    node->turns++;
    struct cluster_packet *packet;
    while ((packet = pop(&node->inputs)) != NULL) {
        handle_input(cluster, n, packet);
        free(packet);
    }
    const struct raft_effects *effects;
    step(cluster, n, &(struct raft_event){.kind = RAFT_EVENT_TICK}, &effects);
    step(cluster, n, &(struct raft_event){.kind = RAFT_EVENT_REPLICATE}, &effects);
    if (node->saves != NULL) {
        start_sync(cluster, n);
    } else {
        apply(cluster, n);
    }
}

/* ---- snapshots ---- */

static void install(struct cluster *cluster, raft_member n, const struct cluster_machine *machine)
{
    struct cluster_node *node = &cluster->nodes[n];
    enum raft_install_answer answer =
        raft_can_install(node->raft, machine->applied, machine->applied_term);
    const struct raft_effects *effects;
    if (answer == RAFT_INSTALL_REFUSE || machine->applied <= node->machine.applied) {
        struct raft_event event = {.kind = RAFT_EVENT_SNAPSHOT_INSTALLING};
        step(cluster, n, &event, &effects);
        return;
    }
    trace(cluster, "%d: installs a snapshot at %" PRIu64 "%s", n + 1, machine->applied,
          answer == RAFT_INSTALL_KEEP_LOG ? ", keeps the log" : "");
    if (node->saves != NULL) {
        node->disk_seq = node->last_save->seq;
        finish_sync(cluster, n);
    }
    node->machine = *machine;
    node->disk_machine = *machine;
    node->is_fresh = false;
    if (answer == RAFT_INSTALL_KEEP_LOG) {
        log_drop_prefix(&node->log, machine->applied);
    } else {
        log_reset(&node->log, machine->applied, machine->applied_term);
    }
    log_copy(&node->disk, &node->log);
    struct raft_event event = {.kind = RAFT_EVENT_SNAPSHOT_INSTALLED};
    event.snapshot.index = machine->applied;
    event.snapshot.term = machine->applied_term;
    event.snapshot.config = machine->config;
    if (node->commit_index < machine->applied) {
        node->commit_index = machine->applied;
    }
    step(cluster, n, &event, &effects);
    apply(cluster, n);
}

static void end_transfer(struct cluster *cluster, raft_member from, raft_member to)
{
    struct cluster_transfer *transfer = &cluster->transfers[from][to];
    transfer->is_running = false;
    bool is_sender_there =
        cluster->nodes[from].raft != NULL && cluster->nodes[from].boot == transfer->from_boot;
    bool is_receiver_there =
        cluster->nodes[to].raft != NULL && cluster->nodes[to].boot == transfer->to_boot;
    bool success = is_sender_there && is_receiver_there && !cluster->links[from][to].is_cut &&
                   !cluster->nodes[to].is_paused && cluster_status(cluster, to).role != RAFT_LEADER;
    if (success) {
        /* What was received before is handled before. */
        struct cluster_packet *packet;
        while ((packet = pop(&cluster->nodes[to].inputs)) != NULL) {
            handle_input(cluster, to, packet);
            free(packet);
        }
        success = cluster_status(cluster, to).role != RAFT_LEADER;
    }
    if (success) {
        install(cluster, to, &transfer->machine);
    } else if (is_receiver_there) {
        struct raft_event event = {.kind = RAFT_EVENT_SNAPSHOT_INSTALLING};
        queue_event(cluster, to, &event);
    }
    if (is_sender_there) {
        struct raft_event event = {.kind = RAFT_EVENT_SNAPSHOT_SENT};
        event.snapshot.peer = to;
        event.snapshot.success = success;
        queue_event(cluster, from, &event);
    }
}

/* ---- time ---- */

static uint64_t earliest(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

static uint64_t link_time(const struct cluster *cluster, raft_member from, raft_member to)
{
    const struct cluster_link *link = &cluster->links[from][to];
    uint64_t time = link->break_ns;
    if (link->is_up && !link->is_cut && link->packets.first != NULL && !cluster->is_manual) {
        time = earliest(time, link->packets.first->deliver_ns);
    }
    if (!link->is_up && cluster->nodes[from].raft != NULL && !cluster->nodes[from].is_paused) {
        time = earliest(time, link->redial_ns);
    }
    return time;
}

static uint64_t node_time(const struct cluster *cluster, raft_member n)
{
    const struct cluster_node *node = &cluster->nodes[n];
    if (node->raft == NULL || node->is_paused) {
        return CLUSTER_NEVER;
    }
    uint64_t time = node->disk_ns;
    if (is_running(cluster, node)) {
        time = earliest(time, node->inputs.first != NULL ? 0 : node->deadline_ns);
    }
    return time;
}

static uint64_t next_time(const struct cluster *cluster)
{
    uint64_t time = CLUSTER_NEVER;
    for (raft_member i = 0; i < cluster->options.count; i++) {
        time = earliest(time, node_time(cluster, i));
        for (raft_member j = 0; j < cluster->options.count; j++) {
            if (i != j) {
                time = earliest(time, link_time(cluster, i, j));
                if (cluster->transfers[i][j].is_running) {
                    time = earliest(time, cluster->transfers[i][j].done_ns);
                }
            }
        }
    }
    return time;
}

size_t cluster_deliver(struct cluster *cluster, raft_member from, raft_member to, size_t max)
{
    struct cluster_link *link = &cluster->links[from][to];
    size_t count = 0;
    for (; count < max && link->packets.first != NULL; count++) {
        struct cluster_packet *packet = pop(&link->packets);
        if (cluster->nodes[to].raft != NULL) {
            push(&cluster->nodes[to].inputs, packet);
        } else {
            free(packet);
        }
    }
    return count;
}

void cluster_drop(struct cluster *cluster, raft_member from, raft_member to)
{
    clear(&cluster->links[from][to].packets);
}

static void advance_link(struct cluster *cluster, raft_member from, raft_member to)
{
    struct cluster_link *link = &cluster->links[from][to];
    if (link->break_ns <= cluster->now_ns) {
        lose_stream(cluster, from, to);
    }
    while (link->is_up && !link->is_cut && !cluster->is_manual && link->packets.first != NULL &&
           link->packets.first->deliver_ns <= cluster->now_ns) {
        cluster_deliver(cluster, from, to, 1);
    }
    if (!link->is_up && cluster->nodes[from].raft != NULL && !cluster->nodes[from].is_paused &&
        link->redial_ns <= cluster->now_ns) {
        redial(cluster, from, to);
    }
    struct cluster_transfer *transfer = &cluster->transfers[from][to];
    if (transfer->is_running && transfer->done_ns <= cluster->now_ns) {
        end_transfer(cluster, from, to);
    }
}

static void advance_node(struct cluster *cluster, raft_member n)
{
    struct cluster_node *node = &cluster->nodes[n];
    if (node->raft == NULL || node->is_paused) {
        return;
    }
    if (node->disk_ns <= cluster->now_ns) {
        finish_sync(cluster, n);
    }
    if (is_running(cluster, node) &&
        (node->inputs.first != NULL || node->deadline_ns <= cluster->now_ns)) {
        cluster_turn(cluster, n);
    }
}

/* Everything that is due by `end_ns`, once. False when nothing is. */
static bool advance(struct cluster *cluster, uint64_t end_ns)
{
    uint64_t time = next_time(cluster);
    if (time > end_ns) {
        cluster->now_ns = end_ns;
        return false;
    }
    if (time > cluster->now_ns) {
        cluster->now_ns = time;
        cluster->rounds_at_now = 0;
    } else if (++cluster->rounds_at_now > 100000) {
        cluster_violation(cluster, "a busy loop: time does not advance");
    }
    for (raft_member i = 0; i < cluster->options.count; i++) {
        for (raft_member j = 0; j < cluster->options.count; j++) {
            if (i != j) {
                advance_link(cluster, i, j);
            }
        }
    }
    for (raft_member i = 0; i < cluster->options.count; i++) {
        advance_node(cluster, i);
    }
    return true;
}

void cluster_run(struct cluster *cluster, uint64_t duration_ns)
{
    uint64_t end_ns = cluster->now_ns + duration_ns;
    while (advance(cluster, end_ns)) {
    }
}

bool cluster_run_until(struct cluster *cluster, bool (*is_done)(struct cluster *cluster),
                       uint64_t duration_ns)
{
    uint64_t end_ns = cluster->now_ns + duration_ns;
    while (!is_done(cluster)) {
        if (!advance(cluster, end_ns)) {
            return is_done(cluster);
        }
    }
    return true;
}

/* ---- clients ---- */

void cluster_inject(struct cluster *cluster, raft_member n, const struct raft_event *event,
                    const struct cluster_entry *entries, size_t count)
{
    if (cluster->nodes[n].raft != NULL) {
        push(&cluster->nodes[n].inputs, new_packet(event, entries, count));
    }
}

bool cluster_propose(struct cluster *cluster, raft_member n, uint64_t payload)
{
    struct cluster_node *node = &cluster->nodes[n];
    if (!is_running(cluster, node) || raft_can_propose(node->raft) != RAFT_PROPOSE_NOW) {
        return false;
    }
    struct cluster_entry entry = {.type = RAFT_ENTRY_COMMAND, .payload = payload};
    cluster_inject(cluster, n, &(struct raft_event){.kind = RAFT_EVENT_PROPOSE}, &entry, 1);
    return true;
}

size_t cluster_read(struct cluster *cluster, raft_member n)
{
    struct cluster_node *node = &cluster->nodes[n];
    if (!is_running(cluster, node)) {
        return SIZE_MAX;
    }
    if (cluster->read_count == cluster->read_capacity) {
        cluster->read_capacity = 2 * cluster->read_capacity + 64;
        cluster->reads = realloc(cluster->reads, cluster->read_capacity * sizeof(*cluster->reads));
        CHECK(cluster->reads != NULL);
    }
    size_t position = cluster->read_count++;
    struct cluster_read *read = &cluster->reads[position];
    *read = (struct cluster_read){
        .node = n, .boot = node->boot, .id = ++node->read_id, .min_index = cluster->max_commit};
    struct raft_event event = {.kind = RAFT_EVENT_READ};
    event.read.id = read->id;
    const struct raft_effects *effects;
    if (step(cluster, n, &event, &effects) != 0) {
        read->state = CLUSTER_READ_REFUSED;
        return SIZE_MAX;
    }
    node->deadline_ns = cluster->now_ns; /* a turn follows */
    return position;
}

void cluster_transfer(struct cluster *cluster, raft_member n, raft_member target)
{
    struct raft_event event = {.kind = RAFT_EVENT_TRANSFER};
    event.transfer.target = target;
    queue_event(cluster, n, &event);
}

/* ---- faults ---- */

static void start_node(struct cluster *cluster, raft_member n)
{
    struct cluster_node *node = &cluster->nodes[n];
    struct raft_change changes[RAFT_CONFIGS_MAX];
    raft_index change_indexes[RAFT_CONFIGS_MAX];
    node->boot++;
    node->fit_entries = cluster->options.fit_entries;
    node->machine = node->disk_machine;
    log_copy(&node->log, &node->disk);
    struct raft_options options = {
        .self = n,
        .member_count = cluster->options.count,
        .election_timeout_ns = cluster->options.election_timeout_ns,
        .heartbeat_interval_ns = cluster->options.heartbeat_ns,
        .seed = random_next(&cluster->random),
        .log = {.context = node, .first = view_first, .term = view_term, .fit = view_fit},
        .term = node->disk_term,
        .voted_for = node->disk_voted_for,
        .last_index = log_last(&node->log),
        .applied_index = node->machine.applied,
        .config = node->machine.config,
        .changes = changes,
        .change_indexes = change_indexes,
        .incarnation = node->incarnation,
        .is_fresh = node->is_fresh,
        .is_eligible = node->is_eligible,
        .now_ns = cluster->now_ns,
    };
    for (raft_index i = options.applied_index + 1; i <= options.last_index; i++) {
        const struct cluster_entry *entry = log_entry(&node->log, i);
        if (entry->type == RAFT_ENTRY_CONFIG_CHANGE) {
            CHECK(options.change_count < RAFT_CONFIGS_MAX);
            changes[options.change_count] = entry->change;
            change_indexes[options.change_count++] = i;
        }
    }
    uint64_t cluster_id = random_next(&cluster->random);
    memcpy(options.new_cluster_id, &cluster_id, sizeof(cluster_id));
    CHECK(raft_create(&options, &node->raft) == 0);
    node->commit_index = node->machine.applied;
    node->persisted_seq = 0;
    node->disk_ns = CLUSTER_NEVER;
    node->deadline_ns = cluster->now_ns;
    node->read_id = 0;
    node->is_paused = false;
    trace(cluster, "%d: starts, term %" PRIu64 ", log to %" PRIu64, n + 1, options.term,
          options.last_index);
}

struct cluster *cluster_create(const struct cluster_options *options)
{
    struct cluster *cluster = allocate(sizeof(*cluster));
    struct cluster_options *o = &cluster->options;
    *o = *options;
    o->election_timeout_ns = o->election_timeout_ns ? o->election_timeout_ns : 500 * CLUSTER_MS;
    o->heartbeat_ns = o->heartbeat_ns ? o->heartbeat_ns : 50 * CLUSTER_MS;
    o->latency_min_ns = o->latency_min_ns ? o->latency_min_ns : CLUSTER_MS;
    o->latency_max_ns = o->latency_max_ns ? o->latency_max_ns : o->latency_min_ns;
    o->keepalive_ns = o->keepalive_ns ? o->keepalive_ns : 1000 * CLUSTER_MS;
    o->fit_entries = o->fit_entries ? o->fit_entries : 16;
    o->snapshot_ns = o->snapshot_ns ? o->snapshot_ns : 20 * CLUSTER_MS;
    random_seed(&cluster->random, o->seed);
    cluster->now_ns = CLUSTER_MS;
    cluster->check = cluster_check_create();
    for (raft_member i = 0; i < o->count; i++) {
        struct cluster_node *node = &cluster->nodes[i];
        node->incarnation = ++cluster->last_incarnation;
        node->is_fresh = true;
        node->is_eligible = true;
        node->disk_voted_for = RAFT_NO_MEMBER;
        start_node(cluster, i);
        for (raft_member j = 0; j < o->count; j++) {
            cluster->links[i][j].break_ns = CLUSTER_NEVER;
            cluster->links[i][j].redial_ns = cluster->now_ns;
        }
    }
    return cluster;
}

static void stop_node(struct cluster_node *node)
{
    raft_destroy(node->raft);
    node->raft = NULL;
    clear(&node->inputs);
    clear(&node->held);
    clear_saves(node);
    node->disk_ns = CLUSTER_NEVER;
}

void cluster_destroy(struct cluster *cluster)
{
    if (cluster == NULL) {
        return;
    }
    for (raft_member i = 0; i < cluster->options.count; i++) {
        stop_node(&cluster->nodes[i]);
        free(cluster->nodes[i].log.entries);
        free(cluster->nodes[i].disk.entries);
        for (size_t j = 0; j < CLUSTER_WIPES_MAX; j++) {
            free(cluster->nodes[i].wiped[j].entries);
        }
        for (raft_member j = 0; j < cluster->options.count; j++) {
            clear(&cluster->links[i][j].packets);
        }
    }
    cluster_check_destroy(cluster->check);
    free(cluster->reads);
    free(cluster);
}

void cluster_crash(struct cluster *cluster, raft_member n, bool is_synced, bool is_silent)
{
    struct cluster_node *node = &cluster->nodes[n];
    if (node->raft == NULL) {
        return;
    }
    trace(cluster, "%d: crashes", n + 1);
    if (is_synced) {
        sync_disk(node, UINT64_MAX);
    }
    stop_node(node);
    for (raft_member i = 0; i < cluster->options.count; i++) {
        struct cluster_link *in = &cluster->links[i][n];
        struct cluster_link *out = &cluster->links[n][i];
        uint64_t break_ns = cluster->now_ns + (is_silent ? cluster->options.keepalive_ns
                                                         : cluster->options.latency_max_ns);
        clear(&in->packets);
        if (in->is_up) {
            in->break_ns = earliest(in->break_ns, break_ns);
        }
        /* What it had sent already still arrives. */
        if (out->is_up) {
            out->break_ns = earliest(out->break_ns, break_ns);
        }
    }
}

void cluster_restart(struct cluster *cluster, raft_member n)
{
    if (cluster->nodes[n].raft != NULL) {
        return;
    }
    for (raft_member i = 0; i < cluster->options.count; i++) {
        if (i != n) {
            lose_stream(cluster, i, n);
            lose_stream(cluster, n, i);
            cluster->links[n][i].redial_ns = cluster->now_ns;
        }
    }
    start_node(cluster, n);
}

void cluster_wipe(struct cluster *cluster, raft_member n, bool is_damaged)
{
    struct cluster_node *node = &cluster->nodes[n];
    CHECK(node->raft == NULL);
    trace(cluster, "%d: is %s", n + 1, is_damaged ? "damaged" : "wiped");
    size_t slot = node->wipe_count++ % CLUSTER_WIPES_MAX;
    log_copy(&node->wiped[slot], &node->disk);
    node->wiped_incarnations[slot] = node->incarnation;
    log_reset(&node->disk, 0, 0);
    memset(&node->disk_machine, 0, sizeof(node->disk_machine));
    node->disk_term = 0;
    node->disk_voted_for = RAFT_NO_MEMBER;
    node->incarnation = ++cluster->last_incarnation;
    node->is_fresh = !is_damaged;
    cluster_check_wiped(cluster);
}

void cluster_pause(struct cluster *cluster, raft_member n)
{
    if (cluster->nodes[n].raft != NULL) {
        trace(cluster, "%d: is stopped", n + 1);
        cluster->nodes[n].is_paused = true;
    }
}

void cluster_resume(struct cluster *cluster, raft_member n)
{
    if (cluster->nodes[n].is_paused) {
        trace(cluster, "%d: goes on", n + 1);
        cluster->nodes[n].is_paused = false;
    }
}

void cluster_cut(struct cluster *cluster, raft_member from, raft_member to)
{
    struct cluster_link *link = &cluster->links[from][to];
    if (!link->is_cut) {
        link->is_cut = true;
        if (link->is_up) {
            link->break_ns =
                earliest(link->break_ns, cluster->now_ns + cluster->options.keepalive_ns);
        }
    }
}

void cluster_heal(struct cluster *cluster, raft_member from, raft_member to)
{
    struct cluster_link *link = &cluster->links[from][to];
    if (link->is_cut) {
        link->is_cut = false;
        if (link->is_up && cluster->nodes[from].raft != NULL && cluster->nodes[to].raft != NULL) {
            link->break_ns = CLUSTER_NEVER;
        }
    }
}

void cluster_heal_all(struct cluster *cluster)
{
    for (raft_member i = 0; i < cluster->options.count; i++) {
        for (raft_member j = 0; j < cluster->options.count; j++) {
            cluster_heal(cluster, i, j);
        }
    }
}

void cluster_break(struct cluster *cluster, raft_member from, raft_member to)
{
    lose_stream(cluster, from, to);
}

void cluster_flush(struct cluster *cluster, raft_member n)
{
    if (cluster->nodes[n].raft != NULL) {
        cluster->nodes[n].disk_machine = cluster->nodes[n].machine;
    }
}

void cluster_compact(struct cluster *cluster, raft_member n, raft_index trailing)
{
    struct cluster_node *node = &cluster->nodes[n];
    raft_index applied = node->disk_machine.applied;
    if (node->raft == NULL || applied < trailing || applied - trailing <= node->log.base) {
        return;
    }
    raft_index base = applied - trailing;
    if (log_term(&node->disk, base) == 0) {
        return;
    }
    trace(cluster, "%d: compacts up to %" PRIu64, n + 1, base);
    log_drop_prefix(&node->log, base);
    log_drop_prefix(&node->disk, base);
}

/* ---- looking ---- */

struct raft_status cluster_status(const struct cluster *cluster, raft_member n)
{
    struct raft_status status = {.leader = RAFT_NO_MEMBER, .voted_for = RAFT_NO_MEMBER};
    if (cluster->nodes[n].raft != NULL) {
        raft_get_status(cluster->nodes[n].raft, cluster->now_ns, &status);
    }
    return status;
}

raft_member cluster_leader(const struct cluster *cluster)
{
    raft_member leader = RAFT_NO_MEMBER;
    raft_term term = 0;
    for (raft_member i = 0; i < cluster->options.count; i++) {
        struct raft_status status = cluster_status(cluster, i);
        if (status.role == RAFT_LEADER && status.term > term) {
            leader = i;
            term = status.term;
        }
    }
    return leader;
}

bool cluster_is_converged(struct cluster *cluster)
{
    raft_member leader = cluster_leader(cluster);
    if (leader == RAFT_NO_MEMBER) {
        return false;
    }
    raft_index last = log_last(&cluster->nodes[leader].log);
    for (raft_member i = 0; i < cluster->options.count; i++) {
        const struct cluster_node *node = &cluster->nodes[i];
        if (node->raft == NULL || node->machine.applied != last ||
            !cluster_status(cluster, i).is_whole) {
            return false;
        }
    }
    return true;
}

void cluster_format_message(const struct raft_message *m, char *out, size_t size)
{
    switch (m->kind) {
    case RAFT_APPEND_REQUEST:
        snprintf(out, size,
                 "append term %" PRIu64 " prev %" PRIu64 "/%" PRIu64 " entries %u commit %" PRIu64
                 " round %" PRIu64,
                 m->term, m->append_request.prev_index, m->append_request.prev_term,
                 m->append_request.count, m->append_request.commit, m->append_request.read_round);
        return;
    case RAFT_APPEND_RESPONSE:
        if (m->append_response.success) {
            snprintf(out, size, "appended term %" PRIu64 " last %" PRIu64 " round %" PRIu64,
                     m->term, m->append_response.last_index, m->append_response.read_round);
        } else {
            snprintf(out, size,
                     "refused-append term %" PRIu64 " prev %" PRIu64 " hint %" PRIu64 "/%" PRIu64
                     " round %" PRIu64,
                     m->term, m->append_response.rejected_index, m->append_response.last_index,
                     m->append_response.hint_term, m->append_response.read_round);
        }
        return;
    case RAFT_VOTE_REQUEST:
        snprintf(out, size, "%svote? term %" PRIu64 " last %" PRIu64 "/%" PRIu64 "%s",
                 m->vote_request.is_pre_vote ? "pre-" : "", m->vote_request.for_term,
                 m->vote_request.last_index, m->vote_request.last_term,
                 m->vote_request.is_transfer ? " transfer" : "");
        return;
    case RAFT_VOTE_RESPONSE:
        snprintf(out, size, "%svote %s term %" PRIu64 " (own term %" PRIu64 ")",
                 m->vote_response.is_pre_vote ? "pre-" : "",
                 m->vote_response.granted ? "granted" : "refused", m->vote_response.for_term,
                 m->term);
        return;
    case RAFT_TIMEOUT_NOW:
        snprintf(out, size, "timeout-now term %" PRIu64, m->term);
        return;
    case RAFT_READ_REQUEST:
        snprintf(out, size, "read? %" PRIu64 " term %" PRIu64, m->read_request.id, m->term);
        return;
    case RAFT_READ_RESPONSE:
        snprintf(out, size, "read %" PRIu64 " %s index %" PRIu64 " term %" PRIu64,
                 m->read_response.id, m->read_response.confirmed ? "confirmed" : "refused",
                 m->read_response.index, m->term);
        return;
    }
    snprintf(out, size, "message %d", (int)m->kind);
}
