/* Unary calls: from the handler through the node and a reader to the answer. */
#include "base/errors.h"
#include "dispatch/dispatch_internal.h"

#include <assert.h>
#include <stdlib.h>

/* The deadline of a call becomes the deadline of its request. */
static_assert(DISPATCH_DEADLINE_MAX_MS * NS_PER_MS == NODE_REQUEST_MAX_NS,
              "dispatch.h says how long the node lets a request wait");

static void run_read(struct reader_job *job, struct reader *reader)
{
    (void)reader;
    struct work *work = CONTAINER_OF(job, struct work, job);
    dispatch_method_handlers[work->call->method->id]->read(work);
}

/* Copies the items of a batch's result. There is room: a message's command is larger than its item.
 */
static void keep_items(struct work *work)
{
    struct bytes *items = &work->request.result.items;
    buf_reset(&work->command);
    buf_append(&work->command, items->data, items->size);
    *items = buf_bytes(&work->command);
}

static void request_done(struct node_request *request)
{
    struct work *work = (struct work *)(void *)request;
    const struct method_handler *handler = dispatch_method_handlers[work->call->method->id];
    if (handler->read != NULL && request->outcome == NODE_OK) {
        work->job.run = run_read;
        reader_post(reader_pick_idle(work->dispatch), &work->job);
        return;
    }
    /* Views in the result are valid only during this call. */
    bool has_views = request->result.channel_id.size + request->result.name.size > 0;
    if (work->call->ready != NULL && !has_views) {
        if (request->result.items.size > 0) {
            keep_items(work);
        }
        work->call->ready(work->call);
        return;
    }
    handler->applied(work);
}

void dispatch_complete(struct dispatch_call *call)
{
    dispatch_method_handlers[call->method->id]->applied(call->work);
}

void dispatch_submit(struct dispatch *dispatch, struct dispatch_call *call)
{
    dispatch_submit_in_chain(dispatch, call, NULL);
}

void dispatch_submit_in_chain(struct dispatch *dispatch, struct dispatch_call *call,
                              struct node_chain *chain)
{
    call->status = (struct dispatch_status){0};
    call->response = NULL;
    struct work *work = calloc(1, sizeof(*work));
    if (work == NULL) {
        dispatch_status_set(&call->status, DISPATCH_RESOURCE_EXHAUSTED, "OVERLOADED",
                            "out of memory");
        dispatch_count_call(dispatch, call->method->id, call->status.code);
        protobuf_c_message_free_unpacked(call->request, NULL);
        call->request = NULL;
        call->done(call);
        return;
    }
    work->dispatch = dispatch;
    work->call = call;
    call->work = work;
    work->request.deadline_ns = call->deadline_ns;
    work->request.may_forward = call->may_forward;
    work->request.chain = chain;
    work->request.done = request_done;
    if (!dispatch_method_handlers[call->method->id]->prepare(work)) {
        return;
    }
    int rc = node_submit(dispatch->node, &work->request);
    if (rc != 0) {
        work->request.outcome = rc == ERR_CLOSED ? NODE_DRAINING : NODE_OVERLOADED;
        dispatch_status_of_outcome(dispatch, &work->request, &call->status);
        dispatch_finish_work(work, NULL);
    }
}
