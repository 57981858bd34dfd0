/* What every message of the contract looks like in JSON, letter by letter. */
#include "json/json.h"

#include "base/unconst.h"
#include "unit/json/random_message.h"

#include <limits.h>
#include <setjmp.h>
#include <stdarg.h>
/* cmocka wants the two above. */
#include <cmocka.h>

#define TEXT(literal) (unconst(literal))
#define BYTES(literal)                                               \
    {                                                                \
        .len = sizeof(literal) - 1, .data = (uint8_t *)TEXT(literal) \
    }

static void assert_text(const ProtobufCMessage *message, enum json_names names,
                        const char *expected)
{
    struct buf out = {0};
    json_encode(message, names, &out);
    assert_false(buf_failed(&out));
    assert_string_equal(buf_text(&out), expected);
    buf_finish(&out);
}

/* Encodes to the text, and the text decodes to the same message. */
static void assert_golden(const ProtobufCMessage *message, enum json_names names,
                          const char *expected)
{
    assert_text(message, names, expected);
    struct json_error error = {{0}};
    ProtobufCMessage *decoded = NULL;
    if (json_decode(message->descriptor, bytes_of_text(expected), &decoded, &error) != 0) {
        fail_msg("%s in %s", error.text, expected);
    }
    struct buf left = packed(message);
    struct buf right = packed(decoded);
    assert_true(bytes_equal(buf_bytes(&left), buf_bytes(&right)));
    buf_finish(&left);
    buf_finish(&right);
    protobuf_c_message_free_unpacked(decoded, NULL);
}

static void assert_camel(const void *message, const char *expected)
{
    assert_golden(message, JSON_NAMES_CAMEL, expected);
}

static void assert_snake(const void *message, const char *expected)
{
    assert_golden(message, JSON_NAMES_SNAKE, expected);
}

static void test_messenger_writes_look_as_the_contract_says(void **state)
{
    Raftogram__V1__CreateChannelRequest create = RAFTOGRAM__V1__CREATE_CHANNEL_REQUEST__INIT;
    assert_camel(&create, "{\"channelId\":\"\",\"name\":\"\"}");
    create.channel_id = TEXT("general");
    create.name = TEXT("Général");
    assert_camel(&create, "{\"channelId\":\"general\",\"name\":\"Général\"}");

    Raftogram__V1__CreateChannelResponse created = RAFTOGRAM__V1__CREATE_CHANNEL_RESPONSE__INIT;
    assert_camel(&created, "{\"channelId\":\"\",\"name\":\"\",\"created\":false}");
    created.created = 1;
    assert_camel(&created, "{\"channelId\":\"\",\"name\":\"\",\"created\":true}");

    Raftogram__V1__SendMessageRequest send = RAFTOGRAM__V1__SEND_MESSAGE_REQUEST__INIT;
    assert_camel(&send, "{\"channelId\":\"\",\"authorId\":\"\",\"payload\":\"\","
                        "\"clientMessageId\":\"\"}");
    send.channel_id = TEXT("c");
    send.author_id = TEXT("a\"b");
    send.payload = (ProtobufCBinaryData)BYTES("\xFB\xEF\xFF!");
    send.client_message_id = TEXT("m-1");
    assert_camel(&send, "{\"channelId\":\"c\",\"authorId\":\"a\\\"b\",\"payload\":\"++//IQ==\","
                        "\"clientMessageId\":\"m-1\"}");

    Raftogram__V1__SendMessageResponse sent = RAFTOGRAM__V1__SEND_MESSAGE_RESPONSE__INIT;
    assert_camel(&sent, "{\"sequence\":\"0\",\"deduplicated\":false}");
    sent.sequence = UINT64_MAX;
    sent.deduplicated = 1;
    assert_camel(&sent, "{\"sequence\":\"18446744073709551615\",\"deduplicated\":true}");
}

static void test_messenger_reads_look_as_the_contract_says(void **state)
{
    Raftogram__V1__ReadHistoryRequest read = RAFTOGRAM__V1__READ_HISTORY_REQUEST__INIT;
    read.channel_id = TEXT("c");
    read.after_sequence = 5;
    read.limit = UINT32_MAX;
    assert_camel(&read, "{\"channelId\":\"c\",\"afterSequence\":\"5\",\"limit\":4294967295}");
    assert_snake(&read, "{\"channel_id\":\"c\",\"after_sequence\":\"5\",\"limit\":4294967295}");

    Raftogram__V1__StoredMessage stored = RAFTOGRAM__V1__STORED_MESSAGE__INIT;
    stored.sequence = 7;
    stored.author_id = TEXT("ann");
    stored.payload = (ProtobufCBinaryData)BYTES("hello");
    stored.timestamp_unix_ms = -1;
    static const char *const stored_text =
        "{\"sequence\":\"7\",\"authorId\":\"ann\",\"payload\":\"aGVsbG8=\","
        "\"clientMessageId\":\"\",\"timestampUnixMs\":\"-1\"}";
    assert_camel(&stored, stored_text);

    Raftogram__V1__ReadHistoryResponse history = RAFTOGRAM__V1__READ_HISTORY_RESPONSE__INIT;
    assert_camel(&history, "{\"messages\":[],\"hasMore\":false}");
    Raftogram__V1__StoredMessage *two[] = {&stored, &stored};
    history.n_messages = 2;
    history.messages = two;
    history.has_more = 1;
    char expected[512];
    snprintf(expected, sizeof(expected), "{\"messages\":[%s,%s],\"hasMore\":true}", stored_text,
             stored_text);
    assert_camel(&history, expected);

    Raftogram__V1__SubscribeRequest subscribe = RAFTOGRAM__V1__SUBSCRIBE_REQUEST__INIT;
    assert_camel(&subscribe, "{\"channelId\":\"\",\"afterSequence\":\"0\",\"liveOnly\":false,"
                             "\"clusterId\":\"\"}");
    Raftogram__V1__SubscribeChunk chunk = RAFTOGRAM__V1__SUBSCRIBE_CHUNK__INIT;
    assert_camel(&chunk, "{\"messages\":[]}");

    Raftogram__V1__ListChannelsRequest list = RAFTOGRAM__V1__LIST_CHANNELS_REQUEST__INIT;
    assert_camel(&list, "{\"afterChannelId\":\"\",\"limit\":0,\"prefix\":\"\"}");
    Raftogram__V1__Channel channel = RAFTOGRAM__V1__CHANNEL__INIT;
    channel.last_sequence = 9;
    Raftogram__V1__Channel *one[] = {&channel};
    Raftogram__V1__ListChannelsResponse channels = RAFTOGRAM__V1__LIST_CHANNELS_RESPONSE__INIT;
    assert_camel(&channels, "{\"channels\":[],\"hasMore\":false}");
    channels.n_channels = 1;
    channels.channels = one;
    assert_camel(&channels,
                 "{\"channels\":[{\"channelId\":\"\",\"name\":\"\",\"lastSequence\":\"9\","
                 "\"firstSequence\":\"0\"}],\"hasMore\":false}");

    Raftogram__V1__NotLeader not_leader = RAFTOGRAM__V1__NOT_LEADER__INIT;
    assert_camel(&not_leader, "{\"leaderGrpcTarget\":\"\",\"raftLeaderId\":\"\"}");
}

static void test_cluster_messages_look_as_the_contract_says(void **state)
{
    Raftogram__V1__StatusRequest request = RAFTOGRAM__V1__STATUS_REQUEST__INIT;
    assert_camel(&request, "{}");

    Raftogram__V1__Member member = RAFTOGRAM__V1__MEMBER__INIT;
    member.node_id = TEXT("n2");
    member.match_index = 3;
    Raftogram__V1__Member *members[] = {&member};
    Raftogram__V1__StatusResponse status = RAFTOGRAM__V1__STATUS_RESPONSE__INIT;
    status.node_id = TEXT("n1");
    status.role = TEXT("leader");
    status.term = 2;
    status.has_quorum = 1;
    status.n_members = 1;
    status.members = members;
    assert_camel(
        &status,
        "{\"nodeId\":\"n1\",\"role\":\"leader\",\"leaderId\":\"\",\"term\":\"2\","
        "\"commitIndex\":\"0\",\"appliedIndex\":\"0\",\"firstIndex\":\"0\",\"lastIndex\":\"0\","
        "\"snapshotIndex\":\"0\",\"clusterId\":\"\",\"version\":\"\",\"uptimeSeconds\":\"0\","
        "\"hasQuorum\":true,\"members\":[{\"nodeId\":\"n2\",\"raftAddr\":\"\",\"grpcAddr\":\"\","
        "\"httpAddr\":\"\",\"state\":\"\",\"matchIndex\":\"3\",\"lastContactMs\":\"0\"}]}");

    Raftogram__V1__TransferLeadershipRequest transfer =
        RAFTOGRAM__V1__TRANSFER_LEADERSHIP_REQUEST__INIT;
    assert_camel(&transfer, "{\"targetNodeId\":\"\"}");
    Raftogram__V1__TransferLeadershipResponse transferred =
        RAFTOGRAM__V1__TRANSFER_LEADERSHIP_RESPONSE__INIT;
    assert_camel(&transferred, "{\"leaderId\":\"\",\"term\":\"0\"}");
}

static void test_kv_messages_are_snake_case_or_camel_case(void **state)
{
    Phalanx__ProposeRequest propose = PHALANX__PROPOSE_REQUEST__INIT;
    propose.data = (ProtobufCBinaryData)BYTES("{\"op\":\"SET\"}");
    assert_snake(&propose, "{\"data\":\"eyJvcCI6IlNFVCJ9\"}");
    Phalanx__ProposeResponse proposed = PHALANX__PROPOSE_RESPONSE__INIT;
    proposed.leader_addr = TEXT("127.0.0.1:9000");
    proposed.error = TEXT("leader lost quorum — cannot serve linearizable read");
    assert_snake(&proposed, "{\"success\":false,\"leader_addr\":\"127.0.0.1:9000\",\"error\":"
                            "\"leader lost quorum — cannot serve linearizable read\"}");
    Phalanx__ReadRequest read = PHALANX__READ_REQUEST__INIT;
    assert_snake(&read, "{\"key\":\"\"}");
    Phalanx__ReadResponse answer = PHALANX__READ_RESPONSE__INIT;
    answer.found = 1;
    assert_snake(&answer, "{\"value\":\"\",\"found\":true,\"leader_addr\":\"\",\"error\":\"\"}");
    assert_camel(&answer, "{\"value\":\"\",\"found\":true,\"leaderAddr\":\"\",\"error\":\"\"}");
}

static void test_consensus_messages_look_as_the_contract_says(void **state)
{
    Phalanx__LogEntry entry = PHALANX__LOG_ENTRY__INIT;
    entry.entry_type = PHALANX__ENTRY_TYPE__CONFIG_CHANGE;
    Phalanx__LogEntry *entries[] = {&entry};
    Phalanx__AppendEntriesRequest append = PHALANX__APPEND_ENTRIES_REQUEST__INIT;
    append.n_entries = 1;
    append.entries = entries;
    assert_snake(&append, "{\"term\":\"0\",\"leader_id\":\"\",\"prev_log_index\":\"0\","
                          "\"prev_log_term\":\"0\",\"entries\":[{\"index\":\"0\",\"term\":\"0\","
                          "\"data\":\"\",\"entry_type\":\"CONFIG_CHANGE\"}],"
                          "\"leader_commit\":\"0\",\"read_round\":\"0\",\"no_answer\":false,"
                          "\"forgotten_incarnation\":\"0\"}");
    entry.entry_type = 41;
    assert_snake(&entry, "{\"index\":\"0\",\"term\":\"0\",\"data\":\"\",\"entry_type\":41}");

    Phalanx__AppendEntriesResponse appended = PHALANX__APPEND_ENTRIES_RESPONSE__INIT;
    assert_snake(
        &appended,
        "{\"term\":\"0\",\"success\":false,\"last_log_index\":\"0\","
        "\"hint_term\":\"0\",\"read_round\":\"0\",\"rejected_index\":\"0\",\"cannot_lead\":false,"
        "\"is_full\":false}");
    Phalanx__RequestVoteRequest vote = PHALANX__REQUEST_VOTE_REQUEST__INIT;
    assert_snake(&vote, "{\"term\":\"0\",\"candidate_id\":\"\",\"last_log_index\":\"0\","
                        "\"last_log_term\":\"0\",\"is_pre_vote\":false,\"is_transfer\":false}");
    Phalanx__RequestVoteResponse voted = PHALANX__REQUEST_VOTE_RESPONSE__INIT;
    assert_snake(&voted, "{\"term\":\"0\",\"vote_granted\":false,\"is_pre_vote\":false,"
                         "\"request_term\":\"0\"}");
    Phalanx__StreamProbe probe = PHALANX__STREAM_PROBE__INIT;
    assert_snake(&probe, "{\"rival\":\"\"}");
}

static void test_oneof_writes_only_the_member_that_is_set(void **state)
{
    Phalanx__PeerMessage message = PHALANX__PEER_MESSAGE__INIT;
    assert_camel(&message, "{}");
    Phalanx__TimeoutNow timeout_now = PHALANX__TIMEOUT_NOW__INIT;
    message.kind_case = PHALANX__PEER_MESSAGE__KIND_TIMEOUT_NOW;
    message.timeout_now = &timeout_now;
    assert_camel(&message, "{\"timeoutNow\":{\"term\":\"0\"}}");

    Grpc__Reflection__V1__ServerReflectionRequest request =
        GRPC__REFLECTION__V1__SERVER_REFLECTION_REQUEST__INIT;
    assert_camel(&request, "{\"host\":\"\"}");
    request.message_request_case =
        GRPC__REFLECTION__V1__SERVER_REFLECTION_REQUEST__MESSAGE_REQUEST_LIST_SERVICES;
    request.list_services = TEXT("");
    assert_camel(&request, "{\"host\":\"\",\"listServices\":\"\"}");
}

static void test_unset_message_is_null_and_enum_a_name(void **state)
{
    Grpc__Reflection__V1__ServerReflectionResponse response =
        GRPC__REFLECTION__V1__SERVER_REFLECTION_RESPONSE__INIT;
    assert_camel(&response, "{\"validHost\":\"\",\"originalRequest\":null}");
    Grpc__Health__V1__HealthCheckResponse health = GRPC__HEALTH__V1__HEALTH_CHECK_RESPONSE__INIT;
    assert_camel(&health, "{\"status\":\"UNKNOWN\"}");
    health.status = GRPC__HEALTH__V1__HEALTH_CHECK_RESPONSE__SERVING_STATUS__NOT_SERVING;
    assert_camel(&health, "{\"status\":\"NOT_SERVING\"}");
}

static void test_maps_are_objects_and_any_is_url_and_base64(void **state)
{
    Google__Rpc__ErrorInfo info = GOOGLE__RPC__ERROR_INFO__INIT;
    assert_camel(&info, "{\"reason\":\"\",\"domain\":\"\",\"metadata\":{}}");
    Google__Rpc__ErrorInfo__MetadataEntry a = GOOGLE__RPC__ERROR_INFO__METADATA_ENTRY__INIT;
    Google__Rpc__ErrorInfo__MetadataEntry b = GOOGLE__RPC__ERROR_INFO__METADATA_ENTRY__INIT;
    a.key = TEXT("snake_key");
    a.value = TEXT("1");
    Google__Rpc__ErrorInfo__MetadataEntry *entries[] = {&a, &b};
    info.n_metadata = 2;
    info.metadata = entries;
    assert_camel(&info,
                 "{\"reason\":\"\",\"domain\":\"\",\"metadata\":{\"snake_key\":\"1\",\"\":\"\"}}");

    Google__Protobuf__Any any = GOOGLE__PROTOBUF__ANY__INIT;
    any.type_url = TEXT("type.googleapis.com/x");
    any.value = (ProtobufCBinaryData)BYTES("\1\2");
    Google__Protobuf__Any *details[] = {&any};
    Google__Rpc__Status status = GOOGLE__RPC__STATUS__INIT;
    status.code = INT32_MIN;
    status.n_details = 1;
    status.details = details;
    assert_camel(&status, "{\"code\":-2147483648,\"message\":\"\",\"details\":[{\"typeUrl\":"
                          "\"type.googleapis.com/x\",\"value\":\"AQI=\"}]}");
}

static void test_null_string_is_written_as_empty(void **state)
{
    Phalanx__ReadRequest read = PHALANX__READ_REQUEST__INIT;
    read.key = NULL;
    assert_text((const ProtobufCMessage *)&read, JSON_NAMES_CAMEL, "{\"key\":\"\"}");
}

static void test_string_that_is_not_utf8_gets_replacement_characters(void **state)
{
    Phalanx__ReadRequest read = PHALANX__READ_REQUEST__INIT;
    read.key = TEXT("a\xFF"
                    "b\xC3");
    assert_text((const ProtobufCMessage *)&read, JSON_NAMES_CAMEL,
                "{\"key\":\"a\xEF\xBF\xBD"
                "b\xEF\xBF\xBD\"}");
}

/* The kinds that our own messages lack. */
static void test_other_kinds_follow_the_mapping(void **state)
{
    struct kinds kinds;
    protobuf_c_message_init(&kinds_descriptor, &kinds);
    kinds.a_float = 0.1f;
    kinds.a_double = -1e300;
    kinds.an_enum = 7;
    double doubles[] = {0.1, 1.0 / 3.0, 1e21, (double)__builtin_inf(), -(double)__builtin_inf()};
    kinds.n_double_list = 5;
    kinds.double_list = doubles;
    int64_t wide[] = {INT64_MIN, INT64_MAX};
    kinds.n_sfixed64_list = 2;
    kinds.sfixed64_list = wide;
    struct kinds_number_entry entry;
    protobuf_c_message_init(&kinds_number_entry_descriptor, &entry);
    entry.key = -5;
    entry.value = 6;
    struct kinds_number_entry *entries[] = {&entry};
    kinds.n_number_map = 1;
    kinds.number_map = entries;
    kinds.choice_case = 38;
    kinds.choice.choice_number = 1;
    assert_camel(
        &kinds,
        "{\"anInt32\":0,\"aSint32\":0,\"anSfixed32\":0,\"anInt64\":\"0\",\"aSint64\":\"0\","
        "\"anSfixed64\":\"0\",\"aUint32\":0,\"aFixed32\":0,\"aUint64\":\"0\",\"aFixed64\":\"0\","
        "\"aFloat\":0.1,\"aDouble\":-1e+300,\"aBool\":false,\"anEnum\":\"DARK_BLUE\","
        "\"aString\":\"\",\"aBytes\":\"\",\"aMessage\":null,\"int32List\":[],\"sint32List\":[],"
        "\"sfixed32List\":[],\"int64List\":[],\"sint64List\":[],"
        "\"sfixed64List\":[\"-9223372036854775808\",\"9223372036854775807\"],\"uint32List\":[],"
        "\"fixed32List\":[],\"uint64List\":[],\"fixed64List\":[],\"floatList\":[],"
        "\"doubleList\":[0.1,0.3333333333333333,1e+21,\"Infinity\",\"-Infinity\"],"
        "\"boolList\":[],\"enumList\":[],\"stringList\":[],\"bytesList\":[],\"messageList\":[],"
        "\"nameMap\":{},\"numberMap\":{\"-5\":\"6\"},\"choiceNumber\":\"1\"}");
}

static void test_go_reads_numbers_and_both_spellings(void **state)
{
    Phalanx__AppendEntriesResponse append = PHALANX__APPEND_ENTRIES_RESPONSE__INIT;
    append.term = UINT64_MAX;
    append.success = true;
    append.last_log_index = 7;
    assert_text(&append.base, JSON_NAMES_GO,
                "{\"term\":18446744073709551615,\"success\":true,"
                "\"last_log_index\":7,\"lastLogIndex\":7,\"hint_term\":0,\"hintTerm\":0,"
                "\"read_round\":0,\"readRound\":0,\"rejected_index\":0,\"rejectedIndex\":0,"
                "\"cannot_lead\":false,\"cannotLead\":false,\"is_full\":false,\"isFull\":false}");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_messenger_writes_look_as_the_contract_says),
        cmocka_unit_test(test_messenger_reads_look_as_the_contract_says),
        cmocka_unit_test(test_cluster_messages_look_as_the_contract_says),
        cmocka_unit_test(test_kv_messages_are_snake_case_or_camel_case),
        cmocka_unit_test(test_consensus_messages_look_as_the_contract_says),
        cmocka_unit_test(test_oneof_writes_only_the_member_that_is_set),
        cmocka_unit_test(test_unset_message_is_null_and_enum_a_name),
        cmocka_unit_test(test_maps_are_objects_and_any_is_url_and_base64),
        cmocka_unit_test(test_null_string_is_written_as_empty),
        cmocka_unit_test(test_string_that_is_not_utf8_gets_replacement_characters),
        cmocka_unit_test(test_other_kinds_follow_the_mapping),
        cmocka_unit_test(test_go_reads_numbers_and_both_spellings),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
