/* Inside the daemon: the running process, and what the files of this folder share. */
#ifndef RAFTOGRAM_DAEMON_INTERNAL_H
#define RAFTOGRAM_DAEMON_INTERNAL_H

#include "base/mailbox.h"
#include "config/config.h"
#include "dispatch/frontend.h"
#include "dispatch/service.h"
#include "driver/boot.h"
#include "driver/node.h"
#include "driver/snapshot_jobs.h"
#include "peer/peer.h"
#include "store/lmdb.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define FRONTENDS_MAX 4

enum stop_phase {
    PHASE_SERVING,
    PHASE_DRAINING,  /* leadership is handed over, what is pending completes */
    PHASE_LINGERING, /* not the leader any more: late writes hear who is */
    PHASE_REFUSING,  /* they do not stop coming: nothing is forwarded for them either */
    PHASE_LEAVING,   /* they do not stop coming: the process ends between two of them */
    PHASE_STOPPED,
};

/* watch.c's; the main thread. */
struct daemon_watch {
    uint64_t interval_ns;
    uint64_t look_ns;     /* when the next look is due */
    uint64_t watchdog_ns; /* WatchdogSec; 0: none */
    uint64_t fed_ns;
    uint64_t fed_turn_ns;
    char status[400]; /* as systemd was told */
};

struct daemon {
    const struct config *config;
    struct store_lmdb_kind store; /* the kind of store; used through store.kind */
    struct boot boot;
    struct node *node;
    struct peer *peer;
    /* Of the peers. Its thread runs the node's turns too: between a peer's message, the log and the
     * acknowledgement no thread is woken. What clients send never runs on it. */
    struct rpc_loop *rpc_loop;
    uint64_t hurry_until_ns; /* turns: for the loop's thread */
    bool is_hurrying;
    int usual_priority;
    struct dispatch *dispatch;
    struct budget memory; /* limits.memory */
    void *instances[FRONTENDS_MAX];
    size_t instance_count;
    const char *origins[CONFIG_ORIGINS_MAX];
    const char *hosts[CONFIG_HOSTS_MAX];

    pthread_t store_thread;
    bool has_store_thread;
    struct mailbox store_bell;
    atomic_bool is_store_stopping;
    atomic_bool is_flush_wanted; /* of all that is applied */
    atomic_int store_error;
    uint64_t scrub_ns;                     /* when the next slice is due: the store's thread */
    atomic_uint_least64_t damage_since_ns; /* 0: the store is whole, as far as is known */

    pthread_t job_thread;
    bool has_job_thread;
    struct mailbox jobs;
    atomic_bool is_job_thread_stopping;
    struct node_files files;

    /* The main thread waits for signals, and here for the end. */
    struct mailbox bell;
    atomic_bool is_node_over;         /* node_fatal() tells why; there is no turn any more */
    atomic_uint_least64_t leave_ns;   /* 0: not wanted; at the latest then */
    atomic_uint_least64_t give_up_ns; /* 0: not wanted */
    uint64_t hung_up_ns;              /* the loop's thread */

    enum stop_phase phase;
    uint64_t phase_since_ns;
    uint64_t requests_seen;
    uint64_t requests_seen_ns;
    struct daemon_watch watch;
    uint64_t signals_ignored;
    uint64_t ignored_line_ns;
};

/* Those that this program was built with; NULL behind the last. daemon->instances are theirs, in
 * the same order. */
extern const struct frontend *const daemon_frontends[];

/* daemon_store.c */

/* Main thread, while opening. Errors: ERR_NOMEM. */
int daemon_start_store(struct daemon *daemon);
/* Main thread, while closing: waits for the thread's end. Does nothing if it was never started. */
void daemon_stop_store(struct daemon *daemon);
/* The node's thread, as node_options.flush_store: `context` is the daemon. */
void daemon_flush_store(void *context);

/* daemon_jobs.c */

/* Main thread, while opening. Errors: ERR_NOMEM. */
int daemon_start_jobs(struct daemon *daemon);
/* Main thread, after the node's last turn. False: the job that runs cannot be ended in time.
 * Does nothing if the thread was never started. */
bool daemon_stop_jobs(struct daemon *daemon);
/* The node's thread, as node_options.submit_job: `context` is the daemon. Takes the job. */
void daemon_submit_job(void *context, struct node_job *job);

/* signals.c */

/* Main thread: a descriptor that is readable when a signal waits, or -1. */
int daemon_open_signals(void);
/* Main thread: the number of a signal that asks to stop, or 0 when none waits; the others are read
 * and ignored. */
int daemon_read_signal(struct daemon *daemon, int signals);

/* watch.c */

/* Main thread, before the first look. */
void daemon_begin_watch(struct daemon *daemon);
/* Main thread, every daemon->watch.interval_ns. */
void daemon_watch_node(struct daemon *daemon, uint64_t now_ns);

/* daemon_stop.c */

/* Main thread, at a signal: the first begins, a second one ends it without lingering. */
void daemon_begin_stop(struct daemon *daemon, uint64_t now_ns);
/* Main thread, now and then: the next phase, if it is time. */
void daemon_go_on_stopping(struct daemon *daemon, uint64_t now_ns);
/* The loop's thread, after a turn: when every call that arrived has its answer, all hang up, and
 * the process ends as if it were killed, which loses nothing. Returns when to look again. */
uint64_t daemon_leave(struct daemon *daemon, uint64_t now_ns);
/* The loop's thread, after a turn: while the frontends close, what has not ended after a while ends
 * with its outcome as far as it is known, so that no call is cut off without a word. Returns when
 * to look again. */
uint64_t daemon_give_up(struct daemon *daemon, uint64_t now_ns);
/* Main thread: waits a while for what they serve, ends the rest, frees them. */
void daemon_stop_frontends(struct daemon *daemon);

#endif
