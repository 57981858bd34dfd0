/* Stops in phases: hands over leadership, refuses late clients with the leader's name, then ends
 * everything. */
#include "base/clock.h"
#include "base/log.h"
#include "daemon/daemon_internal.h"

#include <systemd/sd-daemon.h>
#include <unistd.h>

#define DRAIN_MAX_NS (10 * NS_PER_S)      /* limit for the hand-over and for pending requests */
#define LINGER_MAX_NS (2 * NS_PER_S)      /* then late clients learn who leads, if that is known */
#define LINGER_QUIET_NS (200 * NS_PER_MS) /* ends early after so long without a client */
#define REFUSE_MAX_NS (300 * NS_PER_MS)   /* then clients whose calls were forwarded learn it too */
#define LEAVE_MAX_NS (100 * NS_PER_MS)
#define GOODBYE_NS (50 * NS_PER_MS)
#define GIVE_UP_NS (500 * NS_PER_MS) /* for requests that are pending when the frontends close */
#define FRONTEND_GRACE_MS 3000

void daemon_stop_frontends(struct daemon *daemon)
{
    for (size_t i = daemon->instance_count; i > 0; i--) {
        if (daemon->instances[i - 1] != NULL) {
            daemon_frontends[i - 1]->stop(daemon->instances[i - 1], FRONTEND_GRACE_MS);
        }
    }
    daemon->instance_count = 0;
}

static void enter_phase(struct daemon *daemon, enum stop_phase phase, uint64_t now_ns)
{
    daemon->phase = phase;
    daemon->phase_since_ns = now_ns;
}

static void close_frontends(struct daemon *daemon)
{
    for (size_t i = 0; i < daemon->instance_count; i++) {
        if (daemon->instances[i] != NULL) {
            daemon_frontends[i]->close(daemon->instances[i]);
        }
    }
    dispatch_end_streams(daemon->dispatch);
    atomic_store(&daemon->give_up_ns, clock_monotonic_ns(clock_system()) + GIVE_UP_NS);
    daemon_stop_frontends(daemon); /* their calls end in the node's turns, which continue */
    daemon->phase = PHASE_STOPPED;
}

/* Closes the frontends that can be closed in order. Clients whose calls were forwarded until now
 * are told who leads. */
static void refuse_clients(struct daemon *daemon)
{
    log_info("daemon", "clients still connect: their writes are refused instead of forwarded");
    dispatch_end_streams(daemon->dispatch);
    for (size_t i = 0; i < daemon->instance_count; i++) {
        if (daemon_frontends[i]->hang_up == NULL) {
            daemon_frontends[i]->close(daemon->instances[i]);
        }
    }
    node_end_forwarding(daemon->node);
    for (size_t i = 0; i < daemon->instance_count; i++) {
        if (daemon_frontends[i]->hang_up == NULL) {
            daemon_frontends[i]->stop(daemon->instances[i], FRONTEND_GRACE_MS);
            daemon->instances[i] = NULL;
        }
    }
    enter_phase(daemon, PHASE_REFUSING, clock_monotonic_ns(clock_system()));
}

uint64_t daemon_give_up(struct daemon *daemon, uint64_t now_ns)
{
    uint64_t give_up_ns = atomic_load(&daemon->give_up_ns);
    if (give_up_ns == 0) {
        return UINT64_MAX;
    }
    if (now_ns < give_up_ns) {
        return give_up_ns;
    }
    node_fail_all(daemon->node);
    return now_ns + GIVE_UP_NS;
}

/* Exits if the node's thread hangs. Nothing can be ended in order then, and nothing is lost: it
 * is as if the process were killed. */
static void leave_a_hung_node(struct daemon *daemon)
{
    struct dispatch_node_status status;
    dispatch_get_node_status(daemon->dispatch, &status);
    if (status.is_stale) {
        log_error("daemon", "the node's thread hangs: the process ends without it");
        (void)log_flush(LOG_LAST_WORDS_MS);
        _exit(1);
    }
}

/* Starts to leave; daemon_leave() does the rest. */
static void begin_to_leave(struct daemon *daemon, uint64_t now_ns)
{
    log_info("daemon", "clients still connect: their connections end with this process");
    enter_phase(daemon, PHASE_LEAVING, now_ns);
    atomic_store(&daemon->leave_ns, now_ns + LEAVE_MAX_NS);
    node_wake(daemon->node);
}

uint64_t daemon_leave(struct daemon *daemon, uint64_t now_ns)
{
    uint64_t leave_ns = atomic_load(&daemon->leave_ns);
    if (leave_ns == 0) {
        return UINT64_MAX;
    }
    if (daemon->hung_up_ns != 0) {
        if (now_ns >= daemon->hung_up_ns + GOODBYE_NS) {
            (void)log_flush(LOG_LAST_WORDS_MS);
            _exit(0);
        }
        return daemon->hung_up_ns + GOODBYE_NS;
    }
    struct node_status status;
    node_get_status(daemon->node, &status);
    if (status.requests_pending > 0 && now_ns < leave_ns) {
        return leave_ns;
    }
    node_fail_all(daemon->node); /* calls without an outcome are told that it is unknown */
    for (size_t i = 0; i < daemon->instance_count; i++) {
        if (daemon->instances[i] != NULL) {
            daemon_frontends[i]->hang_up(daemon->instances[i]);
        }
    }
    daemon->hung_up_ns = now_ns;
    return now_ns + GOODBYE_NS;
}

/* True while clients still send writes that this node must refuse with the leader's name. */
static bool is_busy(struct daemon *daemon, uint64_t now_ns)
{
    struct node_status status;
    node_get_status(daemon->node, &status);
    if (status.requests_total != daemon->requests_seen) {
        daemon->requests_seen = status.requests_total;
        daemon->requests_seen_ns = now_ns;
    }
    return now_ns < daemon->requests_seen_ns + LINGER_QUIET_NS;
}

void daemon_begin_stop(struct daemon *daemon, uint64_t now_ns)
{
    if (daemon->phase == PHASE_SERVING) {
        (void)sd_notify(0, "STOPPING=1");
        node_drain(daemon->node);
        daemon->requests_seen_ns = now_ns;
        enter_phase(daemon, PHASE_DRAINING, now_ns);
    } else if (daemon->phase != PHASE_LEAVING) {
        leave_a_hung_node(daemon);
        close_frontends(daemon); /* a second signal: do not wait */
    }
}

void daemon_go_on_stopping(struct daemon *daemon, uint64_t now_ns)
{
    uint64_t elapsed_ns = now_ns - daemon->phase_since_ns;
    switch (daemon->phase) {
    case PHASE_DRAINING:
        if (elapsed_ns > DRAIN_MAX_NS) {
            leave_a_hung_node(daemon);
        }
        if (node_is_drained(daemon->node) || elapsed_ns > DRAIN_MAX_NS) {
            enter_phase(daemon, PHASE_LINGERING, now_ns);
        }
        break;
    case PHASE_LINGERING:
        if (!is_busy(daemon, now_ns)) {
            close_frontends(daemon);
        } else if (elapsed_ns > LINGER_MAX_NS || node_is_hopeless(daemon->node)) {
            refuse_clients(daemon);
        }
        break;
    case PHASE_REFUSING:
        if (!is_busy(daemon, now_ns)) {
            close_frontends(daemon);
        } else if (elapsed_ns > REFUSE_MAX_NS) {
            begin_to_leave(daemon, now_ns);
        }
        break;
    case PHASE_LEAVING:
    case PHASE_SERVING:
    case PHASE_STOPPED:
        break;
    }
}
