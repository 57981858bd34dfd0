/* raftogram-core-sim: random faults against a cluster of Raft cores, a run per seed.
 *
 *   raftogram-core-sim [--seed N] [--runs N] [--trace]
 *
 * --seed is the first seed (default 1), --runs how many follow (default 1), --trace prints one line
 * per event. The same seed gives the same run. Exit code 1: an invariant was violated, or the
 * cluster did not recover after everything was healed; the seed and the end of its trace are
 * printed. */
#include "base/random.h"
#include "lib/raft_cluster.h"

#include <inttypes.h>
#include <setjmp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define MS CLUSTER_MS
#define TRACE_LINES 150
#define TRACE_LINE_BYTES 240

struct sim {
    struct cluster *cluster;
    struct random random;
    bool is_tracing; /* every line at once */
    bool is_keeping; /* the last lines in a ring */
    char lines[TRACE_LINES][TRACE_LINE_BYTES];
    size_t line_count;
    char violation[512];
    jmp_buf failed;
    unsigned fault_weight;
    uint64_t next_payload;
};

static struct sim sim;
static volatile uint64_t current_seed;

static uint64_t below(uint64_t bound)
{
    return random_below(&sim.random, bound);
}

static bool one_in(uint64_t n)
{
    return below(n) == 0;
}

static raft_member any_node(void)
{
    return (raft_member)below((uint64_t)sim.cluster->options.count);
}

static void on_trace(void *context, const char *line)
{
    (void)context;
    double now_ms = (double)sim.cluster->now_ns / (double)MS;
    if (sim.is_tracing) {
        printf("%11.3f %s\n", now_ms, line);
    }
    if (sim.is_keeping) {
        snprintf(sim.lines[sim.line_count++ % TRACE_LINES], TRACE_LINE_BYTES, "%11.3f %s", now_ms,
                 line);
    }
}

static void on_violation(void *context, const char *text)
{
    (void)context;
    snprintf(sim.violation, sizeof(sim.violation), "at %" PRIu64 " ms: %s",
             sim.cluster->now_ns / MS, text);
    longjmp(sim.failed, 1);
}

static void on_abort(int number)
{
    (void)number;
    char text[64];
    int size = snprintf(text, sizeof(text), "seed %" PRIu64 " aborted\n", current_seed);
    ssize_t rc = write(STDOUT_FILENO, text, (size_t)size);
    _exit(rc > 0 ? 1 : 2);
}

/* ---- faults ---- */

/* A GENESIS that some node has, or what is committed. */
static struct raft_config known_config(bool *is_durable) /* on some disk */
{
    struct raft_config config = cluster_check_config(sim.cluster);
    *is_durable = config.is_founded;
    for (raft_member i = 0; i < sim.cluster->options.count && !*is_durable; i++) {
        const struct cluster_node *node = &sim.cluster->nodes[i];
        if (node->disk.base == 0 && node->disk.count > 0) {
            raft_config_apply(&config, &node->disk.entries[0].change);
            *is_durable = true;
        } else if (node->raft != NULL && node->log.base == 0 && node->log.count > 0) {
            raft_config_apply(&config, &node->log.entries[0].change);
        }
    }
    return config;
}

/* Wiping more than a minority loses data: no protocol helps. */
static bool may_wipe(raft_member n)
{
    bool is_durable = false;
    struct raft_config config = known_config(&is_durable);
    if (!config.is_founded) {
        return true;
    }
    int lost = 1;
    for (raft_member i = 0; i < sim.cluster->options.count; i++) {
        lost += i != n && sim.cluster->nodes[i].incarnation != config.incarnations[i];
    }
    return is_durable && lost <= (sim.cluster->options.count - 1) / 2;
}

static void crash_something(void)
{
    raft_member n = any_node();
    bool is_synced = one_in(2);
    cluster_crash(sim.cluster, n, is_synced, one_in(3));
    if (one_in(3) && may_wipe(n)) {
        /* Damage before the founding would leave a node that is not fresh, and no cluster. */
        bool is_founded = cluster_check_config(sim.cluster).is_founded;
        cluster_wipe(sim.cluster, n, is_founded && one_in(4));
    }
    if (one_in(2)) {
        cluster_run(sim.cluster, below(50 * MS));
        cluster_restart(sim.cluster, n);
    }
}

static void crash_everything(void)
{
    for (raft_member i = 0; i < sim.cluster->options.count; i++) {
        cluster_crash(sim.cluster, i, one_in(2), false);
    }
    cluster_run(sim.cluster, below(100 * MS));
    for (raft_member i = 0; i < sim.cluster->options.count; i++) {
        if (!one_in(5)) {
            cluster_restart(sim.cluster, i);
        }
    }
}

static void cut_something(void)
{
    int count = sim.cluster->options.count;
    raft_member a = any_node();
    switch (below(4)) {
    case 0: /* one way, one link */
        cluster_cut(sim.cluster, a, any_node());
        return;
    case 1: /* alone */
        for (raft_member i = 0; i < count; i++) {
            cluster_cut(sim.cluster, a, i);
            cluster_cut(sim.cluster, i, a);
        }
        return;
    case 2: /* says nothing, hears all; or the other way round */
        for (raft_member i = 0; i < count; i++) {
            if (one_in(2)) {
                cluster_cut(sim.cluster, a, i);
            } else {
                cluster_cut(sim.cluster, i, a);
            }
        }
        return;
    default: { /* both ways, one pair */
        raft_member b = any_node();
        cluster_cut(sim.cluster, a, b);
        cluster_cut(sim.cluster, b, a);
        return;
    }
    }
}

static void set_eligible(raft_member n, bool is_eligible)
{
    sim.cluster->nodes[n].is_eligible = is_eligible;
    struct raft_event event = {.kind = RAFT_EVENT_ELIGIBLE};
    event.eligible.is_eligible = is_eligible;
    cluster_inject(sim.cluster, n, &event, NULL, 0);
}

static raft_member await_leader(void)
{
    for (int i = 0; i < 1000 && cluster_leader(sim.cluster) == RAFT_NO_MEMBER; i++) {
        cluster_run(sim.cluster, below(3 * MS));
    }
    return cluster_leader(sim.cluster);
}

/* Figure 8 of the paper: leaders, one after the other, write what few or none receive, and crash,
 * some of them in the moment in which they commit something. The one before comes back then. */
static void lose_leaders(void)
{
    raft_member previous = RAFT_NO_MEMBER;
    for (uint64_t i = 2 + below(4); i > 0; i--) {
        raft_member leader = await_leader();
        if (leader == RAFT_NO_MEMBER) {
            break;
        }
        bool is_alone = one_in(2);
        for (raft_member j = 0; j < sim.cluster->options.count; j++) {
            if (j != leader && is_alone) {
                cluster_break(sim.cluster, leader, j);
                cluster_cut(sim.cluster, leader, j);
            }
        }
        for (uint64_t j = below(3); j > 0; j--) {
            cluster_propose(sim.cluster, leader, ++sim.next_payload);
        }
        raft_index commit = sim.cluster->nodes[leader].commit_index;
        for (uint64_t j = is_alone ? below(20) : 400; j > 0; j--) {
            cluster_run(sim.cluster, below(MS));
            if (sim.cluster->nodes[leader].commit_index > commit) {
                break;
            }
        }
        cluster_crash(sim.cluster, leader, !one_in(4), false);
        for (raft_member j = 0; j < sim.cluster->options.count; j++) {
            if (j != leader) {
                cluster_break(sim.cluster, leader, j);
                cluster_heal(sim.cluster, leader, j);
            }
        }
        if (previous != RAFT_NO_MEMBER) {
            cluster_restart(sim.cluster, previous);
        }
        previous = leader;
    }
    if (previous != RAFT_NO_MEMBER) {
        cluster_restart(sim.cluster, previous);
    }
}

/* An election in which whoever writes its vote loses power before the write is done. */
static void lose_votes(void)
{
    raft_member leader = cluster_leader(sim.cluster);
    if (leader != RAFT_NO_MEMBER) {
        cluster_crash(sim.cluster, leader, one_in(2), false);
    }
    for (uint64_t i = 100 + below(400); i > 0; i--) {
        raft_member n = any_node();
        const struct cluster_node *node = &sim.cluster->nodes[n];
        if (node->saves != NULL && node->saves->has_hard_state && one_in(2)) {
            cluster_crash(sim.cluster, n, false, false);
            cluster_restart(sim.cluster, n);
        }
        cluster_run(sim.cluster, below(3 * MS));
    }
}

/* The leader cannot hear, and soon is none: what it hears afterwards is old. */
static void leave_leader_behind(void)
{
    raft_member leader = cluster_leader(sim.cluster);
    if (leader == RAFT_NO_MEMBER) {
        return;
    }
    cluster_read(sim.cluster, leader);
    cluster_run(sim.cluster, below(2 * sim.cluster->options.latency_max_ns));
    for (raft_member i = 0; i < sim.cluster->options.count; i++) {
        if (i != leader) {
            cluster_cut(sim.cluster, i, leader);
            cluster_cut(sim.cluster, leader, i);
            cluster_break(sim.cluster, leader, i);
        }
    }
    cluster_run(sim.cluster, below(sim.cluster->options.election_timeout_ns));
    raft_member other = cluster_leader(sim.cluster);
    if (other != RAFT_NO_MEMBER) {
        cluster_propose(sim.cluster, other, ++sim.next_payload);
    }
    cluster_run(sim.cluster, below(50 * MS));
    cluster_read(sim.cluster, leader);
    cluster_run(sim.cluster, below(5 * MS));
    for (raft_member i = 0; i < sim.cluster->options.count; i++) {
        cluster_heal(sim.cluster, i, leader);
        if (one_in(2)) {
            cluster_heal(sim.cluster, leader, i);
        }
    }
}

static void fault(void)
{
    switch (below(15)) {
    case 14:
        lose_votes();
        return;
    case 13:
        leave_leader_behind();
        return;
    case 12:
        lose_leaders();
        return;
    case 0:
    case 1:
        crash_something();
        return;
    case 2:
        if (one_in(4)) {
            crash_everything();
        }
        return;
    case 3:
    case 4:
        cut_something();
        return;
    case 5:
        cluster_heal_all(sim.cluster);
        return;
    case 6:
        cluster_pause(sim.cluster, any_node());
        return;
    case 7:
        cluster_break(sim.cluster, any_node(), any_node());
        return;
    case 8:
        set_eligible(any_node(), !one_in(4));
        return;
    case 9: /* the leader vanishes */
        if (cluster_leader(sim.cluster) != RAFT_NO_MEMBER) {
            cluster_crash(sim.cluster, cluster_leader(sim.cluster), one_in(2), one_in(3));
        }
        return;
    default:
        for (raft_member i = 0; i < sim.cluster->options.count; i++) {
            cluster_resume(sim.cluster, i);
            if (one_in(2)) {
                cluster_restart(sim.cluster, i);
            }
        }
        return;
    }
}

/* ---- work ---- */

static void work(void)
{
    raft_member n = any_node();
    switch (below(10)) {
    case 0:
    case 1:
    case 2:
    case 3:
        for (uint64_t i = 1 + below(8); i > 0; i--) {
            /* Whoever believes to lead, so that stale leaders get proposals too. */
            for (raft_member leader = 0; leader < sim.cluster->options.count; leader++) {
                cluster_propose(sim.cluster, leader, ++sim.next_payload);
            }
        }
        return;
    case 4:
    case 5:
    case 6:
        for (raft_member i = 0; i < sim.cluster->options.count; i++) {
            cluster_read(sim.cluster, i);
        }
        return;
    case 7:
        cluster_flush(sim.cluster, n);
        if (one_in(2)) {
            cluster_compact(sim.cluster, n, below(6));
        }
        return;
    case 8:
        cluster_read(sim.cluster, n);
        return;
    default:
        if (one_in(4) && cluster_leader(sim.cluster) != RAFT_NO_MEMBER) {
            cluster_transfer(sim.cluster, cluster_leader(sim.cluster),
                             one_in(2) ? RAFT_NO_MEMBER : n);
        }
        return;
    }
}

static struct cluster_options random_options(uint64_t seed)
{
    static const int counts[] = {1, 3, 3, 3, 3, 3, 5, 5};
    struct cluster_options options = {.seed = seed ^ UINT64_C(0x5eed)};
    options.count = counts[below(sizeof(counts) / sizeof(counts[0]))];
    options.latency_min_ns = MS / 10 + below(5 * MS);
    options.latency_max_ns = options.latency_min_ns + (one_in(3) ? below(80 * MS) : below(2 * MS));
    options.disk_min_ns = one_in(3) ? 0 : below(5 * MS);
    options.disk_max_ns = options.disk_min_ns + (one_in(4) ? below(300 * MS) : below(10 * MS));
    options.fit_entries = (uint32_t)(one_in(2) ? 1 + below(3) : 16);
    options.is_disk_async = one_in(3);
    options.snapshot_ns = 1 + below(400 * MS);
    options.is_lossy = one_in(4);
    options.drop_permille = (unsigned)below(200);
    options.duplicate_permille = (unsigned)below(200);
    options.reorder_permille = (unsigned)below(200);
    return options;
}

/* ---- a run ---- */

static void expect_recovery(void)
{
    struct cluster *cluster = sim.cluster;
    cluster->options.is_lossy = false;
    cluster_heal_all(cluster);
    for (raft_member i = 0; i < cluster->options.count; i++) {
        cluster_resume(cluster, i);
        cluster_restart(cluster, i);
        set_eligible(i, true);
    }
    if (!cluster_run_until(cluster, cluster_is_converged, 30000 * MS)) {
        cluster_violation(cluster, "the cluster does not recover by itself");
    }
    /* Ten rounds: the leader may still change between a proposal and its commit. */
    bool is_done = false;
    for (int i = 0; i < 10 && !is_done; i++) {
        cluster_run_until(cluster, cluster_is_converged, 5000 * MS);
        raft_index before = cluster_check_committed(cluster);
        raft_member leader = cluster_leader(cluster);
        bool is_proposed =
            leader != RAFT_NO_MEMBER && cluster_propose(cluster, leader, ++sim.next_payload);
        cluster_run(cluster, 1000 * MS);
        is_done = is_proposed && cluster_is_converged(cluster) &&
                  cluster_check_committed(cluster) > before;
    }
    if (!is_done) {
        cluster_violation(cluster, "the cluster recovers, but commits nothing new");
    }
    if (cluster_check_committed(cluster) > cluster->nodes[0].machine.applied) {
        cluster_violation(cluster, "committed entries are missing in the end");
    }
    for (size_t i = 0; i < cluster->read_count; i++) {
        const struct cluster_read *read = &cluster->reads[i];
        if (read->state == CLUSTER_READ_WAITS && read->boot == cluster->nodes[read->node].boot) {
            cluster_violation(cluster, "read %" PRIu64 " of node %d was never answered", read->id,
                              read->node + 1);
        }
    }
}

static void run(uint64_t seed)
{
    random_seed(&sim.random, seed);
    struct cluster_options options = random_options(seed);
    sim.line_count = 0;
    sim.next_payload = 0;
    sim.cluster = cluster_create(&options);
    sim.cluster->on_violation = on_violation;
    if (sim.is_tracing || sim.is_keeping) {
        sim.cluster->on_trace = on_trace;
    }
    sim.fault_weight = 2 + (unsigned)below(40);
    uint64_t pace = 1 + below(one_in(2) ? 30 * MS : 300 * MS);
    /* Some runs meet faults while the cluster is being founded, most do not. */
    if (!one_in(4)) {
        cluster_run_until(sim.cluster, cluster_is_converged, 3000 * MS);
    }
    for (uint64_t i = 100 + below(300); i > 0; i--) {
        if (one_in(sim.fault_weight)) {
            fault();
        } else {
            work();
        }
        cluster_run(sim.cluster, below(pace));
    }
    expect_recovery();
}

static bool try_run(uint64_t seed)
{
    current_seed = seed;
    if (setjmp(sim.failed) != 0) {
        return false; /* what the run held is leaked: the program ends soon */
    }
    run(seed);
    cluster_destroy(sim.cluster);
    return true;
}

static void report(uint64_t seed)
{
    if (!sim.is_tracing) {
        sim.is_keeping = true;
        try_run(seed);
        size_t first = sim.line_count > TRACE_LINES ? sim.line_count - TRACE_LINES : 0;
        for (size_t i = first; i < sim.line_count; i++) {
            printf("%s\n", sim.lines[i % TRACE_LINES]);
        }
    }
    printf("seed %" PRIu64 " failed %s\n", seed, sim.violation);
}

static double seconds(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

int main(int argc, char **argv)
{
    uint64_t seed = 1;
    uint64_t runs = 1;
    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], "--trace") == 0) {
            sim.is_tracing = true;
        } else if (strcmp(argv[i], "--seed") == 0 && i + 1 < argc) {
            seed = strtoull(argv[++i], NULL, 10);
        } else if (strcmp(argv[i], "--runs") == 0 && i + 1 < argc) {
            runs = strtoull(argv[++i], NULL, 10);
        } else {
            fprintf(stderr, "usage: raftogram-core-sim [--seed N] [--runs N] [--trace]\n");
            return 2;
        }
    }
    signal(SIGABRT, on_abort);
    double start = seconds();
    for (uint64_t i = 0; i < runs; i++) {
        if (!try_run(seed + i)) {
            report(seed + i);
            return 1;
        }
    }
    printf("%" PRIu64 " runs from seed %" PRIu64 " passed, %.0f runs/s\n", runs, seed,
           (double)runs / (seconds() - start));
    return 0;
}
