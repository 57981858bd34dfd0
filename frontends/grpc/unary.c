/* The unary methods of dispatch: one request, one answer or status. */
#include "grpc_internal.h"

struct unary_call {
    struct call call; /* first member */
    struct dispatch_call dispatch;
    struct h2_post complete;
};

/* Server's thread. */
static void complete(struct h2_post *post)
{
    dispatch_complete(&CONTAINER_OF(post, struct unary_call, complete)->dispatch);
}

/* Node's thread. */
static void ready(struct dispatch_call *dispatch)
{
    struct unary_call *unary = CONTAINER_OF(dispatch, struct unary_call, dispatch);
    h2_server_run(unary->call.frontend->server, &unary->complete);
}

/* Any thread, also after the end of the call. */
static void done(struct dispatch_call *dispatch)
{
    struct unary_call *unary = CONTAINER_OF(dispatch, struct unary_call, dispatch);
    if (dispatch->status.code == DISPATCH_OK) {
        call_answer(&unary->call, dispatch->response);
    } else {
        call_fail(&unary->call, &dispatch->status);
    }
    call_unref(&unary->call);
}

static void run(struct call *call, ProtobufCMessage *request)
{
    struct unary_call *unary = (struct unary_call *)call;
    struct bytes forward = h2_call_metadata(call->stream, "raftogram-forward");
    unary->dispatch.method = call->method;
    unary->dispatch.request = request;
    unary->dispatch.deadline_ns = h2_call_deadline_ns(call->stream);
    unary->dispatch.may_forward = bytes_equal(forward, bytes_of_text("1"));
    unary->dispatch.done = done;
    unary->dispatch.ready = ready;
    unary->complete.run = complete;
    call_ref(call);
    dispatch_submit(call->frontend->dispatch, &unary->dispatch);
}

const struct call_kind unary_kind = {
    .size = sizeof(struct unary_call), .run = run, .is_unary = true};
