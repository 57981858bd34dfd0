#include "daemon.h"

#include "base/check.h"
#include "base/clock.h"
#include "base/errors.h"
#include "base/log.h"
#include "base/mailbox.h"
#include "base/random.h"
#include "boot.h"
#include "chat/store_lmdb.h"
#include "dispatch.h"
#include "frontend.h"
#include "node.h"
#include "node_jobs.h"
#include "peer/peer.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <systemd/sd-daemon.h>
#include <unistd.h>

#define DRAIN_MAX_NS (10 * NS_PER_S)      /* handing over and finishing what is pending */
#define LINGER_MAX_NS (2 * NS_PER_S)      /* then late clients are told who leads */
#define LINGER_QUIET_NS (200 * NS_PER_MS) /*   until none has come for so long */
#define LEAVE_MAX_NS (100 * NS_PER_MS)
#define GOODBYE_NS (50 * NS_PER_MS)
#define FRONTEND_GRACE_MS 3000
#define JOB_GRACE_S 1 /* for the step of a snapshot that runs */
#define STORE_RETRY_NS NS_PER_S
#define SCRUB_INTERVAL_NS (100 * NS_PER_MS) /* a slice of rows, so many: */
#define SCRUB_ROWS_IDLE 2000
#define SCRUB_ROWS_BUSY 200
#define SCRUB_PAUSE_NS (600 * NS_PER_S) /* between two passes */
#define DAMAGE_LINGER_NS NS_PER_S       /* leadership is given away before the end */
#define VERIFY_ROWS 10000
#define READER_THREADS 2
#define LOOK_INTERVAL_NS (20 * NS_PER_MS) /* while stopping */
#define WEBSOCKET_HEARTBEAT_MS 5000       /* a page notices a node that hangs in a few of these */
#define FRONTENDS_MAX 4

static const struct frontend *const frontends[] = {
#ifdef RAFTOGRAM_FRONTEND_GRPC
    &frontend_grpc,
#endif
#ifdef RAFTOGRAM_FRONTEND_HTTP
    &frontend_http,
#endif
    NULL,
};

enum stop_phase {
    PHASE_SERVING,
    PHASE_DRAINING,  /* leadership is handed over, what is pending completes */
    PHASE_LINGERING, /* not the leader any more: late writes hear who is */
    PHASE_LEAVING,   /* they do not stop coming: the process ends between two of them */
    PHASE_STOPPED,
};

struct daemon {
    const struct config *config;
    struct boot boot;
    struct node *node;
    struct peer *peer;
    /* Of the peers and the gRPC frontend. Its thread runs the node's turns too: from a call's
     * arrival to the log, the peers and the answer nobody else must be woken. */
    struct rpc_loop *rpc_loop;
    struct dispatch *dispatch;
    void *instances[FRONTENDS_MAX];
    size_t instance_count;
    struct peer_address peer_addresses[CONFIG_PEERS_MAX];
    struct dispatch_address addresses[CONFIG_PEERS_MAX];
    struct node_member members[CONFIG_PEERS_MAX];
    int self;
    const char *origins[CONFIG_ORIGINS_MAX];

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
    struct store_copying copying;

    /* The main thread waits for signals, and here for the end. */
    struct mailbox bell;
    atomic_bool is_node_over;       /* node_fatal() tells why; there is no turn any more */
    atomic_uint_least64_t leave_ns; /* 0: not wanted; at the latest then */
    uint64_t hung_up_ns;            /* the loop's thread */

    enum stop_phase phase;
    uint64_t phase_since_ns;
    uint64_t requests_seen;
    uint64_t requests_seen_ns;
};

/* ---- the store thread ---- */

static void wake_store(void *context)
{
    struct daemon *daemon = context;
    mailbox_wake(&daemon->store_bell);
}

static void flush_store(void *context)
{
    struct daemon *daemon = context;
    atomic_store(&daemon->is_flush_wanted, true);
    mailbox_wake(&daemon->store_bell);
}

/* What readers never look at may rot unseen: all rows are read again, slowly. */
static void scrub(struct daemon *daemon, uint64_t now_ns, bool is_idle)
{
    if (now_ns < daemon->scrub_ns) {
        return;
    }
    struct chat *chat = daemon->boot.chat;
    struct chat_backing *backing = chat_hold_store(chat);
    bool is_done = false;
    int rc = store_lmdb_scrub(chat_backing_store(backing),
                              is_idle ? SCRUB_ROWS_IDLE : SCRUB_ROWS_BUSY, &is_done);
    chat_release_store(chat, backing);
    daemon->scrub_ns = now_ns + (is_done ? SCRUB_PAUSE_NS : SCRUB_INTERVAL_NS);
    if (rc == ERR_CORRUPT || rc == ERR_IO) {
        chat_set_damaged(chat);
        node_wake(daemon->node);
    }
}

static void *run_store(void *context)
{
    struct daemon *daemon = context;
    struct chat *chat = daemon->boot.chat;
    struct list none;
    list_init(&none);
    int last = 0;
    while (!atomic_load(&daemon->is_store_stopping)) {
        uint64_t now_ns = clock_monotonic_ns(clock_system());
        bool is_wanted = atomic_exchange(&daemon->is_flush_wanted, false);
        int rc = chat_flush(chat, is_wanted ? CHAT_FLUSH_NOW : CHAT_FLUSH_IF_DUE, now_ns);
        uint64_t next_ns = chat_flush_deadline_ns(chat, now_ns);
        if (next_ns > now_ns + CHAT_GENERATION_AGE_NS) {
            next_ns = now_ns + CHAT_GENERATION_AGE_NS; /* apply wakes us by size only, not by age */
        }
        node_set_store_full(daemon->node, rc == ERR_NO_SPACE);
        if (rc == 0) {
            node_wake(daemon->node); /* it may be waiting for room in the overlay */
        } else if (rc == ERR_NO_SPACE || rc == ERR_NOMEM) {
            if (last == 0) {
                log_error("store", "cannot write, will try again",
                          LOG_STR("reason", error_text(rc)));
            }
            next_ns = now_ns + STORE_RETRY_NS;
        } else {
            atomic_store(&daemon->store_error, rc);
            mailbox_wake(&daemon->bell);
            return NULL;
        }
        last = rc;
        bool is_idle = !is_wanted && next_ns >= now_ns + CHAT_GENERATION_AGE_NS;
        scrub(daemon, now_ns, is_idle);
        next_ns = next_ns < daemon->scrub_ns ? next_ns : daemon->scrub_ns;
        now_ns = clock_monotonic_ns(clock_system());
        if (next_ns > now_ns) {
            mailbox_wait(&daemon->store_bell, next_ns - now_ns);
            (void)mailbox_drain(&daemon->store_bell, &none);
        }
    }
    return NULL;
}

static int start_store(struct daemon *daemon)
{
    int rc = mailbox_init(&daemon->store_bell, 1);
    if (rc != 0) {
        return rc;
    }
    chat_set_flush_wanted(daemon->boot.chat, wake_store, daemon);
    if (pthread_create(&daemon->store_thread, NULL, run_store, daemon) != 0) {
        chat_set_flush_wanted(daemon->boot.chat, NULL, NULL);
        mailbox_finish(&daemon->store_bell);
        return ERR_NOMEM;
    }
    (void)pthread_setname_np(daemon->store_thread, "store");
    daemon->has_store_thread = true;
    return 0;
}

static void stop_store(struct daemon *daemon)
{
    if (!daemon->has_store_thread) {
        return;
    }
    atomic_store(&daemon->is_store_stopping, true);
    mailbox_wake(&daemon->store_bell);
    pthread_join(daemon->store_thread, NULL);
    chat_set_flush_wanted(daemon->boot.chat, NULL, NULL);
    mailbox_finish(&daemon->store_bell);
}

/* ---- the thread for snapshots ---- */

static int copy_store(void *context, struct store *store, const char *path)
{
    struct daemon *daemon = context;
    return store_lmdb_copy(store, path, NULL, &daemon->copying);
}

static int open_received(void *context, const char *dir, const char *home, struct store **out,
                         char *error, size_t error_size)
{
    const struct daemon *daemon = context;
    struct store_lmdb_options options = {
        .dir = dir,
        .home = home,
        .map_bytes_max = daemon->config->limits.store_size_bytes,
        .is_untrusted = true,
    };
    return store_lmdb_open(&options, out, error, error_size);
}

static int verify_store(void *context, struct store *store)
{
    struct daemon *daemon = context;
    bool is_done = false;
    int rc = 0;
    while (rc == 0 && !is_done) {
        bool is_stopping = atomic_load(&daemon->is_job_thread_stopping);
        rc = is_stopping ? ERR_CLOSED : store_lmdb_scrub(store, VERIFY_ROWS, &is_done);
    }
    return rc;
}

static void submit_job(void *context, struct node_job *job)
{
    struct daemon *daemon = context;
    int rc = mailbox_post_always(&daemon->jobs, &job->link);
    CHECK(rc == 0);
}

static void *run_jobs(void *context)
{
    struct daemon *daemon = context;
    /* Copies and checks take as long as they take: whoever waits for an answer comes first. */
    (void)setpriority(PRIO_PROCESS, (id_t)gettid(), 10);
    while (!atomic_load(&daemon->is_job_thread_stopping)) {
        struct list jobs;
        list_init(&jobs);
        mailbox_wait(&daemon->jobs, UINT64_MAX);
        (void)mailbox_drain(&daemon->jobs, &jobs);
        struct list *link;
        while ((link = list_pop_front(&jobs)) != NULL) {
            struct node_job *job = LIST_ENTRY(link, struct node_job, link);
            if (!atomic_load(&daemon->is_job_thread_stopping)) {
                node_job_run(&daemon->files, job);
            }
            node_post_job(daemon->node, job);
        }
    }
    return NULL;
}

static int start_jobs(struct daemon *daemon)
{
    const struct node_store_ops ops = {
        .copy = copy_store, .open = open_received, .verify = verify_store, .context = daemon};
    node_files_init(&daemon->files, &daemon->boot.dir, daemon->boot.chat, &ops);
    int rc = mailbox_init(&daemon->jobs, 1);
    if (rc != 0) {
        return rc;
    }
    store_copying_init(&daemon->copying);
    if (pthread_create(&daemon->job_thread, NULL, run_jobs, daemon) != 0) {
        store_copying_finish(&daemon->copying);
        mailbox_finish(&daemon->jobs);
        return ERR_NOMEM;
    }
    (void)pthread_setname_np(daemon->job_thread, "snapshot");
    daemon->has_job_thread = true;
    return 0;
}

/* Ends what a job does as soon as it can be ended; nobody will ask for it any more. */
static void cancel_jobs(struct daemon *daemon)
{
    if (daemon->has_job_thread && !atomic_exchange(&daemon->is_job_thread_stopping, true)) {
        store_copying_cancel(&daemon->copying);
        mailbox_wake(&daemon->jobs);
    }
}

/* After the node's last turn. False: the job that runs cannot be ended in time. */
static bool stop_jobs(struct daemon *daemon)
{
    if (!daemon->has_job_thread) {
        return true;
    }
    cancel_jobs(daemon);
    struct timespec until;
    clock_gettime(CLOCK_REALTIME, &until);
    until.tv_sec += JOB_GRACE_S;
    if (pthread_timedjoin_np(daemon->job_thread, NULL, &until) != 0) {
        return false;
    }
    struct list left;
    list_init(&left);
    (void)mailbox_drain(&daemon->jobs, &left);
    struct list *link;
    while ((link = list_pop_front(&left)) != NULL) {
        node_job_destroy(LIST_ENTRY(link, struct node_job, link));
    }
    store_copying_finish(&daemon->copying);
    mailbox_finish(&daemon->jobs);
    node_files_finish(&daemon->files);
    return true;
}

/* ---- addresses ---- */

static int compare_peers(const void *a, const void *b)
{
    const struct config_peer *const *left = a;
    const struct config_peer *const *right = b;
    return strcmp((*left)->node_id, (*right)->node_id);
}

/* Members are numbered by their node ids in bytewise order, whatever the order in the file. */
static void sort_members(struct daemon *daemon)
{
    const struct config_cluster *cluster = &daemon->config->cluster;
    const struct config_peer *sorted[CONFIG_PEERS_MAX];
    for (size_t i = 0; i < cluster->peer_count; i++) {
        sorted[i] = &cluster->peers[i];
    }
    qsort(sorted, cluster->peer_count, sizeof(sorted[0]), compare_peers);
    for (size_t i = 0; i < cluster->peer_count; i++) {
        const struct config_peer *peer = sorted[i];
        daemon->peer_addresses[i] =
            (struct peer_address){.node_id = peer->node_id, .raft_addr = peer->raft_addr};
        daemon->members[i] = (struct node_member){.node_id = peer->node_id};
        daemon->addresses[i] = (struct dispatch_address){.node_id = peer->node_id,
                                                         .raft_addr = peer->raft_addr,
                                                         .grpc_addr = peer->grpc_addr,
                                                         .http_addr = peer->http_addr};
        if (strcmp(peer->node_id, cluster->node_id) == 0) {
            daemon->self = (int)i;
        }
    }
}

/* ---- opening, in order ---- */

static void post_event(void *context, struct peer_event *event)
{
    node_post_event(context, event);
}

/* Before create_peer() there is no loop, and nobody who would wake. */
static void wake_node(void *context)
{
    struct daemon *daemon = context;
    rpc_loop_turn_soon(daemon->rpc_loop);
}

static int create_node(struct daemon *daemon, char *error, size_t error_size)
{
    const struct config *config = daemon->config;
    struct node_options options = {
        .members = daemon->members,
        .member_count = (int)config->cluster.peer_count,
        .self = daemon->self,
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
        .flush_store = flush_store,
        .flush_store_context = daemon,
        .submit_job = submit_job,
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
    static const uint8_t no_cluster_id[RAFT_CLUSTER_ID_BYTES];
    bool is_founded = memcmp(state->cluster_id, no_cluster_id, sizeof(no_cluster_id)) != 0;
    struct peer_options options = {
        .bind_addr = config->cluster.raft_bind_addr,
        .members = daemon->peer_addresses,
        .member_count = (int)config->cluster.peer_count,
        .self = daemon->self,
        .incarnation = daemon->boot.incarnation,
        .is_fresh = wal_last_index(daemon->boot.wal) == 0 && !state->is_recovering && !is_founded,
        .election_timeout_ms = (uint32_t)(config->raft.election_timeout_ns / NS_PER_MS),
        .receiver = {.post = post_event, .context = daemon->node},
    };
    memcpy(options.cluster_id, state->cluster_id, sizeof(options.cluster_id));
    int rc = rpc_loop_create("rpc", &daemon->rpc_loop);
    if (rc != 0) {
        snprintf(error, error_size, "cannot start a thread: %s", error_text(rc));
        return rc;
    }
    options.loop = daemon->rpc_loop;
    rc = peer_create(&options, &daemon->peer);
    if (rc != 0) {
        snprintf(error, error_size,
                 "%s: cannot listen for other nodes: %s; stop the process that has the address, or "
                 "change cluster.raft_bind_addr",
                 config->cluster.raft_bind_addr, error_text(rc));
        return rc;
    }
    node_attach(daemon->node, peer_transport(daemon->peer));
    return 0;
}

static uint64_t count_messages_sent(void *context)
{
    const struct daemon *daemon = context;
    struct peer_stats stats;
    peer_get_stats(daemon->peer, &stats);
    return stats.messages_sent;
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
        .members = daemon->addresses,
        .member_count = config->cluster.peer_count,
        .self = (size_t)daemon->self,
        .max_payload_bytes = (uint32_t)config->limits.max_payload_bytes,
        .reader_count = READER_THREADS,
        .messages_sent = count_messages_sent,
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
    struct frontend_options options = {
        .dispatch = daemon->dispatch,
        .rpc_loop = daemon->rpc_loop,
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
        .allowed_origins = daemon->origins,
        .allowed_origin_count = config->websocket.allowed_origin_count,
    };
    for (size_t i = 0; frontends[i] != NULL; i++) {
        int rc = frontends[i]->start(&options, &daemon->instances[i], error, error_size);
        if (rc != 0) {
            return rc;
        }
        daemon->instance_count++;
    }
    return 0;
}

/* Opens everything; on error the caller closes what is open. */
static int open_rooms(struct daemon *daemon, char *error, size_t error_size)
{
    const struct config *config = daemon->config;
    struct boot_options boot = {
        .data_dir = config->cluster.data_dir,
        .node_id = config->cluster.node_id,
        .is_alone = config->cluster.peer_count == 1,
        .store_bytes_max = config->limits.store_size_bytes,
    };
    sort_members(daemon);
    int rc = boot_open(&boot, &daemon->boot, error, error_size);
    if (rc == 0) {
        snprintf(error, error_size, "cannot start: not enough memory or threads");
        rc = mailbox_init(&daemon->bell, 1);
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
        rc = start_store(daemon);
    }
    if (rc == 0) {
        rc = start_jobs(daemon);
    }
    return rc;
}

static void stop_frontends(struct daemon *daemon)
{
    for (size_t i = daemon->instance_count; i > 0; i--) {
        frontends[i - 1]->stop(daemon->instances[i - 1], FRONTEND_GRACE_MS);
    }
    daemon->instance_count = 0;
}

static void close_rooms(struct daemon *daemon)
{
    if (daemon->rpc_loop != NULL) {
        rpc_loop_set_turn(daemon->rpc_loop, NULL, NULL);
    }
    if (daemon->node != NULL && daemon->instance_count > 0) {
        node_fail_all(daemon->node); /* no turn comes any more: their calls would wait for ever */
    }
    stop_frontends(daemon);
    bool is_job_over = stop_jobs(daemon);
    stop_store(daemon);
    if (daemon->peer != NULL) {
        peer_stop(daemon->peer);
    }
    if (daemon->node != NULL) {
        node_fail_all(daemon->node);
    }
    if (!is_job_over) {
        /* It still uses what would be closed now, and may end anywhere: so it could die, too. */
        log_info("daemon", "a snapshot is left unfinished");
        _exit(0);
    }
    dispatch_destroy(daemon->dispatch);
    node_destroy(daemon->node);
    peer_destroy(daemon->peer);
    rpc_loop_destroy(daemon->rpc_loop);
    mailbox_finish(&daemon->bell);
    boot_close(&daemon->boot);
}

/* ---- stopping ---- */

static void enter_phase(struct daemon *daemon, enum stop_phase phase, uint64_t now_ns)
{
    daemon->phase = phase;
    daemon->phase_since_ns = now_ns;
}

static void close_frontends(struct daemon *daemon)
{
    for (size_t i = 0; i < daemon->instance_count; i++) {
        frontends[i]->close(daemon->instances[i]);
    }
    dispatch_end_subscriptions(daemon->dispatch);
    stop_frontends(daemon); /* their calls end in the node's turns, which go on */
    daemon->phase = PHASE_STOPPED;
}

/* Ends what can be ended in order. The rest of it is leave(). */
static void leave_frontends(struct daemon *daemon, uint64_t now_ns)
{
    log_info("daemon", "clients still come: their connections end with this process");
    dispatch_end_subscriptions(daemon->dispatch);
    for (size_t i = 0; i < daemon->instance_count; i++) {
        if (frontends[i]->hang_up == NULL) {
            frontends[i]->close(daemon->instances[i]);
            frontends[i]->stop(daemon->instances[i], FRONTEND_GRACE_MS);
        }
    }
    enter_phase(daemon, PHASE_LEAVING, now_ns);
    atomic_store(&daemon->leave_ns, now_ns + LEAVE_MAX_NS);
    node_wake(daemon->node);
}

/* On the loop's thread, after a turn: when every call that arrived has its answer, all hang up, and
 * the process ends as if it were killed, which loses nothing. Returns when to look again. */
static uint64_t leave(struct daemon *daemon, uint64_t now_ns)
{
    uint64_t leave_ns = atomic_load(&daemon->leave_ns);
    if (leave_ns == 0) {
        return UINT64_MAX;
    }
    if (daemon->hung_up_ns != 0) {
        if (now_ns >= daemon->hung_up_ns + GOODBYE_NS) {
            _exit(0);
        }
        return daemon->hung_up_ns + GOODBYE_NS;
    }
    struct node_status status;
    node_get_status(daemon->node, &status);
    if (status.requests_pending > 0 && now_ns < leave_ns) {
        return leave_ns;
    }
    for (size_t i = 0; i < daemon->instance_count; i++) {
        if (frontends[i]->hang_up != NULL) {
            frontends[i]->hang_up(daemon->instances[i]);
        }
    }
    daemon->hung_up_ns = now_ns;
    return now_ns + GOODBYE_NS;
}

/* True while clients still come with writes that this node must refuse by name of the leader. */
static bool is_busy(struct daemon *daemon, uint64_t now_ns)
{
    struct node_status status;
    node_get_status(daemon->node, &status);
    uint64_t requests = status.proposals_total + status.reads_total;
    if (requests != daemon->requests_seen) {
        daemon->requests_seen = requests;
        daemon->requests_seen_ns = now_ns;
    }
    return now_ns < daemon->requests_seen_ns + LINGER_QUIET_NS;
}

static void begin_stop(struct daemon *daemon, uint64_t now_ns)
{
    if (daemon->phase == PHASE_SERVING) {
        (void)sd_notify(0, "STOPPING=1");
        node_drain(daemon->node);
        daemon->requests_seen_ns = now_ns;
        enter_phase(daemon, PHASE_DRAINING, now_ns);
    } else if (daemon->phase != PHASE_LEAVING) {
        close_frontends(daemon); /* asked twice: do not linger */
    }
}

static void go_on_stopping(struct daemon *daemon, uint64_t now_ns)
{
    uint64_t elapsed_ns = now_ns - daemon->phase_since_ns;
    switch (daemon->phase) {
    case PHASE_DRAINING:
        if (node_is_drained(daemon->node) || elapsed_ns > DRAIN_MAX_NS) {
            enter_phase(daemon, PHASE_LINGERING, now_ns);
        }
        break;
    case PHASE_LINGERING:
        if (!is_busy(daemon, now_ns)) {
            close_frontends(daemon);
        } else if (elapsed_ns > LINGER_MAX_NS) {
            leave_frontends(daemon, now_ns);
        }
        break;
    case PHASE_LEAVING:
    case PHASE_SERVING:
    case PHASE_STOPPED:
        break;
    }
}

/* ---- the node's turns ---- */

/* Damage in the store is marked at once; the end comes when leadership had time to go, and the next
 * start mends. */
static void notice_damage(struct daemon *daemon, uint64_t now_ns)
{
    bool is_outvoted = node_is_outvoted(daemon->node);
    if (atomic_load(&daemon->damage_since_ns) != 0 ||
        (!chat_is_damaged(daemon->boot.chat) && !is_outvoted)) {
        return;
    }
    log_error("daemon", "the store is damaged: this node ends, and heals when it is started");
    struct chat_backing *backing = chat_hold_store(daemon->boot.chat);
    struct store *store = chat_backing_store(backing);
    if (is_outvoted) {
        (void)store_lmdb_mark_outvoted(store); /* else it is outvoted again */
    } else {
        store_lmdb_mark_suspect(store);
    }
    chat_release_store(daemon->boot.chat, backing);
    node_set_damaged(daemon->node);
    atomic_store(&daemon->damage_since_ns, now_ns);
    mailbox_wake(&daemon->bell);
    node_wake(daemon->node);
}

/* On the loop's thread. */
static uint64_t turn_node(void *context)
{
    struct daemon *daemon = context;
    if (atomic_load(&daemon->is_node_over)) {
        return UINT64_MAX;
    }
    uint64_t now_ns = clock_monotonic_ns(clock_system());
    uint64_t deadline_ns = node_turn(daemon->node, now_ns);
    if (node_fatal(daemon->node) != NULL) {
        atomic_store(&daemon->is_node_over, true);
        mailbox_wake(&daemon->bell);
        return UINT64_MAX;
    }
    notice_damage(daemon, now_ns);
    uint64_t leave_ns = leave(daemon, now_ns);
    return leave_ns < deadline_ns ? leave_ns : deadline_ns;
}

/* ---- the main thread ---- */

/* A signal's number, or 0. */
static int wait_for_work(struct daemon *daemon, int signals)
{
    bool is_timed = daemon->phase != PHASE_SERVING || atomic_load(&daemon->damage_since_ns) != 0;
    const struct timespec timeout = {.tv_nsec = LOOK_INTERVAL_NS};
    struct pollfd fds[] = {{.fd = mailbox_fd(&daemon->bell), .events = POLLIN},
                           {.fd = signals, .events = POLLIN}};
    int count = ppoll(fds, 2, is_timed ? &timeout : NULL, NULL);
    struct list none;
    list_init(&none);
    (void)mailbox_drain(&daemon->bell, &none);
    if (count > 0 && (fds[1].revents & POLLIN) != 0) {
        struct signalfd_siginfo info;
        if (read(signals, &info, sizeof(info)) == (ssize_t)sizeof(info)) {
            return (int)info.ssi_signo;
        }
    }
    return 0;
}

/* What cannot be served on: `error` says why. */
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
        snprintf(error, error_size, "%s: the store is damaged: start the node again to heal it",
                 dir);
        return ERR_CORRUPT;
    }
    return 0;
}

static int serve(struct daemon *daemon, int signals, char *error, size_t error_size)
{
    rpc_loop_set_turn(daemon->rpc_loop, turn_node, daemon);
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
            begin_stop(daemon, now_ns);
        }
        go_on_stopping(daemon, now_ns);
    }
}

static int open_signals(void)
{
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGTERM);
    sigaddset(&set, SIGINT);
    /* Before any thread starts, so that all inherit it. */
    pthread_sigmask(SIG_BLOCK, &set, NULL);
    signal(SIGPIPE, SIG_IGN);
    return signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
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
    int signals = open_signals();
    log_hold();
    int rc = signals < 0 ? ERR_IO : open_rooms(daemon, error, error_size);
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
            /* After a failed log write nothing may be trusted to end in order (fsync may lie). */
            fprintf(stderr, "raftogram: %s\n", error);
            _exit(1);
        }
    }
    close_rooms(daemon);
    if (!is_open) {
        log_release(true); /* the caller's one line says it all */
    }
    if (signals >= 0) {
        close(signals);
    }
    free(daemon);
    return rc;
}
