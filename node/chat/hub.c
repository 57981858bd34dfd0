/* The hub: subscriptions by channel, and the ready lists of listeners. */
#include "chat/hub.h"

#include "base/check.h"
#include "base/errors.h"
#include "chat/hash_table.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>

/* A channel with at least one subscription. Waiting subscriptions are in a list apart from the
 * others, so that a publish touches only those that it wakes. */
struct hub_channel {
    uint64_t number;
    uint64_t last_sequence; /* last sequence published since the first subscription; 0: none */
    struct list waiting;
    struct list busy;
    UT_hash_handle hh;
};

struct hub {
    pthread_mutex_t lock;
    struct hub_channel *channels;
    atomic_size_t count; /* changed under the lock, read without */
};

int hub_create(struct hub **out)
{
    struct hub *hub = calloc(1, sizeof(*hub));
    if (hub == NULL) {
        return ERR_NOMEM;
    }
    pthread_mutex_init(&hub->lock, NULL);
    *out = hub;
    return 0;
}

void hub_destroy(struct hub *hub)
{
    if (hub == NULL) {
        return;
    }
    CHECK(hub->count == 0);
    pthread_mutex_destroy(&hub->lock);
    free(hub);
}

static struct hub_channel *find_channel(struct hub *hub, uint64_t number)
{
    struct hub_channel *channel = NULL;
    HASH_FIND(hh, hub->channels, &number, sizeof(number), channel);
    return channel;
}

static struct hub_channel *add_channel(struct hub *hub, uint64_t number)
{
    struct hub_channel *channel = calloc(1, sizeof(*channel));
    if (channel == NULL) {
        return NULL;
    }
    channel->number = number;
    list_init(&channel->waiting);
    list_init(&channel->busy);
    HASH_ADD(hh, hub->channels, number, sizeof(channel->number), channel);
    if (channel->hh.tbl == NULL) {
        free(channel);
        return NULL;
    }
    return channel;
}

static void remove_channel_if_unused(struct hub *hub, struct hub_channel *channel)
{
    if (list_is_empty(&channel->waiting) && list_is_empty(&channel->busy)) {
        HASH_DELETE(hh, hub->channels, channel);
        free(channel);
    }
}

/* Notifies under the lock, so that the listener cannot be removed meanwhile. `notify` only signals.
 */
static void notify(struct hub_listener *listener)
{
    if (!listener->is_notified) {
        listener->is_notified = true;
        listener->notify(listener);
    }
}

static void move_to(struct list *to, struct hub_subscription *subscription)
{
    list_remove(&subscription->channel_link);
    list_push_back(to, &subscription->channel_link);
}

static void make_ready(struct hub_subscription *subscription)
{
    move_to(&subscription->channel->busy, subscription);
    if (!subscription->is_ready) {
        subscription->is_ready = true;
        list_push_back(&subscription->listener->ready, &subscription->ready_link);
    }
    notify(subscription->listener);
}

void hub_listener_init(struct hub *hub, struct hub_listener *listener,
                       void (*notify_fn)(struct hub_listener *listener))
{
    *listener = (struct hub_listener){.hub = hub, .notify = notify_fn};
    list_init(&listener->ready);
}

int hub_add(struct hub_listener *listener, struct hub_subscription *subscription,
            uint64_t channel_number, uint64_t after_sequence)
{
    struct hub *hub = listener->hub;
    pthread_mutex_lock(&hub->lock);
    struct hub_channel *channel = find_channel(hub, channel_number);
    if (channel == NULL) {
        channel = add_channel(hub, channel_number);
    }
    if (channel != NULL) {
        *subscription = (struct hub_subscription){
            .listener = listener,
            .channel = channel,
            .channel_number = channel_number,
            .after_sequence = after_sequence,
        };
        list_init(&subscription->ready_link);
        list_push_back(&channel->busy, &subscription->channel_link);
        hub->count++;
    }
    pthread_mutex_unlock(&hub->lock);
    return channel != NULL ? 0 : ERR_NOMEM;
}

void hub_remove(struct hub_subscription *subscription)
{
    struct hub *hub = subscription->listener->hub;
    pthread_mutex_lock(&hub->lock);
    CHECK(subscription->channel != NULL);
    CHECK(hub->count > 0);
    hub->count--;
    list_remove(&subscription->ready_link);
    list_remove(&subscription->channel_link);
    remove_channel_if_unused(hub, subscription->channel);
    subscription->channel = NULL;
    subscription->is_ready = false;
    pthread_mutex_unlock(&hub->lock);
}

void hub_wait(struct hub_subscription *subscription)
{
    struct hub *hub = subscription->listener->hub;
    pthread_mutex_lock(&hub->lock);
    CHECK(subscription->channel != NULL);
    bool is_behind = subscription->channel->last_sequence > subscription->after_sequence;
    if (is_behind || subscription->is_stale) {
        subscription->is_stale = false;
        make_ready(subscription);
    } else {
        move_to(&subscription->channel->waiting, subscription);
    }
    pthread_mutex_unlock(&hub->lock);
}

void hub_make_ready(struct hub_subscription *subscription)
{
    struct hub *hub = subscription->listener->hub;
    pthread_mutex_lock(&hub->lock);
    CHECK(subscription->channel != NULL);
    make_ready(subscription);
    pthread_mutex_unlock(&hub->lock);
}

size_t hub_take_ready(struct hub_listener *listener, struct list *out, size_t count_max)
{
    pthread_mutex_lock(&listener->hub->lock);
    size_t count = 0;
    while (count < count_max) {
        struct list *link = list_pop_front(&listener->ready);
        if (link == NULL) {
            break;
        }
        struct hub_subscription *subscription =
            LIST_ENTRY(link, struct hub_subscription, ready_link);
        subscription->is_ready = false;
        /* From here on the owner moves the cursor. */
        move_to(&subscription->channel->busy, subscription);
        list_push_back(out, link);
        count++;
    }
    listener->is_notified = false;
    if (!list_is_empty(&listener->ready)) {
        notify(listener);
    }
    pthread_mutex_unlock(&listener->hub->lock);
    return count;
}

uint64_t hub_last_sequence(const struct hub_subscription *subscription)
{
    struct hub *hub = subscription->listener->hub;
    pthread_mutex_lock(&hub->lock);
    CHECK(subscription->channel != NULL);
    uint64_t last_sequence = subscription->channel->last_sequence;
    pthread_mutex_unlock(&hub->lock);
    return last_sequence;
}

size_t hub_count(const struct hub *hub)
{
    return atomic_load_explicit(&hub->count, memory_order_relaxed);
}

void hub_publish(struct hub *hub, uint64_t channel_number, uint64_t last_sequence)
{
    pthread_mutex_lock(&hub->lock);
    struct hub_channel *channel = find_channel(hub, channel_number);
    if (channel != NULL) {
        CHECK(last_sequence >= channel->last_sequence);
        channel->last_sequence = last_sequence;
        struct list still_waiting;
        list_init(&still_waiting);
        struct list *link = NULL;
        while ((link = list_pop_front(&channel->waiting)) != NULL) {
            struct hub_subscription *subscription =
                LIST_ENTRY(link, struct hub_subscription, channel_link);
            if (last_sequence > subscription->after_sequence) {
                make_ready(subscription);
            } else {
                list_push_back(&still_waiting, link);
            }
        }
        list_splice_back(&channel->waiting, &still_waiting);
    }
    pthread_mutex_unlock(&hub->lock);
}

void hub_wake_all(struct hub *hub)
{
    pthread_mutex_lock(&hub->lock);
    struct hub_channel *next = NULL;
    for (struct hub_channel *channel = hub->channels; channel != NULL; channel = next) {
        next = channel->hh.next;
        LIST_FOR_EACH (link, &channel->busy) {
            LIST_ENTRY(link, struct hub_subscription, channel_link)->is_stale = true;
        }
        while (!list_is_empty(&channel->waiting)) {
            make_ready(LIST_ENTRY(channel->waiting.next, struct hub_subscription, channel_link));
        }
    }
    pthread_mutex_unlock(&hub->lock);
}
