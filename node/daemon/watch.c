/* Checks on the main thread, a few times in each election timeout, whether the node turns: for
 * watchers of its status, for systemd's watchdog and for `systemctl status`. */
#include "base/clock.h"
#include "daemon/daemon_internal.h"

#include <stdio.h>
#include <string.h>
#include <systemd/sd-daemon.h>

#define LOOK_MIN_NS (5 * NS_PER_MS)
#define LOOK_MAX_NS (250 * NS_PER_MS)

static uint64_t least(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

void daemon_begin_watch(struct daemon *daemon)
{
    struct daemon_watch *watch = &daemon->watch;
    uint64_t watchdog_us = 0;
    if (sd_watchdog_enabled(0, &watchdog_us) > 0) {
        watch->watchdog_ns = watchdog_us * 1000;
    }
    watch->interval_ns = least(daemon->config->raft.election_timeout_ns / 4, LOOK_MAX_NS);
    if (watch->watchdog_ns != 0) {
        watch->interval_ns = least(watch->interval_ns, watch->watchdog_ns / 8);
    }
    if (watch->interval_ns < LOOK_MIN_NS) {
        watch->interval_ns = LOOK_MIN_NS;
    }
}

/* Feeds systemd's watchdog while the node turns. If it does not, systemd restarts it. */
static void feed_watchdog(struct daemon_watch *watch, uint64_t turn_ns, uint64_t now_ns)
{
    bool is_due = watch->watchdog_ns != 0 && now_ns >= watch->fed_ns + watch->watchdog_ns / 2;
    if (is_due && turn_ns != watch->fed_turn_ns) {
        watch->fed_ns = now_ns;
        watch->fed_turn_ns = turn_ns;
        (void)sd_notify(0, "WATCHDOG=1");
    }
}

static void tell_status(struct daemon *daemon)
{
    struct dispatch_node_status node;
    char text[sizeof(daemon->watch.status)];
    dispatch_get_node_status(daemon->dispatch, &node);
    if (node.is_stale) {
        snprintf(text, sizeof(text), "STATUS=the node's thread hangs");
    } else if (node.is_draining) {
        snprintf(text, sizeof(text), "STATUS=stopping");
    } else if (node.is_leader) {
        snprintf(text, sizeof(text), "STATUS=leads in term %llu", (unsigned long long)node.term);
    } else if (node.has_leader) {
        snprintf(text, sizeof(text), "STATUS=follows %s in term %llu", node.leader_id,
                 (unsigned long long)node.term);
    } else {
        snprintf(text, sizeof(text), "STATUS=knows no leader");
    }
    if (strcmp(text, daemon->watch.status) != 0) {
        strcpy(daemon->watch.status, text);
        (void)sd_notify(0, text);
    }
}

void daemon_watch_node(struct daemon *daemon, uint64_t now_ns)
{
    if (now_ns < daemon->watch.look_ns) {
        return;
    }
    daemon->watch.look_ns = now_ns + daemon->watch.interval_ns;
    struct node_status status;
    node_get_status(daemon->node, &status);
    dispatch_look_at_age(daemon->dispatch);
    feed_watchdog(&daemon->watch, status.taken_ns, now_ns);
    tell_status(daemon);
}
