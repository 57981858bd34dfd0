/* A call that another node began: its place in the peer's list, its lock and its references. */
#include "base/clock.h"
#include "peer/peer_internal.h"

void peer_call_refuse(struct rpc_call *call, int code, const char *reason)
{
    const struct rpc_status status = {.code = code, .message = reason};
    rpc_call_finish(call, NULL, &status);
}

void peer_incoming_begin(struct peer_incoming *incoming, struct peer *peer, struct rpc_call *call,
                         const struct rpc_call_events *events)
{
    incoming->peer = peer;
    incoming->call = call;
    incoming->begun_ns = clock_monotonic_ns(clock_system());
    atomic_init(&incoming->references, 1);
    atomic_init(&incoming->has_greeted, false);
    pthread_mutex_init(&incoming->lock, NULL);
    pthread_mutex_lock(&peer->lock);
    list_push_back(&peer->incoming, &incoming->link);
    pthread_mutex_unlock(&peer->lock);
    rpc_call_accept(call, events);
    rpc_call_receive(call);
}

void peer_incoming_end(struct peer_incoming *incoming)
{
    struct peer *peer = incoming->peer;
    pthread_mutex_lock(&peer->lock);
    list_remove(&incoming->link);
    pthread_mutex_unlock(&peer->lock);
    pthread_mutex_lock(&incoming->lock);
    incoming->call = NULL;
    pthread_mutex_unlock(&incoming->lock);
    peer_incoming_unref(incoming);
}

void peer_incoming_ref(struct peer_incoming *incoming)
{
    atomic_fetch_add_explicit(&incoming->references, 1, memory_order_relaxed);
}

void peer_incoming_unref(struct peer_incoming *incoming)
{
    if (atomic_fetch_sub_explicit(&incoming->references, 1, memory_order_acq_rel) == 1) {
        pthread_mutex_destroy(&incoming->lock);
        incoming->destroy(incoming);
    }
}
