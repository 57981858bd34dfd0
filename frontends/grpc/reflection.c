/* grpc.reflection.v1 and v1alpha. They differ in their package only, so that the messages of v1
 * serve both. One request at a time is answered. The next is read after the answer was sent. */
#include "base/errors.h"
#include "base/unconst.h"
#include "grpc/reflection/v1/reflection.pb-c.h"
#include "grpc_internal.h"

#include <string.h>

#define REQUEST(name) GRPC__REFLECTION__V1__SERVER_REFLECTION_REQUEST__MESSAGE_REQUEST_##name
#define RESPONSE(name) GRPC__REFLECTION__V1__SERVER_REFLECTION_RESPONSE__MESSAGE_RESPONSE_##name

static const char *const served[] = {
    "grpc.health.v1.Health",
    "grpc.reflection.v1.ServerReflection",
    "grpc.reflection.v1alpha.ServerReflection",
    "phalanx.KV",
    "raftogram.v1.Cluster",
    "raftogram.v1.Messenger",
};

#define SERVED_COUNT (sizeof(served) / sizeof(served[0]))

/* The parts that an answer may refer to. */
struct answer {
    Grpc__Reflection__V1__ServerReflectionResponse response;
    Grpc__Reflection__V1__ErrorResponse error;
    Grpc__Reflection__V1__FileDescriptorResponse files;
    Grpc__Reflection__V1__ExtensionNumberResponse extensions;
    Grpc__Reflection__V1__ListServiceResponse list;
    Grpc__Reflection__V1__ServiceResponse services[SERVED_COUNT];
    Grpc__Reflection__V1__ServiceResponse *service_list[SERVED_COUNT];
    ProtobufCBinaryData encoded[DESCRIPTOR_FILES_MAX];
};

static void answer_error(struct answer *answer, int code, const char *text)
{
    grpc__reflection__v1__error_response__init(&answer->error);
    answer->error.error_code = code;
    answer->error.error_message = unconst(text);
    answer->response.message_response_case = RESPONSE(ERROR_RESPONSE);
    answer->response.error_response = &answer->error;
}

static void answer_files(struct answer *answer, const struct descriptor_set *set, size_t file)
{
    struct bytes files[DESCRIPTOR_FILES_MAX];
    size_t count = descriptor_set_closure(set, file, files);
    for (size_t i = 0; i < count; i++) {
        answer->encoded[i].data = unconst(files[i].data);
        answer->encoded[i].len = files[i].size;
    }
    grpc__reflection__v1__file_descriptor_response__init(&answer->files);
    answer->files.n_file_descriptor_proto = count;
    answer->files.file_descriptor_proto = answer->encoded;
    answer->response.message_response_case = RESPONSE(FILE_DESCRIPTOR_RESPONSE);
    answer->response.file_descriptor_response = &answer->files;
}

static void answer_services(struct answer *answer)
{
    for (size_t i = 0; i < SERVED_COUNT; i++) {
        grpc__reflection__v1__service_response__init(&answer->services[i]);
        answer->services[i].name = unconst(served[i]);
        answer->service_list[i] = &answer->services[i];
    }
    grpc__reflection__v1__list_service_response__init(&answer->list);
    answer->list.n_service = SERVED_COUNT;
    answer->list.service = answer->service_list;
    answer->response.message_response_case = RESPONSE(LIST_SERVICES_RESPONSE);
    answer->response.list_services_response = &answer->list;
}

/* proto3 has no extensions, so no type here has any. */
static void answer_no_extensions(struct answer *answer, const struct descriptor_set *set,
                                 char *type)
{
    size_t file;
    if (descriptor_set_find_symbol(set, bytes_of_text(type), &file) != 0) {
        answer_error(answer, DISPATCH_NOT_FOUND, "unknown type");
        return;
    }
    grpc__reflection__v1__extension_number_response__init(&answer->extensions);
    answer->extensions.base_type_name = type;
    answer->response.message_response_case = RESPONSE(ALL_EXTENSION_NUMBERS_RESPONSE);
    answer->response.all_extension_numbers_response = &answer->extensions;
}

static void make_answer(const struct descriptor_set *set,
                        Grpc__Reflection__V1__ServerReflectionRequest *request,
                        struct answer *answer)
{
    size_t file;
    grpc__reflection__v1__server_reflection_response__init(&answer->response);
    answer->response.valid_host = request->host;
    answer->response.original_request = request;
    switch (request->message_request_case) {
    case REQUEST(FILE_BY_FILENAME):
        if (descriptor_set_find_file(set, bytes_of_text(request->file_by_filename), &file) == 0) {
            answer_files(answer, set, file);
        } else {
            answer_error(answer, DISPATCH_NOT_FOUND, "unknown file");
        }
        return;
    case REQUEST(FILE_CONTAINING_SYMBOL):
        if (descriptor_set_find_symbol(set, bytes_of_text(request->file_containing_symbol),
                                       &file) == 0) {
            answer_files(answer, set, file);
        } else {
            answer_error(answer, DISPATCH_NOT_FOUND, "unknown symbol");
        }
        return;
    case REQUEST(FILE_CONTAINING_EXTENSION):
        answer_error(answer, DISPATCH_NOT_FOUND, "unknown extension");
        return;
    case REQUEST(ALL_EXTENSION_NUMBERS_OF_TYPE):
        answer_no_extensions(answer, set, request->all_extension_numbers_of_type);
        return;
    case REQUEST(LIST_SERVICES):
        answer_services(answer);
        return;
    default:
        answer_error(answer, DISPATCH_INVALID_ARGUMENT, "the request names no query");
        return;
    }
}

static void run(struct call *call, ProtobufCMessage *message)
{
    struct answer answer;
    make_answer(&call->frontend->descriptors,
                (Grpc__Reflection__V1__ServerReflectionRequest *)message, &answer);
    if (call_send(call, &answer.response.base) == ERR_NOMEM) {
        call_fail_for_memory(call);
    }
    protobuf_c_message_free_unpacked(message, NULL);
}

static void sent(struct call *call)
{
    h2_call_receive(call->stream);
}

static const struct call_kind reflection_kind = {
    .size = sizeof(struct call),
    .run = run,
    .sent = sent,
    .has_many_requests = true,
};

static const struct dispatch_method reflection_method = {
    .name = "ServerReflectionInfo",
    .path = "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo",
    .service = "grpc.reflection.v1.ServerReflection",
    .input = &grpc__reflection__v1__server_reflection_request__descriptor,
    .output = &grpc__reflection__v1__server_reflection_response__descriptor,
    .is_streaming = true,
};

bool reflection_take(struct grpc_frontend *frontend, struct h2_call *stream)
{
    static const char path_v1alpha[] =
        "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo";
    const char *path = h2_call_path(stream);
    if (!frontend->has_reflection ||
        (strcmp(path, reflection_method.path) != 0 && strcmp(path, path_v1alpha) != 0)) {
        return false;
    }
    call_start(frontend, stream, &reflection_kind, &reflection_method);
    return true;
}
