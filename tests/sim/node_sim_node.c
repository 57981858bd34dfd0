/* One node's life. What the daemon's threads do is done here by events: turns of the driver, the
 * store's flushes, the snapshots' jobs, the readers. */
#include "base/check.h"
#include "base/errors.h"
#include "base/unconst.h"
#include "node_sim.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* As the daemon's: what nobody can take over or answer does not hold up a stop for ever. */
#define DRAIN_MAX_NS (10 * NS_PER_S)

static const struct cluster_member members[SIM_NODES_MAX] = {
    {.node_id = "n0"}, {.node_id = "n1"}, {.node_id = "n2"}, {.node_id = "n3"}, {.node_id = "n4"}};

static void schedule_turn(struct sim_node *node, uint64_t at_ns);
static void schedule_store(struct sim_node *node, uint64_t at_ns);

/* ---- clocks ---- */

static struct sim_node *of_clock(const struct clock *clock)
{
    return CONTAINER_OF(unconst(clock), struct sim_node, clock);
}

uint64_t sim_node_local_ns(const struct sim_node *node)
{
    uint64_t passed = node->sim->now_ns + node->spent_ns - node->clock_world_ns;
    return node->clock_local_ns + passed +
           (uint64_t)((int64_t)(passed / 1000) * node->clock_ppm / 1000);
}

static uint64_t read_monotonic(const struct clock *clock)
{
    return sim_node_local_ns(of_clock(clock));
}

static int64_t read_wall(const struct clock *clock)
{
    const struct sim_node *node = of_clock(clock);
    return INT64_C(1700000000000) + node->wall_offset_ms + (int64_t)(sim_node_local_ns(node) / MS);
}

/* When the node's clock will show this, or a little later. */
static uint64_t world_ns(const struct sim_node *node, uint64_t local_ns)
{
    if (local_ns == UINT64_MAX) {
        return SIM_NEVER;
    }
    if (local_ns <= node->clock_local_ns) {
        return node->sim->now_ns;
    }
    double passed = (double)(local_ns - node->clock_local_ns);
    double world = passed * 1e6 / (1e6 + (double)node->clock_ppm);
    return node->clock_world_ns + (uint64_t)world + 2 * US;
}

void sim_node_jump(struct sim_node *node, uint64_t forward_ns, int64_t wall_ms)
{
    node->clock_local_ns = sim_node_local_ns(node) + forward_ns;
    node->clock_world_ns = node->sim->now_ns;
    node->wall_offset_ms += wall_ms;
    sim_node_wake(node);
}

/* ---- the readers ---- */

static void run_reader(struct sim *sim, struct sim_event *event)
{
    (void)sim;
    event->node->is_reader_due = false;
    sim_clients_serve(event->node);
}

static void notify_reader(struct hub_listener *listener)
{
    struct sim_node *node = CONTAINER_OF(listener, struct sim_node, listener);
    if (!node->is_reader_due) {
        node->is_reader_due = true;
        sim_after(node->sim, 5 * US + sim_below(node->sim, 1 * MS), node, sizeof(struct sim_event),
                  run_reader);
    }
}

/* ---- turns ---- */

static uint64_t later(uint64_t a, uint64_t b)
{
    return a > b ? a : b;
}

/* The end of a call into the node; with the last one it may die of what happened. */
static void leave(struct sim_node *node)
{
    node->depth--;
    if (node->depth == 0 && node->is_dying) {
        bool is_stopping = node->is_stopping;
        sim_node_die(node, node->is_power_cut, node->is_power_cut);
        if (!is_stopping) {
            sim_faults_died(node);
        }
    }
}

static void check_fatal(struct sim_node *node)
{
    const char *fatal = node_fatal(node->node);
    if (fatal != NULL && !node->is_dying) {
        sim_violation(node->sim, "%s ends: %s", node->name, fatal);
    }
    if (chat_is_damaged(node->boot.chat) && !node->is_dying) {
        sim_violation(node->sim, "%s finds damage that nobody made", node->name);
    }
}

/* Returns the deadline in world time. */
static uint64_t turn(struct sim_node *node)
{
    uint64_t deadline_ns = node_turn(node->node, sim_node_local_ns(node));
    node->has_install = false;
    check_fatal(node);
    sim_check_turn(node);
    return world_ns(node, deadline_ns);
}

static void run_turn(struct sim *sim, struct sim_event *event)
{
    struct sim_node *node = event->node;
    if (event->at_ns != node->turn_ns) {
        return; /* another time was set since */
    }
    node->turn_ns = SIM_NEVER;
    node->spent_ns = 0;
    node->depth++;
    uint64_t deadline_ns = turn(node);
    node->busy_ns = sim->now_ns + node->spent_ns + 5 * US + sim_below(sim, 20 * US);
    node->spent_ns = 0;
    if (!node->is_dying) {
        bool is_drained = node->is_stopping && node_is_drained(node->node);
        if (is_drained || (node->is_stopping && sim->now_ns >= node->stop_by_ns)) {
            node->is_dying = true;
            node->is_power_cut = false;
            sim_trace(sim, "%s %s", node->name, is_drained ? "has drained" : "drains no longer");
        }
        schedule_turn(node, deadline_ns);
    }
    leave(node);
}

static void schedule_turn(struct sim_node *node, uint64_t at_ns)
{
    if (at_ns == SIM_NEVER) {
        return;
    }
    at_ns = later(later(at_ns, node->sim->now_ns), later(node->busy_ns, node->paused_ns));
    if (at_ns >= node->turn_ns) {
        return;
    }
    node->turn_ns = at_ns;
    sim_after(node->sim, at_ns - node->sim->now_ns, node, sizeof(struct sim_event), run_turn);
}

void sim_node_wake(struct sim_node *node)
{
    if (node->is_up) {
        schedule_turn(node, node->sim->now_ns + 1);
    }
}

void sim_node_nested_turn(struct sim_node *node)
{
    struct sim *sim = node->sim;
    if (!node->is_flushing || node->is_dying || node->has_install || node->busy_ns > sim->now_ns ||
        node->paused_ns > sim->now_ns || !sim_permille(sim, sim->levels.nested_permille)) {
        return;
    }
    uint64_t spent_ns = node->spent_ns;
    node->spent_ns = 0;
    node->depth++;
    uint64_t deadline_ns = turn(node);
    node->busy_ns = sim->now_ns + node->spent_ns + 5 * US;
    node->spent_ns = spent_ns;
    node->depth--;
    schedule_turn(node, deadline_ns);
}

void sim_node_pause(struct sim_node *node, uint64_t duration_ns)
{
    node->paused_ns = node->sim->now_ns + duration_ns;
    /* Whatever was set is too early now. */
    node->turn_ns = SIM_NEVER;
    schedule_turn(node, node->paused_ns);
    sim_network_paused(node, duration_ns);
}

/* ---- the store's thread ---- */

static void run_store(struct sim *sim, struct sim_event *event)
{
    struct sim_node *node = event->node;
    struct chat *chat = node->boot.chat;
    if (event->order != node->store_token) {
        return;
    }
    if (node->paused_ns > sim->now_ns) {
        schedule_store(node, node->paused_ns);
        return;
    }
    node->spent_ns = 0;
    node->depth++;
    node->is_flushing = true;
    enum chat_flush_reason reason = node->is_flush_wanted ? CHAT_FLUSH_NOW : CHAT_FLUSH_IF_DUE;
    node->is_flush_wanted = false;
    uint64_t local_ns = sim_node_local_ns(node);
    int rc = chat_flush(chat, reason, local_ns);
    node->is_flushing = false;
    if (rc != 0 && rc != ERR_NO_SPACE && !node->is_dying) {
        sim_violation(sim, "%s cannot flush: %s", node->name, error_text(rc));
    }
    if (!node->is_dying) {
        node_set_store_full(node->node, rc == ERR_NO_SPACE);
        uint64_t next_ns = chat_flush_deadline_ns(chat, local_ns);
        uint64_t latest_ns = local_ns + (rc == 0 ? CHAT_GENERATION_AGE_NS : 200 * MS);
        next_ns = next_ns < latest_ns && rc == 0 ? next_ns : latest_ns;
        if (node->is_flush_wanted) {
            next_ns = local_ns;
        }
        schedule_store(node, world_ns(node, next_ns) + node->spent_ns);
        sim_node_wake(node);
    }
    node->spent_ns = 0;
    leave(node);
}

static void schedule_store(struct sim_node *node, uint64_t at_ns)
{
    at_ns = later(at_ns, node->sim->now_ns);
    struct sim_event *event =
        sim_after(node->sim, at_ns - node->sim->now_ns, node, sizeof(*event), run_store);
    node->store_token = event->order;
}

void sim_node_flush(struct sim_node *node)
{
    if (node->is_up) {
        node->is_flush_wanted = true;
        if (!node->is_flushing) {
            schedule_store(node, node->sim->now_ns + 10 * US);
        }
    }
}

static void wake_store(void *context)
{
    sim_node_flush(context);
}

/* ---- the snapshots' thread ---- */

/* For the trace: the chunk that the job is about. */
static unsigned chunk_of(const struct node_job *job)
{
    switch (job->kind) {
    case NODE_JOB_READ:
        return job->read.chunk;
    case NODE_JOB_RECEIVE:
        return job->receive.next_chunk;
    case NODE_JOB_WRITE:
        return job->write.chunk;
    default:
        return 0;
    }
}

static void run_job(struct sim *sim, struct sim_event *event)
{
    struct sim_node *node = event->node;
    if (node->paused_ns > sim->now_ns) {
        sim_requeue(sim, event, node->paused_ns - sim->now_ns);
        event->is_kept = true;
        return;
    }
    struct list *link = list_pop_front(&node->jobs);
    CHECK(link != NULL);
    struct node_job *job = LIST_ENTRY(link, struct node_job, link);
    node->spent_ns = 0;
    node->depth++;
    node_job_run(&node->files, job);
    sim_trace(sim, "%s job %d chunk %u: %d %s", node->name, (int)job->kind, chunk_of(job), job->rc,
              job->reason);
    node->has_install = node->has_install || job->kind == NODE_JOB_COMPLETE;
    if (job->kind == NODE_JOB_COMPLETE) {
        sim_faults_install_due(node);
    }
    node_post_job(node->node, job);
    sim_node_wake(node);
    if (list_is_empty(&node->jobs)) {
        node->is_job_running = false;
    } else {
        sim_after(sim, node->spent_ns + 20 * US, node, sizeof(struct sim_event), run_job);
    }
    node->spent_ns = 0;
    leave(node);
}

static void submit_job(void *context, struct node_job *job)
{
    struct sim_node *node = context;
    list_push_back(&node->jobs, &job->link);
    if (!node->is_job_running) {
        node->is_job_running = true;
        sim_after(node->sim, sim_between(node->sim, 20 * US, 5 * MS), node,
                  sizeof(struct sim_event), run_job);
    }
}

/* ---- start ---- */

static uint64_t make_incarnation(void *context)
{
    struct sim_node *node = context;
    return 1 + random_next(&node->sim->random) / 2;
}

static int open_boot(struct sim_node *node, char *error, size_t error_size)
{
    node->store_kind = sim_store_kind;
    const struct boot_options options = {
        .data_dir = node->name,
        .node_id = node->name,
        .is_alone = node->sim->levels.node_count == 1,
        .fs = &node->disk.fs,
        .clock = &node->clock,
        .log_segment_bytes = node->sim->levels.segment_bytes,
        .store_kind = &node->store_kind,
        .new_incarnation = make_incarnation,
        .context = node,
    };
    return boot_open(&options, &node->boot, error, error_size);
}

static int create_node(struct sim_node *node, char *error, size_t error_size)
{
    const struct sim_levels *levels = &node->sim->levels;
    struct node_options options = {
        .members = members,
        .member_count = levels->node_count,
        .self = node->id,
        .election_timeout_ns = levels->election_timeout_ns,
        .heartbeat_interval_ns = levels->heartbeat_ns,
        .requests_max = levels->requests_max,
        .seed = random_next(&node->sim->random),
        .clock = &node->clock,
        .wal = node->boot.wal,
        .chat = node->boot.chat,
        .snapshot_interval_ns = levels->snapshot_interval_ns,
        .snapshot_threshold = levels->snapshot_threshold,
        .trailing_logs = levels->trailing_logs,
        .flush_store = wake_store,
        .flush_store_context = node,
        .submit_job = submit_job,
        .job_context = node,
        .data_dir = &node->boot.dir,
    };
    for (size_t i = 0; i < sizeof(options.new_cluster_id); i++) {
        options.new_cluster_id[i] = (uint8_t)(1 + sim_below(node->sim, 255));
    }
    return node_create(&options, &node->node, error, error_size);
}

static void say_identity(struct sim_node *node)
{
    const struct wal_hard_state *state = wal_hard_state(node->boot.wal);
    node->incarnation = node->boot.incarnation;
    node->is_fresh = wal_last_index(node->boot.wal) == 0 && !state->is_recovering &&
                     !cluster_id_is_set(state->cluster_id);
    memcpy(node->cluster_id, state->cluster_id, sizeof(node->cluster_id));
}

static void start_again(struct sim *sim, struct sim_event *event)
{
    (void)sim;
    sim_node_start(event->node);
}

/* A start that failed: it died in it, or found no room. */
static void give_up_start(struct sim_node *node, const char *error)
{
    struct sim *sim = node->sim;
    if (!node->is_dying && !node->disk.is_limited) {
        sim_violation(sim, "%s does not start: %s", node->name, error);
    }
    sim_trace(sim, "%s does not start: %s", node->name, node->is_dying ? "it dies" : error);
    sim_disk_die(&node->disk, node->is_dying && node->is_power_cut);
    node->is_dying = false;
    node->life++;
    sim_after(sim, 1 * MS + sim_below(sim, 100 * MS), node, sizeof(struct sim_event), start_again);
}

void sim_node_start(struct sim_node *node)
{
    struct sim *sim = node->sim;
    char error[512] = "";
    CHECK(!node->is_up);
    node->life++;
    node->start_ns = SIM_NEVER;
    node->disk.is_dead = false;
    node->is_dying = false;
    node->spent_ns = 0;
    int rc = open_boot(node, error, sizeof(error));
    if (rc == 0 && node->is_dying) {
        boot_close(&node->boot);
        rc = ERR_IO;
    }
    if (rc != 0) {
        give_up_start(node, error);
        return;
    }
    rc = create_node(node, error, sizeof(error));
    if (rc != 0) {
        sim_violation(sim, "%s cannot begin: %s", node->name, error);
    }
    say_identity(node);
    sim_trace(sim, "%s starts: log %llu..%llu, store at %llu, incarnation %llx%s", node->name,
              (unsigned long long)wal_first_index(node->boot.wal),
              (unsigned long long)wal_last_index(node->boot.wal),
              (unsigned long long)chat_durable_applied(node->boot.chat),
              (unsigned long long)node->incarnation,
              wal_hard_state(node->boot.wal)->is_recovering ? ", recovering" : "");
    sim_check_start(node);
    node->is_up = true;
    node->is_stopping = false;
    node->turn_ns = SIM_NEVER;
    node->busy_ns = sim->now_ns + node->spent_ns;
    node->paused_ns = 0;
    node->is_flush_wanted = false;
    node->is_job_running = false;
    node->is_reader_due = false;
    node->has_install = false;
    node->spent_ns = 0;
    node_files_init(&node->files, &node->boot.dir, node->boot.chat, &node->store_kind);
    hub_listener_init(chat_hub(node->boot.chat), &node->listener, notify_reader);
    chat_set_flush_wanted(node->boot.chat, wake_store, node);
    sim_network_start(node);
    node_attach(node->node, &node->transport);
    schedule_turn(node, sim->now_ns);
    schedule_store(node, sim->now_ns + sim_below(sim, CHAT_GENERATION_AGE_NS));
}

/* ---- end ---- */

void sim_node_die(struct sim_node *node, bool is_power_cut, bool is_silent)
{
    struct sim *sim = node->sim;
    CHECK(node->is_up);
    sim_trace(sim, "%s %s", node->name, is_power_cut ? "loses power" : "ends");
    node->is_up = false;
    node->is_dying = false;
    node->life++;
    sim_disk_die(&node->disk, is_power_cut);
    sim_clients_node_down(node);
    node_fail_all(node->node);
    struct list *link;
    while ((link = list_pop_front(&node->jobs)) != NULL) {
        node_job_destroy(LIST_ENTRY(link, struct node_job, link));
    }
    node_files_finish(&node->files);
    sim_network_stop(node, is_silent);
    node_destroy(node->node);
    node->node = NULL;
    boot_close(&node->boot);
    sim_check_down(node);
    if (node->is_stopping) {
        node->is_stopping = false;
        node->start_ns = 0;
        sim_after(sim, sim_below(sim, 200 * MS), node, sizeof(struct sim_event), start_again);
    }
}

void sim_node_stop(struct sim_node *node)
{
    node->is_stopping = true;
    node->stop_by_ns = node->sim->now_ns + DRAIN_MAX_NS;
    node_drain(node->node);
    sim_node_wake(node);
}

void sim_node_init(struct sim *sim, int id)
{
    struct sim_node *node = &sim->nodes[id];
    node->sim = sim;
    node->id = id;
    snprintf(node->name, sizeof(node->name), "n%d", id);
    node->clock = (struct clock){.monotonic_ns = read_monotonic, .wall_ms = read_wall};
    int64_t most = sim->levels.skew_ppm_max;
    node->clock_ppm = (int64_t)sim_below(sim, (uint64_t)(2 * most + 1)) - most;
    node->clock_local_ns = NS_PER_S + sim_below(sim, 1000 * NS_PER_S);
    node->wall_offset_ms = (int64_t)sim_below(sim, 4000) - 2000;
    node->start_ns = SIM_NEVER;
    list_init(&node->jobs);
    list_init(&node->subscribers);
    sim_disk_init(&node->disk, node);
}

void sim_node_finish(struct sim_node *node)
{
    if (node->is_up) {
        node->is_stopping = false;
        sim_node_die(node, false, true);
    }
    sim_disk_finish(&node->disk);
}
