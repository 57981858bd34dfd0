/* The method table, and the way of a unary call. */
#include "dispatch/dispatch.h"

#include "base/check.h"
#include "base/errors.h"
#include "base/protobuf.h"
#include "dispatch/dispatch_internal.h"
#include "google/rpc/error_details.pb-c.h"
#include "google/rpc/status.pb-c.h"
#include "phalanx/kv.pb-c.h"
#include "json/json.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- methods ---- */

static struct dispatch_method methods[DISPATCH_METHOD_COUNT];
static char method_paths[DISPATCH_METHOD_COUNT][80];
static pthread_once_t methods_once = PTHREAD_ONCE_INIT;

struct method_row {
    enum dispatch_method_id id;
    const ProtobufCServiceDescriptor *service;
    const char *name;
    bool is_streaming;
    bool is_mutation;
};

static void make_methods(void)
{
    const ProtobufCServiceDescriptor *messenger = &raftogram__v1__messenger__descriptor;
    const ProtobufCServiceDescriptor *cluster = &raftogram__v1__cluster__descriptor;
    const ProtobufCServiceDescriptor *kv = &phalanx__kv__descriptor;
    const struct method_row rows[] = {
        {DISPATCH_CREATE_CHANNEL, messenger, "CreateChannel", false, true},
        {DISPATCH_SEND_MESSAGE, messenger, "SendMessage", false, true},
        {DISPATCH_READ_HISTORY, messenger, "ReadHistory", false, false},
        {DISPATCH_LIST_CHANNELS, messenger, "ListChannels", false, false},
        {DISPATCH_SUBSCRIBE, messenger, "Subscribe", true, false},
        {DISPATCH_PROPOSE, kv, "Propose", false, true},
        {DISPATCH_READ, kv, "Read", false, false},
        {DISPATCH_STATUS, cluster, "Status", false, false},
        {DISPATCH_TRANSFER_LEADERSHIP, cluster, "TransferLeadership", false, false},
        {DISPATCH_LIST_KEYS, cluster, "ListKeys", false, false},
    };
    static_assert(sizeof(rows) / sizeof(rows[0]) == DISPATCH_METHOD_COUNT, "a row for each method");
    for (size_t i = 0; i < DISPATCH_METHOD_COUNT; i++) {
        const struct method_row *row = &rows[i];
        const ProtobufCMethodDescriptor *descriptor =
            protobuf_c_service_descriptor_get_method_by_name(row->service, row->name);
        CHECK(descriptor != NULL);
        CHECK(row->id == i);
        int length = snprintf(method_paths[i], sizeof(method_paths[i]), "/%s/%s",
                              row->service->name, row->name);
        CHECK(length < (int)sizeof(method_paths[i]));
        methods[i] = (struct dispatch_method){
            .id = row->id,
            .name = row->name,
            .path = method_paths[i],
            .service = row->service->name,
            .input = descriptor->input,
            .output = descriptor->output,
            .is_streaming = row->is_streaming,
            .is_mutation = row->is_mutation,
            .is_snake_case = strcmp(row->service->package, "phalanx") == 0,
        };
    }
}

const struct dispatch_method *dispatch_method(enum dispatch_method_id id)
{
    CHECK(id < DISPATCH_METHOD_COUNT);
    pthread_once(&methods_once, make_methods);
    return &methods[id];
}

const struct dispatch_method *dispatch_method_by_path(const char *path)
{
    pthread_once(&methods_once, make_methods);
    for (size_t i = 0; i < DISPATCH_METHOD_COUNT; i++) {
        if (strcmp(methods[i].path, path) == 0) {
            return &methods[i];
        }
    }
    return NULL;
}

const struct dispatch_method *dispatch_method_by_name(const char *name)
{
    pthread_once(&methods_once, make_methods);
    for (size_t i = 0; i < DISPATCH_METHOD_COUNT; i++) {
        if (strcmp(methods[i].name, name) == 0) {
            return &methods[i];
        }
    }
    return NULL;
}

/* ---- decoding ---- */

/* protobuf-c checks no strings and cuts them at NUL, so they are looked at on the wire. Our
 * requests have no nested messages. NULL, or the name of the first bad field. */
static const char *find_bad_string(const ProtobufCMessageDescriptor *descriptor, struct bytes body)
{
    struct bytes_reader reader = bytes_reader_of(body);
    struct protobuf_field read;
    /* protobuf-c has refused what is malformed. */
    while (protobuf_read_field(&reader, &read) > 0) {
        const ProtobufCFieldDescriptor *field =
            protobuf_c_message_descriptor_get_field(descriptor, (unsigned)protobuf_number(&read));
        if (protobuf_type(&read) == PROTOBUF_BYTES && field != NULL &&
            field->type == PROTOBUF_C_TYPE_STRING &&
            (!bytes_is_utf8(read.bytes) || memchr(read.bytes.data, 0, read.bytes.size) != NULL)) {
            return field->name;
        }
    }
    return NULL;
}

/* protobuf-c answers NULL for a bad message and for want of memory alike. */
static void *noting_alloc(void *has_failed, size_t size)
{
    void *memory = malloc(size);
    if (memory == NULL) {
        *(bool *)has_failed = true;
    }
    return memory;
}

static void plain_free(void *context, void *memory)
{
    (void)context;
    free(memory);
}

static int refuse_for_memory(struct dispatch_status *status)
{
    dispatch_status_set(status, DISPATCH_RESOURCE_EXHAUSTED, "OVERLOADED", "out of memory");
    return ERR_NOMEM;
}

int dispatch_decode(const struct dispatch_method *method, struct bytes body, ProtobufCMessage **out,
                    struct dispatch_status *status)
{
    const uint8_t *data = body.data;
    if (json_is_body(method->input, body)) {
        struct json_error error;
        /* phalanx.*: its clients are written in Go, where names have any case. */
        int rc = method->is_snake_case ? json_decode_any_case(method->input, body, out, &error)
                                       : json_decode(method->input, body, out, &error);
        if (rc == ERR_NOMEM) {
            return refuse_for_memory(status);
        }
        if (rc != 0) {
            dispatch_status_set(status, DISPATCH_INVALID_ARGUMENT, "INVALID_FIELD", "%s",
                                error.text);
            return ERR_INVALID;
        }
        return 0;
    }
    bool has_failed = false;
    /* Freed by the standard allocator, as it is the same. */
    ProtobufCAllocator allocator = {noting_alloc, plain_free, &has_failed};
    ProtobufCMessage *message =
        protobuf_c_message_unpack(method->input, &allocator, body.size, data);
    if (message == NULL && has_failed) {
        return refuse_for_memory(status);
    }
    if (message == NULL) {
        dispatch_status_set(status, DISPATCH_INVALID_ARGUMENT, "INVALID_FIELD",
                            "the body is not a %s", method->input->name);
        return ERR_INVALID;
    }
    const char *bad = body.size > 0 ? find_bad_string(method->input, body) : NULL;
    if (bad != NULL) {
        protobuf_c_message_free_unpacked(message, NULL);
        dispatch_status_set(status, DISPATCH_INVALID_ARGUMENT, "INVALID_FIELD",
                            "%s must be UTF-8 without NUL", bad);
        return ERR_INVALID;
    }
    *out = message;
    return 0;
}

/* ---- unary calls ---- */

/* A call's deadline is handed on as its request's. */
static_assert(DISPATCH_DEADLINE_MAX_MS * NS_PER_MS == NODE_REQUEST_MAX_NS,
              "dispatch.h says how long the node lets a request wait");

void dispatch_count_call(struct dispatch *dispatch, enum dispatch_method_id id, int code)
{
    CHECK(code >= 0);
    CHECK(code < DISPATCH_CODES);
    atomic_fetch_add_explicit(&dispatch->calls[id][code], 1, memory_order_relaxed);
}

void dispatch_finish_work(struct work *work, const ProtobufCMessage *response)
{
    struct dispatch_call *call = work->call;
    dispatch_count_call(work->dispatch, call->method->id, call->status.code);
    ProtobufCMessage *request = call->request;
    CHECK((response == NULL) == (call->status.code != DISPATCH_OK));
    call->request = NULL;
    call->response = response;
    call->done(call);
    protobuf_c_message_free_unpacked(request, NULL);
    buf_finish(&work->command);
    free(work);
}

static void run_read(struct reader_job *job, struct reader *reader)
{
    (void)reader;
    struct work *work = LIST_ENTRY(job, struct work, job);
    dispatch_method_handlers[work->call->method->id].read(work);
}

static void request_done(struct node_request *request)
{
    struct work *work = (struct work *)(void *)request;
    const struct method_handler *handler = &dispatch_method_handlers[work->call->method->id];
    if (handler->read != NULL && request->outcome == NODE_OK) {
        work->job.run = run_read;
        reader_post(reader_pick_idle(work->dispatch), &work->job);
        return;
    }
    /* Views of the result are valid here only. */
    bool has_views = request->result.channel_id.size + request->result.name.size > 0;
    if (work->call->ready != NULL && !has_views) {
        work->call->ready(work->call);
        return;
    }
    handler->applied(work);
}

void dispatch_complete(struct dispatch_call *call)
{
    dispatch_method_handlers[call->method->id].applied(call->work);
}

void dispatch_submit(struct dispatch *dispatch, struct dispatch_call *call)
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
    work->request.done = request_done;
    if (!dispatch_method_handlers[call->method->id].prepare(work)) {
        return;
    }
    int rc = node_submit(dispatch->node, &work->request);
    if (rc != 0) {
        work->request.outcome = rc == ERR_CLOSED ? NODE_DRAINING : NODE_OVERLOADED;
        dispatch_status_of_outcome(dispatch, &work->request, &call->status);
        dispatch_finish_work(work, NULL);
    }
}

/* ---- create ---- */

int dispatch_create(const struct dispatch_options *options, struct dispatch **out)
{
    struct dispatch *dispatch = calloc(1, sizeof(*dispatch));
    if (dispatch == NULL) {
        return ERR_NOMEM;
    }
    CHECK(options->member_count <= CLUSTER_MEMBERS_MAX);
    CHECK(options->reader_count > 0);
    CHECK(options->reader_count <= READERS_MAX);
    dispatch->options = *options;
    dispatch->chat = options->chat;
    dispatch->started_ns = clock_monotonic_ns(clock_system());
    list_init(&dispatch->watchers);
    pthread_mutex_init(&dispatch->watch_lock, NULL);
    int rc = readers_start(dispatch, options->reader_count);
    if (rc != 0) {
        pthread_mutex_destroy(&dispatch->watch_lock);
        free(dispatch);
        return rc;
    }
    *out = dispatch;
    return 0;
}

void dispatch_attach(struct dispatch *dispatch, struct node *node)
{
    dispatch->node = node;
}

void dispatch_destroy(struct dispatch *dispatch)
{
    if (dispatch == NULL) {
        return;
    }
    readers_stop(dispatch);
    CHECK(list_is_empty(&dispatch->watchers));
    pthread_mutex_destroy(&dispatch->watch_lock);
    free(dispatch);
}
