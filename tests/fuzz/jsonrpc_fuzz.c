/* Whatever a client sends in a WebSocket message: it is read, or refused with a code; ids that are
 * accepted can be echoed as JSON. */
#include "../../frontends/http/jsonrpc.c"

#include <stdint.h>
#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_answer(const char *id, const struct jsonrpc_fault *fault)
{
    struct buf text = {0};
    json_t *answer;
    if (fault != NULL) {
        jsonrpc_append_error(&text, id, fault->code, fault->message, NULL);
    } else {
        jsonrpc_open_result(&text, id);
        buf_append_text(&text, "{}}");
    }
    CHECK(!buf_failed(&text));
    CHECK(json_parse(buf_bytes(&text), &answer, NULL) == 0);
    CHECK(json_is_object(answer));
    json_decref(answer);
    buf_finish(&text);
}

static void check_request(const struct jsonrpc_message *message, size_t index)
{
    struct jsonrpc_request request;
    struct jsonrpc_fault fault = {0};
    struct buf id = {0};
    int rc = jsonrpc_request(message, index, &request, &fault);
    CHECK(rc == 0 || rc == ERR_INVALID);
    CHECK(rc == 0 || fault.code != 0);
    CHECK(rc != 0 || request.method != NULL);
    CHECK(rc != 0 || request.params == NULL || json_is_object(request.params));
    if (request.id != NULL) {
        json_append_scalar(&id, request.id);
    }
    check_answer(request.id != NULL ? buf_text(&id) : NULL, rc == 0 ? NULL : &fault);
    buf_finish(&id);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct jsonrpc_message message;
    struct jsonrpc_fault fault = {0};
    int rc = jsonrpc_parse((struct bytes){data, size}, &message, &fault);
    if (rc != 0) {
        CHECK(rc == ERR_NOMEM || fault.code == JSONRPC_PARSE_ERROR ||
              fault.code == JSONRPC_INVALID_REQUEST);
        if (rc == ERR_INVALID) {
            check_answer(NULL, &fault);
        }
        return 0;
    }
    CHECK(message.count > 0);
    CHECK(message.count <= JSONRPC_BATCH_MAX);
    for (size_t i = 0; i < message.count; i++) {
        check_request(&message, i);
    }
    jsonrpc_finish(&message);
    return 0;
}
