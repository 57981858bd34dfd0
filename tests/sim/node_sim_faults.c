/* What goes wrong, one thing after the other, and how it ends. */
#include "base/check.h"
#include "node_sim.h"

static struct sim_node *any_leader(struct sim *sim)
{
    struct sim_node *leader = NULL;
    raft_term newest = 0;
    for (int i = 0; i < sim->levels.node_count; i++) {
        struct sim_node *node = &sim->nodes[i];
        struct node_status status;
        if (!node->is_up) {
            continue;
        }
        node_get_status(node->node, &status);
        if (status.raft.role == RAFT_LEADER && status.raft.term >= newest) {
            leader = node;
            newest = status.raft.term;
        }
    }
    return leader;
}

/* ---- coming back ---- */

static void run_start(struct sim *sim, struct sim_event *event)
{
    (void)sim;
    if (!event->node->is_up) {
        sim_node_start(event->node);
    }
}

static void start_later(struct sim_node *node, uint64_t delay_ns)
{
    sim_after(node->sim, delay_ns, node, sizeof(struct sim_event), run_start);
}

static void start_some_time(struct sim_node *node)
{
    struct sim *sim = node->sim;
    if (!sim_one_in(sim, 8)) { /* else it waits for the healing, or for another start */
        start_later(node, sim_between(sim, 0, sim_one_in(sim, 3) ? 2000 * MS : 100 * MS));
    }
}

static void die(struct sim_node *node, bool is_power_cut)
{
    if (node->is_up) {
        node->is_stopping = false;
        sim_node_die(node, is_power_cut, is_power_cut && sim_one_in(node->sim, 2));
    }
}

/* ---- single faults ---- */

/* It dies at one of its next calls to the disk, wherever that is. */
static void die_within(struct sim *sim, struct sim_node *node)
{
    if (node->disk.calls_left == 0) {
        node->disk.calls_left = 1 + sim_between(sim, 0, 60);
        node->is_power_cut = sim_one_in(sim, 2);
        sim_trace(sim, "%s will die in %llu calls", node->name,
                  (unsigned long long)node->disk.calls_left);
    }
}

void sim_faults_died(struct sim_node *node)
{
    if (node->sim->is_healing) {
        start_later(node, sim_below(node->sim, 100 * MS));
    } else {
        start_some_time(node);
    }
}

void sim_faults_install_due(struct sim_node *node)
{
    struct sim *sim = node->sim;
    bool is_wanted = sim->levels.fault_weights[FAULT_DIE_WITHIN] > 0 && !sim->is_healing;
    if (is_wanted && node->disk.calls_left == 0 && sim_one_in(sim, 3)) {
        node->disk.calls_left = 1 + sim_below(sim, 20);
        node->is_power_cut = sim_one_in(sim, 2);
    }
}

static void black_out(struct sim *sim)
{
    for (int i = 0; i < sim->levels.node_count; i++) {
        struct sim_node *node = &sim->nodes[i];
        die(node, !sim_one_in(sim, 4));
        start_later(node, sim_below(sim, 300 * MS));
    }
}

static void cut(struct sim *sim)
{
    int count = sim->levels.node_count;
    int a = sim_any_node(sim)->id;
    unsigned how = (unsigned)sim_below(sim, 5);
    for (int i = 0; i < count; i++) {
        if (how == 0) { /* alone */
            sim_network_cut(sim, a, i);
            sim_network_cut(sim, i, a);
        } else if (how == 1) { /* deaf, or dumb, or both to some */
            if (sim_one_in(sim, 2)) {
                sim_network_cut(sim, a, i);
            } else {
                sim_network_cut(sim, i, a);
            }
        } else if (how == 2) { /* two halves */
            for (int j = 0; j < count; j++) {
                if ((i < count / 2 + 1) != (j < count / 2 + 1)) {
                    sim_network_cut(sim, i, j);
                }
            }
        }
    }
    int b = sim_any_node(sim)->id;
    if (how >= 3) {
        sim_network_cut(sim, a, b);
        if (how == 4) {
            sim_network_cut(sim, b, a);
        }
    }
}

static void run_heal(struct sim *sim, struct sim_event *event)
{
    (void)event;
    for (int i = 0; i < sim->levels.node_count; i++) {
        for (int j = 0; j < sim->levels.node_count; j++) {
            if (sim_one_in(sim, 2)) {
                sim_network_heal(sim, i, j);
            }
        }
    }
}

static void break_stream(struct sim *sim)
{
    int a = sim_any_node(sim)->id;
    int b = sim_any_node(sim)->id;
    if (a != b) {
        sim_network_break(sim, a, b);
    }
}

static void jump(struct sim *sim, struct sim_node *node)
{
    uint64_t forward_ns = sim_one_in(sim, 2) ? sim_between(sim, 0, 5000 * MS) : 0;
    int64_t wall_ms = (int64_t)sim_below(sim, 20000) - 10000;
    sim_trace(sim, "%s jumps %llu ms, its wall clock %lld ms", node->name,
              (unsigned long long)(forward_ns / MS), (long long)wall_ms);
    sim_node_jump(node, forward_ns, wall_ms);
}

/* Whether it may lose what it has: no more than a minority may, at any time. */
static bool may_lose(struct sim *sim, const struct sim_node *victim)
{
    struct raft_config config;
    if (!sim_check_config(sim, &config) || sim->levels.node_count == 1) {
        return false;
    }
    int lost = 1;
    for (int i = 0; i < sim->levels.node_count; i++) {
        const struct sim_node *node = &sim->nodes[i];
        bool is_whole = !node->is_damaged && node->incarnation == config.incarnations[i];
        lost += node != victim && !is_whole;
    }
    return lost <= (sim->levels.node_count - 1) / 2;
}

static void lose(struct sim *sim, struct sim_node *node, bool is_all)
{
    if (!may_lose(sim, node)) {
        return;
    }
    die(node, sim_one_in(sim, 2));
    node->is_damaged = true;
    if (is_all) {
        sim_trace(sim, "%s is wiped", node->name);
        sim_disk_wipe(&node->disk);
    } else {
        sim_disk_damage(&node->disk);
    }
    start_some_time(node);
}

static void transfer_done(struct node_request *request);

struct transfer {
    struct node_request request; /* first */
};

static void transfer_done(struct node_request *request)
{
    __builtin_free(request);
}

static void transfer(struct sim *sim)
{
    struct sim_node *leader = any_leader(sim);
    if (leader == NULL) {
        return;
    }
    struct transfer *transfer = __builtin_calloc(1, sizeof(*transfer));
    CHECK(transfer != NULL);
    transfer->request = (struct node_request){
        .kind = NODE_REQUEST_TRANSFER,
        .deadline_ns = UINT64_MAX,
        .transfer_target = sim_one_in(sim, 2)
                               ? RAFT_NO_MEMBER
                               : (raft_member)sim_below(sim, (uint64_t)sim->levels.node_count),
        .done = transfer_done,
    };
    sim_trace(sim, "%s is to hand over to %d", leader->name, transfer->request.transfer_target);
    if (node_submit(leader->node, &transfer->request) != 0) {
        transfer_done(&transfer->request);
    }
    sim_node_wake(leader);
}

struct relief {
    struct sim_event event;
    struct sim_node *node;
};

static void run_relief(struct sim *sim, struct sim_event *event)
{
    struct sim_node *node = ((struct relief *)(void *)event)->node;
    sim_trace(sim, "%s has room and speed again", node->name);
    fs_memory_set_capacity(node->disk.memory, 0);
    node->disk.is_limited = false;
    node->disk.is_slow = false;
    sim_node_wake(node);
}

static void trouble_disk(struct sim *sim, struct sim_node *node, bool is_full)
{
    if (is_full) {
        uint64_t left = sim_between(sim, 0, 128 << 10);
        sim_trace(sim, "%s has %llu bytes left", node->name, (unsigned long long)left);
        node->disk.is_limited = true;
        fs_memory_set_capacity(node->disk.memory, fs_memory_used(node->disk.memory) + left + 1);
    } else {
        sim_trace(sim, "%s has a slow disk", node->name);
        node->disk.is_slow = true;
    }
    struct relief *relief =
        sim_after(sim, sim_between(sim, 50 * MS, 2000 * MS), NULL, sizeof(*relief), run_relief);
    relief->node = node;
}

/* Of all but one, more or less at once: what is proposed finds no majority that has room. */
static void trouble_disks(struct sim *sim, const struct sim_node *spared)
{
    for (int i = 0; i < sim->levels.node_count; i++) {
        if (&sim->nodes[i] != spared) {
            trouble_disk(sim, &sim->nodes[i], true);
        }
    }
}

/* The others hear that its streams are over, and choose another; it hears nothing of either. */
static void behead(struct sim *sim, struct sim_node *leader)
{
    sim_trace(sim, "%s is beheaded", leader->name);
    sim_network_abandon(leader);
    for (int i = 0; i < sim->levels.node_count; i++) {
        sim_network_cut(sim, leader->id, i);
        sim_network_cut(sim, i, leader->id);
    }
}

/* The leader has written what few have heard of: now it is cut off, or dies, or pauses. */
static void strike_leader(struct sim *sim)
{
    struct sim_node *leader = any_leader(sim);
    if (leader == NULL) {
        return;
    }
    switch (sim_below(sim, 5)) {
    case 0:
        die(leader, sim_one_in(sim, 2));
        start_some_time(leader);
        break;
    case 1:
        die_within(sim, leader);
        break;
    case 2:
        sim_node_pause(leader, sim_between(sim, 10 * MS, 3000 * MS));
        break;
    case 3:
        behead(sim, leader);
        sim_after(sim, sim_between(sim, 50 * MS, 2000 * MS), NULL, sizeof(struct sim_event),
                  run_heal);
        break;
    default:
        for (int i = 0; i < sim->levels.node_count; i++) {
            if (!sim_one_in(sim, 3)) {
                sim_network_cut(sim, leader->id, i);
            }
            if (sim_one_in(sim, 2)) {
                sim_network_cut(sim, i, leader->id);
            }
        }
        sim_after(sim, sim_between(sim, 50 * MS, 3000 * MS), NULL, sizeof(struct sim_event),
                  run_heal);
        break;
    }
}

/* ---- one after the other ---- */

static enum sim_fault choose(struct sim *sim)
{
    unsigned dice = (unsigned)sim_below(sim, sim->levels.fault_weight_sum);
    int kind = 0;
    while (dice >= sim->levels.fault_weights[kind]) {
        dice -= sim->levels.fault_weights[kind++];
    }
    return (enum sim_fault)kind;
}

static void do_fault(struct sim *sim, enum sim_fault kind)
{
    struct sim_node *node = sim_any_node(sim);
    switch (kind) {
    case FAULT_KILL:
    case FAULT_POWER_CUT:
        die(node, kind == FAULT_POWER_CUT);
        start_some_time(node);
        break;
    case FAULT_DIE_WITHIN:
        die_within(sim, node);
        break;
    case FAULT_BLACKOUT:
        if (sim_one_in(sim, 4)) {
            black_out(sim);
        }
        break;
    case FAULT_PAUSE:
        if (node->is_up) {
            uint64_t pause_ns = sim_between(sim, 1 * MS, 3000 * MS);
            sim_trace(sim, "%s pauses for %llu ms", node->name,
                      (unsigned long long)(pause_ns / MS));
            sim_node_pause(node, pause_ns);
        }
        break;
    case FAULT_CUT:
        cut(sim);
        sim_after(sim, sim_between(sim, 10 * MS, 2000 * MS), NULL, sizeof(struct sim_event),
                  run_heal);
        break;
    case FAULT_BREAK:
        break_stream(sim);
        break;
    case FAULT_CLOCK:
        jump(sim, node);
        break;
    case FAULT_DAMAGE:
    case FAULT_WIPE:
        lose(sim, node, kind == FAULT_WIPE);
        break;
    case FAULT_TRANSFER:
        transfer(sim);
        break;
    case FAULT_RESTART:
        if (node->is_up && !node->is_stopping) {
            sim_trace(sim, "%s is told to stop", node->name);
            sim_node_stop(node);
        }
        break;
    case FAULT_DISK_FULL:
    case FAULT_SLOW_DISK:
        if (kind == FAULT_DISK_FULL && sim_one_in(sim, 4)) {
            trouble_disks(sim, node);
            break;
        }
        trouble_disk(sim, node, kind == FAULT_DISK_FULL);
        break;
    case FAULT_FLUSH:
        sim_node_flush(node);
        break;
    case FAULT_LEADER:
        strike_leader(sim);
        break;
    case FAULT_KINDS:
        CHECK(!"a fault");
    }
}

static void run_fault(struct sim *sim, struct sim_event *event)
{
    if (sim->is_healing) {
        return;
    }
    if (sim->levels.fault_weight_sum > 0) {
        do_fault(sim, choose(sim));
    }
    sim_requeue(sim, event, sim_between(sim, 1 * MS, 2 * sim->levels.fault_interval_ns));
    event->is_kept = true;
}

void sim_faults_start(struct sim *sim)
{
    sim_after(sim, sim_below(sim, 2000 * MS), NULL, sizeof(struct sim_event), run_fault);
}

void sim_faults_heal(struct sim *sim)
{
    sim_trace(sim, "all is healed");
    sim->is_healing = true;
    for (int i = 0; i < sim->levels.node_count; i++) {
        struct sim_node *node = &sim->nodes[i];
        for (int j = 0; j < sim->levels.node_count; j++) {
            sim_network_heal(sim, i, j);
        }
        fs_memory_set_capacity(node->disk.memory, 0);
        node->disk.is_limited = false;
        node->disk.is_slow = false;
        node->disk.calls_left = 0;
        if (node->paused_ns > sim->now_ns) {
            node->paused_ns = sim->now_ns;
            sim_node_wake(node);
        }
        if (!node->is_up) {
            start_later(node, sim_below(sim, 100 * MS));
        }
    }
}
