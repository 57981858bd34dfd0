/* A cluster of whole nodes in one thread: the driver with the real core, log, start-up, state
 * machine and snapshots, on simulated disks, network and clocks, with clients. All chance comes
 * from one seed, so a seed is a run. In reading order:
 *
 *   node_sim.c          the program: arguments, seeds, one run from founding to the last check
 *   node_sim_world.c    time: the queue of events; trace
 *   node_sim_levels.c   what a seed makes of the knobs below
 *   node_sim_faults.c   what goes wrong, and the healing
 *   node_sim_node.c     one node's life: start, turns, its store and snapshot threads, death
 *   node_sim_disk.c     a file system that takes time and dies in the middle; damage
 *   node_sim_store.c    the store: rows in memory behind a file that survives as LMDB's does
 *   node_sim_network.c  the transport: streams that stall, break, and come back
 *   node_sim_clients.c  clients, and what they were told
 *   node_sim_check.c    the promises: Raft's, and those of the state machine to its clients
 */
#ifndef RAFTOGRAM_TESTS_SIM_NODE_SIM_H
#define RAFTOGRAM_TESTS_SIM_NODE_SIM_H

#include "base/clock.h"
#include "base/list.h"
#include "base/random.h"
#include "chat/chat.h"
#include "driver/boot.h"
#include "driver/node.h"
#include "driver/snapshot_jobs.h"
#include "lib/fs_memory.h"
#include "peer/transport.h"

#include <stdbool.h>
#include <stdint.h>
#include <stdnoreturn.h>

#define SIM_NODES_MAX 5
#define SIM_NEVER UINT64_MAX
#define MS NS_PER_MS
#define US UINT64_C(1000)

struct sim;
struct sim_node;

/* ---- node_sim_world.c ---- */

/* The head of whatever waits for its time. Freed after run() unless that sets is_kept. */
struct sim_event {
    uint64_t at_ns;
    uint64_t order; /* events of one instant run as they were made */
    void (*run)(struct sim *sim, struct sim_event *event);
    struct sim_node *node; /* it is dropped if this node is another life by then; NULL: never */
    uint64_t life;
    bool is_kept;
};

struct sim_queue {
    struct sim_event **events; /* a heap */
    size_t count;
    size_t capacity;
    uint64_t next_order;
};

/* `size` bytes, of which the head is filled in. `node` may be NULL. */
void *sim_after(struct sim *sim, uint64_t delay_ns, struct sim_node *node, size_t size,
                void (*run)(struct sim *sim, struct sim_event *event));
/* Queues a kept event again. */
void sim_requeue(struct sim *sim, struct sim_event *event, uint64_t delay_ns);
/* Runs the next event; false if there is none before `until_ns`, where time then stands. */
bool sim_step(struct sim *sim, uint64_t until_ns);
void sim_queue_finish(struct sim_queue *queue);

uint64_t sim_below(struct sim *sim, uint64_t bound);
bool sim_one_in(struct sim *sim, uint64_t n);
struct sim_node *sim_any_node(struct sim *sim);
bool sim_permille(struct sim *sim, uint64_t permille);
/* From the low to the high one, mostly near the low. */
uint64_t sim_between(struct sim *sim, uint64_t low, uint64_t high);

#define sim_trace(sim, ...)                     \
    do {                                        \
        if ((sim)->is_tracing) {                \
            sim_trace_line((sim), __VA_ARGS__); \
        }                                       \
    } while (0)
void sim_trace_line(struct sim *sim, const char *format, ...) __attribute__((format(printf, 2, 3)));
/* Mixes a fact into the hash that two runs of one seed must share. */
void sim_note(struct sim *sim, uint64_t fact);
/* Ends the program, after the run was repeated with its trace. */
noreturn void sim_violation(struct sim *sim, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

/* ---- node_sim_levels.c ---- */

enum sim_fault {
    FAULT_KILL,       /* the process dies; what was written stays */
    FAULT_POWER_CUT,  /* of what was not synced any part may be lost */
    FAULT_DIE_WITHIN, /* either of them, within a turn, a flush, a snapshot or a start */
    FAULT_BLACKOUT,   /* all nodes lose power */
    FAULT_PAUSE,      /* SIGSTOP */
    FAULT_CUT,        /* of links, one way or both */
    FAULT_BREAK,      /* a stream ends */
    FAULT_CLOCK,      /* a jump: forward of the monotonic one, any way of the wall's */
    FAULT_DAMAGE,     /* a stopped node's files */
    FAULT_WIPE,       /* a stopped node's directory is lost */
    FAULT_TRANSFER,   /* somebody is made the leader */
    FAULT_RESTART,    /* drained and stopped in order */
    FAULT_DISK_FULL,
    FAULT_SLOW_DISK,
    FAULT_FLUSH,  /* the store writes now */
    FAULT_LEADER, /* the leader is struck while it has something to lose */
    FAULT_KINDS,
};

struct sim_levels {
    int node_count;
    uint64_t election_timeout_ns;
    uint64_t heartbeat_ns;
    uint64_t latency_min_ns; /* of a packet */
    uint64_t latency_max_ns;
    uint64_t keepalive_ns; /* a silent stream breaks */
    uint64_t sync_min_ns;
    uint64_t sync_max_ns;
    unsigned stall_permille; /* syncs that take a hundred times as long */
    unsigned drop_permille;  /* of batches that hold nothing but Raft's messages */
    unsigned duplicate_permille;
    unsigned reorder_permille;
    unsigned nested_permille; /* turns while the store commits */
    int64_t skew_ppm_max;
    uint32_t segment_bytes;
    uint64_t snapshot_interval_ns;
    uint64_t snapshot_threshold;
    uint64_t trailing_logs;
    uint32_t requests_max;
    uint64_t faults_ns; /* how long they come */
    uint64_t fault_interval_ns;
    unsigned fault_weights[FAULT_KINDS];
    unsigned fault_weight_sum;
    unsigned client_count;
    unsigned subscriber_count;
    unsigned channel_count;
    unsigned key_count;
    uint64_t think_ns;
    unsigned payload_bytes_max;
    unsigned operations_max;
    bool has_batches; /* clients send SEND_MESSAGES, too */
};

void sim_levels_choose(struct sim *sim, struct sim_levels *levels);

/* ---- node_sim_disk.c ---- */

struct sim_disk {
    struct fs fs;
    struct fs *inner;
    struct sim_node *node;
    struct fs_memory *memory;
    uint64_t calls_left; /* until it dies; 0: it does not */
    bool is_dead;        /* every call fails; nothing changes any more */
    bool is_examined;    /* but for the checks, which may read */
    bool is_slow;
    bool is_limited; /* it may be full */
};

void sim_disk_init(struct sim_disk *disk, struct sim_node *node);
void sim_disk_finish(struct sim_disk *disk);
/* Everything is lost. */
void sim_disk_wipe(struct sim_disk *disk);
/* The process is gone, or the power. Open files can only be closed. */
void sim_disk_die(struct sim_disk *disk, bool is_power_cut);
/* Flips bits, cuts or removes files of log and store, of a node that is down. */
void sim_disk_damage(struct sim_disk *disk);

/* ---- node_sim_store.c ---- */

/* To be copied into sim_node.store_kind, by whose address it finds the node. */
extern const struct store_kind sim_store_kind;

/* ---- node_sim_network.c ---- */

/* One dialled stream, or one snapshot's; lives until the run's end. End 0 dialled. */
struct sim_pipe {
    struct list link;
    struct sim_node *ends[2];
    uint64_t lives[2];
    bool is_closed[2];
    bool is_snapshot;
    bool is_greeted;              /* end 1 has taken it on */
    uint64_t epochs[2];           /* as either end numbers it */
    uint64_t newest_ns[2];        /* by direction: the last arrival */
    struct list stalled[2];       /* packets that a cut link holds */
    uint64_t stalled_since_ns[2]; /* SIM_NEVER: not */
    bool is_breaking;
    bool is_reset;
    bool is_unreleased;  /* snapshot: end 1 still has a chunk */
    struct list arrived; /* snapshot: chunks that wait for it */
};

/* What a node has towards another. */
struct sim_link {
    struct sim_pipe *dialled; /* NULL: redials */
    bool is_up;
    uint64_t backoff_ns;
    uint64_t redial_token;
    uint64_t hurried_ns;
    struct buf pending;
    size_t pending_count;
    bool is_sending; /* what is pending must wait */
    bool has_forwards;
    struct peer_unsent forwards; /* pending ones */
    struct sim_pipe *accepted;   /* the newest of the peer's */
    uint64_t epoch;
    struct sim_pipe *sending;   /* a snapshot */
    struct sim_pipe *receiving; /* the newest of the peer's */
    uint64_t snapshot_epoch;
};

void sim_network_start(struct sim_node *node); /* a life begins: dials */
void sim_network_stop(struct sim_node *node, bool is_silent);
void sim_network_cut(struct sim *sim, int from, int to);
void sim_network_heal(struct sim *sim, int from, int to);
void sim_network_break(struct sim *sim, int from, int to);
/* The others learn that all streams with it are over; it only by its keepalive. */
void sim_network_abandon(struct sim_node *node);
void sim_network_paused(struct sim_node *node, uint64_t duration_ns);
void sim_network_finish(struct sim *sim);

/* ---- node_sim_node.c ---- */

struct sim_node {
    struct sim *sim;
    int id;
    char name[8];
    struct clock clock;
    uint64_t clock_world_ns; /* a point of the line that local time is of world time */
    uint64_t clock_local_ns;
    int64_t clock_ppm;
    int64_t wall_offset_ms;
    uint64_t spent_ns; /* by what is running, since the event began */
    struct sim_disk disk;

    struct store_kind store_kind;
    bool is_up;
    bool is_damaged;   /* its files, since it was last known to be whole */
    uint64_t life;     /* counts starts and deaths */
    uint64_t start_ns; /* down: when it comes back by itself; SIM_NEVER: not */
    struct boot boot;
    struct node *node;
    struct transport transport;
    struct node_files files;
    unsigned depth; /* of turns within a flush */
    bool is_dying;  /* the disk died under it: it ends when the stack has unwound */
    bool is_power_cut;
    bool is_stopping;    /* drains, and then stops */
    uint64_t stop_by_ns; /* it leaves then, drained or not, as the daemon does */
    uint64_t turn_token;
    uint64_t turn_ns;
    uint64_t busy_ns; /* until then */
    uint64_t paused_ns;
    uint64_t store_token;
    bool is_flush_wanted;
    bool is_flushing;
    struct list jobs;
    bool is_job_running;
    bool has_install; /* the next turn may replace the store */

    uint64_t incarnation;
    bool is_fresh;
    uint8_t cluster_id[CLUSTER_ID_BYTES];
    struct sim_link links[SIM_NODES_MAX];

    struct hub_listener listener;
    struct list subscribers; /* open ones */
    bool is_reader_due;
};

void sim_node_init(struct sim *sim, int id);
void sim_node_finish(struct sim_node *node);
void sim_node_start(struct sim_node *node);
/* Dies now, between two events. */
void sim_node_die(struct sim_node *node, bool is_power_cut, bool is_silent);
void sim_node_wake(struct sim_node *node);
/* Its store writes what there is. */
void sim_node_flush(struct sim_node *node);
void sim_node_pause(struct sim_node *node, uint64_t duration_ns);
/* One more turn, on top of a flush. */
void sim_node_nested_turn(struct sim_node *node);
/* Stops in order: what the daemon does on SIGTERM. */
void sim_node_stop(struct sim_node *node);
uint64_t sim_node_local_ns(const struct sim_node *node);
void sim_node_jump(struct sim_node *node, uint64_t forward_ns, int64_t wall_ms);

/* ---- node_sim_clients.c ---- */

struct sim_clients;
void sim_clients_create(struct sim *sim);
void sim_clients_destroy(struct sim *sim);
void sim_clients_start(struct sim *sim);
/* No new operations: what is open is finished. */
void sim_clients_wind_up(struct sim *sim);
/* Why they are not done yet; NULL: they are. */
const char *sim_clients_open(struct sim *sim);
/* The node's reader: subscriptions that are ready. */
void sim_clients_serve(struct sim_node *node);
/* Before the node's chat is destroyed. */
void sim_clients_node_down(struct sim_node *node);
unsigned sim_clients_operations(const struct sim *sim);
void sim_clients_check_end(struct sim *sim);

/* ---- node_sim_check.c ---- */

#define SIM_CHANNELS_MAX 4
#define SIM_KEYS_MAX 4
/* Every command of a client bears a number that no other has, but a delete, and a repetition. */
typedef uint64_t sim_operation;

struct sim_check;
void sim_check_create(struct sim *sim);
void sim_check_destroy(struct sim *sim);
/* Before the first turn of a life. */
void sim_check_start(struct sim_node *node);
/* After each turn. */
void sim_check_turn(struct sim_node *node);
void sim_check_down(struct sim_node *node);
/* All that is committed, as far as any node has said. */
raft_index sim_check_committed(const struct sim *sim);
/* The members whose admission is complete; false: not founded. */
bool sim_check_config(const struct sim *sim, struct raft_config *out);

/* The state machine as it must be, by log index. 0: never. */
raft_index sim_check_channel_created(const struct sim *sim, unsigned channel);
/* Who created it. */
sim_operation sim_check_channel_creator(const struct sim *sim, unsigned channel);
uint64_t sim_check_channel_end(const struct sim *sim, unsigned channel);
raft_index sim_check_message_index(const struct sim *sim, unsigned channel, uint64_t sequence);
sim_operation sim_check_message(const struct sim *sim, unsigned channel, uint64_t sequence);
/* Where the operation took effect: the index of the entry, its sequence; false: nowhere. */
bool sim_check_find(const struct sim *sim, sim_operation operation, raft_index *index,
                    uint64_t *sequence);
/* How often it is in the log. */
unsigned sim_check_count(const struct sim *sim, sim_operation operation);
/* The first index >= `from` as of which the key has the value (0: none); 0 if there is none. */
raft_index sim_check_value_index(const struct sim *sim, unsigned key, sim_operation value,
                                 raft_index from);
/* The first entry >= `from` that deletes the key; 0 if there is none. */
raft_index sim_check_delete_index(const struct sim *sim, unsigned key, raft_index from);
/* Everybody up, whole, with one leader, and as far as he. NULL, or what is not so. */
const char *sim_check_unsettled(struct sim *sim);
/* Flushes all, and compares what is stored. */
void sim_check_equal(struct sim *sim);

/* ---- node_sim_faults.c ---- */

void sim_faults_start(struct sim *sim);
void sim_faults_heal(struct sim *sim);
/* It died within a call: when does it come back? */
void sim_faults_died(struct sim_node *node);
/* Its next turn replaces log and store: a good time to die. */
void sim_faults_install_due(struct sim_node *node);

/* ---- node_sim.c ---- */

struct sim {
    uint64_t seed;
    uint64_t now_ns;
    struct random random;
    struct sim_queue queue;
    struct sim_levels levels;
    struct sim_node nodes[SIM_NODES_MAX];
    bool is_cut[SIM_NODES_MAX][SIM_NODES_MAX];
    bool is_healing;
    struct list pipes;
    unsigned breaks_due; /* ends of streams that will find out that they are over */
    struct sim_clients *clients;
    struct sim_check *check;
    uint64_t hash;
    uint64_t events;
    bool is_tracing;
};

#endif
