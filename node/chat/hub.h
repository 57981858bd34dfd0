/* Subscriptions as cursors: (channel, position), never queues. A commit only wakes them. The
 * reader then reads forward with chat_read_page() and waits again. So memory is bounded, apply
 * never waits for a reader, and stored and live messages need no separate paths.
 *
 * A listener is a consumer thread (dispatch has one per reader thread). A listener's ready
 * subscriptions are handed over as one list. Any thread may call; callbacks run on the waking
 * thread. */
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
    /* Called when a subscription became ready: once until hub_take_ready(), and again if that
     * left some. Called under the hub's lock, so it must only signal. */
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
    uint64_t
        after_sequence; /* the cursor; the owner moves it while the subscription is not waiting */
    bool is_ready;
    bool is_stale; /* the page being read may be outdated: the owner reads again before it waits */
};

void hub_listener_init(struct hub *hub, struct hub_listener *listener,
                       void (*notify)(struct hub_listener *listener));
/* Registers a subscription, which does not wait yet. The hub knows only what is published from
 * now on: read the channel after this call (hub_make_ready() starts that), not before. Errors:
 * ERR_NOMEM. */
int hub_add(struct hub_listener *listener, struct hub_subscription *subscription,
            uint64_t channel_number, uint64_t after_sequence);
/* Unregisters; afterwards the hub does not touch it. Also removes it from a list that
 * hub_take_ready() filled: then only the owner of that list may call. */
void hub_remove(struct hub_subscription *subscription);
/* Makes it ready once the channel's last sequence is beyond the cursor; at once if it already
 * is. */
void hub_wait(struct hub_subscription *subscription);
/* Makes it ready now, whatever the channel contains (first read, more to read). */
void hub_make_ready(struct hub_subscription *subscription);
/* Moves at most `count_max` ready subscriptions to `out` (by ready_link) and returns how many.
 * Remove each from the list before serving it: it may become ready again at once. */
size_t hub_take_ready(struct hub_listener *listener, struct list *out, size_t count_max);
/* Returns the last sequence published while the channel had subscriptions; 0: none. */
uint64_t hub_last_sequence(const struct hub_subscription *subscription);
/* Subscriptions registered. */
size_t hub_count(const struct hub *hub);

/* For chat.c alone. */
int hub_create(struct hub **out);
void hub_destroy(struct hub *hub);
/* Wakes every subscription: channels may have advanced without hub_publish(). */
void hub_wake_all(struct hub *hub);
/* Publishes that the channel ends at last_sequence, which readers can see. */
void hub_publish(struct hub *hub, uint64_t channel_number, uint64_t last_sequence);

#endif
