/* Several Raft cores in one process under virtual time: in-memory logs that lose what was not
 * synced, streams that are FIFO and can stall or break, and a toy state machine. Deterministic for
 * a seed. The invariants of Raft are checked after every step; a violation ends the program, or
 * goes to `on_violation`. Used by the unit tests, the scripts and the simulator. */
#ifndef RAFTOGRAM_TESTS_LIB_RAFT_CLUSTER_H
#define RAFTOGRAM_TESTS_LIB_RAFT_CLUSTER_H

#include "base/random.h"
#include "raft/raft.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define CLUSTER_MS UINT64_C(1000000)
#define CLUSTER_NEVER UINT64_MAX
#define CLUSTER_WIPES_MAX 8 /* of one node that are remembered */

/* data of a raft_entry points to one of these, except in the core's own entries. */
struct cluster_entry {
    raft_term term;
    enum raft_entry_type type;
    uint64_t payload; /* of a command; 0: a no-op */
    struct raft_change change;
};

struct cluster_log {
    raft_index base; /* the entry before the first one */
    raft_term base_term;
    struct cluster_entry *entries;
    size_t count;
    size_t capacity;
};

struct cluster_machine {
    raft_index applied;
    raft_term applied_term;
    uint64_t hash; /* of all commands applied, in order */
    struct raft_config config;
};

struct cluster_save {
    struct cluster_save *next;
    uint64_t seq;
    bool has_hard_state;
    raft_term term;
    raft_member voted_for;
    raft_index append_first;
    size_t count;
    struct cluster_entry entries[];
};

/* A message on its way, or an event that waits for its node. */
struct cluster_packet {
    struct cluster_packet *next;
    uint64_t deliver_ns;
    uint64_t save_seq;
    struct raft_event event;
    bool is_hello_fresh;
    size_t count;
    struct cluster_entry entries[];
};

struct cluster_queue {
    struct cluster_packet *first;
    struct cluster_packet *last;
};

/* The stream that one node dials to another. */
struct cluster_link {
    bool is_up;
    bool is_cut;        /* nothing passes: packets wait, or are dropped with options.is_lossy */
    uint64_t epoch;     /* as the receiver counts */
    uint64_t break_ns;  /* it breaks then */
    uint64_t redial_ns; /* when down */
    uint64_t cut_ns;    /* since when it was cut */
    uint64_t newest_ns; /* FIFO: nothing is delivered before this */
    struct cluster_queue packets;
};

struct cluster_transfer {
    bool is_running;
    uint64_t done_ns;
    uint64_t from_boot;
    uint64_t to_boot;
    struct cluster_machine machine;
};

struct cluster_node {
    struct raft *raft; /* NULL: down */
    uint64_t boot;     /* counts the starts */
    uint32_t fit_entries;
    bool is_paused;
    uint64_t incarnation;
    bool is_fresh; /* the directory never held an entry */
    bool is_eligible;

    struct cluster_log log;
    struct cluster_machine machine;
    struct cluster_save *saves; /* staged, not durable */
    struct cluster_save *last_save;
    uint64_t persisted_seq;
    struct cluster_queue inputs;
    struct cluster_queue held; /* messages that wait for a save */
    uint64_t disk_seq;         /* the sync that runs, and when it ends */
    uint64_t disk_ns;
    uint64_t deadline_ns;
    raft_index commit_index;
    uint64_t read_id;
    unsigned transfers_over;
    unsigned turns;

    /* Survives a crash. */
    struct cluster_log disk;
    raft_term disk_term;
    raft_member disk_voted_for;
    struct cluster_machine disk_machine;

    /* What wipes took: acknowledgements of it may still be on their way. */
    struct cluster_log wiped[CLUSTER_WIPES_MAX];
    uint64_t wiped_incarnations[CLUSTER_WIPES_MAX];
    size_t wipe_count;
};

enum cluster_read_state { CLUSTER_READ_WAITS, CLUSTER_READ_CONFIRMED, CLUSTER_READ_REFUSED };

struct cluster_read {
    raft_member node;
    uint64_t boot;
    uint64_t id;
    raft_index min_index; /* committed somewhere when it began */
    raft_index index;
    enum cluster_read_state state;
};

struct cluster_options {
    int count;
    uint64_t seed;
    uint64_t election_timeout_ns; /* 0: 500 ms */
    uint64_t heartbeat_ns;        /* 0: 50 ms */
    uint64_t latency_min_ns;      /* of a message; 0: 1 ms for both */
    uint64_t latency_max_ns;
    uint64_t disk_min_ns; /* of a sync */
    uint64_t disk_max_ns;
    uint64_t keepalive_ns;  /* a silent stream breaks; 0: 1 s */
    uint64_t snapshot_ns;   /* a transfer takes; 0: 20 ms */
    uint32_t fit_entries;   /* in one message; 0: 16 */
    bool is_disk_async;     /* turns go on while a sync runs */
    bool is_lossy;          /* streams may drop, duplicate and reorder: not what TCP does */
    unsigned drop_permille; /* with is_lossy */
    unsigned duplicate_permille;
    unsigned reorder_permille;
};

struct cluster_check; /* what the checker has seen */

struct cluster {
    struct cluster_options options;
    struct random random;
    uint64_t now_ns;
    struct cluster_node nodes[CLUSTER_MEMBERS_MAX];
    struct cluster_link links[CLUSTER_MEMBERS_MAX][CLUSTER_MEMBERS_MAX];         /* [from][to] */
    struct cluster_transfer transfers[CLUSTER_MEMBERS_MAX][CLUSTER_MEMBERS_MAX]; /* [from][to] */
    uint64_t last_incarnation;
    bool is_manual; /* messages stay in the links until cluster_deliver() */

    struct cluster_read *reads;
    size_t read_count;
    size_t read_capacity;
    raft_index max_commit; /* known to any node, ever */

    struct cluster_check *check;
    uint64_t events;
    unsigned rounds_at_now;

    void (*on_trace)(void *context, const char *line);
    void (*on_violation)(void *context, const char *text);
    void *context;
};

/* ---- life ---- */

/* All nodes are up, fresh, and their streams connected (or being dialled). */
struct cluster *cluster_create(const struct cluster_options *options);
void cluster_destroy(struct cluster *cluster);

/* ---- time ---- */

void cluster_run(struct cluster *cluster, uint64_t duration_ns);
/* True once `is_done` holds; false if it does not within the duration. */
bool cluster_run_until(struct cluster *cluster, bool (*is_done)(struct cluster *cluster),
                       uint64_t duration_ns);
/* Manual mode: the node handles all its waiting inputs, then time. */
void cluster_turn(struct cluster *cluster, raft_member node);
/* Manual mode: hands over what waits on the stream, at most `max` messages; returns how many. */
size_t cluster_deliver(struct cluster *cluster, raft_member from, raft_member to, size_t max);
void cluster_drop(struct cluster *cluster, raft_member from, raft_member to);
/* Queues an event at a node (messages without entries, or with `entries`). */
void cluster_inject(struct cluster *cluster, raft_member node, const struct raft_event *event,
                    const struct cluster_entry *entries, size_t count);

/* ---- clients ---- */

/* False if the node does not lead, or must wait. */
bool cluster_propose(struct cluster *cluster, raft_member node, uint64_t payload);
/* The position in cluster->reads; SIZE_MAX if it was refused at the door. */
size_t cluster_read(struct cluster *cluster, raft_member node);
void cluster_transfer(struct cluster *cluster, raft_member node, raft_member target);

/* ---- faults ---- */

/* What was not synced is lost, or kept with `is_synced`. `is_silent`: its streams end only with
 * the keepalive, as after a power cut. */
void cluster_crash(struct cluster *cluster, raft_member node, bool is_synced, bool is_silent);
void cluster_restart(struct cluster *cluster, raft_member node);
/* Of a node that is down: its directory is lost; `is_damaged`: moved away, so it is not fresh. */
void cluster_wipe(struct cluster *cluster, raft_member node, bool is_damaged);
void cluster_pause(struct cluster *cluster, raft_member node);
void cluster_resume(struct cluster *cluster, raft_member node);
void cluster_cut(struct cluster *cluster, raft_member from, raft_member to);
void cluster_heal(struct cluster *cluster, raft_member from, raft_member to);
void cluster_heal_all(struct cluster *cluster);
/* Breaks the stream; it is dialled again after a short while. */
void cluster_break(struct cluster *cluster, raft_member from, raft_member to);
/* The store makes its state durable; then the log may be compacted, keeping `trailing` entries. */
void cluster_flush(struct cluster *cluster, raft_member node);
void cluster_compact(struct cluster *cluster, raft_member node, raft_index trailing);

/* ---- looking ---- */

/* The leader with the highest term that is up; RAFT_NO_MEMBER if none. */
raft_member cluster_leader(const struct cluster *cluster);
struct raft_status cluster_status(const struct cluster *cluster, raft_member node);
raft_index log_last(const struct cluster_log *log);
raft_term log_term(const struct cluster_log *log, raft_index index);
/* The message as one line, without its ends. */
void cluster_format_message(const struct raft_message *message, char *out, size_t size);
/* Everybody is up, whole, and has applied the same; and somebody leads. */
bool cluster_is_converged(struct cluster *cluster);

/* ---- raft_cluster_check.c ---- */

struct cluster_check *cluster_check_create(void);
void cluster_check_destroy(struct cluster_check *check);
void cluster_check_append(struct cluster *cluster, raft_member node, raft_index index);
void cluster_check_commit(struct cluster *cluster, raft_member node, raft_index from,
                          raft_index to);
void cluster_check_apply(struct cluster *cluster, raft_member node);
void cluster_check_role(struct cluster *cluster, raft_member node);
void cluster_check_read(struct cluster *cluster, raft_member node,
                        const struct raft_ready_read *ready);
void cluster_check_wiped(struct cluster *cluster);
/* The incarnations whose admission is complete (membership.c); all 0 while nothing is founded. */
struct raft_config cluster_check_config(const struct cluster *cluster);
raft_index cluster_check_committed(const struct cluster *cluster);
void cluster_violation(struct cluster *cluster, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

#endif
