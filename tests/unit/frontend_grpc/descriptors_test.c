/* Tests of the descriptors that reflection serves. */
#include "base/errors.h"
#include "grpc/descriptors.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static struct descriptor_set set;

static int load(void **state)
{
    return descriptor_set_init(&set, descriptor_set_of_proto);
}

/* The name of the file that defines the symbol; "" if none does. */
static const char *file_of(const char *symbol)
{
    static const char *const names[] = {
        "google/protobuf/any.proto",
        "google/rpc/error_details.proto",
        "google/rpc/status.proto",
        "grpc/health/v1/health.proto",
        "phalanx/consensus.proto",
        "phalanx/kv.proto",
        "raftogram/v1/cluster.proto",
        "raftogram/v1/messaging.proto",
        "grpc/reflection/v1/reflection.proto",
        "grpc/reflection/v1alpha/reflection.proto",
    };
    size_t found;
    size_t file;
    if (descriptor_set_find_symbol(&set, bytes_of_text(symbol), &found) != 0) {
        return "";
    }
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        assert_int_equal(descriptor_set_find_file(&set, bytes_of_text(names[i]), &file), 0);
        if (file == found) {
            return names[i];
        }
    }
    return "?";
}

static void test_every_kind_of_symbol_is_found(void **state)
{
    static const struct {
        const char *symbol;
        const char *file;
    } cases[] = {
        {"raftogram.v1.Messenger", "raftogram/v1/messaging.proto"},
        {"raftogram.v1.Messenger.Subscribe", "raftogram/v1/messaging.proto"},
        {"raftogram.v1.NotLeader", "raftogram/v1/messaging.proto"},
        {"raftogram.v1.NotLeader.raft_leader_id", "raftogram/v1/messaging.proto"},
        {"raftogram.v1.Cluster.Status", "raftogram/v1/cluster.proto"},
        {"phalanx.KV.Read", "phalanx/kv.proto"},
        {"phalanx.LogEntry", "phalanx/consensus.proto"},
        {"phalanx.EntryType", "phalanx/consensus.proto"},
        {"phalanx.CONFIG_CHANGE", "phalanx/consensus.proto"},
        {"google.rpc.ErrorInfo", "google/rpc/error_details.proto"},
        {"google.rpc.ErrorInfo.MetadataEntry", "google/rpc/error_details.proto"},
        {"google.rpc.ErrorInfo.MetadataEntry.key", "google/rpc/error_details.proto"},
        {"google.rpc.Status", "google/rpc/status.proto"},
        {"google.protobuf.Any", "google/protobuf/any.proto"},
        {"grpc.health.v1.HealthCheckResponse.ServingStatus", "grpc/health/v1/health.proto"},
        {"grpc.health.v1.HealthCheckResponse.NOT_SERVING", "grpc/health/v1/health.proto"},
        {"grpc.reflection.v1.ServerReflectionRequest.message_request",
         "grpc/reflection/v1/reflection.proto"},
        {"grpc.reflection.v1alpha.ServerReflection", "grpc/reflection/v1alpha/reflection.proto"},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        assert_string_equal(file_of(cases[i].symbol), cases[i].file);
    }
}

static void test_near_misses_are_not_found(void **state)
{
    static const char *const cases[] = {
        "",
        ".",
        "raftogram",
        "raftogram.v1",
        "raftogram.v1.",
        "raftogram.v1.Messeng",
        "raftogram.v1.Messengers",
        "raftogram.v1.Messenger.",
        "raftogram.v1.Messenger.Subscribe.",
        "raftogram.v1.Messenger.Subscribe.x",
        "raftogram.v1.Messenger.subscribe",
        ".raftogram.v1.Messenger",
        "raftogram.v1.NotLeader.raft_leader_id.x",
        "NotLeader",
        "phalanx.EntryType.CONFIG_CHANGE",
        "grpc.health.v1.NOT_SERVING",
        "google.rpc.ErrorInfo.MetadataEntry.",
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        assert_string_equal(file_of(cases[i]), "");
    }
}

static void test_files_are_found_by_their_whole_name(void **state)
{
    size_t file;
    assert_int_equal(descriptor_set_find_file(&set, bytes_of_text("phalanx/kv.proto"), &file), 0);
    assert_int_equal(descriptor_set_find_file(&set, bytes_of_text("kv.proto"), &file),
                     ERR_NOT_FOUND);
    assert_int_equal(descriptor_set_find_file(&set, bytes_of_text(""), &file), ERR_NOT_FOUND);
}

static void test_closure_holds_imports_once_and_the_file_first(void **state)
{
    struct bytes files[DESCRIPTOR_FILES_MAX];
    size_t any;
    size_t status;
    assert_int_equal(
        descriptor_set_find_file(&set, bytes_of_text("google/rpc/status.proto"), &status), 0);
    assert_int_equal(
        descriptor_set_find_file(&set, bytes_of_text("google/protobuf/any.proto"), &any), 0);
    assert_int_equal(descriptor_set_closure(&set, status, files), 2);
    assert_ptr_equal(files[0].data, set.files[status].data);
    assert_ptr_equal(files[1].data, set.files[any].data);
    assert_int_equal(descriptor_set_closure(&set, any, files), 1);
}

/* ---- made-up sets ---- */

/* Appends a field with bytes, shorter than 128. */
static void append_field(struct buf *out, unsigned number, struct bytes value)
{
    buf_append_byte(out, (uint8_t)(number << 3 | 2));
    buf_append_byte(out, (uint8_t)value.size);
    buf_append(out, value.data, value.size);
}

static void append_file(struct buf *out, const char *name, const char *dependency)
{
    struct buf file = {0};
    append_field(&file, 1, bytes_of_text(name));
    append_field(&file, 3, bytes_of_text(dependency));
    append_field(out, 1, buf_bytes(&file));
    buf_finish(&file);
}

static void test_imports_in_a_circle_and_missing_ones_end(void **state)
{
    struct buf encoded = {0};
    struct descriptor_set circle;
    struct bytes files[DESCRIPTOR_FILES_MAX];
    append_file(&encoded, "a", "b");
    append_file(&encoded, "b", "a");
    append_file(&encoded, "c", "missing");
    assert_int_equal(descriptor_set_init(&circle, buf_bytes(&encoded)), 0);
    assert_int_equal(descriptor_set_closure(&circle, 0, files), 2);
    assert_int_equal(descriptor_set_closure(&circle, 2, files), 1);
    buf_finish(&encoded);
}

static void test_sets_of_no_or_too_many_files_are_refused(void **state)
{
    struct buf encoded = {0};
    struct descriptor_set many;
    assert_int_equal(descriptor_set_init(&many, (struct bytes){"", 0}), ERR_NOT_FOUND);
    for (size_t i = 0; i < DESCRIPTOR_FILES_MAX; i++) {
        append_file(&encoded, "a", "a");
    }
    assert_int_equal(descriptor_set_init(&many, buf_bytes(&encoded)), 0);
    append_file(&encoded, "a", "a");
    assert_int_equal(descriptor_set_init(&many, buf_bytes(&encoded)), ERR_FULL);
    buf_finish(&encoded);
}

static void test_messages_nested_too_deep_are_not_found(void **state)
{
    struct buf message = {0};
    struct buf file = {0};
    struct buf encoded = {0};
    struct descriptor_set deep;
    size_t found;
    char symbol[2 * (DESCRIPTOR_NESTING_MAX + 1)];
    /* From the inside out: each message is named m and holds the one before. */
    for (unsigned i = 0; i <= DESCRIPTOR_NESTING_MAX; i++) {
        struct buf outer = {0};
        append_field(&outer, 1, bytes_of_text("m"));
        if (i > 0) {
            append_field(&outer, 3, buf_bytes(&message));
        }
        buf_finish(&message);
        message = outer;
        symbol[2 * i] = 'm';
        symbol[2 * i + 1] = '.';
    }
    append_field(&file, 4, buf_bytes(&message));
    append_field(&encoded, 1, buf_bytes(&file));
    assert_int_equal(descriptor_set_init(&deep, buf_bytes(&encoded)), 0);
    struct bytes allowed = {symbol, 2 * DESCRIPTOR_NESTING_MAX - 1};
    struct bytes deeper = {symbol, 2 * DESCRIPTOR_NESTING_MAX + 1};
    assert_int_equal(descriptor_set_find_symbol(&deep, allowed, &found), 0);
    assert_int_equal(descriptor_set_find_symbol(&deep, deeper, &found), ERR_NOT_FOUND);
    buf_finish(&message);
    buf_finish(&file);
    buf_finish(&encoded);
}

/* For the sanitizers: a cut set is a heap block of just its size. */
static void test_cut_sets_are_read_within_their_bounds(void **state)
{
    struct bytes files[DESCRIPTOR_FILES_MAX];
    for (size_t size = 0; size < 3000; size++) {
        struct descriptor_set cut;
        size_t found;
        uint8_t *copy = malloc(size + 1);
        assert_non_null(copy);
        memcpy(copy + 1, descriptor_set_of_proto.data, size);
        if (descriptor_set_init(&cut, (struct bytes){copy + 1, size}) == 0) {
            (void)descriptor_set_find_symbol(&cut, bytes_of_text("no.such.Symbol"), &found);
            for (size_t i = 0; i < cut.count; i++) {
                (void)descriptor_set_closure(&cut, i, files);
            }
        }
        free(copy);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_kind_of_symbol_is_found),
        cmocka_unit_test(test_near_misses_are_not_found),
        cmocka_unit_test(test_files_are_found_by_their_whole_name),
        cmocka_unit_test(test_closure_holds_imports_once_and_the_file_first),
        cmocka_unit_test(test_imports_in_a_circle_and_missing_ones_end),
        cmocka_unit_test(test_sets_of_no_or_too_many_files_are_refused),
        cmocka_unit_test(test_messages_nested_too_deep_are_not_found),
        cmocka_unit_test(test_cut_sets_are_read_within_their_bounds),
    };
    return cmocka_run_group_tests(tests, load, NULL);
}
