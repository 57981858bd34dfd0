/* Subscriptions as cursors: (channel, position), never queues. Commits only wake them; a reader
 * then reads forward with chat_read_page() and asks to be woken again. So memory is bounded, apply
 * never waits for a reader, and there is no seam between stored and live messages.
 *
 * A listener is a consumer thread (dispatch has one per reader thread); ready subscriptions of a
 * listener are handed over in one list. Any thread may call; callbacks run on the waking thread. */
#ifndef RAFTOGRAM_CHAT_HUB_H
#define RAFTOGRAM_CHAT_HUB_H

#include "base/list.h"

#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct hub;

struct hub_listener {
    struct hub *hub;
    struct list ready; /* of hub_subscription.ready_link; under the hub's lock */
    /* Something became ready, at most once until hub_take_ready(); once more if that left some.
     * Called under the hub's lock: it must only signal. */
    void (*notify)(struct hub_listener *listener);
    bool is_notified;
};

struct hub_channel;

struct hub_subscription {
    struct hub_listener *listener;
    struct hub_channel *channel; /* the hub's */
    struct list channel_link;
    struct list ready_link;
    uint64_t channel_number;
    uint64_t after_sequence; /* the cursor; the owner moves it while it is not waiting */
    bool is_ready;
    bool is_stale; /* what its owner is reading may be outdated: it looks again before it waits */
};

void hub_listener_init(struct hub *hub, struct hub_listener *listener,
                       void (*notify)(struct hub_listener *listener));
/* Registers. Not waiting yet. The hub knows only of what is published from now on, so read the
 * channel after this (hub_make_ready() begins that) and not before. Errors: ERR_NOMEM. */
int hub_add(struct hub_listener *listener, struct hub_subscription *subscription,
            uint64_t channel_number, uint64_t after_sequence);
/* Unregisters from wherever it is; afterwards the hub does not touch it. If hub_take_ready() has
 * put it into a list, it is removed from that too: then only the owner of the list may call. */
void hub_remove(struct hub_subscription *subscription);
/* Asks to become ready as soon as the channel's last sequence is beyond the cursor; at once if it
 * is. */
void hub_wait(struct hub_subscription *subscription);
/* Makes it ready now, whatever the channel holds (first read, more to read). */
void hub_make_ready(struct hub_subscription *subscription);
/* Moves at most `count_max` ready subscriptions to `out` (by ready_link); returns how many. Take
 * each off the list before it is served: it may become ready again at once. */
size_t hub_take_ready(struct hub_listener *listener, struct list *out, size_t count_max);
/* The last sequence that was published while the channel had subscriptions; 0: none. */
uint64_t hub_last_sequence(const struct hub_subscription *subscription);
/* Subscriptions registered. */
size_t hub_count(const struct hub *hub);

/* For chat.c alone. */
int hub_create(struct hub **out);
void hub_destroy(struct hub *hub);
/* Any channel may have moved on, untold: every subscription looks again. */
void hub_wake_all(struct hub *hub);
/* The channel now ends at last_sequence, visible to readers. */
void hub_publish(struct hub *hub, uint64_t channel_number, uint64_t last_sequence);

#endif
