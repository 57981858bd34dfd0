/* Each seed has its own mixture of faults and speeds: a run in which everything goes wrong all the
 * time finds less than many runs in each of which a few things do ("swarm testing", Groce et al.,
 * ISSTA 2012). */
#include "node_sim.h"

#include <string.h>

static void choose_speeds(struct sim *sim, struct sim_levels *levels)
{
    levels->election_timeout_ns = sim_between(sim, 100 * MS, 500 * MS);
    levels->heartbeat_ns = levels->election_timeout_ns / (3 + sim_below(sim, 4));
    levels->latency_min_ns = sim_between(sim, 50 * US, 2 * MS);
    levels->latency_max_ns = levels->latency_min_ns + sim_between(sim, 100 * US, 20 * MS);
    levels->keepalive_ns = sim_between(sim, 200 * MS, 1500 * MS);
    levels->sync_min_ns = sim_between(sim, 20 * US, 2 * MS);
    levels->sync_max_ns = levels->sync_min_ns + sim_between(sim, 50 * US, 10 * MS);
    levels->stall_permille = sim_one_in(sim, 3) ? (unsigned)sim_below(sim, 30) : 0;
    levels->skew_ppm_max = sim_one_in(sim, 2) ? (int64_t)sim_below(sim, 100000) : 100;
    levels->nested_permille = sim_one_in(sim, 2) ? 500 : 0;
    if (sim_one_in(sim, 4)) {
        levels->drop_permille = (unsigned)sim_below(sim, 100);
        levels->duplicate_permille = (unsigned)sim_below(sim, 100);
        levels->reorder_permille = (unsigned)sim_below(sim, 100);
    }
}

static void choose_sizes(struct sim *sim, struct sim_levels *levels)
{
    unsigned dice = (unsigned)sim_below(sim, 10);
    levels->node_count = dice == 0 ? 1 : dice <= 2 ? 5 : 3;
    levels->segment_bytes = (uint32_t)sim_between(sim, 16 << 10, 64 << 10);
    levels->snapshot_interval_ns = sim_between(sim, 50 * MS, 1500 * MS);
    levels->snapshot_threshold = sim_between(sim, 1, 60);
    levels->trailing_logs = sim_one_in(sim, 2) ? 0 : sim_below(sim, 50);
    levels->requests_max = sim_one_in(sim, 5) ? 3 : 1000;
    levels->client_count = 1 + (unsigned)sim_below(sim, 6);
    levels->subscriber_count = (unsigned)sim_below(sim, 4);
    levels->channel_count = 1 + (unsigned)sim_below(sim, 3);
    levels->key_count = 1 + (unsigned)sim_below(sim, 3);
    levels->think_ns = sim_between(sim, 1 * MS, 60 * MS);
    levels->payload_bytes_max = sim_one_in(sim, 4) ? 2500 : 64;
    levels->operations_max = 60 + (unsigned)sim_below(sim, 240);
}

static void choose_faults(struct sim *sim, struct sim_levels *levels)
{
    for (int i = 0; i < FAULT_KINDS; i++) {
        levels->fault_weights[i] = sim_one_in(sim, 2) ? 1 + (unsigned)sim_below(sim, 8) : 0;
        levels->fault_weight_sum += levels->fault_weights[i];
    }
    levels->faults_ns = sim_between(sim, 1000 * MS, 5000 * MS);
    levels->fault_interval_ns = sim_between(sim, 20 * MS, 500 * MS);
}

void sim_levels_choose(struct sim *sim, struct sim_levels *levels)
{
    memset(levels, 0, sizeof(*levels));
    choose_speeds(sim, levels);
    choose_sizes(sim, levels);
    choose_faults(sim, levels);
    /* By the seed itself: the runs of all other seeds, kept ones among them, stay as they were. */
    levels->has_batches = sim->seed % 5 < 2;
}
