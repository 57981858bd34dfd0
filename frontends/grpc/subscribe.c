/* Subscribe. One page is on its way at a time: the next is asked for when the last has left, so
 * that a slow client holds back its own cursor and nothing else.
 *
 * The subscription is asked for pages and closed on the loop's thread alone, and closed only when
 * the call is over, however it ended: so it is never used after its end. Dispatch's own callbacks,
 * on a reader's thread, send and finish. */
#include "base/errors.h"
#include "grpc_internal.h"

/* Smaller pages are cheaper to copy than to count references of. */
#define SHARED_PAGE_BYTES_MIN 4096

struct subscribe_call {
    struct call call; /* first */
    struct dispatch_subscription *subscription;
    bool is_over; /* the loop's thread */
};

/* ---- dispatch's side: a reader's thread ---- */

static void ask_first(void *context)
{
    struct subscribe_call *subscribe = context;
    if (!subscribe->is_over) {
        dispatch_subscription_next(subscribe->subscription);
    }
    call_unref(&subscribe->call);
}

static void on_opened(void *context, const struct dispatch_status *status, uint64_t last_sequence,
                      const char *cluster_id)
{
    struct subscribe_call *subscribe = context;
    struct call *call = &subscribe->call;
    if (status->code != DISPATCH_OK) {
        call_fail(call, status);
        return;
    }
    rpc_call_send_headers(call->rpc);
    call_ref(call);
    if (rpc_loop_post(call->frontend->loop, 0, ask_first, subscribe) != 0) {
        call_fail_for_memory(call);
        call_unref(call);
    }
}

static void unref_page(void *page)
{
    dispatch_page_unref(page);
}

static int send_page(struct call *call, struct message_page *page, struct bytes encoded)
{
    if (encoded.size < SHARED_PAGE_BYTES_MIN) {
        return rpc_call_send(call->rpc, encoded);
    }
    grpc_slice slice = grpc_slice_new_with_user_data((void *)(uintptr_t)encoded.data, encoded.size,
                                                     unref_page, dispatch_page_ref(page));
    int rc = rpc_call_send_slice(call->rpc, slice);
    grpc_slice_unref(slice);
    return rc;
}

static enum dispatch_page_format page_format(const struct call *call)
{
    return call->is_json ? DISPATCH_PAGE_JSON : DISPATCH_PAGE_PROTOBUF;
}

static void on_page(void *context, struct message_page *page)
{
    struct subscribe_call *subscribe = context;
    struct call *call = &subscribe->call;
    struct bytes encoded = dispatch_page_encoded(page, page_format(call));
    /* If the call is over, its end closes the subscription. */
    (void)send_page(call, page, encoded);
}

static void on_ended(void *context, const struct dispatch_status *status)
{
    struct subscribe_call *subscribe = context;
    call_fail(&subscribe->call, status);
}

static void on_subscription_closed(void *context)
{
    struct subscribe_call *subscribe = context;
    call_unref(&subscribe->call);
}

/* ---- the client's side: the loop's thread ---- */

static void run(struct call *call, ProtobufCMessage *request)
{
    struct subscribe_call *subscribe = (struct subscribe_call *)call;
    const struct dispatch_subscription_events events = {
        .opened = on_opened,
        .page = on_page,
        .ended = on_ended,
        .closed = on_subscription_closed,
        .context = subscribe,
        .format = page_format(call),
    };
    call_ref(call);
    int rc = dispatch_subscribe(call->frontend->dispatch, request, rpc_call_deadline_ns(call->rpc),
                                &events, &subscribe->subscription);
    if (rc != 0) {
        call_fail_for_memory(call);
        call_unref(call);
    }
}

static void sent(struct call *call)
{
    struct subscribe_call *subscribe = (struct subscribe_call *)call;
    dispatch_subscription_next(subscribe->subscription);
}

static void closed(struct call *call)
{
    struct subscribe_call *subscribe = (struct subscribe_call *)call;
    subscribe->is_over = true;
    if (subscribe->subscription != NULL) {
        dispatch_subscription_close(subscribe->subscription);
    }
}

const struct call_kind subscribe_kind = {
    .size = sizeof(struct subscribe_call),
    .run = run,
    .sent = sent,
    .closed = closed,
};
