/* Tests of the method table. */
#include "dispatch_testing.h"

static void test_every_method_of_our_services_is_in_the_table(void **state)
{
    const ProtobufCServiceDescriptor *services[] = {
        &raftogram__v1__messenger__descriptor,
        &raftogram__v1__cluster__descriptor,
        &phalanx__kv__descriptor,
    };
    size_t count = 0;
    for (size_t i = 0; i < sizeof(services) / sizeof(services[0]); i++) {
        for (unsigned j = 0; j < services[i]->n_methods; j++, count++) {
            char path[128];
            snprintf(path, sizeof(path), "/%s/%s", services[i]->name, services[i]->methods[j].name);
            const struct dispatch_method *method = dispatch_method_by_path(path);
            assert_non_null(method);
            assert_string_equal(method->path, path);
            assert_string_equal(method->service, services[i]->name);
            assert_ptr_equal(method->input, services[i]->methods[j].input);
            assert_ptr_equal(method->output, services[i]->methods[j].output);
            assert_ptr_equal(dispatch_method_by_name(method->name), method);
            assert_ptr_equal(dispatch_method(method->id), method);
        }
    }
    assert_int_equal(count, DISPATCH_METHOD_COUNT);
}

static void test_a_name_that_is_no_method_is_not_found(void **state)
{
    assert_null(dispatch_method_by_path("/raftogram.v1.Messenger/Nothing"));
    assert_null(dispatch_method_by_path("SendMessage"));
    assert_null(dispatch_method_by_path(""));
    assert_null(dispatch_method_by_name("sendMessage"));
    assert_null(dispatch_method_by_name("/raftogram.v1.Messenger/SendMessage"));
}

static void test_only_what_changes_state_is_a_mutation(void **state)
{
    assert_true(dispatch_method(DISPATCH_CREATE_CHANNEL)->is_mutation);
    assert_true(dispatch_method(DISPATCH_SEND_MESSAGE)->is_mutation);
    assert_true(dispatch_method(DISPATCH_SEND_MESSAGES)->is_mutation);
    assert_true(dispatch_method(DISPATCH_PROPOSE)->is_mutation);
    assert_false(dispatch_method(DISPATCH_READ_HISTORY)->is_mutation);
    assert_false(dispatch_method(DISPATCH_LIST_CHANNELS)->is_mutation);
    assert_false(dispatch_method(DISPATCH_READ)->is_mutation);
    assert_false(dispatch_method(DISPATCH_STATUS)->is_mutation);
}

static void test_names_are_snake_case_in_phalanx_only(void **state)
{
    for (size_t i = 0; i < DISPATCH_METHOD_COUNT; i++) {
        const struct dispatch_method *method = dispatch_method((enum dispatch_method_id)i);
        assert_int_equal(method->is_snake_case, strncmp(method->service, "phalanx.", 8) == 0);
    }
}

static int decode(enum dispatch_method_id id, struct bytes body, struct dispatch_status *status)
{
    ProtobufCMessage *message = NULL;
    *status = (struct dispatch_status){0};
    int rc = dispatch_decode(dispatch_method(id), body, &message, status);
    assert_int_equal(rc == 0, message != NULL);
    if (message != NULL) {
        free_message(message);
    }
    return rc;
}

static void assert_faulty(struct bytes body)
{
    struct dispatch_status status;
    assert_int_equal(decode(DISPATCH_SEND_MESSAGE, body, &status), ERR_INVALID);
    assert_status(&status, DISPATCH_INVALID_ARGUMENT, "INVALID_FIELD");
    assert_true(status.message[0] != '\0');
}

static void test_a_brace_means_json_and_all_else_protobuf(void **state)
{
    struct dispatch_status status;
    assert_int_equal(decode(DISPATCH_SEND_MESSAGE, bytes_of_text("{}"), &status), 0);
    assert_int_equal(decode(DISPATCH_SEND_MESSAGE, (struct bytes){0}, &status), 0);
    assert_int_equal(decode(DISPATCH_SEND_MESSAGE, bytes_of_text("\x0a\x01g"), &status), 0);
    assert_faulty(bytes_of_text("{"));
    assert_faulty(bytes_of_text("{\"channelId\":1}"));
    assert_faulty(bytes_of_text("\x0a\x05g"));
    assert_faulty(bytes_of_text("[]"));
}

static void test_strings_on_the_wire_must_be_utf8_without_nul(void **state)
{
    assert_faulty((struct bytes){"\x0a\x01\xff", 3});
    assert_faulty((struct bytes){"\x0a\x02g\0", 4});
    assert_faulty((struct bytes){"\x0a\x03\xed\xa0\x80", 5}); /* a surrogate */
    struct dispatch_status status;
    /* The payload is bytes. */
    assert_int_equal(decode(DISPATCH_SEND_MESSAGE, (struct bytes){"\x1a\x02\xff\0", 4}, &status),
                     0);
}

static void test_the_last_value_of_a_repeated_string_field_does_not_hide_a_bad_one(void **state)
{
    assert_faulty((struct bytes){"\x0a\x01\xff\x0a\x01g", 6});
}

static void test_a_status_carries_its_details(void **state)
{
    struct dispatch_status status = {0};
    struct buf text = {0};
    dispatch_status_set(&status, DISPATCH_FAILED_PRECONDITION, "NOT_LEADER", "not %s", "leader");
    status.is_not_leader = true;
    status.leader_grpc_target = "h2:9000";
    status.leader_id = "node2";
    dispatch_status_encode(&status, &text);
    Google__Rpc__Status *rpc = google__rpc__status__unpack(NULL, text.size, text.data);
    assert_non_null(rpc);
    assert_int_equal(rpc->code, DISPATCH_FAILED_PRECONDITION);
    assert_string_equal(rpc->message, "not leader");
    assert_int_equal(rpc->n_details, 2);
    assert_string_equal(rpc->details[0]->type_url, "type.googleapis.com/raftogram.v1.NotLeader");
    Raftogram__V1__NotLeader *leader = raftogram__v1__not_leader__unpack(
        NULL, rpc->details[0]->value.len, rpc->details[0]->value.data);
    assert_string_equal(leader->leader_grpc_target, "h2:9000");
    assert_string_equal(leader->raft_leader_id, "node2");
    raftogram__v1__not_leader__free_unpacked(leader, NULL);
    Google__Rpc__ErrorInfo *info = google__rpc__error_info__unpack(NULL, rpc->details[1]->value.len,
                                                                   rpc->details[1]->value.data);
    assert_string_equal(info->reason, "NOT_LEADER");
    assert_string_equal(info->domain, "raftogram");
    google__rpc__error_info__free_unpacked(info, NULL);
    google__rpc__status__free_unpacked(rpc, NULL);
    buf_finish(&text);
}

static void test_a_status_without_a_reason_has_no_details(void **state)
{
    struct dispatch_status status = {0};
    struct buf text = {0};
    dispatch_status_set(&status, DISPATCH_DEADLINE_EXCEEDED, NULL, "the deadline passed");
    dispatch_status_encode(&status, &text);
    assert_int_equal(text.size, 0);
    buf_finish(&text);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_method_of_our_services_is_in_the_table),
        cmocka_unit_test(test_a_name_that_is_no_method_is_not_found),
        cmocka_unit_test(test_only_what_changes_state_is_a_mutation),
        cmocka_unit_test(test_names_are_snake_case_in_phalanx_only),
        cmocka_unit_test(test_a_brace_means_json_and_all_else_protobuf),
        cmocka_unit_test(test_strings_on_the_wire_must_be_utf8_without_nul),
        cmocka_unit_test(test_the_last_value_of_a_repeated_string_field_does_not_hide_a_bad_one),
        cmocka_unit_test(test_a_status_carries_its_details),
        cmocka_unit_test(test_a_status_without_a_reason_has_no_details),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
