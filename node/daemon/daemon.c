/* The daemon: opens everything in order, runs the turns and the main loop, closes everything. */
#include "daemon/daemon.h"

#include "base/clock.h"
#include "base/errors.h"
#include "base/log.h"
#include "base/random.h"
#include "daemon/daemon_internal.h"

#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <systemd/sd-daemon.h>
#include <unistd.h>

#define TURN_INTERVAL_MAX_NS NS_PER_S
#define DAMAGE_LINGER_NS NS_PER_S /* time to hand over leadership before the process ends */
#define READER_THREADS 2
#define LOOK_INTERVAL_NS (20 * NS_PER_MS) /* while stopping */
#define WEBSOCKET_HEARTBEAT_MS 5000       /* a page detects a hung node within a few of these */

/* Priority of the node's thread, and how long it keeps that after a late turn. */
#define PRIORITY_LATE (-10)
#define PRIORITY_LATE_NS (10 * NS_PER_S)

const struct frontend *const daemon_frontends[] = {
#ifdef RAFTOGRAM_FRONTEND_GRPC
    &frontend_grpc,
#endif
#ifdef RAFTOGRAM_FRONTEND_HTTP
    &frontend_http,
#endif
    NULL,
};

/* ---- opening, in order ---- */

static void post_event(void *context, struct peer_event *event)
{
    node_post_event(context, event);
}

/* Before create_peer() there is no loop, and nothing calls this. */
static void wake_node(void *context)
{
    struct daemon *daemon = context;
    rpc_loop_turn_soon(daemon->rpc_loop);
}

static int create_node(struct daemon *daemon, char *error, size_t error_size)
{
    const struct config *config = daemon->config;
    struct node_options options = {
        .members = config->cluster.members,
        .member_count = (int)config->cluster.peer_count,
        .self = (int)config->cluster.self,
        .election_timeout_ns = config->raft.election_timeout_ns,
        .heartbeat_interval_ns = config->raft.heartbeat_interval_ns,
        .requests_max = (uint32_t)config->limits.max_in_flight,
        .clock = clock_system(),
        .wake = wake_node,
        .wake_context = daemon,
        .wal = daemon->boot.wal,
        .chat = daemon->boot.chat,
        .snapshot_interval_ns = config->raft.snapshot_interval_ns,
        .snapshot_threshold = config->raft.snapshot_threshold,
        .trailing_logs = config->raft.trailing_logs,
        .flush_store = daemon_flush_store,
        .flush_store_context = daemon,
        .submit_job = daemon_submit_job,
        .job_context = daemon,
        .data_dir = &daemon->boot.dir,
        .on_change = dispatch_on_change,
        .on_change_context = daemon->dispatch,
    };
    random_bytes(&options.seed, sizeof(options.seed));
    random_bytes(options.new_cluster_id, sizeof(options.new_cluster_id));
    char reason[256] = "";
    int rc = node_create(&options, &daemon->node, reason, sizeof(reason));
    if (rc != 0) {
        snprintf(error, error_size, "%s: %s", config->cluster.data_dir, reason);
    }
    return rc;
}

static int create_peer(struct daemon *daemon, char *error, size_t error_size)
{
    const struct config *config = daemon->config;
    const struct wal_hard_state *state = wal_hard_state(daemon->boot.wal);
    bool is_founded = cluster_id_is_set(state->cluster_id);
    struct listen_fault fault;
    struct peer_options options = {
        .bind_addr = config->cluster.raft_bind_addr,
        .members = config->cluster.members,
        .member_count = (int)config->cluster.peer_count,
        .self = (int)config->cluster.self,
        .incarnation = daemon->boot.incarnation,
        .is_fresh = wal_last_index(daemon->boot.wal) == 0 && !state->is_recovering && !is_founded,
        .command_format = COMMAND_FORMAT_VERSION,
        .election_timeout_ms = (uint32_t)(config->raft.election_timeout_ns / NS_PER_MS),
        .receiver = {.post = post_event, .context = daemon->node},
        .fault = &fault,
    };
    memcpy(options.cluster_id, state->cluster_id, sizeof(options.cluster_id));
    int rc = rpc_loop_create("rpc", &daemon->rpc_loop);
    if (rc != 0) {
        snprintf(error, error_size, "cannot start a thread: %s", error_text(rc));
        return rc;
    }
    options.loop = daemon->rpc_loop;
    rc = peer_create(&options, &daemon->peer);
    if (rc == ERR_NOMEM) {
        snprintf(error, error_size, "cannot start: %s", error_text(rc));
    } else if (rc != 0) {
        listen_explain(&fault, options.bind_addr, "other nodes", "cluster.raft_bind_addr", error,
                       error_size);
    }
    if (rc != 0) {
        return rc;
    }
    node_attach(daemon->node, peer_transport(daemon->peer));
    return 0;
}

static void get_peer_counts(void *context, struct dispatch_peer_counts *out)
{
    const struct daemon *daemon = context;
    struct peer_stats stats;
    peer_get_stats(daemon->peer, &stats);
    *out = (struct dispatch_peer_counts){.messages_sent = stats.messages_sent,
                                         .messages_dropped = stats.messages_dropped,
                                         .connects = stats.connects};
}

static void get_turn_delays(void *context, struct latency_counts *out)
{
    const struct daemon *daemon = context;
    rpc_loop_turn_delays(daemon->rpc_loop, out);
}

static uint64_t count_store_bytes(void *context)
{
    const struct daemon *daemon = context;
    struct chat_backing *backing = chat_hold_store(daemon->boot.chat);
    struct store *store = chat_backing_store(backing);
    struct store_stats stats;
    store->ops->get_stats(store, &stats);
    chat_release_store(daemon->boot.chat, backing);
    return stats.bytes_used;
}

static int create_dispatch(struct daemon *daemon)
{
    const struct config *config = daemon->config;
    struct dispatch_options options = {
        .chat = daemon->boot.chat,
        .members = config->cluster.members,
        .member_count = config->cluster.peer_count,
        .self = config->cluster.self,
        .max_payload_bytes = (uint32_t)config->limits.max_payload_bytes,
        .reader_count = READER_THREADS,
        .election_timeout_ns = config->raft.election_timeout_ns,
        .get_peer_counts = get_peer_counts,
        .get_turn_delays = get_turn_delays,
        .store_bytes = count_store_bytes,
        .context = daemon,
    };
    return dispatch_create(&options, &daemon->dispatch);
}

static int start_frontends(struct daemon *daemon, char *error, size_t error_size)
{
    const struct config *config = daemon->config;
    for (size_t i = 0; i < config->websocket.allowed_origin_count; i++) {
        daemon->origins[i] = config->websocket.allowed_origins[i];
    }
    for (size_t i = 0; i < config->http_allowed_host_count; i++) {
        daemon->hosts[i] = config->http_allowed_hosts[i];
    }
    struct frontend_options options = {
        .dispatch = daemon->dispatch,
        .grpc_bind_addr = config->cluster.grpc_bind_addr,
        .http_bind_addr = config->cluster.health_bind_addr,
        .web_root = config->http_web_root,
        .has_reflection = config->grpc_reflection,
        .max_payload_bytes = (uint32_t)config->limits.max_payload_bytes,
        .max_frame_bytes = (uint32_t)config->limits.max_frame_bytes,
        .max_connections = (uint32_t)config->limits.max_connections,
        .max_subscriptions = (uint32_t)config->limits.max_subscriptions_per_connection,
        .max_calls = (uint32_t)config->limits.max_calls,
        .heartbeat_ms = WEBSOCKET_HEARTBEAT_MS,
        .memory = &daemon->memory,
        .allowed_origins = daemon->origins,
        .allowed_origin_count = config->websocket.allowed_origin_count,
        .allowed_hosts = daemon->hosts,
        .allowed_host_count = config->http_allowed_host_count,
    };
    for (size_t i = 0; daemon_frontends[i] != NULL; i++) {
        int rc = daemon_frontends[i]->start(&options, &daemon->instances[i], error, error_size);
        if (rc != 0) {
            return rc;
        }
        daemon->instance_count++;
    }
    return 0;
}

/* Opens everything; on error the caller closes what is open. */
static int open_modules(struct daemon *daemon, char *error, size_t error_size)
{
    const struct config *config = daemon->config;
    struct boot_options boot = {
        .data_dir = config->cluster.data_dir,
        .node_id = config->cluster.node_id,
        .is_alone = config->cluster.peer_count == 1,
        .store_kind = &daemon->store.kind,
    };
    store_lmdb_kind_init(&daemon->store, config->limits.store_size_bytes);
    store_lmdb_install_fault_handler();
    budget_init(&daemon->memory, config->limits.memory_bytes);
    int rc = boot_open(&boot, &daemon->boot, error, error_size);
    if (rc == 0) {
        snprintf(error, error_size, "cannot start: not enough memory or threads");
        rc = mailbox_init(&daemon->bell);
    }
    if (rc == 0) {
        rc = create_dispatch(daemon);
    }
    if (rc == 0) {
        rc = create_node(daemon, error, error_size);
    }
    if (rc == 0) {
        dispatch_attach(daemon->dispatch, daemon->node);
        rc = create_peer(daemon, error, error_size);
    }
    if (rc == 0) {
        rc = start_frontends(daemon, error, error_size);
    }
    if (rc == 0) {
        rc = daemon_start_store(daemon);
    }
    if (rc == 0) {
        rc = daemon_start_jobs(daemon);
    }
    return rc;
}

static void close_modules(struct daemon *daemon)
{
    if (daemon->rpc_loop != NULL) {
        rpc_loop_set_turn(daemon->rpc_loop, NULL, NULL);
    }
    if (daemon->node != NULL && daemon->instance_count > 0) {
        node_fail_all(daemon->node); /* no turn will complete their calls */
    }
    daemon_stop_frontends(daemon);
    bool is_job_over = daemon_stop_jobs(daemon);
    daemon_stop_store(daemon);
    if (daemon->peer != NULL) {
        peer_stop(daemon->peer);
    }
    if (daemon->node != NULL) {
        node_fail_all(daemon->node);
    }
    if (!is_job_over) {
        /* The job still uses what would be closed now, and may be interrupted anywhere: exiting
         * is as safe. */
        log_info("daemon", "a snapshot is left unfinished");
        (void)log_flush(LOG_LAST_WORDS_MS);
        _exit(0);
    }
    dispatch_destroy(daemon->dispatch);
    node_destroy(daemon->node);
    peer_destroy(daemon->peer);
    rpc_loop_destroy(daemon->rpc_loop);
    mailbox_finish(&daemon->bell);
    boot_close(&daemon->boot);
    store_lmdb_kind_finish(&daemon->store);
}

/* ---- the node's turns ---- */

/* Marks a damaged store at once. The process ends after leadership had time to move, and the
 * next start repairs the store. */
static void notice_damage(struct daemon *daemon, uint64_t now_ns)
{
    bool is_outvoted = node_is_outvoted(daemon->node);
    if (atomic_load(&daemon->damage_since_ns) != 0 ||
        (!chat_is_damaged(daemon->boot.chat) && !is_outvoted)) {
        return;
    }
    log_error("daemon", "the store is damaged: this node ends and is repaired at its next start");
    struct chat_backing *backing = chat_hold_store(daemon->boot.chat);
    struct store *store = chat_backing_store(backing);
    if (is_outvoted) {
        (void)daemon->store.kind.mark_outvoted(store); /* else it is outvoted again */
    } else {
        daemon->store.kind.mark_suspect(store);
    }
    chat_release_store(daemon->boot.chat, backing);
    if (node_fatal(daemon->node) == NULL) {
        node_set_damaged(daemon->node);
    }
    atomic_store(&daemon->damage_since_ns, now_ns);
    mailbox_wake(&daemon->bell);
    node_wake(daemon->node);
}

/* Raises the thread's priority for a while after a late turn, so that heartbeats wait neither
 * for our other threads nor for other programs. A permanent raise would cost throughput: a
 * thread that always runs at once finds less work at a time, and 64 reads in flight took a third
 * more processor time. Without the permission nothing happens. */
static void hurry_when_late(struct daemon *daemon, uint64_t now_ns)
{
    uint64_t late_ns = daemon->config->raft.heartbeat_interval_ns / 2;
    bool is_late = rpc_loop_turn_delay_ns(daemon->rpc_loop) > late_ns;
    if (is_late) {
        daemon->hurry_until_ns = now_ns + PRIORITY_LATE_NS;
    }
    bool is_hurrying = now_ns < daemon->hurry_until_ns;
    if (is_hurrying != daemon->is_hurrying) {
        id_t thread = (id_t)gettid();
        daemon->is_hurrying = is_hurrying;
        if (is_hurrying) {
            daemon->usual_priority = getpriority(PRIO_PROCESS, thread);
        }
        (void)setpriority(PRIO_PROCESS, thread,
                          is_hurrying ? PRIORITY_LATE : daemon->usual_priority);
    }
}

/* On the loop's thread. */
static uint64_t turn_node(void *context)
{
    struct daemon *daemon = context;
    if (atomic_load(&daemon->is_node_over)) {
        return UINT64_MAX;
    }
    uint64_t now_ns = clock_monotonic_ns(clock_system());
    hurry_when_late(daemon, now_ns);
    uint64_t deadline_ns = node_turn(daemon->node, now_ns);
    notice_damage(daemon, now_ns); /* first, because a damaged row may be what ended the node */
    if (node_fatal(daemon->node) != NULL) {
        node_fail_all(
            daemon->node); /* else frontends that are being stopped would wait indefinitely */
        atomic_store(&daemon->is_node_over, true);
        mailbox_wake(&daemon->bell);
        return UINT64_MAX;
    }
    uint64_t leave_ns = daemon_leave(daemon, now_ns);
    deadline_ns = leave_ns < deadline_ns ? leave_ns : deadline_ns;
    uint64_t give_up_ns = daemon_give_up(daemon, now_ns);
    deadline_ns = give_up_ns < deadline_ns ? give_up_ns : deadline_ns;
    /* The published status is judged by the time of the last turn, so an idle node turns too. */
    uint64_t interval_ns = daemon->config->raft.election_timeout_ns / 2;
    interval_ns = interval_ns < TURN_INTERVAL_MAX_NS ? interval_ns : TURN_INTERVAL_MAX_NS;
    return deadline_ns < now_ns + interval_ns ? deadline_ns : now_ns + interval_ns;
}

/* ---- the main thread ---- */

/* Waits for events. Returns the number of a signal that asks to stop, or 0. */
static int wait_for_work(struct daemon *daemon, int signals)
{
    bool is_hasty = daemon->phase != PHASE_SERVING || atomic_load(&daemon->damage_since_ns) != 0;
    uint64_t wait_ns = daemon->watch.interval_ns;
    if (is_hasty && wait_ns > LOOK_INTERVAL_NS) {
        wait_ns = LOOK_INTERVAL_NS;
    }
    const struct timespec timeout = {.tv_nsec = (long)wait_ns};
    struct pollfd fds[] = {{.fd = mailbox_fd(&daemon->bell), .events = POLLIN},
                           {.fd = signals, .events = POLLIN}};
    (void)ppoll(fds, 2, &timeout, NULL);
    struct list none;
    list_init(&none);
    (void)mailbox_drain(&daemon->bell, &none);
    return daemon_read_signal(daemon, signals);
}

/* Returns an error if the node cannot continue; `error` gets the reason. */
static int find_failure(struct daemon *daemon, uint64_t now_ns, char *error, size_t error_size)
{
    const char *dir = daemon->config->cluster.data_dir;
    int store_error = atomic_load(&daemon->store_error);
    uint64_t damage_since_ns = atomic_load(&daemon->damage_since_ns);
    if (atomic_load(&daemon->is_node_over)) {
        snprintf(error, error_size, "%s: %s", dir, node_fatal(daemon->node));
        return ERR_IO;
    }
    if (store_error != 0) {
        snprintf(error, error_size, "%s: the store cannot be written: %s", dir,
                 error_text(store_error));
        return ERR_IO;
    }
    if (damage_since_ns != 0 && now_ns >= damage_since_ns + DAMAGE_LINGER_NS) {
        snprintf(error, error_size, "%s: the store is damaged: start the node again to repair it",
                 dir);
        return ERR_CORRUPT;
    }
    return 0;
}

static int serve(struct daemon *daemon, int signals, char *error, size_t error_size)
{
    rpc_loop_set_turn(daemon->rpc_loop, turn_node, daemon);
    daemon_begin_watch(daemon);
    for (;;) {
        uint64_t now_ns = clock_monotonic_ns(clock_system());
        int rc = find_failure(daemon, now_ns, error, error_size);
        if (rc != 0 || daemon->phase == PHASE_STOPPED) {
            return rc;
        }
        int signal = wait_for_work(daemon, signals);
        now_ns = clock_monotonic_ns(clock_system());
        if (signal != 0) {
            log_info("daemon", "stopping", LOG_I64("signal", signal));
            daemon_begin_stop(daemon, now_ns);
        }
        daemon_watch_node(daemon, now_ns);
        daemon_go_on_stopping(daemon, now_ns);
    }
}

static void raise_file_limit(void)
{
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit) == 0 && limit.rlim_cur < limit.rlim_max) {
        limit.rlim_cur = limit.rlim_max;
        (void)setrlimit(RLIMIT_NOFILE, &limit);
    }
}

int daemon_run(const struct config *config, char *error, size_t error_size)
{
    struct daemon *daemon = calloc(1, sizeof(*daemon));
    if (daemon == NULL) {
        snprintf(error, error_size, "out of memory");
        return ERR_NOMEM;
    }
    daemon->config = config;
    log_set_common("node", config->cluster.node_id);
    raise_file_limit();
    int signals = daemon_open_signals();
    log_hold();
    int rc = signals < 0 ? ERR_IO : open_modules(daemon, error, error_size);
    bool is_open = rc == 0;
    if (is_open) {
        log_release(false);
        peer_start(daemon->peer);
        (void)sd_notify(0, "READY=1");
        log_info("daemon", "serving", LOG_STR("version", RAFTOGRAM_VERSION),
                 LOG_STR("grpc", config->cluster.grpc_bind_addr),
                 LOG_STR("http", config->cluster.health_bind_addr),
                 LOG_STR("raft", config->cluster.raft_bind_addr));
        rc = serve(daemon, signals, error, error_size);
        if (rc != 0) {
            /* After a failed log write an orderly end is not safe, since a later fsync may
             * succeed without effect. */
            char line[2048];
            snprintf(line, sizeof(line), "raftogram: %s", error);
            log_plain(line);
            (void)log_flush(LOG_LAST_WORDS_MS);
            _exit(1);
        }
    }
    close_modules(daemon);
    if (!is_open) {
        log_release(true); /* the caller prints the reason */
    }
    if (signals >= 0) {
        close(signals);
    }
    free(daemon);
    return rc;
}
