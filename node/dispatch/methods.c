/* The method table, made from the service descriptors of proto/. */
#include "base/check.h"
#include "dispatch/dispatch_internal.h"
#include "phalanx/kv.pb-c.h"

#include <assert.h>
#include <stdio.h>
#include <string.h>

static struct dispatch_method methods[DISPATCH_METHOD_COUNT];
static char method_paths[DISPATCH_METHOD_COUNT][80];
static pthread_once_t methods_once = PTHREAD_ONCE_INIT;

enum streams { UNARY, ANSWERS, BOTH };

struct method_row {
    enum dispatch_method_id id;
    const ProtobufCServiceDescriptor *service;
    const char *name;
    enum streams streams;
    bool is_mutation;
};

static void make_methods(void)
{
    const ProtobufCServiceDescriptor *messenger = &raftogram__v1__messenger__descriptor;
    const ProtobufCServiceDescriptor *cluster = &raftogram__v1__cluster__descriptor;
    const ProtobufCServiceDescriptor *kv = &phalanx__kv__descriptor;
    const struct method_row rows[] = {
        {DISPATCH_CREATE_CHANNEL, messenger, "CreateChannel", UNARY, true},
        {DISPATCH_SEND_MESSAGE, messenger, "SendMessage", UNARY, true},
        {DISPATCH_SEND_MESSAGES, messenger, "SendMessages", UNARY, true},
        {DISPATCH_PUBLISH, messenger, "Publish", BOTH, true},
        {DISPATCH_READ_HISTORY, messenger, "ReadHistory", UNARY, false},
        {DISPATCH_LIST_CHANNELS, messenger, "ListChannels", UNARY, false},
        {DISPATCH_SUBSCRIBE, messenger, "Subscribe", ANSWERS, false},
        {DISPATCH_PROPOSE, kv, "Propose", UNARY, true},
        {DISPATCH_READ, kv, "Read", UNARY, false},
        {DISPATCH_STATUS, cluster, "Status", UNARY, false},
        {DISPATCH_TRANSFER_LEADERSHIP, cluster, "TransferLeadership", UNARY, false},
        {DISPATCH_LIST_KEYS, cluster, "ListKeys", UNARY, false},
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
            .is_streaming = row->streams != UNARY,
            .is_client_streaming = row->streams == BOTH,
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
