/* Publish: a stream of frames, and of their acknowledgements. Frames are read as long as dispatch
 * takes them; one response is on its way at a time and has all that was acknowledged meanwhile.
 *
 * All of it runs on the server's thread; dispatch only signals. */
#include "base/budget.h"
#include "base/errors.h"
#include "grpc_internal.h"

struct publish_call {
    struct call call;                 /* first */
    struct dispatch_publish *publish; /* NULL: not opened, or closed */
    struct h2_post post;
    atomic_bool is_posted;
    size_t held_bytes; /* taken from the budget for frames that are not acknowledged */
    bool is_receiving;
    bool is_sending;
    bool is_half_closed;
    bool is_finished;
};

/* Charges the budget with what dispatch holds. False: there is no room. */
static bool hold(struct publish_call *publish, size_t bytes)
{
    struct budget *memory = publish->call.frontend->memory;
    bool has_room = true;
    if (memory != NULL && bytes > publish->held_bytes) {
        has_room = budget_take(memory, bytes - publish->held_bytes);
    } else if (memory != NULL) {
        budget_give(memory, publish->held_bytes - bytes);
    }
    if (has_room) {
        publish->held_bytes = bytes;
    }
    return has_room;
}

static void finish(struct publish_call *publish, const struct dispatch_status *status)
{
    publish->is_finished = true;
    if (status->code == DISPATCH_OK) {
        const struct h2_status ok = {.code = DISPATCH_OK};
        h2_call_finish(publish->call.stream, NULL, &ok);
    } else {
        call_fail(&publish->call, status);
    }
}

/* Sends what is acknowledged, ends the call when nothing is left, and reads on. */
static void pump(struct publish_call *publish)
{
    struct call *call = &publish->call;
    if (publish->publish == NULL || publish->is_finished || publish->is_sending) {
        return;
    }
    const ProtobufCMessage *response;
    struct dispatch_status status = {.code = DISPATCH_OK};
    switch (dispatch_publish_take(publish->publish, &response, &status)) {
    case DISPATCH_PUBLISH_RESPONSE:
        publish->is_sending = true;
        if (call_send(call, response) == ERR_NOMEM) {
            publish->is_finished = true;
            call_fail_for_memory(call);
        }
        break;
    case DISPATCH_PUBLISH_ENDED:
        finish(publish, &status);
        return;
    case DISPATCH_PUBLISH_NOTHING:
        if (publish->is_half_closed && dispatch_publish_is_idle(publish->publish)) {
            finish(publish, &status);
            return;
        }
        break;
    }
    (void)hold(publish, dispatch_publish_held_bytes(publish->publish)); /* never more here */
    if (!publish->is_receiving && !publish->is_half_closed &&
        !dispatch_publish_is_full(publish->publish)) {
        publish->is_receiving = true;
        h2_call_receive(call->stream);
    }
}

static void run_post(struct h2_post *post)
{
    struct publish_call *publish = CONTAINER_OF(post, struct publish_call, post);
    atomic_store(&publish->is_posted, false);
    pump(publish);
    call_unref(&publish->call);
}

/* ---- dispatch's side: any thread ---- */

static void on_changed(void *context)
{
    struct publish_call *publish = context;
    if (!atomic_exchange(&publish->is_posted, true)) {
        call_ref(&publish->call);
        h2_server_post(publish->call.frontend->server, &publish->post);
    }
}

static void on_closed(void *context)
{
    struct publish_call *publish = context;
    call_unref(&publish->call);
}

/* ---- the client's side: the server's thread ---- */

static void begin(struct call *call)
{
    struct publish_call *publish = (struct publish_call *)call;
    const struct dispatch_publish_events events = {
        .changed = on_changed, .closed = on_closed, .context = publish};
    struct bytes forward = h2_call_metadata(call->stream, "raftogram-forward");
    bool may_forward = bytes_equal(forward, bytes_of_text("1"));
    publish->post.run = run_post;
    call_ref(call);
    if (dispatch_publish_open(call->frontend->dispatch, may_forward, &events, &publish->publish) !=
        0) {
        call_fail_for_memory(call);
        call_unref(call);
        return;
    }
    h2_call_send_headers(call->stream);
    pump(publish);
}

static void refused(struct call *call, const struct dispatch_status *status)
{
    struct publish_call *publish = (struct publish_call *)call;
    publish->is_receiving = false;
    if (dispatch_publish_fail(publish->publish, status) != 0) {
        publish->is_finished = true;
        call_fail_for_memory(call);
        return;
    }
    pump(publish);
}

static void run(struct call *call, ProtobufCMessage *request)
{
    struct publish_call *publish = (struct publish_call *)call;
    size_t bytes = call->request_bytes;
    publish->is_receiving = false;
    if (publish->is_finished) {
        protobuf_c_message_free_unpacked(request, NULL);
        return;
    }
    if (dispatch_publish_frame(publish->publish, request, bytes) != 0) {
        publish->is_finished = true;
        call_fail_for_memory(call);
        return;
    }
    if (!hold(publish, dispatch_publish_held_bytes(publish->publish))) {
        struct dispatch_status status;
        dispatch_status_set(&status, DISPATCH_RESOURCE_EXHAUSTED, "OVERLOADED",
                            "limits.memory is reached: send what was not acknowledged again");
        refused(call, &status);
        return;
    }
    pump(publish);
}

static void half_closed(struct call *call)
{
    struct publish_call *publish = (struct publish_call *)call;
    publish->is_receiving = false;
    publish->is_half_closed = true;
    pump(publish);
}

static void sent(struct call *call)
{
    struct publish_call *publish = (struct publish_call *)call;
    publish->is_sending = false;
    pump(publish);
}

static void closed(struct call *call)
{
    struct publish_call *publish = (struct publish_call *)call;
    struct dispatch_publish *opened = publish->publish;
    publish->is_finished = true;
    publish->publish = NULL;
    (void)hold(publish, 0);
    if (opened != NULL) {
        dispatch_publish_close(opened);
    }
}

const struct call_kind publish_kind = {
    .size = sizeof(struct publish_call),
    .begin = begin,
    .run = run,
    .refused = refused,
    .half_closed = half_closed,
    .sent = sent,
    .closed = closed,
    .has_many_requests = true,
};
