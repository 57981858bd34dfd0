/* Tests of auth/audit.h. */
#include "auth/audit.h"

#include "base/errors.h"
#include "lib/scratch.h"

#include <jansson.h>
#include <pthread.h>
#include <string.h>
#include <sys/stat.h>

static char path[128];
static char error[512];

static int make_file(void **state)
{
    close(scratch_make_file(path, sizeof(path), "audit"));
    return unlink(path);
}

static int drop_file(void **state)
{
    (void)unlink(path);
    return 0;
}

static struct audit *open_audit(void)
{
    struct audit *audit = NULL;
    int fd = -1;
    assert_int_equal(audit_open_file(path, &fd, error, sizeof(error)), 0);
    assert_int_equal(audit_create("node1", fd, &audit), 0);
    return audit;
}

static const struct audit_event event = {
    .time_ms = INT64_C(1800000000123),
    .subject = "alice",
    .address = "10.0.0.1:5000",
    .method = "raftogram.v1.Messenger/CreateChannel",
    .target = {"general", 7},
    .result = "OK",
};

/* The file's lines; how many there are. */
static size_t read_lines(const char *name, json_t **out, size_t max)
{
    char line[16384];
    size_t count = 0;
    FILE *file = fopen(name, "re");
    assert_non_null(file);
    while (fgets(line, sizeof(line), file) != NULL) {
        assert_in_range(count, 0, max - 1);
        out[count] = json_loads(line, JSON_REJECT_DUPLICATES | JSON_ALLOW_NUL, NULL);
        assert_non_null(out[count]);
        count++;
    }
    fclose(file);
    return count;
}

static const char *value(const json_t *line, const char *key)
{
    return json_string_value(json_object_get(line, key));
}

static void test_a_line_has_the_keys_of_the_contract(void **state)
{
    json_t *lines[4];
    struct audit *audit = open_audit();
    audit_write(audit, &event);
    assert_true(audit_flush(audit, 10000));
    assert_int_equal(read_lines(path, lines, 4), 1);
    assert_int_equal(json_object_size(lines[0]), 7);
    assert_string_equal(value(lines[0], "time"), "2027-01-15T08:00:00.123Z");
    assert_string_equal(value(lines[0], "node"), "node1");
    assert_string_equal(value(lines[0], "subject"), "alice");
    assert_string_equal(value(lines[0], "address"), "10.0.0.1:5000");
    assert_string_equal(value(lines[0], "method"), "raftogram.v1.Messenger/CreateChannel");
    assert_string_equal(value(lines[0], "target"), "general");
    assert_string_equal(value(lines[0], "result"), "OK");
    json_decref(lines[0]);
    audit_destroy(audit);
    struct stat status;
    assert_int_equal(stat(path, &status), 0);
    assert_int_equal(status.st_mode & 0777, 0600);
}

static void test_any_bytes_make_one_line(void **state)
{
    json_t *lines[4];
    char large[5000];
    memset(large, 'k', sizeof(large));
    struct audit *audit = open_audit();
    struct audit_event odd = event;
    odd.subject = "a\n\"b\"\xff";
    odd.address = NULL;
    odd.target = (struct bytes){"x\0\xc3\n", 4};
    audit_write(audit, &odd);
    odd.target = (struct bytes){large, sizeof(large)};
    audit_write(audit, &odd);
    audit_destroy(audit);
    assert_int_equal(read_lines(path, lines, 4), 2);
    assert_string_equal(value(lines[0], "subject"), "a\n\"b\"\xef\xbf\xbd");
    assert_true(json_is_null(json_object_get(lines[0], "address")));
    assert_int_equal(json_string_length(json_object_get(lines[1], "target")), AUDIT_TEXT_BYTES_MAX);
    json_decref(lines[0]);
    json_decref(lines[1]);
}

static void test_after_a_switch_lines_go_to_the_new_file(void **state)
{
    json_t *lines[4];
    char moved[160];
    int fd = -1;
    struct audit *audit = open_audit();
    audit_write(audit, &event);
    assert_true(audit_flush(audit, 10000));
    snprintf(moved, sizeof(moved), "%s.1", path);
    assert_int_equal(rename(path, moved), 0);
    assert_int_equal(audit_open_file(path, &fd, error, sizeof(error)), 0);
    audit_switch(audit, fd);
    audit_write(audit, &event);
    audit_write(audit, &event);
    audit_destroy(audit);
    size_t count = read_lines(moved, lines, 4);
    assert_int_equal(count, 1);
    json_decref(lines[0]);
    count = read_lines(path, lines, 4);
    assert_int_equal(count, 2);
    json_decref(lines[0]);
    json_decref(lines[1]);
    assert_int_equal(unlink(moved), 0);
}

static void test_what_cannot_be_written_is_counted_and_told(void **state)
{
    json_t *lines[4];
    struct audit *audit = NULL;
    int fd = -1;
    assert_int_equal(audit_open_file("/dev/full", &fd, error, sizeof(error)), 0);
    assert_int_equal(audit_create("node1", fd, &audit), 0);
    audit_write(audit, &event);
    assert_true(audit_flush(audit, 10000));
    assert_int_equal(audit_dropped_total(audit), 1);
    assert_int_equal(audit_open_file(path, &fd, error, sizeof(error)), 0);
    audit_switch(audit, fd);
    audit_write(audit, &event);
    audit_destroy(audit);
    assert_int_equal(read_lines(path, lines, 4), 2);
    assert_string_equal(value(lines[0], "method"), "audit");
    assert_string_equal(value(lines[0], "result"), "DROPPED 1");
    assert_string_equal(value(lines[1], "subject"), "alice");
    json_decref(lines[0]);
    json_decref(lines[1]);
}

static void test_a_file_that_cannot_be_used_is_refused(void **state)
{
    int fd = -1;
    assert_int_equal(audit_open_file("/nowhere/audit", &fd, error, sizeof(error)), ERR_NOT_FOUND);
    assert_non_null(strstr(error, "/nowhere/audit: cannot be written"));
    assert_int_equal(audit_open_file("/", &fd, error, sizeof(error)), ERR_IO);
    int made = open(path, O_CREAT | O_WRONLY | O_CLOEXEC, 0600);
    assert_true(made >= 0);
    assert_int_equal(fchmod(made, 0602), 0);
    close(made);
    assert_int_equal(audit_open_file(path, &fd, error, sizeof(error)), ERR_ACCESS);
    assert_int_equal(fd, -1);
}

static void test_without_a_file_nothing_is_written(void **state)
{
    audit_write(NULL, &event);
    assert_int_equal(audit_dropped_total(NULL), 0);
    audit_destroy(NULL);
}

static void *write_many(void *context)
{
    for (int i = 0; i < 500; i++) {
        audit_write(context, &event);
    }
    return NULL;
}

static void test_lines_of_several_threads_are_whole_or_counted(void **state)
{
    static json_t *lines[4096];
    pthread_t threads[4];
    struct audit *audit = open_audit();
    for (int i = 0; i < 4; i++) {
        assert_int_equal(pthread_create(&threads[i], NULL, write_many, audit), 0);
    }
    for (int i = 0; i < 4; i++) {
        assert_int_equal(pthread_join(threads[i], NULL), 0);
    }
    assert_true(audit_flush(audit, 60000));
    uint64_t dropped = audit_dropped_total(audit);
    audit_destroy(audit);
    size_t count = read_lines(path, lines, 4096);
    size_t events = 0;
    for (size_t i = 0; i < count; i++) {
        events += strcmp(value(lines[i], "method"), "audit") != 0;
        json_decref(lines[i]);
    }
    assert_int_equal(events + dropped, 2000);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, make_file, drop_file)
    const struct CMUnitTest tests[] = {
        TEST(test_a_line_has_the_keys_of_the_contract),
        TEST(test_any_bytes_make_one_line),
        TEST(test_after_a_switch_lines_go_to_the_new_file),
        TEST(test_what_cannot_be_written_is_counted_and_told),
        TEST(test_a_file_that_cannot_be_used_is_refused),
        TEST(test_without_a_file_nothing_is_written),
        TEST(test_lines_of_several_threads_are_whole_or_counted),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
