/* Subscribe. One page is in flight at a time. The next is requested after it was sent, so that a
 * slow client delays only its own cursor.
 *
 * Pages are requested on the server's thread alone, which also closes the subscription at the end
 * of the call. So it is never used after its end. Dispatch's callbacks, on a reader's thread, send
 * and finish. */
#include "base/errors.h"
#include "grpc_internal.h"

/* Smaller pages are cheaper to copy than to share. */
#define SHARED_PAGE_BYTES_MIN 4096

struct subscribe_call {
    struct call call; /* first */
    struct dispatch_subscription *subscription;
    struct h2_post opened;
    bool is_over; /* server's thread */
};

/* ---- dispatch's side: a reader's thread ---- */

static void ask_first(struct h2_post *post)
{
    struct subscribe_call *subscribe = CONTAINER_OF(post, struct subscribe_call, opened);
    h2_call_ask_turn(subscribe->call.stream);
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
    h2_call_send_headers(call->stream);
    call_ref(call);
    subscribe->opened.run = ask_first;
    h2_server_post(call->frontend->server, &subscribe->opened);
}

static void unref_page(void *page)
{
    dispatch_page_unref(page);
}

static int send_page(struct call *call, struct message_page *page, struct bytes encoded)
{
    if (encoded.size < SHARED_PAGE_BYTES_MIN) {
        return h2_call_send(call->stream, encoded);
    }
    return h2_call_send_shared(call->stream, encoded, unref_page, dispatch_page_ref(page));
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

/* No page is ready: ends the turn. */
static void on_idle(void *context)
{
    struct subscribe_call *subscribe = context;
    h2_call_end_turn(subscribe->call.stream);
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

/* ---- the client's side: the server's thread ---- */

static void run(struct call *call, ProtobufCMessage *request)
{
    struct subscribe_call *subscribe = (struct subscribe_call *)call;
    const struct dispatch_subscription_events events = {
        .opened = on_opened,
        .page = on_page,
        .idle = on_idle,
        .ended = on_ended,
        .closed = on_subscription_closed,
        .context = subscribe,
        .format = page_format(call),
    };
    call_ref(call);
    int rc =
        dispatch_subscribe(call->frontend->dispatch, request, h2_call_deadline_ns(call->stream),
                           &events, &subscribe->subscription);
    if (rc != 0) {
        call_fail_for_memory(call);
        call_unref(call);
    }
}

static void sent(struct call *call)
{
    h2_call_ask_turn(call->stream);
}

static void turn(struct call *call)
{
    struct subscribe_call *subscribe = (struct subscribe_call *)call;
    if (!dispatch_subscription_next(subscribe->subscription)) {
        h2_call_end_turn(call->stream);
    }
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
    .turn = turn,
    .closed = closed,
};
