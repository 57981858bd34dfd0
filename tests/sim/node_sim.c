/* raftogram-sim: random faults against a cluster of whole nodes, a run per seed.
 *
 *   raftogram-sim [--kept FILE] [--seed N|new] [--runs N] [--trace | --no-trace] [--hash]
 *                 [--twice] [--log]
 *
 * --seed is the first seed (default 1; new: one that depends on the time), --runs how many follow
 * (default 1). --kept runs the seeds in FILE before, one a line. --trace prints one line per event.
 * --log lets the nodes log to stderr. The same seed gives the same run, and the same hash of it,
 * which --hash prints; --twice holds that against a second run.
 *
 * Exit code 1: a promise was broken, or the cluster did not recover after all was healed. The seed
 * and the end of its trace are printed. */
#include "node_sim.h"
#include "base/check.h"
#include "base/log.h"

#include <inttypes.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define SETTLE_NS (60 * NS_PER_S) /* after the healing, all must be well by then */
#define TAIL_LINES 200
#define PROGRESS_RUNS 5000

static volatile uint64_t current_seed;
static bool is_trace_wanted;
static bool is_log_wanted;
static bool is_hash_wanted;
static bool is_trace_refused;
static bool is_repetition_wanted;

struct totals {
    uint64_t runs;
    uint64_t events;
    uint64_t operations;
    uint64_t entries;
    uint64_t virtual_ns;
};

/* ---- failing ---- */

/* Runs the seed again, with its trace. */
static noreturn void fail_run(void)
{
    fflush(stdout);
    if (!is_trace_wanted && !is_trace_refused) {
        char path[512];
        ssize_t size = readlink("/proc/self/exe", path, sizeof(path) - 1);
        if (size > 0) {
            char command[640];
            path[size] = '\0';
            snprintf(command, sizeof(command), "'%s' --trace --seed %" PRIu64 " | tail -n %d", path,
                     current_seed, TAIL_LINES);
            int rc = system(command);
            (void)rc;
            printf("seed %" PRIu64 " fails; the end of its trace is above\n", current_seed);
            fflush(stdout);
        }
    }
    _exit(1);
}

void sim_violation(struct sim *sim, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    printf("seed %" PRIu64 " at %.3f ms: ", sim->seed, (double)sim->now_ns / (double)MS);
    vprintf(format, arguments);
    printf("\n");
    va_end(arguments);
    fail_run();
}

/* A CHECK in the node's code, or a memory error: the seed must not be lost with it. */
static void on_signal(int number)
{
    (void)number;
    if (is_trace_wanted) {
        fflush(stdout);
        _exit(1);
    }
    char text[64];
    int size = snprintf(text, sizeof(text), "seed %" PRIu64 " aborted\n", current_seed);
    ssize_t rc = write(STDOUT_FILENO, text, (size_t)size);
    (void)rc;
    fail_run();
}

/* ---- one run ---- */

static void run_until(struct sim *sim, uint64_t until_ns)
{
    while (sim_step(sim, until_ns)) {
    }
}

static const char *unsettled(struct sim *sim)
{
    const char *reason = sim_check_unsettled(sim);
    return reason != NULL ? reason : sim_clients_open(sim);
}

static void settle(struct sim *sim)
{
    uint64_t deadline_ns = sim->now_ns + SETTLE_NS;
    while (unsettled(sim) != NULL) {
        if (sim->now_ns >= deadline_ns) {
            sim_violation(sim, "liveness: a minute after the healing %s", unsettled(sim));
        }
        run_until(sim, sim->now_ns + 20 * MS);
    }
}

/* In a sync, say, that began while the disk was slow. */
static bool is_any_busy(const struct sim *sim)
{
    for (int i = 0; i < sim->levels.node_count; i++) {
        if (sim->nodes[i].busy_ns > sim->now_ns + 20 * MS) {
            return true;
        }
    }
    return false;
}

/* A follower that loses its leader, but nobody else, must not unseat him: whoever still hears him
 * grants no pre-vote. */
static void check_stickiness(struct sim *sim)
{
    if (sim->levels.node_count < 3 || !sim_one_in(sim, 4)) {
        return;
    }
    /* What is left of the faults before may cost the leader his quorum. */
    while (sim->breaks_due > 0 || is_any_busy(sim)) {
        run_until(sim, sim->now_ns + 20 * MS);
    }
    settle(sim);
    struct node_status before;
    struct node_status after;
    node_get_status(sim->nodes[0].node, &before);
    int leader = before.raft.leader;
    int lonely = (leader + 1 + (int)sim_below(sim, (uint64_t)sim->levels.node_count - 1)) %
                 sim->levels.node_count;
    sim_network_cut(sim, leader, lonely);
    sim_network_cut(sim, lonely, leader);
    run_until(sim,
              sim->now_ns + 2 * sim->levels.keepalive_ns + 5 * sim->levels.election_timeout_ns);
    node_get_status(sim->nodes[leader].node, &after);
    if (after.raft.term != before.raft.term || after.raft.role != RAFT_LEADER) {
        sim_violation(sim, "n%d was unseated by n%d, which had lost sight of it", leader, lonely);
    }
    sim_network_heal(sim, leader, lonely);
    sim_network_heal(sim, lonely, leader);
    settle(sim);
}

static void create(struct sim *sim, uint64_t seed)
{
    *sim = (struct sim){.seed = seed, .is_tracing = is_trace_wanted};
    random_seed(&sim->random, seed);
    list_init(&sim->pipes);
    sim_levels_choose(sim, &sim->levels);
    sim_check_create(sim);
    sim_clients_create(sim);
    for (int i = 0; i < sim->levels.node_count; i++) {
        sim_node_init(sim, i);
    }
}

static void destroy(struct sim *sim)
{
    for (int i = 0; i < sim->levels.node_count; i++) {
        sim_node_finish(&sim->nodes[i]);
    }
    sim_network_finish(sim);
    sim_queue_finish(&sim->queue);
    sim_clients_destroy(sim);
    sim_check_destroy(sim);
}

static uint64_t run_seed(uint64_t seed, struct totals *totals)
{
    static struct sim sim;
    current_seed = seed;
    create(&sim, seed);
    for (int i = 0; i < sim.levels.node_count; i++) {
        sim_node_start(&sim.nodes[i]);
    }
    sim_clients_start(&sim);
    sim_faults_start(&sim);
    run_until(&sim, sim.levels.faults_ns);
    sim_faults_heal(&sim);
    run_until(&sim, sim.now_ns + 300 * MS); /* clients go on for a while */
    sim_clients_wind_up(&sim);
    settle(&sim);
    check_stickiness(&sim);
    sim_check_equal(&sim);
    sim_clients_check_end(&sim);
    if (is_hash_wanted) {
        printf("seed %" PRIu64 ": %" PRIu64 " events, hash %016" PRIx64 "\n", seed, sim.events,
               sim.hash);
    }
    totals->runs++;
    totals->events += sim.events;
    totals->operations += sim_clients_operations(&sim);
    totals->entries += sim_check_committed(&sim);
    totals->virtual_ns += sim.now_ns;
    destroy(&sim);
    return sim.hash;
}

static void run_and_compare(uint64_t seed, struct totals *totals)
{
    uint64_t hash = run_seed(seed, totals);
    if (is_repetition_wanted && run_seed(seed, totals) != hash) {
        printf("seed %" PRIu64 " does not repeat: its second run had another hash\n", seed);
        exit(1);
    }
}

/* ---- the program ---- */

static void run_kept(const char *path, struct totals *totals)
{
    FILE *file = fopen(path, "r");
    if (file == NULL) {
        perror(path);
        exit(2);
    }
    char line[256];
    while (fgets(line, sizeof(line), file) != NULL) {
        uint64_t seed;
        if (sscanf(line, "%" SCNu64, &seed) == 1) {
            run_and_compare(seed, totals);
        }
    }
    fclose(file);
}

static double seconds_now(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

static void print_totals(const struct totals *totals, double seconds)
{
    printf("%" PRIu64 " runs, no violation, %.1f runs/s; each on average %.1f s of time, %" PRIu64
           " events, %" PRIu64 " entries, %" PRIu64 " operations\n",
           totals->runs, (double)totals->runs / seconds,
           (double)totals->virtual_ns / 1e9 / (double)totals->runs, totals->events / totals->runs,
           totals->entries / totals->runs, totals->operations / totals->runs);
}

static noreturn void usage(void)
{
    fprintf(stderr, "usage: raftogram-sim [--kept FILE] [--seed N|new] [--runs N]\n"
                    "                     [--trace | --no-trace] [--hash] [--twice] [--log]\n");
    exit(2);
}

static uint64_t number_of(const char *text)
{
    char *end;
    if (text == NULL) {
        usage();
    }
    uint64_t number = strtoull(text, &end, 10);
    if (*end != '\0' || end == text) {
        usage();
    }
    return number;
}

static uint64_t seed_of(const char *text)
{
    if (text != NULL && strcmp(text, "new") == 0) {
        return (uint64_t)time(NULL) * 1000000;
    }
    return number_of(text);
}

struct plan {
    uint64_t seed;
    uint64_t runs;
    const char *kept;
};

static void parse(int argc, char **argv, struct plan *plan)
{
    const struct {
        const char *name;
        bool *flag;
    } flags[] = {{"--trace", &is_trace_wanted},
                 {"--no-trace", &is_trace_refused},
                 {"--hash", &is_hash_wanted},
                 {"--twice", &is_repetition_wanted},
                 {"--log", &is_log_wanted}};
    for (int i = 1; i < argc; i++) {
        bool is_flag = false;
        for (size_t f = 0; f < sizeof(flags) / sizeof(flags[0]); f++) {
            if (strcmp(argv[i], flags[f].name) == 0) {
                *flags[f].flag = is_flag = true;
            }
        }
        if (is_flag) {
            continue;
        }
        if (strcmp(argv[i], "--seed") == 0) {
            plan->seed = seed_of(argv[++i]);
        } else if (strcmp(argv[i], "--runs") == 0) {
            plan->runs = number_of(argv[++i]);
        } else if (strcmp(argv[i], "--kept") == 0 && i + 1 < argc) {
            plan->kept = argv[++i];
        } else {
            usage();
        }
    }
}

int main(int argc, char **argv)
{
    struct plan plan = {.seed = 1, .runs = 1};
    parse(argc, argv, &plan);
    log_init(true, is_log_wanted ? LOG_LEVEL_INFO : LOG_LEVEL_ERROR);
    if (!is_log_wanted) {
        log_set_fd(-1);
    }
    signal(SIGABRT, on_signal);
    signal(SIGSEGV, on_signal);
    struct totals totals = {0};
    double begin = seconds_now();
    if (plan.kept != NULL) {
        run_kept(plan.kept, &totals);
    }
    for (uint64_t i = 0; i < plan.runs; i++) {
        run_and_compare(plan.seed + i, &totals);
        if (totals.runs % PROGRESS_RUNS == 0) {
            printf("%" PRIu64 " runs, no violation\n", totals.runs);
            fflush(stdout);
        }
    }
    if (totals.runs > 0) {
        printf("seeds from %" PRIu64 ": ", plan.seed);
        print_totals(&totals, seconds_now() - begin);
    }
    return 0;
}
