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
    PHASE_LINGERING, /* no longer the leader: late writes are told who is */
    PHASE_REFUSING,  /* writes keep arriving: they are not forwarded either */
    PHASE_LEAVING,   /* writes keep arriving: the process ends between two of them */
    PHASE_STOPPED,
};

/* watch.c's; the main thread. */
struct daemon_watch {
    uint64_t interval_ns;
    uint64_t look_ns;     /* when the next look is due */
    uint64_t watchdog_ns; /* WatchdogSec; 0: none */
    uint64_t fed_ns;
    uint64_t fed_turn_ns;
    char status[400]; /* last status sent to systemd */
};

struct daemon {
    const struct config *config;
    struct store_lmdb_kind store; /* the kind of store; used through store.kind */
    struct boot boot;
    struct node *node;
    struct peer *peer;
    /* The peers' loop. Its thread also runs the node's turns, so that no thread is woken between
     * a peer's message, the log and the acknowledgement. Nothing that clients send runs on it. */
    struct rpc_loop *rpc_loop;
    uint64_t hurry_until_ns; /* these three: the loop's thread */
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
    uint64_t scrub_ns;                     /* when the next slice is due: store thread */
    atomic_uint_least64_t damage_since_ns; /* 0: no damage is known */

    pthread_t job_thread;
    bool has_job_thread;
    struct mailbox jobs;
    atomic_bool is_job_thread_stopping;
    struct node_files files;

    /* The main thread waits for signals and on this mailbox. */
    struct mailbox bell;
    atomic_bool is_node_over;         /* node_fatal() has the reason; no turn follows */
    atomic_uint_least64_t leave_ns;   /* time limit for leaving; 0: not leaving */
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

/* The frontends that this program was built with, with NULL after the last. daemon->instances
 * has the same order. */
extern const struct frontend *const daemon_frontends[];

/* store_thread.c */

/* Main thread, while opening. Errors: ERR_NOMEM. */
int daemon_start_store(struct daemon *daemon);
/* Main thread, while closing: waits for the thread's end. Does nothing if it was never started. */
void daemon_stop_store(struct daemon *daemon);
/* The node's thread, as node_options.flush_store: `context` is the daemon. */
void daemon_flush_store(void *context);

/* snapshot_thread.c */

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

/* stop.c */

/* Main thread, at a signal: the first starts the stop, the second ends it without lingering. */
void daemon_begin_stop(struct daemon *daemon, uint64_t now_ns);
/* Main thread, repeatedly: enters the next phase when it is due. */
void daemon_go_on_stopping(struct daemon *daemon, uint64_t now_ns);
/* The loop's thread, after a turn. Once every call that arrived is answered, closes all
 * connections and exits as if killed, which loses nothing. Returns when to call it again. */
uint64_t daemon_leave(struct daemon *daemon, uint64_t now_ns);
/* The loop's thread, after a turn. While the frontends close, completes overdue calls with their
 * outcome as far as it is known, so that no call ends without an answer. Returns when to call it
 * again. */
uint64_t daemon_give_up(struct daemon *daemon, uint64_t now_ns);
/* Main thread: waits for running calls for a limited time, ends the rest and frees the
 * frontends. */
void daemon_stop_frontends(struct daemon *daemon);

#endif
