/* The invariants of Raft (Figure 3 of the paper), checked as a cluster runs. */
#include "base/check.h"
#include "lib/raft_cluster.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* An entry that some log has or had: (index, term) fixes its content and its predecessor. */
struct seen_entry {
    raft_index index;
    raft_term term;
    raft_term previous_term;
    uint64_t payload;
    uint64_t change;
};

struct committed_entry {
    raft_term term;
    raft_term commit_term; /* in which it was first known to be committed */
    struct cluster_entry entry;
    bool has_hash;
    uint64_t hash; /* of the state machine that applied it */
};

struct term_leader {
    raft_member leader; /* + 1; 0: none yet */
    uint64_t boot;
};

struct cluster_check {
    struct seen_entry *seen; /* a hash table, open addressing */
    size_t seen_count;
    size_t seen_capacity;
    struct committed_entry *committed; /* from index 1 */
    size_t committed_count;
    size_t committed_capacity;
    struct raft_config config; /* of all that is committed */
    struct raft_config sealed; /* without an ADMIT that was committed only once */
    struct term_leader *leaders;
    size_t leader_capacity;
};

void cluster_violation(struct cluster *cluster, const char *format, ...)
{
    char text[512];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(text, sizeof(text), format, arguments);
    va_end(arguments);
    if (cluster->on_violation != NULL) {
        cluster->on_violation(cluster->context, text);
        return;
    }
    fprintf(stderr, "violation at %" PRIu64 " ms: %s\n", cluster->now_ns / CLUSTER_MS, text);
    abort();
}

struct cluster_check *cluster_check_create(void)
{
    struct cluster_check *check = calloc(1, sizeof(*check));
    CHECK(check != NULL);
    return check;
}

void cluster_check_destroy(struct cluster_check *check)
{
    free(check->seen);
    free(check->committed);
    free(check->leaders);
    free(check);
}

void cluster_check_wiped(struct cluster *cluster)
{
    struct cluster_check *check = cluster->check;
    for (raft_member i = 0; i < cluster->options.count; i++) {
        if (log_last(&cluster->nodes[i].disk) > 0 ||
            (cluster->nodes[i].raft != NULL && log_last(&cluster->nodes[i].log) > 0)) {
            return;
        }
    }
    /* Nobody remembers that it was founded: terms and entries may begin anew. */
    if (check->committed_count == 0) {
        check->seen_count = 0;
        if (check->seen != NULL) {
            memset(check->seen, 0, check->seen_capacity * sizeof(*check->seen));
        }
        if (check->leaders != NULL) {
            memset(check->leaders, 0, check->leader_capacity * sizeof(*check->leaders));
        }
    }
}

struct raft_config cluster_check_config(const struct cluster *cluster)
{
    return cluster->check->sealed;
}

raft_index cluster_check_committed(const struct cluster *cluster)
{
    return cluster->check->committed_count;
}

static uint64_t change_hash(const struct cluster_entry *entry)
{
    if (entry->type != RAFT_ENTRY_CONFIG_CHANGE) {
        return 0;
    }
    uint64_t hash = UINT64_C(0xcbf29ce484222325) + (uint64_t)entry->change.kind;
    if (entry->change.kind == RAFT_CHANGE_ADMIT) {
        return (hash ^ (uint64_t)entry->change.member) * UINT64_C(0x100000001b3) ^
               entry->change.incarnation;
    }
    for (size_t i = 0; i < CLUSTER_ID_BYTES; i++) {
        hash = (hash ^ entry->change.cluster_id[i]) * UINT64_C(0x100000001b3);
    }
    for (size_t i = 0; i < CLUSTER_MEMBERS_MAX; i++) {
        hash = (hash ^ entry->change.incarnations[i]) * UINT64_C(0x100000001b3);
    }
    return hash;
}

static struct seen_entry *find_seen(struct seen_entry *table, size_t capacity, raft_index index,
                                    raft_term term)
{
    size_t slot =
        (index * UINT64_C(0x9e3779b97f4a7c15) ^ term * UINT64_C(0xbf58476d1ce4e5b9)) % capacity;
    while (table[slot].index != 0 && (table[slot].index != index || table[slot].term != term)) {
        slot = (slot + 1) % capacity;
    }
    return &table[slot];
}

static void grow_seen(struct cluster_check *check)
{
    size_t capacity = check->seen_capacity == 0 ? 1024 : 2 * check->seen_capacity;
    struct seen_entry *table = calloc(capacity, sizeof(*table));
    CHECK(table != NULL);
    for (size_t i = 0; i < check->seen_capacity; i++) {
        if (check->seen[i].index != 0) {
            *find_seen(table, capacity, check->seen[i].index, check->seen[i].term) = check->seen[i];
        }
    }
    free(check->seen);
    check->seen = table;
    check->seen_capacity = capacity;
}

/* Log matching, by induction over the predecessors. */
void cluster_check_append(struct cluster *cluster, raft_member n, raft_index index)
{
    struct cluster_check *check = cluster->check;
    const struct cluster_log *log = &cluster->nodes[n].log;
    const struct cluster_entry *entry = &log->entries[index - log->base - 1];
    if (cluster->options.count == 1) {
        return; /* one alone leads before its vote is durable: nobody else can have seen it */
    }
    struct seen_entry now = {.index = index,
                             .term = entry->term,
                             .previous_term = log_term(log, index - 1),
                             .payload = entry->payload,
                             .change = change_hash(entry)};
    if (2 * check->seen_count >= check->seen_capacity) {
        grow_seen(check);
    }
    struct seen_entry *seen = find_seen(check->seen, check->seen_capacity, index, entry->term);
    if (seen->index == 0) {
        *seen = now;
        check->seen_count++;
        return;
    }
    if (seen->previous_term != now.previous_term || seen->payload != now.payload ||
        seen->change != now.change) {
        cluster_violation(cluster,
                          "log matching: node %d has another entry %" PRIu64 " of term %" PRIu64
                          " (or one with another predecessor) than was seen before",
                          n + 1, index, entry->term);
    }
}

static bool holds(const struct cluster_log *log, raft_index index, raft_term term)
{
    return index <= log->base || log_term(log, index) == term;
}

/* A wiped incarnation counts as long as none other was admitted for it. */
static bool has_held_durably(const struct cluster_node *node, uint64_t incarnation,
                             raft_index index, raft_term term)
{
    if (node->incarnation == incarnation) {
        return holds(&node->disk, index, term);
    }
    for (size_t i = 0; i < CLUSTER_WIPES_MAX; i++) {
        if (node->wiped_incarnations[i] == incarnation && holds(&node->wiped[i], index, term)) {
            return true;
        }
    }
    return false;
}

/* What is committed is on the disks of a majority, only admitted incarnations counted. */
static void check_majority(struct cluster *cluster, raft_member n, raft_index index,
                           const struct cluster_entry *entry)
{
    struct raft_config config = cluster->check->config;
    if (!config.is_founded && entry->type == RAFT_ENTRY_CONFIG_CHANGE) {
        raft_config_apply(&config, &entry->change);
    }
    int holders = 0;
    for (raft_member i = 0; i < cluster->options.count; i++) {
        const struct cluster_node *node = &cluster->nodes[i];
        holders += has_held_durably(node, config.incarnations[i], index, entry->term);
    }
    if (holders <= cluster->options.count / 2) {
        cluster_violation(cluster,
                          "node %d commits entry %" PRIu64 " of term %" PRIu64
                          " that only %d whole nodes have on disk",
                          n + 1, index, entry->term, holders);
    }
}

static void record_committed(struct cluster *cluster, raft_term commit_term,
                             const struct cluster_entry *entry)
{
    struct cluster_check *check = cluster->check;
    if (check->committed_count == check->committed_capacity) {
        check->committed_capacity = 2 * check->committed_capacity + 256;
        check->committed =
            realloc(check->committed, check->committed_capacity * sizeof(*check->committed));
        CHECK(check->committed != NULL);
    }
    check->committed[check->committed_count++] =
        (struct committed_entry){.term = entry->term, .commit_term = commit_term, .entry = *entry};
    if (entry->type == RAFT_ENTRY_CONFIG_CHANGE) {
        const struct raft_change *change = &entry->change;
        if (change->kind == RAFT_CHANGE_GENESIS ||
            check->config.incarnations[change->member] == change->incarnation) {
            raft_config_apply(&check->sealed, change);
        }
        raft_config_apply(&check->config, change);
    }
}

void cluster_check_commit(struct cluster *cluster, raft_member n, raft_index from, raft_index to)
{
    struct cluster_check *check = cluster->check;
    const struct cluster_node *node = &cluster->nodes[n];
    if (to < from - 1) {
        cluster_violation(cluster,
                          "node %d takes its commit index back from %" PRIu64 " to %" PRIu64, n + 1,
                          from - 1, to);
    }
    for (raft_index index = from; index <= to; index++) {
        if (index > log_last(&node->log)) {
            cluster_violation(cluster, "node %d commits entry %" PRIu64 " that it does not have",
                              n + 1, index);
            return;
        }
        if (index <= node->log.base) {
            continue; /* from a snapshot */
        }
        const struct cluster_entry *entry = &node->log.entries[index - node->log.base - 1];
        if (index > check->committed_count) {
            /* The last of this batch was counted; it covers those before it. */
            if (index == to) {
                check_majority(cluster, n, index, entry);
            }
            record_committed(cluster, cluster_status(cluster, n).term, entry);
        } else if (check->committed[index - 1].term != entry->term) {
            cluster_violation(cluster,
                              "node %d commits entry %" PRIu64 " of term %" PRIu64
                              ", but it was committed in term %" PRIu64,
                              n + 1, index, entry->term, check->committed[index - 1].term);
        }
    }
    struct raft_status status = cluster_status(cluster, n);
    if (to == check->committed_count &&
        memcmp(status.config.incarnations, check->config.incarnations,
               sizeof(check->config.incarnations)) != 0) {
        cluster_violation(cluster, "node %d counts by another config at entry %" PRIu64, n + 1, to);
    }
    if (to > cluster->max_commit) {
        cluster->max_commit = to;
    }
}

void cluster_check_apply(struct cluster *cluster, raft_member n)
{
    const struct cluster_machine *machine = &cluster->nodes[n].machine;
    if (machine->applied > cluster->check->committed_count) {
        cluster_violation(cluster, "node %d applies entry %" PRIu64 " that nobody committed", n + 1,
                          machine->applied);
        return;
    }
    struct committed_entry *committed = &cluster->check->committed[machine->applied - 1];
    struct raft_config config = cluster->check->config;
    if (machine->applied == cluster->check->committed_count &&
        memcmp(&config, &machine->config, sizeof(config)) != 0) {
        cluster_violation(cluster, "node %d has another config at entry %" PRIu64, n + 1,
                          machine->applied);
    }
    if (!committed->has_hash) {
        committed->has_hash = true;
        committed->hash = machine->hash;
    } else if (committed->hash != machine->hash) {
        cluster_violation(cluster, "state machine safety: node %d differs at entry %" PRIu64, n + 1,
                          machine->applied);
    }
}

static void check_completeness(struct cluster *cluster, raft_member n, raft_term term)
{
    const struct cluster_check *check = cluster->check;
    const struct cluster_log *log = &cluster->nodes[n].log;
    for (raft_index index = log->base + 1; index <= check->committed_count; index++) {
        /* A candidate that was stopped may still win an old term: it owes nothing to later ones. */
        if (check->committed[index - 1].commit_term < term &&
            log_term(log, index) != check->committed[index - 1].term) {
            cluster_violation(cluster,
                              "leader completeness: leader %d has not the committed entry %" PRIu64
                              " of term %" PRIu64,
                              n + 1, index, check->committed[index - 1].term);
            return;
        }
    }
}

void cluster_check_role(struct cluster *cluster, raft_member n)
{
    struct cluster_check *check = cluster->check;
    struct raft_status status = cluster_status(cluster, n);
    if (status.role != RAFT_LEADER || cluster->options.count == 1) {
        return;
    }
    if (status.term >= check->leader_capacity) {
        size_t capacity = 2 * status.term + 256;
        check->leaders = realloc(check->leaders, capacity * sizeof(*check->leaders));
        CHECK(check->leaders != NULL);
        memset(check->leaders + check->leader_capacity, 0,
               (capacity - check->leader_capacity) * sizeof(*check->leaders));
        check->leader_capacity = capacity;
    }
    struct term_leader *leader = &check->leaders[status.term];
    uint64_t boot = cluster->nodes[n].boot;
    if (leader->leader != 0 && (leader->leader != n + 1 || leader->boot != boot)) {
        cluster_violation(cluster, "election safety: nodes %d and %d both lead in term %" PRIu64,
                          leader->leader, n + 1, status.term);
    }
    if (leader->leader == 0) {
        *leader = (struct term_leader){.leader = n + 1, .boot = boot};
        check_completeness(cluster, n, status.term);
    }
}

void cluster_check_read(struct cluster *cluster, raft_member n, const struct raft_ready_read *ready)
{
    for (size_t i = cluster->read_count; i > 0; i--) {
        struct cluster_read *read = &cluster->reads[i - 1];
        if (read->node != n || read->id != ready->id || read->boot != cluster->nodes[n].boot) {
            continue;
        }
        if (read->state != CLUSTER_READ_WAITS) {
            cluster_violation(cluster, "read %" PRIu64 " of node %d is answered twice", read->id,
                              n + 1);
        }
        read->state = ready->confirmed ? CLUSTER_READ_CONFIRMED : CLUSTER_READ_REFUSED;
        read->index = ready->index;
        if (ready->confirmed && ready->index < read->min_index) {
            cluster_violation(cluster,
                              "stale read: read %" PRIu64
                              " of node %d is answered at index %" PRIu64 ", but %" PRIu64
                              " was committed before it began",
                              read->id, n + 1, ready->index, read->min_index);
        }
        return;
    }
    cluster_violation(cluster, "node %d answers read %" PRIu64 " that it was not asked", n + 1,
                      ready->id);
}
