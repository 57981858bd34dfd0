/* What this module reports: events without messages for the driver, log lines about other nodes. */
#include "base/check.h"
#include "base/clock.h"
#include "base/log.h"
#include "peer/peer_internal.h"

#include <stdio.h>
#include <stdlib.h>

static void release_plain(struct peer_event *event)
{
    free(event);
}

void peer_post_plain(struct peer *peer, const struct peer_event *event)
{
    struct peer_event *copy = malloc(sizeof(*copy));
    /* A lost event would block the core indefinitely. */
    CHECK(copy != NULL);
    *copy = *event;
    list_init(&copy->link);
    copy->release = release_plain;
    peer->receiver.post(peer->receiver.context, copy);
}

void peer_warn(struct log_limit *limit, const char *what, const char *node_id, const char *address,
               const char *reason)
{
    char text[REASON_BYTES_MAX];
    snprintf(text, sizeof(text), "%s: %s", what, reason);
    uint64_t suppressed;
    if (log_limit_passes(limit, clock_monotonic_ns(clock_system()), text, &suppressed)) {
        log_warn("peer", what, LOG_STR("peer", node_id), LOG_STR("address", address),
                 LOG_STR("reason", reason), LOG_U64("suppressed", suppressed));
    }
}
